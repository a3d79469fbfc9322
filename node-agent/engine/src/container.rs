//! What a container is at the moment.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;

use crate::{Attachment, Check, Moment, Mounted};

/// All the engine says about one container ([`crate::Engine::inspect`]).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContainerState {
    /// The engine's id (64 hexadecimal digits).
    pub id: String,
    /// Name without a leading slash.
    pub name: String,
    /// Image reference it was created with.
    pub image: String,
    /// The engine's id of the image (`sha256:...`).
    pub image_id: String,
    /// Labels, the image's own included.
    pub labels: BTreeMap<String, String>,
    /// Where it is in its life.
    pub phase: Phase,
    /// Verdict of its health check.
    pub health: Health,
    /// Ports that are published right now; empty unless it runs. IPv4 only, unless the adapter was
    /// told otherwise (`ECS_EXCLUDE_IPV6_PORTBINDING`). Sorted.
    pub ports: Vec<PublishedPort>,
    /// When it was created.
    pub created_at: Option<Moment>,
    /// When it was last started; `None` if never.
    pub started_at: Option<Moment>,
    /// Networks of its own that it is attached to; empty unless it runs, and on the host's network. Sorted.
    pub attachments: Vec<Attachment>,
    /// Its first process, as the engine's host numbers it, while it runs.
    pub pid: Option<u32>,
    /// Where on the engine's host its `/etc/resolv.conf` is; empty when it has none of its own.
    pub resolver_file: String,
    /// Volumes and paths of the host that it sees. Sorted.
    pub mounts: Vec<Mounted>,
    /// The last run of its health check, while it runs.
    pub last_check: Option<Check>,
}

/// One line of [`crate::Engine::list`]: enough to see that something changed, cheap for the engine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContainerSummary {
    /// The engine's id.
    pub id: String,
    /// Name without a leading slash.
    pub name: String,
    /// The engine's id of its image (`sha256:...`).
    pub image_id: String,
    /// Labels, the image's own included.
    pub labels: BTreeMap<String, String>,
    /// Where it is in its life; details take an inspect.
    pub phase: PhaseKind,
    /// Verdict of its health check; `None` when the engine's list does not tell.
    pub health: Option<Health>,
    /// Ports that are published right now; as in [`ContainerState::ports`].
    pub ports: Vec<PublishedPort>,
}

/// Where a container is in its life, with what is known there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Created, and never started with success.
    Created,
    /// Its first process runs.
    Running {
        /// Since when.
        started_at: Option<Moment>,
    },
    /// Frozen by somebody.
    Paused,
    /// Between an exit and the engine's own restart; never by us.
    Restarting,
    /// Being removed.
    Removing,
    /// Its first process has ended.
    Exited {
        /// As the engine says: 128 plus the signal for a killed process (137 is SIGKILL), 255 also
        /// when the engine lost sight of it.
        exit_code: i64,
        /// When it ended.
        finished_at: Option<Moment>,
        /// The kernel killed it for memory.
        oom_killed: bool,
        /// The engine's words, if it has any.
        error: Option<String>,
    },
    /// Half removed; only another remove helps.
    Dead,
}

impl Phase {
    /// The phase without its data.
    pub fn kind(&self) -> PhaseKind {
        match self {
            Self::Created => PhaseKind::Created,
            Self::Running { .. } => PhaseKind::Running,
            Self::Paused => PhaseKind::Paused,
            Self::Restarting => PhaseKind::Restarting,
            Self::Removing => PhaseKind::Removing,
            Self::Exited { .. } => PhaseKind::Exited,
            Self::Dead => PhaseKind::Dead,
        }
    }
}

/// A [`Phase`] without its data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PhaseKind {
    /// Created, and never started with success.
    Created,
    /// Its first process runs.
    Running,
    /// Frozen by somebody.
    Paused,
    /// Between an exit and the engine's own restart.
    Restarting,
    /// Being removed.
    Removing,
    /// Its first process has ended.
    Exited,
    /// Half removed.
    Dead,
}

impl PhaseKind {
    /// Whether a process of the container may be alive.
    pub fn is_alive(self) -> bool {
        match self {
            Self::Running | Self::Paused | Self::Restarting => true,
            Self::Created | Self::Removing | Self::Exited | Self::Dead => false,
        }
    }
}

/// The verdict of a container's health check, while it runs. (Docker itself calls every stopped
/// container that had a check unhealthy; adapters do not pass that on.)
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Health {
    /// It has no health check, or does not run.
    #[default]
    None,
    /// No verdict yet.
    Starting,
    /// The last check passed.
    Healthy,
    /// As many checks in a row failed as the spec allows.
    Unhealthy,
}

/// TCP or UDP.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    /// TCP, the default of a port mapping.
    #[default]
    Tcp,
    /// UDP.
    Udp,
}

impl Protocol {
    /// `tcp` or `udp`, as both ECS and engines spell it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.as_str())
    }
}

/// A port of the host that leads into a container (an ECS network binding).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PublishedPort {
    /// Port inside the container.
    pub container_port: u16,
    /// TCP or UDP.
    pub protocol: Protocol,
    /// Port on the host.
    pub host_port: u16,
    /// Address of the host it listens on (ECS `bindIP`); `0.0.0.0` is every IPv4 address.
    pub host_ip: IpAddr,
}
