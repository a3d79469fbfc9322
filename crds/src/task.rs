//! `Task`: one placed copy of a task definition. It is never restarted once STOPPED.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::conditions::Condition;
use crate::ecs::*;
use crate::lifecycle::{Connectivity, DesiredStatus, HealthStatus, LastStatus, StopCode};
use crate::patterns;
use crate::rules;

/// One copy of a task definition on one host (ECS `Task`). It is never restarted once STOPPED. Made
/// by the operator for services and runs; a user's own Task is ECS `StartTask` with
/// `containerInstance` and a `RunTask` of one copy without. Nothing may change but `desiredStatus`,
/// `stopCode` and `stoppedReason`.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "tallyman.dev",
    version = "v1alpha1",
    doc = "One copy of a task definition on one host (ECS `Task`).",
    kind = "Task",
    plural = "tasks",
    shortname = "task",
    category = "tallyman",
    namespaced,
    status = "TaskStatus"
)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = rules::on("TaskSpec")))]
pub struct TaskSpec {
    /// Capacity providers and their parts. Not together with `launchType`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 20))]
    pub capacity_provider_strategy: Vec<CapacityProviderStrategyItem>,
    /// Cluster to run in. Default `default`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 2048), regex(pattern = patterns::REFERENCE), extend("default" = "default"))]
    pub cluster: Option<String>,
    /// True: tasks get tags for cluster and service.
    #[serde(
        rename = "enableECSManagedTags",
        default,
        skip_serializing_if = "Option::is_none"
    )]
    pub enable_ecs_managed_tags: Option<bool>,
    /// True: commands may be run in the task's containers (ECS Exec).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enable_execute_command: Option<bool>,
    /// Task group, for placement that spreads or joins groups. Default `family:<family>`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 255))]
    pub group: Option<String>,
    /// Kind of capacity; kept for ECS input.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub launch_type: Option<LaunchType>,
    /// Network, with network mode `awsvpc`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network_configuration: Option<NetworkConfiguration>,
    /// Changes to the task definition for this run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub overrides: Option<TaskOverride>,
    /// Rules that every chosen host must meet, up to 10, beside those of the task definition.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 10))]
    pub placement_constraints: Vec<PlacementConstraint>,
    /// Preferences between hosts, up to 5, applied in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 5))]
    pub placement_strategy: Vec<PlacementStrategy>,
    /// Fargate platform version; kept for ECS input.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub platform_version: Option<String>,
    /// Whose tags the tasks get.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub propagate_tags: Option<PropagateTags>,
    /// Free text of the caller.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub reference_id: Option<String>,
    /// Who started the tasks, free text up to 128 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128))]
    pub started_by: Option<String>,
    /// ECS tags of the tasks, up to 50.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 50))]
    pub tags: Vec<Tag>,
    /// `family` for its latest ACTIVE revision, or `family:revision`.
    #[schemars(length(min = 1, max = 2048), regex(pattern = patterns::TASK_DEFINITION))]
    pub task_definition: String,
    /// Idempotency token of ECS; the object's name does that here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub client_token: Option<String>,
    /// What the task definition's volumes with `configuredAtLaunch` are.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 10))]
    pub volume_configurations: Vec<TaskVolumeConfiguration>,
    /// The host that runs the task. Set at creation by the operator, or by a user (ECS StartTask).
    /// Absent on a user's own Task: the operator chooses and says so in `status.containerInstance`.
    /// Immutable once set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub container_instance: Option<String>,
    /// RUNNING, or STOPPED once somebody wants the task stopped; never back. Default RUNNING.
    #[serde(default)]
    pub desired_status: DesiredStatus,
    /// Why the task is to stop; only with `desiredStatus: STOPPED`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stop_code: Option<StopCode>,
    /// Why the task is to stop, in words (`reason` of ECS StopTask); only with `desiredStatus:
    /// STOPPED`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32768))]
    pub stopped_reason: Option<String>,
    /// Digests that containers are started with in place of the tags that the task definition has. The operator
    /// sets them for tasks of services (`versionConsistency`).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 10))]
    pub container_images: Vec<ContainerImage>,
    /// Seconds after the last sign of life that the API server confirmed until the agent stops the task by itself
    /// (`disconnect.stopAfter` of its service, which the operator writes here at creation). It never changes.
    #[serde(
        default,
        deserialize_with = "crate::numbers::whole_or_none",
        skip_serializing_if = "Option::is_none"
    )]
    #[schemars(range(min = 30, max = 86400))]
    pub stop_after: Option<i32>,
}

/// Which image a container is started with (ECS `ContainerImage`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ContainerImage {
    /// Name in the task definition.
    #[schemars(length(min = 1, max = 255))]
    pub container_name: String,
    /// Digest of the manifest, `sha256:...`.
    #[schemars(
        length(min = 1, max = 255),
        regex(pattern = "^[a-z0-9+._-]+:[0-9a-fA-F]{32,}$")
    )]
    pub image_digest: String,
}

/// Where a task is. Written by the host's agent; by the operator only while no agent has taken the
/// task on, or once its host is declared lost.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = rules::on("TaskStatus")))]
pub struct TaskStatus {
    /// Generation of the spec that this status speaks of; -1 until somebody has seen the object.
    #[serde(
        default = "crate::conditions::unobserved",
        deserialize_with = "crate::numbers::whole"
    )]
    #[schemars(range(min = -1))]
    pub observed_generation: i64,
    /// `Ready` while the task runs and is healthy.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
    /// Where the task is in its life. Never goes back; nothing follows STOPPED.
    #[serde(default)]
    pub last_status: LastStatus,
    /// The host that the task was placed on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub container_instance: Option<String>,
    /// When the host's agent first took the task on. Until then the operator may write this status.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accepted_at: Option<Time>,
    /// Whether the agent of the task's host is connected. The agent says so when it first tells of the task; from then on it is
    /// the operator's, which sees whether the host's Lease is renewed. Of a STOPPED task it is what it was at the end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connectivity: Option<Connectivity>,
    /// When `connectivity` last became CONNECTED.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connectivity_at: Option<Time>,
    /// Health of the essential containers.
    #[serde(default)]
    pub health_status: HealthStatus,
    /// Why the task stopped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stop_code: Option<StopCode>,
    /// Why the task stopped, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32768))]
    pub stopped_reason: Option<String>,
    /// When the first image pull began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pull_started_at: Option<Time>,
    /// When the last image pull ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pull_stopped_at: Option<Time>,
    /// When the task first reached RUNNING. Absent: it never ran.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Time>,
    /// When the task began to stop.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stopping_at: Option<Time>,
    /// When an essential container exited.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub execution_stopped_at: Option<Time>,
    /// When the task reached STOPPED.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stopped_at: Option<Time>,
    /// When the containers of the stopped task were removed from the host, after the Task was
    /// deleted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub removed_at: Option<Time>,
    /// Until when the task is protected from scale-in and from deployments of its service, as one of its containers asked
    /// (ECS task scale-in protection).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protected_until: Option<Time>,
    /// The operator's: the task was replaced while its host was silent, and stays if that comes back
    /// (`disconnect.keepOnReturn` of its service).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub absence: Option<Absence>,
    /// Published ports for people, such as `10.0.0.5:32768->80`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 4096))]
    pub ports: Option<String>,
    /// The network interface of a task with an address of its own (network mode `awsvpc`).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 10))]
    pub attachments: Vec<Attachment>,
    /// The task's containers as the host sees them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 20))]
    pub containers: Vec<ContainerStatus>,
}

/// Since when a task counts for nothing because nobody hears of its host.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Absence {
    /// When it was replaced.
    pub since: Time,
    /// Since when its host is heard of again; a minute later it counts again. Absent: it is not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub back_since: Option<Time>,
}

/// One container of a task as its host sees it (ECS `Container`).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ContainerStatus {
    /// Name in the task definition.
    #[schemars(length(min = 1, max = 255))]
    pub name: String,
    /// The engine's container id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 255))]
    pub runtime_id: Option<String>,
    /// Image reference as given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512))]
    pub image: Option<String>,
    /// Digest of the image that runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 255))]
    pub image_digest: Option<String>,
    /// Where the container is in its life.
    #[serde(default)]
    pub last_status: LastStatus,
    /// Exit code, once it exited.
    #[serde(
        default,
        deserialize_with = "crate::numbers::whole_or_none",
        skip_serializing_if = "Option::is_none"
    )]
    #[schemars(range(min = i32::MIN))]
    pub exit_code: Option<i32>,
    /// `Name: message`, such as `CannotPullContainerError: ...`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32768))]
    pub reason: Option<String>,
    /// Health by the container's health check.
    #[serde(default)]
    pub health_status: HealthStatus,
    /// Published ports.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 1000))]
    pub network_bindings: Vec<NetworkBinding>,
    /// GPUs of the host that it was given, by id.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256), inner(length(min = 1, max = 255)))]
    pub gpu_ids: Vec<String>,
    /// Addresses of its task, with network mode `awsvpc`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 10))]
    pub network_interfaces: Vec<NetworkInterface>,
}

/// Something that was attached to a task (ECS `Attachment`).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Attachment {
    /// Identity of the attachment.
    #[schemars(length(max = 255))]
    pub id: String,
    /// `ElasticNetworkInterface`.
    #[schemars(length(max = 255))]
    pub r#type: String,
    /// `ATTACHED`, and `DELETED` once the task has stopped.
    #[schemars(length(max = 64))]
    pub status: String,
    /// What is known of it: `privateIPv4Address`, `ipv6Address`, `macAddress`, `networkInterfaceId`, and the engine's
    /// network as `networkName`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 20))]
    pub details: Vec<KeyValuePair>,
}

/// An address that a container shares with its task (ECS `NetworkInterface`).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NetworkInterface {
    /// `id` of the attachment.
    #[schemars(length(max = 255))]
    pub attachment_id: String,
    /// IPv4 address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub private_ipv4_address: Option<String>,
    /// IPv6 address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub ipv6_address: Option<String>,
}

/// A published port (ECS `NetworkBinding`).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NetworkBinding {
    /// Address on the host.
    #[serde(rename = "bindIP")]
    #[schemars(length(max = 64))]
    pub bind_ip: String,
    /// Port in the container; absent for a range.
    #[serde(
        default,
        deserialize_with = "crate::numbers::whole_or_none",
        skip_serializing_if = "Option::is_none"
    )]
    #[schemars(range(min = 0, max = 65535))]
    pub container_port: Option<i32>,
    /// Port on the host; absent for a range.
    #[serde(
        default,
        deserialize_with = "crate::numbers::whole_or_none",
        skip_serializing_if = "Option::is_none"
    )]
    #[schemars(range(min = 0, max = 65535))]
    pub host_port: Option<i32>,
    /// Protocol.
    pub protocol: TransportProtocol,
    /// Ports in the container, `first-last`, of a mapping with `containerPortRange`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 11))]
    pub container_port_range: Option<String>,
    /// As many ports on the host, `first-last`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 11))]
    pub host_port_range: Option<String>,
}
