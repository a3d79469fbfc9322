//! Availability zone rebalancing: a steady service whose tasks are uneven over the zones gets one more in the emptiest zone,
//! and once that is healthy loses one in the fullest (ECS availability zone rebalancing). Scale-in by a strategy that spreads
//! over zones first takes it from there by itself.

use std::collections::{BTreeMap, BTreeSet};

use tallyman_crds::ZoneRebalancing;
use tallyman_crds::ecs::AvailabilityZoneRebalancing;

use crate::deployments::{Bounds, Bucket, Member};
use crate::placement::{Field, Ledger, Preference, Query, Request};
use crate::world::{InstanceState, ServiceState, World, ZONE};

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
    let mut counts: BTreeMap<&str, i64> =
        world.index.zones.keys().map(|z| (z.as_str(), 0)).collect();
    let mut free: BTreeMap<&str, i64> = BTreeMap::new();
    for m in members.iter().filter(|m| m.bucket == Bucket::Kept) {
        let host = m
            .task
            .instance
            .as_ref()
            .and_then(|i| world.instances.get(i));
        if let Some(zone) = host.and_then(InstanceState::zone) {
            *counts.entry(zone).or_default() += 1;
            *free.entry(zone).or_default() += i64::from(m.protected_until.is_none());
        }
    }
    let (least, fullest) = (counts.values().min()?, *counts.values().max()?);
    if fullest - least <= 1 {
        // Most services are even, and hosts are many.
        return None;
    }
    let open: BTreeSet<&str> = world
        .instances
        .iter()
        .filter(|(name, _)| ledger.suits(name, request))
        .filter_map(|(_, host)| host.zone())
        .collect();
    counts.retain(|zone, n| *n > 0 || open.contains(zone));
    let of = |zone: &str| counts.get(zone).copied().unwrap_or(0);
    let to = open.into_iter().min_by_key(|zone| (of(zone), *zone))?;
    let from = free
        .into_iter()
        .find(|(zone, unprotected)| of(zone) == fullest && *unprotected > 0)?
        .0;
    let list: Vec<String> = counts
        .iter()
        .map(|(zone, n)| format!("{n} tasks in {zone}"))
        .collect();
    (fullest - of(to) > 1).then(|| Move {
        from: from.to_owned(),
        to: to.to_owned(),
        counts: list.join(", "),
    })
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
