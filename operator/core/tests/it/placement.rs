//! Where a task goes, and the sentence when it goes nowhere (ECS task placement).

use crate::common::Bench;
use crate::common::build::{definition, service};
use serde_json::json;
use tallyman_crds::{LastStatus, StopCode};
use tallyman_operator_core::Kind;

fn hosts(bench: &Bench) -> Vec<String> {
    bench
        .names(Kind::Task)
        .iter()
        .map(|t| bench.host_of(t))
        .collect()
}

fn message(bench: &Bench, service: &str) -> String {
    bench.service_status(service).conditions[0].message.clone()
}

/// Step 1.8 of `docs/ecs-rules.md`.
#[test]
fn tasks_spread_over_hosts() {
    let mut bench = Bench::with_hosts(3);
    bench.apply_definition("web", definition("a"));
    bench.apply_service("web", service("web", 7, 100, 200));
    bench.settle();
    let mut counts = std::collections::BTreeMap::new();
    for host in hosts(&bench) {
        *counts.entry(host).or_insert(0) += 1;
    }
    assert_eq!(counts.into_values().collect::<Vec<_>>(), [3, 2, 2]);
}

/// Step 1.7 of `docs/ecs-rules.md`.
#[test]
fn a_service_spreads_by_its_own_tasks_first_and_then_by_all() {
    let mut bench = Bench::with_hosts(2);
    bench.apply_definition("a", definition("a"));
    bench.apply_definition("b", definition("b"));
    bench.apply_service("a", service("a", 1, 100, 200));
    bench.apply_service("b", service("b", 1, 100, 200));
    bench.settle();
    assert_eq!(hosts(&bench), ["host-a", "host-b"]);
}

#[test]
fn a_fixed_port_is_used_once_on_a_host() {
    let mut bench = Bench::with_hosts(2);
    let mut spec = definition("a");
    spec["containerDefinitions"][0]["portMappings"] =
        json!([{ "containerPort": 80, "hostPort": 8080 }]);
    bench.apply_definition("web", spec);
    bench.apply_service("web", service("web", 3, 100, 200));
    bench.settle();
    assert_eq!(hosts(&bench), ["host-a", "host-b"]);
    assert_eq!(
        message(&bench, "web"),
        "1 of 3 tasks cannot be placed. Of 2 hosts, 2 already use a port of the task (port 8080 on `host-a`). \
         Next try when a host changes. (service web) was unable to place a task because no container instance met all \
         of its requirements. The closest matching container-instance host-a is already using a port required by your \
         task."
    );
}

#[test]
fn a_port_that_the_host_itself_uses_is_taken() {
    let mut bench = Bench::with_hosts(1);
    let mut spec = definition("a");
    spec["containerDefinitions"][0]["portMappings"] =
        json!([{ "containerPort": 22, "hostPort": 22 }]);
    bench.apply_definition("web", spec);
    bench.apply_service("web", service("web", 1, 100, 200));
    bench.settle();
    assert_eq!(bench.reason("web"), "TasksNotPlaceable");
}

/// Step 1.5 of `docs/ecs-rules.md`.
#[test]
fn what_cannot_be_placed_is_explained_with_counts() {
    let mut bench = Bench::with_hosts(5);
    bench.host("small", 4096, 300);
    bench.host("slow", 100, 8192);
    bench.host("new", 0, 0);
    bench.edit(Kind::ContainerInstance, "new", &|v| {
        v["status"]["host"] = json!(null)
    });
    bench.silent("host-a", 60);
    bench.edit(Kind::ContainerInstance, "host-b", &|v| {
        v["spec"]["status"] = json!("DRAINING")
    });
    bench.edit(Kind::ContainerInstance, "host-c", &|v| {
        v["status"]["host"]["engineReachable"] = json!(false)
    });
    bench.edit(Kind::ContainerInstance, "host-d", &|v| {
        v["status"]["host"]["attributes"] = json!([])
    });
    bench.delete(Kind::ContainerInstance, "host-e");
    let mut spec = definition("a");
    spec["containerDefinitions"][0]["healthCheck"] = json!({ "command": ["CMD", "true"] });
    bench.apply_definition("web", spec);
    bench.apply_service("web", service("web", 2, 100, 200));
    bench.settle();
    assert_eq!(
        message(&bench, "web").split(" (service").next().unwrap(),
        "2 of 2 tasks cannot be placed. Of 7 hosts, 1 has not registered yet, 1 is draining, 1 is not connected, 1 cannot \
         reach its engine, 1 lacks an attribute (`ecs.capability.container-health-check` on `host-d`), 1 lacks CPU (a \
         task needs 256 units, the most free is 100 on `slow`), 1 lacks memory (a task needs 512 MiB, the most free is \
         300 on `small`). Next try when a host changes."
    );
    assert!(
        bench
            .service_status("web")
            .message
            .unwrap()
            .starts_with("2 cannot be placed: 1 host has not registered yet")
    );
    let note = "(service web) was unable to place a task because no container instance met all of its requirements. \
                The closest matching container-instance small has insufficient memory available.";
    assert!(message(&bench, "web").ends_with(note));
}

#[test]
fn a_host_must_have_what_the_definition_requires_with_its_value() {
    let mut bench = Bench::with_hosts(3);
    let has = |bench: &mut Bench, host: &str, name: &str, value: &str| {
        bench.edit(Kind::ContainerInstance, host, &|v| {
            v["status"]["host"]["attributes"] = json!([{ "name": name, "value": value }]);
        });
    };
    has(&mut bench, "host-a", "ecs.cpu-architecture", "x86_64");
    has(&mut bench, "host-b", "ecs.cpu-architecture", "arm64");
    let mut spec = definition("a");
    spec["runtimePlatform"] = json!({ "cpuArchitecture": "ARM64" });
    bench.apply_definition("web", spec.clone());
    bench.apply_service("web", service("web", 2, 100, 200));
    bench.settle();
    assert_eq!(hosts(&bench), ["host-b", "host-b"]);
    spec["containerDefinitions"][0]["privileged"] = json!(true);
    bench.set_policy(json!({ "privileged": true }));
    bench.apply_definition("other", spec);
    bench.apply_service("other", service("other", 1, 100, 200));
    bench.settle();
    assert_eq!(
        message(&bench, "other"),
        "1 of 1 tasks cannot be placed. Of 3 hosts, 3 lack an attribute \
         (`com.amazonaws.ecs.capability.privileged-container` on `host-a`). Next try when a host changes. (service other) \
         was unable to place a task because no container instance met all of its requirements. The closest matching \
         container-instance host-a is missing an attribute required by your task."
    );
    bench.apply_task(
        "once",
        json!({ "taskDefinition": "other", "containerInstance": "host-a" }),
    );
    bench.settle();
    let stopped = status(&bench, "once").2;
    assert!(
        stopped.contains("ATTRIBUTE") && stopped.contains("privileged-container"),
        "{stopped}"
    );
}

#[test]
fn an_empty_cluster_says_so() {
    let mut bench = Bench::default();
    bench.apply_definition("web", definition("a"));
    bench.apply_service("web", service("web", 1, 100, 200));
    bench.settle();
    assert_eq!(
        bench.service_status("web").message.unwrap(),
        "1 cannot be placed: the cluster has no hosts"
    );
    assert!(
        message(&bench, "web")
            .contains("Reason: No Container Instances were found in your cluster.")
    );
    bench.host("late", 1024, 1024);
    bench.converge(1);
    assert_eq!(bench.reason("web"), "SteadyState");
}

/// Step 1.9 of `docs/ecs-rules.md`.
#[test]
fn what_fits_is_started_and_the_rest_is_counted() {
    let mut bench = Bench::default();
    bench.host("one", 4096, 1100);
    bench.apply_definition("web", definition("a"));
    bench.apply_service("web", service("web", 5, 100, 200));
    bench.settle();
    assert_eq!(bench.names(Kind::Task).len(), 2);
    assert!(
        message(&bench, "web")
            .starts_with("3 of 5 tasks cannot be placed. Of 1 host, 1 lacks memory")
    );
}

/// Step 1.9 of `docs/ecs-rules.md`.
#[test]
fn what_a_stopping_task_holds_is_free_only_once_it_stopped() {
    let mut bench = Bench::default();
    bench.host("one", 4096, 600);
    bench.apply_definition("web", definition("a"));
    bench.apply_service("web", service("web", 1, 0, 200));
    bench.converge(60);
    bench.roll("b");
    bench.settle();
    assert_eq!(
        bench.names(Kind::Task).len(),
        1,
        "web-000001 is stopping and holds its memory"
    );
    bench.converge(60);
    assert_eq!(bench.reason("web"), "SteadyState");
}

// --- a user's own tasks ---

fn status(bench: &Bench, task: &str) -> (LastStatus, Option<StopCode>, String) {
    let s = bench.task(task).status.clone().unwrap();
    (
        s.last_status,
        s.stop_code,
        s.stopped_reason.unwrap_or_default(),
    )
}

/// Step 1.11 of `docs/ecs-rules.md`.
#[test]
fn start_task_runs_on_the_host_that_it_names() {
    let mut bench = Bench::with_hosts(2);
    bench.apply_definition("job", definition("a"));
    bench.apply_task(
        "mine",
        json!({ "taskDefinition": "job", "containerInstance": "host-b" }),
    );
    bench.settle();
    let t = bench.task("mine");
    assert_eq!(
        t.status.as_ref().unwrap().container_instance.as_deref(),
        Some("host-b")
    );
    assert_eq!(
        t.metadata.finalizers.as_deref().unwrap(),
        ["tallyman.dev/stop"]
    );
    assert_eq!(bench.host_plan("host-b").tasks[0].name, "mine");
    bench.converge(1);
    bench.delete(Kind::Task, "mine");
    bench.converge(1);
    assert!(bench.names(Kind::Task).is_empty());
}

#[test]
fn run_task_of_one_is_placed() {
    let mut bench = Bench::with_hosts(2);
    bench.apply_definition("job", definition("a"));
    for name in ["one", "two"] {
        bench.apply_task(name, json!({ "taskDefinition": "job:1" }));
    }
    bench.settle();
    let mut hosts = hosts(&bench);
    hosts.sort();
    assert_eq!(hosts, ["host-a", "host-b"]);
}

/// Step 1.10 of `docs/ecs-rules.md`.
#[test]
fn a_task_that_does_not_fit_fails_with_the_reason_of_ecs() {
    let mut bench = Bench::default();
    bench.host("one", 4096, 300);
    bench.apply_definition("job", definition("a"));
    bench.apply_task(
        "named",
        json!({ "taskDefinition": "job", "containerInstance": "one" }),
    );
    bench.apply_task(
        "nowhere",
        json!({ "taskDefinition": "job", "containerInstance": "two" }),
    );
    bench.apply_task("any", json!({ "taskDefinition": "job" }));
    bench.settle();
    let (last, code, reason) = status(&bench, "named");
    assert_eq!(
        (last, code),
        (LastStatus::Stopped, Some(StopCode::TaskFailedToStart))
    );
    assert_eq!(
        reason,
        "TaskFailedToStart: RESOURCE:MEMORY. Of 1 host, 1 lacks memory (a task needs 512 MiB, the most free is 300 on `one`)."
    );
    assert!(
        status(&bench, "any")
            .2
            .starts_with("TaskFailedToStart: RESOURCE:MEMORY.")
    );
    assert!(
        status(&bench, "nowhere")
            .2
            .contains("`spec.containerInstance` names `two`, which is not in cluster `default`")
    );
}

#[test]
fn of_two_tasks_that_name_one_host_with_room_for_one_one_runs() {
    let mut bench = Bench::default();
    bench.host("one", 4096, 600);
    bench.apply_definition("job", definition("a"));
    for name in ["first", "second"] {
        bench.apply_task(
            name,
            json!({ "taskDefinition": "job", "containerInstance": "one" }),
        );
    }
    bench.settle();
    assert_eq!(status(&bench, "first").0, LastStatus::Pending);
    assert_eq!(status(&bench, "second").0, LastStatus::Stopped);
}

#[test]
fn a_task_that_was_not_admitted_holds_nothing() {
    let mut bench = Bench::default();
    bench.host("one", 4096, 600);
    bench.apply_definition("web", definition("a"));
    bench.apply_task(
        "waits",
        json!({ "taskDefinition": "missing", "containerInstance": "one" }),
    );
    bench.apply_service("web", service("web", 1, 100, 200));
    bench.settle();
    assert_eq!(bench.reason("web"), "Starting");
}

#[test]
fn tasks_with_unsupported_fields_or_dead_revisions_fail() {
    let mut bench = Bench::with_hosts(1);
    bench.apply_definition("job", definition("a"));
    bench.settle();
    bench.apply_task(
        "role",
        json!({ "taskDefinition": "job", "overrides": { "ephemeralStorage": { "sizeInGiB": 30 } } }),
    );
    bench.settle();
    assert!(
        status(&bench, "role")
            .2
            .contains("`spec.overrides.ephemeralStorage`")
    );
    bench.apply_service("keeps", service("job:1", 1, 100, 200));
    bench.converge(1);
    bench.delete(Kind::TaskDefinitionRevision, "job-1");
    bench.apply_task("dead", json!({ "taskDefinition": "job:1" }));
    bench.settle();
    assert!(status(&bench, "dead").2.contains("INACTIVE"));
}

#[test]
fn a_task_waits_for_its_definition() {
    let mut bench = Bench::with_hosts(1);
    bench.apply_task("early", json!({ "taskDefinition": "job" }));
    bench.settle();
    assert_eq!(status(&bench, "early").0, LastStatus::Pending);
    bench.apply_definition("job", definition("a"));
    bench.settle();
    assert_eq!(bench.host_of("early"), "host-a");
}

#[test]
fn a_task_that_is_stopped_before_it_was_placed_ends_at_once() {
    let mut bench = Bench::with_hosts(1);
    bench.apply_task("early", json!({ "taskDefinition": "job" }));
    bench.settle();
    bench.edit(Kind::Task, "early", &|v| {
        v["spec"]["desiredStatus"] = json!("STOPPED")
    });
    bench.settle();
    assert_eq!(status(&bench, "early").0, LastStatus::Stopped);
    bench.delete(Kind::Task, "early");
    bench.converge(1);
    assert!(bench.names(Kind::Task).is_empty());
}
