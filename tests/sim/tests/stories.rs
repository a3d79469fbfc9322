//! Stories without mishaps, told with lagging watches and any order of events.

use tallyman_operator_core::Kind;
use tallyman_sim::{Sim, story};

#[test]
fn deploy() {
    story("deploy", 6, 3, |sim: &mut Sim| {
        sim.shared.lag = 40;
        sim.deploy("web", 5, 100, 200);
        sim.until("the service is ready", 300, Sim::all_ready);
        sim.come_to_rest();
        assert_eq!(sim.containers(), 5);
    });
}

#[test]
fn scale_up_and_down() {
    story("scale_up_and_down", 6, 3, |sim| {
        sim.shared.lag = 40;
        sim.deployed("web", 2, 100, 200);
        for count in [6, 1, 4, 0, 3] {
            sim.scale("web", count);
            let seconds = i64::try_from(sim.shared.rng.below(30)).unwrap_or(0);
            sim.run(seconds);
        }
        sim.come_to_rest();
    });
}

#[test]
fn roll() {
    for (minimum, maximum) in [(100, 200), (50, 100), (0, 100), (100, 150), (50, 150)] {
        story("roll", 2, 3, |sim| {
            sim.shared.lag = 40;
            sim.deployed("web", 4, minimum, maximum);
            sim.roll("web", "web:2");
            sim.run(20);
            sim.roll("web", "web:3");
            sim.come_to_rest();
            assert_eq!(sim.tasks(|t| t.spec.task_definition == "web:3" && t.status.as_ref().is_some_and(|s| s.stopped_at.is_none())).len(), 4);
        });
    }
}

#[test]
fn roll_on_a_full_cluster_with_fixed_ports() {
    story("roll_on_a_full_cluster_with_fixed_ports", 4, 3, |sim| {
        sim.shared.lag = 40;
        sim.define("web", &tallyman_sim::user::on_port("web:1", 8080));
        sim.serve("web", 3, 50, 100);
        sim.until("the service is ready", 300, Sim::all_ready);
        sim.run(45);
        sim.define("web", &tallyman_sim::user::on_port("web:2", 8080));
        sim.come_to_rest();
    });
}

#[test]
fn two_services_share_the_hosts() {
    story("two_services_share_the_hosts", 4, 2, |sim| {
        sim.shared.lag = 40;
        sim.deploy("web", 3, 100, 200);
        sim.deploy("api", 4, 50, 150);
        sim.run(60);
        sim.scale("web", 6);
        sim.roll("api", "api:2");
        sim.run(10);
        sim.scale("api", 2);
        sim.come_to_rest();
    });
}

#[test]
fn delete_a_service() {
    story("delete_a_service", 6, 2, |sim| {
        sim.shared.lag = 40;
        sim.deployed("web", 4, 100, 200);
        sim.delete(Kind::Service, "web");
        sim.until("nothing is left", 300, Sim::nothing_left);
        sim.come_to_rest();
    });
}

#[test]
fn delete_everything_at_once() {
    story("delete_everything_at_once", 6, 2, |sim| {
        sim.shared.lag = 40;
        sim.deployed("web", 3, 100, 200);
        sim.delete(Kind::TaskDefinition, "web");
        sim.delete(Kind::Service, "web");
        sim.until("nothing is left", 300, |s| {
            s.nothing_left() && s.shared.server.all(Kind::TaskDefinitionRevision).next().is_none()
        });
        sim.come_to_rest();
    });
}

#[test]
fn delete_in_the_middle_of_a_roll_and_make_it_anew() {
    story("delete_in_the_middle_of_a_roll_and_make_it_anew", 6, 2, |sim| {
        sim.shared.lag = 40;
        sim.deployed("web", 3, 100, 200);
        sim.roll("web", "web:2");
        let seconds = i64::try_from(sim.shared.rng.below(60)).unwrap_or(0);
        sim.run(seconds);
        sim.delete(Kind::Service, "web");
        sim.until("the service is gone", 300, |s| s.shared.server.get(Kind::Service, "web").is_none());
        sim.serve("web", 3, 100, 200);
        sim.come_to_rest();
    });
}

#[test]
fn drain_a_host_and_take_it_back() {
    story("drain_a_host_and_take_it_back", 6, 3, |sim| {
        sim.shared.lag = 40;
        sim.deployed("web", 4, 100, 200);
        sim.drain("host-a", true);
        sim.until("it is empty", 600, |s| s.agents[0].engine.containers().iter().all(|c| !c.phase.is_alive()));
        sim.drain("host-a", false);
        sim.scale("web", 6);
        sim.come_to_rest();
    });
}
