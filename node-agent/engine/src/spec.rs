//! What a container shall be.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use crate::{CpuQuota, Mount, Parameters, Protocol, Sensitive, VolumesFrom};

/// All that the engine is told about a container, in our words.
///
/// It holds what Tallyman honours today and nothing else; adapters destructure it without `..`, so a
/// new field cannot be forgotten by one of them. Fixed for every container and therefore no field:
/// the engine's own restart policy is off and the container is never removed by the engine, since
/// ECS restart and cleanup are the agent's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContainerSpec {
    /// Name on the engine, derived by the agent so that creating twice collides.
    pub name: String,
    /// Image reference, as given to [`crate::Engine::prepare`], or an image id.
    pub image: String,
    /// Replaces the image's entry point; `None` keeps it.
    pub entrypoint: Option<Vec<String>>,
    /// Replaces the image's command; `None` keeps it.
    pub command: Option<Vec<String>>,
    /// Variables in order; adds to and overrides the image's.
    pub environment: Vec<(String, String)>,
    /// Variables whose values nobody but the container may see. None is named in `environment`.
    pub secrets: Vec<(String, Sensitive)>,
    /// Labels; also what an existing container of the name must carry to be adopted.
    pub labels: BTreeMap<String, String>,
    /// Relative weight, 2 to 262144 (ECS `cpu`); `None` is the engine's 1024.
    pub cpu_shares: Option<i64>,
    /// Hard limit in bytes (ECS `memory`); the engine wants at least 6 MiB.
    pub memory_bytes: Option<i64>,
    /// Soft limit in bytes (ECS `memoryReservation`).
    pub memory_reservation_bytes: Option<i64>,
    /// Processor time; `None` is no limit.
    pub cpu_quota: Option<CpuQuota>,
    /// The [`crate::Group`] that it shares limits with, by name; `None` leaves it in the engine's own.
    pub group: Option<String>,
    /// Runtime of the engine that starts it; `None` is the engine's default.
    pub runtime: Option<String>,
    /// GPUs of the host, by id, that the engine's own device driver is to give it.
    pub gpus: Vec<String>,
    /// Ports published on the host; only [`Network::Bridge`] honours them.
    pub ports: Vec<PortSpec>,
    /// Which network the container lives in.
    pub network: Network,
    /// Containers that it reaches by name (ECS `links`); only [`Network::Bridge`] honours them.
    pub links: Vec<Link>,
    /// `user[:group]` or `uid[:gid]`; `None` keeps the image's.
    pub user: Option<String>,
    /// Working directory; `None` keeps the image's.
    pub working_directory: Option<String>,
    /// Volumes and paths of the host that it sees; paths in the container differ.
    pub mounts: Vec<Mount>,
    /// Containers whose mounts it sees, too.
    pub volumes_from: Vec<VolumesFrom>,
    /// How long the engine waits between SIGTERM and SIGKILL when somebody else stops the container.
    /// The agent passes its own grace to [`crate::Engine::stop`]. Whole seconds, rounded up.
    pub stop_timeout: Option<Duration>,
    /// Health check that the engine runs. `None` keeps the image's own, which ECS does not monitor:
    /// whoever reads [`crate::Health`] must know whether the spec asked for one.
    pub health_check: Option<HealthCheck>,
    /// Kernel, host and terminal.
    pub parameters: Parameters,
}

impl ContainerSpec {
    /// A container of `image` with all else as the image and the engine have it, on the bridge.
    pub fn new(name: impl Into<String>, image: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            image: image.into(),
            entrypoint: None,
            command: None,
            environment: Vec::new(),
            secrets: Vec::new(),
            labels: BTreeMap::new(),
            cpu_shares: None,
            memory_bytes: None,
            memory_reservation_bytes: None,
            cpu_quota: None,
            group: None,
            runtime: None,
            gpus: Vec::new(),
            ports: Vec::new(),
            network: Network::Bridge,
            links: Vec::new(),
            user: None,
            working_directory: None,
            mounts: Vec::new(),
            volumes_from: Vec::new(),
            stop_timeout: None,
            health_check: None,
            parameters: Parameters::default(),
        }
    }
}

/// One published port (an ECS port mapping).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PortSpec {
    /// Port inside the container, 1 to 65535.
    pub container_port: u16,
    /// Port on the host; `None` lets the engine choose a free one at every start.
    pub host_port: Option<u16>,
    /// TCP or UDP.
    pub protocol: Protocol,
    /// Address of the host to listen on; `None` is every address.
    pub host_ip: Option<IpAddr>,
}

/// Another container under a name inside this one. It must exist when this one is created, and run when
/// this one starts.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Link {
    /// Name of the other container on the engine.
    pub container: String,
    /// What it is called inside.
    pub alias: String,
}

/// The network that a container lives in (ECS `networkMode`).
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Network {
    /// Own network namespace on the engine's bridge; ports are published.
    #[default]
    Bridge,
    /// The host's own network; container ports are host ports.
    Host,
    /// Loopback only.
    None,
    /// Own network namespace, with an address on the engine's network of this name. Nothing is published.
    Named(String),
    /// That of another container, by name: addresses, ports and loopback are shared. The other one must run when this
    /// one starts.
    Container(String),
}

/// A health check run by the engine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HealthCheck {
    /// As the engine (and ECS `healthCheck.command`) wants it: `["CMD", ..]`, `["CMD-SHELL", ".."]`,
    /// or `["NONE"]` to switch off the image's own.
    pub test: Vec<String>,
    /// Pause between checks (ECS default 30 s).
    pub interval: Duration,
    /// A check that takes longer has failed (ECS default 5 s).
    pub timeout: Duration,
    /// Failures in a row that make it unhealthy (ECS default 3).
    pub retries: u32,
    /// Failures in this time after the start do not count (ECS default off).
    pub start_period: Option<Duration>,
}
