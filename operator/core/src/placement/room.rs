//! What is left on one host, and what runs there.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::Timestamp;

use super::check::barred;
use super::query::Facts;
use super::refusal::Refusal;
use crate::definition::Demand;
use crate::gpus::Gpus;
use crate::names::{Group, InstanceName};
use crate::world::{InstanceState, World};

/// What is left on one host, and what runs there.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Room {
    /// CPU units left; below 0 when the host shrank.
    pub cpu: i64,
    /// MiB left.
    pub memory: i64,
    /// Its GPUs, and what tasks hold of them.
    pub gpus: Gpus,
    /// Addresses that it has for tasks with one of their own; `None`: it sets no limit.
    pub addresses: Option<i64>,
    /// How many tasks have one.
    pub addressed: i64,
    /// TCP ports that are taken.
    pub tcp: Ports,
    /// UDP ports that are taken.
    pub udp: Ports,
    /// Tasks that hold something here.
    pub tasks: i64,
    /// Those of them that are to run, so without those that are stopping.
    pub to_run: i64,
    /// The same by group.
    pub groups: BTreeMap<Group, i64>,
    /// Why it takes no task at all.
    pub barred: Option<Refusal>,
    /// Attributes of the host.
    pub attributes: Arc<BTreeMap<String, Option<String>>>,
    connected: bool,
    agent_version: Option<String>,
    registered_at: Option<Timestamp>,
}

/// Ports that are taken, and how often: what was taken twice is free only when both gave it back.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Ports(BTreeMap<u16, u32>);

impl Ports {
    fn of(list: &[i32]) -> Ports {
        let ports = list.iter().filter_map(|p| u16::try_from(*p).ok());
        Ports(ports.map(|p| (p, 1)).collect())
    }

    fn take(&mut self, ports: &BTreeSet<u16>) {
        for port in ports {
            *self.0.entry(*port).or_default() += 1;
        }
    }

    fn give_back(&mut self, ports: &BTreeSet<u16>) {
        for port in ports {
            if let Some(times) = self.0.get_mut(port) {
                *times -= 1;
                if *times == 0 {
                    self.0.remove(port);
                }
            }
        }
    }

    /// The first of `ports` that is taken.
    pub fn clash(&self, ports: &BTreeSet<u16>) -> Option<u16> {
        ports.iter().find(|p| self.0.contains_key(p)).copied()
    }

    /// All that are taken, as ECS lists them.
    pub fn list(&self) -> Vec<i32> {
        self.0.keys().map(|p| i32::from(*p)).collect()
    }
}

impl Room {
    /// The host as it registered, with nothing on it.
    pub fn of(instance: &InstanceState, world: &World) -> Room {
        let registered = instance
            .host
            .as_ref()
            .map(|h| h.registered_resources.clone())
            .unwrap_or_default();
        Room {
            cpu: registered.cpu,
            memory: registered.memory,
            gpus: Gpus::of(&registered),
            addresses: instance.task_addresses(),
            addressed: 0,
            tcp: Ports::of(&registered.ports),
            udp: Ports::of(&registered.ports_udp),
            tasks: 0,
            to_run: 0,
            groups: BTreeMap::new(),
            barred: barred(instance, world),
            attributes: instance.attributes.clone(),
            connected: instance.connected(&world.settings),
            agent_version: instance.host.as_ref().map(|h| h.agent_version.clone()),
            registered_at: instance.registered_at,
        }
    }

    /// Enters a task. `told`: the GPUs that it has as far as its agent said.
    pub fn take(&mut self, demand: &Demand, told: &BTreeSet<&str>, group: &Group, to_run: bool) {
        self.cpu -= demand.cpu;
        self.memory -= demand.memory;
        self.gpus.take(demand, told);
        self.addressed += demand.addresses;
        self.tcp.take(&demand.ports);
        self.udp.take(&demand.ports_udp);
        self.tasks += 1;
        if to_run {
            self.to_run += 1;
            match self.groups.get_mut(group) {
                Some(count) => *count += 1,
                None => {
                    self.groups.insert(group.clone(), 1);
                }
            }
        }
    }

    /// Takes a task out again, as it was entered.
    pub fn give_back(
        &mut self,
        demand: &Demand,
        told: &BTreeSet<&str>,
        group: &Group,
        to_run: bool,
    ) {
        self.cpu += demand.cpu;
        self.memory += demand.memory;
        self.gpus.give_back(demand, told);
        self.addressed -= demand.addresses;
        self.tcp.give_back(&demand.ports);
        self.udp.give_back(&demand.ports_udp);
        self.tasks -= 1;
        if !to_run {
            return;
        }
        self.to_run -= 1;
        if let Some(count) = self.groups.get_mut(group) {
            *count -= 1;
            if *count == 0 {
                self.groups.remove(group);
            }
        }
    }

    /// True when `other` is the same host as far as placement asks for more than room.
    pub fn is_like(&self, other: &Room) -> bool {
        self.barred == other.barred
            && self.attributes == other.attributes
            && self.connected == other.connected
            && self.agent_version == other.agent_version
            && self.registered_at == other.registered_at
    }

    /// What queries may ask. A task counts as running from the moment it is placed, so that `runningTasksCount < 3` also
    /// holds of tasks that are placed together.
    pub fn facts<'a>(&'a self, name: &'a InstanceName) -> Facts<'a> {
        Facts {
            name: name.as_str(),
            agent_connected: self.connected,
            agent_version: self.agent_version.as_deref(),
            registered_at: self.registered_at,
            running_tasks_count: self.to_run,
            attributes: &self.attributes,
            groups: &self.groups,
        }
    }
}
