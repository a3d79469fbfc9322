//! Whether the task ends, and why. Ordered rules; the first that applies decides, once.

use jiff::Timestamp;
use tallyman_agent_engine::PullBehavior;
use tallyman_crds::StopCode;

use crate::assignment::{AssignedTask, Desired, TaskBody};
use crate::task::act::all_gone;
use crate::task::fence::Fence;
use crate::task::learn::trim;
use crate::task::needs::{Readiness, readiness};
use crate::task::record::{Stop, TaskRecord};
use crate::task::{HostContext, TaskObservation};

/// ECS's words for the end of an essential container.
pub const ESSENTIAL_EXITED: &str = "Essential container in task exited";

/// The same of a container that people do not see.
pub const PAUSE_EXITED: &str = "Essential container in task exited: the pause container, which holds what the containers of the task share";

/// Decides that the task ends, if it does. The first cause stays.
pub(super) fn judge(
    task: &AssignedTask,
    record: &mut TaskRecord,
    seen: &TaskObservation,
    host: &HostContext,
    fence: Fence,
    now: Timestamp,
) {
    if record.stop.is_none() {
        record.stop = cause(task, record, seen, host, fence).map(|(code, reason)| Stop {
            code,
            reason,
            at: now,
        });
    }
}

fn cause(
    task: &AssignedTask,
    record: &TaskRecord,
    seen: &TaskObservation,
    host: &HostContext,
    fence: Fence,
) -> Option<(Option<StopCode>, Option<String>)> {
    // 1. The two-phase check condemned it.
    if record.condemned {
        let reason = "The plan of the host does not have the task any more.";
        return Some((None, Some(reason.to_owned())));
    }
    // 2. The plan wants it stopped. Before exits: after a crash in mid-stop our own SIGTERM must not
    //    look like the container's doing.
    if let Desired::Stop { code, reason } = &task.desired {
        return Some((*code, reason.clone()));
    }
    // 3. Its host is cut off, and it must not run beside its replacement. Nobody can be asked, and nothing that is heard
    //    later takes it back.
    if let Fence::Shut { silence, limit } = fence {
        return Some((
            Some(StopCode::InfrastructureHealth),
            Some(silence.sentence(limit)),
        ));
    }
    // 4. It is being deleted, and there is nothing of it on the host.
    if task.remove && all_gone(task, seen) && !record.containers.values().any(|known| known.created)
    {
        return Some((
            Some(StopCode::UserInitiated),
            Some("Task deleted".to_owned()),
        ));
    }
    // 5. It cannot be carried out.
    if let TaskBody::Refused(why) = &task.body {
        return Some((Some(StopCode::TaskFailedToStart), Some(why.clone())));
    }
    if let Some(why) = record.volumes.values().find_map(|v| v.failure.as_ref()) {
        return Some((Some(StopCode::TaskFailedToStart), Some(why.clone())));
    }
    if task.planned
        && !task.remove
        && let Readiness::Never(why) = readiness(task, record, seen, host)
    {
        return Some((Some(StopCode::TaskFailedToStart), Some(trim(why))));
    }
    let pairs = || {
        task.containers()
            .iter()
            .filter_map(|container| Some((container, record.containers.get(&container.name)?)))
    };
    let ran = record.started_at.is_some();
    // 6. An essential container could not be brought up, 7. or ended.
    for (container, known) in pairs() {
        if !container.essential {
            continue;
        }
        if let Some(failure) = &known.failure {
            return Some((
                Some(StopCode::TaskFailedToStart),
                Some(failure.reason.clone()),
            ));
        }
        let exited = if container.is_pause() {
            PAUSE_EXITED
        } else {
            ESSENTIAL_EXITED
        };
        if let Some(end) = &known.end {
            return Some(if ran {
                (
                    Some(StopCode::EssentialContainerExited),
                    Some(exited.to_owned()),
                )
            } else {
                let reason = end.reason.clone().unwrap_or_else(|| exited.to_owned());
                (Some(StopCode::TaskFailedToStart), Some(reason))
            });
        }
    }
    // 8. Under `always` and `once` a failed pull ends the task even for a sidecar (ECS image pull behavior).
    let strict = match host.pull_behavior {
        PullBehavior::Always | PullBehavior::Once => true,
        PullBehavior::Default | PullBehavior::PreferCached => false,
    };
    if strict
        && let Some(failure) = pairs()
            .filter_map(|(_, known)| known.failure.as_ref())
            .find(|f| f.at_pull)
    {
        return Some((
            Some(StopCode::TaskFailedToStart),
            Some(failure.reason.clone()),
        ));
    }
    // 9. Its last container ended.
    let all_ended = !task.containers().is_empty()
        && task.defined().all(|container| {
            record
                .containers
                .get(&container.name)
                .is_some_and(|known| known.end.is_some())
        });
    all_ended.then(|| {
        let code = if ran {
            StopCode::EssentialContainerExited
        } else {
            StopCode::TaskFailedToStart
        };
        (Some(code), Some("All containers in task exited".to_owned()))
    })
}
