//! The plan of each host, derived from the tasks that are assigned to it. Tasks are the truth; this is their copy.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use tallyman_crds::{
    DesiredStatus, HostPlanSpec, HostReport, LastStatus, PlannedDefinition, PlannedTask, StopCode,
    TaskPolicy, labels,
};

use crate::names::{InstanceName, RevisionName, TaskName};
use crate::plan::{Action, Kind, Plan, Target, merge_patch};
use crate::status::json;
use crate::supplies;
use crate::tags;
use crate::world::{InstanceState, Revision, TaskState, World};

/// How long the tasks of services wait for the daemons of a host on which nothing of them runs yet.
const HEAD_START: SignedDuration = SignedDuration::from_secs(30);

/// Entries of tasks that are over may linger for this long, however many they are: those of one scale-in go in one write.
const LINGER: SignedDuration = SignedDuration::from_secs(5);

/// Makes the mailbox of a host if it is missing, and writes its plan if it is not what the tasks say.
pub(crate) fn plan_one(
    world: &World,
    name: &InstanceName,
    instance: &InstanceState,
    now: Timestamp,
    plan: &mut Plan,
) {
    let daemons_until = head_start(world, name, now);
    daemons_until.into_iter().for_each(|at| plan.wake(at));
    // What the agent holds already: it refuses anything older, so a plan that was lost, or came back from a backup,
    // goes on from there.
    let host = instance.host.as_ref();
    let held = host.map_or(0, |h| h.applied_plan_generation);
    let Some(current) = world.plans.get(name) else {
        if !instance.identity.deleting {
            plan.actions.push(Action::PrepareHost {
                instance: Target::new(Kind::ContainerInstance, name, &instance.identity),
                plan: Box::new(spec(
                    world,
                    instance,
                    held.saturating_add(1),
                    Wanted::default(),
                )),
            });
        }
        return;
    };
    let target = || Target::new(Kind::HostPlan, name, &current.identity);
    if current.spec.leader_epoch > world.leader_epoch {
        // A newer leader wrote it: this one is deposed and has no say.
    } else if current.spec.container_instance_uid != instance.identity.uid {
        // Of a host of the same name that was deregistered: its owner is gone, and it goes with it. Writing on it
        // would lose the new host's generations with it.
        plan.actions.push(Action::Delete(target()));
    } else {
        let wanted = derive(world, name, instance, daemons_until.is_some());
        let (live, over) = live_and_over(&current.spec, &wanted);
        let goes_at = goes_at(world, name, live.len(), &over, now);
        let same = says(&current.spec, &live, &over, &wanted)
            && goes_at.is_none_or(|at| now < at)
            && current.spec.cluster == world.cluster
            && current.spec.container_instance_tags == tags::by_key(&instance.object.spec.tags)
            && current.spec.task_policy.as_ref() == policy(world)
            && current.spec.stop_forgotten == stops_forgotten(instance)
            && reaches(&current.spec, host, world.leader_epoch);
        if same {
            goes_at.into_iter().for_each(|at| plan.wake(at));
        } else {
            let generation = current.spec.generation.max(held).saturating_add(1);
            let next = spec(world, instance, generation, wanted);
            let patch = merge_patch(&json(&current.spec), &json(&next)).unwrap_or_default();
            plan.actions.push(Action::WriteHostPlan {
                plan: target(),
                spec: Box::new(next),
                patch,
            });
        }
    }
}

/// True when the host takes `current`, or would not take it from this leader in any case: then another number is due
/// ([`crate::leadership`]), and no other plan.
fn reaches(current: &HostPlanSpec, host: Option<&HostReport>, own: i64) -> bool {
    let Some(host) = host else { return true };
    // An agent that does not tell says 0.
    let epoch = match host.applied_plan_epoch {
        0 => current.leader_epoch,
        told => told,
    };
    epoch > own
        || (current.leader_epoch, current.generation) >= (epoch, host.applied_plan_generation)
}

/// Somebody decided that what still runs of forgotten tasks is to be stopped.
fn stops_forgotten(instance: &InstanceState) -> bool {
    let annotations = instance.object.metadata.annotations.as_ref();
    annotations
        .and_then(|all| all.get(labels::STOP_FORGOTTEN))
        .is_some_and(|value| value == "true")
}

/// What a plan is to say, not copied yet: most plans say it already.
#[derive(Default)]
struct Wanted<'w> {
    definitions: BTreeMap<&'w RevisionName, &'w Revision>,
    tasks: Vec<PlannedTask>,
}

fn spec(
    world: &World,
    instance: &InstanceState,
    generation: i64,
    wanted: Wanted<'_>,
) -> HostPlanSpec {
    let definitions = wanted.definitions.into_iter().map(|(name, revision)| {
        let planned = PlannedDefinition {
            family: revision.family.to_string(),
            revision: revision.number,
            definition: revision.object.spec.definition.clone(),
        };
        (name.to_string(), planned)
    });
    HostPlanSpec {
        generation,
        leader_epoch: world.leader_epoch,
        cluster: world.cluster.clone(),
        container_instance_uid: instance.identity.uid.clone(),
        container_instance_tags: tags::by_key(&instance.object.spec.tags),
        task_policy: policy(world).cloned(),
        stop_forgotten: stops_forgotten(instance),
        definitions: definitions.collect(),
        tasks: wanted.tasks,
    }
}

fn policy(world: &World) -> Option<&TaskPolicy> {
    world.cluster_object.as_ref()?.spec.task_policy.as_ref()
}

/// Entries that are wanted, and those of tasks that are over.
fn live_and_over<'c>(
    current: &'c HostPlanSpec,
    wanted: &Wanted<'_>,
) -> (Vec<&'c PlannedTask>, Vec<&'c PlannedTask>) {
    let uids: BTreeSet<&str> = wanted.tasks.iter().map(|t| t.uid.as_str()).collect();
    let entries = current.tasks.iter();
    entries.partition(|t| uids.contains(t.uid.as_str()))
}

/// When what is `over` goes at the latest; nothing while that may wait for the next write of the plan. Entries of tasks that are
/// over ask for nothing. They linger while they are fewer than the others, and while all of them are fresh ([`LINGER`]): so
/// fifty tasks that stop one by one cost a few writes and not fifty.
fn goes_at(
    world: &World,
    host: &InstanceName,
    live: usize,
    over: &[&PlannedTask],
    now: Timestamp,
) -> Option<Timestamp> {
    if over.is_empty() || over.len() < live {
        return None;
    }
    let over: BTreeSet<&str> = over.iter().map(|entry| entry.uid.as_str()).collect();
    let here = world.tasks_on(host).map(|(_, t)| t);
    let stopped: Vec<Timestamp> = here
        .filter(|t| over.contains(t.identity.uid.as_str()))
        .filter_map(|t| t.stopped_at)
        .collect();
    // Of a task that is gone nothing tells how long it is over, and no clock says that one will stop.
    let known = stopped.len() == over.len();
    let first = stopped.into_iter().min().filter(|at| known && *at <= now);
    Some(first.map_or(now, |at| at.checked_add(LINGER).unwrap_or(now)))
}

/// True when `current`, whose entries these are, says what `wanted` says; what is `over` may linger if it asks for nothing.
fn says(
    current: &HostPlanSpec,
    live: &[&PlannedTask],
    over: &[&PlannedTask],
    wanted: &Wanted<'_>,
) -> bool {
    let asks_for_nothing = over
        .iter()
        .all(|t| t.desired_status == DesiredStatus::Stopped);
    let definitions = wanted.definitions.iter().all(|(name, revision)| {
        current.definitions.get(name.as_str()).is_some_and(|d| {
            d.family == revision.family.as_str()
                && d.revision == revision.number
                && d.definition == revision.object.spec.definition
        })
    });
    asks_for_nothing && definitions && live.iter().copied().eq(&wanted.tasks)
}

/// True for a task that its host must know of: it is not STOPPED, or its containers are still to be removed.
pub(crate) fn belongs(world: &World, task: &TaskState) -> bool {
    let over = task.last == LastStatus::Stopped;
    admitted(task) && (!over || (!task.removed && to_remove(world, task)))
}

/// Tasks that are over, and of which `host` is still to remove containers: none once it can be told nothing more.
pub(crate) fn left_behind(world: &World, host: &InstanceName) -> usize {
    if !world.plans.contains_key(host) {
        return 0;
    }
    let here = world.tasks_on(host);
    here.filter(|(_, t)| t.last == LastStatus::Stopped && belongs(world, t))
        .count()
}

/// The task was placed by the operator: one that it made at creation, a user's by its status.
fn admitted(task: &TaskState) -> bool {
    let finalizer = task.identity.finalizers.contains(labels::STOP_FINALIZER);
    let bound = task
        .object
        .status
        .as_ref()
        .is_some_and(|s| s.container_instance.is_some());
    finalizer && task.instance.is_some() && (task.is_made_by_us() || bound)
}

/// Its containers are to be removed once it is STOPPED: it is being deleted, was given up with its host, or its host leaves.
fn to_remove(world: &World, task: &TaskState) -> bool {
    task.identity.deleting
        || task.stop_code == Some(StopCode::InfrastructureHealth)
        || world.host_leaves(task)
}

/// Until when the daemons of a host are ahead: what collects logs is there before what writes them. Only where no task of
/// another service runs yet, and not for longer than [`HEAD_START`]: a daemon that does not start holds nothing up.
fn head_start(world: &World, host: &InstanceName, now: Timestamp) -> Option<Timestamp> {
    let here = || world.tasks_on(host).filter(|(_, t)| t.holds());
    if here().any(|(_, t)| !world.is_of_daemon(t) && t.last >= LastStatus::Running) {
        return None;
    }
    here()
        .filter(|(_, t)| world.is_of_daemon(t) && !t.leaving() && t.last < LastStatus::Running)
        .filter_map(|(_, t)| t.created_at?.checked_add(HEAD_START).ok())
        .filter(|until| *until > now)
        .max()
}

fn derive<'w>(
    world: &'w World,
    name: &InstanceName,
    instance: &InstanceState,
    daemons_first: bool,
) -> Wanted<'w> {
    let mut wanted = Wanted::default();
    let current = world.plans.get(name).into_iter();
    let told: BTreeSet<&str> = current
        .flat_map(|p| &p.spec.tasks)
        .map(|e| e.uid.as_str())
        .collect();
    let known = |t: &TaskState| told.contains(t.identity.uid.as_str());
    for (task_name, t) in world.tasks_on(name).filter(|(_, t)| belongs(world, t)) {
        let waits = daemons_first && t.service.is_some() && !world.is_of_daemon(t);
        // What an agent was told of it is told on, whatever became of the values since.
        if (waits || !supplies::supplied(world, instance, t)) && !known(t) {
            continue;
        }
        let Some((revision_name, revision)) = t
            .revision
            .as_ref()
            .and_then(|r| world.revisions.get_key_value(r))
        else {
            // Its revision is gone: nothing can be started of it, but it can still be stopped and removed.
            let planned = planned(world, task_name, t, t.object.spec.task_definition.clone());
            if planned.desired_status == DesiredStatus::Stopped {
                wanted.tasks.push(planned);
            }
            continue;
        };
        wanted.definitions.insert(revision_name, revision);
        wanted
            .tasks
            .push(planned(world, task_name, t, revision_name.to_string()));
    }
    wanted
}

fn planned(world: &World, name: &TaskName, t: &TaskState, definition: String) -> PlannedTask {
    let held_up = |service| world.index.blocked.contains(service);
    let stopping = t.leaving() || t.last == LastStatus::Stopped;
    let (code, reason) = if !stopping {
        (None, None)
    } else if t.last == LastStatus::Stopped {
        // It ended already, and why stays as it was told.
        (
            t.stop_code,
            t.object
                .status
                .as_ref()
                .and_then(|s| s.stopped_reason.clone()),
        )
    } else {
        let (code, reason) = t.order_to_stop();
        (Some(code), Some(reason))
    };
    PlannedTask {
        name: name.to_string(),
        uid: t.identity.uid.clone(),
        definition,
        desired_status: if stopping {
            DesiredStatus::Stopped
        } else {
            DesiredStatus::Running
        },
        generation: t.identity.generation,
        group: t.object.spec.group.clone(),
        stop_code: code,
        stopped_reason: reason,
        overrides: t.object.spec.overrides.clone(),
        images: t
            .object
            .spec
            .container_images
            .iter()
            .map(|image| (image.container_name.clone(), image.image_digest.clone()))
            .collect(),
        tags: tags::by_key(&t.object.spec.tags),
        stop_after: t.object.spec.stop_after,
        remove: to_remove(world, t),
        deployment_blocked: !stopping && t.service.as_ref().is_some_and(held_up),
    }
}
