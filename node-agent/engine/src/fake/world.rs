//! The fake's state and how it changes: containers, their timers, ports of the host.

use std::collections::BTreeMap;
use std::task::Waker;
use std::time::Duration;

use futures::channel::mpsc::UnboundedSender;

use crate::fake::calls::Calls;
use crate::fake::images::{Images, hash, image_id, named};
use crate::fake::program::{Interpreter, OnStop, Program};
use crate::fake::{refusals, sight};
use crate::{
    Check, ContainerSpec, ContainerState, ContainerSummary, Created, EngineDescription,
    EngineError, Health, Hint, Ipc, Label, Link, Moment, Mount, Network, Phase, PhaseKind,
    Processes, PublishedPort, Stats,
};

use crate::fake::groups::Groups;
use crate::fake::ports::HostPorts;
use crate::fake::volumes::Volumes;

/// The least hard limit that Docker accepts.
const LEAST_MEMORY: i64 = 6 * 1024 * 1024;
/// Exit code of a process killed by SIGKILL.
const KILLED: i64 = 137;

#[derive(Debug)]
pub(super) struct World {
    pub(super) now: Moment,
    pub(super) description: EngineDescription,
    pub(super) images: Images,
    pub(super) calls: Calls,
    pub(super) programs: BTreeMap<String, Program>,
    pub(super) interpreter: Option<Interpreter>,
    pub(super) ports: HostPorts,
    pub(super) volumes: Volumes,
    pub(super) groups: Groups,
    /// Labels of the networks that were made, by name.
    pub(super) networks: BTreeMap<String, BTreeMap<String, String>>,
    /// It can give GPUs to containers.
    pub(super) gpu_driver: bool,
    pub(super) hold_stops: bool,
    pub(super) mute: bool,
    host: u64,
    created: u64,
    containers: BTreeMap<String, Container>,
    watchers: Vec<Watcher>,
    waiting: Vec<Waker>,
}

#[derive(Debug)]
struct Watcher {
    scope: (String, String),
    hints: UnboundedSender<Hint>,
}

#[derive(Debug)]
struct Container {
    id: String,
    spec: ContainerSpec,
    /// Its own and those of others that it sees.
    mounts: Vec<Mount>,
    /// Counts from 1 over all containers of the engine.
    number: u64,
    created_at: Moment,
    started_at: Option<Moment>,
    phase: Phase,
    health: Health,
    ports: Vec<PublishedPort>,
    on_stop: OnStop,
    ending: Option<Ending>,
    verdicts: Vec<(Moment, Health)>,
    /// The last run of its health check.
    check: Option<Check>,
}

/// How and when the running process will end.
#[derive(Clone, Copy, Debug)]
struct Ending {
    at: Moment,
    exit_code: i64,
    oom_killed: bool,
}

/// Something that time brings.
enum Due {
    Ends(Ending),
    Verdict(Health),
}

impl World {
    pub(super) fn new(host: &str) -> Self {
        Self {
            now: Moment(0),
            description: EngineDescription {
                name: "docker".to_owned(),
                version: "0.0.0-fake".to_owned(),
                api_version: "1.41".to_owned(),
                cpus: 4,
                memory_mib: 8192,
                operating_system: "Memory".to_owned(),
                os_type: "linux".to_owned(),
                architecture: "x86_64".to_owned(),
                kernel: "0.0.0".to_owned(),
                cgroup_version: "2".to_owned(),
                cgroup_driver: "cgroupfs".to_owned(),
                storage_driver: "overlay2".to_owned(),
                data_root: "/var/lib/docker".to_owned(),
                engine_id: format!("FAKE:{host}"),
                logging_drivers: ["fluentd", "json-file", "local", "none"]
                    .map(str::to_owned)
                    .into(),
                volume_drivers: vec!["local".to_owned()],
                live_restore: true,
            },
            images: Images::default(),
            calls: Calls::default(),
            programs: BTreeMap::new(),
            interpreter: None,
            ports: HostPorts::default(),
            volumes: Volumes::default(),
            groups: Groups::default(),
            networks: BTreeMap::new(),
            gpu_driver: false,
            hold_stops: false,
            mute: false,
            host: hash(&[host]),
            created: 0,
            containers: BTreeMap::new(),
            watchers: Vec::new(),
            waiting: Vec::new(),
        }
    }

    // --- time ---

    /// Moves time forward, letting everything that falls due happen in order of time, then name.
    pub(super) fn set_now(&mut self, now: Moment) {
        while let Some((at, name, due)) = self.next_due(now) {
            self.now = self.now.max(at);
            match due {
                Due::Ends(ending) => self.end(&name, ending, None),
                Due::Verdict(health) => self.judge(&name, health),
            }
        }
        self.now = self.now.max(now);
    }

    /// When something will happen by itself next.
    pub(super) fn next_event(&self) -> Option<Moment> {
        self.next_due(Moment(i64::MAX)).map(|(at, _, _)| at)
    }

    fn next_due(&self, until: Moment) -> Option<(Moment, String, Due)> {
        let endings = self.containers.iter().filter_map(|(name, container)| {
            let ending = container.ending?;
            Some((ending.at, name, Due::Ends(ending)))
        });
        let verdicts = self.containers.iter().filter_map(|(name, container)| {
            let (at, health) = *container.verdicts.first()?;
            Some((at, name, Due::Verdict(health)))
        });
        endings
            .chain(verdicts)
            .filter(|(at, _, _)| *at <= until)
            .min_by(|left, right| (left.0, left.1).cmp(&(right.0, right.1)))
            .map(|(at, name, due)| (at, name.clone(), due))
    }

    fn judge(&mut self, name: &str, health: Health) {
        if let Some(container) = self.containers.get_mut(name) {
            container.verdicts.remove(0);
            container.check = sight::check(health, self.now);
            if container.health != health {
                container.health = health;
                self.hint(name, Hint::HealthChanged);
            }
        }
    }

    /// `finished_at` may lie ahead of now: a stop that nobody holds is over at once, but says when it
    /// would have been.
    fn end(&mut self, name: &str, ending: Ending, error: Option<String>) {
        let Some(container) = self.containers.get_mut(name) else {
            return;
        };
        container.phase = Phase::Exited {
            exit_code: ending.exit_code,
            finished_at: Some(ending.at),
            oom_killed: ending.oom_killed,
            error,
        };
        container.ending = None;
        container.verdicts.clear();
        container.health = Health::None;
        self.ports.release(&std::mem::take(&mut container.ports));
        self.hint(name, Hint::Died);
        self.wake();
    }

    // --- verbs ---

    pub(super) fn create(&mut self, spec: &ContainerSpec) -> Result<Created, EngineError> {
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
        if !self.images.has(&spec.image) {
            return Err(EngineError::ImageNotFound {
                image: spec.image.clone(),
                message: format!("No such image: {}", spec.image),
            });
        }
        let mounts = self.mounts(spec)?;
        self.volumes.provide(&mounts);
        self.created += 1;
        let id = format!("{:016x}{:048x}", self.host, self.created);
        let container = Container {
            id: id.clone(),
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
        };
        self.containers.insert(spec.name.clone(), container);
        Ok(Created {
            container_id: id,
            adopted: false,
        })
    }

    pub(super) fn start(&mut self, name: &str) -> Result<(), EngineError> {
        let container = self.container(name)?;
        match container.phase.kind() {
            PhaseKind::Running | PhaseKind::Restarting => return Ok(()),
            PhaseKind::Created | PhaseKind::Exited => {}
            kind @ (PhaseKind::Paused | PhaseKind::Removing | PhaseKind::Dead) => {
                return Err(EngineError::CannotStart {
                    name: name.to_owned(),
                    message: format!("cannot start container {name} while it is {kind:?}"),
                });
            }
        }
        let spec = ContainerSpec {
            mounts: container.mounts.clone(),
            ..container.spec.clone()
        };
        for link in links(&spec) {
            let other = self.containers.get(&link.container);
            if other.is_none_or(|other| other.phase.kind() != PhaseKind::Running) {
                return Err(EngineError::CannotStart {
                    name: name.to_owned(),
                    message: format!(
                        "Cannot link to a non running container: /{} AS /{name}/{}",
                        link.container, link.alias
                    ),
                });
            }
        }
        self.volumes.make_directories(&spec.mounts);
        let program = self.program(&spec);
        self.check_shared(name, &spec)?;
        if !spec.gpus.is_empty() && !self.gpu_driver {
            return Err(EngineError::NoDeviceDriver {
                message: "could not select device driver \"nvidia\" with capabilities: [[gpu]]"
                    .to_owned(),
            });
        }
        let refusal = refusals::at_start(&spec.parameters, &spec.network);
        if let Some(message) = refusal.or(program.refuses_to_start) {
            return Err(EngineError::CannotStart {
                name: name.to_owned(),
                message,
            });
        }
        let ports = match spec.network {
            Network::Bridge => self.ports.publish(&spec.ports)?,
            Network::Host | Network::None | Network::Named(_) | Network::Container(_) => Vec::new(),
        };
        let now = self.now;
        let Some(container) = self.containers.get_mut(name) else {
            return Err(not_found(name));
        };
        let checked = match &spec.health_check {
            Some(check) => check.test.first().is_some_and(|word| word != "NONE"),
            None => false,
        };
        container.started_at = Some(now);
        container.phase = Phase::Running {
            started_at: Some(now),
        };
        container.ports = ports;
        container.on_stop = program.on_stop;
        container.ending = program.ends.map(|(after, exit_code)| Ending {
            at: now + after,
            exit_code,
            oom_killed: program.oom_killed,
        });
        container.health = Health::None;
        container.check = None;
        container.verdicts.clear();
        if checked {
            container.health = Health::Starting;
            container.verdicts = program
                .verdicts
                .iter()
                .map(|(after, health)| (now + *after, *health))
                .collect();
        }
        self.hint(name, Hint::Started);
        Ok(())
    }

    /// Signals the container. When it will end at a known time, says when; `None` when it does not run.
    pub(super) fn begin_stop(&mut self, name: &str, grace: Duration) -> Option<Moment> {
        let now = self.now;
        let container = self.containers.get_mut(name)?;
        if !container.phase.kind().is_alive() {
            return None;
        }
        let killed = Ending {
            at: now + grace,
            exit_code: KILLED,
            oom_killed: false,
        };
        let asked = match container.on_stop {
            OnStop::Ends { after, exit_code } if after < grace || after.is_zero() => Ending {
                at: now + after,
                exit_code,
                oom_killed: false,
            },
            OnStop::Ends { .. } | OnStop::Ignores => killed,
        };
        let ending = match container.ending {
            Some(own) if own.at <= asked.at => own,
            _ => asked,
        };
        container.ending = Some(ending);
        Some(ending.at)
    }

    /// Lets a signalled container end now, whatever the time.
    pub(super) fn finish_stop(&mut self, name: &str) {
        if let Some(ending) = self.containers.get(name).and_then(|one| one.ending) {
            self.end(name, ending, None);
        }
    }

    pub(super) fn remove(&mut self, name: &str) -> Result<(), EngineError> {
        match self.containers.get(name) {
            None => Ok(()),
            Some(container) if container.phase.kind().is_alive() => Err(EngineError::Running {
                name: name.to_owned(),
            }),
            Some(_) => {
                self.destroy(name);
                Ok(())
            }
        }
    }

    pub(super) fn inspect(&self, name: &str) -> Option<ContainerState> {
        let container = self.containers.get(name)?;
        Some(ContainerState {
            id: container.id.clone(),
            name: name.to_owned(),
            image: container.spec.image.clone(),
            image_id: image_id(&container.spec.image),
            labels: container.spec.labels.clone(),
            phase: container.phase.clone(),
            health: container.health,
            ports: container.ports.clone(),
            created_at: Some(container.created_at),
            started_at: container.started_at,
            attachments: sight::attachments(
                &container.spec.network,
                container.phase.kind(),
                container.number,
            ),
            pid: u32::try_from(container.number + 100)
                .ok()
                .filter(|_| container.phase.kind().is_alive()),
            resolver_file: String::new(),
            mounts: container.mounts.iter().map(sight::mounted).collect(),
            last_check: container
                .check
                .clone()
                .filter(|_| container.phase.kind().is_alive()),
        })
    }

    /// What a running container uses.
    pub(super) fn stats(&self, name: &str) -> Option<Stats> {
        let container = self.containers.get(name)?;
        if !container.phase.kind().is_alive() {
            return None;
        }
        let ran = container
            .started_at
            .map_or(0, |at| self.now.millis().saturating_sub(at.millis()));
        Some(sight::stats(
            name,
            &container.id,
            &container.spec,
            self.now,
            ran,
        ))
    }

    pub(super) fn list(&self, scope: Option<Label<'_>>) -> Vec<ContainerSummary> {
        self.containers
            .iter()
            .filter(|(_, container)| match scope {
                Some((key, value)) => carries(container, key, value),
                None => true,
            })
            .map(|(name, container)| ContainerSummary {
                id: container.id.clone(),
                name: name.clone(),
                image_id: image_id(&container.spec.image),
                labels: container.spec.labels.clone(),
                phase: container.phase.kind(),
                health: Some(container.health),
                ports: container.ports.clone(),
            })
            .collect()
    }

    /// Containers whose namespaces it shares run, and let themselves be shared.
    fn check_shared(&self, name: &str, spec: &ContainerSpec) -> Result<(), EngineError> {
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

    // --- behind the agent's back ---

    pub(super) fn kill(&mut self, name: &str, exit_code: i64) -> bool {
        let ending = Ending {
            at: self.now,
            exit_code,
            oom_killed: false,
        };
        match self.containers.get(name) {
            Some(container) if container.phase.kind().is_alive() => {
                self.end(name, ending, None);
                true
            }
            _ => false,
        }
    }

    pub(super) fn destroy(&mut self, name: &str) {
        self.kill(name, KILLED);
        self.hint(name, Hint::Destroyed);
        self.containers.remove(name);
        self.wake();
    }

    pub(super) fn kill_all(&mut self, exit_code: i64) {
        let names: Vec<String> = self.containers.keys().cloned().collect();
        for name in names {
            self.kill(&name, exit_code);
        }
    }

    pub(super) fn distort(&mut self, name: &str, phase: Phase) {
        if let Some(container) = self.containers.get_mut(name) {
            container.phase = phase;
            container.ending = None;
            container.verdicts.clear();
        }
        self.wake();
    }

    pub(super) fn set_health(&mut self, name: &str, health: Health) {
        if let Some(container) = self.containers.get_mut(name) {
            container.health = health;
            self.hint(name, Hint::HealthChanged);
        }
    }

    /// What a container sees of the host, once it is created.
    pub(super) fn mounts_of(&self, name: &str) -> Option<&[Mount]> {
        Some(&self.containers.get(name)?.mounts)
    }

    /// Containers that have this volume, running or not.
    pub(super) fn users_of<'a>(&'a self, volume: &'a str) -> impl Iterator<Item = &'a str> {
        self.containers
            .values()
            .filter(move |container| container.mounts.iter().any(|mount| mount.shows(volume)))
            .map(|container| container.id.as_str())
    }

    /// Whether a process lives in a group.
    pub(super) fn alive_in(&self, group: &str) -> bool {
        self.containers.values().any(|container| {
            container.spec.group.as_deref() == Some(group) && container.phase.kind().is_alive()
        })
    }

    pub(super) fn remove_image(&mut self, name: &str) -> Result<(), EngineError> {
        let holder = self
            .containers
            .values()
            .find(|container| container.spec.image == name);
        if let Some(holder) = holder {
            return Err(EngineError::ImageInUse {
                image: name.to_owned(),
                message: format!(
                    "conflict: unable to remove repository reference \"{name}\" (must force) - container {} is \
                     using its referenced image",
                    holder.id
                ),
            });
        }
        self.images.forget(name);
        Ok(())
    }

    pub(super) fn spec(&self, name: &str) -> Option<ContainerSpec> {
        Some(self.containers.get(name)?.spec.clone())
    }

    // --- watchers and waiters ---

    pub(super) fn watch(&mut self, scope: (String, String), hints: UnboundedSender<Hint>) {
        self.watchers.push(Watcher { scope, hints });
    }

    /// Breaks every watch. The channel is unbounded, so only a receiver that is gone can refuse.
    pub(super) fn break_watches(&mut self) {
        for watcher in std::mem::take(&mut self.watchers) {
            let _ = watcher.hints.unbounded_send(Hint::Lost);
        }
    }

    pub(super) fn wait(&mut self, waker: &Waker) {
        self.waiting.push(waker.clone());
    }

    fn wake(&mut self) {
        self.waiting.drain(..).for_each(Waker::wake);
    }

    fn hint(&mut self, name: &str, make: fn(String) -> Hint) {
        let Some(container) = self.containers.get(name) else {
            return;
        };
        if self.mute {
            return;
        }
        self.watchers.retain(|watcher| {
            let (key, value) = &watcher.scope;
            !carries(container, key, value)
                || watcher.hints.unbounded_send(make(name.to_owned())).is_ok()
        });
    }

    // --- helpers ---

    fn container(&self, name: &str) -> Result<&Container, EngineError> {
        self.containers.get(name).ok_or_else(|| not_found(name))
    }

    fn program(&self, spec: &ContainerSpec) -> Program {
        if let Some(program) = self.programs.get(named(&spec.image)) {
            return program.clone();
        }
        let Some(Interpreter(interpret)) = &self.interpreter else {
            return Program::runs();
        };
        let published: Vec<PublishedPort> = self
            .containers
            .values()
            .flat_map(|container| container.ports.iter().cloned())
            .collect();
        interpret(spec, &published)
    }
}

fn carries(container: &Container, key: &str, value: &str) -> bool {
    container
        .spec
        .labels
        .get(key)
        .is_some_and(|has| has == value)
}

/// The links that count.
fn links(spec: &ContainerSpec) -> &[Link] {
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

fn not_found(name: &str) -> EngineError {
    EngineError::NotFound {
        name: name.to_owned(),
    }
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
