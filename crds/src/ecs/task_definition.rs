//! What a task definition says about the task as a whole.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::container_definition::KeyValuePair;

/// How the task's containers reach the network.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
pub enum NetworkMode {
    /// The engine's bridge with published ports; what an absent mode means.
    #[serde(rename = "bridge")]
    Bridge,
    /// The host's own network.
    #[serde(rename = "host")]
    Host,
    /// An address of its own for the task, shared by its containers.
    #[serde(rename = "awsvpc")]
    Awsvpc,
    /// Loopback only.
    #[serde(rename = "none")]
    None,
}

/// Launch type that a task definition must be valid for.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
pub enum Compatibility {
    /// Container instances in EC2.
    #[serde(rename = "EC2")]
    Ec2,
    /// Fargate.
    #[serde(rename = "FARGATE")]
    Fargate,
    /// Container instances elsewhere.
    #[serde(rename = "EXTERNAL")]
    External,
    /// Instances that ECS manages.
    #[serde(rename = "MANAGED_INSTANCES")]
    ManagedInstances,
}

/// A label of ECS.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Tag {
    /// Key, up to 128 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128))]
    pub key: Option<String>,
    /// Value, up to 256 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    pub value: Option<String>,
}

/// Whose processes the containers see.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
pub enum PidMode {
    /// Those of the host.
    #[serde(rename = "host")]
    Host,
    /// Those of all containers of the task.
    #[serde(rename = "task")]
    Task,
}

/// Whose shared memory and semaphores the containers see.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
pub enum IpcMode {
    /// Those of the host.
    #[serde(rename = "host")]
    Host,
    /// Those of all containers of the task.
    #[serde(rename = "task")]
    Task,
    /// Each container its own.
    #[serde(rename = "none")]
    None,
}

/// Kind of proxy.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
pub enum ProxyConfigurationType {
    /// App Mesh.
    #[serde(rename = "APPMESH")]
    Appmesh,
}

/// A container through which the task's traffic goes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ProxyConfiguration {
    /// Kind of proxy. Default APPMESH.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub r#type: Option<ProxyConfigurationType>,
    /// Name of the container that is the proxy.
    #[schemars(length(min = 1, max = 255))]
    pub container_name: String,
    /// Settings of the redirection, such as `IgnoredUID` and `ProxyEgressPort`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 50))]
    pub properties: Vec<KeyValuePair>,
}

/// Processor architecture.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
pub enum CPUArchitecture {
    /// 64-bit x86, the default.
    #[serde(rename = "X86_64")]
    X8664,
    /// 64-bit ARM.
    #[serde(rename = "ARM64")]
    Arm64,
}

/// Operating system of the host.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
pub enum OSFamily {
    /// Windows Server 2019, full.
    #[serde(rename = "WINDOWS_SERVER_2019_FULL")]
    WindowsServer2019Full,
    /// Windows Server 2019, core.
    #[serde(rename = "WINDOWS_SERVER_2019_CORE")]
    WindowsServer2019Core,
    /// Windows Server 2016, full.
    #[serde(rename = "WINDOWS_SERVER_2016_FULL")]
    WindowsServer2016Full,
    /// Windows Server 2004, core.
    #[serde(rename = "WINDOWS_SERVER_2004_CORE")]
    WindowsServer2004Core,
    /// Windows Server 2022, core.
    #[serde(rename = "WINDOWS_SERVER_2022_CORE")]
    WindowsServer2022Core,
    /// Windows Server 2022, full.
    #[serde(rename = "WINDOWS_SERVER_2022_FULL")]
    WindowsServer2022Full,
    /// Windows Server 2025, core.
    #[serde(rename = "WINDOWS_SERVER_2025_CORE")]
    WindowsServer2025Core,
    /// Windows Server 2025, full.
    #[serde(rename = "WINDOWS_SERVER_2025_FULL")]
    WindowsServer2025Full,
    /// Windows Server 20H2, core.
    #[serde(rename = "WINDOWS_SERVER_20H2_CORE")]
    WindowsServer20h2Core,
    /// Linux, the default.
    #[serde(rename = "LINUX")]
    Linux,
}

/// What a host must run for the task to be placed on it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RuntimePlatform {
    /// Processor architecture. Any when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_architecture: Option<CPUArchitecture>,
    /// Operating system. Linux when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operating_system_family: Option<OSFamily>,
}

/// How strongly a task is set apart from others.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
pub enum IsolationMode {
    /// As usual.
    #[serde(rename = "SHARED")]
    Shared,
    /// In a sandbox of its own.
    #[serde(rename = "ISOLATED_SANDBOX")]
    IsolatedSandbox,
    /// In a sandbox with encrypted memory.
    #[serde(rename = "CONFIDENTIAL_SANDBOX")]
    ConfidentialSandbox,
}

/// Attested isolation of a task.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TrustedExecutionConfiguration {
    /// How strongly the task is set apart.
    pub isolation_mode: IsolationMode,
    /// Policy that the attestation must meet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 2048))]
    pub attestation_policy: Option<String>,
}
