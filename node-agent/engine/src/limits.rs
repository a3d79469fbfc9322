//! Limits that the containers of a task share.

use std::time::Duration;

/// A group of containers with limits of its own (a control group; ECS task `cpu` and `memory`). Containers are
/// put into it by [`crate::ContainerSpec::group`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// Path below the root of all control groups, such as `ecs/<host>/<task>`.
    pub name: String,
    /// Relative weight, 2 to 262144.
    pub cpu_shares: i64,
    /// Processor time of all containers together.
    pub cpu_quota: Option<CpuQuota>,
    /// Memory of all containers together, in bytes.
    pub memory_bytes: Option<i64>,
    /// Processes of all containers together.
    pub pids: Option<i64>,
}

/// So much processor time in each period; more than the period is more than one core.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CpuQuota {
    /// Processor time.
    pub quota: Duration,
    /// Of this much time.
    pub period: Duration,
}
