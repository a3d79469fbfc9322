//! `ContainerInstance`: a host.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::conditions::Condition;
use crate::ecs::Tag;
use crate::patterns;
use crate::rules;

/// A host with an engine and an agent (ECS `ContainerInstance`). Its name is at most 40 characters
/// long.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "tallyman.dev",
    version = "v1alpha1",
    doc = "A host (ECS `ContainerInstance`).",
    kind = "ContainerInstance",
    plural = "containerinstances",
    shortname = "cinst",
    category = "tallyman",
    namespaced,
    status = "ContainerInstanceStatus"
)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = rules::on("ContainerInstanceSpec")))]
pub struct ContainerInstanceSpec {
    /// Cluster the host belongs to. Default `default`. Immutable: to move a host, delete the object
    /// and make it anew.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 255), regex(pattern = patterns::REFERENCE), extend("default" = "default"))]
    pub cluster: Option<String>,
    /// ACTIVE takes tasks; DRAINING takes none and its service tasks move away. Default ACTIVE.
    #[serde(default)]
    pub status: DesiredInstanceStatus,
    /// Custom attributes that placement constraints and strategies can ask for. One that the agent reports as well
    /// (ECS_INSTANCE_ATTRIBUTES) has the value given here.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 200), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub attributes: Vec<Attribute>,
    /// ECS tags of the host, up to 50.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 50))]
    pub tags: Vec<Tag>,
}

/// A name, or a name and a value, that placement can ask for (ECS `Attribute`).
#[derive(
    Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "camelCase")]
pub struct Attribute {
    /// Name, up to 128 letters, digits, hyphens, underscores, dots, slashes.
    #[schemars(length(min = 1, max = 128))]
    pub name: String,
    /// Value; an attribute without one only exists.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub value: Option<String>,
}

/// What a user may ask of a host.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
pub enum DesiredInstanceStatus {
    /// Take tasks.
    #[default]
    #[serde(rename = "ACTIVE")]
    Active,
    /// Take no tasks, and let those of services move away.
    #[serde(rename = "DRAINING")]
    Draining,
}

/// State of a container instance (ECS `status`).
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
pub enum InstanceStatus {
    /// Its agent has not registered yet.
    #[default]
    #[serde(rename = "REGISTERING")]
    Registering,
    /// It takes tasks.
    #[serde(rename = "ACTIVE")]
    Active,
    /// It takes no tasks; those of services move away.
    #[serde(rename = "DRAINING")]
    Draining,
    /// It is being deleted.
    #[serde(rename = "DEREGISTERING")]
    Deregistering,
}

/// What is known of a host. The part `host` is written by its agent, everything else by the
/// operator.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ContainerInstanceStatus {
    /// Generation of the spec that this status speaks of; -1 until a controller has seen the
    /// object.
    #[serde(
        default = "crate::conditions::unobserved",
        deserialize_with = "crate::numbers::whole"
    )]
    #[schemars(range(min = -1))]
    pub observed_generation: i64,
    /// `Ready`, and what else is true of the host.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
    /// State of the container instance.
    #[serde(default)]
    pub status: InstanceStatus,
    /// The operator saw the host's Lease renewed lately.
    #[serde(default)]
    pub agent_connected: bool,
    /// What the agent reports; it alone writes this part.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<HostReport>,
    /// Registered resources minus what the host's tasks hold.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remaining_resources: Option<Resources>,
    /// Tasks of the host that are RUNNING.
    #[serde(default, deserialize_with = "crate::numbers::whole")]
    #[schemars(range(min = 0))]
    pub running_tasks_count: i32,
    /// Tasks of the host that are not yet RUNNING.
    #[serde(default, deserialize_with = "crate::numbers::whole")]
    #[schemars(range(min = 0))]
    pub pending_tasks_count: i32,
    /// `free/registered` CPU units, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub cpu_free: Option<String>,
    /// `free/registered` MiB, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub memory_free: Option<String>,
    /// When the agent first registered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub registered_at: Option<Time>,
}

/// The part of the status that the host's agent writes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HostReport {
    /// Version of the agent.
    #[schemars(length(max = 64))]
    pub agent_version: String,
    /// Engine name and version for people, such as `docker 20.10.24`.
    #[schemars(length(max = 128))]
    pub engine: String,
    /// Version of the engine's API, such as `1.41`.
    #[schemars(length(max = 32))]
    pub engine_api_version: String,
    /// False while the agent cannot reach its engine.
    pub engine_reachable: bool,
    /// What the host has for tasks.
    pub registered_resources: Resources,
    /// ECS attributes of the host, such as `ecs.os-type`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 500))]
    pub attributes: Vec<Attribute>,
    /// Address at which published ports are reached.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 255))]
    pub address: Option<String>,
    /// Changes when the host boots.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 255))]
    pub boot_id: Option<String>,
    /// Identity of the engine, to notice two agents on one engine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 255))]
    pub engine_id: Option<String>,
    /// HostPlan generation that the agent works from.
    #[serde(default, deserialize_with = "crate::numbers::whole")]
    #[schemars(range(min = 0))]
    pub applied_plan_generation: i64,
    /// Number of the leader that wrote that plan.
    #[serde(default, deserialize_with = "crate::numbers::whole")]
    #[schemars(range(min = 0))]
    pub applied_plan_epoch: i64,
    /// Why tasks that came now would not start there; `message` says more. Absent while they would.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub impairment: Option<Impairment>,
    /// Last failure of the agent as a whole, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32768))]
    pub message: Option<String>,
}

/// Why a host that is connected and whose engine answers takes no tasks (ECS calls such a container instance IMPAIRED).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Impairment {
    /// The disk of its engine has hardly any room left.
    DiskFull,
    /// Its engine fails whichever task asks. The agent takes it back after a while, so that the host is tried again.
    EngineFails,
}

/// ECS resources of a host.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Resources {
    /// CPU units, 1024 per core.
    #[schemars(range(min = i32::MIN))]
    #[serde(deserialize_with = "crate::numbers::whole")]
    pub cpu: i64,
    /// Memory in MiB.
    #[schemars(range(min = i32::MIN))]
    #[serde(deserialize_with = "crate::numbers::whole")]
    pub memory: i64,
    /// TCP host ports that are taken.
    #[serde(
        default,
        deserialize_with = "crate::numbers::all_whole",
        skip_serializing_if = "Vec::is_empty"
    )]
    #[schemars(length(max = 65535), inner(range(min = 0, max = 65535)))]
    pub ports: Vec<i32>,
    /// UDP host ports that are taken.
    #[serde(
        default,
        deserialize_with = "crate::numbers::all_whole",
        skip_serializing_if = "Vec::is_empty"
    )]
    #[schemars(length(max = 65535), inner(range(min = 0, max = 65535)))]
    pub ports_udp: Vec<i32>,
    /// Ids of GPUs: those of the host in `registeredResources`, those that no task holds in `remainingResources`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256), inner(length(min = 1, max = 255)))]
    pub gpu: Vec<String>,
    /// Memory of GPUs for tasks that share them (`sharingStrategy`): all of each in `registeredResources`, what is left of each
    /// in `remainingResources`. A GPU that a task has whole has none left.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256))]
    pub gpu_memory: Vec<GpuMemory>,
}

/// Memory of one GPU (ECS `GpuDevice`).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GpuMemory {
    /// Id of the GPU.
    #[schemars(length(min = 1, max = 255))]
    pub gpu_id: String,
    /// MiB.
    #[schemars(range(min = 0, max = i32::MAX))]
    #[serde(deserialize_with = "crate::numbers::whole")]
    pub memory: i64,
}
