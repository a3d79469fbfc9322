//! What people and the control plane are told of a task: its whole status, composed anew each time from
//! record and observation. Only the conditions' transition times and the highest status are remembered.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use tallyman_agent_engine::Verb;
use tallyman_crds::conditions::{READY, RECONCILING, STALLED, Statement, merge};
use tallyman_crds::ecs::TransportProtocol;
use tallyman_crds::{
    ConditionStatus, Connectivity, ContainerStatus, HealthStatus, LastStatus, StopCode, TaskStatus,
};

use crate::account::Room;
use crate::assignment::AssignedTask;
use crate::planned::PlannedContainer;
use crate::task::act::all_gone;
use crate::task::gates::{self, Gate};
use crate::task::interface;
use crate::task::names::error_name;
use crate::task::needs::{Readiness, readiness};
use crate::task::record::{ContainerRecord, Retrying, TaskRecord};
use crate::task::volumes;
use crate::task::{HostContext, TaskObservation};

/// Failures in a row, of what is never given up, after which people are told.
const TROUBLE: u32 = 3;

pub(super) fn tell(
    task: &AssignedTask,
    record: &mut TaskRecord,
    seen: &TaskObservation,
    host: &HostContext,
    now: Timestamp,
) -> TaskStatus {
    let status = status(record);
    if record.last_status.may_become(status) {
        record.last_status = status;
    }
    let gone = all_gone(task, seen) && volumes::all_let_go(task, record);
    if task.remove && record.is_stopped() && record.removed_at.is_none() && gone {
        record.removed_at = Some(now);
    }
    let health = task_health(task, record);
    let statements = statements(task, record, seen, host, health, now);
    record.conditions = merge(
        &record.conditions,
        &statements,
        record.generation,
        &Time(now),
    );
    let interface = interface::of(task, record);
    let containers: Vec<ContainerStatus> = task
        .defined()
        .filter_map(|container| {
            let known = record.containers.get(&container.name)?;
            Some(container_status(container, known, record))
        })
        .collect();
    TaskStatus {
        observed_generation: record.generation,
        conditions: record.conditions.clone(),
        last_status: record.last_status,
        container_instance: Some(host.container_instance.clone()),
        accepted_at: time(record.accepted_at),
        // It is: who tells of the task is connected.
        connectivity: Some(Connectivity::Connected),
        connectivity_at: time(record.accepted_at),
        health_status: health,
        stop_code: record.stop.as_ref().and_then(|stop| stop.code),
        stopped_reason: record.stop.as_ref().and_then(|stop| stop.reason.clone()),
        pull_started_at: time(record.pull_started_at),
        pull_stopped_at: time(record.pull_stopped_at),
        started_at: time(record.started_at),
        stopping_at: time(record.stop.as_ref().map(|stop| stop.at)),
        execution_stopped_at: time(record.execution_stopped_at),
        stopped_at: time(record.stopped_at),
        removed_at: time(record.removed_at),
        protected_until: time(record.protected_until),
        absence: None,
        ports: match interface {
            Some(_) if record.is_stopped() => None,
            Some(interface) => Some(interface::reached(task, interface)),
            None => ports(&containers, host),
        },
        attachments: interface::attachments(record, interface),
        containers,
    }
}

fn time(at: Option<Timestamp>) -> Option<Time> {
    at.map(Time)
}

fn status(record: &TaskRecord) -> LastStatus {
    if record.is_stopped() {
        LastStatus::Stopped
    } else if record.stop.is_some() {
        LastStatus::Stopping
    } else if record.started_at.is_some() {
        LastStatus::Running
    } else {
        LastStatus::Pending
    }
}

/// Essential containers with a health check decide (ECS task health status).
fn task_health(task: &AssignedTask, record: &TaskRecord) -> HealthStatus {
    let mut checked = task
        .containers()
        .iter()
        .filter(|container| container.essential && container.health_checked)
        .map(|container| {
            record
                .containers
                .get(&container.name)
                .map_or(HealthStatus::Unknown, |k| k.health)
        })
        .peekable();
    if checked.peek().is_none() || record.is_stopped() {
        return HealthStatus::Unknown;
    }
    checked.fold(HealthStatus::Healthy, |worst, health| {
        match (worst, health) {
            (HealthStatus::Unhealthy, _) | (_, HealthStatus::Unhealthy) => HealthStatus::Unhealthy,
            (HealthStatus::Unknown, _) | (_, HealthStatus::Unknown) => HealthStatus::Unknown,
            (HealthStatus::Healthy, HealthStatus::Healthy) => HealthStatus::Healthy,
        }
    })
}

fn container_status(
    container: &PlannedContainer,
    known: &ContainerRecord,
    record: &TaskRecord,
) -> ContainerStatus {
    let last_status = if known.end.is_some() || record.is_stopped() {
        LastStatus::Stopped
    } else if record.stop.is_some() && known.started {
        LastStatus::Stopping
    } else if known.started {
        LastStatus::Running
    } else {
        LastStatus::Pending
    };
    let reason = match (&known.end, &known.failure) {
        (Some(end), _) => end.reason.clone(),
        (None, Some(failure)) => Some(failure.reason.clone()),
        (None, None) => hindrance(known, record),
    };
    ContainerStatus {
        name: container.name.clone(),
        runtime_id: known.runtime_id.clone(),
        image: Some(known.image.clone()),
        image_digest: known.image_digest.clone(),
        last_status,
        exit_code: known.end.as_ref().and_then(|end| end.exit_code),
        reason,
        health_status: if container.health_checked && known.end.is_none() {
            known.health
        } else {
            HealthStatus::Unknown
        },
        network_bindings: known.bindings.clone(),
        gpu_ids: known.gpu_ids.clone(),
        network_interfaces: interface::of_container(container, record),
    }
}

/// What the engine fails to do again and again while the task waits for it to run or to end.
fn hindrance(known: &ContainerRecord, record: &TaskRecord) -> Option<String> {
    let waits = record.started_at.is_none() || record.stop.is_some();
    let stop = known.retrying.as_ref().filter(|r| r.verb == Verb::Stop);
    let look = known.looking.as_ref().filter(|_| waits);
    [stop, look].into_iter().flatten().find_map(trouble)
}

/// `Name: message` of what failed so often that people are told.
fn trouble(retrying: &Retrying) -> Option<String> {
    (retrying.attempts >= TROUBLE)
        .then(|| format!("{}: {}", error_name(retrying.verb), retrying.message))
}

/// What of a task that is being deleted cannot be removed from the host, for people who wait for that.
pub(crate) fn left_behind(task: &AssignedTask, record: &TaskRecord) -> Option<String> {
    if !task.remove || record.removed_at.is_some() {
        return None;
    }
    let of = |what: String, verb, retrying: &Option<Retrying>| {
        let retrying = retrying.as_ref().filter(|r| r.verb == verb)?;
        let why = trouble(retrying)?;
        Some(format!("{what} cannot be removed: {}.", clause(&why)))
    };
    let mut containers = record.containers.iter();
    let container = containers
        .find_map(|(name, known)| of(format!("Container `{name}`"), Verb::Remove, &known.retrying));
    let mut volumes = record.volumes.iter();
    container.or_else(|| {
        volumes.find_map(|(name, known)| {
            of(
                format!("Volume `{name}`"),
                Verb::RemoveVolume,
                &known.retrying,
            )
        })
    })
}

/// `10.0.0.5:32768->80, 10.0.0.5:5353->53/udp`; nothing once the task has stopped.
fn ports(containers: &[ContainerStatus], host: &HostContext) -> Option<String> {
    let ports: Vec<String> = containers
        .iter()
        .filter(|container| container.last_status < LastStatus::Stopped)
        .flat_map(|container| &container.network_bindings)
        .map(|binding| {
            let any = matches!(binding.bind_ip.as_str(), "0.0.0.0" | "::" | "");
            let address = match &host.address {
                Some(address) if any => address,
                _ => &binding.bind_ip,
            };
            let suffix = match binding.protocol {
                TransportProtocol::Tcp => "",
                TransportProtocol::Udp => "/udp",
            };
            let address = bracketed(address);
            let text = |port: Option<i32>, range: &Option<String>| {
                port.map(|port| port.to_string())
                    .or_else(|| range.clone())
                    .unwrap_or_default()
            };
            let outer = text(binding.host_port, &binding.host_port_range);
            let inner = text(binding.container_port, &binding.container_port_range);
            format!("{address}:{outer}->{inner}{suffix}")
        })
        .collect();
    (!ports.is_empty()).then(|| ports.join(","))
}

/// An address before a port.
pub(super) fn bracketed(address: &str) -> String {
    if address.contains(':') {
        format!("[{address}]")
    } else {
        address.to_owned()
    }
}

/// Ready always; Reconciling while on its way up; Stalled when it could not be started.
fn statements(
    task: &AssignedTask,
    record: &TaskRecord,
    seen: &TaskObservation,
    host: &HostContext,
    health: HealthStatus,
    now: Timestamp,
) -> Vec<Statement> {
    let say = |type_, status, reason, message| Statement {
        type_,
        status,
        reason,
        message,
    };
    let why = || {
        record
            .stop
            .as_ref()
            .and_then(|stop| stop.reason.clone())
            .unwrap_or_else(|| "the plan wants it stopped".to_owned())
    };
    match record.last_status {
        LastStatus::Provisioning | LastStatus::Pending | LastStatus::Activating => {
            let message = waiting_for(task, record, seen, host, now);
            vec![
                say(READY, ConditionStatus::False, "Pending", message.clone()),
                say(RECONCILING, ConditionStatus::True, "Pending", message),
            ]
        }
        LastStatus::Running => {
            let count = task.defined().count();
            vec![match health {
                HealthStatus::Unhealthy => say(
                    READY,
                    ConditionStatus::False,
                    "Unhealthy",
                    format!(
                        "The task runs, but the health check of {} fails.",
                        unhealthy(task, record)
                    ),
                ),
                HealthStatus::Healthy => say(
                    READY,
                    ConditionStatus::True,
                    "Running",
                    format!("The task runs with {}, healthy.", containers(count)),
                ),
                HealthStatus::Unknown => say(
                    READY,
                    ConditionStatus::True,
                    "Running",
                    format!("The task runs with {}.", containers(count)),
                ),
            }]
        }
        LastStatus::Deactivating | LastStatus::Stopping | LastStatus::Deprovisioning => {
            let message = format!("The task is stopping: {}.", clause(&why()));
            vec![say(READY, ConditionStatus::False, "Stopping", message)]
        }
        LastStatus::Stopped => {
            let code = record.stop.as_ref().and_then(|stop| stop.code);
            let mut message = format!("The task has stopped: {}.", clause(&why()));
            if let Some(left) = left_behind(task, record) {
                message = format!("{message} {left}");
            }
            let mut all = vec![say(
                READY,
                ConditionStatus::False,
                "Stopped",
                message.clone(),
            )];
            if code == Some(StopCode::TaskFailedToStart) {
                all.push(say(
                    STALLED,
                    ConditionStatus::True,
                    "TaskFailedToStart",
                    message,
                ));
            }
            all
        }
    }
}

fn containers(count: usize) -> String {
    if count == 1 {
        "1 container".to_owned()
    } else {
        format!("{count} containers")
    }
}

/// A sentence as a part of another one.
fn clause(sentence: &str) -> &str {
    sentence.trim_end_matches(['.', ' '])
}

fn unhealthy(task: &AssignedTask, record: &TaskRecord) -> String {
    let names: Vec<String> = task
        .containers()
        .iter()
        .filter(|container| {
            container.essential
                && record
                    .containers
                    .get(&container.name)
                    .is_some_and(|known| known.health == HealthStatus::Unhealthy)
        })
        .map(|container| format!("`{}`", container.name))
        .collect();
    names.join(", ")
}

/// Which container is not up yet, and for want of what: one that is on its way before one that waits for
/// another. Without counts, so that retrying does not cost API writes.
fn waiting_for(
    task: &AssignedTask,
    record: &TaskRecord,
    seen: &TaskObservation,
    host: &HostContext,
    now: Timestamp,
) -> String {
    match &seen.room {
        Room::Granted => {}
        Room::Awaited {
            before: 0,
            lacks: Some(lack),
        } => {
            return format!(
                "The task waits for {lack}, which tasks of this host that have not stopped yet still have."
            );
        }
        Room::Awaited { before, .. } => {
            return format!(
                "The task waits for its turn after {before} that wait for room on this host."
            );
        }
    }
    if let Readiness::Waiting(source) = readiness(task, record, seen, host) {
        return format!("The task waits for {source}, which the operator delivers to this host.");
    }
    for (name, known) in &record.volumes {
        if let Some(retrying) = &known.retrying {
            return format!(
                "Volume `{name}` is being provided; it failed and is tried again: {}.",
                clause(&retrying.message)
            );
        }
    }
    let mut waiting = None;
    for container in task.containers() {
        let Some(known) = record.containers.get(&container.name) else {
            continue;
        };
        if known.started || known.end.is_some() || known.failure.is_some() {
            continue;
        }
        if let Gate::Shut { edge, .. } = gates::gate(container, task, record, seen, now) {
            waiting.get_or_insert_with(|| {
                format!(
                    "Container `{}` waits for container `{}` {}.",
                    container.name,
                    edge.on,
                    edge.until.words()
                )
            });
            continue;
        }
        let what = if container.is_pause() {
            "The pause container of the task is being started".to_owned()
        } else if !known.prepared && !known.created {
            format!(
                "The image `{}` of container `{}` is being pulled",
                known.image, container.name
            )
        } else if !known.created {
            format!("Container `{}` is being created", container.name)
        } else {
            format!("Container `{}` is being started", container.name)
        };
        return match known.retrying.as_ref().or(known.looking.as_ref()) {
            None => format!("{what}."),
            Some(retrying) => {
                format!(
                    "{what}; it failed and is tried again: {}.",
                    clause(&retrying.message)
                )
            }
        };
    }
    waiting.unwrap_or_else(|| "The task is being started.".to_owned())
}
