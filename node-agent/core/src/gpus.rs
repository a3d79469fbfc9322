//! Which GPUs of the host a container gets (ECS pins GPUs to containers).
//!
//! The operator counts GPUs, the agent gives them out: it alone sees every container of the host, also those of tasks
//! that the operator gave up while the host was away. What was given is in the container, as a label, and read back from
//! there. A GPU is chosen when a container is created and claimed when it is started; a container that never ran and
//! whose GPUs are another's is made anew. It stays with the task until that is STOPPED.
//!
//! A GPU is given whole, to one container, or in parts, by NVIDIA's MPS: a part is the task's, all containers of which that
//! share a GPU share the same. Parts are of memory, and never more than the GPU has. A part goes to a shared GPU before an idle
//! one, and to less room before more, so that whole GPUs stay free: the operator counts on the first of the two.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tallyman_agent_engine::{ContainerSpec, ContainerSummary, EngineError};
use tallyman_crds::labels;

use crate::gpu_info::GpuInfo;
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

/// How much of the host's GPUs a container gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GpuShare {
    /// So many whole ones; not 0.
    Whole(u32),
    /// A part of one. MiB that the containers of its task have of it together; not 0.
    Part(i64),
}

/// What a container that is created is to get.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GpuWish {
    /// Who.
    pub holder: GpuHolder,
    /// How much.
    pub share: GpuShare,
}

/// What a container that is started must have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GpuClaim {
    /// Who.
    pub holder: GpuHolder,
    /// How much.
    pub share: GpuShare,
    /// What it was created with, as far as the engine said it; none for one that was created a moment ago.
    pub ids: Vec<String>,
}

/// The GPUs of a host. Shared by its tasks.
#[derive(Debug, Default)]
pub struct Gpus {
    /// As the host has them, in the order in which they are given. Whether MPS' daemon listens is asked at each start.
    host: GpuInfo,
    ledger: Mutex<Ledger>,
}

#[derive(Debug, Default)]
struct Ledger {
    /// By this agent, since it began.
    given: BTreeMap<GpuHolder, Held>,
    /// What containers have, by the last complete list.
    seen: BTreeMap<GpuHolder, Held>,
}

/// What a container has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Held {
    ids: Vec<String>,
    /// It has a part of one, by which its task holds so many MiB.
    part: Option<i64>,
}

impl Held {
    /// As the label of a container says.
    fn of(carried: &BTreeMap<String, String>) -> Self {
        let text = carried.get(labels::CONTAINER_GPUS);
        let mut held = Self::default();
        for text in text.into_iter().flat_map(|text| text.split(',')) {
            let (id, part) = match text.split_once('=') {
                // What cannot be read holds the whole.
                Some((id, part)) => (id, part.parse().ok()),
                None => (text, None),
            };
            if !id.is_empty() {
                held.ids.push(id.to_owned());
                held.part = part;
            }
        }
        held
    }

    fn label(&self) -> String {
        match self.part {
            None => self.ids.join(","),
            Some(mib) => {
                let ids = self.ids.iter().map(|id| format!("{id}={mib}"));
                ids.collect::<Vec<_>>().join(",")
            }
        }
    }
}

/// Ids in the label of a container.
pub fn ids_in(carried: &BTreeMap<String, String>) -> Vec<String> {
    Held::of(carried).ids
}

impl Gpus {
    /// A host with these, none of them given.
    pub fn new(host: &GpuInfo) -> Self {
        Self {
            host: host.clone(),
            ledger: Mutex::default(),
        }
    }

    /// Takes in a complete list of our containers. `ended`: tasks that are STOPPED; what they left hold nothing.
    pub fn saw(&self, listed: &[ContainerSummary], ended: &BTreeSet<TaskUid>) {
        let seen = listed.iter().filter_map(|summary| {
            let held = Held::of(&summary.labels);
            let holder = GpuHolder {
                task: TaskUid::new(summary.labels.get(labels::CONTAINER_TASK_UID)?.clone()),
                container: summary.labels.get(labels::ecs::CONTAINER_NAME)?.clone(),
            };
            let holds = summary.phase.is_alive() || !ended.contains(&holder.task);
            (holds && !held.ids.is_empty()).then_some((holder, held))
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
        let GpuWish { holder, share } = wish;
        let held = {
            let mut ledger = self.lock();
            let held = match (ledger.given.get(holder), share) {
                (Some(held), _) => held.clone(),
                (None, GpuShare::Whole(count)) => self.whole(&ledger, holder, *count)?,
                (None, GpuShare::Part(mib)) => self.part(&ledger, holder, *mib)?,
            };
            ledger.given.insert(holder.clone(), held.clone());
            held
        };
        // In place of what the definition says: GPUs are not to be had by a variable.
        spec.environment.retain(|(name, _)| name != VISIBLE_DEVICES);
        spec.environment
            .push((VISIBLE_DEVICES.to_owned(), held.ids.join(",")));
        spec.labels
            .insert(labels::CONTAINER_GPUS.to_owned(), held.label());
        // A runtime reads the variable; without one the engine's device driver is asked.
        if spec.runtime.is_none() {
            spec.gpus = held.ids;
        }
        Ok(())
    }

    /// Makes sure that what a container has is its alone, or that there is room for its part.
    ///
    /// # Errors
    /// [`EngineError::GpusTaken`]: another container has one of them, or nobody knows what it has.
    pub fn claim(&self, claim: &GpuClaim) -> Result<(), EngineError> {
        let GpuClaim { holder, share, ids } = claim;
        let mut ledger = self.lock();
        let taken = |what: String| {
            let message = format!("container `{}` {what}", holder.container);
            Err(EngineError::GpusTaken { message })
        };
        if ids.is_empty() {
            return match ledger.given.get(holder) {
                Some(_) => Ok(()),
                None => taken("has GPUs that are not known".to_owned()),
            };
        }
        let part = match share {
            GpuShare::Whole(_) => {
                let others = ledger.held_by_others(holder);
                if let Some(id) = ids.iter().find(|id| others.contains(*id)) {
                    return taken(format!("has GPU {id}, which was given to another one"));
                }
                None
            }
            GpuShare::Part(mib) => {
                let mut of_task = ledger
                    .given
                    .iter()
                    .filter(|(other, _)| other.task == holder.task);
                if let Some(id) = ids.iter().find(|id| self.room(&ledger, holder, id) < *mib) {
                    return taken(format!("has a part of GPU {id}, which was given to others"));
                }
                if of_task.any(|(other, held)| other != holder && held.ids != *ids) {
                    return taken("has a part of another GPU than its task has".to_owned());
                }
                Some(*mib)
            }
        };
        let ids = ids.clone();
        ledger.given.insert(holder.clone(), Held { ids, part });
        Ok(())
    }

    /// The socket that must be there when such a container starts: without MPS it would have all of its GPU. An empty text when
    /// the host shares none.
    pub fn must_listen(&self, share: GpuShare) -> Option<String> {
        match share {
            GpuShare::Whole(_) => None,
            GpuShare::Part(_) => Some(self.host.socket().unwrap_or_default()),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn whole(&self, ledger: &Ledger, holder: &GpuHolder, count: u32) -> Result<Held, EngineError> {
        let wanted = usize::try_from(count).unwrap_or(usize::MAX);
        let others = ledger.held_by_others(holder);
        // An earlier agent created it: adopting it takes the same choice.
        let known = ledger.seen.get(holder);
        let known = known.filter(|held| !held.ids.iter().any(|id| others.contains(id)));
        let free = self.host.ids.iter().filter(|id| !others.contains(*id));
        let ids = match known {
            Some(held) => held.ids.clone(),
            None => free.clone().take(wanted).cloned().collect(),
        };
        if ids.len() < wanted {
            let asks = match count {
                1 => "1 GPU".to_owned(),
                count => format!("{count} GPUs"),
            };
            let all = self.host.ids.len();
            return Err(too_few(holder, &asks, all < wanted, free.count(), all));
        }
        Ok(Held { ids, part: None })
    }

    fn part(&self, ledger: &Ledger, holder: &GpuHolder, mib: i64) -> Result<Held, EngineError> {
        let fits = |id: &&String| self.room(ledger, holder, id) >= mib;
        // Where its task is already; what was only seen may be another's by now.
        let all = ledger.given.iter().chain(&ledger.seen);
        let of_task = all.filter(|(other, _)| other.task == holder.task);
        let known = of_task.flat_map(|(_, held)| &held.ids).find(fits);
        let shared = |id: &String| ledger.held_by_others(holder).contains(id);
        let best = || {
            let roomy = self.host.ids.iter().filter(fits);
            roomy.min_by_key(|id| (!shared(id), self.room(ledger, holder, id)))
        };
        match known.or_else(best) {
            Some(id) => Ok(Held {
                ids: vec![id.clone()],
                part: Some(mib),
            }),
            None => {
                let most = |of: &dyn Fn(&String) -> i64| self.host.ids.iter().map(of).max();
                let all = most(&|id| self.memory(id)).unwrap_or(0);
                let free = most(&|id| self.room(ledger, holder, id)).unwrap_or(0);
                let asks = format!("a part of a GPU, of which its task has {mib} MiB");
                Err(too_few(holder, &asks, all < mib, free, all))
            }
        }
    }

    /// MiB for parts; 0 where GPUs are not shared.
    fn memory(&self, id: &str) -> i64 {
        let shared = self.host.mps.as_ref().and(self.host.memory.get(id));
        shared.copied().unwrap_or(0)
    }

    /// MiB of a GPU that the task of `holder` may have.
    fn room(&self, ledger: &Ledger, holder: &GpuHolder, id: &str) -> i64 {
        let mut parts: BTreeMap<&TaskUid, i64> = BTreeMap::new();
        for (other, held) in ledger.given.iter().chain(&ledger.seen) {
            if other == holder || !held.ids.iter().any(|has| has == id) {
                continue;
            }
            match held.part {
                None => return 0,
                Some(mib) if other.task != holder.task => {
                    let most = parts.entry(&other.task).or_default();
                    *most = mib.max(*most);
                }
                Some(_) => {}
            }
        }
        (self.memory(id) - parts.values().sum::<i64>()).max(0)
    }
}

impl Ledger {
    fn held_by_others(&self, holder: &GpuHolder) -> BTreeSet<String> {
        let all = self.given.iter().chain(&self.seen);
        all.filter(|(other, _)| *other != holder)
            .flat_map(|(_, held)| held.ids.iter().cloned())
            .collect()
    }
}

fn too_few(
    holder: &GpuHolder,
    asks: &str,
    never: bool,
    free: impl std::fmt::Display,
    all: impl std::fmt::Display,
) -> EngineError {
    let has = format!(
        "container `{}` asks for {asks}, and the host",
        holder.container
    );
    if never {
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
