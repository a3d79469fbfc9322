//! `ContainerInstance`: a host.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::conditions::Condition;
use crate::ecs::Tag;

#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "tallyman.dev",
    version = "v1alpha1",
    kind = "ContainerInstance",
    plural = "containerinstances",
    shortname = "cinst",
    category = "tallyman",
    namespaced,
    status = "ContainerInstanceStatus"
)]
#[serde(rename_all = "camelCase")]
pub struct ContainerInstanceSpec {
    /// Cluster the host belongs to; default `default`. Immutable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster: Option<String>,
    /// ACTIVE takes tasks; DRAINING takes none and its service tasks move away.
    #[serde(default)]
    pub status: DesiredInstanceStatus,
    /// Custom attributes for placement.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub attributes: Vec<Attribute>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<Tag>,
}

/// A name, or a name and a value, that placement can ask for.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Attribute {
    pub name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
}

/// What a user may ask of a host.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub enum DesiredInstanceStatus {
    #[default]
    #[serde(rename = "ACTIVE")]
    Active,
    #[serde(rename = "DRAINING")]
    Draining,
}

/// ECS status of a container instance.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub enum InstanceStatus {
    /// Its agent has not registered yet.
    #[default]
    #[serde(rename = "REGISTERING")]
    Registering,
    #[serde(rename = "ACTIVE")]
    Active,
    #[serde(rename = "DRAINING")]
    Draining,
    /// Being deleted.
    #[serde(rename = "DEREGISTERING")]
    Deregistering,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ContainerInstanceStatus {
    #[serde(default = "crate::conditions::unobserved")]
    pub observed_generation: i64,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
    #[serde(default)]
    pub status: InstanceStatus,
    /// The operator saw the host's Lease renewed lately.
    #[serde(default)]
    pub agent_connected: bool,
    /// What the agent reports; it alone writes this part.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<HostReport>,
    /// Registered minus what the host's tasks hold.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remaining_resources: Option<Resources>,
    #[serde(default)]
    pub running_tasks_count: i32,
    #[serde(default)]
    pub pending_tasks_count: i32,
    /// `free/registered` CPU units, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_free: Option<String>,
    /// `free/registered` MiB, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_free: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub registered_at: Option<Time>,
}

/// The part of the status that the host's agent writes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HostReport {
    pub agent_version: String,
    /// Engine name and version for people, such as `docker 20.10.24`.
    pub engine: String,
    /// Engine API version, such as `1.41`.
    pub engine_api_version: String,
    /// False while the agent cannot reach its engine.
    pub engine_reachable: bool,
    pub registered_resources: Resources,
    /// ECS attributes of the host (ecs-semantics 1.2, 1.4).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub attributes: Vec<Attribute>,
    /// Address at which published ports are reached.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// Changes when the host boots.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub boot_id: Option<String>,
    /// Identity of the engine, to notice two agents on one engine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub engine_id: Option<String>,
    /// HostPlan generation that the agent works from.
    #[serde(default)]
    pub applied_plan_generation: i64,
    /// Last failure of the agent as a whole, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// ECS resources of a host.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Resources {
    /// CPU units, 1024 per core.
    pub cpu: i64,
    /// MiB.
    pub memory: i64,
    /// TCP host ports that are taken.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<i32>,
    /// UDP host ports that are taken.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ports_udp: Vec<i32>,
}
