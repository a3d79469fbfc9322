//! Runs: up to ten copies of a task definition, started once (ECS RunTask).
//!
//! What ECS answers at once is here what a run's status says: the tasks that were started, and the failures of those that
//! were not. Beyond ECS, in the words of Kubernetes Jobs: copies may be tried again, wait for room, and have a deadline.

mod copies;
mod report;
mod start;

use std::collections::BTreeSet;

use jiff::Timestamp;
use tallyman_crds::ecs::TaskOverride;
use tallyman_crds::{LastStatus, StopCode, labels, names};

pub use copies::delay;
use copies::{Copies, Copy, State, classify, retries};
use report::{Outcome, Progress};
pub(crate) use start::request;

use crate::names::{RevisionName, RunTaskName, TaskName};
use crate::placement::Ledger;
use crate::plan::{Action, Kind, Plan, Target};
use crate::problem::{self, Problem};
use crate::services::{self, Unresolved};
use crate::world::{Revision, RunState, TaskState, World};

/// Tasks of runs that one pass starts: hosts hear of them while the next ones are written.
pub(crate) const AT_ONCE: usize = 16;
/// ECS reason of what finds a cluster without hosts.
pub(crate) const NO_HOSTS: &str = "NO ACTIVE INSTANCES";

/// Decides for a run. `left`: tasks of runs that the pass may still start.
pub(crate) fn plan_one(
    world: &World,
    name: &RunTaskName,
    run: &RunState,
    ledger: &mut Ledger,
    left: &mut usize,
    now: Timestamp,
    plan: &mut Plan,
) {
    if run.identity.deleting {
        drain(world, name, run, now, plan);
    } else if run.finished() {
        keep(world, name, run, now, plan);
    } else if !is_late_double(world, name, run) {
        reconcile(world, name, run, ledger, left, now, plan);
    }
}

fn target(name: &RunTaskName, run: &RunState) -> Target {
    Target::new(Kind::RunTask, name, &run.identity)
}

/// A leader of old made it for a due time that was decided on without it; `schedules` deletes it.
pub(crate) fn is_late_double(world: &World, name: &RunTaskName, run: &RunState) -> bool {
    let of = run.due.as_ref();
    let schedule = of.and_then(|due| Some((due, world.schedules.get(&due.schedule)?)));
    schedule.is_some_and(|(due, s)| {
        let decided = s.status.decided_until.as_ref();
        s.identity.uid == due.schedule_uid
            && run.status == tallyman_crds::RunTaskStatus::default()
            && decided.is_some_and(|d| d.0 >= due.at)
            && !s.status.active.iter().any(|a| a == name.as_str())
    })
}

/// What became of a STOPPED task is in its run's status, or nobody asks any more: the Task may go.
pub(crate) fn is_recorded(world: &World, name: &TaskName, task: &TaskState) -> bool {
    let Some((run_name, run)) = world.run_of(task) else {
        return true;
    };
    let number = |task: &str| names::run_task_number(run_name.as_str(), task);
    let Some(own) = number(name.as_str()) else {
        return true;
    };
    let said = run.status.tasks.iter().any(|r| {
        let over = r.last_status == LastStatus::Stopped;
        // A later try of the copy says that this one is over.
        number(&r.name)
            .is_some_and(|n| n % run.count == own % run.count && (n > own || (n == own && over)))
    });
    said || run.identity.deleting || run.finished()
}

/// A run that is being deleted: its tasks stop first.
fn drain(world: &World, name: &RunTaskName, run: &RunState, now: Timestamp, plan: &mut Plan) {
    let mine = || world.tasks_of_run(name, run).filter(|(_, t)| t.holds());
    let reason = format!("RunTask {name} was deleted");
    stop(mine(), StopCode::UserInitiated, &reason, plan);
    let left = mine().count();
    // The due time that it was made for is to be in the schedule's status before its name is free again.
    let decided = run.due.as_ref().is_none_or(|due| {
        if world
            .unreadable
            .has(Kind::ScheduledTask, due.schedule.as_str())
        {
            return false;
        }
        let schedule = world.schedules.get(&due.schedule);
        let schedule = schedule.filter(|s| s.identity.uid == due.schedule_uid);
        schedule.is_none_or(|s| {
            let decided = s.status.decided_until.as_ref();
            s.identity.deleting || decided.is_some_and(|d| d.0 >= due.at)
        })
    });
    let fence = labels::SERVICE_FINALIZER;
    if left == 0 && decided && run.identity.finalizers.contains(fence) {
        plan.actions.push(Action::RemoveFinalizer {
            target: target(name, run),
            finalizer: fence,
        });
    } else if left > 0 && !run.finished() {
        report::publish(world, name, run, &Outcome::Draining { left }, now, plan);
    }
}

/// A run that has ended: nothing of it is to run, and it goes when its time is over.
fn keep(world: &World, name: &RunTaskName, run: &RunState, now: Timestamp, plan: &mut Plan) {
    let alive = world.tasks_of_run(name, run).filter(|(_, t)| t.holds());
    let reason = format!("RunTask {name} has ended");
    stop(alive, StopCode::ServiceSchedulerInitiated, &reason, plan);
    let ended = run.status.completion_time.as_ref();
    let goes = ended.zip(run.keep_for);
    match goes.and_then(|(at, keep)| at.0.checked_add(keep).ok()) {
        Some(at) if at > now => plan.wake(at),
        Some(_) => plan.actions.push(Action::Delete(target(name, run))),
        None => {}
    }
}

fn stop<'w>(
    tasks: impl Iterator<Item = (&'w TaskName, &'w TaskState)>,
    code: StopCode,
    reason: &str,
    plan: &mut Plan,
) {
    for (task, t) in tasks.filter(|(_, t)| !t.leaving()) {
        plan.stop(task, t, code, reason.to_owned());
    }
}

fn reconcile(
    world: &World,
    name: &RunTaskName,
    run: &RunState,
    ledger: &mut Ledger,
    left: &mut usize,
    now: Timestamp,
    plan: &mut Plan,
) {
    let fenced = run.identity.finalizers.contains(labels::SERVICE_FINALIZER);
    if !fenced || run.revision.is_none() {
        match admit(world, name, run) {
            Ok(revision) => plan.actions.push(Action::AddFinalizer {
                target: target(name, run),
                finalizer: labels::SERVICE_FINALIZER,
                // The label keeps the revision when the family moves on.
                label: Some((labels::REVISION, revision.to_string())),
            }),
            Err(outcome) => report::publish(world, name, run, &outcome, now, plan),
        }
        return;
    }
    let Copies { mut copies, strays } = classify(world, name, run, now);
    let reason = "A leader that was replaced started it";
    stop(
        strays.into_iter(),
        StopCode::ServiceSchedulerInitiated,
        reason,
        plan,
    );
    let started_at = run.status.start_time.as_ref().map_or(now, |t| t.0);
    let deadline = run.deadline.and_then(|d| started_at.checked_add(d).ok());
    let expired = deadline.filter(|at| *at <= now && is_unfinished(&copies, run));
    let mut progress = Progress::new(deadline.zip(run.deadline));
    match expired {
        Some(_) => {
            progress.expired = true;
            let alive = copies.iter().filter_map(|c| match &c.state {
                State::Active { name, task } => Some((*name, *task)),
                State::Untried | State::Starting(_) | State::Succeeded(_) | State::Failed(_) => {
                    None
                }
            });
            stop(
                alive,
                StopCode::UserInitiated,
                &report::deadline_over(name, run),
                plan,
            );
        }
        None => {
            start::start(
                world,
                name,
                run,
                &mut copies,
                &mut progress,
                ledger,
                left,
                now,
                plan,
            );
            // Nothing happens at a deadline of a run that has ended by then.
            deadline.into_iter().for_each(|at| plan.wake(at));
        }
    }
    progress.retries = retries(&copies, run);
    let due = progress.retries.iter().map(|r| r.at);
    due.filter(|at| *at > now).for_each(|at| plan.wake(at));
    let outcome = Outcome::Running(Box::new((copies, progress)));
    report::publish(world, name, run, &outcome, now, plan);
}

/// Something of the run is alive, or is still to be started.
fn is_unfinished(copies: &[Copy<'_>], run: &RunState) -> bool {
    let open = copies.iter().any(|c| match c.state {
        State::Untried | State::Active { .. } | State::Starting(_) => true,
        State::Succeeded(_) | State::Failed(_) => false,
    });
    open || !retries(copies, run).is_empty()
}

/// The revision that the run is taken on with, or why it cannot be, or not yet.
fn admit(
    world: &World,
    name: &RunTaskName,
    run: &RunState,
) -> Result<RevisionName, Outcome<'static>> {
    let refused = |reason, message| Err(Outcome::Refused { reason, message });
    if !run.problems.is_empty() {
        return refused("InvalidSpec", problem::sentence(&run.problems));
    }
    if !run.unsupported.refused.is_empty() {
        let message = run.unsupported.sentence().unwrap_or_default();
        return refused("UnsupportedFields", message);
    }
    if let Some(first) = first_with_token(world, name, run) {
        let message = format!(
            "`spec.clientToken` stands for RunTask {first} already, so this one starts nothing: its tasks are those of \
             {first}, or give another token."
        );
        return refused("ClientTokenInUse", message);
    }
    let waiting = |reason, message| Err(Outcome::Waiting { reason, message });
    let given = &run.object.spec.task_definition;
    let (revision_name, revision) = match services::resolve(world, given, |_| false) {
        Ok(found) => found,
        // Helm and Flux may apply the TaskDefinition a moment later.
        Err(Unresolved::NotFound(m)) => return waiting("TaskDefinitionNotFound", m),
        Err(Unresolved::Unsettled(m)) => return waiting("TaskDefinitionUnsettled", m),
        Err(Unresolved::Inactive(m)) => return refused("TaskDefinitionInactive", m),
        Err(Unresolved::Invalid(m)) => return refused("TaskDefinitionInvalid", m),
    };
    let problems = wrong_overrides(run.object.spec.overrides.as_ref(), revision);
    if !problems.is_empty() {
        return refused("InvalidSpec", problem::sentence(&problems));
    }
    let own: BTreeSet<&TaskName> = world.tasks_of_run(name, run).map(|(n, _)| n).collect();
    let taken = (1..=run.count)
        .map(|n| TaskName::from(names::run_task(name.as_str(), n)))
        .find(|task| world.tasks.contains_key(task) && !own.contains(task));
    if let Some(task) = taken {
        let message = format!(
            "Task {task} is there already and is not of this run; it starts once that Task is deleted."
        );
        return waiting("TaskNameTaken", message);
    }
    Ok(revision_name)
}

/// The oldest other run of the cluster with the same token, if it is older than this one.
fn first_with_token<'w>(
    world: &'w World,
    name: &RunTaskName,
    run: &RunState,
) -> Option<&'w RunTaskName> {
    let token = run.object.spec.client_token.as_ref()?;
    let age = |name: &RunTaskName, r: &RunState| (r.created_at, name.clone());
    let others = world.runs.iter().filter(|(other, r)| {
        r.object.spec.client_token.as_ref() == Some(token) && age(other, r) < age(name, run)
    });
    others
        .min_by_key(|(other, r)| age(other, r))
        .map(|(n, _)| n)
}

/// Overrides of containers that the definition does not have (ECS RunTask refuses them).
pub(crate) fn wrong_overrides(
    overrides: Option<&TaskOverride>,
    revision: &Revision,
) -> Vec<Problem> {
    let containers = &revision.object.spec.definition.container_definitions;
    let given = overrides.into_iter().flat_map(|o| &o.container_overrides);
    let unknown = given.enumerate().filter(|(_, o)| {
        let name = o.name.as_deref();
        !containers.iter().any(|c| Some(c.name.as_str()) == name)
    });
    unknown
        .map(|(i, o)| {
            let known: Vec<_> = containers.iter().map(|c| format!("`{}`", c.name)).collect();
            Problem::new(
                format!("spec.overrides.containerOverrides[{i}].name"),
                format!(
                    "must be a container of {} ({}), not `{}`",
                    revision.ecs_name(),
                    known.join(", "),
                    o.name.as_deref().unwrap_or_default()
                ),
            )
        })
        .collect()
}
