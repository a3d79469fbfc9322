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
//! Where the task of a silent host is worth more than what replaces it (`keepOnReturn: Original`), it is not given up but set aside:
//! its status notes its absence, and while that lasts it counts for nothing. Once its host is back for longer than one is
//! taken for silent, it counts again; then there is one too many, and the youngest goes. Until then nobody knows whether the host is
//! back or the operator began to look anew, and its agent has time to say what became of it.
//!
//! Never: a task is given up for the policy of somebody else. Brakes and the order of hosts are those of `instances`, for all alike.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tallyman_crds::capabilities::STOP_AFTER;
use tallyman_crds::ecs::ContainerDefinition;
use tallyman_crds::{Absence, Connectivity, KeepOnReturn, ServiceSpec, TaskSpec};

use crate::names::{InstanceName, ServiceName};
use crate::services::{list, time};
use crate::settings::Settings;
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

/// Which task of a service stays when a silent host comes back.
pub(crate) fn keep_on_return(spec: &ServiceSpec) -> KeepOnReturn {
    let policy = spec.disconnect.as_ref();
    policy.and_then(|d| d.keep_on_return).unwrap_or_default()
}

/// What a host must advertise for a task that is to stop by itself: an agent that knows nothing of it would let it run on.
pub(crate) fn required(stop_after: Option<i32>) -> Option<(String, Option<String>)> {
    stop_after.map(|_| (STOP_AFTER.to_owned(), None))
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

/// After what silence of its host a task is replaced; `None`: never.
pub(crate) fn replaced_after(world: &World, task: &TaskState) -> Option<Duration> {
    if is_kept(world, task) && world.is_of_daemon(task) {
        return None;
    }
    let service = task.service.as_ref().and_then(|s| world.services.get(s));
    let asked = service.and_then(|s| s.replace_after);
    let after = match task.fenced_after {
        Some(fenced) => fenced.max(asked.unwrap_or_default()),
        None => asked.unwrap_or(world.settings.replace_after),
    };
    Some(after.max(world.settings.agent_grace))
}

/// The time of a task has come, with a host that is silent for so long.
pub(crate) fn is_due(world: &World, task: &TaskState, silent: Duration) -> bool {
    let away = task
        .absence
        .as_ref()
        .is_some_and(|a| a.back_since.is_none());
    let set_aside = away && is_kept(world, task);
    !set_aside && replaced_after(world, task).is_some_and(|after| silent >= after)
}

/// Every silence of a host from which on something is different.
pub(crate) fn limits(world: &World, host: &InstanceName) -> BTreeSet<Duration> {
    let settings = &world.settings;
    let asked = world.index.counts.own_say > 0;
    let here = asked.then(|| world.tasks_on(host)).into_iter().flatten();
    let here = here.filter(|(_, t)| t.holds());
    here.flat_map(|(_, t)| [replaced_after(world, t), t.fenced_after])
        .flatten()
        .chain([settings.agent_grace, settings.replace_after])
        .collect()
}

/// The time of a task of a silent host has come, or would have if it had one.
pub(crate) fn first_due(world: &World, host: &InstanceName, i: &InstanceState) -> bool {
    let default = world.settings.replace_after;
    let waits = i.silent_for().is_some_and(|age| age >= default);
    i.host.is_some() && (waits || holds_due(world, host, i))
}

/// The host holds tasks whose time has come.
pub(crate) fn holds_due(world: &World, host: &InstanceName, i: &InstanceState) -> bool {
    let mut here = world.tasks_on(host).filter(|(_, t)| t.holds());
    i.silent_for()
        .is_some_and(|age| here.any(|(_, t)| is_due(world, t, age)))
}

// --- what stays when a host comes back ---

/// The task is to stay if its host comes back.
pub(crate) fn is_kept(world: &World, task: &TaskState) -> bool {
    let service = task.service.as_ref().and_then(|s| world.services.get(s));
    let original = service.is_some_and(|s| s.keep_on_return == KeepOnReturn::Original);
    original && !task.leaving() && task.fenced_after.is_none()
}

/// It is replaced, and its host is silent.
pub(crate) fn gone(now: Timestamp) -> Absence {
    Absence {
        since: time(now),
        back_since: None,
    }
}

/// What is to be written of the absence of a task, when its host was heard of or is silent again before it counted.
pub(crate) fn return_of(world: &World, task: &TaskState, now: Timestamp) -> Option<Absence> {
    let absence = task.absence.as_ref().filter(|_| !task.leaving())?;
    let connected = world
        .host_of(task)
        .is_some_and(|i| i.connected(&world.settings));
    let back_since = match (connected, &absence.back_since) {
        (true, None) => Some(time(now)),
        (false, Some(_)) if is_absent(task, &world.settings, now) => None,
        (true, Some(_)) | (false, _) => return None,
    };
    Some(Absence {
        since: absence.since.clone(),
        back_since,
    })
}

/// When a task whose host is back counts again.
pub(crate) fn counts_again(task: &TaskState, settings: &Settings) -> Option<Timestamp> {
    let back = task.absence.as_ref()?.back_since.as_ref()?;
    let wait = SignedDuration::try_from(settings.agent_grace + RENEWAL).ok()?;
    back.0.checked_add(wait).ok()
}

/// The task was replaced, and counts for nothing yet.
pub(crate) fn is_absent(task: &TaskState, settings: &Settings, now: Timestamp) -> bool {
    task.absence.is_some() && counts_again(task, settings).is_none_or(|at| at > now)
}

// --- whether their hosts are heard of ---

/// The status of a task says that its host is connected. That is taken back once it is not, unless it has ended.
pub(crate) fn says_connected(world: &World, task: &TaskState) -> bool {
    let says = task.connectivity == Some(Connectivity::Connected);
    says && task.holds() && !world.is_in_the_dark(task)
}

/// What is to be written of `connectivity` of a task. `cut_off`: the host whose tasks are told in this pass that it is.
///
/// Nothing of a task that no agent has told of: the first word is the agent's.
pub(crate) fn connectivity_of(
    world: &World,
    task: &TaskState,
    cut_off: Option<&InstanceName>,
) -> Option<Connectivity> {
    let connected = world
        .host_of(task)
        .is_some_and(|i| i.connected(&world.settings));
    let told = cut_off.is_some() && cut_off == task.instance.as_ref();
    match (task.connectivity?, connected) {
        (Connectivity::Connected, false) => told.then_some(Connectivity::Disconnected),
        (Connectivity::Disconnected, true) => Some(Connectivity::Connected),
        (Connectivity::Connected, true) | (Connectivity::Disconnected, false) => None,
    }
}

// --- what is told ---

/// Why a task is given up with a host that is silent.
pub(crate) fn lost(world: &World, host: &InstanceName, task: &TaskState) -> String {
    let lost = format!("Host {host} was lost: its agent is not connected");
    let after = replaced_after(world, task).unwrap_or_default().as_secs();
    let service = task.service.as_ref();
    let asked = service
        .and_then(|s| world.services.get(s))
        .and_then(|s| s.replace_after);
    let why = match (task.object.spec.stop_after, asked) {
        (Some(limit), _) => format!(
            "{lost}. The task has stopped there by itself after {limit} s (`disconnect.stopAfter`), which is certain after {after} s"
        ),
        (None, Some(_)) => format!("{lost} for {after} s (`disconnect.replaceAfter`)"),
        (None, None) => lost,
    };
    if is_kept(world, task) {
        format!("{why}. What runs there stays if it comes back (`disconnect.keepOnReturn`)")
    } else {
        why
    }
}

/// When the tasks of a silent host are replaced, for people: `300 s`, or `60 to 300 s`.
pub(crate) fn times(world: &World, host: &InstanceName) -> String {
    let here = world.tasks_on(host).filter(|(_, t)| t.holds());
    let times: BTreeSet<u64> = here
        .filter_map(|(_, t)| Some(replaced_after(world, t)?.as_secs()))
        .collect();
    match (times.first(), times.last()) {
        (Some(first), Some(last)) if first < last => format!("{first} to {last} s"),
        (Some(only), _) => format!("{only} s"),
        (None, _) => format!("{} s", world.settings.replace_after.as_secs()),
    }
}

/// What is to be said of the tasks of a service that are on hosts that are silent, if any are: which, and what becomes of them.
pub(crate) fn out_of_touch(world: &World, service: &ServiceName) -> Option<String> {
    let mut by_fate: BTreeMap<String, Vec<_>> = BTreeMap::new();
    let suspect = |t: &TaskState| {
        let host = t.instance.as_ref();
        host.is_some_and(|host| world.index.suspects.contains(host))
    };
    let tasks = world.tasks_of(service);
    for (name, t) in tasks.filter(|(_, t)| suspect(t) && t.holds()) {
        let host = world.host_of(t);
        if host.is_some_and(|i| i.host.is_some() && !i.connected(&world.settings)) {
            by_fate
                .entry(fate(world, t))
                .or_default()
                .push(name.clone());
        }
    }
    let told = by_fate.iter().map(|(fate, names)| {
        let names = list(names);
        format!("Tasks on hosts whose agent is not connected: {names} {fate}")
    });
    (!by_fate.is_empty()).then(|| told.collect::<Vec<_>>().join(" "))
}

/// What becomes of a task on a silent host.
fn fate(world: &World, task: &TaskState) -> String {
    let Some(after) = replaced_after(world, task) else {
        return "They run on there, and stay.".to_owned();
    };
    if task.absence.is_some() && is_kept(world, task) {
        return "They were replaced, run on there, and stay if their host comes back.".to_owned();
    }
    let meanwhile = task.object.spec.stop_after.map_or_else(
        || "run on there".to_owned(),
        |limit| format!("are stopped there by the agent after {limit} s of silence"),
    );
    format!(
        "They {meanwhile}, and are replaced {} s after the agent was last heard of.",
        after.as_secs()
    )
}
