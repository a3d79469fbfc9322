//! What gives a deployment up that does not work out: circuit breaker, alarms, a time limit (ECS deployment failure
//! detection). They watch a deployment until it completes; a steady service is not watched.
//!
//! The breaker's evidence are the failed tasks themselves, as for the launch throttle: there is no counter to get out of
//! step, and a pass that is repeated counts nothing twice.

use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp};
use tallyman_crds::conditions::READY;
use tallyman_crds::ecs::{
    CountedFailure, DeploymentConfiguration, DeploymentEarlySuccessCriteria,
    ServiceRevisionCleanup, ThresholdConfiguration, ThresholdType,
};
use tallyman_crds::{
    AlarmsStatus, CircuitBreakerStatus, ConditionStatus, DeploymentStatus, LastStatus,
    MonitorStatus, RolloutState, ServiceStatus, StopCode, names,
};

use crate::deployments::{self, Member};
use crate::names::{DeploymentId, ServiceName, TaskName};
use crate::services::time;
use crate::settings::Settings;
use crate::world::{TaskState, World};

/// When the circuit breaker trips.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Threshold {
    /// At so many failures.
    Count(i64),
    /// At a percentage of the desired count, but 3 to 200.
    Bounded(i64),
    /// At a percentage of the desired count.
    Unbounded(i64),
}

impl Threshold {
    /// Failures at which a deployment of `desired` tasks is given up; at least 1 (ECS deployment circuit breaker).
    ///
    /// ```
    /// # use tallyman_operator_core::guards::Threshold;
    /// let half = Threshold::Bounded(50);
    /// assert_eq!([1, 25, 400, 800].map(|d| half.of(d)), [3, 13, 200, 200]);
    /// assert_eq!(Threshold::Unbounded(50).of(1), 1);
    /// assert_eq!(Threshold::Unbounded(10).of(800), 80);
    /// assert_eq!(Threshold::Count(0).of(9), 1);
    /// ```
    pub fn of(self, desired: i64) -> i64 {
        let part = |percent: i64| (desired * percent + 99) / 100;
        match self {
            Threshold::Count(n) => n.max(1),
            Threshold::Bounded(percent) => part(percent).clamp(3, 200),
            Threshold::Unbounded(percent) => part(percent).max(1),
        }
    }
}

/// A circuit breaker that is enabled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Breaker {
    /// A deployment that was given up goes back to the one that completed last.
    pub rollback: bool,
    /// A task that becomes healthy sets the count to 0.
    pub reset_on_healthy: bool,
    /// When it trips.
    pub threshold: Threshold,
    /// What it counts.
    pub counts: BTreeSet<CountedFailure>,
}

/// Alarms that are watched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Alarms {
    /// Their names.
    pub names: BTreeSet<String>,
    /// A deployment that was given up goes back to the one that completed last.
    pub rollback: bool,
}

/// When a deployment completes although not all of its tasks run yet (ECS `earlySuccessCriteria`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Early {
    /// So many tasks of it must be healthy, in percent of the desired count, rounded up.
    pub healthy_percent: i64,
    /// And no older task may be left (`BLOCKING`).
    pub after_cleanup: bool,
}

/// What guards the deployments of a service.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Guards {
    /// The circuit breaker, if it is enabled.
    pub breaker: Option<Breaker>,
    /// The alarms, if they are enabled.
    pub alarms: Option<Alarms>,
    /// How long a deployment may take.
    pub timeout: Option<SignedDuration>,
    /// How long it is watched after its last old task has gone.
    pub bake: SignedDuration,
    /// When it completes early, if it may.
    pub early: Option<Early>,
}

impl Guards {
    /// Guards that `configuration` asks for.
    pub fn of(configuration: Option<&DeploymentConfiguration>) -> Guards {
        let Some(c) = configuration else {
            return Guards::default();
        };
        let minutes = |m: i32| SignedDuration::from_mins(i64::from(m));
        let breaker = c.deployment_circuit_breaker.as_ref().filter(|b| b.enable);
        let alarms = c.alarms.as_ref().filter(|a| a.enable);
        Guards {
            breaker: breaker.map(|b| Breaker {
                rollback: b.rollback,
                reset_on_healthy: b.reset_on_healthy_task.unwrap_or(true),
                threshold: threshold(b.threshold_configuration.as_ref()),
                counts: if b.counted_failures.is_empty() {
                    [
                        CountedFailure::TaskFailedToStart,
                        CountedFailure::HealthCheckFailed,
                    ]
                    .into()
                } else {
                    b.counted_failures.iter().copied().collect()
                },
            }),
            alarms: alarms.map(|a| Alarms {
                names: a.alarm_names.iter().cloned().collect(),
                rollback: a.rollback,
            }),
            timeout: c.timeout_in_minutes.map(minutes),
            bake: minutes(c.bake_time_in_minutes.unwrap_or(0)),
            early: c.early_success_criteria.as_ref().and_then(early),
        }
    }

    /// A deployment that was given up goes back to the one that completed last.
    pub fn roll_back(&self) -> bool {
        self.breaker.as_ref().is_some_and(|b| b.rollback)
            || self.alarms.as_ref().is_some_and(|a| a.rollback)
    }
}

/// Both fields are there with `enable: true`, or the service is refused.
fn early(criteria: &DeploymentEarlySuccessCriteria) -> Option<Early> {
    let cleanup = criteria.source_service_revision_cleanup?;
    criteria.enable.then_some(Early {
        healthy_percent: i64::from(criteria.healthy_percent?),
        after_cleanup: match cleanup {
            ServiceRevisionCleanup::Blocking => true,
            ServiceRevisionCleanup::Deferred => false,
        },
    })
}

fn threshold(configuration: Option<&ThresholdConfiguration>) -> Threshold {
    match configuration {
        None => Threshold::Bounded(50),
        Some(c) => match c.r#type {
            ThresholdType::Count => Threshold::Count(i64::from(c.value)),
            ThresholdType::BoundedPercent => Threshold::Bounded(i64::from(c.value)),
            ThresholdType::UnboundedPercent => Threshold::Unbounded(i64::from(c.value)),
        },
    }
}

/// Why a deployment was given up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The circuit breaker tripped.
    Tasks {
        /// Failures counted.
        count: i64,
        /// Failures at which it trips.
        threshold: i64,
    },
    /// Alarms went off.
    Alarms(Vec<String>),
    /// It took too long.
    Timeout(SignedDuration),
}

impl Failure {
    /// How the ECS event goes on after "deployment failed: ".
    pub fn reason(&self) -> String {
        match self {
            Failure::Tasks { .. } => "tasks failed to start.".to_owned(),
            Failure::Alarms(_) => "alarm detected.".to_owned(),
            Failure::Timeout(_) => "deployment timed out.".to_owned(),
        }
    }

    /// What happened, with figures.
    pub fn sentence(&self) -> String {
        match self {
            Failure::Tasks { count, threshold } => {
                format!("{count} failures were counted, the threshold is {threshold}.")
            }
            Failure::Alarms(names) => format!("Alarms went off: {}.", names.join(", ")),
            Failure::Timeout(limit) => {
                format!(
                    "It did not complete within `timeoutInMinutes`, {}.",
                    limit.as_mins()
                )
            }
        }
    }
}

/// What is remembered of the primary deployment's current try.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Begun {
    /// When it became primary.
    pub created_at: Timestamp,
    /// Tasks with a higher number are of this try.
    pub after_task: i64,
    /// When a task of this try first ran.
    pub first_running_at: Option<Timestamp>,
    /// Failures since then are counted.
    pub counted_from: Timestamp,
    /// Since when no host takes its next task.
    pub unplaceable_since: Option<Timestamp>,
    /// Alarms that went off before it began.
    pub ignored_alarms: Vec<String>,
    /// Since when it bakes.
    pub baking_since: Option<Timestamp>,
    /// How far it is.
    pub state: RolloutState,
}

impl Begun {
    /// What `status` remembers of deployment `id`; a new try if it was not primary.
    pub fn of(
        status: &ServiceStatus,
        id: &DeploymentId,
        alarming: &BTreeSet<String>,
        now: Timestamp,
    ) -> Begun {
        let Some(known) = status.deployments.first().filter(|d| d.id == id.ecs()) else {
            return Begun {
                created_at: now,
                after_task: status.last_task_number,
                first_running_at: None,
                counted_from: now,
                unplaceable_since: None,
                ignored_alarms: alarming.iter().cloned().collect(),
                baking_since: None,
                state: RolloutState::InProgress,
            };
        };
        Begun::known(known)
    }

    fn known(known: &DeploymentStatus) -> Begun {
        let at = |t: &k8s_openapi::apimachinery::pkg::apis::meta::v1::Time| t.0;
        let breaker = known.circuit_breaker.as_ref();
        Begun {
            created_at: known.created_at.0,
            after_task: known.after_task_number,
            first_running_at: known.first_running_at.as_ref().map(at),
            counted_from: breaker.map_or(known.created_at.0, |b| b.counted_from.0),
            unplaceable_since: breaker.and_then(|b| b.unplaceable_since.as_ref()).map(at),
            ignored_alarms: known
                .alarms
                .as_ref()
                .map(|a| a.ignored_alarm_names.clone())
                .unwrap_or_default(),
            baking_since: known.baking_since.as_ref().map(at),
            state: known.rollout_state,
        }
    }
}

/// What the guards say of a deployment.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Watch {
    /// For the status.
    pub breaker: Option<CircuitBreakerStatus>,
    /// For the status.
    pub alarms: Option<AlarmsStatus>,
    /// When a task of this try first ran.
    pub first_running_at: Option<Timestamp>,
    /// Why it is given up, if it is now.
    pub failure: Option<Failure>,
    /// When time alone changes the answer.
    pub wake_at: Option<Timestamp>,
}

impl Watch {
    /// Takes down whether a host was found for the next task.
    pub fn note_placement(
        &mut self,
        guards: &Guards,
        begun: &Begun,
        unplaceable: bool,
        now: Timestamp,
    ) {
        let (Some(status), Some(breaker)) = (&mut self.breaker, &guards.breaker) else {
            return;
        };
        if !breaker.counts.contains(&CountedFailure::PlacementFailed) {
            return;
        }
        let since = unplaceable.then(|| begun.unplaceable_since.unwrap_or(now));
        status.unplaceable_since = since.map(time);
        if let Some(since) = since {
            let next = SignedDuration::from_mins(now.duration_since(since).as_mins() + 1);
            let next = since.checked_add(next).ok();
            self.wake_at = [self.wake_at, next].into_iter().flatten().min();
        }
    }
}

/// Asks the guards of `service` about its primary deployment `id`.
pub fn watch(
    world: &World,
    service: &ServiceName,
    id: &DeploymentId,
    begun: &Begun,
    members: &[Member<'_>],
    now: Timestamp,
) -> Watch {
    let Some(state) = world.services.get(service) else {
        return Watch::default();
    };
    let known = state
        .status
        .deployments
        .first()
        .filter(|d| d.id == id.ecs());
    let tries: Vec<&Member<'_>> = members
        .iter()
        .filter(|m| of_try(service, id, begun, m.name, m.task))
        .collect();
    let ran = tries.iter().filter_map(|m| m.task.started_at).min();
    let first_running_at = [begun.first_running_at, ran].into_iter().flatten().min();
    if begun.state != RolloutState::InProgress {
        return Watch {
            breaker: known.and_then(|d| d.circuit_breaker.clone()),
            alarms: known.and_then(|d| d.alarms.clone()),
            first_running_at,
            ..Watch::default()
        };
    }
    let mut watch = Watch {
        first_running_at,
        ..Watch::default()
    };
    if let Some(breaker) = &state.guards.breaker {
        trip(
            breaker,
            begun,
            &tries,
            state.desired,
            &world.settings,
            now,
            &mut watch,
        );
    }
    if let Some(alarms) = &state.guards.alarms {
        alarm(alarms, &state.alarming, begun, &mut watch);
    }
    if let Some(limit) = state.guards.timeout
        && let Ok(at) = begun.created_at.checked_add(limit)
    {
        if at <= now {
            watch.failure.get_or_insert(Failure::Timeout(limit));
        } else {
            watch.wake_at = [watch.wake_at, Some(at)].into_iter().flatten().min();
        }
    }
    watch
}

/// Of the current try of its deployment, and not of an earlier one that was gone back to.
fn of_try(
    service: &ServiceName,
    id: &DeploymentId,
    begun: &Begun,
    name: &TaskName,
    task: &TaskState,
) -> bool {
    task.deployment.as_ref() == Some(id)
        && names::service_task_number(service.as_str(), name.as_str())
            .is_some_and(|n| n > begun.after_task)
}

fn trip(
    breaker: &Breaker,
    begun: &Begun,
    tries: &[&Member<'_>],
    desired: i64,
    settings: &Settings,
    now: Timestamp,
    watch: &mut Watch,
) {
    let count = |from: Timestamp| {
        let failed = tries.iter().filter(|m| {
            failure(m.task, watch.first_running_at).is_some_and(|f| breaker.counts.contains(&f))
                && m.task.stopped_at.is_some_and(|at| at >= from)
        });
        let waited = begun
            .unplaceable_since
            .filter(|_| breaker.counts.contains(&CountedFailure::PlacementFailed))
            .map_or(0, |since| {
                now.duration_since(since.max(from)).as_mins().max(0)
            });
        waited.saturating_add(i64::try_from(failed.count()).unwrap_or(i64::MAX))
    };
    let healthy = tries
        .iter()
        .filter(|m| breaker.reset_on_healthy && m.healthy)
        .filter_map(|m| healthy_since(m, settings))
        .max();
    let mut counted_from = begun.counted_from;
    if let Some(at) = healthy.filter(|at| *at > counted_from)
        && count(at) < count(counted_from)
    {
        counted_from = at;
    }
    let (failures, threshold) = (count(counted_from), breaker.threshold.of(desired));
    if failures >= threshold {
        watch.failure = Some(Failure::Tasks {
            count: failures,
            threshold,
        });
    }
    let small = |n: i64| i32::try_from(n).unwrap_or(i32::MAX);
    watch.breaker = Some(CircuitBreakerStatus {
        status: if watch.failure.is_some() {
            MonitorStatus::Triggered
        } else {
            MonitorStatus::Monitoring
        },
        failure_count: small(failures),
        threshold: small(threshold),
        counted_from: time(counted_from),
        unplaceable_since: None,
    });
}

/// Which failure a STOPPED task is, if it is one that a breaker may count. Once a task of the deployment ran, another
/// that does not start says more of its host than of the deployment (ECS: the second stage).
fn failure(task: &TaskState, first_running_at: Option<Timestamp>) -> Option<CountedFailure> {
    if task.last != LastStatus::Stopped {
        return None;
    }
    if task.failed_health_checks {
        return Some(CountedFailure::HealthCheckFailed);
    }
    match task.stop_code? {
        StopCode::TaskFailedToStart => {
            let ran_before = first_running_at
                .zip(task.stopped_at)
                .is_some_and(|(ran, stopped)| ran < stopped);
            (task.started_at.is_none() && !ran_before).then_some(CountedFailure::TaskFailedToStart)
        }
        StopCode::EssentialContainerExited => Some(CountedFailure::EssentialContainerExited),
        StopCode::UserInitiated
        | StopCode::ServiceSchedulerInitiated
        | StopCode::SpotInterruption
        | StopCode::TerminationNotice
        | StopCode::InfrastructureHealth => None,
    }
}

/// Since when a healthy task is.
fn healthy_since(m: &Member<'_>, settings: &Settings) -> Option<Timestamp> {
    if !m.checked {
        return deployments::healthy_from(m.task, settings);
    }
    let conditions = &m.task.object.status.as_ref()?.conditions;
    let ready = conditions.iter().find(|c| c.type_ == READY)?;
    (ready.status == ConditionStatus::True).then_some(ready.last_transition_time.0)
}

fn alarm(alarms: &Alarms, alarming: &BTreeSet<String>, begun: &Begun, watch: &mut Watch) {
    let triggered: Vec<String> = alarms
        .names
        .iter()
        .filter(|name| alarming.contains(*name) && !begun.ignored_alarms.contains(*name))
        .cloned()
        .collect();
    let ignored = begun.ignored_alarms.iter();
    watch.alarms = Some(AlarmsStatus {
        status: if triggered.is_empty() {
            MonitorStatus::Monitoring
        } else {
            MonitorStatus::Triggered
        },
        triggered_alarm_names: triggered.clone(),
        ignored_alarm_names: ignored
            .filter(|name| alarms.names.contains(*name))
            .cloned()
            .collect(),
    });
    if !triggered.is_empty() {
        watch.failure.get_or_insert(Failure::Alarms(triggered));
    }
}

/// Tasks that a deployment under way is judged by: they outlive the retention of tasks.
pub(crate) fn evidence<'w>(
    world: &'w World,
    service: &'w ServiceName,
) -> impl Iterator<Item = &'w TaskName> {
    let state = world.services.get(service);
    let watched = state
        .filter(|s| s.guards.breaker.is_some())
        .and_then(|s| s.status.deployments.first())
        .filter(|d| d.rollout_state == RolloutState::InProgress);
    let watched = watched.and_then(|d| Some((DeploymentId::of_ecs(&d.id)?, Begun::known(d))));
    watched.into_iter().flat_map(move |(id, begun)| {
        world.tasks_of(service).filter_map(move |(name, task)| {
            let counts = of_try(service, &id, &begun, name, task)
                && failure(task, begun.first_running_at).is_some()
                && task.stopped_at.is_some_and(|at| at >= begun.counted_from);
            counts.then_some(name)
        })
    })
}
