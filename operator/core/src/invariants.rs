//! Invariants of a cluster, by number. Checked in unit tests, properties, after every step of the simulator, and at the
//! end of end-to-end tests.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use tallyman_crds::LastStatus;

use crate::names::InstanceName;
use crate::world::World;

/// A broken invariant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Its number, such as `I1`.
    pub id: &'static str,
    /// What was found.
    pub message: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.id, self.message)
    }
}

/// Checks what must hold of a world at any moment:
///
/// - `I1` no host holds more CPU or memory than it registered;
/// - `I2` no fixed host port is held twice on a host;
/// - `I3` no service has more tasks than maximumPercent allows (or its desired count, if that is more);
/// - `I4` a task is in the plan of its own host only;
/// - `I5` every service task has a host and the stop finalizer.
pub fn check(world: &World) -> Vec<Violation> {
    let mut found = Vec::new();
    let mut cpu: BTreeMap<&InstanceName, i64> = BTreeMap::new();
    let mut memory: BTreeMap<&InstanceName, i64> = BTreeMap::new();
    let mut ports: BTreeSet<(&InstanceName, bool, u16)> = BTreeSet::new();
    for (name, t) in world.tasks.iter().filter(|(_, t)| t.holds()) {
        let Some(host) = &t.instance else {
            if t.service.is_some() {
                found.push(Violation { id: "I5", message: format!("task {name} of a service has no host") });
            }
            continue;
        };
        *cpu.entry(host).or_default() += t.demand.cpu;
        *memory.entry(host).or_default() += t.demand.memory;
        let tcp = t.demand.ports.iter().map(|p| (false, *p));
        let udp = t.demand.ports_udp.iter().map(|p| (true, *p));
        for (is_udp, port) in tcp.chain(udp) {
            if !ports.insert((host, is_udp, port)) {
                found.push(Violation { id: "I2", message: format!("port {port} is held twice on {host}, by {name}") });
            }
        }
    }
    for (name, i) in &world.instances {
        let Some(host) = &i.host else { continue };
        let held = (cpu.get(name).copied().unwrap_or(0), memory.get(name).copied().unwrap_or(0));
        let registered = (host.registered_resources.cpu, host.registered_resources.memory);
        if held.0 > registered.0 || held.1 > registered.1 {
            found.push(Violation {
                id: "I1",
                message: format!("{name} holds {held:?} of {registered:?} (CPU units, MiB)"),
            });
        }
    }
    for (name, s) in &world.services {
        let total = world.tasks.values().filter(|t| t.service.as_ref() == Some(name) && t.holds()).count();
        let allowed = (s.desired * s.maximum_percent / 100).max(s.desired);
        // Tasks that are on their way out after the desired count fell are not of our making.
        let staying = world
            .tasks
            .values()
            .filter(|t| t.service.as_ref() == Some(name) && t.holds() && !t.leaving() && t.last < LastStatus::Running)
            .count();
        if i64::try_from(total).unwrap_or(i64::MAX) > allowed && staying > 0 && s.status.observed_generation == s.identity.generation {
            found.push(Violation {
                id: "I3",
                message: format!("service {name} has {total} tasks, {allowed} are allowed, and {staying} are being started"),
            });
        }
    }
    for (host, plan) in &world.plans {
        for entry in &plan.spec.tasks {
            let Some(t) = world.tasks.get(entry.name.as_str()).filter(|t| t.identity.uid == entry.uid) else { continue };
            if t.instance.as_ref() != Some(host) {
                found.push(Violation { id: "I4", message: format!("task {} is in the plan of {host}", entry.name) });
            }
        }
    }
    found
}
