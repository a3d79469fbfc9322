//! Invariants of a cluster, by number. Checked in unit tests, properties, after every step of the simulator, and at the
//! end of end-to-end tests.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use tallyman_crds::{ConcurrencyPolicy, labels, names};

use crate::deployments::{self, Bounds, Member};
use crate::gpus;
use crate::names::{DeploymentId, InstanceName, ServiceName};
use crate::placement::{Facts, Query};
use crate::plan::{Action, Plan};
use crate::task_sets;
use crate::world::{Controller, InstanceState, World};

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
/// - `I1` no host holds more CPU, memory or GPUs than it registered, with those that tasks share;
/// - `I2` no fixed host port is held twice on a host;
/// - `I4` a task is in the plan of its own host only;
/// - `I5` every task of a service or a run has a host;
/// - `I9` a host has one task of a DAEMON service at a time;
/// - `I10` no copy of a run has two tasks that are not STOPPED.
pub fn check(world: &World) -> Vec<Violation> {
    let mut found = Vec::new();
    let mut held: BTreeMap<&InstanceName, [i64; 4]> = BTreeMap::new();
    let mut ports: BTreeSet<(&InstanceName, bool, u16)> = BTreeSet::new();
    for (name, t) in world.tasks.iter().filter(|(_, t)| t.holds()) {
        let Some(host) = &t.instance else {
            if t.is_made_by_us() {
                found.push(Violation {
                    id: "I5",
                    message: format!("task {name} of a service or a run has no host"),
                });
            }
            continue;
        };
        let [cpu, memory, gpus, parts] = held.entry(host).or_default();
        *cpu += t.demand.cpu;
        *memory += t.demand.memory;
        *gpus += t.demand.gpus;
        *parts += t.demand.gpu_memory;
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
    let mut daemons: BTreeSet<(&InstanceName, &ServiceName)> = BTreeSet::new();
    for (name, t) in world.tasks.iter().filter(|(_, t)| t.holds()) {
        if let (Some(host), Some(service)) = (&t.instance, &t.service)
            && world.services.get(service).is_some_and(|s| s.daemon)
            && !daemons.insert((host, service))
        {
            found.push(Violation {
                id: "I9",
                message: format!("{name} is on {host} beside another task of daemon {service}"),
            });
        }
    }
    for (name, run) in &world.runs {
        let mut copies = BTreeSet::new();
        for (task, _) in world.tasks_of_run(name, run).filter(|(_, t)| t.holds()) {
            let number = names::run_task_number(name.as_str(), task.as_str()).unwrap_or(0);
            if number == 0 || !copies.insert(number % run.count) {
                found.push(Violation {
                    id: "I10",
                    message: format!("{task} is a task too many of run {name}"),
                });
            }
        }
    }
    for (name, i) in &world.instances {
        let Some(host) = &i.host else { continue };
        let [cpu, memory, gpus, parts] = held.get(name).copied().unwrap_or_default();
        let registered = &host.registered_resources;
        let held = [cpu, memory, gpus::fewest(registered, gpus, parts)];
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
/// - `I3` no task is started above maximumPercent, or above the desired count if that is more; of a task set, above twice its computed
///   desired count; what was replaced and stays if its host comes back does not count;
/// - `I6` no task is started under a name that is taken;
/// - `I7` no healthy task is stopped below minimumHealthyPercent, or below the computed desired count of a task set, but for what is
///   being deleted;
/// - `I8` no task of a service is started where `memberOf` does not hold (as far as it asks of the host, not of its tasks), or
///   where `distinctInstance` has one already;
/// - `I11` of a schedule with Forbid or Replace no run is made while another has not ended; of any, none for a time that is
///   decided on;
/// - `I12` of a service whose deployments somebody else runs, tasks are started for its task sets only, and for none that is being
///   deleted.
pub fn check_plan(world: &World, plan: &Plan, now: Timestamp) -> Vec<Violation> {
    let mut found = constraints(world, plan);
    let mut starts: BTreeMap<&str, BTreeMap<&str, usize>> = BTreeMap::new();
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
                let label = |key| {
                    let labels = t.metadata.labels.as_ref();
                    labels.and_then(|l| l.get(key)).map_or("", String::as_str)
                };
                *starts
                    .entry(label(labels::SERVICE))
                    .or_default()
                    .entry(label(labels::DEPLOYMENT))
                    .or_default() += 1;
            }
            Action::CreateRunTask(r) => found.extend(made_wrongly(world, &r.metadata)),
            Action::StopTask { task, .. } => {
                stops.insert(task.name.as_str());
            }
            _ => {}
        }
    }
    for (name, s) in &world.services {
        let of = |members, bounds| PartOf {
            name: format!("service {name}"),
            members,
            bounds,
            // How many a daemon has is up to its hosts: I9. It leaves hosts that no longer meet its constraints, whatever is left.
            bounded: !s.daemon,
            deleting: s.identity.deleting,
        };
        let started = starts.get(name.as_str());
        if let Controller::Ecs { .. } = s.controller {
            let bounds = Bounds::new(s.desired, s.minimum_healthy_percent, s.maximum_percent);
            let members = deployments::classify(world, name, &DeploymentId::from(""), now);
            let started = started.into_iter().flat_map(|sets| sets.values()).sum();
            found.extend(of(members, bounds).check(started, &stops));
            continue;
        }
        let mut others = started.cloned().unwrap_or_default();
        for (set_name, set) in world.task_sets.iter().filter(|(_, t)| t.service == *name) {
            let part = PartOf {
                name: format!("task set {set_name}"),
                deleting: s.identity.deleting || set.identity.deleting,
                ..of(
                    task_sets::members(world, set, now),
                    task_sets::bounds(set, s),
                )
            };
            let started = others.remove(set.id.as_str()).unwrap_or(0);
            if started > 0 && part.deleting {
                found.push(Violation {
                    id: "I12",
                    message: format!("{started} tasks of {} are started", part.name),
                });
            }
            found.extend(part.check(started, &stops));
        }
        found.extend(others.into_iter().map(|(id, started)| Violation {
            id: "I12",
            message: format!(
                "{started} tasks of service {name} are started for {id}, no task set of it"
            ),
        }));
    }
    found
}

/// I8.
fn constraints(world: &World, plan: &Plan) -> Vec<Violation> {
    let mut found = Vec::new();
    // Where a service has a task that is to run.
    let wanted = world.tasks.values().filter(|t| t.holds() && !t.leaving());
    let mut taken: BTreeSet<(&str, &str)> = wanted
        .filter_map(|t| Some((t.service.as_ref()?.as_str(), t.instance.as_ref()?.as_str())))
        .collect();
    for action in &plan.actions {
        let Action::CreateTask(t) = action else {
            continue;
        };
        let labels = t.metadata.labels.iter();
        let service = labels.flat_map(|l| l.get(tallyman_crds::labels::SERVICE));
        let Some((service, host)) = service.zip(&t.spec.container_instance).next() else {
            continue;
        };
        let rules = world.services.get(service.as_str()).map(|s| &s.rules);
        let revision = t.metadata.labels.as_ref();
        let revision = revision.and_then(|l| l.get(tallyman_crds::labels::REVISION));
        let revision = revision.and_then(|r| world.revisions.get(r.as_str()));
        let definition = revision.and_then(|r| r.definition.as_ref().ok());
        let constraints = rules.map(|r| &r.constraints);
        let queries = constraints.iter().flat_map(|c| &c.member_of);
        let queries = queries.chain(definition.iter().flat_map(|d| &d.member_of));
        for query in queries.filter(|q| !q.asks_of_tasks()) {
            let instance = world.instances.get_key_value(host.as_str());
            if !instance.is_some_and(|(name, i)| member(name, i, query, world)) {
                found.push(Violation {
                    id: "I8",
                    message: format!(
                        "a task of {service} is started on {host}, of which `{}` is not true",
                        query.text()
                    ),
                });
            }
        }
        let first = taken.insert((service, host));
        if !first && constraints.is_some_and(|c| c.distinct_instance) {
            found.push(Violation {
                id: "I8",
                message: format!(
                    "a second task of {service} is started on {host}, which are to be distinct"
                ),
            });
        }
    }
    found
}

fn member(name: &InstanceName, host: &InstanceState, query: &Query, world: &World) -> bool {
    query.matches(&Facts {
        name: name.as_str(),
        agent_connected: host.connected(&world.settings),
        agent_version: host.host.as_ref().map(|h| h.agent_version.as_str()),
        registered_at: host.registered_at,
        running_tasks_count: 0,
        attributes: &host.attributes,
        groups: &BTreeMap::new(),
    })
}

/// A service, or a task set of one.
struct PartOf<'w> {
    name: String,
    members: Vec<Member<'w>>,
    bounds: Bounds,
    bounded: bool,
    deleting: bool,
}

impl PartOf<'_> {
    /// I3 and I7.
    fn check(&self, started: usize, stops: &BTreeSet<&str>) -> Vec<Violation> {
        let PartOf {
            name,
            members,
            bounds,
            ..
        } = self;
        let mut found = Vec::new();
        if !self.bounded {
            return found;
        }
        let held = members.iter().filter(|m| m.task.holds() && !m.absent);
        let held = held.count();
        let allowed = bounds.upper.max(bounds.desired);
        if started > 0 && i64::try_from(held + started).unwrap_or(i64::MAX) > allowed {
            found.push(Violation {
                id: "I3",
                message: format!(
                    "{name} has {held} tasks, {started} are started, {allowed} are allowed"
                ),
            });
        }
        let healthy = members.iter().filter(|m| m.healthy).count();
        let stopped = members
            .iter()
            .filter(|m| m.healthy && stops.contains(m.name.as_str()))
            .count();
        let least = i64::try_from(healthy).unwrap_or(i64::MAX).min(bounds.lower);
        if !self.deleting && i64::try_from(healthy - stopped).unwrap_or(0) < least {
            found.push(Violation {
                id: "I7",
                message: format!(
                    "{name} has {healthy} healthy tasks, {stopped} of them are stopped, {least} must stay"
                ),
            });
        }
        found
    }
}

/// I11.
fn made_wrongly(world: &World, run: &ObjectMeta) -> Option<Violation> {
    let name = run.name.as_deref().unwrap_or_default();
    let owner = run.owner_references.iter().flatten().next();
    let schedule = world.schedules.get(owner?.name.as_str())?;
    let at = run.annotations.as_ref()?.get(labels::SCHEDULED_TIME)?;
    let at: Timestamp = at.parse().ok()?;
    let alone = schedule.object.spec.concurrency_policy != ConcurrencyPolicy::Allow;
    let beside = schedule.runs.values().any(|r| !r.finished());
    let decided = schedule.status.decided_until.as_ref();
    let again = decided.is_some_and(|d| d.0 >= at) || schedule.runs.contains_key(name);
    ((alone && beside) || again).then(|| Violation {
        id: "I11",
        message: format!("run {name} is made for {at}, decided until {decided:?}"),
    })
}
