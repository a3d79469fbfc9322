//! Single tasks: admission of those that users make, the end of those that no agent ends, retention, release.
//! What a service or a run started and stops is theirs (`services`, `runs`).

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use tallyman_crds::{Absence, Connectivity, LastStatus, StopCode, conditions, labels};

use crate::deployments;
use crate::disconnect;
use crate::gather::demand_of;
use crate::guards;
use crate::host_plans;
use crate::instances::Lost;
use crate::names::{DeploymentId, InstanceName, ServiceName, TaskName};
use crate::placement::{self, Ledger, Refusal, Request};
use crate::plan::{Action, Kind, Note, Plan, Target, merge_patch};
use crate::problem::{self, Problem};
use crate::runs;
use crate::services::{self, Unresolved, time};
use crate::status::{self, Standing, statements};
use crate::throttle;
use crate::unsupported;
use crate::world::{Controller, Revision, ServiceState, TaskState, World};

/// Decides for a task.
#[expect(
    clippy::too_many_arguments,
    reason = "one call, and each argument is a thing of its own"
)]
pub(crate) fn plan_one(
    world: &World,
    name: &TaskName,
    t: &TaskState,
    lost: &Lost,
    ledger: &mut Ledger,
    remembered: &mut Remembered,
    now: Timestamp,
    plan: &mut Plan,
) {
    if world.is_in_the_dark(t) {
        return;
    }
    if t.holds() {
        holding(world, lost, ledger, name, t, now, plan);
    } else {
        stopped(world, name, t, remembered, now, plan);
    }
}

fn target(name: &TaskName, t: &TaskState) -> Target {
    Target::new(Kind::Task, name, &t.identity)
}

fn holding(
    world: &World,
    lost: &Lost,
    ledger: &mut Ledger,
    name: &TaskName,
    t: &TaskState,
    now: Timestamp,
    plan: &mut Plan,
) {
    if let Some(reason) = lost.reason(world, t) {
        plan.notes.push(loss(world, name, t, &reason));
        if lost.keeps(world, t) {
            write_host(name, t, Some(disconnect::gone(now)), None, now, plan);
        } else {
            end(name, t, StopCode::InfrastructureHealth, reason, now, plan);
        }
        return;
    }
    let absence = disconnect::return_of(world, t, now);
    let connectivity = disconnect::connectivity_of(world, t, lost.cut_off());
    write_host(name, t, absence, connectivity, now, plan);
    if t.leaving() && !t.accepted && !on_a_host(world, name, t) {
        let (code, reason) = t.order_to_stop();
        end(name, t, code, reason, now, plan);
        return;
    }
    match &t.service {
        Some(service) if !world.services.contains_key(service) && !t.leaving() => {
            let why = format!("Service {service} was deleted");
            plan.stop(name, t, StopCode::ServiceSchedulerInitiated, why);
        }
        Some(_) => {}
        None => match &t.run {
            Some(run) if world.run_of(t).is_none() && !t.leaving() => {
                let why = format!("RunTask {run} was deleted");
                plan.stop(name, t, StopCode::UserInitiated, why);
            }
            Some(_) => {}
            None => admit(world, ledger, name, t, now, plan),
        },
    }
}

/// What is told of a task that is given up. Of all those of a service on a host it is the same, so it is told once.
fn loss(world: &World, name: &TaskName, t: &TaskState, reason: &str) -> Note {
    let service = t.service.as_ref();
    let known = service.and_then(|s| world.services.get_key_value(s));
    let (target, subject) = match known {
        Some((name, s)) => (
            Target::new(Kind::Service, name, &s.identity),
            format!("(service {name})"),
        ),
        None => (target(name, t), format!("(task {name})")),
    };
    let message = format!("{subject} has lost what it had on a host. {reason}.");
    Note {
        target,
        warning: true,
        reason: "TasksLost",
        message,
    }
}

/// Its host's plan lists it, so its agent ends it.
fn on_a_host(world: &World, name: &TaskName, t: &TaskState) -> bool {
    t.instance
        .as_ref()
        .and_then(|i| world.plans.get(i))
        .is_some_and(|p| {
            p.spec
                .tasks
                .iter()
                .any(|e| e.name == name.as_str() && e.uid == t.identity.uid)
        })
}

/// A user's own Task: ECS StartTask when it names a host, RunTask of one when it does not. Neither waits for room.
fn admit(
    world: &World,
    ledger: &mut Ledger,
    name: &TaskName,
    t: &TaskState,
    now: Timestamp,
    plan: &mut Plan,
) {
    let bound = t
        .object
        .status
        .as_ref()
        .is_some_and(|s| s.container_instance.is_some());
    if bound || t.leaving() {
        return;
    }
    let fail = |plan: &mut Plan, reason: String| {
        plan.notes.push(Note {
            target: target(name, t),
            warning: true,
            reason: "TaskFailedToStart",
            message: format!("(task {name}) {reason}"),
        });
        end(name, t, StopCode::TaskFailedToStart, reason, now, plan);
    };
    let unsupported = unsupported::of_task(&t.object.spec);
    if !unsupported.refused.is_empty() {
        return fail(plan, unsupported.sentence().unwrap_or_default());
    }
    let (revision_name, _) =
        match services::resolve(world, &t.object.spec.task_definition, |_| false) {
            Ok(found) => found,
            // Helm and Flux may apply the TaskDefinition a moment later.
            Err(Unresolved::Unsettled(_)) => return,
            Err(Unresolved::NotFound(m)) => return wait_for_definition(name, t, &m, now, plan),
            Err(Unresolved::Inactive(m) | Unresolved::Invalid(m)) => return fail(plan, m),
        };
    // The label keeps the revision when the family moves on.
    let fenced = t.identity.finalizers.contains(labels::STOP_FINALIZER);
    let Some(revision) = t
        .revision
        .as_ref()
        .and_then(|r| world.revisions.get(r))
        .filter(|_| fenced)
    else {
        let chosen = t.revision.as_ref().unwrap_or(&revision_name);
        plan.actions.push(Action::AddFinalizer {
            target: target(name, t),
            finalizer: labels::STOP_FINALIZER,
            label: Some((labels::REVISION, chosen.to_string())),
        });
        return;
    };
    let request = match request(t, revision) {
        Ok(request) => request,
        Err(problems) => return fail(plan, problem::sentence(&problems)),
    };
    let overrides = t.object.spec.overrides.as_ref();
    let wrong = runs::wrong_overrides(overrides, revision);
    if !wrong.is_empty() {
        return fail(plan, problem::sentence(&wrong));
    }
    let given = t
        .object
        .spec
        .container_instance
        .as_deref()
        .map(InstanceName::from);
    let placed = match &given {
        Some(instance) => ledger
            .place_on(instance, &request)
            .map(|()| instance.clone()),
        None => ledger.place(&request),
    };
    match placed {
        Ok(instance) => {
            let mut next = t.object.status.clone().unwrap_or_default();
            next.container_instance = Some(instance.to_string());
            let text = format!("Placed on {instance}; its agent takes the task on next.");
            write_status(
                name,
                t,
                next,
                &Standing::Reconciling,
                "Placed",
                &text,
                now,
                plan,
            );
        }
        Err(why) => {
            let (failure, reason) = match why.closest() {
                Some((i, refusal @ Refusal::Missing)) => (
                    refusal.ecs_reason(),
                    format!(
                        "`spec.containerInstance` names `{i}`, which is not in cluster `{}`",
                        world.cluster
                    ),
                ),
                Some((_, refusal)) => (refusal.ecs_reason(), why.sentence()),
                None => (runs::NO_HOSTS, why.sentence()),
            };
            fail(plan, format!("TaskFailedToStart: {failure}. {reason}"));
        }
    }
}

/// What a user's own task asks of a host.
pub(crate) fn request(t: &TaskState, revision: &Revision) -> Result<Request, Vec<Problem>> {
    let definition = revision.definition.as_ref();
    let mut demand = demand_of(revision, t.object.spec.overrides.as_ref());
    let required = disconnect::required(t.object.spec.stop_after);
    demand.attributes.extend(required);
    Ok(Request {
        demand,
        rules: t
            .rules
            .clone()?
            .with(definition.map_or(&[][..], |d| &d.member_of)),
        group: t.group.clone(),
        seed: placement::seed(&[&t.identity.uid]),
    })
}

fn wait_for_definition(
    name: &TaskName,
    t: &TaskState,
    message: &str,
    now: Timestamp,
    plan: &mut Plan,
) {
    let next = t.object.status.clone().unwrap_or_default();
    write_status(
        name,
        t,
        next,
        &Standing::Reconciling,
        "TaskDefinitionNotFound",
        message,
        now,
        plan,
    );
}

/// Of a container that ran, and of whose end nothing is known.
const UNKNOWN: &str = "Unknown: its host was given up before it told how the container ended";

/// Writes the end of a task that no agent ends.
fn end(
    name: &TaskName,
    t: &TaskState,
    code: StopCode,
    reason: String,
    now: Timestamp,
    plan: &mut Plan,
) {
    let mut next = t.object.status.clone().unwrap_or_default();
    next.last_status = LastStatus::Stopped;
    next.stop_code = Some(code);
    next.stopped_reason = Some(reason.clone());
    next.stopped_at = Some(time(now));
    // What a host that was given up says later is not taken any more: STOPPED is the end.
    for container in &mut next.containers {
        if container.exit_code.is_none() && container.reason.is_none() {
            container.reason = Some(UNKNOWN.to_owned());
        }
    }
    write_status(
        name,
        t,
        next,
        &Standing::Stalled,
        "Stopped",
        &reason,
        now,
        plan,
    );
}

/// Writes down what is seen of the task's host: that the task counts for nothing, that its agent is not connected, or that
/// it is back. All else in its status is its agent's.
fn write_host(
    name: &TaskName,
    t: &TaskState,
    absence: Option<Absence>,
    connectivity: Option<Connectivity>,
    now: Timestamp,
    plan: &mut Plan,
) {
    if absence.is_none() && connectivity.is_none() {
        return;
    }
    let before = t.object.status.clone().unwrap_or_default();
    let mut next = before.clone();
    next.absence = absence.or(next.absence);
    next.connectivity = connectivity.or(next.connectivity);
    if connectivity == Some(Connectivity::Connected) {
        next.connectivity_at = Some(time(now));
    }
    if let Some(patch) = merge_patch(&status::json(&before), &status::json(&next)) {
        plan.actions.push(Action::WriteTaskStatus {
            task: target(name, t),
            patch,
        });
    }
}

#[expect(
    clippy::too_many_arguments,
    reason = "one write, and each argument is a part of it"
)]
fn write_status(
    name: &TaskName,
    t: &TaskState,
    mut next: tallyman_crds::TaskStatus,
    standing: &Standing,
    reason: &'static str,
    message: &str,
    now: Timestamp,
    plan: &mut Plan,
) {
    let previous = t.object.status.clone().unwrap_or_default();
    next.observed_generation = t.identity.generation;
    let unsupported = if t.is_made_by_us() {
        None
    } else {
        unsupported::of_task(&t.object.spec).sentence()
    };
    let list = statements(standing, reason, message, unsupported);
    next.conditions = conditions::merge(
        &previous.conditions,
        &list,
        t.identity.generation,
        &time(now),
    );
    if let Some(patch) = merge_patch(&status::json(&previous), &status::json(&next)) {
        plan.actions.push(Action::WriteTaskStatus {
            task: target(name, t),
            patch,
        });
    }
}

fn stopped(
    world: &World,
    name: &TaskName,
    t: &TaskState,
    remembered: &mut Remembered,
    now: Timestamp,
    plan: &mut Plan,
) {
    if t.identity.deleting {
        // A host that is only away still has the containers: they go when it comes back, or count as
        // gone once its ContainerInstance is deleted.
        let host_gone = t
            .instance
            .as_ref()
            .is_none_or(|i| !world.instances.contains_key(i));
        let never_there =
            !t.accepted && !on_a_host(world, name, t) && !host_plans::belongs(world, t);
        if t.identity.finalizers.contains(labels::STOP_FINALIZER)
            && runs::is_recorded(world, name, t)
            && (t.removed || host_gone || never_there)
        {
            plan.actions.push(Action::RemoveFinalizer {
                target: target(name, t),
                finalizer: labels::STOP_FINALIZER,
            });
        }
        return;
    }
    let orphan = t
        .service
        .as_ref()
        .is_some_and(|s| world.services.get(s).is_none_or(|s| s.identity.deleting))
        || t.run.is_some() && world.run_of(t).is_none_or(|(_, r)| r.identity.deleting);
    let keep =
        SignedDuration::try_from(world.settings.task_retention).unwrap_or(SignedDuration::MAX);
    let ends = t
        .stopped_at
        .or(t.created_at)
        .and_then(|at| at.checked_add(keep).ok());
    match ends {
        _ if orphan => plan.actions.push(Action::Delete(target(name, t))),
        Some(at) if at > now => plan.wake(at),
        Some(_) if !remembered.has(world, name, t) && runs::is_recorded(world, name, t) => {
            plan.actions.push(Action::Delete(target(name, t)))
        }
        Some(_) | None => {}
    }
}

/// Failed tasks that the launch throttle and the circuit breaker still need, by service; found out once in a pass.
#[derive(Clone, Debug, Default)]
pub(crate) struct Remembered(BTreeMap<ServiceName, BTreeSet<TaskName>>);

impl Remembered {
    fn has(&mut self, world: &World, name: &TaskName, t: &TaskState) -> bool {
        let Some((service, state)) = t
            .service
            .as_ref()
            .and_then(|s| world.services.get_key_value(s))
        else {
            return false;
        };
        if !self.0.contains_key(service) {
            let kept = remembered(world, service, state);
            self.0.insert(service.clone(), kept);
        }
        self.0.get(service).is_some_and(|kept| kept.contains(name))
    }
}

fn remembered(world: &World, name: &ServiceName, s: &ServiceState) -> BTreeSet<TaskName> {
    let mut kept = match &s.controller {
        Controller::Ecs { task_definition } => of_deployments(world, name, s, task_definition),
        Controller::External { .. } => BTreeSet::new(),
    };
    for set in world.task_sets.values().filter(|s| s.service == *name) {
        let failures = throttle::failures(world, name, &set.id);
        let wanted = set.scale.of_desired(s.desired);
        kept.extend(throttle::remembered(&failures, wanted));
    }
    kept
}

/// Failed tasks of a service that runs its deployments itself.
fn of_deployments(
    world: &World,
    name: &ServiceName,
    s: &ServiceState,
    task_definition: &str,
) -> BTreeSet<TaskName> {
    let mut kept = BTreeSet::new();
    let resolved = services::resolve(world, task_definition, |_| true).ok();
    let wanted = resolved.map(|(revision, _)| deployments::deployment_id(s, &revision));
    let primary = s.status.deployments.first();
    let primary = primary.and_then(|d| DeploymentId::of_ecs(&d.id));
    for id in BTreeSet::from([wanted, primary]).into_iter().flatten() {
        if s.daemon {
            for failures in throttle::failures_by_host(world, name, &id).values() {
                kept.extend(throttle::remembered(failures, 1));
            }
        } else {
            let failures = throttle::failures(world, name, &id);
            kept.extend(throttle::remembered(&failures, s.desired));
        }
    }
    kept.extend(guards::evidence(world, name).cloned());
    kept
}
