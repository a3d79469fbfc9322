//! A service and its primary deployment: one step of it.

use jiff::Timestamp;
use tallyman_crds::{ContainerImage, HealthStatus, RolloutState, StopCode};

use super::{list, start::AT_ONCE};
use crate::daemons;
use crate::deployments::{self, Bounds, Bucket, Hold, Member};
use crate::guards::{self, Begun, Watch};
use crate::names::{Group, ServiceName, TaskName};
use crate::placement::{Ledger, Request};
use crate::plan::{Action, Kind, Plan, Target};
use crate::rollouts::{Course, Rollout};
use crate::service_events::Said;
use crate::service_report::Scheduled;
use crate::throttle;
use crate::world::{ServiceState, World};
use crate::zones;

/// A service and its primary deployment.
pub(super) struct Work<'w> {
    pub world: &'w World,
    pub name: &'w ServiceName,
    pub service: &'w ServiceState,
    pub rollout: Rollout<'w>,
    pub images: Vec<ContainerImage>,
}

impl<'w> Work<'w> {
    /// Steps the deployment.
    pub fn advance(self, ledger: &mut Ledger, now: Timestamp, plan: &mut Plan) -> Scheduled<'w> {
        let (world, name, service) = (self.world, self.name, self.service);
        let id = &self.rollout.id;
        let begun = Begun::of(&service.status, id, &service.alarming, now);
        let mut members = deployments::classify(world, name, id, now);
        let request = self.request();
        let daemon = service
            .daemon
            .then(|| daemons::hosts(world, ledger, &request, &mut members));
        let mut watch = guards::watch(world, name, id, &begun, &members, now);
        let wanted = daemon
            .as_ref()
            .map_or(service.desired, |hosts| hosts.desired);
        let bounds = Bounds::new(
            wanted,
            service.minimum_healthy_percent,
            service.maximum_percent,
        );
        let under_way = zones::under_way(service, &members);
        let waits = under_way
            .as_ref()
            .is_some_and(|z| zones::waits(z, &members));
        let hold = match self.hold(&begun, watch.failure.is_some()) {
            Hold::Free if waits => Hold::Spare,
            hold => hold,
        };
        let step = match &daemon {
            Some(hosts) => daemons::step(&members, hosts, bounds, hold),
            None => deployments::step(&members, bounds, hold, ledger, &service.rules.strategy),
        };
        let mut said = Vec::new();
        let may_move = under_way.is_none() && hold == Hold::Free;
        let moving = may_move
            .then(|| self.rebalance(&begun, &members, bounds, &step, &request, ledger))
            .flatten();
        let (started, throttled, rebalancing) = match moving {
            Some(zones) => {
                let (started, begun) =
                    self.start_spare(zones, request, ledger, now, plan, &mut said);
                (started, None, begun)
            }
            None => {
                let (start, throttled) = self.throttled(step.start, &request, ledger, now, plan);
                (
                    self.start(start, request, ledger, plan, &mut said),
                    throttled,
                    under_way,
                )
            }
        };
        let stopped = self.stop(&members, &step.stop, plan, &mut said);
        watch.note_placement(&service.guards, &begun, started.unplaceable.is_some(), now);
        self.wake(&members, &watch, throttled, now, plan);
        let failures = throttle::failures(world, name, id).len();
        Scheduled {
            deployment: self.rollout.id,
            course: self.rollout.course,
            images: self.images,
            revision: self.rollout.revision.ecs_name(),
            members,
            bounds,
            begun,
            watch,
            deadlock: step.deadlock,
            failures,
            throttled_until: throttled,
            started: started.names.len(),
            stopped,
            last_task_number: started.last_number,
            unplaceable: started.unplaceable,
            rebalancing,
            said,
        }
    }

    /// The move between zones that a steady service makes next.
    fn rebalance(
        &self,
        begun: &Begun,
        members: &[Member<'_>],
        bounds: Bounds,
        step: &deployments::Step,
        request: &Request,
        ledger: &mut Ledger,
    ) -> Option<zones::Move> {
        let settled = |m: &Member<'_>| match m.bucket {
            Bucket::Stopped => true,
            Bucket::Kept => m.healthy,
            Bucket::Stopping
            | Bucket::Superseded
            | Bucket::Leaving
            | Bucket::Misplaced
            | Bucket::Unhealthy => false,
        };
        let steady = self.rollout.course == Course::Forward
            && begun.state == RolloutState::Completed
            && !self.service.daemon
            && step.start.is_none()
            && step.stop.is_empty()
            && members.iter().all(settled);
        if !steady || !zones::allowed(self.service, request, bounds) {
            return None;
        }
        zones::next(self.world, ledger, request, members)
    }

    fn hold(&self, begun: &Begun, fails: bool) -> Hold {
        let given_up = fails || begun.state == RolloutState::Failed;
        match &self.rollout.course {
            _ if given_up => Hold::Frozen,
            Course::GivenUp => Hold::Frozen,
            Course::Paused { .. } if begun.state == RolloutState::InProgress => Hold::Still,
            Course::Forward | Course::Paused { .. } | Course::RolledBack => Hold::Free,
        }
    }

    /// What a task of the deployment asks for, but for its lot.
    fn request(&self) -> Request {
        let definition = self.rollout.revision.definition.as_ref();
        let member_of = definition.map_or(&[][..], |d| &d.member_of);
        Request {
            demand: definition.map(|d| d.demand.clone()).unwrap_or_default(),
            rules: self.service.rules.clone().with(member_of),
            group: Group::of_service(self.name),
            seed: 0,
        }
    }

    /// Stops what the step says, and says how many that were.
    fn stop(
        &self,
        members: &[Member<'_>],
        stop: &[TaskName],
        plan: &mut Plan,
        said: &mut Vec<Said>,
    ) -> usize {
        let at_once = usize::try_from(AT_ONCE).unwrap_or(usize::MAX);
        let stopped = stop.get(..at_once).unwrap_or(stop);
        for task_name in stopped {
            let Some(m) = members.iter().find(|m| m.name == task_name) else {
                continue;
            };
            let reason = match m.bucket {
                Bucket::Unhealthy => deployments::UNHEALTHY.to_owned(),
                Bucket::Leaving => "Task stopped during instance draining".to_owned(),
                Bucket::Misplaced => {
                    "Container instance no longer meets the placement constraints of the service"
                        .to_owned()
                }
                Bucket::Superseded | Bucket::Kept | Bucket::Stopping | Bucket::Stopped => {
                    format!(
                        "Scaling activity initiated by (deployment {})",
                        self.rollout.id.ecs()
                    )
                }
            };
            plan.actions.push(Action::StopTask {
                task: Target::new(Kind::Task, task_name, &m.task.identity),
                code: StopCode::ServiceSchedulerInitiated,
                reason,
            });
        }
        if !stopped.is_empty() {
            said.push(Said {
                warning: false,
                reason: "TasksStopped",
                message: format!(
                    "(service {}) has stopped {} running tasks: {}",
                    self.name,
                    stopped.len(),
                    list(stopped)
                ),
            });
        }
        stopped.len()
    }

    /// When time alone changes something: the throttle, a guard, protection, a grace period, or a task that counts as healthy
    /// only after a while.
    fn wake(
        &self,
        members: &[Member<'_>],
        watch: &Watch,
        throttled: Option<Timestamp>,
        now: Timestamp,
        plan: &mut Plan,
    ) {
        let (world, service) = (self.world, self.service);
        let protected = members.iter().filter_map(|m| m.protected_until).min();
        for at in [throttled, watch.wake_at, protected].into_iter().flatten() {
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
