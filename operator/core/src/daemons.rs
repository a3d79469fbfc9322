//! DAEMON services: one task on each host that meets the constraints (ECS daemon scheduling strategy).
//!
//! They are decided before all others, so that a host that is new has room for them; a host that drains loses them last,
//! because what collects logs outlives what writes them.

use std::collections::{BTreeMap, BTreeSet};

use crate::deployments::{Bounds, Bucket, Hold, Member, Start, Step};
use crate::names::InstanceName;
use crate::placement::{self, Ledger, Request};
use crate::world::World;

/// What a daemon is to a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fit {
    /// The host is to have a task.
    Wanted,
    /// The host keeps a task that it has and gets no new one: its agent or its engine is away, it drains, or it lacks an
    /// attribute that a task needs to start.
    Kept,
    /// The host does not meet the constraints.
    Unfit,
}

/// The hosts of a daemon, and how many tasks it is to have.
pub(crate) struct Hosts {
    wanted: BTreeSet<InstanceName>,
    /// Hosts that are to have a task, and those that keep the one that they have.
    pub desired: i64,
}

/// Looks at every host, and sorts `members` into the buckets of a daemon: on a host that does not meet the constraints
/// they are misplaced; on one that drains they stay until nothing else is there.
pub(crate) fn hosts(
    world: &World,
    ledger: &mut Ledger,
    request: &Request,
    members: &mut [Member<'_>],
) -> Hosts {
    let fits: BTreeMap<&InstanceName, Fit> = world
        .instances
        .iter()
        .map(|(name, host)| {
            let barred = placement::barred(host, world).is_some();
            let fit = if barred {
                Fit::Kept
            } else if !ledger.is_member(name, request) {
                Fit::Unfit
            } else if ledger.has_attributes(name, request) {
                Fit::Wanted
            } else {
                Fit::Kept
            };
            (name, fit)
        })
        .collect();
    let mut with: BTreeSet<&InstanceName> = BTreeSet::new();
    for m in members.iter_mut() {
        let Some(host) = m.task.instance.as_ref() else {
            continue;
        };
        match (m.bucket, fits.get(host)) {
            (Bucket::Stopped | Bucket::Stopping | Bucket::Misplaced, _) | (_, None) => continue,
            (
                Bucket::Kept | Bucket::Absent | Bucket::Unhealthy | Bucket::Superseded,
                Some(Fit::Unfit),
            ) => {
                m.bucket = Bucket::Misplaced;
                continue;
            }
            (Bucket::Leaving, Some(_)) if alone(world, host) => continue,
            (Bucket::Superseded, Some(_)) if m.away && alone(world, host) => {
                m.bucket = Bucket::Leaving;
                continue;
            }
            (Bucket::Leaving, Some(_)) => m.bucket = Bucket::Kept,
            (Bucket::Kept | Bucket::Absent | Bucket::Unhealthy | Bucket::Superseded, Some(_)) => {}
        }
        if fits.get(host) == Some(&Fit::Kept) {
            with.insert(host);
        }
    }
    let wanted: BTreeSet<InstanceName> = fits
        .iter()
        .filter(|(_, fit)| **fit == Fit::Wanted)
        .map(|(name, _)| (*name).clone())
        .collect();
    let desired = i64::try_from(wanted.len() + with.len()).unwrap_or(i64::MAX);
    Hosts { wanted, desired }
}

/// Only tasks of daemons are left on the host.
fn alone(world: &World, host: &InstanceName) -> bool {
    world
        .tasks_on(host)
        .filter(|(_, t)| t.holds())
        .all(|(_, t)| world.is_of_daemon(t))
}

/// What to start and to stop. `maximumPercent` is 100: on each host the old task stops first, while at least L tasks are
/// healthy.
pub(crate) fn step(members: &[Member<'_>], hosts: &Hosts, bounds: Bounds, hold: Hold) -> Step {
    let mut on: BTreeMap<&InstanceName, Vec<&Member<'_>>> = BTreeMap::new();
    for m in members.iter().filter(|m| m.bucket != Bucket::Stopped) {
        if let Some(host) = &m.task.instance {
            on.entry(host).or_default().push(m);
        }
    }
    let empty = |host: &&InstanceName| !on.contains_key(host);
    let start: Vec<InstanceName> = match hold {
        Hold::Free | Hold::Spare | Hold::Still => {
            hosts.wanted.iter().filter(empty).cloned().collect()
        }
        Hold::Frozen => Vec::new(),
    };
    let gone = |m: &&Member<'_>| matches!(m.bucket, Bucket::Misplaced | Bucket::Leaving);
    let mut stop: Vec<&Member<'_>> = members.iter().filter(gone).collect();
    stop.extend(on.values().flat_map(|here| surplus(here)));

    let stopping = members.iter().any(|m| m.bucket == Bucket::Stopping);
    if hold != Hold::Frozen && !stopping {
        let sick = members.iter().find(|m| m.bucket == Bucket::Unhealthy);
        stop.extend(sick);
    }
    let superseded = |m: &&Member<'_>| m.bucket == Bucket::Superseded && !m.away;
    let mut old: Vec<&Member<'_>> = match hold {
        Hold::Free | Hold::Spare => members.iter().filter(superseded).collect(),
        Hold::Still | Hold::Frozen => Vec::new(),
    };
    old.sort_by_key(|m| (m.healthy, m.name.clone()));
    let counts = |m: &&Member<'_>| m.healthy && !gone(m);
    let healthy = i64::try_from(members.iter().filter(counts).count()).unwrap_or(i64::MAX);
    let mut budget = (healthy - bounds.lower).max(0);
    let stuck = !old.is_empty();
    for m in old {
        if !m.healthy {
            stop.push(m);
        } else if budget > 0 {
            budget -= 1;
            stop.push(m);
        }
    }
    let waits = |m: &Member<'_>| m.bucket != Bucket::Stopped && !m.healthy && !m.sick;
    let waiting = stopping || members.iter().any(waits);
    Step {
        deadlock: stuck && start.is_empty() && stop.is_empty() && !waiting,
        start: Start::On(start),
        stop: stop.into_iter().map(|m| m.name.clone()).collect(),
        leaves: None,
        // Each host has its own task to wait for: none takes the room of another's.
        blocked: false,
    }
}

/// Tasks of the primary deployment beside the one that a host is to have: what is not healthy first, then the youngest.
fn surplus<'m, 'w>(here: &[&'m Member<'w>]) -> Vec<&'m Member<'w>> {
    let mut kept: Vec<&Member<'_>> = here
        .iter()
        .copied()
        .filter(|m| m.bucket == Bucket::Kept)
        .collect();
    kept.sort_by_key(|m| (!m.healthy, m.name.clone()));
    kept.into_iter().skip(1).collect()
}
