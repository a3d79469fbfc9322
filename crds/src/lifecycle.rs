//! States of a task, and who may move it from one to the next.
//!
//! The table is the single statement of design rule "`lastStatus` has a rank and never goes back; STOPPED absorbs".
//! The CRD enforces the rank on the server, the admission policy enforces the actor, and this code says the same.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What somebody wants of a task. Moves once, from RUNNING to STOPPED.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    JsonSchema,
)]
pub enum DesiredStatus {
    /// The task is to run.
    #[default]
    #[serde(rename = "RUNNING")]
    Running,
    /// The task is to stop, or has stopped.
    #[serde(rename = "STOPPED")]
    Stopped,
}

/// Where a task is in its life, in order of rank (ECS task life cycle).
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    JsonSchema,
)]
pub enum LastStatus {
    /// Waiting for something of the control plane before launch.
    #[serde(rename = "PROVISIONING")]
    Provisioning,
    /// Waiting on the host's agent: pull, create, dependencies.
    #[default]
    #[serde(rename = "PENDING")]
    Pending,
    /// Work after launch and before RUNNING.
    #[serde(rename = "ACTIVATING")]
    Activating,
    /// All containers that must run are running.
    #[serde(rename = "RUNNING")]
    Running,
    /// Work before the stop, such as leaving a target group.
    #[serde(rename = "DEACTIVATING")]
    Deactivating,
    /// Between SIGTERM and the end of the last container.
    #[serde(rename = "STOPPING")]
    Stopping,
    /// Work after the stop.
    #[serde(rename = "DEPROVISIONING")]
    Deprovisioning,
    /// The end. Nothing follows.
    #[serde(rename = "STOPPED")]
    Stopped,
}

impl LastStatus {
    /// True when a task may move from `self` to `next`: never back, and nothing follows STOPPED.
    pub fn may_become(self, next: LastStatus) -> bool {
        self == next || (self != LastStatus::Stopped && next > self)
    }

    /// ECS spelling.
    pub fn as_str(self) -> &'static str {
        match self {
            LastStatus::Provisioning => "PROVISIONING",
            LastStatus::Pending => "PENDING",
            LastStatus::Activating => "ACTIVATING",
            LastStatus::Running => "RUNNING",
            LastStatus::Deactivating => "DEACTIVATING",
            LastStatus::Stopping => "STOPPING",
            LastStatus::Deprovisioning => "DEPROVISIONING",
            LastStatus::Stopped => "STOPPED",
        }
    }
}

/// Health of a container or task by its health checks.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    JsonSchema,
)]
pub enum HealthStatus {
    /// Every essential container with a health check passes it.
    #[serde(rename = "HEALTHY")]
    Healthy,
    /// An essential container fails its health check.
    #[serde(rename = "UNHEALTHY")]
    Unhealthy,
    /// No health check, or none has finished yet.
    #[default]
    #[serde(rename = "UNKNOWN")]
    Unknown,
}

/// Whether the agent of a task's host is heard of (ECS `connectivity`).
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
pub enum Connectivity {
    /// The agent renews its Lease.
    #[serde(rename = "CONNECTED")]
    Connected,
    /// It does not. The task may run on, and its status is as the agent told it last.
    #[serde(rename = "DISCONNECTED")]
    Disconnected,
}

/// Why a task stopped (ECS `stopCode`).
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
pub enum StopCode {
    /// It stopped before it ever ran.
    TaskFailedToStart,
    /// An essential container ended.
    EssentialContainerExited,
    /// A user stopped it.
    UserInitiated,
    /// The service scheduler stopped it: scale-in, deployment, health.
    ServiceSchedulerInitiated,
    /// A spot host was reclaimed.
    SpotInterruption,
    /// The host gave notice of its end.
    TerminationNotice,
    /// The host failed.
    InfrastructureHealth,
}

/// Who writes a task's status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Actor {
    /// The agent of the host that the task is placed on.
    Agent,
    /// The operator, for a task no agent accepted or whose host was declared lost.
    Operator,
}

/// True when `actor` may move a task from `from` to `to`.
///
/// `accepted`: an agent has taken the task on. `host_lost`: its host was declared lost.
pub fn may_write(
    actor: Actor,
    from: LastStatus,
    to: LastStatus,
    accepted: bool,
    host_lost: bool,
) -> bool {
    let forward = from.may_become(to);
    match actor {
        Actor::Agent => forward,
        Actor::Operator => forward && (!accepted || (host_lost && to == LastStatus::Stopped)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [LastStatus; 8] = [
        LastStatus::Provisioning,
        LastStatus::Pending,
        LastStatus::Activating,
        LastStatus::Running,
        LastStatus::Deactivating,
        LastStatus::Stopping,
        LastStatus::Deprovisioning,
        LastStatus::Stopped,
    ];

    #[test]
    fn a_status_never_goes_back() {
        for (rank, from) in ALL.into_iter().enumerate() {
            for (next, to) in ALL.into_iter().enumerate() {
                assert_eq!(from.may_become(to), next >= rank, "{from:?} -> {to:?}");
            }
        }
    }

    #[test]
    fn stopped_absorbs() {
        for to in ALL {
            assert_eq!(
                LastStatus::Stopped.may_become(to),
                to == LastStatus::Stopped,
                "{to:?}"
            );
        }
    }

    #[test]
    fn what_follows_what_follows_follows() {
        for a in ALL {
            for b in ALL {
                for c in ALL {
                    assert!(
                        !(a.may_become(b) && b.may_become(c)) || a.may_become(c),
                        "{a:?} {b:?} {c:?}"
                    );
                }
            }
        }
    }

    #[test]
    fn statuses_are_spelled_as_they_are_written() {
        for status in ALL {
            assert_eq!(
                serde_json::to_value(status).expect("plain data"),
                status.as_str()
            );
        }
    }

    #[test]
    fn the_server_ranks_statuses_as_this_table_does() {
        let rule = crate::rules::all()
            .into_iter()
            .find(|rule| rule.id == "task-last-status")
            .expect("the rule exists");
        for (rank, status) in ALL.into_iter().enumerate() {
            let entry = format!("'{}': {rank}", status.as_str());
            assert!(
                rule.expression.contains(&entry),
                "{entry} is not in: {}",
                rule.expression
            );
        }
    }

    #[test]
    fn the_agent_writes_forward_and_the_operator_only_where_no_agent_will() {
        for from in ALL {
            for to in ALL {
                let forward = from.may_become(to);
                for (accepted, lost) in [(false, false), (false, true), (true, false), (true, true)]
                {
                    assert_eq!(may_write(Actor::Agent, from, to, accepted, lost), forward);
                    let operator = forward && (!accepted || (lost && to == LastStatus::Stopped));
                    assert_eq!(
                        may_write(Actor::Operator, from, to, accepted, lost),
                        operator
                    );
                }
            }
        }
    }
}
