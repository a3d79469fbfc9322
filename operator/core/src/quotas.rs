//! Limits of a cluster, which ECS has as service quotas and the person who runs the operator may set.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};

use crate::names::{ServiceName, TaskSetName};
use crate::problem::Problem;
use crate::world::{ServiceState, TaskSetState, World};

/// Quotas, with the defaults of ECS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quotas {
    /// Services of a cluster.
    pub services_per_cluster: usize,
    /// Tasks that a service may want.
    pub tasks_per_service: i64,
    /// Tasks of a service that are started within a minute.
    pub launches_per_minute: usize,
}

impl Default for Quotas {
    fn default() -> Self {
        Quotas {
            services_per_cluster: 5000,
            tasks_per_service: 5000,
            launches_per_minute: 500,
        }
    }
}

const MINUTE: SignedDuration = SignedDuration::from_mins(1);

/// Gives every service beyond its quotas the sentence that says so. Of the services of a cluster the oldest stay.
pub(crate) fn enforce(
    quotas: &Quotas,
    cluster: &str,
    services: &mut BTreeMap<ServiceName, ServiceState>,
) {
    let most = quotas.services_per_cluster;
    let mut by_age: Vec<_> = services
        .iter()
        .map(|(name, s)| {
            (
                s.object.metadata.creation_timestamp.clone().map(|t| t.0),
                name.clone(),
            )
        })
        .collect();
    by_age.sort();
    for (_, name) in by_age.into_iter().skip(most) {
        if let Some(service) = services.get_mut(&name) {
            service.problems.push(Problem::new(
                "spec.cluster",
                format!("must name a cluster with fewer services: `{cluster}` has {most}, which is its quota"),
            ));
        }
    }
    for service in services.values_mut() {
        limit(quotas, service);
    }
}

/// Gives a service that wants too many tasks the sentence that says so.
pub(crate) fn limit(quotas: &Quotas, service: &mut ServiceState) {
    if !service.daemon && service.desired > quotas.tasks_per_service {
        service.problems.push(Problem::new(
            "spec.desiredCount",
            format!(
                "must be at most {}, the quota, not {}",
                quotas.tasks_per_service, service.desired
            ),
        ));
    }
}

/// Task sets of a service (ECS: "5 deployments exist on the service. Unable to create new TaskSet").
const TASK_SETS_PER_SERVICE: usize = 5;

/// Gives every task set beyond five of its service the sentence that says so. The oldest stay.
pub(crate) fn enforce_task_sets(task_sets: &mut BTreeMap<TaskSetName, TaskSetState>) {
    let mut by_age: Vec<_> = task_sets
        .iter()
        .map(|(name, s)| {
            let created = s.object.metadata.creation_timestamp.clone().map(|t| t.0);
            (s.service.clone(), created, name.clone())
        })
        .collect();
    by_age.sort();
    let of_one_service = by_age.chunk_by(|a, b| a.0 == b.0);
    for (service, _, name) in
        of_one_service.flat_map(|sets| sets.iter().skip(TASK_SETS_PER_SERVICE))
    {
        if let Some(set) = task_sets.get_mut(name) {
            set.problems.push(Problem::new(
                "spec.service",
                format!(
                    "must name a service with fewer task sets: `{service}` has {TASK_SETS_PER_SERVICE}, which is the most"
                ),
            ));
        }
    }
}

/// How many tasks of `service` may be started now, and when more may.
pub(crate) fn launches(
    world: &World,
    service: &ServiceName,
    now: Timestamp,
) -> (i64, Option<Timestamp>) {
    let recent: Vec<Timestamp> = world
        .tasks_of(service)
        .filter_map(|(_, t)| t.created_at)
        .filter_map(|at| at.checked_add(MINUTE).ok())
        .filter(|until| *until > now)
        .collect();
    let left = world
        .settings
        .quotas
        .launches_per_minute
        .saturating_sub(recent.len());
    let left = i64::try_from(left).unwrap_or(i64::MAX);
    (left, recent.into_iter().min())
}
