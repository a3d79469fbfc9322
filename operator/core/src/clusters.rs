//! The Cluster object: made on first use, counted, kept while in use.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use tallyman_crds::{Cluster, ClusterSpec, ClusterStatus, conditions, labels, names};

use crate::plan::{Action, Kind, Plan, Target};
use crate::services::time;
use crate::status::{Standing, statements};
use crate::world::World;

/// Makes the cluster if something names it, publishes its counts, lets it go when nothing does.
pub(crate) fn plan_one(world: &World, now: Timestamp, plan: &mut Plan) {
    let Some(object) = &world.cluster_object else {
        // ECS takes names that no object can have, such as `Prod`; such a cluster works without an object.
        if world.in_use() && names::is_object_name(&world.cluster) {
            plan.actions.push(Action::CreateCluster(Box::new(Cluster {
                metadata: ObjectMeta {
                    name: Some(world.cluster.clone()),
                    namespace: Some(world.namespace.clone()),
                    labels: Some(
                        [(labels::MANAGED_BY.to_owned(), labels::MANAGER.to_owned())].into(),
                    ),
                    ..ObjectMeta::default()
                },
                spec: ClusterSpec::default(),
                status: None,
            })));
        }
        return;
    };
    let meta = &object.metadata;
    let target = Target::of(Kind::Cluster, meta);
    let generation = meta.generation.unwrap_or_default();
    let deleting = meta.deletion_timestamp.is_some();
    let fenced = meta
        .finalizers
        .iter()
        .flatten()
        .any(|f| f == labels::IN_USE_FINALIZER);
    if deleting && !world.in_use() && world.unreadable.is_empty() {
        if fenced {
            plan.actions.push(Action::RemoveFinalizer {
                target,
                finalizer: labels::IN_USE_FINALIZER,
            });
        }
        return;
    }
    if !deleting && !fenced {
        plan.actions.push(Action::AddFinalizer {
            target: target.clone(),
            finalizer: labels::IN_USE_FINALIZER,
            label: None,
        });
    }
    let previous = object.status.clone().unwrap_or(ClusterStatus {
        observed_generation: conditions::UNOBSERVED,
        conditions: Vec::new(),
        registered_container_instances_count: 0,
        running_tasks_count: 0,
        pending_tasks_count: 0,
        active_services_count: 0,
    });
    let counts = &world.index.counts;
    let count = |n: usize| i32::try_from(n).unwrap_or(i32::MAX);
    let mut next = ClusterStatus {
        observed_generation: generation,
        conditions: Vec::new(),
        registered_container_instances_count: count(counts.registered),
        running_tasks_count: count(counts.running),
        pending_tasks_count: count(counts.pending),
        active_services_count: count(counts.active_services),
    };
    let (standing, reason, message) = if deleting {
        let text = format!(
            "Cluster {} is kept while it is in use: {} services, {} container instances, {} schedules, {} runs, {} tasks. \
             Delete these first.",
            world.cluster,
            world.services.len(),
            world.instances.len(),
            world.schedules.len(),
            counts.open_runs,
            counts.holding
        );
        (Standing::Reconciling, "InUse", text)
    } else {
        (
            Standing::Ready,
            "Active",
            format!("Cluster {} takes services and tasks.", world.cluster),
        )
    };
    let list = statements(&standing, reason, &message, None);
    next.conditions = conditions::merge(&previous.conditions, &list, generation, &time(now));
    plan.publish(target, &previous, &next);
}
