//! Runs and schedules at the door.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1 as k8s_meta;
use tallyman_crds::{RunTask, ScheduledTask, labels};

use super::{identity, label};
use crate::names::{InstanceName, RevisionName, RunTaskName, ScheduledTaskName};
use crate::placement::Rules;
use crate::plan::Kind;
use crate::problem::Problem;
use crate::schedules::expression::Schedule;
use crate::tags;
use crate::unsupported;
use crate::world::{DueTime, RunState, ScheduleState};

/// A number of seconds that a user gave; what is below 0 is told, and counts as none.
fn seconds(given: Option<i32>) -> Option<SignedDuration> {
    given
        .filter(|s| *s >= 0)
        .map(|s| SignedDuration::from_secs(i64::from(s)))
}

pub(crate) fn run(r: &Arc<RunTask>) -> RunState {
    let spec = &r.spec;
    let mut problems = Vec::new();
    let mut number = |field: &str, given: i32, least: i32, most: i32| {
        if given < least || given > most {
            problems.push(Problem::new(
                field,
                format!("must be {least} to {most}, not {given}"),
            ));
        }
        u32::try_from(given.clamp(least, most)).unwrap_or_default()
    };
    let hosts: Vec<_> = spec
        .container_instances
        .iter()
        .map(|host| InstanceName::from(host.as_str()))
        .collect();
    let named = i32::try_from(hosts.len()).unwrap_or(i32::MAX);
    let count = match named {
        0 => number("spec.count", spec.count.unwrap_or(1), 1, 10),
        named => number("spec.containerInstances", named, 1, 10),
    };
    let backoff_limit = number("spec.backoffLimit", spec.backoff_limit.unwrap_or(0), 0, 100);
    let wanted = spec.active_deadline_seconds;
    number(
        "spec.activeDeadlineSeconds",
        wanted.unwrap_or(1),
        1,
        i32::MAX,
    );
    let kept = spec.ttl_seconds_after_finished;
    number(
        "spec.ttlSecondsAfterFinished",
        kept.unwrap_or(0),
        0,
        i32::MAX,
    );
    let rules = Rules::parse(
        "spec",
        &spec.placement_constraints,
        &spec.placement_strategy,
    );
    let rules = rules.unwrap_or_else(|found| {
        problems.extend(found);
        Rules::default()
    });
    problems.extend(tags::problems("spec.tags", &spec.tags));
    RunState {
        identity: identity(&r.metadata),
        object: r.clone(),
        status: r.status.clone().unwrap_or_default(),
        created_at: r.metadata.creation_timestamp.as_ref().map(|t| t.0),
        count,
        hosts,
        backoff_limit,
        deadline: seconds(wanted),
        keep_for: seconds(kept),
        waits_for_capacity: spec.wait_for_capacity.unwrap_or(false),
        rules,
        revision: label(&r.metadata, labels::REVISION).map(RevisionName::from),
        due: due_time(&r.metadata),
        unsupported: unsupported::of_run(spec),
        problems,
    }
}

/// The due time that a RunTask was made for, if a schedule made it.
fn due_time(meta: &k8s_meta::ObjectMeta) -> Option<DueTime> {
    let kind = Kind::ScheduledTask.as_str();
    let mut owners = meta.owner_references.iter().flatten();
    let owner = owners.find(|o| o.kind == kind && o.controller == Some(true))?;
    let at = meta.annotations.as_ref()?.get(labels::SCHEDULED_TIME)?;
    Some(DueTime {
        schedule_uid: owner.uid.clone(),
        schedule: ScheduledTaskName::from(owner.name.as_str()),
        at: at.parse().ok()?,
    })
}

pub(crate) fn schedule(
    s: &Arc<ScheduledTask>,
    name: &ScheduledTaskName,
    runs: &BTreeMap<RunTaskName, RunState>,
) -> ScheduleState {
    let identity = identity(&s.metadata);
    let created = s.metadata.creation_timestamp.as_ref();
    let created = created.map_or(Timestamp::UNIX_EPOCH, |t| t.0);
    let template = &s.spec.run_task;
    let mut problems = Vec::new();
    if template.client_token.is_some() {
        problems.push(Problem::new(
            "spec.runTask.clientToken",
            "must be absent: a token stands for one run, and a schedule makes many",
        ));
    }
    let rules = Rules::parse(
        "spec.runTask",
        &template.placement_constraints,
        &template.placement_strategy,
    );
    problems.extend(rules.err().into_iter().flatten());
    problems.extend(tags::problems("spec.runTask.tags", &template.tags));
    let schedule = match Schedule::parse(&s.spec, created) {
        Ok(schedule) if problems.is_empty() => Ok(schedule),
        Ok(_) => Err(problems),
        Err(mut found) => {
            found.extend(problems);
            Err(found)
        }
    };
    let is_of = |r: &RunState| {
        let due = r.due.as_ref();
        due.is_some_and(|d| d.schedule_uid == identity.uid)
    };
    let prefix = format!("{name}-");
    let (own, others): (BTreeMap<_, _>, BTreeMap<_, _>) = runs
        .range(RunTaskName::from(prefix.as_str())..)
        .take_while(|(run, _)| run.as_str().starts_with(&prefix))
        .map(|(run, r)| (run.clone(), r.clone()))
        .partition(|(_, r)| is_of(r));
    ScheduleState {
        identity: identity.clone(),
        object: s.clone(),
        status: s.status.clone().unwrap_or_default(),
        schedule,
        unsupported: unsupported::of_schedule(&s.spec),
        runs: own,
        taken: others.into_keys().collect(),
    }
}
