//! Invariants of a cluster, by number. Checked in unit tests, properties, after every step of the simulator, and at the
//! end of end-to-end tests.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use jiff::Timestamp;

use crate::deployments::{self, Bounds};
use crate::names::{DeploymentId, InstanceName};
use crate::plan::{Action, Plan};
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
/// - `I1` no host holds more CPU, memory or GPUs than it registered;
/// - `I2` no fixed host port is held twice on a host;
/// - `I4` a task is in the plan of its own host only;
/// - `I5` every service task has a host and the stop finalizer.
pub fn check(world: &World) -> Vec<Violation> {
    let mut found = Vec::new();
    let mut held: BTreeMap<&InstanceName, [i64; 3]> = BTreeMap::new();
    let mut ports: BTreeSet<(&InstanceName, bool, u16)> = BTreeSet::new();
    for (name, t) in world.tasks.iter().filter(|(_, t)| t.holds()) {
        let Some(host) = &t.instance else {
            if t.service.is_some() {
                found.push(Violation {
                    id: "I5",
                    message: format!("task {name} of a service has no host"),
                });
            }
            continue;
        };
        let [cpu, memory, gpus] = held.entry(host).or_default();
        *cpu += t.demand.cpu;
        *memory += t.demand.memory;
        *gpus += t.demand.gpus;
        let tcp = t.demand.ports.iter().map(|p| (false, *p));
        let udp = t.demand.ports_udp.iter().map(|p| (true, *p));
        for (is_udp, port) in tcp.chain(udp) {
            if !ports.insert((host, is_udp, port)) {
                found.push(Violation {
                    id: "I2",
                    message: format!("port {port} is held twice on {host}, by {name}"),
                });
            }
        }
    }
    for (name, i) in &world.instances {
        let Some(host) = &i.host else { continue };
        let held = held.get(name).copied().unwrap_or_default();
        let registered = &host.registered_resources;
        let gpus = i64::try_from(registered.gpu.len()).unwrap_or(i64::MAX);
        let registered = [registered.cpu, registered.memory, gpus];
        if held.iter().zip(&registered).any(|(held, has)| held > has) {
            found.push(Violation {
                id: "I1",
                message: format!("{name} holds {held:?} of {registered:?} (CPU units, MiB, GPUs)"),
            });
        }
    }
    for (host, plan) in &world.plans {
        for entry in &plan.spec.tasks {
            let Some(t) = world
                .tasks
                .get(entry.name.as_str())
                .filter(|t| t.identity.uid == entry.uid)
            else {
                continue;
            };
            if t.instance.as_ref() != Some(host) {
                found.push(Violation {
                    id: "I4",
                    message: format!("task {} is in the plan of {host}", entry.name),
                });
            }
        }
    }
    found
}

/// Checks what must hold of a plan that was made of `world` at `now`. (Of the world itself it cannot be asked: whoever
/// lowers a count or a percentage makes what was right too much.)
///
/// - `I3` no task is started above maximumPercent, or above the desired count if that is more;
/// - `I6` no task is started under a name that is taken;
/// - `I7` no healthy task is stopped below minimumHealthyPercent, but for a service that is being deleted.
pub fn check_plan(world: &World, plan: &Plan, now: Timestamp) -> Vec<Violation> {
    let mut found = Vec::new();
    let mut starts: BTreeMap<&str, usize> = BTreeMap::new();
    let mut stops: BTreeSet<&str> = BTreeSet::new();
    for action in &plan.actions {
        match action {
            Action::CreateTask(t) => {
                let name = t.metadata.name.as_deref().unwrap_or_default();
                if world.tasks.contains_key(name) {
                    found.push(Violation {
                        id: "I6",
                        message: format!("task {name} is started and is there already"),
                    });
                }
                let service = t
                    .metadata
                    .labels
                    .as_ref()
                    .and_then(|l| l.get(tallyman_crds::labels::SERVICE));
                *starts
                    .entry(service.map_or("", String::as_str))
                    .or_default() += 1;
            }
            Action::StopTask { task, .. } => {
                stops.insert(task.name.as_str());
            }
            _ => {}
        }
    }
    for (name, s) in &world.services {
        let bounds = Bounds::new(s.desired, s.minimum_healthy_percent, s.maximum_percent);
        let members = deployments::classify(world, name, &DeploymentId::from(""), now);
        let held = members.iter().filter(|m| m.task.holds()).count();
        let started = starts.get(name.as_str()).copied().unwrap_or(0);
        let allowed = bounds.upper.max(bounds.desired);
        if started > 0 && i64::try_from(held + started).unwrap_or(i64::MAX) > allowed {
            found.push(Violation {
                id: "I3",
                message: format!(
                    "service {name} has {held} tasks, {started} are started, {allowed} are allowed"
                ),
            });
        }
        let healthy = members.iter().filter(|m| m.healthy).count();
        let stopped = members
            .iter()
            .filter(|m| m.healthy && stops.contains(m.name.as_str()))
            .count();
        let least = i64::try_from(healthy).unwrap_or(i64::MAX).min(bounds.lower);
        if !s.identity.deleting && i64::try_from(healthy - stopped).unwrap_or(0) < least {
            found.push(Violation {
                id: "I7",
                message: format!("service {name} has {healthy} healthy tasks, {stopped} of them are stopped, {least} must stay"),
            });
        }
    }
    found
}
