//! Which GPUs of the host a container gets (ECS pins GPUs to containers).
//!
//! The operator counts GPUs, the agent gives them out: it alone sees every container of the host, also those of tasks
//! that the operator gave up while the host was away. What was given is in the container, as a label, and read back from
//! there. A GPU is chosen when a container is created and claimed when it is started; a container that never ran and
//! whose GPUs are another's is made anew. It stays with the task until that is STOPPED.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tallyman_agent_engine::{ContainerSpec, ContainerSummary, EngineError};
use tallyman_crds::labels;

use crate::ids::TaskUid;

/// What the vendor's tools read: ids of GPUs, apart by commas, or [`NO_GPU`].
pub const VISIBLE_DEVICES: &str = "NVIDIA_VISIBLE_DEVICES";
/// No GPU, even where the vendor's runtime is the engine's default and the image says `all`.
pub const NO_GPU: &str = "void";

/// A container that has GPUs.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct GpuHolder {
    /// Its task.
    pub task: TaskUid,
    /// Its name in the task definition.
    pub container: String,
}

/// What a container that is created is to get.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GpuWish {
    /// Who.
    pub holder: GpuHolder,
    /// So many; not 0.
    pub count: u32,
}

/// What a container that is started must have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GpuClaim {
    /// Who.
    pub holder: GpuHolder,
    /// What it was created with, as far as the engine said it; none for one that was created a moment ago.
    pub ids: Vec<String>,
}

/// The GPUs of a host. Shared by its tasks.
#[derive(Debug, Default)]
pub struct Gpus(Mutex<Ledger>);

#[derive(Debug, Default)]
struct Ledger {
    /// Of the host, in the order in which they are given.
    ids: Vec<String>,
    /// By this agent, since it began.
    given: BTreeMap<GpuHolder, Vec<String>>,
    /// What containers have, by the last complete list.
    seen: BTreeMap<GpuHolder, Vec<String>>,
}

/// Ids in the label of a container.
pub fn ids_in(carried: &BTreeMap<String, String>) -> Vec<String> {
    let text = carried.get(labels::CONTAINER_GPUS);
    let ids = text.into_iter().flat_map(|text| text.split(','));
    ids.filter(|id| !id.is_empty()).map(str::to_owned).collect()
}

impl Gpus {
    /// A host with these, none of them given.
    pub fn new(ids: Vec<String>) -> Self {
        Self(Mutex::new(Ledger {
            ids,
            ..Ledger::default()
        }))
    }

    /// Takes in a complete list of our containers. `ended`: tasks that are STOPPED; what they left hold nothing.
    pub fn saw(&self, listed: &[ContainerSummary], ended: &BTreeSet<TaskUid>) {
        let seen = listed.iter().filter_map(|summary| {
            let ids = ids_in(&summary.labels);
            let holder = GpuHolder {
                task: TaskUid::new(summary.labels.get(labels::CONTAINER_TASK_UID)?.clone()),
                container: summary.labels.get(labels::ecs::CONTAINER_NAME)?.clone(),
            };
            let holds = summary.phase.is_alive() || !ended.contains(&holder.task);
            (holds && !ids.is_empty()).then_some((holder, ids))
        });
        self.lock().seen = seen.collect();
    }

    /// The task is STOPPED: what it had is free.
    pub fn ended(&self, task: &TaskUid) {
        let mut ledger = self.lock();
        ledger.given.retain(|holder, _| holder.task != *task);
        ledger.seen.retain(|holder, _| holder.task != *task);
    }

    /// Chooses GPUs for a container and puts them into `spec`. Asked again it chooses the same.
    ///
    /// # Errors
    /// [`EngineError::GpusTaken`]: too few are free now. [`EngineError::InvalidSpec`]: the host has fewer at all.
    pub fn choose(&self, wish: &GpuWish, spec: &mut ContainerSpec) -> Result<(), EngineError> {
        let ids = self.lock().choose(wish)?;
        let text = ids.join(",");
        // In place of what the definition says: GPUs are not to be had by a variable.
        spec.environment.retain(|(name, _)| name != VISIBLE_DEVICES);
        spec.environment
            .push((VISIBLE_DEVICES.to_owned(), text.clone()));
        spec.labels.insert(labels::CONTAINER_GPUS.to_owned(), text);
        // A runtime reads the variable; without one the engine's device driver is asked.
        if spec.runtime.is_none() {
            spec.gpus = ids;
        }
        Ok(())
    }

    /// Makes sure that what a container has is its alone.
    ///
    /// # Errors
    /// [`EngineError::GpusTaken`]: another container has one of them, or nobody knows what it has.
    pub fn claim(&self, claim: &GpuClaim) -> Result<(), EngineError> {
        self.lock().claim(claim)
    }

    fn lock(&self) -> MutexGuard<'_, Ledger> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ledger {
    fn choose(&mut self, wish: &GpuWish) -> Result<Vec<String>, EngineError> {
        let GpuWish { holder, count } = wish;
        if let Some(ids) = self.given.get(holder) {
            return Ok(ids.clone());
        }
        let wanted = usize::try_from(*count).unwrap_or(usize::MAX);
        let others = self.held_by_others(holder);
        // An earlier agent created it: adopting it takes the same choice.
        let known = self.seen.get(holder);
        let known = known.filter(|ids| !ids.iter().any(|id| others.contains(id)));
        let free = self.ids.iter().filter(|id| !others.contains(*id));
        let ids = match known {
            Some(ids) => ids.clone(),
            None => free.clone().take(wanted).cloned().collect(),
        };
        if ids.len() < wanted {
            return Err(too_few(wish, free.count(), self.ids.len()));
        }
        self.given.insert(holder.clone(), ids.clone());
        Ok(ids)
    }

    fn claim(&mut self, claim: &GpuClaim) -> Result<(), EngineError> {
        let GpuClaim { holder, ids } = claim;
        let taken = |what: String| {
            let message = format!("container `{}` {what}", holder.container);
            Err(EngineError::GpusTaken { message })
        };
        if ids.is_empty() {
            return match self.given.get(holder) {
                Some(_) => Ok(()),
                None => taken("has GPUs that are not known".to_owned()),
            };
        }
        let others = self.held_by_others(holder);
        if let Some(id) = ids.iter().find(|id| others.contains(*id)) {
            return taken(format!("has GPU {id}, which was given to another one"));
        }
        self.given.insert(holder.clone(), ids.clone());
        Ok(())
    }

    fn held_by_others(&self, holder: &GpuHolder) -> BTreeSet<String> {
        let all = self.given.iter().chain(&self.seen);
        all.filter(|(other, _)| *other != holder)
            .flat_map(|(_, ids)| ids.iter().cloned())
            .collect()
    }
}

fn too_few(wish: &GpuWish, free: usize, all: usize) -> EngineError {
    let GpuWish { holder, count } = wish;
    let container = &holder.container;
    let asked = if *count == 1 { "GPU" } else { "GPUs" };
    let has = format!("container `{container}` asks for {count} {asked}, and the host");
    if u32::try_from(all).is_ok_and(|all| all < *count) {
        return EngineError::InvalidSpec {
            message: format!("{has} has {all} for tasks"),
        };
    }
    EngineError::GpusTaken {
        message: format!("{has} has {free} of {all} free until another task stops"),
    }
}

#[cfg(test)]
mod tests;
