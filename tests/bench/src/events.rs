//! What one more event costs the operator's core in a cluster at rest, and how that grows with the cluster. In process: the
//! API server is a few maps, writes arrive at once, and only the core's passes are timed.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use jiff::Timestamp;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tallyman_crds::{
    ContainerInstance, HostPlan, Service, Task, TaskDefinitionRevision, labels, names,
};
use tallyman_operator_core::liveness::Silence;
use tallyman_operator_core::names::RevisionName;
use tallyman_operator_core::{
    Action, Change, Kind, Memory, Objects, Plan, Settings, World, deployments,
};

use crate::table::against;

/// Sizes of the cluster.
const HOSTS: [usize; 3] = [100, 1_000, 5_000];
/// Tasks of a service, and services for each host.
const TASKS: usize = 10;
/// Turns of each cluster with each kind of event. In a turn one event comes before the clock runs; no two are of the same service.
const TURNS: usize = 9;
/// Events of a turn that are timed.
const EVENTS_OF_A_TURN: usize = 10;
/// How much more an event may cost in the largest cluster than in the smallest.
const GOAL: f64 = 1.2;
/// Passes after which nothing may be left to say.
const PASSES: usize = 20;

/// Something that happens.
#[derive(Clone, Copy, Debug)]
enum Event {
    Runs,
    Stops,
    Reports,
    Scales,
}

const EVENTS: [(Event, &str); 4] = [
    (Event::Runs, "a task reports RUNNING"),
    (Event::Stops, "a task STOPPED, and its service replaces it"),
    (Event::Reports, "a host's report changes"),
    (Event::Scales, "a service wants one more task"),
];

/// Measures, and appends a table of it.
///
/// # Errors
/// An object of the benchmark is wrong, or the core does not come to rest.
pub fn run(text: &mut String) -> Result<()> {
    let _ = write!(
        text,
        "\n### One more event, in process\n\nThe cluster is at rest: {TASKS} RUNNING tasks a host, in services of {TASKS}, three zones. Then something happens, \
         and the passes that follow are\ntimed, those over the operator's own writes included, until nothing is left to say. Microseconds, medians of \
         {TURNS} turns.\nIn a turn {EVENTS_OF_A_TURN} events, each of another service, happen to one cluster, as its operator has but the one; then comes the next cluster, from the smallest to the \
         largest and back. 5,000 / 100 is\nthe median of the turns' own ratios: what else the machine does meets all of them. The last row is a pass over everything, which comes every 30 s whatever happens; milliseconds.\n\n| event | 100 hosts | 1,000 hosts | \
         5,000 hosts | 5,000 / 100 | goal |\n|---|---|---|---|---|---|\n"
    );
    let [small, middle, large] = HOSTS.map(Bench::at_rest);
    let mut clusters = [small?, middle?, large?];
    for (event, name) in EVENTS {
        let turns = turns(&mut clusters, EVENTS_OF_A_TURN, |cluster, count| {
            Ok(cluster.happens(event, count)?.as_secs_f64() * 1e6)
        })?;
        row(text, name, &turns, Some(GOAL));
    }
    let turns = turns(&mut clusters, 1, |cluster, _| {
        Ok(cluster.look_at_everything()?.as_secs_f64() * 1e3)
    })?;
    row(text, "a pass over everything (ms)", &turns, None);
    Ok(())
}

/// Medians of what `measure` says of each cluster, turn by turn. Every other turn begins with the largest cluster, so that
/// none always comes after the one that fills the caches. `measure` gets a number that is new for each cluster.
fn turns(
    clusters: &mut [Bench; 3],
    timed: usize,
    mut measure: impl FnMut(&mut Bench, usize) -> Result<f64>,
) -> Result<Vec<[f64; 3]>> {
    let mut turns = Vec::new();
    for turn in 0..TURNS {
        let mut order = [0, 1, 2];
        if turn % 2 == 1 {
            order.reverse();
        }
        let mut times = [f64::NAN; 3];
        for n in order {
            let first = turn * (timed + 1);
            // One before the clock runs: the caches are another cluster's, and the first task of a question asks every host
            // once after a pass over everything.
            measure(&mut clusters[n], first)?;
            let all = (1..=timed).map(|more| measure(&mut clusters[n], first + more));
            times[n] = median(all.collect::<Result<_>>()?);
        }
        turns.push(times);
    }
    Ok(turns)
}

fn row(text: &mut String, name: &str, turns: &[[f64; 3]], goal: Option<f64>) {
    let [small, middle, large] = [0, 1, 2].map(|n| median(turns.iter().map(|t| t[n]).collect()));
    let ratio = median(turns.iter().map(|t| t[2] / t[0]).collect());
    println!("{name}: {small:.1} {middle:.1} {large:.1}, {ratio:.2}");
    let ratio = match goal {
        Some(goal) => against(ratio, goal),
        None => format!("{ratio:.2} |"),
    };
    let _ = writeln!(
        text,
        "| {name} | {small:.1} | {middle:.1} | {large:.1} | {ratio} |"
    );
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// A namespace, and the operator's memory of it.
struct Bench {
    hosts: usize,
    revision: Arc<TaskDefinitionRevision>,
    services: BTreeMap<String, Arc<Service>>,
    tasks: BTreeMap<String, Arc<Task>>,
    instances: BTreeMap<String, Arc<ContainerInstance>>,
    plans: BTreeMap<String, Arc<HostPlan>>,
    clusters: BTreeMap<String, Arc<tallyman_crds::Cluster>>,
    memory: Memory,
    now: Timestamp,
    version: u64,
    changed: BTreeSet<(Kind, String)>,
}

impl Bench {
    fn at_rest(hosts: usize) -> Result<Bench> {
        let mut bench = Bench {
            hosts,
            revision: Arc::new(revision()?),
            services: BTreeMap::new(),
            tasks: BTreeMap::new(),
            instances: BTreeMap::new(),
            plans: BTreeMap::new(),
            clusters: BTreeMap::new(),
            memory: Memory::new("bench", &Settings::default(), 1),
            now: "2026-06-01T00:00:00Z".parse()?,
            version: 1,
            changed: BTreeSet::new(),
        };
        for n in 0..hosts {
            bench.host(n)?;
            bench.service(n)?;
        }
        // A task carries the number of its deployment.
        let world = World::gather(
            &bench.objects(),
            "bench",
            "default",
            &Settings::default(),
            1,
        );
        let revision = RevisionName::from("job-1");
        for n in 0..hosts {
            let name = service_name(n);
            let state = world.services.get(name.as_str()).context("a service")?;
            let deployment = deployments::deployment_id(state, &revision).to_string();
            for t in 0..TASKS {
                // Of one service each on another host.
                let host = host_name((n + t * hosts / TASKS) % hosts);
                bench.task(&name, t + 1, &host, &deployment)?;
            }
        }
        for _ in 0..PASSES {
            let plans = bench.memory.pass_over(&bench.objects(), bench.now);
            bench.changed.clear();
            if !bench.carry_out(plans)? {
                return Ok(bench);
            }
        }
        bail!("no rest after {PASSES} passes")
    }

    /// Lets something happen, and says how long the core thought about it.
    fn happens(&mut self, event: Event, count: usize) -> Result<Duration> {
        let n = (count * 7 + 3) % self.hosts;
        let name = service_name(n);
        match event {
            Event::Runs => {
                let task = names::service_task(&name, 1);
                let task = self.tasks.contains_key(&task).then_some(task);
                let task = task.context("the first task of a service is there")?;
                self.edit(Kind::Task, &task, |v| {
                    v["status"]["lastStatus"] = json!("PENDING")
                })?;
                self.settle()?;
                self.edit(Kind::Task, &task, |v| {
                    v["status"]["lastStatus"] = json!("RUNNING")
                })?;
                self.settle()
            }
            Event::Stops => {
                let task = names::service_task(&name, 2);
                let now = self.now.to_string();
                self.edit(Kind::Task, &task, |v| {
                    v["status"]["lastStatus"] = json!("STOPPED");
                    v["status"]["stoppedAt"] = json!(now);
                    v["status"]["stopCode"] = json!("EssentialContainerExited");
                })?;
                let time = self.settle()?;
                self.run_all(&name)?;
                Ok(time)
            }
            Event::Reports => {
                let said = format!("report {count}");
                self.edit(Kind::ContainerInstance, &host_name(n), |v| {
                    v["status"]["host"]["message"] = json!(said);
                })?;
                self.settle()
            }
            Event::Scales => {
                self.edit(Kind::Service, &name, |v| {
                    v["spec"]["desiredCount"] = json!(TASKS + 1);
                    v["metadata"]["generation"] = json!(2);
                })?;
                let time = self.settle()?;
                self.run_all(&name)?;
                Ok(time)
            }
        }
    }

    /// The agents report what was started.
    fn run_all(&mut self, service: &str) -> Result<()> {
        let prefix = format!("{service}-");
        let of_service = self.tasks.range(prefix.clone()..);
        let waiting: Vec<String> = of_service
            .take_while(|(name, _)| name.starts_with(&prefix))
            .filter(|(_, t)| t.status.is_none())
            .map(|(name, _)| name.clone())
            .collect();
        if waiting.is_empty() {
            bail!("nothing was started of {service}");
        }
        for name in waiting {
            let now = self.now.to_string();
            self.edit(Kind::Task, &name, |v| {
                v["status"] = json!({
                    "observedGeneration": 1, "lastStatus": "RUNNING", "acceptedAt": now, "startedAt": now,
                    "containerInstance": v["spec"]["containerInstance"],
                });
            })?;
        }
        self.settle().map(drop)
    }

    /// Passes over what changed until nothing is left to say, and the time that they took.
    fn settle(&mut self) -> Result<Duration> {
        let mut time = Duration::ZERO;
        for _ in 0..PASSES {
            let changes = self.changes();
            let silence = |_: &str| Some(Silence::since_heard(Duration::ZERO));
            let begin = Instant::now();
            let plans = self.memory.pass(changes, silence, self.now);
            time += begin.elapsed();
            let plans = plans.context("the event reaches far")?;
            if !self.carry_out(plans)? {
                return Ok(time);
            }
        }
        bail!("no rest after {PASSES} passes")
    }

    fn look_at_everything(&mut self) -> Result<Duration> {
        let objects = self.objects();
        let begin = Instant::now();
        let plans = self.memory.pass_over(&objects, self.now);
        let time = begin.elapsed();
        if self.carry_out(plans)? {
            bail!("there was something left to say");
        }
        Ok(time)
    }

    fn changes(&mut self) -> Vec<Change> {
        let changed = std::mem::take(&mut self.changed).into_iter();
        changed
            .filter_map(|(kind, name)| match kind {
                Kind::Cluster => {
                    let object = self.clusters.get(&name).cloned();
                    Some(Change::Cluster(name, object))
                }
                Kind::Service => {
                    let object = self.services.get(&name).cloned();
                    Some(Change::Service(name, object))
                }
                Kind::Task => {
                    let object = self.tasks.get(&name).cloned();
                    Some(Change::Task(name, object))
                }
                Kind::ContainerInstance => {
                    let object = self.instances.get(&name).cloned();
                    Some(Change::Instance(name, object))
                }
                Kind::HostPlan => {
                    let object = self.plans.get(&name).cloned();
                    Some(Change::Plan(name, object))
                }
                Kind::TaskDefinition
                | Kind::TaskDefinitionRevision
                | Kind::RunTask
                | Kind::ScheduledTask
                | Kind::TaskSet
                | Kind::Secret => None,
            })
            .collect()
    }

    fn objects(&self) -> Objects {
        Objects {
            clusters: self.clusters.values().cloned().collect(),
            revisions: vec![self.revision.clone()],
            services: self.services.values().cloned().collect(),
            tasks: self.tasks.values().cloned().collect(),
            instances: self.instances.values().cloned().collect(),
            plans: self.plans.values().cloned().collect(),
            silence: self
                .instances
                .keys()
                .map(|host| (host.clone(), Silence::since_heard(Duration::ZERO)))
                .collect(),
            ..Objects::default()
        }
    }

    /// Stores what was decided, and says whether that was anything.
    fn carry_out(&mut self, plans: Vec<Plan>) -> Result<bool> {
        let mut any = false;
        for plan in plans {
            any |= !plan.actions.is_empty() || !plan.publications.is_empty();
            for action in plan.actions {
                self.act(action)?;
            }
            for p in plan.publications {
                self.edit(p.target.kind, &p.target.name, |v| {
                    merge(&mut v["status"], &p.patch);
                })?;
            }
        }
        Ok(any)
    }

    fn act(&mut self, action: Action) -> Result<()> {
        match action {
            Action::CreateCluster(mut o) => {
                let name = o.metadata.name.clone().context("a name")?;
                o.metadata.uid = Some("uid-cluster".to_owned());
                self.clusters.insert(name, Arc::new(*o));
                Ok(())
            }
            Action::CreateTask(mut o) => {
                let name = o.metadata.name.clone().context("a name")?;
                self.version += 1;
                o.metadata.uid = Some(format!("uid-{}", self.version));
                o.metadata.generation = Some(1);
                o.metadata.resource_version = Some(self.version.to_string());
                self.changed.insert((Kind::Task, name.clone()));
                self.tasks.insert(name, Arc::new(*o));
                Ok(())
            }
            Action::WriteHostPlan { plan, spec, .. } => {
                let spec = serde_json::to_value(spec)?;
                self.edit(Kind::HostPlan, &plan.name, |v| v["spec"] = spec)
            }
            Action::AddFinalizer {
                target, finalizer, ..
            } => self.edit(target.kind, &target.name, |v| {
                v["metadata"]["finalizers"] = json!([finalizer]);
            }),
            other => bail!("nobody expects {other:?}"),
        }
    }

    fn edit(&mut self, kind: Kind, name: &str, change: impl FnOnce(&mut Value)) -> Result<()> {
        fn one<K: Serialize + DeserializeOwned>(
            all: &mut BTreeMap<String, Arc<K>>,
            name: &str,
            version: u64,
            change: impl FnOnce(&mut Value),
        ) -> Result<()> {
            let object = all.get_mut(name).with_context(|| format!("no {name}"))?;
            let mut value = serde_json::to_value(&**object)?;
            change(&mut value);
            value["metadata"]["resourceVersion"] = json!(version.to_string());
            *object = Arc::new(serde_json::from_value(value)?);
            Ok(())
        }
        self.version += 1;
        let version = self.version;
        self.changed.insert((kind, name.to_owned()));
        match kind {
            Kind::Cluster => one(&mut self.clusters, name, version, change),
            Kind::Service => one(&mut self.services, name, version, change),
            Kind::Task => one(&mut self.tasks, name, version, change),
            Kind::ContainerInstance => one(&mut self.instances, name, version, change),
            Kind::HostPlan => one(&mut self.plans, name, version, change),
            Kind::TaskDefinitionRevision => {
                let mut revision = BTreeMap::from([(name.to_owned(), self.revision.clone())]);
                one(&mut revision, name, version, change)?;
                self.revision = revision.remove(name).context("the revision")?;
                Ok(())
            }
            Kind::TaskDefinition
            | Kind::RunTask
            | Kind::ScheduledTask
            | Kind::TaskSet
            | Kind::Secret => {
                bail!("there is no {}", kind.as_str())
            }
        }
    }

    fn host(&mut self, n: usize) -> Result<()> {
        let name = host_name(n);
        let uid = format!("uid-{name}");
        let host = json!({
            "apiVersion": "tallyman.dev/v1alpha1", "kind": "ContainerInstance",
            "metadata": { "name": name, "uid": uid, "generation": 1, "finalizers": [labels::IN_USE_FINALIZER] },
            "spec": { "attributes": [
                { "name": "ecs.availability-zone", "value": format!("zone-{}", n % 3) },
            ] },
            "status": { "observedGeneration": -1, "host": {
                "agentVersion": "0.1.0", "engine": "docker 29.1", "engineApiVersion": "1.52", "engineReachable": true,
                "registeredResources": { "cpu": 65536, "memory": 262_144, "ports": [22] },
                "attributes": (0..40).map(|c| json!({ "name": format!("ecs.capability.number-{c}") })).collect::<Vec<_>>(),
            } },
        });
        let plan = json!({
            "apiVersion": "tallyman.dev/v1alpha1", "kind": "HostPlan",
            "metadata": { "name": name, "uid": format!("uid-plan-{n}") },
            "spec": { "generation": 1, "leaderEpoch": 1, "cluster": "default", "containerInstanceUid": uid,
                      "definitions": {}, "tasks": [] },
        });
        self.instances
            .insert(name.clone(), Arc::new(serde_json::from_value(host)?));
        self.plans
            .insert(name, Arc::new(serde_json::from_value(plan)?));
        Ok(())
    }

    fn service(&mut self, n: usize) -> Result<()> {
        let name = service_name(n);
        let service = json!({
            "apiVersion": "tallyman.dev/v1alpha1", "kind": "Service",
            "metadata": { "name": name, "uid": format!("uid-{name}"), "generation": 1,
                          "finalizers": [labels::SERVICE_FINALIZER] },
            "spec": { "taskDefinition": "job:1", "desiredCount": TASKS },
        });
        self.services
            .insert(name, Arc::new(serde_json::from_value(service)?));
        Ok(())
    }

    fn task(&mut self, service: &str, number: usize, host: &str, deployment: &str) -> Result<()> {
        let name = names::service_task(service, i64::try_from(number)?);
        let task = json!({
            "apiVersion": "tallyman.dev/v1alpha1", "kind": "Task",
            "metadata": { "name": name, "uid": format!("uid-{name}"), "generation": 1,
                "creationTimestamp": "2026-01-01T00:00:00Z", "finalizers": [labels::STOP_FINALIZER],
                "labels": { labels::SERVICE: service, labels::REVISION: "job-1", labels::DEPLOYMENT: deployment } },
            "spec": { "taskDefinition": "job:1", "containerInstance": host, "group": format!("service:{service}") },
            "status": { "observedGeneration": 1, "lastStatus": "RUNNING", "containerInstance": host,
                        "acceptedAt": "2026-01-01T00:00:00Z", "startedAt": "2026-01-01T00:00:00Z" },
        });
        self.tasks
            .insert(name, Arc::new(serde_json::from_value(task)?));
        Ok(())
    }
}

fn host_name(n: usize) -> String {
    format!("host-{n:05}")
}

fn service_name(n: usize) -> String {
    format!("web-{n:05}")
}

fn revision() -> Result<TaskDefinitionRevision> {
    Ok(serde_json::from_value(json!({
        "apiVersion": "tallyman.dev/v1alpha1", "kind": "TaskDefinitionRevision",
        "metadata": { "name": "job-1", "uid": "uid-job-1", "generation": 1, "finalizers": [labels::IN_USE_FINALIZER] },
        "spec": { "family": "job", "revision": 1, "definition": { "containerDefinitions": [
            { "name": "app", "image": "app:1", "cpu": 256, "memory": 512 },
        ] } },
    }))?)
}

/// RFC 7386.
fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(fields) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = json!({});
    }
    for (key, value) in fields {
        match (target.as_object_mut(), value.is_null()) {
            (Some(object), true) => drop(object.remove(key)),
            (Some(object), false) => merge(object.entry(key.clone()).or_insert(Value::Null), value),
            (None, _) => {}
        }
    }
}
