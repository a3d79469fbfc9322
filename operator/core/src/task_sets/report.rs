//! How task sets stand, and a service by its task sets: statuses, conditions, events (ECS task sets, service event messages).

use jiff::Timestamp;
use tallyman_crds::{
    LastStatus, ServiceStatus, StabilityStatus, TaskSetLifecycle, TaskSetSummary, conditions,
};

use super::{Fate, stability, target};
use crate::disconnect;
use crate::names::{DeploymentId, ServiceName, TaskSetName};
use crate::placement::plural;
use crate::plan::{Note, Plan};
use crate::service_events::{self, Said};
use crate::service_report::{self, Verdict, clamp, clamp_len, troubles};
use crate::services::{part, time};
use crate::status::{Standing, statements};
use crate::world::{ServiceState, TaskSetState, TaskState, World};

/// A task set whose status was composed.
pub(super) struct Reported<'w> {
    set: &'w TaskSetState,
    summary: TaskSetSummary,
    verdict: Verdict,
    said: Vec<Said>,
    deeds: bool,
}

impl Reported<'_> {
    pub fn id(&self) -> &DeploymentId {
        &self.set.id
    }

    pub fn is_primary(&self) -> bool {
        self.summary.status == TaskSetLifecycle::Primary
    }

    /// It is steady and has tasks, if the service wants any.
    pub fn runs(&self, desired: i64) -> bool {
        self.is_steady() && (self.summary.computed_desired_count > 0 || desired == 0)
    }

    fn is_steady(&self) -> bool {
        self.summary.stability_status == StabilityStatus::SteadyState
    }
}

/// A service by its task sets.
pub(crate) struct External {
    pub verdict: Verdict,
    pub said: Vec<Said>,
    pub deeds: bool,
    last_task_number: i64,
    task_definition: Option<String>,
    sets: Vec<TaskSetSummary>,
}

impl External {
    pub(super) fn of(verdict: Verdict, sets: Vec<Reported<'_>>, last_task_number: i64) -> External {
        let primary = sets.iter().find(|s| s.is_primary());
        External {
            verdict,
            task_definition: primary.and_then(|s| s.summary.task_definition.clone()),
            deeds: sets.iter().any(|s| s.deeds),
            said: sets.iter().flat_map(|s| s.said.clone()).collect(),
            sets: sets.into_iter().map(|s| s.summary).collect(),
            last_task_number,
        }
    }
}

/// Takes down in the status of a service what its task sets make of it. Its desired count stays that of the spec: the scales
/// are parts of it.
pub(crate) fn report_service(status: &mut ServiceStatus, e: &External) {
    status.task_definition = e.task_definition.clone();
    status.task_sets = e.sets.clone();
    status.last_task_number = e.last_task_number.max(status.last_task_number);
    status.deployments = Vec::new();
    status.last_completed_deployment = None;
    status.failed_deployment = None;
    status.rebalancing = None;
    status.consecutive_start_failures = 0;
    status.launch_not_before = None;
}

/// Publishes the status of a task set, and says what its service has to tell of it.
pub(super) fn publish<'w>(
    world: &World,
    name: &TaskSetName,
    set: &'w TaskSetState,
    service: Option<&ServiceState>,
    fate: &Fate<'_>,
    now: Timestamp,
    plan: &mut Plan,
) -> Reported<'w> {
    let previous = &set.status;
    let verdict = verdict_of(world, set, fate);
    let mut status = previous.clone();
    status.observed_generation = set.identity.generation;
    status.id = Some(set.id.ecs());
    let primary = service.is_some_and(|s| s.names_as_primary(name));
    let lifecycle = match fate {
        Fate::Draining { .. } => TaskSetLifecycle::Draining,
        Fate::Refused { .. } | Fate::Waiting { .. } | Fate::Stepped(_) if primary => {
            TaskSetLifecycle::Primary
        }
        Fate::Refused { .. } | Fate::Waiting { .. } | Fate::Stepped(_) => TaskSetLifecycle::Active,
    };
    status.status = Some(lifecycle);
    let mine = || {
        let of_set = |t: &&crate::world::TaskState| t.deployment.as_ref() == Some(&set.id);
        let there = |t: &&TaskState| !disconnect::is_absent(t, &world.settings, now);
        let all = world.tasks_of(&set.service).map(|(_, t)| t);
        all.filter(of_set).filter(there)
    };
    status.running_count = clamp_len(mine().filter(|t| t.last == LastStatus::Running).count());
    let pending = |t: &&crate::world::TaskState| t.holds() && t.last < LastStatus::Running;
    status.pending_count = clamp_len(mine().filter(pending).count());
    let (mut deeds, mut said) = (false, Vec::new());
    status.launch_not_before = None;
    match fate {
        Fate::Refused { .. } | Fate::Waiting { .. } => {}
        Fate::Draining { said: told, .. } => {
            status.computed_desired_count = 0;
            deeds = !told.is_empty();
            said = told.clone();
        }
        Fate::Stepped(s) => {
            status.computed_desired_count = clamp(s.bounds.desired);
            status.task_definition = Some(s.revision.clone());
            status.launch_not_before = s.throttled_until.map(time);
            status.container_images = s.images.clone();
            deeds = s.started + s.stopped > 0;
            said = told(set, s, &verdict, status.computed_desired_count);
        }
    }
    let stability = stability(verdict.standing == Standing::Ready);
    if previous.stability_status != Some(stability) {
        status.stability_status = Some(stability);
        status.stability_status_at = Some(time(now));
    }
    status.message = Some(verdict.short.clone());
    let list = statements(
        &verdict.standing,
        verdict.reason,
        &verdict.long,
        set.unsupported.sentence(),
    );
    let generation = set.identity.generation;
    status.conditions = conditions::merge(&previous.conditions, &list, generation, &time(now));
    let notes = mistakes(name, set, fate);
    plan.tell(target(name, set), previous, &status, deeds, notes);
    Reported {
        set,
        summary: TaskSetSummary {
            name: name.to_string(),
            id: set.id.ecs(),
            status: lifecycle,
            task_definition: status.task_definition,
            computed_desired_count: status.computed_desired_count,
            pending_count: status.pending_count,
            running_count: status.running_count,
            stability_status: stability,
        },
        verdict,
        said,
        deeds,
    }
}

fn verdict_of(world: &World, set: &TaskSetState, fate: &Fate<'_>) -> Verdict {
    match fate {
        Fate::Refused { reason, message } => {
            Verdict::new(Standing::Stalled, reason, message.clone())
        }
        Fate::Waiting { reason, message } => {
            Verdict::new(Standing::Reconciling, reason, message.clone())
        }
        Fate::Draining { left, .. } => {
            let tasks = plural(*left, "task");
            let text = format!("being deleted; {left} {tasks} left to stop");
            Verdict::new(Standing::Reconciling, "Draining", text)
        }
        Fate::Stepped(s) => service_report::verdict(world, &set.service, s, None),
    }
}

/// What a service has to tell of a task set that was stepped.
fn told(
    set: &TaskSetState,
    s: &part::Stepped<'_>,
    verdict: &Verdict,
    computed_desired_count: i32,
) -> Vec<Said> {
    let mut list = Vec::new();
    let mut say = |warning, reason, message| {
        list.push(Said {
            warning,
            reason,
            message,
        });
    };
    if set.status.computed_desired_count != computed_desired_count {
        let text = format!(
            "(service {}) updated computedDesiredCount for taskSet {} to {computed_desired_count}.",
            set.service,
            set.id.ecs()
        );
        say(false, "TaskSetScaled", text);
    }
    for deed in &s.said {
        say(deed.warning, deed.reason, deed.message.clone());
    }
    let reason_is_new = before(set).is_none_or(|c| c.reason != verdict.reason);
    troubles(s, verdict, reason_is_new, &mut say);
    if verdict.reason == "TasksFailToStart" && reason_is_new {
        let text = format!(
            "{} is unable to consistently start tasks successfully.",
            s.subject
        );
        say(true, "TaskStartImpaired", text);
    }
    let steady = verdict.standing == Standing::Ready;
    if steady && set.status.stability_status != Some(StabilityStatus::SteadyState) {
        let text = format!("{} updated state to STEADY_STATE.", s.subject);
        say(false, "TaskSetSteadyState", text);
    }
    list
}

fn before(set: &TaskSetState) -> Option<&tallyman_crds::Condition> {
    let mut conditions = set.status.conditions.iter();
    conditions.find(|c| c.type_ == conditions::READY)
}

/// What is told of a task set itself: why it cannot run.
fn mistakes(name: &TaskSetName, set: &TaskSetState, fate: &Fate<'_>) -> Vec<Note> {
    let (reason, message) = match fate {
        Fate::Refused { reason, message } => (*reason, message),
        // What was just applied is there in a moment: not worth an event.
        Fate::Waiting { reason, message } if *reason != "TaskDefinitionUnsettled" => {
            (*reason, message)
        }
        Fate::Waiting { .. } | Fate::Draining { .. } | Fate::Stepped(_) => return Vec::new(),
    };
    if before(set).is_some_and(|c| c.message == *message) {
        return Vec::new();
    }
    vec![Note {
        target: target(name, set),
        warning: true,
        reason,
        message: service_events::cut(format!("(taskSet {name}) {message}")),
    }]
}

/// How a service stands by its task sets: as its primary one does. `left`: tasks of deployments before them.
pub(super) fn verdict(
    world: &World,
    name: &ServiceName,
    primary: Option<&TaskSetName>,
    sets: &[Reported<'_>],
    left: usize,
) -> Verdict {
    let reconciling = |reason, text| Verdict::new(Standing::Reconciling, reason, text);
    let names: Vec<String> = sets
        .iter()
        .map(|s| format!("`{}`", s.summary.name))
        .collect();
    let names = names.join(", ");
    let Some(primary) = primary else {
        let text = if sets.is_empty() {
            format!("no task set; apply a TaskSet with `service: {name}`")
        } else {
            format!("no task set is primary; name one in `spec.primaryTaskSet`: {names}")
        };
        return reconciling("NoPrimaryTaskSet", text);
    };
    let Some(set) = sets.iter().find(|s| s.summary.name == primary.as_str()) else {
        return match world.task_sets.get(primary) {
            Some(other) if other.service == *name => {
                reconciling("TaskSetStarting", format!("task set {primary} is taken on"))
            }
            Some(other) => reconciling(
                "PrimaryTaskSetNotFound",
                format!(
                    "`spec.primaryTaskSet` must name a task set of service `{name}`; `{primary}` is one of service `{}`",
                    other.service
                ),
            ),
            None => {
                let known = if names.is_empty() {
                    "the service has none".to_owned()
                } else {
                    format!("the service has {names}")
                };
                let text = format!(
                    "`spec.primaryTaskSet` names `{primary}`, which does not exist; {known}"
                );
                reconciling("PrimaryTaskSetNotFound", text)
            }
        };
    };
    let text = |message: &str| format!("task set {primary}: {message}");
    if set.is_steady() && left > 0 {
        let tasks = plural(left, "task");
        let text = format!(
            "task set {primary} is steady; {left} {tasks} of deployments before it left, which stop once it runs any"
        );
        return reconciling("HandingOver", text);
    }
    match set.verdict.standing {
        Standing::Ready => Verdict {
            standing: Standing::Ready,
            reason: "SteadyState",
            short: "steady".to_owned(),
            long: format!("(service {name}) has reached a steady state."),
        },
        Standing::Reconciling | Standing::Stalled => Verdict {
            standing: set.verdict.standing.clone(),
            reason: set.verdict.reason,
            short: text(&set.verdict.short),
            long: text(&set.verdict.long),
        },
    }
}
