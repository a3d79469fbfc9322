//! What a run may change about its task definition.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::container_definition::{EnvironmentFile, KeyValuePair};
use super::resource_requirement::{EphemeralStorage, ResourceRequirement};
use crate::{patterns, rules};

/// Changes to one container (ECS `ContainerOverride`).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = rules::on("ContainerOverride")))]
pub struct ContainerOverride {
    /// Name of the container in the task definition.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 255))]
    pub name: Option<String>,
    /// Replaces the command.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 500), inner(length(max = 8192)))]
    pub command: Vec<String>,
    /// Variables that are added, or replace those of the same name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 500))]
    pub environment: Vec<KeyValuePair>,
    /// Files of variables that are added.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 10))]
    pub environment_files: Vec<EnvironmentFile>,
    /// Replaces the CPU units.
    #[serde(
        default,
        deserialize_with = "crate::numbers::whole_or_none",
        skip_serializing_if = "Option::is_none"
    )]
    #[schemars(range(min = 0, max = 262144))]
    pub cpu: Option<i32>,
    /// Replaces the hard memory limit, in MiB.
    #[serde(
        default,
        deserialize_with = "crate::numbers::whole_or_none",
        skip_serializing_if = "Option::is_none"
    )]
    #[schemars(range(min = 4, max = i32::MAX))]
    pub memory: Option<i32>,
    /// Replaces the memory set aside, in MiB.
    #[serde(
        default,
        deserialize_with = "crate::numbers::whole_or_none",
        skip_serializing_if = "Option::is_none"
    )]
    #[schemars(range(min = 4, max = i32::MAX))]
    pub memory_reservation: Option<i32>,
    /// Replaces the devices.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 10))]
    pub resource_requirements: Vec<ResourceRequirement>,
}

/// Changes to one accelerator.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct InferenceAcceleratorOverride {
    /// Name of the accelerator in the task definition.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 255))]
    pub device_name: Option<String>,
    /// Replaces its type.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 255))]
    pub device_type: Option<String>,
}

/// Changes to a task definition for one run (ECS `TaskOverride`).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TaskOverride {
    /// Changes to containers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 10))]
    pub container_overrides: Vec<ContainerOverride>,
    /// Replaces the task's CPU: units (`512`) or `.5 vCPU`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32), regex(pattern = patterns::CPU))]
    pub cpu: Option<String>,
    /// Changes to accelerators.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 20))]
    pub inference_accelerator_overrides: Vec<InferenceAcceleratorOverride>,
    /// Replaces the execution role.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 2048))]
    pub execution_role_arn: Option<String>,
    /// Replaces the task's memory: MiB (`512`) or `0.5 GB`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32), regex(pattern = patterns::MEMORY))]
    pub memory: Option<String>,
    /// Replaces the task role.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 2048))]
    pub task_role_arn: Option<String>,
    /// Replaces the scratch disk.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ephemeral_storage: Option<EphemeralStorage>,
}
