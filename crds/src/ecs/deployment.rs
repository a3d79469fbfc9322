//! How a service rolls from one revision to the next.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::rules;

/// How the circuit breaker's threshold is counted.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
pub enum ThresholdType {
    /// A number of failed tasks.
    #[serde(rename = "COUNT")]
    Count,
    /// A part of the desired count, within fixed bounds.
    #[serde(rename = "BOUNDED_PERCENT")]
    BoundedPercent,
    /// A part of the desired count.
    #[serde(rename = "UNBOUNDED_PERCENT")]
    UnboundedPercent,
}

/// When the circuit breaker trips.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ThresholdConfiguration {
    /// How the threshold is counted.
    pub r#type: ThresholdType,
    /// The threshold: tasks or percent.
    #[schemars(range(min = 0, max = 100000))]
    #[serde(deserialize_with = "crate::numbers::whole")]
    pub value: i32,
}

/// Gives a deployment up after too many failed tasks.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DeploymentCircuitBreaker {
    /// True: the circuit breaker is on.
    pub enable: bool,
    /// True: a deployment that failed goes back to the last one that completed.
    pub rollback: bool,
    /// True: a task that becomes healthy sets the failure count to 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reset_on_healthy_task: Option<bool>,
    /// When it trips; half of the desired count, but 3 to 200, when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub threshold_configuration: Option<ThresholdConfiguration>,
    /// Which failures count. Not a field of ECS, which always counts the first two; these are the default.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 4))]
    pub counted_failures: Vec<CountedFailure>,
}

/// A failure that the circuit breaker may count.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
pub enum CountedFailure {
    /// A task stopped before it ever ran, and none of the deployment had run until then.
    TaskFailedToStart,
    /// A task was stopped because its container health check failed.
    HealthCheckFailed,
    /// A task ran, and ended by itself: a program that crashes soon after its start.
    EssentialContainerExited,
    /// No host takes the next task; one failure for every minute in which that is so.
    PlacementFailed,
}

/// Alarms that end a deployment.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DeploymentAlarms {
    /// Names of the alarms.
    #[schemars(length(max = 100), inner(length(min = 1, max = 255)))]
    pub alarm_names: Vec<String>,
    /// True: the deployment goes back to the last one that completed.
    pub rollback: bool,
    /// True: the alarms are watched.
    pub enable: bool,
}

/// How traffic moves to a new revision.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
pub enum DeploymentStrategy {
    /// Task by task, within the percentages; the default.
    #[serde(rename = "ROLLING")]
    Rolling,
    /// All at once after the new revision is up beside the old one.
    #[serde(rename = "BLUE_GREEN")]
    BlueGreen,
    /// In equal steps.
    #[serde(rename = "LINEAR")]
    Linear,
    /// A small part first, then the rest.
    #[serde(rename = "CANARY")]
    Canary,
}

/// What a hook calls.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
pub enum DeploymentLifecycleHookTargetType {
    /// A Lambda function.
    #[serde(rename = "AWS_LAMBDA")]
    AwsLambda,
    /// Nobody; the deployment waits to be continued.
    #[serde(rename = "PAUSE")]
    Pause,
}

/// Where in a deployment a hook runs.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
pub enum DeploymentLifecycleHookStage {
    /// At the start, when more than one revision is active.
    #[serde(rename = "RECONCILE_SERVICE")]
    ReconcileService,
    /// Before the new revision gets tasks.
    #[serde(rename = "PRE_SCALE_UP")]
    PreScaleUp,
    /// When the new revision's tasks are up.
    #[serde(rename = "POST_SCALE_UP")]
    PostScaleUp,
    /// While test traffic moves.
    #[serde(rename = "TEST_TRAFFIC_SHIFT")]
    TestTrafficShift,
    /// After test traffic has moved.
    #[serde(rename = "POST_TEST_TRAFFIC_SHIFT")]
    PostTestTrafficShift,
    /// Before production traffic moves.
    #[serde(rename = "PRE_PRODUCTION_TRAFFIC_SHIFT")]
    PreProductionTrafficShift,
    /// While production traffic moves.
    #[serde(rename = "PRODUCTION_TRAFFIC_SHIFT")]
    ProductionTrafficShift,
    /// After production traffic has moved.
    #[serde(rename = "POST_PRODUCTION_TRAFFIC_SHIFT")]
    PostProductionTrafficShift,
}

/// Free-form data handed to a hook. The object keeps it; this type does not read it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(extend("x-kubernetes-preserve-unknown-fields" = true))]
pub struct HookDetails {}

/// What follows when a hook does not answer in time.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
pub enum DeploymentLifecycleHookAction {
    /// The deployment goes back.
    #[serde(rename = "ROLLBACK")]
    Rollback,
    /// The deployment goes on.
    #[serde(rename = "CONTINUE")]
    Continue,
}

/// How long a hook may take.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DeploymentLifecycleHookTimeoutConfiguration {
    /// Minutes before the action is taken.
    #[serde(
        default,
        deserialize_with = "crate::numbers::whole_or_none",
        skip_serializing_if = "Option::is_none"
    )]
    #[schemars(range(min = 1, max = 20160))]
    pub timeout_in_minutes: Option<i32>,
    /// What follows then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub action: Option<DeploymentLifecycleHookAction>,
}

/// Something that is asked at stages of a deployment.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DeploymentLifecycleHook {
    /// What is called. Default AWS_LAMBDA.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target_type: Option<DeploymentLifecycleHookTargetType>,
    /// ARN of what is called.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 2048))]
    pub hook_target_arn: Option<String>,
    /// ARN of the role that may call it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 2048))]
    pub role_arn: Option<String>,
    /// Stages at which it is called.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    pub lifecycle_stages: Vec<DeploymentLifecycleHookStage>,
    /// Data handed over with each call.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hook_details: Option<HookDetails>,
    /// How long it may take.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_configuration: Option<DeploymentLifecycleHookTimeoutConfiguration>,
}

/// Steps of a linear deployment.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LinearConfiguration {
    /// Part of the traffic that moves in a step, in percent, 3.0 to 100.0. Default 10.0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 3.0, max = 100.0))]
    pub step_percent: Option<f64>,
    /// Minutes between steps, 0 to 1440. Default 6.
    #[serde(
        default,
        deserialize_with = "crate::numbers::whole_or_none",
        skip_serializing_if = "Option::is_none"
    )]
    #[schemars(range(min = 0, max = 1440))]
    pub step_bake_time_in_minutes: Option<i32>,
}

/// First part of a canary deployment.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CanaryConfiguration {
    /// Part of the traffic that moves first, in percent, 0.1 to 100.0. Default 5.0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0.1, max = 100.0))]
    pub canary_percent: Option<f64>,
    /// Minutes before the rest follows, 0 to 1440. Default 10.
    #[serde(
        default,
        deserialize_with = "crate::numbers::whole_or_none",
        skip_serializing_if = "Option::is_none"
    )]
    #[schemars(range(min = 0, max = 1440))]
    pub canary_bake_time_in_minutes: Option<i32>,
}

/// When the old revision's tasks go.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
pub enum ServiceRevisionCleanup {
    /// Before the deployment ends.
    #[serde(rename = "BLOCKING")]
    Blocking,
    /// After the deployment ended.
    #[serde(rename = "DEFERRED")]
    Deferred,
}

/// When a deployment counts as done before every task is replaced.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DeploymentEarlySuccessCriteria {
    /// True: the criteria are used.
    pub enable: bool,
    /// Part of the desired count, in percent, rounded up, that must be healthy: `minimumHealthyPercent` to 100. Required
    /// with `enable: true`.
    #[serde(
        default,
        deserialize_with = "crate::numbers::whole_or_none",
        skip_serializing_if = "Option::is_none"
    )]
    #[schemars(range(min = 0, max = 100))]
    pub healthy_percent: Option<i32>,
    /// Whether the deployment waits for the old revision's tasks to go. Required with `enable: true`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source_service_revision_cleanup: Option<ServiceRevisionCleanup>,
}

/// How a service replaces its tasks (ECS `DeploymentConfiguration`).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = rules::on("DeploymentConfiguration")))]
pub struct DeploymentConfiguration {
    /// Gives up after too many failed tasks. Off when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deployment_circuit_breaker: Option<DeploymentCircuitBreaker>,
    /// Most tasks at once during a rollout, in percent of the desired count, rounded down. Default
    /// 200; for DAEMON 100.
    #[serde(
        default,
        deserialize_with = "crate::numbers::whole_or_none",
        skip_serializing_if = "Option::is_none"
    )]
    #[schemars(range(min = 0, max = 1000))]
    pub maximum_percent: Option<i32>,
    /// Fewest healthy tasks during a rollout, in percent of the desired count, rounded up. Default
    /// 100; for DAEMON 0.
    #[serde(
        default,
        deserialize_with = "crate::numbers::whole_or_none",
        skip_serializing_if = "Option::is_none"
    )]
    #[schemars(range(min = 0, max = 200))]
    pub minimum_healthy_percent: Option<i32>,
    /// Alarms that end the deployment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alarms: Option<DeploymentAlarms>,
    /// How traffic moves. Default ROLLING.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub strategy: Option<DeploymentStrategy>,
    /// Minutes for which a deployment is watched once its last old task has gone, or so many are healthy as
    /// `earlySuccessCriteria` asks for, before it counts as completed: 0 to 1440. Default 0.
    #[serde(
        default,
        deserialize_with = "crate::numbers::whole_or_none",
        skip_serializing_if = "Option::is_none"
    )]
    #[schemars(range(min = 0, max = 1440))]
    pub bake_time_in_minutes: Option<i32>,
    /// What is asked at stages of the deployment.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 20))]
    pub lifecycle_hooks: Vec<DeploymentLifecycleHook>,
    /// Steps, with strategy LINEAR.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub linear_configuration: Option<LinearConfiguration>,
    /// First part, with strategy CANARY.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub canary_configuration: Option<CanaryConfiguration>,
    /// When the deployment counts as completed before its last task is replaced. Off when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub early_success_criteria: Option<DeploymentEarlySuccessCriteria>,
    /// Minutes after which a deployment that has not completed is given up, 1 to 20160. Never when absent. Not a field of
    /// ECS.
    #[serde(
        default,
        deserialize_with = "crate::numbers::whole_or_none",
        skip_serializing_if = "Option::is_none"
    )]
    #[schemars(range(min = 1, max = 20160))]
    pub timeout_in_minutes: Option<i32>,
}

/// Who runs deployments.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
pub enum DeploymentControllerType {
    /// The scheduler itself, the default.
    #[serde(rename = "ECS")]
    Ecs,
    /// CodeDeploy.
    #[serde(rename = "CODE_DEPLOY")]
    CodeDeploy,
    /// Somebody else, through task sets.
    #[serde(rename = "EXTERNAL")]
    External,
}

/// Who runs the service's deployments.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DeploymentController {
    /// Who runs them.
    pub r#type: DeploymentControllerType,
}
