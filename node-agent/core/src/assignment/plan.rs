//! A HostPlan, read entry by entry.

use std::collections::BTreeMap;

use serde::de::DeserializeOwned;
use serde_json::Value;
use tallyman_crds::{DesiredStatus, HostPlanSpec, PlannedDefinition, PlannedTask, TaskPolicy};

use crate::ids::Fence;

/// A HostPlan whose head could be read; entries may still be bad.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// How new it is.
    pub fence: Fence,
    /// Version of the HostPlan that it was read from, where that is known.
    pub(crate) version: Option<u64>,
    /// Cluster of the host.
    pub cluster: String,
    /// uid of the ContainerInstance that it is for.
    pub container_instance_uid: String,
    /// ECS tags of the ContainerInstance.
    pub(super) tags: BTreeMap<String, String>,
    /// What its cluster lets tasks ask of a host.
    pub(super) policy: Option<TaskPolicy>,
    /// What still runs of forgotten tasks is to be stopped.
    pub(super) stop_forgotten: bool,
    pub(super) definitions: BTreeMap<String, Result<PlannedDefinition, String>>,
    pub(super) tasks: Vec<Entry>,
}

/// One entry of a plan.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Entry {
    Good(Box<PlannedTask>),
    /// Name and uid could be read, the rest not.
    Bad {
        name: String,
        uid: String,
        desired: DesiredStatus,
        remove: bool,
        why: String,
    },
    /// Not even that.
    Nameless(String),
}

/// Why a plan cannot be read at all.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the HostPlan cannot be read: {why}")]
pub struct UnreadablePlan {
    /// Names the field.
    pub why: String,
}

impl From<HostPlanSpec> for Plan {
    fn from(spec: HostPlanSpec) -> Self {
        Self {
            fence: Fence {
                epoch: spec.leader_epoch,
                generation: spec.generation,
            },
            version: None,
            cluster: spec.cluster,
            container_instance_uid: spec.container_instance_uid,
            tags: spec.container_instance_tags,
            policy: spec.task_policy,
            stop_forgotten: spec.stop_forgotten,
            definitions: spec
                .definitions
                .into_iter()
                .map(|(key, d)| (key, Ok(d)))
                .collect(),
            tasks: spec
                .tasks
                .into_iter()
                .map(|task| Entry::Good(Box::new(task)))
                .collect(),
        }
    }
}

impl Plan {
    /// Beside the fields of `spec`, the object's `metadata.resourceVersion`.
    pub const VERSION: &str = "resourceVersion";

    /// Reads the `spec` of a HostPlan entry by entry, and [`Plan::VERSION`].
    ///
    /// # Errors
    /// The head (generation, leaderEpoch, containerInstanceUid) is missing or of the wrong type.
    pub fn from_json(spec: &Value) -> Result<Self, UnreadablePlan> {
        let unreadable = |why: String| UnreadablePlan { why };
        let number = |field: &str| {
            spec.get(field)
                .and_then(Value::as_i64)
                .ok_or_else(|| unreadable(format!("`spec.{field}` is not a number")))
        };
        let fence = Fence {
            epoch: number("leaderEpoch")?,
            generation: number("generation")?,
        };
        let container_instance_uid = text(spec, "containerInstanceUid")
            .ok_or_else(|| unreadable("`spec.containerInstanceUid` is not a text".to_owned()))?;
        let definitions = match spec.get("definitions") {
            None | Some(Value::Null) => BTreeMap::new(),
            Some(Value::Object(entries)) => entries
                .iter()
                .map(|(key, value)| (key.clone(), read(value)))
                .collect(),
            Some(_) => return Err(unreadable("`spec.definitions` is not an object".to_owned())),
        };
        let tasks = match spec.get("tasks") {
            None | Some(Value::Null) => Vec::new(),
            Some(Value::Array(entries)) => entries.iter().map(entry).collect(),
            Some(_) => return Err(unreadable("`spec.tasks` is not a list".to_owned())),
        };
        Ok(Self {
            fence,
            version: text(spec, Self::VERSION).and_then(|version| version.parse().ok()),
            cluster: text(spec, "cluster").unwrap_or_default(),
            container_instance_uid,
            // Nothing runs otherwise for the lack of them.
            tags: spec
                .get("containerInstanceTags")
                .and_then(|tags| read(tags).ok())
                .unwrap_or_default(),
            // One that cannot be read is the default one, which allows least of what people set.
            policy: spec
                .get("taskPolicy")
                .and_then(|policy| read(policy).ok())
                .unwrap_or_default(),
            stop_forgotten: spec.get("stopForgotten") == Some(&Value::Bool(true)),
            definitions,
            tasks,
        })
    }
}

fn text(value: &Value, field: &str) -> Option<String> {
    value.get(field).and_then(Value::as_str).map(str::to_owned)
}

fn read<T: DeserializeOwned>(value: &Value) -> Result<T, String> {
    T::deserialize(value).map_err(|error| error.to_string())
}

fn entry(value: &Value) -> Entry {
    let why = match read::<PlannedTask>(value) {
        Ok(task) => return Entry::Good(Box::new(task)),
        Err(why) => why,
    };
    match (text(value, "name"), text(value, "uid")) {
        (Some(name), Some(uid)) => Entry::Bad {
            name,
            uid,
            desired: value
                .get("desiredStatus")
                .and_then(|d| read(d).ok())
                .unwrap_or_default(),
            remove: value
                .get("remove")
                .and_then(Value::as_bool)
                .unwrap_or(false),
            why,
        },
        _ => Entry::Nameless(why),
    }
}
