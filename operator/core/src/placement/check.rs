//! The checks, in the order of ECS: the agent, attributes, resources, constraints (ECS task placement).

use super::query::{Facts, Query};
use super::refusal::Refusal;
use super::request::{Constraints, Request};
use super::room::Room;
use crate::definition::Demand;
use crate::names::InstanceName;
use crate::world::{InstanceState, World};
use tallyman_crds::{DesiredInstanceStatus, Impairment};

/// Why the host takes no task at all, whatever it asks for.
pub fn barred(instance: &InstanceState, world: &World) -> Option<Refusal> {
    let Some(host) = &instance.host else {
        return Some(Refusal::NotRegistered);
    };
    if instance.beyond_quota {
        Some(Refusal::BeyondQuota)
    } else if instance.identity.deleting {
        Some(Refusal::Deregistering)
    } else if instance.wanted == DesiredInstanceStatus::Draining {
        Some(Refusal::Draining)
    } else if !instance.connected(&world.settings) {
        Some(Refusal::AgentDisconnected)
    } else if !host.engine_reachable {
        Some(Refusal::EngineUnreachable)
    } else {
        host.impairment.map(|impairment| match impairment {
            Impairment::DiskFull => Refusal::DiskFull,
            Impairment::EngineFails => Refusal::EngineFails,
        })
    }
}

/// The first check that the host fails. `mine`: tasks of the group that are to run there.
pub(super) fn refuse(
    name: &InstanceName,
    room: &Room,
    request: &Request,
    mine: i64,
) -> Option<Refusal> {
    let constraints = &request.rules.constraints;
    lacks(room, &request.demand)
        .or_else(|| crowded(constraints, mine))
        .or_else(|| outside(&room.facts(name), &constraints.member_of, |_| true))
}

/// The checks without constraints (ECS StartTask has none).
pub(super) fn lacks(room: &Room, demand: &Demand) -> Option<Refusal> {
    room.barred
        .clone()
        .or_else(|| lacks_attribute(room, demand))
        .or_else(|| lacks_room(room, demand))
}

/// An attribute that the demand names is missing, or has another value.
pub(super) fn lacks_attribute(room: &Room, demand: &Demand) -> Option<Refusal> {
    let lacks = |(attribute, wanted): &(&String, &Option<String>)| match (
        room.attributes.get(*attribute),
        wanted,
    ) {
        (None, _) => true,
        (Some(_), None) => false,
        (Some(value), Some(_)) => value != *wanted,
    };
    let (attribute, wanted) = demand.attributes.iter().find(lacks)?;
    Some(Refusal::Attribute(match wanted {
        None => attribute.clone(),
        Some(value) => format!("{attribute}={value}"),
    }))
}

/// Too little of something is left.
pub(super) fn lacks_room(room: &Room, demand: &Demand) -> Option<Refusal> {
    let free = room.cpu.max(0);
    if demand.cpu > free {
        return Some(Refusal::Cpu { free });
    }
    let free = room.memory.max(0);
    if demand.memory > free {
        return Some(Refusal::Memory { free });
    }
    let clash = room.tcp.clash(&demand.ports);
    if let Some(port) = clash.or_else(|| room.udp.clash(&demand.ports_udp)) {
        return Some(Refusal::Port(port));
    }
    if demand.gpus > 0 {
        let free = room.gpus.most_whole();
        if demand.gpus > free {
            return Some(Refusal::Gpu { free });
        }
    }
    if demand.gpu_memory > 0 {
        let free = room.gpus.most_memory();
        if demand.gpu_memory > free {
            return Some(Refusal::GpuMemory { free });
        }
    }
    let all = room.addresses?;
    (demand.addresses > 0 && room.addressed + demand.addresses > all)
        .then_some(Refusal::Address { all })
}

/// `distinctInstance`, and a task of the group is to run there.
pub(super) fn crowded(constraints: &Constraints, mine: i64) -> Option<Refusal> {
    (constraints.distinct_instance && mine > 0).then_some(Refusal::DistinctInstance)
}

/// The first of `queries` for which `asked` holds and that is not true of the host.
pub(super) fn outside(
    facts: &Facts<'_>,
    queries: &[Query],
    asked: impl Fn(&Query) -> bool,
) -> Option<Refusal> {
    let mut wrong = queries.iter().filter(|q| asked(q) && !q.matches(facts));
    let query = wrong.next()?;
    Some(Refusal::MemberOf(query.text().clone()))
}
