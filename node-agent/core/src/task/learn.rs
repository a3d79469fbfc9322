//! What the sightings prove. Facts only; nothing is chosen here.

use jiff::Timestamp;
use tallyman_agent_engine::{ContainerState, Health, Moment, Phase, Verb};
use tallyman_crds::{HealthStatus, NetworkBinding, StopCode};

use crate::assignment::AssignedTask;
use crate::gpus;
use crate::pause;
use crate::planned::PlannedContainer;
use crate::ports;
use crate::task::TaskObservation;
use crate::task::gates;
use crate::task::observe::Sighting;
use crate::task::record::{ContainerRecord, End, Interface, TaskRecord};
use crate::task::restart;
use crate::task::volumes;

/// Longest reason that ECS agents report.
pub(crate) const REASON_LIMIT: usize = 1024;

/// Takes every sighting into the record, and notes the task's start.
pub(super) fn learn(
    task: &AssignedTask,
    record: &mut TaskRecord,
    seen: &TaskObservation,
    now: Timestamp,
) {
    record.accepted_at.get_or_insert(now);
    record.adopt_names(task);
    let ending = record.stop.is_some();
    let joined = joined(task, record, seen);
    for container in task.containers() {
        let known = record.containers.entry(container.name.clone()).or_default();
        // They joined what it held, so it was there, though nobody remembers it.
        known.created |= container.is_pause() && joined;
        match seen.sighting(&container.name) {
            Sighting::Stale => {}
            Sighting::Absent if known.choice_lost => {
                known.choice_lost = false;
                known.gpu_ids.clear();
                known.created = false;
                known.runtime_id = None;
            }
            Sighting::Absent => {
                if known.created && known.end.is_none() {
                    known.end = Some(vanished(container, known, now));
                }
            }
            Sighting::Made { id } => {
                known.created = true;
                known.runtime_id = Some(id.clone());
            }
            Sighting::Present(state) => present(container, known, state, ending, now),
        }
    }
    gates::give_up(task, record, seen, now);
    volumes::learn(task, record, seen);
    note_start(task, record, now);
    conclude(task, record, seen, now);
}

/// Whether a container is there that shares what a pause container holds.
fn joined(task: &AssignedTask, record: &TaskRecord, seen: &TaskObservation) -> bool {
    task.defined().any(|container| {
        let known = record.containers.get(&container.name);
        known.is_some_and(|known| known.started)
            || match seen.sighting(&container.name) {
                Sighting::Stale | Sighting::Absent => false,
                Sighting::Made { .. } | Sighting::Present(_) => true,
            }
    })
}

fn vanished(container: &PlannedContainer, known: &ContainerRecord, now: Timestamp) -> End {
    let reason = known.failure.as_ref().map_or_else(
        || {
            format!(
                "ContainerVanishedError: Container {} is gone from the engine; somebody else removed it.",
                container.engine_name(known.attempt)
            )
        },
        |failure| failure.reason.clone(),
    );
    End {
        exit_code: None,
        reason: Some(reason),
        at: now,
    }
}

fn present(
    container: &PlannedContainer,
    known: &mut ContainerRecord,
    state: &ContainerState,
    ending: bool,
    now: Timestamp,
) {
    known.created = true;
    known.runtime_id = Some(state.id.clone());
    if known.chooses_gpus {
        known.gpu_ids = gpus::ids_in(&state.labels);
    }
    let failed = known.failure.is_some();
    match &state.phase {
        Phase::Created | Phase::Removing => {}
        Phase::Running { .. } | Phase::Paused | Phase::Restarting => {
            started(container, known, state, now);
            let attaches = container.lacks_network(state);
            if known.retrying.as_ref().is_some_and(|retrying| {
                let of_attaching = matches!(retrying.verb, Verb::Attach | Verb::EnsureNetwork);
                retrying.verb != Verb::Stop && !(of_attaching && attaches)
            }) {
                known.retrying = None;
            }
            known.bindings = bindings(container, state);
            // The task's address, and that of a log router on a bridge.
            if container.is_pause() || container.router.is_some() {
                known.interface = interface(state).or_else(|| known.interface.take());
            }
            known.health_since.get_or_insert(now);
            note_health(known, health(container, state.health), now);
        }
        Phase::Exited { .. } => {
            if !failed {
                started(container, known, state, now);
            }
            if known.end.is_none() {
                if ending || failed || !restart::wanted(container, state) {
                    known.end = exit(known, &state.phase, now);
                } else {
                    note_health(known, HealthStatus::Unknown, now);
                }
            }
        }
        Phase::Dead => {
            if known.end.is_none() {
                let reason = "DockerStateError: The engine has the container half removed (dead)";
                known.end = Some(End {
                    exit_code: None,
                    reason: Some(reason.to_owned()),
                    at: now,
                });
            }
        }
    }
    if known.end.is_some() {
        note_health(known, HealthStatus::Unknown, now);
    }
}

fn note_health(known: &mut ContainerRecord, health: HealthStatus, now: Timestamp) {
    if known.health != health {
        known.health = health;
        known.health_since = Some(now);
    }
}

/// What an exit was, with the name that ECS has for it; `None` for any other phase.
pub(super) fn exit(known: &ContainerRecord, phase: &Phase, now: Timestamp) -> Option<End> {
    let Phase::Exited {
        exit_code,
        finished_at,
        oom_killed,
        error,
    } = phase
    else {
        return None;
    };
    let reason = if *oom_killed {
        Some("OutOfMemoryError: Container killed due to memory usage".to_owned())
    } else if let Some(failure) = &known.failure {
        Some(failure.reason.clone())
    } else {
        error
            .as_ref()
            .map(|error| trim(format!("DockerStateError: {error}")))
    };
    Some(End {
        exit_code: i32::try_from(*exit_code).ok(),
        reason,
        at: finished_at.and_then(timestamp).unwrap_or(now),
    })
}

fn started(
    container: &PlannedContainer,
    known: &mut ContainerRecord,
    state: &ContainerState,
    now: Timestamp,
) {
    known.started = true;
    known.choice_lost = false;
    let began = state.started_at.and_then(timestamp);
    if container.restart.is_some() && known.run_began.is_some() && known.run_began < began {
        known.restarts = known.restarts.saturating_add(1);
    }
    known.run_began = began.or(known.run_began);
    if known.started_at.is_none() {
        known.started_at = Some(state.started_at.and_then(timestamp).unwrap_or(now));
    }
}

/// A task has started once every essential container ran and every other one ran or failed.
fn note_start(task: &AssignedTask, record: &mut TaskRecord, now: Timestamp) {
    if record.started_at.is_some() || record.stop.is_some() || task.containers().is_empty() {
        return;
    }
    let mut latest: Option<Timestamp> = None;
    for container in task.containers() {
        let Some(known) = record.containers.get(&container.name) else {
            return;
        };
        let gave_up = known.failure.is_some() || known.end.is_some();
        if !known.started && (container.essential || !gave_up) {
            return;
        }
        latest = latest.max(known.started_at);
    }
    record.started_at = Some(latest.unwrap_or(now));
}

/// Ends the containers that will not be brought up (any more) and are known not to run; notes the end
/// of the task when all have ended.
pub(super) fn conclude(
    task: &AssignedTask,
    record: &mut TaskRecord,
    seen: &TaskObservation,
    now: Timestamp,
) {
    let ending = record.stop.is_some();
    let too_early = stopped_before_pull(record);
    for container in task.containers() {
        let Some(known) = record.containers.get_mut(&container.name) else {
            continue;
        };
        let busy = seen
            .in_flight
            .get(&container.name)
            .is_some_and(|verb| *verb != Verb::Prepare);
        let gave_up = ending || known.failure.is_some();
        let alive = seen.sighting(&container.name).is_alive();
        if gave_up && known.end.is_none() && !busy && alive == Some(false) {
            let exited = match seen.sighting(&container.name) {
                Sighting::Present(state) => exit(known, &state.phase, now),
                Sighting::Stale | Sighting::Absent | Sighting::Made { .. } => None,
            };
            let failure = known.failure.as_ref();
            let unpulled = too_early.clone().filter(|_| !known.created);
            known.end = exited.or_else(|| {
                Some(End {
                    exit_code: failure.and_then(|failure| failure.exit_code),
                    reason: failure.map(|failure| failure.reason.clone()).or(unpulled),
                    at: now,
                })
            });
        }
    }
    if record.started_at.is_some() && record.execution_stopped_at.is_none() {
        record.execution_stopped_at = task
            .containers()
            .iter()
            .filter(|container| container.essential)
            .filter_map(|container| record.containers.get(&container.name)?.end.as_ref())
            .map(|end| end.at)
            .min();
    }
    let ended = task.containers().iter().all(|container| {
        record
            .containers
            .get(&container.name)
            .is_some_and(|known| known.end.is_some())
    });
    if ending && ended && record.stopped_at.is_none() {
        record.stopped_at = Some(now);
    }
}

/// What is said of the containers of a task that was told to stop before the first of its images was asked for, in ECS'
/// words. One that could not be started has a reason of its own.
fn stopped_before_pull(record: &TaskRecord) -> Option<String> {
    let stop = record.stop.as_ref()?;
    let told = stop.code != Some(StopCode::TaskFailedToStart);
    let pulled = record.pull_started_at.is_some() || record.started_at.is_some();
    (told && !pulled).then(|| {
        format!(
            "TaskStoppedBeforePullBeginError: Task stopped before image pull could begin for task: {}",
            record.name
        )
    })
}

fn health(container: &PlannedContainer, health: Health) -> HealthStatus {
    if !container.health_checked {
        return HealthStatus::Unknown;
    }
    match health {
        Health::Healthy => HealthStatus::Healthy,
        Health::Unhealthy => HealthStatus::Unhealthy,
        Health::None | Health::Starting => HealthStatus::Unknown,
    }
}

/// What the engine published; in network mode `host`, the container's own ports.
fn bindings(container: &PlannedContainer, state: &ContainerState) -> Vec<NetworkBinding> {
    let published = ports::published(&container.dynamic, &state.ports);
    // Ports at the task's own address are no bindings (ECS networkInterfaces).
    let exposed = container
        .exposed
        .iter()
        .filter(|_| !container.has_task_address())
        .map(|span| ports::exposed(*span));
    published.into_iter().chain(exposed).collect()
}

fn interface(state: &ContainerState) -> Option<Interface> {
    let mut own = state.attachments.iter();
    let attachment = own.find(|one| !pause::leads_to_agent(one))?;
    Some(Interface {
        ipv4: attachment.ipv4.map(|(address, _)| address),
        ipv6: attachment.ipv6.map(|(address, _)| address),
        mac: attachment.mac.clone(),
        network: attachment.network.clone(),
    })
}

fn timestamp(moment: Moment) -> Option<Timestamp> {
    Timestamp::from_millisecond(moment.millis()).ok()
}

/// At most [`REASON_LIMIT`] characters.
pub(crate) fn trim(mut reason: String) -> String {
    if let Some((end, _)) = reason.char_indices().nth(REASON_LIMIT) {
        reason.truncate(end);
    }
    reason
}
