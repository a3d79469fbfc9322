//! Arithmetic of a rolling deployment (ECS service scale-in).
//!
//! Every task of a service falls into one bucket by ordered rules, first match wins; the counts of the buckets say
//! how many tasks to start and which to stop. A host that drains is handled like a revision that is superseded.

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;
use sha2::{Digest, Sha256};
use tallyman_crds::{HealthStatus, LastStatus};

use crate::disconnect;
use crate::names::{DeploymentId, InstanceName, RevisionName, ServiceName, TaskName};
use crate::placement::{self, Candidate, Ledger, Refusal, ScaleIn, Strategy};
use crate::settings::Settings;
use crate::status::json;
use crate::world::{ServiceState, TaskState, World};

/// Stopped reason of a task whose container health check failed.
pub const UNHEALTHY: &str = "Task failed container health checks";

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
    /// Of the primary deployment, replaced while its host is silent, and to stay if that comes back: until then it counts for
    /// nothing (`disconnect.keepOnReturn`).
    Absent,
    /// Of a DAEMON service, on a host that does not meet the constraints of the service.
    Misplaced,
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
    /// Its health check fails, and the grace period of its service is over.
    pub sick: bool,
    /// Its host drains, leaves or is gone.
    pub away: bool,
    /// It was replaced while its host was silent, and that is not back for long enough.
    pub absent: bool,
    /// Until when neither scale-in nor a deployment stops it, if that is to come (ECS task scale-in protection). A host
    /// that drains takes its tasks with it, protected or not.
    pub protected_until: Option<Timestamp>,
}

/// The deployment that a service with this spec is to run at this revision. A pure function: deciding twice gives the
/// same deployment, and going back to a revision whose tasks still run goes back to its deployment.
pub fn deployment_id(service: &ServiceState, revision: &RevisionName) -> DeploymentId {
    let spec = &service.object.spec;
    // The fields whose change starts a deployment (ECS DeploymentConfiguration), beside the task definition.
    let mut triggers = vec![
        json(&spec.network_configuration),
        json(&spec.platform_version),
        json(&spec.load_balancers),
        json(&spec.service_registries),
        json(&spec.service_connect_configuration),
        json(&spec.volume_configurations),
        json(&spec.vpc_lattice_configurations),
        json(&spec.capacity_provider_strategy),
    ];
    triggers.extend(service.restarted_at.iter().map(json));
    let (uid, triggers) = (&service.identity.uid, Value::Array(triggers));
    numbered(&format!("{uid}\n{revision}\n{triggers}"))
}

/// The number of the task set with this uid.
pub fn task_set_id(uid: &str) -> DeploymentId {
    numbered(uid)
}

/// A number of nineteen digits, as ECS has them, that follows from `text`.
fn numbered(text: &str) -> DeploymentId {
    let number = Sha256::digest(text)
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

/// When the health check of a task of `service` begins to count.
pub fn counts_from(task: &TaskState, service: &ServiceState) -> Option<Timestamp> {
    task.started_at?.checked_add(service.grace).ok()
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
    let state = world.services.get(service);
    world
        .tasks_of(service)
        .map(|(name, task)| {
            let graced = state.and_then(|s| counts_from(task, s));
            let sick =
                task.health == HealthStatus::Unhealthy && graced.is_none_or(|from| from <= now);
            let checked = task
                .revision
                .as_ref()
                .and_then(|r| world.revisions.get(r))
                .and_then(|r| r.definition.as_ref().ok())
                .is_some_and(|d| d.health_checked);
            let away = away(world, task);
            // It is stopped in this pass, whatever its service is left with.
            let evicted = world.is_evicted(task);
            let absent = disconnect::is_absent(task, &world.settings, now);
            Member {
                name,
                task,
                bucket: bucket(task, evicted, away, absent, sick, primary),
                checked,
                sick,
                healthy: !evicted && !absent && healthy(task, checked, &world.settings, now),
                away,
                absent,
                protected_until: task
                    .protected_until
                    .filter(|until| *until > now && !away && !absent),
            }
        })
        .collect()
}

/// On a host that drains, leaves or is gone.
fn away(world: &World, task: &TaskState) -> bool {
    match world.host_of(task).map(|h| placement::barred(h, world)) {
        None => true,
        Some(Some(Refusal::Draining | Refusal::Deregistering)) => true,
        Some(_) => false,
    }
}

fn bucket(
    task: &TaskState,
    evicted: bool,
    away: bool,
    absent: bool,
    sick: bool,
    primary: &DeploymentId,
) -> Bucket {
    if !task.holds() {
        return Bucket::Stopped;
    }
    if evicted || task.leaving() {
        return Bucket::Stopping;
    }
    if task.deployment.as_ref() != Some(primary) {
        return Bucket::Superseded;
    }
    if away {
        Bucket::Leaving
    } else if absent {
        Bucket::Absent
    } else if task.last == LastStatus::Running && sick {
        Bucket::Unhealthy
    } else {
        Bucket::Kept
    }
}

/// Tasks to start, if there is room and the throttle lets them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Start {
    /// So many, wherever placement puts them.
    Anywhere(i64),
    /// One on each of these hosts.
    On(Vec<InstanceName>),
}

impl Start {
    /// Nothing is started.
    pub fn is_none(&self) -> bool {
        match self {
            Start::Anywhere(n) => *n <= 0,
            Start::On(hosts) => hosts.is_empty(),
        }
    }
}

/// What a deployment does next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// Tasks to start.
    pub start: Start,
    /// Tasks to stop.
    pub stop: Vec<TaskName>,
    /// The zone that loses a task for the one that another zone got, if that is what is stopped.
    pub leaves: Option<String>,
    /// Nothing can move because of `minimumHealthyPercent` and `maximumPercent`.
    pub deadlock: bool,
    /// Protected tasks keep the service from what is wanted, so that no other one may be protected (ECS `DEPLOYMENT_BLOCKED`):
    /// only they take the room of the next task of the primary deployment, or they are more than the desired count.
    pub blocked: bool,
}

/// What a deployment may do at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hold {
    /// Everything within its bounds.
    Free,
    /// The same, but one task more than is desired stays: it is to replace one that runs.
    Spare,
    /// Only replace what ends: neither revision gains on the other.
    Still,
    /// Start nothing.
    Frozen,
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
    /// What L was made of.
    pub minimum_healthy_percent: i64,
    /// What U was made of.
    pub maximum_percent: i64,
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
            minimum_healthy_percent,
            maximum_percent,
        }
    }
}

/// What to start and to stop, given the buckets.
///
/// n = min(D - kept, U - T) tasks are started. Of the superseded and leaving tasks those that are PENDING or UNHEALTHY
/// are stopped at once, none that is protected and superseded, those that run and do not count as healthy once L others do, the healthy ones while L stay. T counts every task that is not STOPPED, so
/// that the sum of old, new and stopping never exceeds U; but for those that are absent, which were replaced. Of them none stays
/// above D, and none that is superseded.
///
/// Under [`Hold::Still`] superseded tasks on hosts that stay count as kept, and of them together no more are stopped than
/// are above U; under [`Hold::Frozen`] moreover nothing is started, and so nothing unhealthy is stopped for it.
pub fn step(
    members: &[Member<'_>],
    bounds: Bounds,
    hold: Hold,
    ledger: &Ledger,
    strategy: &Strategy,
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
    let still = match hold {
        Hold::Free | Hold::Spare => false,
        Hold::Still | Hold::Frozen => true,
    };
    let stays = |m: &&Member<'_>| still && m.bucket == Bucket::Superseded && !m.away && !m.absent;
    let staying = i64::try_from(members.iter().filter(stays).count()).unwrap_or(i64::MAX);
    let wanted = match hold {
        Hold::Free | Hold::Spare | Hold::Still => (bounds.desired - kept - staying).max(0),
        Hold::Frozen => 0,
    };
    let start = wanted.min(upper - total).max(0);

    let mut budget = (healthy_now - bounds.lower).max(0);
    let mut stop: Vec<TaskName> = Vec::new();
    let goes = |m: &&Member<'_>| {
        matches!(m.bucket, Bucket::Superseded | Bucket::Leaving)
            && m.protected_until.is_none()
            && !stays(m)
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
    let absent = members.iter().filter(|m| m.bucket == Bucket::Absent);
    let unwanted = (count(Bucket::Absent) - bounds.desired).max(0);
    let unwanted = usize::try_from(unwanted).unwrap_or(0);
    stop.extend(absent.rev().take(unwanted).map(|m| m.name.clone()));
    let blocked = start == 0 && total >= upper && stopping == 0;
    if hold != Hold::Frozen {
        stop.extend(unhealthy_to_stop(members, bounds, blocked));
    }
    let candidates = members
        .iter()
        .filter(|m| m.bucket == Bucket::Kept || stays(m))
        .collect();
    let limit = match hold {
        Hold::Free => bounds.desired,
        Hold::Spare => bounds.desired + 1,
        Hold::Still | Hold::Frozen => bounds.upper.max(bounds.desired),
    };
    stop.extend(scale_in(candidates, limit, budget, ledger, strategy));

    let waiting = members.iter().any(|m| {
        let idles = matches!(m.bucket, Bucket::Stopped | Bucket::Absent);
        m.bucket == Bucket::Stopping || (!idles && !m.healthy && !m.sick)
    });
    let stuck = members.iter().any(|m| goes(&m));
    let deadlock = stuck && start == 0 && stop.is_empty() && !waiting;
    let in_the_way = members
        .iter()
        .any(|m| m.bucket == Bucket::Superseded && m.protected_until.is_some() && !stays(&m));
    let stalled =
        in_the_way && !stuck && wanted > 0 && start == 0 && stop.is_empty() && stopping == 0;
    let protected = members
        .iter()
        .filter(|m| m.bucket > Bucket::Stopping && m.protected_until.is_some());
    let protected = i64::try_from(protected.count()).unwrap_or(i64::MAX);
    Step {
        start: Start::Anywhere(start),
        stop,
        leaves: None,
        deadlock,
        blocked: stalled || protected > bounds.desired,
    }
}

/// Stopping it takes nothing from what is healthy or about to be.
fn idle(m: &Member<'_>) -> bool {
    m.task.last < LastStatus::Running || m.sick || m.absent
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

/// Tasks of `kept` above `limit`, less those that are protected, in the order of [`ScaleIn::pick`].
fn scale_in(
    kept: Vec<&Member<'_>>,
    limit: i64,
    mut budget: i64,
    ledger: &Ledger,
    strategy: &Strategy,
) -> Vec<TaskName> {
    let excess = i64::try_from(kept.len()).unwrap_or(i64::MAX) - limit;
    if excess <= 0 {
        return Vec::new();
    }
    let hosts = kept.iter().filter_map(|m| m.task.instance.as_ref());
    let mut order = ScaleIn::of(ledger, strategy, hosts);
    let back = |m: &&&Member<'_>| m.task.absence.is_some();
    let first_back = kept.iter().filter(back).map(|m| m.name).min();
    let replaces = |m: &&Member<'_>| !back(&m) && first_back.is_some_and(|first| m.name > first);
    let mut candidates: Vec<Candidate<'_>> = kept
        .iter()
        .filter(|m| m.protected_until.is_none())
        .map(|m| Candidate {
            name: m.name,
            uid: &m.task.identity.uid,
            host: m.task.instance.as_ref(),
            running: m.task.last == LastStatus::Running,
            healthy: m.healthy,
            replaces: replaces(m),
            demand: &m.task.demand,
        })
        .collect();
    let mut stop = Vec::new();
    for _ in 0..excess {
        let Some(next) = order.pick(&mut candidates) else {
            break;
        };
        if next.healthy {
            if budget <= 0 {
                break;
            }
            budget -= 1;
        }
        stop.push(next.name.clone());
    }
    stop
}
