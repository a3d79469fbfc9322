//! `TaskDefinition`: a mutable family; each change of content mints a revision.

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::conditions::Condition;
use crate::ecs::*;
use crate::patterns;
use crate::rules;

/// A family of task definitions (the input of ECS `RegisterTaskDefinition`). Each change of its
/// content mints the next revision; services and runs name the family, or `family:revision`. The
/// object's name is at most 52 characters long.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "tallyman.dev",
    version = "v1alpha1",
    doc = "A family of task definitions.",
    kind = "TaskDefinition",
    plural = "taskdefinitions",
    shortname = "tdef",
    category = "tallyman",
    namespaced,
    status = "TaskDefinitionStatus"
)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = rules::on("TaskDefinitionSpec")))]
pub struct TaskDefinitionSpec {
    /// Family that this object registers, up to 255 letters, digits, hyphens and underscores.
    /// Default: the object's name. Immutable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 255), regex(pattern = patterns::NAME))]
    pub family: Option<String>,
    /// Role whose credentials the containers get.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 2048))]
    pub task_role_arn: Option<String>,
    /// Role for what the agent does for the task: pull, log, read secrets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 2048))]
    pub execution_role_arn: Option<String>,
    /// How containers reach the network. `bridge` when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network_mode: Option<NetworkMode>,
    /// The containers, 1 to 10, at least one of them essential.
    #[schemars(length(min = 1, max = 10), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub container_definitions: Vec<ContainerDefinition>,
    /// Volumes that the containers' mount points refer to.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub volumes: Vec<Volume>,
    /// Rules that every host of the task must meet, up to 10.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 10))]
    pub placement_constraints: Vec<TaskDefinitionPlacementConstraint>,
    /// Launch types that the definition must be valid for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 4))]
    pub requires_compatibilities: Vec<Compatibility>,
    /// CPU of the task as a whole: units (`512`) or `.5 vCPU`. Optional; the sum of the containers
    /// counts when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32), regex(pattern = patterns::CPU))]
    pub cpu: Option<String>,
    /// Hard memory limit of the task as a whole: MiB (`512`) or `0.5 GB`. Without it every
    /// container needs `memory` or `memoryReservation`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32), regex(pattern = patterns::MEMORY))]
    pub memory: Option<String>,
    /// ECS tags, up to 50.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 50))]
    pub tags: Vec<Tag>,
    /// Whose processes the containers see. Each container its own when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pid_mode: Option<PidMode>,
    /// Whose shared memory the containers see. The engine's default when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ipc_mode: Option<IpcMode>,
    /// A container through which the task's traffic goes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proxy_configuration: Option<ProxyConfiguration>,
    /// Accelerators that containers refer to.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 20))]
    pub inference_accelerators: Vec<InferenceAccelerator>,
    /// Scratch disk of the task.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ephemeral_storage: Option<EphemeralStorage>,
    /// Operating system and architecture that a host must have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runtime_platform: Option<RuntimePlatform>,
    /// True: faults may be injected into the task's network.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enable_fault_injection: Option<bool>,
    /// Attested isolation of the task.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trusted_execution_configuration: Option<TrustedExecutionConfiguration>,
}

/// What became of a task definition.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TaskDefinitionStatus {
    /// Generation of the spec that this status speaks of; -1 until a controller has seen the
    /// object.
    #[serde(
        default = "crate::conditions::unobserved",
        deserialize_with = "crate::numbers::whole"
    )]
    #[schemars(range(min = -1))]
    pub observed_generation: i64,
    /// `Ready` once the latest content is a revision; `UnsupportedFields` names what is not
    /// honoured yet.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
    /// The family this object registers, once accepted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 255))]
    pub family: Option<String>,
    /// `family:revision` of the latest ACTIVE revision.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 300))]
    pub latest: Option<String>,
    /// Highest revision number ever minted for this object; never falls, so numbers are never
    /// reused.
    #[serde(default, deserialize_with = "crate::numbers::whole")]
    #[schemars(range(min = 0))]
    pub latest_revision: i64,
}
