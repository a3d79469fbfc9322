//! Deployments that are given up, rolled back, restarted and paused, with lagging watches and processes that die.

use tallyman_operator_core::Kind;
use tallyman_sim::user::definition;
use tallyman_sim::{Sim, deaths, story};

/// The first condition of a service.
fn reason(sim: &Sim, service: &str) -> String {
    let found = sim.shared.server.get(Kind::Service, service);
    let reason = found.and_then(|s| s["status"]["conditions"][0]["reason"].as_str());
    reason.unwrap_or_default().to_owned()
}

/// Running tasks of a revision.
fn running(sim: &Sim, task_definition: &str) -> usize {
    let tasks = sim.tasks(|t| {
        let up = |s: &tallyman_crds::TaskStatus| s.started_at.is_some() && s.stopped_at.is_none();
        t.spec.task_definition == task_definition && t.status.as_ref().is_some_and(up)
    });
    tasks.len()
}

/// Service `web` whose deployments are given up after three failures, ready at `web:1`; `web:2` is in no registry.
fn guarded(sim: &mut Sim, minimum: i64, maximum: i64) {
    sim.unpublish("web:2");
    sim.define("web", &definition("web:1"));
    sim.serve("web", 3, minimum, maximum);
    sim.guard("web", true);
    sim.until("the service is ready", 600, Sim::all_ready);
    sim.run(45);
}

fn rolled_back(sim: &Sim) -> bool {
    reason(sim, "web") == "DeploymentRolledBack" && running(sim, "web:1") == 3
}

#[test]
fn a_broken_revision_is_rolled_back() {
    for (minimum, maximum) in [(100, 200), (50, 100), (0, 100)] {
        story("a_broken_revision_is_rolled_back", 3, 3, |sim| {
            sim.shared.lag = 40;
            guarded(sim, minimum, maximum);
            sim.roll("web", "web:2");
            sim.until("it is rolled back", 900, rolled_back);
            sim.run(120);
            assert!(rolled_back(sim), "it stays there");
            sim.roll("web", "web:3");
            sim.come_to_rest();
        });
    }
}

#[test]
fn a_restart_and_a_pause() {
    story("a_restart_and_a_pause", 4, 2, |sim| {
        sim.shared.lag = 40;
        sim.deployed("web", 3, 50, 150);
        sim.pause("web", true);
        sim.roll("web", "web:2");
        sim.run(120);
        assert_eq!((running(sim, "web:1"), running(sim, "web:2")), (3, 0));
        sim.restart("web", "1");
        sim.pause("web", false);
        let seconds = i64::try_from(sim.shared.rng.below(60)).unwrap_or(0);
        sim.run(seconds);
        sim.pause("web", true);
        sim.kill_container();
        sim.run(90);
        sim.pause("web", false);
        sim.come_to_rest();
        assert_eq!(running(sim, "web:2"), 3);
    });
}

/// A revision that never starts, its rollback, and one that does.
fn life(sim: &mut Sim) {
    sim.shared.lag = 20;
    guarded(sim, 50, 150);
    sim.roll("web", "web:2");
    sim.until("it is rolled back", 1200, rolled_back);
    sim.roll("web", "web:3");
    sim.come_to_rest();
}

#[test]
fn the_operator_dies_at_every_write_of_a_rollback() {
    deaths::of_operator("the_operator_dies_at_every_write_of_a_rollback", 2, life);
}
