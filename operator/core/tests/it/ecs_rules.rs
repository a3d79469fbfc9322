//! `docs/ecs-rules.md` is a table of tests: every step of ECS' algorithms has a row with its number, and the tests that the row
//! names carry that number. `docs/scheduling.md` has an example and a test for every rule. Steps that no other file tests are
//! tested here.

use std::collections::{BTreeMap, BTreeSet};

use crate::common::Bench;
use crate::common::build::{definition, service};
use crate::common::moves::{holding, moves};
use crate::common::named_tests::{NamedTests, root};
use serde_json::{Value, json};
use tallyman_crds::capabilities::TASK_ADDRESS;
use tallyman_crds::{DesiredStatus, LastStatus, StopCode, Task};
use tallyman_operator_core::Kind;
use tallyman_operator_core::world::TASK_ADDRESSES;

const STEPS_IN: &str = "docs/ecs-rules.md";
const RULES_IN: &str = "docs/scheduling.md";
/// How many rules there are of placement, of services, and of jobs.
const RULES: [(char, usize); 3] = [('P', 19), ('S', 38), ('J', 19)];
/// How many steps each algorithm has.
const STEPS: [usize; 10] = [11, 4, 12, 10, 5, 4, 3, 5, 4, 8];

#[test]
fn every_step_has_one_row_and_its_tests_carry_its_number() {
    let text = std::fs::read_to_string(root().join(STEPS_IN)).unwrap();
    let named = NamedTests::all();
    let mut found = Vec::new();
    let mut rows = BTreeSet::new();
    for line in text.lines().filter(|line| line.starts_with("| ")) {
        let cells: Vec<&str> = line.trim_matches('|').split(" | ").map(str::trim).collect();
        let [number, rule, here, tests] = cells[..] else {
            panic!("four cells in {line}");
        };
        if number == "step" {
            continue;
        }
        found.push(number.to_owned());
        assert!(!rule.is_empty() && !here.is_empty(), "{number}");
        let names: Vec<&str> = quoted(tests).collect();
        assert!(!names.is_empty(), "{number} names no test");
        for name in names {
            let there = named.has(name);
            assert!(there, "{number}: there is no test `{name}`");
            rows.insert((number.to_owned(), name.to_owned()));
        }
    }
    let wanted: Vec<String> = (1..)
        .zip(STEPS)
        .flat_map(|(part, steps)| (1..=steps).map(move |step| format!("{part}.{step}")))
        .collect();
    assert_eq!(found, wanted, "steps of {STEPS_IN}");
    let carried = named.carried(STEPS_IN);
    let missing: Vec<_> = rows.difference(&carried).collect();
    assert!(
        missing.is_empty(),
        "named by a row, without its number: {missing:?}"
    );
    let surplus: Vec<_> = carried.difference(&rows).collect();
    assert!(
        surplus.is_empty(),
        "with a number whose row does not name it: {surplus:?}"
    );
}

#[test]
fn every_rule_has_an_example_and_its_tests_exist() {
    let text = std::fs::read_to_string(root().join(RULES_IN)).unwrap();
    let named = NamedTests::all();
    let mut rules: BTreeMap<String, String> = BTreeMap::new();
    let mut open = None;
    for line in text.lines() {
        if line.starts_with('#') {
            open = None;
        }
        if let Some(number) = line.strip_prefix("**").and_then(|l| l.split_once('.')) {
            let number = number.0.to_owned();
            assert!(!rules.contains_key(&number), "{number} is there twice");
            open = Some(number);
        }
        if let Some(number) = &open {
            let rule = rules.entry(number.clone()).or_default();
            rule.push_str(line);
            rule.push(' ');
        }
    }
    let wanted: BTreeSet<String> = RULES
        .iter()
        .flat_map(|(part, n)| (1..=*n).map(move |n| format!("{part}{n}")))
        .collect();
    let found: BTreeSet<String> = rules.keys().cloned().collect();
    assert_eq!(found, wanted, "rules of {RULES_IN}");
    for (number, rule) in rules {
        assert!(rule.contains("*Example"), "{number} has no worked example");
        let tests = rule
            .split_once("Test: ")
            .or_else(|| rule.split_once("Tests: "));
        let (_, tests) = tests.unwrap_or_else(|| panic!("{number} names no test"));
        let is_name = |text: &&str| {
            text.contains('_')
                && text
                    .chars()
                    .all(|c| c.is_ascii_lowercase() || c == '_' || c.is_ascii_digit())
        };
        let names: Vec<&str> = quoted(tests).filter(is_name).collect();
        assert!(!names.is_empty(), "{number} names no test");
        let scenarios = tests
            .split("end to end ")
            .skip(1)
            .filter_map(|after| quoted(after).next());
        for name in names.into_iter().chain(scenarios) {
            let there = named.has(name);
            assert!(there, "{number}: there is no test `{name}`");
        }
    }
}

/// What stands between backticks.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

/// Step 1.3 of `docs/ecs-rules.md`.
#[test]
fn every_check_has_its_reason_and_its_sentence() {
    let part = |path: &str, value: Value| {
        let mut spec = definition("web:1");
        *spec.pointer_mut(path).unwrap() = value;
        spec
    };
    let container = |key: &str, value: Value| {
        let mut spec = definition("web:1");
        spec["containerDefinitions"][0][key] = value;
        spec
    };
    let constraint = |value: Value| {
        let mut spec = definition("web:1");
        spec["placementConstraints"] = json!([value]);
        spec
    };
    let mut own_address = definition("web:1");
    own_address["networkMode"] = json!("awsvpc");
    let mut arm = definition("web:1");
    arm["runtimePlatform"] = json!({ "cpuArchitecture": "ARM64" });
    let quoted = |error: &str| format!("encountered error \"{error}\".");
    let rows: [(Value, u64, &str, String); 8] = [
        (definition("web:1"), 60, "AGENT", quoted("AGENT")),
        (
            arm,
            0,
            "ATTRIBUTE",
            "is missing an attribute required by your task.".to_owned(),
        ),
        (
            part("/containerDefinitions/0/cpu", json!(8192)),
            0,
            "RESOURCE:CPU",
            "has insufficient CPU units available.".to_owned(),
        ),
        (
            part("/containerDefinitions/0/memory", json!(16384)),
            0,
            "RESOURCE:MEMORY",
            "has insufficient memory available.".to_owned(),
        ),
        (
            container(
                "portMappings",
                json!([{ "containerPort": 22, "hostPort": 22 }]),
            ),
            0,
            "RESOURCE:PORTS",
            "is already using a port required by your task.".to_owned(),
        ),
        (
            container(
                "resourceRequirements",
                json!([{ "type": "GPU", "value": "1" }]),
            ),
            0,
            "RESOURCE:GPU",
            quoted("RESOURCE:GPU"),
        ),
        (own_address, 0, "RESOURCE:ENI", quoted("RESOURCE:ENI")),
        (
            constraint(json!({ "type": "memberOf", "expression": "attribute:ssd exists" })),
            0,
            "MemberOf placement constraint unsatisfied",
            quoted("MemberOf placement constraint unsatisfied."),
        ),
    ];
    for (spec, silence, reason, sentence) in rows {
        let mut bench = Bench::with_hosts(1);
        addresses(&mut bench, "host-a", 0);
        bench.silent("host-a", silence);
        bench.apply_definition("web", spec);
        bench.apply_service("web", service("web", 1, 100, 200));
        bench.apply_task("alone", json!({ "taskDefinition": "web" }));
        bench.settle();
        let said = bench.service_status("web").conditions[0].message.clone();
        let wanted = format!(
            "(service web) was unable to place a task because no container instance met all of its requirements. The closest \
             matching container-instance host-a {sentence}"
        );
        assert!(said.contains(&wanted), "{reason}: {said}");
        let events = bench.service_status("web").events;
        assert!(
            events.iter().any(|e| e.message.contains(&wanted)),
            "{reason}: {events:?}"
        );
        let stopped = bench.task("alone").status.clone().unwrap();
        assert_eq!(stopped.last_status, LastStatus::Stopped);
        let why = stopped.stopped_reason.unwrap();
        assert!(
            why.starts_with(&format!("TaskFailedToStart: {reason}. Of 1 host, 1 ")),
            "{why}"
        );
    }
}

/// The agent of a host gives tasks addresses of their own, and the host has so many.
fn addresses(bench: &mut Bench, host: &str, count: u32) {
    bench.edit(Kind::ContainerInstance, host, &|v| {
        v["spec"]["attributes"] = json!([{ "name": TASK_ADDRESSES, "value": count.to_string() }]);
        let list = v["status"]["host"]["attributes"].as_array_mut().unwrap();
        list.push(json!({ "name": TASK_ADDRESS }));
    });
}

/// Step 1.3 of `docs/ecs-rules.md`.
#[test]
fn a_host_takes_as_many_tasks_with_an_address_as_it_says() {
    let mut bench = Bench::with_hosts(1);
    addresses(&mut bench, "host-a", 2);
    let mut spec = definition("web:1");
    spec["networkMode"] = json!("awsvpc");
    bench.apply_definition("web", spec);
    bench.apply_service("web", service("web", 3, 100, 200));
    // Who needs no address is not held up.
    bench.apply_definition("plain", definition("plain:1"));
    bench.apply_service("plain", service("plain", 3, 100, 200));
    bench.settle();
    let of = |bench: &Bench, name: &str| {
        let begins = |t: &Task| t.metadata.name.as_ref().unwrap().starts_with(name);
        bench.tasks(|t| holding(t) && begins(t)).len()
    };
    assert_eq!((of(&bench, "web-"), of(&bench, "plain-")), (2, 3));
    let said = bench.service_status("web").conditions[0].message.clone();
    assert!(
        said.contains("1 of 3 tasks cannot be placed. Of 1 host, 1 has no address left for a task (attribute `tallyman.dev/task-addresses` of `host-a` is 2)."),
        "{said}"
    );
    // One that stops gives its address back, and more of them are no other host.
    addresses(&mut bench, "host-a", 3);
    bench.settle();
    assert_eq!(of(&bench, "web-"), 3);
}

/// Step 2.4 of `docs/ecs-rules.md`.
#[test]
fn scale_in_takes_from_a_draining_host_first() {
    let mut bench = Bench::with_service(2, 4, 50, 100);
    bench.pass_time(60);
    bench.settle();
    bench.edit(Kind::ContainerInstance, "host-b", &|v| {
        v["spec"]["status"] = json!("DRAINING");
    });
    bench.scale("web", 2);
    let (starts, stops) = moves(&bench.plan());
    assert!(starts.is_empty(), "{starts:?}");
    assert_eq!(stops.len(), 2);
    for task in stops {
        assert_eq!(bench.host_of(&task), "host-b");
    }
}

/// Step 3.9 of `docs/ecs-rules.md`.
#[test]
fn what_starts_a_deployment_and_what_does_not() {
    let rows = [
        ("taskDefinition", json!("api"), true),
        (
            "networkConfiguration",
            json!({ "awsvpcConfiguration": { "subnets": ["subnet-1"] } }),
            true,
        ),
        ("platformVersion", json!("LATEST"), true),
        ("desiredCount", json!(3), false),
        (
            "deploymentConfiguration",
            json!({ "minimumHealthyPercent": 0, "maximumPercent": 150 }),
            false,
        ),
        (
            "placementConstraints",
            json!([{ "type": "distinctInstance" }]),
            false,
        ),
        (
            "placementStrategy",
            json!([{ "type": "binpack", "field": "cpu" }]),
            false,
        ),
        ("healthCheckGracePeriodSeconds", json!(30), false),
        ("enableECSManagedTags", json!(true), false),
        ("propagateTags", json!("SERVICE"), false),
        ("enableExecuteCommand", json!(true), false),
        ("availabilityZoneRebalancing", json!("DISABLED"), false),
    ];
    for (field, value, starts) in rows {
        let mut bench = Bench::with_service(2, 2, 100, 200);
        bench.apply_definition("api", definition("api:1"));
        bench.settle();
        let before = bench.service_status("web").deployments[0].id.clone();
        bench.edit(Kind::Service, "web", &|v| v["spec"][field] = value.clone());
        bench.converge(60);
        let status = bench.service_status("web");
        assert_eq!(status.conditions[0].reason, "SteadyState", "{field}");
        assert_eq!(status.deployments[0].id != before, starts, "{field}");
    }
}

/// Step 10.2 of `docs/ecs-rules.md`.
#[test]
fn a_draining_host_loses_what_does_not_run_at_once() {
    let mut bench = Bench::with_hosts(2);
    bench.apply_definition("web", definition("web:1"));
    bench.apply_service("web", service("web", 2, 100, 100));
    bench.settle();
    bench.edit(Kind::ContainerInstance, "host-a", &|v| {
        v["spec"]["status"] = json!("DRAINING");
    });
    let (_, stops) = moves(&bench.plan());
    let there = bench.tasks(|t| t.spec.container_instance.as_deref() == Some("host-a"));
    assert_eq!((there.len(), stops), (1, there));
}

/// Steps 10.4 and 10.6 of `docs/ecs-rules.md`.
#[test]
fn a_draining_host_keeps_tasks_of_nobody_and_may_come_back() {
    let mut bench = Bench::with_service(2, 2, 0, 100);
    bench.apply_task(
        "alone",
        json!({ "taskDefinition": "web", "containerInstance": "host-a" }),
    );
    bench.converge(60);
    let status = |bench: &mut Bench, status: &str| {
        bench.edit(Kind::ContainerInstance, "host-a", &|v| {
            v["spec"]["status"] = json!(status)
        });
        bench.converge(60);
    };
    let on_a = |bench: &Bench| -> BTreeSet<String> {
        let wanted = |t: &Task| holding(t) && t.spec.desired_status == DesiredStatus::Running;
        let all = bench.tasks(wanted).into_iter();
        all.filter(|t| bench.host_of(t) == "host-a").collect()
    };
    assert_eq!(on_a(&bench).len(), 2);
    status(&mut bench, "DRAINING");
    assert_eq!(on_a(&bench), BTreeSet::from(["alone".to_owned()]));
    status(&mut bench, "ACTIVE");
    bench.scale("web", 4);
    bench.converge(60);
    assert!(on_a(&bench).len() > 1, "{:?}", on_a(&bench));
}

/// Step 10.7 of `docs/ecs-rules.md`.
#[test]
fn a_host_that_is_deleted_by_force_stops_its_tasks_at_once() {
    // One host, and nowhere else to go: without force it would wait for ever.
    let mut bench = Bench::with_service(1, 2, 100, 100);
    let mut log = definition("log:1");
    log["containerDefinitions"][0]["cpu"] = json!(64);
    bench.apply_definition("log", log);
    let daemon = json!({ "taskDefinition": "log", "schedulingStrategy": "DAEMON" });
    bench.apply_service("log", daemon);
    bench.apply_task("mine", json!({ "taskDefinition": "web:1" }));
    bench.converge(60);
    bench.delete(Kind::ContainerInstance, "host-a");
    bench.converge(60);
    assert_eq!(bench.tasks(holding).len(), 3, "all but the user's own task");
    let said = &bench.instance("host-a").status.as_ref().unwrap().conditions[0].message;
    assert!(
        said.contains("`tallyman.dev/forceDeregistration: \"true\"`"),
        "{said}"
    );

    bench.edit(Kind::ContainerInstance, "host-a", &|v| {
        v["metadata"]["annotations"] = json!({ "tallyman.dev/forceDeregistration": "true" });
    });
    bench.settle();
    let wanted = |t: &Task| holding(t) && t.spec.desired_status == DesiredStatus::Running;
    assert!(bench.tasks(wanted).is_empty());
    for task in ["web-000001", "log-000001"] {
        let spec = &bench.task(task).spec;
        assert_eq!(spec.stop_code, Some(StopCode::UserInitiated));
        assert_eq!(
            spec.stopped_reason.as_deref(),
            Some("Container instance deregistration forced by user")
        );
    }
    bench.converge(60);
    assert!(bench.names(Kind::ContainerInstance).is_empty());
    assert!(bench.tasks(holding).is_empty());
}

/// Step 10.7 of `docs/ecs-rules.md`.
#[test]
fn tasks_of_a_host_that_is_deleted_by_force_are_replaced_elsewhere() {
    let mut bench = Bench::with_service(2, 4, 100, 200);
    let on_a = |bench: &Bench| {
        let all = bench.tasks(holding).into_iter();
        all.filter(|t| bench.host_of(t) == "host-a")
            .collect::<Vec<_>>()
    };
    bench.edit(Kind::ContainerInstance, "host-a", &|v| {
        v["metadata"]["annotations"] = json!({ "tallyman.dev/forceDeregistration": "true" });
    });
    bench.settle();
    assert_eq!(on_a(&bench).len(), 2, "it says nothing yet");
    bench.delete(Kind::ContainerInstance, "host-a");
    // They stop, and their replacements start, in one pass.
    let (starts, stops) = moves(&bench.plan());
    assert_eq!((starts.len(), stops), (2, on_a(&bench)));
    // A deployment that has to wait for healthy tasks does not count those that go.
    bench.roll("web:2");
    bench.converge(60);
    assert_eq!(bench.names(Kind::ContainerInstance), ["host-b"]);
    assert_eq!(bench.tasks(holding).len(), 4);
    assert_eq!(bench.reason("web"), "SteadyState");
}

/// Step 3.12 of `docs/ecs-rules.md`.
#[test]
fn percentages_that_ecs_does_not_take_are_refused() {
    // minimum, maximum, taken
    let rows = [
        (100, 200, true),
        (0, 100, true),
        (100, 100, true),
        (150, 200, true),
        (0, 50, true),
        (50, 50, false),
        (60, 50, false),
        (100, 99, false),
        (-1, 100, false),
    ];
    for (minimum, maximum, taken) in rows {
        let mut bench = Bench::with_hosts(1);
        bench.apply_definition("web", definition("web:1"));
        bench.apply_service("web", service("web", 1, minimum, maximum));
        bench.settle();
        let refused = bench.reason("web") == "InvalidSpec";
        assert_eq!(!refused, taken, "{minimum} and {maximum}");
    }
}
