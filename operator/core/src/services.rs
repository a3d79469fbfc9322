//! One service: resolve its revision, step its deployment, place what it starts, say how it stands.

pub(crate) mod part;
pub(crate) mod start;
mod work;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use tallyman_crds::{StopCode, labels, names};

use crate::digests;
use crate::gather::short_task_definition;
use crate::names::{RevisionName, ServiceName, TaskName};
use crate::placement::Ledger;
use crate::plan::{Action, Kind, Plan, Target};
use crate::problem::{self, Problem};
use crate::rollouts;
use crate::service_report::{self, Outcome};
use crate::task_sets;
use crate::unsupported::Unsupported;
use crate::world::{Controller, Revision, ServiceState, World};
use part::Part;
use work::Work;

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

impl Unresolved {
    /// What it makes of a service.
    fn outcome(self) -> Outcome<'static> {
        let refused = |reason, message| Outcome::Refused { reason, message };
        let waiting = |reason, message| Outcome::Waiting { reason, message };
        match self {
            Unresolved::NotFound(m) => waiting("TaskDefinitionNotFound", m),
            Unresolved::Unsettled(m) => waiting("TaskDefinitionUnsettled", m),
            Unresolved::Inactive(m) => refused("TaskDefinitionInactive", m),
            Unresolved::Invalid(m) => refused("TaskDefinitionInvalid", m),
        }
    }
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
        .and_then(|(f, n)| Some(names::family_revision(f, n.parse::<i64>().ok()?)));
    let found = match &pinned {
        Some(ecs_name) => world
            .by_ecs_name
            .get(ecs_name)
            .and_then(|name| world.revisions.get_key_value(name)),
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

/// Decides for a service.
pub(crate) fn plan_one(
    world: &World,
    name: &ServiceName,
    service: &ServiceState,
    ledger: &mut Ledger,
    now: Timestamp,
    plan: &mut Plan,
) {
    match &service.controller {
        _ if service.identity.deleting => drain(world, name, service, now, plan),
        Controller::Ecs { task_definition } => {
            reconcile(world, name, service, task_definition, ledger, now, plan);
        }
        Controller::External { primary } => {
            let primary = primary.as_ref();
            task_sets::reconcile(world, name, service, primary, ledger, now, plan);
        }
    }
}

pub(crate) fn target(name: &ServiceName, service: &ServiceState) -> Target {
    Target::new(Kind::Service, name, &service.identity)
}

/// A service that is being deleted: everything of it stops first, and its task sets go with it.
fn drain(
    world: &World,
    name: &ServiceName,
    service: &ServiceState,
    now: Timestamp,
    plan: &mut Plan,
) {
    let mine = || world.tasks_of(name);
    for (task_name, t) in mine().filter(|(_, t)| t.holds() && !t.leaving()) {
        let why = format!("Service {name} was deleted");
        plan.stop(task_name, t, StopCode::ServiceSchedulerInitiated, why);
    }
    let left = mine().filter(|(_, t)| t.holds()).count();
    let sets_left = task_sets::delete_all(world, name, plan);
    if left == 0 && sets_left == 0 {
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

/// Why a spec cannot be run: reason and sentence.
pub(crate) fn refusal(
    problems: &[Problem],
    unsupported: &Unsupported,
) -> Option<(&'static str, String)> {
    if !problems.is_empty() {
        return Some(("InvalidSpec", problem::sentence(problems)));
    }
    (!unsupported.refused.is_empty()).then(|| {
        (
            "UnsupportedFields",
            unsupported.sentence().unwrap_or_default(),
        )
    })
}

fn reconcile(
    world: &World,
    name: &ServiceName,
    service: &ServiceState,
    task_definition: &str,
    ledger: &mut Ledger,
    now: Timestamp,
    plan: &mut Plan,
) {
    if let Some((reason, message)) = refusal(&service.problems, &service.unsupported) {
        let outcome = Outcome::Refused { reason, message };
        return service_report::publish(world, name, service, &outcome, now, plan);
    }
    let runs = |ecs_name: &str| {
        service
            .status
            .deployments
            .iter()
            .any(|d| d.task_definition == ecs_name)
    };
    let found = match resolve(world, task_definition, runs) {
        Ok(found) => found,
        Err(why) => {
            let outcome = why.outcome();
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
    let Some(rollout) = rollouts::choose(world, service, found) else {
        let message = format!(
            "`spec.paused` is true and service {name} has no deployment yet; set it to false to begin one."
        );
        let outcome = Outcome::Waiting {
            reason: "Paused",
            message,
        };
        return service_report::publish(world, name, service, &outcome, now, plan);
    };
    let kept = service.status.deployments.iter();
    let kept = kept.filter(|d| d.id == rollout.id.ecs());
    let kept = kept.flat_map(|d| &d.container_images);
    let work = Work {
        course: rollout.course,
        part: Part {
            world,
            name,
            service,
            images: digests::of_part(world, name, &rollout.id, rollout.revision, kept),
            id: rollout.id,
            set: None,
            revision_name: rollout.revision_name,
            revision: rollout.revision,
        },
    };
    let outcome = Outcome::Scheduled(Box::new(work.advance(ledger, now, plan)));
    service_report::publish(world, name, service, &outcome, now, plan);
}

/// `(task a) (task b) ...`, cut after ten.
pub(crate) fn list(names: &[TaskName]) -> String {
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

/// Time as the API spells it.
pub(crate) fn time(at: Timestamp) -> Time {
    Time(at)
}
