//! Whether an exit is the end of a container (ECS `restartPolicy`, and the agent's `RestartTracker`).
//!
//! The same container is started again, in place, as ECS agents do. Whether it is follows from the engine's
//! facts about that one run, not from memory: when it began, when it ended, and with which code. So an
//! agent that dies between deciding, asking and hearing the answer comes to the same decision again, and
//! never starts what was not to be started. ECS measures until it notices the exit; a run is not longer for
//! an agent that was away, so here it is measured until the exit itself.

use tallyman_agent_engine::{ContainerState, Phase};

use crate::planned::PlannedContainer;

/// Whether the exit that `state` shows is to be followed by a start. No exit code or no times, no start.
pub(super) fn wanted(container: &PlannedContainer, state: &ContainerState) -> bool {
    let Some(policy) = &container.restart else {
        return false;
    };
    let Phase::Exited {
        exit_code,
        finished_at: Some(finished_at),
        ..
    } = state.phase
    else {
        return false;
    };
    let Some(started_at) = state.started_at else {
        return false;
    };
    let ignored = policy
        .ignored_exit_codes
        .iter()
        .any(|code| i64::from(*code) == exit_code);
    !ignored && finished_at.since(started_at) >= policy.attempt_period
}
