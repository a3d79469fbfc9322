//! Where one task goes: filters that explain themselves, then spread (ECS task placement).
//!
//! The ledger counts what every task that is not STOPPED holds; a placement is entered at once, so that the next
//! task of the same pass sees it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use tallyman_crds::{DesiredInstanceStatus, Resources};

use crate::definition::Demand;
use crate::gpus;
use crate::names::{InstanceName, ServiceName};
use crate::world::{InstanceState, World};

/// Why a host does not take a task. In the order in which they are checked.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Refusal {
    /// Its agent has not registered yet.
    NotRegistered,
    /// It is being deregistered.
    Deregistering,
    /// It is DRAINING.
    Draining,
    /// Its agent is not connected.
    AgentDisconnected,
    /// Its agent cannot reach its engine.
    EngineUnreachable,
    /// It lacks an attribute: its name, or `name=value` when it must have that value.
    Attribute(String),
    /// Too little CPU is left.
    Cpu {
        /// Units left.
        free: i64,
    },
    /// Too little memory is left.
    Memory {
        /// MiB left.
        free: i64,
    },
    /// A fixed host port is taken.
    Port(u16),
    /// Too few GPUs are left.
    Gpu {
        /// Whole GPUs left.
        free: i64,
    },
}

impl Refusal {
    /// ECS `failures[].reason` (ECS API failure reasons).
    pub fn ecs_reason(&self) -> &'static str {
        match self {
            Refusal::NotRegistered | Refusal::AgentDisconnected | Refusal::EngineUnreachable => {
                "AGENT"
            }
            Refusal::Deregistering | Refusal::Draining => "INACTIVE",
            Refusal::Attribute(_) => "ATTRIBUTE",
            Refusal::Cpu { .. } => "RESOURCE:CPU",
            Refusal::Memory { .. } => "RESOURCE:MEMORY",
            Refusal::Port(_) => "RESOURCE:PORTS",
            Refusal::Gpu { .. } => "RESOURCE:GPU",
        }
    }

    /// How the ECS service event goes on after "The closest matching container-instance I" (ECS service event messages).
    fn ecs_sentence(&self) -> String {
        match self {
            Refusal::NotRegistered | Refusal::AgentDisconnected | Refusal::EngineUnreachable => {
                "encountered error \"AGENT\".".to_owned()
            }
            Refusal::Deregistering | Refusal::Draining => {
                "encountered error \"INACTIVE\".".to_owned()
            }
            Refusal::Attribute(_) => "is missing an attribute required by your task.".to_owned(),
            Refusal::Cpu { .. } => "has insufficient CPU units available.".to_owned(),
            Refusal::Memory { .. } => "has insufficient memory available.".to_owned(),
            Refusal::Port(_) => "is already using a port required by your task.".to_owned(),
            Refusal::Gpu { .. } => "encountered error \"RESOURCE:GPU\".".to_owned(),
        }
    }

    /// How many checks came before this one: the closest host is the one that failed last.
    fn rank(&self) -> u8 {
        match self {
            Refusal::NotRegistered => 0,
            Refusal::Deregistering => 1,
            Refusal::Draining => 2,
            Refusal::AgentDisconnected => 3,
            Refusal::EngineUnreachable => 4,
            Refusal::Attribute(_) => 5,
            Refusal::Cpu { .. } => 6,
            Refusal::Memory { .. } => 7,
            Refusal::Port(_) => 8,
            Refusal::Gpu { .. } => 9,
        }
    }

    /// How much is left of what there is too little of.
    fn free(&self) -> i64 {
        match self {
            Refusal::Cpu { free } | Refusal::Memory { free } | Refusal::Gpu { free } => *free,
            Refusal::NotRegistered
            | Refusal::Deregistering
            | Refusal::Draining
            | Refusal::AgentDisconnected
            | Refusal::EngineUnreachable
            | Refusal::Attribute(_)
            | Refusal::Port(_) => 0,
        }
    }
}

/// Why no host takes a task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unplaceable {
    /// What was to be placed.
    pub demand: Demand,
    /// Every host of the cluster and its reason.
    pub refusals: BTreeMap<InstanceName, Refusal>,
}

impl Unplaceable {
    /// The ECS sentence without its subject: "no container instance met all of its requirements. Reason: ...".
    pub fn ecs_sentence(&self) -> String {
        let head =
            "was unable to place a task because no container instance met all of its requirements.";
        match self.closest() {
            None => format!("{head} Reason: No Container Instances were found in your cluster."),
            Some((name, refusal)) => format!(
                "{head} The closest matching container-instance {name} {}",
                refusal.ecs_sentence()
            ),
        }
    }

    /// The host that failed the latest check, and by the least.
    pub fn closest(&self) -> Option<(&InstanceName, &Refusal)> {
        self.refusals
            .iter()
            .max_by_key(|(name, r)| (r.rank(), r.free(), std::cmp::Reverse((*name).clone())))
    }

    /// Counts per reason in a few words: `5 hosts lack memory, 1 is draining`; `no hosts` in an empty cluster.
    pub fn short(&self) -> String {
        if self.refusals.is_empty() {
            return "the cluster has no hosts".to_owned();
        }
        self.reasons(false)
    }

    /// The whole explanation: "Of 6 hosts, 5 lack memory (a task needs 512 MiB, the most free is 300 on `c`), ...".
    pub fn sentence(&self) -> String {
        if self.refusals.is_empty() {
            return "The cluster has no hosts; apply a ContainerInstance and start its agent."
                .to_owned();
        }
        let n = self.refusals.len();
        format!("Of {n} {}, {}.", plural(n, "host"), self.reasons(true))
    }

    fn reasons(&self, detailed: bool) -> String {
        let mut groups: BTreeMap<u8, Vec<(&InstanceName, &Refusal)>> = BTreeMap::new();
        for (name, r) in &self.refusals {
            groups.entry(r.rank()).or_default().push((name, r));
        }
        let mut groups: Vec<_> = groups.into_values().collect();
        groups.sort_by_key(|g| std::cmp::Reverse(g.len()));
        let mut text = String::new();
        for (i, group) in groups.iter().enumerate() {
            if i > 0 {
                text.push_str(", ");
            }
            let n = group.len();
            let s = if n == 1 { "s" } else { "" };
            let is = if n == 1 { "is" } else { "are" };
            let noun = if detailed {
                String::new()
            } else {
                format!(" {}", plural(n, "host"))
            };
            let _ = write!(text, "{n}{noun} ");
            let _ = match group[0].1 {
                Refusal::NotRegistered => write!(
                    text,
                    "ha{} not registered yet",
                    if n == 1 { "s" } else { "ve" }
                ),
                Refusal::Deregistering => write!(text, "{is} being deregistered"),
                Refusal::Draining => write!(text, "{is} draining"),
                Refusal::AgentDisconnected => write!(text, "{is} not connected"),
                Refusal::EngineUnreachable => write!(
                    text,
                    "cannot reach {} engine",
                    if n == 1 { "its" } else { "their" }
                ),
                Refusal::Attribute(_) => write!(text, "lack{s} an attribute"),
                Refusal::Cpu { .. } => write!(text, "lack{s} CPU"),
                Refusal::Memory { .. } => write!(text, "lack{s} memory"),
                Refusal::Port(_) => write!(text, "already use{s} a port of the task"),
                Refusal::Gpu { .. } => write!(text, "lack{s} GPUs"),
            };
            if detailed {
                self.detail(&mut text, group);
            }
        }
        text
    }

    fn detail(&self, text: &mut String, group: &[(&InstanceName, &Refusal)]) {
        let most = group
            .iter()
            .max_by_key(|(name, r)| (r.free(), std::cmp::Reverse(*name)));
        let Some((name, refusal)) = most else { return };
        let _ = match refusal {
            Refusal::Cpu { free } => {
                write!(
                    text,
                    " (a task needs {} units, the most free is {free} on `{name}`)",
                    self.demand.cpu
                )
            }
            Refusal::Memory { free } => {
                write!(
                    text,
                    " (a task needs {} MiB, the most free is {free} on `{name}`)",
                    self.demand.memory
                )
            }
            Refusal::Port(port) => write!(text, " (port {port} on `{name}`)"),
            Refusal::Gpu { free } => {
                write!(
                    text,
                    " (a task needs {}, the most free is {free} on `{name}`)",
                    self.demand.gpus
                )
            }
            Refusal::Attribute(a) => write!(text, " (`{a}` on `{name}`)"),
            Refusal::NotRegistered
            | Refusal::Deregistering
            | Refusal::Draining
            | Refusal::AgentDisconnected
            | Refusal::EngineUnreachable => Ok(()),
        };
    }
}

/// `noun` or its plural.
pub(crate) fn plural(n: usize, noun: &str) -> String {
    if n == 1 {
        noun.to_owned()
    } else {
        format!("{noun}s")
    }
}

/// How well a host suits, least first: tasks of the service in its zone and on it, its tasks, its memory used.
type Score = (i64, i64, i64, i64);

/// What is left on one host.
#[derive(Clone, Debug, Default)]
pub struct Room {
    /// CPU units left; below 0 when the host shrank.
    pub cpu: i64,
    /// MiB left.
    pub memory: i64,
    /// Whole GPUs left; below 0 when the host lost some.
    pub gpus: i64,
    ports: BTreeSet<u16>,
    ports_udp: BTreeSet<u16>,
    tasks: i64,
    of_service: BTreeMap<ServiceName, i64>,
    barred: Option<Refusal>,
    zone: String,
}

/// What is left on every host of the cluster.
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    rooms: BTreeMap<InstanceName, Room>,
}

impl Ledger {
    /// Counts what the tasks of `world` hold.
    pub fn of(world: &World) -> Ledger {
        let mut ledger = Ledger {
            rooms: world
                .instances
                .iter()
                .map(|(n, i)| (n.clone(), room(i, world)))
                .collect(),
        };
        for t in world.tasks.values().filter(|t| t.holds()) {
            if let Some(instance) = &t.instance {
                ledger.take(instance, &t.demand, t.service.as_ref());
            }
        }
        ledger
    }

    /// Enters a task.
    pub fn take(
        &mut self,
        instance: &InstanceName,
        demand: &Demand,
        service: Option<&ServiceName>,
    ) {
        let Some(room) = self.rooms.get_mut(instance) else {
            return;
        };
        room.cpu -= demand.cpu;
        room.memory -= demand.memory;
        room.gpus -= demand.gpus;
        room.ports.extend(&demand.ports);
        room.ports_udp.extend(&demand.ports_udp);
        room.tasks += 1;
        if let Some(s) = service {
            *room.of_service.entry(s.clone()).or_default() += 1;
        }
    }

    /// What is left on `instance`, as ECS `remainingResources`.
    pub fn remaining(&self, instance: &InstanceName, world: &World) -> Option<Resources> {
        let room = self.rooms.get(instance)?;
        Some(Resources {
            cpu: room.cpu,
            memory: room.memory,
            ports: room.ports.iter().map(|p| i32::from(*p)).collect(),
            ports_udp: room.ports_udp.iter().map(|p| i32::from(*p)).collect(),
            gpu: gpus::free(world, instance, room.gpus),
        })
    }

    /// Tasks of `service` on `instance` that are not STOPPED.
    pub fn tasks_of(&self, service: &ServiceName, instance: &InstanceName) -> i64 {
        self.rooms
            .get(instance)
            .and_then(|r| r.of_service.get(service))
            .copied()
            .unwrap_or(0)
    }

    /// Zone of `instance`; empty when it has none.
    pub fn zone(&self, instance: &InstanceName) -> &str {
        self.rooms.get(instance).map_or("", |r| &r.zone)
    }

    /// Chooses a host for a task of `service` and enters it: of the hosts that pass every check, the zone with the
    /// fewest tasks of the service, then the host with the fewest, then the one with fewer tasks at all, more memory
    /// left, and the smaller name (ECS task placement; ECS breaks the last tie at random).
    ///
    /// # Errors
    /// Every host with its reason.
    pub fn place(
        &mut self,
        demand: &Demand,
        service: Option<&ServiceName>,
        world: &World,
    ) -> Result<InstanceName, Unplaceable> {
        let mut refusals = BTreeMap::new();
        let mut by_zone: BTreeMap<&str, i64> = BTreeMap::new();
        let count = |room: &Room| {
            service
                .and_then(|s| room.of_service.get(s))
                .copied()
                .unwrap_or(0)
        };
        for room in self.rooms.values() {
            *by_zone.entry(room.zone.as_str()).or_default() += count(room);
        }
        let mut best: Option<(Score, &InstanceName)> = None;
        for (name, room) in &self.rooms {
            if let Some(refusal) = refuse(room, demand, name, world) {
                refusals.insert(name.clone(), refusal);
                continue;
            }
            let zone = by_zone.get(room.zone.as_str()).copied().unwrap_or(0);
            let key = (zone, count(room), room.tasks, -room.memory);
            if best.as_ref().is_none_or(|(k, _)| key < *k) {
                best = Some((key, name));
            }
        }
        match best.map(|(_, name)| name.clone()) {
            Some(name) => {
                self.take(&name, demand, service);
                Ok(name)
            }
            None => Err(Unplaceable {
                demand: demand.clone(),
                refusals,
            }),
        }
    }

    /// Checks one host only (ECS StartTask) and enters the task.
    ///
    /// # Errors
    /// The host's reason; an unknown host is an empty list.
    pub fn place_on(
        &mut self,
        instance: &InstanceName,
        demand: &Demand,
        world: &World,
    ) -> Result<(), Unplaceable> {
        let refusal = self
            .rooms
            .get(instance)
            .map(|room| refuse(room, demand, instance, world));
        match refusal {
            Some(None) => {
                self.take(instance, demand, None);
                Ok(())
            }
            Some(Some(r)) => Err(Unplaceable {
                demand: demand.clone(),
                refusals: BTreeMap::from([(instance.clone(), r)]),
            }),
            None => Err(Unplaceable {
                demand: demand.clone(),
                refusals: BTreeMap::new(),
            }),
        }
    }
}

fn room(instance: &InstanceState, world: &World) -> Room {
    let registered = instance
        .host
        .as_ref()
        .map(|h| h.registered_resources.clone())
        .unwrap_or_default();
    let ports = |list: &[i32]| list.iter().filter_map(|p| u16::try_from(*p).ok()).collect();
    Room {
        cpu: registered.cpu,
        memory: registered.memory,
        gpus: count(&registered.gpu),
        ports: ports(&registered.ports),
        ports_udp: ports(&registered.ports_udp),
        tasks: 0,
        of_service: BTreeMap::new(),
        barred: barred(instance, world),
        zone: instance
            .attributes
            .get("ecs.availability-zone")
            .cloned()
            .flatten()
            .unwrap_or_default(),
    }
}

/// Why the host takes no task at all, whatever it asks for.
pub fn barred(instance: &InstanceState, world: &World) -> Option<Refusal> {
    let Some(host) = &instance.host else {
        return Some(Refusal::NotRegistered);
    };
    if instance.identity.deleting {
        Some(Refusal::Deregistering)
    } else if instance.wanted == DesiredInstanceStatus::Draining {
        Some(Refusal::Draining)
    } else if !instance.connected(&world.settings) {
        Some(Refusal::AgentDisconnected)
    } else if !host.engine_reachable {
        Some(Refusal::EngineUnreachable)
    } else {
        None
    }
}

fn refuse(room: &Room, demand: &Demand, name: &InstanceName, world: &World) -> Option<Refusal> {
    if let Some(barred) = &room.barred {
        return Some(barred.clone());
    }
    let lacks = |(attribute, wanted): &(&String, &Option<String>)| {
        let has = world
            .instances
            .get(name)
            .and_then(|i| i.attributes.get(*attribute));
        match (has, wanted) {
            (None, _) => true,
            (Some(_), None) => false,
            (Some(value), Some(_)) => value != *wanted,
        }
    };
    if let Some((attribute, wanted)) = demand.attributes.iter().find(lacks) {
        return Some(Refusal::Attribute(match wanted {
            None => attribute.clone(),
            Some(value) => format!("{attribute}={value}"),
        }));
    }
    if demand.cpu > room.cpu.max(0) {
        return Some(Refusal::Cpu {
            free: room.cpu.max(0),
        });
    }
    if demand.memory > room.memory.max(0) {
        return Some(Refusal::Memory {
            free: room.memory.max(0),
        });
    }
    let tcp = demand.ports.intersection(&room.ports).next();
    let udp = demand.ports_udp.intersection(&room.ports_udp).next();
    if let Some(port) = tcp.or(udp) {
        return Some(Refusal::Port(*port));
    }
    (demand.gpus > room.gpus.max(0)).then(|| Refusal::Gpu {
        free: room.gpus.max(0),
    })
}

fn count(gpus: &[String]) -> i64 {
    i64::try_from(gpus.len()).unwrap_or(i64::MAX)
}
