//! What answers are composed from: a task as planned, remembered and seen, and the place it is at.

use std::collections::BTreeMap;
use std::net::IpAddr;

use jiff::Timestamp;
use tallyman_agent_engine::{Attachment, ContainerState, Moment};
use tallyman_crds::arn::Arns;

use crate::assignment::{AssignedTask, Desired};
use crate::metadata::access;
use crate::metadata::resolver::Resolver;
use crate::pause;
use crate::planned::PlannedContainer;
use crate::task::{ContainerRecord, TaskRecord};

/// Where the host is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// Namespace of its tasks.
    pub namespace: String,
    /// Region, when it knows one.
    pub region: Option<String>,
    /// Availability zone, when it has one.
    pub availability_zone: Option<String>,
    /// Name of the ContainerInstance.
    pub container_instance: String,
    /// Address at which published ports are reached.
    pub address: Option<String>,
    /// ECS tags that the host gives itself, by key.
    pub tags: BTreeMap<String, String>,
}

impl Place {
    /// What names things here.
    pub fn arns(&self) -> Arns<'_> {
        Arns {
            region: self.region.as_deref().unwrap_or_default(),
            namespace: &self.namespace,
        }
    }
}

/// A task at one moment.
#[derive(Clone, Debug, PartialEq)]
pub struct TaskSight {
    /// What is wanted.
    pub task: AssignedTask,
    /// What is remembered.
    pub record: TaskRecord,
    /// Containers as the engine described them last; those that are absent or changed since are missing.
    pub seen: BTreeMap<String, ContainerState>,
    /// Whom it asks for names, of a task with an address of its own, when somebody looked.
    pub resolver: Resolver,
}

/// A container of it, as far as the engine has it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Facts<'a> {
    pub(crate) planned: &'a PlannedContainer,
    pub(crate) known: &'a ContainerRecord,
    pub(crate) state: Option<&'a ContainerState>,
    /// The engine's id.
    pub(crate) id: &'a str,
}

impl TaskSight {
    /// A container by its name in the task definition.
    pub fn planned(&self, container: &str) -> Option<&PlannedContainer> {
        let mut all = self.task.containers().iter();
        all.find(|planned| planned.name == container)
    }

    /// Name on the engine of a container.
    pub fn engine_name(&self, container: &str) -> Option<String> {
        let planned = self.planned(container)?;
        let known = self.record.containers.get(container);
        Some(planned.engine_name(known.map_or(1, |known| known.attempt)))
    }

    /// The container with an id of the engine's.
    pub fn with_id(&self, id: &str) -> Option<&PlannedContainer> {
        let mut all = self.facts();
        all.find(|facts| facts.id == id).map(|facts| facts.planned)
    }

    /// The container whose network a container is on: its own, or that of all of its task.
    pub fn network_holder<'a>(&self, container: &'a str) -> &'a str {
        let shares = self
            .planned(container)
            .is_some_and(PlannedContainer::has_task_address);
        if shares { pause::NAME } else { container }
    }

    /// Networks on which a container has an address: of its own, or one that it shares with all of its task. The way to
    /// the agent is none of them.
    pub fn attachments(&self, container: &str) -> Vec<&Attachment> {
        let all = self.all_attachments(container).iter();
        all.filter(|one| !pause::leads_to_agent(one)).collect()
    }

    fn all_attachments(&self, container: &str) -> &[Attachment] {
        let state = self.seen.get(self.network_holder(container));
        state.map_or(&[], |state| state.attachments.as_slice())
    }

    /// Where on the engine's host is written whom a task with an address of its own asks for names.
    pub fn resolver_file(&self) -> Option<&str> {
        let file = self.seen.get(pause::NAME)?.resolver_file.as_str();
        Some(file).filter(|file| !file.is_empty())
    }

    /// Whether a request from `peer` with the id of a container is that container's own.
    pub fn admits(&self, container: &str, peer: IpAddr, peer_is_host: bool) -> bool {
        self.planned(container).is_some_and(|planned| {
            let attachments = self.all_attachments(container);
            access::is_own(planned.network(), attachments, peer, peer_is_host)
        })
    }

    /// The container that has an address.
    pub fn with_address(&self, peer: IpAddr) -> Option<&str> {
        let mut seen = self.seen.iter();
        seen.find(|(_, state)| access::has_address(&state.attachments, peer))
            .map(|(name, _)| name.as_str())
    }

    /// Containers that the task has and nobody has looked at since something happened to them.
    pub fn unseen(&self) -> impl Iterator<Item = &str> {
        let known = self.record.containers.iter();
        known
            .filter(|(_, known)| known.created && known.end.is_none())
            .map(|(name, _)| name.as_str())
            .filter(|name| !self.seen.contains_key(*name))
    }

    /// Whether all of it is to stop, or has.
    pub(crate) fn ends(&self) -> bool {
        matches!(self.task.desired, Desired::Stop { .. }) || self.record.stop.is_some()
    }

    /// Containers that the engine has or had, in the order of the task definition.
    pub(crate) fn facts(&self) -> impl Iterator<Item = Facts<'_>> {
        self.task.defined().filter_map(|planned| {
            let known = self.record.containers.get(&planned.name)?;
            let state = self.seen.get(&planned.name);
            let id = state.map(|state| state.id.as_str());
            Some(Facts {
                planned,
                known,
                state,
                id: id.or(known.runtime_id.as_deref())?,
            })
        })
    }
}

impl Facts<'_> {
    /// The engine's id of its image; empty when it is not known.
    pub(crate) fn image_id(&self) -> String {
        let state = self.state;
        state.map_or_else(String::new, |state| state.image_id.clone())
    }

    pub(crate) fn created_at(&self) -> Option<Timestamp> {
        timestamp(self.state?.created_at)
    }

    /// When its last run began, as the engine says, or as it is remembered.
    pub(crate) fn started_at(&self) -> Option<Timestamp> {
        let seen = self.state.and_then(|state| timestamp(state.started_at));
        seen.or(self.known.run_began).or(self.known.started_at)
    }
}

fn timestamp(moment: Option<Moment>) -> Option<Timestamp> {
    Timestamp::from_millisecond(moment?.millis()).ok()
}
