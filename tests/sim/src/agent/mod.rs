//! A host: the fake engine, a disk, and an agent process over the real core that does what `node-agent/src` does (`agent`,
//! `worker`, `ledger`). The process can die at any of its deeds; the engine and, mostly, the disk stay.

mod asked;
mod engine;
mod host;
mod plan;
mod ports;
mod routers;
mod tasks;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::executor::block_on;
use futures::stream::{BoxStream, StreamExt};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use tallyman_agent_core::register::{self, EngineFacts, HostFacts, HostOutbox};
use tallyman_agent_core::{
    Action, AssignedTask, Assignment, Contacts, Delivery, Due, Enforcement, Fence,
    FirelensSettings, GpuInfo, Gpus, Holdings, Host, HostContext, Outcome, Parcel, Plan, Premises,
    Settings, Silences, TaskMachine, TaskRecord, TaskUid,
    assignment::Door,
    metadata::{Injection, Roles},
    perform,
};
use tallyman_agent_engine::fake::FakeEngine;
use tallyman_agent_engine::{
    Archive, ContainerSummary, Engine, EngineDescription, EngineError, Hint, LocalImage, Moment,
    Verb, VolumeState,
};
use tallyman_crds::sources::Supply;
use tallyman_crds::{HostReport, labels, names};
use tallyman_operator_core::Kind;

use crate::api::{Cache, Gap, Object, Preconditions, Refusal};
use crate::operator::CrashPoint;
use crate::sim::Shared;

use host::Said;
use plan::{begin_waiting, of_task};
use ports::Ports;
use routers::Routers;

const LIST_PERIOD: SignedDuration = SignedDuration::from_secs(10);
const VOLUME_LIST_PERIOD: SignedDuration = SignedDuration::from_secs(5 * 60);
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
    engine: Option<EngineDescription>,
    contacts: Arc<Contacts>,
}

/// A host of the cluster.
pub struct Agent {
    /// Its name.
    pub name: String,
    /// Its engine.
    pub engine: FakeEngine,
    ports: Ports,
    routers: Routers,
    /// Its GPUs.
    pub gpus: GpuInfo,
    /// No way to the API server.
    pub cut_off: bool,
    /// The same, by a perturbation of a life that may cut it off itself.
    pub link_down: bool,
    /// No power: no process, no containers.
    pub off: bool,
    boots: u64,
    /// How fast its clock goes: 1000, or up to 10 more or less.
    pub clock_permille: u32,
    /// Its agent does nothing until then: the process is frozen, or the machine sleeps and its containers with it.
    pub frozen_until: Timestamp,
    /// It is the machine that sleeps.
    pub sleeps: bool,
    /// Engine calls, patches and disk writes so far.
    pub deeds: u64,
    /// Where it dies.
    pub crash: Option<CrashPoint>,
    /// Reports of tasks so far.
    pub reports: u64,
    /// Which of them is answered by an error, taken or not.
    pub unanswered: Option<CrashPoint>,
    /// What a watch of it meets once.
    pub gap: Option<Gap>,
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

/// Hosts hand out credentials.
const ROLES: Option<Roles> = Some(Roles {
    network_host: true,
    port_80: true,
});

struct InFlight {
    uid: TaskUid,
    action: Action,
    at: Timestamp,
    flight: Flight,
}

struct Process {
    holdings: Holdings,
    host: Host,
    cache: Cache,
    machines: BTreeMap<TaskUid, TaskMachine>,
    waiting: BTreeMap<TaskUid, AssignedTask>,
    saved: BTreeMap<TaskUid, TaskRecord>,
    saved_plan: Option<Value>,
    disk_plan_at: Option<Timestamp>,
    heard: Option<u64>,
    supply: Option<Arc<Supply>>,
    records: BTreeMap<TaskUid, TaskRecord>,
    plan: Option<Value>,
    dirty: bool,
    listed: Option<Vec<ContainerSummary>>,
    list_at: Timestamp,
    volumes_at: Timestamp,
    hints: Option<BoxStream<'static, Hint>>,
    watch_at: Timestamp,
    lease_at: Timestamp,
    contacts: Arc<Contacts>,
    /// Up to which silence it has looked at containers that no task answers for.
    silences_heard: u64,
    facts: EngineFacts,
    said: Option<Said>,
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
        let mut settings = Settings::parse(&BTreeMap::new())
            .map_err(|bad| format!("{bad:?}"))?
            .settings;
        settings.tasks.cleanup_wait = CLEANUP_WAIT;
        let engine = FakeEngine::new(name);
        Ok(Agent {
            name: name.to_owned(),
            ports: Ports::new(&engine),
            routers: Routers::default(),
            gpus: GpuInfo::default(),
            engine,
            cut_off: false,
            link_down: false,
            off: false,
            boots: 1,
            clock_permille: 1000,
            frozen_until: now,
            sleeps: false,
            deeds: 0,
            crash: None,
            reports: 0,
            unanswered: None,
            gap: None,
            loses_disk: false,
            settings,
            disk: Disk::default(),
            process: None,
            start_at: now,
        })
    }

    /// Everything on its disk, as text.
    pub fn disk(&self) -> String {
        let Disk {
            plan,
            records,
            engine: _,
            contacts: _,
        } = &self.disk;
        json!([plan, records]).to_string()
    }

    /// uids of the tasks that run and that the API server forgot, as it went back to an older state.
    pub fn forgotten(&self) -> BTreeSet<String> {
        let forgotten = match &self.process {
            Some(p) => p.host.forgotten(p.records.values()),
            None => Host::new(self.door()).forgotten(self.disk.records.values()),
        };
        forgotten.into_keys().map(|uid| uid.to_string()).collect()
    }

    /// uids of the tasks that the plan at hand wants stopped.
    pub(crate) fn ordered_to_stop(&self) -> BTreeSet<String> {
        let machines = self.process.iter().flat_map(|p| p.machines.values());
        let tasks = self.planned().into_iter();
        tasks
            .chain(machines.map(|m| m.task().clone()))
            .filter(|task| !task.is_to_run())
            .map(|task| task.uid.to_string())
            .collect()
    }

    /// uids of the tasks that run and that the plan at hand wants to go on.
    pub(crate) fn left_to_run(&self) -> BTreeSet<String> {
        let ordered = self.ordered_to_stop();
        let containers = self.engine.containers().into_iter();
        let alive: BTreeSet<String> = containers
            .filter(|c| c.phase.is_alive())
            .filter_map(|c| c.labels.get(labels::CONTAINER_TASK_UID).cloned())
            .collect();
        let planned = self.planned().into_iter().map(|task| task.uid.to_string());
        planned
            .filter(|uid| alive.contains(uid) && !ordered.contains(uid))
            .collect()
    }

    /// What the plan at hand has.
    fn planned(&self) -> Vec<AssignedTask> {
        let held = self.process.as_ref().and_then(|p| p.host.assignment());
        let saved = || Plan::from_json(self.disk.plan.as_ref()?).ok();
        let saved = || Some(Assignment::parse(saved()?, &self.door()));
        let plan = held.cloned().or_else(saved);
        plan.into_iter()
            .flat_map(|plan| plan.tasks.into_values())
            .collect()
    }

    /// Its process is there.
    pub fn is_up(&self) -> bool {
        self.process.is_some()
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
                let _nobody_hears = block_on(perform(
                    &self.engine,
                    self.premises(&process.holdings.gpus),
                    &flight.action,
                ));
            }
        }
        self.engine.break_watches();
        if std::mem::take(&mut self.loses_disk) {
            self.disk = Disk::default();
            if self.cut_off || self.link_down {
                // Without a plan it does not know which containers are its own: `stopAfter` does not promise this.
                shared.monitor.singleton = None;
            }
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
        self.boots += 1;
        self.start_at = shared.now;
    }

    /// For so many seconds its agent does nothing; where the machine sleeps, its containers run no more than that. One that sleeps or
    /// has just woken is left alone.
    pub fn freeze(&mut self, shared: &mut Shared, seconds: i64, sleeps: bool) {
        if self.rests(shared.now) {
            return;
        }
        let what = if sleeps {
            "machine sleeps"
        } else {
            "agent is frozen"
        };
        shared.note(&self.name, &format!("{what} for {seconds} s"));
        self.frozen_until = shared.now + SignedDuration::from_secs(seconds);
        self.sleeps = sleeps;
    }

    /// Its containers do not run, whatever its engine says, or have just begun to again: it takes an agent two seconds to look.
    pub fn rests(&self, now: Timestamp) -> bool {
        self.sleeps && now < self.frozen_until + SignedDuration::from_secs(3)
    }

    /// When it wants to run again.
    pub fn due(&self, now: Timestamp) -> Timestamp {
        if self.off {
            return now + SignedDuration::from_secs(3600);
        }
        if self.frozen_until > now {
            return self.frozen_until;
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
        if self.off || self.frozen_until > shared.now {
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

    fn premises<'a>(&'a self, gpus: &'a Gpus) -> Premises<'a> {
        Premises {
            ports: &self.ports,
            gpus,
            routers: &self.routers,
            files: &self.routers,
        }
    }

    fn begin(&mut self, shared: &mut Shared) {
        let now = shared.now;
        let mut cache = Cache::of(&[Kind::HostPlan, Kind::Secret]);
        cache.gap = self.gap;
        if self.reachable(shared) {
            cache.relist(&shared.server);
        }
        let door = self.door();
        self.process = Some(Process {
            holdings: Holdings::new(&self.gpus),
            host: Host::new(door),
            cache,
            machines: BTreeMap::new(),
            waiting: BTreeMap::new(),
            saved: self.disk.records.clone(),
            saved_plan: self.disk.plan.clone(),
            disk_plan_at: self.disk.plan.is_some().then(|| now + PLAN_PATIENCE),
            heard: None,
            supply: None,
            records: self.disk.records.clone(),
            plan: self.disk.plan.clone(),
            dirty: false,
            listed: None,
            list_at: now,
            volumes_at: now,
            hints: None,
            watch_at: now,
            lease_at: now,
            contacts: self.disk.contacts.clone(),
            silences_heard: self.disk.contacts.over(),
            facts: EngineFacts {
                description: self.disk.engine.clone(),
                ..EngineFacts::default()
            },
            said: None,
            outbox: HostOutbox::default(),
            in_flight: Vec::new(),
            sending: Vec::new(),
            work_at: now,
            news: true,
            report_at: now,
        });
        shared.note(&self.name, "agent starts");
    }

    fn door(&self) -> Door {
        Door {
            namespace: "sim".to_owned(),
            stop_timeout: self.settings.tasks.stop_timeout,
            volumes: self.settings.volumes.clone(),
            networking: self.settings.network.clone(),
            gpus: self.settings.gpus.clone(),
            pause_image: LocalImage {
                reference: "localhost/pause:1".to_owned(),
                archive: Archive(b""),
                entrypoint: vec!["/pause".to_owned()],
                labels: BTreeMap::new(),
            },
            pids_limit: self.settings.tasks.pids_limit,
            disable_privileged: self.settings.registration.disable_privileged,
            injection: Injection {
                roles: ROLES,
                ..Injection::default()
            },
            firelens: FirelensSettings {
                folder: "/var/lib/tallyman/firelens".to_owned(),
                asynchronous: self.settings.tasks.firelens_async,
            },
        }
    }

    fn silences(&self, contacts: &Arc<Contacts>, now: Timestamp) -> Silences {
        let now = Some(self.since_boot(now));
        Silences::at(Arc::clone(contacts), Some(&self.boot_id()), now)
    }

    /// What the clock of the host says.
    fn since_boot(&self, now: Timestamp) -> Duration {
        let since = now.duration_since(Timestamp::UNIX_EPOCH);
        let since = Duration::try_from(since).unwrap_or_default();
        since / 1000 * self.clock_permille
    }

    fn boot_id(&self) -> String {
        format!("boot-{}", self.boots)
    }

    fn reachable(&self, shared: &Shared) -> bool {
        !self.cut_off && !self.link_down && !shared.server.down
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
}

fn soon(shared: &mut Shared, most: u64) -> SignedDuration {
    SignedDuration::try_from(shared.rng.between(0, most)).unwrap_or(SignedDuration::ZERO)
}
