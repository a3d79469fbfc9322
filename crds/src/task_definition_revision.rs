//! `TaskDefinitionRevision`: an immutable snapshot of a task definition, `<name>-<n>`.

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::conditions::Condition;
use crate::container_instance::Attribute;
use crate::rules;
use crate::task_definition::TaskDefinitionSpec;

/// An immutable snapshot of a task definition, named `<task definition>-<revision>`. Written by the
/// operator; kept while something uses it.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "tallyman.dev",
    version = "v1alpha1",
    doc = "An immutable snapshot of a task definition (ECS `TaskDefinition`).",
    kind = "TaskDefinitionRevision",
    plural = "taskdefinitionrevisions",
    shortname = "tdrev",
    category = "tallyman",
    namespaced,
    status = "TaskDefinitionRevisionStatus"
)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = rules::on("TaskDefinitionRevisionSpec")))]
pub struct TaskDefinitionRevisionSpec {
    /// Family.
    #[schemars(length(min = 1, max = 255))]
    pub family: String,
    /// Number of the revision, from 1; there is always a next one.
    #[schemars(range(min = 1, max = 999_999_999))]
    #[serde(deserialize_with = "crate::numbers::whole")]
    pub revision: i64,
    /// The task definition as it was registered.
    #[schemars(
        schema_with = "crate::schema::checked::<TaskDefinitionSpec>",
        extend("x-kubernetes-map-type" = "atomic")
    )]
    pub definition: TaskDefinitionSpec,
}

/// What became of a revision.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TaskDefinitionRevisionStatus {
    /// Generation of the spec that this status speaks of; -1 until a controller has seen the
    /// object.
    #[serde(
        default = "crate::conditions::unobserved",
        deserialize_with = "crate::numbers::whole"
    )]
    #[schemars(range(min = -1))]
    pub observed_generation: i64,
    /// `Ready`, and what else is true of the revision.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
    /// ACTIVE, or INACTIVE once deregistered: the task definition was deleted while the revision is
    /// in use.
    #[serde(default)]
    pub status: RevisionLifecycle,
    /// Attributes that a host must have to run it (ECS `requiresAttributes`), sorted by name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 1000))]
    pub requires_attributes: Vec<Attribute>,
}

/// Whether new tasks may name a revision (ECS `status`).
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
pub enum RevisionLifecycle {
    /// They may.
    #[default]
    #[serde(rename = "ACTIVE")]
    Active,
    /// Only services that already run it may start more.
    #[serde(rename = "INACTIVE")]
    Inactive,
}
