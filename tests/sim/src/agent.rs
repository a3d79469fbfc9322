//! A host: the fake engine, a disk, and an agent process over the real core that does what `node-agent/src` does (`agent`,
//! `worker`, `ledger`). The process can die at any of its deeds; the engine and, mostly, the disk stay.

use std::collections::{BTreeMap, BTreeSet};

use futures::FutureExt;
use futures::executor::block_on;
use futures::stream::{BoxStream, StreamExt};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use tallyman_agent_core::register::{self, EngineFacts, HostFacts, HostOutbox};
use tallyman_agent_core::{
    Action, AssignedTask, Delivery, Due, Host, HostContext, Outcome, Parcel, Plan, Settings,
    TaskMachine, TaskRecord, TaskUid, assignment::Door, perform,
};
use tallyman_agent_engine::fake::FakeEngine;
use tallyman_agent_engine::{ContainerSummary, Engine, EngineError, Hint, Moment, Verb};
use tallyman_crds::{HostReport, labels};
use tallyman_operator_core::Kind;

use crate::api::{Cache, Object, Preconditions, Refusal};
use crate::operator::CrashPoint;
use crate::sim::Shared;

const LIST_PERIOD: SignedDuration = SignedDuration::from_secs(10);
const LIST_RETRY: SignedDuration = SignedDuration::from_secs(2);
const LEASE_PERIOD: SignedDuration = SignedDuration::from_secs(10);
const PLAN_PATIENCE: SignedDuration = SignedDuration::from_secs(5);
const WATCH_RETRY: SignedDuration = SignedDuration::from_secs(1);
/// How long containers of stopped tasks are kept; ECS keeps them for three hours.
const CLEANUP_WAIT: std::time::Duration = std::time::Duration::from_secs(30 * 60);
/// The supervisor starts a dead agent again after this time.
const RESTART: SignedDuration = SignedDuration::from_secs(2);

/// What outlives the process, unless it is lost.
#[derive(Clone, Debug, Default)]
struct Disk {
    plan: Option<Value>,
    records: BTreeMap<TaskUid, TaskRecord>,
}

/// A host of the cluster.
pub struct Agent {
    /// Its name.
    pub name: String,
    /// Its engine.
    pub engine: FakeEngine,
    /// No way to the API server.
    pub cut_off: bool,
    /// No power: no process, no containers.
    pub off: bool,
    /// Engine calls, patches and disk writes so far.
    pub deeds: u64,
    /// Where it dies.
    pub crash: Option<CrashPoint>,
    /// Its disk does not survive the next death.
    pub loses_disk: bool,
    settings: Settings,
    disk: Disk,
    process: Option<Process>,
    start_at: Timestamp,
}

enum Flight {
    /// Asked of the engine, which has not done it yet.
    Asked,
    /// Done, and the answer is on its way.
    Done(Outcome),
}

struct InFlight {
    uid: TaskUid,
    action: Action,
    at: Timestamp,
    flight: Flight,
}

struct Process {
    host: Host,
    cache: Cache,
    machines: BTreeMap<TaskUid, TaskMachine>,
    waiting: BTreeMap<TaskUid, AssignedTask>,
    saved: BTreeMap<TaskUid, TaskRecord>,
    saved_plan: Option<Value>,
    disk_plan_at: Option<Timestamp>,
    heard: Option<u64>,
    records: BTreeMap<TaskUid, TaskRecord>,
    plan: Option<Value>,
    dirty: bool,
    listed: Option<Vec<ContainerSummary>>,
    list_at: Timestamp,
    hints: Option<BoxStream<'static, Hint>>,
    watch_at: Timestamp,
    lease_at: Timestamp,
    facts: EngineFacts,
    outbox: HostOutbox,
    in_flight: Vec<InFlight>,
    sending: Vec<(TaskUid, Box<Parcel>, Timestamp)>,
    /// When the machines want to step again.
    work_at: Timestamp,
    /// Something came in since they stepped.
    news: bool,
    report_at: Timestamp,
}

/// The process died here.
struct Dead;

impl Agent {
    /// A host with an engine and no agent yet.
    pub fn new(name: &str, now: Timestamp) -> Result<Agent, String> {
        let parsed = Settings::parse(&BTreeMap::new()).map_err(|bad| format!("{bad:?}"))?;
        let settings = Settings {
            cleanup_wait: CLEANUP_WAIT,
            ..parsed.settings
        };
        Ok(Agent {
            name: name.to_owned(),
            engine: FakeEngine::new(name),
            cut_off: false,
            off: false,
            deeds: 0,
            crash: None,
            loses_disk: false,
            settings,
            disk: Disk::default(),
            process: None,
            start_at: now,
        })
    }

    /// Kills the agent; its containers go on.
    pub fn kill(&mut self, shared: &mut Shared, why: &str) {
        let Some(process) = self.process.take() else {
            return;
        };
        shared.note(&self.name, &format!("agent DIES: {why}"));
        // What was asked of the engine may be done all the same.
        for flight in process.in_flight {
            if matches!(flight.flight, Flight::Asked) && shared.rng.chance(50) {
                let _nobody_hears = block_on(perform(&self.engine, &flight.action));
            }
        }
        self.engine.break_watches();
        if std::mem::take(&mut self.loses_disk) {
            self.disk = Disk::default();
        }
        self.start_at = shared.now + RESTART;
    }

    /// Turns the host off: agent and containers end.
    pub fn power_off(&mut self, shared: &mut Shared) {
        self.kill(shared, "power off");
        self.engine.restart_engine(false);
        self.off = true;
    }

    /// Turns the host on again.
    pub fn power_on(&mut self, shared: &mut Shared) {
        self.off = false;
        self.start_at = shared.now;
    }

    /// When it wants to run again.
    pub fn due(&self, now: Timestamp) -> Timestamp {
        if self.off {
            return now + SignedDuration::from_secs(3600);
        }
        let engine = self
            .engine
            .next_event()
            .and_then(|m| Timestamp::from_millisecond(m.millis()).ok());
        let Some(p) = &self.process else {
            return self.start_at;
        };
        let flights = p.in_flight.iter().map(|f| f.at);
        let parcels = p.sending.iter().map(|(_, _, at)| *at);
        flights
            .chain(parcels)
            .chain(engine)
            .chain(p.disk_plan_at)
            .fold(
                p.work_at.min(p.list_at).min(p.lease_at).min(p.report_at),
                Timestamp::min,
            )
    }

    /// One round of the loop. Says whether it did anything.
    pub fn step(&mut self, shared: &mut Shared) -> bool {
        self.engine.set_now(Moment(shared.now.as_millisecond()));
        if self.off {
            return false;
        }
        if self.process.is_none() {
            if self.start_at > shared.now {
                return false;
            }
            self.begin(shared);
        }
        let Some(mut process) = self.process.take() else {
            return false;
        };
        let before = self.deeds;
        let outcome = self.round(&mut process, shared);
        self.process = Some(process);
        if outcome.is_err() {
            self.kill(shared, &format!("at deed {}", self.deeds));
        }
        self.deeds != before
    }

    fn begin(&mut self, shared: &mut Shared) {
        let now = shared.now;
        let mut cache = Cache::of(&[Kind::HostPlan]);
        if self.reachable(shared) {
            cache.relist(&shared.server);
        }
        let door = Door {
            namespace: "sim".to_owned(),
            stop_timeout: self.settings.stop_timeout,
        };
        self.process = Some(Process {
            host: Host::new(door),
            cache,
            machines: BTreeMap::new(),
            waiting: BTreeMap::new(),
            saved: self.disk.records.clone(),
            saved_plan: self.disk.plan.clone(),
            disk_plan_at: self.disk.plan.is_some().then(|| now + PLAN_PATIENCE),
            heard: None,
            records: self.disk.records.clone(),
            plan: self.disk.plan.clone(),
            dirty: false,
            listed: None,
            list_at: now,
            hints: None,
            watch_at: now,
            lease_at: now,
            facts: EngineFacts::default(),
            outbox: HostOutbox::default(),
            in_flight: Vec::new(),
            sending: Vec::new(),
            work_at: now,
            news: true,
            report_at: now,
        });
        shared.note(&self.name, "agent starts");
    }

    fn reachable(&self, shared: &Shared) -> bool {
        !self.cut_off && !shared.server.down
    }

    /// Counts a deed; says whether it is still to be done, or that the process dies before or after it.
    fn deed(&mut self, deed: impl FnOnce(&mut Agent)) -> Result<(), Dead> {
        self.deeds += 1;
        let here = self.crash.filter(|c| c.at == self.deeds);
        match here {
            Some(CrashPoint {
                carried_out: false, ..
            }) => Err(Dead),
            Some(CrashPoint {
                carried_out: true, ..
            }) => {
                deed(self);
                Err(Dead)
            }
            None => {
                deed(self);
                Ok(())
            }
        }
    }

    fn round(&mut self, p: &mut Process, shared: &mut Shared) -> Result<(), Dead> {
        let now = shared.now;
        self.describe(p)?;
        self.report(p, shared);
        self.renew(p, shared);
        self.hear(p, shared)?;
        self.look(p, shared)?;
        self.settle(p, shared)?;
        if p.news || p.work_at <= now {
            self.work(p, shared);
        }
        self.deliver(p, shared)?;
        if p.dirty && shared.rng.chance(60) {
            self.flush(p)?;
        }
        if p.dirty || p.news {
            p.work_at = p.work_at.min(now + SignedDuration::from_millis(50));
        }
        Ok(())
    }

    // --- the host ---

    fn describe(&mut self, p: &mut Process) -> Result<(), Dead> {
        if p.facts.description.is_none() {
            let mut answer = None;
            self.deed(|agent| answer = block_on(agent.engine.describe()).ok())?;
            p.facts.description = answer;
        }
        Ok(())
    }

    fn report(&mut self, p: &mut Process, shared: &mut Shared) {
        let facts = HostFacts {
            agent_version: "0.1.0".to_owned(),
            address: None,
            boot_id: None,
        };
        let Ok(report) = register::report(
            &self.settings,
            &facts,
            &p.facts,
            p.host.applied_generation(),
        ) else {
            return;
        };
        let Some(at) = p.outbox.due(&report, shared.now) else {
            p.report_at = shared.now + SignedDuration::from_secs(600);
            return;
        };
        p.report_at = at.max(shared.now + SignedDuration::from_millis(100));
        if at > shared.now {
            return;
        }
        let reachable = self.reachable(shared);
        let must = Preconditions::default();
        let body = json!({ "host": host(&report) });
        if reachable
            && shared
                .server
                .patch_status(Kind::ContainerInstance, &self.name, &body, &must)
                .is_ok()
        {
            p.outbox.sent(report, shared.now);
        } else {
            p.outbox.failed(7, shared.now);
        }
    }

    fn renew(&mut self, p: &mut Process, shared: &mut Shared) {
        if p.lease_at <= shared.now {
            p.lease_at = shared.now + LEASE_PERIOD;
            if self.reachable(shared) && shared.server.renew(&self.name).is_err() {
                p.lease_at = shared.now + SignedDuration::from_secs(2);
            }
        }
    }

    // --- the plan ---

    fn hear(&mut self, p: &mut Process, shared: &mut Shared) -> Result<(), Dead> {
        if self.reachable(shared) {
            p.cache.receive(&shared.server, shared.lag, &mut shared.rng);
            let version = p.cache.version(Kind::HostPlan, &self.name);
            if version != p.heard {
                p.heard = version;
                p.news = true;
                p.report_at = shared.now;
                match p.cache.get(Kind::HostPlan, &self.name) {
                    Some(Object::Plan(plan)) => {
                        p.disk_plan_at = None;
                        let spec = json!(plan.spec);
                        if self.take_plan(p, &spec, true, shared) {
                            p.plan = Some(spec);
                            p.dirty = true;
                        }
                    }
                    _ => p.host.plan_gone(),
                }
            }
        }
        if p.disk_plan_at.is_some_and(|at| at <= shared.now) {
            p.disk_plan_at = None;
            if let Some(spec) = p.saved_plan.take()
                && p.host.assignment().is_none()
            {
                shared.note(&self.name, "works from the plan on disk");
                p.news = true;
                self.take_plan(p, &spec, false, shared);
            }
        }
        Ok(())
    }

    fn take_plan(&self, p: &mut Process, spec: &Value, live: bool, shared: &mut Shared) -> bool {
        let Ok(plan) = Plan::from_json(spec) else {
            return false;
        };
        if let Some(saved) = p.saved_plan.take()
            && let Ok(saved) = Plan::from_json(&saved)
        {
            let _older_is_fine = p.host.offer(saved, false);
        }
        let offer = match p.host.offer(plan, live) {
            Ok(offer) => offer,
            Err(refusal) => {
                shared.note(&self.name, &refusal.to_string());
                return false;
            }
        };
        if offer.other_identity {
            p.listed = None;
            p.hints = None;
            p.list_at = shared.now;
        }
        for uid in &offer.unplanned {
            p.waiting.remove(uid);
            if let Some(machine) = p.machines.get_mut(uid) {
                machine.unplanned();
            }
        }
        let changed: BTreeSet<&TaskUid> = offer.assigned.iter().map(|t| &t.uid).collect();
        let all: Vec<AssignedTask> = p
            .host
            .assignment()
            .map(|held| held.tasks.values().cloned().collect())
            .unwrap_or_default();
        for task in all {
            match p.machines.get_mut(&task.uid) {
                Some(machine) if changed.contains(&task.uid) => machine.assign(task),
                Some(_) => {}
                None => {
                    p.waiting.insert(task.uid.clone(), task);
                }
            }
        }
        begin_waiting(p);
        true
    }

    // --- the engine ---

    fn look(&mut self, p: &mut Process, shared: &mut Shared) -> Result<(), Dead> {
        let now = shared.now;
        let Some(instance) = p.host.container_instance_uid().map(str::to_owned) else {
            return Ok(());
        };
        let scope = (labels::CONTAINER_INSTANCE_UID, instance.as_str());
        if p.hints.is_none() && p.watch_at <= now {
            p.hints = Some(self.engine.watch(scope));
            p.list_at = now;
        }
        while let Some(stream) = &mut p.hints {
            match stream.next().now_or_never() {
                None => break,
                Some(None | Some(Hint::Lost)) => {
                    p.hints = None;
                    p.watch_at = now + WATCH_RETRY;
                }
                Some(Some(hint)) => {
                    p.news = true;
                    let name = hint.container().unwrap_or_default().to_owned();
                    for machine in p.machines.values_mut() {
                        machine.hinted(&name, &hint);
                    }
                }
            }
        }
        if p.list_at <= now {
            let mut answer = None;
            self.deed(|agent| answer = block_on(agent.engine.list(scope)).ok())?;
            match answer {
                Some(list) => self.take_list(p, list, shared)?,
                None => p.list_at = now + LIST_RETRY,
            }
        }
        Ok(())
    }

    fn take_list(
        &mut self,
        p: &mut Process,
        list: Vec<ContainerSummary>,
        shared: &mut Shared,
    ) -> Result<(), Dead> {
        p.list_at = shared.now + LIST_PERIOD;
        p.news = true;
        for (uid, machine) in &mut p.machines {
            machine.listed(&of_task(&list, uid));
        }
        let ended: BTreeSet<TaskUid> = p
            .records
            .values()
            .filter(|r| r.is_stopped())
            .map(|r| r.uid.clone())
            .collect();
        let condemned = p.host.strays(&list, &ended, shared.now);
        p.listed = Some(list);
        begin_waiting(p);
        for stray in condemned {
            shared.note(&self.name, &format!("condemns {}", stray.name));
            if let Some(machine) = p.machines.get_mut(&stray.task) {
                machine.condemn();
                continue;
            }
            shared
                .monitor
                .condemned(&shared.server, &stray.task, &stray.name);
            let name = stray.name.clone();
            self.deed(|agent| {
                let gone = block_on(agent.engine.stop(&name, agent.settings.stop_timeout)).is_ok();
                if gone {
                    let _again_later = block_on(agent.engine.remove(&name));
                }
            })?;
        }
        Ok(())
    }

    /// Engine calls that are due are made, and answers that are due arrive.
    fn settle(&mut self, p: &mut Process, shared: &mut Shared) -> Result<(), Dead> {
        let mut flights = std::mem::take(&mut p.in_flight);
        shared.rng.shuffle(&mut flights);
        let mut outcome = Ok(());
        for mut flight in flights {
            if flight.at > shared.now || outcome.is_err() {
                p.in_flight.push(flight);
                continue;
            }
            match flight.flight {
                Flight::Asked => {
                    let (uid, action) = (&flight.uid, &flight.action);
                    if action.verb() == Verb::Stop
                        && let Some(machine) = p.machines.get(uid)
                    {
                        shared.monitor.stopping(&shared.server, &self.name, machine);
                    }
                    let mut answer = None;
                    outcome =
                        self.deed(|agent| answer = Some(block_on(perform(&agent.engine, action))));
                    if let Some(answer) = answer {
                        if let Some(EngineError::PortTaken { message, .. }) = answer.error() {
                            shared.monitor.port_taken(&self.name, message);
                        }
                        let error = answer
                            .error()
                            .map(|e| format!(" -> {e}"))
                            .unwrap_or_default();
                        shared.note(
                            &self.name,
                            &format!("{} {}{error}", action.verb(), target(p, uid)),
                        );
                        flight.flight = Flight::Done(answer);
                        flight.at = shared.now + soon(shared, 60);
                        p.in_flight.push(flight);
                    }
                }
                Flight::Done(answer) => {
                    p.news = true;
                    if let Some(machine) = p.machines.get_mut(&flight.uid) {
                        machine.settle(flight.action.container(), answer, shared.now);
                    }
                }
            }
        }
        outcome
    }

    // --- the tasks ---

    fn work(&mut self, p: &mut Process, shared: &mut Shared) {
        let context = HostContext {
            container_instance: self.name.clone(),
            address: None,
            pull_behavior: self.settings.pull_behavior,
            cleanup_wait: self.settings.cleanup_wait,
            plan_is_live: p.host.is_live(),
        };
        p.news = false;
        p.work_at = shared.now + SignedDuration::from_secs(600);
        let uids: Vec<TaskUid> = p.machines.keys().cloned().collect();
        for uid in uids {
            let Some(machine) = p.machines.get_mut(&uid) else {
                continue;
            };
            let step = machine.step(&context, shared.now);
            if p.records.get(&uid) != Some(&step.record) {
                p.records.insert(uid.clone(), step.record.clone());
                p.dirty = true;
            }
            if step.finished {
                p.records.remove(&uid);
                p.machines.remove(&uid);
                // Planned again while it was ending.
                if let Some(task) = p
                    .host
                    .assignment()
                    .and_then(|held| held.tasks.get(&uid))
                    .cloned()
                {
                    p.waiting.insert(uid, task);
                    begin_waiting(p);
                }
                continue;
            }
            for action in step.actions {
                machine.started(&action);
                let at = shared.now + soon(shared, 300);
                p.in_flight.push(InFlight {
                    uid: uid.clone(),
                    action,
                    at,
                    flight: Flight::Asked,
                });
            }
            match machine.due(shared.now) {
                Due::Nothing => {}
                Due::At(at) => p.work_at = p.work_at.min(at),
                Due::Now(parcel) => {
                    let at = shared.now + soon(shared, 200);
                    p.sending.push((uid.clone(), parcel, at));
                }
            }
            if let Some(at) = step.wake_at {
                p.work_at = p.work_at.min(at);
            }
        }
    }

    fn deliver(&mut self, p: &mut Process, shared: &mut Shared) -> Result<(), Dead> {
        let (due, later): (Vec<_>, Vec<_>) = std::mem::take(&mut p.sending)
            .into_iter()
            .partition(|(_, _, at)| *at <= shared.now);
        p.sending = later;
        for (uid, parcel, _) in due {
            if parcel.ends && p.dirty {
                self.flush(p)?;
            }
            let reachable = self.reachable(shared);
            let name = self.name.clone();
            let mut delivery = Delivery::Failed("no answer".to_owned());
            self.deed(|_| delivery = deliver(&name, &parcel, reachable, shared))?;
            if let Some(machine) = p.machines.get_mut(&uid) {
                machine.delivered(&parcel, &delivery, shared.now);
            }
            p.news = true;
        }
        Ok(())
    }

    fn flush(&mut self, p: &mut Process) -> Result<(), Dead> {
        p.dirty = false;
        let disk = Disk {
            plan: p.plan.clone(),
            records: p.records.clone(),
        };
        self.deed(|agent| agent.disk = disk)
    }
}

fn deliver(host: &str, parcel: &Parcel, reachable: bool, shared: &mut Shared) -> Delivery {
    if !reachable {
        return Delivery::Failed("connection refused".to_owned());
    }
    let must = Preconditions {
        uid: Some(parcel.uid.as_str()),
        resource_version: None,
    };
    let result =
        shared
            .server
            .patch_status(Kind::Task, &parcel.name, &parcel.body["status"], &must);
    let status = parcel.last_status.as_str();
    shared.note(
        host,
        &format!(
            "reports {} {status}{}",
            parcel.name,
            match &result {
                Ok(_) => String::new(),
                Err(refusal) => format!(" -> {refusal:?}"),
            }
        ),
    );
    match result {
        Ok(_) => Delivery::Accepted,
        Err(Refusal::NotFound | Refusal::Conflict | Refusal::AlreadyExists) => Delivery::Gone,
        Err(Refusal::Invalid(why)) => Delivery::Refused(why),
        Err(Refusal::Away) => Delivery::Failed("connection refused".to_owned()),
    }
}

fn soon(shared: &mut Shared, most: u64) -> SignedDuration {
    SignedDuration::try_from(shared.rng.between(0, most)).unwrap_or(SignedDuration::ZERO)
}

fn target(p: &Process, uid: &TaskUid) -> String {
    p.machines
        .get(uid)
        .map_or_else(|| uid.to_string(), |m| m.task().name.clone())
}

fn of_task(list: &[ContainerSummary], uid: &TaskUid) -> Vec<ContainerSummary> {
    list.iter()
        .filter(|c| {
            c.labels.get(labels::CONTAINER_TASK_UID).map(String::as_str) == Some(uid.as_str())
        })
        .cloned()
        .collect()
}

/// Tasks that waited for a list begin; so does what else is remembered.
fn begin_waiting(p: &mut Process) {
    let Some(listed) = p.listed.clone() else {
        return;
    };
    let mut begin: Vec<(AssignedTask, Option<TaskRecord>)> = Vec::new();
    for (uid, task) in std::mem::take(&mut p.waiting) {
        begin.push((task, p.saved.remove(&uid)));
    }
    for (_, record) in std::mem::take(&mut p.saved) {
        begin.push((p.host.remembered(&record), Some(record)));
    }
    for (task, record) in begin {
        let record = record.or_else(|| p.records.get(&task.uid).cloned());
        let mine = of_task(&listed, &task.uid);
        let machine = TaskMachine::begin(task, record, &mine);
        p.machines.insert(machine.task().uid.clone(), machine);
    }
}

/// A host's report as a merge patch: what is absent is taken away.
fn host(report: &HostReport) -> Value {
    let mut value = json!(report);
    for field in ["attributes", "address", "bootId", "engineId", "message"] {
        if value[field].is_null() {
            value[field] = Value::Null;
        }
    }
    value
}
