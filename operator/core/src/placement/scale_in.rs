//! Which task of a service stops first when there are too many (ECS service scale-in): the strategy that placed them, read
//! backwards.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use super::ledger::Ledger;
use super::strategy::{Field, MOST, Preference, Resource, Strategy, seed};
use crate::definition::Demand;
use crate::names::{InstanceName, TaskName};

/// A task that may be stopped.
#[derive(Clone, Copy, Debug)]
pub struct Candidate<'a> {
    /// Its name.
    pub name: &'a TaskName,
    /// `metadata.uid`: its lot.
    pub uid: &'a str,
    /// Where it runs.
    pub host: Option<&'a InstanceName>,
    /// It is RUNNING.
    pub running: bool,
    /// It counts towards `minimumHealthyPercent`.
    pub healthy: bool,
    /// It is younger than a task that came back with its host, and may be what replaced that (`disconnect.keepOnReturn`).
    pub replaces: bool,
    /// What it holds.
    pub demand: &'a Demand,
}

/// The tasks of a service that stay, counted as its strategy counts them.
#[derive(Debug)]
pub struct ScaleIn<'a> {
    ledger: &'a Ledger,
    strategy: &'a Strategy,
    /// Attributes that the strategy spreads over, in order.
    attributes: Vec<&'a str>,
    on_host: BTreeMap<&'a InstanceName, i64>,
    /// For each of the attributes.
    of_value: Vec<BTreeMap<Value<'a>, i64>>,
    /// What those that were picked leave: CPU units and MiB.
    freed: BTreeMap<&'a InstanceName, (i64, i64)>,
}

/// The value of an attribute on a host; `None` when it lacks the attribute.
type Value<'a> = Option<&'a Option<String>>;

impl<'a> ScaleIn<'a> {
    /// Counts the tasks of the service: the hosts of all that are not to stop yet, those included that may not be stopped.
    pub fn of(
        ledger: &'a Ledger,
        strategy: &'a Strategy,
        tasks: impl Iterator<Item = &'a InstanceName>,
    ) -> ScaleIn<'a> {
        let attributes: Vec<&str> = strategy.attributes().collect();
        let mut counted = ScaleIn {
            ledger,
            strategy,
            on_host: BTreeMap::new(),
            of_value: vec![BTreeMap::new(); attributes.len()],
            attributes,
            freed: BTreeMap::new(),
        };
        for host in tasks {
            counted.count(host, 1);
        }
        counted
    }

    /// Takes the next to stop out of `candidates`: those that do not run first, then those that do not count as healthy; of
    /// the rest the youngest of those that may have replaced what came back, then those that the strategy likes least (`spread`: from where the most are; `binpack`: from where the most is free
    /// afterwards). Of those that are equal to it, the youngest, or by lot.
    pub fn pick(&mut self, candidates: &mut Vec<Candidate<'a>>) -> Option<Candidate<'a>> {
        let key = |c: &Candidate<'a>| {
            let lot = self.strategy.lot.then(|| seed(&["scale-in", c.uid]));
            let ready = (Reverse(c.running), Reverse(c.healthy));
            let replaces = c.replaces.then_some(c.name);
            (ready, replaces, self.surplus(c), lot, c.name)
        };
        let worst = candidates.iter().enumerate().max_by_key(|(_, c)| key(c));
        let picked = candidates.swap_remove(worst?.0);
        if let Some(host) = picked.host {
            self.count(host, -1);
            let (cpu, memory) = self.freed.entry(host).or_default();
            *cpu += picked.demand.cpu;
            *memory += picked.demand.memory;
        }
        Some(picked)
    }

    /// For each step of the strategy how much speaks for taking it away here.
    fn surplus(&self, c: &Candidate<'a>) -> [i64; MOST] {
        let mut surplus = [0; MOST];
        let Some(host) = c.host else { return surplus };
        let mut counted = self.attributes.iter().zip(&self.of_value);
        for (step, surplus) in self.strategy.steps.iter().zip(&mut surplus) {
            *surplus = match step {
                Preference::Spread(Field::Instance) => self.on_host.get(host).copied().unwrap_or(0),
                Preference::Spread(Field::Attribute(_)) => {
                    counted.next().map_or(0, |(a, counts)| {
                        let value = self.value(host, a);
                        counts.get(&value).copied().unwrap_or(0)
                    })
                }
                Preference::Binpack(resource) => self.free_after(host, *resource, c.demand),
            };
        }
        surplus
    }

    fn free_after(&self, host: &InstanceName, resource: Resource, demand: &Demand) -> i64 {
        let room = self.ledger.hosts.number(host);
        let room = room.map(|n| &self.ledger.hosts.rooms[n]);
        let (cpu, memory) = self.freed.get(host).copied().unwrap_or((0, 0));
        match resource {
            Resource::Cpu => room.map_or(0, |r| r.cpu) + cpu + demand.cpu,
            Resource::Memory => room.map_or(0, |r| r.memory) + memory + demand.memory,
        }
    }

    fn count(&mut self, host: &'a InstanceName, by: i64) {
        *self.on_host.entry(host).or_default() += by;
        for n in 0..self.attributes.len() {
            let value = self.value(host, self.attributes[n]);
            *self.of_value[n].entry(value).or_default() += by;
        }
    }

    fn value(&self, host: &InstanceName, attribute: &str) -> Value<'a> {
        let ledger: &'a Ledger = self.ledger;
        let number = ledger.hosts.number(host)?;
        ledger.hosts.rooms[number].attributes.get(attribute)
    }
}
