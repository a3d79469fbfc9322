//! `Service`: keeps copies of a task definition running.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::conditions::Condition;
use crate::ecs::*;
use crate::patterns;
use crate::rules;

/// Keeps copies of a task definition running (the input of ECS `CreateService`). The object's name
/// is at most 52 characters long.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "tallyman.dev",
    version = "v1alpha1",
    doc = "Keeps copies of a task definition running (ECS `Service`).",
    kind = "Service",
    plural = "services",
    shortname = "tsvc",
    category = "tallyman",
    namespaced,
    status = "ServiceStatus",
    scale(
        spec_replicas_path = ".spec.desiredCount",
        status_replicas_path = ".status.runningCount",
        label_selector_path = ".status.selector"
    )
)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = rules::on("ServiceSpec")))]
pub struct ServiceSpec {
    /// Cluster to run in. Default `default`. Immutable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 2048), regex(pattern = patterns::REFERENCE), extend("default" = "default"))]
    pub cluster: Option<String>,
    /// Name of the service, as a check on pasted input: it must be the object's name, in capitals
    /// or not, with `_` for `-` or not. Immutable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 255), regex(pattern = patterns::NAME))]
    pub service_name: Option<String>,
    /// `family`, which follows the latest ACTIVE revision, or `family:revision`, which is pinned. Required, but for
    /// `deploymentController.type: EXTERNAL`, where every TaskSet has its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 2048), regex(pattern = patterns::TASK_DEFINITION))]
    pub task_definition: Option<String>,
    /// Whether tasks are moved when zones are uneven.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub availability_zone_rebalancing: Option<AvailabilityZoneRebalancing>,
    /// Load balancers in front of the service, up to 5.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 5))]
    pub load_balancers: Vec<LoadBalancer>,
    /// Service registries that tasks are entered in.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 5))]
    pub service_registries: Vec<ServiceRegistry>,
    /// How many tasks to run. Changed by `kubectl scale` too. Absent: what runs now, or 1 for a new
    /// service. Not with scheduling strategy DAEMON.
    #[serde(
        default,
        deserialize_with = "crate::numbers::whole_or_none",
        skip_serializing_if = "Option::is_none"
    )]
    #[schemars(range(min = 0, max = 100000))]
    pub desired_count: Option<i32>,
    /// Idempotency token of ECS; the object's name does that here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub client_token: Option<String>,
    /// Kind of capacity; kept for ECS input.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub launch_type: Option<LaunchType>,
    /// Capacity providers and their parts. Not together with `launchType`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 20))]
    pub capacity_provider_strategy: Vec<CapacityProviderStrategyItem>,
    /// Fargate platform version; kept for ECS input.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub platform_version: Option<String>,
    /// Role that enters tasks in a load balancer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 2048))]
    pub role: Option<String>,
    /// How the service rolls from one revision to the next.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deployment_configuration: Option<DeploymentConfiguration>,
    /// Rules that every chosen host must meet, up to 10, beside those of the task definition.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 10))]
    pub placement_constraints: Vec<PlacementConstraint>,
    /// Preferences between hosts, up to 5, applied in order. Over hosts by default. Not with
    /// scheduling strategy DAEMON.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 5))]
    pub placement_strategy: Vec<PlacementStrategy>,
    /// Network, with network mode `awsvpc`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network_configuration: Option<NetworkConfiguration>,
    /// Seconds after a task's start in which its health checks do not count. Default 0.
    #[serde(
        default,
        deserialize_with = "crate::numbers::whole_or_none",
        skip_serializing_if = "Option::is_none"
    )]
    #[schemars(range(min = 0, max = i32::MAX))]
    pub health_check_grace_period_seconds: Option<i32>,
    /// REPLICA runs `desiredCount` tasks; DAEMON one on each host that meets the constraints.
    /// Default REPLICA. Immutable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("default" = "REPLICA"))]
    pub scheduling_strategy: Option<SchedulingStrategy>,
    /// Who runs deployments. The scheduler itself when absent. With EXTERNAL the service's tasks are those of its TaskSets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deployment_controller: Option<DeploymentController>,
    /// ECS tags of the service, up to 50.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 50))]
    pub tags: Vec<Tag>,
    /// True: tasks get tags for cluster and service.
    #[serde(
        rename = "enableECSManagedTags",
        default,
        skip_serializing_if = "Option::is_none"
    )]
    pub enable_ecs_managed_tags: Option<bool>,
    /// Whose tags new tasks get.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub propagate_tags: Option<PropagateTags>,
    /// True: commands may be run in the tasks' containers (ECS Exec).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enable_execute_command: Option<bool>,
    /// Names and proxies for the service's ports.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service_connect_configuration: Option<ServiceConnectConfiguration>,
    /// What the task definition's volumes with `configuredAtLaunch` are.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 10))]
    pub volume_configurations: Vec<ServiceVolumeConfiguration>,
    /// VPC Lattice target groups that tasks join.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 5))]
    pub vpc_lattice_configurations: Vec<VpcLatticeConfiguration>,
    /// Gateways that tasks join.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 5))]
    pub gateway_connectors: Vec<GatewayConnector>,
    /// Resolution of the service's metrics.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub monitoring: Option<MonitoringConfiguration>,
    /// True: no deployment begins, and one that is under way stays where it is. Tasks that end are replaced all the same.
    /// Default false. Not a field of ECS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("default" = false))]
    pub paused: Option<bool>,
    /// What becomes of the service's tasks when the agent of their host is not heard of any more. Not a field of ECS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disconnect: Option<DisconnectPolicy>,
    /// Name of the TaskSet that is PRIMARY (ECS `UpdateServicePrimaryTaskSet`): the service is as ready as this one. Only with
    /// `deploymentController.type: EXTERNAL`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub primary_task_set: Option<String>,
}

/// What becomes of tasks when the agent of their host is not heard of any more: they run on there, are replaced elsewhere, and
/// stop there when the host comes back.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = rules::on("DisconnectPolicy")))]
pub struct DisconnectPolicy {
    /// Seconds from when the agent was last heard of until its tasks are replaced. Default 300, and with `stopAfter` as soon as
    /// they have stopped for certain. Never before the agent counts as disconnected, which is after 50 s. With
    /// `stopAfter` at least 25 s more than that. A change counts at once, for tasks that run, too.
    #[serde(
        default,
        deserialize_with = "crate::numbers::whole_or_none",
        skip_serializing_if = "Option::is_none"
    )]
    #[schemars(range(min = 0, max = 86400))]
    pub replace_after: Option<i32>,
    /// Seconds from the last sign of life that the API server confirmed until the agent stops the tasks by itself, so that none runs
    /// beside its replacement: that is started no sooner than `stopAfter`, the stop timeouts of its containers and
    /// 25 s have passed, and 1 percent more. An API server that is away for so long stops the tasks, too. Tasks keep what they were
    /// started with; `kubectl tally restart` hands on a change. Absent: they run on.
    #[serde(
        default,
        deserialize_with = "crate::numbers::whole_or_none",
        skip_serializing_if = "Option::is_none"
    )]
    #[schemars(range(min = 30, max = 86400))]
    pub stop_after: Option<i32>,
    /// Which task stays when a host comes back whose task was replaced meanwhile. Default `Replacement`. `Original` only without
    /// `stopAfter`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keep_on_return: Option<KeepOnReturn>,
}

/// Which of two tasks stays when a host comes back: the one that ran there all the time, or the one that replaced it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum KeepOnReturn {
    /// What replaced it: the task on the host stops as soon as its agent is back.
    #[default]
    Replacement,
    /// The task on the host, if it runs still and its service wants it still: what replaced it stops a minute later. Of a DAEMON
    /// service the task of a silent host is not given up at all.
    Original,
}

/// What runs of a service, and what the scheduler is doing about it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ServiceStatus {
    /// Generation of the spec that this status speaks of; -1 until a controller has seen the
    /// object.
    #[serde(
        default = "crate::conditions::unobserved",
        deserialize_with = "crate::numbers::whole"
    )]
    #[schemars(range(min = -1))]
    pub observed_generation: i64,
    /// `Ready` once the desired revision is fully deployed, running and healthy, and no older
    /// deployment is left.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
    /// ECS status of the service: ACTIVE, or DRAINING while it is being deleted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<ServiceLifecycle>,
    /// Copies wanted now.
    #[serde(default, deserialize_with = "crate::numbers::whole")]
    #[schemars(range(min = 0))]
    pub desired_count: i32,
    /// Copies that are RUNNING.
    #[serde(default, deserialize_with = "crate::numbers::whole")]
    #[schemars(range(min = 0))]
    pub running_count: i32,
    /// Copies that are placed and not yet RUNNING.
    #[serde(default, deserialize_with = "crate::numbers::whole")]
    #[schemars(range(min = 0))]
    pub pending_count: i32,
    /// `family:revision` that the primary deployment, or the primary task set, runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 300))]
    pub task_definition: Option<String>,
    /// Label selector of this service's tasks, for the scale subresource.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub selector: Option<String>,
    /// One line for people: what the service is doing or what keeps it from doing it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32768))]
    pub message: Option<String>,
    /// PRIMARY first, then older deployments that still have tasks.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 100))]
    pub deployments: Vec<DeploymentStatus>,
    /// With `deploymentController.type: EXTERNAL`: its task sets, the PRIMARY one first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 100))]
    pub task_sets: Vec<crate::TaskSetSummary>,
    /// The deployment that completed last: where a failed one goes back to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_completed_deployment: Option<CompletedDeployment>,
    /// The deployment that the spec asks for, once it was given up. It is not tried again until the spec asks for another
    /// one or the service is restarted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed_deployment: Option<FailedDeployment>,
    /// The task that is being moved to another availability zone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rebalancing: Option<ZoneRebalancing>,
    /// What happened lately, the newest first (ECS service event messages).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 100))]
    pub events: Vec<ServiceEvent>,
    /// Highest task number ever handed out; task names are `<service>-<number>`.
    #[serde(default, deserialize_with = "crate::numbers::whole")]
    #[schemars(range(min = 0))]
    pub last_task_number: i64,
    /// Tasks in a row that stopped before they ever ran; the launch throttle's memory.
    #[serde(default, deserialize_with = "crate::numbers::whole")]
    #[schemars(range(min = 0))]
    pub consecutive_start_failures: i32,
    /// No task is launched before this time, because of the throttle.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub launch_not_before: Option<Time>,
    /// Since when the service is steady.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub steady_since: Option<Time>,
}

/// State of a service (ECS `status`).
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
pub enum ServiceLifecycle {
    /// It runs tasks.
    #[serde(rename = "ACTIVE")]
    Active,
    /// It is being deleted and its tasks stop.
    #[serde(rename = "DRAINING")]
    Draining,
}

/// One revision's part of a service (ECS `Deployment`).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DeploymentStatus {
    /// `ecs-svc/<number>`.
    #[schemars(length(max = 128))]
    pub id: String,
    /// Whether it is the wanted one.
    pub status: DeploymentLifecycle,
    /// `family:revision`.
    #[schemars(length(max = 300))]
    pub task_definition: String,
    /// Copies wanted of it.
    #[schemars(range(min = 0))]
    #[serde(deserialize_with = "crate::numbers::whole")]
    pub desired_count: i32,
    /// Copies that are placed and not yet RUNNING.
    #[schemars(range(min = 0))]
    #[serde(deserialize_with = "crate::numbers::whole")]
    pub pending_count: i32,
    /// Copies that are RUNNING.
    #[schemars(range(min = 0))]
    #[serde(deserialize_with = "crate::numbers::whole")]
    pub running_count: i32,
    /// Tasks in a row that failed to start.
    #[schemars(range(min = 0))]
    #[serde(deserialize_with = "crate::numbers::whole")]
    pub failed_tasks: i32,
    /// How far it is.
    pub rollout_state: RolloutState,
    /// How far it is, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32768))]
    pub rollout_state_reason: Option<String>,
    /// When it began.
    pub created_at: Time,
    /// Tasks with a higher number are of its current try; a deployment that is gone back to is tried anew.
    #[serde(default, deserialize_with = "crate::numbers::whole")]
    #[schemars(range(min = 0))]
    pub after_task_number: i64,
    /// When a task of it first ran.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_running_at: Option<Time>,
    /// Since when all of its tasks run and no older one is left, or so many are healthy as `earlySuccessCriteria` asks for,
    /// while `bakeTimeInMinutes` passes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub baking_since: Option<Time>,
    /// The circuit breaker, where it is enabled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub circuit_breaker: Option<CircuitBreakerStatus>,
    /// The deployment alarms, where they are enabled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alarms: Option<AlarmsStatus>,
    /// Protected tasks keep it from what is wanted: they take the room of its next task, or are more than the desired count.
    /// Until that is over no other task of the service can be protected (ECS `DEPLOYMENT_BLOCKED`).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub blocked_by_protection: bool,
    /// Digests of its images, as its first tasks found them; its later tasks are started with these.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 10))]
    pub container_images: Vec<crate::ContainerImage>,
}

/// A deployment that completed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CompletedDeployment {
    /// `ecs-svc/<number>`.
    #[schemars(length(max = 128))]
    pub id: String,
    /// `family:revision`.
    #[schemars(length(max = 300))]
    pub task_definition: String,
}

/// A deployment that was given up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FailedDeployment {
    /// `ecs-svc/<number>`.
    #[schemars(length(max = 128))]
    pub id: String,
    /// `family:revision`.
    #[schemars(length(max = 300))]
    pub task_definition: String,
    /// Why, in whole sentences.
    #[schemars(length(max = 32768))]
    pub reason: String,
    /// When.
    pub failed_at: Time,
}

/// A task that moves from one availability zone to another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ZoneRebalancing {
    /// The fullest zone, which loses a task once the new one is healthy.
    #[schemars(length(max = 1024))]
    pub from: String,
    /// The emptiest zone, where a task was started.
    #[schemars(length(max = 1024))]
    pub to: String,
    /// The task that was started.
    #[schemars(length(max = 253))]
    pub task: String,
}

/// What a guard of a deployment is doing (ECS `ServiceDeploymentRollbackMonitorsStatus`).
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
pub enum MonitorStatus {
    /// It gave the deployment up.
    #[serde(rename = "TRIGGERED")]
    Triggered,
    /// It watches.
    #[serde(rename = "MONITORING")]
    Monitoring,
    /// The deployment completed.
    #[serde(rename = "MONITORING_COMPLETE")]
    MonitoringComplete,
}

/// How close a deployment is to being given up (ECS `ServiceDeploymentCircuitBreaker`).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CircuitBreakerStatus {
    /// What it is doing.
    pub status: MonitorStatus,
    /// Failures counted.
    #[schemars(range(min = 0))]
    #[serde(deserialize_with = "crate::numbers::whole")]
    pub failure_count: i32,
    /// At so many it trips.
    #[schemars(range(min = 1))]
    #[serde(deserialize_with = "crate::numbers::whole")]
    pub threshold: i32,
    /// Failures since then are counted: since the deployment began, or its last task became healthy.
    pub counted_from: Time,
    /// Since when no host takes the next task.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unplaceable_since: Option<Time>,
}

/// What the alarms of a deployment say (ECS `ServiceDeploymentAlarms`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AlarmsStatus {
    /// What they are doing.
    pub status: MonitorStatus,
    /// Alarms that ended the deployment.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 100), inner(length(min = 1, max = 255)))]
    pub triggered_alarm_names: Vec<String>,
    /// Alarms that went off before the deployment began; for this one they do not count.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 100), inner(length(min = 1, max = 255)))]
    pub ignored_alarm_names: Vec<String>,
}

/// Something that happened to a service (ECS `ServiceEvent`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ServiceEvent {
    /// When.
    pub created_at: Time,
    /// What, in the words of ECS.
    #[schemars(length(max = 4096))]
    pub message: String,
}

/// Whether a deployment is the wanted one (ECS `status` of a deployment).
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
pub enum DeploymentLifecycle {
    /// The newest.
    #[serde(rename = "PRIMARY")]
    Primary,
    /// An older one that still has tasks.
    #[serde(rename = "ACTIVE")]
    Active,
    /// Replaced completely.
    #[serde(rename = "INACTIVE")]
    Inactive,
}

/// How far a deployment is (ECS `rolloutState`).
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
pub enum RolloutState {
    /// Under way.
    #[serde(rename = "IN_PROGRESS")]
    InProgress,
    /// Every task is of this deployment and healthy.
    #[serde(rename = "COMPLETED")]
    Completed,
    /// Given up by the circuit breaker or an alarm.
    #[serde(rename = "FAILED")]
    Failed,
}
