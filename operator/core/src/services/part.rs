//! A part of a service that runs one revision: its primary deployment, or a task set of it. What tasks are started and
//! stopped for.

use jiff::Timestamp;
use tallyman_crds::{ContainerImage, HealthStatus, LastStatus, StopCode};

use super::list;
use super::start::{Batch, stops_at_once};
use crate::deployments::{self, Bounds, Bucket, Member, Step};
use crate::disconnect;
use crate::names::{DeploymentId, Group, RevisionName, ServiceName, TaskName};
use crate::placement::{Ledger, Request, Unplaceable};
use crate::plan::{Plan, Target};
use crate::service_events::Said;
use crate::throttle;
use crate::world::{Revision, ServiceState, TaskState, World};

/// A part of a service.
pub(crate) struct Part<'w> {
    pub world: &'w World,
    pub name: &'w ServiceName,
    pub service: &'w ServiceState,
    /// Number of the deployment, or of the task set; its tasks carry it.
    pub id: DeploymentId,
    /// The task set that it is, if it is one.
    pub set: Option<Target>,
    pub revision_name: RevisionName,
    pub revision: &'w Revision,
    /// Digests that its next tasks are started with.
    pub images: Vec<ContainerImage>,
}

/// What became of a part in a pass.
pub(crate) struct Stepped<'w> {
    /// `(service web)`, as its events begin.
    pub subject: String,
    pub id: DeploymentId,
    pub revision: String,
    pub members: Vec<Member<'w>>,
    pub bounds: Bounds,
    pub deadlock: bool,
    /// Protected tasks hold it up.
    pub blocked: bool,
    /// Tasks in a row that failed to start.
    pub failures: usize,
    pub throttled_until: Option<Timestamp>,
    pub started: usize,
    pub stopped: usize,
    pub unplaceable: Option<(i64, Unplaceable)>,
    pub said: Vec<Said>,
    /// Digests that its next tasks are started with.
    pub images: Vec<ContainerImage>,
}

/// Stopped reason of a task that a deployment or a task set wants no longer.
pub(crate) fn scaling(id: &DeploymentId) -> String {
    format!("Scaling activity initiated by (deployment {})", id.ecs())
}

/// Events of `subject` that say which tasks were stopped: of those that did not run ECS tells how many. `why` goes on after
/// "running tasks".
pub(crate) fn has_stopped<'t>(
    subject: &str,
    stopped: impl Iterator<Item = (&'t TaskName, &'t TaskState)>,
    why: &str,
) -> Vec<Said> {
    let (running, pending): (Vec<_>, Vec<_>) =
        stopped.partition(|(_, t)| t.last >= LastStatus::Running);
    let running: Vec<TaskName> = running.into_iter().map(|(name, _)| name.clone()).collect();
    let mut said = Vec::new();
    let mut say = |message| {
        said.push(Said {
            warning: false,
            reason: "TasksStopped",
            message,
        });
    };
    if !pending.is_empty() {
        say(format!(
            "{subject} stopped {} pending tasks.",
            pending.len()
        ));
    }
    if !running.is_empty() {
        let (n, names) = (running.len(), list(&running));
        say(format!(
            "{subject} has stopped {n} running tasks{why}: {names}"
        ));
    }
    said
}

/// Event of `subject` that says which tasks were started, if any were. `why` goes on after "tasks".
pub(crate) fn has_started(subject: &str, started: &[TaskName], why: &str) -> Option<Said> {
    let (n, names) = (started.len(), list(started));
    (n > 0).then(|| Said {
        warning: false,
        reason: "TasksStarted",
        message: format!("{subject} has started {n} tasks{why}: {names}"),
    })
}

/// `(service web, taskSet ecs-svc/1)`, as the events of a task set begin.
pub(crate) fn set_subject(service: &ServiceName, id: &DeploymentId) -> String {
    format!("(service {service}, taskSet {})", id.ecs())
}

impl<'w> Part<'w> {
    /// `(service web)`, or `(service web, taskSet ecs-svc/1)`.
    pub fn subject(&self) -> String {
        match self.set {
            None => format!("(service {})", self.name),
            Some(_) => set_subject(self.name, &self.id),
        }
    }

    /// What a task of it asks for, but for its lot.
    pub fn request(&self) -> Request {
        let definition = self.revision.definition.as_ref();
        let member_of = definition.map_or(&[][..], |d| &d.member_of);
        let mut demand = definition.map(|d| d.demand.clone()).unwrap_or_default();
        let stop_after = disconnect::stop_after(&self.service.object.spec);
        demand.attributes.extend(disconnect::required(stop_after));
        Request {
            demand,
            rules: self.service.rules.clone().with(member_of),
            group: Group::of_service(self.name),
            seed: 0,
        }
    }

    /// Starts and stops what `step` says, as far as the throttle and the limits of a pass let it.
    #[expect(
        clippy::too_many_arguments,
        reason = "one step: what it is about, and what it is taken from"
    )]
    pub fn take(
        &self,
        step: Step,
        members: Vec<Member<'w>>,
        bounds: Bounds,
        request: Request,
        batch: &mut Batch,
        ledger: &mut Ledger,
        now: Timestamp,
        plan: &mut Plan,
    ) -> Stepped<'w> {
        let mut stepped = self.standing(members, bounds, step.deadlock);
        stepped.blocked = step.blocked;
        let (start, throttled) =
            self.throttled(step.start, bounds, &request, batch, ledger, now, plan);
        stepped.throttled_until = throttled;
        let started = self.start(start, request, batch, ledger, plan);
        let said = &mut stepped.said;
        said.extend(has_started(&stepped.subject, &started.names, ""));
        stepped.started = started.names.len();
        stepped.unplaceable = started.unplaceable;
        stepped.stopped = self.stop(&stepped.members, &step.stop, step.leaves, plan, said);
        stepped
    }

    /// A step that does nothing.
    pub fn standing(
        &self,
        members: Vec<Member<'w>>,
        bounds: Bounds,
        deadlock: bool,
    ) -> Stepped<'w> {
        Stepped {
            subject: self.subject(),
            id: self.id.clone(),
            revision: self.revision.ecs_name(),
            failures: throttle::failures(self.world, self.name, &self.id).len(),
            members,
            bounds,
            deadlock,
            blocked: false,
            throttled_until: None,
            started: 0,
            stopped: 0,
            unplaceable: None,
            said: Vec::new(),
            images: self.images.clone(),
        }
    }

    /// Stops what a step says, the zone that loses one for another zone with it, and says how many that were.
    fn stop(
        &self,
        members: &[Member<'_>],
        stop: &[TaskName],
        leaves: Option<String>,
        plan: &mut Plan,
        said: &mut Vec<Said>,
    ) -> usize {
        let stopping = members.iter().filter(|m| m.bucket == Bucket::Stopping);
        let most = stops_at_once(stopping.count());
        let named = |name: &TaskName| members.iter().find(|m| m.name == name);
        let stopped: Vec<&Member<'_>> = stop.iter().take(most).filter_map(named).collect();
        let subject = self.subject();
        for m in &stopped {
            if m.bucket == Bucket::Unhealthy {
                said.push(Said {
                    warning: true,
                    reason: "TaskUnhealthy",
                    message: format!(
                        "{subject} (task {}) failed container health checks.",
                        m.name
                    ),
                });
            }
            let reason = match m.bucket {
                Bucket::Unhealthy => deployments::UNHEALTHY.to_owned(),
                Bucket::Leaving => "Task stopped during instance draining".to_owned(),
                Bucket::Misplaced => {
                    "Container instance no longer meets the placement constraints of the service"
                        .to_owned()
                }
                Bucket::Superseded
                | Bucket::Kept
                | Bucket::Absent
                | Bucket::Stopping
                | Bucket::Stopped => scaling(&self.id),
            };
            plan.stop(m.name, m.task, StopCode::ServiceSchedulerInitiated, reason);
        }
        let why = leaves.map(|zone| format!(" in {zone} due to AZ rebalancing"));
        let told = stopped.iter().map(|m| (m.name, m.task));
        said.extend(has_stopped(&subject, told, &why.unwrap_or_default()));
        stopped.len()
    }

    /// When time alone changes something: the throttle, protection, a grace period, or a task that counts as healthy only
    /// after a while.
    pub fn wake(&self, stepped: &Stepped<'_>, now: Timestamp, plan: &mut Plan) {
        let (world, service, members) = (self.world, self.service, &stepped.members);
        let protected = members.iter().filter_map(|m| m.protected_until).min();
        let absent = members.iter().filter(|m| m.absent);
        let back = absent.filter_map(|m| disconnect::counts_again(m.task, &world.settings));
        for at in [stepped.throttled_until, protected, back.min()]
            .into_iter()
            .flatten()
        {
            plan.wake(at);
        }
        let ill = members
            .iter()
            .filter(|m| !m.sick && m.task.health == HealthStatus::Unhealthy);
        for at in ill.filter_map(|m| deployments::counts_from(m.task, service)) {
            plan.wake(at);
        }
        for m in members
            .iter()
            .filter(|m| !m.healthy && m.bucket > Bucket::Stopping)
        {
            if let Some(at) =
                deployments::healthy_from(m.task, &world.settings).filter(|at| *at > now)
            {
                plan.wake(at);
            }
        }
    }
}
