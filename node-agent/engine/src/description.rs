//! What an engine says about itself and its host.

use serde::{Deserialize, Serialize};

/// What an engine says about itself and the host it runs on, in the engine's own spelling.
///
/// The agent derives the ContainerInstance's registered resources and attributes from it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EngineDescription {
    /// Which kind of engine: `docker`.
    pub name: String,
    /// The engine's version, e.g. `20.10.24+dfsg1`.
    pub version: String,
    /// The newest API version that the engine speaks, e.g. `1.41`.
    pub api_version: String,
    /// Logical processors of the host. ECS CPU units are 1024 times this.
    pub cpus: i64,
    /// Memory of the host in MiB, rounded down.
    pub memory_mib: i64,
    /// For people, e.g. `Debian GNU/Linux 12 (bookworm)`.
    pub operating_system: String,
    /// `linux` or `windows` (attribute `ecs.os-type`).
    pub os_type: String,
    /// As the engine says it: `x86_64`, `aarch64`.
    pub architecture: String,
    /// Kernel release.
    pub kernel: String,
    /// `1` or `2`; empty when the engine does not say.
    pub cgroup_version: String,
    /// Who makes control groups: `cgroupfs` is the engine itself, `systemd` the service manager; empty when the
    /// engine does not say.
    #[serde(default)]
    pub cgroup_driver: String,
    /// E.g. `overlay2`, `overlayfs`.
    pub storage_driver: String,
    /// Folder of the host that the engine keeps images and containers in; empty when the engine does not say.
    #[serde(default)]
    pub data_root: String,
    /// The engine's identity. Not unique: cloned hosts and engines on one machine may share it.
    pub engine_id: String,
    /// Log drivers that the engine offers, sorted.
    pub logging_drivers: Vec<String>,
    /// Volume drivers that the engine offers, sorted.
    #[serde(default)]
    pub volume_drivers: Vec<String>,
    /// Whether containers outlive a restart of the engine.
    pub live_restore: bool,
}
