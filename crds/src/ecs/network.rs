//! Networks that a task with network mode `awsvpc` joins.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Whether a task gets a public address.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
pub enum AssignPublicIp {
    /// It does.
    #[serde(rename = "ENABLED")]
    Enabled,
    /// It does not, the default.
    #[serde(rename = "DISABLED")]
    Disabled,
}

/// Subnets and security groups of a task with an address of its own.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AwsVpcConfiguration {
    /// Subnets, up to 16.
    #[schemars(length(max = 16), inner(length(min = 1, max = 255)))]
    pub subnets: Vec<String>,
    /// Security groups, up to 5.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 5), inner(length(min = 1, max = 255)))]
    pub security_groups: Vec<String>,
    /// Whether the task gets a public address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub assign_public_ip: Option<AssignPublicIp>,
}

/// Network of a task with network mode `awsvpc`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NetworkConfiguration {
    /// Subnets and security groups.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub awsvpc_configuration: Option<AwsVpcConfiguration>,
}
