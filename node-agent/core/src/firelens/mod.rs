//! FireLens on a host: what the log router of a task is given, and what the containers are told that send to it (ECS agent,
//! task resource `firelens`).
//!
//! The router's configuration and socket are in a folder of its task on the host: the engine connects to the socket from
//! there, in the name of each container that sends.

mod configuration;

use std::collections::BTreeSet;

use tallyman_agent_engine::{ContainerSpec, EngineError, Log, Mount, MountSource, Network};
use tallyman_crds::arn::Arns;
use tallyman_crds::ecs::{ContainerDefinition, FirelensConfigurationType};
use tallyman_crds::firelens::{self, External, FireLens, OptionValue, Sender};
use tallyman_crds::order::{Edge, Until};
use tallyman_crds::sources::Source;
use tallyman_crds::{PlannedDefinition, PlannedTask};

pub use configuration::{Listen, Origin, PORT, SOCKET, render};

use crate::containers::Scope;
use crate::ids::TaskUid;
use crate::metadata::inject::set;
use crate::planned::PlannedContainer;
use crate::refused::Refused;
use crate::task::TaskRecord;

/// The kernel's most for the path of a socket, in bytes.
const SOCKET_PATH: usize = 107;
/// The router's configuration, in the folder of its task.
const CONFIGURATION: &str = "config/fluent.conf";
/// The file that it includes, if a ConfigMap has it.
const EXTERNAL: &str = "config/external.conf";
/// Folder of the socket, in the folder of its task.
pub const SOCKETS: &str = "socket";
/// Where the router has that folder.
const RUN: &str = "/var/run";

/// How a host serves log routers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FirelensSettings {
    /// Folder with a folder for each task that has a router, as the engine finds it.
    pub folder: String,
    /// Containers start though nobody listens to their output yet (`ECS_ENABLE_FIRELENS_ASYNC`).
    pub asynchronous: bool,
}

/// What must be on the host's disk before a router is created.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouterFiles {
    /// Whose it is; the folder is called so.
    pub task: TaskUid,
    /// The router's configuration.
    pub configuration: String,
    /// The file that it includes, if a ConfigMap has it.
    pub external: Option<String>,
}

impl RouterFiles {
    /// Files by their paths in the folder of the task. [`SOCKETS`] must be there as well.
    pub fn files(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let external = self.external.as_deref();
        [(CONFIGURATION, self.configuration.as_str())]
            .into_iter()
            .chain(external.map(|text| (EXTERNAL, text)))
    }
}

/// Where the files of routers are kept.
pub trait RouterFolder: Send + Sync {
    /// Writes the files of a router in place of those that are there.
    ///
    /// # Errors
    /// [`EngineError::CannotWrite`].
    fn provide(&self, files: &RouterFiles) -> Result<(), EngineError>;
}

/// The log router of a task that is planned, if it has one.
pub(crate) struct Lens<'a>(Option<Routed<'a>>);

struct Routed<'a> {
    firelens: FireLens<'a>,
    /// Folder of the task, as the engine finds it.
    folder: String,
    configuration: String,
    listen: Listen,
    asynchronous: bool,
    /// Id of the task in its ARN.
    task: &'a str,
}

impl<'a> Lens<'a> {
    /// Reads the containers of a task that is on `network`.
    ///
    /// # Errors
    /// [`Refused::Parameter`]: a field cannot be carried out, or not on this host.
    pub(crate) fn of(
        planned: &'a PlannedDefinition,
        task: &'a PlannedTask,
        network: &Network,
        scope: &Scope<'_>,
    ) -> Result<Self, Refused> {
        let read = firelens::read(&planned.definition.container_definitions);
        let read = read.map_err(|mistakes| {
            let first = mistakes.into_iter().next();
            first.map_or(Refused::Empty, |mistake| Refused::Parameter {
                container: mistake.container,
                field: mistake.field,
                why: mistake.message,
            })
        })?;
        let Some(firelens) = read else {
            return Ok(Self(None));
        };
        let folder = format!("{}/{}", scope.firelens.folder, task.uid);
        let socket = socket(&folder);
        if socket.len() > SOCKET_PATH {
            return Err(Refused::Parameter {
                container: firelens.router.name.clone(),
                field: "firelensConfiguration",
                why: format!(
                    "needs the socket `{socket}` on this host, {} bytes where the kernel takes {SOCKET_PATH}; set a shorter \
                     ECS_DATADIR",
                    socket.len()
                ),
            });
        }
        let arns = Arns {
            region: scope.injection.region(),
            namespace: scope.namespace,
        };
        let origin = Origin {
            cluster: scope.cluster.to_owned(),
            task_arn: arns.task(scope.cluster, &task.name),
            task_definition: format!("{}:{}", planned.family, planned.revision),
        };
        let listen = match network {
            _ if firelens.router.disable_networking == Some(true) => Listen::Nowhere,
            Network::Bridge => Listen::Everywhere,
            Network::Container(_) => Listen::Loopback,
            Network::Host | Network::None | Network::Named(_) => Listen::Nowhere,
        };
        Ok(Self(Some(Routed {
            configuration: render(&firelens, &origin, listen),
            firelens,
            folder,
            listen,
            asynchronous: scope.firelens.asynchronous,
            task: &task.name,
        })))
    }

    fn router(&self, container: &ContainerDefinition) -> Option<&Routed<'a>> {
        let routed = self.0.as_ref();
        routed.filter(|routed| routed.firelens.router.name == container.name)
    }

    fn sender(&self, container: &str) -> Option<(&Routed<'a>, &Sender<'a>)> {
        let routed = self.0.as_ref()?;
        let mut senders = routed.firelens.senders.iter();
        let sender = senders.find(|sender| sender.container == container)?;
        Some((routed, sender))
    }

    /// Adds what the agent sets in a container that is on `network`.
    pub(crate) fn variables(
        &self,
        container: &ContainerDefinition,
        network: &Network,
        variables: &mut Vec<(String, String)>,
    ) {
        let router = self.router(container);
        if router.is_some_and(|r| r.firelens.r#type == FirelensConfigurationType::Fluentd) {
            // Its image would give root up before it opens the socket.
            set(variables, "FLUENT_UID", "0".to_owned());
        }
        if let Some((routed, _)) = self.sender(&container.name)
            && routed.listen == Listen::Loopback
            && matches!(network, Network::Container(_))
        {
            reached(variables, "127.0.0.1");
        }
    }

    /// What the router has of the host.
    pub(crate) fn mounts(&self, container: &ContainerDefinition) -> Vec<Mount> {
        let Some(routed) = self.router(container) else {
            return Vec::new();
        };
        let r#type = routed.firelens.r#type;
        let mount = |inside: &str, path: &str| Mount {
            source: MountSource::HostPath(format!("{}/{inside}", routed.folder)),
            path: path.to_owned(),
            read_only: false,
        };
        let mut mounts = vec![
            mount(CONFIGURATION, r#type.config_path()),
            mount(SOCKETS, RUN),
        ];
        if let Some(External::Kept(_)) = routed.firelens.options.external {
            mounts.push(mount(EXTERNAL, r#type.external_path()));
        }
        mounts
    }

    /// The log driver of a container that sends: the engine's own for such routers (ECS agent, getFirelensLogConfig).
    pub(crate) fn log(&self, container: &str) -> Option<Log> {
        let (routed, sender) = self.sender(container)?;
        let options = [
            ("tag", format!("{container}-firelens-{}", routed.task)),
            (
                "fluentd-address",
                format!("unix://{}", socket(&routed.folder)),
            ),
            ("fluentd-async", routed.asynchronous.to_string()),
            ("fluentd-sub-second-precision", true.to_string()),
        ];
        let limit = sender.buffer_limit;
        let limit = limit.map(|limit| ("fluentd-buffer-limit", limit.to_string()));
        let options = options.into_iter().chain(limit);
        Some(Log {
            driver: "fluentd".to_owned(),
            options: options.map(|(name, v)| (name.to_owned(), v)).collect(),
            ..Log::default()
        })
    }

    /// The same as the definition has it, for those who ask (ECS task metadata).
    pub(crate) fn routed(&self, container: &ContainerDefinition) -> Option<Log> {
        let log = firelens::sends(container)?;
        Some(Log {
            driver: log.log_driver.as_str().to_owned(),
            options: log.options.clone(),
            ..Log::default()
        })
    }

    /// What the router takes from Secrets and ConfigMaps for those that send to it: variables, and a file.
    pub(crate) fn sources(
        &self,
        container: &ContainerDefinition,
    ) -> (Vec<(String, Source)>, Option<Source>) {
        let Some(routed) = self.router(container) else {
            return (Vec::new(), None);
        };
        let mut secrets = Vec::new();
        for sender in &routed.firelens.senders {
            for (name, value) in sender.output.iter().flat_map(|output| &output.options) {
                if let OptionValue::Secret(source) = value {
                    secrets.push((configuration::variable(name, sender), source.clone()));
                }
            }
        }
        let file = match &routed.firelens.options.external {
            Some(External::Kept(source)) => Some(source.clone()),
            Some(External::File(_)) | None => None,
        };
        (secrets, file)
    }

    /// The configuration, for the router.
    pub(crate) fn configuration(&self, container: &ContainerDefinition) -> Option<String> {
        let routed = self.router(container)?;
        Some(routed.configuration.clone())
    }

    /// Containers that send wait for the router's start, unless it waits for them (ECS agent,
    /// addFirelensContainerDependency); so the router stops last. On a bridge they are told its address, then.
    pub(crate) fn order(&self, containers: &mut [PlannedContainer]) {
        let Some(routed) = &self.0 else {
            return;
        };
        let router = &routed.firelens.router.name;
        let before = waited_for(router, containers);
        let senders = containers.iter_mut().filter(|c| {
            let mut senders = routed.firelens.senders.iter();
            senders.any(|sender| sender.container == c.name) && !before.contains(&c.name)
        });
        for sender in senders {
            let started = |edge: &Edge| edge.on == *router && edge.until != Until::Created;
            if !sender.edges.iter().any(started) {
                sender.edges.push(Edge {
                    on: router.clone(),
                    until: Until::Started,
                });
            }
            let neighbours =
                routed.listen == Listen::Everywhere && *sender.network() == Network::Bridge;
            sender.fluent_host = neighbours.then(|| router.clone());
        }
    }
}

/// The socket of a router, in the folder of its task.
fn socket(folder: &str) -> String {
    format!("{folder}/{SOCKETS}/fluent.sock")
}

/// Containers that `first` waits for, and those that they wait for in turn.
fn waited_for(first: &str, containers: &[PlannedContainer]) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut next = vec![first.to_owned()];
    while let Some(name) = next.pop() {
        let edges = containers.iter().filter(|c| c.name == name);
        for edge in edges.flat_map(|c| &c.edges) {
            if found.insert(edge.on.clone()) {
                next.push(edge.on.clone());
            }
        }
    }
    found
}

/// Where loggers inside a container find the router.
fn reached(variables: &mut Vec<(String, String)>, host: &str) {
    set(variables, "FLUENT_HOST", host.to_owned());
    set(variables, "FLUENT_PORT", PORT.to_string());
}

/// Tells a container that is about to be created where its router is, if it is to be told and the router was seen
/// running.
pub(crate) fn tell_host(
    container: &PlannedContainer,
    record: &TaskRecord,
    spec: &mut ContainerSpec,
) {
    let router = container.fluent_host.as_ref();
    let known = router.and_then(|router| record.containers.get(router));
    let address = known
        .and_then(|known| known.interface.as_ref())
        .and_then(|interface| {
            let v4 = interface.ipv4.map(|address| address.to_string());
            v4.or_else(|| interface.ipv6.map(|address| address.to_string()))
        });
    if let Some(address) = address {
        reached(&mut spec.environment, &address);
    }
}
