//! Whether a task with `stopAfter` may run: `crate::silence`, asked for one task.

use std::time::Duration;

use crate::assignment::AssignedTask;
use crate::silence::Silence;
use crate::task::observe::Sighting;
use crate::task::{HostContext, TaskObservation, TaskRecord};

/// Whether it may run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fence {
    /// It may.
    Open,
    /// Nothing of it is there, and it is not known yet whether it may begin.
    Unsure,
    /// It stops: the host was out of touch for so long, or may have been.
    Shut {
        /// For how long.
        silence: Silence,
        /// What of it is borne.
        limit: Duration,
    },
}

/// Asks for the task, and notes what it has been told.
///
/// Who is new here begins only on the word of a plan that was read in this process, and with the API server at hand: an
/// entry on disk may be of a task that was replaced long ago. Containers without a record stop unless
/// nothing was ever missed on this host.
pub(super) fn ask(
    task: &AssignedTask,
    record: &mut TaskRecord,
    seen: &TaskObservation,
    host: &HostContext,
) -> Fence {
    let Some(limit) = task.stop_after else {
        return Fence::Open;
    };
    let heard = match record.heard {
        Some(heard) => heard,
        None if anything(task, record, seen) => 0,
        None if host.plan_is_live && host.silences.lasts() != Silence::Unknown => {
            host.silences.over()
        }
        None => return Fence::Unsure,
    };
    let silence = host.silences.missed_since(heard);
    record.heard = Some(host.silences.over());
    if silence.exceeds(limit) {
        Fence::Shut { silence, limit }
    } else {
        Fence::Open
    }
}

/// Something of it is there, or was.
fn anything(task: &AssignedTask, record: &TaskRecord, seen: &TaskObservation) -> bool {
    let absent = |name: &String| matches!(seen.sighting(name), Sighting::Absent);
    record.containers.values().any(|known| known.created)
        || !task.containers().iter().all(|c| absent(&c.name))
}
