//! The plan of a host, parsed at the door.
//!
//! Why: a plan is written by another program, perhaps a newer one. Past this door there are only tasks
//! that can be carried out and tasks that are refused with a sentence; one bad entry never hurts the
//! others.

mod plan;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tallyman_agent_engine::{ContainerSpec, ContainerSummary, LocalImage};
use tallyman_crds::labels;
use tallyman_crds::size::{self, Size};
use tallyman_crds::{
    DesiredStatus, PlannedDefinition, PlannedTask, StopCode, TaskPolicy, task_policy,
};

use crate::assignment::plan::Entry;
use crate::containers;
use crate::firelens::FirelensSettings;
use crate::ids::{Fence, TaskUid};
use crate::limits::TaskLimits;
use crate::metadata::{Injection, TaskRole};
use crate::pause;
use crate::planned::PlannedContainer;
use crate::refused::Refused;
use crate::settings::gpus::GpuSettings;
use crate::settings::network::Networking;
use crate::settings::volumes::VolumeSettings;
use crate::silence;
use crate::task::TaskRecord;
use crate::volumes::{self, PlannedVolume};

pub use plan::{Plan, UnreadablePlan};

/// What the door must know of the host to turn a plan into tasks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Door {
    /// Namespace of the HostPlan and of its Tasks.
    pub namespace: String,
    /// Grace of containers without `stopTimeout` (`ECS_CONTAINER_STOP_TIMEOUT`).
    pub stop_timeout: Duration,
    /// How the host provides volumes.
    pub volumes: VolumeSettings,
    /// How tasks reach the network.
    pub networking: Networking,
    /// How containers get GPUs.
    pub gpus: GpuSettings,
    /// Image of pause containers.
    pub pause_image: LocalImage,
    /// Most processes of each task (`ECS_TASK_PIDS_LIMIT`).
    pub pids_limit: Option<i64>,
    /// No container may be `privileged` (`ECS_DISABLE_PRIVILEGED`).
    pub disable_privileged: bool,
    /// What containers are told of their agent.
    pub injection: Injection,
    /// How log routers are served.
    pub firelens: FirelensSettings,
}

/// All that one plan wants of the host.
#[derive(Clone, Debug, PartialEq)]
pub struct Assignment {
    /// How new it is.
    pub fence: Fence,
    /// Version of the HostPlan that it was read from, where that is known.
    pub version: Option<u64>,
    /// Cluster of the host.
    pub cluster: String,
    /// uid of the ContainerInstance that it is for.
    pub container_instance_uid: String,
    /// ECS tags of the ContainerInstance, by key.
    pub tags: Arc<BTreeMap<String, String>>,
    /// What still runs of forgotten tasks is to be stopped, as other containers that no plan has.
    pub stop_forgotten: bool,
    /// Its tasks.
    pub tasks: BTreeMap<TaskUid, AssignedTask>,
    /// Entries that could not even be named, in words, for the log.
    pub complaints: Vec<String>,
}

/// What the plan wants of a task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Desired {
    /// Run it.
    Run,
    /// Stop it, or let it never start.
    Stop {
        /// Who wants it, as the plan says.
        code: Option<StopCode>,
        /// Why, as the plan says.
        reason: Option<String>,
    },
}

/// One task of the host.
#[derive(Clone, Debug, PartialEq)]
pub struct AssignedTask {
    /// Identity.
    pub uid: TaskUid,
    /// Name of the Task.
    pub name: String,
    /// Cluster of the task.
    pub cluster: String,
    /// ECS group, such as `service:web`.
    pub group: Option<String>,
    /// `metadata.generation` of the Task that the plan was derived from.
    pub generation: i64,
    /// What is wanted.
    pub desired: Desired,
    /// The Task is being deleted: once STOPPED, its containers go and `removedAt` is reported.
    pub remove: bool,
    /// Protected tasks hold its service up: it cannot be protected now unless it is already.
    pub deployment_blocked: bool,
    /// It stops by itself once the host was out of touch with the API server for so long.
    pub stop_after: Option<Duration>,
    /// False once the newest plan has no entry for it. Nothing of it is started any more, and nothing
    /// is killed for that reason.
    pub planned: bool,
    /// Family, empty when it is not known.
    pub family: String,
    /// Revision number.
    pub revision: i64,
    /// What to run.
    pub body: TaskBody,
    /// Volumes of the engine that its containers need.
    pub volumes: Vec<PlannedVolume>,
    /// What its containers may take together.
    pub limits: TaskLimits,
    /// What it takes from the host.
    pub size: Size,
    /// The role that its containers get credentials for.
    pub role: Option<TaskRole>,
    /// Its containers may ask for faults in its network (ECS `enableFaultInjection`).
    pub fault_injection: bool,
    /// What it and its host are tagged with.
    pub tags: Tags,
}

/// ECS tags, by key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tags {
    /// Of the task.
    pub task: BTreeMap<String, String>,
    /// Of the ContainerInstance.
    pub container_instance: Arc<BTreeMap<String, String>>,
}

/// What a task consists of.
#[derive(Clone, Debug, PartialEq)]
pub enum TaskBody {
    /// It can be carried out.
    Runnable(Vec<PlannedContainer>),
    /// It cannot; the sentence says which field is wrong.
    Refused(String),
}

impl AssignedTask {
    /// Its plan wants it neither stopped nor removed.
    pub fn is_to_run(&self) -> bool {
        self.desired == Desired::Run && !self.remove
    }

    /// Its containers in the order of the task definition; none when it is refused.
    pub fn containers(&self) -> &[PlannedContainer] {
        match &self.body {
            TaskBody::Runnable(containers) => containers,
            TaskBody::Refused(_) => &[],
        }
    }

    /// Its containers that the task definition has: all but the pause container.
    pub fn defined(&self) -> impl Iterator<Item = &PlannedContainer> {
        self.containers().iter().filter(|c| !c.is_pause())
    }

    /// A task that only the record knows: the plan has no entry (any more). Enough to watch its
    /// containers and to clean up after it; nothing of it is ever started.
    pub fn remembered(record: &TaskRecord, door: &Door) -> Self {
        let stop_timeout = match record.stop_after {
            Some(_) => silence::stop_timeout(door.stop_timeout),
            None => door.stop_timeout,
        };
        let mut containers: Vec<PlannedContainer> = record
            .containers
            .iter()
            .map(|(name, known)| {
                PlannedContainer::new(
                    name.clone(),
                    false,
                    false,
                    stop_timeout,
                    ContainerSpec::new(known.base_name.clone(), known.image.clone()),
                )
            })
            .collect();
        pause::hold(&mut containers);
        Self {
            uid: record.uid.clone(),
            name: record.name.clone(),
            cluster: record.cluster.clone(),
            group: None,
            generation: record.generation,
            desired: Desired::Run,
            deployment_blocked: false,
            remove: false,
            stop_after: record.stop_after,
            planned: false,
            family: record.family.clone(),
            revision: record.revision,
            body: TaskBody::Runnable(containers),
            volumes: PlannedVolume::remembered(record),
            limits: TaskLimits::default(),
            size: record.size.clone(),
            role: None,
            fault_injection: false,
            tags: Tags::default(),
        }
    }
}

impl AssignedTask {
    /// Containers of a task whose definition cannot be read, from record and list.
    pub(crate) fn salvage(
        record: &TaskRecord,
        listed: &[ContainerSummary],
    ) -> Vec<PlannedContainer> {
        let ours = |summary: &&ContainerSummary| {
            summary
                .labels
                .get(labels::CONTAINER_TASK_UID)
                .map(String::as_str)
                == Some(record.uid.as_str())
        };
        let mut containers: Vec<PlannedContainer> = listed
            .iter()
            .filter(ours)
            .map(|summary| {
                PlannedContainer::new(
                    summary
                        .labels
                        .get(labels::ecs::CONTAINER_NAME)
                        .unwrap_or(&summary.name)
                        .clone(),
                    true,
                    false,
                    SALVAGE_GRACE,
                    ContainerSpec::new(summary.name.clone(), ""),
                )
            })
            .collect();
        pause::hold(&mut containers);
        containers
    }
}

/// Grace of a container whose definition cannot be read: ECS's default.
const SALVAGE_GRACE: Duration = Duration::from_secs(30);

impl Assignment {
    /// Turns a plan into tasks. Never fails: what cannot be carried out is a refused task.
    pub fn parse(plan: Plan, door: &Door) -> Self {
        let Plan {
            fence,
            version,
            cluster,
            container_instance_uid,
            tags,
            policy,
            stop_forgotten,
            definitions,
            tasks,
        } = plan;
        let mut assignment = Self {
            fence,
            version,
            cluster,
            container_instance_uid,
            tags: Arc::new(tags),
            stop_forgotten,
            tasks: BTreeMap::new(),
            complaints: Vec::new(),
        };
        for entry in tasks {
            let task = match entry {
                Entry::Good(task) => assignment.assign(&task, &definitions, policy.as_ref(), door),
                Entry::Bad {
                    name,
                    uid,
                    desired,
                    remove,
                    why,
                } => {
                    let known = PlannedTask {
                        name,
                        uid,
                        desired_status: desired,
                        remove,
                        ..PlannedTask::default()
                    };
                    let why =
                        format!("The agent cannot read the plan's entry for the task: {why}.");
                    assignment.head(&known, String::new(), 0, TaskBody::Refused(why))
                }
                Entry::Nameless(why) => {
                    assignment
                        .complaints
                        .push(format!("an entry without name or uid: {why}"));
                    continue;
                }
            };
            if task.uid.as_str().is_empty() {
                assignment
                    .complaints
                    .push(format!("task {} has no uid", task.name));
                continue;
            }
            if let Some(other) = assignment.tasks.insert(task.uid.clone(), task) {
                assignment
                    .complaints
                    .push(format!("uid {} occurs twice", other.uid));
            }
        }
        assignment
    }

    fn assign(
        &self,
        task: &PlannedTask,
        definitions: &BTreeMap<String, Result<PlannedDefinition, String>>,
        policy: Option<&TaskPolicy>,
        door: &Door,
    ) -> AssignedTask {
        let definition = match definitions.get(&task.definition) {
            Some(Ok(definition)) => definition,
            Some(Err(why)) => {
                let why = format!(
                    "The agent cannot read the task definition revision `{}`: {why}.",
                    task.definition
                );
                return self.head(task, String::new(), 0, TaskBody::Refused(why));
            }
            None => {
                let why = format!(
                    "The plan of the host has no task definition revision `{}`.",
                    task.definition
                );
                return self.head(task, String::new(), 0, TaskBody::Refused(why));
            }
        };
        let scope = containers::Scope {
            namespace: &door.namespace,
            cluster: &self.cluster,
            container_instance_uid: &self.container_instance_uid,
            stop_timeout: match task.stop_after {
                Some(_) => silence::stop_timeout(door.stop_timeout),
                None => door.stop_timeout,
            },
            volumes: &door.volumes,
            networking: &door.networking,
            gpus: &door.gpus,
            pause_image: &door.pause_image,
            pids_limit: door.pids_limit,
            disable_privileged: door.disable_privileged,
            policy,
            injection: &door.injection,
            firelens: &door.firelens,
        };
        let breaches = task_policy::breaches(policy, &definition.definition);
        let permitted = match breaches.into_iter().next() {
            Some(breach) => Err(Refused::Policy(breach)),
            None => containers::plan(definition, task, &scope),
        };
        let planned = permitted.and_then(|containers| {
            let volumes = volumes::plan(definition, task, &scope)?;
            let limits = TaskLimits::plan(definition, task, &containers, &scope)?;
            let role = TaskRole::plan(definition, task, &scope)?;
            Ok((TaskBody::Runnable(containers), volumes, limits, role))
        });
        let (body, volumes, limits, role) = planned.unwrap_or_else(|refusal| {
            let body = TaskBody::Refused(refusal.to_string());
            (body, Vec::new(), TaskLimits::default(), None)
        });
        AssignedTask {
            volumes,
            limits,
            size: Size::of(&size::overridden(
                &definition.definition,
                task.overrides.as_ref(),
            )),
            role,
            fault_injection: definition.definition.enable_fault_injection == Some(true),
            ..self.head(task, definition.family.clone(), definition.revision, body)
        }
    }

    fn head(
        &self,
        task: &PlannedTask,
        family: String,
        revision: i64,
        body: TaskBody,
    ) -> AssignedTask {
        AssignedTask {
            uid: TaskUid::new(task.uid.clone()),
            name: task.name.clone(),
            cluster: self.cluster.clone(),
            group: task.group.clone(),
            generation: task.generation,
            desired: match task.desired_status {
                DesiredStatus::Running => Desired::Run,
                DesiredStatus::Stopped => Desired::Stop {
                    code: task.stop_code,
                    reason: task.stopped_reason.clone(),
                },
            },
            remove: task.remove,
            deployment_blocked: task.deployment_blocked,
            stop_after: task
                .stop_after
                .and_then(|s| u64::try_from(s).ok())
                .map(Duration::from_secs),
            planned: true,
            family,
            revision,
            body,
            volumes: Vec::new(),
            limits: TaskLimits::default(),
            size: Size::default(),
            role: None,
            fault_injection: false,
            tags: Tags {
                task: task.tags.clone(),
                container_instance: Arc::clone(&self.tags),
            },
        }
    }
}
