//! Volumes of a task and where containers see them.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::rules;

/// Where a container sees a volume.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MountPoint {
    /// Name of a volume of the task definition.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 255))]
    pub source_volume: Option<String>,
    /// Path in the container.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 4096))]
    pub container_path: Option<String>,
    /// True: the container cannot write to it. Default false.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub read_only: Option<bool>,
}

/// Mounts taken over from another container.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct VolumeFrom {
    /// Name of a container of the same task.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 255))]
    pub source_container: Option<String>,
    /// True: this container cannot write to them. Default false.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub read_only: Option<bool>,
}

/// A directory of the host.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HostVolumeProperties {
    /// Path on the host; made when missing, and it outlives the task. Absent: an anonymous volume
    /// that goes away with the task.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 4096))]
    pub source_path: Option<String>,
}

/// How long an engine volume lives.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
pub enum Scope {
    /// Made for one task and removed with it.
    #[serde(rename = "task")]
    Task,
    /// Outlives tasks; every task of the host that names it sees the same one.
    #[serde(rename = "shared")]
    Shared,
}

/// A volume of the engine.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DockerVolumeConfiguration {
    /// How long the volume lives. Default `task`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<Scope>,
    /// With scope `shared`: true makes the volume when it is missing, false fails the task.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub autoprovision: Option<bool>,
    /// Volume driver. Default `local`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 255))]
    pub driver: Option<String>,
    /// Options for the driver.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 100, "additionalProperties" = serde_json::json!({"type": "string", "maxLength": 4096})))]
    pub driver_opts: BTreeMap<String, String>,
    /// Labels of the volume in the engine.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 100, "additionalProperties" = serde_json::json!({"type": "string", "maxLength": 4096})))]
    pub labels: BTreeMap<String, String>,
}

/// Encryption between host and file system.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
pub enum EFSTransitEncryption {
    /// On.
    #[serde(rename = "ENABLED")]
    Enabled,
    /// Off, the default.
    #[serde(rename = "DISABLED")]
    Disabled,
}

/// Whether the task role is used for mounting.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
pub enum EFSAuthorizationConfigIAM {
    /// It is; needs transit encryption.
    #[serde(rename = "ENABLED")]
    Enabled,
    /// It is not, the default.
    #[serde(rename = "DISABLED")]
    Disabled,
}

/// Access to an EFS file system.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct EFSAuthorizationConfig {
    /// Access point. With it `rootDirectory` is absent or `/`, and transit encryption is on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 255))]
    pub access_point_id: Option<String>,
    /// Whether the task role is used for mounting.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub iam: Option<EFSAuthorizationConfigIAM>,
}

/// A file system in EFS.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = rules::on("EFSVolumeConfiguration")))]
pub struct EFSVolumeConfiguration {
    /// Identity of the file system.
    #[schemars(length(min = 1, max = 255))]
    pub file_system_id: String,
    /// Directory of the file system that is mounted. Default `/`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 4096))]
    pub root_directory: Option<String>,
    /// Encryption between host and file system. Default DISABLED.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub transit_encryption: Option<EFSTransitEncryption>,
    /// Local port of the encrypted connection; chosen when absent.
    #[serde(
        default,
        deserialize_with = "crate::numbers::whole_or_none",
        skip_serializing_if = "Option::is_none"
    )]
    #[schemars(range(min = 0, max = 65535))]
    pub transit_encryption_port: Option<i32>,
    /// Access point and role.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub authorization_config: Option<EFSAuthorizationConfig>,
}

/// A file system over S3.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct S3FilesVolumeConfiguration {
    /// ARN of the file system.
    #[schemars(length(min = 1, max = 2048))]
    pub file_system_arn: String,
    /// Directory of the file system that is mounted. Default `/`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 4096))]
    pub root_directory: Option<String>,
    /// Local port of the encrypted connection; chosen when absent.
    #[serde(
        default,
        deserialize_with = "crate::numbers::whole_or_none",
        skip_serializing_if = "Option::is_none"
    )]
    #[schemars(range(min = 0, max = 65535))]
    pub transit_encryption_port: Option<i32>,
    /// ARN of an access point.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 2048))]
    pub access_point_arn: Option<String>,
}

/// Access to an FSx for Windows file system.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FSxWindowsFileServerAuthorizationConfig {
    /// ARN of the secret with user name and password.
    #[schemars(length(min = 1, max = 2048))]
    pub credentials_parameter: String,
    /// Active Directory domain.
    #[schemars(length(min = 1, max = 255))]
    pub domain: String,
}

/// A file system in FSx for Windows.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FSxWindowsFileServerVolumeConfiguration {
    /// Identity of the file system.
    #[schemars(length(min = 1, max = 255))]
    pub file_system_id: String,
    /// Directory of the file system that is mounted.
    #[schemars(length(max = 4096))]
    pub root_directory: String,
    /// Credentials.
    pub authorization_config: FSxWindowsFileServerAuthorizationConfig,
}

/// A volume of the task, of exactly one kind; with a name alone, an anonymous volume of the host.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = rules::on("Volume")))]
pub struct Volume {
    /// Name that mount points refer to, up to 255 letters, digits, hyphens and underscores.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 255))]
    pub name: Option<String>,
    /// A directory of the host, or an anonymous volume when it has no `sourcePath`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<HostVolumeProperties>,
    /// A volume of the engine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub docker_volume_configuration: Option<DockerVolumeConfiguration>,
    /// A file system in EFS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub efs_volume_configuration: Option<EFSVolumeConfiguration>,
    /// A file system over S3.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub s3files_volume_configuration: Option<S3FilesVolumeConfiguration>,
    /// A file system in FSx for Windows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fsx_windows_file_server_volume_configuration:
        Option<FSxWindowsFileServerVolumeConfiguration>,
    /// True: the service or the run says what the volume is, in `volumeConfigurations`. At most one
    /// volume of a task.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub configured_at_launch: Option<bool>,
}
