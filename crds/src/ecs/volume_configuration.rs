//! Block storage that a service or a run brings for a volume with `configuredAtLaunch`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::service::PropagateTags;
use super::task_definition::Tag;

/// What is tagged.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
pub enum EBSResourceType {
    /// The volume.
    #[serde(rename = "volume")]
    Volume,
}

/// Tags of a made volume.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct EBSTagSpecification {
    /// What is tagged.
    pub resource_type: EBSResourceType,
    /// The tags.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 50))]
    pub tags: Vec<Tag>,
    /// Whose tags are copied.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub propagate_tags: Option<PropagateTags>,
}

/// File system of the volume.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
pub enum TaskFilesystemType {
    /// ext3.
    #[serde(rename = "ext3")]
    Ext3,
    /// ext4.
    #[serde(rename = "ext4")]
    Ext4,
    /// xfs.
    #[serde(rename = "xfs")]
    Xfs,
    /// NTFS.
    #[serde(rename = "ntfs")]
    Ntfs,
}

/// A block volume made for each task.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ServiceManagedEBSVolumeConfiguration {
    /// Whether the volume is encrypted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encrypted: Option<bool>,
    /// Key of the encryption.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 2048))]
    pub kms_key_id: Option<String>,
    /// Type of the volume, such as `gp3`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub volume_type: Option<String>,
    /// Size in GiB.
    #[serde(
        default,
        deserialize_with = "crate::numbers::whole_or_none",
        skip_serializing_if = "Option::is_none"
    )]
    #[schemars(range(min = 1, max = 65536))]
    pub size_in_gi_b: Option<i32>,
    /// Snapshot that the volume starts from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 255))]
    pub snapshot_id: Option<String>,
    /// MiB a second at which the snapshot is fetched.
    #[serde(
        default,
        deserialize_with = "crate::numbers::whole_or_none",
        skip_serializing_if = "Option::is_none"
    )]
    #[schemars(range(min = 1, max = 10000))]
    pub volume_initialization_rate: Option<i32>,
    /// Operations a second.
    #[serde(
        default,
        deserialize_with = "crate::numbers::whole_or_none",
        skip_serializing_if = "Option::is_none"
    )]
    #[schemars(range(min = 1, max = 1000000))]
    pub iops: Option<i32>,
    /// MiB a second.
    #[serde(
        default,
        deserialize_with = "crate::numbers::whole_or_none",
        skip_serializing_if = "Option::is_none"
    )]
    #[schemars(range(min = 1, max = 100000))]
    pub throughput: Option<i32>,
    /// Tags of the volume.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 10))]
    pub tag_specifications: Vec<EBSTagSpecification>,
    /// ARN of the role that makes the volume.
    #[schemars(length(min = 1, max = 2048))]
    pub role_arn: String,
    /// File system of the volume.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub filesystem_type: Option<TaskFilesystemType>,
}

/// What a volume with `configuredAtLaunch` is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ServiceVolumeConfiguration {
    /// Name of the volume in the task definition.
    #[schemars(length(min = 1, max = 255))]
    pub name: String,
    /// A block volume for each task.
    #[serde(
        rename = "managedEBSVolume",
        default,
        skip_serializing_if = "Option::is_none"
    )]
    pub managed_ebs_volume: Option<ServiceManagedEBSVolumeConfiguration>,
}

/// What happens to a block volume when its task ends.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TaskManagedEBSVolumeTerminationPolicy {
    /// True: the volume is deleted with the task.
    pub delete_on_termination: bool,
}

/// A block volume made for each task.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TaskManagedEBSVolumeConfiguration {
    /// Whether the volume is encrypted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encrypted: Option<bool>,
    /// Key of the encryption.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 2048))]
    pub kms_key_id: Option<String>,
    /// Type of the volume, such as `gp3`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub volume_type: Option<String>,
    /// Size in GiB.
    #[serde(
        default,
        deserialize_with = "crate::numbers::whole_or_none",
        skip_serializing_if = "Option::is_none"
    )]
    #[schemars(range(min = 1, max = 65536))]
    pub size_in_gi_b: Option<i32>,
    /// Snapshot that the volume starts from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 255))]
    pub snapshot_id: Option<String>,
    /// MiB a second at which the snapshot is fetched.
    #[serde(
        default,
        deserialize_with = "crate::numbers::whole_or_none",
        skip_serializing_if = "Option::is_none"
    )]
    #[schemars(range(min = 1, max = 10000))]
    pub volume_initialization_rate: Option<i32>,
    /// Operations a second.
    #[serde(
        default,
        deserialize_with = "crate::numbers::whole_or_none",
        skip_serializing_if = "Option::is_none"
    )]
    #[schemars(range(min = 1, max = 1000000))]
    pub iops: Option<i32>,
    /// MiB a second.
    #[serde(
        default,
        deserialize_with = "crate::numbers::whole_or_none",
        skip_serializing_if = "Option::is_none"
    )]
    #[schemars(range(min = 1, max = 100000))]
    pub throughput: Option<i32>,
    /// Tags of the volume.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 10))]
    pub tag_specifications: Vec<EBSTagSpecification>,
    /// ARN of the role that makes the volume.
    #[schemars(length(min = 1, max = 2048))]
    pub role_arn: String,
    /// What happens to the volume when the task ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub termination_policy: Option<TaskManagedEBSVolumeTerminationPolicy>,
    /// File system of the volume.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub filesystem_type: Option<TaskFilesystemType>,
}

/// What a volume with `configuredAtLaunch` is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TaskVolumeConfiguration {
    /// Name of the volume in the task definition.
    #[schemars(length(min = 1, max = 255))]
    pub name: String,
    /// A block volume for each task.
    #[serde(
        rename = "managedEBSVolume",
        default,
        skip_serializing_if = "Option::is_none"
    )]
    pub managed_ebs_volume: Option<TaskManagedEBSVolumeConfiguration>,
}
