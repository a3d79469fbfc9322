//! Which engine verbs to call now: at most one for each container, containers in listed order and in
//! parallel, as far as none has to wait for another one (`gates`).

use std::time::Duration;

use jiff::Timestamp;
use tallyman_agent_engine::{Phase, Verb};

use crate::account::Room;
use crate::assignment::AssignedTask;
use crate::backoff::later;
use crate::firelens;
use crate::gpus::{GpuClaim, GpuHolder, GpuWish};
use crate::pause;
use crate::planned::PlannedContainer;
use crate::task::fence::Fence;
use crate::task::gates::{self, Gate};
use crate::task::needs::{Readiness, readiness};
use crate::task::observe::Sighting;
use crate::task::record::{ContainerRecord, Retrying, TaskRecord};
use crate::task::restart;
use crate::task::volumes;
use crate::task::{Action, HostContext, TaskObservation};

/// No wait is longer than this, whatever a clock that jumped says.
const LONGEST_WAIT: Duration = Duration::from_secs(120);

/// How soon it is asked again whether a task may begin.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// What to do, and when to look at the clock again.
#[derive(Default)]
pub(super) struct Todo {
    pub(super) actions: Vec<Action>,
    pub(super) wake_at: Option<Timestamp>,
}

impl Todo {
    pub(super) fn wake(&mut self, at: Timestamp) {
        self.wake_at = Some(self.wake_at.map_or(at, |known| known.min(at)));
    }
}

/// One verb's turn for a container.
enum Turn {
    /// Nothing to do.
    Rest,
    Look,
    Prepare,
    /// Make the network that it is on.
    Network,
    Create,
    Start,
    /// Put it on the network beside its own.
    Attach,
    /// Start again what exited; nothing is waited for then.
    Restart,
    Stop,
    Remove,
    /// Remove what never ran, to make it anew with other ports or GPUs.
    Discard,
}

pub(super) fn act(
    task: &AssignedTask,
    record: &mut TaskRecord,
    seen: &TaskObservation,
    host: &HostContext,
    fence: Fence,
    now: Timestamp,
) -> Todo {
    let mut todo = Todo::default();
    let sweep = may_remove(task, record, host, now, &mut todo);
    let ending = record.stop.is_some();
    let ready = matches!(readiness(task, record, seen, host), Readiness::Ready);
    let unsure = fence == Fence::Unsure && !ending;
    if unsure {
        todo.wake(later(now, LOOK_AGAIN));
    }
    let waits = unsure || matches!(seen.room, Room::Awaited { .. });
    let mut pulls = false;
    for container in task.containers() {
        let Some(known) = record.containers.get(&container.name) else {
            continue;
        };
        if seen.in_flight.contains_key(&container.name) {
            continue;
        }
        let sighting = seen.sighting(&container.name);
        let turn = if ending || known.failure.is_some() || known.end.is_some() {
            winding_down(sighting, sweep)
        } else if task.planned && !task.remove {
            let attaches = attaches(container, task, seen);
            bringing_up(container, known, sighting, attaches)
        } else {
            // Absence from the plan is no order to kill, and none to start either; nor is deletion.
            match sighting {
                Sighting::Stale => Turn::Look,
                Sighting::Absent | Sighting::Made { .. } | Sighting::Present(_) => Turn::Rest,
            }
        };
        let turn = match turn {
            Turn::Prepare | Turn::Network | Turn::Create if waits => Turn::Rest,
            Turn::Prepare if host.pull_upfront => turn,
            Turn::Create if !volumes::ready(task, seen, container) => Turn::Rest,
            Turn::Create if container.is_pause() && !is_first(container, task, seen) => Turn::Rest,
            Turn::Prepare | Turn::Create if !ready => Turn::Rest,
            Turn::Prepare | Turn::Network | Turn::Create | Turn::Start | Turn::Attach => {
                match gates::gate(container, task, record, seen, now) {
                    Gate::Open => turn,
                    Gate::Never(_) => Turn::Rest,
                    // Its own edges are met; the image needs nothing that a pause container holds.
                    Gate::Shut { edge, .. }
                        if edge.on == pause::NAME && matches!(turn, Turn::Prepare) =>
                    {
                        turn
                    }
                    Gate::Shut { look_at, .. } => {
                        if let Some(at) = look_at {
                            todo.wake(at);
                        }
                        Turn::Rest
                    }
                }
            }
            Turn::Stop if ending && !gates::may_stop(container, task, record) => Turn::Rest,
            Turn::Stop | Turn::Rest | Turn::Look | Turn::Restart | Turn::Remove | Turn::Discard => {
                turn
            }
        };
        let Some(action) = action(task, container, record, known, host, turn) else {
            continue;
        };
        let waiting = match action.verb() {
            Verb::Inspect => &known.looking,
            _ => &known.retrying,
        };
        if let Some(until) = wait(waiting.as_ref(), action.verb(), now) {
            todo.wake(until);
            continue;
        }
        pulls |= action.verb() == Verb::Prepare;
        todo.actions.push(action);
    }
    if pulls {
        record.pull_started_at.get_or_insert(now);
    }
    volumes::act(task, record, seen, sweep, now, &mut todo);
    todo
}

/// Whether no other container of the task is there: what it held would be gone with the one that they joined.
fn is_first(pause: &PlannedContainer, task: &AssignedTask, seen: &TaskObservation) -> bool {
    task.containers()
        .iter()
        .filter(|other| other.name != pause.name)
        .all(|other| matches!(seen.sighting(&other.name), Sighting::Absent))
}

/// Whether it is yet to be put on a network beside its own. Not once another container of the task is there: that one may
/// run since before there was such a network.
pub(super) fn attaches(
    container: &PlannedContainer,
    task: &AssignedTask,
    seen: &TaskObservation,
) -> bool {
    let lacks = match seen.sighting(&container.name) {
        Sighting::Present(state) => container.lacks_network(state),
        Sighting::Stale | Sighting::Absent | Sighting::Made { .. } => {
            container.network_beside().is_some()
        }
    };
    lacks && is_first(container, task, seen)
}

/// A container that is wanted and has not ended.
fn bringing_up(
    container: &PlannedContainer,
    known: &ContainerRecord,
    sighting: &Sighting,
    attaches: bool,
) -> Turn {
    let network = container.network_to_make().is_some() && !known.networked;
    match sighting {
        Sighting::Stale => Turn::Look,
        Sighting::Absent if !known.prepared => Turn::Prepare,
        Sighting::Absent if network => Turn::Network,
        Sighting::Absent => Turn::Create,
        Sighting::Made { .. } if known.choice_lost => Turn::Discard,
        Sighting::Made { .. } if network => Turn::Network,
        Sighting::Made { .. } => Turn::Start,
        Sighting::Present(state) => match state.phase {
            Phase::Created if known.choice_lost => Turn::Discard,
            Phase::Created if network => Turn::Network,
            Phase::Created => Turn::Start,
            Phase::Running { .. } if attaches && network => Turn::Network,
            Phase::Running { .. } if attaches => Turn::Attach,
            // Paused is somebody's wish; restarting and removing pass, and the next list sees it.
            Phase::Running { .. } | Phase::Paused | Phase::Restarting | Phase::Removing => {
                Turn::Rest
            }
            Phase::Exited { .. } if restart::wanted(container, state) => Turn::Restart,
            // Learned as the end of the container: never started again.
            Phase::Exited { .. } | Phase::Dead => Turn::Rest,
        },
    }
}

/// A container that shall not run (any more). One that is seen alive after its end is stopped again.
fn winding_down(sighting: &Sighting, sweep: bool) -> Turn {
    match sighting {
        Sighting::Stale => Turn::Look,
        Sighting::Absent => Turn::Rest,
        Sighting::Made { .. } if sweep => Turn::Remove,
        Sighting::Made { .. } => Turn::Rest,
        Sighting::Present(state) => match state.phase {
            Phase::Running { .. } | Phase::Paused | Phase::Restarting => Turn::Stop,
            Phase::Created | Phase::Exited { .. } | Phase::Dead if sweep => Turn::Remove,
            Phase::Created | Phase::Exited { .. } | Phase::Dead | Phase::Removing => Turn::Rest,
        },
    }
}

fn action(
    task: &AssignedTask,
    container: &PlannedContainer,
    record: &TaskRecord,
    known: &ContainerRecord,
    host: &HostContext,
    turn: Turn,
) -> Option<Action> {
    let name = container.engine_name(known.attempt);
    let container_name = container.name.clone();
    let supply = host.supply.as_deref();
    let holder = || GpuHolder {
        task: task.uid.clone(),
        container: container.name.clone(),
    };
    let gpus = container.gpus;
    Some(match turn {
        Turn::Rest => return None,
        Turn::Look => Action::Inspect {
            container: container_name,
            name,
        },
        Turn::Prepare => match &container.groundwork {
            None => Action::Prepare {
                container: container_name,
                image: container.image().to_owned(),
                behavior: host.pull_behavior,
                credentials: match container
                    .needs
                    .credentials(supply, container.image())
                    .ok()?
                {
                    Some(own) => Some(own),
                    None => host.registries.of(container.image()).cloned(),
                },
            },
            Some(groundwork) => Action::EnsureImage {
                container: container_name,
                image: Box::new(groundwork.image.clone()),
            },
        },
        Turn::Network => Action::EnsureNetwork {
            container: container_name,
            network: Box::new(container.network_to_make()?.clone()),
        },
        Turn::Attach => Action::Attach {
            container: container_name,
            name,
            network: container.network_beside()?.to_owned(),
        },
        Turn::Create => {
            let mut spec = container.spec(known.attempt);
            container.needs.fill(&mut spec, supply).ok()?;
            let variables = container.needs.variable_files(supply).ok()?;
            firelens::tell_host(container, record, &mut spec);
            let files = container.router_files(&task.uid, supply).ok()?;
            task.limits.apply(host.enforcement, &mut spec);
            Action::Create {
                container: container_name,
                spec: Box::new(spec),
                ports: container.dynamic.clone(),
                files: files.map(Box::new),
                variables: variables.map(Box::new),
                gpus: gpus.map(|share| GpuWish {
                    holder: holder(),
                    share,
                }),
                group: task.limits.group(host.enforcement).map(Box::new),
            }
        }
        Turn::Start | Turn::Restart => Action::Start {
            container: container_name,
            name,
            group: task.limits.group(host.enforcement).map(Box::new),
            gpus: gpus.map(|share| GpuClaim {
                holder: holder(),
                share,
                ids: known.gpu_ids.clone(),
            }),
            paths: container.host_paths.clone(),
        },
        Turn::Stop => Action::Stop {
            container: container_name,
            name,
            grace: container.grace,
        },
        Turn::Remove => Action::Remove {
            container: container_name,
            name,
        },
        Turn::Discard => Action::Discard {
            container: container_name,
            name,
        },
    })
}

/// Until when a verb that failed has to wait.
pub(super) fn wait(retrying: Option<&Retrying>, verb: Verb, now: Timestamp) -> Option<Timestamp> {
    let retrying = retrying.filter(|retrying| retrying.verb == verb)?;
    let until = retrying.not_before;
    (now < until && until <= later(now, LONGEST_WAIT)).then_some(until)
}

/// Whether containers of the task may be removed: it has ended, and its Task is being deleted, or it
/// was condemned, or its end was acknowledged and the cleanup wait is over (ECS agent cleanup).
fn may_remove(
    task: &AssignedTask,
    record: &TaskRecord,
    host: &HostContext,
    now: Timestamp,
    todo: &mut Todo,
) -> bool {
    let Some(stopped_at) = record.stopped_at else {
        return false;
    };
    if !host.plan_is_live {
        return false;
    }
    if task.remove || record.condemned {
        return true;
    }
    // The containers are the evidence that the task has ended: as long as the plan lists it they outlive a lost disk.
    if task.planned {
        return false;
    }
    if !record.end_acknowledged {
        return false;
    }
    let from = later(stopped_at, host.cleanup_wait + jitter(task, host));
    if now < from {
        todo.wake(from);
    }
    now >= from
}

/// A share of the jitter that is the task's own, the same after a restart.
fn jitter(task: &AssignedTask, host: &HostContext) -> Duration {
    let share = task.uid.as_str().bytes().fold(0u32, |sum, byte| {
        sum.wrapping_mul(31).wrapping_add(byte.into())
    });
    host.cleanup_jitter
        .mul_f64(f64::from(share % 1000) / 1000.0)
}

/// Nothing is left to do or to remember.
pub(super) fn finished(task: &AssignedTask, record: &TaskRecord, seen: &TaskObservation) -> bool {
    !task.planned
        && record.is_stopped()
        && (record.end_acknowledged || record.condemned)
        && seen.in_flight.is_empty()
        && seen.volumes_in_flight.is_empty()
        && all_gone(task, seen)
        && volumes::all_let_go(task, record)
}

/// No container of the task is on the host.
pub(super) fn all_gone(task: &AssignedTask, seen: &TaskObservation) -> bool {
    task.containers()
        .iter()
        .all(|container| matches!(seen.sighting(&container.name), Sighting::Absent))
}
