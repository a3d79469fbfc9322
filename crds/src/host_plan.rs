//! `HostPlan`: the mailbox of one host, derived from the Tasks assigned to it.

use std::collections::BTreeMap;

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::ecs::TaskOverride;
use crate::lifecycle::{DesiredStatus, StopCode};
use crate::task_definition::TaskDefinitionSpec;

#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "tallyman.dev",
    version = "v1alpha1",
    kind = "HostPlan",
    plural = "hostplans",
    shortname = "hplan",
    category = "tallyman",
    namespaced
)]
#[serde(rename_all = "camelCase")]
pub struct HostPlanSpec {
    /// Rises with every write.
    pub generation: i64,
    /// Which leader wrote it; never falls.
    pub leader_epoch: i64,
    /// Cluster of the host.
    pub cluster: String,
    /// uid of the ContainerInstance that the plan is for.
    pub container_instance_uid: String,
    /// Every revision that a task below runs, by the revision's object name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub definitions: BTreeMap<String, PlannedDefinition>,
    /// Tasks of this host that are not known to be STOPPED, or that are being deleted; by name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tasks: Vec<PlannedTask>,
}

/// A revision as a host needs it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PlannedDefinition {
    pub family: String,
    pub revision: i64,
    pub definition: TaskDefinitionSpec,
}

/// A task as its host needs it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PlannedTask {
    pub name: String,
    pub uid: String,
    /// Key into `definitions`.
    pub definition: String,
    #[serde(default)]
    pub desired_status: DesiredStatus,
    /// `metadata.generation` of the Task, for the conditions that the agent writes.
    #[serde(default)]
    pub generation: i64,
    /// ECS group, such as `service:web`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stop_code: Option<StopCode>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stopped_reason: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub overrides: Option<TaskOverride>,
    /// The Task is being deleted: once it is STOPPED, remove its containers and report `removedAt`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub remove: bool,
}
