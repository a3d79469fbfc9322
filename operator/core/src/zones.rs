//! Availability zone rebalancing: a steady service whose tasks are uneven over the zones gets one more in the emptiest zone,
//! and once that is healthy loses one in the fullest (ECS availability zone rebalancing). Scale-in by a strategy that spreads
//! over zones first takes it from there by itself.

use std::collections::{BTreeMap, BTreeSet};

use tallyman_crds::ZoneRebalancing;
use tallyman_crds::ecs::AvailabilityZoneRebalancing;

use crate::deployments::{Bounds, Bucket, Member};
use crate::names::TaskName;
use crate::placement::{Field, Ledger, Preference, Query, Request};
use crate::world::{ServiceState, World, ZONE};

/// A task that moves from one zone to another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Move {
    /// The fullest zone.
    pub from: String,
    /// The emptiest one.
    pub to: String,
    /// Tasks by zone, for people.
    pub counts: String,
}

/// What is asked of the host of the task that is started in zone `to`, beside what is always asked.
pub(crate) fn in_zone(to: &str) -> Option<Query> {
    Query::parse(&format!("attribute:{ZONE} == \"{to}\"")).ok()
}

/// The service may move tasks between zones: it is not switched off, tasks are spread over zones first, no constraint names
/// the zone, and `maximumPercent` leaves room for one more task.
pub(crate) fn allowed(service: &ServiceState, request: &Request, bounds: Bounds) -> bool {
    let asked = service.object.spec.availability_zone_rebalancing;
    let spread = request.rules.strategy.steps.first();
    let over_zones =
        matches!(spread, Some(Preference::Spread(Field::Attribute(name))) if name == ZONE);
    let member_of = &request.rules.constraints.member_of;
    asked != Some(AvailabilityZoneRebalancing::Disabled)
        && over_zones
        && bounds.upper > bounds.desired
        && !member_of.iter().any(|q| q.text().contains(ZONE))
}

/// The move that makes the zones more even, if they differ by more than one task. `members` are all healthy and none is
/// to stop.
pub(crate) fn next(
    world: &World,
    ledger: &mut Ledger,
    request: &Request,
    members: &[Member<'_>],
) -> Option<Move> {
    let mut counts = by_zone(world, members);
    if is_even(&counts) {
        // Most services are even, and hosts are many.
        return None;
    }
    let open = open(world, ledger, request);
    counts.retain(|zone, n| *n > 0 || open.contains(zone));
    let of = |zone: &str| counts.get(zone).copied().unwrap_or(0);
    let fullest = *counts.values().max()?;
    let to = open.into_iter().min_by_key(|zone| (of(zone), *zone))?;
    let from = kept(world, members)
        .filter(|(_, m)| m.protected_until.is_none())
        .map(|(zone, _)| zone)
        .filter(|zone| of(zone) == fullest)
        .min()?;
    (fullest - of(to) > 1).then(|| Move {
        from: from.to_owned(),
        to: to.to_owned(),
        counts: told(&counts),
    })
}

/// Tasks by zone, for people, if no two zones differ by more than one task.
pub(crate) fn even(
    world: &World,
    ledger: &mut Ledger,
    request: &Request,
    members: &[Member<'_>],
) -> Option<String> {
    let mut counts = by_zone(world, members);
    let open = open(world, ledger, request);
    counts.retain(|zone, n| *n > 0 || open.contains(zone));
    is_even(&counts).then(|| told(&counts))
}

/// The tasks that are to stay, with their zones.
fn kept<'w, 'm>(
    world: &'w World,
    members: &'m [Member<'w>],
) -> impl Iterator<Item = (&'w str, &'m Member<'w>)> {
    let kept = members.iter().filter(|m| m.bucket == Bucket::Kept);
    kept.filter_map(move |m| Some((zone_of(world, m)?, m)))
}

fn zone_of<'w>(world: &'w World, m: &Member<'_>) -> Option<&'w str> {
    let host = world.instances.get(m.task.instance.as_ref()?)?;
    host.zone()
}

fn by_zone<'w>(world: &'w World, members: &[Member<'w>]) -> BTreeMap<&'w str, i64> {
    let zones = world.index.zones.keys();
    let mut counts: BTreeMap<&str, i64> = zones.map(|z| (z.as_str(), 0)).collect();
    for (zone, _) in kept(world, members) {
        *counts.entry(zone).or_default() += 1;
    }
    counts
}

fn is_even(counts: &BTreeMap<&str, i64>) -> bool {
    let (least, most) = (counts.values().min(), counts.values().max());
    least
        .zip(most)
        .is_none_or(|(least, most)| most - least <= 1)
}

/// The zones with a host on which a task could be.
fn open<'w>(world: &'w World, ledger: &mut Ledger, request: &Request) -> BTreeSet<&'w str> {
    let hosts = world.instances.iter();
    let hosts = hosts.filter(|(name, _)| ledger.suits(name, request));
    hosts.filter_map(|(_, host)| host.zone()).collect()
}

fn told(counts: &BTreeMap<&str, i64>) -> String {
    let each = counts
        .iter()
        .map(|(zone, n)| format!("{n} tasks in {zone}"));
    each.collect::<Vec<_>>().join(", ")
}

/// What is stopped is the one task that makes the move complete, and of the zone that it leaves.
pub(crate) fn completes(
    world: &World,
    moving: &ZoneRebalancing,
    stop: &[TaskName],
    members: &[Member<'_>],
) -> bool {
    let [one] = stop else { return false };
    let m = members.iter().find(|m| m.name == one);
    m.is_some_and(|m| m.bucket == Bucket::Kept && zone_of(world, m) == Some(moving.from.as_str()))
}

/// The move that was begun, while its task is there and not healthy yet, or the one that it replaces has not gone.
pub(crate) fn under_way(service: &ServiceState, members: &[Member<'_>]) -> Option<ZoneRebalancing> {
    let moving = service.status.rebalancing.as_ref()?;
    let kept = |m: &&Member<'_>| m.bucket == Bucket::Kept;
    let arrived = members
        .iter()
        .filter(kept)
        .any(|m| m.name.as_str() == moving.task);
    let count = i64::try_from(members.iter().filter(kept).count()).unwrap_or(i64::MAX);
    (arrived && count > service.desired).then(|| moving.clone())
}

/// The task that moves does not count as healthy yet: until it does, none is taken away for it.
pub(crate) fn waits(moving: &ZoneRebalancing, members: &[Member<'_>]) -> bool {
    let task = members.iter().find(|m| m.name.as_str() == moving.task);
    task.is_some_and(|m| !m.healthy)
}
