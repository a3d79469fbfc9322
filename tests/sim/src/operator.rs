//! An operator: the real core in a shell that does what `operator/src` does (`snapshot`, `pass`, `apply`), one write at a
//! time, so that it can die or be paused between any two.

use std::collections::VecDeque;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};
use tallyman_crds::{Connectivity, HostPlan, labels, names, sources};
use tallyman_operator_core::leadership::Hearing;
use tallyman_operator_core::liveness::LeaseObserver;
use tallyman_operator_core::pacing::{Outcome, Pace, Turn};
use tallyman_operator_core::{
    Action, Change, Kind, Memory, Objects, Plan, Publication, Settings, Target, invariants,
};

use crate::api::{Cache, KINDS, Preconditions, Refusal};
use crate::remembered;
use crate::sim::Shared;

/// Namespace of every history.
pub const NAMESPACE: &str = "sim";
/// In one of so many passes what was decided is compared, and in one of so many of these what is remembered.
const COMPARED: u64 = 5;
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
    /// Where a write is answered by an error.
    pub unanswered: Option<CrashPoint>,
    /// It is dead.
    pub dead: bool,
    /// When its renewal meets a Lease of an older state: it stops in the middle of whatever it does.
    pub notices_at: Option<Timestamp>,
    /// Hosts hold plans of this leader, and its own number is lower: another has to follow.
    pub outranked: Option<i64>,
    /// What it heard of that.
    pub hearing: Hearing,
    settings: Settings,
    observer: LeaseObserver,
    born: Timestamp,
    queue: VecDeque<Write>,
    outcomes: Vec<Outcome>,
    pace: Pace,
    memory: Memory,
    passes: u64,
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
            unanswered: None,
            dead: false,
            notices_at: None,
            outranked: None,
            hearing: Hearing::default(),
            settings: settings.clone(),
            observer: LeaseObserver::default(),
            born: shared.now,
            queue: VecDeque::new(),
            outcomes: Vec::new(),
            pace: Pace::new(Duration::ZERO),
            memory: Memory::new(NAMESPACE, settings, epoch),
            passes: 0,
        }
    }

    /// A watch was listed anew: that is news.
    pub fn wake(&mut self, now: Timestamp) {
        let clock = self.clock(now);
        self.pace.wake(clock);
    }

    /// When it wants to run again.
    pub fn due(&self) -> Timestamp {
        self.born + self.pace.due()
    }

    /// Its monotonic clock.
    fn clock(&self, now: Timestamp) -> Duration {
        Duration::try_from(now.duration_since(self.born)).unwrap_or_default()
    }

    /// Lets events in and, when it is time, makes a pass. Says whether it did anything.
    pub fn step(&mut self, shared: &mut Shared) -> bool {
        if self.dead || self.paused {
            return false;
        }
        if self.notices_at.is_some_and(|at| at <= shared.now) {
            shared.note(&self.name, "sees that the API server went back");
            self.dead = true;
            return true;
        }
        if !self.queue.is_empty() {
            return self.drain(shared);
        }
        if self.deposed {
            self.dead = true;
            return true;
        }
        let gap = self.cache.gap.is_some();
        if !shared.server.down
            && self
                .cache
                .receive(&shared.server, shared.lag, &mut shared.rng, shared.now)
        {
            self.wake(shared.now);
        }
        if self.hear(shared) {
            return true;
        }
        shared.came_to_pass |= gap && self.cache.gap.is_none_or(|gap| gap.began());
        if self.due() > shared.now {
            return false;
        }
        if self.begin(shared) {
            self.drain(shared);
        }
        true
    }

    /// Hears which plans hosts hold; says whether it ends for it.
    fn hear(&mut self, shared: &mut Shared) -> bool {
        let hosts = self.cache.held_epochs();
        let hosts = hosts.iter().map(|(host, held)| (host.as_str(), *held));
        let heard = self.hearing.hear(self.epoch, hosts);
        for complaint in heard.complaints {
            shared.note(&self.name, &complaint);
        }
        let Some(above) = heard.above else {
            return false;
        };
        shared.note(&self.name, &format!("takes a number above {above}"));
        self.outranked = Some(above);
        self.dead = true;
        true
    }

    /// Begins a pass, if its pace lets it.
    fn begin(&mut self, shared: &mut Shared) -> bool {
        let clock = self.clock(shared.now);
        let cache = &self.cache;
        match self
            .pace
            .turn(clock, |(kind, name)| cache.version(*kind, name))
        {
            Turn::Go => {}
            Turn::Later => return false,
            Turn::Look(missing) => {
                for key in missing {
                    if !shared.server.down && shared.server.get(key.0, &key.1).is_none() {
                        self.pace.forget(&key);
                    }
                }
            }
        }
        let objects = self.gather(shared);
        let plans = self.decide(&objects, shared);
        let plan = self.pace.admit(plans, clock);
        // They go out concurrently: any order must do. Only the starts of tasks begin in order, so that a leader
        // that hangs among them leaves the next numbers, and no gaps, to its successor, whose names then collide.
        let (starts, mut actions): (Vec<_>, Vec<_>) = plan
            .actions
            .into_iter()
            .partition(|a| matches!(a, Action::CreateTask(_)));
        shared.rng.shuffle(&mut actions);
        let mut at = 0;
        for start in starts {
            at += shared.rng.below(actions.len() + 1 - at);
            actions.insert(at, start);
            at += 1;
        }
        self.queue
            .extend(actions.into_iter().map(|a| Write::Act(Box::new(a))));
        let mut publications = plan.publications;
        shared.rng.shuffle(&mut publications);
        self.queue
            .extend(publications.into_iter().map(Write::Publish));
        true
    }

    /// Decides on what changed, and in a share of the passes holds that against what a pass over everything decides: S21.
    fn decide(&mut self, objects: &Objects, shared: &mut Shared) -> Vec<Plan> {
        self.passes += 1;
        let clock = self.clock(shared.now);
        let changes = self.cache.news();
        let will_do = self.pace.part_will_do(clock);
        let part = changes.filter(|_| will_do).and_then(|mut changes| {
            let silences = &objects.silence;
            changes.extend(silences.keys().map(|host| Change::Lease(host.clone())));
            let silence = |host: &str| silences.get(host).copied();
            self.memory.pass(changes, silence, shared.now)
        });
        let plans = match part {
            Some(part) => {
                self.compare(&part, objects, shared);
                part
            }
            None => {
                self.pace.looked(clock);
                self.memory.pass_over(objects, shared.now)
            }
        };
        for (world, plan) in self.memory.worlds().zip(&plans[1..]) {
            for broken in invariants::check_plan(world, plan, shared.now) {
                let message = format!("{}: {}", self.name, broken.message);
                shared.monitor.broken(broken.id, message);
            }
        }
        for action in plans.iter().flat_map(|plan| &plan.actions) {
            if let Action::WriteTaskStatus { task, patch } = action
                && patch["connectivity"] == json!(Connectivity::Disconnected)
                && !shared.server.down
            {
                let monitor = &mut shared.monitor;
                monitor.called_disconnected(&shared.server, &task.name, &self.settings, shared.now);
            }
        }
        plans
    }

    fn compare(&self, part: &[Plan], objects: &Objects, shared: &mut Shared) {
        // Until it notices a restore its caches are of one store, and the leases that it looks at of another.
        if self.notices_at.is_some() || !self.passes.is_multiple_of(COMPARED) {
            return;
        }
        let mut fresh = Memory::new(NAMESPACE, &self.settings, self.epoch);
        let whole = fresh.pass_over(objects, shared.now);
        let mut wrong = remembered::difference(part, &whole);
        if wrong.is_some() || self.passes.is_multiple_of(COMPARED * COMPARED) {
            wrong = self.memory.differs_from(objects).or(wrong);
        }
        if let Some(what) = wrong {
            let broken = format!("{}: {what}", self.name);
            shared.monitor.broken("S21", broken);
        }
    }

    fn gather(&mut self, shared: &Shared) -> Objects {
        let mut objects = self.cache.gather();
        let clock = self.clock(shared.now);
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
        objects.silence = self.observer.silences(clock);
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
            match self.unanswered.filter(|u| u.at == self.writes) {
                Some(point) => self.write_unanswered(write.clone(), point.carried_out, shared),
                None => self.write(write.clone(), shared),
            }
            if dies {
                self.die(shared, &write);
                return true;
            }
        }
        let clock = self.clock(shared.now);
        self.pace.finish(self.outcomes.drain(..), clock, shared.now);
        true
    }

    /// A write whose answer is an error: a reset connection, a timeout, a 500.
    fn write_unanswered(&mut self, write: Write, carried_out: bool, shared: &mut Shared) {
        shared.came_to_pass = true;
        shared.note(&self.name, "hears nothing of its next write");
        if carried_out {
            self.write(write, shared);
            self.outcomes.pop();
        }
        self.outcomes.push(Outcome::Failed);
    }

    fn die(&mut self, shared: &mut Shared, write: &Write) {
        shared.came_to_pass = true;
        self.dead = true;
        shared.note(
            &self.name,
            &format!("DIES at write {}: {}", self.writes, label(write)),
        );
    }

    fn write(&mut self, write: Write, shared: &mut Shared) {
        let text = label(&write);
        let created = matches!(&write, Write::Act(a) if matches!(
            **a,
            Action::CreateCluster(_)
                | Action::CreateRevision(_)
                | Action::CreateTask(_)
                | Action::CreateRunTask(_)
                | Action::PrepareHost { .. }
        ));
        let (kind, name, result) = match write {
            Write::Act(action) => self.act(*action, shared),
            Write::Publish(p) => {
                let must = Preconditions {
                    uid: Some(&p.target.uid),
                    resource_version: Some(&p.target.resource_version),
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
        self.outcomes.push(match result {
            Ok(Some(version)) => Outcome::Written {
                key: (kind, name),
                version,
                created,
            },
            Ok(None) | Err(Refusal::AlreadyExists | Refusal::Conflict | Refusal::NotFound) => {
                Outcome::Settled
            }
            Err(Refusal::Away) => Outcome::Failed,
            Err(Refusal::Invalid(why)) => {
                let late = self.deposed || shared.leaders > 1;
                shared.monitor.refused(&self.name, late, &text, &why);
                Outcome::Failed
            }
        });
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
                    shared.monitor.task_created(
                        &shared.server,
                        &self.cache,
                        &o,
                        &self.settings,
                        shared.now,
                    );
                }
                made
            }
            Action::CreateRunTask(o) => create(shared, Kind::RunTask, json!(o)),
            Action::StopTask {
                task, code, reason, ..
            } => {
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
                let owner = json!([{
                    "apiVersion": "tallyman.dev/v1alpha1", "kind": "ContainerInstance",
                    "name": instance.name, "uid": instance.uid, "controller": true
                }]);
                let secret = json!({ "metadata": {
                    "name": names::host_identity(&instance.name), "ownerReferences": owner,
                    "labels": { labels::MANAGED_BY: labels::MANAGER },
                }});
                let _there_already = create(shared, Kind::Secret, secret);
                let mut value = json!(HostPlan::new(&instance.name, *plan));
                value["metadata"]["ownerReferences"] = owner;
                create(shared, Kind::HostPlan, value)
            }
            Action::Supply {
                secret, sources, ..
            } => {
                let (uid, version) = exact(&secret);
                let must = Preconditions {
                    uid: Some(&uid),
                    resource_version: Some(&version),
                };
                let contents = shared.server.contents();
                let (supply, receipt) = sources::supply(&sources, &contents);
                let text = |value: Value| match sources.is_empty() {
                    true => Value::Null,
                    false => json!(value.to_string()),
                };
                let patch = json!({
                    "metadata": { "annotations": { labels::SUPPLIED: text(json!(receipt)) } },
                    "data": { sources::DATA_KEY: text(json!(supply)) },
                });
                let result = shared
                    .server
                    .patch(secret.kind, &secret.name, &patch, &must);
                (secret.kind, secret.name, result.map(Some))
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
            Action::CreateRunTask(o) => {
                format!("creates run {}", o.metadata.name.as_deref().unwrap_or(""))
            }
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
            Action::Supply {
                secret, sources, ..
            } => {
                format!("supplies {} with {} values", secret.name, sources.len())
            }
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
