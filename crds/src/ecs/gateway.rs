//! Other ways for traffic to reach a service: VPC Lattice and gateway connectors.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Listener rules and target groups for deployments that shift traffic.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct VpcLatticeAdvancedConfiguration {
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
}

/// A VPC Lattice target group that tasks join.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct VpcLatticeConfiguration {
    /// ARN of the role that changes the target group.
    #[schemars(length(min = 1, max = 2048))]
    pub role_arn: String,
    /// ARN of the target group.
    #[schemars(length(min = 1, max = 2048))]
    pub target_group_arn: String,
    /// Name of a port mapping of the task definition.
    #[schemars(length(min = 1, max = 64))]
    pub port_name: String,
    /// Settings for deployments that shift traffic.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub advanced_configuration: Option<VpcLatticeAdvancedConfiguration>,
}

/// How a gateway asks for health.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
pub enum GatewayConnectorHealthCheckProtocol {
    /// HTTP.
    #[serde(rename = "HTTP")]
    Http,
    /// HTTPS.
    #[serde(rename = "HTTPS")]
    Https,
}

/// Which answers are healthy.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GatewayConnectorHealthCheckMatcher {
    /// HTTP status codes, such as `200-299`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 255))]
    pub http_code: Option<String>,
    /// gRPC status codes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 255))]
    pub grpc_code: Option<String>,
}

/// How a gateway tells whether a task is healthy.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GatewayConnectorHealthCheck {
    /// Protocol.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health_check_protocol: Option<GatewayConnectorHealthCheckProtocol>,
    /// Port.
    #[serde(
        default,
        deserialize_with = "crate::numbers::whole_or_none",
        skip_serializing_if = "Option::is_none"
    )]
    #[schemars(range(min = 0, max = 65535))]
    pub health_check_port: Option<i32>,
    /// Path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub health_check_path: Option<String>,
    /// Seconds an answer may take.
    #[serde(
        default,
        deserialize_with = "crate::numbers::whole_or_none",
        skip_serializing_if = "Option::is_none"
    )]
    #[schemars(range(min = 1, max = 3600))]
    pub health_check_timeout_seconds: Option<i32>,
    /// Seconds between two checks.
    #[serde(
        default,
        deserialize_with = "crate::numbers::whole_or_none",
        skip_serializing_if = "Option::is_none"
    )]
    #[schemars(range(min = 1, max = 3600))]
    pub health_check_interval_seconds: Option<i32>,
    /// Good answers in a row that make a task healthy.
    #[serde(
        default,
        deserialize_with = "crate::numbers::whole_or_none",
        skip_serializing_if = "Option::is_none"
    )]
    #[schemars(range(min = 1, max = 100))]
    pub healthy_threshold_count: Option<i32>,
    /// Bad answers in a row that make a task unhealthy.
    #[serde(
        default,
        deserialize_with = "crate::numbers::whole_or_none",
        skip_serializing_if = "Option::is_none"
    )]
    #[schemars(range(min = 1, max = 100))]
    pub unhealthy_threshold_count: Option<i32>,
    /// Which answers are good.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub matcher: Option<GatewayConnectorHealthCheckMatcher>,
}

/// From where a gateway is reached.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
pub enum AccessType {
    /// From everywhere.
    #[serde(rename = "PUBLIC")]
    Public,
    /// From inside.
    #[serde(rename = "PRIVATE")]
    Private,
}

/// Which gateways are joined.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GatewayConnectorFilters {
    /// From where they are reached.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 2))]
    pub access_types: Vec<AccessType>,
}

/// How long a leaving task still gets traffic.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GatewayConnectorDeregistrationDelay {
    /// Seconds.
    #[serde(
        default,
        deserialize_with = "crate::numbers::whole_or_none",
        skip_serializing_if = "Option::is_none"
    )]
    #[schemars(range(min = 0, max = 3600))]
    pub timeout_seconds: Option<i32>,
}

/// A gateway that tasks join.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GatewayConnector {
    /// Name of a port mapping of the task definition.
    #[schemars(length(min = 1, max = 64))]
    pub port_name: String,
    /// How it tells health.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health_check: Option<GatewayConnectorHealthCheck>,
    /// Which gateways are joined.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub filters: Option<GatewayConnectorFilters>,
    /// How long a leaving task still gets traffic.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deregistration_delay: Option<GatewayConnectorDeregistrationDelay>,
}
