//! Limits of a cluster, which ECS has as service quotas and the person who runs the operator may set.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use tallyman_crds::ContainerInstance;

use crate::names::{InstanceName, ServiceName, TaskSetName};
use crate::problem::Problem;
use crate::world::{ServiceState, TaskSetState, World};

/// Quotas, with the defaults of ECS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quotas {
    /// Hosts of a cluster.
    pub instances_per_cluster: usize,
    /// Services of a cluster.
    pub services_per_cluster: usize,
    /// Tasks that a service may want.
    pub tasks_per_service: i64,
    /// Tasks of a service that are started within a minute.
    pub launches_per_minute: usize,
    /// Task sets of a service.
    pub task_sets_per_service: usize,
}

impl Default for Quotas {
    fn default() -> Self {
        Quotas {
            instances_per_cluster: 5000,
            services_per_cluster: 5000,
            tasks_per_service: 5000,
            launches_per_minute: 500,
            // "5 deployments exist on the service. Unable to create new TaskSet".
            task_sets_per_service: 5,
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

/// Hosts beyond the quota of their cluster: all but the oldest, of which those that leave do not count. They take no tasks
/// (ECS: they cannot register).
pub(crate) fn beyond<'i>(
    quotas: &Quotas,
    instances: impl Iterator<Item = &'i ContainerInstance>,
) -> BTreeSet<InstanceName> {
    let mut by_age: Vec<_> = instances
        .filter(|i| i.metadata.deletion_timestamp.is_none())
        .map(|i| {
            let name = i.metadata.name.clone().unwrap_or_default();
            let created = i.metadata.creation_timestamp.clone().map(|t| t.0);
            (created, InstanceName::from(name))
        })
        .collect();
    if by_age.len() <= quotas.instances_per_cluster {
        return BTreeSet::new();
    }
    by_age.sort();
    let rest = by_age.into_iter().skip(quotas.instances_per_cluster);
    rest.map(|(_, name)| name).collect()
}

/// Gives every task set beyond the quota of its service the sentence that says so. The oldest stay.
pub(crate) fn enforce_task_sets(
    quotas: &Quotas,
    task_sets: &mut BTreeMap<TaskSetName, TaskSetState>,
) {
    let most = quotas.task_sets_per_service;
    let mut by_age: Vec<_> = task_sets
        .iter()
        .map(|(name, s)| {
            let created = s.object.metadata.creation_timestamp.clone().map(|t| t.0);
            (s.service.clone(), created, name.clone())
        })
        .collect();
    by_age.sort();
    let of_one_service = by_age.chunk_by(|a, b| a.0 == b.0);
    for (service, _, name) in of_one_service.flat_map(|sets| sets.iter().skip(most)) {
        if let Some(set) = task_sets.get_mut(name) {
            set.problems.push(Problem::new(
                "spec.service",
                format!(
                    "must name a service with fewer task sets: `{service}` has {most}, which is the most"
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
