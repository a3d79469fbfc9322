//! The world of one cluster as the operator sees it in one pass: validated, with names resolved.
//!
//! Made by [`World::gather`]. Nothing here decides.

mod index;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use tallyman_crds::sources::{self, Receipt, Source, SourceKind, SourceObject};
use tallyman_crds::{
    Absence, Cluster, Connectivity, ContainerInstance, DesiredInstanceStatus, DesiredStatus,
    HealthStatus, HostPlan, HostPlanSpec, HostReport, KeepOnReturn, LastStatus, RunTask,
    RunTaskStatus, ScheduledTask, ScheduledTaskStatus, Service, ServiceStatus, StopCode, Task,
    TaskDefinition, TaskDefinitionRevision, TaskSet, TaskSetStatus, names,
};

use crate::definition::{Definition, Demand};
use crate::early_success::EarlySuccess;
use crate::guards::Guards;
use crate::liveness::Silence;
use crate::names::{
    DeploymentId, Family, Group, InstanceName, RevisionName, RunTaskName, ScheduledTaskName,
    ServiceName, TaskName, TaskSetName,
};
use crate::placement::Rules;
use crate::plan::Kind;
use crate::problem::Problem;
use crate::schedules::expression::Schedule;
use crate::settings::Settings;
use crate::task_sets::Percent;
use crate::unreadable::{There, Unreadable};
use crate::unsupported::Unsupported;

pub use crate::gather::{cluster_name, cluster_names};
pub(crate) use index::{Index, Tasks};

/// What the caches hold for one namespace, and what the operator knows beside it.
#[derive(Clone, Debug, Default)]
pub struct Objects {
    /// All clusters of the namespace.
    pub clusters: Vec<Arc<Cluster>>,
    /// All task definitions of the namespace.
    pub task_definitions: Vec<Arc<TaskDefinition>>,
    /// All revisions of the namespace.
    pub revisions: Vec<Arc<TaskDefinitionRevision>>,
    /// All services of the namespace.
    pub services: Vec<Arc<Service>>,
    /// All tasks of the namespace.
    pub tasks: Vec<Arc<Task>>,
    /// All container instances of the namespace.
    pub instances: Vec<Arc<ContainerInstance>>,
    /// All host plans of the namespace.
    pub plans: Vec<Arc<HostPlan>>,
    /// All RunTasks of the namespace.
    pub run_tasks: Vec<Arc<RunTask>>,
    /// All ScheduledTasks of the namespace.
    pub scheduled_tasks: Vec<Arc<ScheduledTask>>,
    /// All TaskSets of the namespace.
    pub task_sets: Vec<Arc<TaskSet>>,
    /// Secrets and ConfigMaps of the namespace that are not ours, with the resourceVersion of each. No values.
    pub sources: Arc<BTreeMap<SourceObject, String>>,
    /// Metadata of the Secrets that the operator made, by name.
    pub host_secrets: BTreeMap<String, Arc<ObjectMeta>>,
    /// How silent each host is, on the operator's own clock. A host without a Lease is absent.
    pub silence: BTreeMap<String, Silence>,
    /// Objects of the namespace that are there and cannot be read.
    pub unreadable: Vec<Arc<Unreadable>>,
}

impl Objects {
    /// Takes in the metadata of Secrets and ConfigMaps: what values may be taken from, and the Secrets of hosts.
    pub fn keep<'a>(&mut self, found: impl Iterator<Item = (SourceKind, &'a ObjectMeta)>) {
        let mut kept = BTreeMap::new();
        for (kind, meta) in found {
            let name = meta.name.clone().unwrap_or_default();
            match (sources::version(meta), kind) {
                (Some(version), kind) => {
                    kept.insert(SourceObject { kind, name }, version.to_owned());
                }
                (None, SourceKind::Secret) => {
                    self.host_secrets.insert(name, Arc::new(meta.clone()));
                }
                (None, SourceKind::ConfigMap) => {}
            }
        }
        self.sources = Arc::new(kept);
    }
}

/// Identity of an object, for preconditions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    /// `metadata.uid`.
    pub uid: String,
    /// `metadata.resourceVersion`.
    pub resource_version: String,
    /// `metadata.generation`.
    pub generation: i64,
    /// `metadata.deletionTimestamp` is set.
    pub deleting: bool,
    /// Finalizers of ours that it carries.
    pub finalizers: BTreeSet<String>,
}

/// One cluster.
#[derive(Clone, Debug)]
pub struct World {
    /// Namespace of everything here.
    pub namespace: String,
    /// Name of the cluster.
    pub cluster: String,
    /// The Cluster object, if it exists.
    pub cluster_object: Option<Arc<Cluster>>,
    /// Revisions by object name.
    pub revisions: BTreeMap<RevisionName, Revision>,
    /// Families by name.
    pub families: BTreeMap<Family, FamilyState>,
    /// Services by name.
    pub services: BTreeMap<ServiceName, ServiceState>,
    /// Task sets by name.
    pub task_sets: BTreeMap<TaskSetName, TaskSetState>,
    /// Runs by name.
    pub runs: BTreeMap<RunTaskName, RunState>,
    /// Schedules whose runs are of this cluster, by name.
    pub schedules: BTreeMap<ScheduledTaskName, ScheduleState>,
    /// Tasks by name.
    pub tasks: BTreeMap<TaskName, Arc<TaskState>>,
    /// Hosts by name.
    pub instances: BTreeMap<InstanceName, InstanceState>,
    /// Host plans by host.
    pub plans: BTreeMap<InstanceName, PlanState>,
    /// Secrets and ConfigMaps that tasks may take values from, with the resourceVersion of each.
    pub sources: Arc<BTreeMap<SourceObject, String>>,
    /// Object names of revisions by `family:revision`.
    pub(crate) by_ecs_name: BTreeMap<String, RevisionName>,
    /// Who belongs to whom.
    pub(crate) index: Index,
    /// What is there and cannot be read.
    pub(crate) unreadable: There,
    /// Settings of the scheduler.
    pub settings: Settings,
    /// Number of the leader that makes the pass; goes into every host plan.
    pub leader_epoch: i64,
}

impl World {
    /// The task is of a DAEMON service.
    pub fn is_of_daemon(&self, task: &TaskState) -> bool {
        let service = task.service.as_ref();
        service.is_some_and(|s| self.index.daemons.contains(s))
    }

    /// The host that a task is assigned to, if it still exists.
    pub fn host_of(&self, task: &TaskState) -> Option<&InstanceState> {
        self.instances.get(task.instance.as_ref()?)
    }

    /// The task's host is being deregistered.
    pub fn host_leaves(&self, task: &TaskState) -> bool {
        self.host_of(task).is_some_and(|i| i.identity.deleting)
    }

    /// The task's host is being deregistered by force.
    pub fn is_evicted(&self, task: &TaskState) -> bool {
        self.host_of(task).is_some_and(InstanceState::evicts)
    }

    /// Tasks of a service, in order of name.
    pub fn tasks_of(&self, service: &ServiceName) -> impl Iterator<Item = (&TaskName, &TaskState)> {
        self.index
            .by_service
            .get(service)
            .into_iter()
            .flat_map(Tasks::iter)
    }

    /// Tasks of a run, in order of name; not those of another run of that name, which is gone.
    pub fn tasks_of_run<'a>(
        &'a self,
        name: &RunTaskName,
        run: &'a RunState,
    ) -> impl Iterator<Item = (&'a TaskName, &'a TaskState)> {
        let tasks = self.index.by_run.get(name).into_iter();
        tasks
            .flat_map(Tasks::iter)
            .filter(|(_, t)| t.is_owned_by(&run.identity))
    }

    /// The service or run that a task is of is there and cannot be read: the task is left as it is.
    pub(crate) fn is_in_the_dark(&self, task: &TaskState) -> bool {
        let there = |kind, name: Option<&str>| name.is_some_and(|n| self.unreadable.has(kind, n));
        there(
            Kind::Service,
            task.service.as_ref().map(ServiceName::as_str),
        ) || there(Kind::RunTask, task.run.as_ref().map(RunTaskName::as_str))
    }

    /// The run that a task is of, while it is there.
    pub fn run_of(&self, task: &TaskState) -> Option<(&RunTaskName, &RunState)> {
        let found = self.runs.get_key_value(task.run.as_ref()?)?;
        task.is_owned_by(&found.1.identity).then_some(found)
    }

    /// Tasks on a host, in order of name.
    pub fn tasks_on(&self, host: &InstanceName) -> impl Iterator<Item = (&TaskName, &TaskState)> {
        self.index
            .by_host
            .get(host)
            .into_iter()
            .flat_map(Tasks::iter)
    }
}

/// A revision of a family.
#[derive(Clone, Debug)]
pub struct Revision {
    /// Family.
    pub family: Family,
    /// Number in the family, from 1.
    pub number: i64,
    /// ACTIVE: it was not deregistered.
    pub active: bool,
    /// The parsed definition, or what is wrong with it.
    pub definition: Result<Definition, Vec<Problem>>,
    /// What its tasks take from Secrets and ConfigMaps, as it stands.
    pub sources: BTreeSet<Source>,
    /// The object.
    pub object: Arc<TaskDefinitionRevision>,
}

impl Revision {
    /// `family:revision`.
    pub fn ecs_name(&self) -> String {
        names::family_revision(self.family.as_str(), self.number)
    }
}

/// What a family resolves to.
#[derive(Clone, Debug, Default)]
pub struct FamilyState {
    /// The latest ACTIVE revision.
    pub latest: Option<RevisionName>,
    /// The TaskDefinition was changed and its revision is not minted yet, or was refused.
    pub unsettled: bool,
    /// The sentence of a TaskDefinition of this family that is Stalled.
    pub stalled: Option<String>,
}

/// A service.
#[derive(Clone, Debug)]
pub struct ServiceState {
    /// Identity.
    pub identity: Identity,
    /// The object.
    pub object: Arc<Service>,
    /// Its last published status.
    pub status: ServiceStatus,
    /// Who runs its deployments.
    pub controller: Controller,
    /// One task on each host, instead of a number of them.
    pub daemon: bool,
    /// Copies wanted, from 0. Of a daemon: as many as were wanted when its status was last published.
    pub desired: i64,
    /// Lower bound of healthy tasks during a deployment, percent of desired.
    pub minimum_healthy_percent: i64,
    /// Upper bound of tasks during a deployment, percent of desired.
    pub maximum_percent: i64,
    /// What gives a deployment up that does not work out.
    pub guards: Guards,
    /// When a deployment completes before its last task is replaced.
    pub early_success: Option<EarlySuccess>,
    /// How long after a task's start its health checks do not count.
    pub grace: SignedDuration,
    /// No deployment begins or moves.
    pub paused: bool,
    /// Its tasks are replaced once their host was silent for so long; `None`: the default.
    pub replace_after: Option<Duration>,
    /// Which task stays when a silent host comes back.
    pub keep_on_return: KeepOnReturn,
    /// Value of the annotation that starts a new deployment of the same revision.
    pub restarted_at: Option<String>,
    /// Deployment alarms that go off.
    pub alarming: BTreeSet<String>,
    /// Its constraints and its strategy; none and the default when they do not parse, which `problems` say.
    pub rules: Rules,
    /// Fields not supported yet.
    pub unsupported: Unsupported,
    /// What is wrong with the spec.
    pub problems: Vec<Problem>,
}

impl ServiceState {
    /// Protected tasks hold it up, as its last published status says.
    pub fn blocked_by_protection(&self) -> bool {
        let primary = self.status.deployments.first();
        primary.is_some_and(|d| d.blocked_by_protection)
    }

    /// Its spec says that `task_set` is the primary one.
    pub fn names_as_primary(&self, task_set: &TaskSetName) -> bool {
        match &self.controller {
            Controller::Ecs { .. } => false,
            Controller::External { primary } => primary.as_ref() == Some(task_set),
        }
    }
}

/// Who runs the deployments of a service (ECS deployment controller).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Controller {
    /// The operator.
    Ecs {
        /// `family`, `family:revision` or an ARN of either, as given.
        task_definition: String,
    },
    /// Somebody else, by task sets.
    External {
        /// The task set that is the primary one.
        primary: Option<TaskSetName>,
    },
}

/// A task set.
#[derive(Clone, Debug)]
pub struct TaskSetState {
    /// Identity.
    pub identity: Identity,
    /// The object.
    pub object: Arc<TaskSet>,
    /// Its last published status.
    pub status: TaskSetStatus,
    /// Number by which its tasks are told; follows from its uid.
    pub id: DeploymentId,
    /// The service that it is a part of.
    pub service: ServiceName,
    /// Cluster of that service, if it is another one than the task set's.
    pub elsewhere: Option<String>,
    /// How much of the service's desired count it runs.
    pub scale: Percent,
    /// The revision that it was taken on with.
    pub revision: Option<RevisionName>,
    /// Fields not supported yet.
    pub unsupported: Unsupported,
    /// What is wrong with the spec.
    pub problems: Vec<Problem>,
}

/// A run.
#[derive(Clone, Debug)]
pub struct RunState {
    /// Identity.
    pub identity: Identity,
    /// The object.
    pub object: Arc<RunTask>,
    /// Its last published status.
    pub status: RunTaskStatus,
    /// When it was created.
    pub created_at: Option<Timestamp>,
    /// Copies wanted, 1 to 10.
    pub count: u32,
    /// The host of each copy; without any, hosts are chosen.
    pub hosts: Vec<InstanceName>,
    /// Further tries of all copies together.
    pub backoff_limit: u32,
    /// How long it may take.
    pub deadline: Option<SignedDuration>,
    /// How long it is kept once it has ended.
    pub keep_for: Option<SignedDuration>,
    /// A copy that finds no host waits.
    pub waits_for_capacity: bool,
    /// Its constraints and its strategy; none and the default when they do not parse, which `problems` say.
    pub rules: Rules,
    /// The revision that it was taken on with.
    pub revision: Option<RevisionName>,
    /// The due time that it was made for.
    pub due: Option<DueTime>,
    /// Fields not supported yet.
    pub unsupported: Unsupported,
    /// What is wrong with the spec.
    pub problems: Vec<Problem>,
}

impl RunState {
    /// It ended: nothing of it is started any more.
    pub fn finished(&self) -> bool {
        self.status.completion_time.is_some()
    }
}

/// A due time of a schedule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DueTime {
    /// `metadata.uid` of the ScheduledTask.
    pub schedule_uid: String,
    /// Its name.
    pub schedule: ScheduledTaskName,
    /// The time.
    pub at: Timestamp,
}

/// A schedule.
#[derive(Clone, Debug)]
pub struct ScheduleState {
    /// Identity.
    pub identity: Identity,
    /// The object.
    pub object: Arc<ScheduledTask>,
    /// Its last published status.
    pub status: ScheduledTaskStatus,
    /// When it is due, or what is wrong with the spec.
    pub schedule: Result<Schedule, Vec<Problem>>,
    /// Fields not supported yet.
    pub unsupported: Unsupported,
    /// Its runs, of any cluster.
    pub runs: BTreeMap<RunTaskName, RunState>,
    /// Names of RunTasks that could be a due time's and are not of this schedule.
    pub taken: BTreeSet<RunTaskName>,
}

/// A task.
#[derive(Clone, Debug)]
pub struct TaskState {
    /// Identity.
    pub identity: Identity,
    /// The object.
    pub object: Arc<Task>,
    /// The service that started it.
    pub service: Option<ServiceName>,
    /// Its task group.
    pub group: Group,
    /// Constraints and strategy of a task that has no host yet, or what is wrong with them.
    pub rules: Result<Rules, Vec<Problem>>,
    /// The run that started it.
    pub run: Option<RunTaskName>,
    /// The deployment that started it.
    pub deployment: Option<DeploymentId>,
    /// Its revision, if it resolves.
    pub revision: Option<RevisionName>,
    /// The host it is placed on; `None` for a user's own task that is not admitted yet.
    pub instance: Option<InstanceName>,
    /// What is wanted of it.
    pub desired: DesiredStatus,
    /// Where it is in its life.
    pub last: LastStatus,
    /// An agent took it on.
    pub accepted: bool,
    /// Health by its container health checks.
    pub health: HealthStatus,
    /// When it first ran.
    pub started_at: Option<Timestamp>,
    /// When it stopped.
    pub stopped_at: Option<Timestamp>,
    /// When it was created.
    pub created_at: Option<Timestamp>,
    /// Its containers were removed after deletion.
    pub removed: bool,
    /// Until when scale-in and deployments must leave it.
    pub protected_until: Option<Timestamp>,
    /// Stop code that its status shows.
    pub stop_code: Option<StopCode>,
    /// It was stopped because its container health check failed.
    pub failed_health_checks: bool,
    /// It stops by itself on a host that is cut off, and has stopped for certain once that was silent for so long.
    pub fenced_after: Option<Duration>,
    /// It was replaced while its host was silent, and stays if that comes back.
    pub absence: Option<Absence>,
    /// What its status says of the agent of its host.
    pub connectivity: Option<Connectivity>,
    /// What it takes from its host until it is STOPPED.
    pub demand: Demand,
    /// What it takes from Secrets and ConfigMaps, while it is wanted.
    pub sources: BTreeSet<Source>,
}

impl TaskState {
    /// The operator made it, for a service or a run, and placed it then.
    pub fn is_made_by_us(&self) -> bool {
        self.service.is_some() || self.run.is_some()
    }

    /// `owner` controls it.
    pub fn is_owned_by(&self, owner: &Identity) -> bool {
        let mut owners = self.object.metadata.owner_references.iter().flatten();
        owners.any(|o| o.uid == owner.uid)
    }

    /// GPUs that its containers have, as far as its agent said; none of a task that asks for none.
    pub(crate) fn gpu_ids(&self) -> BTreeSet<&str> {
        let status = self.object.status.iter();
        let containers = status.flat_map(|status| &status.containers);
        let ids = containers.flat_map(|container| &container.gpu_ids);
        ids.map(String::as_str).collect()
    }

    /// Not STOPPED: it holds its resources.
    pub fn holds(&self) -> bool {
        self.last != LastStatus::Stopped
    }

    /// Why it is to stop, as whoever wants it stopped says.
    pub fn order_to_stop(&self) -> (StopCode, String) {
        let spec = &self.object.spec;
        if self.desired == DesiredStatus::Running {
            return (StopCode::UserInitiated, "Task was deleted".to_owned());
        }
        let code = spec.stop_code.unwrap_or(StopCode::UserInitiated);
        let reason = spec.stopped_reason.clone();
        (
            code,
            reason.unwrap_or_else(|| "Task stopped by user".to_owned()),
        )
    }

    /// Somebody wants it stopped, or deleted.
    pub fn leaving(&self) -> bool {
        self.desired == DesiredStatus::Stopped || self.identity.deleting
    }
}

/// A host.
#[derive(Clone, Debug)]
pub struct InstanceState {
    /// Identity.
    pub identity: Identity,
    /// The object.
    pub object: Arc<ContainerInstance>,
    /// ACTIVE or DRAINING, as its owner wants it.
    pub wanted: DesiredInstanceStatus,
    /// Its deletion is to stop its tasks at once.
    pub forced: bool,
    /// What its agent reported.
    pub host: Option<HostReport>,
    /// Its cluster has as many older hosts as it may have.
    pub beyond_quota: bool,
    /// How silent it is; `None`: it has no Lease.
    pub silence: Option<Silence>,
    /// When its agent first registered.
    pub registered_at: Option<Timestamp>,
    /// Its attributes: reported and custom.
    pub attributes: Arc<BTreeMap<String, Option<String>>>,
    /// Its Secret; `None` before the operator made it, and once somebody deleted it to lock the host out.
    pub secret: Option<SecretState>,
}

/// The Secret of a host.
#[derive(Clone, Debug)]
pub struct SecretState {
    /// Identity.
    pub identity: Identity,
    /// What it was supplied with.
    pub receipt: Receipt,
    /// Public key that the host joined with: values are sealed to it.
    pub key: Option<String>,
}

/// A host plan.
#[derive(Clone, Debug)]
pub struct PlanState {
    /// Identity.
    pub identity: Identity,
    /// Content.
    pub spec: HostPlanSpec,
}

/// Attribute that names the availability zone of a host.
pub const ZONE: &str = "ecs.availability-zone";

/// Attribute that says how many tasks with an address of their own a host takes (ECS: how many elastic network interfaces
/// an instance has room for). A host without it takes any number.
pub const TASK_ADDRESSES: &str = "tallyman.dev/task-addresses";

impl InstanceState {
    /// It is being deleted, and its tasks stop at once.
    pub fn evicts(&self) -> bool {
        self.identity.deleting && self.forced
    }

    /// Its availability zone, if it has one.
    pub fn zone(&self) -> Option<&str> {
        let zone = self.attributes.get(ZONE)?.as_deref()?;
        Some(zone).filter(|zone| !zone.is_empty())
    }

    /// How many tasks with an address of their own it takes, if it says so by a whole number.
    pub fn task_addresses(&self) -> Option<i64> {
        let given = self.attributes.get(TASK_ADDRESSES)?.as_deref()?;
        given.trim().parse().ok().filter(|n| *n >= 0)
    }

    /// The agent renewed its Lease lately. A host that was known as disconnected has to be heard for that: an operator that
    /// has just begun to look gives it time, not tasks.
    pub fn connected(&self, settings: &Settings) -> bool {
        self.connected_if(self.silence, settings)
    }

    /// The same, if it were that silent.
    pub(crate) fn connected_if(&self, silence: Option<Silence>, settings: &Settings) -> bool {
        let status = self.object.status.as_ref();
        let lost = status.is_some_and(|s| s.registered_at.is_some() && !s.agent_connected);
        silence.is_some_and(|s| s.lasts < settings.agent_grace && (s.heard || !lost))
    }

    /// For how long it is silent.
    pub fn silent_for(&self) -> Option<Duration> {
        self.silence.map(|silence| silence.lasts)
    }
}
