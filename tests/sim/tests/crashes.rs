//! Processes that die at every single thing they do, before it and after it.

use tallyman_operator_core::Kind;
use tallyman_sim::{CrashPoint, Sim};

/// Deploy, roll, scale up, scale down, delete: each part long enough for the processes to come back.
fn life(sim: &mut Sim) {
    sim.shared.lag = 20;
    sim.deploy("web", 2, 50, 150);
    sim.until("the service is ready", 600, Sim::all_ready);
    sim.run(41);
    sim.roll("web", "web:2");
    sim.run(6);
    sim.until("the service is ready", 600, Sim::all_ready);
    sim.scale("web", 3);
    sim.run(6);
    sim.until("the service is ready", 600, Sim::all_ready);
    sim.scale("web", 1);
    sim.come_to_rest();
    sim.delete(Kind::Service, "web");
    sim.until("nothing is left", 600, Sim::nothing_left);
}

/// Seeds under which a life without a crash is counted. A crash point's own seed is a million times that, and the point.
fn seeds() -> std::ops::RangeInclusive<u64> {
    let number = |name: &str| std::env::var(name).ok().and_then(|s| s.parse::<u64>().ok());
    match (
        chosen().map(|own| own / 1_000_000),
        number("TALLYMAN_SIM_SEEDS"),
    ) {
        (Some(seed), _) if seed > 0 => seed..=seed,
        (Some(_), _) => 1..=1,
        (None, seeds) => 1..=seeds.unwrap_or(1),
    }
}

fn chosen() -> Option<u64> {
    std::env::var("TALLYMAN_SIM_SEED")
        .ok()
        .and_then(|s| s.parse().ok())
}

#[test]
fn the_operator_dies_at_every_write() {
    for seed in seeds() {
        let mut sim = Sim::new("the_operator_dies_at_every_write", seed, 2);
        life(&mut sim);
        let writes = sim.operators[0].writes;
        assert!(writes > 40, "only {writes} writes: the story is too short");
        for at in 1..=writes {
            for carried_out in [false, true] {
                let own = seed * 1_000_000 + at * 2 + u64::from(carried_out);
                if chosen().is_some_and(|c| c != own) {
                    continue;
                }
                // The crash is at the same write of another history.
                let mut sim = Sim::new("the_operator_dies_at_every_write", own, 2);
                sim.operator_crash = Some(CrashPoint { at, carried_out });
                life(&mut sim);
            }
        }
    }
}

fn an_agent_dies_at_every_deed(name: &str, loses_disk: bool) {
    for seed in seeds() {
        let mut sim = Sim::new(name, seed, 2);
        life(&mut sim);
        let deeds = sim.agents[0].deeds.min(150);
        assert!(deeds > 30, "only {deeds} deeds: the story is too short");
        for at in 1..=deeds {
            for carried_out in [false, true] {
                let own = seed * 1_000_000 + at * 2 + u64::from(carried_out);
                if chosen().is_some_and(|c| c != own) {
                    continue;
                }
                let mut sim = Sim::new(name, own, 2);
                sim.agents[0].crash = Some(CrashPoint { at, carried_out });
                sim.agents[0].loses_disk = loses_disk;
                life(&mut sim);
            }
        }
    }
}

#[test]
fn an_agent_dies_at_every_engine_call_patch_and_page() {
    an_agent_dies_at_every_deed("an_agent_dies_at_every_engine_call_patch_and_page", false);
}

#[test]
fn an_agent_dies_at_every_deed_and_its_disk_with_it() {
    an_agent_dies_at_every_deed("an_agent_dies_at_every_deed_and_its_disk_with_it", true);
}
