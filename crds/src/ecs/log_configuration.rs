//! Where a container's output goes.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::container_definition::Secret;

/// How output leaves the host.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
pub enum LogDriver {
    /// Files on the host.
    #[serde(rename = "json-file")]
    JsonFile,
    /// Files on the host in the engine's own compact form. Not in ECS' list; engines have it.
    #[serde(rename = "local")]
    Local,
    /// Nowhere. Not in ECS' list; its agent has it.
    #[serde(rename = "none")]
    None,
    /// syslog.
    #[serde(rename = "syslog")]
    Syslog,
    /// The systemd journal.
    #[serde(rename = "journald")]
    Journald,
    /// Graylog.
    #[serde(rename = "gelf")]
    Gelf,
    /// Fluentd.
    #[serde(rename = "fluentd")]
    Fluentd,
    /// CloudWatch Logs.
    #[serde(rename = "awslogs")]
    Awslogs,
    /// Splunk.
    #[serde(rename = "splunk")]
    Splunk,
    /// The task's own log router container.
    #[serde(rename = "awsfirelens")]
    Awsfirelens,
}

impl LogDriver {
    /// The driver as ECS and engines spell it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::JsonFile => "json-file",
            Self::Local => "local",
            Self::None => "none",
            Self::Syslog => "syslog",
            Self::Journald => "journald",
            Self::Gelf => "gelf",
            Self::Fluentd => "fluentd",
            Self::Awslogs => "awslogs",
            Self::Splunk => "splunk",
            Self::Awsfirelens => "awsfirelens",
        }
    }
}

/// Log driver and its options (ECS `LogConfiguration`).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LogConfiguration {
    /// Log driver.
    pub log_driver: LogDriver,
    /// Options of the driver, such as `max-size`. Of `awsfirelens`: of the output plugin of the task's log router.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 100, "additionalProperties" = serde_json::json!({"type": "string", "maxLength": 4096})))]
    pub options: BTreeMap<String, String>,
    /// Options whose values come from a secret store.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 100))]
    pub secret_options: Vec<Secret>,
}

/// Which log router.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
pub enum FirelensConfigurationType {
    /// Fluentd.
    #[serde(rename = "fluentd")]
    Fluentd,
    /// Fluent Bit.
    #[serde(rename = "fluentbit")]
    Fluentbit,
}

impl FirelensConfigurationType {
    /// The type as ECS spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Fluentd => "fluentd",
            Self::Fluentbit => "fluentbit",
        }
    }
}

/// Makes a container the task's log router.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FirelensConfiguration {
    /// Which router it runs.
    pub r#type: FirelensConfigurationType,
    /// Router options: `enable-ecs-log-metadata`, and `config-file-type` with `config-file-value`: `file` and a path inside
    /// the router's container, or `s3` and an ARN, which names a key of a ConfigMap as in `environmentFiles`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 100, "additionalProperties" = serde_json::json!({"type": "string", "maxLength": 4096})))]
    pub options: BTreeMap<String, String>,
}
