//! Devices beside CPU and memory, and storage.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::rules;

/// Kind of device.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
pub enum ResourceType {
    /// GPUs, whole or a part of one.
    #[serde(rename = "GPU")]
    Gpu,
    /// An accelerator named in the task definition.
    #[serde(rename = "InferenceAccelerator")]
    InferenceAccelerator,
    /// Neuron devices.
    #[serde(rename = "NeuronDevice")]
    NeuronDevice,
}

/// A part of one GPU, shared through NVIDIA MPS. The containers of a task have theirs of the same GPU.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NvidiaMpsAllocation {
    /// GPU memory in MiB, of one GPU. It is reserved, and MPS lets the container have no more.
    #[schemars(range(min = 1, max = i32::MAX))]
    #[serde(deserialize_with = "crate::numbers::whole")]
    pub memory: i32,
    /// Largest part of the GPU's compute in percent: a limit, which reserves nothing. Default: what MPS of the host has, 100.
    #[serde(
        default,
        deserialize_with = "crate::numbers::whole_or_none",
        skip_serializing_if = "Option::is_none"
    )]
    #[schemars(range(min = 1, max = 100))]
    pub max_compute_percent: Option<i32>,
}

/// How a device is shared.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = rules::on("SharingStrategy")))]
pub struct SharingStrategy {
    /// Sharing through NVIDIA MPS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nvidia_mps: Option<NvidiaMpsAllocation>,
}

/// A device that a container needs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = rules::on("ResourceRequirement")))]
pub struct ResourceRequirement {
    /// How many GPUs, a whole number from 1, or the name of the accelerator. Absent with `sharingStrategy`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 255))]
    pub value: Option<String>,
    /// Kind of device.
    pub r#type: ResourceType,
    /// How a GPU is shared; not shared when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sharing_strategy: Option<SharingStrategy>,
}

/// An accelerator of the task.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct InferenceAccelerator {
    /// Name that containers refer to.
    #[schemars(length(min = 1, max = 255))]
    pub device_name: String,
    /// Type of the accelerator.
    #[schemars(length(min = 1, max = 255))]
    pub device_type: String,
}

/// Scratch disk of the task.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct EphemeralStorage {
    /// Size in GiB, 20 to 200.
    #[schemars(range(min = 20, max = 200))]
    #[serde(deserialize_with = "crate::numbers::whole")]
    pub size_in_gi_b: i32,
}
