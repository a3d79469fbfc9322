//! Constraints, strategies, groups and attributes as users write them: a test for each rule of docs/scheduling.md, Placement.

use crate::common;
use std::collections::BTreeMap;

use crate::common::Bench;
use crate::common::build::{definition, service};
use crate::common::moves::holding;
use serde_json::{Value, json};
use tallyman_crds::{LastStatus, StopCode};
use tallyman_operator_core::Kind;

/// Hosts `a`, `b`, ... with these custom attributes: `zone=1 stack=prod`.
fn hosts(attributes: &[&str]) -> Bench {
    let mut bench = Bench::default();
    for (n, text) in attributes.iter().enumerate() {
        let name = char::from(b'a' + u8::try_from(n).unwrap()).to_string();
        bench.host(&name, 4096, 8192);
        let list: Vec<Value> = text
            .split_whitespace()
            .map(|pair| match pair.split_once('=') {
                Some((name, value)) => json!({ "name": name, "value": value }),
                None => json!({ "name": pair }),
            })
            .collect();
        bench.edit(Kind::ContainerInstance, &name, &|v| {
            v["spec"]["attributes"] = json!(list)
        });
    }
    bench
}

/// A service of `desired` tasks with more in its spec.
fn serve(bench: &mut Bench, name: &str, desired: i64, more: &Value) {
    if !bench.names(Kind::TaskDefinition).contains(&name.to_owned()) {
        bench.apply_definition(name, definition(name));
    }
    let mut spec = service(name, desired, 100, 200);
    common::merge(&mut spec, more);
    bench.apply_service(name, spec);
    bench.settle();
}

fn member_of(expression: &str) -> Value {
    json!({ "placementConstraints": [{ "type": "memberOf", "expression": expression }] })
}

fn strategy(steps: &[(&str, &str)]) -> Value {
    let step = |(kind, field): &(&str, &str)| {
        if field.is_empty() {
            json!({ "type": kind })
        } else {
            json!({ "type": kind, "field": field })
        }
    };
    json!({ "placementStrategy": steps.iter().map(step).collect::<Vec<_>>() })
}

/// Tasks whose names begin with `name-`, by host; those that are to run.
fn by_host(bench: &Bench, name: &str) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    let prefix = format!("{name}-");
    for task in
        bench.tasks(|t| holding(t) && t.metadata.name.as_ref().unwrap().starts_with(&prefix))
    {
        *counts.entry(bench.host_of(&task)).or_default() += 1;
    }
    counts
}

fn counts(pairs: &[(&str, usize)]) -> BTreeMap<String, usize> {
    pairs.iter().map(|(h, n)| ((*h).to_owned(), *n)).collect()
}

fn message(bench: &Bench, service: &str) -> String {
    bench.service_status(service).conditions[0].message.clone()
}

fn stopped(bench: &Bench, task: &str) -> (Option<StopCode>, String) {
    let status = bench.task(task).status.clone().unwrap();
    assert_eq!(status.last_status, LastStatus::Stopped);
    (status.stop_code, status.stopped_reason.unwrap_or_default())
}

// --- constraints ---

/// Step 1.4 of `docs/ecs-rules.md`.
#[test]
fn distinct_instance_puts_one_task_of_the_service_on_a_host() {
    let mut bench = hosts(&["", "", ""]);
    let distinct = json!({ "placementConstraints": [{ "type": "distinctInstance" }] });
    serve(&mut bench, "web", 4, &distinct);
    assert_eq!(
        by_host(&bench, "web"),
        counts(&[("a", 1), ("b", 1), ("c", 1)])
    );
    assert_eq!(
        message(&bench, "web"),
        "1 of 4 tasks cannot be placed. Of 3 hosts, 3 already run a task of `service:web` (`distinctInstance`). Next try \
         when a host changes. (service web) was unable to place a task because no container instance met all of its \
         requirements. The closest matching container-instance a encountered error \"DistinctInstance placement constraint \
         unsatisfied.\"."
    );
    // Another service has hosts of its own.
    serve(&mut bench, "api", 3, &distinct);
    assert_eq!(
        by_host(&bench, "api"),
        counts(&[("a", 1), ("b", 1), ("c", 1)])
    );
}

#[test]
fn a_task_that_stops_does_not_count_for_distinct_instance_though_it_still_holds_its_room() {
    for (memory, started) in [(8192, 2), (1000, 1)] {
        let mut bench = Bench::default();
        bench.host("one", 4096, memory);
        bench.apply_definition("web", definition("web:1"));
        let mut spec = service("web", 1, 0, 200);
        spec["placementConstraints"] = json!([{ "type": "distinctInstance" }]);
        bench.apply_service("web", spec);
        bench.converge(60);
        bench.roll("web:2");
        bench.settle();
        // The old one is stopping: with room for both the new one is there beside it.
        assert_eq!(bench.names(Kind::Task).len(), started, "{memory} MiB");
        bench.converge(60);
        assert_eq!(bench.reason("web"), "SteadyState");
    }
}

/// Step 1.4 of `docs/ecs-rules.md`.
#[test]
fn constraints_of_the_definition_hold_beside_those_of_the_service() {
    let mut bench = hosts(&["stack=prod", "stack=prod ssd", "ssd", "stack=test ssd"]);
    let mut spec = definition("web");
    spec["placementConstraints"] =
        member_of("attribute:ssd exists")["placementConstraints"].clone();
    bench.apply_definition("web", spec);
    serve(&mut bench, "web", 2, &member_of("attribute:stack == prod"));
    assert_eq!(by_host(&bench, "web"), counts(&[("b", 2)]));
}

/// Steps 1.2 and 10.1 of `docs/ecs-rules.md`.
#[test]
fn what_no_host_is_a_member_of_says_which_expression() {
    let mut bench = hosts(&["stack=prod", "stack=prod", ""]);
    bench.edit(Kind::ContainerInstance, "c", &|v| {
        v["spec"]["status"] = json!("DRAINING")
    });
    serve(&mut bench, "web", 2, &member_of("attribute:stack == test"));
    assert_eq!(
        message(&bench, "web"),
        "2 of 2 tasks cannot be placed. Of 3 hosts, 2 do not meet `memberOf` (`attribute:stack == test` is not true of `a`), \
         1 is draining. Next try when a host changes. (service web) was unable to place a task because no container instance \
         met all of its requirements. The closest matching container-instance a encountered error \"MemberOf placement \
         constraint unsatisfied.\"."
    );
    let status = bench.service_status("web").message.unwrap();
    assert_eq!(
        status,
        "2 cannot be placed: 2 hosts do not meet `memberOf`, 1 host is draining"
    );
    // It is placed once a host is changed to meet it.
    bench.edit(Kind::ContainerInstance, "b", &|v| {
        v["spec"]["attributes"] = json!([{ "name": "stack", "value": "test" }])
    });
    bench.settle();
    assert_eq!(by_host(&bench, "web"), counts(&[("b", 2)]));
}

#[test]
fn a_constraint_holds_when_a_task_is_placed_and_moves_none_later() {
    let mut bench = hosts(&["stack=prod", "stack=test"]);
    serve(&mut bench, "web", 2, &member_of("attribute:stack == prod"));
    bench.converge(60);
    bench.edit(Kind::ContainerInstance, "a", &|v| {
        v["spec"]["attributes"] = json!([])
    });
    bench.converge(60);
    assert_eq!(by_host(&bench, "web"), counts(&[("a", 2)]));
    assert_eq!(bench.reason("web"), "SteadyState");
}

#[test]
fn running_tasks_count_counts_tasks_from_their_placement_on() {
    let mut bench = hosts(&["", ""]);
    serve(&mut bench, "web", 7, &member_of("runningTasksCount < 3"));
    assert_eq!(by_host(&bench, "web"), counts(&[("a", 3), ("b", 3)]));
}

#[test]
fn a_group_attracts_and_another_one_keeps_away() {
    let mut bench = hosts(&["", "", ""]);
    serve(&mut bench, "db", 1, &member_of("ec2InstanceId == b"));
    serve(
        &mut bench,
        "near",
        3,
        &member_of("task:group == service:db"),
    );
    serve(
        &mut bench,
        "far",
        3,
        &member_of("not(task:group in [service:db, service:near])"),
    );
    assert_eq!(by_host(&bench, "near"), counts(&[("b", 3)]));
    assert_eq!(by_host(&bench, "far"), counts(&[("a", 2), ("c", 1)]));
}

// --- what does not parse ---

#[test]
fn a_service_whose_rules_do_not_parse_is_stalled_and_says_where() {
    let rows = [
        (
            member_of("attribute:stack prod"),
            "`spec.placementConstraints[0].expression`, column 17: expected an operator such as `==` or `in` after \
             `attribute:stack`, not `prod`.",
        ),
        (
            json!({ "placementConstraints": [{ "type": "memberOf" }] }),
            "`spec.placementConstraints[0].expression` must be given with `type: memberOf`, such as `attribute:stack == prod`.",
        ),
        (
            json!({ "placementConstraints": [{ "type": "distinctInstance", "expression": "attribute:a exists" }] }),
            "`spec.placementConstraints[0].expression` must be absent with `type: distinctInstance`.",
        ),
        (
            json!({ "placementConstraints": [{}] }),
            "`spec.placementConstraints[0].type` must be `distinctInstance` or `memberOf`.",
        ),
        (
            json!({ "placementConstraints": vec![json!({ "type": "distinctInstance" }); 11] }),
            "`spec.placementConstraints` must have at most 10 constraints, not 11.",
        ),
        (
            strategy(&[("random", ""), ("spread", "zone")]),
            "`spec.placementStrategy[1].field` must be `instanceId`, `host` or `attribute:<name>` with `type: spread`, not 'zone'.",
        ),
        (
            strategy(&[("spread", "")]),
            "`spec.placementStrategy[0].field` must be `instanceId`, `host` or `attribute:<name>` with `type: spread`, not ''.",
        ),
        (
            strategy(&[("binpack", "disk")]),
            "`spec.placementStrategy[0].field` must be `cpu` or `memory` with `type: binpack`, not 'disk'.",
        ),
        (
            json!({ "placementStrategy": [{ "field": "cpu" }] }),
            "`spec.placementStrategy[0].type` must be `random`, `spread` or `binpack`.",
        ),
        (
            strategy(&[("random", ""); 6]),
            "`spec.placementStrategy` must have at most 5 steps, not 6.",
        ),
    ];
    for (more, sentence) in rows {
        let mut bench = hosts(&[""]);
        serve(&mut bench, "good", 1, &json!({}));
        serve(&mut bench, "web", 1, &more);
        assert_eq!(message(&bench, "web"), sentence);
        assert_eq!(bench.reason("web"), "InvalidSpec");
        let stalled = bench.service_status("web").conditions;
        assert!(
            stalled
                .iter()
                .any(|c| c.type_ == "Stalled" && c.message == sentence)
        );
        assert_eq!(by_host(&bench, "web"), counts(&[]));
        assert_eq!(by_host(&bench, "good"), counts(&[("a", 1)]), "others go on");
        // Mended, it runs.
        bench.apply_service("web", service("web", 1, 100, 200));
        bench.settle();
        assert_eq!(by_host(&bench, "web"), counts(&[("a", 1)]));
    }
}

#[test]
fn a_definition_whose_expression_does_not_parse_mints_no_revision() {
    let mut bench = hosts(&[""]);
    let mut spec = definition("web");
    spec["placementConstraints"] = json!([
        { "type": "memberOf", "expression": "attribute:a exists" },
        { "type": "memberOf", "expression": "agentVersion >= newest" },
    ]);
    bench.apply_definition("web", spec);
    bench.settle();
    assert_eq!(
        bench.definition_status("web").conditions[0].message,
        "`spec.placementConstraints[1].expression`, column 17: expected a version such as `1.14.5`, not `newest`."
    );
    assert!(bench.names(Kind::TaskDefinitionRevision).is_empty());
}

#[test]
fn a_task_whose_rules_do_not_parse_or_hold_nowhere_stops_with_the_sentence() {
    let mut bench = hosts(&["", ""]);
    bench.apply_definition("job", definition("job"));
    let task = |more: &Value| {
        let mut spec = json!({ "taskDefinition": "job" });
        common::merge(&mut spec, more);
        spec
    };
    bench.apply_task("bad", task(&member_of("attribute:stack ==")));
    bench.apply_task("nowhere", task(&member_of("attribute:stack == prod")));
    let distinct = json!({ "placementConstraints": [{ "type": "distinctInstance" }] });
    for name in ["one", "two", "three"] {
        bench.apply_task(name, task(&distinct));
    }
    bench.settle();
    assert_eq!(
        stopped(&bench, "bad"),
        (
            Some(StopCode::TaskFailedToStart),
            "`spec.placementConstraints[0].expression`, column 19: expected a value, but the expression ends.".to_owned()
        )
    );
    assert_eq!(
        stopped(&bench, "nowhere").1,
        "TaskFailedToStart: MemberOf placement constraint unsatisfied. Of 2 hosts, 2 do not meet `memberOf` \
         (`attribute:stack == prod` is not true of `a`)."
    );
    // In order of name, so it is `two` for which there is no third host.
    assert_eq!(
        stopped(&bench, "two").1,
        "TaskFailedToStart: DistinctInstance placement constraint unsatisfied. Of 2 hosts, 2 already run a task of \
         `family:job` (`distinctInstance`)."
    );
}

/// Step 1.11 of `docs/ecs-rules.md`.
#[test]
fn start_task_asks_for_room_and_attributes_and_for_nothing_else() {
    let mut bench = hosts(&["", ""]);
    bench.apply_definition("job", definition("job"));
    let spec = json!({
        "taskDefinition": "job", "containerInstance": "b",
        "placementConstraints": [{ "type": "memberOf", "expression": "ec2InstanceId == a" }],
    });
    bench.apply_task("named", spec);
    bench.settle();
    assert_eq!(bench.host_of("named"), "b");
}

// --- strategies ---

/// Step 1.6 of `docs/ecs-rules.md`.
#[test]
fn a_chain_reduces_step_by_step() {
    // Zones in turn, and in each zone the fullest host.
    let mut bench = hosts(&["zone=1", "zone=1", "zone=2", "zone=2"]);
    let chain = strategy(&[("spread", "attribute:zone"), ("binpack", "memory")]);
    serve(&mut bench, "web", 5, &chain);
    assert_eq!(by_host(&bench, "web"), counts(&[("a", 3), ("c", 2)]));
}

/// Step 1.6 of `docs/ecs-rules.md`.
#[test]
fn binpack_fills_the_fullest_host_that_still_has_room() {
    for (field, expected) in [("cpu", ("slow", 4)), ("memory", ("small", 4))] {
        let mut bench = Bench::default();
        bench.host("big", 4096, 8192);
        bench.host("slow", 1024, 8192);
        bench.host("small", 4096, 2048);
        serve(&mut bench, "web", 6, &strategy(&[("binpack", field)]));
        let (first, tasks) = expected;
        let placed = by_host(&bench, "web");
        assert_eq!(placed.get(first), Some(&tasks), "{field}: {placed:?}");
        assert_eq!(placed.values().sum::<usize>(), 6);
        assert_eq!(placed.len(), 2, "one host is left empty: {placed:?}");
    }
}

#[test]
fn hosts_that_lack_an_attribute_count_as_one_value_of_it() {
    let mut bench = hosts(&["rack=1", "rack=2", "", ""]);
    let chain = strategy(&[("spread", "attribute:rack"), ("spread", "instanceId")]);
    serve(&mut bench, "web", 6, &chain);
    let expected = counts(&[("a", 2), ("b", 2), ("c", 1), ("d", 1)]);
    assert_eq!(by_host(&bench, "web"), expected);
}

#[test]
fn instance_id_and_host_are_the_same() {
    for field in ["instanceId", "host"] {
        let mut bench = hosts(&["", "", ""]);
        serve(&mut bench, "web", 6, &strategy(&[("spread", field)]));
        assert_eq!(
            by_host(&bench, "web"),
            counts(&[("a", 2), ("b", 2), ("c", 2)])
        );
    }
}

/// Step 1.8 of `docs/ecs-rules.md`.
#[test]
fn without_a_strategy_tasks_spread_over_zones_then_over_hosts() {
    let zones = [1, 1, 1, 2].map(|z| format!("ecs.availability-zone={z}"));
    let zones: Vec<&str> = zones.iter().map(String::as_str).collect();
    let mut bench = hosts(&zones);
    serve(&mut bench, "web", 6, &json!({}));
    let expected = counts(&[("a", 1), ("b", 1), ("c", 1), ("d", 3)]);
    assert_eq!(by_host(&bench, "web"), expected);
}

/// Step 1.6 of `docs/ecs-rules.md`.
#[test]
fn random_draws_by_the_identity_of_the_task() {
    let draw = || {
        let mut bench = hosts(&["", "", "", ""]);
        serve(&mut bench, "web", 16, &strategy(&[("random", "")]));
        by_host(&bench, "web")
    };
    let placed = draw();
    assert_eq!(placed, draw(), "the same service, the same lots");
    assert_eq!(placed.values().sum::<usize>(), 16);
    assert!(placed.len() > 1, "{placed:?}");
    // Constraints hold for whom the lot falls on, too.
    let mut bench = hosts(&["", "ssd", "", "ssd"]);
    let mut more = member_of("attribute:ssd exists");
    common::merge(&mut more, &strategy(&[("random", "")]));
    serve(&mut bench, "web", 12, &more);
    let placed = by_host(&bench, "web");
    assert!(placed.keys().all(|h| h == "b" || h == "d"), "{placed:?}");
}

// --- groups ---

#[test]
fn tasks_are_counted_by_group_which_is_the_family_unless_they_name_one() {
    let mut bench = hosts(&["", ""]);
    bench.apply_definition("job", definition("job"));
    bench.apply_definition("other", definition("other"));
    let mut place = |name: &str, family: &str, group: Option<&str>| {
        let spec = json!({ "taskDefinition": family, "group": group });
        bench.apply_task(name, spec);
        bench.settle();
        bench.host_of(name)
    };
    // Each group spreads for itself: `three` leaves `one`, and `four` leaves `two`.
    assert_eq!(place("one", "other", None), "a");
    assert_eq!(place("two", "other", Some("batch")), "b");
    assert_eq!(place("three", "other", None), "b");
    assert_eq!(place("four", "job", Some("batch")), "a");
    assert_eq!(place("five", "job", None), "a");
    // `task:group` finds them by these names.
    let mut where_holds = |name: &str, expression: &str| {
        let mut spec = json!({ "taskDefinition": "other", "group": name });
        common::merge(&mut spec, &member_of(expression));
        bench.apply_task(name, spec);
        bench.settle();
        bench.host_of(name)
    };
    assert_eq!(where_holds("near", "task:group == family:job"), "a");
    assert_eq!(where_holds("far", "task:group != family:job"), "b");
}

// --- attributes ---

#[test]
fn an_attribute_of_the_object_wins_over_one_of_the_agent_but_no_capability_is_claimed() {
    let mut bench = hosts(&["stack=object own=1 ecs.availability-zone=z ecs.capability.task-eni"]);
    bench.edit(Kind::ContainerInstance, "a", &|v| {
        let list = v["status"]["host"]["attributes"].as_array_mut().unwrap();
        list.push(json!({ "name": "stack", "value": "agent" }));
        list.push(json!({ "name": "theirs", "value": "1" }));
    });
    let attributes = bench
        .world()
        .instances
        .values()
        .next()
        .unwrap()
        .attributes
        .clone();
    let value = |name: &str| attributes.get(name).cloned().flatten();
    assert_eq!(value("stack").as_deref(), Some("object"));
    assert_eq!(value("own").as_deref(), Some("1"));
    assert_eq!(value("theirs").as_deref(), Some("1"));
    assert_eq!(value("ecs.availability-zone").as_deref(), Some("z"));
    assert_eq!(value("ecs.os-type").as_deref(), Some("linux"));
    assert!(!attributes.contains_key("ecs.capability.task-eni"));
}

// --- scale-in ---

/// Step 2.2 of `docs/ecs-rules.md`.
#[test]
fn scale_in_takes_from_the_zone_and_the_host_with_most_tasks() {
    let mut bench = hosts(&["zone=1", "zone=1", "zone=2"]);
    let chain = strategy(&[("spread", "attribute:zone"), ("spread", "instanceId")]);
    serve(&mut bench, "web", 8, &chain);
    bench.converge(60);
    assert_eq!(
        by_host(&bench, "web"),
        counts(&[("a", 2), ("b", 2), ("c", 4)])
    );
    for (desired, expected) in [
        (6, counts(&[("a", 2), ("b", 1), ("c", 3)])),
        (4, counts(&[("a", 1), ("b", 1), ("c", 2)])),
        (3, counts(&[("a", 1), ("b", 1), ("c", 1)])),
    ] {
        bench.scale("web", desired);
        bench.converge(60);
        let left = by_host(&bench, "web");
        assert_eq!(left.get("c"), expected.get("c"), "{left:?}");
        assert_eq!(
            left.values().sum::<usize>(),
            usize::try_from(desired).unwrap()
        );
        assert!(left["a"].abs_diff(left["b"]) <= 1, "{left:?}");
    }
}

/// Step 2.3 of `docs/ecs-rules.md`.
#[test]
fn scale_in_of_a_packed_service_empties_the_host_with_most_room() {
    let mut bench = Bench::default();
    bench.host("full", 1024, 8192);
    bench.host("room", 4096, 8192);
    serve(&mut bench, "web", 6, &strategy(&[("binpack", "cpu")]));
    bench.converge(60);
    assert_eq!(by_host(&bench, "web"), counts(&[("full", 4), ("room", 2)]));
    bench.scale("web", 4);
    bench.converge(60);
    assert_eq!(by_host(&bench, "web"), counts(&[("full", 4)]));
}

/// Step 2.3 of `docs/ecs-rules.md`.
#[test]
fn scale_in_of_a_random_service_draws_and_decides_twice_alike() {
    let mut bench = hosts(&["", "", "", ""]);
    serve(&mut bench, "web", 8, &strategy(&[("random", "")]));
    bench.converge(60);
    let all = bench.tasks(holding);
    bench.scale("web", 4);
    let (one, two) = (bench.plan(), bench.plan());
    assert_eq!(format!("{:?}", one.actions), format!("{:?}", two.actions));
    bench.converge(60);
    let left = bench.tasks(holding);
    assert_eq!(left.len(), 4);
    assert_ne!(left, all[..4], "not simply the oldest stay");
}
