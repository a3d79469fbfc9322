//! GPUs of one host: what placement may promise of them, and what it says is left.
//!
//! Which GPU a task gets its agent chooses, when it creates a container, and says in the task's status. Until then only the
//! demand is known. What is told is counted where it is; what is not must find room whatever the agent chooses, and in
//! whatever order, since a task without room would wait for nothing. So of the parts that are not told each is counted as
//! large as the largest of them: as many of that size as find a place together do so in any order, and smaller ones do, too.
//! Whole GPUs are thought to be the ones with the most memory. For parts of one size on GPUs of one size both are exact.
//!
//! ```text
//! GPUs of 100: A 70 told, B idle. Not told: 40, 20.     places of 40: A 0, B 2     2 are not told: one more is refused
//! the agent tells that 40 is on B, and 20 on A:         A 90, B 40                 60 are left for one
//! ```

use std::collections::{BTreeMap, BTreeSet};

use tallyman_crds::{GpuMemory, Resources};

use crate::definition::Demand;

/// The GPUs of a host and what tasks hold of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Gpus {
    all: Vec<Gpu>,
    /// Whole GPUs that tasks hold, and nobody told which.
    untold: i64,
    /// The same of parts: how many of each size in MiB.
    untold_parts: BTreeMap<i64, i64>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Gpu {
    id: String,
    /// MiB; 0 when it is not known, and then it is not shared.
    memory: i64,
    /// Tasks that have it whole; more than one only for a moment, while one of them is known to have stopped by its agent alone.
    wholes: i64,
    /// MiB that tasks share.
    parts: i64,
}

impl Gpu {
    fn is_idle(&self) -> bool {
        self.wholes == 0 && self.parts == 0
    }

    /// MiB that are left for parts.
    fn left(&self) -> i64 {
        if self.wholes > 0 {
            0
        } else {
            (self.memory - self.parts).max(0)
        }
    }
}

impl Gpus {
    /// As they are registered, with nothing on them.
    pub fn of(registered: &Resources) -> Self {
        let memory = |id: &String| {
            let known = registered.gpu_memory.iter().find(|gpu| gpu.gpu_id == *id);
            known.map_or(0, |gpu| gpu.memory)
        };
        let all = registered.gpu.iter().map(|id| Gpu {
            id: id.clone(),
            memory: memory(id),
            wholes: 0,
            parts: 0,
        });
        Self {
            all: all.collect(),
            ..Self::default()
        }
    }

    /// A task came, for which its agent told these.
    pub fn take(&mut self, demand: &Demand, told: &BTreeSet<&str>) {
        self.enter(demand, told, 1);
    }

    /// A task went, as it was entered.
    pub fn give_back(&mut self, demand: &Demand, told: &BTreeSet<&str>) {
        self.enter(demand, told, -1);
    }

    fn enter(&mut self, demand: &Demand, told: &BTreeSet<&str>, by: i64) {
        let shares = demand.gpu_memory > 0;
        for gpu in &mut self.all {
            if !told.contains(gpu.id.as_str()) {
                continue;
            }
            if shares {
                gpu.parts += by * demand.gpu_memory;
            } else {
                gpu.wholes += by;
            }
        }
        let known = i64::try_from(told.len()).unwrap_or(i64::MAX);
        self.untold += by * (demand.gpus - known).max(0);
        if shares && told.is_empty() {
            let count = self.untold_parts.entry(demand.gpu_memory).or_default();
            *count += by;
            if *count == 0 {
                self.untold_parts.remove(&demand.gpu_memory);
            }
        }
    }

    /// A task that asks for `whole` GPUs, or for a part of `part` MiB, finds room beside those that are there.
    fn fits(&self, whole: i64, part: i64) -> bool {
        let mut idle: Vec<i64> = self.idle().map(|gpu| gpu.memory).collect();
        idle.sort_unstable();
        let held = usize::try_from(self.untold + whole).unwrap_or(0);
        let Some(spare) = idle.len().checked_sub(held) else {
            return false;
        };
        let parts = self.untold_parts.values().sum::<i64>() + i64::from(part > 0);
        let largest = self.untold_parts.keys().next_back().copied();
        let largest = largest.unwrap_or(0).max(part);
        if parts == 0 {
            return true;
        }
        let shared = self.all.iter().filter(|gpu| !gpu.is_idle()).map(Gpu::left);
        let places = shared.chain(idle.into_iter().take(spare));
        places.map(|left| left / largest).sum::<i64>() >= parts
    }

    /// The most whole GPUs that one task finds.
    pub fn most_whole(&self) -> i64 {
        let idle = i64::try_from(self.idle().count()).unwrap_or(i64::MAX);
        (1..=idle).rev().find(|n| self.fits(*n, 0)).unwrap_or(0)
    }

    /// The largest part that one task finds, in MiB.
    pub fn most_memory(&self) -> i64 {
        // What is asked for more never fits where less does not.
        let (mut fits, mut not) = (0, 1 + self.all.iter().map(Gpu::left).max().unwrap_or(0));
        while fits + 1 < not {
            let middle = fits + (not - fits) / 2;
            if self.fits(0, middle) {
                fits = middle;
            } else {
                not = middle;
            }
        }
        fits
    }

    fn idle(&self) -> impl Iterator<Item = &Gpu> {
        self.all.iter().filter(|gpu| gpu.is_idle())
    }

    /// What is left for people to read: GPUs that no task has, and memory of each for parts. What nobody told yet is where
    /// agents are likely to put it.
    pub fn remaining(&self) -> (Vec<String>, Vec<GpuMemory>) {
        let mut likely = self.clone();
        for (part, count) in self.untold_parts.iter().rev() {
            for _ in 0..*count {
                // A shared one goes before an idle one, and less room before more.
                let roomy = likely.all.iter_mut().filter(|gpu| gpu.left() >= *part);
                if let Some(gpu) = roomy.min_by_key(|gpu| (gpu.is_idle(), gpu.left())) {
                    gpu.parts += part;
                }
            }
        }
        let held = usize::try_from(self.untold).unwrap_or(0);
        let idle = likely.all.iter_mut().filter(|gpu| gpu.is_idle());
        // Agents hand out the first.
        idle.take(held).for_each(|gpu| gpu.wholes += 1);
        let left = likely.all.iter().filter(|gpu| gpu.memory > 0);
        (
            likely.idle().map(|gpu| gpu.id.clone()).collect(),
            left.map(|gpu| GpuMemory {
                gpu_id: gpu.id.clone(),
                memory: gpu.left(),
            })
            .collect(),
        )
    }
}

/// The fewest GPUs that hold so many whole ones, and parts of so many MiB together.
pub(crate) fn fewest(registered: &Resources, whole: i64, parts: i64) -> i64 {
    let largest = registered.gpu_memory.iter().map(|gpu| gpu.memory).max();
    match largest.filter(|memory| *memory > 0) {
        Some(memory) => whole + (parts + memory - 1) / memory,
        None if parts > 0 => i64::MAX,
        None => whole,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn host(memory: &[i64]) -> Gpus {
        let ids = (0..memory.len()).map(|n| format!("GPU-{n}"));
        let memory = ids.clone().zip(memory).map(|(gpu_id, memory)| GpuMemory {
            gpu_id,
            memory: *memory,
        });
        Gpus::of(&Resources {
            gpu_memory: memory.collect(),
            gpu: ids.collect(),
            ..Resources::default()
        })
    }

    fn whole(gpus: i64) -> Demand {
        Demand {
            gpus,
            ..Demand::default()
        }
    }

    fn part(gpu_memory: i64) -> Demand {
        Demand {
            gpu_memory,
            ..Demand::default()
        }
    }

    fn left(gpus: &Gpus) -> (i64, i64) {
        (gpus.most_whole(), gpus.most_memory())
    }

    #[test]
    fn a_gpu_is_whole_or_shared() {
        let mut gpus = host(&[100, 100]);
        assert_eq!(left(&gpus), (2, 100));
        gpus.take(&part(60), &BTreeSet::new());
        assert_eq!(left(&gpus), (1, 100));
        gpus.take(&whole(1), &BTreeSet::new());
        assert_eq!(left(&gpus), (0, 0), "each as large as the largest");
        gpus.give_back(&part(60), &BTreeSet::new());
        gpus.take(&part(60), &["GPU-1"].into());
        assert_eq!(left(&gpus), (0, 40), "told");
        gpus.give_back(&whole(1), &BTreeSet::new());
        assert_eq!(left(&gpus), (1, 100));
        gpus.give_back(&part(60), &["GPU-1"].into());
        assert_eq!(gpus, host(&[100, 100]));
    }

    #[test]
    fn the_example_of_the_module() {
        let mut gpus = host(&[100, 100]);
        gpus.take(&part(70), &["GPU-0"].into());
        gpus.take(&part(40), &BTreeSet::new());
        gpus.take(&part(20), &BTreeSet::new());
        assert_eq!(left(&gpus), (0, 0));
        gpus.give_back(&part(40), &BTreeSet::new());
        gpus.give_back(&part(20), &BTreeSet::new());
        gpus.take(&part(40), &["GPU-1"].into());
        gpus.take(&part(20), &["GPU-0"].into());
        assert_eq!(left(&gpus), (0, 60));
    }

    #[test]
    fn a_gpu_of_unknown_memory_is_not_shared() {
        let gpus = host(&[0, 0]);
        assert_eq!(left(&gpus), (2, 0));
        assert!(gpus.remaining().1.is_empty());
    }

    #[test]
    fn what_is_left_is_told_as_agents_are_likely_to_choose() {
        let mut gpus = host(&[100, 100, 100]);
        gpus.take(&part(30), &["GPU-1"].into());
        gpus.take(&part(60), &BTreeSet::new());
        gpus.take(&whole(1), &BTreeSet::new());
        let (idle, memory) = gpus.remaining();
        assert_eq!(idle, ["GPU-2"]);
        let memory: Vec<i64> = memory.iter().map(|gpu| gpu.memory).collect();
        assert_eq!(memory, [0, 10, 100]);
    }

    /// An agent that chooses as badly as it may: for a part any GPU that is shared and has room, else any idle one.
    fn choose(left: &mut [(i64, i64)], demand: &Demand, lot: usize) -> bool {
        let pick = |these: Vec<usize>| (!these.is_empty()).then(|| these[lot % these.len()]);
        let which = |left: &[(i64, i64)], test: &dyn Fn(&(i64, i64)) -> bool| -> Vec<usize> {
            (0..left.len()).filter(|n| test(&left[*n])).collect()
        };
        if demand.gpu_memory > 0 {
            let m = demand.gpu_memory;
            let shared = which(left, &|(all, left)| left < all && *left >= m);
            let idle = which(left, &|(all, left)| left == all && *left >= m);
            let Some(n) = pick(shared).or_else(|| pick(idle)) else {
                return false;
            };
            left[n].1 -= m;
            return true;
        }
        for _ in 0..demand.gpus {
            let Some(n) = pick(which(left, &|(all, left)| left == all)) else {
                return false;
            };
            left[n].1 = -1;
        }
        true
    }

    fn demand() -> impl Strategy<Value = Demand> {
        prop_oneof![
            3 => (1..80_i64).prop_map(part),
            2 => prop::sample::select(vec![10, 20, 25, 40]).prop_map(part),
            1 => (1..3_i64).prop_map(whole),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        /// Some tasks were told where they are, others were promised room: in whatever order agents give it to these, and
        /// whichever GPUs they choose, there is room.
        #[test]
        fn what_is_promised_is_there_whatever_the_agent_chooses(
            memory in prop::collection::vec(20..100_i64, 1..5),
            first in prop::collection::vec((demand(), any::<usize>()), 0..6),
            second in prop::collection::vec((demand(), any::<u8>(), any::<usize>()), 1..12),
        ) {
            let mut gpus = host(&memory);
            let mut left: Vec<(i64, i64)> = memory.iter().map(|m| (*m, *m)).collect();
            for (demand, lot) in &first {
                let before = left.clone();
                if !choose(&mut left, demand, *lot) {
                    left = before;
                    continue;
                }
                let changed = (0..left.len()).filter(|n| left[*n] != before[*n]);
                let ids: Vec<String> = changed.map(|n| format!("GPU-{n}")).collect();
                gpus.take(demand, &ids.iter().map(String::as_str).collect());
            }
            let mut promised = Vec::new();
            for (demand, rank, lot) in second {
                if demand.gpus <= gpus.most_whole() && demand.gpu_memory <= gpus.most_memory() {
                    gpus.take(&demand, &BTreeSet::new());
                    promised.push((rank, demand, lot));
                }
            }
            promised.sort();
            for (_, demand, lot) in promised {
                prop_assert!(choose(&mut left, &demand, lot), "{demand:?} finds no room: {left:?}, {gpus:?}");
            }
        }

        /// Parts of one size fill GPUs to the last.
        #[test]
        fn parts_of_one_size_fill_every_gpu(memory in 1..100_i64, count in 1..5_usize, size in 1..100_i64) {
            let mut gpus = host(&vec![memory; count]);
            let mut placed = 0;
            while size <= gpus.most_memory() {
                gpus.take(&part(size), &BTreeSet::new());
                placed += 1;
            }
            prop_assert_eq!(placed, i64::try_from(count).unwrap() * (memory / size));
        }
    }
}
