//! What the person who runs the operator may set.

use std::time::Duration;

use crate::quotas::Quotas;

/// Settings of the scheduler.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// How long a task without a container health check must have been RUNNING before it counts towards
    /// `minimumHealthyPercent`. ECS: 40 s (ECS DeploymentConfiguration).
    pub healthy_after: Duration,
    /// How long a STOPPED Task is kept. ECS: at least one hour.
    pub task_retention: Duration,
    /// A host whose Lease we have not seen change for this long has `agentConnected: false`.
    pub agent_grace: Duration,
    /// A host whose Lease we have not seen change for this long is lost: its service tasks are replaced.
    pub replace_after: Duration,
    /// No host is declared lost while at least this share of the cluster's hosts (percent) looks dead.
    pub brake_percent: u32,
    /// Limits of a cluster.
    pub quotas: Quotas,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            healthy_after: Duration::from_secs(40),
            task_retention: Duration::from_secs(3600),
            agent_grace: Duration::from_secs(50),
            replace_after: Duration::from_secs(300),
            brake_percent: 55,
            quotas: Quotas::default(),
        }
    }
}
