//! The tasks that a step of a service starts: what the throttle leaves of them, where they go, what they are made of.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use tallyman_crds::ecs::Tag;
use tallyman_crds::{DesiredStatus, LastStatus, Task, TaskSpec, ZoneRebalancing, labels, names};

use super::part::{Part, has_started};
use super::target;
use crate::deployments::{Bounds, Start};
use crate::disconnect;
use crate::names::{InstanceName, ServiceName, TaskName};
use crate::placement::{self, Ledger, Request, Unplaceable};
use crate::plan::{Action, Plan, Target};
use crate::quotas;
use crate::service_events::Said;
use crate::tags;
use crate::throttle;
use crate::world::{ServiceState, World};
use crate::zones;

/// Tasks of a service that a pass starts when `under_way` are starting already. The first are few, so that hosts hear of them
/// soon; while they work on these, the many are written.
fn starts_at_once(under_way: usize) -> usize {
    if under_way == 0 { 10 } else { 40 }
}

/// Tasks of a service that a pass stops when `under_way` are stopping already. Fewer than of starts, because a host is sooner
/// done with them and would wait for more.
pub(super) fn stops_at_once(under_way: usize) -> usize {
    if under_way == 0 { 10 } else { 20 }
}

/// What a pass has started of a service so far: the parts of a service number their tasks together, and share what a pass and
/// a minute may start of it.
pub(crate) struct Batch {
    /// The highest task number that is or was ever taken.
    pub last_number: i64,
    started: i64,
    /// How many one pass starts.
    most: i64,
}

impl Batch {
    /// Nothing was started yet.
    pub fn of(world: &World, name: &ServiceName, service: &ServiceState) -> Batch {
        let prefix = format!("{name}-");
        let mut seen = 0;
        let mut starting = 0;
        let tasks = world.tasks.range(TaskName::from(prefix.as_str())..);
        for (task, state) in tasks.take_while(|(task, _)| task.as_str().starts_with(&prefix)) {
            let number = names::service_task_number(name.as_str(), task.as_str());
            seen = seen.max(number.unwrap_or(0));
            let on_its_way =
                state.desired == DesiredStatus::Running && state.last < LastStatus::Running;
            starting += usize::from(number.is_some() && on_its_way);
        }
        Batch {
            last_number: seen.max(service.status.last_task_number),
            started: 0,
            most: i64::try_from(starts_at_once(starting)).unwrap_or(i64::MAX),
        }
    }
}

/// What was started.
pub(super) struct Started {
    pub names: Vec<TaskName>,
    pub unplaceable: Option<(i64, Unplaceable)>,
}

impl Part<'_> {
    /// What the launch throttle and the launch rate leave of `start`, and until when the throttle holds back the rest. Hosts
    /// that a daemon is held back on keep room for it.
    #[expect(
        clippy::too_many_arguments,
        reason = "one question: about what, and what holds it back"
    )]
    pub(super) fn throttled(
        &self,
        start: Start,
        bounds: Bounds,
        request: &Request,
        batch: &Batch,
        ledger: &mut Ledger,
        now: Timestamp,
        plan: &mut Plan,
    ) -> (Start, Option<Timestamp>) {
        let (world, name, id) = (self.world, self.name, &self.id);
        match start {
            Start::Anywhere(n) if n > 0 => {
                let failures = throttle::failures(world, name, id);
                let until = throttle::not_before(&failures, bounds.desired);
                if let Some(until) = until.filter(|until| *until > now) {
                    return (Start::Anywhere(0), Some(until));
                }
                let (most, more_at) = quotas::launches(world, name, now);
                let most = (most - batch.started).max(0);
                if most < n {
                    more_at.into_iter().for_each(|at| plan.wake(at));
                }
                (Start::Anywhere(n.min(most)), None)
            }
            Start::Anywhere(_) => (start, None),
            Start::On(hosts) => {
                let failures = throttle::failures_by_host(world, name, id);
                let mut first = None;
                let hosts = hosts.into_iter().filter(|host| {
                    let failures = failures.get(host);
                    let until = failures.and_then(|row| throttle::not_before(row, 1));
                    let until = until.filter(|until| *until > now);
                    first = [first, until].into_iter().flatten().min();
                    if until.is_some() {
                        ledger.reserve(host, request);
                    }
                    until.is_none()
                });
                (Start::On(hosts.collect()), first)
            }
        }
    }

    pub(super) fn start(
        &self,
        start: Start,
        mut request: Request,
        batch: &mut Batch,
        ledger: &mut Ledger,
        plan: &mut Plan,
    ) -> Started {
        let name = self.name;
        let at_once = batch.most - batch.started;
        let mut placed = Vec::new();
        let mut unplaceable = None;
        match start {
            Start::Anywhere(count) => {
                for i in 0..count.min(at_once) {
                    let task = names::service_task(name.as_str(), batch.last_number + 1 + i);
                    request.seed = placement::seed(&[&self.service.identity.uid, &task]);
                    match ledger.place(&request) {
                        Ok(instance) => placed.push(instance),
                        Err(why) => {
                            // The same demand meets the same refusals: the rest cannot be placed either.
                            unplaceable = Some((count - i, why));
                            break;
                        }
                    }
                }
            }
            Start::On(hosts) => {
                let mut refused = Vec::new();
                for host in hosts {
                    match ledger.place_on(&host, &request) {
                        // Those beyond have their room, and are started next.
                        Ok(()) if length(&placed) < at_once => placed.push(host),
                        Ok(()) => {}
                        Err(why) => refused.push(why),
                    }
                }
                unplaceable = Unplaceable::all(refused);
            }
        }
        let mut started = Started {
            names: Vec::new(),
            unplaceable,
        };
        for instance in placed {
            batch.last_number += 1;
            batch.started += 1;
            let task_name = names::service_task(name.as_str(), batch.last_number);
            let task = self.task(&task_name, &instance);
            plan.actions.push(Action::CreateTask(Box::new(task)));
            started.names.push(TaskName::from(task_name));
        }
        started
    }

    /// Starts the task that is to replace one of a fuller zone. A zone without room, and a task that fails to start, are no
    /// reason to call the service short of tasks: it is as wanted without.
    #[expect(
        clippy::too_many_arguments,
        reason = "one start: of what, and what it is taken from"
    )]
    pub(super) fn start_spare(
        &self,
        zones: zones::Move,
        bounds: Bounds,
        mut request: Request,
        batch: &mut Batch,
        ledger: &mut Ledger,
        now: Timestamp,
        plan: &mut Plan,
        said: &mut Vec<Said>,
    ) -> (Started, Option<ZoneRebalancing>) {
        let name = self.name;
        let member_of = &mut request.rules.constraints.member_of;
        member_of.extend(zones::in_zone(&zones.to));
        let (start, throttled) = self.throttled(
            Start::Anywhere(1),
            bounds,
            &request,
            batch,
            ledger,
            now,
            plan,
        );
        throttled.into_iter().for_each(|until| plan.wake(until));
        said.push(Said {
            warning: false,
            reason: "NotZoneBalanced",
            message: format!(
                "(service {name}) is not AZ balanced with {}. AZ Rebalancing in progress.",
                zones.counts
            ),
        });
        let mut started = self.start(start, request, batch, ledger, plan);
        let why = format!(" in {} to AZ Rebalance", zones.to);
        said.extend(has_started(&self.subject(), &started.names, &why));
        if let Some((_, why)) = started.unplaceable.take() {
            said.push(Said {
                warning: true,
                reason: "ZoneRebalancingFailed",
                message: format!(
                    "(service {name}) is unable to place a task in {} because no container instance met all of its \
                     requirements. {}",
                    zones.to,
                    why.sentence()
                ),
            });
        }
        let begun = started.names.first().map(|task| ZoneRebalancing {
            from: zones.from,
            to: zones.to,
            task: task.to_string(),
        });
        (started, begun)
    }

    /// The task `task`, placed on `instance`.
    fn task(&self, task: &str, instance: &InstanceName) -> Task {
        let (world, name, service) = (self.world, self.name, self.service);
        let Part {
            id,
            revision_name,
            revision,
            ..
        } = self;
        let mut labels = BTreeMap::from([
            (labels::SERVICE.to_owned(), name.to_string()),
            (labels::CLUSTER.to_owned(), world.cluster.clone()),
            (labels::REVISION.to_owned(), revision_name.to_string()),
            (labels::DEPLOYMENT.to_owned(), id.to_string()),
            (labels::CONTAINER_INSTANCE.to_owned(), instance.to_string()),
            (labels::MANAGED_BY.to_owned(), labels::MANAGER.to_owned()),
        ]);
        let set = self.set.as_ref();
        labels.extend(set.map(|set| (labels::TASK_SET.to_owned(), set.name.clone())));
        let owner = set.map_or_else(|| target(name, service).as_owner(), Target::as_owner);
        Task {
            metadata: ObjectMeta {
                name: Some(task.to_owned()),
                namespace: Some(world.namespace.clone()),
                labels: Some(labels),
                finalizers: Some(vec![labels::STOP_FINALIZER.to_owned()]),
                owner_references: Some(vec![owner]),
                ..ObjectMeta::default()
            },
            spec: TaskSpec {
                cluster: Some(world.cluster.clone()),
                task_definition: revision.ecs_name(),
                container_instance: Some(instance.to_string()),
                group: Some(format!("service:{name}")),
                started_by: Some(id.ecs()),
                desired_status: DesiredStatus::Running,
                container_images: self.images.clone(),
                stop_after: disconnect::stop_after(&service.object.spec),
                tags: self.tags(),
                ..TaskSpec::default()
            },
            status: None,
        }
    }

    fn tags(&self) -> Vec<Tag> {
        let spec = &self.service.object.spec;
        let managed = spec.enable_ecs_managed_tags == Some(true);
        tags::of_task(tags::Origin {
            own: &[],
            propagate: spec.propagate_tags,
            definition: &self.revision.object.spec.definition.tags,
            service: &spec.tags,
            managed: managed.then(|| (self.world.cluster.as_str(), Some(self.name.as_str()))),
        })
    }
}

fn length(list: &[InstanceName]) -> i64 {
    i64::try_from(list.len()).unwrap_or(i64::MAX)
}
