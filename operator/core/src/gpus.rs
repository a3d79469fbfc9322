//! GPUs of a host that no task holds, for those who read `remainingResources`.
//!
//! Placement counts GPUs; which ones a container gets its agent chooses, and says in the task's status.

use std::collections::BTreeSet;

use crate::names::InstanceName;
use crate::world::World;

/// `left` ids of the host's GPUs: none that a task is known to have, and of the others the last ones, since agents hand
/// out the first.
pub(crate) fn free(world: &World, instance: &InstanceName, left: i64) -> Vec<String> {
    let held: BTreeSet<&String> = world
        .tasks_on(instance)
        .filter(|(_, t)| t.holds())
        .filter_map(|(_, t)| t.object.status.as_ref())
        .flat_map(|status| &status.containers)
        .flat_map(|container| &container.gpu_ids)
        .collect();
    let host = world.instances.get(instance).and_then(|i| i.host.as_ref());
    let unknown: Vec<String> = host
        .iter()
        .flat_map(|host| &host.registered_resources.gpu)
        .filter(|id| !held.contains(id))
        .cloned()
        .collect();
    let promised = unknown
        .len()
        .saturating_sub(usize::try_from(left).unwrap_or(0));
    unknown.into_iter().skip(promised).collect()
}
