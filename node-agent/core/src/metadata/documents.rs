//! The documents of a task and of a container (ECS task metadata v2, v3 and v4).

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr};

use tallyman_agent_engine::{Attachment, ContainerState, Network as EngineNetwork, Phase};
use tallyman_crds::ecs::TransportProtocol;
use tallyman_crds::quantity::port_range;
use tallyman_crds::{HealthStatus, LastStatus, NetworkBinding};

use crate::assignment::Tags;
use crate::containers::MIB;
use crate::metadata::resolver::Resolver;
use crate::metadata::sight::{Facts, Place, TaskSight};
use crate::metadata::wire::{
    Container, ContainerLimits, Health, Interface, Network, Port, Task, TaskLimits, Volume,
};
use crate::planned::PlannedContainer;
use crate::task::ContainerRecord;

/// Of containers that are of the task definition.
const NORMAL: &str = "NORMAL";
const RUNNING: &str = "RUNNING";
const STOPPED: &str = "STOPPED";
const UNITS_PER_CPU: f64 = 1024.0;

/// Version of a document. Two and three differ in their paths only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// v2 and v3.
    Three,
    /// v4.
    Four,
}

/// A container, if the engine has it.
pub fn container(
    sight: &TaskSight,
    place: &Place,
    name: &str,
    version: Version,
) -> Option<Container> {
    let facts = sight.facts().find(|facts| facts.planned.name == name)?;
    Some(of_container(sight, place, facts, version))
}

/// The task with the containers that the engine has.
pub fn task(sight: &TaskSight, place: &Place, version: Version) -> Task {
    let TaskSight { task, record, .. } = sight;
    let four = version == Version::Four;
    let of_four = |text: &Option<String>| text.clone().filter(|_| four);
    let service = task
        .group
        .as_ref()
        .and_then(|group| group.strip_prefix("service:"));
    Task {
        cluster: task.cluster.clone(),
        task_arn: place.arns().task(&task.cluster, &task.name),
        family: task.family.clone(),
        revision: task.revision.to_string(),
        desired_status: if sight.ends() { STOPPED } else { RUNNING },
        known_status: match record.last_status {
            LastStatus::Provisioning | LastStatus::Pending | LastStatus::Activating => {
                let created = |one: &PlannedContainer| {
                    record
                        .containers
                        .get(&one.name)
                        .is_some_and(|known| known.created)
                };
                if task.containers().iter().all(created) {
                    "CREATED"
                } else {
                    "NONE"
                }
            }
            LastStatus::Running
            | LastStatus::Deactivating
            | LastStatus::Stopping
            | LastStatus::Deprovisioning => RUNNING,
            LastStatus::Stopped => STOPPED,
        },
        limits: limits(
            task.limits.cpu,
            task.limits.memory_bytes.map(|bytes| bytes / MIB),
        ),
        pull_started_at: record.pull_started_at,
        pull_stopped_at: record.pull_stopped_at,
        execution_stopped_at: record.execution_stopped_at,
        availability_zone: place.availability_zone.clone(),
        launch_type: four.then_some("EC2"),
        service_name: service.map(str::to_owned).filter(|_| four),
        group: of_four(&task.group),
        containers: sight
            .facts()
            .map(|facts| of_container(sight, place, facts, version))
            .collect(),
        task_tags: BTreeMap::new(),
        container_instance_tags: BTreeMap::new(),
        fault_injection_enabled: four.then_some(task.fault_injection),
    }
}

/// The task with the tags of task and host (`taskWithTags`). What the ContainerInstance says goes before what the host
/// says of itself.
pub fn task_with_tags(sight: &TaskSight, place: &Place, version: Version) -> Task {
    let Tags {
        task: task_tags,
        container_instance,
    } = &sight.task.tags;
    let mut container_instance_tags = place.tags.clone();
    container_instance_tags.extend(BTreeMap::clone(container_instance));
    Task {
        task_tags: task_tags.clone(),
        container_instance_tags,
        ..task(sight, place, version)
    }
}

#[expect(clippy::cast_precision_loss, reason = "CPU units are few")]
fn limits(cpu_units: Option<i64>, memory: Option<i64>) -> Option<TaskLimits> {
    (cpu_units.is_some() || memory.is_some()).then(|| TaskLimits {
        cpu: cpu_units.map(|units| units as f64 / UNITS_PER_CPU),
        memory,
    })
}

fn of_container(sight: &TaskSight, place: &Place, facts: Facts<'_>, version: Version) -> Container {
    let Facts {
        planned,
        known,
        state,
        id,
    } = facts;
    let four = version == Version::Four;
    let log = planned.log().filter(|_| four);
    Container {
        docker_id: id.to_owned(),
        name: planned.name.clone(),
        docker_name: planned.engine_name(known.attempt),
        image: known.image.clone(),
        image_id: facts.image_id(),
        ports: known.bindings.iter().flat_map(ports).collect(),
        labels: state.map(|state| state.labels.clone()).unwrap_or_default(),
        desired_status: if sight.ends() || known.end.is_some() {
            STOPPED
        } else {
            RUNNING
        },
        known_status: status(known, state),
        exit_code: known.end.as_ref().and_then(|end| end.exit_code),
        limits: ContainerLimits {
            cpu: planned.cpu_units,
            memory: planned.memory_mib,
        },
        created_at: facts.created_at(),
        started_at: facts.started_at(),
        finished_at: known.end.as_ref().map(|end| end.at),
        kind: NORMAL,
        networks: if four {
            detailed(planned, &sight.attachments(&planned.name), &sight.resolver)
        } else {
            networks(planned, &sight.attachments(&planned.name))
        },
        health: planned.health_checked.then(|| health(known, state)),
        volumes: state.map(volumes).unwrap_or_default(),
        log_driver: log.map(|log| log.driver.clone()),
        log_options: log.map(|log| log.options.clone()).unwrap_or_default(),
        container_arn: four.then(|| {
            let arns = place.arns();
            arns.container(&sight.task.cluster, &sight.task.name, &planned.name)
        }),
        restart_count: planned
            .restart
            .as_ref()
            .filter(|_| four)
            .map(|_| known.restarts),
    }
}

/// What the engine said last goes before what was concluded from it: a container that asks runs, even if
/// nobody has drawn the conclusion yet.
fn status(known: &ContainerRecord, state: Option<&ContainerState>) -> &'static str {
    let runs = state.map(|state| match state.phase {
        Phase::Running { .. } | Phase::Paused | Phase::Restarting => true,
        Phase::Created | Phase::Removing | Phase::Exited { .. } | Phase::Dead => false,
    });
    if known.end.is_some() {
        STOPPED
    } else if known.started || runs == Some(true) {
        RUNNING
    } else if known.created {
        "CREATED"
    } else if known.prepared {
        "PULLED"
    } else {
        "NONE"
    }
}

/// Each port of a binding; a range is many.
pub(crate) fn ports(binding: &NetworkBinding) -> Vec<Port> {
    pairs(binding)
        .map(|(container_port, host_port)| Port {
            container_port,
            protocol: protocol(binding.protocol),
            host_port,
            host_ip: binding.bind_ip.clone(),
        })
        .collect()
}

/// Ports in the container with theirs on the host.
pub(crate) fn pairs(binding: &NetworkBinding) -> impl Iterator<Item = (i32, i32)> {
    let range = |text: &Option<String>| {
        let (first, last) = port_range(text.as_deref()?)?;
        Some(i32::from(first)..=i32::from(last))
    };
    let one = binding.container_port.zip(binding.host_port);
    let many = range(&binding.container_port_range).zip(range(&binding.host_port_range));
    let many = many
        .into_iter()
        .flat_map(|(inside, outside)| inside.zip(outside));
    one.into_iter().chain(many)
}

pub(crate) fn protocol(protocol: TransportProtocol) -> &'static str {
    match protocol {
        TransportProtocol::Tcp => "tcp",
        TransportProtocol::Udp => "udp",
    }
}

pub(crate) fn networks(planned: &PlannedContainer, attachments: &[&Attachment]) -> Vec<Network> {
    let network_mode = match planned.network() {
        EngineNetwork::Bridge => "bridge",
        EngineNetwork::Host => "host",
        EngineNetwork::None => "none",
        EngineNetwork::Named(_) | EngineNetwork::Container(_) => "awsvpc",
    };
    if attachments.is_empty() {
        return vec![Network {
            network_mode,
            ..Network::default()
        }];
    }
    let network = |one: &Attachment| Network {
        network_mode,
        ipv4_addresses: one.ipv4.iter().map(|(ip, _)| ip.to_string()).collect(),
        ipv6_addresses: one.ipv6.iter().map(|(ip, _)| ip.to_string()).collect(),
        interface: None,
    };
    attachments.iter().map(|one| network(one)).collect()
}

/// Networks as v4 has them: with the interface, of a task that has one of its own.
fn detailed(
    planned: &PlannedContainer,
    attachments: &[&Attachment],
    resolver: &Resolver,
) -> Vec<Network> {
    let mut all = networks(planned, attachments);
    if planned.has_task_address() {
        for (index, (network, one)) in all.iter_mut().zip(attachments).enumerate() {
            network.interface = Some(interface(index, one, resolver));
        }
    }
    all
}

fn interface(attachment_index: usize, one: &Attachment, resolver: &Resolver) -> Interface {
    let shift = |length: u32, prefix: u8| length.saturating_sub(u32::from(prefix));
    let ipv4_subnet = one.ipv4.map(|(address, prefix)| {
        let mask = u32::MAX.checked_shl(shift(32, prefix)).unwrap_or(0);
        format!("{}/{prefix}", Ipv4Addr::from(u32::from(address) & mask))
    });
    let ipv6_subnet = one.ipv6.map(|(address, prefix)| {
        let mask = u128::MAX.checked_shl(shift(128, prefix)).unwrap_or(0);
        format!("{}/{prefix}", Ipv6Addr::from(u128::from(address) & mask))
    });
    let v4 = one.gateway.zip(one.ipv4);
    let v6 = one.ipv6_gateway.zip(one.ipv6);
    Interface {
        attachment_index,
        mac_address: one.mac.clone(),
        ipv4_subnet,
        ipv6_subnet,
        domain_name_servers: resolver.servers.clone(),
        domain_name_search_list: resolver.search.clone(),
        ipv4_gateway: v4.map(|(gateway, (_, prefix))| format!("{gateway}/{prefix}")),
        ipv6_gateway: v6.map(|(gateway, (_, prefix))| format!("{gateway}/{prefix}")),
    }
}

fn health(known: &ContainerRecord, state: Option<&ContainerState>) -> Health {
    let check = state.and_then(|state| state.last_check.as_ref());
    Health {
        status: match known.health {
            HealthStatus::Unknown => "UNKNOWN",
            HealthStatus::Healthy => "HEALTHY",
            HealthStatus::Unhealthy => "UNHEALTHY",
        },
        status_since: known.health_since,
        exit_code: check.map(|check| check.exit_code),
        output: check.map(|check| check.output.clone()).unwrap_or_default(),
    }
}

pub(crate) fn volumes(state: &ContainerState) -> Vec<Volume> {
    let volume = |one: &tallyman_agent_engine::Mounted| Volume {
        docker_name: one.volume.clone(),
        source: one.source.clone(),
        destination: one.destination.clone(),
    };
    state.mounts.iter().map(volume).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interface_has_its_subnet_and_gateway() {
        let one = Attachment {
            network: "tallyman".to_owned(),
            ipv4: Some((Ipv4Addr::new(172, 31, 44, 9), 20)),
            ipv6: Some(("fd00:1::9".parse().unwrap(), 64)),
            mac: Some("02:42:ac:1f:2c:09".to_owned()),
            gateway: Some(Ipv4Addr::new(172, 31, 32, 1)),
            ipv6_gateway: None,
        };
        let resolver = Resolver {
            servers: vec!["127.0.0.11".to_owned()],
            search: vec!["a.example".to_owned()],
        };
        let told = serde_json::to_value(interface(0, &one, &resolver)).unwrap();
        let wanted = serde_json::json!({
            "AttachmentIndex": 0,
            "MACAddress": "02:42:ac:1f:2c:09",
            "IPv4SubnetCIDRBlock": "172.31.32.0/20",
            "IPv6SubnetCIDRBlock": "fd00:1::/64",
            "DomainNameServers": ["127.0.0.11"],
            "DomainNameSearchList": ["a.example"],
            "SubnetGatewayIpv4Address": "172.31.32.1/20",
        });
        assert_eq!(told, wanted);
    }
}
