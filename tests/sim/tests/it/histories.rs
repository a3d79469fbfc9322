//! Random histories: short, many, each from its seed.
//!
//! `TALLYMAN_SIM_HISTORIES=1000000` tells so many, `TALLYMAN_SIM_HISTORY=17` that one.

use serde_json::json;
use tallyman_operator_core::Kind;
use tallyman_sim::user::definition;
use tallyman_sim::{Sim, plans};

/// How many are told here; `make soak` tells a million.
const HISTORIES: u64 = 20_000;

fn given(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// A service in whose life some things happen, and after which everything is as wanted.
fn history(seed: u64) {
    let mut sim = Sim::new("history", seed, 2 + usize::from(seed.is_multiple_of(4)));
    sim.again = Some(format!(
        "TALLYMAN_SIM_HISTORY={seed} cargo test -p tallyman-sim --test it histories"
    ));
    let sim = &mut sim;
    sim.shared.lag = [0, 20, 50][sim.shared.rng.below(3)];
    sim.shared.monitor.faults = true;
    let (minimum, maximum) = [(100, 200), (50, 200), (0, 100)][sim.shared.rng.below(3)];
    let wanted = number(sim, 4);
    sim.define("web", &definition("web:1"));
    let bounds = json!({ "minimumHealthyPercent": minimum, "maximumPercent": maximum });
    let disconnect = [
        json!({}),
        json!({ "replaceAfter": 50 }),
        json!({ "stopAfter": 30 }),
        json!({ "replaceAfter": 50, "keepOnReturn": "Original" }),
    ][usize::try_from(seed % 4).unwrap_or(0)]
    .clone();
    let more = json!({ "deploymentConfiguration": bounds, "disconnect": disconnect });
    sim.serve_by("web", wanted, &more);
    let events = 3 + sim.shared.rng.below(4);
    for n in 0..events {
        let seconds = number(sim, 15);
        sim.run(seconds);
        let host = sim.shared.rng.below(sim.agents.len());
        let name = sim.agents[host].name.clone();
        let awake = !sim.shared.server.down;
        match sim.shared.rng.below(16) {
            0 if awake => {
                let wanted = number(sim, 5);
                sim.scale("web", wanted);
            }
            1 | 2 if awake => sim.roll("web", &format!("web:{n}")),
            3 => {
                sim.kill_container();
            }
            4 => sim.kill_agent(&name),
            5 => {
                sim.agents[host].loses_disk = true;
                sim.kill_agent(&name);
            }
            6 => sim.agents[host].cut_off = !sim.agents[host].cut_off,
            7 if awake => {
                let draining = sim.shared.rng.chance(70);
                sim.drain(&name, draining);
            }
            8 => sim.shared.server.down = !sim.shared.server.down,
            9 => {
                if let Some(operator) = sim.operators.last_mut() {
                    operator.dead = true;
                }
            }
            10 => {
                let more = number(sim, 6);
                let more = u64::try_from(more).unwrap_or(0);
                if let Some(operator) = sim.operators.last_mut() {
                    operator.pause_at = Some(operator.writes + more);
                }
                sim.run(2);
                sim.depose();
            }
            11 => {
                let kinds = [Kind::Task, Kind::Service, Kind::HostPlan];
                let kind = kinds[sim.shared.rng.below(kinds.len())];
                if let Some(operator) = sim.operators.last_mut() {
                    operator.cache.stall(kind);
                }
            }
            12 => {
                let live_restore = sim.shared.rng.chance(50);
                sim.agents[host].engine.restart_engine(live_restore);
            }
            13 if sim.agents[host].off => sim.agents[host].power_on(&mut sim.shared),
            13 => sim.agents[host].power_off(&mut sim.shared),
            15 => {
                let minutes = 1 + number(sim, 3);
                if let Some(task) = sim.any_task() {
                    let _blocked_or_not = sim.ask_protection(&task, minutes);
                }
            }
            14 if awake => {
                if let Some(task) = sim.any_task() {
                    sim.stop_task(&task);
                }
            }
            _ => {}
        }
    }
    sim.shared.server.down = false;
    for n in 0..sim.agents.len() {
        sim.agents[n].cut_off = false;
        if sim.agents[n].off {
            sim.agents[n].power_on(&mut sim.shared);
        }
        let name = sim.agents[n].name.clone();
        sim.drain(&name, false);
    }
    sim.come_to_rest();
}

fn number(sim: &mut Sim, bound: usize) -> i64 {
    i64::try_from(sim.shared.rng.below(bound)).unwrap_or(0)
}

#[test]
fn whatever_happened_everything_is_as_wanted_in_the_end() {
    let seeds: Vec<u64> = match given("TALLYMAN_SIM_HISTORY") {
        Some(seed) => vec![seed],
        None => (1..=given("TALLYMAN_SIM_HISTORIES").unwrap_or(HISTORIES)).collect(),
    };
    plans::across(&seeds, |seed| history(*seed));
    println!("{:>7}  random histories", seeds.len());
}
