//! Availability zone rebalancing: a test per rule (ECS availability zone rebalancing).

use crate::common;
use std::collections::BTreeMap;

use crate::common::Bench;
use crate::common::build::{definition, service};
use crate::common::moves::{counts, holding};
use serde_json::{Value, json};
use tallyman_crds::StopCode;
use tallyman_operator_core::Kind;

/// A host in a zone.
fn host(bench: &mut Bench, name: &str, zone: &str) {
    bench.host(name, 4096, 8192);
    bench.edit(Kind::ContainerInstance, name, &|v| {
        v["spec"]["attributes"] = json!([{ "name": "ecs.availability-zone", "value": zone }]);
    });
}

/// Service `web` of four tasks on two hosts of zone `a`, with more in its spec.
fn lopsided(more: &Value) -> Bench {
    let mut bench = Bench::default();
    host(&mut bench, "host-1", "a");
    host(&mut bench, "host-2", "a");
    bench.apply_definition("web", definition("web:1"));
    let mut spec = service("web", 4, 100, 200);
    common::merge(&mut spec, more);
    bench.apply_service("web", spec);
    bench.converge(60);
    assert_eq!(bench.tasks(holding).len(), 4);
    bench
}

fn by_zone(bench: &Bench) -> BTreeMap<String, usize> {
    let mut found = BTreeMap::new();
    for name in bench.tasks(holding) {
        let host = bench.instance(&bench.host_of(&name)).clone();
        let zone = host.spec.attributes[0].value.clone().unwrap();
        *found.entry(zone).or_default() += 1;
    }
    found
}

fn zones(list: &[(&str, usize)]) -> BTreeMap<String, usize> {
    list.iter()
        .map(|(zone, n)| ((*zone).to_owned(), *n))
        .collect()
}

/// Step 7.3 of `docs/ecs-rules.md`.
#[test]
fn tasks_move_to_an_empty_zone_one_at_a_time_start_first() {
    let mut bench = lopsided(&json!({}));
    host(&mut bench, "host-3", "b");
    bench.settle();
    assert_eq!(by_zone(&bench), zones(&[("a", 4), ("b", 1)]));
    let status = bench.service_status("web");
    assert_eq!(status.conditions[0].reason, "Rebalancing");
    assert_eq!(
        status.message.as_deref(),
        Some("moving a task from zone a to zone b")
    );
    // It runs, and does not count yet.
    bench.run_all();
    bench.settle();
    assert_eq!(by_zone(&bench), zones(&[("a", 4), ("b", 1)]));
    bench.pass_time(41);
    bench.settle();
    bench.stop_all();
    bench.converge(60);
    assert_eq!(by_zone(&bench), zones(&[("a", 2), ("b", 2)]));
    let status = bench.service_status("web");
    assert_eq!(status.conditions[0].reason, "SteadyState");
    assert_eq!(status.rebalancing, None);
    let told: Vec<_> = status.events.iter().map(|e| e.message.as_str()).collect();
    let told = |wanted: &str| assert!(told.contains(&wanted), "no '{wanted}': {told:#?}");
    for counts in ["4 tasks in a, 0 tasks in b", "3 tasks in a, 1 tasks in b"] {
        told(&format!(
            "(service web) is not AZ balanced with {counts}. AZ Rebalancing in progress."
        ));
    }
    for n in [5, 6] {
        told(&format!(
            "(service web) has started 1 tasks in b to AZ Rebalance: (task web-{n:06})."
        ));
    }
    for task in bench.tasks(|t| !holding(t)) {
        told(&format!(
            "(service web) has stopped 1 running tasks in a due to AZ rebalancing: (task {task})."
        ));
    }
    told("(service web) is AZ balanced with 2 tasks in a, 2 tasks in b.");
}

/// Step 7.2 of `docs/ecs-rules.md`.
#[test]
fn a_difference_of_one_is_even() {
    let mut bench = lopsided(&json!({ "desiredCount": 4 }));
    bench.scale("web", 1);
    bench.converge(60);
    host(&mut bench, "host-3", "b");
    bench.converge(60);
    assert_eq!(by_zone(&bench), zones(&[("a", 1)]));
}

/// Step 7.1 of `docs/ecs-rules.md`.
#[test]
fn it_is_left_where_it_must_not_move() {
    for (why, more) in [
        (
            "switched off",
            json!({ "availabilityZoneRebalancing": "DISABLED" }),
        ),
        (
            "no room",
            json!({ "deploymentConfiguration": { "minimumHealthyPercent": 50, "maximumPercent": 100 } }),
        ),
        (
            "another strategy",
            json!({ "placementStrategy": [{ "type": "binpack", "field": "memory" }] }),
        ),
        (
            "a constraint that names the zone",
            json!({ "placementConstraints": [
                { "type": "memberOf", "expression": "attribute:ecs.availability-zone in [a, b]" }
            ] }),
        ),
    ] {
        let mut bench = lopsided(&more);
        host(&mut bench, "host-3", "b");
        bench.converge(60);
        assert_eq!(by_zone(&bench), zones(&[("a", 4)]), "{why}");
        assert_eq!(bench.reason("web"), "SteadyState", "{why}");
    }
}

/// Step 7.1 of `docs/ecs-rules.md`.
#[test]
fn a_rollout_comes_first() {
    let mut bench = lopsided(&json!({}));
    host(&mut bench, "host-3", "b");
    bench.settle();
    assert_eq!(bench.reason("web"), "Rebalancing");
    bench.roll("web:2");
    bench.converge(60);
    assert_eq!(bench.reason("web"), "SteadyState");
    let new = bench.tasks(|t| holding(t) && t.spec.task_definition == "web:2");
    assert_eq!(new.len(), 4);
    let even = by_zone(&bench);
    assert!(even.values().all(|n| *n == 2), "{even:?}");
}

/// Step 7.3 of `docs/ecs-rules.md`.
#[test]
fn a_zone_without_room_is_told_and_the_service_stays_steady() {
    let mut bench = lopsided(&json!({}));
    host(&mut bench, "host-3", "b");
    bench.edit(Kind::ContainerInstance, "host-3", &|v| {
        v["status"]["host"]["registeredResources"]["memory"] = json!(10);
    });
    bench.converge(60);
    assert_eq!(by_zone(&bench), zones(&[("a", 4)]));
    let status = bench.service_status("web");
    assert_eq!(status.conditions[0].reason, "SteadyState");
    let told = |e: &tallyman_crds::ServiceEvent| {
        e.message
            .contains("(service web) is unable to place a task in b because no container instance met all of its requirements.")
    };
    assert_eq!(status.events.iter().filter(|e| told(e)).count(), 1);
}

#[test]
fn a_task_that_does_not_start_is_tried_more_and_more_rarely() {
    let mut bench = lopsided(&json!({}));
    host(&mut bench, "host-3", "b");
    bench.settle();
    for _ in 0..6 {
        let there =
            bench.tasks(|t| holding(t) && t.spec.container_instance.as_deref() == Some("host-3"));
        for name in there {
            bench.fail(&name, StopCode::TaskFailedToStart);
        }
        bench.settle();
    }
    assert_eq!(counts(&bench.plan()), (0, 0), "the throttle engages");
    assert_eq!(by_zone(&bench), zones(&[("a", 4)]));
    assert_eq!(bench.reason("web"), "SteadyState");
}

/// Step 7.3 of `docs/ecs-rules.md`.
#[test]
fn protected_tasks_stay() {
    let mut bench = lopsided(&json!({}));
    for name in bench.tasks(holding) {
        bench.edit(Kind::Task, &name, &|v| {
            v["status"]["protectedUntil"] = json!("2030-01-01T00:00:00Z");
        });
    }
    host(&mut bench, "host-3", "b");
    bench.converge(60);
    assert_eq!(by_zone(&bench), zones(&[("a", 4)]));
}
