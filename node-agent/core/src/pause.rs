//! The pause container of a task: it holds what the containers of the task share (ECS agent, pause container).
//!
//! A task with an address of its own (`networkMode: awsvpc`), or one whose containers share processes or memory segments
//! (`pidMode` and `ipcMode` `task`), gets one container more. It is made first; all others wait for it and join its
//! namespaces by its name on the engine, which follows from the task like every name; it is stopped last. Its end is the
//! end of the task: what it held is gone, and nothing joins a second one. To people it does not exist.

use tallyman_agent_engine::{
    Attachment, ContainerSpec, Ipc, LocalImage, Log, Network, NetworkSpec, Parameters, Processes,
    ToHost,
};
use tallyman_crds::ecs::{IpcMode, NetworkMode, PidMode};
use tallyman_crds::labels;
use tallyman_crds::order::{Edge, Until};
use tallyman_crds::{PlannedDefinition, PlannedTask, TaskDefinitionSpec};

use crate::containers::{MIB, Scope, our_labels};
use crate::ids::TaskUid;
use crate::metadata::inject::ADDRESS;
use crate::names;
use crate::planned::PlannedContainer;
use crate::refused::Refused;

/// Its name among the containers of the task, as ECS has it. No container of a task definition can be called so.
pub const NAME: &str = "~internal~ecs~pause";

/// The network that is made for tasks with an address of their own, and its bridge on the host.
const NETWORK: (&str, &str) = ("tallyman", BRIDGE);
/// Bridge of the network that is made for tasks with an address of their own.
pub const BRIDGE: &str = "tallyman0";
/// The network to the metadata endpoint, of tasks on a network on which their host cannot be reached, and its bridge.
const TO_AGENT: (&str, &str) = (TO_AGENT_NETWORK, "tallyman1");
/// Its name on the engine.
pub(crate) const TO_AGENT_NETWORK: &str = "tallyman-agent";
/// It has room for 508 tasks of a host. (ECS' `ecs-bridge` is beside the endpoint's address, with a route to it. Here the
/// address is on the bridge, so no container needs a route.)
const TO_AGENT_PREFIX: u8 = 23;
/// It needs no rights: nobody, as numbers, since its image has no list of users.
const USER: &str = "65534:65534";

/// Whether a reference is that of an image for pause containers, of this agent or another version: clean-up leaves those.
pub fn is_image(reference: &str) -> bool {
    reference.starts_with("localhost/tallyman-pause:")
}

/// What must be on the engine before a pause container is made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Groundwork {
    /// Its image.
    pub image: LocalImage,
    /// The network that the agent makes for it.
    pub network: Option<NetworkSpec>,
    /// That network is beside the one that it is created on. It is put there once it runs, because then the other one is
    /// its first interface.
    pub beside: bool,
}

/// What the containers of a task share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sharing {
    network: bool,
    processes: bool,
    memory: bool,
}

impl Sharing {
    pub(crate) fn of(definition: &TaskDefinitionSpec) -> Self {
        Self {
            network: definition.network_mode == Some(NetworkMode::Awsvpc),
            processes: definition.pid_mode == Some(PidMode::Task),
            memory: definition.ipc_mode == Some(IpcMode::Task),
        }
    }

    /// Whether the task needs a pause container.
    pub(crate) fn any(self) -> bool {
        self.network || self.processes || self.memory
    }
}

/// Its name on the engine.
pub(crate) fn engine_name(planned: &PlannedDefinition, task: &PlannedTask) -> String {
    let uid = TaskUid::new(task.uid.clone());
    names::container(&planned.family, planned.revision, NAME, &uid, 1)
}

/// The network of the task's containers, less what a container says of itself.
pub(crate) fn network(
    planned: &PlannedDefinition,
    task: &PlannedTask,
    scope: &Scope<'_>,
) -> Result<Network, Refused> {
    Ok(match planned.definition.network_mode {
        None | Some(NetworkMode::Bridge) => Network::Bridge,
        Some(NetworkMode::Host) => Network::Host,
        Some(NetworkMode::None) => Network::None,
        Some(NetworkMode::Awsvpc) if !scope.networking.task_eni => {
            return Err(Refused::TaskEniDisabled);
        }
        Some(NetworkMode::Awsvpc) => Network::Container(engine_name(planned, task)),
    })
}

/// Whose processes the task's containers see.
pub(crate) fn processes(definition: &TaskDefinitionSpec, pause: &str) -> Processes {
    match definition.pid_mode {
        None => Processes::Own,
        Some(PidMode::Host) => Processes::Host,
        Some(PidMode::Task) => Processes::Container(pause.to_owned()),
    }
}

/// Whose memory segments the task's containers see.
pub(crate) fn memory(definition: &TaskDefinitionSpec, pause: &str) -> Ipc {
    match definition.ipc_mode {
        None => Ipc::Engine,
        Some(IpcMode::Host) => Ipc::Host,
        Some(IpcMode::None) => Ipc::None,
        Some(IpcMode::Task) => Ipc::Container(pause.to_owned()),
    }
}

/// The pause container of a task, if it needs one.
pub(crate) fn plan(
    planned: &PlannedDefinition,
    task: &PlannedTask,
    scope: &Scope<'_>,
) -> Option<PlannedContainer> {
    let sharing = Sharing::of(&planned.definition);
    if !sharing.any() {
        return None;
    }
    let (ours, _) = NETWORK;
    let network = scope.networking.awsvpc_network.clone();
    // A network of the operator's may be any. With macvlan and ipvlan the kernel lets a container reach everybody but its
    // host.
    let beside = sharing.network && network.is_some() && scope.injection.key.is_some();
    let made = if beside {
        let to_host = ToHost {
            address: ADDRESS,
            prefix: TO_AGENT_PREFIX,
        };
        Some(made(TO_AGENT, Some(to_host)))
    } else {
        (sharing.network && network.is_none()).then(|| made(NETWORK, None))
    };
    let image = scope.pause_image.clone();
    let mut spec = ContainerSpec::new(engine_name(planned, task), image.reference.clone());
    let mut labels = scope.networking.pause_labels.clone();
    labels.extend(image.labels.clone());
    spec.labels = our_labels(labels, NAME, planned, task, scope);
    spec.cpu_shares = Some(2);
    spec.user = Some(USER.to_owned());
    spec.stop_timeout = Some(scope.stop_timeout);
    spec.network = if sharing.network {
        Network::Named(network.unwrap_or_else(|| ours.to_owned()))
    } else {
        Network::None
    };
    spec.parameters = Parameters {
        read_only_root: true,
        dropped_capabilities: vec!["ALL".to_owned()],
        security_options: vec!["no-new-privileges".to_owned()],
        ipc: if sharing.memory {
            Ipc::Shareable
        } else {
            Ipc::Engine
        },
        shared_memory_bytes: shared_memory(&planned.definition).filter(|_| sharing.memory),
        log: Some(Log {
            driver: "none".to_owned(),
            ..Log::default()
        }),
        ..Parameters::default()
    };
    let mut pause = PlannedContainer::new(NAME.to_owned(), true, false, scope.stop_timeout, spec);
    pause.groundwork = Some(Box::new(Groundwork {
        image,
        network: made,
        beside,
    }));
    Some(pause)
}

/// `/dev/shm` is the pause container's when it is shared: as large as the largest that was asked for.
fn shared_memory(definition: &TaskDefinitionSpec) -> Option<i64> {
    let wanted = definition.container_definitions.iter();
    wanted
        .filter_map(|c| c.linux_parameters.as_ref()?.shared_memory_size)
        .filter(|mib| *mib > 0)
        .max()
        .map(|mib| i64::from(mib) * MIB)
}

/// Whether it is the way to the agent, and no network of the task.
pub(crate) fn leads_to_agent(attachment: &Attachment) -> bool {
    attachment.network == TO_AGENT_NETWORK
}

fn made(named: (&str, &str), to_host: Option<ToHost>) -> NetworkSpec {
    let (name, bridge) = named;
    NetworkSpec {
        name: name.to_owned(),
        bridge: bridge.to_owned(),
        labels: [(labels::TASK_NETWORK.to_owned(), "true".to_owned())].into(),
        to_host,
    }
}

/// All containers of a task wait for its pause container at the start, and it waits for them at the end.
pub(crate) fn hold(containers: &mut [PlannedContainer]) {
    if !containers.iter().any(PlannedContainer::is_pause) {
        return;
    }
    for container in containers.iter_mut().filter(|c| !c.is_pause()) {
        let edge = Edge {
            on: NAME.to_owned(),
            until: Until::Started,
        };
        // The last: a container that waits for nothing else may pull its image meanwhile.
        container.edges.push(edge);
    }
}
