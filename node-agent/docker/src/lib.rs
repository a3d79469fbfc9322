//! The engine port spelled for Docker.
//!
//! Why: everything that is Docker's way of saying things (paths, spellings, sentences that carry the
//! error class, answers that differ between engine generations) ends here.
//!
//! Where: behind [`tallyman_agent_engine::Engine`]; the agent's shell makes one [`DockerEngine`] and
//! hands it on. Checked by the port's conformance suite against every supported engine generation
//! (`tests/conformance.rs`).
//!
//! Never: nothing here decides what should run, retries a verb, or keeps state that a restart would
//! miss; what it remembers (pulls under way, a registry that was away) only saves work. No other
//! crate names bollard. Request bodies hold secrets, and bollard logs them at debug level: the
//! agent's log filter keeps `bollard` at `info`.

mod connection;
mod credentials;
mod events;
mod faults;
mod groups;
mod hands;
mod hosts_file;
mod images;
mod kernel_log;
mod local;
mod parameters;
mod pulls;
mod read;
mod sight;
mod spell;
mod verbs;
mod volumes;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tallyman_agent_engine::{EngineError, Verb};
use tokio::sync::Mutex;

use connection::Connection;
use faults::Trouble;
use groups::Groups;
use hands::Hands;
use pulls::Pulls;

pub use connection::{BadEndpoint, OLDEST_API};
pub use credentials::client_config;

/// A Docker engine behind the port.
///
/// Making one asks nothing of the engine: a socket that does not exist yet is
/// [`EngineError::Unreachable`] at the first verb, and fine later.
pub struct DockerEngine {
    connection: Arc<Connection>,
    pulls: Pulls,
    /// One network or image of ours is made at a time.
    making: Mutex<()>,
    settings: Settings,
    groups: Groups,
    hands: Hands,
}

/// How long things may take, and what is told.
///
/// Every verb has its own limit, since Docker's calls differ by orders of magnitude; a call that
/// exceeds its limit has an unknown outcome ([`EngineError::Timeout`]).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// For describe and inspect, and for looking at volumes.
    pub look: Duration,
    /// For a list of all containers.
    pub list: Duration,
    /// For create, of containers and volumes (ECS agent: 4 min).
    pub create: Duration,
    /// For start (ECS agent: 3 min).
    pub start: Duration,
    /// For remove; removing a large writable layer or volume takes its time.
    pub remove: Duration,
    /// What stop may take beyond its grace.
    pub stop_margin: Duration,
    /// A pull from which nothing came for so long has failed (ECS agent: 1 min).
    pub pull_inactivity: Duration,
    /// What a pull may take in all (ECS agent: 2 h).
    pub pull_total: Duration,
    /// How long the registry may keep us waiting for its first word when the host has the image and
    /// may use it. Name resolution behind a dead resolver takes Docker 20 to 50 s otherwise.
    pub pull_patience: Duration,
    /// For how long a registry that could not be reached is not asked again for images that the host
    /// has.
    pub registry_away: Duration,
    /// For how long a prepared image counts as prepared, so that many tasks that start together ask
    /// once.
    pub prepared_fresh: Duration,
    /// The Docker client's configuration file, for pulls without credentials of their own.
    pub client_config: Option<PathBuf>,
    /// Whether published ports are told for IPv4 only (`ECS_EXCLUDE_IPV6_PORTBINDING`).
    pub exclude_ipv6_port_bindings: bool,
    /// Where control groups of the host are mounted (`ECS_CGROUP_PATH`).
    pub cgroups: PathBuf,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            look: Duration::from_secs(30),
            list: Duration::from_secs(60),
            create: Duration::from_secs(4 * 60),
            start: Duration::from_secs(3 * 60),
            remove: Duration::from_secs(5 * 60),
            stop_margin: Duration::from_secs(30),
            pull_inactivity: Duration::from_secs(60),
            pull_total: Duration::from_secs(2 * 60 * 60),
            pull_patience: Duration::from_secs(5),
            registry_away: Duration::from_secs(30),
            prepared_fresh: Duration::from_secs(5),
            client_config: None,
            exclude_ipv6_port_bindings: true,
            cgroups: PathBuf::from("/sys/fs/cgroup"),
        }
    }
}

impl DockerEngine {
    /// An engine at `unix:///path`, `tcp://host:port` or `http://host:port`.
    ///
    /// # Errors
    /// The endpoint is spelled otherwise.
    pub fn new(endpoint: &str, settings: Settings) -> Result<Self, BadEndpoint> {
        Ok(Self {
            connection: Arc::new(Connection::new(endpoint)?),
            pulls: Pulls::default(),
            groups: Groups::new(settings.cgroups.clone()),
            hands: Hands::default(),
            making: Mutex::new(()),
            settings,
        })
    }

    /// Waits for one answer, as long as this class of calls may take.
    async fn within<T>(
        &self,
        verb: Verb,
        limit: Duration,
        call: impl Future<Output = Result<T, Trouble>>,
    ) -> Result<T, Failure> {
        match tokio::time::timeout(limit, call).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(trouble)) => Err(Failure::Answered(trouble)),
            Err(_) => Err(Failure::Overdue(EngineError::Timeout {
                verb,
                after: limit,
            })),
        }
    }
}

/// Why a call gave no good answer.
enum Failure {
    /// The engine, or the transport, said something; each verb reads it in its own way.
    Answered(Trouble),
    /// Nothing came in time.
    Overdue(EngineError),
}
