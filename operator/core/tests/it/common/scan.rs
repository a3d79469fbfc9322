//! Placement as ECS describes it, word by word: ask every host, reduce by one step after the other, count by counting.
//! Slow and plain, so that the ledger's index has something to be held against.

use std::collections::BTreeMap;

use tallyman_operator_core::names::{Group, InstanceName};
use tallyman_operator_core::placement::{
    Facts, Field, Preference, Refusal, Request, Resource, barred,
};
use tallyman_operator_core::world::{InstanceState, TASK_ADDRESSES};
use tallyman_operator_core::{Settings, World};

/// MiB of every GPU.
pub const GPU_MEMORY: i64 = 100;

/// All hosts, and all that was placed.
pub struct Scan {
    hosts: Vec<(InstanceName, InstanceState, Option<Refusal>)>,
    settings: Settings,
    placed: Vec<(InstanceName, Request)>,
}

impl Scan {
    /// The hosts of a world without tasks.
    pub fn of(world: &World) -> Scan {
        assert!(world.tasks.is_empty(), "tasks are placed here");
        let hosts = world.instances.iter();
        Scan {
            hosts: hosts
                .map(|(n, i)| (n.clone(), i.clone(), barred(i, world)))
                .collect(),
            settings: world.settings.clone(),
            placed: Vec::new(),
        }
    }

    /// Tasks on a host for which `pick` holds.
    fn on(&self, host: &InstanceName, pick: impl Fn(&Request) -> bool) -> i64 {
        let here = self.placed.iter().filter(|(at, r)| at == host && pick(r));
        i64::try_from(here.count()).unwrap()
    }

    /// CPU units, MiB and GPUs that are left.
    pub fn free(&self, host: &InstanceName) -> [i64; 3] {
        let (_, state, _) = self.hosts.iter().find(|(n, _, _)| n == host).unwrap();
        let has = state
            .host
            .as_ref()
            .map(|h| h.registered_resources.clone())
            .unwrap_or_default();
        let mut free = [has.cpu, has.memory, i64::try_from(has.gpu.len()).unwrap()];
        for (_, r) in self.placed.iter().filter(|(at, _)| at == host) {
            free[0] -= r.demand.cpu;
            free[1] -= r.demand.memory;
            free[2] -= r.demand.gpus;
        }
        free
    }

    /// All that was placed on a host finds GPUs, and a task with these beside it: whole ones first, then as many parts as large as
    /// the largest on each of the others. (No agent told anything here; all GPUs have the same memory.)
    fn gpus_fit(&self, host: &InstanceName, whole: i64, part: i64) -> bool {
        let (_, state, _) = self.hosts.iter().find(|(n, _, _)| n == host).unwrap();
        let here = || {
            self.placed
                .iter()
                .filter(|(at, _)| at == host)
                .map(|(_, r)| &r.demand)
        };
        let all = i64::try_from(state.host.as_ref().unwrap().registered_resources.gpu.len());
        let left = all.unwrap() - whole - here().map(|d| d.gpus).sum::<i64>();
        let mut parts: Vec<i64> = here().map(|d| d.gpu_memory).chain([part]).collect();
        parts.retain(|mib| *mib > 0);
        let Some(largest) = parts.iter().max() else {
            return left >= 0;
        };
        let needed = i64::try_from(parts.len()).unwrap();
        left >= 0 && left * (GPU_MEMORY / largest) >= needed
    }

    /// The first check that a host fails, in the order of ECS.
    fn refuse(&self, host: usize, request: &Request) -> Option<Refusal> {
        let (name, state, barred) = &self.hosts[host];
        let demand = &request.demand;
        if barred.is_some() {
            return barred.clone();
        }
        for (attribute, wanted) in &demand.attributes {
            let has = state.attributes.get(attribute);
            match (has, wanted) {
                (Some(_), None) => {}
                (Some(has), Some(_)) if has == wanted => {}
                (_, None) => return Some(Refusal::Attribute(attribute.clone())),
                (_, Some(v)) => return Some(Refusal::Attribute(format!("{attribute}={v}"))),
            }
        }
        let [cpu, memory, gpus] = self.free(name).map(|free| free.max(0));
        if demand.cpu > cpu {
            return Some(Refusal::Cpu { free: cpu });
        }
        if demand.memory > memory {
            return Some(Refusal::Memory { free: memory });
        }
        let own = &state.host.as_ref().unwrap().registered_resources.ports;
        for port in &demand.ports {
            let taken = self.on(name, |r| r.demand.ports.contains(port)) > 0;
            if taken || own.contains(&i32::from(*port)) {
                return Some(Refusal::Port(*port));
            }
        }
        if demand.gpus > 0 {
            let free = (0..=gpus).rev().find(|n| self.gpus_fit(name, *n, 0));
            let free = free.unwrap_or(0);
            if demand.gpus > free {
                return Some(Refusal::Gpu { free });
            }
        }
        if demand.gpu_memory > 0 {
            let sizes = (0..=GPU_MEMORY).rev();
            let free = sizes.into_iter().find(|mib| self.gpus_fit(name, 0, *mib));
            let free = free.unwrap_or(0);
            if demand.gpu_memory > free {
                return Some(Refusal::GpuMemory { free });
            }
        }
        let addressed = self.on(name, |r| r.demand.addresses > 0);
        let addresses = state.attributes.get(TASK_ADDRESSES).cloned().flatten();
        if let Some(all) = addresses.map(|n| n.parse::<i64>().unwrap())
            && demand.addresses > 0
            && addressed >= all
        {
            return Some(Refusal::Address { all });
        }
        let constraints = &request.rules.constraints;
        if constraints.distinct_instance && self.on(name, |r| r.group == request.group) > 0 {
            return Some(Refusal::DistinctInstance);
        }
        let mut groups: BTreeMap<Group, i64> = BTreeMap::new();
        for (_, r) in self.placed.iter().filter(|(at, _)| at == name) {
            *groups.entry(r.group.clone()).or_default() += 1;
        }
        let facts = Facts {
            name: name.as_str(),
            agent_connected: state.connected(&self.settings),
            agent_version: state.host.as_ref().map(|h| h.agent_version.as_str()),
            registered_at: state.registered_at,
            running_tasks_count: self.on(name, |_| true),
            attributes: &state.attributes,
            groups: &groups,
        };
        let queries = &constraints.member_of;
        let wrong = queries.iter().find(|q| !q.matches(&facts));
        wrong.map(|q| Refusal::MemberOf(q.text().clone()))
    }

    /// What a step makes of a host; the least are kept.
    fn rating(&self, host: usize, step: &Preference, group: &Group) -> i64 {
        let (name, _, _) = &self.hosts[host];
        let value = |host: usize, attribute: &str| self.hosts[host].1.attributes.get(attribute);
        match step {
            Preference::Spread(Field::Instance) => self.on(name, |r| r.group == *group),
            Preference::Spread(Field::Attribute(a)) => (0..self.hosts.len())
                .filter(|other| value(*other, a) == value(host, a))
                .map(|other| self.on(&self.hosts[other].0, |r| r.group == *group))
                .sum(),
            Preference::Binpack(Resource::Cpu) => self.free(name)[0],
            Preference::Binpack(Resource::Memory) => self.free(name)[1],
        }
    }

    /// Chooses a host and enters the task.
    ///
    /// # Errors
    /// Every host with the first check that it fails.
    pub fn place(
        &mut self,
        request: &Request,
    ) -> Result<InstanceName, BTreeMap<InstanceName, Refusal>> {
        let all = 0..self.hosts.len();
        let refusals: BTreeMap<usize, Refusal> = all
            .clone()
            .filter_map(|h| Some((h, self.refuse(h, request)?)))
            .collect();
        let mut left: Vec<usize> = all.filter(|h| !refusals.contains_key(h)).collect();
        let named = |(host, refusal): (usize, _)| (self.hosts[host].0.clone(), refusal);
        if left.is_empty() {
            return Err(refusals.into_iter().map(named).collect());
        }
        let strategy = &request.rules.strategy;
        for step in &strategy.steps {
            let rate = |host: &usize| self.rating(*host, step, &request.group);
            let least = left.iter().map(rate).min().unwrap();
            left.retain(|host| rate(host) == least);
        }
        let host = if strategy.lot {
            // Whose turn it is among equals is by attributes, then by name.
            let attribute = |step: &Preference, host: usize| match step {
                Preference::Spread(Field::Attribute(a)) => {
                    self.hosts[host].1.attributes.get(a).cloned()
                }
                _ => None,
            };
            left.sort_by_key(|host| {
                let steps = strategy.steps.iter();
                (
                    steps.map(|s| attribute(s, *host)).collect::<Vec<_>>(),
                    *host,
                )
            });
            left[usize::try_from(request.seed % left.len() as u64).unwrap()]
        } else {
            let order = |host: &usize| {
                let name = &self.hosts[*host].0;
                (self.on(name, |_| true), -self.free(name)[1], *host)
            };
            left.into_iter().min_by_key(order).unwrap()
        };
        let name = self.hosts[host].0.clone();
        self.placed.push((name.clone(), request.clone()));
        Ok(name)
    }

    /// Takes the `n`th of the placed tasks away, if there is any.
    pub fn take_away(&mut self, n: usize) -> Option<(InstanceName, Request)> {
        let count = self.placed.len();
        (count > 0).then(|| self.placed.remove(n % count))
    }

    /// Enters a task without a choice.
    pub fn enter(&mut self, host: &InstanceName, request: &Request) {
        self.placed.push((host.clone(), request.clone()));
    }
}
