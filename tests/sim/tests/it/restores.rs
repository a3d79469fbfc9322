//! Stories in which etcd is restored from a backup: everything that the API server knows is of a while ago, and hosts are not.

use std::collections::BTreeSet;

use tallyman_crds::labels;
use tallyman_operator_core::Kind;
use tallyman_sim::plans;
use tallyman_sim::{Sim, story};

/// Ids of the containers that run.
fn alive(sim: &Sim) -> BTreeSet<String> {
    let all = sim.agents.iter().flat_map(|a| a.engine.containers());
    all.filter(|c| c.phase.is_alive()).map(|c| c.id).collect()
}

fn forgotten(sim: &Sim) -> usize {
    sim.agents.iter().map(|a| a.forgotten().len()).sum()
}

fn number(sim: &mut Sim, bound: usize) -> i64 {
    i64::try_from(sim.shared.rng.below(bound)).unwrap_or(0)
}

/// Leaders come and go, so that hosts hold higher numbers than a backup gives.
fn other_leaders(sim: &mut Sim) {
    for _ in 0..sim.shared.rng.below(4) {
        if let Some(operator) = sim.operators.last_mut() {
            operator.dead = true;
        }
        sim.run(8);
    }
}

/// What any host says of itself.
fn messages(sim: &Sim) -> String {
    let hosts = sim.shared.server.all(Kind::ContainerInstance);
    let said = hosts.filter_map(|(_, i)| Some(i["status"]["host"]["message"].as_str()?.to_owned()));
    said.collect::<Vec<_>>().join("\n")
}

#[test]
fn nothing_stops_and_all_goes_on_without_help() {
    story("nothing_stops_and_all_goes_on_without_help", 8, 3, |sim| {
        sim.shared.lag = 40;
        sim.deployed("web", 3, 100, 200);
        let backup = sim.backup();
        other_leaders(sim);
        sim.scale("web", 5);
        sim.until("the service is ready", 600, Sim::all_ready);
        other_leaders(sim);
        let before = alive(sim);
        assert_eq!(before.len(), 5);
        sim.restore(backup);
        // Longer than a container that no plan knows is left alone otherwise, and with more than one plan.
        sim.run(200);
        sim.scale("web", 4);
        sim.run(400);
        sim.scale("web", 7);
        sim.come_to_rest();
        let after = alive(sim);
        assert!(after.is_superset(&before), "{before:?} became {after:?}");
        assert_eq!(forgotten(sim), 2, "made after the backup");
        assert_eq!(after.len(), 7 + 2);
        assert!(
            messages(sim).contains("that the API server does not have any more"),
            "{}",
            messages(sim)
        );
    });
}

#[test]
fn what_was_forgotten_stops_when_somebody_decides_so() {
    story(
        "what_was_forgotten_stops_when_somebody_decides_so",
        4,
        2,
        |sim| {
            sim.shared.lag = 40;
            sim.deployed("web", 2, 100, 200);
            let backup = sim.backup();
            sim.scale("web", 6);
            sim.until("the service is ready", 600, Sim::all_ready);
            sim.restore(backup);
            sim.come_to_rest();
            // An agent that is killed meanwhile remembers, and so does a leader that follows.
            sim.kill_agent("host-a");
            other_leaders(sim);
            sim.run(700);
            assert_eq!(forgotten(sim), 4);
            for host in ["host-a", "host-b"] {
                sim.annotate(
                    Kind::ContainerInstance,
                    host,
                    labels::STOP_FORGOTTEN,
                    "true",
                );
            }
            sim.until("what was forgotten is gone", 900, |s| alive(s).len() == 2);
            sim.come_to_rest();
            assert_eq!(messages(sim), "");
        },
    );
}

#[test]
fn agents_that_die_meanwhile_know_of_the_restore() {
    story(
        "agents_that_die_meanwhile_know_of_the_restore",
        8,
        3,
        |sim| {
            sim.shared.lag = 40;
            sim.deployed("web", 3, 100, 200);
            let backup = sim.backup();
            sim.scale("web", 6);
            sim.until("the service is ready", 600, Sim::all_ready);
            let before = alive(sim);
            // Away when etcd is restored, or killed between that and the next plan.
            let away = sim.shared.rng.chance(50);
            if away {
                sim.kill_agent("host-a");
            }
            sim.restore(backup);
            if !away {
                sim.run(1);
                sim.kill_agent("host-a");
            }
            for wanted in 4..7 {
                sim.run(300);
                sim.scale("web", wanted);
            }
            sim.come_to_rest();
            let after = alive(sim);
            assert!(after.is_superset(&before), "{before:?} became {after:?}");
            assert_eq!(forgotten(sim), 3);
        },
    );
}

#[test]
fn what_was_stopped_after_the_backup_is_told_again_or_runs_again() {
    story(
        "what_was_stopped_after_the_backup_is_told_again_or_runs_again",
        8,
        2,
        |sim| {
            sim.shared.lag = 40;
            sim.deployed("web", 4, 100, 200);
            let backup = sim.backup();
            other_leaders(sim);
            sim.scale("web", 1);
            let seconds = [1, 30, 4_000][sim.shared.rng.below(3)];
            sim.run(seconds);
            sim.restore(backup);
            sim.come_to_rest();
            // The service of the backup wants four, and has them: a host that remembers that a task is over says so, and it is
            // replaced; one that does not starts it.
            assert_eq!(alive(sim).len(), 4);
            assert_eq!(forgotten(sim), 0);
        },
    );
}

#[test]
fn hosts_that_come_late_raise_the_leaders_number() {
    story(
        "hosts_that_come_late_raise_the_leaders_number",
        4,
        3,
        |sim| {
            sim.shared.lag = 40;
            sim.deployed("web", 3, 100, 200);
            let backup = sim.backup();
            for host in 0..3 {
                // Each holds a plan of another leader.
                for other in 0..3 {
                    sim.agents[other].cut_off = other != host;
                }
                if let Some(operator) = sim.operators.last_mut() {
                    operator.dead = true;
                }
                sim.run(10);
                sim.scale("web", 6 + 3 * i64::try_from(host).unwrap_or(0));
                sim.run(20);
            }
            for agent in &mut sim.agents {
                agent.cut_off = false;
            }
            sim.run(10);
            let before = alive(sim);
            for agent in &mut sim.agents {
                agent.cut_off = true;
            }
            sim.restore(backup);
            sim.run(20);
            for host in 0..3 {
                sim.agents[host].cut_off = false;
                sim.run(10);
            }
            sim.come_to_rest();
            sim.scale("web", 5);
            sim.come_to_rest();
            assert!(alive(sim).is_superset(&before));
        },
    );
}

#[test]
fn a_rollout_and_a_new_service_come_after_the_backup() {
    story(
        "a_rollout_and_a_new_service_come_after_the_backup",
        4,
        3,
        |sim| {
            sim.shared.lag = 40;
            sim.shared.monitor.faults = true;
            sim.deployed("web", 3, 50, 200);
            let backup = sim.backup();
            sim.roll("web", "web:2");
            sim.deploy("api", 2, 100, 200);
            let seconds = number(sim, 120);
            sim.run(seconds);
            sim.restore(backup);
            sim.come_to_rest();
            assert_eq!(
                sim.tasks(|_| true)
                    .iter()
                    .filter(|t| t.starts_with("api"))
                    .count(),
                0
            );
            // From Git, everything is applied again.
            sim.roll("web", "web:2");
            sim.deploy("api", 2, 100, 200);
            sim.come_to_rest();
        },
    );
}

/// Enough for every change; `make soak` tells many more.
const HISTORIES: u64 = 50;

/// Some things happen, the store goes back, some more happen, and everything is as wanted.
fn history(seed: u64) {
    let mut sim = Sim::new("restored history", seed, 3);
    sim.again = Some(format!(
        "TALLYMAN_SIM_HISTORY={seed} cargo test -p tallyman-sim --test it restores::whatever"
    ));
    let sim = &mut sim;
    sim.shared.lag = [0, 20, 50][sim.shared.rng.below(3)];
    sim.shared.monitor.faults = true;
    sim.deploy("web", 2, 50, 200);
    let mut backup = None;
    for n in 0..8 {
        let seconds = number(sim, 20);
        sim.run(seconds);
        let host = sim.shared.rng.below(sim.agents.len());
        let name = sim.agents[host].name.clone();
        match sim.shared.rng.below(10) {
            0 | 1 => {
                let wanted = number(sim, 5);
                sim.scale("web", wanted);
            }
            2 => sim.roll("web", &format!("web:{n}")),
            3 => {
                sim.kill_container();
            }
            4 => sim.kill_agent(&name),
            5 => {
                if let Some(operator) = sim.operators.last_mut() {
                    operator.dead = true;
                }
            }
            6 => sim.agents[host].cut_off = !sim.agents[host].cut_off,
            7 => sim.drain(&name, n % 2 == 0),
            8 => {
                if let Some(operator) = sim.operators.last_mut() {
                    operator.pause_at = Some(operator.writes + 3);
                }
                sim.run(2);
                sim.depose();
            }
            _ => {}
        }
        match backup.take() {
            None => backup = Some(sim.backup()),
            Some(old) if n > 4 => {
                // An agent that is away knows of it by its plan alone, and may leave the status of a task untold
                // (docs/reliability.md, "Not covered").
                let away = |sim: &Sim| sim.agents.iter().any(|a| !a.is_up());
                if away(sim) {
                    sim.run(3);
                }
                sim.restore(old);
            }
            old @ Some(_) => backup = old,
        }
    }
    for host in 0..3 {
        sim.agents[host].cut_off = false;
        let name = sim.agents[host].name.clone();
        sim.drain(&name, false);
    }
    sim.come_to_rest();
    let wanted = number(sim, 4) + 1;
    sim.scale("web", wanted);
    sim.come_to_rest();
}

#[test]
fn whatever_happened_before_and_after_everything_is_as_wanted_in_the_end() {
    let given = |name: &str| std::env::var(name).ok()?.parse().ok();
    let seeds: Vec<u64> = match given("TALLYMAN_SIM_HISTORY") {
        Some(seed) => vec![seed],
        None => (1..=given("TALLYMAN_SIM_HISTORIES").unwrap_or(HISTORIES)).collect(),
    };
    plans::across(&seeds, |seed| history(*seed));
}
