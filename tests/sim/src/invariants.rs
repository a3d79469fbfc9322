//! What must hold at any time. The operator's own (`I1` ... `I12`) are in `tallyman_operator_core::invariants`; those of the
//! whole system are here:
//!
//! | id  | what                                                                                          | when it is checked |
//! |-----|-----------------------------------------------------------------------------------------------|--------------------|
//! | S1  | what runs on a host never needs more memory than the host registered                          | every step |
//! | S2  | no container fails for a host port that another one holds                                     | every start |
//! | S3  | no task is created above maximumPercent (or the desired count, if that is more); of a task set, above twice its own | every create |
//! | S4  | no healthy task is stopped below minimumHealthyPercent (of a task set: what it wants), unless containers failed by themselves | every stop |
//! | S5  | `lastStatus` never goes back                                                                  | every step |
//! | S6  | one container for each container of a task, over all hosts, started once                      | every step |
//! | S7  | nothing follows STOPPED                                                                       | every step |
//! | S8  | a plan is a fixpoint: at rest, asking again gives nothing to do and nothing to say            | the end |
//! | S9  | the system comes to rest: services are as wanted, and of what was deleted nothing is left     | the end |
//! | S10 | a container is stopped because its Task is to stop, ended by itself, or is unknown             | every stop |
//! | S11 | the API server's rules refuse nothing of the only leader                                      | every write |
//! | S12 | a container starts when what it waits for holds, and stops after those that wait for it        | every start and stop |
//! | S13 | a container has the volumes of its task; what a task owned goes after its last container     | every step, the end |
//! | S14 | neither scale-in nor a deployment stops a task that is protected                              | every stop |
//! | S15 | no GPU is in two containers that run, nor are parts of one in tasks that share more than it has | every step |
//! | S16 | no task is created for a deployment that was given up                                         | every create |
//! | S17 | of a service with `distinctInstance` no host has two tasks that are to run                     | every create |
//! | S18 | for one due time of a schedule tasks are started under one RunTask only                        | every create |
//! | S19 | a run has at most one task for each copy that is not STOPPED, and starts none once it has ended | every create |
//! | S20 | of a schedule with Forbid or Replace no run starts tasks while another one's are alive          | every create |
//! | S21 | a pass over what changed decides what a pass over everything decides                           | every fifth pass |
//! | S22 | what goes wrong with processes, watches and the API server makes no task more than the same life without | the end |
//! | S23 | agents know of each task whether protected tasks hold its service up (`DEPLOYMENT_BLOCKED`)    | the end |
//! | S24 | of a service with `stopAfter`, one task and no room for a second no two run at a time            | every engine call |
//! | S25 | what an API server that went back to an older state forgot goes on until somebody decides    | every stop |
//! | S26 | no task is placed on a host that the operator calls disconnected, before the host is heard again | every create |
//! | S27 | a STOPPED task says its stopCode, reason and time, and, if it ran, an exit code of each container or why there is none | every step |
//! | S28 | a task is called DISCONNECTED when nobody has heard of its host (or the last leader said so), and says at rest what its host does | every pass, the end |
//!
//! What is promised, and who holds it:
//!
//! | promise                                                               | held by |
//! |-----------------------------------------------------------------------|---------|
//! | one running container for each container of a task, anywhere          | S6 |
//! | a container runs only on the host that its task is assigned to        | S6, I5 |
//! | `lastStatus` never goes back, and STOPPED absorbs                     | S5, S7, and a rule of the CRD |
//! | what we do never breaks minimumHealthyPercent and maximumPercent      | S3, S4 |
//! | no host, port of a host or GPU is given out twice                     | S1, S2, S15, I1, I2 |
//! | a host holds the values of its own tasks only                         | `tests/it/secrets.rs` |
//! | an agent touches only containers of its own cluster and host          | S10, the engine's conformance suite |
//! | singleton tasks never overlap                                         | S24 |
//! | each field has one writer                                             | S11, the admission policy of `deploy/` |
//! | a STOPPED task says why                                               | S27 |
//! | a task says whether its host is heard of                              | S28 |
//! | nothing is destroyed on a view that is not verified                   | S4, S10, S14, S22, S25 |
//! | no value of a Secret is in a log, event or status                     | `tests/it/secrets.rs`, end to end |
//! | wanted leads to so it is, and stays (ESR)                             | S8, S9 |
//! | a task that is deleted stops; what it left behind goes                | S9, S13 |
//! | a Lease that expires leads to a replacement, or to a stated brake     | S9 |
//! | queues run empty                                                      | S8 |

mod silence;
mod task_sets;

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;
use tallyman_agent_core::{Action, TaskMachine, TaskUid};
use tallyman_agent_engine::fake::FakeEngine;
use tallyman_agent_engine::{Health, Moment, Phase, Verb};
use tallyman_crds::ecs::SchedulingStrategy;
use tallyman_crds::order::Until;
use tallyman_crds::{LastStatus, StopCode, Task, labels, names};
use tallyman_operator_core::deployments::Bounds;
use tallyman_operator_core::{Kind, Settings, World, invariants};

use crate::agent::Agent;
use crate::api::{Cache, Object, Server};
use crate::gpus::Gpus;
use crate::operator::NAMESPACE;

pub(crate) use silence::mistaken;

/// ECS's time after which a task without health check counts.
const HEALTHY_AFTER: SignedDuration = SignedDuration::from_secs(40);

/// Watches a history.
#[derive(Debug, Default)]
pub struct Monitor {
    /// Containers failed, or hosts did: what is healthy is not only up to us.
    pub faults: bool,
    /// Two leaders at once may place two tasks into one gap; one of them then waits on its host.
    pub two_leaders: bool,
    /// A service of which no two tasks may run at a time.
    pub singleton: Option<String>,
    /// What `stopAfter` does not promise anything for happens (S37 of `docs/scheduling.md`): an engine that carries out no stop, an
    /// agent that loses its folder.
    pub unfenced: bool,
    found: Vec<String>,
    checked: u64,
    calls: u64,
    started: BTreeMap<String, Moment>,
    last: BTreeMap<String, LastStatus>,
    stop: Option<Stop>,
    protected: Option<Timestamp>,
    /// Which RunTask, by uid, started tasks for a due time of a schedule.
    due: BTreeMap<(String, String), String>,
    /// Tasks, by uid, that were to stop when the API server went back to an older state: they do, whatever it wants now.
    ordered: BTreeSet<String>,
    /// Tasks, by uid, that ran then and were to go on.
    left: BTreeSet<String>,
    /// The Lease of each host, and since when it is as it is.
    leases: BTreeMap<String, (u64, Timestamp)>,
}

#[derive(Clone, Debug)]
struct Stop {
    task: String,
    counts: bool,
    healthy: usize,
    least: i64,
}

impl Monitor {
    /// Notes a broken invariant.
    pub fn broken(&mut self, id: &str, message: String) {
        self.found.push(format!("{id}: {message}"));
    }

    /// The API server goes back to an older state, and with it what was seen there; hosts do not.
    pub(crate) fn restored(&mut self, agents: &[Agent]) {
        self.last.clear();
        self.checked = u64::MAX;
        self.ordered
            .extend(agents.iter().flat_map(Agent::ordered_to_stop));
        self.left.extend(agents.iter().flat_map(Agent::left_to_run));
    }

    /// The first broken invariant.
    pub fn verdict(&self) -> Option<&str> {
        self.found.first().map(String::as_str)
    }

    /// S11.
    pub(crate) fn refused(&mut self, who: &str, contested: bool, what: &str, why: &str) {
        if !contested {
            self.broken("S11", format!("{who} {what} was refused: {why}"));
        }
    }

    /// S18 to S20, after the create of a task of a run.
    fn run_task_created(&mut self, server: &Server, run: &str, uid: &str, task: &str) {
        let of = |t: &Value| t["metadata"]["ownerReferences"][0]["uid"] == uid;
        let alive = |t: &Value| t["status"]["lastStatus"] != "STOPPED";
        let Some(object) = server.get(Kind::RunTask, run) else {
            return;
        };
        let count = object["spec"]["count"].as_u64().unwrap_or(1);
        let copy = |name: &str| names::run_task_number(run, name).map(|n| u64::from(n) % count);
        let same = server
            .all(Kind::Task)
            .filter(|(n, t)| of(t) && alive(t) && copy(n) == copy(task));
        if same.count() > 1 {
            self.broken("S19", format!("{task} is the second task of its copy"));
        }
        if !object["status"]["completionTime"].is_null() {
            self.broken("S19", format!("{task} was started after its run had ended"));
        }
        let owner = &object["metadata"]["ownerReferences"][0];
        let (Some(schedule), Some(at)) = (
            owner["uid"].as_str(),
            object["metadata"]["annotations"][labels::SCHEDULED_TIME].as_str(),
        ) else {
            return;
        };
        let first = self
            .due
            .entry((schedule.to_owned(), at.to_owned()))
            .or_insert(uid.to_owned());
        if first != uid {
            self.broken("S18", format!("{task} is of a second run for {at}"));
        }
        let policy = server
            .get(
                Kind::ScheduledTask,
                owner["name"].as_str().unwrap_or_default(),
            )
            .map(|s| s["spec"]["concurrencyPolicy"].clone());
        let alone = policy.is_some_and(|p| p == "Forbid" || p == "Replace");
        let others: Vec<&str> = server
            .all(Kind::RunTask)
            .filter(|(_, r)| r["metadata"]["ownerReferences"][0]["uid"] == schedule)
            .filter(|(_, r)| r["metadata"]["uid"] != uid)
            .filter_map(|(_, r)| r["metadata"]["uid"].as_str())
            .collect();
        let beside = server.all(Kind::Task).find(|(_, t)| {
            let owner = t["metadata"]["ownerReferences"][0]["uid"].as_str();
            alive(t) && owner.is_some_and(|o| others.contains(&o))
        });
        if let Some((other, _)) = beside.filter(|_| alone) {
            self.broken("S20", format!("{task} was started beside {other}"));
        }
    }

    /// S3, S16, S17 and S26, after a create.
    pub(crate) fn task_created(
        &mut self,
        server: &Server,
        cache: &Cache,
        task: &Task,
        settings: &Settings,
        now: Timestamp,
    ) {
        self.hear(server, now);
        self.on_a_host_that_is_heard(cache, task, settings, now);
        let Some(owner) = task.metadata.owner_references.iter().flatten().next() else {
            return;
        };
        if owner.kind == Kind::RunTask.as_str() {
            let name = task.metadata.name.as_deref().unwrap_or_default();
            return self.run_task_created(server, &owner.name, &owner.uid, name);
        }
        let of = task.metadata.labels.as_ref();
        let service = of.and_then(|l| l.get(labels::SERVICE)).cloned();
        let service = service.unwrap_or_default();
        self.of_a_live_deployment(server, task, &service);
        let held = server
            .all(Kind::Task)
            .filter(|(_, t)| t["metadata"]["ownerReferences"][0]["uid"] == owner.uid.as_str())
            .filter(|(_, t)| t["status"]["lastStatus"] != "STOPPED")
            // What was replaced and stays if its host comes back.
            .filter(|(_, t)| t["status"]["absence"].is_null())
            .count();
        let bounds = if owner.kind == Kind::TaskSet.as_str() {
            task_sets::of_set(server, cache, &owner.name, &service)
        } else {
            let both = [seen_bounds(cache, &service), true_bounds(server, &service)];
            both.into_iter().flatten().collect()
        };
        let allowed = bounds
            .iter()
            .map(|b| b.upper.max(b.desired))
            .max()
            .unwrap_or(0);
        if i64::try_from(held).unwrap_or(i64::MAX) > allowed {
            let name = task.metadata.name.as_deref().unwrap_or_default();
            self.broken(
                "S3",
                format!(
                    "with {name} {} {} has {held} tasks; {allowed} are allowed",
                    owner.kind, owner.name
                ),
            );
        }
        self.distinct(server, &service, task);
    }

    /// S17. Two leaders may both find a host free.
    fn distinct(&mut self, server: &Server, service: &str, task: &Task) {
        let spec = server.get(Kind::Service, service).map(|s| &s["spec"]);
        let constraints = spec.and_then(|s| s["placementConstraints"].as_array());
        let distinct = |c: &Value| c["type"] == "distinctInstance";
        if self.two_leaders || !constraints.is_some_and(|list| list.iter().any(distinct)) {
            return;
        }
        let host = task.spec.container_instance.as_deref().unwrap_or_default();
        let here = server.all(Kind::Task).filter(|(_, t)| {
            t["metadata"]["labels"][labels::SERVICE] == service
                && t["spec"]["containerInstance"] == host
                && t["spec"]["desiredStatus"] != "STOPPED"
                && t["metadata"]["deletionTimestamp"].is_null()
                && t["status"]["lastStatus"] != "STOPPED"
        });
        let here = here.count();
        if here > 1 {
            self.broken("S17", format!("{host} has {here} tasks of {service}"));
        }
    }

    /// S16. A leader that hangs may still start what its successor gave up.
    fn of_a_live_deployment(&mut self, server: &Server, task: &Task, service: &str) {
        let of = task.metadata.labels.as_ref();
        let of = of.and_then(|l| l.get(labels::DEPLOYMENT));
        let failed = server.get(Kind::Service, service);
        let failed = failed.and_then(|s| s["status"]["failedDeployment"]["id"].as_str());
        if !self.two_leaders
            && let Some((of, failed)) = of.zip(failed)
            && failed.strip_prefix("ecs-svc/") == Some(of)
        {
            let name = task.metadata.name.as_deref().unwrap_or_default();
            self.broken(
                "S16",
                format!("{name} is started for a deployment that was given up"),
            );
        }
    }

    /// S4, before a stop.
    pub(crate) fn before_stop(
        &mut self,
        server: &Server,
        cache: &Cache,
        name: &str,
        now: Timestamp,
    ) {
        self.stop = None;
        self.protected = None;
        let Some(task) = server.get(Kind::Task, name) else {
            return;
        };
        let Some(service) = task["metadata"]["labels"][labels::SERVICE].as_str() else {
            return;
        };
        let set = task["metadata"]["labels"][labels::TASK_SET].as_str();
        let deleting = task_sets::leaves(server, Kind::Service, service)
            || set.is_some_and(|set| task_sets::leaves(server, Kind::TaskSet, set));
        let until = task["status"]["protectedUntil"].as_str();
        let until = until.and_then(|text| text.parse::<Timestamp>().ok());
        let excused = deleting
            || task["status"]["healthStatus"] == "UNHEALTHY"
            || task["spec"]["containerInstance"]
                .as_str()
                .is_none_or(|host| {
                    server.get(Kind::ContainerInstance, host).is_none_or(|i| {
                        i["spec"]["status"] == "DRAINING"
                            || !i["metadata"]["deletionTimestamp"].is_null()
                    })
                });
        self.protected = until.filter(|until| *until > now && !excused);
        if deleting || self.faults {
            return;
        }
        let bounds = match set {
            Some(set) => task_sets::of_set(server, cache, set, service),
            None => {
                let both = [seen_bounds(cache, service), true_bounds(server, service)];
                both.into_iter().flatten().collect()
            }
        };
        let part = |t: &Value| {
            let labels = &t["metadata"]["labels"];
            labels[labels::SERVICE] == service
                && set.is_none_or(|set| labels[labels::TASK_SET] == set)
        };
        let healthy = server
            .all(Kind::Task)
            .filter(|(_, t)| part(t) && healthy(server, t, now))
            .count();
        self.stop = Some(Stop {
            task: name.to_owned(),
            counts: self::healthy(server, task, now),
            healthy,
            least: bounds.iter().map(|b| b.lower).min().unwrap_or(0),
        });
    }

    /// S4, after it.
    pub(crate) fn after_stop(&mut self, done: bool) {
        if let Some(until) = self.protected.take()
            && done
        {
            self.broken("S14", format!("a task protected until {until} was stopped"));
        }
        if let Some(stop) = self.stop.take()
            && done
            && stop.counts
            && i64::try_from(stop.healthy).unwrap_or(i64::MAX) - 1 < stop.least
        {
            let Stop {
                task,
                healthy,
                least,
                ..
            } = stop;
            self.broken(
                "S4",
                format!("{task} was stopped while {healthy} were healthy and {least} must be"),
            );
        }
    }

    /// S10: the agent is about to stop a container of a task.
    pub(crate) fn stopping(&mut self, server: &Server, host: &str, machine: &TaskMachine) {
        let record = machine.record();
        let by_itself = record.stop.as_ref().is_some_and(|s| {
            matches!(
                s.code,
                Some(StopCode::EssentialContainerExited | StopCode::TaskFailedToStart)
            )
        });
        // Cut off, and not to run beside its replacement.
        let fenced = machine.task().stop_after.is_some()
            && record.stop.as_ref().and_then(|s| s.code) == Some(StopCode::InfrastructureHealth);
        let unknown = record.condemned && !wanted_by_anyone(server, &machine.task().uid);
        if record.condemned {
            self.decided(server, host, &machine.task().uid);
        }
        let task = server.get(Kind::Task, &machine.task().name);
        let wanted = task
            .filter(|t| t["metadata"]["uid"] == machine.task().uid.as_str())
            .is_none_or(|t| {
                t["spec"]["desiredStatus"] == "STOPPED"
                    || !t["metadata"]["deletionTimestamp"].is_null()
                    || t["status"]["lastStatus"] == "STOPPED"
            });
        let entry = matches!(
            machine.task().desired,
            tallyman_agent_core::Desired::Stop { .. }
        );
        let wanted = wanted || self.ordered.contains(machine.task().uid.as_str());
        if !(by_itself || fenced || unknown || (wanted && entry)) {
            self.broken(
                "S10",
                format!(
                    "{host} stops {} for no reason: {:?}",
                    machine.task().name,
                    record.stop
                ),
            );
        }
    }

    /// S12: the engine is about to carry out `action`.
    pub(crate) fn in_order(&mut self, engine: &FakeEngine, machine: &TaskMachine, action: &Action) {
        let containers = machine.task().containers();
        let state = |name: &str| {
            let one = containers.iter().find(|c| c.name == name)?;
            engine.peek(&one.engine_name(1))
        };
        let Some(target) = containers.iter().find(|c| c.name == action.container()) else {
            return;
        };
        let mut wrong = None;
        if action.verb() == Verb::Start {
            wrong = target.edges.iter().find_map(|edge| {
                let code = state(&edge.on).map(|other| match other.phase {
                    Phase::Exited { exit_code, .. } => Some(exit_code),
                    _ => None,
                });
                let holds = match edge.until {
                    Until::Created => code.is_some(),
                    Until::Started => state(&edge.on).is_some_and(|s| s.started_at.is_some()),
                    Until::Complete => code.flatten().is_some(),
                    Until::Success => code.flatten() == Some(0),
                    Until::Healthy => {
                        self.faults || state(&edge.on).is_some_and(|s| s.health == Health::Healthy)
                    }
                };
                (!holds).then(|| format!("starts before {edge:?}"))
            });
        }
        if action.verb() == Verb::Stop {
            wrong = containers.iter().find_map(|other| {
                let waits = other.edges.iter().any(|edge| edge.on == target.name);
                let alive = state(&other.name).is_some_and(|s| s.phase.kind().is_alive());
                (waits && alive).then(|| format!("stops before {}", other.name))
            });
        }
        if let Some(what) = wrong {
            let task = &machine.task().name;
            self.broken("S12", format!("{} of {task} {what}", target.name));
        }
    }

    /// S10: the agent stops a container that no plan knows.
    pub(crate) fn condemned(
        &mut self,
        server: &Server,
        host: &str,
        task: &TaskUid,
        container: &str,
    ) {
        self.decided(server, host, task);
        if wanted_by_anyone(server, task) {
            self.broken(
                "S10",
                format!("container {container} was condemned and its Task is to run"),
            );
        }
    }

    /// S25: the agent stops what no plan has.
    fn decided(&mut self, server: &Server, host: &str, task: &TaskUid) {
        let instance = server.get(Kind::ContainerInstance, host);
        let decided = instance.map(|i| &i["metadata"]["annotations"][labels::STOP_FORGOTTEN]);
        if self.left.contains(task.as_str()) && decided.is_none_or(|value| value != "true") {
            self.broken(
                "S25",
                format!("{host} stops what runs of task {task}, and nobody decided so"),
            );
        }
    }

    /// S2: the engine refused a start.
    pub(crate) fn port_taken(&mut self, host: &str, message: &str) {
        self.broken("S2", format!("{host}: {message}"));
    }

    /// I1 to I5, I8, S1, S5, S6, S7, S14, S15.
    pub(crate) fn check(
        &mut self,
        server: &Server,
        agents: &[Agent],
        settings: &Settings,
        now: Timestamp,
    ) {
        self.hear(server, now);
        let calls: u64 = agents.iter().map(|a| a.engine.call_count()).sum();
        if self.calls != calls {
            self.calls = calls;
            self.containers(server, agents, now);
        }
        if self.checked == server.version() {
            return;
        }
        self.checked = server.version();
        let world = World::gather(&server.gather(), NAMESPACE, "default", settings, 1);
        for broken in invariants::check(&world) {
            let crowded = broken.id == "I1" || broken.id == "I2";
            if !(self.two_leaders && crowded) {
                self.broken(broken.id, broken.message);
            }
        }
        self.statuses(server);
    }

    fn statuses(&mut self, server: &Server) {
        for (name, task) in server.all(Kind::Task) {
            let uid = task["metadata"]["uid"]
                .as_str()
                .unwrap_or_default()
                .to_owned();
            let now: LastStatus =
                serde_json::from_value(task["status"]["lastStatus"].clone()).unwrap_or_default();
            let before = self.last.insert(uid, now).unwrap_or_default();
            if now == LastStatus::Stopped
                && before != now
                && let Some(missing) = unexplained(&task["status"])
            {
                let message = format!("{name} is STOPPED without {missing}: {}", task["status"]);
                self.broken("S27", message);
            }
            if before == LastStatus::Stopped && now != before {
                self.found
                    .push(format!("S7: {name} was STOPPED and is {}", now.as_str()));
            } else if now < before {
                self.found.push(format!(
                    "S5: {name} went back from {} to {}",
                    before.as_str(),
                    now.as_str()
                ));
            }
        }
    }

    fn containers(&mut self, server: &Server, agents: &[Agent], now: Timestamp) {
        let mut seen: BTreeSet<(String, String)> = BTreeSet::new();
        let mut alone: BTreeSet<String> = BTreeSet::new();
        for agent in agents {
            let mut memory = 0;
            let mut gpus = Gpus::default();
            for container in agent.engine.containers() {
                let label = |key: &str| container.labels.get(key).cloned().unwrap_or_default();
                let (task, name) = (
                    label(labels::CONTAINER_TASK_UID),
                    label(labels::ecs::CONTAINER_NAME),
                );
                if !seen.insert((task.clone(), name.clone())) {
                    self.found.push(format!(
                        "S6: container {name} of {task} is there twice ({})",
                        container.name
                    ));
                }
                if container.phase.is_alive() {
                    let task = label(labels::CONTAINER_TASK);
                    let of = task.rsplit_once('-').map(|(service, _)| service);
                    if !self.unfenced
                        && self.singleton.is_some()
                        && of == self.singleton.as_deref()
                        && !agent.rests(now)
                    {
                        alone.insert(task);
                    }
                    let given = agent.engine.spec(&container.name);
                    for id in given.iter().flat_map(|spec| &spec.gpus) {
                        let uid = label(labels::CONTAINER_TASK_UID);
                        let part = label(labels::CONTAINER_GPUS);
                        let part = part.split_once('=').map(|(_, mib)| mib);
                        if let Some(wrong) = gpus.give(id, &uid, part) {
                            let name = &container.name;
                            self.found.push(format!("S15: {name} has {id}, {wrong}"));
                        }
                    }
                    let limit = agent
                        .engine
                        .spec(&container.name)
                        .and_then(|s| s.memory_bytes)
                        .unwrap_or(0);
                    memory += limit / (1024 * 1024);
                }
                let started = agent
                    .engine
                    .peek(&container.name)
                    .and_then(|c| c.started_at);
                if let Some(at) = started {
                    let first = *self.started.entry(container.id.clone()).or_insert(at);
                    if first != at {
                        self.found
                            .push(format!("S6: {} was started twice", container.name));
                    }
                }
            }
            if alone.len() > 1 {
                self.broken("S24", format!("at a time run {alone:?}"));
            }
            self.volumes(agent);
            let host = server.get(Kind::ContainerInstance, &agent.name);
            let registered =
                host.and_then(|h| h["status"]["host"]["registeredResources"]["memory"].as_i64());
            if registered.is_some_and(|r| r > 0 && memory > r) {
                self.broken(
                    "S1",
                    format!("{} runs {memory} MiB of {registered:?}", agent.name),
                );
            }
        }
    }
}

impl Monitor {
    /// S13: a volume that a container mounts by our name was made by us, not by the engine for want of it.
    fn volumes(&mut self, agent: &Agent) {
        for volume in agent.engine.volumes() {
            let own = volume.name.starts_with("ecs-");
            if own && !volume.labels.contains_key(labels::CONTAINER_TASK_UID) {
                self.broken(
                    "S13",
                    format!(
                        "{}: {} was gone while a container was to have it",
                        agent.name, volume.name
                    ),
                );
            }
        }
    }
}

/// What a STOPPED task does not say of why it stopped.
fn unexplained(status: &Value) -> Option<String> {
    let said = |of: &Value, field: &str| match &of[field] {
        Value::String(text) => !text.is_empty(),
        other => !other.is_null(),
    };
    for field in ["stopCode", "stoppedReason", "stoppedAt"] {
        if !said(status, field) {
            return Some(field.to_owned());
        }
    }
    // One of a task that did not come to run may be stopped before it started.
    let ran = said(status, "startedAt");
    let containers = status["containers"].as_array().into_iter().flatten();
    let mut ran = containers.filter(|c| ran && said(c, "runtimeId"));
    let silent = ran.find(|c| !said(c, "exitCode") && !said(c, "reason"))?;
    Some(format!("exitCode or reason of {}", silent["name"]))
}

fn wanted_by_anyone(server: &Server, task: &TaskUid) -> bool {
    let mut all = server.all(Kind::Task);
    all.any(|(_, t)| {
        t["metadata"]["uid"] == task.as_str() && t["status"]["lastStatus"] != "STOPPED"
    })
}

fn true_bounds(server: &Server, service: &str) -> Option<Bounds> {
    let value = server.get(Kind::Service, service)?;
    match Object::parse(Kind::Service, value) {
        Ok(Object::Service(s)) => Some(bounds(&s)),
        _ => None,
    }
}

fn seen_bounds(cache: &Cache, service: &str) -> Option<Bounds> {
    match cache.get(Kind::Service, service) {
        Some(Object::Service(s)) => Some(bounds(s)),
        _ => None,
    }
}

fn bounds(service: &tallyman_crds::Service) -> Bounds {
    if service.spec.scheduling_strategy == Some(SchedulingStrategy::Daemon) {
        // How many a daemon has is up to its hosts: I9.
        return Bounds {
            upper: i64::MAX,
            ..Bounds::new(0, 0, 0)
        };
    }
    let d = service.spec.deployment_configuration.as_ref();
    let minimum = d.and_then(|d| d.minimum_healthy_percent).unwrap_or(100);
    let maximum = d.and_then(|d| d.maximum_percent).unwrap_or(200);
    Bounds::new(
        i64::from(service.spec.desired_count.unwrap_or(1)),
        i64::from(minimum),
        i64::from(maximum),
    )
}

fn healthy(server: &Server, task: &Value, now: Timestamp) -> bool {
    let gone = task["spec"]["desiredStatus"] == "STOPPED"
        || !task["metadata"]["deletionTimestamp"].is_null();
    if gone || task["status"]["lastStatus"] != "RUNNING" {
        return false;
    }
    let revision = task["metadata"]["labels"][labels::REVISION]
        .as_str()
        .unwrap_or_default();
    let containers = server
        .get(Kind::TaskDefinitionRevision, revision)
        .map(|r| &r["spec"]["definition"]["containerDefinitions"]);
    let checked = containers
        .and_then(Value::as_array)
        .is_some_and(|c| c.iter().any(|c| !c["healthCheck"].is_null()));
    if checked {
        return task["status"]["healthStatus"] == "HEALTHY";
    }
    let started = task["status"]["startedAt"]
        .as_str()
        .and_then(|t| t.parse::<Timestamp>().ok());
    started.is_some_and(|at| now.duration_since(at) >= HEALTHY_AFTER)
}
