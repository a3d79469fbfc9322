//! What a task takes from Secrets and ConfigMaps, in its life: all of it is there before any of its containers is made
//! (ECS task resources), or the task fails.

use tallyman_crds::sources::Source;

use crate::assignment::AssignedTask;
use crate::needs::Unmet;
use crate::task::observe::Sighting;
use crate::task::record::TaskRecord;
use crate::task::{HostContext, TaskObservation};

/// Whether containers of the task may be pulled and created.
pub(super) enum Readiness {
    /// Everything is there.
    Ready,
    /// This is not there yet; the operator delivers it.
    Waiting(Source),
    /// This will not come; in full.
    Never(String),
}

/// Looks at the needs of all containers that are still to be created.
pub(super) fn readiness(
    task: &AssignedTask,
    record: &TaskRecord,
    seen: &TaskObservation,
    host: &HostContext,
) -> Readiness {
    let mut waiting = None;
    let mut to_come = false;
    for container in task.containers() {
        let known = record.containers.get(&container.name);
        let over = known.is_some_and(|k| k.end.is_some() || k.failure.is_some());
        if over || !matches!(seen.sighting(&container.name), Sighting::Absent) {
            continue;
        }
        to_come = true;
        match container
            .needs
            .check(host.supply.as_deref(), container.image())
        {
            Ok(()) => {}
            Err(Unmet::NotYet(source)) => {
                waiting.get_or_insert(source);
            }
            Err(Unmet::NoConfiguration(why)) => {
                return Readiness::Never(format!(
                    "ResourceInitializationError: unable to download firelens s3 config file: container `{}`: {why}",
                    container.name
                ));
            }
            Err(Unmet::Never(why)) => {
                // In the ECS agent's words, and what is wrong.
                return Readiness::Never(format!(
                    "ResourceInitializationError: unable to pull secrets or registry auth: container `{}`: {why}",
                    container.name
                ));
            }
        }
    }
    if let Some(role) = task.role.as_ref().filter(|_| to_come) {
        match role.check(host.supply.as_deref()) {
            Ok(()) => {}
            Err(Unmet::NotYet(source)) => {
                waiting.get_or_insert(source);
            }
            Err(Unmet::Never(why) | Unmet::NoConfiguration(why)) => {
                return Readiness::Never(format!(
                    "ECS was unable to assume the role '{}' that was provided for this task: {why}",
                    role.arn
                ));
            }
        }
    }
    waiting.map_or(Readiness::Ready, Readiness::Waiting)
}
