//! `cpu` and `memory` of a task as a whole and its most processes (`ECS_TASK_PIDS_LIMIT`), and how this host enforces them
//! (ECS agent, task cgroup).
//!
//! Where Docker makes control groups itself (driver `cgroupfs`) the task has one of its own, and its containers live
//! below it. Where the service manager makes them (driver `systemd`) only that can set limits, so each container gets
//! those of the task: then a container cannot take more than its task, though two together can.

use std::collections::BTreeSet;
use std::time::Duration;

use tallyman_agent_engine::{ContainerSpec, CpuQuota, EngineDescription, Group};
use tallyman_crds::quantity::{cpu_units, memory_mib};
use tallyman_crds::{PlannedDefinition, PlannedTask};

use crate::containers::{MIB, Scope};
use crate::ids::TaskUid;
use crate::planned::PlannedContainer;
use crate::refused::Refused;
use crate::settings::tasks::Tasks;

/// Above the groups of all hosts, as ECS names it.
pub const ROOT: &str = "ecs";
/// Its weight, the kernel's own default.
pub const ROOT_SHARES: i64 = 1024;
/// CPU units of a core.
const CORE: i64 = 1024;
/// The kernel takes no smaller quota.
const LEAST_QUOTA: Duration = Duration::from_millis(1);
/// Of a container whose task nobody limits: no service comes near it, and a fork bomb leaves the host some of its 32,768.
const MOST_PROCESSES: i64 = 4096;

/// What the containers of a task may take together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TaskLimits {
    /// Name of its group.
    pub group: String,
    /// CPU units.
    pub cpu: Option<i64>,
    /// Bytes.
    pub memory_bytes: Option<i64>,
    /// Processes, by the host's setting.
    pub pids: Option<i64>,
    /// CPU units of its containers together, each counted as at least 2.
    pub shares: i64,
}

/// How a host enforces limits of tasks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Enforcement {
    /// Not at all (`ECS_ENABLE_TASK_CPU_MEM_LIMIT=false`).
    #[default]
    Off,
    /// By a group of the task.
    Group {
        /// `ECS_CGROUP_CPU_PERIOD`
        period: Duration,
        /// Containers without a memory limit get that of the task, too, so that they see it
        /// (`ECS_PROPAGATE_TASK_MEMORY_LIMIT_CGROUPV2`).
        propagate: bool,
    },
    /// By limits of each container.
    Each {
        /// `ECS_CGROUP_CPU_PERIOD`
        period: Duration,
    },
}

impl Enforcement {
    /// What the host can do. `groups`: the agent can make groups there.
    pub fn of(settings: &Tasks, engine: Option<&EngineDescription>, groups: bool) -> Self {
        let period = settings.cgroup_cpu_period;
        if !settings.cpu_mem_limit {
            return Self::Off;
        }
        match engine {
            Some(engine) if groups && engine.cgroup_driver == "cgroupfs" => Self::Group {
                period,
                propagate: settings.propagate_memory && engine.cgroup_version == "2",
            },
            Some(_) | None => Self::Each { period },
        }
    }
}

/// The group above those of all tasks of a host.
pub fn parent(container_instance_uid: &str) -> String {
    format!("{ROOT}/{container_instance_uid}")
}

impl TaskLimits {
    /// What a task asks for.
    ///
    /// # Errors
    /// [`Refused`] when a number cannot be read, or a container may take more than the task.
    pub fn plan(
        planned: &PlannedDefinition,
        task: &PlannedTask,
        containers: &[PlannedContainer],
        scope: &Scope<'_>,
    ) -> Result<Self, Refused> {
        let definition = &planned.definition;
        let overrides = task.overrides.as_ref();
        let text = |other: Option<&String>, own: &Option<String>| other.or(own.as_ref()).cloned();
        let cpu = text(overrides.and_then(|o| o.cpu.as_ref()), &definition.cpu);
        let memory = text(
            overrides.and_then(|o| o.memory.as_ref()),
            &definition.memory,
        );
        let read = |field, text: Option<String>, parse: fn(&str) -> Option<i64>| {
            text.map(|text| parse(&text).ok_or(Refused::Quantity { field, text }))
                .transpose()
        };
        let cpu = read("cpu", cpu, cpu_units)?;
        let memory = read("memory", memory, memory_mib)?;
        if let Some(limit) = memory {
            let above = |c: &&PlannedContainer| c.memory_bytes().is_some_and(|m| m > limit * MIB);
            if let Some(container) = containers.iter().find(above) {
                return Err(Refused::MoreThanTheTask {
                    container: container.name.clone(),
                    own: container.memory_bytes().unwrap_or_default() / MIB,
                    limit,
                });
            }
        }
        Ok(Self {
            group: format!("{}/{}", parent(scope.container_instance_uid), task.uid),
            cpu,
            memory_bytes: memory.map(|mib| mib * MIB),
            pids: scope.pids_limit,
            shares: containers.iter().map(PlannedContainer::cpu_shares).sum(),
        })
    }

    /// Puts the limits into what a container shall be.
    pub fn apply(&self, how: Enforcement, spec: &mut ContainerSpec) {
        match how {
            Enforcement::Off => {}
            Enforcement::Group { propagate, .. } => {
                if self.any() {
                    spec.group = Some(self.group.clone());
                }
                if propagate && spec.memory_bytes.is_none() {
                    spec.memory_bytes = self.memory_bytes;
                }
            }
            Enforcement::Each { period } => {
                spec.memory_bytes = spec.memory_bytes.or(self.memory_bytes);
                spec.cpu_quota = self.cpu.map(|units| quota(units, period));
            }
        }
        let counted_together = matches!(how, Enforcement::Group { .. }) && self.pids.is_some();
        if !counted_together {
            spec.parameters.pids_limit = Some(self.pids.unwrap_or(MOST_PROCESSES));
        }
    }

    /// The group that must be there before a container of the task starts.
    pub fn group(&self, how: Enforcement) -> Option<Group> {
        match how {
            Enforcement::Group { period, .. } if self.any() => Some(Group {
                name: self.group.clone(),
                cpu_shares: self.cpu.unwrap_or(self.shares).clamp(2, 262_144),
                cpu_quota: self.cpu.map(|units| quota(units, period)),
                memory_bytes: self.memory_bytes,
                pids: self.pids,
            }),
            Enforcement::Group { .. } | Enforcement::Off | Enforcement::Each { .. } => None,
        }
    }

    fn any(&self) -> bool {
        self.cpu.is_some() || self.memory_bytes.is_some() || self.pids.is_some()
    }
}

fn quota(units: i64, period: Duration) -> CpuQuota {
    let micros = i64::try_from(period.as_micros()).unwrap_or(i64::MAX);
    let quota = units.saturating_mul(micros) / CORE;
    CpuQuota {
        quota: Duration::from_micros(quota.unsigned_abs()).max(LEAST_QUOTA),
        period,
    }
}

/// Groups that no task needs any more. A group is left over when two looks in a row, some time apart, found it
/// without a task: between making it and the first container of a new task nothing else holds it.
#[derive(Clone, Debug, Default)]
pub struct Leftovers {
    before: BTreeSet<String>,
}

impl Leftovers {
    /// One look: `groups` are all groups of this host, `known` the tasks that may have containers.
    pub fn check(&mut self, groups: &[String], known: &BTreeSet<TaskUid>) -> Vec<String> {
        let without: BTreeSet<String> = groups
            .iter()
            .filter(|name| {
                let task = name.rsplit('/').next().unwrap_or_default();
                !known.contains(&TaskUid::new(task.to_owned()))
            })
            .cloned()
            .collect();
        let left = without.intersection(&self.before).cloned().collect();
        self.before = without;
        left
    }
}
