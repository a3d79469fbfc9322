//! One service: resolve its revision, step its deployment, place what it starts, say how it stands.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use tallyman_crds::ecs::SchedulingStrategy;
use tallyman_crds::{ContainerImage, DesiredStatus, StopCode, Task, TaskSpec, labels, names};

use crate::deployments::{self, Bounds, Bucket, Member, Step};
use crate::digests;
use crate::gather::short_task_definition;
use crate::names::{DeploymentId, Family, InstanceName, RevisionName, ServiceName, TaskName};
use crate::placement::{Ledger, Unplaceable};
use crate::plan::{Action, Kind, Note, Plan, Target};
use crate::problem;
use crate::service_report::{self, Outcome};
use crate::throttle;
use crate::world::{Revision, ServiceState, World};

/// Why a service has no revision to run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Unresolved {
    /// No such family or revision.
    NotFound(String),
    /// The TaskDefinition was changed and is not registered yet.
    Unsettled(String),
    /// The revision was deregistered, and the service does not run it already.
    Inactive(String),
    /// The revision does not parse.
    Invalid(String),
}

/// Resolves `family`, `family:revision` or an ARN of either.
pub(crate) fn resolve<'w>(
    world: &'w World,
    given: &str,
    already_runs: impl Fn(&str) -> bool,
) -> Result<(RevisionName, &'w Revision), Unresolved> {
    let short = short_task_definition(given);
    let pinned = short
        .rsplit_once(':')
        .and_then(|(f, n)| Some((Family::from(f), n.parse::<i64>().ok()?)));
    let found = match &pinned {
        Some((family, number)) => world
            .revisions
            .iter()
            .find(|(_, r)| r.family == *family && r.number == *number),
        None => {
            let family = world.families.get(short);
            if let Some(f) = family.filter(|f| f.unsettled) {
                let why = f.stalled.clone().unwrap_or_default();
                return Err(Unresolved::Unsettled(
                    format!(
                        "Task definition `{short}` was changed and is not registered yet. {why}"
                    )
                    .trim()
                    .to_owned(),
                ));
            }
            family
                .and_then(|f| f.latest.as_ref())
                .and_then(|n| world.revisions.get_key_value(n))
        }
    };
    let Some((name, revision)) = found else {
        let stalled = world.families.get(short).and_then(|f| f.stalled.clone());
        return Err(Unresolved::NotFound(match stalled {
            Some(why) => format!("Task definition `{short}` was not accepted: {why}"),
            None => format!(
                "`spec.taskDefinition` names `{short}`, which does not exist; apply a TaskDefinition of that family."
            ),
        }));
    };
    if !revision.active && !already_runs(&revision.ecs_name()) {
        return Err(Unresolved::Inactive(format!(
            "`spec.taskDefinition` names `{short}`, which is INACTIVE (deregistered); name an ACTIVE revision."
        )));
    }
    if let Err(problems) = &revision.definition {
        return Err(Unresolved::Invalid(problem::sentence(problems)));
    }
    Ok((name.clone(), revision))
}

/// Decides for every service, in order of name.
pub(crate) fn plan_all(world: &World, ledger: &mut Ledger, now: Timestamp, plan: &mut Plan) {
    for (name, service) in &world.services {
        if service.identity.deleting {
            drain(world, name, service, now, plan);
        } else {
            reconcile(world, name, service, ledger, now, plan);
        }
    }
}

fn target(name: &ServiceName, service: &ServiceState) -> Target {
    Target::new(Kind::Service, name, &service.identity)
}

/// A service that is being deleted: everything of it stops first.
fn drain(
    world: &World,
    name: &ServiceName,
    service: &ServiceState,
    now: Timestamp,
    plan: &mut Plan,
) {
    let mine = || world.tasks_of(name);
    for (task_name, t) in mine().filter(|(_, t)| t.holds() && !t.leaving()) {
        plan.actions.push(Action::StopTask {
            task: Target::new(Kind::Task, task_name, &t.identity),
            code: StopCode::ServiceSchedulerInitiated,
            reason: format!("Service {name} was deleted"),
        });
    }
    let left = mine().filter(|(_, t)| t.holds()).count();
    if left == 0 {
        if service
            .identity
            .finalizers
            .contains(labels::SERVICE_FINALIZER)
        {
            plan.actions.push(Action::RemoveFinalizer {
                target: target(name, service),
                finalizer: labels::SERVICE_FINALIZER,
            });
        }
        return;
    }
    service_report::publish(world, name, service, &Outcome::Draining { left }, now, plan);
}

fn reconcile(
    world: &World,
    name: &ServiceName,
    service: &ServiceState,
    ledger: &mut Ledger,
    now: Timestamp,
    plan: &mut Plan,
) {
    let refused = |reason, message: String| Outcome::Refused { reason, message };
    if !service.problems.is_empty() {
        let outcome = refused("InvalidSpec", problem::sentence(&service.problems));
        return service_report::publish(world, name, service, &outcome, now, plan);
    }
    let daemon = service.object.spec.scheduling_strategy == Some(SchedulingStrategy::Daemon);
    if daemon || !service.unsupported.refused.is_empty() {
        let message = service.unsupported.sentence().unwrap_or_default();
        return service_report::publish(
            world,
            name,
            service,
            &refused("UnsupportedFields", message),
            now,
            plan,
        );
    }
    let runs = |ecs_name: &str| {
        service
            .status
            .deployments
            .iter()
            .any(|d| d.task_definition == ecs_name)
    };
    let (revision_name, revision) = match resolve(world, &service.object.spec.task_definition, runs)
    {
        Ok(found) => found,
        Err(why) => {
            let outcome = match why {
                Unresolved::NotFound(m) => Outcome::Waiting {
                    reason: "TaskDefinitionNotFound",
                    message: m,
                },
                Unresolved::Unsettled(m) => Outcome::Waiting {
                    reason: "TaskDefinitionUnsettled",
                    message: m,
                },
                Unresolved::Inactive(m) => refused("TaskDefinitionInactive", m),
                Unresolved::Invalid(m) => refused("TaskDefinitionInvalid", m),
            };
            return service_report::publish(world, name, service, &outcome, now, plan);
        }
    };
    if !service
        .identity
        .finalizers
        .contains(labels::SERVICE_FINALIZER)
    {
        plan.actions.push(Action::AddFinalizer {
            target: target(name, service),
            finalizer: labels::SERVICE_FINALIZER,
            label: None,
        });
        return;
    }
    let id =
        deployments::deployment_id(&service.identity.uid, &revision_name, &service.object.spec);
    let members = deployments::classify(world, name, &id, now);
    let bounds = Bounds::new(
        service.desired,
        service.minimum_healthy_percent,
        service.maximum_percent,
    );
    let mut step = deployments::step(&members, bounds, ledger, name);
    let failures = throttle::failures(world, name, &id);
    let mut throttled = None;
    if step.start > 0
        && let Some(until) =
            throttle::not_before(&failures, service.desired).filter(|until| *until > now)
    {
        step.start = 0;
        throttled = Some(until);
        plan.wake(until);
    }
    let images = digests::of_deployment(world, name, &id, revision);
    let started = start(
        world,
        name,
        service,
        &id,
        &images,
        (&revision_name, revision),
        step.start,
        ledger,
        plan,
    );
    stop(world, name, &id, &members, &step, plan);
    wake_for_health(&members, world, now, plan);
    let ends = members.iter().filter_map(|m| m.protected_until).min();
    ends.into_iter().for_each(|at| plan.wake(at));
    let outcome = Outcome::Scheduled(Box::new(service_report::Scheduled {
        deployment: id,
        images,
        revision: revision.ecs_name(),
        members,
        bounds,
        deadlock: step.deadlock,
        failures: failures.len(),
        throttled_until: throttled,
        started: started.names.len(),
        last_task_number: started.last_number,
        unplaceable: started.unplaceable,
    }));
    service_report::publish(world, name, service, &outcome, now, plan);
}

/// Tasks of a service that one pass starts, and that it stops. Hosts hear of them while the next ones are written, instead
/// of after the last.
const AT_ONCE: usize = 16;

struct Started {
    names: Vec<TaskName>,
    last_number: i64,
    unplaceable: Option<(i64, Unplaceable)>,
}

#[expect(
    clippy::too_many_arguments,
    reason = "one call, and each argument is a thing of its own"
)]
fn start(
    world: &World,
    name: &ServiceName,
    service: &ServiceState,
    deployment: &DeploymentId,
    images: &[ContainerImage],
    (revision_name, revision): (&RevisionName, &Revision),
    count: i64,
    ledger: &mut Ledger,
    plan: &mut Plan,
) -> Started {
    let prefix = format!("{name}-");
    let seen = world
        .tasks
        .range(TaskName::from(prefix.as_str())..)
        .take_while(|(task, _)| task.as_str().starts_with(&prefix))
        .filter_map(|(task, _)| names::service_task_number(name.as_str(), task.as_str()))
        .max()
        .unwrap_or(0);
    let mut number = seen.max(service.status.last_task_number);
    let demand = revision
        .definition
        .as_ref()
        .map(|d| d.demand.clone())
        .unwrap_or_default();
    let mut started = Started {
        names: Vec::new(),
        last_number: number,
        unplaceable: None,
    };
    for i in 0..count {
        if started.names.len() == AT_ONCE {
            break;
        }
        match ledger.place(&demand, Some(name), world) {
            Ok(instance) => {
                number += 1;
                let task_name = names::service_task(name.as_str(), number);
                let task = service_task(
                    world,
                    &task_name,
                    service,
                    name,
                    deployment,
                    images,
                    revision_name,
                    revision,
                    &instance,
                );
                plan.actions.push(Action::CreateTask(Box::new(task)));
                started.names.push(TaskName::from(task_name));
            }
            Err(why) => {
                // The same demand meets the same refusals: the rest cannot be placed either.
                started.unplaceable = Some((count - i, why));
                break;
            }
        }
    }
    started.last_number = number;
    if !started.names.is_empty() {
        plan.notes.push(Note {
            target: target(name, service),
            warning: false,
            reason: "TasksStarted",
            message: format!(
                "(service {name}) has started {} tasks: {}",
                started.names.len(),
                list(&started.names)
            ),
        });
    }
    started
}

/// `(task a) (task b) ...`, cut after ten.
fn list(names: &[TaskName]) -> String {
    let mut text = names
        .iter()
        .take(10)
        .map(|n| format!("(task {n})"))
        .collect::<Vec<_>>()
        .join(" ");
    if names.len() > 10 {
        text.push_str(&format!(" and {} more", names.len() - 10));
    }
    text.push('.');
    text
}

#[expect(
    clippy::too_many_arguments,
    reason = "one call, and each argument is a thing of its own"
)]
fn service_task(
    world: &World,
    task: &str,
    service: &ServiceState,
    name: &ServiceName,
    deployment: &DeploymentId,
    images: &[ContainerImage],
    revision_name: &RevisionName,
    revision: &Revision,
    instance: &InstanceName,
) -> Task {
    let labels = BTreeMap::from([
        (labels::SERVICE.to_owned(), name.to_string()),
        (labels::CLUSTER.to_owned(), world.cluster.clone()),
        (labels::REVISION.to_owned(), revision_name.to_string()),
        (labels::DEPLOYMENT.to_owned(), deployment.to_string()),
        (labels::CONTAINER_INSTANCE.to_owned(), instance.to_string()),
        (labels::MANAGED_BY.to_owned(), labels::MANAGER.to_owned()),
    ]);
    Task {
        metadata: ObjectMeta {
            name: Some(task.to_owned()),
            namespace: Some(world.namespace.clone()),
            labels: Some(labels),
            finalizers: Some(vec![labels::STOP_FINALIZER.to_owned()]),
            owner_references: Some(vec![target(name, service).as_owner()]),
            ..ObjectMeta::default()
        },
        spec: TaskSpec {
            cluster: Some(world.cluster.clone()),
            task_definition: revision.ecs_name(),
            container_instance: Some(instance.to_string()),
            group: Some(format!("service:{name}")),
            started_by: Some(deployment.ecs()),
            desired_status: DesiredStatus::Running,
            container_images: images.to_vec(),
            ..TaskSpec::default()
        },
        status: None,
    }
}

fn stop(
    world: &World,
    name: &ServiceName,
    deployment: &DeploymentId,
    members: &[Member<'_>],
    step: &Step,
    plan: &mut Plan,
) {
    let stopped = step.stop.get(..AT_ONCE).unwrap_or(&step.stop);
    for task_name in stopped {
        let Some(m) = members.iter().find(|m| m.name == task_name) else {
            continue;
        };
        let reason = match m.bucket {
            Bucket::Unhealthy => "Task failed container health checks".to_owned(),
            Bucket::Leaving => "Task stopped during instance draining".to_owned(),
            Bucket::Superseded | Bucket::Kept | Bucket::Stopping | Bucket::Stopped => {
                format!("Scaling activity initiated by (deployment ecs-svc/{deployment})")
            }
        };
        plan.actions.push(Action::StopTask {
            task: Target::new(Kind::Task, task_name, &m.task.identity),
            code: StopCode::ServiceSchedulerInitiated,
            reason,
        });
    }
    if !stopped.is_empty()
        && let Some(service) = world.services.get(name)
    {
        plan.notes.push(Note {
            target: target(name, service),
            warning: false,
            reason: "TasksStopped",
            message: format!(
                "(service {name}) has stopped {} running tasks: {}",
                stopped.len(),
                list(stopped)
            ),
        });
    }
}

/// A task that counts as healthy only after a while wakes the next pass then, if somebody waits for it.
fn wake_for_health(members: &[Member<'_>], world: &World, now: Timestamp, plan: &mut Plan) {
    if !members.iter().any(|m| {
        matches!(
            m.bucket,
            Bucket::Superseded | Bucket::Leaving | Bucket::Unhealthy
        )
    }) {
        return;
    }
    for m in members
        .iter()
        .filter(|m| !m.healthy && m.bucket > Bucket::Stopping)
    {
        if let Some(at) = deployments::healthy_from(m.task, &world.settings).filter(|at| *at > now)
        {
            plan.wake(at);
        }
    }
}

/// Time as the API spells it.
pub(crate) fn time(at: Timestamp) -> Time {
    Time(at)
}
