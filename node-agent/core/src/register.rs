//! What the host says of itself: resources, attributes, capabilities (ECS RegisterContainerInstance).
//!
//! A capability is advertised only when containers really get it: placement trusts it.

mod attributes;
mod outbox;
#[cfg(test)]
mod tests;

use tallyman_agent_engine::EngineDescription;
use tallyman_crds::{GpuMemory, HostReport, Impairment, Resources, labels};

use crate::disk::EngineDisk;
use crate::failing::Complaint;
use crate::fault_injection::Abilities;
use crate::gpu_info::GpuInfo;
use crate::ids::Fence;
use crate::metadata::Roles;
use crate::register::attributes::attributes;
use crate::settings::Settings;

pub use outbox::HostOutbox;

/// CPU units of one processor.
const UNITS_PER_CPU: i64 = 1024;

/// What the shell finds out about the host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HostFacts {
    /// Version of the agent.
    pub agent_version: String,
    /// Address at which published ports are reached.
    pub address: Option<String>,
    /// Changes when the host boots.
    pub boot_id: Option<String>,
    /// How its containers are given credentials for roles, if they are.
    pub roles: Option<Roles>,
    /// What faults its tasks may ask for.
    pub faults: Abilities,
    /// Its GPUs for tasks.
    pub gpus: GpuInfo,
    /// Why plan and records cannot be written to disk; `None` while they can.
    pub ledger_trouble: Option<String>,
    /// Names of forgotten tasks that run.
    pub forgotten: Vec<String>,
    /// Another machine came up under this host's name ([`crate::tenure`]); in words.
    pub rival: Option<String>,
    /// Its clock is off ([`crate::clock`]); in words.
    pub clock: Option<String>,
}

/// What the agent knows of its engine.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EngineFacts {
    /// As it described itself last, in an earlier run of the agent perhaps; `None` before the first answer ever.
    pub description: Option<EngineDescription>,
    /// It has answered, or failed to, in this run: before that nothing is said of the host.
    pub heard: bool,
    /// Why it cannot be reached; `None` while it can.
    pub trouble: Option<String>,
    /// Whether its disk has room.
    pub disk: EngineDisk,
    /// What it fails to do, whichever task asks ([`crate::Failing`]).
    pub failing: Option<Complaint>,
}

impl EngineFacts {
    /// What is wrong with its disk, for people.
    pub fn disk_complaint(&self) -> Option<String> {
        let folder = self.description.as_ref().map(|d| d.data_root.as_str());
        self.disk.complaint(folder.unwrap_or_default())
    }
}

/// Why a host cannot register.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CannotRegister {
    /// Nothing is left for tasks.
    #[error(
        "ECS_RESERVED_MEMORY is {reserved} MiB, but the host has only {total} MiB; reserve less"
    )]
    Memory {
        /// `ECS_RESERVED_MEMORY`.
        reserved: i64,
        /// Of the host.
        total: i64,
    },
}

/// The part of the ContainerInstance's status that the agent writes.
///
/// # Errors
/// [`CannotRegister`] when more is reserved than there is.
pub fn report(
    settings: &Settings,
    host: &HostFacts,
    engine: &EngineFacts,
    applied: Fence,
) -> Result<HostReport, CannotRegister> {
    let description = engine.description.as_ref();
    let registered_resources = match description {
        Some(description) => resources(settings, host, description)?,
        None => Resources::default(),
    };
    Ok(HostReport {
        agent_version: host.agent_version.clone(),
        engine: description
            .map(|d| format!("{} {}", d.name, short(&d.version)))
            .unwrap_or_default(),
        engine_api_version: description
            .map(|d| d.api_version.clone())
            .unwrap_or_default(),
        engine_reachable: description.is_some() && engine.trouble.is_none(),
        registered_resources,
        attributes: attributes(settings, host, description),
        address: host.address.clone(),
        boot_id: host.boot_id.clone(),
        engine_id: description
            .map(|d| d.engine_id.clone())
            .filter(|id| !id.is_empty()),
        applied_plan_generation: applied.generation,
        applied_plan_epoch: applied.epoch,
        impairment: impairment(engine),
        message: message(host, engine),
    })
}

/// Why tasks that come would not start; an engine that is away is told of by itself.
fn impairment(engine: &EngineFacts) -> Option<Impairment> {
    if engine.disk_complaint().is_some() {
        Some(Impairment::DiskFull)
    } else if engine.failing.as_ref().is_some_and(|told| told.bars) {
        Some(Impairment::EngineFails)
    } else {
        None
    }
}

/// What is wrong with the host as a whole, the worst first.
fn message(host: &HostFacts, engine: &EngineFacts) -> Option<String> {
    let all = [
        engine.trouble.clone(),
        engine.disk_complaint(),
        engine.failing.as_ref().map(|told| told.words.clone()),
        host.ledger_trouble.clone(),
        host.rival.clone(),
        host.clock.clone(),
        forgotten(&host.forgotten),
        host.gpus.complaint(),
    ];
    let all: Vec<String> = all.into_iter().flatten().collect();
    (!all.is_empty()).then(|| all.join(" "))
}

/// So many names are told.
const NAMED: usize = 10;

/// What runs that nobody knows of, and what to do about it.
fn forgotten(tasks: &[String]) -> Option<String> {
    let (n, what) = match tasks {
        [] => return None,
        [_] => (1, "task runs"),
        more => (more.len(), "tasks run"),
    };
    let named = tasks.iter().take(NAMED).map(String::as_str);
    let named: Vec<&str> = named.collect();
    let more = if n > NAMED { ", ..." } else { "" };
    Some(format!(
        "{n} {what} that the API server does not have any more since it went back to an older state: {}{more}. Nothing stops \
         them but themselves. To have them stopped, annotate this ContainerInstance with {}=true.",
        named.join(", "),
        labels::STOP_FORGOTTEN,
    ))
}

/// A version without what the packager added: `20.10.24+dfsg1` is `20.10.24`.
fn short(version: &str) -> &str {
    version.split('+').next().unwrap_or(version)
}

fn resources(
    settings: &Settings,
    host: &HostFacts,
    description: &EngineDescription,
) -> Result<Resources, CannotRegister> {
    let memory = description.memory_mib - settings.registration.reserved_memory_mib;
    if memory < 0 {
        return Err(CannotRegister::Memory {
            reserved: settings.registration.reserved_memory_mib,
            total: description.memory_mib,
        });
    }
    let ports = |ports: &[u16]| ports.iter().map(|port| i32::from(*port)).collect();
    let known = host.gpus.ids.iter();
    let gpu_memory = known.filter_map(|id| {
        Some(GpuMemory {
            gpu_id: id.clone(),
            memory: *host.gpus.memory.get(id)?,
        })
    });
    Ok(Resources {
        cpu: description.cpus.saturating_mul(UNITS_PER_CPU),
        memory,
        ports: ports(&settings.registration.reserved_ports),
        ports_udp: ports(&settings.registration.reserved_ports_udp),
        gpu: host.gpus.ids.clone(),
        gpu_memory: gpu_memory.collect(),
    })
}
