//! Volumes of the engine in the life of a task: there before the containers that mount them, and those
//! that are the task's own removed after its last container (ECS cleanup).

use jiff::Timestamp;
use tallyman_agent_engine::{EngineError, MountSource, Retry, Verb, VolumeState};

use crate::assignment::AssignedTask;
use crate::perform::VolumeOutcome;
use crate::planned::PlannedContainer;
use crate::task::Action;
use crate::task::act::{Todo, all_gone, wait};
use crate::task::learn::trim;
use crate::task::observe::{Sighting, TaskObservation};
use crate::task::record::{Retrying, TaskRecord};
use crate::task::settle::{MOST_ATTEMPTS, gives_up, pace, reason};
use crate::volumes::{Life, PlannedVolume};

/// What was last seen of a volume. After a restart nothing was; making one that is there adopts it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum VolumeSighting {
    /// Nobody looked.
    #[default]
    Stale,
    /// The engine said that there is none.
    Absent,
    /// We made it, or it was there and is ours.
    Made,
    /// The engine described it.
    Present(Box<VolumeState>),
}

/// Takes in what was seen of shared volumes: one that is missing, or another than wanted, fails the task.
pub(super) fn learn(task: &AssignedTask, record: &mut TaskRecord, seen: &TaskObservation) {
    for volume in &task.volumes {
        let Life::Shared {
            autoprovision,
            match_full,
        } = volume.life
        else {
            continue;
        };
        let wrong = match seen.volume(&volume.name) {
            VolumeSighting::Stale | VolumeSighting::Made => None,
            VolumeSighting::Absent if autoprovision => None,
            // In the ECS agent's words.
            VolumeSighting::Absent => Some(format!(
                "volume detection failed, volume '{}' does not exist and autoprovision is set to false",
                volume.name
            )),
            VolumeSighting::Present(state) if autoprovision && match_full => {
                mismatch(volume, state)
            }
            VolumeSighting::Present(_) => None,
        };
        let known = record.volumes.entry(volume.name.clone()).or_default();
        if let Some(wrong) = wrong {
            known
                .failure
                .get_or_insert(trim(format!("CannotInspectVolumeError: {wrong}")));
        }
    }
}

/// What of an existing shared volume is not as the task definition has it.
fn mismatch(volume: &PlannedVolume, state: &VolumeState) -> Option<String> {
    let pairs = [
        ("labels", &state.labels, &volume.spec.labels),
        ("options", &state.options, &volume.spec.options),
    ];
    pairs
        .into_iter()
        .find(|(_, existing, expected)| existing != expected)
        .map(|(what, existing, expected)| {
            format!(
                "the {what} of the existing volume '{}' do not match and ECS_SHARED_VOLUME_MATCH_FULL_CONFIG is \
                 set: existing {existing:?}, expected {expected:?}",
                volume.name
            )
        })
}

/// Adds what is to be done about volumes now. `sweep`: what is the task's own may be removed.
pub(super) fn act(
    task: &AssignedTask,
    record: &TaskRecord,
    seen: &TaskObservation,
    sweep: bool,
    now: Timestamp,
    todo: &mut Todo,
) {
    let wanted = task.planned && !task.remove && record.stop.is_none();
    for volume in &task.volumes {
        let Some(known) = record.volumes.get(&volume.name) else {
            continue;
        };
        if seen.volumes_in_flight.contains_key(&volume.name) {
            continue;
        }
        let action = if wanted && known.failure.is_none() && awaited(task, record, seen) {
            provide(volume, seen.volume(&volume.name))
        } else if sweep && volume.life == Life::Task && !known.let_go && unused(task, seen) {
            Some(Action::RemoveVolume {
                volume: volume.name.clone(),
                name: volume.spec.name.clone(),
                task: task.uid.clone(),
            })
        } else {
            None
        };
        let Some(action) = action else {
            continue;
        };
        match wait(known.retrying.as_ref(), action.verb(), now) {
            Some(until) => todo.wake(until),
            None => todo.actions.push(action),
        }
    }
}

/// What brings a volume about. One that is shared is looked at first: it may be anybody's.
fn provide(volume: &PlannedVolume, sighting: &VolumeSighting) -> Option<Action> {
    let create = || Action::CreateVolume {
        volume: volume.name.clone(),
        spec: Box::new(volume.spec.clone()),
    };
    match (volume.life, sighting) {
        (_, VolumeSighting::Made | VolumeSighting::Present(_)) => None,
        (Life::Task, VolumeSighting::Stale | VolumeSighting::Absent) => Some(create()),
        (Life::Shared { .. }, VolumeSighting::Stale) => Some(Action::InspectVolume {
            volume: volume.name.clone(),
            name: volume.spec.name.clone(),
        }),
        (Life::Shared { autoprovision, .. }, VolumeSighting::Absent) => autoprovision.then(create),
    }
}

/// Whether a container is still to be created. Volumes of one that is there are there, too.
fn awaited(task: &AssignedTask, record: &TaskRecord, seen: &TaskObservation) -> bool {
    task.containers().iter().any(|container| {
        let known = record.containers.get(&container.name);
        let wanted = known.is_none_or(|known| known.end.is_none() && known.failure.is_none());
        wanted && matches!(seen.sighting(&container.name), Sighting::Absent)
    })
}

/// No container of the task is there, or may come to be.
fn unused(task: &AssignedTask, seen: &TaskObservation) -> bool {
    // A pull that is under way makes no container.
    let mut verbs = seen.in_flight.values();
    verbs.all(|verb| *verb == Verb::Prepare) && all_gone(task, seen)
}

/// Whether everything that a container mounts is there.
pub(super) fn ready(
    task: &AssignedTask,
    seen: &TaskObservation,
    container: &PlannedContainer,
) -> bool {
    let mut mounted = task.volumes.iter().filter(|volume| {
        container.mounts().iter().any(
            |mount| matches!(&mount.source, MountSource::Volume(name) if *name == volume.spec.name),
        )
    });
    mounted.all(|volume| match seen.volume(&volume.name) {
        VolumeSighting::Made | VolumeSighting::Present(_) => true,
        VolumeSighting::Stale | VolumeSighting::Absent => false,
    })
}

/// Whether nothing is left to do about the task's own volumes.
pub(super) fn all_let_go(task: &AssignedTask, record: &TaskRecord) -> bool {
    let mut own = task
        .volumes
        .iter()
        .filter(|volume| volume.life == Life::Task);
    own.all(|volume| {
        record
            .volumes
            .get(&volume.name)
            .is_some_and(|known| known.let_go)
    })
}

/// The outcome of a verb in flight for a volume, taken back in.
pub(super) fn settle(
    record: &mut TaskRecord,
    seen: &mut TaskObservation,
    volume: &str,
    outcome: VolumeOutcome,
    now: Timestamp,
) {
    seen.volumes_in_flight.remove(volume);
    let salt = record.salt();
    let known = record.volumes.entry(volume.to_owned()).or_default();
    let (verb, result) = match outcome {
        VolumeOutcome::Created(result) => {
            (Verb::CreateVolume, result.map(|()| VolumeSighting::Made))
        }
        VolumeOutcome::Inspected(result) => {
            let sighting =
                |state: Option<_>| state.map_or(VolumeSighting::Absent, VolumeSighting::Present);
            (Verb::InspectVolume, result.map(sighting))
        }
        VolumeOutcome::Removed(result) => {
            known.let_go |= result.is_ok();
            (Verb::RemoveVolume, result.map(|()| VolumeSighting::Absent))
        }
    };
    let error = match result {
        Ok(sighting) => {
            known.retrying = None;
            seen.volumes.insert(volume.to_owned(), sighting);
            return;
        }
        Err(error) => error,
    };
    seen.volumes
        .insert(volume.to_owned(), VolumeSighting::Stale);
    if !known.owned && matches!(error, EngineError::VolumeTaken { .. }) {
        // Another task made the shared volume since we looked.
        known.retrying = None;
        return;
    }
    let attempts = 1 + known
        .retrying
        .as_ref()
        .filter(|retrying| retrying.verb == verb)
        .map_or(0, |retrying| retrying.attempts);
    known.retrying = Some(Retrying {
        verb,
        attempts,
        not_before: pace(verb).next(attempts, salt, now),
        message: trim(error.to_string()),
    });
    if gives_up(verb, &error, attempts) {
        known.failure = Some(trim(format!(
            "{} (volume `{volume}`)",
            reason(verb, &error)
        )));
        known.retrying = None;
    }
    if verb == Verb::RemoveVolume && leaves(&error, attempts) {
        known.let_go = true;
        known.retrying = None;
    }
}

/// Whether a volume of the task is left to the sweep of volumes without a task: somebody else's container
/// has it, and its Task shall not wait for that.
fn leaves(error: &EngineError, attempts: u32) -> bool {
    let in_use = matches!(error, EngineError::VolumeInUse { .. });
    (in_use && attempts >= MOST_ATTEMPTS) || error.retry() == Retry::Never
}
