//! What people are told of a schedule: its status and its conditions.
//!
//! Ready says that the schedule is understood; how its runs do is in their own status, and the latest in `lastResult`.

use std::collections::BTreeSet;

use jiff::Timestamp;
use tallyman_crds::conditions::{self, READY};
use tallyman_crds::{ScheduledTaskSpec, ScheduledTaskStatus};

use super::{Decision, Verdict, succeeded, target};
use crate::names::{RunTaskName, ScheduledTaskName};
use crate::plan::{Note, Plan};
use crate::services::time;
use crate::status::{Standing, statements};
use crate::world::ScheduleState;

/// Names in `status.active`, as the schema bounds them.
const ACTIVE: usize = 100;

/// What the times of a schedule follow from.
pub(super) fn text(spec: &ScheduledTaskSpec) -> String {
    let zone = spec.schedule_expression_timezone.as_deref();
    let mut text = format!(
        "{} {}",
        spec.schedule_expression.trim(),
        zone.unwrap_or("UTC")
    );
    for (word, date) in [("from", &spec.start_date), ("until", &spec.end_date)] {
        if let Some(date) = date {
            text.push_str(&format!(" {word} {}", date.0));
        }
    }
    text
}

/// Due times that this pass finds missed.
pub(super) fn missed(verdict: &Verdict) -> i64 {
    let earlier = verdict.due.map_or(0, |d| i64::from(d.earlier));
    match verdict.decision {
        Decision::Started | Decision::LeftOut(_) => earlier,
        Decision::TooLate => earlier + 1,
        // Not decided yet, or nobody wanted them.
        Decision::Nothing
        | Decision::Starts(_)
        | Decision::Waits(_)
        | Decision::Replaces(_)
        | Decision::PassedOver => 0,
    }
}

/// Publishes the status of a schedule. `verdict`: none when it cannot be read.
pub(super) fn publish(
    name: &ScheduledTaskName,
    s: &ScheduleState,
    verdict: Option<&Verdict>,
    refusal: Option<(&'static str, String)>,
    unfinished: &BTreeSet<&RunTaskName>,
    now: Timestamp,
    plan: &mut Plan,
) {
    let previous = &s.status;
    let mut next = previous.clone();
    next.observed_generation = s.identity.generation;
    next.schedule = Some(text(&s.object.spec));
    next.next_schedule_time = None;
    if let Some(verdict) = verdict {
        next.decided_until = Some(time(verdict.decided_until));
        next.missed_runs += missed(verdict);
        let wanted = refusal.is_none() && !verdict.suspended;
        next.next_schedule_time = verdict.following.filter(|_| wanted).map(time);
        if let (Decision::Started, Some(due)) = (&verdict.decision, verdict.due) {
            next.last_schedule_time = Some(time(due.latest));
        }
    }
    let active = unfinished.iter().rev().take(ACTIVE);
    next.active = active.map(ToString::to_string).collect();
    next.active.reverse();
    results(s, &mut next);
    let (standing, reason, message) = standing(verdict, refusal, &next);
    let was = previous.conditions.iter().find(|c| c.type_ == READY);
    let stalled = standing == Standing::Stalled;
    let mut notes = Vec::new();
    if stalled && was.is_none_or(|c| c.message != message) {
        notes.push(Note {
            target: target(name, s),
            warning: true,
            reason,
            message: message.clone(),
        });
    }
    let list = statements(&standing, reason, &message, s.unsupported.sentence());
    let generation = s.identity.generation;
    next.conditions = conditions::merge(&previous.conditions, &list, generation, &time(now));
    plan.tell(target(name, s), previous, &next, false, notes);
}

/// How the latest run ended, if one has ended since.
fn results(s: &ScheduleState, next: &mut ScheduledTaskStatus) {
    let ended = |r: &crate::world::RunState| r.status.completion_time.as_ref().map(|t| t.0);
    let good = s.runs.values().filter(|r| succeeded(r)).filter_map(ended);
    let before = next.last_successful_time.as_ref().map(|t| t.0);
    next.last_successful_time = good.chain(before).max().map(time);
    let latest = s.runs.iter().filter_map(|(n, r)| Some((ended(r)?, n, r)));
    let Some((at, name, run)) = latest.max_by_key(|(at, n, _)| (*at, (*n).clone())) else {
        return;
    };
    if next.last_completion_time.as_ref().is_none_or(|t| t.0 <= at) {
        next.last_completion_time = Some(time(at));
        let how = run.status.message.as_deref().unwrap_or("ended");
        next.last_result = Some(format!("{name}: {how}"));
    }
}

fn standing(
    verdict: Option<&Verdict>,
    refusal: Option<(&'static str, String)>,
    next: &ScheduledTaskStatus,
) -> (Standing, &'static str, String) {
    if let Some((reason, message)) = refusal {
        return (Standing::Stalled, reason, message);
    }
    let waits = verdict.and_then(|v| match &v.decision {
        Decision::Waits(run) => Some(format!(
            "RunTask {run} is there already and is not of this schedule; its run starts once that is deleted"
        )),
        Decision::Replaces(run) => Some(format!(
            "A run is due, and starts once run {run} has stopped (`spec.concurrencyPolicy: Replace`)"
        )),
        Decision::Nothing
        | Decision::Started
        | Decision::Starts(_)
        | Decision::LeftOut(_)
        | Decision::PassedOver
        | Decision::TooLate => None,
    });
    let mut message = match &next.next_schedule_time {
        Some(at) => format!("The next run is due at {}.", at.0),
        None => "No further run is due.".to_owned(),
    };
    if verdict.is_some_and(|v| v.suspended) {
        let text = "No run starts while `spec.suspend` is true; what falls due is passed over.";
        return (Standing::Ready, "Suspended", text.to_owned());
    }
    if let Some(why) = waits {
        message = format!("{why}. {message}");
    }
    (Standing::Ready, "Scheduled", message)
}
