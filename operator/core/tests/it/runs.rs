//! Runs (ECS RunTask): started once, failures told as ECS tells them, tried again, waited for, ended. A row per rule of
//! docs/scheduling.md.

use crate::common::Bench;
use crate::common::build::definition;
use crate::common::moves::{holding, moves};
use serde_json::json;
use tallyman_crds::{LastStatus, StopCode, labels};
use tallyman_operator_core::{Action, Kind};

fn alive(bench: &Bench) -> Vec<String> {
    bench.tasks(holding)
}

/// J1.
#[test]
fn a_run_starts_its_copies_once_under_derived_names() {
    let mut bench = Bench::with_job(2);
    bench.apply_run(
        "etl",
        json!({ "count": 3, "startedBy": "ci", "referenceId": "r-7", "tags": [{ "key": "team", "value": "data" }],
                "overrides": { "containerOverrides": [{ "name": "app", "command": ["now"] }] } }),
    );
    bench.settle();
    assert_eq!(alive(&bench), ["etl-1", "etl-2", "etl-3"]);
    let task = bench.task("etl-2");
    assert_eq!(task.spec.group.as_deref(), Some("family:job"));
    assert_eq!(task.spec.task_definition, "job:1");
    assert_eq!(task.spec.started_by.as_deref(), Some("ci"));
    assert_eq!(task.spec.reference_id.as_deref(), Some("r-7"));
    assert_eq!(task.spec.tags.len(), 1);
    assert!(task.spec.overrides.is_some() && task.spec.container_instance.is_some());
    assert_eq!(
        task.metadata.finalizers.as_deref().unwrap(),
        [labels::STOP_FINALIZER]
    );
    assert_eq!(
        task.metadata.owner_references.as_ref().unwrap()[0].kind,
        "RunTask"
    );
    assert_eq!(bench.run_says("etl").0, "Starting");
    bench.run_all();
    bench.settle();
    let (reason, types) = bench.run_says("etl");
    assert_eq!(
        (reason.as_str(), types.as_slice()),
        ("TasksStarted", &["Ready".to_owned()][..])
    );
    let status = bench.run_status("etl");
    assert_eq!((status.active, status.succeeded, status.failed), (3, 0, 0));
    assert_eq!(status.task_definition.as_deref(), Some("job:1"));
    assert!(status.start_time.is_some() && status.completion_time.is_none());
}

/// J1: whoever starts it again, having seen only a part, means the same names.
#[test]
fn a_run_that_was_begun_is_gone_on_with() {
    let mut bench = Bench::with_job(2);
    bench.apply_run("etl", json!({ "count": 5 }));
    bench.pass();
    let plan = bench.plan();
    assert_eq!(
        moves(&plan).0,
        ["etl-1", "etl-2", "etl-3", "etl-4", "etl-5"]
    );
    // The operator dies after three of five creates, before any status.
    let mut part = plan.clone();
    let creates = |a: &Action| matches!(a, Action::CreateTask(_));
    let first: Vec<Action> = plan
        .actions
        .iter()
        .filter(|a| creates(a))
        .take(3)
        .cloned()
        .collect();
    part.actions = first;
    part.publications.clear();
    bench.apply(&part);
    let rest = bench.plan();
    assert_eq!(moves(&rest).0, ["etl-4", "etl-5"]);
    bench.settle();
    assert_eq!(alive(&bench).len(), 5);
}

/// J2.
#[test]
fn a_run_ends_with_its_exit_codes() {
    let mut bench = Bench::with_job(2);
    bench.apply_run("etl", json!({ "count": 2 }));
    bench.settle();
    bench.run_all();
    bench.exit("etl-1", 0);
    bench.settle();
    assert_eq!(bench.run_status("etl").completion_time, None);
    bench.exit("etl-2", 0);
    bench.settle();
    let (reason, types) = bench.run_says("etl");
    assert_eq!(reason, "TasksSucceeded");
    assert_eq!(types, ["Ready", "Complete"]);
    let status = bench.run_status("etl");
    assert_eq!((status.active, status.succeeded, status.failed), (0, 2, 0));
    assert_eq!(
        status.message.as_deref(),
        Some("complete, 2 of 2 ended well")
    );
    assert_eq!(
        status.tasks.iter().map(|t| t.exit_code).collect::<Vec<_>>(),
        [Some(0), Some(0)]
    );
    // What became of it outlives its tasks.
    bench.pass_time(3601);
    bench.settle();
    bench.stop_all();
    bench.settle();
    assert!(bench.names(Kind::Task).is_empty());
    assert_eq!(bench.run_status("etl").succeeded, 2);
}

/// J2: an essential container's exit code decides.
#[test]
fn a_copy_fails_by_an_exit_code_and_the_others_go_on() {
    let mut bench = Bench::with_job(2);
    bench.apply_run("etl", json!({ "count": 2 }));
    bench.settle();
    bench.run_all();
    bench.exit("etl-1", 7);
    bench.settle();
    // It will not mend itself, but it has not ended.
    let (reason, types) = bench.run_says("etl");
    assert_eq!(reason, "BackoffLimitExceeded");
    assert_eq!(types, ["Stalled"]);
    assert_eq!(alive(&bench), ["etl-2"]);
    bench.exit("etl-2", 0);
    bench.settle();
    let (_, types) = bench.run_says("etl");
    assert_eq!(types, ["Stalled", "Failed"]);
    let message = bench.run_message("etl");
    assert!(
        message.contains("task etl-1 on host-a ended with exit code 7"),
        "{message}"
    );
    assert!(message.contains("`spec.backoffLimit` is 0"), "{message}");
}

#[test]
fn a_container_that_is_not_essential_may_fail() {
    let mut bench = Bench::with_hosts(1);
    let mut spec = definition("job:1");
    let sidecar = json!({ "name": "log", "image": "log:1", "memory": 64, "essential": false });
    spec["containerDefinitions"]
        .as_array_mut()
        .unwrap()
        .push(sidecar);
    bench.apply_definition("job", spec);
    bench.settle();
    bench.apply_run("etl", json!({}));
    bench.settle();
    bench.run_all();
    let ended = json!({
        "stopCode": "EssentialContainerExited", "stoppedReason": "Essential container in task exited",
        "containers": [{ "name": "log", "exitCode": 137 }, { "name": "app", "exitCode": 0 }],
    });
    bench.report("etl-1", LastStatus::Stopped, &ended);
    bench.settle();
    assert_eq!(bench.run_says("etl").0, "TasksSucceeded");
}

/// J3.
/// Step 1.5 of `docs/ecs-rules.md`.
#[test]
fn copies_that_find_no_host_are_failures_as_of_ecs() {
    let mut bench = Bench::default();
    bench.host("host-a", 4096, 1100);
    bench.host("host-b", 100, 8192);
    bench.host("host-c", 4096, 8192);
    bench.silent("host-c", 60);
    bench.apply_definition("job", definition("job:1"));
    bench.settle();
    bench.apply_run("etl", json!({ "count": 3 }));
    bench.settle();
    // Two fit, one does not; nothing waits.
    assert_eq!(alive(&bench), ["etl-1", "etl-2"]);
    let status = bench.run_status("etl");
    let failures: Vec<_> = status
        .failures
        .iter()
        .map(|f| (f.arn.as_deref().unwrap(), f.reason.as_str()))
        .collect();
    assert_eq!(
        failures,
        [
            ("host-a", "RESOURCE:MEMORY"),
            ("host-b", "RESOURCE:CPU"),
            ("host-c", "AGENT")
        ]
    );
    let detail = status.failures[0].detail.clone().unwrap();
    assert!(
        detail.contains("a task needs 512 MiB, the most free is 76 on `host-a`"),
        "{detail}"
    );
    assert_eq!(
        bench.run_says("etl"),
        ("TasksNotPlaced".to_owned(), vec!["Stalled".to_owned()])
    );
    assert_eq!(status.tasks[2].name, "etl-3");
    assert_eq!(status.tasks[2].stop_code, Some(StopCode::TaskFailedToStart));
    // Room that comes later changes nothing.
    bench.host("host-d", 4096, 8192);
    bench.settle();
    assert_eq!(alive(&bench).len(), 2);
    bench.run_all();
    bench.exit_all();
    bench.settle();
    assert_eq!(bench.run_says("etl").1, ["Stalled", "Failed"]);
    assert_eq!(bench.run_status("etl").failures.len(), 3);
}

/// J19.
///
/// Step 1.11 of `docs/ecs-rules.md`.
#[test]
fn a_run_that_names_its_hosts_has_a_copy_on_each_and_fails_where_there_is_no_room() {
    let mut bench = Bench::default();
    bench.host("host-a", 4096, 8192);
    bench.host("host-b", 100, 8192);
    bench.host("host-c", 4096, 8192);
    // Whatever the definition asks of hosts that are chosen.
    let mut spec = definition("job:1");
    spec["placementConstraints"] =
        json!([{ "type": "memberOf", "expression": "ec2InstanceId == host-z" }]);
    bench.apply_definition("job", spec);
    bench.settle();
    let hosts = ["host-c", "host-b", "host-z", "host-a"];
    bench.apply_run(
        "etl",
        json!({ "containerInstances": hosts, "backoffLimit": 0 }),
    );
    bench.settle();
    assert_eq!(alive(&bench), ["etl-1", "etl-4"]);
    let on = |task: &str| bench.task(task).spec.container_instance.clone();
    assert_eq!(on("etl-1").as_deref(), Some("host-c"));
    assert_eq!(on("etl-4").as_deref(), Some("host-a"));
    let status = bench.run_status("etl");
    let failures = status.failures.iter();
    let failures: Vec<_> = failures
        .map(|f| (f.arn.as_deref().unwrap(), f.reason.as_str()))
        .collect();
    assert_eq!(
        failures,
        [("host-b", "RESOURCE:CPU"), ("host-z", "MISSING")]
    );
    let why = |copy: usize| status.tasks[copy].stopped_reason.clone().unwrap();
    assert!(why(1).contains("RESOURCE:CPU"), "{}", why(1));
    assert!(
        why(2).contains("Of 1 host, 1 is not in the cluster (`host-z`)."),
        "{}",
        why(2)
    );
}

/// J19: another try of a copy is on the copy's host, and one that waits waits for it.
#[test]
fn a_copy_stays_on_the_host_that_it_was_named() {
    let mut bench = Bench::with_job(3);
    bench.silent("host-b", 60);
    bench.apply_run(
        "etl",
        json!({ "containerInstances": ["host-b", "host-c"], "waitForCapacity": true, "backoffLimit": 1 }),
    );
    bench.settle();
    assert_eq!(alive(&bench), ["etl-2"]);
    bench.silent("host-b", 0);
    bench.settle();
    assert_eq!(alive(&bench), ["etl-1", "etl-2"]);
    bench.run_all();
    bench.exit("etl-2", 7);
    bench.settle();
    bench.pass_time(10);
    bench.settle();
    let again = bench.task("etl-4");
    assert_eq!(again.spec.container_instance.as_deref(), Some("host-c"));
}

#[test]
fn a_cluster_without_hosts_says_so() {
    let mut bench = Bench::with_job(0);
    bench.apply_run("etl", json!({}));
    bench.settle();
    let status = bench.run_status("etl");
    assert_eq!(status.failures.len(), 1);
    assert_eq!(status.failures[0].reason, "NO ACTIVE INSTANCES");
    assert_eq!(bench.run_says("etl").0, "TasksNotPlaced");
    assert!(status.completion_time.is_some());
}

/// J4.
/// Step 1.10 of `docs/ecs-rules.md`.
#[test]
fn a_run_that_waits_says_why_and_starts_when_there_is_room() {
    let mut bench = Bench::default();
    bench.host("host-a", 4096, 600);
    bench.apply_definition("job", definition("job:1"));
    bench.settle();
    bench.apply_run("etl", json!({ "count": 3, "waitForCapacity": true }));
    bench.settle();
    assert_eq!(alive(&bench), ["etl-1"]);
    assert_eq!(
        bench.run_says("etl"),
        (
            "TasksNotPlaceable".to_owned(),
            vec!["Reconciling".to_owned()]
        )
    );
    let message = bench.run_message("etl");
    assert!(
        message.contains("2 of 3 copies wait for room (`spec.waitForCapacity`)"),
        "{message}"
    );
    assert!(message.contains("Of 1 host, 1 lacks memory"), "{message}");
    assert!(
        message.contains("Next try when a host or a task changes"),
        "{message}"
    );
    assert!(bench.run_status("etl").failures.is_empty());
    // A task that ends makes room for the next one.
    bench.run_all();
    bench.exit("etl-1", 0);
    bench.settle();
    assert_eq!(alive(&bench), ["etl-2"]);
    bench.host("host-b", 4096, 600);
    bench.settle();
    assert_eq!(alive(&bench), ["etl-2", "etl-3"]);
}

/// J5.
#[test]
fn what_failed_is_tried_again_with_a_growing_delay_until_the_limit() {
    let mut bench = Bench::with_job(2);
    bench.apply_run("etl", json!({ "count": 2, "backoffLimit": 2 }));
    bench.settle();
    bench.run_all();
    bench.exit("etl-1", 1);
    bench.settle();
    assert_eq!(
        bench.run_says("etl"),
        ("Retrying".to_owned(), vec!["Reconciling".to_owned()])
    );
    assert!(
        bench.run_message("etl").contains("try 1 of 2"),
        "{}",
        bench.run_message("etl")
    );
    let delay = |bench: &Bench| {
        bench
            .plan()
            .wake_at
            .unwrap()
            .duration_since(bench.now)
            .as_secs()
    };
    assert_eq!(delay(&bench), 10);
    bench.pass_time(9);
    bench.settle();
    assert_eq!(alive(&bench), ["etl-2"]);
    bench.pass_time(1);
    bench.settle();
    // The next try of copy 1 of 2.
    assert_eq!(alive(&bench), ["etl-2", "etl-3"]);
    bench.run_all();
    bench.exit("etl-3", 1);
    bench.settle();
    assert_eq!(delay(&bench), 20);
    bench.pass_time(20);
    bench.settle();
    assert_eq!(alive(&bench), ["etl-2", "etl-5"]);
    bench.run_all();
    bench.exit("etl-5", 1);
    bench.settle();
    let status = bench.run_status("etl");
    assert_eq!((status.active, status.succeeded, status.failed), (1, 0, 3));
    bench.exit("etl-2", 0);
    bench.pass_time(400);
    bench.settle();
    assert_eq!(bench.run_says("etl").0, "BackoffLimitExceeded");
    assert!(alive(&bench).is_empty());
}

/// J5: what counts as failed, and what does not.
#[test]
fn only_what_failed_by_itself_is_tried_again() {
    for (code, again) in [
        (StopCode::TaskFailedToStart, true),
        (StopCode::EssentialContainerExited, true),
        (StopCode::InfrastructureHealth, true),
        (StopCode::TerminationNotice, true),
        (StopCode::SpotInterruption, true),
        (StopCode::UserInitiated, false),
        (StopCode::ServiceSchedulerInitiated, false),
    ] {
        let mut bench = Bench::with_job(1);
        bench.apply_run("etl", json!({ "backoffLimit": 1 }));
        bench.settle();
        bench.fail("etl-1", code);
        bench.settle();
        bench.pass_time(10);
        bench.settle();
        assert_eq!(!alive(&bench).is_empty(), again, "{code:?}");
        let reason = bench.run_says("etl").0;
        assert_eq!(
            reason,
            if again { "Starting" } else { "TasksStopped" },
            "{code:?}"
        );
    }
}

/// J5: one limit for all copies, spent on those that failed first.
#[test]
fn the_limit_is_of_the_run() {
    let mut bench = Bench::with_job(1);
    bench.apply_run("etl", json!({ "count": 3, "backoffLimit": 1 }));
    bench.settle();
    bench.run_all();
    bench.exit("etl-3", 1);
    bench.pass_time(1);
    bench.exit("etl-1", 1);
    bench.settle();
    bench.pass_time(60);
    bench.settle();
    assert_eq!(alive(&bench), ["etl-2", "etl-6"]);
    bench.run_all();
    bench.exit_all();
    bench.settle();
    let status = bench.run_status("etl");
    assert_eq!((status.succeeded, status.failed), (2, 2));
    assert_eq!(bench.run_says("etl").1, ["Stalled", "Failed"]);
}

/// J5: a copy without a host counts, too, and may find one when it is tried again.
#[test]
fn a_copy_that_found_no_host_may_be_tried_again() {
    let mut bench = Bench::with_job(0);
    bench.apply_run("etl", json!({ "backoffLimit": 2 }));
    bench.settle();
    assert_eq!(bench.run_says("etl").0, "Retrying");
    assert_eq!(bench.run_status("etl").failures.len(), 1);
    bench.host("host-a", 4096, 8192);
    bench.settle();
    assert!(alive(&bench).is_empty());
    bench.pass_time(10);
    bench.settle();
    assert_eq!(alive(&bench), ["etl-2"]);
    assert!(bench.run_status("etl").failures.is_empty());
}

/// J5: a host that is lost is a failure of what ran there.
#[test]
fn a_lost_host_counts() {
    let mut bench = Bench::with_job(2);
    bench.apply_run("etl", json!({ "backoffLimit": 1 }));
    bench.settle();
    bench.run_all();
    bench.settle();
    let host = bench.host_of("etl-1");
    bench.silent(&host, 400);
    bench.settle();
    assert_eq!(
        bench.task("etl-1").status.as_ref().unwrap().stop_code,
        Some(StopCode::InfrastructureHealth)
    );
    bench.pass_time(10);
    bench.settle();
    assert_eq!(alive(&bench), ["etl-2"]);
    assert_ne!(bench.host_of("etl-2"), host);
}

#[test]
fn a_host_that_leaves_counts_too() {
    let mut bench = Bench::with_job(2);
    bench.apply_run("etl", json!({ "backoffLimit": 1 }));
    bench.settle();
    bench.run_all();
    let host = bench.host_of("etl-1");
    bench.delete(Kind::ContainerInstance, &host);
    bench.settle();
    bench.stop_all();
    bench.settle();
    assert_eq!(
        bench.task("etl-1").spec.stop_code,
        Some(StopCode::TerminationNotice)
    );
    bench.pass_time(10);
    bench.settle();
    assert_eq!(alive(&bench), ["etl-2"]);
}

/// P9 and J1: constraints, strategy and tags of a run are those of its tasks.
#[test]
fn a_run_is_placed_by_its_constraints_and_hands_its_tags_on() {
    let mut bench = Bench::with_job(3);
    bench.apply_run(
        "etl",
        json!({
            "count": 3,
            "placementConstraints": [{ "type": "distinctInstance" }],
            "tags": [{ "key": "team", "value": "a" }],
            "enableECSManagedTags": true,
        }),
    );
    bench.settle();
    let tasks = alive(&bench);
    let hosts: std::collections::BTreeSet<String> =
        tasks.iter().map(|t| bench.host_of(t)).collect();
    assert_eq!((tasks.len(), hosts.len()), (3, 3));
    let tags = serde_json::to_value(&bench.task(&tasks[0]).spec.tags).unwrap();
    let expected = json!([
        { "key": "aws:ecs:clusterName", "value": "default" },
        { "key": "team", "value": "a" },
    ]);
    assert_eq!(tags, expected);
    bench.apply_run(
        "packed",
        json!({ "count": 2, "placementStrategy": [{ "type": "binpack", "field": "memory" }] }),
    );
    bench.settle();
    let packed: std::collections::BTreeSet<String> = bench
        .tasks(|t| {
            t.metadata
                .name
                .as_deref()
                .is_some_and(|n| n.starts_with("packed-"))
        })
        .iter()
        .map(|t| bench.host_of(t))
        .collect();
    assert_eq!(packed.len(), 1);
}
