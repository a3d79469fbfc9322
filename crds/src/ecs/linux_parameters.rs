//! What a container gets from the Linux kernel: capabilities, devices, memory settings, limits.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Kernel capabilities beside the engine's default set, such as `SYS_PTRACE`, or `ALL`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct KernelCapabilities {
    /// Capabilities to give.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 50), inner(length(min = 1, max = 64)))]
    pub add: Vec<String>,
    /// Capabilities to take away.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 50), inner(length(min = 1, max = 64)))]
    pub drop: Vec<String>,
}

/// What a container may do with a device.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
pub enum DeviceCgroupPermission {
    /// Read from it.
    #[serde(rename = "read")]
    Read,
    /// Write to it.
    #[serde(rename = "write")]
    Write,
    /// Make device files for it.
    #[serde(rename = "mknod")]
    Mknod,
}

/// A device of the host.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Device {
    /// Path on the host.
    #[schemars(length(min = 1, max = 4096))]
    pub host_path: String,
    /// Path in the container; as on the host when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 4096))]
    pub container_path: Option<String>,
    /// What is allowed; all three when empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 3))]
    pub permissions: Vec<DeviceCgroupPermission>,
}

/// A file system in memory.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Tmpfs {
    /// Where it is mounted.
    #[schemars(length(min = 1, max = 4096))]
    pub container_path: String,
    /// Largest size in MiB.
    #[schemars(range(min = 0, max = i32::MAX))]
    #[serde(deserialize_with = "crate::numbers::whole")]
    pub size: i32,
    /// Mount options, such as `noexec`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 50), inner(length(max = 255)))]
    pub mount_options: Vec<String>,
}

/// Settings of the Linux kernel for one container (ECS `LinuxParameters`).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LinuxParameters {
    /// Kernel capabilities to add and to drop.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capabilities: Option<KernelCapabilities>,
    /// Devices of the host that the container sees.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 100))]
    pub devices: Vec<Device>,
    /// True: a small init process forwards signals and reaps processes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub init_process_enabled: Option<bool>,
    /// Size of `/dev/shm` in MiB.
    #[serde(
        default,
        deserialize_with = "crate::numbers::whole_or_none",
        skip_serializing_if = "Option::is_none"
    )]
    #[schemars(range(min = 0, max = i32::MAX))]
    pub shared_memory_size: Option<i32>,
    /// File systems in memory.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 50))]
    pub tmpfs: Vec<Tmpfs>,
    /// Swap in MiB that the container may use; 0 means none. The host's own rule when absent.
    #[serde(
        default,
        deserialize_with = "crate::numbers::whole_or_none",
        skip_serializing_if = "Option::is_none"
    )]
    #[schemars(range(min = 0, max = i32::MAX))]
    pub max_swap: Option<i32>,
    /// How eagerly memory is swapped, 0 (only when it must be) to 100. 60 when absent; without
    /// effect unless `maxSwap` is given.
    #[serde(
        default,
        deserialize_with = "crate::numbers::whole_or_none",
        skip_serializing_if = "Option::is_none"
    )]
    #[schemars(range(min = 0, max = 100))]
    pub swappiness: Option<i32>,
}

/// Resource limits by the kernel's own names (`man setrlimit`).
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
pub enum UlimitName {
    /// Size of a core file.
    #[serde(rename = "core")]
    Core,
    /// CPU time.
    #[serde(rename = "cpu")]
    Cpu,
    /// Size of the data segment.
    #[serde(rename = "data")]
    Data,
    /// Size of a written file.
    #[serde(rename = "fsize")]
    Fsize,
    /// File locks.
    #[serde(rename = "locks")]
    Locks,
    /// Memory locked in RAM.
    #[serde(rename = "memlock")]
    Memlock,
    /// Bytes in POSIX message queues.
    #[serde(rename = "msgqueue")]
    Msgqueue,
    /// Highest nice value.
    #[serde(rename = "nice")]
    Nice,
    /// Open files.
    #[serde(rename = "nofile")]
    Nofile,
    /// Processes.
    #[serde(rename = "nproc")]
    Nproc,
    /// Resident set size.
    #[serde(rename = "rss")]
    Rss,
    /// Real-time priority.
    #[serde(rename = "rtprio")]
    Rtprio,
    /// Real-time CPU time without a blocking call.
    #[serde(rename = "rttime")]
    Rttime,
    /// Queued signals.
    #[serde(rename = "sigpending")]
    Sigpending,
    /// Size of the stack.
    #[serde(rename = "stack")]
    Stack,
}

/// One resource limit.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Ulimit {
    /// Which limit.
    pub name: UlimitName,
    /// Limit in force; -1 means none.
    #[schemars(range(min = -1, max = i32::MAX))]
    #[serde(deserialize_with = "crate::numbers::whole")]
    pub soft_limit: i32,
    /// Up to where a process may raise the soft limit; -1 means none.
    #[schemars(range(min = -1, max = i32::MAX))]
    #[serde(deserialize_with = "crate::numbers::whole")]
    pub hard_limit: i32,
}
