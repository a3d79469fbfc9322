//! What is left on every host of the cluster, and the choice of one.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use tallyman_crds::Resources;

use super::check::{lacks, lacks_attribute, outside};
use super::index::Index;
use super::query::Query;
use super::refusal::Refusal;
use super::request::Request;
use super::room::Room;
use super::unplaceable::{Refusals, Unplaceable};
use crate::definition::Demand;
use crate::names::{Group, InstanceName};
use crate::runs::NO_HOSTS;
use crate::world::{TaskState, World};

/// What is left on every host of the cluster. It lives as long as its world: tasks and hosts that change are entered
/// anew, and what a pass placed is taken out at its end, since it comes back as tasks.
#[derive(Clone, Debug)]
pub struct Ledger {
    pub(super) hosts: Hosts,
    index: Index,
    /// What was placed in this pass.
    placed: Vec<Placed>,
    asked: bool,
    /// How often no host was found in this pass, by ECS' reason of the closest one.
    failures: BTreeMap<&'static str, u64>,
}

/// What a task holds on a host.
#[derive(Clone, Debug, PartialEq)]
struct Held<'a> {
    host: usize,
    demand: &'a Demand,
    /// GPUs that it has as far as its agent said.
    told: BTreeSet<&'a str>,
    group: &'a Group,
    to_run: bool,
}

/// What was placed.
#[derive(Clone, Debug, PartialEq)]
struct Placed {
    host: usize,
    demand: Demand,
    group: Group,
}

impl Placed {
    fn held(&self) -> Held<'_> {
        Held {
            host: self.host,
            demand: &self.demand,
            told: BTreeSet::new(),
            group: &self.group,
            to_run: true,
        }
    }
}

/// How far the change of a host reaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reach {
    /// Nowhere: placement does not see it.
    Nowhere,
    /// Something else is left on it.
    Room,
    /// It takes other tasks than before.
    Facts,
}

/// The hosts by number, in order of name, and what was entered since the ledger was made.
#[derive(Clone, Debug, Default)]
pub(super) struct Hosts {
    pub names: Vec<InstanceName>,
    pub rooms: Vec<Room>,
    groups: BTreeMap<Group, usize>,
    /// By number of group: tasks that are to run, by host. None where there are none.
    tallies: Vec<BTreeMap<usize, i64>>,
    /// Every change of a room, oldest first: what an index has to look at again.
    pub changes: Vec<Change>,
}

/// A task came to a host, or went.
#[derive(Clone, Copy, Debug)]
pub(super) struct Change {
    /// Number of the host.
    pub host: usize,
    /// Number of the task's group.
    pub group: usize,
    /// By how much the group's tasks that are to run there changed.
    pub by: i64,
}

impl Hosts {
    /// Number of a host.
    pub fn number(&self, name: &InstanceName) -> Option<usize> {
        self.names.binary_search(name).ok()
    }

    /// Number of a group; one that was never seen gets the next.
    pub fn group(&mut self, group: &Group) -> usize {
        if let Some(number) = self.groups.get(group) {
            return *number;
        }
        let number = self.tallies.len();
        self.groups.insert(group.clone(), number);
        self.tallies.push(BTreeMap::new());
        number
    }

    /// Tasks of a group that are to run, by host.
    pub fn tally(&self, group: usize) -> &BTreeMap<usize, i64> {
        &self.tallies[group]
    }

    /// Tasks of a group that are to run on a host.
    pub fn mine(&self, group: usize, host: usize) -> i64 {
        self.tallies[group].get(&host).copied().unwrap_or(0)
    }

    fn enter(&mut self, entry: Held<'_>) {
        let group = self.group(entry.group);
        self.rooms[entry.host].take(entry.demand, &entry.told, entry.group, entry.to_run);
        if entry.to_run {
            *self.tallies[group].entry(entry.host).or_default() += 1;
        }
        self.changes.push(Change {
            host: entry.host,
            group,
            by: i64::from(entry.to_run),
        });
    }

    fn leave(&mut self, entry: Held<'_>) {
        let group = self.group(entry.group);
        self.rooms[entry.host].give_back(entry.demand, &entry.told, entry.group, entry.to_run);
        if entry.to_run
            && let Some(count) = self.tallies[group].get_mut(&entry.host)
        {
            *count -= 1;
            if *count == 0 {
                self.tallies[group].remove(&entry.host);
            }
        }
        self.changes.push(Change {
            host: entry.host,
            group,
            by: -i64::from(entry.to_run),
        });
    }
}

impl Ledger {
    /// Counts what the tasks of `world` hold.
    pub fn of(world: &World) -> Ledger {
        let hosts = Hosts {
            names: world.instances.keys().cloned().collect(),
            rooms: world
                .instances
                .values()
                .map(|i| Room::of(i, world))
                .collect(),
            ..Hosts::default()
        };
        let mut ledger = Ledger {
            hosts,
            index: Index::default(),
            placed: Vec::new(),
            asked: false,
            failures: BTreeMap::new(),
        };
        for t in world.tasks.values() {
            if let Some(held) = ledger.held(t) {
                ledger.hosts.enter(held);
            }
        }
        // Nothing was asked yet, so nothing has to be looked at again.
        ledger.hosts.changes.clear();
        ledger
    }

    /// What a task holds, if it holds something on a host that is there.
    fn held<'t>(&self, t: &'t TaskState) -> Option<Held<'t>> {
        let host = t.instance.as_ref().filter(|_| t.holds())?;
        Some(Held {
            host: self.hosts.number(host)?,
            demand: &t.demand,
            told: t.gpu_ids(),
            group: &t.group,
            to_run: !t.leaving(),
        })
    }

    /// A task of the world came, changed or went. True when something is left otherwise than before.
    pub(crate) fn exchange(&mut self, old: Option<&TaskState>, new: Option<&TaskState>) -> bool {
        let old = old.and_then(|t| self.held(t));
        let new = new.and_then(|t| self.held(t));
        if old == new {
            return false;
        }
        old.into_iter().for_each(|held| self.hosts.leave(held));
        new.into_iter().for_each(|held| self.hosts.enter(held));
        true
    }

    /// A host of the world changed.
    pub(crate) fn exchange_host(&mut self, name: &InstanceName, world: &World) -> Reach {
        let (Some(host), Some(state)) = (self.hosts.number(name), world.instances.get(name)) else {
            return Reach::Nowhere;
        };
        let mut room = Room::of(state, world);
        for (_, t) in world.tasks_on(name).filter(|(_, t)| t.holds()) {
            room.take(&t.demand, &t.gpu_ids(), &t.group, !t.leaving());
        }
        let old = std::mem::replace(&mut self.hosts.rooms[host], room);
        let new = &self.hosts.rooms[host];
        if !old.is_like(new) {
            // Who sits where and who passes was found out for hosts as they were.
            self.index = Index::default();
            self.hosts.changes.clear();
            return Reach::Facts;
        }
        if old == *new {
            return Reach::Nowhere;
        }
        // Of no group in particular.
        let (group, by) = (0, 0);
        self.hosts.changes.push(Change { host, group, by });
        Reach::Room
    }

    /// How much was placed in this pass, or kept free.
    pub(crate) fn placed(&self) -> usize {
        self.placed.len()
    }

    /// The hosts on which something was placed in this pass.
    pub(crate) fn placed_on(&self) -> BTreeSet<&InstanceName> {
        let hosts = self.placed.iter().map(|placed| placed.host);
        hosts.map(|host| &self.hosts.names[host]).collect()
    }

    /// How often no host was found since this was asked last, by ECS' reason.
    pub(crate) fn failures(&mut self) -> BTreeMap<&'static str, u64> {
        std::mem::take(&mut self.failures)
    }

    fn unplaceable(&mut self, request: &Request, refusals: Refusals) -> Unplaceable {
        let why = unplaceable(request, refusals);
        let reason = why.closest().map_or(NO_HOSTS, |(_, r)| r.ecs_reason());
        *self.failures.entry(reason).or_default() += 1;
        why
    }

    /// Takes out what was placed in this pass.
    pub(crate) fn end_pass(&mut self) {
        for placed in std::mem::take(&mut self.placed).iter().rev() {
            self.hosts.leave(placed.held());
        }
    }

    /// True when somebody asked, since this was last asked, what depends on what others hold.
    pub(crate) fn was_asked(&mut self) -> bool {
        std::mem::take(&mut self.asked)
    }

    /// What it says, in an order that does not depend on how it came to say so.
    pub(crate) fn account(&self) -> impl fmt::Debug {
        let Hosts {
            names,
            rooms,
            groups,
            tallies,
            changes: _,
        } = &self.hosts;
        let groups = groups
            .iter()
            .map(|(group, n)| (group.clone(), tallies[*n].clone()));
        let groups: BTreeMap<_, _> = groups.filter(|(_, tally)| !tally.is_empty()).collect();
        (names.clone(), rooms.clone(), groups)
    }

    fn place_in(&mut self, host: usize, request: &Request) {
        let placed = Placed {
            host,
            demand: request.demand.clone(),
            group: request.group.clone(),
        };
        self.hosts.enter(placed.held());
        self.placed.push(placed);
    }

    /// What is left on `instance`, as ECS `remainingResources`.
    pub fn remaining(&self, instance: &InstanceName) -> Option<Resources> {
        let room = &self.hosts.rooms[self.hosts.number(instance)?];
        let (gpu, gpu_memory) = room.gpus.remaining();
        Some(Resources {
            cpu: room.cpu,
            memory: room.memory,
            ports: room.tcp.list(),
            ports_udp: room.udp.list(),
            gpu,
            gpu_memory,
        })
    }

    /// Chooses a host for a task and enters it: of the hosts that pass every check, the one that the strategy prefers.
    ///
    /// # Errors
    /// Every host with its reason.
    pub fn place(&mut self, request: &Request) -> Result<InstanceName, Unplaceable> {
        self.asked = true;
        let group = self.hosts.group(&request.group);
        match self.index.choose(&self.hosts, request, group) {
            Ok(host) => {
                self.place_in(host, request);
                Ok(self.hosts.names[host].clone())
            }
            Err(refusals) => Err(self.unplaceable(request, refusals)),
        }
    }

    /// Checks one host only and enters the task (ECS StartTask: neither constraints nor strategy matter).
    ///
    /// # Errors
    /// The host's reason.
    pub fn place_on(
        &mut self,
        instance: &InstanceName,
        request: &Request,
    ) -> Result<(), Unplaceable> {
        self.asked = true;
        let refusal = match self.hosts.number(instance) {
            None => Refusal::Missing,
            Some(host) => match lacks(&self.hosts.rooms[host], &request.demand) {
                None => {
                    self.place_in(host, request);
                    return Ok(());
                }
                Some(refusal) => refusal,
            },
        };
        let refusals = BTreeMap::from([(instance.clone(), refusal)]);
        Err(self.unplaceable(request, Arc::new(refusals)))
    }

    /// Keeps room for a task that is not started yet, if there is room.
    pub fn reserve(&mut self, instance: &InstanceName, request: &Request) {
        // A host without room keeps none: whoever starts the task says so, and counts it.
        let counted = std::mem::take(&mut self.failures);
        let _ = self.place_on(instance, request);
        self.failures = counted;
    }

    /// The host has every attribute that the task needs.
    pub fn has_attributes(&self, instance: &InstanceName, request: &Request) -> bool {
        let host = self.hosts.number(instance);
        host.is_some_and(|n| lacks_attribute(&self.hosts.rooms[n], &request.demand).is_none())
    }

    /// Every `memberOf` of the task is true of the host.
    pub fn is_member(&mut self, instance: &InstanceName, request: &Request) -> bool {
        let member_of = &request.rules.constraints.member_of;
        self.asked |= member_of.iter().any(Query::asks_of_tasks);
        let host = self.hosts.number(instance);
        host.is_some_and(|n| {
            outside(&self.hosts.rooms[n].facts(instance), member_of, |_| true).is_none()
        })
    }

    /// The host takes tasks, and such a task as far as attributes and `memberOf` go.
    pub fn suits(&mut self, instance: &InstanceName, request: &Request) -> bool {
        self.asked = true;
        let host = self.hosts.number(instance);
        host.is_some_and(|n| self.hosts.rooms[n].barred.is_none())
            && self.has_attributes(instance, request)
            && self.is_member(instance, request)
    }

    /// Takes a task out again that was placed on `instance` in this pass: what it held is free.
    pub fn give_back(&mut self, instance: &InstanceName, request: &Request) {
        let Some(host) = self.hosts.number(instance) else {
            return;
        };
        let is_it = |placed: &Placed| {
            placed.host == host && placed.demand == request.demand && placed.group == request.group
        };
        if let Some(at) = self.placed.iter().rposition(is_it) {
            let placed = self.placed.remove(at);
            self.hosts.leave(placed.held());
        }
    }
}

fn unplaceable(request: &Request, refusals: Refusals) -> Unplaceable {
    Unplaceable {
        demand: Box::new(request.demand.clone()),
        group: request.group.clone(),
        refusals,
    }
}
