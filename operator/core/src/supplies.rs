//! What the tasks of each host take from Secrets and ConfigMaps, copied into the host's own Secret: key by key, while a
//! task there may need it, and not longer. The core sees names and versions and never a value.
//!
//! A task enters its host's plan only once its values were supplied (`host_plans`), so an agent never has to ask
//! whether a value is missing or late: what the supply says is missing, is.

use std::collections::BTreeSet;

use tallyman_crds::sources::Source;

use crate::names::InstanceName;
use crate::plan::{Action, Kind, Plan, Target};
use crate::world::{InstanceState, TaskState, World};

/// Writes the Secret of a host whose tasks take something else, or something newer, than it has.
pub(crate) fn plan_one(
    world: &World,
    name: &InstanceName,
    instance: &InstanceState,
    plan: &mut Plan,
) {
    let Some(secret) = &instance.secret else {
        return;
    };
    let wanted: BTreeSet<Source> = world
        .tasks_on(name)
        .flat_map(|(_, t)| &t.sources)
        .cloned()
        .collect();
    let present = |object: &_| world.sources.get(object).map(String::as_str);
    if !secret.receipt.says(&wanted, present) {
        let host_secret = tallyman_crds::names::host_identity(name.as_str());
        plan.actions.push(Action::Supply {
            secret: Target::new(Kind::Secret, host_secret, &secret.identity),
            sources: wanted,
            key: secret.key.clone(),
        });
    }
}

/// The host has all that the task takes, as it is now.
pub(crate) fn supplied(world: &World, instance: &InstanceState, task: &TaskState) -> bool {
    task.sources.iter().all(|source| {
        let present = world.sources.get(&source.object).map(String::as_str);
        let secret = instance.secret.as_ref();
        secret.is_some_and(|secret| secret.receipt.has(source, present))
    })
}
