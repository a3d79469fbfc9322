//! The outcome of a verb, taken back in.
//!
//! What a failure means is decided by its retry class (`tallyman_agent_engine::Retry`): an unknown
//! outcome makes the sighting stale, so that the next step looks before it asks again; only a few
//! failures in a row, or one that will not mend itself, make a container a failed one. Stopping,
//! removing and looking are never given up.

use std::time::Duration;

use jiff::Timestamp;
use tallyman_agent_engine::{EngineError, PhaseKind, Retry, Verb};
use tallyman_crds::labels;

use crate::backoff::Backoff;
use crate::perform::Outcome;
use crate::task::learn::{exit, trim};
use crate::task::names::error_name;
use crate::task::observe::{News, Sighting, TaskObservation};
use crate::task::record::{End, Failure, Retrying, TaskRecord};
use crate::task::volumes;

/// Failures in a row after which a container is not brought up any more (ECS agent stop order).
pub(super) const MOST_ATTEMPTS: u32 = 5;

/// Choices of ports or GPUs in a row that somebody else was quicker to take, after which the container is given up.
const MOST_CHOICES: u32 = 20;

/// Takes the outcome of the verb in flight for `container`, or the volume of that name, into record and
/// observation.
pub fn settle(
    record: &mut TaskRecord,
    seen: &mut TaskObservation,
    container: &str,
    outcome: Outcome,
    now: Timestamp,
) {
    let outcome = match outcome {
        Outcome::Volume(outcome) => {
            volumes::settle(record, seen, container, outcome, now);
            return;
        }
        outcome => outcome,
    };
    seen.in_flight.remove(container);
    let news = seen.look_again.remove(container);
    let salt = record.salt();
    let uid = record.uid.clone();
    let known = record.containers.entry(container.to_owned()).or_default();
    let verb = outcome.verb();
    let before = seen.sighting(container).clone();
    let mut failed = None;
    let after = match outcome {
        Outcome::Prepared(result) => {
            record.pull_stopped_at = Some(now);
            match result {
                Ok(prepared) => {
                    known.prepared = true;
                    // One that no registry confirmed may be known under another digest elsewhere.
                    known.image_digest = prepared.image_digest.filter(|_| prepared.pulled);
                }
                Err(error) => failed = Some(error),
            }
            before.clone()
        }
        Outcome::ImageEnsured(result) => {
            known.prepared = result.is_ok();
            failed = result.err();
            before.clone()
        }
        Outcome::NetworkEnsured(result) => {
            known.networked = result.is_ok();
            failed = result.err();
            before.clone()
        }
        Outcome::Created(Ok(created)) => {
            known.created = true;
            known.runtime_id = Some(created.container_id.clone());
            if created.adopted {
                Sighting::Stale
            } else {
                known.gpu_ids.clear();
                Sighting::Made {
                    id: created.container_id,
                }
            }
        }
        Outcome::Created(Err(error)) => {
            let after = match error.retry() {
                // Perhaps an earlier agent created it with other GPUs.
                _ if matches!(error, EngineError::NameTaken { .. }) && known.chooses_gpus => {
                    Sighting::Stale
                }
                Retry::Never | Retry::Later => Sighting::Absent,
                Retry::Unknown => Sighting::Stale,
            };
            if matches!(error, EngineError::ImageNotFound { .. }) {
                known.prepared = false;
            }
            failed = Some(error);
            after
        }
        Outcome::Started(result) | Outcome::Attached(result) => {
            failed = result.err();
            Sighting::Stale
        }
        Outcome::Inspected(Ok(None)) => Sighting::Absent,
        // A container of another task or of nobody has the name: ours is not there.
        Outcome::Inspected(Ok(Some(state)))
            if state
                .labels
                .get(labels::CONTAINER_TASK_UID)
                .map(String::as_str)
                != Some(uid.as_str()) =>
        {
            Sighting::Absent
        }
        Outcome::Inspected(Ok(Some(state))) => Sighting::Present(state),
        Outcome::Inspected(Err(error)) => {
            failed = Some(error);
            Sighting::Stale
        }
        Outcome::Stopped(result) => {
            failed = result.err();
            Sighting::Stale
        }
        Outcome::Removed(Ok(())) => Sighting::Absent,
        Outcome::Removed(Err(error)) => {
            failed = Some(error);
            Sighting::Stale
        }
        // Taken care of above.
        Outcome::Volume(_) => before.clone(),
    };
    let slot = if verb == Verb::Inspect {
        &mut known.looking
    } else {
        &mut known.retrying
    };
    if matches!(failed, Some(EngineError::NetworkNotFound { .. })) {
        known.networked = false;
    }
    match failed {
        None => {
            if slot.as_ref().is_some_and(|retrying| retrying.verb == verb) {
                *slot = None;
            }
        }
        Some(error) => {
            let attempts = 1 + slot
                .as_ref()
                .filter(|retrying| retrying.verb == verb)
                .map_or(0, |retrying| retrying.attempts);
            let ran = matches!(&before, Sighting::Present(state) if state.phase.kind() == PhaseKind::Exited);
            let lost = match error {
                EngineError::PortTaken { .. } => known.chooses_ports,
                EngineError::GpusTaken { .. } => true,
                _ => false,
            };
            let others = lost && !ran && attempts < MOST_CHOICES && verb == Verb::Start;
            let looks = known.chooses_gpus
                && attempts == 1
                && matches!(error, EngineError::NameTaken { .. });
            let not_before = if others {
                now
            } else {
                pace(verb).next(attempts, salt, now)
            };
            *slot = Some(Retrying {
                verb,
                attempts,
                not_before,
                message: trim(error.to_string()),
            });
            if others {
                known.choice_lost = true;
            } else if !looks && gives_up(verb, &error, attempts) {
                let reason = reason(verb, &error);
                match &before {
                    // It ran, exited, and cannot be started again: that is its end, not a failure to start.
                    Sighting::Present(state) if state.phase.kind() == PhaseKind::Exited => {
                        let end = exit(known, &state.phase, now);
                        known.end = end.map(|end| End {
                            reason: Some(reason),
                            ..end
                        });
                    }
                    Sighting::Stale
                    | Sighting::Absent
                    | Sighting::Made { .. }
                    | Sighting::Present(_) => {
                        known.failure = Some(Failure {
                            reason,
                            at_pull: verb == Verb::Prepare,
                            exit_code: None,
                        });
                    }
                }
                known.retrying = None;
            }
        }
    }
    // Its death is told while the look that its stop ends with is under way, more often than not.
    let known_already = match news {
        Some(News::Death) => {
            matches!(&after, Sighting::Present(state) if state.phase.kind() == PhaseKind::Exited)
        }
        Some(News::More) => false,
        None => true,
    };
    let after = if known_already || matches!(verb, Verb::Prepare | Verb::Remove) {
        after
    } else {
        Sighting::Stale
    };
    seen.containers.insert(container.to_owned(), after);
}

/// How fast a verb is asked again.
pub(super) fn pace(verb: Verb) -> Backoff {
    let (first, longest) = match verb {
        Verb::Prepare => (1_100, 5_000),
        Verb::Create
        | Verb::Start
        | Verb::CreateVolume
        | Verb::InspectVolume
        | Verb::EnsureImage
        | Verb::EnsureNetwork
        | Verb::Attach => (1_000, 10_000),
        Verb::Inspect
        | Verb::Describe
        | Verb::List
        | Verb::Watch
        | Verb::ListVolumes
        | Verb::ProvideGroup
        | Verb::ListGroups
        | Verb::ListAll
        | Verb::ListImages
        | Verb::Stats => (500, 10_000),
        Verb::Stop => (1_000, 30_000),
        Verb::Remove | Verb::RemoveVolume | Verb::RemoveGroup | Verb::RemoveImage => {
            (2_000, 60_000)
        }
    };
    Backoff {
        first: Duration::from_millis(first),
        longest: Duration::from_millis(longest),
    }
}

/// Whether a container is not brought up, or a volume not provided, any more after this failure.
pub(super) fn gives_up(verb: Verb, error: &EngineError, attempts: u32) -> bool {
    match verb {
        Verb::Prepare
        | Verb::Create
        | Verb::Start
        | Verb::CreateVolume
        | Verb::InspectVolume
        | Verb::EnsureImage
        | Verb::EnsureNetwork
        | Verb::Attach => {}
        Verb::Inspect
        | Verb::Stop
        | Verb::Remove
        | Verb::RemoveVolume
        | Verb::Describe
        | Verb::List
        | Verb::ListVolumes
        | Verb::ProvideGroup
        | Verb::RemoveGroup
        | Verb::ListGroups
        | Verb::ListAll
        | Verb::ListImages
        | Verb::RemoveImage
        | Verb::Stats
        | Verb::Watch => {
            return false;
        }
    }
    match (error, error.retry()) {
        // The engine is away: that says nothing about the container.
        (EngineError::Unreachable { .. } | EngineError::Interrupted { .. }, _) => false,
        // It waits for another task to stop, as long as that takes.
        (EngineError::GpusTaken { .. }, _) if verb == Verb::Create => false,
        (_, Retry::Never) => true,
        (_, Retry::Later | Retry::Unknown) => attempts >= MOST_ATTEMPTS,
    }
}

/// ECS's name for the failure, and the engine's words (ECS stopped task error codes).
pub(super) fn reason(verb: Verb, error: &EngineError) -> String {
    let name = error_name(verb);
    let state = match verb {
        Verb::Prepare => "pulled",
        Verb::Create
        | Verb::CreateVolume
        | Verb::InspectVolume
        | Verb::EnsureImage
        | Verb::EnsureNetwork => "created",
        _ => "started",
    };
    trim(match error {
        EngineError::Timeout { after, .. } => format!(
            "DockerTimeoutError: Could not transition to {state}; timed out after waiting {}",
            minutes(*after)
        ),
        EngineError::CannotAuthenticate { .. } => format!("CannotPullContainerAuthError: {error}"),
        EngineError::CannotResolve { .. } => format!("CannotPullImageManifestError: {error}"),
        EngineError::CannotLimit { .. }
        | EngineError::CannotWrite { .. }
        | EngineError::CannotRead { .. }
        | EngineError::LeadsAstray { .. } => {
            format!("ResourceInitializationError: {error}")
        }
        EngineError::NetworkNotFound { .. } => format!(
            "ContainerNetworkingError: {error}; make it with `docker network create`, or name another one in \
             ECS_AWSVPC_NETWORK"
        ),
        EngineError::NoDeviceDriver { .. } => format!(
            "{name}: {error}; install the NVIDIA Container Toolkit on the host and restart its engine"
        ),
        _ => format!("{name}: {error}"),
    })
}

/// As ECS agents write durations: `4m0s`, `30s`.
fn minutes(span: Duration) -> String {
    match (span.as_secs() / 60, span.as_secs() % 60) {
        (0, seconds) => format!("{seconds}s"),
        (minutes, seconds) => format!("{minutes}m{seconds}s"),
    }
}
