//! Processes that die at every single thing they do, before it and after it.
//!
//! A life is told once to count what a process does, and then once for each of these with a crash there. Each has a seed of
//! its own, a million times that of the count and the point, so that one of them can be told again alone.

use crate::operator::CrashPoint;
use crate::sim::{Sim, option};

/// Deeds of an agent after which the next ones show nothing new.
const MOST: u64 = 150;
const POINTS: u64 = 1_000_000;

/// A life of a system, told to its end.
pub type Life = fn(&mut Sim);

/// The agent of the first host dies at everything it does: engine calls, patches, pages. `loses_disk`: and its disk with
/// it, at which of them.
pub fn of_agent(name: &str, hosts: usize, loses_disk: fn(u64) -> bool, life: Life) {
    everywhere(
        name,
        hosts,
        life,
        |sim| sim.agents[0].deeds.min(MOST),
        |sim, at, carried_out| {
            sim.agents[0].crash = Some(CrashPoint { at, carried_out });
            sim.agents[0].loses_disk = loses_disk(at);
        },
    );
}

/// The operator dies at every write.
pub fn of_operator(name: &str, hosts: usize, life: Life) {
    everywhere(
        name,
        hosts,
        life,
        |sim| sim.operators.iter().map(|o| o.writes).sum(),
        |sim, at, carried_out| sim.operator_crash = Some(CrashPoint { at, carried_out }),
    );
}

fn everywhere(
    name: &str,
    hosts: usize,
    life: Life,
    count: fn(&Sim) -> u64,
    crash: impl Fn(&mut Sim, u64, bool),
) {
    let chosen = option("TALLYMAN_SIM_SEED").and_then(|s| s.parse::<u64>().ok());
    let seeds = match chosen.map(|own| own / POINTS) {
        Some(seed) => seed.max(1)..=seed.max(1),
        None => {
            let seeds = option("TALLYMAN_SIM_SEEDS").and_then(|s| s.parse().ok());
            1..=seeds.unwrap_or(1)
        }
    };
    for seed in seeds {
        let mut sim = Sim::new(name, seed, hosts);
        life(&mut sim);
        let points = count(&sim);
        assert!(points > 10, "only {points} points: the life is too short");
        for at in 1..=points {
            for carried_out in [false, true] {
                let own = seed * POINTS + at * 2 + u64::from(carried_out);
                if chosen.is_none_or(|chosen| chosen == own) {
                    // The crash is at the same point of another history.
                    let mut sim = Sim::new(name, own, hosts);
                    crash(&mut sim, at, carried_out);
                    life(&mut sim);
                }
            }
        }
    }
}
