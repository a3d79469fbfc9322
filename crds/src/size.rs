//! What a task takes from its host while it is not STOPPED, beside GPUs: the operator counts it before it places a task, the
//! agent before it starts one, so both must count alike (ECS, host resources of a task).

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::ecs::{ContainerDefinition, NetworkMode, TaskOverride, TransportProtocol};
use crate::quantity::{cpu_units, memory_mib};
use crate::task_definition::TaskDefinitionSpec;

/// What a task takes from its host.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Size {
    /// CPU units; 1024 are one core.
    pub cpu: i64,
    /// MiB.
    pub memory: i64,
    /// Fixed TCP host ports.
    pub ports: BTreeSet<u16>,
    /// Fixed UDP host ports.
    pub ports_udp: BTreeSet<u16>,
}

impl Size {
    /// Size of a task of `spec`: that of the task where it has one, else the sum over its containers, of which each
    /// counts with what it reserves. A quantity that cannot be read is none.
    pub fn of(spec: &TaskDefinitionSpec) -> Self {
        let containers = &spec.container_definitions;
        let sum = |of: fn(&ContainerDefinition) -> Option<i32>| {
            let each = containers.iter().filter_map(of).map(i64::from);
            each.sum()
        };
        let mut size = Self {
            cpu: spec
                .cpu
                .as_deref()
                .and_then(cpu_units)
                .unwrap_or_else(|| sum(|c| c.cpu)),
            memory: spec
                .memory
                .as_deref()
                .and_then(memory_mib)
                .unwrap_or_else(|| sum(|c| c.memory_reservation.or(c.memory))),
            ..Self::default()
        };
        let ports = containers
            .iter()
            .flat_map(|c| fixed_ports(c, spec.network_mode));
        for (protocol, port) in ports {
            match protocol {
                TransportProtocol::Tcp => size.ports.insert(port),
                TransportProtocol::Udp => size.ports_udp.insert(port),
            };
        }
        size
    }
}

/// Ports that a container takes from its host for sure: those it names in bridge mode, its own in host mode. A task with
/// an address of its own takes none.
pub fn fixed_ports(
    c: &ContainerDefinition,
    mode: Option<NetworkMode>,
) -> impl Iterator<Item = (TransportProtocol, u16)> + '_ {
    c.port_mappings.iter().filter_map(move |m| {
        let host = match mode {
            Some(NetworkMode::Host) => m.container_port,
            Some(NetworkMode::Awsvpc | NetworkMode::None) => None,
            Some(NetworkMode::Bridge) | None => m.host_port,
        };
        let port = u16::try_from(host?).ok().filter(|port| *port > 0)?;
        Some((m.protocol.unwrap_or(TransportProtocol::Tcp), port))
    })
}

/// `spec` as it is run with `overrides`, as far as it says what a task takes of its host and requires of it.
pub fn overridden(
    spec: &TaskDefinitionSpec,
    overrides: Option<&TaskOverride>,
) -> TaskDefinitionSpec {
    let mut spec = spec.clone();
    let Some(overrides) = overrides else {
        return spec;
    };
    spec.cpu = overrides.cpu.clone().or(spec.cpu);
    spec.memory = overrides.memory.clone().or(spec.memory);
    spec.task_role_arn = overrides.task_role_arn.clone().or(spec.task_role_arn);
    for o in &overrides.container_overrides {
        let mut containers = spec.container_definitions.iter_mut();
        let Some(c) = containers.find(|c| Some(&c.name) == o.name.as_ref()) else {
            continue;
        };
        c.cpu = o.cpu.or(c.cpu);
        c.memory = o.memory.or(c.memory);
        c.memory_reservation = o.memory_reservation.or(c.memory_reservation);
        if !o.resource_requirements.is_empty() {
            c.resource_requirements.clone_from(&o.resource_requirements);
        }
        if !o.environment_files.is_empty() {
            c.environment_files.clone_from(&o.environment_files);
        }
    }
    spec
}
