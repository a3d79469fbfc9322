//! An operator: the real core in a shell that does what `operator/src` does (`snapshot`, `pass`, `apply`), one write at a
//! time, so that it can die or be paused between any two.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use tallyman_crds::HostPlan;
use tallyman_operator_core::liveness::LeaseObserver;
use tallyman_operator_core::{
    Action, Kind, Objects, Plan, Publication, Settings, Target, World, families, invariants, plan,
    world,
};

use crate::api::{Cache, KINDS, Preconditions, Refusal};
use crate::sim::Shared;

/// Namespace of every history.
pub const NAMESPACE: &str = "sim";
/// Least time between two passes when the first one wrote nothing but status.
const SPACING: SignedDuration = SignedDuration::from_millis(250);
/// A pass runs at least this often.
const PERIOD: SignedDuration = SignedDuration::from_secs(30);
/// A failed write is tried again after this time.
const RETRY: SignedDuration = SignedDuration::from_secs(2);
/// The caches not holding our own writes for longer than this: carry on without what needs them.
const CATCH_UP: SignedDuration = SignedDuration::from_secs(5);

/// Where a process dies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CrashPoint {
    /// At which of its deeds, counted from 1 over the whole history.
    pub at: u64,
    /// The deed is done, and only the answer is lost.
    pub carried_out: bool,
}

#[derive(Clone, Debug)]
enum Write {
    Act(Box<Action>),
    Publish(Publication),
}

/// One operator process that leads, or believes so.
#[derive(Debug)]
pub struct Operator {
    /// Name in traces.
    pub name: String,
    /// Which leader it is.
    pub epoch: i64,
    /// What it has seen.
    pub cache: Cache,
    /// It does nothing for now: a paused machine, a long garbage collection, a debugger.
    pub paused: bool,
    /// It pauses once it has begun this many writes.
    pub pause_at: Option<u64>,
    /// Another leads: it ends when it notices, after the writes of its pass.
    pub deposed: bool,
    /// Writes begun.
    pub writes: u64,
    /// Where it dies.
    pub crash: Option<CrashPoint>,
    /// It is dead.
    pub dead: bool,
    settings: Settings,
    observer: LeaseObserver,
    born: Timestamp,
    queue: VecDeque<Write>,
    written: BTreeMap<(Kind, String), (u64, String, Timestamp)>,
    next: Timestamp,
    earliest: Timestamp,
    acted: bool,
    failed: bool,
    wake_at: Option<Timestamp>,
}

impl Operator {
    /// A leader that has listed everything after it took the lead.
    pub fn start(name: &str, epoch: i64, settings: &Settings, shared: &Shared) -> Operator {
        let mut cache = Cache::of(&KINDS);
        cache.relist(&shared.server);
        Operator {
            name: name.to_owned(),
            epoch,
            cache,
            paused: false,
            pause_at: None,
            deposed: false,
            writes: 0,
            crash: None,
            dead: false,
            settings: settings.clone(),
            observer: LeaseObserver::default(),
            born: shared.now,
            queue: VecDeque::new(),
            written: BTreeMap::new(),
            next: shared.now,
            earliest: shared.now,
            acted: false,
            failed: false,
            wake_at: None,
        }
    }

    /// A watch was listed anew: that is news.
    pub fn wake(&mut self, now: Timestamp) {
        self.next = self.next.min(now);
    }

    /// When it wants to run again.
    pub fn due(&self) -> Timestamp {
        self.next
    }

    /// Lets events in and, when it is time, makes a pass. Says whether it did anything.
    pub fn step(&mut self, shared: &mut Shared) -> bool {
        if self.dead || self.paused {
            return false;
        }
        if !self.queue.is_empty() {
            return self.drain(shared);
        }
        if self.deposed {
            self.dead = true;
            return true;
        }
        if !shared.server.down
            && self
                .cache
                .receive(&shared.server, shared.lag, &mut shared.rng)
        {
            self.next = self.next.min(self.earliest.max(shared.now));
        }
        if self.next > shared.now {
            return false;
        }
        self.begin(shared);
        self.drain(shared);
        true
    }

    fn begin(&mut self, shared: &mut Shared) {
        let now = shared.now;
        let caught_up = self.caught_up(shared);
        if !caught_up
            && self
                .written
                .values()
                .any(|(_, _, at)| now.duration_since(*at) < CATCH_UP)
        {
            self.next = now + CATCH_UP / 10;
            return;
        }
        let objects = self.gather(shared);
        let mut publications = Vec::new();
        self.wake_at = None;
        self.acted = false;
        self.failed = false;
        for mut plan in self.decide(&objects, shared) {
            if !caught_up {
                plan.actions.retain(|a| !a.destructive());
            }
            self.wake_at = [self.wake_at, plan.wake_at].into_iter().flatten().min();
            self.acted |= !plan.actions.is_empty();
            // They go out concurrently: any order must do. Only the starts of tasks begin in order, so that a leader
            // that hangs among them leaves the next numbers, and no gaps, to its successor, whose names then collide.
            let (starts, mut others): (Vec<_>, Vec<_>) = plan
                .actions
                .into_iter()
                .partition(|a| matches!(a, Action::CreateTask(_)));
            shared.rng.shuffle(&mut others);
            plan.actions = others;
            let mut at = 0;
            for start in starts {
                at += shared.rng.below(plan.actions.len() + 1 - at);
                plan.actions.insert(at, start);
                at += 1;
            }
            self.queue
                .extend(plan.actions.into_iter().map(|a| Write::Act(Box::new(a))));
            publications.extend(plan.publications);
        }
        shared.rng.shuffle(&mut publications);
        self.queue
            .extend(publications.into_iter().map(Write::Publish));
        self.finish(now);
    }

    fn finish(&mut self, now: Timestamp) {
        self.earliest = if self.acted { now } else { now + SPACING };
        self.next = now + if self.failed { RETRY } else { PERIOD };
        if let Some(at) = self.wake_at {
            self.next = self.next.min(self.earliest.max(at));
        }
    }

    fn decide(&self, objects: &Objects, shared: &mut Shared) -> Vec<Plan> {
        let mut plans = vec![families::plan(objects, NAMESPACE, shared.now)];
        for cluster in world::cluster_names(objects) {
            let world = World::gather(objects, NAMESPACE, &cluster, &self.settings, self.epoch);
            let plan = plan(&world, shared.now);
            for broken in invariants::check_plan(&world, &plan, shared.now) {
                shared
                    .monitor
                    .broken(broken.id, format!("{}: {}", self.name, broken.message));
            }
            plans.push(plan);
        }
        plans
    }

    /// True when the caches hold everything that was written. What is gone since is not waited for.
    fn caught_up(&mut self, shared: &Shared) -> bool {
        let cache = &self.cache;
        self.written.retain(|(kind, name), (version, uid, at)| {
            if cache
                .version(*kind, name)
                .is_some_and(|seen| seen >= *version)
            {
                return false;
            }
            let late = shared.now.duration_since(*at) >= CATCH_UP;
            // A live read, as of anything that is not seen for long.
            let there = || {
                shared
                    .server
                    .get(*kind, name)
                    .is_some_and(|v| v["metadata"]["uid"] == uid.as_str())
            };
            !late || there()
        });
        self.written.is_empty()
    }

    fn gather(&mut self, shared: &Shared) -> Objects {
        let mut objects = self.cache.gather();
        let clock = Duration::try_from(shared.now.duration_since(self.born)).unwrap_or_default();
        if !shared.server.down {
            let leases: Vec<(String, String)> = shared
                .server
                .leases()
                .iter()
                .map(|(h, v)| (h.clone(), v.to_string()))
                .collect();
            let leases = leases.iter().map(|(h, v)| (h.as_str(), v.as_str()));
            self.observer.observe(
                leases,
                clock,
                self.settings.agent_grace,
                self.settings.brake_percent,
            );
        }
        objects.lease_age = self.observer.ages(clock);
        objects
    }

    /// Writes what the pass decided, until it is through, dead or paused.
    fn drain(&mut self, shared: &mut Shared) -> bool {
        while let Some(write) = self.queue.pop_front() {
            if self.pause_at.is_some_and(|at| self.writes >= at) {
                self.queue.push_front(write);
                self.pause_at = None;
                self.paused = true;
                shared.note(&self.name, "is paused in mid-pass");
                return true;
            }
            self.writes += 1;
            let dies = self.crash.is_some_and(|c| c.at == self.writes);
            if dies && self.crash.is_some_and(|c| !c.carried_out) {
                self.die(shared, &write);
                return true;
            }
            self.write(write.clone(), shared);
            if dies {
                self.die(shared, &write);
                return true;
            }
        }
        self.finish(shared.now);
        true
    }

    fn die(&mut self, shared: &mut Shared, write: &Write) {
        self.dead = true;
        shared.note(
            &self.name,
            &format!("DIES at write {}: {}", self.writes, label(write)),
        );
    }

    fn write(&mut self, write: Write, shared: &mut Shared) {
        let text = label(&write);
        let (kind, name, result) = match write {
            Write::Act(action) => self.act(*action, shared),
            Write::Publish(p) => {
                let must = Preconditions {
                    uid: Some(&p.target.uid),
                    resource_version: None,
                };
                let result =
                    shared
                        .server
                        .patch_status(p.target.kind, &p.target.name, &p.patch, &must);
                (p.target.kind, p.target.name, result.map(Some))
            }
        };
        let fate = match &result {
            Ok(_) => String::new(),
            Err(refusal) => format!(" -> {refusal:?}"),
        };
        shared.note(&self.name, &format!("{text}{fate}"));
        match result {
            Ok(Some(version)) => {
                let uid = shared
                    .server
                    .get(kind, &name)
                    .and_then(|v| v["metadata"]["uid"].as_str())
                    .unwrap_or_default();
                self.written
                    .insert((kind, name), (version, uid.to_owned(), shared.now));
            }
            Ok(None) | Err(Refusal::AlreadyExists | Refusal::Conflict | Refusal::NotFound) => {}
            Err(Refusal::Away) => self.failed = true,
            Err(Refusal::Invalid(why)) => {
                self.failed = true;
                shared
                    .monitor
                    .refused(&self.name, self.deposed || shared.leaders > 1, &text, &why);
            }
        }
    }

    fn act(
        &self,
        action: Action,
        shared: &mut Shared,
    ) -> (Kind, String, Result<Option<u64>, Refusal>) {
        let now = shared.now;
        let exact = |t: &Target| (t.uid.clone(), t.resource_version.clone());
        match action {
            Action::CreateCluster(o) => create(shared, Kind::Cluster, json!(o)),
            Action::CreateRevision(o) => create(shared, Kind::TaskDefinitionRevision, json!(o)),
            Action::CreateTask(o) => {
                let made = create(shared, Kind::Task, json!(o));
                if made.2.is_ok() {
                    shared.monitor.task_created(&shared.server, &self.cache, &o);
                }
                made
            }
            Action::StopTask { task, code, reason } => {
                let (uid, version) = exact(&task);
                let must = Preconditions {
                    uid: Some(&uid),
                    resource_version: Some(&version),
                };
                let patch = json!({ "spec": { "desiredStatus": "STOPPED", "stopCode": code, "stoppedReason": reason } });
                shared
                    .monitor
                    .before_stop(&shared.server, &self.cache, &task.name, now);
                let result = shared.server.patch(task.kind, &task.name, &patch, &must);
                shared.monitor.after_stop(result.is_ok());
                (task.kind, task.name, result.map(Some))
            }
            Action::WriteTaskStatus { task, patch } => {
                let (uid, version) = exact(&task);
                let must = Preconditions {
                    uid: Some(&uid),
                    resource_version: Some(&version),
                };
                let result = shared
                    .server
                    .patch_status(task.kind, &task.name, &patch, &must);
                (task.kind, task.name, result.map(Some))
            }
            Action::Delete(t) => {
                let (uid, version) = exact(&t);
                let must = Preconditions {
                    uid: Some(&uid),
                    resource_version: Some(&version),
                };
                let result = shared.server.delete(t.kind, &t.name, &must, now);
                (t.kind, t.name, result.map(|_| None))
            }
            Action::AddFinalizer {
                target: t,
                finalizer,
                label,
            } => {
                let result = shared.server.finalize(
                    t.kind,
                    &t.name,
                    &t.uid,
                    finalizer,
                    true,
                    label.as_ref(),
                );
                (t.kind, t.name, result.map(Some))
            }
            Action::RemoveFinalizer {
                target: t,
                finalizer,
            } => {
                let result = shared
                    .server
                    .finalize(t.kind, &t.name, &t.uid, finalizer, false, None);
                (t.kind, t.name, result.map(|_| None))
            }
            Action::PrepareHost { instance, plan } => {
                shared.server.make_lease(&instance.name);
                let mut value = json!(HostPlan::new(&instance.name, *plan));
                value["metadata"]["ownerReferences"] = json!([{
                    "apiVersion": "tallyman.dev/v1alpha1", "kind": "ContainerInstance",
                    "name": instance.name, "uid": instance.uid, "controller": true
                }]);
                create(shared, Kind::HostPlan, value)
            }
            Action::WriteHostPlan {
                plan,
                patch,
                spec: _,
            } => {
                let (uid, version) = exact(&plan);
                let must = Preconditions {
                    uid: Some(&uid),
                    resource_version: Some(&version),
                };
                let result =
                    shared
                        .server
                        .patch(plan.kind, &plan.name, &json!({ "spec": patch }), &must);
                (plan.kind, plan.name, result.map(Some))
            }
        }
    }
}

fn create(
    shared: &mut Shared,
    kind: Kind,
    value: Value,
) -> (Kind, String, Result<Option<u64>, Refusal>) {
    let name = value["metadata"]["name"]
        .as_str()
        .unwrap_or_default()
        .to_owned();
    let now = shared.now;
    let result = shared.server.create(kind, value, now);
    (kind, name, result.map(Some))
}

/// A write in a few words.
fn label(write: &Write) -> String {
    match write {
        Write::Publish(p) => format!("publishes {} {}", p.target.kind.as_str(), p.target.name),
        Write::Act(action) => match &**action {
            Action::CreateCluster(o) => format!(
                "creates Cluster {}",
                o.metadata.name.as_deref().unwrap_or("")
            ),
            Action::CreateRevision(o) => {
                format!("mints {}", o.metadata.name.as_deref().unwrap_or(""))
            }
            Action::CreateTask(o) => format!(
                "creates {} on {} at {}",
                o.metadata.name.as_deref().unwrap_or(""),
                o.spec.container_instance.as_deref().unwrap_or("?"),
                o.spec.task_definition
            ),
            Action::StopTask { task, reason, .. } => format!("stops {}: {reason}", task.name),
            Action::WriteTaskStatus { task, patch } => {
                format!(
                    "writes status of {}: {} {}",
                    task.name, patch["lastStatus"], patch["stoppedReason"]
                )
            }
            Action::Delete(t) => format!("deletes {} {}", t.kind.as_str(), t.name),
            Action::AddFinalizer { target, .. } => {
                format!("fences {} {}", target.kind.as_str(), target.name)
            }
            Action::RemoveFinalizer { target, .. } => {
                format!("releases {} {}", target.kind.as_str(), target.name)
            }
            Action::PrepareHost { instance, .. } => format!("prepares host {}", instance.name),
            Action::WriteHostPlan { plan, spec, .. } => {
                let tasks: Vec<String> = spec
                    .tasks
                    .iter()
                    .map(|t| {
                        format!(
                            "{}:{:?}{}",
                            t.name,
                            t.desired_status,
                            if t.remove { "!" } else { "" }
                        )
                    })
                    .collect();
                format!(
                    "writes plan {} of {}: {}",
                    spec.generation,
                    plan.name,
                    tasks.join(" ")
                )
            }
        },
    }
}
