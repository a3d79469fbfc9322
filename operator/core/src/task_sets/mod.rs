//! Services whose deployments somebody else runs: their tasks are those of their task sets (ECS external deployment type).
//!
//! A task set is a part of its service as a deployment is one: its tasks are numbered, placed, throttled and replaced by the
//! same rules, and count in the same group. What is different: how many it has follows from its scale, several run beside each
//! other for as long as somebody wants that, and none ever takes tasks from another.

mod report;
mod scale;

use jiff::Timestamp;
use tallyman_crds::{StabilityStatus, StopCode, labels};

use crate::deployments::{self, Bounds, Hold, Member};
use crate::digests;
use crate::names::{ServiceName, TaskName, TaskSetName};
use crate::placement::Ledger;
use crate::plan::{Action, Kind, Plan, Target};
use crate::problem;
use crate::service_events::Said;
use crate::service_report::{self, Outcome};
use crate::services::part::{self, Part, Stepped};
use crate::services::start::Batch;
use crate::services::{self, Unresolved, refusal, resolve};
use crate::world::{ServiceState, TaskSetState, TaskState, World};
use report::Reported;

pub(crate) use report::{External, report_service};
pub use scale::Percent;

/// Bounds of ECS' defaults, in percent of the computed desired count: what has to be replaced is replaced start-first. ECS does
/// not look at `deploymentConfiguration` here.
const BOUNDS: (i64, i64) = (100, 200);

/// What a pass made of a task set.
enum Fate<'w> {
    /// The spec cannot be run.
    Refused {
        reason: &'static str,
        message: String,
    },
    /// Something it needs is not there yet.
    Waiting {
        reason: &'static str,
        message: String,
    },
    /// It is being deleted.
    Draining { left: usize, said: Vec<Said> },
    /// It was stepped, with these bounds.
    Stepped(Box<Stepped<'w>>),
}

impl Fate<'_> {
    /// Its task definition does not resolve.
    fn unresolved(why: Unresolved) -> Fate<'static> {
        let waiting = |reason, message| Fate::Waiting { reason, message };
        let refused = |reason, message| Fate::Refused { reason, message };
        match why {
            Unresolved::NotFound(m) => waiting("TaskDefinitionNotFound", m),
            Unresolved::Unsettled(m) => waiting("TaskDefinitionUnsettled", m),
            Unresolved::Inactive(m) => refused("TaskDefinitionInactive", m),
            Unresolved::Invalid(m) => refused("TaskDefinitionInvalid", m),
        }
    }
}

/// What a task set wants in a service that wants so many.
pub(crate) fn bounds(set: &TaskSetState, service: &ServiceState) -> Bounds {
    let (least, most) = BOUNDS;
    Bounds::new(set.scale.of_desired(service.desired), least, most)
}

/// Tasks of a task set.
pub(crate) fn members<'w>(world: &'w World, set: &TaskSetState, now: Timestamp) -> Vec<Member<'w>> {
    let mut members = deployments::classify(world, &set.service, &set.id, now);
    members.retain(|m| m.task.deployment.as_ref() == Some(&set.id));
    members
}

fn target(name: &TaskSetName, set: &TaskSetState) -> Target {
    Target::new(Kind::TaskSet, name, &set.identity)
}

fn is_taken_on(set: &TaskSetState) -> bool {
    set.identity.finalizers.contains(labels::SERVICE_FINALIZER)
}

/// Task sets that say that they are of `service`, in order of name.
fn of_service<'w>(
    world: &'w World,
    service: &ServiceName,
) -> impl Iterator<Item = (&'w TaskSetName, &'w TaskSetState)> {
    world
        .task_sets
        .iter()
        .filter(move |(_, s)| s.service == *service)
}

/// Decides for a service and its task sets, the primary one first.
pub(crate) fn reconcile(
    world: &World,
    name: &ServiceName,
    service: &ServiceState,
    primary: Option<&TaskSetName>,
    ledger: &mut Ledger,
    now: Timestamp,
    plan: &mut Plan,
) {
    let refused = refusal(&service.problems, &service.unsupported);
    if refused.is_none()
        && !service
            .identity
            .finalizers
            .contains(labels::SERVICE_FINALIZER)
    {
        plan.actions.push(Action::AddFinalizer {
            target: services::target(name, service),
            finalizer: labels::SERVICE_FINALIZER,
            label: None,
        });
        return;
    }
    let mut batch = Batch::of(world, name, service);
    let (first, others): (Vec<_>, Vec<_>) =
        of_service(world, name).partition(|(set, _)| Some(*set) == primary);
    let mut sets = Vec::new();
    for (set_name, set) in first.into_iter().chain(others) {
        let fate = match &refused {
            _ if set.identity.deleting => drain(world, set_name, set, true, plan),
            Some((_, why)) => Some(Fate::Waiting {
                reason: "ServiceNotRunnable",
                message: format!("Service `{name}` cannot run: {why}"),
            }),
            None => step(
                world, name, service, set_name, set, &mut batch, ledger, now, plan,
            ),
        };
        if let Some(fate) = fate {
            let reported = report::publish(world, set_name, set, Some(service), &fate, now, plan);
            sets.push(reported);
        }
    }
    let outcome = match refused {
        Some((reason, message)) => Outcome::Refused { reason, message },
        None => {
            let runs = sets
                .iter()
                .find(|s| s.is_primary() && s.runs(service.desired));
            let left = hand_over(world, name, runs, plan);
            let verdict = report::verdict(world, name, primary, &sets, left);
            Outcome::External(Box::new(External::of(verdict, sets, batch.last_number)))
        }
    };
    service_report::publish(world, name, service, &outcome, now, plan);
}

/// One step of a task set. `None`: it is taken on first, and stepped in the next pass.
#[expect(
    clippy::too_many_arguments,
    reason = "one step: of what, and what it is taken from"
)]
fn step<'w>(
    world: &'w World,
    name: &'w ServiceName,
    service: &'w ServiceState,
    set_name: &TaskSetName,
    set: &TaskSetState,
    batch: &mut Batch,
    ledger: &mut Ledger,
    now: Timestamp,
    plan: &mut Plan,
) -> Option<Fate<'w>> {
    if let Some((reason, message)) = refusal(&set.problems, &set.unsupported) {
        return Some(Fate::Refused { reason, message });
    }
    let kept = set.revision.as_ref().map(|r| (r, world.revisions.get(r)));
    let (revision_name, revision) = match kept {
        Some((name, Some(revision))) => match &revision.definition {
            Ok(_) => (name.clone(), revision),
            Err(problems) => {
                return Some(Fate::Refused {
                    reason: "TaskDefinitionInvalid",
                    message: problem::sentence(problems),
                });
            }
        },
        Some((name, None)) => {
            return Some(Fate::Waiting {
                reason: "TaskDefinitionNotFound",
                message: format!(
                    "Revision `{name}`, which the task set was taken on with, does not exist; make another TaskSet."
                ),
            });
        }
        None => match resolve(world, &set.object.spec.task_definition, |_| false) {
            Ok(found) => found,
            Err(why) => return Some(Fate::unresolved(why)),
        },
    };
    if !is_taken_on(set) || set.revision.is_none() {
        plan.actions.push(Action::AddFinalizer {
            target: target(set_name, set),
            finalizer: labels::SERVICE_FINALIZER,
            label: Some((labels::REVISION, revision_name.to_string())),
        });
        return None;
    }
    let part = Part {
        world,
        name,
        service,
        id: set.id.clone(),
        set: Some(target(set_name, set)),
        revision_name,
        revision,
        images: digests::of_part(
            world,
            name,
            &set.id,
            revision,
            set.status.container_images.iter(),
        ),
    };
    let bounds = bounds(set, service);
    let members = members(world, set, now);
    let strategy = &service.rules.strategy;
    let step = deployments::step(&members, bounds, Hold::Free, ledger, strategy);
    let request = part.request();
    let stepped = part.take(step, members, bounds, request, batch, ledger, now, plan);
    part.wake(&stepped, now, plan);
    Some(Fate::Stepped(Box::new(stepped)))
}

/// A task set that is being deleted: its tasks stop first (ECS DeleteTaskSet with `force`). `None`: it goes. `stops`: it stops
/// them itself, because its service does not, which is being deleted too, or rolls from them to a deployment.
fn drain<'w>(
    world: &'w World,
    name: &TaskSetName,
    set: &TaskSetState,
    stops: bool,
    plan: &mut Plan,
) -> Option<Fate<'w>> {
    let mine = || {
        let of_set = |t: &TaskState| t.deployment.as_ref() == Some(&set.id) && t.holds();
        world.tasks_of(&set.service).filter(move |(_, t)| of_set(t))
    };
    let left = mine().count();
    if left == 0 {
        if is_taken_on(set) {
            plan.actions.push(Action::RemoveFinalizer {
                target: target(name, set),
                finalizer: labels::SERVICE_FINALIZER,
            });
        }
        return None;
    }
    let stopped: Vec<_> = mine().filter(|(_, t)| stops && !t.leaving()).collect();
    for (task, t) in &stopped {
        stop(task, t, part::scaling(&set.id), plan);
    }
    let subject = part::set_subject(&set.service, &set.id);
    let said = part::has_stopped(&subject, stopped.into_iter(), "");
    Some(Fate::Draining { left, said })
}

fn stop(name: &TaskName, task: &TaskState, reason: String, plan: &mut Plan) -> TaskName {
    plan.stop(name, task, StopCode::ServiceSchedulerInitiated, reason);
    name.clone()
}

/// Once the primary task set runs, tasks of the deployments that the service had before go. Returns how many are left.
fn hand_over(
    world: &World,
    name: &ServiceName,
    primary: Option<&Reported<'_>>,
    plan: &mut Plan,
) -> usize {
    // A task of a task set is never told from its absence: whose task set is gone is the garbage collector's.
    let of_set = |t: &TaskState| {
        let labels = t.object.metadata.labels.as_ref();
        labels.is_some_and(|l| l.contains_key(labels::TASK_SET))
    };
    let old = || {
        world
            .tasks_of(name)
            .filter(|(_, t)| t.holds() && !of_set(t))
    };
    if let Some(primary) = primary {
        for (task, t) in old().filter(|(_, t)| !t.leaving()) {
            stop(task, t, part::scaling(primary.id()), plan);
        }
    }
    old().count()
}

/// Deletes the task sets that `service`, which is being deleted, has taken on. Returns how many there still are.
pub(crate) fn delete_all(world: &World, service: &ServiceName, plan: &mut Plan) -> usize {
    let mut left = 0;
    for (name, set) in of_service(world, service).filter(|(_, s)| is_taken_on(s)) {
        left += 1;
        if !set.identity.deleting {
            plan.actions.push(Action::Delete(target(name, set)));
        }
    }
    left
}

/// Decides for task sets whose service does not run task sets.
pub(crate) fn plan_strays(world: &World, now: Timestamp, plan: &mut Plan) {
    use crate::world::Controller::{Ecs, External};
    for (name, set) in &world.task_sets {
        let service = world.services.get(&set.service);
        let of = &set.service;
        let waiting = |reason, message| Fate::Waiting { reason, message };
        let refused = |reason, message| Fate::Refused { reason, message };
        let fate = match service.map(|s| (&s.controller, s.identity.deleting)) {
            Some((External { .. }, false)) => continue,
            _ if set.identity.deleting => match drain(world, name, set, false, plan) {
                Some(fate) => fate,
                None => continue,
            },
            Some((_, true)) => waiting(
                "ServiceDraining",
                format!("Service `{of}` is being deleted."),
            ),
            Some((Ecs { .. }, false)) => refused(
                "ServiceNotExternal",
                format!(
                    "`spec.service` must name a service with `deploymentController.type: EXTERNAL`; service `{of}` runs its \
                     deployments itself."
                ),
            ),
            None => match &set.elsewhere {
                Some(cluster) => refused(
                    "ServiceInAnotherCluster",
                    format!(
                        "`spec.cluster` must be `{cluster}`, the cluster of service `{of}`, not `{}`; make another TaskSet \
                         there and delete this one.",
                        world.cluster
                    ),
                ),
                None => waiting(
                    "ServiceNotFound",
                    format!(
                        "`spec.service` names `{of}`, which does not exist; apply a Service of that name with \
                         `deploymentController.type: EXTERNAL`."
                    ),
                ),
            },
        };
        report::publish(world, name, set, service, &fate, now, plan);
    }
}

/// Whether a task set is steady, in the words of ECS.
fn stability(steady: bool) -> StabilityStatus {
    if steady {
        StabilityStatus::SteadyState
    } else {
        StabilityStatus::Stabilizing
    }
}
