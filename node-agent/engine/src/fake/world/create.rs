//! How a container comes to be, and what is refused.

use super::*;

impl World {
    pub(in crate::fake) fn create(&mut self, spec: &ContainerSpec) -> Result<Created, EngineError> {
        if let Some(container) = self.containers.get(&spec.name) {
            let ours = spec
                .labels
                .iter()
                .all(|(key, value)| container.spec.labels.get(key) == Some(value));
            return if ours {
                Ok(Created {
                    container_id: container.id.clone(),
                    adopted: true,
                })
            } else {
                Err(EngineError::NameTaken {
                    name: spec.name.clone(),
                    holder: container.id.clone(),
                })
            };
        }
        check(spec)?;
        for link in links(spec) {
            if !self.containers.contains_key(&link.container) {
                let name = &link.container;
                return Err(EngineError::InvalidSpec {
                    message: format!(
                        "could not get container for {name}: No such container: {name}"
                    ),
                });
            }
        }
        if let Some(message) =
            refusals::at_create(&spec.parameters, &self.description.logging_drivers)
        {
            return Err(EngineError::InvalidSpec { message });
        }
        let Some(image_id) = self.images.id(&spec.image).map(str::to_owned) else {
            return Err(EngineError::ImageNotFound {
                image: spec.image.clone(),
                message: format!("No such image: {}", spec.image),
            });
        };
        let mounts = self.mounts(spec)?;
        self.volumes.provide(&mounts);
        self.created += 1;
        let id = format!("{:016x}{:048x}", self.host, self.created);
        let container = Container {
            id: id.clone(),
            image_id,
            spec: spec.clone(),
            mounts,
            number: self.created,
            created_at: self.now,
            started_at: None,
            phase: Phase::Created,
            health: Health::None,
            ports: Vec::new(),
            on_stop: OnStop::Ignores,
            ending: None,
            verdicts: Vec::new(),
            check: None,
            attached: BTreeSet::new(),
        };
        self.containers.insert(spec.name.clone(), container);
        Ok(Created {
            container_id: id,
            adopted: false,
        })
    }

    /// Containers whose namespaces it shares run, and let themselves be shared.
    pub(super) fn check_shared(&self, name: &str, spec: &ContainerSpec) -> Result<(), EngineError> {
        if let Network::Named(network) = &spec.network
            && !self.networks.contains_key(network)
        {
            return Err(EngineError::NetworkNotFound {
                message: format!("network {network} not found"),
            });
        }
        for (other, of_ipc) in shared(spec) {
            let words = match self.containers.get(other) {
                None => format!("No such container: {other}"),
                Some(holder) if holder.phase.kind() != PhaseKind::Running => {
                    format!(
                        "cannot join namespace of a non running container: {}",
                        holder.id
                    )
                }
                Some(holder) if of_ipc && holder.spec.parameters.ipc != Ipc::Shareable => {
                    format!("can't join IPC of container {other}: non-shareable IPC")
                }
                Some(_) => continue,
            };
            return Err(EngineError::CannotStart {
                name: name.to_owned(),
                message: words,
            });
        }
        Ok(())
    }
}

/// The links that count.
pub(super) fn links(spec: &ContainerSpec) -> &[Link] {
    match spec.network {
        Network::Bridge => &spec.links,
        Network::Host | Network::None | Network::Named(_) | Network::Container(_) => &[],
    }
}

/// Other containers whose namespaces it shares, and whether that is IPC.
fn shared(spec: &ContainerSpec) -> impl Iterator<Item = (&str, bool)> {
    let network = match &spec.network {
        Network::Container(other) => Some((other.as_str(), false)),
        Network::Bridge | Network::Host | Network::None | Network::Named(_) => None,
    };
    let processes = match &spec.parameters.processes {
        Processes::Container(other) => Some((other.as_str(), false)),
        Processes::Own | Processes::Host => None,
    };
    let ipc = match &spec.parameters.ipc {
        Ipc::Container(other) => Some((other.as_str(), true)),
        Ipc::Engine | Ipc::Host | Ipc::None | Ipc::Shareable => None,
    };
    [network, processes, ipc].into_iter().flatten()
}

/// The refusals of a real engine that an agent may run into.
fn check(spec: &ContainerSpec) -> Result<(), EngineError> {
    let invalid = |message: String| Err(EngineError::InvalidSpec { message });
    let fine = |letter: char| letter.is_ascii_alphanumeric() || "_.-".contains(letter);
    if spec.name.len() < 2 || !spec.name.chars().all(fine) {
        return invalid(format!("Invalid container name ({})", spec.name));
    }
    if let Some(runtime) = spec.runtime.as_deref().filter(|name| *name != "runc") {
        return invalid(format!("unknown or invalid runtime name: {runtime}"));
    }
    match (spec.memory_bytes, spec.memory_reservation_bytes) {
        (Some(limit), _) if limit < LEAST_MEMORY => {
            invalid("Minimum memory limit allowed is 6MB".to_owned())
        }
        (Some(limit), Some(soft)) if soft > limit => {
            invalid("Minimum memory limit can not be less than memory reservation limit".to_owned())
        }
        _ => Ok(()),
    }
}
