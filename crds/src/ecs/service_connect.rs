//! Names and proxies between services (ECS Service Connect).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::log_configuration::LogConfiguration;

/// How a header's value is compared.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ServiceConnectTestTrafficHeaderMatchRules {
    /// Value that the header must have.
    #[schemars(length(min = 1, max = 1024))]
    pub exact: String,
}

/// A header that marks test traffic.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ServiceConnectTestTrafficHeaderRules {
    /// Name of the header.
    #[schemars(length(min = 1, max = 255))]
    pub name: String,
    /// How its value is compared; any value when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<ServiceConnectTestTrafficHeaderMatchRules>,
}

/// What marks test traffic.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ServiceConnectTestTrafficRules {
    /// A header.
    pub header: ServiceConnectTestTrafficHeaderRules,
}

/// Name and port by which clients reach the service.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ServiceConnectClientAlias {
    /// Port that clients connect to.
    #[schemars(range(min = 1, max = 65535))]
    #[serde(deserialize_with = "crate::numbers::whole")]
    pub port: i32,
    /// Name that clients use; made from discovery name and namespace when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 255))]
    pub dns_name: Option<String>,
    /// What marks test traffic during a deployment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub test_traffic_rules: Option<ServiceConnectTestTrafficRules>,
}

/// Timeouts of the proxy; 0 switches one off.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TimeoutConfiguration {
    /// Seconds without traffic after which a connection is closed.
    #[serde(
        default,
        deserialize_with = "crate::numbers::whole_or_none",
        skip_serializing_if = "Option::is_none"
    )]
    #[schemars(range(min = 0, max = 2592000))]
    pub idle_timeout_seconds: Option<i32>,
    /// Seconds an answer may take; for HTTP, HTTP/2 and gRPC.
    #[serde(
        default,
        deserialize_with = "crate::numbers::whole_or_none",
        skip_serializing_if = "Option::is_none"
    )]
    #[schemars(range(min = 0, max = 2592000))]
    pub per_request_timeout_seconds: Option<i32>,
}

/// Who signs the proxy's certificates.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ServiceConnectTlsCertificateAuthority {
    /// ARN of a private certificate authority.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 2048))]
    pub aws_pca_authority_arn: Option<String>,
}

/// Encryption between proxies.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ServiceConnectTlsConfiguration {
    /// Who signs the certificates.
    pub issuer_certificate_authority: ServiceConnectTlsCertificateAuthority,
    /// Key that protects the private keys.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 2048))]
    pub kms_key: Option<String>,
    /// ARN of the role that fetches certificates.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 2048))]
    pub role_arn: Option<String>,
}

/// One port of the service that others reach by name.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ServiceConnectService {
    /// Name of a port mapping of the task definition.
    #[schemars(length(min = 1, max = 64))]
    pub port_name: String,
    /// Name in the namespace; the port's name when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub discovery_name: Option<String>,
    /// Names and ports for clients.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 10))]
    pub client_aliases: Vec<ServiceConnectClientAlias>,
    /// Port that the proxy listens on.
    #[serde(
        default,
        deserialize_with = "crate::numbers::whole_or_none",
        skip_serializing_if = "Option::is_none"
    )]
    #[schemars(range(min = 0, max = 65535))]
    pub ingress_port_override: Option<i32>,
    /// Timeouts of the proxy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<TimeoutConfiguration>,
    /// Encryption between proxies.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<ServiceConnectTlsConfiguration>,
}

/// Format of access logs.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
pub enum ServiceConnectAccessLoggingFormat {
    /// Lines of text.
    #[serde(rename = "TEXT")]
    Text,
    /// JSON.
    #[serde(rename = "JSON")]
    Json,
}

/// Whether access logs hold query parameters.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
pub enum ServiceConnectIncludeQueryParameters {
    /// They do not.
    #[serde(rename = "DISABLED")]
    Disabled,
    /// They do.
    #[serde(rename = "ENABLED")]
    Enabled,
}

/// Access logs of the proxy.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ServiceConnectAccessLogConfiguration {
    /// Format of a line.
    pub format: ServiceConnectAccessLoggingFormat,
    /// Whether query parameters are logged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub include_query_parameters: Option<ServiceConnectIncludeQueryParameters>,
}

/// How much the proxy logs.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
pub enum ServiceConnectContainerLogLevel {
    /// Much.
    #[serde(rename = "debug")]
    Debug,
    /// The usual.
    #[serde(rename = "info")]
    Info,
}

/// Settings of the proxy container.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ServiceConnectContainerConfiguration {
    /// How much it logs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log_level: Option<ServiceConnectContainerLogLevel>,
}

/// Names and proxies for the service's ports (ECS `ServiceConnectConfiguration`).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ServiceConnectConfiguration {
    /// True: the service takes part.
    pub enabled: bool,
    /// Namespace of the names; the cluster's own when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub namespace: Option<String>,
    /// Ports that others reach by name; none for a client only.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 20))]
    pub services: Vec<ServiceConnectService>,
    /// Where the proxy's output goes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log_configuration: Option<LogConfiguration>,
    /// Access logs of the proxy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub access_log_configuration: Option<ServiceConnectAccessLogConfiguration>,
    /// Settings of the proxy container.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 10))]
    pub container_configurations: Vec<ServiceConnectContainerConfiguration>,
}
