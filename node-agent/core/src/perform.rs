//! An action carried out on any engine: the one place that turns an [`Action`] into a call of the port.

use tallyman_agent_engine::{
    ContainerSpec, ContainerState, Created, Engine, EngineError, Group, Prepared, Verb, VolumeState,
};
use tallyman_crds::labels;

use crate::dynamic_ports::PortSource;
use crate::firelens::{RouterFiles, RouterFolder};
use crate::gpus::{GpuClaim, GpuHolder, GpuWish, Gpus};
use crate::host_files::HostFiles;
use crate::host_paths::HostPaths;
use crate::needs::VariableFiles;
use crate::ports::PortSpan;
use crate::task::Action;

/// What a verb came to.
#[derive(Debug)]
pub enum Outcome {
    /// Of [`Action::Prepare`].
    Prepared(Result<Prepared, EngineError>),
    /// Of [`Action::EnsureImage`].
    ImageEnsured(Result<(), EngineError>),
    /// Of [`Action::EnsureNetwork`].
    NetworkEnsured(Result<(), EngineError>),
    /// Of [`Action::Create`].
    Created(Result<Created, EngineError>),
    /// Of [`Action::Start`].
    Started(Result<(), EngineError>),
    /// Of [`Action::Attach`].
    Attached(Result<(), EngineError>),
    /// Of [`Action::Inspect`].
    Inspected(Result<Option<Box<ContainerState>>, EngineError>),
    /// Of [`Action::Stop`].
    Stopped(Result<(), EngineError>),
    /// Of [`Action::Remove`].
    Removed(Result<(), EngineError>),
    /// Of an action that is about a volume.
    Volume(VolumeOutcome),
}

/// What a verb about a volume came to.
#[derive(Debug)]
pub enum VolumeOutcome {
    /// Of [`Action::CreateVolume`].
    Created(Result<(), EngineError>),
    /// Of [`Action::InspectVolume`].
    Inspected(Result<Option<Box<VolumeState>>, EngineError>),
    /// Of [`Action::RemoveVolume`].
    Removed(Result<(), EngineError>),
}

impl Outcome {
    /// The verb that it is of.
    pub fn verb(&self) -> Verb {
        match self {
            Self::Prepared(_) => Verb::Prepare,
            Self::ImageEnsured(_) => Verb::EnsureImage,
            Self::NetworkEnsured(_) => Verb::EnsureNetwork,
            Self::Created(_) => Verb::Create,
            Self::Started(_) => Verb::Start,
            Self::Attached(_) => Verb::Attach,
            Self::Inspected(_) => Verb::Inspect,
            Self::Stopped(_) => Verb::Stop,
            Self::Removed(_) => Verb::Remove,
            Self::Volume(VolumeOutcome::Created(_)) => Verb::CreateVolume,
            Self::Volume(VolumeOutcome::Inspected(_)) => Verb::InspectVolume,
            Self::Volume(VolumeOutcome::Removed(_)) => Verb::RemoveVolume,
        }
    }

    /// The failure, if it is one.
    pub fn error(&self) -> Option<&EngineError> {
        match self {
            Self::Prepared(result) => result.as_ref().err(),
            Self::Created(result) => result.as_ref().err(),
            Self::Inspected(result) => result.as_ref().err(),
            Self::ImageEnsured(result)
            | Self::NetworkEnsured(result)
            | Self::Started(result)
            | Self::Attached(result)
            | Self::Stopped(result)
            | Self::Removed(result) => result.as_ref().err(),
            Self::Volume(VolumeOutcome::Inspected(result)) => result.as_ref().err(),
            Self::Volume(VolumeOutcome::Created(result) | VolumeOutcome::Removed(result)) => {
                result.as_ref().err()
            }
        }
    }
}

async fn provide<E: Engine>(engine: &E, group: Option<&Group>) -> Result<(), EngineError> {
    match group {
        Some(group) => engine.provide_group(group).await,
        None => Ok(()),
    }
}

/// What actions need of the host beside its engine.
#[derive(Clone, Copy)]
pub struct Premises<'a> {
    /// Chooses ports of the host.
    pub ports: &'a dyn PortSource,
    /// Gives GPUs of the host.
    pub gpus: &'a Gpus,
    /// Keeps the files of log routers.
    pub routers: &'a dyn RouterFolder,
    /// Reads files of variables, and follows links.
    pub files: &'a dyn HostFiles,
}

/// What of a container is settled when it is created, at the last moment.
struct Wishes<'a> {
    ports: &'a [PortSpan],
    gpus: Option<&'a GpuWish>,
    variables: Option<&'a VariableFiles>,
}

/// Creates a container in its group, after the files that it reads. Ports and GPUs of the host are chosen, and files of
/// variables read, here.
async fn create<E: Engine>(
    engine: &E,
    premises: Premises<'_>,
    spec: &ContainerSpec,
    group: Option<&Group>,
    wishes: Wishes<'_>,
    files: Option<&RouterFiles>,
) -> Result<Created, EngineError> {
    let mut spec = spec.clone();
    if let Some(variables) = wishes.variables {
        variables.fill(&mut spec, premises.files)?;
    }
    if let Some(files) = files {
        premises.routers.provide(files)?;
    }
    provide(engine, group).await?;
    let Wishes { ports, gpus, .. } = wishes;
    if let Some(wish) = gpus {
        premises.gpus.choose(wish, &mut spec)?;
    }
    if !ports.is_empty() {
        spec.ports.extend(premises.ports.choose(ports)?);
    }
    engine.create(&spec).await
}

/// Starts a container in its group, if its GPUs are its own and the paths that it mounts lead where they may.
async fn start<E: Engine>(
    engine: &E,
    premises: Premises<'_>,
    name: &str,
    group: Option<&Group>,
    claim: Option<&GpuClaim>,
    paths: Option<&HostPaths>,
) -> Result<(), EngineError> {
    if let Some(paths) = paths {
        paths.check(premises.files)?;
    }
    if let Some(claim) = claim {
        premises.gpus.claim(claim)?;
        let socket = premises.gpus.must_listen(claim.share);
        if let Some(socket) = socket.filter(|socket| !premises.files.listens(socket)) {
            return Err(no_mps(name, &claim.holder, &socket));
        }
    }
    provide(engine, group).await?;
    engine.start(name).await
}

fn no_mps(name: &str, holder: &GpuHolder, socket: &str) -> EngineError {
    let why = match socket {
        "" => "the host does not share GPUs".to_owned(),
        socket => format!("MPS' control daemon does not listen at `{socket}`"),
    };
    EngineError::CannotStart {
        name: name.to_owned(),
        message: format!(
            "container `{}` has a part of a GPU, and {why}; without MPS it would have all of it",
            holder.container
        ),
    }
}

/// Carries an action out once. Retries are [`crate::task::step`]'s.
///
/// Each verb is boxed: a stop, of which there may be one for each container of the host, does not take the room of a pull.
pub async fn perform<E: Engine>(engine: &E, premises: Premises<'_>, action: &Action) -> Outcome {
    match action {
        Action::Prepare {
            image,
            behavior,
            credentials,
            ..
        } => {
            let prepared = engine.prepare(image, *behavior, credentials.as_ref());
            Outcome::Prepared(Box::pin(prepared).await)
        }
        Action::EnsureImage { image, .. } => {
            Outcome::ImageEnsured(Box::pin(engine.ensure_image(image)).await)
        }
        Action::EnsureNetwork { network, .. } => {
            Outcome::NetworkEnsured(Box::pin(engine.ensure_network(network)).await)
        }
        Action::Create {
            spec,
            group,
            ports,
            gpus,
            files,
            variables,
            container: _,
        } => {
            let wishes = Wishes {
                ports,
                gpus: gpus.as_ref(),
                variables: variables.as_deref(),
            };
            let (group, files) = (group.as_deref(), files.as_deref());
            let created = create(engine, premises, spec, group, wishes, files);
            Outcome::Created(Box::pin(created).await)
        }
        Action::Start {
            name,
            group,
            gpus,
            paths,
            container: _,
        } => {
            let (group, paths) = (group.as_deref(), paths.as_deref());
            let started = start(engine, premises, name, group, gpus.as_ref(), paths);
            Outcome::Started(Box::pin(started).await)
        }
        Action::Attach { name, network, .. } => {
            Outcome::Attached(Box::pin(engine.attach(name, network)).await)
        }
        Action::Inspect { name, .. } => {
            let found = Box::pin(engine.inspect(name)).await;
            Outcome::Inspected(found.map(|state| state.map(Box::new)))
        }
        Action::Stop { name, grace, .. } => {
            Outcome::Stopped(Box::pin(engine.stop(name, *grace)).await)
        }
        Action::Remove { name, .. } | Action::Discard { name, .. } => {
            Outcome::Removed(Box::pin(engine.remove(name)).await)
        }
        Action::CreateVolume { spec, .. } => {
            let created = Box::pin(engine.create_volume(spec)).await;
            Outcome::Volume(VolumeOutcome::Created(created))
        }
        Action::InspectVolume { name, .. } => {
            let found = Box::pin(engine.inspect_volume(name)).await;
            Outcome::Volume(VolumeOutcome::Inspected(
                found.map(|state| state.map(Box::new)),
            ))
        }
        Action::RemoveVolume { name, task, .. } => {
            let owner = (labels::CONTAINER_TASK_UID, task.as_str());
            let removed = Box::pin(engine.remove_volume(name, owner)).await;
            Outcome::Volume(VolumeOutcome::Removed(removed))
        }
    }
}
