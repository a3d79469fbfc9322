//! Why a host does not take a task: the first check that it fails.

use std::sync::Arc;

/// Why a host does not take a task. In the order in which they are checked.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Refusal {
    /// The cluster has no such host.
    Missing,
    /// Its agent has not registered yet.
    NotRegistered,
    /// Its cluster has as many older hosts as it may have.
    BeyondQuota,
    /// It is being deregistered.
    Deregistering,
    /// It is DRAINING.
    Draining,
    /// Its agent is not connected.
    AgentDisconnected,
    /// Its agent cannot reach its engine.
    EngineUnreachable,
    /// The disk of its engine has hardly any room left.
    DiskFull,
    /// Its engine fails, whichever task asks.
    EngineFails,
    /// It lacks an attribute: its name, or `name=value` when it must have that value.
    Attribute(String),
    /// Too little CPU is left.
    Cpu {
        /// Units left.
        free: i64,
    },
    /// Too little memory is left.
    Memory {
        /// MiB left.
        free: i64,
    },
    /// A fixed host port is taken.
    Port(u16),
    /// Too few GPUs are left.
    Gpu {
        /// Whole GPUs left.
        free: i64,
    },
    /// No GPU has enough memory left for the task's part.
    GpuMemory {
        /// MiB that the GPU with the most of it has left.
        free: i64,
    },
    /// All addresses that it has for tasks are taken.
    Address {
        /// How many it has.
        all: i64,
    },
    /// A task of the group is to run there already, and `distinctInstance` allows one.
    DistinctInstance,
    /// This `memberOf` expression is not true of it.
    MemberOf(Arc<str>),
}

impl Refusal {
    /// ECS `failures[].reason` (ECS API failure reasons).
    pub fn ecs_reason(&self) -> &'static str {
        match self {
            Refusal::Missing => "MISSING",
            Refusal::NotRegistered
            | Refusal::AgentDisconnected
            | Refusal::EngineUnreachable
            | Refusal::DiskFull
            | Refusal::EngineFails => "AGENT",
            Refusal::BeyondQuota | Refusal::Deregistering | Refusal::Draining => "INACTIVE",
            Refusal::Attribute(_) => "ATTRIBUTE",
            Refusal::Cpu { .. } => "RESOURCE:CPU",
            Refusal::Memory { .. } => "RESOURCE:MEMORY",
            Refusal::Port(_) => "RESOURCE:PORTS",
            // ECS' documents have no reason of its own for it.
            Refusal::Gpu { .. } | Refusal::GpuMemory { .. } => "RESOURCE:GPU",
            Refusal::Address { .. } => "RESOURCE:ENI",
            Refusal::DistinctInstance => "DistinctInstance placement constraint unsatisfied",
            Refusal::MemberOf(_) => "MemberOf placement constraint unsatisfied",
        }
    }

    /// How the ECS service event goes on after "The closest matching container-instance I" (ECS service event messages).
    pub(super) fn ecs_sentence(&self) -> String {
        match self {
            Refusal::Missing => "encountered error \"MISSING\".".to_owned(),
            Refusal::NotRegistered
            | Refusal::AgentDisconnected
            | Refusal::EngineUnreachable
            | Refusal::DiskFull
            | Refusal::EngineFails => "encountered error \"AGENT\".".to_owned(),
            Refusal::BeyondQuota | Refusal::Deregistering | Refusal::Draining => {
                "encountered error \"INACTIVE\".".to_owned()
            }
            Refusal::Attribute(_) => "is missing an attribute required by your task.".to_owned(),
            Refusal::Cpu { .. } => "has insufficient CPU units available.".to_owned(),
            Refusal::Memory { .. } => "has insufficient memory available.".to_owned(),
            Refusal::Port(_) => "is already using a port required by your task.".to_owned(),
            Refusal::Gpu { .. } | Refusal::GpuMemory { .. } => {
                "encountered error \"RESOURCE:GPU\".".to_owned()
            }
            Refusal::Address { .. } => "encountered error \"RESOURCE:ENI\".".to_owned(),
            // The full stop stands inside the quotes as well, as ECS has it.
            Refusal::DistinctInstance | Refusal::MemberOf(_) => {
                format!("encountered error \"{}.\".", self.ecs_reason())
            }
        }
    }

    /// How many checks came before this one: the closest host is the one that failed last.
    pub(super) fn rank(&self) -> u8 {
        match self {
            Refusal::Missing => 0,
            Refusal::NotRegistered => 1,
            Refusal::BeyondQuota => 2,
            Refusal::Deregistering => 3,
            Refusal::Draining => 4,
            Refusal::AgentDisconnected => 5,
            Refusal::EngineUnreachable => 6,
            Refusal::DiskFull => 7,
            Refusal::EngineFails => 8,
            Refusal::Attribute(_) => 9,
            Refusal::Cpu { .. } => 10,
            Refusal::Memory { .. } => 11,
            Refusal::Port(_) => 12,
            Refusal::Gpu { .. } => 13,
            Refusal::GpuMemory { .. } => 14,
            Refusal::Address { .. } => 15,
            Refusal::DistinctInstance => 16,
            Refusal::MemberOf(_) => 17,
        }
    }

    /// How much is left of what there is too little of.
    pub(super) fn free(&self) -> i64 {
        match self {
            Refusal::Cpu { free }
            | Refusal::Memory { free }
            | Refusal::Gpu { free }
            | Refusal::GpuMemory { free } => *free,
            Refusal::Missing
            | Refusal::NotRegistered
            | Refusal::BeyondQuota
            | Refusal::Deregistering
            | Refusal::Draining
            | Refusal::AgentDisconnected
            | Refusal::EngineUnreachable
            | Refusal::DiskFull
            | Refusal::EngineFails
            | Refusal::Attribute(_)
            | Refusal::Port(_)
            | Refusal::Address { .. }
            | Refusal::DistinctInstance
            | Refusal::MemberOf(_) => 0,
        }
    }
}
