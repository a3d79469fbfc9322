//! The two-phase check for containers of ours that no plan wants, and for volumes of tasks that are gone.
//!
//! Absence is never an order to kill: a plan may be stale, restored from a backup, or
//! written by a bug. A container goes only after it was missing from two complete plans of different
//! generations, after a grace, and a few at a time, so that a bad plan costs a handful of containers and
//! makes noise long before it costs a host.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;

use crate::backoff::later;
use crate::ids::{Fence, TaskUid};

/// How long a container must have been unknown.
pub const GRACE: Duration = Duration::from_secs(5 * 60);
/// At most this many are condemned in [`CAP_WINDOW`].
pub const CAP: usize = 3;
/// See [`CAP`].
pub const CAP_WINDOW: Duration = Duration::from_secs(60);

/// A container or volume with our labels whose task the plan does not have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stray {
    /// Name on the engine.
    pub name: String,
    /// The task that its label names.
    pub task: TaskUid,
    /// It is watched and not condemned.
    pub spared: bool,
}

/// A container that is to be stopped and removed, or a volume to be removed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Condemned {
    /// Name on the engine.
    pub name: String,
    /// The task that its label names; its machine, if there is one, does the work.
    pub task: TaskUid,
}

#[derive(Clone, Debug)]
struct Suspect {
    since: Timestamp,
    first: Fence,
    second: Option<Fence>,
    condemned_at: Option<Timestamp>,
}

/// What the check remembers. Nothing of it survives a restart: then the check begins anew.
#[derive(Clone, Debug, Default)]
pub struct Orphans {
    suspects: BTreeMap<String, Suspect>,
    recent: Vec<Timestamp>,
}

impl Orphans {
    /// One look: `strays` are all containers of ours that are missing from the complete plan of `fence`.
    /// One that was condemned and is still there is condemned again after [`CAP_WINDOW`].
    pub fn check(&mut self, strays: &[Stray], fence: Fence, now: Timestamp) -> Vec<Condemned> {
        self.suspects
            .retain(|name, _| strays.iter().any(|stray| stray.name == *name));
        self.recent
            .retain(|at| now < later(*at, CAP_WINDOW) && *at <= now);
        let mut condemned = Vec::new();
        for stray in strays {
            let suspect = self.suspects.entry(stray.name.clone()).or_insert(Suspect {
                since: now,
                first: fence,
                second: None,
                condemned_at: None,
            });
            if fence.generation != suspect.first.generation {
                suspect.second.get_or_insert(fence);
            }
            let twice = suspect.second.is_some();
            let old = now >= later(suspect.since, GRACE);
            let again = suspect
                .condemned_at
                .is_none_or(|at| now >= later(at, CAP_WINDOW));
            if twice && old && again && !stray.spared && self.recent.len() < CAP {
                suspect.condemned_at = Some(now);
                self.recent.push(now);
                condemned.push(Condemned {
                    name: stray.name.clone(),
                    task: stray.task.clone(),
                });
            }
        }
        condemned
    }

    /// How many containers are under suspicion, for the log.
    pub fn suspects(&self) -> usize {
        self.suspects.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_000_000 + seconds).unwrap()
    }

    fn fence(generation: i64) -> Fence {
        Fence {
            epoch: 1,
            generation,
        }
    }

    fn strays(count: usize) -> Vec<Stray> {
        (0..count)
            .map(|i| Stray {
                name: format!("c{i}"),
                task: TaskUid::new(format!("u{i}")),
                spared: false,
            })
            .collect()
    }

    #[test]
    fn one_plan_is_never_enough() {
        let mut orphans = Orphans::default();
        for minute in 0..600 {
            assert!(
                orphans
                    .check(&strays(1), fence(7), at(minute * 60))
                    .is_empty()
            );
        }
    }

    #[test]
    fn two_plans_are_not_enough_before_the_grace_is_over() {
        let mut orphans = Orphans::default();
        assert!(orphans.check(&strays(1), fence(7), at(0)).is_empty());
        assert!(orphans.check(&strays(1), fence(8), at(299)).is_empty());
        assert_eq!(orphans.check(&strays(1), fence(8), at(300)).len(), 1);
    }

    #[test]
    fn one_that_a_plan_had_in_between_begins_anew() {
        let mut orphans = Orphans::default();
        orphans.check(&strays(1), fence(7), at(0));
        orphans.check(&[], fence(8), at(100));
        assert!(orphans.check(&strays(1), fence(9), at(400)).is_empty());
        assert!(orphans.check(&strays(1), fence(10), at(699)).is_empty());
        assert_eq!(orphans.check(&strays(1), fence(10), at(700)).len(), 1);
    }

    #[test]
    fn one_that_is_spared_goes_as_soon_as_it_is_spared_no_more() {
        let mut orphans = Orphans::default();
        let spared: Vec<Stray> = strays(1)
            .into_iter()
            .map(|stray| Stray {
                spared: true,
                ..stray
            })
            .collect();
        for minute in 0..600 {
            let found = orphans.check(&spared, fence(7 + minute), at(minute * 60));
            assert!(found.is_empty());
        }
        let found = orphans.check(&strays(1), fence(607), at(600 * 60));
        assert_eq!(found.len(), 1);
    }

    #[test]
    fn at_most_three_a_minute() {
        let mut orphans = Orphans::default();
        orphans.check(&strays(7), fence(1), at(0));
        assert_eq!(orphans.check(&strays(7), fence(2), at(300)).len(), 3);
        assert_eq!(orphans.check(&strays(7), fence(2), at(310)).len(), 0);
        // The first three are still there: they are asked for again, and the others wait.
        assert_eq!(orphans.check(&strays(7)[3..], fence(2), at(360)).len(), 3);
        assert_eq!(orphans.check(&strays(7)[6..], fence(2), at(420)).len(), 1);
    }
}
