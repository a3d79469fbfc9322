//! `TaskDefinitionRevision`: an immutable snapshot of a task definition, `<name>-<n>`.

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::conditions::Condition;
use crate::task_definition::TaskDefinitionSpec;

#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "tallyman.dev",
    version = "v1alpha1",
    kind = "TaskDefinitionRevision",
    plural = "taskdefinitionrevisions",
    shortname = "tdrev",
    category = "tallyman",
    namespaced,
    status = "TaskDefinitionRevisionStatus"
)]
#[serde(rename_all = "camelCase")]
pub struct TaskDefinitionRevisionSpec {
    pub family: String,
    pub revision: i64,
    /// The task definition as it was registered.
    pub definition: TaskDefinitionSpec,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TaskDefinitionRevisionStatus {
    #[serde(default = "crate::conditions::unobserved")]
    pub observed_generation: i64,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
    /// ACTIVE, or INACTIVE once deregistered (the object was deleted while in use).
    #[serde(default)]
    pub status: RevisionLifecycle,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub enum RevisionLifecycle {
    #[default]
    #[serde(rename = "ACTIVE")]
    Active,
    #[serde(rename = "INACTIVE")]
    Inactive,
}
