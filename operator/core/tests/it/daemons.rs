//! DAEMON services: a test per rule (ECS daemon scheduling strategy).

use std::collections::BTreeMap;

use crate::common::Bench;
use crate::common::build::{definition, service};
use crate::common::moves::holding;
use serde_json::{Value, json};
use tallyman_crds::{HealthStatus, StopCode, Task};
use tallyman_operator_core::Kind;

fn daemon(minimum: i64) -> Value {
    json!({
        "taskDefinition": "log", "schedulingStrategy": "DAEMON",
        "deploymentConfiguration": { "minimumHealthyPercent": minimum, "maximumPercent": 100 }
    })
}

/// Daemon `log` on `hosts` hosts, converged.
fn with_daemon(hosts: u8, minimum: i64) -> Bench {
    let mut bench = Bench::with_hosts(hosts);
    bench.apply_definition("log", definition("log:1"));
    bench.apply_service("log", daemon(minimum));
    bench.converge(60);
    bench
}

/// Live tasks of `service` by host.
fn by_host(bench: &Bench, service: &str) -> BTreeMap<String, Vec<String>> {
    let mine = |t: &Task| {
        let labels = t.metadata.labels.as_ref();
        let of = labels.and_then(|l| l.get(tallyman_crds::labels::SERVICE));
        of.is_some_and(|of| of == service)
    };
    let mut found: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for name in bench.tasks(|t| holding(t) && mine(t)) {
        found.entry(bench.host_of(&name)).or_default().push(name);
    }
    found
}

fn hosts_of(bench: &Bench, service: &str) -> Vec<String> {
    by_host(bench, service).into_keys().collect()
}

/// Step 8.1 of `docs/ecs-rules.md`.
#[test]
fn every_host_has_one_task_and_a_host_that_joins_gets_one() {
    let mut bench = with_daemon(3, 0);
    assert!(
        by_host(&bench, "log")
            .values()
            .all(|tasks| tasks.len() == 1)
    );
    let status = bench.service_status("log");
    assert_eq!((status.desired_count, status.running_count), (3, 3));
    assert_eq!(status.conditions[0].reason, "SteadyState");
    bench.host("host-d", 4096, 8192);
    bench.converge(60);
    assert_eq!(
        hosts_of(&bench, "log"),
        ["host-a", "host-b", "host-c", "host-d"]
    );
    assert_eq!(bench.service_status("log").desired_count, 4);
}

fn attribute(bench: &mut Bench, host: &str, list: Value) {
    bench.edit(Kind::ContainerInstance, host, &|v| {
        v["spec"]["attributes"] = list.clone()
    });
}

/// Step 8.3 of `docs/ecs-rules.md`.
#[test]
fn only_hosts_that_meet_the_constraints_have_one() {
    let mut bench = Bench::with_hosts(2);
    bench.apply_definition("log", definition("log:1"));
    let mut spec = daemon(0);
    spec["placementConstraints"] =
        json!([{ "type": "memberOf", "expression": "attribute:stack == prod" }]);
    bench.apply_service("log", spec);
    bench.converge(60);
    assert_eq!(hosts_of(&bench, "log"), Vec::<String>::new());
    assert_eq!(bench.reason("log"), "SteadyState", "no host is to have one");
    attribute(
        &mut bench,
        "host-b",
        json!([{ "name": "stack", "value": "prod" }]),
    );
    bench.converge(60);
    assert_eq!(hosts_of(&bench, "log"), ["host-b"]);
    // And it goes when the host no longer does.
    attribute(
        &mut bench,
        "host-b",
        json!([{ "name": "stack", "value": "test" }]),
    );
    bench.settle();
    let stopping = by_host(&bench, "log")["host-b"][0].clone();
    let reason = bench.task(&stopping).spec.stopped_reason.clone().unwrap();
    assert!(
        reason.contains("no longer meets the placement constraints"),
        "{reason}"
    );
    bench.converge(60);
    assert_eq!(hosts_of(&bench, "log"), Vec::<String>::new());
}

#[test]
fn a_host_that_lacks_an_attribute_keeps_its_task_and_gets_none() {
    let mut bench = Bench::with_hosts(2);
    bench.set_policy(json!({ "privileged": true }));
    let mut spec = definition("log:1");
    spec["containerDefinitions"][0]["privileged"] = json!(true);
    let privileged = "com.amazonaws.ecs.capability.privileged-container";
    let found = |bench: &mut Bench, list: Value| {
        bench.edit(Kind::ContainerInstance, "host-b", &|v| {
            v["status"]["host"]["attributes"] = list.clone();
        });
    };
    found(&mut bench, json!([{ "name": privileged }]));
    bench.apply_definition("log", spec);
    bench.apply_service("log", daemon(0));
    bench.converge(60);
    assert_eq!(hosts_of(&bench, "log"), ["host-b"]);
    // An agent that is just starting may not have found everything yet.
    found(&mut bench, json!([]));
    bench.converge(60);
    assert_eq!(hosts_of(&bench, "log"), ["host-b"]);
}

/// Step 8.2 of `docs/ecs-rules.md`.
#[test]
fn a_daemon_has_room_before_replicas() {
    let mut bench = Bench::default();
    bench.apply_definition("log", definition("log:1"));
    bench.apply_definition("app", definition("app:1"));
    bench.apply_service("log", daemon(0));
    bench.apply_service("app", service("app", 9, 100, 200));
    bench.settle();
    // Room for four tasks.
    bench.host("host-a", 1024, 8192);
    bench.converge(60);
    assert_eq!(by_host(&bench, "log")["host-a"].len(), 1);
    assert_eq!(by_host(&bench, "app")["host-a"].len(), 3);
    // Also while it is held back, because it fails to start.
    for _ in 0..4 {
        let name = by_host(&bench, "log")["host-a"][0].clone();
        bench.fail(&name, StopCode::TaskFailedToStart);
        bench.settle();
        if by_host(&bench, "log").is_empty() {
            break;
        }
    }
    bench.settle();
    assert!(by_host(&bench, "log").is_empty(), "the throttle engages");
    assert_eq!(by_host(&bench, "app")["host-a"].len(), 3);
}

#[test]
fn a_host_that_fails_does_not_hold_up_the_others() {
    let mut bench = with_daemon(2, 0);
    for _ in 0..8 {
        if let Some(tasks) = by_host(&bench, "log").get("host-a") {
            let name = tasks[0].clone();
            let code = match bench
                .task(&name)
                .status
                .as_ref()
                .and_then(|s| s.started_at.clone())
            {
                Some(_) => StopCode::EssentialContainerExited,
                None => StopCode::TaskFailedToStart,
            };
            bench.fail(&name, code);
        }
        bench.settle();
    }
    assert_eq!(hosts_of(&bench, "log"), ["host-b"], "host-a is held back");
    bench.host("host-c", 4096, 8192);
    bench.settle();
    assert_eq!(hosts_of(&bench, "log"), ["host-b", "host-c"]);
}

/// Step 8.4 of `docs/ecs-rules.md`.
#[test]
fn a_roll_stops_before_it_starts_and_keeps_the_minimum() {
    // Hosts, minimum -> most hosts without a task that counts at any time
    for (hosts, minimum, most) in [(4, 0, 4), (4, 50, 2), (4, 75, 1), (3, 50, 1)] {
        let mut bench = with_daemon(hosts, minimum);
        let mut out = 0;
        bench.apply_definition("log", definition("log:2"));
        for _ in 0..40 {
            bench.settle();
            let counts = |t: &Task| {
                let started = t.status.as_ref().and_then(|s| s.started_at.clone());
                let mature =
                    started.is_some_and(|at| bench.now.duration_since(at.0).as_secs() >= 40);
                holding(t) && mature && t.spec.stop_code.is_none()
            };
            out = out.max(usize::from(hosts) - bench.tasks(counts).len());
            bench.stop_all();
            bench.settle();
            bench.run_all();
            bench.settle();
            bench.pass_time(15);
        }
        assert_eq!(out, most, "{hosts} hosts at {minimum}");
        let new = bench.tasks(|t| holding(t) && t.spec.task_definition == "log:2");
        assert_eq!(new.len(), usize::from(hosts));
        assert_eq!(bench.reason("log"), "SteadyState");
    }
}

/// Step 8.4 of `docs/ecs-rules.md`.
#[test]
fn a_roll_that_may_stop_none_says_so() {
    let mut bench = with_daemon(3, 100);
    bench.apply_definition("log", definition("log:2"));
    bench.converge(60);
    assert_eq!(bench.reason("log"), "DeploymentConfigurationDeadlock");
}

fn drain(bench: &mut Bench, host: &str, on: bool) {
    bench.edit(Kind::ContainerInstance, host, &|v| {
        v["spec"]["status"] = json!(if on { "DRAINING" } else { "ACTIVE" });
    });
}

/// Steps 8.3 and 10.5 of `docs/ecs-rules.md`.
#[test]
fn a_draining_host_loses_its_daemon_last() {
    let mut bench = with_daemon(2, 0);
    bench.apply_definition("app", definition("app:1"));
    bench.apply_service("app", service("app", 2, 100, 200));
    bench.converge(60);
    bench.apply_task(
        "job",
        json!({ "taskDefinition": "app", "containerInstance": "host-a" }),
    );
    bench.converge(60);
    drain(&mut bench, "host-a", true);
    bench.converge(60);
    assert_eq!(hosts_of(&bench, "app"), ["host-b"]);
    assert_eq!(
        hosts_of(&bench, "log"),
        ["host-a", "host-b"],
        "the job is still there"
    );
    assert_eq!(bench.reason("log"), "SteadyState");
    bench.fail("job", StopCode::EssentialContainerExited);
    bench.converge(60);
    assert_eq!(hosts_of(&bench, "log"), ["host-b"]);
    assert_eq!(bench.service_status("log").desired_count, 1);
    drain(&mut bench, "host-a", false);
    bench.converge(60);
    assert_eq!(hosts_of(&bench, "log"), ["host-a", "host-b"]);
}

/// Step 8.5 of `docs/ecs-rules.md`.
#[test]
fn a_host_that_is_deleted_loses_its_daemon_last_and_goes() {
    let mut bench = with_daemon(2, 0);
    bench.apply_definition("app", definition("app:1"));
    bench.apply_service("app", service("app", 2, 100, 200));
    bench.converge(60);
    bench.delete(Kind::ContainerInstance, "host-a");
    bench.converge(60);
    assert_eq!(bench.names(Kind::ContainerInstance), ["host-b"]);
    assert_eq!(hosts_of(&bench, "log"), ["host-b"]);
}

/// Step 8.1 of `docs/ecs-rules.md`.
#[test]
fn a_host_that_is_away_keeps_its_task_and_gets_none() {
    let mut bench = with_daemon(2, 0);
    bench.silent("host-a", 60);
    bench.settle();
    assert_eq!(hosts_of(&bench, "log"), ["host-a", "host-b"]);
    assert_eq!(bench.service_status("log").desired_count, 2);
    let name = by_host(&bench, "log")["host-a"][0].clone();
    bench.fail(&name, StopCode::EssentialContainerExited);
    bench.settle();
    assert_eq!(hosts_of(&bench, "log"), ["host-b"]);
    bench.silent("host-a", 0);
    bench.converge(60);
    assert_eq!(hosts_of(&bench, "log"), ["host-a", "host-b"]);
}

/// Step 5.5 of `docs/ecs-rules.md`.
#[test]
fn an_unhealthy_daemon_is_stopped_first_one_at_a_time() {
    let mut bench = with_daemon(3, 0);
    let names: Vec<String> = by_host(&bench, "log").into_values().flatten().collect();
    for name in &names {
        bench.health(name, HealthStatus::Unhealthy);
    }
    bench.settle();
    let stopping = |t: &Task| holding(t) && t.spec.stop_code.is_some();
    assert_eq!(bench.tasks(stopping).len(), 1);
    bench.converge(60);
    assert_eq!(
        bench
            .tasks(|t| holding(t) && !names.contains(t.metadata.name.as_ref().unwrap()))
            .len(),
        3
    );
}

#[test]
fn a_host_without_room_says_so_and_the_others_have_theirs() {
    let mut bench = Bench::with_hosts(2);
    bench.host("host-z", 128, 8192);
    bench.apply_definition("log", definition("log:1"));
    bench.apply_service("log", daemon(0));
    bench.settle();
    bench.run_all();
    bench.settle();
    assert_eq!(hosts_of(&bench, "log"), ["host-a", "host-b"]);
    let status = bench.service_status("log");
    assert_eq!(status.conditions[0].reason, "TasksNotPlaceable");
    let message = &status.conditions[0].message;
    assert!(
        message.contains("1 of 3 tasks cannot be placed"),
        "{message}"
    );
    assert!(message.contains("on `host-z`"), "{message}");
}

/// Step 3.12 of `docs/ecs-rules.md`.
#[test]
fn what_a_daemon_cannot_have_is_refused_with_a_sentence() {
    let mut bench = Bench::with_hosts(1);
    bench.apply_definition("log", definition("log:1"));
    let mut spec = daemon(0);
    spec["deploymentConfiguration"]["maximumPercent"] = json!(200);
    bench.apply_service("log", spec);
    bench.settle();
    let status = bench.service_status("log");
    assert_eq!(status.conditions[0].reason, "InvalidSpec");
    assert!(
        status.conditions[0]
            .message
            .contains("`maximumPercent` 100")
    );
    let mut plain = daemon(0);
    plain
        .as_object_mut()
        .unwrap()
        .remove("deploymentConfiguration");
    bench.apply_service("log", plain);
    bench.converge(60);
    assert_eq!(
        hosts_of(&bench, "log"),
        ["host-a"],
        "the defaults are those of ECS"
    );
}

/// Step 8.2 of `docs/ecs-rules.md`.
#[test]
fn on_a_fresh_host_daemons_run_before_replicas() {
    for broken in [false, true] {
        let mut bench = Bench::default();
        bench.apply_definition("log", definition("log:1"));
        bench.apply_definition("app", definition("app:1"));
        bench.apply_service("log", daemon(0));
        bench.apply_service("app", service("app", 2, 100, 200));
        bench.settle();
        bench.host("host-a", 4096, 8192);
        bench.settle();
        assert_eq!(by_host(&bench, "app")["host-a"].len(), 2, "they are placed");
        let told = |bench: &Bench| -> Vec<String> {
            let tasks = &bench.host_plan("host-a").tasks;
            tasks.iter().map(|t| t.name.clone()).collect()
        };
        assert_eq!(told(&bench), ["log-000001"], "and wait");
        assert!(bench.plan().wake_at.unwrap() <= bench.now + jiff::SignedDuration::from_secs(30));
        if broken {
            // A daemon that does not start holds nothing up.
            bench.pass_time(31);
        } else {
            bench.run("log-000001");
        }
        bench.settle();
        assert_eq!(told(&bench), ["app-000001", "app-000002", "log-000001"]);
        // Once something runs there, nothing waits for a daemon any more.
        bench.run_all();
        bench.apply_definition("log", definition("log:2"));
        bench.settle();
        bench.stop_all();
        bench.scale("app", 3);
        bench.settle();
        assert!(told(&bench).contains(&"app-000003".to_owned()));
    }
}
