//! A task with all that is known of it, stepped in place: what a worker of the shell and a host of the
//! simulator hold for each task.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tallyman_agent_engine::{ContainerState, ContainerSummary, Hint};
use tallyman_crds::TaskStatus;

use crate::account::Room;
use crate::assignment::{AssignedTask, Desired, TaskBody};
use crate::metadata::{Resolver, TaskSight};
use crate::perform::Outcome;
use crate::report::{Delivery, Due, Outbox, Parcel};
use crate::task::observe::{Sighting, TaskObservation};
use crate::task::record::{ContainerRecord, TaskRecord};
use crate::task::{Action, HostContext, Step, settle, step};
use crate::volumes::PlannedVolume;

/// What a task is to the account of its host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Claim {
    /// It has containers.
    Holds,
    /// It wants to start.
    Asks,
    /// It is STOPPED, or will never start.
    Over,
}

/// One task, its record, what is seen of it, and its reports.
#[derive(Clone, Debug)]
pub struct TaskMachine {
    task: AssignedTask,
    /// Shared with whoever writes it down: there is one of each task in memory.
    record: Arc<TaskRecord>,
    seen: TaskObservation,
    outbox: Outbox,
    report: TaskStatus,
}

impl TaskMachine {
    /// Begins with a task, what is remembered of it, and a *complete* list of our containers.
    ///
    /// A task that this agent cannot read, but of which containers exist, is watched and not refused:
    /// an older agent must not report what a newer one started as failed.
    pub fn begin(
        mut task: AssignedTask,
        record: Option<TaskRecord>,
        listed: &[ContainerSummary],
    ) -> Self {
        let record = record.unwrap_or_else(|| TaskRecord::new(&task));
        if let TaskBody::Refused(_) = &task.body {
            let salvaged = AssignedTask::salvage(&record, listed);
            if !salvaged.is_empty() {
                task.body = TaskBody::Runnable(salvaged);
                task.volumes = PlannedVolume::remembered(&record);
            }
        }
        let seen = TaskObservation::begin(&task, &record, listed);
        Self {
            task,
            record: Arc::new(record),
            seen,
            outbox: Outbox::default(),
            report: TaskStatus::default(),
        }
    }

    /// The newest plan's entry. What is desired only goes forward, and a task that could be read once
    /// stays readable.
    pub fn assign(&mut self, next: AssignedTask) {
        let mut next = next;
        if let (Desired::Stop { .. }, Desired::Run) = (&self.task.desired, &next.desired) {
            next.desired = self.task.desired.clone();
        }
        next.remove |= self.task.remove;
        if next.planned && !self.task.planned {
            // The plan had forgotten it and knows it again: its end may be unknown again, too.
            Arc::make_mut(&mut self.record).tell_again();
        }
        if next.planned && self.record.maybe_forgotten {
            Arc::make_mut(&mut self.record).maybe_forgotten = false;
        }
        if let (TaskBody::Runnable(_), TaskBody::Refused(_)) = (&self.task.body, &next.body) {
            next.body = self.task.body.clone();
            next.volumes.clone_from(&self.task.volumes);
            next.family.clone_from(&self.task.family);
            next.revision = self.task.revision;
            next.limits.clone_from(&self.task.limits);
        }
        self.task = next;
    }

    /// What it is to the account of its host.
    pub(crate) fn claim(&self) -> Claim {
        let exists = |(name, known): (&String, &ContainerRecord)| {
            known.created || !matches!(self.seen.sighting(name), Sighting::Absent)
        };
        // What starts nothing holds nobody up.
        let wanted = self.record.stop.is_none()
            && matches!(self.task.desired, Desired::Run)
            && self.task.planned
            && !self.task.remove;
        if self.record.is_stopped() {
            Claim::Over
        } else if self.record.containers.iter().any(exists) {
            Claim::Holds
        } else if wanted {
            Claim::Asks
        } else {
            Claim::Over
        }
    }

    /// Whether the host has room for it.
    pub(crate) fn set_room(&mut self, room: Room) {
        self.seen.room = room;
    }

    /// The newest plan has no entry for it.
    pub fn unplanned(&mut self) {
        self.task.planned = false;
    }

    /// [`TaskRecord::api_went_back`].
    pub fn api_went_back(&mut self, to_run: bool) {
        Arc::make_mut(&mut self.record).api_went_back(to_run);
    }

    /// The two-phase check condemned it ([`crate::Orphans`]).
    pub fn condemn(&mut self) {
        if !self.task.planned {
            Arc::make_mut(&mut self.record).condemned = true;
        }
    }

    /// Protects it from scale-in and deployments until then, or not any more.
    pub fn protect(&mut self, until: Option<Timestamp>) {
        Arc::make_mut(&mut self.record).protected_until = until;
    }

    /// Nothing sleeps longer: a clock that jumps is noticed. A task that stops by itself on a host that is cut off looks often,
    /// because a sleep does not count the time in which the machine was suspended.
    pub fn longest_sleep(&self) -> Duration {
        Duration::from_secs(match self.task.stop_after {
            Some(_) => 2,
            None => 600,
        })
    }

    /// Its containers stop a few at a time with those of others. Where a replacement reckons with when they have stopped they
    /// wait for nobody.
    pub fn stops_in_turn(&self) -> bool {
        self.task.stop_after.is_none()
    }

    /// Whether the API server knows until when it is protected.
    pub fn protection_is_told(&self) -> bool {
        self.record.protection_told == self.record.protected_until
    }

    /// Takes in a complete list of our containers.
    pub fn listed(&mut self, summaries: &[ContainerSummary]) {
        self.seen.listed(&self.task, &self.record, summaries);
    }

    /// Takes in an engine event about the container called `engine_name`.
    pub fn hinted(&mut self, engine_name: &str, hint: &Hint) {
        let container = self.task.containers().iter().find(|container| {
            let attempt = self
                .record
                .containers
                .get(&container.name)
                .map_or(1, |k| k.attempt);
            container.engine_name(attempt) == engine_name
        });
        if let Some(container) = container {
            let name = container.name.clone();
            self.seen.hinted(&name, hint);
        }
    }

    /// One step. The actions are not yet in flight: tell [`TaskMachine::started`] of each that is called.
    pub fn step(&mut self, host: &HostContext, now: Timestamp) -> Step {
        let step = step(&self.task, &self.record, &self.seen, host, now);
        if *self.record != step.record {
            self.record = Arc::new(step.record.clone());
        }
        self.report.clone_from(&step.report);
        step
    }

    /// An action was handed to the engine.
    pub fn started(&mut self, action: &Action) {
        self.seen.started(action.container(), action.verb());
    }

    /// An action came back.
    pub fn settle(&mut self, container: &str, outcome: Outcome, now: Timestamp) {
        let record = Arc::make_mut(&mut self.record);
        settle(record, &mut self.seen, container, outcome, now);
    }

    /// A prepare is not waited for any more; its outcome will not be settled.
    pub fn abandon(&mut self, container: &str) {
        self.seen.in_flight.remove(container);
    }

    /// Whether the status of the last step is to be sent.
    pub fn due(&mut self, now: Timestamp) -> Due {
        self.outbox.due(&self.task, &self.record, &self.report, now)
    }

    /// How a parcel fared.
    pub fn delivered(&mut self, parcel: &Parcel, delivery: &Delivery, now: Timestamp) {
        self.outbox.settle(
            &self.task,
            Arc::make_mut(&mut self.record),
            parcel,
            delivery,
            now,
        );
    }

    /// The task at this moment, for those who ask about it.
    pub fn sight(&self) -> TaskSight {
        let present = |(name, sighting): (&String, &Sighting)| match sighting {
            Sighting::Present(state) => Some((name.clone(), ContainerState::clone(state))),
            Sighting::Stale | Sighting::Absent | Sighting::Made { .. } => None,
        };
        TaskSight {
            task: self.task.clone(),
            record: TaskRecord::clone(&self.record),
            seen: self.seen.containers.iter().filter_map(present).collect(),
            resolver: Resolver::default(),
        }
    }

    /// What is wanted.
    pub fn task(&self) -> &AssignedTask {
        &self.task
    }

    /// What is remembered.
    pub fn record(&self) -> &TaskRecord {
        &self.record
    }

    /// What is remembered, to be kept by somebody else, too.
    pub fn shared_record(&self) -> Arc<TaskRecord> {
        Arc::clone(&self.record)
    }

    /// What is seen.
    pub fn seen(&self) -> &TaskObservation {
        &self.seen
    }

    /// The status that the last step came to.
    pub fn report(&self) -> &TaskStatus {
        &self.report
    }
}
