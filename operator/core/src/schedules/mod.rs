//! Schedules: each due time makes one RunTask (EventBridge Scheduler; Kubernetes CronJob for what happens around it).
//!
//! What was decided is remembered in two places that cannot disagree for long: the RunTask's name, derived from the due
//! time, so that whoever starts it again meets "already exists"; and `status.decidedUntil`, which moves past a due time
//! only once its RunTask is there, or once it was left out or missed.

pub mod expression;
mod fields;
mod report;

use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use tallyman_crds::conditions::COMPLETE;
use tallyman_crds::{ConcurrencyPolicy, RunTask, labels, names};

use crate::names::{RunTaskName, ScheduledTaskName};
use crate::plan::{Action, Kind, Note, Plan, Target};
use crate::problem;
use crate::runs;
use crate::world::{RunState, ScheduleState, World};
use expression::{Due, Schedule};

/// How many runs that ended well are kept, unless the schedule says otherwise (Kubernetes CronJob).
const KEPT_GOOD: i32 = 3;
/// How many that failed.
const KEPT_BAD: i32 = 1;

/// Decides for a schedule. One that is being deleted starts nothing; its runs go with it, each stopping its tasks first. One with a
/// run that cannot be read waits: nobody knows whether that has ended.
pub(crate) fn plan_one(
    world: &World,
    name: &ScheduledTaskName,
    s: &ScheduleState,
    now: Timestamp,
    plan: &mut Plan,
) {
    if !s.identity.deleting && !world.unreadable.has_run_of(&s.identity.uid) {
        reconcile(world, name, s, now, plan);
    }
}

fn target(name: &ScheduledTaskName, s: &ScheduleState) -> Target {
    Target::new(Kind::ScheduledTask, name, &s.identity)
}

/// What became of the latest due time, if one is open.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Decision {
    /// Nothing fell due.
    Nothing,
    /// Its run is there.
    Started,
    /// Its run is created by this pass.
    Starts(RunTaskName),
    /// A RunTask of its name is in the way.
    Waits(RunTaskName),
    /// It starts once the runs before it have stopped, of which this is the first.
    Replaces(RunTaskName),
    /// It is left out because of this run.
    LeftOut(RunTaskName),
    /// It is passed over: nothing is to start.
    PassedOver,
    /// It is too late for it.
    TooLate,
}

/// What a pass made of a schedule.
struct Verdict {
    /// Due times up to here are decided on.
    decided_until: Timestamp,
    decision: Decision,
    due: Option<Due>,
    /// The next due time after now.
    following: Option<Timestamp>,
    /// When there is something new to decide.
    wake: Option<Timestamp>,
    suspended: bool,
}

fn reconcile(
    world: &World,
    name: &ScheduledTaskName,
    s: &ScheduleState,
    now: Timestamp,
    plan: &mut Plan,
) {
    let doubles: Vec<_> = s
        .runs
        .iter()
        .filter(|(n, r)| is_double(world, n, r))
        .collect();
    for (run, r) in &doubles {
        // A leader of old made it: what it was due for is over.
        if !r.identity.deleting {
            plan.actions
                .push(Action::Delete(Target::new(Kind::RunTask, run, &r.identity)));
        }
    }
    let unfinished: BTreeSet<&RunTaskName> = s
        .runs
        .iter()
        .filter(|(n, r)| !r.finished() && !is_double(world, n, r))
        .map(|(n, _)| n)
        .collect();
    let refusal = match (&s.schedule, s.unsupported.refused.is_empty()) {
        (Err(problems), _) => Some(("InvalidSpec", problem::sentence(problems))),
        (Ok(_), false) => Some((
            "UnsupportedFields",
            s.unsupported.sentence().unwrap_or_default(),
        )),
        (Ok(_), true) => None,
    };
    let verdict = s.schedule.as_ref().ok().map(|schedule| {
        let verdict = decide(s, schedule, refusal.is_none(), &unfinished, now);
        verdict.wake.into_iter().for_each(|at| plan.wake(at));
        verdict
    });
    if let Some(verdict) = &verdict {
        carry_out(world, name, s, verdict, &unfinished, plan);
    }
    forget(s, plan);
    report::publish(name, s, verdict.as_ref(), refusal, &unfinished, now, plan);
}

fn is_double(world: &World, name: &RunTaskName, run: &RunState) -> bool {
    runs::is_late_double(world, name, run)
}

fn decide(
    s: &ScheduleState,
    schedule: &Schedule,
    may_start: bool,
    unfinished: &BTreeSet<&RunTaskName>,
    now: Timestamp,
) -> Verdict {
    let suspended = s.object.spec.suspend.unwrap_or(false);
    let decided = s.status.decided_until.as_ref().map(|t| t.0);
    let since = match &s.status.schedule {
        // Nothing of the new schedule was due before anybody knew it.
        Some(known) if *known != report::text(&s.object.spec) => now.max(decided.unwrap_or(now)),
        Some(_) | None => decided.unwrap_or_else(|| schedule.begins()),
    };
    let following = schedule.next(now.max(since));
    let mut verdict = Verdict {
        decided_until: since,
        decision: Decision::Nothing,
        due: schedule
            .due(since, now)
            .map(|due| but_for_runs(s, since, due)),
        following,
        wake: following,
        suspended,
    };
    let Some(due) = verdict.due else {
        return verdict;
    };
    verdict.decision = judge(s, due, may_start && !suspended, unfinished, now);
    match verdict.decision {
        Decision::Nothing | Decision::Starts(_) | Decision::Waits(_) | Decision::Replaces(_) => {
            // It may become too late for it.
            let deadline = s.object.spec.starting_deadline_seconds;
            let late = deadline.map(|d| SignedDuration::from_secs(i64::from(d) + 1));
            let late = late.and_then(|d| due.latest.checked_add(d).ok());
            verdict.wake = [following, late].into_iter().flatten().min();
        }
        Decision::Started | Decision::LeftOut(_) | Decision::PassedOver | Decision::TooLate => {
            verdict.decided_until = due.latest;
        }
    }
    verdict
}

/// Of the times before the latest, those whose run is there are not missed.
fn but_for_runs(s: &ScheduleState, since: Timestamp, due: Due) -> Due {
    let times = s.runs.values().filter_map(|r| Some(r.due.as_ref()?.at));
    let there = times.filter(|at| *at > since && *at < due.latest).count();
    let there = u32::try_from(there).unwrap_or(u32::MAX);
    Due {
        earlier: due.earlier.saturating_sub(there),
        ..due
    }
}

fn judge(
    s: &ScheduleState,
    due: Due,
    may_start: bool,
    unfinished: &BTreeSet<&RunTaskName>,
    now: Timestamp,
) -> Decision {
    let own = s.object.metadata.name.as_deref().unwrap_or_default();
    let run = RunTaskName::from(names::scheduled_run(own, minutes(due.latest)));
    if s.runs.contains_key(&run) {
        return Decision::Started;
    }
    if !may_start {
        return Decision::PassedOver;
    }
    let deadline = s.object.spec.starting_deadline_seconds;
    let late = |d: i32| now.duration_since(due.latest) > SignedDuration::from_secs(i64::from(d));
    if deadline.is_some_and(late) {
        return Decision::TooLate;
    }
    if s.taken.contains(&run) {
        return Decision::Waits(run);
    }
    match (s.object.spec.concurrency_policy, unfinished.first()) {
        (ConcurrencyPolicy::Allow, _) | (_, None) => Decision::Starts(run),
        (ConcurrencyPolicy::Forbid, Some(before)) => Decision::LeftOut((*before).clone()),
        (ConcurrencyPolicy::Replace, Some(before)) => Decision::Replaces((*before).clone()),
    }
}

/// The number that a run is named after.
fn minutes(at: Timestamp) -> i64 {
    at.as_second().div_euclid(60)
}

fn carry_out(
    world: &World,
    name: &ScheduledTaskName,
    s: &ScheduleState,
    verdict: &Verdict,
    unfinished: &BTreeSet<&RunTaskName>,
    plan: &mut Plan,
) {
    let Some(due) = verdict.due else { return };
    let note = match &verdict.decision {
        Decision::Starts(run) => {
            let object = run_task(world, name, s, run, due.latest);
            plan.actions.push(Action::CreateRunTask(Box::new(object)));
            Some((
                false,
                "RunStarted",
                format!("Started run {run} of {}.", due.latest),
            ))
        }
        Decision::Replaces(_) => {
            let before = s
                .runs
                .iter()
                .filter(|(n, r)| unfinished.contains(n) && !r.identity.deleting);
            for (run, r) in before {
                plan.actions
                    .push(Action::Delete(Target::new(Kind::RunTask, run, &r.identity)));
            }
            None
        }
        Decision::LeftOut(before) => Some((
            false,
            "RunLeftOut",
            format!(
                "The run of {} is left out: run {before} has not ended (`spec.concurrencyPolicy: Forbid`).",
                due.latest
            ),
        )),
        Decision::TooLate => Some((
            true,
            "RunMissed",
            format!(
                "The run of {} is missed: it could not start within `spec.startingDeadlineSeconds` ({}).",
                due.latest,
                s.object.spec.starting_deadline_seconds.unwrap_or_default()
            ),
        )),
        Decision::Nothing | Decision::Started | Decision::PassedOver | Decision::Waits(_) => None,
    };
    let missed = report::missed(verdict) - i64::from(verdict.decision == Decision::TooLate);
    let earlier = (missed > 0).then(|| {
        let text = format!(
            "{missed} runs before that of {} are missed: nobody was there to start them.",
            due.latest
        );
        (true, "RunsMissed", text)
    });
    for (warning, reason, message) in note.into_iter().chain(earlier) {
        plan.notes.push(Note {
            target: target(name, s),
            warning,
            reason,
            message,
        });
    }
}

/// Deletes runs that have ended, beyond those that are kept. None whose due time is not decided on: its name is the memory.
fn forget(s: &ScheduleState, plan: &mut Plan) {
    let decided = s.status.decided_until.as_ref().map(|t| t.0);
    let mut ended: Vec<_> = s
        .runs
        .iter()
        .filter(|(_, r)| r.finished())
        .filter_map(|(n, r)| Some((r.due.as_ref()?.at, n, r)))
        .collect();
    ended.sort_by_key(|(at, name, _)| std::cmp::Reverse((*at, (*name).clone())));
    let (good, bad): (Vec<_>, Vec<_>) = ended.into_iter().partition(|(_, _, r)| succeeded(r));
    let spec = &s.object.spec;
    let limit = |given: Option<i32>, default: i32| {
        usize::try_from(given.unwrap_or(default)).unwrap_or_default()
    };
    let good = good
        .into_iter()
        .skip(limit(spec.successful_runs_history_limit, KEPT_GOOD));
    let bad = bad
        .into_iter()
        .skip(limit(spec.failed_runs_history_limit, KEPT_BAD));
    for (at, name, r) in good.chain(bad) {
        if !r.identity.deleting && decided.is_some_and(|d| at <= d) {
            plan.actions.push(Action::Delete(Target::new(
                Kind::RunTask,
                name,
                &r.identity,
            )));
        }
    }
}

/// It ended well.
fn succeeded(run: &RunState) -> bool {
    run.status.conditions.iter().any(|c| c.type_ == COMPLETE)
}

fn run_task(
    world: &World,
    name: &ScheduledTaskName,
    s: &ScheduleState,
    run: &RunTaskName,
    at: Timestamp,
) -> RunTask {
    let labels = [
        (labels::SCHEDULED_TASK, name.to_string()),
        (labels::MANAGED_BY, labels::MANAGER.to_owned()),
    ];
    RunTask {
        metadata: ObjectMeta {
            name: Some(run.to_string()),
            namespace: Some(world.namespace.clone()),
            labels: Some(labels.map(|(k, v)| (k.to_owned(), v)).into()),
            annotations: Some([(labels::SCHEDULED_TIME.to_owned(), at.to_string())].into()),
            owner_references: Some(vec![target(name, s).as_owner()]),
            ..ObjectMeta::default()
        },
        spec: s.object.spec.run_task.clone(),
        status: None,
    }
}
