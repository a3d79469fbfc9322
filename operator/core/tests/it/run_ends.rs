//! How runs (ECS RunTask) end: by a deadline, by deletion, without a definition; and what is left of them. A row per rule of
//! docs/scheduling.md.

use crate::common::Bench;
use crate::common::build::definition;
use crate::common::moves::{counts, holding, moves};
use serde_json::json;
use tallyman_crds::StopCode;
use tallyman_operator_core::{Action, Kind};

/// J6.
#[test]
fn a_deadline_stops_what_is_left() {
    let mut bench = Bench::with_job(1).with_quiet_hosts();
    bench.apply_run(
        "etl",
        json!({ "count": 2, "activeDeadlineSeconds": 60, "backoffLimit": 5 }),
    );
    bench.settle();
    bench.run_all();
    bench.settle();
    bench.exit("etl-1", 0);
    bench.settle();
    assert_eq!(
        bench
            .plan()
            .wake_at
            .unwrap()
            .duration_since(bench.now)
            .as_secs(),
        60
    );
    bench.pass_time(60);
    let (_, stops) = moves(&bench.pass());
    assert_eq!(stops, ["etl-2"]);
    bench.settle();
    let (reason, types) = bench.run_says("etl");
    assert_eq!(
        (reason.as_str(), types.as_slice()),
        ("DeadlineExceeded", &["Stalled".to_owned()][..])
    );
    let stopped = bench.task("etl-2").spec.stopped_reason.clone().unwrap();
    assert_eq!(
        stopped,
        "RunTask etl took longer than its `activeDeadlineSeconds` (60)"
    );
    bench.pass_time(1);
    bench.stop_all();
    bench.pass_time(100);
    bench.settle();
    assert_eq!(
        bench.run_says("etl"),
        (
            "DeadlineExceeded".to_owned(),
            vec!["Stalled".to_owned(), "Failed".to_owned()]
        )
    );
    assert!(bench.tasks(holding).is_empty());
    assert_eq!(bench.run_status("etl").succeeded, 1);
}

/// J6: waiting counts, and a run that has ended is not late.
#[test]
fn a_deadline_ends_waiting_and_comes_too_late_for_what_has_ended() {
    let mut bench = Bench::with_job(0);
    bench.apply_run(
        "etl",
        json!({ "waitForCapacity": true, "activeDeadlineSeconds": 60 }),
    );
    bench.settle();
    bench.pass_time(60);
    bench.settle();
    assert_eq!(bench.run_says("etl").0, "DeadlineExceeded");
    assert!(bench.run_status("etl").completion_time.is_some());

    let mut bench = Bench::with_job(1);
    bench.apply_run("etl", json!({ "activeDeadlineSeconds": 60 }));
    bench.settle();
    bench.run_all();
    bench.settle();
    bench.exit("etl-1", 0);
    // The operator hears of it long after.
    bench.pass_time(600);
    bench.settle();
    assert_eq!(bench.run_says("etl").0, "TasksSucceeded");
}

/// J7.
#[test]
fn an_ended_run_goes_when_its_time_is_over() {
    let mut bench = Bench::with_job(1);
    bench.apply_run("etl", json!({ "ttlSecondsAfterFinished": 30 }));
    bench.settle();
    bench.run_all();
    bench.exit_all();
    bench.settle();
    assert_eq!(
        bench
            .plan()
            .wake_at
            .unwrap()
            .duration_since(bench.now)
            .as_secs(),
        30
    );
    bench.pass_time(30);
    bench.settle();
    bench.stop_all();
    bench.settle();
    assert!(bench.names(Kind::RunTask).is_empty());
    assert!(bench.names(Kind::Task).is_empty());
}

/// J8.
#[test]
fn deletion_stops_the_tasks_first() {
    let mut bench = Bench::with_job(1);
    bench.apply_run("etl", json!({ "count": 2, "backoffLimit": 5 }));
    bench.settle();
    bench.run_all();
    bench.settle();
    bench.delete(Kind::RunTask, "etl");
    bench.settle();
    assert_eq!(bench.names(Kind::RunTask), ["etl"]);
    assert_eq!(bench.run_says("etl").0, "Deleting");
    let task = bench.task("etl-1");
    assert_eq!(task.spec.stop_code, Some(StopCode::UserInitiated));
    assert_eq!(
        task.spec.stopped_reason.as_deref(),
        Some("RunTask etl was deleted")
    );
    bench.stop_all();
    bench.settle();
    assert!(bench.names(Kind::RunTask).is_empty());
    bench.stop_all();
    bench.settle();
    assert!(bench.names(Kind::Task).is_empty());
}

#[test]
fn a_new_run_of_a_name_waits_for_the_tasks_of_the_old_one() {
    let mut bench = Bench::with_job(1);
    bench.apply_task("etl-2", json!({ "taskDefinition": "job" }));
    bench.settle();
    bench.apply_run("etl", json!({ "count": 2 }));
    bench.settle();
    assert_eq!(bench.run_says("etl").0, "TaskNameTaken");
    assert!(
        bench.run_message("etl").contains("Task etl-2"),
        "{}",
        bench.run_message("etl")
    );
    bench.delete(Kind::Task, "etl-2");
    bench.settle();
    bench.stop_all();
    bench.settle();
    assert_eq!(bench.tasks(holding), ["etl-1", "etl-2"]);
}

/// J9.
#[test]
fn a_run_that_cannot_be_taken_on_says_why() {
    let rows = [
        (
            json!({ "placementConstraints": [{ "type": "memberOf", "expression": "attribute:x ==" }] }),
            "InvalidSpec",
            "`spec.placementConstraints[0].expression`",
        ),
        (
            json!({ "capacityProviderStrategy": [{ "capacityProvider": "rack" }] }),
            "UnsupportedFields",
            "`spec.capacityProviderStrategy",
        ),
        (
            json!({ "launchType": "FARGATE" }),
            "UnsupportedFields",
            "spec.launchType: FARGATE",
        ),
        (
            json!({ "count": 11 }),
            "InvalidSpec",
            "`spec.count` must be 1 to 10, not 11",
        ),
        (
            json!({ "backoffLimit": -1 }),
            "InvalidSpec",
            "`spec.backoffLimit` must be 0 to 100, not -1",
        ),
        (
            json!({ "activeDeadlineSeconds": 0 }),
            "InvalidSpec",
            "`spec.activeDeadlineSeconds` must be 1",
        ),
        (
            json!({ "ttlSecondsAfterFinished": -1 }),
            "InvalidSpec",
            "`spec.ttlSecondsAfterFinished` must be 0",
        ),
        (
            json!({ "overrides": { "containerOverrides": [{ "name": "ap", "command": ["x"] }] } }),
            "InvalidSpec",
            "`spec.overrides.containerOverrides[0].name` must be a container of job:1 (`app`), not `ap`",
        ),
    ];
    for (fields, reason, said) in rows {
        let mut bench = Bench::with_job(1);
        bench.apply_run("etl", fields.clone());
        bench.apply_run("other", json!({}));
        bench.settle();
        let (said_reason, types) = bench.run_says("etl");
        assert_eq!(said_reason, reason, "{fields}");
        assert!(types.contains(&"Stalled".to_owned()) && types.contains(&"Failed".to_owned()));
        assert!(
            bench.run_message("etl").contains(said),
            "{fields}: {}",
            bench.run_message("etl")
        );
        // It stops no other.
        assert_eq!(bench.tasks(holding), ["other-1"]);
    }
}

#[test]
fn a_run_waits_for_its_task_definition() {
    let mut bench = Bench::with_hosts(1);
    bench.apply_run("etl", json!({}));
    bench.settle();
    assert_eq!(
        bench.run_says("etl"),
        (
            "TaskDefinitionNotFound".to_owned(),
            vec!["Reconciling".to_owned()]
        )
    );
    bench.apply_definition("job", definition("job:1"));
    bench.settle();
    assert_eq!(bench.tasks(holding), ["etl-1"]);
}

#[test]
fn a_run_keeps_the_revision_that_it_was_taken_on_with() {
    let mut bench = Bench::with_job(1);
    bench.apply_run("etl", json!({ "backoffLimit": 1 }));
    bench.settle();
    bench.apply_definition("job", definition("job:2"));
    bench.settle();
    bench.run_all();
    bench.exit("etl-1", 1);
    bench.delete(Kind::TaskDefinitionRevision, "job-1");
    bench.settle();
    bench.pass_time(10);
    bench.settle();
    assert_eq!(bench.task("etl-2").spec.task_definition, "job:1");
}

/// J10.
#[test]
fn a_token_stands_for_one_run() {
    let mut bench = Bench::with_job(1);
    bench.apply_run("first", json!({ "clientToken": "once" }));
    bench.pass_time(1);
    bench.apply_run("again", json!({ "clientToken": "once" }));
    bench.settle();
    assert_eq!(bench.tasks(holding), ["first-1"]);
    assert_eq!(bench.run_says("again").0, "ClientTokenInUse");
    assert!(
        bench.run_message("again").contains("RunTask first"),
        "{}",
        bench.run_message("again")
    );
    // For good.
    bench.delete(Kind::RunTask, "first");
    bench.settle();
    bench.stop_all();
    bench.settle();
    assert!(bench.tasks(holding).is_empty());
}

#[test]
fn a_pass_starts_a_few() {
    let mut bench = Bench::with_job(3);
    for n in 0..4 {
        bench.apply_run(&format!("run-{n}"), json!({ "count": 10 }));
    }
    bench.pass();
    assert_eq!(counts(&bench.pass()).0, 16);
    bench.settle();
    assert_eq!(bench.tasks(holding).len(), 40);
}

#[test]
fn what_a_run_does_not_know_of_is_stopped() {
    let mut bench = Bench::with_job(1);
    bench.apply_run("etl", json!({ "count": 1, "backoffLimit": 1 }));
    bench.settle();
    bench.run_all();
    bench.exit("etl-1", 1);
    bench.settle();
    bench.pass_time(10);
    bench.settle();
    bench.run_all();
    // The first task comes back to life, made by a leader that hung for long.
    let late = bench.task("etl-1").clone();
    bench.delete(Kind::Task, "etl-1");
    bench.settle();
    bench.stop_all();
    bench.settle();
    assert_eq!(bench.names(Kind::Task), ["etl-2"]);
    let mut again = serde_json::to_value(&late).unwrap();
    again["status"] = json!(null);
    again["spec"]["desiredStatus"] = json!("RUNNING");
    bench.create(Kind::Task, again);
    assert_eq!(moves(&bench.plan()), (vec![], vec!["etl-1".to_owned()]));
    bench.settle_unchecked();
    bench.settle();
    assert_eq!(bench.tasks(holding), ["etl-2"]);
}

#[test]
fn a_task_that_somebody_took_away_by_force_is_not_started_twice() {
    let mut bench = Bench::with_job(1);
    bench.apply_run("etl", json!({ "backoffLimit": 3 }));
    bench.settle();
    bench.run_all();
    bench.settle();
    bench.edit(Kind::Task, "etl-1", &|v| {
        v["metadata"]["finalizers"] = json!([])
    });
    bench.delete(Kind::Task, "etl-1");
    bench.pass_time(600);
    bench.settle();
    assert!(bench.names(Kind::Task).is_empty());
    assert_eq!(bench.run_says("etl").0, "TasksStopped");
    assert!(
        bench
            .run_message("etl")
            .contains("was removed before it had stopped"),
        "{}",
        bench.run_message("etl")
    );
}

/// What became of a task is told before the Task may go.
#[test]
fn a_stopped_task_is_kept_until_its_run_knows() {
    let mut bench = Bench::with_job(1);
    bench.apply_run("etl", json!({ "count": 2 }));
    bench.settle();
    bench.run_all();
    bench.settle();
    bench.exit("etl-1", 3);
    // The operator was away for longer than tasks are kept.
    bench.pass_time(7200);
    let plan = bench.plan();
    let deletes = |a: &Action| matches!(a, Action::Delete(t) if t.kind == Kind::Task);
    assert!(!plan.actions.iter().any(deletes), "{:?}", plan.actions);
    bench.settle();
    bench.stop_all();
    bench.settle();
    assert_eq!(bench.names(Kind::Task), ["etl-2"]);
    assert_eq!(bench.run_status("etl").tasks[0].exit_code, Some(3));
}
