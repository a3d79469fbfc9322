//! One task's state machine.
//!
//! [`step`] is the whole of it: from what is wanted ([`AssignedTask`]), what is remembered
//! ([`TaskRecord`]), what is seen ([`TaskObservation`]) and the time, it says which engine verbs to
//! call now, what to remember, what to report, and when to ask again. [`settle`] takes the outcome of a
//! verb back in. Desired, known and in flight are three things: `assigned.desired`, the record with the
//! sightings, and `observation.in_flight`.
//!
//! The four parts of a step, in order: [`learn`](self) what the sightings prove, `judge` whether the task
//! ends, `act` per container, `tell` the control plane.
//!
//! What the rules protect: a container that exited is never started again, unless the restart policy of its
//! definition says so of that very exit (`restart`), and never once its end is noted or its task ends; one
//! container per task container and attempt, whatever was lost; nothing is taken for dead before the engine
//! said so; `lastStatus` never falls and STOPPED absorbs.

mod act;
mod fence;
mod gates;
mod interface;
mod judge;
mod learn;
pub(crate) mod machine;
mod names;
mod needs;
mod observe;
mod record;
mod restart;
mod settle;
mod tell;
mod volumes;

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tallyman_agent_engine::{
    ContainerSpec, Group, LocalImage, NetworkSpec, PullBehavior, RegistryCredentials, Verb,
    VolumeSpec,
};
use tallyman_crds::TaskStatus;
use tallyman_crds::sources::Supply;

use crate::assignment::AssignedTask;
use crate::firelens::RouterFiles;
use crate::gpus::{GpuClaim, GpuWish};
use crate::host_paths::HostPaths;
use crate::ids::TaskUid;
use crate::limits::Enforcement;
use crate::needs::VariableFiles;
use crate::ports::PortSpan;
use crate::registries::Registries;
use crate::silence::Silences;

pub(crate) use learn::trim;
pub use machine::TaskMachine;
pub use names::error_name;
pub use observe::{Sighting, TaskObservation};
pub use record::{
    ContainerRecord, End, Failure, Interface, Retrying, Stop, TaskRecord, VolumeRecord,
};
pub use settle::settle;
pub(crate) use tell::left_behind;
pub use volumes::VolumeSighting;

/// What a task must know of its host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostContext {
    /// Name of the ContainerInstance.
    pub container_instance: String,
    /// Address at which published ports are reached, for people.
    pub address: Option<String>,
    /// `ECS_IMAGE_PULL_BEHAVIOR`.
    pub pull_behavior: PullBehavior,
    /// `ECS_ENGINE_TASK_CLEANUP_WAIT_DURATION`: how long containers of a stopped task are kept.
    pub cleanup_wait: Duration,
    /// `ECS_ENGINE_TASK_CLEANUP_WAIT_DURATION_JITTER`: up to so much longer, differing from task to task.
    pub cleanup_jitter: Duration,
    /// `ECS_PULL_DEPENDENT_CONTAINERS_UPFRONT`: images are pulled before what their containers depend on is there.
    pub pull_upfront: bool,
    /// How limits of tasks are enforced.
    pub enforcement: Enforcement,
    /// A complete plan was read from the API in this process. Nothing is removed before.
    pub plan_is_live: bool,
    /// For how long the host has been out of touch with the API server.
    pub silences: Silences,
    /// What the operator delivered for this host's tasks; `None` before it was read.
    pub supply: Option<Arc<Supply>>,
    /// The host's own credentials for registries (`ECS_ENGINE_AUTH_DATA`).
    pub registries: Arc<Registries>,
}

/// An engine verb for one container or volume of a task. Each may be done twice without harm.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Make the image present.
    Prepare {
        /// Container name in the task definition.
        container: String,
        /// Image reference.
        image: String,
        /// When to ask the registry.
        behavior: PullBehavior,
        /// Whom to be there; `None` is whoever the engine's own client would be.
        credentials: Option<RegistryCredentials>,
    },
    /// Make the image present that the agent brings (of a pause container).
    EnsureImage {
        /// Container name in the task definition.
        container: String,
        /// The image.
        image: Box<LocalImage>,
    },
    /// Make sure that there is the network that a pause container is on.
    EnsureNetwork {
        /// Container name in the task definition.
        container: String,
        /// The network.
        network: Box<NetworkSpec>,
    },
    /// Create the container, or adopt the one that is there.
    Create {
        /// Container name in the task definition.
        container: String,
        /// What it shall be.
        spec: Box<ContainerSpec>,
        /// The group that it is put into; made first, or given its limits again.
        group: Option<Box<Group>>,
        /// What it wants on ports of the host that are chosen when this is carried out.
        ports: Vec<PortSpan>,
        /// What must be on the host's disk before, when it is a log router.
        files: Option<Box<RouterFiles>>,
        /// What it wants of the host's GPUs, which are chosen when this is carried out.
        gpus: Option<GpuWish>,
        /// Its files of variables, of which those on the host are read when this is carried out.
        variables: Option<Box<VariableFiles>>,
    },
    /// Start it: one that never ran, or one whose exit its restart policy takes for a reason to.
    Start {
        /// Container name in the task definition.
        container: String,
        /// Name on the engine.
        name: String,
        /// The group that it is in: the host may have booted since it was made.
        group: Option<Box<Group>>,
        /// The GPUs that it must have for itself.
        gpus: Option<GpuClaim>,
        /// Paths of the host that it mounts.
        paths: Option<Box<HostPaths>>,
    },
    /// Put it on a network beside its own.
    Attach {
        /// Container name in the task definition.
        container: String,
        /// Name on the engine.
        name: String,
        /// The network.
        network: String,
    },
    /// Look at it.
    Inspect {
        /// Container name in the task definition.
        container: String,
        /// Name on the engine.
        name: String,
    },
    /// Stop it.
    Stop {
        /// Container name in the task definition.
        container: String,
        /// Name on the engine.
        name: String,
        /// Between SIGTERM and SIGKILL.
        grace: Duration,
    },
    /// Remove it.
    Remove {
        /// Container name in the task definition.
        container: String,
        /// Name on the engine.
        name: String,
    },
    /// Remove it to make it anew: it never ran, and cannot with the ports or GPUs that were chosen for it. The record must
    /// be on disk before ([`Action::must_be_remembered`]).
    Discard {
        /// Container name in the task definition.
        container: String,
        /// Name on the engine.
        name: String,
    },
    /// Create a volume, or adopt the one that is there.
    CreateVolume {
        /// Volume name in the task definition.
        volume: String,
        /// What it shall be.
        spec: Box<VolumeSpec>,
    },
    /// Look at a volume.
    InspectVolume {
        /// Volume name in the task definition.
        volume: String,
        /// Name on the engine.
        name: String,
    },
    /// Remove a volume that is the task's own.
    RemoveVolume {
        /// Volume name in the task definition.
        volume: String,
        /// Name on the engine.
        name: String,
        /// Whose it must be.
        task: TaskUid,
    },
}

impl Action {
    /// The container that it is for, or the volume, as the task definition calls it.
    pub fn container(&self) -> &str {
        match self {
            Self::Prepare { container, .. }
            | Self::EnsureImage { container, .. }
            | Self::EnsureNetwork { container, .. }
            | Self::Create { container, .. }
            | Self::Start { container, .. }
            | Self::Attach { container, .. }
            | Self::Inspect { container, .. }
            | Self::Stop { container, .. }
            | Self::Remove { container, .. }
            | Self::Discard { container, .. } => container,
            Self::CreateVolume { volume, .. }
            | Self::InspectVolume { volume, .. }
            | Self::RemoveVolume { volume, .. } => volume,
        }
    }

    /// The engine's verb.
    pub fn verb(&self) -> Verb {
        match self {
            Self::Prepare { .. } => Verb::Prepare,
            Self::EnsureImage { .. } => Verb::EnsureImage,
            Self::EnsureNetwork { .. } => Verb::EnsureNetwork,
            Self::Create { .. } => Verb::Create,
            Self::Start { .. } => Verb::Start,
            Self::Attach { .. } => Verb::Attach,
            Self::Inspect { .. } => Verb::Inspect,
            Self::Stop { .. } => Verb::Stop,
            Self::Remove { .. } | Self::Discard { .. } => Verb::Remove,
            Self::CreateVolume { .. } => Verb::CreateVolume,
            Self::InspectVolume { .. } => Verb::InspectVolume,
            Self::RemoveVolume { .. } => Verb::RemoveVolume,
        }
    }

    /// Whether the record of this step must be on disk before it is carried out: a later agent would take what is gone
    /// for lost.
    pub fn must_be_remembered(&self) -> bool {
        matches!(self, Self::Discard { .. })
    }

    /// Whether it counts against the number of containers that are brought up at once.
    pub fn needs_slot(&self) -> bool {
        matches!(self.verb(), Verb::Create | Verb::Start)
    }
}

/// What a step came to.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    /// Verbs to call now, at most one for each container and volume; mark each in flight before calling it.
    pub actions: Vec<Action>,
    /// What to remember from now on.
    pub record: TaskRecord,
    /// The task's status as it is now. When to send it is [`crate::report::Outbox`]'s to say.
    pub report: TaskStatus,
    /// When to step again even if nothing happens.
    pub wake_at: Option<Timestamp>,
    /// Nothing is left to do or to remember: containers and volumes gone, end acknowledged, plan without the task.
    pub finished: bool,
}

/// One step of a task. Pure; the same arguments give the same answer, and stepping again with the
/// returned record and nothing settled in between gives the same actions.
pub fn step(
    task: &AssignedTask,
    record: &TaskRecord,
    seen: &TaskObservation,
    host: &HostContext,
    now: Timestamp,
) -> Step {
    let mut record = record.clone();
    learn::learn(task, &mut record, seen, now);
    let fence = fence::ask(task, &mut record, seen, host);
    judge::judge(task, &mut record, seen, host, fence, now);
    learn::conclude(task, &mut record, seen, now);
    let mut plan = act::act(task, &mut record, seen, host, fence, now);
    if let Some(limit) = task.stop_after.filter(|_| record.stop.is_none()) {
        let silent = host.silences.lasts().reaches(limit, now);
        silent.into_iter().for_each(|at| plan.wake(at));
    }
    let report = tell::tell(task, &mut record, seen, host, now);
    let finished = act::finished(task, &record, seen);
    Step {
        actions: plan.actions,
        record,
        report,
        wake_at: plan.wake_at,
        finished,
    }
}
