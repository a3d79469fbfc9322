//! `TaskSet`: a part of a service whose deployments somebody else runs.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::conditions::Condition;
use crate::ecs::*;
use crate::patterns;
use crate::rules;

/// A part of a service with `deploymentController.type: EXTERNAL`: tasks of one task definition, as many as its `scale` says
/// (the input of ECS `CreateTaskSet`). Only `scale` and `tags` may change (ECS `UpdateTaskSet`). Its deletion stops its tasks first
/// (ECS `DeleteTaskSet` with `force`). The object's name is at most 63 characters long.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "tallyman.dev",
    version = "v1alpha1",
    doc = "A part of a service whose deployments somebody else runs (ECS `TaskSet`).",
    kind = "TaskSet",
    plural = "tasksets",
    shortname = "tset",
    category = "tallyman",
    namespaced,
    status = "TaskSetStatus"
)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = rules::on("TaskSetSpec")))]
pub struct TaskSetSpec {
    /// The service that it is a part of, by name or ARN. Its `deploymentController.type` must be EXTERNAL. Immutable.
    #[schemars(length(min = 1, max = 2048), regex(pattern = patterns::SERVICE))]
    pub service: String,
    /// Cluster of the service. Default `default`. Immutable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 2048), regex(pattern = patterns::REFERENCE), extend("default" = "default"))]
    pub cluster: Option<String>,
    /// Free text of whoever runs the deployments, kept for them. Immutable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub external_id: Option<String>,
    /// `family`, which is its latest ACTIVE revision when the task set is taken on and stays that one, or
    /// `family:revision`. Immutable.
    #[schemars(length(min = 1, max = 2048), regex(pattern = patterns::TASK_DEFINITION))]
    pub task_definition: String,
    /// Network, with network mode `awsvpc`. Immutable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network_configuration: Option<NetworkConfiguration>,
    /// Load balancers in front of the task set, up to 5. Immutable.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 5))]
    pub load_balancers: Vec<LoadBalancer>,
    /// Service registries that tasks are entered in. Immutable.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 5))]
    pub service_registries: Vec<ServiceRegistry>,
    /// Kind of capacity; kept for ECS input. Immutable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub launch_type: Option<LaunchType>,
    /// Capacity providers and their parts. Not together with `launchType`. Immutable.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 20))]
    pub capacity_provider_strategy: Vec<CapacityProviderStrategyItem>,
    /// Fargate platform version; kept for ECS input. Immutable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub platform_version: Option<String>,
    /// How many of the service's tasks it runs. Default 0 percent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scale: Option<Scale>,
    /// Idempotency token of ECS; the object's name does that here. Immutable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub client_token: Option<String>,
    /// ECS tags of the task set, up to 50. Tasks get those of their service or of their task definition
    /// (`propagateTags` of the service).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 50))]
    pub tags: Vec<Tag>,
}

/// What runs of a task set, and what the scheduler is doing about it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TaskSetStatus {
    /// Generation of the spec that this status speaks of; -1 until a controller has seen the
    /// object.
    #[serde(
        default = "crate::conditions::unobserved",
        deserialize_with = "crate::numbers::whole"
    )]
    #[schemars(range(min = -1))]
    pub observed_generation: i64,
    /// `Ready` while its `stabilityStatus` is STEADY_STATE.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
    /// `ecs-svc/<number>`; its tasks have it as `startedBy`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128))]
    pub id: Option<String>,
    /// Whether it is the service's primary one, or is being deleted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<TaskSetLifecycle>,
    /// `family:revision` that it runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 300))]
    pub task_definition: Option<String>,
    /// Copies wanted: the service's `desiredCount` times the scale, rounded up.
    #[serde(default, deserialize_with = "crate::numbers::whole")]
    #[schemars(range(min = 0))]
    pub computed_desired_count: i32,
    /// Copies that are placed and not yet RUNNING.
    #[serde(default, deserialize_with = "crate::numbers::whole")]
    #[schemars(range(min = 0))]
    pub pending_count: i32,
    /// Copies that are RUNNING.
    #[serde(default, deserialize_with = "crate::numbers::whole")]
    #[schemars(range(min = 0))]
    pub running_count: i32,
    /// Whether all that is wanted runs and is healthy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stability_status: Option<StabilityStatus>,
    /// Since when `stabilityStatus` is what it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stability_status_at: Option<Time>,
    /// One line for people: what the task set is doing or what keeps it from doing it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32768))]
    pub message: Option<String>,
    /// No task is launched before this time, because of the throttle.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub launch_not_before: Option<Time>,
    /// Digests of its images, as its first tasks found them; its later tasks are started with these.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 10))]
    pub container_images: Vec<crate::ContainerImage>,
}

impl Default for TaskSetStatus {
    fn default() -> Self {
        TaskSetStatus {
            observed_generation: crate::conditions::UNOBSERVED,
            conditions: Vec::new(),
            id: None,
            status: None,
            task_definition: None,
            computed_desired_count: 0,
            pending_count: 0,
            running_count: 0,
            stability_status: None,
            stability_status_at: None,
            message: None,
            launch_not_before: None,
            container_images: Vec::new(),
        }
    }
}

/// State of a task set (ECS `status`).
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
pub enum TaskSetLifecycle {
    /// The service names it in `primaryTaskSet`.
    #[serde(rename = "PRIMARY")]
    Primary,
    /// Another one that runs tasks.
    #[serde(rename = "ACTIVE")]
    Active,
    /// It is being deleted and its tasks stop.
    #[serde(rename = "DRAINING")]
    Draining,
}

/// Whether a task set is steady (ECS `stabilityStatus`).
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
pub enum StabilityStatus {
    /// `runningCount` is not `computedDesiredCount`, a task is pending, is not healthy, or is on a host that drains.
    #[serde(rename = "STABILIZING")]
    Stabilizing,
    /// Nothing of this is so.
    #[serde(rename = "STEADY_STATE")]
    SteadyState,
}

/// A task set in the status of its service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TaskSetSummary {
    /// Name of the TaskSet.
    #[schemars(length(max = 253))]
    pub name: String,
    /// `ecs-svc/<number>`.
    #[schemars(length(max = 128))]
    pub id: String,
    /// Whether it is the primary one, or is being deleted.
    pub status: TaskSetLifecycle,
    /// `family:revision`, once it was taken on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 300))]
    pub task_definition: Option<String>,
    /// Copies wanted.
    #[schemars(range(min = 0))]
    #[serde(deserialize_with = "crate::numbers::whole")]
    pub computed_desired_count: i32,
    /// Copies that are placed and not yet RUNNING.
    #[schemars(range(min = 0))]
    #[serde(deserialize_with = "crate::numbers::whole")]
    pub pending_count: i32,
    /// Copies that are RUNNING.
    #[schemars(range(min = 0))]
    #[serde(deserialize_with = "crate::numbers::whole")]
    pub running_count: i32,
    /// Whether all that is wanted runs and is healthy.
    pub stability_status: StabilityStatus,
}
