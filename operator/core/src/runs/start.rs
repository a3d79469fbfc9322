//! Starting copies of a run: a host for each, and the Task, or why there is none.

use std::collections::BTreeSet;
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use tallyman_crds::{
    DesiredStatus, Failure, LastStatus, RunTaskCopy, StopCode, Task, TaskSpec, labels, names,
};

use super::copies::{Copy, State, retries};
use super::report::Progress;
use super::{NO_HOSTS, target};
use crate::gather::demand_of;
use crate::names::{Group, InstanceName, RevisionName, RunTaskName, TaskName};
use crate::placement::{self, Ledger, Request, Unplaceable};
use crate::plan::{Action, Note, Plan};
use crate::problem;
use crate::services::{self, time};
use crate::tags;
use crate::world::{Revision, RunState, World};

/// Entries of `status.failures`, as the schema bounds them.
const FAILURES: usize = 100;

#[expect(
    clippy::too_many_arguments,
    reason = "one call, and each argument is a thing of its own"
)]
pub(super) fn start(
    world: &World,
    name: &RunTaskName,
    run: &RunState,
    copies: &mut [Copy<'_>],
    progress: &mut Progress,
    ledger: &mut Ledger,
    left: &mut usize,
    now: Timestamp,
    plan: &mut Plan,
) {
    let again: BTreeSet<u32> = retries(copies, run)
        .into_iter()
        .filter(|r| r.at <= now)
        .map(|r| r.index)
        .collect();
    let mut started = Vec::new();
    for copy in copies.iter_mut() {
        let wanted = match &copy.state {
            State::Untried => true,
            State::Failed(_) => again.contains(&copy.index),
            State::Active { .. } | State::Starting(_) | State::Succeeded(_) => false,
        };
        if !wanted || *left == 0 {
            continue;
        }
        let task = TaskName::from(names::run_task(name.as_str(), copy.next_number(run)));
        let revision = match startable(world, run, &task) {
            Ok(revision) => revision,
            Err(why) => {
                copy.state = State::Failed(not_started(&task, why, now));
                copy.tries += 1;
                continue;
            }
        };
        match place(run, copy.index, &task, revision.1, ledger, progress) {
            Ok(host) => {
                *left -= 1;
                let object = run_task(world, name, run, &task, revision, &host);
                plan.actions.push(Action::CreateTask(Box::new(object)));
                copy.state = State::Starting(before(&copy.state));
                copy.tries += 1;
                started.push(task);
            }
            Err(_) if run.waits_for_capacity => progress.waiting += 1,
            Err(why) => {
                let reason = why.closest().map_or(NO_HOSTS, |(_, r)| r.ecs_reason());
                let text = format!("TaskFailedToStart: {reason}. {}", why.sentence());
                copy.state = State::Failed(not_started(&task, text, now));
                copy.tries += 1;
            }
        }
    }
    if !started.is_empty() {
        plan.notes.push(Note {
            target: target(name, run),
            warning: false,
            reason: "TasksStarted",
            message: format!(
                "(run {name}) has started {} tasks: {}",
                started.len(),
                services::list(&started)
            ),
        });
    }
}

/// What a copy is to be started of, unless somebody took its revision or its name away since.
fn startable<'w>(
    world: &'w World,
    run: &RunState,
    task: &TaskName,
) -> Result<(&'w RevisionName, &'w Revision), String> {
    if world.tasks.contains_key(task) {
        return Err(format!(
            "Task {task} is there already and is not of this run"
        ));
    }
    let name = run.revision.as_ref();
    let found = name.and_then(|r| world.revisions.get_key_value(r));
    let (name, revision) =
        found.ok_or("The revision that the run was taken on with was removed")?;
    match &revision.definition {
        Ok(_) => Ok((name, revision)),
        // The policy of the cluster was changed since.
        Err(problems) => Err(problem::sentence(problems)),
    }
}

/// What is recorded of a copy's last try.
fn before(state: &State<'_>) -> Option<RunTaskCopy> {
    match state {
        State::Failed(record) | State::Succeeded(record) => Some(record.clone()),
        State::Starting(record) => record.clone(),
        State::Untried | State::Active { .. } => None,
    }
}

/// The one place where runs ask for a host: the one that the copy's is, or whichever. The same demand meets the same refusals: who
/// was refused by all hosts once in a pass is not asked again.
fn place(
    run: &RunState,
    index: u32,
    task: &TaskName,
    revision: &Revision,
    ledger: &mut Ledger,
    progress: &mut Progress,
) -> Result<InstanceName, Unplaceable> {
    let request = || request(run, task, revision);
    let named = usize::try_from(index).ok().and_then(|i| run.hosts.get(i));
    if let Some(host) = named {
        return match ledger.place_on(host, &request()) {
            Ok(()) => Ok(host.clone()),
            Err(why) => {
                let all = progress.unplaceable.get_or_insert_with(|| why.clone());
                Arc::make_mut(&mut all.refusals).extend((*why.refusals).clone());
                Err(why)
            }
        };
    }
    if let Some(why) = &progress.unplaceable {
        return Err(why.clone());
    }
    let placed = ledger.place(&request());
    progress.unplaceable = placed.as_ref().err().cloned();
    placed
}

/// What a copy asks of a host.
pub(crate) fn request(run: &RunState, task: &TaskName, revision: &Revision) -> Request {
    let definition = revision.definition.as_ref();
    Request {
        demand: demand_of(revision, run.object.spec.overrides.as_ref()),
        rules: run
            .rules
            .clone()
            .with(definition.map_or(&[][..], |d| &d.member_of)),
        group: group(run, revision),
        seed: placement::seed(&[&run.identity.uid, task.as_str()]),
    }
}

/// The task group: its own, or that of its family.
fn group(run: &RunState, revision: &Revision) -> Group {
    let own = run.object.spec.group.as_deref().filter(|g| !g.is_empty());
    own.map_or_else(|| Group::of_family(&revision.family), Group::from)
}

/// The record of a task that was never made.
fn not_started(task: &TaskName, reason: String, now: Timestamp) -> RunTaskCopy {
    RunTaskCopy {
        name: task.to_string(),
        last_status: LastStatus::Stopped,
        stop_code: Some(StopCode::TaskFailedToStart),
        stopped_reason: Some(reason),
        stopped_at: Some(time(now)),
        ..RunTaskCopy::default()
    }
}

/// One entry for every host that was asked (ECS RunTask `failures`).
pub(super) fn failures(why: &Unplaceable) -> Vec<Failure> {
    if why.refusals.is_empty() {
        return vec![Failure {
            arn: None,
            reason: NO_HOSTS.to_owned(),
            detail: Some("No Container Instances were found in your cluster.".to_owned()),
        }];
    }
    let hosts = why.refusals.iter().take(FAILURES);
    hosts
        .map(|(host, refusal)| {
            let alone = Unplaceable {
                demand: why.demand.clone(),
                group: why.group.clone(),
                refusals: Arc::new([(host.clone(), refusal.clone())].into()),
            };
            Failure {
                arn: Some(host.to_string()),
                reason: refusal.ecs_reason().to_owned(),
                detail: Some(alone.sentence()),
            }
        })
        .collect()
}

fn run_task(
    world: &World,
    name: &RunTaskName,
    run: &RunState,
    task: &TaskName,
    (revision_name, revision): (&RevisionName, &Revision),
    host: &InstanceName,
) -> Task {
    let spec = &run.object.spec;
    let labels = [
        (labels::RUN_TASK, name.to_string()),
        (labels::CLUSTER, world.cluster.clone()),
        (labels::REVISION, revision_name.to_string()),
        (labels::CONTAINER_INSTANCE, host.to_string()),
        (labels::MANAGED_BY, labels::MANAGER.to_owned()),
    ];
    let managed = spec.enable_ecs_managed_tags == Some(true);
    let tags = tags::of_task(tags::Origin {
        own: &spec.tags,
        propagate: spec.propagate_tags,
        definition: &revision.object.spec.definition.tags,
        service: &[],
        managed: managed.then_some((world.cluster.as_str(), None)),
    });
    Task {
        metadata: ObjectMeta {
            name: Some(task.to_string()),
            namespace: Some(world.namespace.clone()),
            labels: Some(labels.map(|(k, v)| (k.to_owned(), v)).into()),
            finalizers: Some(vec![labels::STOP_FINALIZER.to_owned()]),
            owner_references: Some(vec![target(name, run).as_owner()]),
            ..ObjectMeta::default()
        },
        spec: TaskSpec {
            cluster: Some(world.cluster.clone()),
            task_definition: revision.ecs_name(),
            container_instance: Some(host.to_string()),
            group: Some(group(run, revision).to_string()),
            started_by: spec.started_by.clone(),
            reference_id: spec.reference_id.clone(),
            overrides: spec.overrides.clone(),
            tags,
            desired_status: DesiredStatus::Running,
            ..TaskSpec::default()
        },
        status: None,
    }
}
