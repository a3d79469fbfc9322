//! A service and its primary deployment: one step of it.

use jiff::Timestamp;
use tallyman_crds::RolloutState;

use super::part::Part;
use super::start::Batch;
use crate::daemons;
use crate::deployments::{self, Bounds, Bucket, Hold, Member};
use crate::guards::{self, Begun};
use crate::placement::{Ledger, Request};
use crate::plan::Plan;
use crate::rollouts::Course;
use crate::service_events::Said;
use crate::service_report::Scheduled;
use crate::zones;

/// A service and its primary deployment.
pub(super) struct Work<'w> {
    pub part: Part<'w>,
    pub course: Course,
}

impl<'w> Work<'w> {
    /// Steps the deployment.
    pub fn advance(self, ledger: &mut Ledger, now: Timestamp, plan: &mut Plan) -> Scheduled<'w> {
        let part = &self.part;
        let (world, name, service, id) = (part.world, part.name, part.service, &part.id);
        let begun = Begun::of(&service.status, id, &service.alarming, now);
        let mut members = deployments::classify(world, name, id, now);
        let request = part.request();
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
        let mut step = match &daemon {
            Some(hosts) => daemons::step(&members, hosts, bounds, hold),
            None => deployments::step(&members, bounds, hold, ledger, &service.rules.strategy),
        };
        step.leaves = under_way
            .as_ref()
            .filter(|z| zones::completes(world, z, &step.stop, &members))
            .map(|z| z.from.clone());
        let mut batch = Batch::of(world, name, service);
        let may_move = under_way.is_none() && hold == Hold::Free;
        let moving = may_move
            .then(|| self.rebalance(&begun, &members, bounds, &step, &request, ledger))
            .flatten();
        let moved = service.status.rebalancing.is_some() && under_way.is_none() && moving.is_none();
        let balanced = (moved && self.is_complete(&begun, &members, bounds))
            .then(|| zones::even(world, ledger, &request, &members))
            .flatten();
        let (mut stepped, rebalancing) = match moving {
            Some(zones) => {
                let mut stepped = part.standing(members, bounds, step.deadlock);
                let said = &mut stepped.said;
                let (started, begun) =
                    part.start_spare(zones, bounds, request, &mut batch, ledger, now, plan, said);
                stepped.started = started.names.len();
                (stepped, begun)
            }
            None => {
                let stepped = part.take(
                    step, members, bounds, request, &mut batch, ledger, now, plan,
                );
                (stepped, under_way)
            }
        };
        stepped.said.extend(balanced.map(|counts| Said {
            warning: false,
            reason: "ZoneBalanced",
            message: format!("(service {name}) is AZ balanced with {counts}."),
        }));
        let unplaceable = stepped.unplaceable.is_some();
        watch.note_placement(&service.guards, &begun, unplaceable, now);
        part.wake(&stepped, now, plan);
        watch.wake_at.into_iter().for_each(|at| plan.wake(at));
        Scheduled {
            course: self.course,
            stepped,
            begun,
            watch,
            last_task_number: batch.last_number,
            rebalancing,
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
            Bucket::Stopped | Bucket::Absent => true,
            Bucket::Kept => m.healthy,
            Bucket::Stopping
            | Bucket::Superseded
            | Bucket::Leaving
            | Bucket::Misplaced
            | Bucket::Unhealthy => false,
        };
        let steady = self.course == Course::Forward
            && begun.state == RolloutState::Completed
            && !self.part.service.daemon
            && step.start.is_none()
            && step.stop.is_empty()
            && members.iter().all(settled);
        if !steady || !zones::allowed(self.part.service, request, bounds) {
            return None;
        }
        zones::next(self.part.world, ledger, request, members)
    }

    /// It has as many tasks of its one deployment as are wanted: a move between zones ended with one more and one less, and
    /// not because something else came first.
    fn is_complete(&self, begun: &Begun, members: &[Member<'_>], bounds: Bounds) -> bool {
        let kept = members.iter().filter(|m| m.bucket == Bucket::Kept).count();
        self.course == Course::Forward
            && begun.state == RolloutState::Completed
            && i64::try_from(kept) == Ok(bounds.desired)
    }

    fn hold(&self, begun: &Begun, fails: bool) -> Hold {
        let given_up = fails || begun.state == RolloutState::Failed;
        match &self.course {
            _ if given_up => Hold::Frozen,
            Course::GivenUp => Hold::Frozen,
            Course::Paused { .. } if begun.state == RolloutState::InProgress => Hold::Still,
            Course::Forward | Course::Paused { .. } | Course::RolledBack => Hold::Free,
        }
    }
}
