//! What is measured of clusters and services, as ECS defines it (ECS CloudWatch metrics: CPUReservation, MemoryReservation and
//! what service utilization is counted against), and how things stand in numbers.
//!
//! Here are the values; the shell gives them names for Prometheus. Nothing is decided by them. How much tasks *use* only their
//! hosts know: agents tell that themselves, so that no measurement goes through the API server, and recording rules
//! (`charts/tallyman/files`) divide it by what is here.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use tallyman_crds::conditions::READY;
use tallyman_crds::{
    ConditionStatus, DesiredInstanceStatus, LastStatus, RolloutState, TaskDefinitionSpec,
};

use crate::definition::memory_mib;
use crate::names::ServiceName;
use crate::world::{InstanceState, ServiceState, World};

/// CPU units, MiB and whole GPUs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Amount {
    /// CPU units; 1024 are one core.
    pub cpu: i64,
    /// MiB.
    pub memory: i64,
    /// Whole GPUs.
    pub gpus: i64,
}

impl std::ops::AddAssign for Amount {
    fn add_assign(&mut self, other: Amount) {
        self.cpu += other.cpu;
        self.memory += other.memory;
        self.gpus += other.gpus;
    }
}

/// `part` of `whole` in percent; 0 of nothing.
///
/// ```
/// # use tallyman_operator_core::figures::percent;
/// assert_eq!(percent(2048, 512), 400.0);
/// assert_eq!(percent(1, 0), 0.0);
/// ```
#[expect(
    clippy::cast_precision_loss,
    reason = "a share for people, and no count"
)]
pub fn percent(part: i64, whole: i64) -> f64 {
    if whole == 0 {
        0.0
    } else {
        part as f64 / whole as f64 * 100.0
    }
}

/// How a host stands, for counting.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Standing {
    /// Its agent has not registered yet.
    Registering,
    /// It takes tasks.
    Active,
    /// It is DRAINING, or leaves.
    Draining,
    /// Its agent is not connected.
    Disconnected,
}

impl Standing {
    /// As a label of a metric.
    pub fn as_str(self) -> &'static str {
        match self {
            Standing::Registering => "registering",
            Standing::Active => "active",
            Standing::Draining => "draining",
            Standing::Disconnected => "disconnected",
        }
    }

    fn of(i: &InstanceState, world: &World) -> Standing {
        if i.host.is_none() {
            Standing::Registering
        } else if !i.connected(&world.settings) {
            Standing::Disconnected
        } else if i.identity.deleting || i.wanted == DesiredInstanceStatus::Draining {
            Standing::Draining
        } else {
            Standing::Active
        }
    }
}

/// Figures of a cluster.
#[derive(Clone, Debug, PartialEq)]
pub struct Cluster {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// What hosts registered, those that drain and those whose agent is not connected included (ECS: ACTIVE and DRAINING).
    pub registered: Amount,
    /// What tasks hold there.
    pub reserved: Amount,
    /// Hosts.
    pub instances: BTreeMap<Standing, i64>,
    /// Tasks that are RUNNING.
    pub running: i64,
    /// Tasks that hold resources and do not run yet.
    pub pending: i64,
    /// Its services.
    pub services: Vec<Service>,
    /// Runs that have not ended.
    pub open_runs: i64,
}

/// Figures of a service.
#[derive(Clone, Debug, PartialEq)]
pub struct Service {
    /// Name.
    pub name: ServiceName,
    /// Copies wanted.
    pub desired: i64,
    /// Copies that are RUNNING.
    pub running: i64,
    /// Copies that hold resources and do not run yet.
    pub pending: i64,
    /// It is Ready.
    pub ready: bool,
    /// Reason of its Ready condition, such as `RollingOut`.
    pub reason: String,
    /// Its deployments by state, such as `IN_PROGRESS`.
    pub rollouts: BTreeMap<&'static str, i64>,
    /// CPU units that its RUNNING tasks reserve: what CPUUtilization is counted against.
    pub cpu_reserved: i64,
    /// MiB that its RUNNING tasks may use: the hard limit where there is one, else what is reserved. MemoryUtilization is
    /// counted against it.
    pub memory_allowed: i64,
}

/// Figures of a cluster.
pub fn of(world: &World) -> Cluster {
    let mut registered = Amount::default();
    let mut instances = BTreeMap::new();
    for i in world.instances.values() {
        *instances.entry(Standing::of(i, world)).or_default() += 1;
        if let Some(host) = &i.host {
            let has = &host.registered_resources;
            registered += Amount {
                cpu: has.cpu,
                memory: has.memory,
                gpus: count(has.gpu.len()),
            };
        }
    }
    let mut reserved = Amount::default();
    let registered_host = |t: &crate::world::TaskState| {
        let host = t.instance.as_ref().and_then(|h| world.instances.get(h));
        host.is_some_and(|i| i.host.is_some())
    };
    for t in world.tasks.values() {
        if t.holds() && registered_host(t) {
            reserved += Amount {
                cpu: t.demand.cpu,
                memory: t.demand.memory,
                gpus: t.demand.gpus,
            };
        }
    }
    let counts = &world.index.counts;
    Cluster {
        namespace: world.namespace.clone(),
        name: world.cluster.clone(),
        registered,
        reserved,
        instances,
        running: count(counts.running),
        pending: count(counts.pending),
        services: world
            .services
            .iter()
            .map(|(name, s)| service(world, name, s))
            .collect(),
        open_runs: count(counts.open_runs),
    }
}

fn service(world: &World, name: &ServiceName, s: &ServiceState) -> Service {
    let (mut running, mut pending, mut cpu_reserved, mut memory_allowed) = (0, 0, 0, 0);
    for (_, t) in world.tasks_of(name) {
        if t.last == LastStatus::Running {
            running += 1;
            cpu_reserved += t.demand.cpu;
            let revision = t.revision.as_ref().and_then(|r| world.revisions.get(r));
            memory_allowed += revision.map_or(t.demand.memory, |r| {
                allowed(&r.object.spec.definition).max(t.demand.memory)
            });
        } else if t.holds() && t.last < LastStatus::Running {
            pending += 1;
        }
    }
    let status = &s.status;
    let ready = status.conditions.iter().find(|c| c.type_ == READY);
    let mut rollouts = BTreeMap::new();
    for deployment in &status.deployments {
        let state = match deployment.rollout_state {
            RolloutState::InProgress => "IN_PROGRESS",
            RolloutState::Completed => "COMPLETED",
            RolloutState::Failed => "FAILED",
        };
        *rollouts.entry(state).or_default() += 1;
    }
    Service {
        name: name.clone(),
        desired: if s.daemon {
            i64::from(status.desired_count)
        } else {
            s.desired
        },
        running,
        pending,
        ready: ready.is_some_and(|c| c.status == ConditionStatus::True),
        reason: ready.map_or_else(|| "Unknown".to_owned(), |c| c.reason.clone()),
        rollouts,
        cpu_reserved,
        memory_allowed,
    }
}

/// MiB that a task of `spec` may use: its own size, else what its containers may, of which each has its hard limit where it
/// has one.
fn allowed(spec: &TaskDefinitionSpec) -> i64 {
    let own = spec.memory.as_deref().and_then(memory_mib);
    own.unwrap_or_else(|| {
        let each = spec.container_definitions.iter();
        let limits = each.filter_map(|c| c.memory.or(c.memory_reservation));
        limits.map(i64::from).sum()
    })
}

fn count(n: usize) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

/// How long a start is remembered after it was counted.
const REMEMBERED: SignedDuration = SignedDuration::from_mins(15);

/// Counts how long tasks took from their creation until they ran, each once.
#[derive(Clone, Debug, Default)]
pub struct Starts {
    /// Those that were counted, or ran before this began.
    known: BTreeSet<String>,
    began: bool,
}

impl Starts {
    /// Seconds that each task took that began to run since this was asked last. What ran before the first question is not
    /// counted, and what is told of later than 15 minutes after it ran neither.
    pub fn since(&mut self, worlds: &[&World], now: Timestamp) -> Vec<f64> {
        let mut found = Vec::new();
        let mut fresh = BTreeSet::new();
        for t in worlds.iter().flat_map(|world| world.tasks.values()) {
            let (Some(created), Some(started)) = (t.created_at, t.started_at) else {
                continue;
            };
            if now.duration_since(started) >= REMEMBERED {
                continue;
            }
            let uid = &t.identity.uid;
            if self.began && !self.known.contains(uid) {
                found.push(started.duration_since(created).as_secs_f64().max(0.0));
            }
            fresh.insert(uid.clone());
        }
        self.known = fresh;
        self.began = true;
        found
    }
}
