//! How the deployments of a service stand: their records, whether the primary one completed or was given up, and what is
//! told of that (ECS deployments).

use jiff::Timestamp;
use tallyman_crds::{
    CompletedDeployment, DeploymentLifecycle, DeploymentStatus, FailedDeployment, LastStatus,
    MonitorStatus, RolloutState, ServiceStatus,
};

use crate::names::{DeploymentId, ServiceName};
use crate::rollouts::Course;
use crate::service_report::{Scheduled, Verdict, clamp, clamp_len};
use crate::services::time;
use crate::status::Standing;
use crate::world::{ServiceState, TaskState};

/// How far the primary deployment is.
pub(crate) struct Progress {
    pub state: RolloutState,
    /// Not all of its tasks are up, or older ones are left.
    pub early: bool,
    /// Since when it bakes.
    pub baking_since: Option<Timestamp>,
    /// When its baking ends.
    pub wake_at: Option<Timestamp>,
}

/// How far the primary deployment is; `steady`: all of its tasks are up and no older one is left. Early success criteria let it
/// bake once enough of its tasks are healthy, and complete after that, beside older tasks if they say so.
pub(crate) fn progress(
    service: &ServiceState,
    s: &Scheduled<'_>,
    steady: bool,
    now: Timestamp,
) -> Progress {
    let begun = &s.begun;
    let under_way = begun.state == RolloutState::InProgress;
    let (id, members) = (&s.stepped.id, &s.stepped.members);
    let early = service
        .early_success
        .filter(|early| early.is_met(id, members, s.stepped.bounds.desired));
    let baking_since = begun
        .baking_since
        .or((steady || early.is_some()).then_some(now))
        .filter(|_| under_way);
    let baked = baking_since.and_then(|since| since.checked_add(service.guards.bake).ok());
    let done = steady || early.is_some_and(|early| early.lets_go(id, members));
    let state = match begun.state {
        RolloutState::InProgress if s.watch.failure.is_some() => RolloutState::Failed,
        RolloutState::InProgress if done && baked.is_some_and(|at| at <= now) => {
            RolloutState::Completed
        }
        state @ (RolloutState::InProgress | RolloutState::Completed | RolloutState::Failed) => {
            state
        }
    };
    let baking = state == RolloutState::InProgress && !service.guards.bake.is_zero();
    Progress {
        state,
        early: !steady,
        baking_since: baking_since.filter(|_| baking),
        wake_at: baked.filter(|at| baking && *at > now),
    }
}

/// Takes down in `status` which deployment completed last, and which was given up.
pub(crate) fn outcome(
    status: &mut ServiceStatus,
    s: &Scheduled<'_>,
    progress: &Progress,
    trouble: Option<String>,
    now: Timestamp,
) {
    let id = s.stepped.id.ecs();
    match (&s.course, progress.state) {
        (Course::Forward | Course::Paused { .. }, RolloutState::Failed) => {
            if let Some(failure) = &s.watch.failure {
                let last = trouble.map(|t| format!(" Last: {t}.")).unwrap_or_default();
                status.failed_deployment = Some(FailedDeployment {
                    id,
                    task_definition: s.stepped.revision.clone(),
                    reason: format!("{} {}{last}", failure.reason(), failure.sentence()),
                    failed_at: time(now),
                });
            }
        }
        (Course::Forward, RolloutState::InProgress | RolloutState::Completed) => {
            status.failed_deployment = None;
        }
        (Course::RolledBack | Course::GivenUp | Course::Paused { .. }, _) => {}
    }
    if progress.state == RolloutState::Completed {
        status.last_completed_deployment = Some(CompletedDeployment {
            id: s.stepped.id.ecs(),
            task_definition: s.stepped.revision.clone(),
        });
    }
}

/// `verdict` as it is once the fate of the deployment is known.
pub(crate) fn judged(
    verdict: Verdict,
    status: &ServiceStatus,
    s: &Scheduled<'_>,
    progress: &Progress,
) -> Verdict {
    let steady = verdict.standing == Standing::Ready;
    let failed = progress.state == RolloutState::Failed;
    match (&s.course, &status.failed_deployment) {
        (Course::RolledBack, Some(f)) => {
            let how = match (failed, steady) {
                (true, _) => format!("going back to {} failed, too", s.stepped.revision),
                (false, true) => format!("back to {}", s.stepped.revision),
                (false, false) => {
                    format!("rolling back to {}: {}", s.stepped.revision, verdict.short)
                }
            };
            let long = format!(
                "The deployment of {} failed: {} The service is {how}. {AGAIN}",
                f.task_definition, f.reason
            );
            stalled(
                "DeploymentRolledBack",
                format!("{} failed, {how}", f.task_definition),
                long,
            )
        }
        (_, Some(f)) if failed => {
            let long = format!(
                "The deployment of {} failed: {} No more of it is started. {AGAIN}",
                f.task_definition, f.reason
            );
            let short = format!("deployment of {} failed: {}", f.task_definition, f.reason);
            stalled("DeploymentFailed", short, long)
        }
        (
            Course::Paused {
                waiting: Some(next),
            },
            _,
        ) => {
            let text = format!("paused; {next} waits, {} runs", s.stepped.revision);
            reconciling("Paused", text)
        }
        (Course::Paused { waiting: None }, _) if !steady => {
            reconciling("Paused", format!("paused; {}", verdict.short))
        }
        _ if steady && progress.state == RolloutState::InProgress => {
            let until = progress.wake_at.map(|at| at.strftime("%H:%M:%SZ"));
            let until = until.map(|at| format!(" until {at}")).unwrap_or_default();
            let text = format!("{} runs alone and is watched{until}", s.stepped.revision);
            reconciling("Baking", text)
        }
        _ => verdict,
    }
}

/// What a person may do about a deployment that failed.
const AGAIN: &str = "It is tried again once the service names another revision, or the annotation \
                     `tallyman.dev/restartedAt` gets a new value.";

fn stalled(reason: &'static str, short: String, long: String) -> Verdict {
    Verdict {
        standing: Standing::Stalled,
        reason,
        short,
        long,
    }
}

fn reconciling(reason: &'static str, text: String) -> Verdict {
    Verdict {
        standing: Standing::Reconciling,
        reason,
        short: text.clone(),
        long: text,
    }
}

/// Tells what became of the primary deployment (ECS service event messages).
pub(crate) fn said(
    name: &ServiceName,
    previous: &ServiceStatus,
    status: &ServiceStatus,
    s: &Scheduled<'_>,
    say: &mut impl FnMut(bool, &'static str, String),
) {
    let id = s.stepped.id.ecs();
    let before = previous.deployments.first().filter(|d| d.id == id);
    let Some(now) = status.deployments.first() else {
        return;
    };
    if s.course == Course::RolledBack && before.is_none() {
        let text = format!("(service {name}) rolling back to deployment {id}.");
        say(true, "RollingBack", text);
    }
    if before.map(|d| d.rollout_state) == Some(now.rollout_state) {
        return;
    }
    match now.rollout_state {
        RolloutState::InProgress => {}
        RolloutState::Completed => {
            let text = format!("(service {name}) (deployment {id}) deployment completed.");
            say(false, "DeploymentCompleted", text);
        }
        RolloutState::Failed => {
            let why = s.watch.failure.as_ref().map(|f| f.reason());
            let why = why.unwrap_or_default();
            let text = format!("(service {name}) (deployment {id}) deployment failed: {why}");
            say(true, "DeploymentFailed", text);
        }
    }
}

/// The records of the deployments: PRIMARY first, then older ones that still have tasks.
pub(crate) fn records(
    service: &ServiceState,
    s: &Scheduled<'_>,
    progress: &Progress,
    now: Timestamp,
) -> Vec<DeploymentStatus> {
    let mut list = vec![primary(service, s, progress)];
    let mut older: Vec<&DeploymentId> = s
        .stepped
        .members
        .iter()
        .filter(|m| m.task.holds())
        .filter_map(|m| m.task.deployment.as_ref())
        .filter(|d| **d != s.stepped.id)
        .collect();
    older.sort();
    older.dedup();
    list.extend(older.into_iter().map(|d| superseded(service, s, d, now)));
    list
}

fn primary(service: &ServiceState, s: &Scheduled<'_>, progress: &Progress) -> DeploymentStatus {
    let id = s.stepped.id.ecs();
    let known = service.status.deployments.iter().find(|d| d.id == id);
    let completed = progress.state == RolloutState::Completed;
    let mut breaker = s.watch.breaker.clone();
    let mut alarms = s.watch.alarms.clone();
    if completed {
        let done = MonitorStatus::MonitoringComplete;
        breaker.iter_mut().for_each(|b| b.status = done);
        alarms.iter_mut().for_each(|a| a.status = done);
    }
    DeploymentStatus {
        status: DeploymentLifecycle::Primary,
        task_definition: s.stepped.revision.clone(),
        desired_count: clamp(s.stepped.bounds.desired),
        pending_count: count(s, &s.stepped.id, pending),
        running_count: count(s, &s.stepped.id, running),
        failed_tasks: clamp_len(s.stepped.failures),
        rollout_state: progress.state,
        rollout_state_reason: Some(match (progress.state, &s.watch.failure) {
            // How it was when it completed is not told otherwise by what comes later.
            (RolloutState::Completed, _) if s.begun.state == RolloutState::Completed => known
                .and_then(|d| d.rollout_state_reason.clone())
                .unwrap_or_default(),
            (RolloutState::Completed, _) if progress.early => format!(
                "ECS deployment {id} completed: enough of its tasks are healthy (`earlySuccessCriteria`), the rest follows."
            ),
            (RolloutState::Completed, _) => format!("ECS deployment {id} completed."),
            (RolloutState::InProgress, _) if s.course == Course::RolledBack => {
                format!("ECS deployment circuit breaker: rolling back to deploymentId {id}.")
            }
            (RolloutState::InProgress, _) => format!("ECS deployment {id} in progress."),
            (RolloutState::Failed, Some(f)) => {
                format!(
                    "ECS deployment {id} failed: {} {}",
                    f.reason(),
                    f.sentence()
                )
            }
            (RolloutState::Failed, None) => known
                .and_then(|d| d.rollout_state_reason.clone())
                .unwrap_or_default(),
        }),
        created_at: time(s.begun.created_at),
        after_task_number: s.begun.after_task,
        first_running_at: s.watch.first_running_at.map(time),
        baking_since: progress.baking_since.map(time),
        circuit_breaker: breaker,
        alarms,
        blocked_by_protection: s.stepped.blocked,
        container_images: s.stepped.images.clone(),
        id,
    }
}

/// A deployment that is no longer the primary one, as it was when it ceased to be.
fn superseded(
    service: &ServiceState,
    s: &Scheduled<'_>,
    d: &DeploymentId,
    now: Timestamp,
) -> DeploymentStatus {
    let id = d.ecs();
    let known = service.status.deployments.iter().find(|k| k.id == id);
    let revision = s
        .stepped
        .members
        .iter()
        .find(|m| m.task.deployment.as_ref() == Some(d))
        .map(|m| m.task.object.spec.task_definition.clone())
        .unwrap_or_default();
    let counts = (count(s, d, pending), count(s, d, running));
    let record = known.cloned().unwrap_or_else(|| DeploymentStatus {
        id,
        status: DeploymentLifecycle::Active,
        task_definition: revision,
        desired_count: 0,
        pending_count: 0,
        running_count: 0,
        failed_tasks: 0,
        rollout_state: RolloutState::InProgress,
        rollout_state_reason: None,
        created_at: time(now),
        after_task_number: 0,
        first_running_at: None,
        baking_since: None,
        circuit_breaker: None,
        alarms: None,
        blocked_by_protection: false,
        container_images: Vec::new(),
    });
    DeploymentStatus {
        status: DeploymentLifecycle::Active,
        desired_count: 0,
        pending_count: counts.0,
        running_count: counts.1,
        blocked_by_protection: false,
        ..record
    }
}

fn count(s: &Scheduled<'_>, d: &DeploymentId, pick: fn(&TaskState) -> bool) -> i32 {
    let mine = s
        .stepped
        .members
        .iter()
        .filter(|m| m.task.deployment.as_ref() == Some(d));
    clamp_len(mine.filter(|m| !m.absent && pick(m.task)).count())
}

fn running(t: &TaskState) -> bool {
    t.last == LastStatus::Running
}

fn pending(t: &TaskState) -> bool {
    t.holds() && t.last < LastStatus::Running
}
