//! Services with strategies and constraints (I8, S17), whatever dies and however late the watches are.

use std::collections::BTreeMap;

use serde_json::json;
use tallyman_crds::{Task, labels};
use tallyman_operator_core::Kind;
use tallyman_sim::user::definition;
use tallyman_sim::{Sim, deaths, story};

/// Tasks of a service that are not STOPPED, by host.
fn by_host(sim: &Sim, service: &str) -> BTreeMap<String, usize> {
    let of = |t: &Task| t.metadata.labels.as_ref()?.get(labels::SERVICE).cloned();
    let holds = |t: &Task| t.status.as_ref().is_none_or(|s| s.stopped_at.is_none());
    let mut counts = BTreeMap::new();
    for (_, task) in sim.shared.server.all(Kind::Task) {
        if let Ok(task) = serde_json::from_value::<Task>(task.clone())
            && of(&task).as_deref() == Some(service)
            && holds(&task)
        {
            let host = task.spec.container_instance.unwrap_or_default();
            *counts.entry(host).or_default() += 1;
        }
    }
    counts
}

fn counts(pairs: &[(&str, usize)]) -> BTreeMap<String, usize> {
    pairs.iter().map(|(h, n)| ((*h).to_owned(), *n)).collect()
}

#[test]
fn a_service_keeps_to_its_hosts_while_it_rolls_and_hosts_come_and_go() {
    let name = "a_service_keeps_to_its_hosts_while_it_rolls_and_hosts_come_and_go";
    story(name, 8, 4, |sim| {
        sim.shared.lag = 40;
        for (host, zone) in [("host-a", "1"), ("host-b", "1"), ("host-c", "2")] {
            sim.attribute(host, &[("stack", "prod"), ("zone", zone)]);
        }
        sim.define("web", &definition("web:1"));
        let rules = json!({
            "placementConstraints": [{ "type": "memberOf", "expression": "attribute:stack == prod" }],
            "placementStrategy": [{ "type": "spread", "field": "attribute:zone" }, { "type": "binpack", "field": "memory" }],
        });
        sim.serve_by("web", 4, &rules);
        sim.until("the service is ready", 300, Sim::all_ready);
        assert_eq!(by_host(sim, "web"), counts(&[("host-a", 2), ("host-c", 2)]));
        sim.run(45);
        sim.roll("web", "web:2");
        let seconds = i64::try_from(sim.shared.rng.below(30)).unwrap_or(0);
        sim.run(seconds);
        sim.drain("host-a", true);
        sim.kill_agent("host-c");
        sim.come_to_rest();
        let placed = by_host(sim, "web");
        assert!(
            !placed.contains_key("host-a") && !placed.contains_key("host-d"),
            "{placed:?}"
        );
        sim.drain("host-a", false);
        sim.scale("web", 6);
        sim.come_to_rest();
        sim.scale("web", 2);
        sim.come_to_rest();
        let placed = by_host(sim, "web");
        assert_eq!(
            placed.get("host-c"),
            Some(&1),
            "one in each zone: {placed:?}"
        );
    });
}

#[test]
fn tasks_that_keep_apart_keep_apart_while_they_roll() {
    story(
        "tasks_that_keep_apart_keep_apart_while_they_roll",
        8,
        4,
        |sim| {
            sim.shared.lag = 40;
            sim.define("web", &definition("web:1"));
            sim.serve_by(
            "web",
            3,
            &json!({ "placementConstraints": [{ "type": "distinctInstance" }], "placementStrategy": [{ "type": "random" }] }),
        );
            sim.until("the service is ready", 300, Sim::all_ready);
            assert_eq!(by_host(sim, "web").len(), 3);
            sim.run(45);
            sim.roll("web", "web:2");
            sim.run(8);
            sim.kill_container();
            sim.run(5);
            sim.depose();
            sim.run(5);
            sim.resume();
            sim.come_to_rest();
            sim.scale("web", 4);
            sim.come_to_rest();
            // What two leaders placed twice runs on; a constraint moves nothing.
            assert!(by_host(sim, "web").len() >= 3);
        },
    );
}

fn life(sim: &mut Sim) {
    sim.shared.lag = 20;
    sim.attribute("host-a", &[("stack", "prod")]);
    sim.attribute("host-b", &[("stack", "prod")]);
    sim.define("web", &definition("web:1"));
    let rules = json!({ "placementConstraints": [
        { "type": "distinctInstance" },
        { "type": "memberOf", "expression": "attribute:stack == prod and not(task:group == service:other)" },
    ] });
    sim.serve_by("web", 2, &rules);
    sim.until("the service is ready", 600, Sim::all_ready);
    assert_eq!(by_host(sim, "web"), counts(&[("host-a", 1), ("host-b", 1)]));
    sim.roll("web", "web:2");
    sim.run(6);
    sim.until("the service is ready", 600, Sim::all_ready);
    assert_eq!(by_host(sim, "web"), counts(&[("host-a", 1), ("host-b", 1)]));
    sim.delete(Kind::Service, "web");
    sim.until("nothing is left", 600, Sim::nothing_left);
}

#[test]
fn the_operator_dies_at_every_write_of_a_service_with_constraints() {
    let name = "the_operator_dies_at_every_write_of_a_service_with_constraints";
    deaths::of_operator(name, 2, life);
}
