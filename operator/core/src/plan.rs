//! What a pass decided. A plan leaves no choices: every action names its object and carries its preconditions.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use serde::Serialize;
use serde_json::{Map, Value};
use std::collections::{BTreeMap, BTreeSet};
use tallyman_crds::conditions::UNOBSERVED;
use tallyman_crds::sources::Source;
use tallyman_crds::{Cluster, HostPlanSpec, RunTask, StopCode, Task, TaskDefinitionRevision};

use crate::names::TaskName;
use crate::status::json;
use crate::world::{Identity, TaskState};

/// Kinds that a plan acts on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Cluster.
    Cluster,
    /// TaskDefinition.
    TaskDefinition,
    /// TaskDefinitionRevision.
    TaskDefinitionRevision,
    /// Service.
    Service,
    /// Task.
    Task,
    /// RunTask.
    RunTask,
    /// ScheduledTask.
    ScheduledTask,
    /// TaskSet.
    TaskSet,
    /// ContainerInstance.
    ContainerInstance,
    /// HostPlan.
    HostPlan,
    /// Secret of a host.
    Secret,
}

impl Kind {
    /// The kind as manifests spell it.
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Cluster => "Cluster",
            Kind::TaskDefinition => "TaskDefinition",
            Kind::TaskDefinitionRevision => "TaskDefinitionRevision",
            Kind::Service => "Service",
            Kind::Task => "Task",
            Kind::RunTask => "RunTask",
            Kind::ScheduledTask => "ScheduledTask",
            Kind::TaskSet => "TaskSet",
            Kind::ContainerInstance => "ContainerInstance",
            Kind::HostPlan => "HostPlan",
            Kind::Secret => "Secret",
        }
    }

    /// The resource as URLs spell it.
    pub fn plural(self) -> &'static str {
        match self {
            Kind::Cluster => "clusters",
            Kind::TaskDefinition => "taskdefinitions",
            Kind::TaskDefinitionRevision => "taskdefinitionrevisions",
            Kind::Service => "services",
            Kind::Task => "tasks",
            Kind::RunTask => "runtasks",
            Kind::ScheduledTask => "scheduledtasks",
            Kind::TaskSet => "tasksets",
            Kind::ContainerInstance => "containerinstances",
            Kind::HostPlan => "hostplans",
            Kind::Secret => "secrets",
        }
    }
}

/// The one object that an action is about, as the pass saw it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Target {
    /// Kind.
    pub kind: Kind,
    /// Name.
    pub name: String,
    /// `metadata.uid`; another object of the same name is not meant.
    pub uid: String,
    /// `metadata.resourceVersion` that the decision was made on.
    pub resource_version: String,
}

impl Target {
    /// Target of an object with this metadata.
    pub fn of(kind: Kind, meta: &ObjectMeta) -> Target {
        Target {
            kind,
            name: meta.name.clone().unwrap_or_default(),
            uid: meta.uid.clone().unwrap_or_default(),
            resource_version: meta.resource_version.clone().unwrap_or_default(),
        }
    }

    /// Reference to it as the controlling owner of an object that goes with it.
    pub fn as_owner(&self) -> OwnerReference {
        OwnerReference {
            api_version: format!("{}/{}", tallyman_crds::GROUP, tallyman_crds::VERSION),
            kind: self.kind.as_str().to_owned(),
            name: self.name.clone(),
            uid: self.uid.clone(),
            controller: Some(true),
            block_owner_deletion: Some(false),
        }
    }

    /// Target of an object with `identity`.
    pub fn new(kind: Kind, name: impl ToString, identity: &Identity) -> Target {
        Target {
            kind,
            name: name.to_string(),
            uid: identity.uid.clone(),
            resource_version: identity.resource_version.clone(),
        }
    }
}

/// One write.
#[derive(Clone, Debug)]
pub enum Action {
    /// Create the Cluster; "already exists" is success.
    CreateCluster(Box<Cluster>),
    /// Create the revision; "already exists" is success.
    CreateRevision(Box<TaskDefinitionRevision>),
    /// Create the Task, placed; "already exists" is success.
    CreateTask(Box<Task>),
    /// Create the RunTask of a due time; "already exists" is success.
    CreateRunTask(Box<RunTask>),
    /// Set `desiredStatus: STOPPED` with its reason.
    StopTask {
        /// The task.
        task: Target,
        /// Why, as code.
        code: StopCode,
        /// Why, in words.
        reason: String,
        /// The operator made it. Then the write takes away the record of who set which field (`metadata.managedFields`), which
        /// is two fifths of a Task and has its share in what each write of it costs: nobody applies the Task again, and whose
        /// decision its stop was is in `code` and `reason`. On a Task that a user applied it stays.
        made_by_us: bool,
    },
    /// Merge `patch` into the status of a task that its agent does not write: it was never accepted, or its host is lost.
    WriteTaskStatus {
        /// The task.
        task: Target,
        /// Merge patch of `status`.
        patch: Value,
    },
    /// Delete the object.
    Delete(Target),
    /// Add a finalizer of ours.
    AddFinalizer {
        /// The object.
        target: Target,
        /// The finalizer.
        finalizer: &'static str,
        /// A label that is set in the same write: the revision that a user's own Task was admitted with.
        label: Option<(&'static str, String)>,
    },
    /// Take a finalizer of ours away.
    RemoveFinalizer {
        /// The object.
        target: Target,
        /// The finalizer.
        finalizer: &'static str,
    },
    /// Make the host's ServiceAccount, Secret, Role, RoleBinding, Lease and last its empty HostPlan.
    PrepareHost {
        /// The container instance.
        instance: Target,
        /// The first, empty plan.
        plan: Box<HostPlanSpec>,
    },
    /// Copy what `sources` hold into the host's Secret, instead of all that it holds.
    Supply {
        /// The Secret.
        secret: Target,
        /// What its tasks take; nothing empties it.
        sources: BTreeSet<Source>,
        /// Public key of the host to which the values are sealed; none for a host that has no key. The Secret is as it was
        /// when it had this key, or the write is refused.
        key: Option<String>,
    },
    /// Replace the plan of a host.
    WriteHostPlan {
        /// The HostPlan.
        plan: Target,
        /// Its new content.
        spec: Box<HostPlanSpec>,
        /// Merge patch that makes the new content of the old.
        patch: Value,
    },
}

impl Action {
    /// True for what cannot be taken back: the operator acts on it only when its caches hold its own last writes. That
    /// holds for the start of a task too: its number is above the high-water mark in the Service's status, so a cache
    /// that has the new status and not the new tasks would start all of them once more, under new names. And for the run
    /// of a due time: a cache without the run before would start one beside it that `Forbid` leaves out.
    pub fn destructive(&self) -> bool {
        match self {
            Action::CreateTask(_)
            | Action::CreateRunTask(_)
            | Action::StopTask { .. }
            | Action::WriteTaskStatus { .. }
            | Action::Delete(_)
            | Action::RemoveFinalizer { .. } => true,
            Action::CreateCluster(_)
            | Action::CreateRevision(_)
            | Action::AddFinalizer { .. }
            | Action::PrepareHost { .. }
            | Action::Supply { .. }
            | Action::WriteHostPlan { .. } => false,
        }
    }
}

/// A status to publish: a merge patch of what changed.
#[derive(Clone, Debug, PartialEq)]
pub struct Publication {
    /// The object.
    pub target: Target,
    /// Merge patch of `status`.
    pub patch: Value,
    /// Something other than a count or a message moved; such a publication is not held back.
    pub urgent: bool,
    /// It tells of what the plan's actions do: without them it must not go out.
    pub deeds: bool,
    /// Events to record once it is written.
    pub notes: Vec<Note>,
}

/// An event to record on an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// The object.
    pub target: Target,
    /// Warning rather than Normal.
    pub warning: bool,
    /// CamelCase reason.
    pub reason: &'static str,
    /// The sentence.
    pub message: String,
}

/// What a pass decided.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    /// Writes; independent of each other.
    pub actions: Vec<Action>,
    /// Statuses that changed.
    pub publications: Vec<Publication>,
    /// Events.
    pub notes: Vec<Note>,
    /// When the core wants to be asked again, whatever happens.
    pub wake_at: Option<Timestamp>,
    /// How often no host was found for a task, by the reason of ECS; for people, and nothing that is done.
    pub failures: BTreeMap<&'static str, u64>,
}

impl Plan {
    /// Asks to be woken at `at`, or earlier.
    pub fn wake(&mut self, at: Timestamp) {
        self.wake_at = Some(self.wake_at.map_or(at, |w| w.min(at)));
    }

    /// Stops the task.
    pub(crate) fn stop(
        &mut self,
        name: &TaskName,
        task: &TaskState,
        code: StopCode,
        reason: String,
    ) {
        self.actions.push(Action::StopTask {
            task: Target::new(Kind::Task, name, &task.identity),
            code,
            reason,
            made_by_us: task.is_made_by_us(),
        });
    }

    /// Publishes `next` for `target` where it differs from `previous`.
    pub(crate) fn publish<S: Serialize + PartialEq>(
        &mut self,
        target: Target,
        previous: &S,
        next: &S,
    ) {
        self.tell(target, previous, next, false, Vec::new());
    }

    /// The same, with the events that go out with it.
    pub(crate) fn tell<S: Serialize + PartialEq>(
        &mut self,
        target: Target,
        previous: &S,
        next: &S,
        deeds: bool,
        notes: Vec<Note>,
    ) {
        // Most statuses stay as they are, and JSON is dear.
        if previous == next {
            return;
        }
        let (previous, next) = (&json(previous), &json(next));
        // What the schema fills in is not stored: a first status says everything, zeros too.
        let nothing = Value::Object(Map::new());
        let untouched = previous["observedGeneration"] == UNOBSERVED;
        let stored = if untouched { &nothing } else { previous };
        if let Some(patch) = merge_patch(stored, next) {
            let urgent = !notes.is_empty() || standing(previous) != standing(next);
            self.publications.push(Publication {
                target,
                patch,
                urgent,
                deeds,
                notes,
            });
        }
    }

    /// How many things it says.
    pub(crate) fn len(&self) -> usize {
        self.actions.len() + self.publications.len() + self.notes.len()
    }
}

/// What people and tools wait for in a status: its generation and its conditions, without their messages.
fn standing(status: &Value) -> Vec<&Value> {
    let conditions = status.get("conditions").and_then(Value::as_array);
    let parts = ["type", "status", "reason", "observedGeneration"];
    let of_conditions = conditions
        .into_iter()
        .flatten()
        .flat_map(|c| parts.map(|p| &c[p]));
    std::iter::once(&status["observedGeneration"])
        .chain(of_conditions)
        .collect()
}

/// RFC 7386 merge patch that makes `next` of `previous`; `None` when there is nothing to change.
pub fn merge_patch(previous: &Value, next: &Value) -> Option<Value> {
    match (previous, next) {
        (Value::Object(before), Value::Object(after)) => {
            let mut patch = Map::new();
            for (key, value) in after {
                match before.get(key) {
                    Some(old) => {
                        if let Some(p) = merge_patch(old, value) {
                            patch.insert(key.clone(), p);
                        }
                    }
                    None => {
                        patch.insert(key.clone(), value.clone());
                    }
                }
            }
            for key in before.keys().filter(|k| !after.contains_key(*k)) {
                patch.insert(key.clone(), Value::Null);
            }
            (!patch.is_empty()).then_some(Value::Object(patch))
        }
        (before, after) if before == after => None,
        (_, after) => Some(after.clone()),
    }
}
