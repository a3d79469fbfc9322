//! The copies of a run: what became of each, and which are tried again.
//!
//! What is known of a copy is in two places: the Task, while it is there, and the run's status, which outlives it. A task
//! that the status calls STOPPED is over, whatever a cache or a leader of old says of it. A copy's tries are numbered in
//! the names of its tasks ([`tallyman_crds::names::run_task`]), so no try is made twice.

use jiff::{SignedDuration, Timestamp};
use tallyman_crds::ecs::ContainerDefinition;
use tallyman_crds::{LastStatus, RunTaskCopy, StopCode, names};

use crate::names::{RunTaskName, TaskName};
use crate::services::time;
use crate::world::{RunState, TaskState, World};

/// Delay before the second try of a copy; it doubles with each further one (Kubernetes Job, backoffLimit).
const FIRST_DELAY: SignedDuration = SignedDuration::from_secs(10);
/// Longest delay before a try.
const LONGEST_DELAY: SignedDuration = SignedDuration::from_mins(6);

/// Where a copy stands.
#[derive(Clone, Debug)]
pub(super) enum State<'w> {
    /// No task of it was ever started.
    Untried,
    /// Its task is not STOPPED.
    Active {
        name: &'w TaskName,
        task: &'w TaskState,
    },
    /// This pass starts a task of it. What is recorded of the try before.
    Starting(Option<RunTaskCopy>),
    /// It ended well.
    Succeeded(RunTaskCopy),
    /// Its last try failed.
    Failed(RunTaskCopy),
}

/// One copy of a run.
#[derive(Clone, Debug)]
pub(super) struct Copy<'w> {
    /// Which, from 0.
    pub index: u32,
    /// How often it was tried.
    pub tries: u32,
    /// Where it stands.
    pub state: State<'w>,
}

impl Copy<'_> {
    /// Number in the name of its next task.
    pub fn next_number(&self, run: &RunState) -> u32 {
        self.tries * run.count + self.index + 1
    }
}

/// The copies, in order, and tasks that nothing knows of: a leader of old started them.
#[derive(Clone, Debug)]
pub(super) struct Copies<'w> {
    pub copies: Vec<Copy<'w>>,
    pub strays: Vec<(&'w TaskName, &'w TaskState)>,
}

/// Finds out where every copy stands.
pub(super) fn classify<'w>(
    world: &'w World,
    name: &'w RunTaskName,
    run: &'w RunState,
    now: Timestamp,
) -> Copies<'w> {
    let number_of = |task: &str| names::run_task_number(name.as_str(), task);
    let mut found = Copies {
        copies: Vec::new(),
        strays: Vec::new(),
    };
    for index in 0..run.count {
        let is_of = |number: u32| (number - 1) % run.count == index;
        let recorded = run.status.tasks.iter();
        let recorded = recorded.filter_map(|r| Some((number_of(&r.name)?, r)));
        let recorded = recorded.filter(|(n, _)| is_of(*n)).max_by_key(|(n, _)| *n);
        let there: Vec<_> = world
            .tasks_of_run(name, run)
            .filter_map(|(task, t)| Some((number_of(task.as_str())?, task, t)))
            .filter(|(n, _, _)| is_of(*n))
            .collect();
        let latest = there.iter().max_by_key(|(n, _, _)| *n);
        let (number, state) = match (recorded, latest) {
            (None, None) => (0, State::Untried),
            (Some((n, record)), latest) if latest.is_none_or(|(l, _, _)| *l < n) => {
                (n, ended(removed(record, now)))
            }
            (Some((n, record)), Some(_)) if is_over(n, record, latest) => {
                (n, ended(record.clone()))
            }
            (_, Some((n, task, t))) if t.holds() => (
                *n,
                State::Active {
                    name: task,
                    task: t,
                },
            ),
            (_, Some((n, task, t))) => (*n, ended(record(world, task, t))),
            (Some(_), None) => (0, State::Untried),
        };
        let active = match &state {
            State::Active { name, .. } => Some(*name),
            State::Untried | State::Starting(_) | State::Succeeded(_) | State::Failed(_) => None,
        };
        let strays = there
            .iter()
            .filter(|(_, task, t)| t.holds() && Some(*task) != active);
        found.strays.extend(strays.map(|(_, task, t)| (*task, *t)));
        found.copies.push(Copy {
            index,
            tries: number.div_ceil(run.count),
            state,
        });
    }
    found
}

/// STOPPED absorbs: the status says that the latest task is over.
fn is_over(
    number: u32,
    record: &RunTaskCopy,
    latest: Option<&(u32, &TaskName, &TaskState)>,
) -> bool {
    record.last_status == LastStatus::Stopped && latest.is_some_and(|(l, _, _)| *l == number)
}

/// What is known of a task that is gone: how it ended, or that somebody took it away before it did.
fn removed(record: &RunTaskCopy, now: Timestamp) -> RunTaskCopy {
    if record.last_status == LastStatus::Stopped {
        return record.clone();
    }
    RunTaskCopy {
        last_status: LastStatus::Stopped,
        stopped_reason: Some("The Task was removed before it had stopped".to_owned()),
        stopped_at: Some(time(now)),
        ..record.clone()
    }
}

fn ended(record: RunTaskCopy) -> State<'static> {
    let well =
        record.stop_code == Some(StopCode::EssentialContainerExited) && record.exit_code == Some(0);
    if well {
        State::Succeeded(record)
    } else {
        State::Failed(record)
    }
}

/// What the run's status says of a task.
pub(super) fn record(world: &World, name: &TaskName, t: &TaskState) -> RunTaskCopy {
    let status = t.object.status.as_ref();
    RunTaskCopy {
        name: name.to_string(),
        last_status: t.last,
        container_instance: t.instance.as_ref().map(ToString::to_string),
        exit_code: exit_code(world, t),
        stop_code: t.stop_code,
        stopped_reason: status.and_then(|s| s.stopped_reason.clone()),
        stopped_at: t.stopped_at.map(time),
    }
}

/// The first exit code of an essential container that is not 0; 0 when every one of them ended with it.
fn exit_code(world: &World, t: &TaskState) -> Option<i32> {
    let revision = t.revision.as_ref().and_then(|r| world.revisions.get(r))?;
    let essential = |c: &&ContainerDefinition| c.essential != Some(false);
    let containers = &revision.object.spec.definition.container_definitions;
    let codes: Vec<Option<i32>> = containers
        .iter()
        .filter(essential)
        .map(|c| {
            let mut seen = t.object.status.iter().flat_map(|s| &s.containers);
            seen.find(|s| s.name == c.name)?.exit_code
        })
        .collect();
    let bad = codes.iter().flatten().find(|code| **code != 0);
    let every = codes.iter().all(Option::is_some);
    bad.copied().or(every.then_some(0))
}

/// How a copy that failed may be tried again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Retry {
    pub index: u32,
    /// Not before.
    pub at: Timestamp,
}

/// Copies that are tried again: those that failed first, as far as the run's limit goes. Whoever stopped a task on purpose
/// does not want it again.
pub(super) fn retries(copies: &[Copy<'_>], run: &RunState) -> Vec<Retry> {
    let used: u32 = copies.iter().map(|c| c.tries.saturating_sub(1)).sum();
    let left = usize::try_from(run.backoff_limit.saturating_sub(used)).unwrap_or(0);
    let mut failed: Vec<(Timestamp, &Copy<'_>)> = copies
        .iter()
        .filter_map(|copy| match &copy.state {
            State::Failed(record) if by_itself(record) => {
                Some((record.stopped_at.as_ref()?.0, copy))
            }
            State::Failed(_)
            | State::Untried
            | State::Active { .. }
            | State::Starting(_)
            | State::Succeeded(_) => None,
        })
        .collect();
    failed.sort_by_key(|(at, copy)| (*at, copy.index));
    failed
        .into_iter()
        .take(left)
        .map(|(at, copy)| Retry {
            index: copy.index,
            at: at.checked_add(delay(copy.tries)).unwrap_or(at),
        })
        .collect()
}

/// It was not stopped on purpose.
fn by_itself(record: &RunTaskCopy) -> bool {
    match record.stop_code {
        Some(
            StopCode::TaskFailedToStart
            | StopCode::EssentialContainerExited
            | StopCode::SpotInterruption
            | StopCode::TerminationNotice
            | StopCode::InfrastructureHealth,
        ) => true,
        Some(StopCode::UserInitiated | StopCode::ServiceSchedulerInitiated) | None => false,
    }
}

/// How long a copy that was tried so often waits for the next try.
///
/// ```
/// # use tallyman_operator_core::runs::delay;
/// let seconds: Vec<_> = (1..=7).map(|tries| delay(tries).as_secs()).collect();
/// assert_eq!(seconds, [10, 20, 40, 80, 160, 320, 360]);
/// ```
pub fn delay(tries: u32) -> SignedDuration {
    let doubled = 1_i32
        .checked_shl(tries.saturating_sub(1))
        .unwrap_or(i32::MAX);
    let longer = FIRST_DELAY.checked_mul(doubled.max(1));
    longer.map_or(LONGEST_DELAY, |d| d.min(LONGEST_DELAY))
}
