//! `HostPlan`: the mailbox of one host, derived from the Tasks assigned to it.

use std::collections::BTreeMap;

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::ecs::TaskOverride;
use crate::lifecycle::{DesiredStatus, StopCode};
use crate::rules;
use crate::task_definition::TaskDefinitionSpec;
use crate::task_policy::TaskPolicy;

/// The mailbox of one host, derived from the Tasks that are assigned to it. Written by the
/// operator, read by the host's agent, of no use to people but for looking.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "tallyman.dev",
    version = "v1alpha1",
    doc = "The mailbox of one host; internal.",
    kind = "HostPlan",
    plural = "hostplans",
    shortname = "hplan",
    category = "tallyman",
    namespaced
)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = rules::on("HostPlanSpec")))]
pub struct HostPlanSpec {
    /// Rises with every write and never falls.
    #[schemars(range(min = 0))]
    pub generation: i64,
    /// Which leader wrote it; never falls.
    #[schemars(range(min = 0))]
    pub leader_epoch: i64,
    /// Cluster of the host.
    #[schemars(length(max = 255))]
    pub cluster: String,
    /// uid of the ContainerInstance that the plan is for.
    #[schemars(length(max = 64))]
    pub container_instance_uid: String,
    /// ECS tags of the ContainerInstance, which its tasks can ask for.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 50, "additionalProperties" = serde_json::json!({"type": "string", "maxLength": 256})))]
    pub container_instance_tags: BTreeMap<String, String>,
    /// `spec.taskPolicy` of the Cluster, which the host holds its tasks to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task_policy: Option<TaskPolicy>,
    /// Stop what runs of tasks that the API server lost in a restore.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub stop_forgotten: bool,
    /// Every revision that a task below runs, by the revision's object name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 5000, "x-kubernetes-map-type" = "atomic"))]
    pub definitions: BTreeMap<String, PlannedDefinition>,
    /// Tasks of this host that are not known to be STOPPED, or that are being deleted; by name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 5000))]
    pub tasks: Vec<PlannedTask>,
}

/// A revision as a host needs it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PlannedDefinition {
    /// Family.
    #[schemars(length(max = 255))]
    pub family: String,
    /// Number of the revision.
    #[schemars(range(min = 1))]
    pub revision: i64,
    /// The task definition, as `kubectl explain tdef.spec` describes it.
    #[schemars(schema_with = "crate::schema::opaque")]
    pub definition: TaskDefinitionSpec,
}

/// A task as its host needs it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PlannedTask {
    /// Name of the Task.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// uid of the Task.
    #[schemars(length(max = 64))]
    pub uid: String,
    /// Key into `definitions`.
    #[schemars(length(max = 253))]
    pub definition: String,
    /// RUNNING, or STOPPED once it is to stop. Only this entry ever stops a container.
    #[serde(default)]
    pub desired_status: DesiredStatus,
    /// `metadata.generation` of the Task, for the conditions that the agent writes.
    #[serde(default, deserialize_with = "crate::numbers::whole")]
    #[schemars(range(min = 0))]
    pub generation: i64,
    /// ECS group, such as `service:web`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 255))]
    pub group: Option<String>,
    /// Why it is to stop.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stop_code: Option<StopCode>,
    /// Why it is to stop, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32768))]
    pub stopped_reason: Option<String>,
    /// Changes to the definition, as `kubectl explain task.spec.overrides` describes them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "crate::schema::opaque")]
    pub overrides: Option<TaskOverride>,
    /// Digests that containers are started with, by container.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 10, "additionalProperties" = serde_json::json!({"type": "string", "maxLength": 255})))]
    pub images: BTreeMap<String, String>,
    /// ECS tags of the Task, which it can ask for.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 64, "additionalProperties" = serde_json::json!({"type": "string", "maxLength": 256})))]
    pub tags: BTreeMap<String, String>,
    /// Seconds after the last renewal of its Lease that the API server confirmed until the agent stops the task by itself.
    #[serde(
        default,
        deserialize_with = "crate::numbers::whole_or_none",
        skip_serializing_if = "Option::is_none"
    )]
    #[schemars(range(min = 30, max = 86400))]
    pub stop_after: Option<i32>,
    /// The Task is being deleted: once it is STOPPED, remove its containers and report `removedAt`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub remove: bool,
    /// Protected tasks hold its service up: it cannot be protected unless it is already (ECS `DEPLOYMENT_BLOCKED`).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub deployment_blocked: bool,
}
