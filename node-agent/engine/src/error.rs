//! Why an engine did not do what it was asked, what to do about it, and whose fault it is.

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use crate::Verb;

/// What caused an [`EngineError`], kept for the log. Shared, since callers of one pull share its error.
pub type Cause = Arc<dyn Error + Send + Sync>;

/// Why an engine did not do what it was asked.
///
/// Messages are whole clauses in the engine's words where it had any; they end up in ECS stop reasons
/// (`CannotPullContainerError: ...`), which the agent's core composes.
#[derive(Clone, Debug, thiserror::Error)]
pub enum EngineError {
    /// The registry (or, for a create, the host) does not have the image.
    #[error("{message}")]
    ImageNotFound {
        /// The reference asked for.
        image: String,
        /// The engine's words.
        message: String,
    },
    /// The image could not be pulled.
    #[error("{message}")]
    PullFailed {
        /// The reference asked for.
        image: String,
        /// What went wrong, as far as it can be told.
        why: PullFault,
        /// The engine's words.
        message: String,
    },
    /// The registry wants credentials, and those that the host has for it could not be looked up.
    #[error(
        "the credentials for {registry} could not be looked up: {why}; without them: {message}"
    )]
    CannotAuthenticate {
        /// The reference asked for.
        image: String,
        /// Whose credentials.
        registry: String,
        /// What went wrong with them, as a clause; never a part of them.
        why: String,
        /// The engine's words.
        message: String,
    },
    /// The image was pulled, and its id and digest could not be found out.
    #[error("{message}")]
    CannotResolve {
        /// The reference asked for.
        image: String,
        /// The engine's words.
        message: String,
    },
    /// A container that is not ours has the name.
    #[error("the name {name} is taken by container {holder}, which does not carry our labels")]
    NameTaken {
        /// The name asked for.
        name: String,
        /// Id of the container that has it.
        holder: String,
    },
    /// A volume that is not ours has the name.
    #[error("{message}")]
    VolumeTaken {
        /// The name asked for.
        name: String,
        /// Whose it is, or the engine's words.
        message: String,
    },
    /// A volume that a container has is not removed.
    #[error("{message}")]
    VolumeInUse {
        /// The name asked for.
        name: String,
        /// The engine's words.
        message: String,
    },
    /// An image that a container has is not removed.
    #[error("{message}")]
    ImageInUse {
        /// The reference asked for.
        image: String,
        /// The engine's words.
        message: String,
    },
    /// The limits of a group could not be set.
    #[error("the limits of the task could not be set: {message}")]
    CannotLimit {
        /// The host's words.
        message: String,
    },
    /// The files that the container reads could not be written.
    #[error("{path} could not be written: {message}")]
    CannotWrite {
        /// Which file of the host.
        path: String,
        /// The host's words.
        message: String,
    },
    /// A file of the host that the container is given variables from could not be read, or may not be.
    #[error("environment file `{path}` of the host {message}")]
    CannotRead {
        /// Which, as the task definition calls it.
        path: String,
        /// Why, as a clause.
        message: String,
    },
    /// A path of the host that the container mounts leads, by links on the host, to where it may not.
    #[error("the mounted path `{path}` leads, by links on the host, to one that {why}")]
    LeadsAstray {
        /// Which, as the task definition calls it.
        path: String,
        /// Why, as a clause that names the other path.
        why: String,
    },
    /// The host has no network of the name that the container is to be on.
    #[error("{message}")]
    NetworkNotFound {
        /// The engine's words.
        message: String,
    },
    /// A published port of the container is in use on the host.
    #[error("{message}")]
    PortTaken {
        /// Which port of the host, when the engine says it.
        port: Option<u16>,
        /// The engine's words.
        message: String,
    },
    /// The GPUs that the container is to have are another's, for now.
    #[error("{message}")]
    GpusTaken {
        /// Which, or how many.
        message: String,
    },
    /// The engine has no driver for the devices that the container is to have.
    #[error("{message}")]
    NoDeviceDriver {
        /// The engine's words.
        message: String,
    },
    /// The host's disk is full.
    #[error("{message}")]
    NoSpace {
        /// The engine's words.
        message: String,
    },
    /// No container of the name.
    #[error("no container {name}")]
    NotFound {
        /// The name asked for.
        name: String,
    },
    /// A running container is not removed.
    #[error("container {name} is running")]
    Running {
        /// The name asked for.
        name: String,
    },
    /// The engine refuses the settings of the container or the image reference.
    #[error("{message}")]
    InvalidSpec {
        /// The engine's words.
        message: String,
    },
    /// The container's first process could not be started: no such program, no such user, a limit.
    #[error("{message}")]
    CannotStart {
        /// The name asked for.
        name: String,
        /// The engine's words.
        message: String,
    },
    /// The engine did not answer in time. What was asked may be done, or be done later.
    #[error("{verb} did not finish within {} s", after.as_secs())]
    Timeout {
        /// What was asked.
        verb: Verb,
        /// How long we waited.
        after: Duration,
    },
    /// The engine could not be asked: nobody listens.
    #[error("the engine cannot be reached: {source}")]
    Unreachable {
        /// From the transport.
        source: Cause,
    },
    /// The engine went away while we waited for the answer. What was asked may be done.
    #[error("the engine broke off while asked to {verb}: {source}")]
    Interrupted {
        /// What was asked.
        verb: Verb,
        /// From the transport.
        source: Cause,
    },
    /// The engine's API is older than we speak.
    #[error("the engine speaks API {found}, the oldest supported is {oldest}")]
    TooOld {
        /// What it speaks.
        found: String,
        /// What it must speak.
        oldest: String,
    },
    /// Anything else that the engine answered.
    #[error("{message}")]
    Engine {
        /// What was asked.
        verb: Verb,
        /// HTTP status; 0 when the answer could not be understood.
        status: u16,
        /// The engine's words.
        message: String,
    },
}

/// What went wrong in a pull, as far as the engine's words tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PullFault {
    /// The registry wants credentials, or other ones. Registries also say so of missing repositories.
    Denied,
    /// The registry could not be reached.
    RegistryUnreachable,
    /// The registry refuses for now (`toomanyrequests`).
    RateLimited,
    /// No image for this platform.
    Platform,
    /// Nothing came for a minute, or all took longer than two hours.
    Stalled,
    /// Something else.
    Other,
}

/// Whether asking again may help.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Retry {
    /// Asked the same again, the engine will answer the same until somebody changes something.
    Never,
    /// Nothing was done; it may go better later.
    Later,
    /// It may be done. Look first, then ask again.
    Unknown,
}

/// Who can mend it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Fault {
    /// Who wrote the task definition (or runs the registry it names).
    User,
    /// Who runs the host: disk, ports, foreign containers, engine version.
    Host,
    /// The engine, or the way to it.
    Engine,
}

impl EngineError {
    /// Whether asking again may help.
    pub fn retry(&self) -> Retry {
        match self {
            Self::PullFailed { why, .. } => why.retry(),
            // ECS retries a missing image like any failed pull: it may be pushed or replicated soon.
            Self::ImageNotFound { .. }
            | Self::CannotAuthenticate { .. }
            | Self::CannotResolve { .. }
            | Self::PortTaken { .. }
            | Self::GpusTaken { .. }
            | Self::NoSpace { .. }
            | Self::VolumeInUse { .. }
            | Self::ImageInUse { .. }
            | Self::CannotLimit { .. }
            | Self::CannotWrite { .. }
            | Self::NetworkNotFound { .. }
            | Self::Unreachable { .. } => Retry::Later,
            Self::NameTaken { .. }
            | Self::VolumeTaken { .. }
            | Self::CannotRead { .. }
            | Self::LeadsAstray { .. }
            | Self::NotFound { .. }
            | Self::Running { .. }
            | Self::InvalidSpec { .. }
            | Self::CannotStart { .. }
            | Self::NoDeviceDriver { .. }
            | Self::TooOld { .. } => Retry::Never,
            Self::Timeout { .. } | Self::Interrupted { .. } => Retry::Unknown,
            Self::Engine { status, .. } => match status {
                400..=499 => Retry::Never,
                _ => Retry::Unknown,
            },
        }
    }

    /// Who can mend it.
    pub fn fault(&self) -> Fault {
        match self {
            Self::PullFailed { why, .. } => why.fault(),
            Self::ImageNotFound { .. }
            | Self::InvalidSpec { .. }
            | Self::CannotStart { .. }
            | Self::LeadsAstray { .. } => Fault::User,
            Self::CannotAuthenticate { .. }
            | Self::NameTaken { .. }
            | Self::VolumeTaken { .. }
            | Self::VolumeInUse { .. }
            | Self::ImageInUse { .. }
            | Self::CannotLimit { .. }
            | Self::CannotWrite { .. }
            | Self::CannotRead { .. }
            | Self::NetworkNotFound { .. }
            | Self::PortTaken { .. }
            | Self::GpusTaken { .. }
            | Self::NoDeviceDriver { .. }
            | Self::NoSpace { .. }
            | Self::NotFound { .. }
            | Self::Running { .. }
            | Self::TooOld { .. } => Fault::Host,
            Self::CannotResolve { .. }
            | Self::Timeout { .. }
            | Self::Unreachable { .. }
            | Self::Interrupted { .. }
            | Self::Engine { .. } => Fault::Engine,
        }
    }
}

impl PullFault {
    fn retry(self) -> Retry {
        match self {
            Self::Denied | Self::Platform => Retry::Never,
            Self::RegistryUnreachable | Self::RateLimited | Self::Stalled | Self::Other => {
                Retry::Later
            }
        }
    }

    fn fault(self) -> Fault {
        match self {
            Self::Denied | Self::Platform | Self::RateLimited | Self::Other => Fault::User,
            Self::RegistryUnreachable | Self::Stalled => Fault::Host,
        }
    }
}
