//! A container of a task as it was planned: what the engine is told, and what the task's machine must know of it.

use std::time::Duration;

use tallyman_agent_engine::{
    ContainerSpec, ContainerState, Log, Mount, Network, NetworkSpec, Protocol,
};
use tallyman_crds::labels;
use tallyman_crds::order::Edge;
use tallyman_crds::sources::Supply;

use crate::firelens::RouterFiles;
use crate::gpus::GpuShare;
use crate::host_paths::HostPaths;
use crate::ids::TaskUid;
use crate::needs::{Needs, Unmet};
use crate::pause::{self, Groundwork};
use crate::ports::PortSpan;

/// One container of a task, ready for the engine.
#[derive(Clone, Debug, PartialEq)]
pub struct PlannedContainer {
    /// Name in the task definition.
    pub name: String,
    /// Its end ends the task.
    pub essential: bool,
    /// The task definition has a health check for it (an image's own is not monitored).
    pub health_checked: bool,
    /// Between SIGTERM and SIGKILL.
    pub grace: Duration,
    /// What it waits for in other containers of the task; at the end those wait for it.
    pub edges: Vec<Edge>,
    /// How long after its start others wait for its completion or health; `None` is as long as it takes.
    pub start_timeout: Option<Duration>,
    /// When it is started again after an exit; `None` is never.
    pub restart: Option<RestartPolicy>,
    /// What it takes from Secrets and ConfigMaps.
    pub needs: Needs,
    /// Ports that are reached without publishing: on the host itself (network mode `host`), or at the task's own
    /// address (`awsvpc`).
    pub exposed: Vec<PortSpan>,
    /// Ports that are published on ports of the host that are chosen when it is created.
    pub dynamic: Vec<PortSpan>,
    /// GPUs of the host that it gets; which ones is chosen when it is created.
    pub gpus: Option<GpuShare>,
    /// What must be on the engine before it is made; of a pause container only.
    pub groundwork: Option<Box<Groundwork>>,
    /// It is the log router of its task, with this configuration.
    pub router: Option<String>,
    /// Its log driver as the definition has it, when a log router stands between.
    pub(crate) routed: Option<Log>,
    /// The log router whose address it is told when it is created.
    pub fluent_host: Option<String>,
    /// Paths of the host that it mounts, if it does.
    pub(crate) host_paths: Option<Box<HostPaths>>,
    /// `cpu` of its definition, in CPU units; 0 is none.
    pub cpu_units: i64,
    /// `memory` of its definition, in MiB; 0 is none.
    pub memory_mib: i64,
    /// What the engine is told, for the first attempt.
    spec: ContainerSpec,
    /// Name on the engine, less the attempt.
    base_name: String,
    given_image: String,
}

/// When a container that exited is started again, by the agent and in place (ECS `restartPolicy`, enabled).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RestartPolicy {
    /// Exit codes that are its end.
    pub ignored_exit_codes: Vec<i32>,
    /// It must have run for so long since it was last started; a shorter run is its end.
    pub attempt_period: Duration,
}

impl PlannedContainer {
    pub(crate) fn new(
        name: String,
        essential: bool,
        health_checked: bool,
        grace: Duration,
        spec: ContainerSpec,
    ) -> Self {
        let base_name = spec.name.clone();
        let given_image = spec.image.clone();
        Self {
            name,
            essential,
            health_checked,
            grace,
            edges: Vec::new(),
            start_timeout: None,
            restart: None,
            needs: Needs::default(),
            exposed: Vec::new(),
            dynamic: Vec::new(),
            gpus: None,
            groundwork: None,
            router: None,
            routed: None,
            fluent_host: None,
            host_paths: None,
            cpu_units: 0,
            memory_mib: 0,
            spec,
            base_name,
            given_image,
        }
    }

    /// Whether it is the pause container of its task.
    pub fn is_pause(&self) -> bool {
        self.name == pause::NAME
    }

    /// The network that the agent must make before it is made.
    pub(crate) fn network_to_make(&self) -> Option<&NetworkSpec> {
        self.groundwork.as_ref()?.network.as_ref()
    }

    /// The network that it is put on once it runs, beside its own.
    pub(crate) fn network_beside(&self) -> Option<&str> {
        let groundwork = self.groundwork.as_ref().filter(|work| work.beside)?;
        groundwork.network.as_ref().map(|made| made.name.as_str())
    }

    /// Whether it is not on that network.
    pub(crate) fn lacks_network(&self, state: &ContainerState) -> bool {
        let mut all = state.attachments.iter();
        let wanted = self.network_beside();
        wanted.is_some_and(|network| all.all(|one| one.network != network))
    }

    /// Whether it is reached at the task's own address.
    pub fn has_task_address(&self) -> bool {
        matches!(self.spec.network, Network::Container(_))
    }

    /// What must be on the host's disk before it is made; `None` when that is nothing.
    ///
    /// # Errors
    /// The file that its configuration includes is not there.
    pub(crate) fn router_files(
        &self,
        task: &TaskUid,
        supply: Option<&Supply>,
    ) -> Result<Option<RouterFiles>, Unmet> {
        let Some(configuration) = &self.router else {
            return Ok(None);
        };
        Ok(Some(RouterFiles {
            task: task.clone(),
            configuration: configuration.clone(),
            external: self.needs.configuration(supply)?,
        }))
    }

    /// Name of its `attempt`th container on the engine.
    pub fn engine_name(&self, attempt: u32) -> String {
        if attempt > 1 {
            format!("{}-{attempt}", self.base_name)
        } else {
            self.base_name.clone()
        }
    }

    /// Image reference as the task definition has it, whatever digest it is started with.
    pub fn given_image(&self) -> &str {
        &self.given_image
    }

    /// The container is started with this digest.
    pub(crate) fn pin(&mut self, digest: &str) {
        if !self.spec.image.contains('@') {
            self.spec.image = format!("{}@{digest}", self.given_image);
        }
    }

    /// Ports of the host that the definition names: published there, or the host's own.
    pub fn fixed_ports(&self) -> impl Iterator<Item = (u16, Protocol)> {
        let published = self.spec.ports.iter();
        let published = published.filter_map(|port| Some((port.host_port?, port.protocol)));
        let own = self.exposed.iter().filter(|_| !self.has_task_address());
        published.chain(own.flat_map(|span| span.ports().map(|port| (port, span.protocol))))
    }

    /// Image reference.
    pub fn image(&self) -> &str {
        &self.spec.image
    }

    /// Its own memory limit, in bytes.
    pub fn memory_bytes(&self) -> Option<i64> {
        self.spec.memory_bytes
    }

    /// Its weight; what the engine has for one that asks for nothing is the least.
    pub fn cpu_shares(&self) -> i64 {
        self.spec.cpu_shares.unwrap_or_default()
    }

    /// Which network it lives in.
    pub fn network(&self) -> &Network {
        &self.spec.network
    }

    /// Where its output goes as the definition has it, unless that is left to the engine.
    pub fn log(&self) -> Option<&Log> {
        let told = self.spec.parameters.log.as_ref();
        self.routed.as_ref().or(told)
    }

    /// What it sees of the host.
    pub fn mounts(&self) -> &[Mount] {
        &self.spec.mounts
    }

    /// What the engine is told for its `attempt`th container.
    pub fn spec(&self, attempt: u32) -> ContainerSpec {
        let mut spec = self.spec.clone();
        spec.name = self.engine_name(attempt);
        spec.labels.insert(
            labels::CONTAINER_ATTEMPT.to_owned(),
            attempt.max(1).to_string(),
        );
        spec
    }
}
