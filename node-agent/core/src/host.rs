//! The host as a whole: which plan counts, what it changes, and which containers nobody wants.
//!
//! The fence is here: a plan that is older than the one at hand is refused, whoever brings it.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use tallyman_agent_engine::{ContainerSummary, Protocol, VolumeState};
use tallyman_crds::labels;

use crate::assignment::{AssignedTask, Assignment, Door, Plan};
use crate::ids::{Fence, TaskUid};
use crate::orphans::{Condemned, Orphans, Stray};
use crate::planned::PlannedContainer;
use crate::task::TaskRecord;

/// The plan at hand and what is unknown to it.
#[derive(Clone, Debug)]
pub struct Host {
    door: Door,
    assignment: Option<Assignment>,
    live: bool,
    /// The last plan that was refused since one was taken.
    refused: Option<Fence>,
    /// The API server went back to an older state, and no plan was taken since.
    older: bool,
    /// The API server went back to an older state, and what it was told is not told again yet. Tasks that were to run.
    went_back: Option<BTreeSet<TaskUid>>,
    orphans: Orphans,
    volume_orphans: Orphans,
}

/// What a plan came to.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Offer {
    /// Tasks that are new or changed, to be given to their machines; all, when the API server may not have known them.
    pub assigned: Vec<AssignedTask>,
    /// Tasks that the plan does not have any more.
    pub unplanned: Vec<TaskUid>,
    /// Entries that could not even be named, for the log.
    pub complaints: Vec<String>,
    /// The plan is for another ContainerInstance than the one before: the host was registered anew.
    /// Containers of the old one are left alone.
    pub other_identity: bool,
}

/// Why a plan does not count.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// A deposed leader wrote it.
    #[error(
        "refused a plan of leader {} (generation {}): the plan at hand is from leader {}, which is newer",
        offered.epoch, offered.generation, held.epoch
    )]
    OlderEpoch {
        /// Of the refused plan.
        offered: Fence,
        /// Of the plan at hand.
        held: Fence,
    },
    /// It is older than the one at hand.
    #[error(
        "refused generation {} of the plan: generation {} of the same leader is at hand",
        offered.generation, held.generation
    )]
    OlderGeneration {
        /// Of the refused plan.
        offered: Fence,
        /// Of the plan at hand.
        held: Fence,
    },
}

impl Host {
    /// A host that has no plan yet.
    pub fn new(door: Door) -> Self {
        Self {
            door,
            assignment: None,
            live: false,
            refused: None,
            older: false,
            went_back: None,
            orphans: Orphans::default(),
            volume_orphans: Orphans::default(),
        }
    }

    /// Takes a plan, if it counts. `live`: it was read from the API now, complete, and not from disk.
    ///
    /// # Errors
    /// [`Refusal`]: it is older than the plan at hand, which stays.
    pub fn offer(&mut self, plan: Plan, live: bool) -> Result<Offer, Refusal> {
        let mut other_identity = false;
        if let Some(held) = &self.assignment {
            let (fence, version) = (held.fence, held.version);
            if held.container_instance_uid == plan.container_instance_uid {
                if plan.fence < fence {
                    if live {
                        self.refuse(plan.fence);
                    }
                    return Err(if plan.fence.epoch < fence.epoch {
                        Refusal::OlderEpoch {
                            offered: plan.fence,
                            held: fence,
                        }
                    } else {
                        Refusal::OlderGeneration {
                            offered: plan.fence,
                            held: fence,
                        }
                    });
                }
                // Generations rise with every write, whoever leads, and versions, too, unless everything goes back.
                let again = plan.fence != fence && plan.fence.generation <= fence.generation;
                let older = plan.version.zip(version).is_some_and(|(p, v)| p < v);
                if live && (again || older) && !self.older {
                    self.api_went_back();
                }
            } else {
                other_identity = true;
                self.orphans = Orphans::default();
                self.volume_orphans = Orphans::default();
            }
        }
        // What is in this plan is not forgotten, whatever is believed of it.
        let all = live && (self.older || !self.live);
        self.live |= live;
        self.refused = None;
        self.older &= !live;
        let next = Assignment::parse(plan, &self.door);
        let previous = match &self.assignment {
            Some(held) => held.tasks.clone(),
            None => BTreeMap::new(),
        };
        let offer = Offer {
            assigned: next
                .tasks
                .values()
                .filter(|task| all || previous.get(&task.uid) != Some(task))
                .cloned()
                .collect(),
            unplanned: previous
                .into_keys()
                .filter(|uid| !next.tasks.contains_key(uid))
                .collect(),
            complaints: next.complaints.clone(),
            other_identity,
        };
        self.assignment = Some(next);
        Ok(offer)
    }

    /// A plan from the API is older than the one at hand: that is a deposed leader, or an API server that went back to an older
    /// state. Once for as long as nothing newer comes, or when it goes back further.
    fn refuse(&mut self, offered: Fence) {
        if self.refused.is_none_or(|last| offered < last) {
            self.api_went_back();
        }
        self.refused = Some(offered);
    }

    /// The API server went back to an older state, as somebody saw by other means than a plan.
    pub fn api_went_back(&mut self) {
        self.older = true;
        let tasks = self.assignment.iter().flat_map(|held| held.tasks.values());
        let to_run = tasks.filter(|task| task.is_to_run());
        let to_run = to_run.map(|task| task.uid.clone());
        self.went_back.get_or_insert_default().extend(to_run);
    }

    /// Once after the API server seems to have gone back to an older state: what it was told of the host and its tasks
    /// is to be told again, and these tasks were to run and may be forgotten ([`TaskRecord::api_went_back`]). Asked after each
    /// offer, before anything is done about it.
    pub fn tells_again(&mut self) -> Option<BTreeSet<TaskUid>> {
        self.went_back.take()
    }

    /// Of `records`, tasks that run and that the API server does not have any more since it went back to an older state, with
    /// their names. It does not want them stopped, it does not know of them: they are left alone ([`Host::strays`]).
    pub fn forgotten<'r>(
        &self,
        records: impl IntoIterator<Item = &'r TaskRecord>,
    ) -> BTreeMap<TaskUid, String> {
        let held = self.assignment.as_ref();
        let planned = |uid| held.is_some_and(|held| held.tasks.contains_key(uid));
        records
            .into_iter()
            .filter(|r| r.maybe_forgotten && !r.is_stopped() && !planned(&r.uid))
            .map(|r| (r.uid.clone(), r.name.clone()))
            .collect()
    }

    /// The HostPlan is gone from the API. That orders nothing; the last plan stays.
    pub fn plan_gone(&mut self) {
        self.orphans = Orphans::default();
        self.volume_orphans = Orphans::default();
    }

    /// A task that is remembered and that the plan does not have, as something to watch and clean up.
    pub fn remembered(&self, record: &TaskRecord) -> AssignedTask {
        AssignedTask::remembered(record, &self.door)
    }

    /// Compares a complete list of our containers with the plan. `ended`: tasks that are recorded as
    /// STOPPED; their containers wait for cleanup and are nobody's orphans. [`Host::forgotten`] ones are left alone until the
    /// plan says otherwise.
    pub fn strays(
        &mut self,
        listed: &[ContainerSummary],
        ended: &BTreeSet<TaskUid>,
        forgotten: &BTreeSet<TaskUid>,
        now: Timestamp,
    ) -> Vec<Condemned> {
        let Some(held) = self.assignment.as_ref().filter(|_| self.live) else {
            return Vec::new();
        };
        let strays: Vec<Stray> = listed
            .iter()
            .filter_map(|summary| stray(held, &summary.name, &summary.labels, ended))
            .map(|stray| Stray {
                spared: !held.stop_forgotten && forgotten.contains(&stray.task),
                ..stray
            })
            .collect();
        self.orphans.check(&strays, held.fence, now)
    }

    /// Compares a complete list of our volumes with the plan. `known`: tasks that have a machine; it cleans
    /// up after them. What is condemned is a task's own and may be removed once no container has it.
    pub fn stray_volumes(
        &mut self,
        listed: &[VolumeState],
        known: &BTreeSet<TaskUid>,
        now: Timestamp,
    ) -> Vec<Condemned> {
        let Some(held) = self.assignment.as_ref().filter(|_| self.live) else {
            return Vec::new();
        };
        let strays: Vec<Stray> = listed
            .iter()
            .filter_map(|volume| stray(held, &volume.name, &volume.labels, known))
            .collect();
        self.volume_orphans.check(&strays, held.fence, now)
    }

    /// The newest plan that counts.
    pub fn assignment(&self) -> Option<&Assignment> {
        self.assignment.as_ref()
    }

    /// A complete plan was read from the API in this process.
    pub fn is_live(&self) -> bool {
        self.live
    }

    /// The plan that the host works from; generation 0 of leader 0 before the first.
    pub fn applied(&self) -> Fence {
        let held = self.assignment.as_ref();
        held.map(|held| held.fence).unwrap_or_default()
    }

    /// uid of the ContainerInstance, once a plan named it: the scope of our containers.
    pub fn container_instance_uid(&self) -> Option<&str> {
        self.assignment
            .as_ref()
            .map(|held| held.container_instance_uid.as_str())
    }

    /// Ports of the host that tasks of the plan name: a dynamic choice leaves them to those.
    pub fn fixed_ports(&self) -> BTreeSet<(u16, Protocol)> {
        let tasks = self.assignment.iter().flat_map(|held| held.tasks.values());
        tasks
            .flat_map(AssignedTask::containers)
            .flat_map(PlannedContainer::fixed_ports)
            .collect()
    }

    /// What plans are parsed with.
    pub fn door(&self) -> &Door {
        &self.door
    }
}

/// A container or volume of this host whose task neither the plan has nor anybody spares.
fn stray(
    held: &Assignment,
    name: &str,
    carried: &BTreeMap<String, String>,
    spared: &BTreeSet<TaskUid>,
) -> Option<Stray> {
    let instance = carried.get(labels::CONTAINER_INSTANCE_UID)?;
    if instance.is_empty() || *instance != held.container_instance_uid {
        return None;
    }
    let task = TaskUid::new(carried.get(labels::CONTAINER_TASK_UID)?.clone());
    let wanted = held.tasks.contains_key(&task) || spared.contains(&task);
    (!wanted && !task.as_str().is_empty()).then(|| Stray {
        name: name.to_owned(),
        task,
        spared: false,
    })
}
