//! What people are told of a run: its status, its conditions, its events.
//!
//! Ready is what tools wait for that ask whether the run is under way (`kubectl wait`, Flux, Helm): True once every copy
//! has started. Complete and Failed are its end, in the words of Kubernetes Jobs.

use jiff::{SignedDuration, Timestamp};
use tallyman_crds::conditions::{self, COMPLETE, FAILED, READY, Statement};
use tallyman_crds::{ConditionStatus, RunTaskCopy, RunTaskStatus, StopCode};

use super::copies::{Copy, Retry, State, record};
use super::start::failures;
use super::target;
use crate::names::RunTaskName;
use crate::placement::{Unplaceable, plural};
use crate::plan::{Note, Plan};
use crate::services::time;
use crate::status::{Standing, statements};
use crate::world::{RunState, World};

/// What a pass made of a run.
pub(super) enum Outcome<'w> {
    /// It never starts.
    Refused {
        reason: &'static str,
        message: String,
    },
    /// It starts when something else has changed.
    Waiting {
        reason: &'static str,
        message: String,
    },
    /// It is being deleted; so many of its tasks have not stopped.
    Draining { left: usize },
    /// It is under way, or ends here.
    Running(Box<(Vec<Copy<'w>>, Progress)>),
}

/// What a pass found beside the copies of a run.
#[derive(Clone, Debug)]
pub(super) struct Progress {
    /// When it must be over, and how long that is after its start.
    pub deadline: Option<(Timestamp, SignedDuration)>,
    /// It is past that, and not over.
    pub expired: bool,
    /// Copies that are tried again.
    pub retries: Vec<Retry>,
    /// Copies that wait for room.
    pub waiting: usize,
    /// Why no host took a copy.
    pub unplaceable: Option<Unplaceable>,
}

impl Progress {
    /// Nothing found yet.
    pub fn new(deadline: Option<(Timestamp, SignedDuration)>) -> Progress {
        Progress {
            deadline,
            expired: false,
            retries: Vec::new(),
            waiting: 0,
            unplaceable: None,
        }
    }
}

/// Stopped reason of tasks whose run took too long.
pub(super) fn deadline_over(name: &RunTaskName, run: &RunState) -> String {
    let seconds = run.deadline.map_or(0, |d| d.as_secs());
    format!("RunTask {name} took longer than its `activeDeadlineSeconds` ({seconds})")
}

/// How a run stands.
struct Verdict {
    standing: Standing,
    reason: &'static str,
    /// Whole sentences.
    message: String,
    /// A few words.
    short: String,
    /// Complete or Failed.
    end: Option<&'static str>,
}

impl Verdict {
    fn open(standing: Standing, reason: &'static str, message: String, short: String) -> Verdict {
        Verdict {
            standing,
            reason,
            message,
            short,
            end: None,
        }
    }

    fn failed(reason: &'static str, message: String, short: String) -> Verdict {
        Verdict {
            standing: Standing::Stalled,
            reason,
            message,
            short,
            end: Some(FAILED),
        }
    }
}

/// Publishes the status of a run.
pub(super) fn publish(
    world: &World,
    name: &RunTaskName,
    run: &RunState,
    outcome: &Outcome<'_>,
    now: Timestamp,
    plan: &mut Plan,
) {
    let previous = &run.status;
    let mut next = previous.clone();
    next.observed_generation = run.identity.generation;
    let verdict = match outcome {
        Outcome::Refused { reason, message } => {
            Verdict::failed(reason, message.clone(), format!("refused: {reason}"))
        }
        Outcome::Waiting { reason, message } => {
            let short = "waiting to be taken on".to_owned();
            Verdict::open(Standing::Reconciling, reason, message.clone(), short)
        }
        Outcome::Draining { left } => {
            let tasks = plural(*left, "task");
            let message = format!("RunTask {name} goes when its {left} {tasks} have stopped.");
            let short = format!("deleting, {left} {tasks} to stop");
            Verdict::open(Standing::Reconciling, "Deleting", message, short)
        }
        Outcome::Running(found) => {
            let (copies, progress) = &**found;
            count(world, run, copies, progress, &mut next, now);
            judge(name, run, copies, progress)
        }
    };
    if verdict.end.is_some() {
        next.completion_time = Some(time(now));
    }
    next.message = Some(verdict.short.clone());
    let was = previous.conditions.iter().find(|c| c.type_ == READY);
    let mut notes = Vec::new();
    if was.is_none_or(|c| c.reason != verdict.reason) {
        notes.push(Note {
            target: target(name, run),
            warning: verdict.standing == Standing::Stalled || verdict.reason == NOT_PLACEABLE,
            reason: verdict.reason,
            message: verdict.message.clone(),
        });
    }
    let unsupported = run.unsupported.sentence();
    let mut list = statements(
        &verdict.standing,
        verdict.reason,
        &verdict.message,
        unsupported,
    );
    list.extend(verdict.end.map(|type_| Statement {
        type_,
        status: ConditionStatus::True,
        reason: verdict.reason,
        message: verdict.message.clone(),
    }));
    let generation = run.identity.generation;
    next.conditions = conditions::merge(&previous.conditions, &list, generation, &time(now));
    plan.tell(target(name, run), previous, &next, false, notes);
}

/// Numbers, times and tasks of a run that is under way.
fn count(
    world: &World,
    run: &RunState,
    copies: &[Copy<'_>],
    progress: &Progress,
    next: &mut RunTaskStatus,
    now: Timestamp,
) {
    let number = |n: usize| i32::try_from(n).unwrap_or(i32::MAX);
    next.start_time.get_or_insert_with(|| time(now));
    let revision = run.revision.as_ref().and_then(|r| world.revisions.get(r));
    next.task_definition = revision
        .map(|r| r.ecs_name())
        .or(next.task_definition.take());
    next.tasks = copies.iter().filter_map(|c| entry(world, c)).collect();
    next.active = number(copies.iter().filter(|c| is_active(c)).count());
    next.succeeded = number(copies.iter().filter(|c| is_success(c)).count());
    let failed = copies.iter().map(|c| match c.state {
        State::Failed(_) => c.tries,
        State::Untried | State::Active { .. } | State::Starting(_) | State::Succeeded(_) => {
            c.tries.saturating_sub(1)
        }
    });
    next.failed = i32::try_from(failed.sum::<u32>()).unwrap_or(i32::MAX);
    let unplaced = |c: &RunTaskCopy| c.container_instance.is_none();
    match &progress.unplaceable {
        Some(why) if !run.waits_for_capacity => next.failures = failures(why),
        Some(_) | None if next.tasks.iter().any(unplaced) => {}
        Some(_) | None => next.failures = Vec::new(),
    }
}

fn entry(world: &World, copy: &Copy<'_>) -> Option<RunTaskCopy> {
    match &copy.state {
        State::Untried => None,
        State::Active { name, task } => Some(record(world, name, task)),
        State::Starting(before) => before.clone(),
        State::Succeeded(record) | State::Failed(record) => Some(record.clone()),
    }
}

fn is_active(copy: &Copy<'_>) -> bool {
    matches!(copy.state, State::Active { .. })
}

fn is_success(copy: &Copy<'_>) -> bool {
    matches!(copy.state, State::Succeeded(_))
}

/// It ran, or runs.
fn has_started(copy: &Copy<'_>) -> bool {
    match &copy.state {
        State::Active { task, .. } => task.started_at.is_some(),
        State::Succeeded(_) => true,
        State::Untried | State::Starting(_) | State::Failed(_) => false,
    }
}

const NOT_PLACEABLE: &str = "TasksNotPlaceable";

fn judge(name: &RunTaskName, run: &RunState, copies: &[Copy<'_>], progress: &Progress) -> Verdict {
    let of = run.count;
    let good = copies.iter().filter(|c| is_success(c)).count();
    let alive = copies.iter().filter(|c| is_active(c)).count();
    let lost: Vec<&RunTaskCopy> = copies
        .iter()
        .filter(|c| !progress.retries.iter().any(|r| r.index == c.index))
        .filter_map(|c| match &c.state {
            State::Failed(record) => Some(record),
            State::Untried | State::Active { .. } | State::Starting(_) | State::Succeeded(_) => {
                None
            }
        })
        .collect();
    if progress.expired {
        let message = format!("{}.", deadline_over(name, run));
        if alive == 0 {
            return Verdict::failed("DeadlineExceeded", message, "failed: too late".to_owned());
        }
        let tasks = plural(alive, "task");
        let message = format!("{message} It ends when {alive} {tasks} have stopped.");
        let short = format!("too late, stopping {alive} {tasks}");
        return Verdict::open(Standing::Stalled, "DeadlineExceeded", message, short);
    }
    if good + lost.len() == copies.len() {
        if lost.is_empty() {
            let copies = plural(good, "copy").replace("copys", "copies");
            let message = format!("Run {name} is complete: {good} {copies} ended well.");
            return Verdict {
                standing: Standing::Ready,
                reason: "TasksSucceeded",
                message,
                short: format!("complete, {good} of {of} ended well"),
                end: Some(COMPLETE),
            };
        }
        let (reason, message) = failure(name, run, &lost, progress);
        let short = format!("failed, {} of {of} failed", lost.len());
        return Verdict::failed(reason, message, short);
    }
    let mut short = format!("{alive} of {of} active");
    for (n, what) in [
        (progress.waiting, "waiting for room"),
        (progress.retries.len(), "to be tried again"),
        (good, "ended well"),
        (lost.len(), "failed"),
    ] {
        if n > 0 {
            short.push_str(&format!(", {n} {what}"));
        }
    }
    if !lost.is_empty() {
        let (reason, mut message) = failure(name, run, &lost, progress);
        message.push_str(" The other copies go on.");
        return Verdict::open(Standing::Stalled, reason, message, short);
    }
    if let Some(why) = progress
        .unplaceable
        .as_ref()
        .filter(|_| progress.waiting > 0)
    {
        let message = format!(
            "Run {name}: {} of {of} copies wait for room (`spec.waitForCapacity`). {} Next try when a host or a task changes.",
            progress.waiting,
            why.sentence()
        );
        return Verdict::open(Standing::Reconciling, NOT_PLACEABLE, message, short);
    }
    if let Some(next) = progress.retries.iter().min_by_key(|r| r.at) {
        let message = again(name, run, copies, next);
        return Verdict::open(Standing::Reconciling, "Retrying", message, short);
    }
    if copies.iter().all(has_started) {
        let message = format!("Run {name}: every one of {of} copies has started.");
        return Verdict::open(Standing::Ready, "TasksStarted", message, short);
    }
    let message = format!("Run {name}: {of} copies are being started.");
    Verdict::open(Standing::Reconciling, "Starting", message, short)
}

/// Which copy is tried again, why, and when.
fn again(name: &RunTaskName, run: &RunState, copies: &[Copy<'_>], next: &Retry) -> String {
    let failed = copies.iter().find_map(|c| match &c.state {
        State::Failed(record) if c.index == next.index => Some(describe(record)),
        State::Failed(_)
        | State::Untried
        | State::Active { .. }
        | State::Starting(_)
        | State::Succeeded(_) => None,
    });
    let used: u32 = copies.iter().map(|c| c.tries.saturating_sub(1)).sum();
    format!(
        "Run {name}: {}. It is tried again not before {}, which is try {} of {} (`spec.backoffLimit`).",
        failed.unwrap_or_default(),
        next.at,
        used + 1,
        run.backoff_limit
    )
}

/// Why copies failed for good.
fn failure(
    name: &RunTaskName,
    run: &RunState,
    lost: &[&RunTaskCopy],
    progress: &Progress,
) -> (&'static str, String) {
    let on_purpose = |c: &RunTaskCopy| match c.stop_code {
        Some(StopCode::UserInitiated | StopCode::ServiceSchedulerInitiated) | None => true,
        Some(
            StopCode::TaskFailedToStart
            | StopCode::EssentialContainerExited
            | StopCode::SpotInterruption
            | StopCode::TerminationNotice
            | StopCode::InfrastructureHealth,
        ) => false,
    };
    let late = |c: &RunTaskCopy| {
        let stopped = c.stopped_at.as_ref();
        let deadline = progress.deadline.zip(stopped);
        on_purpose(c) && deadline.is_some_and(|((at, _), stopped)| stopped.0 >= at)
    };
    let mut told: Vec<String> = lost.iter().take(3).map(|c| describe(c)).collect();
    if lost.len() > told.len() {
        told.push(format!("and {} more", lost.len() - told.len()));
    }
    let head = format!(
        "Run {name}: {} of {} copies failed: {}.",
        lost.len(),
        run.count,
        told.join("; ")
    );
    if lost.iter().any(|c| late(c)) {
        return (
            "DeadlineExceeded",
            format!("{}. {head}", deadline_over(name, run)),
        );
    }
    if lost.iter().any(|c| c.container_instance.is_none()) {
        let advice = "Make room, or set `spec.waitForCapacity`, in a new RunTask.";
        return ("TasksNotPlaced", format!("{head} {advice}"));
    }
    if lost.iter().all(|c| on_purpose(c)) {
        return ("TasksStopped", head);
    }
    let limit = run.backoff_limit;
    let none = format!("No further try: `spec.backoffLimit` is {limit}.");
    ("BackoffLimitExceeded", format!("{head} {none}"))
}

/// How a copy failed.
fn describe(c: &RunTaskCopy) -> String {
    let reason = c.stopped_reason.as_deref().unwrap_or("for no known reason");
    let reason = reason.trim_end_matches('.');
    match (&c.container_instance, c.exit_code) {
        (None, _) => format!("task {} was not started: {reason}", c.name),
        (Some(host), Some(code)) if code != 0 => {
            format!(
                "task {} on {host} ended with exit code {code} ({reason})",
                c.name
            )
        }
        (Some(host), _) => format!("task {} on {host} stopped: {reason}", c.name),
    }
}
