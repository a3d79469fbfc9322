//! What is left on every host of the cluster, and the choice of one.

use std::collections::BTreeMap;
use std::sync::Arc;

use tallyman_crds::Resources;

use super::check::{lacks, lacks_attribute, outside};
use super::index::Index;
use super::request::Request;
use super::room::Room;
use super::unplaceable::{Refusals, Unplaceable};
use crate::definition::Demand;
use crate::gpus;
use crate::names::{Group, InstanceName};
use crate::world::World;

/// What is left on every host of the cluster.
#[derive(Clone, Debug)]
pub struct Ledger {
    pub(super) hosts: Hosts,
    index: Index,
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

    fn enter(&mut self, host: usize, demand: &Demand, name: &Group, to_run: bool) {
        let group = self.group(name);
        self.rooms[host].take(demand, name, to_run);
        let by = i64::from(to_run);
        if to_run {
            *self.tallies[group].entry(host).or_default() += 1;
        }
        self.changes.push(Change { host, group, by });
    }

    fn leave(&mut self, host: usize, demand: &Demand, name: &Group) {
        let group = self.group(name);
        self.rooms[host].give_back(demand, name);
        if let Some(count) = self.tallies[group].get_mut(&host) {
            *count -= 1;
            if *count == 0 {
                self.tallies[group].remove(&host);
            }
        }
        let by = -1;
        self.changes.push(Change { host, group, by });
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
        };
        for t in world.tasks.values().filter(|t| t.holds()) {
            if let Some(host) = t.instance.as_ref().and_then(|i| ledger.hosts.number(i)) {
                let to_run = !t.leaving();
                ledger.hosts.enter(host, &t.demand, &t.group, to_run);
            }
        }
        // Nothing was asked yet, so nothing has to be looked at again.
        ledger.hosts.changes.clear();
        ledger
    }

    /// What is left on `instance`, as ECS `remainingResources`.
    pub fn remaining(&self, instance: &InstanceName, world: &World) -> Option<Resources> {
        let room = &self.hosts.rooms[self.hosts.number(instance)?];
        Some(Resources {
            cpu: room.cpu,
            memory: room.memory,
            ports: room.tcp.list(),
            ports_udp: room.udp.list(),
            gpu: gpus::free(world, instance, room.gpus),
        })
    }

    /// Chooses a host for a task and enters it: of the hosts that pass every check, the one that the strategy prefers.
    ///
    /// # Errors
    /// Every host with its reason.
    pub fn place(&mut self, request: &Request) -> Result<InstanceName, Unplaceable> {
        let group = self.hosts.group(&request.group);
        match self.index.choose(&self.hosts, request, group) {
            Ok(host) => {
                let Request { demand, group, .. } = request;
                self.hosts.enter(host, demand, group, true);
                Ok(self.hosts.names[host].clone())
            }
            Err(refusals) => Err(unplaceable(request, refusals)),
        }
    }

    /// Checks one host only and enters the task (ECS StartTask: neither constraints nor strategy matter).
    ///
    /// # Errors
    /// The host's reason; an unknown host is an empty list.
    pub fn place_on(
        &mut self,
        instance: &InstanceName,
        request: &Request,
    ) -> Result<(), Unplaceable> {
        let Some(host) = self.hosts.number(instance) else {
            return Err(unplaceable(request, Arc::default()));
        };
        match lacks(&self.hosts.rooms[host], &request.demand) {
            None => {
                let Request { demand, group, .. } = request;
                self.hosts.enter(host, demand, group, true);
                Ok(())
            }
            Some(refusal) => {
                let refusals = BTreeMap::from([(instance.clone(), refusal)]);
                Err(unplaceable(request, Arc::new(refusals)))
            }
        }
    }

    /// Keeps room for a task that is not started yet, if there is room.
    pub fn reserve(&mut self, instance: &InstanceName, request: &Request) {
        // A host without room keeps none: whoever starts the task says so.
        let _ = self.place_on(instance, request);
    }

    /// The host has every attribute that the task needs.
    pub fn has_attributes(&self, instance: &InstanceName, request: &Request) -> bool {
        let host = self.hosts.number(instance);
        host.is_some_and(|n| lacks_attribute(&self.hosts.rooms[n], &request.demand).is_none())
    }

    /// Every `memberOf` of the task is true of the host.
    pub fn is_member(&self, instance: &InstanceName, request: &Request) -> bool {
        let member_of = &request.rules.constraints.member_of;
        let host = self.hosts.number(instance);
        host.is_some_and(|n| {
            outside(&self.hosts.rooms[n].facts(instance), member_of, |_| true).is_none()
        })
    }

    /// The host takes tasks, and such a task as far as attributes and `memberOf` go.
    pub fn suits(&self, instance: &InstanceName, request: &Request) -> bool {
        let host = self.hosts.number(instance);
        host.is_some_and(|n| self.hosts.rooms[n].barred.is_none())
            && self.has_attributes(instance, request)
            && self.is_member(instance, request)
    }

    /// Takes a task out again that this ledger placed on `instance`: what it held is free.
    pub fn give_back(&mut self, instance: &InstanceName, request: &Request) {
        if let Some(host) = self.hosts.number(instance) {
            self.hosts.leave(host, &request.demand, &request.group);
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
