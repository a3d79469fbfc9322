//! Builders for core tests: objects of one namespace, an API server of a few lines, and hands that play the agents.
//!
//! The simulator (`tests/sim`) has the real in-memory API with versions, lag and conflicts; here every write succeeds at
//! once, so that a test reads as a table row.
pub mod build;
pub mod jobs;
pub mod moves;
pub mod named_tests;
pub mod remembered;
pub mod scan;
pub mod supplies;
pub mod task_sets;
pub mod written;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use proptest::test_runner::{Config as ProptestConfig, FileFailurePersistence};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tallyman_crds::sources::{Contents, SourceObject, Supply};
use tallyman_crds::{
    ContainerInstance, DesiredStatus, HealthStatus, HostPlan, HostPlanSpec, LastStatus,
    ServiceStatus, StopCode, Task, TaskDefinition, TaskDefinitionStatus,
};
use tallyman_operator_core::liveness::Silence;
use tallyman_operator_core::{
    Action, Kind, Objects, Plan, Publication, Settings, Target, World, families, invariants,
};

use remembered::Remembered;

/// Namespace of every test.
pub const NAMESPACE: &str = "test";
/// Cluster of every test.
pub const CLUSTER: &str = "default";

/// Properties of so many cases; `PROPTEST_CASES` asks for another number.
pub fn cases(usual: u32) -> ProptestConfig {
    let wanted = ProptestConfig::default();
    let unsaid = wanted.cases == 256;
    ProptestConfig {
        cases: if unsaid { usual } else { wanted.cases },
        max_shrink_iters: 20,
        failure_persistence: Some(Box::new(FileFailurePersistence::WithSource("regressions"))),
        ..wanted
    }
}

/// A namespace in memory.
#[derive(Clone)]
pub struct Bench {
    /// The objects.
    pub objects: Objects,
    /// Settings of the scheduler.
    pub settings: Settings,
    /// The time of the next pass.
    pub now: Timestamp,
    /// Epoch of the leader that plans.
    pub epoch: i64,
    /// What Secrets and ConfigMaps hold.
    pub contents: BTreeMap<SourceObject, Contents>,
    /// What each host's Secret holds.
    pub supplies: BTreeMap<String, Supply>,
    remembered: Option<Remembered>,
    version: u64,
}

impl Default for Bench {
    fn default() -> Self {
        Bench {
            objects: Objects::default(),
            settings: Settings::default(),
            now: "2026-01-01T00:00:00Z".parse().unwrap(),
            epoch: 1,
            contents: BTreeMap::new(),
            supplies: BTreeMap::new(),
            remembered: None,
            version: 100,
        }
    }
}

impl Bench {
    /// A namespace with `hosts` hosts `host-a`, `host-b`, ... of 4096 CPU units and 8192 MiB.
    pub fn with_hosts(hosts: u8) -> Bench {
        let mut bench = Bench::default();
        for n in 0..hosts {
            bench.host(&format!("host-{}", char::from(b'a' + n)), 4096, 8192);
        }
        bench
    }

    /// Lets `seconds` pass.
    pub fn pass_time(&mut self, seconds: i64) {
        self.now += SignedDuration::from_secs(seconds);
    }

    // --- deciding and carrying out ---

    /// The world as the core sees it.
    pub fn world(&self) -> World {
        World::gather(
            &self.objects,
            NAMESPACE,
            CLUSTER,
            &self.settings,
            self.epoch,
        )
    }

    /// One pass over the cluster, carried out.
    pub fn pass(&mut self) -> Plan {
        let plan = self.plan();
        self.check(&plan);
        self.apply(&plan);
        plan
    }

    /// What one pass over the cluster decides.
    pub fn plan(&self) -> Plan {
        tallyman_operator_core::plan(&self.world(), self.now)
    }

    /// What one pass over the families decides.
    pub fn families(&self) -> Plan {
        families::plan(&self.objects, NAMESPACE, self.now)
    }

    /// Passes over families and cluster until neither writes or publishes anything: the plan is a fixpoint.
    /// Returns what was done.
    pub fn settle(&mut self) -> Vec<Action> {
        let mut done = Vec::new();
        for _ in 0..12 {
            let mut quiet = true;
            self.remember();
            for plan in [self.families(), self.plan()] {
                quiet &= plan.actions.is_empty() && plan.publications.is_empty();
                self.check(&plan);
                self.apply(&plan);
                done.extend(plan.actions);
            }
            if quiet {
                return done;
            }
        }
        let (families, plan) = (self.families(), self.plan());
        panic!("no fixpoint after 12 passes: {families:#?} {plan:#?}");
    }

    /// The world keeps its invariants, and the plan keeps its own.
    pub fn check(&self, plan: &Plan) {
        let mut broken = invariants::check(&self.world());
        broken.extend(invariants::check_plan(&self.world(), plan, self.now));
        assert!(broken.is_empty(), "{broken:?}");
    }

    /// Carries a plan out.
    pub fn apply(&mut self, plan: &Plan) {
        for action in &plan.actions {
            self.act(action.clone());
        }
        for publication in &plan.publications {
            self.publish(publication);
        }
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::CreateCluster(c) => self.create(Kind::Cluster, *c),
            Action::CreateRevision(r) => self.create(Kind::TaskDefinitionRevision, *r),
            Action::CreateTask(t) => self.create(Kind::Task, *t),
            Action::CreateRunTask(r) => self.create(Kind::RunTask, *r),
            Action::StopTask {
                task, code, reason, ..
            } => self.edit(Kind::Task, &task.name, &|v| {
                v["spec"]["desiredStatus"] = json!("STOPPED");
                v["spec"]["stopCode"] = json!(code);
                v["spec"]["stoppedReason"] = json!(reason);
            }),
            Action::WriteTaskStatus { task, patch } => {
                self.publish(&Publication {
                    target: task,
                    patch,
                    urgent: true,
                    deeds: false,
                    notes: Vec::new(),
                });
            }
            Action::Delete(target) => self.delete(target.kind, &target.name),
            Action::AddFinalizer {
                target,
                finalizer,
                label,
            } => self.edit(target.kind, &target.name, &|v| {
                if let Some((key, value)) = &label {
                    v["metadata"]["labels"][*key] = json!(value);
                }
                let mut list = v["metadata"]["finalizers"]
                    .as_array()
                    .cloned()
                    .unwrap_or_default();
                list.push(json!(finalizer));
                v["metadata"]["finalizers"] = Value::Array(list);
            }),
            Action::RemoveFinalizer { target, finalizer } => {
                self.edit(target.kind, &target.name, &|v| {
                    if let Some(list) = v["metadata"]["finalizers"].as_array_mut() {
                        list.retain(|f| f != finalizer);
                    }
                });
                self.sweep(target.kind);
            }
            Action::PrepareHost { instance, plan } => {
                self.create_host_secret(&instance.name);
                self.create(Kind::HostPlan, HostPlan::new(&instance.name, *plan))
            }
            Action::Supply {
                secret, sources, ..
            } => self.supply(&secret.name, &sources),
            Action::WriteHostPlan { plan, spec, patch } => {
                self.edit(Kind::HostPlan, &plan.name, &|v| {
                    merge(&mut v["spec"], &patch);
                    assert_eq!(
                        v["spec"],
                        serde_json::to_value(&*spec).unwrap(),
                        "the patch makes the new content"
                    );
                })
            }
        }
    }

    fn publish(&mut self, publication: &Publication) {
        let Target { kind, name, .. } = &publication.target;
        self.edit(*kind, name, &|v| {
            merge(&mut v["status"], &publication.patch)
        });
    }

    /// Sets the policy of the cluster, which is made if it is not there.
    pub fn set_policy(&mut self, policy: Value) {
        if !self.names(Kind::Cluster).contains(&CLUSTER.to_owned()) {
            self.create(
                Kind::Cluster,
                tallyman_crds::Cluster::new(CLUSTER, Default::default()),
            );
        }
        self.edit(Kind::Cluster, CLUSTER, &|v| {
            v["spec"]["taskPolicy"] = policy.clone();
        });
    }

    /// Adds an object; one of the name that is there already stays.
    pub fn create<K: Serialize>(&mut self, kind: Kind, object: K) {
        self.version += 1;
        let mut value = serde_json::to_value(object).unwrap();
        let name = value["metadata"]["name"].as_str().unwrap().to_owned();
        if self.names(kind).contains(&name) {
            return;
        }
        value["metadata"]["uid"] = json!(format!("uid-{}", self.version));
        value["metadata"]["resourceVersion"] = json!(self.version.to_string());
        value["metadata"]["generation"] = json!(1);
        value["metadata"]["creationTimestamp"] = json!(Time(self.now));
        match kind {
            Kind::Cluster => push(&mut self.objects.clusters, value),
            Kind::TaskDefinition => push(&mut self.objects.task_definitions, value),
            Kind::TaskDefinitionRevision => push(&mut self.objects.revisions, value),
            Kind::Service => push(&mut self.objects.services, value),
            Kind::Task => push(&mut self.objects.tasks, value),
            Kind::ContainerInstance => push(&mut self.objects.instances, value),
            Kind::HostPlan => push(&mut self.objects.plans, value),
            Kind::RunTask => push(&mut self.objects.run_tasks, value),
            Kind::ScheduledTask => push(&mut self.objects.scheduled_tasks, value),
            Kind::TaskSet => push(&mut self.objects.task_sets, value),
            Kind::Secret => panic!("see `supplies`"),
        }
    }

    /// Changes an object as JSON.
    pub fn edit(&mut self, kind: Kind, name: &str, change: &dyn Fn(&mut Value)) {
        self.version += 1;
        let version = self.version;
        match kind {
            Kind::Cluster => edit(&mut self.objects.clusters, name, version, change),
            Kind::TaskDefinition => edit(&mut self.objects.task_definitions, name, version, change),
            Kind::TaskDefinitionRevision => {
                edit(&mut self.objects.revisions, name, version, change)
            }
            Kind::Service => edit(&mut self.objects.services, name, version, change),
            Kind::Task => edit(&mut self.objects.tasks, name, version, change),
            Kind::ContainerInstance => edit(&mut self.objects.instances, name, version, change),
            Kind::HostPlan => edit(&mut self.objects.plans, name, version, change),
            Kind::RunTask => edit(&mut self.objects.run_tasks, name, version, change),
            Kind::ScheduledTask => edit(&mut self.objects.scheduled_tasks, name, version, change),
            Kind::TaskSet => edit(&mut self.objects.task_sets, name, version, change),
            Kind::Secret => panic!("see `supplies`"),
        }
    }

    /// `kubectl delete`: marks an object, and drops it when no finalizer holds it.
    pub fn delete(&mut self, kind: Kind, name: &str) {
        let now = self.now;
        self.edit(kind, name, &|v| {
            if v["metadata"]["deletionTimestamp"].is_null() {
                v["metadata"]["deletionTimestamp"] = json!(Time(now));
                v["metadata"]["generation"] =
                    json!(v["metadata"]["generation"].as_i64().unwrap_or(0) + 1);
            }
        });
        self.sweep(kind);
    }

    fn sweep(&mut self, kind: Kind) {
        fn gone(meta: &ObjectMeta) -> bool {
            meta.deletion_timestamp.is_some() && meta.finalizers.as_ref().is_none_or(Vec::is_empty)
        }
        match kind {
            Kind::Cluster => self.objects.clusters.retain(|o| !gone(&o.metadata)),
            Kind::TaskDefinition => self.objects.task_definitions.retain(|o| !gone(&o.metadata)),
            Kind::TaskDefinitionRevision => self.objects.revisions.retain(|o| !gone(&o.metadata)),
            Kind::Service => self.objects.services.retain(|o| !gone(&o.metadata)),
            Kind::Task => self.objects.tasks.retain(|o| !gone(&o.metadata)),
            Kind::ContainerInstance => self.objects.instances.retain(|o| !gone(&o.metadata)),
            Kind::HostPlan => self.objects.plans.retain(|o| !gone(&o.metadata)),
            Kind::RunTask => self.objects.run_tasks.retain(|o| !gone(&o.metadata)),
            Kind::ScheduledTask => self.objects.scheduled_tasks.retain(|o| !gone(&o.metadata)),
            Kind::TaskSet => self.objects.task_sets.retain(|o| !gone(&o.metadata)),
            Kind::Secret => {}
        }
    }

    // --- what is there ---

    /// Names of the objects of a kind, sorted.
    pub fn names(&self, kind: Kind) -> Vec<String> {
        fn all<K: Serialize>(list: &[Arc<K>]) -> Vec<String> {
            let name = |o: &Arc<K>| {
                serde_json::to_value(&**o).unwrap()["metadata"]["name"]
                    .as_str()
                    .unwrap()
                    .to_owned()
            };
            let mut names: Vec<String> = list.iter().map(name).collect();
            names.sort();
            names
        }
        match kind {
            Kind::Cluster => all(&self.objects.clusters),
            Kind::TaskDefinition => all(&self.objects.task_definitions),
            Kind::TaskDefinitionRevision => all(&self.objects.revisions),
            Kind::Service => all(&self.objects.services),
            Kind::Task => all(&self.objects.tasks),
            Kind::ContainerInstance => all(&self.objects.instances),
            Kind::HostPlan => all(&self.objects.plans),
            Kind::RunTask => all(&self.objects.run_tasks),
            Kind::ScheduledTask => all(&self.objects.scheduled_tasks),
            Kind::TaskSet => all(&self.objects.task_sets),
            Kind::Secret => Vec::new(),
        }
    }

    /// A task.
    pub fn task(&self, name: &str) -> &Task {
        self.objects
            .tasks
            .iter()
            .find(|t| t.metadata.name.as_deref() == Some(name))
            .unwrap()
    }

    /// Names of the tasks for which `pick` holds, sorted.
    pub fn tasks(&self, pick: impl Fn(&Task) -> bool) -> Vec<String> {
        let mut names: Vec<String> = self
            .objects
            .tasks
            .iter()
            .filter(|t| pick(t))
            .filter_map(|t| t.metadata.name.clone())
            .collect();
        names.sort();
        names
    }

    /// The host of a task.
    pub fn host_of(&self, name: &str) -> String {
        let t = self.task(name);
        let bound = t.status.as_ref().and_then(|s| s.container_instance.clone());
        t.spec.container_instance.clone().or(bound).unwrap()
    }

    /// Status of a service.
    pub fn service_status(&self, name: &str) -> ServiceStatus {
        let found = self
            .objects
            .services
            .iter()
            .find(|s| s.metadata.name.as_deref() == Some(name))
            .unwrap();
        found.status.clone().unwrap()
    }

    /// Reason of a service's Ready condition.
    pub fn reason(&self, service: &str) -> String {
        self.service_status(service).conditions[0].reason.clone()
    }

    /// Status of a task definition.
    pub fn definition_status(&self, name: &str) -> TaskDefinitionStatus {
        let found: &TaskDefinition = self
            .objects
            .task_definitions
            .iter()
            .find(|s| s.metadata.name.as_deref() == Some(name))
            .unwrap();
        found.status.clone().unwrap()
    }

    /// A host.
    pub fn instance(&self, name: &str) -> &ContainerInstance {
        self.objects
            .instances
            .iter()
            .find(|i| i.metadata.name.as_deref() == Some(name))
            .unwrap()
    }

    /// The plan of a host.
    pub fn host_plan(&self, host: &str) -> &HostPlanSpec {
        &self
            .objects
            .plans
            .iter()
            .find(|p| p.metadata.name.as_deref() == Some(host))
            .unwrap()
            .spec
    }

    // --- hands that play the agents ---

    /// Patches a task's status as its agent does.
    pub fn report(&mut self, task: &str, status: LastStatus, more: &Value) {
        let now = Time(self.now);
        let host = self.host_of(task);
        self.edit(Kind::Task, task, &|v| {
            let mut patch = json!({
                "lastStatus": status, "acceptedAt": now, "containerInstance": host, "observedGeneration": 1
            });
            match status {
                LastStatus::Running => patch["startedAt"] = json!(now),
                LastStatus::Stopped => patch["stoppedAt"] = json!(now),
                _ => {}
            }
            if v["status"]["connectivity"].is_null() {
                patch["connectivity"] = json!("CONNECTED");
                patch["connectivityAt"] = json!(now);
            }
            merge(&mut patch, more);
            merge(&mut v["status"], &patch);
        });
    }

    /// The agent reports the task RUNNING.
    pub fn run(&mut self, task: &str) {
        self.report(task, LastStatus::Running, &json!({}));
    }

    /// The agents report every task RUNNING that their plans want to run.
    pub fn run_all(&mut self) {
        let planned = self.planned(DesiredStatus::Running);
        for (name, _) in planned {
            if self
                .task(&name)
                .status
                .as_ref()
                .is_none_or(|s| s.last_status < LastStatus::Running)
            {
                self.run(&name);
            }
        }
    }

    /// The agents stop every task that is to stop, and remove what is to be removed.
    pub fn stop_all(&mut self) {
        let now = Time(self.now);
        for (name, remove) in self.planned(DesiredStatus::Stopped) {
            let code = self.task(&name).spec.stop_code;
            if self
                .task(&name)
                .status
                .as_ref()
                .is_none_or(|s| s.last_status != LastStatus::Stopped)
            {
                self.report(&name, LastStatus::Stopped, &json!({ "stopCode": code }));
            }
            if remove
                && self
                    .task(&name)
                    .status
                    .as_ref()
                    .is_none_or(|s| s.removed_at.is_none())
            {
                self.edit(Kind::Task, &name, &|v| {
                    v["status"]["removedAt"] = json!(now)
                });
            }
        }
    }

    fn planned(&self, desired: DesiredStatus) -> Vec<(String, bool)> {
        let entries = self.objects.plans.iter().flat_map(|p| &p.spec.tasks);
        entries
            .filter(|e| e.desired_status == desired)
            .filter(|e| self.names(Kind::Task).contains(&e.name))
            .map(|e| (e.name.clone(), e.remove))
            .collect()
    }

    /// The task stops by itself.
    pub fn fail(&mut self, task: &str, code: StopCode) {
        self.report(
            task,
            LastStatus::Stopped,
            &json!({ "stopCode": code, "stoppedReason": "it failed" }),
        );
    }

    /// Sets a task's health.
    pub fn health(&mut self, task: &str, health: HealthStatus) {
        self.edit(Kind::Task, task, &|v| {
            v["status"]["healthStatus"] = json!(health)
        });
    }

    /// Passes and obedient agents, `seconds` apart, until nothing moves any more.
    pub fn converge(&mut self, seconds: i64) {
        for _ in 0..60 {
            let before =
                serde_json::to_value(self.objects.tasks.iter().map(|t| &**t).collect::<Vec<_>>())
                    .unwrap();
            self.settle();
            self.stop_all();
            self.settle();
            self.run_all();
            self.settle();
            self.pass_time(seconds);
            self.settle();
            let after =
                serde_json::to_value(self.objects.tasks.iter().map(|t| &**t).collect::<Vec<_>>())
                    .unwrap();
            if before == after {
                return;
            }
        }
        panic!("no end after 60 rounds");
    }

    /// The operator did not see `host`'s Lease change for this long.
    pub fn silent(&mut self, host: &str, seconds: u64) {
        self.objects.silence.insert(
            host.to_owned(),
            Silence::since_heard(Duration::from_secs(seconds)),
        );
    }
}

/// RFC 7386, of course not the code under test.
pub fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(fields) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = json!({});
    }
    let object = target.as_object_mut().unwrap();
    for (key, value) in fields {
        if value.is_null() {
            object.remove(key);
        } else {
            merge(object.entry(key.clone()).or_insert(Value::Null), value);
        }
    }
}

fn push<K: DeserializeOwned>(list: &mut Vec<Arc<K>>, value: Value) {
    list.push(Arc::new(serde_json::from_value(value).unwrap()));
}

/// Changes the one object of the name; a change of its spec raises its generation.
fn edit<K: Serialize + DeserializeOwned>(
    list: &mut [Arc<K>],
    name: &str,
    version: u64,
    change: &dyn Fn(&mut Value),
) {
    for object in list {
        let mut value = serde_json::to_value(&**object).unwrap();
        if value["metadata"]["name"] != name {
            continue;
        }
        let before = value["spec"].clone();
        change(&mut value);
        if value["spec"] != before {
            value["metadata"]["generation"] =
                json!(value["metadata"]["generation"].as_i64().unwrap_or(0) + 1);
        }
        value["metadata"]["resourceVersion"] = json!(version.to_string());
        *object = Arc::new(serde_json::from_value(value).unwrap());
        return;
    }
    panic!("no object {name}");
}
