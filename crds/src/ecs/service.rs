//! What a service says beside its task definition and its rollout.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Whether tasks are moved when zones are uneven.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
pub enum AvailabilityZoneRebalancing {
    /// They are.
    #[serde(rename = "ENABLED")]
    Enabled,
    /// They stay.
    #[serde(rename = "DISABLED")]
    Disabled,
}

/// Listener rules and target groups for blue/green, linear and canary deployments.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AdvancedConfiguration {
    /// ARN of the target group for the new revision.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 2048))]
    pub alternate_target_group_arn: Option<String>,
    /// ARN of the listener rule for production traffic.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 2048))]
    pub production_listener_rule: Option<String>,
    /// ARN of the listener rule for test traffic.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 2048))]
    pub test_listener_rule: Option<String>,
    /// ARN of the role that changes the listener rules.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 2048))]
    pub role_arn: Option<String>,
}

/// A load balancer, and the container port behind it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LoadBalancer {
    /// ARN of a target group.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 2048))]
    pub target_group_arn: Option<String>,
    /// Name of a classic load balancer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 255))]
    pub load_balancer_name: Option<String>,
    /// Name of the container that takes the traffic.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 255))]
    pub container_name: Option<String>,
    /// Port of that container.
    #[serde(
        default,
        deserialize_with = "crate::numbers::whole_or_none",
        skip_serializing_if = "Option::is_none"
    )]
    #[schemars(range(min = 0, max = 65535))]
    pub container_port: Option<i32>,
    /// Settings for deployments that shift traffic.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub advanced_configuration: Option<AdvancedConfiguration>,
}

/// A service registry that tasks are entered in.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ServiceRegistry {
    /// ARN of the registry.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 2048))]
    pub registry_arn: Option<String>,
    /// Port for SRV records.
    #[serde(
        default,
        deserialize_with = "crate::numbers::whole_or_none",
        skip_serializing_if = "Option::is_none"
    )]
    #[schemars(range(min = 0, max = 65535))]
    pub port: Option<i32>,
    /// Container whose port is entered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 255))]
    pub container_name: Option<String>,
    /// Port of that container.
    #[serde(
        default,
        deserialize_with = "crate::numbers::whole_or_none",
        skip_serializing_if = "Option::is_none"
    )]
    #[schemars(range(min = 0, max = 65535))]
    pub container_port: Option<i32>,
}

/// What kind of capacity runs the task. Every host of this product is of your own; the value is
/// kept for ECS input.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
pub enum LaunchType {
    /// Container instances.
    #[serde(rename = "EC2")]
    Ec2,
    /// Fargate.
    #[serde(rename = "FARGATE")]
    Fargate,
    /// Container instances outside EC2.
    #[serde(rename = "EXTERNAL")]
    External,
    /// Instances that ECS manages.
    #[serde(rename = "MANAGED_INSTANCES")]
    ManagedInstances,
}

/// A capacity provider's part of the tasks.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CapacityProviderStrategyItem {
    /// Name of the capacity provider.
    #[schemars(length(min = 1, max = 255))]
    pub capacity_provider: String,
    /// Share among the providers, 0 to 1000. Default 0.
    #[serde(
        default,
        deserialize_with = "crate::numbers::whole_or_none",
        skip_serializing_if = "Option::is_none"
    )]
    #[schemars(range(min = 0, max = 1000))]
    pub weight: Option<i32>,
    /// Tasks that go to this provider first. Default 0.
    #[serde(
        default,
        deserialize_with = "crate::numbers::whole_or_none",
        skip_serializing_if = "Option::is_none"
    )]
    #[schemars(range(min = 0, max = 100000))]
    pub base: Option<i32>,
}

/// How many tasks a service runs.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
pub enum SchedulingStrategy {
    /// `desiredCount` tasks.
    #[serde(rename = "REPLICA")]
    Replica,
    /// One task on each host that meets the constraints.
    #[serde(rename = "DAEMON")]
    Daemon,
}

/// Whose tags new tasks get.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
pub enum PropagateTags {
    /// Those of the task definition.
    #[serde(rename = "TASK_DEFINITION")]
    TaskDefinition,
    /// Those of the service.
    #[serde(rename = "SERVICE")]
    Service,
    /// None.
    #[serde(rename = "NONE")]
    None,
}

/// Resolution of some metrics.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MetricConfiguration {
    /// Names of the metrics.
    #[schemars(length(min = 1, max = 20), inner(length(min = 1, max = 255)))]
    pub metric_names: Vec<String>,
    /// Seconds between two samples.
    #[schemars(range(min = 1, max = 3600))]
    #[serde(deserialize_with = "crate::numbers::whole")]
    pub resolution_seconds: i32,
}

/// Resolution of the service's metrics.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MonitoringConfiguration {
    /// Metrics by resolution; 60 seconds for those not named.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 20))]
    pub metric_configurations: Vec<MetricConfiguration>,
}
