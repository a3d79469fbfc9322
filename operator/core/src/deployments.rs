//! Arithmetic of a rolling deployment (ECS service scale-in).
//!
//! Every task of a service falls into one bucket by ordered rules, first match wins; the counts of the buckets say
//! how many tasks to start and which to stop. A host that drains is handled like a revision that is superseded.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use sha2::{Digest, Sha256};
use tallyman_crds::{HealthStatus, LastStatus, ServiceSpec};

use crate::names::{DeploymentId, RevisionName, ServiceName, TaskName};
use crate::placement::{self, Ledger, Refusal};
use crate::settings::Settings;
use crate::world::{TaskState, World};

/// Where a task stands in the deployment of its service. In the order of the rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Bucket {
    /// STOPPED: it holds nothing.
    Stopped,
    /// Somebody wants it stopped, or deleted; it still holds its resources.
    Stopping,
    /// Of another deployment than the primary.
    Superseded,
    /// Of the primary deployment, on a host that drains, leaves or is gone.
    Leaving,
    /// Of the primary deployment; an essential container fails its health check.
    Unhealthy,
    /// Of the primary deployment, and to stay.
    Kept,
}

/// A task of the service with its bucket.
#[derive(Clone, Debug)]
pub struct Member<'a> {
    /// Name.
    pub name: &'a TaskName,
    /// State.
    pub task: &'a TaskState,
    /// Bucket.
    pub bucket: Bucket,
    /// An essential container of it has a health check.
    pub checked: bool,
    /// It counts towards `minimumHealthyPercent`.
    pub healthy: bool,
    /// Until when neither scale-in nor a deployment stops it, if that is to come (ECS task scale-in protection). A host
    /// that drains takes its tasks with it, protected or not.
    pub protected_until: Option<Timestamp>,
}

/// The deployment that a service with this spec is to run at this revision. A pure function: deciding twice gives the
/// same deployment, and going back to a revision whose tasks still run goes back to its deployment.
pub fn deployment_id(
    service_uid: &str,
    revision: &RevisionName,
    spec: &ServiceSpec,
) -> DeploymentId {
    // The fields whose change starts a deployment (ECS DeploymentConfiguration), beside the task definition.
    let triggers = serde_json::json!([
        spec.network_configuration,
        spec.platform_version,
        spec.load_balancers,
        spec.service_registries,
        spec.service_connect_configuration,
        spec.volume_configurations,
        spec.vpc_lattice_configurations,
        spec.capacity_provider_strategy,
    ]);
    let digest = Sha256::digest(format!("{service_uid}\n{revision}\n{triggers}"));
    let number = digest
        .iter()
        .take(8)
        .fold(0_u64, |n, b| (n << 8) | u64::from(*b));
    DeploymentId::from(format!("{:019}", number % 10_u64.pow(19)))
}

/// When a task without container health check counts as healthy, if it runs: some 40 s after its start.
pub fn healthy_from(task: &TaskState, settings: &Settings) -> Option<Timestamp> {
    let wait = SignedDuration::try_from(settings.healthy_after).unwrap_or(SignedDuration::MAX);
    task.started_at?.checked_add(wait).ok()
}

fn healthy(task: &TaskState, checked: bool, settings: &Settings, now: Timestamp) -> bool {
    if task.last != LastStatus::Running || task.leaving() || task.health == HealthStatus::Unhealthy
    {
        return false;
    }
    if checked {
        task.health == HealthStatus::Healthy
    } else {
        healthy_from(task, settings).is_some_and(|at| at <= now)
    }
}

/// Sorts the tasks of `service` into buckets.
pub fn classify<'a>(
    world: &'a World,
    service: &ServiceName,
    primary: &DeploymentId,
    now: Timestamp,
) -> Vec<Member<'a>> {
    world
        .tasks_of(service)
        .map(|(name, task)| {
            let checked = task
                .revision
                .as_ref()
                .and_then(|r| world.revisions.get(r))
                .and_then(|r| r.definition.as_ref().ok())
                .is_some_and(|d| d.health_checked);
            Member {
                name,
                task,
                bucket: bucket(world, task, primary),
                checked,
                healthy: healthy(task, checked, &world.settings, now),
                protected_until: task
                    .protected_until
                    .filter(|until| *until > now && !away(world, task)),
            }
        })
        .collect()
}

/// On a host that drains, leaves or is gone.
fn away(world: &World, task: &TaskState) -> bool {
    let host = task.instance.as_ref().and_then(|i| world.instances.get(i));
    match host.map(|h| placement::barred(h, world)) {
        None => true,
        Some(Some(Refusal::Draining | Refusal::Deregistering)) => true,
        Some(_) => false,
    }
}

fn bucket(world: &World, task: &TaskState, primary: &DeploymentId) -> Bucket {
    if !task.holds() {
        return Bucket::Stopped;
    }
    if task.leaving() {
        return Bucket::Stopping;
    }
    if task.deployment.as_ref() != Some(primary) {
        return Bucket::Superseded;
    }
    if away(world, task) {
        Bucket::Leaving
    } else if task.last == LastStatus::Running && task.health == HealthStatus::Unhealthy {
        Bucket::Unhealthy
    } else {
        Bucket::Kept
    }
}

/// What a deployment does next.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Step {
    /// Tasks to start, if hosts are found and the throttle lets them.
    pub start: i64,
    /// Tasks to stop.
    pub stop: Vec<TaskName>,
    /// Nothing can move because of `minimumHealthyPercent` and `maximumPercent`.
    pub deadlock: bool,
}

/// Bounds of a deployment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// D, the desired count.
    pub desired: i64,
    /// L = ceil(D x minimumHealthyPercent / 100), at most D.
    pub lower: i64,
    /// U = floor(D x maximumPercent / 100).
    pub upper: i64,
}

impl Bounds {
    /// Bounds for a desired count and two percentages.
    ///
    /// ```
    /// # use tallyman_operator_core::deployments::Bounds;
    /// // 3 tasks at 50 / 150: at least 2 healthy, at most 4.
    /// let b = Bounds::new(3, 50, 150);
    /// assert_eq!((b.lower, b.upper), (2, 4));
    /// ```
    pub fn new(desired: i64, minimum_healthy_percent: i64, maximum_percent: i64) -> Bounds {
        Bounds {
            desired,
            // More than all cannot be had: without the bound, 150 percent would hold every task for ever.
            lower: ((desired * minimum_healthy_percent + 99) / 100).min(desired),
            upper: desired * maximum_percent / 100,
        }
    }
}

/// What to start and to stop, given the buckets.
///
/// n = min(D - kept, U - T) tasks are started. Of the superseded and leaving tasks those that are PENDING or UNHEALTHY
/// are stopped at once, none that is protected and superseded, those that run and do not count as healthy once L others do, the healthy ones while L stay. T counts every task that is not STOPPED, so
/// that the sum of old, new and stopping never exceeds U.
pub fn step(
    members: &[Member<'_>],
    bounds: Bounds,
    ledger: &Ledger,
    service: &ServiceName,
) -> Step {
    let count = |b: Bucket| {
        i64::try_from(members.iter().filter(|m| m.bucket == b).count()).unwrap_or(i64::MAX)
    };
    let (kept, unhealthy) = (count(Bucket::Kept), count(Bucket::Unhealthy));
    let (superseded, leaving, stopping) = (
        count(Bucket::Superseded),
        count(Bucket::Leaving),
        count(Bucket::Stopping),
    );
    let total = kept + unhealthy + superseded + leaving + stopping;
    let healthy_now =
        i64::try_from(members.iter().filter(|m| m.healthy).count()).unwrap_or(i64::MAX);
    let deploying = superseded + leaving + unhealthy > 0;
    let upper = if deploying {
        bounds.upper
    } else {
        bounds.upper.max(bounds.desired)
    };
    let wanted = (bounds.desired - kept).max(0);
    let start = wanted.min(upper - total).max(0);

    let mut budget = (healthy_now - bounds.lower).max(0);
    let mut stop: Vec<TaskName> = Vec::new();
    let goes = |m: &&Member<'_>| {
        matches!(m.bucket, Bucket::Superseded | Bucket::Leaving) && m.protected_until.is_none()
    };
    let mut old: Vec<&Member<'_>> = members.iter().filter(goes).collect();
    old.sort_by_key(|m| (!idle(m), m.healthy, m.bucket, m.name.clone()));
    for m in old {
        if idle(m) {
            stop.push(m.name.clone());
        } else if !m.healthy {
            // It runs and does not count (yet): without it no less is healthy, but where too little is, it may be
            // what counts next.
            if healthy_now >= bounds.lower {
                stop.push(m.name.clone());
            }
        } else if budget > 0 {
            budget -= 1;
            stop.push(m.name.clone());
        }
    }
    let blocked = start == 0 && total >= upper && stopping == 0;
    stop.extend(unhealthy_to_stop(members, bounds, blocked));
    stop.extend(scale_in(members, bounds, budget, ledger, service));

    let waiting = members.iter().any(|m| {
        m.bucket == Bucket::Stopping
            || (m.bucket != Bucket::Stopped
                && !m.healthy
                && m.task.health != HealthStatus::Unhealthy)
    });
    let stuck = members.iter().any(|m| goes(&m));
    let deadlock = stuck && start == 0 && stop.is_empty() && !waiting;
    Step {
        start,
        stop,
        deadlock,
    }
}

/// Stopping it takes nothing from what is healthy or about to be.
fn idle(m: &Member<'_>) -> bool {
    m.task.last < LastStatus::Running || m.task.health == HealthStatus::Unhealthy
}

/// Unhealthy tasks of the primary deployment: each is stopped once a replacement is healthy; where `maximumPercent`
/// leaves no room for a replacement (`blocked`), they are stopped first, one at a time (ECS unhealthy task replacement).
fn unhealthy_to_stop(members: &[Member<'_>], bounds: Bounds, blocked: bool) -> Vec<TaskName> {
    let mut unhealthy: Vec<_> = members
        .iter()
        .filter(|m| m.bucket == Bucket::Unhealthy)
        .collect();
    let n = i64::try_from(unhealthy.len()).unwrap_or(i64::MAX);
    let healthy_kept = i64::try_from(
        members
            .iter()
            .filter(|m| m.bucket == Bucket::Kept && m.healthy)
            .count(),
    )
    .unwrap_or(i64::MAX);
    let kept = i64::try_from(members.iter().filter(|m| m.bucket == Bucket::Kept).count())
        .unwrap_or(i64::MAX);
    let replaced = (healthy_kept + n - bounds.desired).clamp(0, n);
    let take = if replaced == 0 && blocked && kept + n <= bounds.desired {
        n.min(1)
    } else {
        replaced
    };
    if replaced > 0 {
        // A replacement that turned unhealthy itself is the one that goes: the youngest.
        unhealthy.reverse();
    }
    unhealthy
        .into_iter()
        .take(usize::try_from(take).unwrap_or(0))
        .map(|m| m.name.clone())
        .collect()
}

/// Tasks of the primary deployment above the desired count, less those that are protected: those that do not run yet first, then from the zone and the
/// host with most tasks of the service, the youngest first (ECS service scale-in; ECS picks the last at random).
fn scale_in(
    members: &[Member<'_>],
    bounds: Bounds,
    mut budget: i64,
    ledger: &Ledger,
    service: &ServiceName,
) -> Vec<TaskName> {
    let mut kept: Vec<&Member<'_>> = members
        .iter()
        .filter(|m| m.bucket == Bucket::Kept)
        .collect();
    let excess = i64::try_from(kept.len()).unwrap_or(i64::MAX) - bounds.desired;
    kept.retain(|m| m.protected_until.is_none());
    let mut by_host: BTreeMap<&str, i64> = BTreeMap::new();
    let mut by_zone: BTreeMap<&str, i64> = BTreeMap::new();
    for m in &kept {
        if let Some(i) = &m.task.instance {
            by_host.insert(i.as_str(), ledger.tasks_of(service, i));
            *by_zone.entry(ledger.zone(i)).or_default() += 1;
        }
    }
    let mut stop = Vec::new();
    for _ in 0..excess.max(0) {
        let best = kept.iter().enumerate().max_by_key(|(_, m)| {
            let (host, zone) = m
                .task
                .instance
                .as_ref()
                .map_or((0, 0), |i| (by_host[i.as_str()], by_zone[ledger.zone(i)]));
            (
                Reverse(m.task.last == LastStatus::Running),
                Reverse(m.healthy),
                zone,
                host,
                m.name.clone(),
            )
        });
        let Some((index, _)) = best else { break };
        let m = kept.swap_remove(index);
        if m.healthy {
            if budget <= 0 {
                break;
            }
            budget -= 1;
        }
        if let Some(i) = &m.task.instance {
            by_host.entry(i.as_str()).and_modify(|n| *n -= 1);
            by_zone.entry(ledger.zone(i)).and_modify(|n| *n -= 1);
        }
        stop.push(m.name.clone());
    }
    stop
}
