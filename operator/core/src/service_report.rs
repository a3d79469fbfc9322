//! How a service stands: status, conditions, the line in the STATUS column, and events on transitions.

use jiff::{Timestamp, Unit};
use tallyman_crds::conditions::{self, Statement};
use tallyman_crds::{
    ConditionStatus, HealthStatus, LastStatus, ServiceLifecycle, ServiceStatus, StopCode,
    ZoneRebalancing, labels,
};

use crate::deployment_report;
use crate::deployments::{Bucket, Member};
use crate::disconnect;
use crate::guards::{Begun, Watch};
use crate::names::{DeploymentId, ServiceName};
use crate::placement::plural;
use crate::plan::{Kind, Plan, Target};
use crate::rollouts::Course;
use crate::service_events::{self, Said};
use crate::services::{part::Stepped, time};
use crate::status::{Standing, statements};
use crate::task_sets::{self, External};
use crate::throttle;
use crate::world::{ServiceState, TaskState, World};

/// What a pass made of a service.
pub(crate) enum Outcome<'a> {
    /// The spec cannot be run.
    Refused {
        reason: &'static str,
        message: String,
    },
    /// Something it names is not there yet.
    Waiting {
        reason: &'static str,
        message: String,
    },
    /// It is being deleted and has tasks left.
    Draining { left: usize },
    /// Its deployment was stepped.
    Scheduled(Box<Scheduled<'a>>),
    /// Its task sets were.
    External(Box<External>),
}

/// A stepped deployment.
pub(crate) struct Scheduled<'a> {
    pub course: Course,
    pub stepped: Stepped<'a>,
    pub begun: Begun,
    pub watch: Watch,
    pub last_task_number: i64,
    pub rebalancing: Option<ZoneRebalancing>,
}

/// How a service, or a task set of one, stands, for people.
#[derive(Clone)]
pub(crate) struct Verdict {
    pub standing: Standing,
    pub reason: &'static str,
    /// STATUS column.
    pub short: String,
    /// Condition message.
    pub long: String,
}

impl Verdict {
    /// The same text for the column and for the condition.
    pub(crate) fn new(standing: Standing, reason: &'static str, text: String) -> Verdict {
        Verdict {
            standing,
            reason,
            short: text.clone(),
            long: text,
        }
    }
}

/// Publishes the status of `service` after `outcome`, and notes what changed.
pub(crate) fn publish(
    world: &World,
    name: &ServiceName,
    service: &ServiceState,
    outcome: &Outcome<'_>,
    now: Timestamp,
    plan: &mut Plan,
) {
    let previous = &service.status;
    let mut status = previous.clone();
    for deployment in &mut status.deployments {
        // What holds it up is said anew while it is stepped.
        deployment.blocked_by_protection = false;
    }
    status.observed_generation = service.identity.generation;
    status.desired_count = clamp(service.desired);
    status.selector = Some(format!("{}={name}", labels::SERVICE));
    let there = |t: &&TaskState| !disconnect::is_absent(t, &world.settings, now);
    let mine = || world.tasks_of(name).map(|(_, t)| t).filter(there);
    status.running_count = clamp_len(mine().filter(|t| t.last == LastStatus::Running).count());
    status.pending_count = clamp_len(
        mine()
            .filter(|t| t.holds() && t.last < LastStatus::Running)
            .count(),
    );
    status.status = Some(ServiceLifecycle::Active);
    let mut steady_now = false;
    let verdict = match outcome {
        Outcome::Refused { reason, message } => {
            Verdict::new(Standing::Stalled, reason, message.clone())
        }
        Outcome::Waiting { reason, message } => {
            Verdict::new(Standing::Reconciling, reason, message.clone())
        }
        Outcome::Draining { left } => {
            status.status = Some(ServiceLifecycle::Draining);
            status.desired_count = 0;
            let text = format!(
                "being deleted; {left} {} left to stop",
                plural(*left, "task")
            );
            Verdict::new(Standing::Reconciling, "Draining", text)
        }
        Outcome::Scheduled(s) => {
            let rebalancing = s.rebalancing.as_ref();
            let verdict = verdict(world, name, &s.stepped, rebalancing);
            let steady = verdict.standing == Standing::Ready;
            status.desired_count = clamp(s.stepped.bounds.desired);
            status.rebalancing = s.rebalancing.clone();
            status.task_definition = Some(s.stepped.revision.clone());
            status.last_task_number = s.last_task_number.max(previous.last_task_number);
            status.consecutive_start_failures = clamp_len(s.stepped.failures);
            status.launch_not_before = s.stepped.throttled_until.map(time);
            let progress = deployment_report::progress(service, s, steady, now);
            progress.wake_at.into_iter().for_each(|at| plan.wake(at));
            let trouble = last_failure(world, name, &s.stepped.id);
            deployment_report::outcome(&mut status, s, &progress, trouble, now);
            status.deployments = deployment_report::records(service, s, &progress, now);
            status.task_sets = Vec::new();
            steady_now = steady;
            deployment_report::judged(verdict, &status, s, &progress)
        }
        Outcome::External(e) => {
            task_sets::report_service(&mut status, e);
            steady_now = e.verdict.standing == Standing::Ready;
            e.verdict.clone()
        }
    };
    status.steady_since = match (steady_now, &previous.steady_since) {
        (true, Some(since)) => Some(since.clone()),
        (true, None) => Some(time(now.round(Unit::Second).unwrap_or(now))),
        (false, _) => None,
    };
    status.message = Some(match (&verdict.standing, &status.steady_since) {
        (Standing::Ready, Some(since)) => {
            format!("steady since {}", since.0.strftime("%Y-%m-%d %H:%MZ"))
        }
        _ => verdict.short.clone(),
    });
    let mut list = statements(
        &verdict.standing,
        verdict.reason,
        &verdict.long,
        service.unsupported.sentence(),
    );
    // As many run as are wanted, as far as anybody knows: Ready stays what it is.
    list.extend(
        disconnect::out_of_touch(world, name).map(|message| Statement {
            type_: conditions::TASKS_OUT_OF_TOUCH,
            status: ConditionStatus::True,
            reason: "AgentDisconnected",
            message,
        }),
    );
    status.conditions = conditions::merge(
        &previous.conditions,
        &list,
        service.identity.generation,
        &time(now),
    );
    let mut said = said(name, service, outcome, &verdict, &status);
    let mut deeds = false;
    match outcome {
        Outcome::Scheduled(s) => {
            deeds = s.stepped.started + s.stepped.stopped > 0;
            said.splice(0..0, s.stepped.said.iter().cloned());
        }
        Outcome::External(e) => {
            deeds = e.deeds;
            said.splice(0..0, e.said.iter().cloned());
        }
        Outcome::Refused { .. } | Outcome::Waiting { .. } | Outcome::Draining { .. } => {}
    }
    let target = Target::new(Kind::Service, name, &service.identity);
    let (events, notes, again) = service_events::tell(&previous.events, said, &target, now);
    again.into_iter().for_each(|at| plan.wake(at));
    status.events = events;
    plan.tell(target, previous, &status, deeds, notes);
}

/// How a part of a service stands after its step.
pub(crate) fn verdict(
    world: &World,
    name: &ServiceName,
    s: &Stepped<'_>,
    rebalancing: Option<&ZoneRebalancing>,
) -> Verdict {
    let subject = &s.subject;
    let count = |b: Bucket| s.members.iter().filter(|m| m.bucket == b).count();
    let kept: Vec<_> = s
        .members
        .iter()
        .filter(|m| m.bucket == Bucket::Kept)
        .collect();
    let up = kept.iter().filter(|m| up(m)).count();
    let (old, leaving, stopping) = (
        count(Bucket::Superseded),
        count(Bucket::Leaving) + count(Bucket::Misplaced),
        count(Bucket::Stopping),
    );
    let desired = usize::try_from(s.bounds.desired).unwrap_or(usize::MAX);
    let reconciling = |reason, short: String, long: String| Verdict {
        standing: Standing::Reconciling,
        reason,
        short,
        long,
    };
    if let Some((n, why)) = &s.unplaceable {
        let long = format!(
            "{n} of {desired} tasks cannot be placed. {} Next try when a host changes. {subject} {}",
            why.sentence(),
            why.ecs_sentence()
        );
        return reconciling(
            "TasksNotPlaceable",
            format!("{n} cannot be placed: {}", why.short()),
            long,
        );
    }
    let trouble = last_failure(world, name, &s.id);
    if let Some(until) = s.throttled_until {
        let at = until.strftime("%H:%M:%SZ");
        let why = trouble.map(|t| format!(" Last: {t}")).unwrap_or_default();
        return reconciling(
            "TasksFailToStart",
            format!(
                "{} tasks in a row failed to start; next try at {at}.{why}",
                s.failures
            ),
            format!(
                "{subject} is unable to consistently start tasks successfully. {} tasks in a row stopped \
                 before they ran; the next one is started at {at}, or at once after a change of the task \
                 definition.{why}",
                s.failures
            ),
        );
    }
    if s.deadlock {
        let text = format!(
            "{subject} was unable to stop or start tasks during a deployment because of the service deployment \
             configuration. Update the minimumHealthyPercent or maximumPercent value and try again."
        );
        return reconciling(
            "DeploymentConfigurationDeadlock",
            format!(
                "rollout of {} cannot move: minimumHealthyPercent {} and maximumPercent {} of {desired} leave no room",
                s.revision, s.bounds.minimum_healthy_percent, s.bounds.maximum_percent
            ),
            text,
        );
    }
    if old + leaving > 0 || (stopping > 0 && up < desired) {
        let what = if old > 0 {
            format!("rolling out {}", s.revision)
        } else {
            "moving tasks".to_owned()
        };
        let draining = old + leaving + stopping;
        let mut text = format!("{what}, {up} of {desired}, {draining} old still there");
        let superseded = s.members.iter().filter(|m| m.bucket == Bucket::Superseded);
        if let Some((n, last)) = protected(superseded) {
            text.push_str(&format!(", {n} protected until {last}"));
        }
        return reconciling("RollingOut", text.clone(), with_trouble(text, trouble));
    }
    if let Some(zones) = rebalancing {
        let text = format!(
            "moving a task from zone {} to zone {}",
            zones.from, zones.to
        );
        return reconciling("Rebalancing", text.clone(), text);
    }
    if up < desired || s.started > 0 {
        let checked = kept.iter().any(|m| m.checked);
        let word = if checked { "healthy" } else { "running" };
        let text = with_trouble(format!("starting, {up} of {desired} {word}"), trouble);
        let (short, long) = match waiting(&s.members) {
            Some((task, why)) => (
                format!("{text}; {task}: {}", cut(&why)),
                format!("{text}. Task {task}: {why}"),
            ),
            None => (text.clone(), text),
        };
        return reconciling("Starting", short, long);
    }
    if let Some((n, last)) = protected(kept.iter().copied())
        && n > desired
    {
        return reconciling(
            "TasksProtected",
            format!("cannot scale in to {desired}: {n} tasks are protected until {last}"),
            format!(
                "(service {name}) was unable to reach steady state because task set ({}) was unable to scale in. \
                 Reason: The number of protected tasks are more than the desired count of tasks. The last protection \
                 ends at {last}.",
                s.id.ecs()
            ),
        );
    }
    if stopping > 0 || kept.len() > desired || count(Bucket::Unhealthy) > 0 {
        let surplus = stopping + kept.len().saturating_sub(desired) + count(Bucket::Unhealthy);
        let text = format!("scaling in to {desired}, {surplus} still to stop");
        return reconciling("ScalingIn", text.clone(), text);
    }
    Verdict {
        standing: Standing::Ready,
        reason: "SteadyState",
        short: "steady".to_owned(),
        long: format!("{subject} has reached a steady state."),
    }
}

/// How many are protected from scale-in, and until when the last of them is.
fn protected<'a>(members: impl Iterator<Item = &'a Member<'a>>) -> Option<(usize, String)> {
    let ends: Vec<Timestamp> = members.filter_map(|m| m.protected_until).collect();
    let last = ends.iter().max()?;
    Some((ends.len(), last.strftime("%Y-%m-%d %H:%MZ").to_string()))
}

/// What the agent says of the first task that its host took on and that does not run yet.
fn waiting(members: &[Member<'_>]) -> Option<(String, String)> {
    let m = members.iter().find(|m| {
        m.bucket == Bucket::Kept && m.task.accepted && m.task.last < LastStatus::Running
    })?;
    let status = m.task.object.status.as_ref()?;
    let ready = status
        .conditions
        .iter()
        .find(|c| c.type_ == conditions::READY)?;
    Some((m.name.to_string(), ready.message.clone()))
}

/// The beginning of a sentence, for a column.
fn cut(text: &str) -> String {
    const LENGTH: usize = 80;
    match text.char_indices().nth(LENGTH) {
        Some((end, _)) => format!("{}...", text.get(..end).unwrap_or(text)),
        None => text.to_owned(),
    }
}

fn with_trouble(text: String, trouble: Option<String>) -> String {
    match trouble {
        Some(t) => format!("{text}. Last stopped: {t}"),
        None => text,
    }
}

/// Running, and HEALTHY where an essential container has a health check. The 40 s of ECS DeploymentConfiguration count towards
/// `minimumHealthyPercent`, not here: a new service without health checks is ready once it runs.
fn up(m: &Member<'_>) -> bool {
    m.task.last == LastStatus::Running && (!m.checked || m.task.health == HealthStatus::Healthy)
}

/// What the youngest task of the deployment that ended by itself said, if nothing younger runs.
fn last_failure(world: &World, name: &ServiceName, deployment: &DeploymentId) -> Option<String> {
    let failed = |t: &TaskState| {
        matches!(
            t.stop_code,
            Some(
                StopCode::TaskFailedToStart
                    | StopCode::EssentialContainerExited
                    | StopCode::InfrastructureHealth
            )
        )
    };
    let (task, t) = world
        .tasks_of(name)
        .filter(|(_, t)| t.deployment.as_ref() == Some(deployment))
        .filter(|(_, t)| !t.holds() && failed(t))
        .max_by_key(|(n, t)| (t.stopped_at, (*n).clone()))?;
    let status = t.object.status.as_ref()?;
    let mut text = format!(
        "task {task}: {}",
        status.stopped_reason.as_deref().unwrap_or("stopped")
    );
    for c in &status.containers {
        if let Some(code) = c.exit_code.filter(|_| c.reason.is_none()) {
            text.push_str(&format!(" (container {}: exit {code})", c.name));
        }
    }
    Some(text)
}

/// What there is to tell of the service, beside the tasks that were started and stopped.
fn said(
    name: &ServiceName,
    service: &ServiceState,
    outcome: &Outcome<'_>,
    verdict: &Verdict,
    status: &ServiceStatus,
) -> Vec<Said> {
    let previous = &service.status;
    let before = previous
        .conditions
        .iter()
        .find(|c| c.type_ == conditions::READY);
    let mut list = Vec::new();
    let mut say = |warning, reason, message| {
        list.push(Said {
            warning,
            reason,
            message,
        });
    };
    let reason_is_new = before.is_none_or(|c| c.reason != verdict.reason);
    match outcome {
        Outcome::Refused { reason, message } if before.is_none_or(|c| c.message != *message) => {
            let text = format!("(service {name}) cannot run: {message}");
            say(true, reason, text);
        }
        // A definition that was just applied is registered in a moment: not worth an event.
        Outcome::Waiting { reason, message }
            if reason_is_new && *reason != "TaskDefinitionUnsettled" =>
        {
            say(true, reason, format!("(service {name}) waits: {message}"));
        }
        Outcome::Scheduled(s) => {
            troubles(&s.stepped, verdict, reason_is_new, &mut say);
            let threshold = clamp_len(throttle::ENGAGES_AT);
            if status.consecutive_start_failures >= threshold
                && previous.consecutive_start_failures < threshold
            {
                let text =
                    format!("(service {name}) is unable to consistently start tasks successfully.");
                say(true, "TaskStartImpaired", text);
            }
            deployment_report::said(name, previous, status, s, &mut say);
        }
        Outcome::External(_) => {}
        Outcome::Refused { .. } | Outcome::Waiting { .. } | Outcome::Draining { .. } => {}
    }
    if status.steady_since.is_some() && previous.steady_since.is_none() {
        let text = format!("(service {name}) has reached a steady state.");
        say(false, "SteadyState", text);
    }
    list
}

/// What keeps a part of a service from what is wanted of it.
pub(crate) fn troubles(
    s: &Stepped<'_>,
    verdict: &Verdict,
    reason_is_new: bool,
    say: &mut impl FnMut(bool, &'static str, String),
) {
    if !reason_is_new {
        return;
    }
    if let Some((_, why)) = &s.unplaceable {
        let text = format!("{} {}", s.subject, why.ecs_sentence());
        say(true, "TaskPlacementFailure", text);
    }
    if verdict.reason == "TasksProtected" {
        say(true, "TasksProtected", verdict.long.clone());
    }
    if s.deadlock {
        say(
            true,
            "DeploymentConfigurationDeadlock",
            verdict.long.clone(),
        );
    }
}

pub(crate) fn clamp(n: i64) -> i32 {
    i32::try_from(n).unwrap_or(i32::MAX)
}

pub(crate) fn clamp_len(n: usize) -> i32 {
    i32::try_from(n).unwrap_or(i32::MAX)
}
