//! What the agent remembers of a task between steps and restarts. A cache: losing it costs words and
//! retries, never a container.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tallyman_agent_engine::Verb;
use tallyman_crds::size::Size;
use tallyman_crds::{Condition, HealthStatus, LastStatus, NetworkBinding, StopCode};

use crate::assignment::AssignedTask;
use crate::ids::TaskUid;
use crate::volumes::Life;

/// What is remembered of a task.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TaskRecord {
    /// Identity.
    pub uid: TaskUid,
    /// Name of the Task.
    pub name: String,
    /// Cluster.
    #[serde(default)]
    pub cluster: String,
    /// Family.
    #[serde(default)]
    pub family: String,
    /// Revision number.
    #[serde(default)]
    pub revision: i64,
    /// `metadata.generation` of the Task as last planned.
    #[serde(default)]
    pub generation: i64,
    /// What it takes from the host.
    #[serde(default)]
    pub size: Size,
    /// It stops by itself once the host was out of touch with the API server for so long.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stop_after: Option<Duration>,
    /// Up to which silence of the API server it has looked; of tasks with `stopAfter`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub heard: Option<u64>,
    /// When the agent took it on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accepted_at: Option<Timestamp>,
    /// Its containers, by their names in the task definition.
    #[serde(default)]
    pub containers: BTreeMap<String, ContainerRecord>,
    /// Volumes of the engine that it needs, by their names in the task definition.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub volumes: BTreeMap<String, VolumeRecord>,
    /// Highest status that a step came to; never falls.
    #[serde(default)]
    pub last_status: LastStatus,
    /// Why it ends, once that is decided. The first cause stays.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stop: Option<Stop>,
    /// First pull began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pull_started_at: Option<Timestamp>,
    /// Last pull ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pull_stopped_at: Option<Timestamp>,
    /// All its containers were up for the first time. Absent: it never was RUNNING.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Timestamp>,
    /// An essential container exited.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub execution_stopped_at: Option<Timestamp>,
    /// Every container has ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stopped_at: Option<Timestamp>,
    /// Containers were removed because the Task was deleted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub removed_at: Option<Timestamp>,
    /// Until when it is protected from scale-in and deployments.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protected_until: Option<Timestamp>,
    /// The same, as the API server took it last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protection_told: Option<Timestamp>,
    /// Conditions as last composed, for their transition times.
    #[serde(default)]
    pub conditions: Vec<Condition>,
    /// The two-phase check found it unknown to the plan: it is stopped and removed, and not reported.
    #[serde(default)]
    pub condemned: bool,
    /// The API server went back to an older state while it was to run, and no plan of that state had it yet
    /// ([`crate::Host::forgotten`]).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub maybe_forgotten: bool,
    /// Hash of the last report that the API server took ([`crate::report::fingerprint`]).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub acknowledged: Option<u64>,
    /// Whether that report said STOPPED.
    #[serde(default)]
    pub end_acknowledged: bool,
}

impl TaskRecord {
    /// The record of a task that was never seen before.
    pub fn new(task: &AssignedTask) -> Self {
        let mut record = Self {
            uid: task.uid.clone(),
            name: task.name.clone(),
            cluster: String::new(),
            family: String::new(),
            revision: 0,
            generation: 0,
            size: Size::default(),
            stop_after: None,
            heard: None,
            accepted_at: None,
            containers: BTreeMap::new(),
            volumes: BTreeMap::new(),
            last_status: LastStatus::Pending,
            stop: None,
            pull_started_at: None,
            pull_stopped_at: None,
            started_at: None,
            execution_stopped_at: None,
            stopped_at: None,
            removed_at: None,
            protected_until: None,
            protection_told: None,
            conditions: Vec::new(),
            condemned: false,
            maybe_forgotten: false,
            acknowledged: None,
            end_acknowledged: false,
        };
        record.adopt_names(task);
        record
    }

    /// Takes over from the plan what is needed to know the task without it.
    pub(crate) fn adopt_names(&mut self, task: &AssignedTask) {
        if !task.planned {
            return;
        }
        self.cluster.clone_from(&task.cluster);
        self.family.clone_from(&task.family);
        self.revision = task.revision;
        self.generation = task.generation;
        self.size.clone_from(&task.size);
        self.stop_after = task.stop_after;
        for container in task.containers() {
            let known = self.containers.entry(container.name.clone()).or_default();
            known.base_name = container.engine_name(1);
            container.given_image().clone_into(&mut known.image);
            known.chooses_ports = !container.dynamic.is_empty();
            known.chooses_gpus = container.gpus.is_some();
        }
        for volume in &task.volumes {
            let known = self.volumes.entry(volume.name.clone()).or_default();
            known.engine_name.clone_from(&volume.spec.name);
            known.owned = volume.life == Life::Task;
        }
    }

    /// The API server went back to an older state: what it was told is told again, which does no harm where it knows.
    /// `to_run`: the plan at hand then wants the task to run; the next one may not know of it ([`crate::Host::tells_again`]).
    pub fn api_went_back(&mut self, to_run: bool) {
        self.tell_again();
        self.maybe_forgotten |= to_run;
    }

    /// Its status is told, whether it was or not.
    pub(crate) fn tell_again(&mut self) {
        self.acknowledged = None;
        self.end_acknowledged = false;
    }

    /// Whether the task has ended.
    pub fn is_stopped(&self) -> bool {
        self.stopped_at.is_some()
    }

    /// A number of its own, to spread retries.
    pub fn salt(&self) -> u64 {
        crate::names::hash(self.uid.as_str().as_bytes())
    }
}

/// Why a task ends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Stop {
    /// ECS stop code; absent when the plan gave none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<StopCode>,
    /// ECS stopped reason.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// When it was decided.
    pub at: Timestamp,
}

/// What is remembered of a container.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ContainerRecord {
    /// Name on the engine, less the attempt.
    pub base_name: String,
    /// Which attempt of it is current, from 1.
    pub attempt: u32,
    /// Image reference.
    #[serde(default)]
    pub image: String,
    /// Its image is on the host.
    #[serde(default)]
    pub prepared: bool,
    /// The network that it is on is there.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub networked: bool,
    /// Manifest digest of the image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_digest: Option<String>,
    /// The engine has, or had, the container.
    #[serde(default)]
    pub created: bool,
    /// The engine's id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runtime_id: Option<String>,
    /// It ran, now or before.
    #[serde(default)]
    pub started: bool,
    /// Since when it ran.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Timestamp>,
    /// When the run that was seen last began, as the engine says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run_began: Option<Timestamp>,
    /// How often it was seen to run again after an exit (ECS `restartCount`).
    #[serde(default)]
    pub restarts: u32,
    /// Its ports on the host.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub bindings: Vec<NetworkBinding>,
    /// Its ports on the host are chosen by the agent.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub chooses_ports: bool,
    /// GPUs that it has, as the engine said.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gpu_ids: Vec<String>,
    /// Its GPUs are chosen by the agent.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub chooses_gpus: bool,
    /// Somebody else has a port or a GPU that was chosen for it: it never ran, is removed, and made anew with others.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub choice_lost: bool,
    /// Where it is on the network: of a pause container, whose address is the task's own, and of a log router.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interface: Option<Interface>,
    /// Its health.
    #[serde(default)]
    pub health: HealthStatus,
    /// Since when it has that health.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health_since: Option<Timestamp>,
    /// It will not be brought up any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<Failure>,
    /// Its end. Nothing follows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end: Option<End>,
    /// A verb other than inspect that failed and is to be called again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retrying: Option<Retrying>,
    /// Inspects that failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub looking: Option<Retrying>,
}

impl Default for ContainerRecord {
    fn default() -> Self {
        Self {
            base_name: String::new(),
            attempt: 1,
            image: String::new(),
            prepared: false,
            networked: false,
            image_digest: None,
            created: false,
            runtime_id: None,
            started: false,
            started_at: None,
            run_began: None,
            restarts: 0,
            bindings: Vec::new(),
            chooses_ports: false,
            gpu_ids: Vec::new(),
            chooses_gpus: false,
            choice_lost: false,
            interface: None,
            health: HealthStatus::Unknown,
            health_since: None,
            failure: None,
            end: None,
            retrying: None,
            looking: None,
        }
    }
}

/// A network interface: that which the containers of a task share (ECS task networking), or a log router's own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Interface {
    /// IPv4 address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ipv4: Option<Ipv4Addr>,
    /// Global IPv6 address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ipv6: Option<Ipv6Addr>,
    /// Hardware address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mac: Option<String>,
    /// The engine's name of the network.
    pub network: String,
}

/// What is remembered of a volume.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct VolumeRecord {
    /// Name on the engine.
    pub engine_name: String,
    /// It is the task's own and goes with it.
    #[serde(default)]
    pub owned: bool,
    /// Why the task cannot have it, as ECS words it, at most 1024 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
    /// Removed, or left to the sweep because somebody else's container has it.
    #[serde(default)]
    pub let_go: bool,
    /// A verb that failed and is to be called again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retrying: Option<Retrying>,
}

/// Why a container will not be brought up any more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Failure {
    /// `Name: message` as ECS words it, at most 1024 characters.
    pub reason: String,
    /// Preparing its image failed (a non-essential container then does not always end the task).
    pub at_pull: bool,
    /// Exit code that is told of it though it never ran (ECS has 143 for a dependency that cannot be met).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
}

/// How a container ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct End {
    /// Exit code; absent when it never ran, or nobody knows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
    /// `Name: message`, when there is something to say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// When.
    pub at: Timestamp,
}

/// A verb that failed and is to be called again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Retrying {
    /// Which.
    #[serde(with = "verb")]
    pub verb: Verb,
    /// Failures in a row.
    pub attempts: u32,
    /// Not before.
    pub not_before: Timestamp,
    /// The last failure, in the engine's words.
    pub message: String,
}

/// [`Verb`] by name: the port's types know nothing of files.
mod verb {
    use serde::{Deserialize, Deserializer, Serializer};
    use tallyman_agent_engine::Verb;

    pub fn serialize<S: Serializer>(verb: &Verb, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(verb.as_str())
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Verb, D::Error> {
        let name = String::deserialize(from)?;
        [
            Verb::Prepare,
            Verb::Create,
            Verb::Start,
            Verb::Inspect,
            Verb::Stop,
            Verb::Remove,
            Verb::CreateVolume,
            Verb::InspectVolume,
            Verb::RemoveVolume,
            Verb::EnsureImage,
            Verb::EnsureNetwork,
            Verb::Attach,
        ]
        .into_iter()
        .find(|verb| verb.as_str() == name)
        .ok_or_else(|| serde::de::Error::custom(format!("no verb {name}")))
    }
}
