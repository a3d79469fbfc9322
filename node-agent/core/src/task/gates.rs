//! Which container has to wait for another one of its task (ECS agent dependency graph).
//!
//! On the way up a container's image is not pulled, it is not created and not started before each of its
//! edges is met. On the way down it is not stopped before every container that waits for it has stopped.
//! What answers is facts of record and sightings, so a new agent process comes to the same answer; that a
//! container exited, and how, is remembered even when somebody removed it since.

use jiff::Timestamp;
use tallyman_agent_engine::Verb;
use tallyman_crds::HealthStatus;
use tallyman_crds::order::{Edge, Until};

use crate::assignment::{AssignedTask, Desired};
use crate::backoff::later;
use crate::planned::PlannedContainer;
use crate::task::TaskObservation;
use crate::task::act::attaches;
use crate::task::learn::trim;
use crate::task::record::{ContainerRecord, Failure, TaskRecord};

/// Exit code that ECS agents tell of a container that never ran because of its dependencies.
const GIVEN_UP: i32 = 143;

/// Whether a container may go on with its way up.
pub(super) enum Gate<'a> {
    /// Nothing is in its way.
    Open,
    /// An edge is not met yet.
    Shut {
        /// The first that is not.
        edge: &'a Edge,
        /// When the clock may decide.
        look_at: Option<Timestamp>,
    },
    /// An edge can never be met; the reason in full.
    Never(String),
}

/// What became of one edge.
enum Answer {
    Met,
    NotYet { look_at: Option<Timestamp> },
    Never(String),
}

/// Whether `container` may be pulled, created and started.
pub(super) fn gate<'a>(
    container: &'a PlannedContainer,
    task: &AssignedTask,
    record: &TaskRecord,
    seen: &TaskObservation,
    now: Timestamp,
) -> Gate<'a> {
    let mut shut = None;
    for edge in &container.edges {
        match answer(container, edge, task, record, seen, now) {
            Answer::Met => {}
            Answer::Never(why) => {
                return Gate::Never(trim(format!(
                    "CannotStartContainerError: dependency graph: {why}"
                )));
            }
            Answer::NotYet { look_at } => {
                let (_, at) = shut.get_or_insert((edge, look_at));
                *at = match (*at, look_at) {
                    (Some(one), Some(other)) => Some(one.min(other)),
                    (one, other) => one.or(other),
                };
            }
        }
    }
    shut.map_or(Gate::Open, |(edge, look_at)| Gate::Shut { edge, look_at })
}

fn answer(
    container: &PlannedContainer,
    edge: &Edge,
    task: &AssignedTask,
    record: &TaskRecord,
    seen: &TaskObservation,
    now: Timestamp,
) -> Answer {
    let Edge { on, until } = edge;
    let target = &container.name;
    let not_yet = Answer::NotYet { look_at: None };
    let (Some(other), Some(known)) = (
        task.containers().iter().find(|other| other.name == *on),
        record.containers.get(on),
    ) else {
        return not_yet;
    };
    if is_met(*until, known, seen.sighting(on).is_alive()) {
        return if attaches(other, task, seen) {
            not_yet
        } else {
            Answer::Met
        };
    }
    let over = known.end.is_some() || known.failure.is_some();
    if over && other.essential {
        // Its end ends the task; that is told, and not what follows from it.
        return not_yet;
    }
    if let Some(why) = never(*until, known) {
        return Answer::Never(format!(
            "failed to resolve container ordering dependency [{on}] for target [{target}] {why}"
        ));
    }
    // ECS: the budget of the container that is waited for, from its start on, until the other one is created.
    let counts = match until {
        Until::Complete | Until::Success | Until::Healthy => true,
        Until::Created | Until::Started => false,
    };
    let created = record.containers.get(target).is_some_and(|k| k.created);
    let (Some(budget), Some(started_at), true, false) =
        (other.start_timeout, known.started_at, counts, created)
    else {
        return not_yet;
    };
    let deadline = later(started_at, budget);
    if now < deadline {
        return Answer::NotYet {
            look_at: Some(deadline),
        };
    }
    if seen.sighting(on).is_alive().is_none() {
        // It may have made it while nobody looked.
        return not_yet;
    }
    Answer::Never(format!(
        "container ordering dependency [{on}] for target [{target}] has timed out (`startTimeout` of `{on}` is {} s)",
        budget.as_secs()
    ))
}

/// `alive`: whether it is seen alive; `None` when nobody knows.
fn is_met(until: Until, known: &ContainerRecord, alive: Option<bool>) -> bool {
    let exit_code = known.end.as_ref().and_then(|end| end.exit_code);
    let failed = known.failure.is_some();
    match until {
        Until::Created => known.created,
        Until::Started => known.started && !failed,
        Until::Complete => exit_code.is_some() && !failed,
        Until::Success => exit_code == Some(0) && !failed,
        Until::Healthy => known.health == HealthStatus::Healthy && alive == Some(true) && !failed,
    }
}

/// Why a condition that does not hold never will.
fn never(until: Until, known: &ContainerRecord) -> Option<String> {
    if known.failure.is_some() || (known.end.is_some() && !known.started) {
        return Some("because dependency will never start".to_owned());
    }
    let end = known.end.as_ref()?;
    Some(match until {
        // Created and started it was.
        Until::Created | Until::Started => return None,
        Until::Complete => "because nobody knows how dependency exited".to_owned(),
        Until::Success => {
            let code = end
                .exit_code
                .map_or_else(|| "unknown".to_owned(), |code| code.to_string());
            format!("as dependency did not exit successfully (exit code {code})")
        }
        Until::Healthy => "because dependency exited before it was healthy".to_owned(),
    })
}

/// Fails the containers whose edges can never be met, and those that wait for them in turn.
pub(super) fn give_up(
    task: &AssignedTask,
    record: &mut TaskRecord,
    seen: &TaskObservation,
    now: Timestamp,
) {
    let wanted = task.planned && !task.remove && task.desired == Desired::Run;
    if !wanted || record.stop.is_some() {
        return;
    }
    // As often as there are containers: a chain is no longer.
    for _ in task.containers() {
        for container in task.containers() {
            let name = &container.name;
            let waits = record.containers.get(name).is_some_and(|known| {
                !known.started && known.end.is_none() && known.failure.is_none()
            });
            let busy = seen
                .in_flight
                .get(name)
                .is_some_and(|verb| *verb != Verb::Prepare);
            // One that may run already, for all that is known, was let through before.
            if !waits || busy || seen.sighting(name).is_alive() != Some(false) {
                continue;
            }
            let Gate::Never(reason) = gate(container, task, record, seen, now) else {
                continue;
            };
            if let Some(known) = record.containers.get_mut(name) {
                known.failure = Some(Failure {
                    reason,
                    at_pull: false,
                    exit_code: Some(GIVEN_UP),
                });
                known.retrying = None;
            }
        }
    }
}

/// Whether every container that waits for `container` has ended (ECS agent stop order). One that ended
/// before and is alive again is stopped at once.
pub(super) fn may_stop(
    container: &PlannedContainer,
    task: &AssignedTask,
    record: &TaskRecord,
) -> bool {
    let ended = |name: &str| {
        record
            .containers
            .get(name)
            .is_some_and(|known| known.end.is_some())
    };
    ended(&container.name)
        || task
            .containers()
            .iter()
            .filter(|other| other.edges.iter().any(|edge| edge.on == container.name))
            .all(|other| ended(&other.name))
}
