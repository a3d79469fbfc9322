//! What is told of the address that a task has for itself (ECS task networking, Attachment, NetworkInterface).

use tallyman_agent_engine::Protocol;
use tallyman_crds::ecs::KeyValuePair;
use tallyman_crds::{Attachment, NetworkInterface};

use crate::assignment::AssignedTask;
use crate::pause;
use crate::planned::PlannedContainer;
use crate::task::record::{Interface, TaskRecord};
use crate::task::tell::bracketed;

/// Hexadecimal digits of an interface's id in ECS, `eni-0123456789abcdef0`.
const ID_DIGITS: usize = 17;

/// The interface of the task, once its pause container has one.
pub(super) fn of<'a>(task: &AssignedTask, record: &'a TaskRecord) -> Option<&'a Interface> {
    let known = record.containers.get(pause::NAME)?;
    let has = task.defined().any(PlannedContainer::has_task_address) || !task.planned;
    known.interface.as_ref().filter(|_| has)
}

/// One attachment for the task: ECS clients look for its address there.
pub(super) fn attachments(record: &TaskRecord, interface: Option<&Interface>) -> Vec<Attachment> {
    let Some(interface) = interface else {
        return Vec::new();
    };
    let id = record
        .containers
        .get(pause::NAME)
        .and_then(|known| known.runtime_id.as_ref())
        .map(|id| format!("eni-{}", id.chars().take(ID_DIGITS).collect::<String>()));
    let details = [
        ("networkName", Some(interface.network.clone())),
        ("networkInterfaceId", id),
        ("macAddress", interface.mac.clone()),
        ("privateIPv4Address", interface.ipv4.map(|a| a.to_string())),
        ("ipv6Address", interface.ipv6.map(|a| a.to_string())),
    ];
    let details = details.into_iter().filter_map(|(name, value)| {
        Some(KeyValuePair {
            name: Some(name.to_owned()),
            value: Some(value?),
        })
    });
    let status = if record.is_stopped() {
        "DELETED"
    } else {
        "ATTACHED"
    };
    vec![Attachment {
        id: record.uid.as_str().to_owned(),
        r#type: "ElasticNetworkInterface".to_owned(),
        status: status.to_owned(),
        details: details.collect(),
    }]
}

/// The same of a container that shares it.
pub(super) fn of_container(
    container: &PlannedContainer,
    record: &TaskRecord,
) -> Vec<NetworkInterface> {
    let known = record.containers.get(pause::NAME);
    let interface = known.and_then(|known| known.interface.as_ref());
    match interface {
        Some(interface) if container.has_task_address() => vec![NetworkInterface {
            attachment_id: record.uid.as_str().to_owned(),
            private_ipv4_address: interface.ipv4.map(|a| a.to_string()),
            ipv6_address: interface.ipv6.map(|a| a.to_string()),
        }],
        Some(_) | None => Vec::new(),
    }
}

/// For people: `172.18.0.2:80,172.18.0.2:53/udp`; the address alone when no port is mapped.
pub(super) fn reached(task: &AssignedTask, interface: &Interface) -> String {
    let address = interface
        .ipv4
        .map(|address| address.to_string())
        .or_else(|| interface.ipv6.map(|address| address.to_string()))
        .unwrap_or_default();
    let spans = task
        .defined()
        .filter(|container| container.has_task_address())
        .flat_map(|container| &container.exposed);
    let ports: Vec<String> = spans
        .map(|span| {
            let port = if span.is_range() {
                format!("{}-{}", span.first, span.last)
            } else {
                span.first.to_string()
            };
            let suffix = match span.protocol {
                Protocol::Tcp => "",
                Protocol::Udp => "/udp",
            };
            format!("{}:{port}{suffix}", bracketed(&address))
        })
        .collect();
    if ports.is_empty() {
        address
    } else {
        ports.join(",")
    }
}
