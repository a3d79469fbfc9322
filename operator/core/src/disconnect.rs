//! Tasks on hosts that are not heard of any more: when each is replaced, and what is said of it.
//!
//! A task runs on while its host is cut off, and is replaced elsewhere after a while (`disconnect.replaceAfter`, 300 s by default);
//! when the host comes back, it stops there. Where a task must never run beside its replacement, `disconnect.stopAfter` has the
//! agent stop it by itself, so long after it sent the last renewal of its Lease that was confirmed, and the replacement
//! waits until that has happened for certain:
//!
//! ```text
//! fenced after = 1.01 x (stopAfter + stop timeouts) + 2 x 10 s + 5 s
//! ```
//!
//! since the operator saw the Lease change last. That was at or after the moment at which the agent sent a renewal that was
//! confirmed, so the agent's time runs out first. 1 percent is for clocks that go at different speeds; 20 s, two renewals, are for an agent that is
//! started anew in between and for an engine that is slow, and 5 s for what nobody thought of.
//!
//! Never: a task is given up for the policy of somebody else. Brakes and the order of hosts are those of `instances`, for all alike.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tallyman_crds::ecs::ContainerDefinition;
use tallyman_crds::{ServiceSpec, TaskSpec};

use crate::names::{InstanceName, ServiceName};
use crate::services::list;
use crate::world::{InstanceState, Revision, TaskState, World};

/// The least `stopAfter` (schema of Service): a shorter silence means nothing to any task.
pub(crate) const SHORTEST: Duration = Duration::from_secs(30);
/// How often an agent renews its Lease.
const RENEWAL: Duration = Duration::from_secs(10);
/// For what is not foreseen.
const MARGIN: Duration = Duration::from_secs(5);
/// Stop timeout of a container that has none of its own (ECS: ECS_CONTAINER_STOP_TIMEOUT, 30 s). A host that is set to more gives
/// containers of such tasks no more than this (`silence` of the agent's core).
const STOP_TIMEOUT: Duration = Duration::from_secs(30);
/// The most that the containers of a definition can ask for: ten, two minutes each.
const LONGEST_STOPS: Duration = Duration::from_secs(10 * 120);

fn seconds(of: Option<i32>) -> Option<Duration> {
    u64::try_from(of?).ok().map(Duration::from_secs)
}

/// After what silence of their hosts the tasks of a service are replaced, if it says.
pub(crate) fn replace_after(spec: &ServiceSpec) -> Option<Duration> {
    seconds(spec.disconnect.as_ref()?.replace_after)
}

/// What a new task of a service is told of `stopAfter`.
pub(crate) fn stop_after(spec: &ServiceSpec) -> Option<i32> {
    spec.disconnect.as_ref()?.stop_after
}

/// After what silence of its host a task that stops by itself has stopped for certain.
pub(crate) fn fenced_after(task: &TaskSpec, revision: Option<&Revision>) -> Option<Duration> {
    let stop_after = seconds(task.stop_after)?;
    let of = |c: &ContainerDefinition| seconds(c.stop_timeout).unwrap_or(STOP_TIMEOUT);
    // They may stop one after the other.
    let stops = revision.map_or(LONGEST_STOPS, |r| {
        let containers = &r.object.spec.definition.container_definitions;
        containers.iter().map(of).sum()
    });
    Some(bound(stop_after, stops))
}

/// The bound of the module's head.
///
/// ```
/// # use std::time::Duration;
/// # use tallyman_operator_core::disconnect::bound;
/// // 60 s, and one container that gets 30 s to stop: 60 + 30 + 20 + 0.9 + 5.
/// let bound = bound(Duration::from_secs(60), Duration::from_secs(30));
/// assert_eq!(bound, Duration::from_millis(115_900));
/// ```
pub fn bound(stop_after: Duration, stops: Duration) -> Duration {
    let interval = stop_after + stops;
    interval + RENEWAL * 2 + interval / 100 + MARGIN
}

/// After what silence of its host a task is replaced.
pub(crate) fn replaced_after(world: &World, task: &TaskState) -> Duration {
    let service = task.service.as_ref().and_then(|s| world.services.get(s));
    let asked = service.and_then(|s| s.replace_after);
    let after = match task.fenced_after {
        Some(fenced) => fenced.max(asked.unwrap_or_default()),
        None => asked.unwrap_or(world.settings.replace_after),
    };
    after.max(world.settings.agent_grace)
}

/// Every silence of a host from which on something is different.
pub(crate) fn limits(world: &World, host: &InstanceName) -> BTreeSet<Duration> {
    let settings = &world.settings;
    let here = world.tasks_on(host).filter(|(_, t)| t.holds());
    here.flat_map(|(_, t)| [Some(replaced_after(world, t)), t.fenced_after])
        .flatten()
        .chain([settings.agent_grace, settings.replace_after])
        .collect()
}

/// The time of a task of a silent host has come, or would have if it had one.
pub(crate) fn first_due(world: &World, host: &InstanceName, i: &InstanceState) -> bool {
    let default = world.settings.replace_after;
    let waits = i.lease_age.is_some_and(|age| age >= default);
    i.host.is_some() && (waits || holds_due(world, host, i))
}

/// The host holds tasks whose time has come.
pub(crate) fn holds_due(world: &World, host: &InstanceName, i: &InstanceState) -> bool {
    let mut here = world.tasks_on(host).filter(|(_, t)| t.holds());
    i.lease_age
        .is_some_and(|age| here.any(|(_, t)| age >= replaced_after(world, t)))
}

/// Why a task is given up with a host that is silent.
pub(crate) fn lost(world: &World, host: &InstanceName, task: &TaskState) -> String {
    let lost = format!("Host {host} was lost: its agent is not connected");
    let after = replaced_after(world, task).as_secs();
    let service = task.service.as_ref();
    let asked = service
        .and_then(|s| world.services.get(s))
        .and_then(|s| s.replace_after);
    match (task.object.spec.stop_after, asked) {
        (Some(limit), _) => format!(
            "{lost}. The task has stopped there by itself after {limit} s (`disconnect.stopAfter`), which is certain after {after} s"
        ),
        (None, Some(_)) => format!("{lost} for {after} s (`disconnect.replaceAfter`)"),
        (None, None) => lost,
    }
}

/// When the tasks of a silent host are replaced, for people: `300 s`, or `60 to 300 s`.
pub(crate) fn times(world: &World, host: &InstanceName) -> String {
    let here = world.tasks_on(host).filter(|(_, t)| t.holds());
    let times: BTreeSet<u64> = here
        .map(|(_, t)| replaced_after(world, t).as_secs())
        .collect();
    match (times.first(), times.last()) {
        (Some(first), Some(last)) if first < last => format!("{first} to {last} s"),
        (Some(only), _) => format!("{only} s"),
        (None, _) => format!("{} s", world.settings.replace_after.as_secs()),
    }
}

/// What is to be said of the tasks of a service that are on hosts that are silent, if any are: which, and when they are replaced.
pub(crate) fn out_of_touch(world: &World, service: &ServiceName) -> Option<String> {
    let mut by_time: BTreeMap<(u64, Option<i32>), Vec<_>> = BTreeMap::new();
    for (name, t) in world.tasks_of(service).filter(|(_, t)| t.holds()) {
        let host = t.instance.as_ref().and_then(|i| world.instances.get(i));
        if host.is_some_and(|i| i.host.is_some() && !i.connected(&world.settings)) {
            let after = replaced_after(world, t).as_secs();
            let key = (after, t.object.spec.stop_after);
            by_time.entry(key).or_default().push(name.clone());
        }
    }
    let told = by_time.iter().map(|((after, stops), names)| {
        let meanwhile = stops.map_or_else(
            || "run on there".to_owned(),
            |limit| format!("are stopped there by the agent after {limit} s of silence"),
        );
        format!(
            "Tasks on hosts whose agent is not connected: {} They {meanwhile}, and are replaced {after} s after the agent was last \
             heard of.",
            list(names)
        )
    });
    (!by_time.is_empty()).then(|| told.collect::<Vec<_>>().join(" "))
}
