//! The host's loop: plans in, lists in, events in; workers told, the host reported.
//!
//! Order at the start: identity and records from disk, the plan from the API
//! (or, when that is away, the one from disk), a complete list of our containers, then workers. Nothing is
//! removed before a plan was read from the API.

mod disk;
mod engine;
mod groups;
mod host;
pub mod images;
mod volumes;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use futures::future::BoxFuture;
use futures::stream::{BoxStream, StreamExt};
use jiff::Timestamp;
use serde_json::Value;
use tallyman_agent_core::limits::Leftovers;
use tallyman_agent_core::register::{self, EngineFacts, HostFacts, HostOutbox};
use tallyman_agent_core::{AssignedTask, Host, Plan, Settings, TaskMachine, TaskRecord, TaskUid};
use tallyman_agent_engine::{
    ContainerSummary, Engine, EngineDescription, EngineError, Hint, VolumeState,
};
use tallyman_crds::sources::Supply;
use tallyman_crds::{HostReport, labels};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tracing::{debug, error, info, warn};

use crate::files;
use crate::heartbeat::Identity;
use crate::introspection::Facts;
use crate::mailbox::News;
use crate::supervisor::Watchdog;
use crate::worker::{self, Shared, Told};

/// How long the plan from the API is waited for before the one from disk is worked on.
const PLAN_PATIENCE: Duration = Duration::from_secs(5);

/// What the loop is made with.
pub struct Parts<E> {
    /// Shared with workers.
    pub shared: Arc<Shared<E>>,
    /// For the introspection API.
    pub facts: Arc<Facts>,
    /// The plan at hand.
    pub host: Host,
    /// Settings of the host.
    pub settings: Settings,
    /// What the host says of itself.
    pub host_facts: HostFacts,
    /// The plan of an earlier run.
    pub saved_plan: Option<Value>,
    /// Records of an earlier run.
    pub saved_records: BTreeMap<TaskUid, TaskRecord>,
    /// The engine, as it described itself to an earlier run.
    pub saved_engine: Option<EngineDescription>,
    /// Silences of the API server that were over before this run renewed the Lease.
    pub heard: u64,
    /// Whether another machine works as this host.
    pub identity: Identity,
}

type Listing = BoxFuture<'static, Result<Vec<ContainerSummary>, EngineError>>;
type ListingVolumes = BoxFuture<'static, Result<Vec<VolumeState>, EngineError>>;
type ListingGroups = BoxFuture<'static, Result<Vec<String>, EngineError>>;
type Describing = BoxFuture<'static, groups::Described>;
type Reporting = BoxFuture<'static, (HostReport, Result<(), String>)>;

/// The loop.
pub struct Agent<E> {
    shared: Arc<Shared<E>>,
    facts: Arc<Facts>,
    host: Host,
    settings: Settings,
    host_facts: HostFacts,
    saved_plan: Option<Value>,
    saved_records: BTreeMap<TaskUid, TaskRecord>,

    workers: BTreeMap<TaskUid, mpsc::UnboundedSender<Told>>,
    running: JoinSet<TaskUid>,
    /// Which task a container name belongs to.
    names: BTreeMap<String, TaskUid>,
    /// Tasks whose worker begins with the first complete list.
    waiting: BTreeMap<TaskUid, AssignedTask>,
    condemning: JoinSet<()>,
    /// Up to which silence of the API server it has looked at containers that no task answers for.
    heard: u64,
    identity: Identity,

    /// The last complete list, in the scope of the plan at hand.
    listed: Option<Vec<ContainerSummary>>,
    listing: Option<Listing>,
    list_at: Instant,
    list_failures: u32,
    /// When a list that is under way counts as trouble.
    overdue_at: Option<Instant>,
    hints: Option<BoxStream<'static, Hint>>,
    watch_at: Instant,
    listing_volumes: Option<ListingVolumes>,
    volumes_at: Instant,
    listing_groups: Option<ListingGroups>,
    looking_at_disk: Option<disk::Looking>,
    leftovers: Leftovers,

    engine: EngineFacts,
    describing: Option<Describing>,
    describe_at: Option<Instant>,
    outbox: HostOutbox,
    reporting: Option<Reporting>,
    files_swept: bool,
    /// Until when the plan from disk waits for that from the API.
    disk_plan_at: Option<Instant>,
    watchdog: Watchdog,
}

impl<E: Engine> Agent<E> {
    /// Ready to run.
    pub fn new(parts: Parts<E>) -> Self {
        let now = Instant::now();
        Self {
            heard: parts.heard,
            identity: parts.identity,
            shared: parts.shared,
            facts: parts.facts,
            host: parts.host,
            settings: parts.settings,
            host_facts: parts.host_facts,
            disk_plan_at: parts.saved_plan.is_some().then(|| now + PLAN_PATIENCE),
            saved_plan: parts.saved_plan,
            saved_records: parts.saved_records,
            workers: BTreeMap::new(),
            running: JoinSet::new(),
            names: BTreeMap::new(),
            waiting: BTreeMap::new(),
            condemning: JoinSet::new(),
            listed: None,
            listing: None,
            list_at: now,
            list_failures: 0,
            overdue_at: None,
            hints: None,
            watch_at: now,
            listing_volumes: None,
            volumes_at: now,
            listing_groups: None,
            looking_at_disk: None,
            leftovers: Leftovers::default(),
            engine: EngineFacts {
                description: parts.saved_engine,
                ..EngineFacts::default()
            },
            describing: None,
            describe_at: Some(now),
            outbox: HostOutbox::default(),
            reporting: None,
            files_swept: false,
            watchdog: Watchdog::asked_for(),
        }
    }

    /// Runs until the plan source ends or the host cannot register.
    ///
    /// # Errors
    /// The host cannot register with its settings; another start would not help.
    pub async fn run(
        mut self,
        mut plans: mpsc::Receiver<News<Arc<Value>>>,
        mut supplies: mpsc::Receiver<News<Arc<Supply>>>,
    ) -> anyhow::Result<()> {
        loop {
            self.host_facts.ledger_trouble = self.shared.ledger.trouble();
            let forgotten = self.shared.ledger.forgotten(&self.host);
            self.host_facts.forgotten = forgotten.into_values().collect();
            self.host_facts.rival = self.identity.complaint();
            self.host_facts.clock = self.shared.api.clock.complaint();
            self.engine.failing = self.shared.failing.complaint(Timestamp::now());
            let report = register::report(
                &self.settings,
                &self.host_facts,
                &self.engine,
                self.host.applied(),
            )?;
            for freed in self.shared.holdings.account.registered(&report) {
                self.shared.desk.tell(&freed, Told::Room);
            }
            let report_at = self.report(report);
            self.ask_engine();
            let engine_at = self.next_engine_call();
            self.watchdog.turned();
            tokio::select! {
                told = plans.recv() => match told {
                    None => return Ok(()),
                    Some(told) => self.hear(told),
                },
                told = supplies.recv() => match told {
                    None => return Ok(()),
                    Some(told) => self.take_supply(told),
                },
                () = at(self.disk_plan_at) => self.take_saved_plan("the API does not answer yet"),
                list = poll(&mut self.listing) => self.take_list(list),
                list = poll(&mut self.listing_volumes) => self.take_volumes(list),
                list = poll(&mut self.listing_groups) => self.take_groups(list),
                space = poll(&mut self.looking_at_disk) => self.take_disk(space),
                () = at(self.overdue_at) => self.list_overdue(),
                hint = next(&mut self.hints) => self.take_hint(hint),
                answer = poll(&mut self.describing) => self.take_description(answer),
                (report, sent) = poll(&mut self.reporting) => self.reported(report, sent),
                Some(done) = self.running.join_next() => self.worker_ended(done),
                Some(_) = self.condemning.join_next() => {}
                () = at(report_at) => {}
                () = at(engine_at) => {}
                () = at(self.watchdog.due()) => {}
            }
        }
    }

    // --- the plan ---

    fn hear(&mut self, news: News<Arc<Value>>) {
        match news {
            News::Is(spec) => {
                self.disk_plan_at = None;
                match Plan::from_json(&spec) {
                    Ok(plan) => {
                        if self.take_plan(plan, true) {
                            self.shared.ledger.put_plan(spec);
                        }
                    }
                    Err(error) => warn!(%error, "the last plan stays"),
                }
            }
            News::None => {
                info!("there is no HostPlan for this host; containers stay as they are");
                self.host.plan_gone();
            }
            News::WentBack => {
                self.host.api_went_back();
                self.tell_again();
            }
            News::Away => self.take_saved_plan("the API is away"),
        }
    }

    /// When the API server went back to an older state, what it was told of host and tasks is told again.
    fn tell_again(&mut self) {
        let Some(to_run) = self.host.tells_again() else {
            return;
        };
        self.outbox.again();
        for (uid, record) in &mut self.saved_records {
            record.api_went_back(to_run.contains(uid));
        }
        for uid in self.workers.keys() {
            let to_run = to_run.contains(uid);
            self.tell(uid, Told::WentBack { to_run });
        }
    }

    /// What was supplied stays while the API is away.
    fn take_supply(&mut self, news: News<Arc<Supply>>) {
        let supply = match news {
            News::Is(supply) => supply,
            News::None => Arc::default(),
            News::WentBack | News::Away => return,
        };
        let shared = &self.shared;
        let mut host = shared.host.write().unwrap_or_else(PoisonError::into_inner);
        if host.supply.as_ref() == Some(&supply) {
            return;
        }
        host.supply = Some(supply);
        drop(host);
        for worker in self.workers.values() {
            // A worker that just ended has nothing left to do.
            let _ = worker.send(Told::Supplied);
        }
    }

    /// Works on from disk: the plan there is as good as the API's was.
    fn take_saved_plan(&mut self, why: &str) {
        self.disk_plan_at = None;
        let Some(spec) = self.saved_plan.take() else {
            return;
        };
        if self.host.assignment().is_some() {
            return;
        }
        match Plan::from_json(&spec) {
            Ok(plan) => {
                info!(fence = %plan.fence, why, "working from the plan on disk");
                self.take_plan(plan, false);
            }
            Err(error) => warn!(%error, "the plan on disk is of no use"),
        }
    }

    /// Says whether the plan counts.
    fn take_plan(&mut self, plan: Plan, live: bool) -> bool {
        // The fence of an earlier run holds in this one.
        if let Some(saved) = self.saved_plan.take()
            && let Ok(saved) = Plan::from_json(&saved)
        {
            self.offer(saved, false);
        }
        let counts = self.offer(plan, live);
        self.begin_waiting();
        counts
    }

    fn offer(&mut self, plan: Plan, live: bool) -> bool {
        let fence = plan.fence;
        let offer = match self.host.offer(plan, live) {
            Ok(offer) => offer,
            Err(refusal) => {
                warn!(%refusal, "the plan at hand stays");
                self.tell_again();
                return false;
            }
        };
        self.tell_again();
        debug!(%fence, changed = offer.assigned.len(), gone = offer.unplanned.len(), "plan");
        self.set_live();
        self.shared.ports.spare(self.host.fixed_ports());
        self.note_cluster();
        for complaint in &offer.complaints {
            warn!(complaint, "an entry of the plan is left out");
        }
        if offer.other_identity {
            warn!("the host was registered anew; containers of before are left alone");
            self.listed = None;
            self.hints = None;
            self.list_at = Instant::now();
        }
        for uid in &offer.unplanned {
            self.waiting.remove(uid);
            self.tell(uid, Told::Unplanned);
        }
        for task in offer.assigned {
            if self.workers.contains_key(&task.uid) {
                self.index(&task);
                self.tell(&task.uid.clone(), Told::Assigned(Box::new(task)));
            } else {
                if live && let Some(record) = self.saved_records.get_mut(&task.uid) {
                    record.maybe_forgotten = false;
                }
                self.waiting.insert(task.uid.clone(), task);
            }
        }
        true
    }

    fn set_live(&mut self) {
        self.shared.host_context().plan_is_live = self.host.is_live();
    }

    fn note_cluster(&self) {
        let Some(held) = self.host.assignment() else {
            return;
        };
        let mut shown = self
            .facts
            .cluster
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if *shown != held.cluster {
            shown.clone_from(&held.cluster);
            if let Some(wanted) = &self.settings.registration.cluster
                && *wanted != held.cluster
            {
                warn!(
                    ECS_CLUSTER = wanted,
                    cluster = held.cluster,
                    "ECS_CLUSTER does not choose the cluster; the ContainerInstance does"
                );
            }
        }
    }

    // --- workers ---

    /// Starts the workers of tasks that waited for a list, and for what the engine can do.
    fn begin_waiting(&mut self) {
        let Some(listed) = self.listed.as_ref().filter(|_| self.engine.heard) else {
            return;
        };
        let waiting = std::mem::take(&mut self.waiting);
        let mut begin: Vec<(AssignedTask, Option<TaskRecord>)> = waiting
            .into_values()
            .map(|task| {
                let record = self.saved_records.remove(&task.uid);
                (task, record)
            })
            .collect();
        // Whatever else is remembered is watched and cleaned up after.
        for (_, record) in std::mem::take(&mut self.saved_records) {
            begin.push((self.host.remembered(&record), Some(record)));
        }
        let by_task = by_task(listed);
        self.sweep_files(&begin, &by_task);
        for (task, record) in begin {
            let none = Vec::new();
            let listed = by_task.get(task.uid.as_str()).unwrap_or(&none);
            let record = record.or_else(|| self.shared.ledger.record(&task.uid));
            let machine = TaskMachine::begin(task, record, listed);
            let uid = machine.task().uid.clone();
            for container in machine.task().containers() {
                self.names.insert(container.engine_name(1), uid.clone());
            }
            let (sender, receiver) = mpsc::unbounded_channel();
            self.shared.desk.open(uid.clone(), sender.clone());
            self.workers.insert(uid, sender);
            self.running.spawn(worker::run(
                Box::new(machine),
                receiver,
                Arc::clone(&self.shared),
            ));
        }
    }

    /// Once, as soon as all tasks of this host are known: removes files that an earlier agent left.
    fn sweep_files(
        &mut self,
        beginning: &[(AssignedTask, Option<TaskRecord>)],
        listed: &BTreeMap<String, Vec<ContainerSummary>>,
    ) {
        if self.files_swept || !self.host.is_live() {
            return;
        }
        self.files_swept = true;
        let known = self.workers.keys().cloned();
        let beginning = beginning.iter().map(|(task, _)| task.uid.clone());
        let listed = listed.keys().map(|uid| TaskUid::new(uid.clone()));
        let known = known.chain(beginning).chain(listed).collect();
        for folder in self.shared.folders() {
            files::sweep(folder, &known);
        }
    }

    /// Tasks that have a worker, or will.
    fn known_tasks(&self) -> BTreeSet<TaskUid> {
        let all = self.workers.keys().chain(self.waiting.keys());
        all.cloned().collect()
    }

    fn index(&mut self, task: &AssignedTask) {
        for container in task.containers() {
            self.names
                .insert(container.engine_name(1), task.uid.clone());
        }
    }

    fn tell(&self, uid: &TaskUid, told: Told) {
        if let Some(worker) = self.workers.get(uid) {
            // A worker that just ended has nothing left to do.
            let _ = worker.send(told);
        }
    }

    fn worker_ended(&mut self, done: Result<TaskUid, tokio::task::JoinError>) {
        let uid = match done {
            Ok(uid) => uid,
            Err(failure) => {
                // Only a bug ends a worker otherwise. Its containers run on, and its task is taken up
                // again with the next list.
                error!(%failure, "a worker broke off");
                self.workers.retain(|_, worker| !worker.is_closed());
                let planned = self
                    .host
                    .assignment()
                    .into_iter()
                    .flat_map(|held| held.tasks.values());
                let left: Vec<AssignedTask> = planned
                    .filter(|task| !self.workers.contains_key(&task.uid))
                    .cloned()
                    .collect();
                self.waiting
                    .extend(left.into_iter().map(|task| (task.uid.clone(), task)));
                return;
            }
        };
        self.workers.remove(&uid);
        self.shared.desk.close(&uid);
        self.names.retain(|_, task| *task != uid);
        // Planned again while it was ending.
        let again = self
            .host
            .assignment()
            .and_then(|held| held.tasks.get(&uid))
            .cloned();
        if let Some(task) = again {
            self.waiting.insert(uid, task);
            self.begin_waiting();
        }
    }
}

/// A list by the task that each container's label names.
fn by_task(list: &[ContainerSummary]) -> BTreeMap<String, Vec<ContainerSummary>> {
    let mut by_task: BTreeMap<String, Vec<ContainerSummary>> = BTreeMap::new();
    for summary in list {
        if let Some(uid) = summary.labels.get(labels::CONTAINER_TASK_UID) {
            by_task
                .entry(uid.clone())
                .or_default()
                .push(summary.clone());
        }
    }
    by_task
}

async fn at(when: Option<Instant>) {
    match when {
        Some(when) => tokio::time::sleep_until(when).await,
        None => std::future::pending().await,
    }
}

/// Waits for a future that may not be there, and takes it away once it is done.
async fn poll<T>(slot: &mut Option<BoxFuture<'static, T>>) -> T {
    match slot {
        Some(future) => {
            let value = future.await;
            *slot = None;
            value
        }
        None => std::future::pending().await,
    }
}

async fn next(hints: &mut Option<BoxStream<'static, Hint>>) -> Option<Hint> {
    match hints {
        Some(hints) => hints.next().await,
        None => std::future::pending().await,
    }
}
