//! The worker of one task: the only one that acts on it.
//!
//! It steps the machine, hands actions to the engine, sends reports, and waits for whatever comes first.
//! It decides nothing; what it adds is order and patience.

use std::path::Path;
use std::pin::Pin;
use std::sync::{Arc, PoisonError, RwLock, RwLockWriteGuard};
use std::time::Duration;

use futures::future::BoxFuture;
use futures::stream::{FuturesUnordered, StreamExt};
use jiff::Timestamp;
use tallyman_agent_core::metadata::TaskSight;
use tallyman_agent_core::{
    Action, AssignedTask, Delivery, Due, Failing, Holdings, HostContext, Outcome, Parcel, Premises,
    TaskMachine, TaskUid, perform,
};
use tallyman_agent_engine::{ContainerSummary, Engine, Hint, Verb};
use tallyman_crds::LastStatus;
use tallyman_crds::sources::Supply;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tracing::{Instrument, debug, info, info_span, warn};

use crate::api::Api;
use crate::contact::Contacts;
use crate::desk::Desk;
use crate::files;
use crate::host_files::HostFolders;
use crate::ledger::Ledger;
use crate::metadata::files::{Files, Folder};
use crate::ports::HostPorts;
use crate::routers::Routers;
use crate::stops::Stops;

/// Containers that are created and started at once, over all tasks.
pub const SLOTS: usize = 8;
/// Patches of task statuses at once, over all tasks. Each needs a connection of its own (HTTP/1.1).
pub const PATCHES: usize = 8;

/// What all workers of a host share.
pub struct Shared<E> {
    /// The engine.
    pub engine: Arc<E>,
    /// The API server.
    pub api: Api,
    /// Records on disk.
    pub ledger: Ledger,
    /// When the API server last confirmed that the host lives.
    pub contacts: Arc<Contacts>,
    /// What a step must know of the host; of the silence it is told anew at each.
    pub host: RwLock<HostContext>,
    /// Containers being brought up.
    pub slots: Arc<Semaphore>,
    /// Stops under way.
    pub stops: Stops,
    /// Patches under way.
    pub patches: Semaphore,
    /// Where tasks are asked about.
    pub desk: Arc<Desk>,
    /// Where containers get a file about themselves, if they do.
    pub files: Option<Folder>,
    /// Free ports of the host.
    pub ports: HostPorts,
    /// Where the files of log routers are.
    pub routers: Routers,
    /// Files of the host that tasks may be given variables from.
    pub host_files: HostFolders,
    /// What tasks hold of the host.
    pub holdings: Holdings,
    /// What the engine fails to do, whichever task asks.
    pub failing: Failing,
}

impl<E> Shared<E> {
    /// What the operator delivered for this host's tasks.
    pub fn supply(&self) -> Option<Arc<Supply>> {
        let host = self.host.read().unwrap_or_else(PoisonError::into_inner);
        host.supply.clone()
    }

    /// Folders with a folder for each task.
    pub fn folders(&self) -> impl Iterator<Item = &Path> {
        let metadata = self.files.as_ref().map(|folder| folder.path.as_path());
        metadata.into_iter().chain([self.routers.path.as_path()])
    }

    /// What actions need beside the engine.
    fn premises(&self) -> Premises<'_> {
        Premises {
            ports: &self.ports,
            gpus: &self.holdings.gpus,
            routers: &self.routers,
            files: &self.host_files,
        }
    }

    /// What a step must know of the host, to be changed.
    pub fn host_context(&self) -> RwLockWriteGuard<'_, HostContext> {
        self.host.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a worker is told.
#[derive(Debug)]
pub enum Told {
    /// The plan's entry is new or changed.
    Assigned(Box<AssignedTask>),
    /// The plan has no entry any more.
    Unplanned,
    /// The API server went back to an older state.
    WentBack {
        /// The task was to run then.
        to_run: bool,
    },
    /// Its containers in a complete list.
    Listed(Vec<ContainerSummary>),
    /// Something happened to the named container.
    Hinted(String, Hint),
    /// The two-phase check condemned it.
    Condemned,
    /// What the operator delivers for tasks changed.
    Supplied,
    /// There is room for it now.
    Room,
    /// Protect it until then, or not any more, and say when the API server knows.
    Protect {
        /// Until when.
        until: Option<Timestamp>,
        /// For the answer.
        reply: oneshot::Sender<()>,
    },
    /// Somebody wants to know what it is at this moment.
    Asked(oneshot::Sender<Box<TaskSight>>),
}

type Acting = FuturesUnordered<BoxFuture<'static, (Action, Outcome)>>;
type Sending = Pin<Box<dyn Future<Output = (Box<Parcel>, Delivery)> + Send>>;
type Queueing = BoxFuture<'static, Option<OwnedSemaphorePermit>>;

/// Works on a task until nothing is left of it, or the agent ends. Returns its uid.
pub async fn run<E: Engine>(
    // Boxed: a future holds what it is called with more than once.
    machine: Box<TaskMachine>,
    told: mpsc::UnboundedReceiver<Told>,
    shared: Arc<Shared<E>>,
) -> TaskUid {
    let uid = machine.task().uid.clone();
    let span = info_span!("task", name = machine.task().name, uid = %uid);
    let files = shared.files.as_ref().map(Folder::of_task);
    let worker = Worker {
        machine,
        shared,
        acting: FuturesUnordered::new(),
        sending: None,
        slot: None,
        queueing: None,
        told_status: LastStatus::Provisioning,
        files,
        protecting: Vec::new(),
    };
    worker.work(told).instrument(span).await;
    uid
}

struct Worker<E> {
    machine: Box<TaskMachine>,
    shared: Arc<Shared<E>>,
    acting: Acting,
    sending: Option<Sending>,
    /// The right to bring up as many containers as it has permits.
    slot: Option<OwnedSemaphorePermit>,
    queueing: Option<Queueing>,
    told_status: LastStatus,
    files: Option<Files>,
    /// Those who wait until the API server knows how the task is protected.
    protecting: Vec<oneshot::Sender<()>>,
}

impl<E: Engine> Worker<E> {
    async fn work(mut self, mut told: mpsc::UnboundedReceiver<Told>) {
        // What a turn needs is gone before the wait: there are many workers, and they mostly wait.
        while let Some(sleep) = self.turn() {
            tokio::select! {
                news = told.recv() => match news {
                    None => return,
                    Some(news) => {
                        self.hear(news);
                        while let Ok(news) = told.try_recv() {
                            self.hear(news);
                        }
                    }
                },
                Some((action, outcome)) = self.acting.next(), if !self.acting.is_empty() => {
                    self.settle(&action, outcome);
                }
                (parcel, delivery) = poll(&mut self.sending) => self.delivered(&parcel, &delivery),
                slot = poll(&mut self.queueing) => self.slot = slot,
                () = tokio::time::sleep(sleep) => {}
            }
        }
    }

    /// Steps the machine, and hands out what that comes to. Returns how long there is nothing else to do; nothing once nothing
    /// is left of the task.
    fn turn(&mut self) -> Option<Duration> {
        let now = Timestamp::now();
        let mut host = self
            .shared
            .host
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        host.silences = self.shared.contacts.silences();
        let holdings = &self.shared.holdings;
        let (step, freed) = holdings.step(&mut self.machine, &host, now);
        for task in freed {
            self.shared.desk.tell(&task, Told::Room);
        }
        let version = self.shared.ledger.put(self.machine.shared_record());
        self.show(step.report.last_status);
        if step.finished {
            info!("nothing is left of the task; forgotten");
            self.shared.ledger.forget(&step.record.uid);
            for folder in self.shared.folders() {
                files::remove_of(folder, &step.record.uid);
            }
            return None;
        }
        let mut wake_at = step.wake_at;
        if let Some(files) = &mut self.files {
            files.keep(&self.machine, &step.actions);
        }
        self.hand_out(step.actions, version);
        if self.machine.protection_is_told() {
            for reply in self.protecting.drain(..) {
                // Who asked may have gone.
                let _ = reply.send(());
            }
        }
        match self.machine.due(now) {
            Due::Nothing => {}
            Due::At(at) => wake_at = Some(wake_at.map_or(at, |known| known.min(at))),
            Due::Now(parcel) => self.sending = Some(self.send(parcel, version)),
        }
        let longest = self.machine.longest_sleep();
        Some(wake_at.map_or(longest, |at| until(at, now).min(longest)))
    }

    fn hear(&mut self, news: Told) {
        match news {
            Told::Assigned(task) => self.machine.assign(*task),
            Told::Unplanned => self.machine.unplanned(),
            Told::WentBack { to_run } => self.machine.api_went_back(to_run),
            Told::Listed(containers) => self.machine.listed(&containers),
            Told::Hinted(container, hint) => self.machine.hinted(&container, &hint),
            Told::Condemned => self.machine.condemn(),
            // Every step reads it.
            Told::Supplied | Told::Room => {}
            Told::Protect { until, reply } => {
                self.machine.protect(until);
                self.protecting.push(reply);
            }
            // Who asked may have gone.
            Told::Asked(reply) => drop(reply.send(Box::new(self.machine.sight()))),
        }
    }

    /// Calls the engine for every action that may go now; those that need a slot queue for one.
    fn hand_out(&mut self, actions: Vec<Action>, version: u64) {
        let mut waiting: u32 = 0;
        for action in actions {
            if action.needs_slot() {
                let held = self
                    .slot
                    .as_ref()
                    .map_or(0, OwnedSemaphorePermit::num_permits);
                if self.bringing_up() >= held {
                    waiting += 1;
                    continue;
                }
            }
            self.machine.started(&action);
            debug!(verb = %action.verb(), container = action.container(), "asking the engine");
            let shared = Arc::clone(&self.shared);
            let in_turn = self.machine.stops_in_turn();
            self.acting.push(Box::pin(async move {
                if action.must_be_remembered() {
                    shared.ledger.written(version).await;
                }
                let done = perform(&*shared.engine, shared.premises(), &action);
                let outcome = match action.verb() {
                    Verb::Stop if in_turn => shared.stops.in_turn(done).await,
                    _ => done.await,
                };
                (action, outcome)
            }));
        }
        if self.bringing_up() == 0 {
            // Between create and start the slot is kept: a task that began to start goes on.
            self.slot = None;
        }
        if waiting == 0 || self.slot.is_some() {
            self.queueing = None;
        } else if self.queueing.is_none() {
            let slots = Arc::clone(&self.shared.slots);
            let permits = waiting.min(u32::try_from(SLOTS).unwrap_or(1));
            self.queueing = Some(Box::pin(async move {
                slots.acquire_many_owned(permits).await.ok()
            }));
        }
    }

    fn bringing_up(&self) -> usize {
        let in_flight = &self.machine.seen().in_flight;
        in_flight
            .values()
            .filter(|verb| matches!(verb, Verb::Create | Verb::Start))
            .count()
    }

    fn settle(&mut self, action: &Action, outcome: Outcome) {
        let container = action.container();
        match outcome.error() {
            Some(error) => {
                warn!(verb = %action.verb(), container, %error, "the engine did not do it");
            }
            None => debug!(verb = %action.verb(), container, "the engine did it"),
        }
        if let Outcome::Prepared(Ok(prepared)) = &outcome {
            let ledger = &self.shared.ledger;
            ledger.note_image(&prepared.image_id, prepared.pulled, Timestamp::now());
        }
        let now = Timestamp::now();
        let family = &self.machine.task().family;
        self.shared.failing.note(&outcome, family, now);
        self.machine.settle(container, outcome, now);
    }

    fn send(&self, parcel: Box<Parcel>, version: u64) -> Sending {
        let shared = Arc::clone(&self.shared);
        Box::pin(async move {
            if parcel.ends {
                shared.ledger.written(version).await;
            }
            let Ok(_turn) = shared.patches.acquire().await else {
                return (parcel, Delivery::Failed("the agent ends".to_owned()));
            };
            let delivery = shared.api.deliver(&parcel).await;
            (parcel, delivery)
        })
    }

    fn delivered(&mut self, parcel: &Parcel, delivery: &Delivery) {
        match delivery {
            Delivery::Accepted => debug!(status = parcel.last_status.as_str(), "reported"),
            Delivery::Gone => info!("the Task is gone; nothing to report to"),
            Delivery::Refused(words) => warn!(words, "the report was refused; tried again later"),
            Delivery::Failed(words) => warn!(words, "not reported; tried again"),
        }
        self.machine.delivered(parcel, delivery, Timestamp::now());
    }

    /// A line in the log for each status.
    fn show(&mut self, status: LastStatus) {
        if self.told_status != status {
            self.told_status = status;
            let report = self.machine.report();
            info!(
                status = status.as_str(),
                reason = report.stopped_reason.as_deref(),
                ports = report.ports.as_deref(),
                "task"
            );
        }
    }
}

/// Waits for a future that may not be there, and takes it away once it is done.
async fn poll<T, F: Future<Output = T> + Unpin>(slot: &mut Option<F>) -> T {
    match slot {
        Some(future) => {
            let value = future.await;
            *slot = None;
            value
        }
        None => std::future::pending().await,
    }
}

/// How long from now to then; at least a millisecond, since timers are no finer.
fn until(at: Timestamp, now: Timestamp) -> Duration {
    let millis = at
        .as_millisecond()
        .saturating_sub(now.as_millisecond())
        .max(0);
    Duration::from_millis(u64::try_from(millis).unwrap_or(0) + 1)
}
