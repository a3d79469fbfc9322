//! What the operator would do with objects: its own core decides, and what it decides is carried out on copies of them in
//! memory, until it wants nothing more. It supposes that tasks that start run well and that tasks that stop are gone at once.
//!
//! Nothing is decided here. Hosts are as they are now: none comes, goes or changes meanwhile.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tallyman_crds::{DesiredStatus, HealthStatus, LastStatus, StopCode, Task, TaskStatus};
use tallyman_operator_core::{Action, Kind, Memory, Objects, Plan, Publication};

use crate::session::settings;

/// How far ahead is looked, in time and in passes: a rollout that bakes, or more tasks than a minute may start.
const HORIZON: SignedDuration = SignedDuration::from_mins(60);
const PASSES: usize = 500;

/// The objects once the operator has nothing more to do about them.
pub fn settle(mut objects: Objects, namespace: &str, now: Timestamp) -> Objects {
    // Runs of schedules come by themselves, whatever somebody applies.
    objects.scheduled_tasks = Vec::new();
    objects
        .tasks
        .iter_mut()
        .for_each(|t| starts_well(Arc::make_mut(t), now));
    let mut at = now;
    for _ in 0..PASSES {
        let plans = Memory::new(namespace, &settings(), 0).pass_over(&objects, at);
        let mut moved = false;
        for plan in &plans {
            moved |= carry_out(plan, &mut objects, at);
        }
        if moved {
            continue;
        }
        let next = plans
            .iter()
            .filter_map(|p| p.wake_at)
            .filter(|w| *w > at)
            .min();
        match next {
            Some(next) if next.duration_since(now) <= HORIZON => at = next,
            Some(_) | None => break,
        }
    }
    objects
}

/// A task that is on its way is there.
fn starts_well(task: &mut Task, now: Timestamp) {
    let wanted = task.spec.desired_status == DesiredStatus::Running
        && task.metadata.deletion_timestamp.is_none();
    let placed = task.spec.container_instance.clone();
    let status = task.status.get_or_insert_with(TaskStatus::default);
    let placed = placed.or_else(|| status.container_instance.clone());
    if wanted && placed.is_some() && status.last_status < LastStatus::Running {
        status.container_instance = placed;
        status.last_status = LastStatus::Running;
        status.accepted_at.get_or_insert(Time(now));
        status.started_at.get_or_insert(Time(now));
        status.health_status = HealthStatus::Healthy;
    } else if wanted
        && status.last_status == LastStatus::Running
        && status.health_status == HealthStatus::Unknown
    {
        status.health_status = HealthStatus::Healthy;
    } else if !wanted && status.last_status != LastStatus::Stopped {
        status.last_status = LastStatus::Stopped;
        status.stopped_at.get_or_insert(Time(now));
    }
}

/// Carries a plan out; says whether that changed anything.
fn carry_out(plan: &Plan, objects: &mut Objects, now: Timestamp) -> bool {
    let mut moved = false;
    for action in &plan.actions {
        moved |= act(action, objects, now);
    }
    for publication in &plan.publications {
        moved |= publish(publication, objects);
    }
    moved
}

fn act(action: &Action, objects: &mut Objects, now: Timestamp) -> bool {
    match action {
        Action::CreateRevision(revision) => {
            let mut revision = (**revision).clone();
            born(&mut revision.metadata, now);
            add(&mut objects.revisions, revision)
        }
        Action::CreateTask(task) => {
            let mut task = (**task).clone();
            born(&mut task.metadata, now);
            starts_well(&mut task, now);
            add(&mut objects.tasks, task)
        }
        Action::StopTask {
            task, code, reason, ..
        } => change(&mut objects.tasks, &task.name, |t| {
            t.spec.desired_status = DesiredStatus::Stopped;
            t.spec.stop_code = Some(*code);
            t.spec.stopped_reason = Some(reason.clone());
            stop(t, *code, reason, now);
        }),
        Action::WriteTaskStatus { task, patch } => change(&mut objects.tasks, &task.name, |t| {
            t.status = merged(t.status.as_ref(), patch).or_else(|| t.status.clone());
            starts_well(t, now);
        }),
        Action::Delete(target) => match target.kind {
            Kind::Task => remove(&mut objects.tasks, &target.name),
            Kind::RunTask => remove(&mut objects.run_tasks, &target.name),
            Kind::TaskSet => remove(&mut objects.task_sets, &target.name),
            _ => false,
        },
        Action::AddFinalizer {
            target,
            finalizer,
            label,
        } => edit(objects, target.kind, &target.name, |meta| {
            meta.finalizers
                .get_or_insert_default()
                .push((*finalizer).to_owned());
            if let Some((key, value)) = label {
                meta.labels
                    .get_or_insert_default()
                    .insert((*key).to_owned(), value.clone());
            }
        }),
        Action::RemoveFinalizer { target, finalizer } => {
            let done = edit(objects, target.kind, &target.name, |meta| {
                meta.finalizers
                    .get_or_insert_default()
                    .retain(|f| f != finalizer);
            });
            bury(objects);
            done
        }
        // What reaches hosts, and what schedules make, changes nothing of what is asked here.
        Action::CreateCluster(_)
        | Action::CreateRunTask(_)
        | Action::PrepareHost { .. }
        | Action::Supply { .. }
        | Action::WriteHostPlan { .. } => false,
    }
}

fn publish(publication: &Publication, objects: &mut Objects) -> bool {
    let (name, patch) = (&publication.target.name, &publication.patch);
    macro_rules! merge_into {
        ($list:expr) => {
            change(&mut $list, name, |o| {
                o.status = merged(o.status.as_ref(), patch).or_else(|| o.status.clone());
            })
        };
    }
    match publication.target.kind {
        Kind::TaskDefinition => merge_into!(objects.task_definitions),
        Kind::TaskDefinitionRevision => merge_into!(objects.revisions),
        Kind::Service => merge_into!(objects.services),
        Kind::RunTask => merge_into!(objects.run_tasks),
        Kind::TaskSet => merge_into!(objects.task_sets),
        Kind::Cluster
        | Kind::Task
        | Kind::ScheduledTask
        | Kind::ContainerInstance
        | Kind::HostPlan
        | Kind::Secret => false,
    }
}

/// Gives an object what the server would.
fn born(meta: &mut ObjectMeta, now: Timestamp) {
    meta.uid = Some(format!(
        "foreseen-{}",
        meta.name.as_deref().unwrap_or_default()
    ));
    meta.resource_version = Some("0".to_owned());
    meta.generation = Some(1);
    meta.creation_timestamp = Some(Time(now));
}

fn stop(task: &mut Task, code: StopCode, reason: &str, now: Timestamp) {
    let status = task.status.get_or_insert_with(TaskStatus::default);
    status.last_status = LastStatus::Stopped;
    status.stop_code.get_or_insert(code);
    status
        .stopped_reason
        .get_or_insert_with(|| reason.to_owned());
    status.stopped_at.get_or_insert(Time(now));
    status.removed_at.get_or_insert(Time(now));
}

fn add<K: kube::ResourceExt>(list: &mut Vec<Arc<K>>, object: K) -> bool {
    let is_there = list.iter().any(|o| o.meta().name == object.meta().name);
    if !is_there {
        list.push(Arc::new(object));
    }
    !is_there
}

fn change<K: kube::ResourceExt + Clone>(
    list: &mut [Arc<K>],
    name: &str,
    how: impl FnOnce(&mut K),
) -> bool {
    let found = list
        .iter_mut()
        .find(|o| o.meta().name.as_deref() == Some(name));
    found.map(|o| how(Arc::make_mut(o))).is_some()
}

fn remove<K: kube::ResourceExt>(list: &mut Vec<Arc<K>>, name: &str) -> bool {
    let before = list.len();
    list.retain(|o| o.meta().name.as_deref() != Some(name));
    list.len() < before
}

fn edit(objects: &mut Objects, kind: Kind, name: &str, how: impl FnOnce(&mut ObjectMeta)) -> bool {
    match kind {
        Kind::Cluster => change(&mut objects.clusters, name, |o| how(&mut o.metadata)),
        Kind::TaskDefinition => {
            change(
                &mut objects.task_definitions,
                name,
                |o| how(&mut o.metadata),
            )
        }
        Kind::TaskDefinitionRevision => {
            change(&mut objects.revisions, name, |o| how(&mut o.metadata))
        }
        Kind::Service => change(&mut objects.services, name, |o| how(&mut o.metadata)),
        Kind::Task => change(&mut objects.tasks, name, |o| how(&mut o.metadata)),
        Kind::RunTask => change(&mut objects.run_tasks, name, |o| how(&mut o.metadata)),
        Kind::TaskSet => change(&mut objects.task_sets, name, |o| how(&mut o.metadata)),
        // Hosts stay as they are.
        Kind::ScheduledTask | Kind::ContainerInstance | Kind::HostPlan | Kind::Secret => false,
    }
}

/// Objects that are being deleted go with their last finalizer.
fn bury(objects: &mut Objects) {
    fn of<K: kube::ResourceExt>(list: &mut Vec<Arc<K>>) {
        list.retain(|o| o.meta().deletion_timestamp.is_none() || !o.finalizers().is_empty());
    }
    of(&mut objects.tasks);
    of(&mut objects.services);
    of(&mut objects.run_tasks);
    of(&mut objects.task_sets);
    of(&mut objects.revisions);
}

/// A status with a merge patch (RFC 7386) in it, if it still is one.
fn merged<S: Serialize + DeserializeOwned>(status: Option<&S>, patch: &Value) -> Option<S> {
    let mut value = status
        .and_then(|s| serde_json::to_value(s).ok())
        .unwrap_or_else(|| json!({}));
    merge(&mut value, patch);
    serde_json::from_value(value).ok()
}

fn merge(into: &mut Value, patch: &Value) {
    let Value::Object(changes) = patch else {
        *into = patch.clone();
        return;
    };
    if !into.is_object() {
        *into = json!({});
    }
    let Value::Object(fields) = into else { return };
    for (key, change) in changes {
        if change.is_null() {
            fields.remove(key);
        } else {
            merge(fields.entry(key.clone()).or_insert(Value::Null), change);
        }
    }
}
