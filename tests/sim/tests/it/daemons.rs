//! A daemon beside a service, on hosts that drain, come back and leave.

use tallyman_crds::TaskStatus;
use tallyman_operator_core::Kind;
use tallyman_sim::{Sim, deaths, story};

/// Hosts on which a task of `service` runs, sorted.
fn hosts(sim: &Sim, service: &str) -> Vec<String> {
    let prefix = format!("{service}-");
    let running = sim.tasks(|t| {
        let up = |s: &TaskStatus| s.started_at.is_some() && s.stopped_at.is_none();
        t.status.as_ref().is_some_and(up)
    });
    let mine = running.iter().filter(|name| name.starts_with(&prefix));
    let mut hosts: Vec<String> = mine
        .filter_map(|name| sim.shared.server.get(Kind::Task, name))
        .filter_map(|t| t["spec"]["containerInstance"].as_str())
        .map(str::to_owned)
        .collect();
    hosts.sort();
    hosts
}

#[test]
fn a_daemon_on_every_host_that_stays() {
    story("a_daemon_on_every_host_that_stays", 4, 3, |sim| {
        sim.shared.lag = 40;
        sim.daemon("log", "log:1");
        sim.deployed("web", 3, 100, 200);
        assert_eq!(hosts(sim, "log").len(), 3);
        let leaving = hosts(sim, "log")[0].clone();
        sim.drain(&leaving, true);
        sim.until("the host is empty", 600, |sim| {
            !hosts(sim, "web").contains(&leaving) && !hosts(sim, "log").contains(&leaving)
        });
        sim.drain(&leaving, false);
        sim.until("it has a daemon again", 600, |sim| {
            hosts(sim, "log").contains(&leaving)
        });
        sim.daemon("log", "log:2");
        sim.kill_container();
        sim.come_to_rest();
        assert_eq!(hosts(sim, "log").len(), 3);
    });
}

fn life(sim: &mut Sim) {
    sim.shared.lag = 20;
    sim.daemon("log", "log:1");
    sim.deployed("web", 2, 50, 150);
    sim.daemon("log", "log:2");
    let leaving = sim.agents[0].name.clone();
    sim.drain(&leaving, true);
    sim.until("the host is empty", 900, |sim| {
        !hosts(sim, "web").contains(&leaving) && !hosts(sim, "log").contains(&leaving)
    });
    sim.drain(&leaving, false);
    sim.come_to_rest();
    assert_eq!(hosts(sim, "log").len(), 2);
    sim.delete(Kind::Service, "log");
    sim.delete(Kind::Service, "web");
    sim.until("nothing is left", 600, Sim::nothing_left);
}

#[test]
fn the_operator_dies_at_every_write_of_a_daemons_life() {
    deaths::of_operator(
        "the_operator_dies_at_every_write_of_a_daemons_life",
        2,
        life,
    );
}
