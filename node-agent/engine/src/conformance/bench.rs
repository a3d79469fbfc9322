//! What the suite needs besides the port, and the ground a case stands on.

use std::fmt::Display;
use std::future::Future;
use std::net::Ipv4Addr;
use std::time::Duration;

use crate::conformance::sights::Sight;
use crate::conformance::{Verdict, ensure};
use crate::{
    ContainerSpec, ContainerState, CpuQuota, Engine, EngineError, Ipc, Label, LocalImage, Log,
    Network, PhaseKind, PortSpec, Protocol,
};

/// What the suite needs besides the port: programs, and a hand on the engine from outside.
pub trait Bench: Send + Sync {
    /// The engine under test.
    type Engine: Engine;

    /// The engine under test.
    fn engine(&self) -> &Self::Engine;

    /// An image that the host has and no registry does; asking its registry fails at once. Its own
    /// user is root, its own directory `/`.
    fn image(&self) -> String;

    /// An image that the host has and no registry does; another one at each call. Nobody else uses it.
    fn spare_image(&self) -> impl Future<Output = Result<String, String>> + Send;

    /// Gives an image of the host one name more, not through the port. An image that has it loses it.
    fn name_image(&self, image: &str, name: &str) -> impl Future<Output = Verdict> + Send;

    /// An image that neither the host nor a registry has.
    fn missing_image(&self) -> String;

    /// How `program` is spelled on that image: at least two words.
    fn command(&self, program: &Program) -> Vec<String>;

    /// A port that nobody on the host listens on; another one at each call.
    fn free_port(&self) -> u16;

    /// Lets time pass.
    fn pass(&self, span: Duration) -> impl Future<Output = ()> + Send;

    /// Sends SIGKILL to a container, not through the port.
    fn kill(&self, name: &str) -> impl Future<Output = Verdict> + Send;

    /// Removes a container by force, not through the port.
    fn destroy(&self, name: &str) -> impl Future<Output = Verdict> + Send;

    /// Removes a volume that no container has, not through the port.
    fn destroy_volume(&self, name: &str) -> impl Future<Output = Verdict> + Send;

    /// Removes a network that nobody is on, not through the port; one that does not exist is fine.
    fn destroy_network(&self, name: &str) -> impl Future<Output = Verdict> + Send;

    /// An image that the agent brings with itself; its program runs until SIGTERM.
    fn brought(&self) -> LocalImage;

    /// A directory of the engine's host that does not exist yet; another one at each call.
    fn host_folder(&self) -> String;

    /// The text of a file of the engine's host.
    fn host_file(&self, path: &str) -> Option<String>;

    /// What the engine holds of a container's settings, read not through the port.
    fn settings(&self, name: &str) -> impl Future<Output = Result<Settings, String>> + Send;
}

/// What a container is to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Program {
    /// Makes the file `/tmp/ready` and runs until SIGTERM, then exits with 0 at once.
    Runs,
    /// Makes the file `/tmp/ready` and runs until SIGKILL.
    IgnoresStop,
    /// Exits by itself.
    Exits {
        /// With this code.
        code: u8,
        /// So long after the start.
        after: Duration,
    },
    /// Exits with 0 when it finds itself as described, else with 1.
    Finds {
        /// User id.
        uid: u32,
        /// Group id.
        gid: u32,
        /// Working directory.
        directory: String,
        /// A variable and its value.
        variable: (String, String),
    },
    /// Exits with 0 when it sees all of these, else with [`super::UNSEEN`] and the index of the first it does not see.
    Sees(Vec<Sight>),
    /// Serves HTTP on a TCP port until SIGTERM.
    Serves {
        /// The container's port.
        port: u16,
    },
    /// Exits with 0 as soon as HTTP on this port of its loopback answers, with 1 after ten seconds without.
    Fetches {
        /// The port.
        port: u16,
    },
    /// Exits with 0 when HTTP on this port of the container that its hosts file has under this name
    /// answers, else with 1.
    Reaches {
        /// The name.
        name: String,
        /// The port.
        port: u16,
    },
    /// Exits with 0 as soon as HTTP on this port of an address of the host answers, with 1 after ten seconds without; and
    /// with 2 when its default route is not its first interface, or when its hosts file has an address of the host's network.
    AsksHost {
        /// The address of the host on a network that leads nowhere else.
        address: Ipv4Addr,
        /// The port.
        port: u16,
    },
    /// Exits with 0 when it could write a file, else with 1.
    Writes {
        /// Where.
        path: String,
        /// What.
        text: String,
    },
    /// Exits with 0 when a file holds this text, else with 1.
    Reads {
        /// Where.
        path: String,
        /// What.
        text: String,
    },
    /// Exits with 0 when it sees a process 1 whose command line begins with this path, else with 1.
    Meets {
        /// The path.
        first: String,
    },
    /// Writes a file in shared memory and runs until SIGTERM.
    Leaves {
        /// Its name.
        name: String,
    },
    /// Exits with 0 as soon as a file of that name is in shared memory, else with 1.
    Discovers {
        /// Its name.
        name: String,
    },
    /// Takes more and more memory until it is killed for it.
    Swells,
    /// There is no such program.
    Missing,
}

/// A container's settings as the engine holds them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// CPU weight; 0 when not set.
    pub cpu_shares: i64,
    /// Hard limit in bytes; 0 when not set.
    pub memory_bytes: i64,
    /// Soft limit in bytes; 0 when not set.
    pub memory_reservation_bytes: i64,
    /// Processor time, when limited.
    pub cpu_quota: Option<CpuQuota>,
    /// Name of its group, when it has one.
    pub group: Option<String>,
    /// Entry point and command in one.
    pub argv: Vec<String>,
    /// Seconds from stop signal to kill, when set.
    pub stop_timeout_seconds: Option<i64>,
    /// GPUs asked of the engine's device driver, by id.
    pub gpus: Vec<String>,
    /// Which network.
    pub network: Network,
    /// All rights of the host's root.
    pub privileged: bool,
    /// Whose shared memory.
    pub ipc: Ipc,
    /// Bytes of swap beside the memory limit; `None` when not set.
    pub swap: Option<i64>,
    /// How readily it is swapped out, 0 to 100; `None` when not set.
    pub swappiness: Option<i64>,
    /// Log driver and options; `None` when they are the engine's default without options.
    pub log: Option<Log>,
    /// Whether the engine would restart it by itself.
    pub engine_restarts: bool,
    /// Whether the engine would remove it at its end.
    pub engine_removes: bool,
}

/// How long a condition may take: machines that run conformance suites are slow.
const PATIENCE: Duration = Duration::from_secs(40);
/// How often a condition is looked at.
const GLANCE: Duration = Duration::from_millis(200);
/// Label that all containers of one case carry.
const SCOPE: &str = "dev.tallyman.conformance";

/// What a case stands on: a bench, and names and a scope of its own.
pub(super) struct Ground<'a, B> {
    pub(super) bench: &'a B,
    case: &'static str,
}

impl<'a, B: Bench> Ground<'a, B> {
    pub(super) fn new(bench: &'a B, case: &'static str) -> Self {
        Self { bench, case }
    }

    pub(super) fn engine(&self) -> &'a B::Engine {
        self.bench.engine()
    }

    pub(super) fn scope(&self) -> Label<'static> {
        (SCOPE, self.case)
    }

    pub(super) fn name(&self, role: &str) -> String {
        format!("conformance-{}-{role}", self.case)
    }

    /// A container of this case that does `program`, not yet created.
    pub(super) fn spec(&self, role: &str, program: &Program) -> ContainerSpec {
        let mut spec = ContainerSpec::new(self.name(role), self.bench.image());
        spec.command = Some(self.bench.command(program));
        spec.labels.insert(SCOPE.to_owned(), self.case.to_owned());
        spec
    }

    pub(super) async fn create(&self, spec: &ContainerSpec) -> Verdict {
        let created = self.engine().create(spec).await.map_err(told("create"))?;
        ensure!(!created.adopted, "{} was there before its time", spec.name);
        Ok(())
    }

    /// Creates and starts.
    pub(super) async fn launch(&self, spec: &ContainerSpec) -> Verdict {
        self.create(spec).await?;
        self.start(&spec.name).await
    }

    pub(super) async fn start(&self, name: &str) -> Verdict {
        self.engine().start(name).await.map_err(told("start"))
    }

    pub(super) async fn stop(&self, name: &str, grace: Duration) -> Verdict {
        self.engine().stop(name, grace).await.map_err(told("stop"))
    }

    pub(super) async fn remove(&self, name: &str) -> Verdict {
        self.engine().remove(name).await.map_err(told("remove"))
    }

    /// The state of a container that must exist.
    pub(super) async fn state(&self, name: &str) -> Result<ContainerState, String> {
        self.look(name)
            .await?
            .ok_or_else(|| format!("{name} is absent"))
    }

    pub(super) async fn look(&self, name: &str) -> Result<Option<ContainerState>, String> {
        self.engine().inspect(name).await.map_err(told("inspect"))
    }

    /// Waits until a container that must exist is as wanted.
    pub(super) async fn until(
        &self,
        name: &str,
        wanted: &str,
        condition: fn(&ContainerState) -> bool,
    ) -> Result<ContainerState, String> {
        let mut waited = Duration::ZERO;
        loop {
            let state = self.state(name).await?;
            if condition(&state) {
                return Ok(state);
            }
            ensure!(waited < PATIENCE, "{name} never {wanted}; it is {state:?}");
            self.bench.pass(GLANCE).await;
            waited += GLANCE;
        }
    }

    /// Waits until the container has ended.
    pub(super) async fn until_exited(&self, name: &str) -> Result<ContainerState, String> {
        let exited = |state: &ContainerState| state.phase.kind() == PhaseKind::Exited;
        self.until(name, "exited", exited).await
    }

    /// Lets all patience pass, for racing against what must come sooner.
    pub(super) async fn patience(&self) {
        self.bench.pass(PATIENCE).await;
    }

    /// Removes every container and volume of this case.
    pub(super) async fn clear(&self) -> Verdict {
        let ours = self.engine().list(self.scope()).await;
        for container in ours.map_err(told("list"))? {
            self.bench.destroy(&container.name).await?;
        }
        let volumes = self.engine().list_volumes(self.scope()).await;
        for volume in volumes.map_err(told("list volumes"))? {
            self.bench.destroy_volume(&volume.name).await?;
        }
        Ok(())
    }
}

/// A verb's error as a sentence.
pub(super) fn told(verb: &'static str) -> impl Fn(EngineError) -> String {
    move |error| format!("{verb} failed: {error} ({error:?})")
}

/// A sentence about an answer that should have been an error.
pub(super) fn unexpected(answer: &(impl std::fmt::Debug + ?Sized), wanted: impl Display) -> String {
    format!("{wanted} was expected, and the answer is {answer:?}")
}

pub(super) fn port(container_port: u16, host_port: Option<u16>, protocol: Protocol) -> PortSpec {
    PortSpec {
        container_port,
        host_port,
        protocol,
        host_ip: None,
    }
}
