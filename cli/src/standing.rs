//! Whether what somebody waits for has come true, will, or will not by itself. For pipelines: what counts is the spec as it is
//! now, and a status that speaks of an older one counts for nothing.

use tallyman_crds::conditions::{COMPLETE, FAILED, READY, STALLED};
use tallyman_crds::{Condition, ConditionStatus, RunTask, Service, TaskDefinition};

use crate::words::{self, name};

/// How something stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It came true.
    Done(String),
    /// It will not by itself.
    Failed(String),
    /// Not yet.
    Going(String),
}

impl Standing {
    /// The sentence.
    pub fn text(&self) -> &str {
        match self {
            Standing::Done(text) | Standing::Failed(text) | Standing::Going(text) => text,
        }
    }
}

/// A condition that is True.
pub fn holds<'a>(conditions: &'a [Condition], kind: &str) -> Option<&'a Condition> {
    let mut all = conditions.iter();
    all.find(|c| c.type_ == kind && c.status == ConditionStatus::True)
}

/// A condition.
pub fn condition<'a>(conditions: &'a [Condition], kind: &str) -> Option<&'a Condition> {
    conditions.iter().find(|c| c.type_ == kind)
}

/// The family that a service follows; `None` for one that is pinned, and for one with task sets.
pub fn followed(service: &Service) -> Option<&str> {
    let given = service.spec.task_definition.as_deref()?;
    let short = given.rsplit('/').next().unwrap_or(given);
    let number = short.rsplit_once(':').map(|(_, n)| n.parse::<i64>());
    let pinned = number.is_some_and(|n| n.is_ok());
    (!pinned).then_some(short)
}

/// How a service stands. `definition`: the TaskDefinition of the family that it follows. Applied together, the service may be
/// Ready with the revision before: it counts as done only with the latest.
pub fn of_service(service: &Service, definition: Option<&TaskDefinition>) -> Standing {
    let subject = name(&service.metadata);
    let unseen = || Standing::Going(format!("service {subject}: not seen by the operator yet"));
    let Some(status) = &service.status else {
        return unseen();
    };
    if service.metadata.generation != Some(status.observed_generation) {
        return unseen();
    }
    let latest = match definition.map(registered) {
        None => None,
        Some(Ok(latest)) => latest,
        Some(Err(standing)) => return standing,
    };
    let behind = |runs: Option<&str>| latest.is_some_and(|latest| runs != Some(latest));
    let not_taken_on = || {
        let latest = latest.unwrap_or_default();
        Standing::Going(format!(
            "service {subject}: {latest} is registered and not taken on yet"
        ))
    };
    if let Some(stalled) = holds(&status.conditions, STALLED) {
        // What failed may be the revision before: the mended one is taken on in a moment.
        let failed = status.failed_deployment.as_ref();
        if failed.is_some_and(|f| behind(Some(&f.task_definition))) {
            return not_taken_on();
        }
        return Standing::Failed(format!("service {subject}: {}", stalled.message));
    }
    let counts = format!(
        "{} of {} running",
        status.running_count, status.desired_count
    );
    let runs = status.task_definition.as_deref().unwrap_or("nothing");
    match condition(&status.conditions, READY) {
        Some(ready) if ready.status == ConditionStatus::True => {
            if behind(status.task_definition.as_deref()) {
                return not_taken_on();
            }
            Standing::Done(format!("service {subject} is deployed: {runs}, {counts}"))
        }
        Some(ready) => Standing::Going(format!("service {subject}: {counts}; {}", ready.message)),
        None => unseen(),
    }
}

/// The latest revision of a family, or how the family stands while it has news that are not registered.
fn registered(definition: &TaskDefinition) -> Result<Option<&str>, Standing> {
    let subject = name(&definition.metadata);
    let seen = definition.status.as_ref();
    let seen = seen.filter(|s| definition.metadata.generation == Some(s.observed_generation));
    let Some(status) = seen else {
        let text = format!("task definition {subject}: not registered yet");
        return Err(Standing::Going(text));
    };
    match holds(&status.conditions, STALLED) {
        Some(c) => Err(Standing::Failed(format!(
            "task definition {subject}: {}",
            c.message
        ))),
        None => Ok(status.latest.as_deref()),
    }
}

/// How a run stands.
pub fn of_run(run: &RunTask) -> Standing {
    let subject = name(&run.metadata);
    let Some(status) = run.status.as_ref().filter(|s| s.observed_generation >= 0) else {
        return Standing::Going(format!("run {subject}: not seen by the operator yet"));
    };
    let say = |c: &Condition| format!("run {subject}: {}", c.message);
    if let Some(c) = holds(&status.conditions, COMPLETE) {
        return Standing::Done(say(c));
    }
    let over = holds(&status.conditions, FAILED).or_else(|| holds(&status.conditions, STALLED));
    if let Some(c) = over {
        return Standing::Failed(say(c));
    }
    let running = words::count(usize::try_from(status.active).unwrap_or(0), "task");
    let message = status.message.as_deref().unwrap_or("on its way");
    Standing::Going(format!("run {subject}: {running} active; {message}"))
}
