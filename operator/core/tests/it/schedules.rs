//! Schedules: one RunTask for each due time, and what happens around it. A row per rule of docs/scheduling.md.

use crate::common;
use crate::common::Bench;
use crate::common::moves::holding;
use jiff::Timestamp;
use serde_json::{Value, json};
use tallyman_crds::{conditions, labels};
use tallyman_operator_core::{Action, Kind, Plan};

/// 2026-01-01T00:00:00Z in minutes; the bench's clock starts there.
const START: i64 = 29_453_760;

fn hourly(more: Value) -> Value {
    let mut fields = json!({ "scheduleExpression": "cron(0 * * * ? *)" });
    common::merge(&mut fields, &more);
    fields
}

fn with_schedule(more: Value) -> Bench {
    let mut bench = Bench::with_job(2).with_quiet_hosts();
    bench.apply_schedule("tick", hourly(more));
    bench.settle();
    bench
}

fn run_at(minutes: i64) -> String {
    format!("tick-{}", START + minutes)
}

fn runs(bench: &Bench) -> Vec<String> {
    bench.names(Kind::RunTask)
}

fn created(plan: &Plan) -> Vec<String> {
    let names = plan.actions.iter().filter_map(|a| match a {
        Action::CreateRunTask(r) => r.metadata.name.clone(),
        _ => None,
    });
    names.collect()
}

/// Every task that is there runs and ends with this code.
fn finish(bench: &mut Bench, code: i32) {
    bench.settle();
    bench.run_all();
    for task in bench.tasks(holding) {
        bench.exit(&task, code);
    }
    bench.settle();
}

fn says(bench: &Bench) -> (String, String) {
    let status = bench.schedule_status("tick");
    let ready = &status.conditions[0];
    (ready.reason.clone(), ready.message.clone())
}

/// J11.
#[test]
fn each_due_time_makes_one_run_named_after_it() {
    let mut bench = with_schedule(json!({ "runTask": { "count": 2, "startedBy": "tick" } }));
    assert!(runs(&bench).is_empty());
    let status = bench.schedule_status("tick");
    assert_eq!(
        status.next_schedule_time.unwrap().0.to_string(),
        "2026-01-01T01:00:00Z"
    );
    assert_eq!(
        says(&bench),
        (
            "Scheduled".to_owned(),
            "The next run is due at 2026-01-01T01:00:00Z.".to_owned()
        )
    );
    assert_eq!(
        bench.plan().wake_at.unwrap().to_string(),
        "2026-01-01T01:00:00Z"
    );
    bench.pass_time(3599);
    bench.settle();
    assert!(runs(&bench).is_empty());
    bench.pass_time(1);
    bench.settle();
    assert_eq!(runs(&bench), [run_at(60)]);
    let run = bench.objects.run_tasks[0].clone();
    assert_eq!(
        run.metadata.owner_references.as_ref().unwrap()[0].name,
        "tick"
    );
    assert_eq!(
        run.metadata.annotations.as_ref().unwrap()[labels::SCHEDULED_TIME],
        "2026-01-01T01:00:00Z"
    );
    assert_eq!(run.spec.count, Some(2));
    assert_eq!(bench.tasks(holding).len(), 2);
    let status = bench.schedule_status("tick");
    assert_eq!(
        status.last_schedule_time.unwrap().0.to_string(),
        "2026-01-01T01:00:00Z"
    );
    assert_eq!(
        status.next_schedule_time.unwrap().0.to_string(),
        "2026-01-01T02:00:00Z"
    );
    assert_eq!(status.active, [run_at(60)]);
    finish(&mut bench, 0);
    let status = bench.schedule_status("tick");
    assert_eq!(
        status.last_result.unwrap(),
        format!("{}: complete, 2 of 2 ended well", run_at(60))
    );
    assert!(status.last_successful_time.is_some() && status.active.is_empty());
}

/// J11: the name is the memory. Whoever does not know of it creates it again, and meets "already exists".
#[test]
fn a_run_is_made_once_by_whoever_makes_it() {
    let mut bench = with_schedule(json!({}));
    bench.pass_time(3600);
    let (one, two) = (bench.plan(), bench.plan());
    assert_eq!(created(&one), created(&two));
    // The status that would say so is not written.
    let acts = Plan {
        publications: Vec::new(),
        ..one
    };
    bench.apply(&acts);
    assert!(created(&bench.plan()).is_empty());
    // Two leaders decided; the second comes late.
    bench.apply(&Plan {
        publications: Vec::new(),
        ..two
    });
    bench.settle();
    assert_eq!(runs(&bench), [run_at(60)]);
    assert_eq!(bench.tasks(holding).len(), 1);
}

/// J11: a leader of old makes a run for a time that is long decided.
#[test]
fn a_run_that_comes_late_starts_nothing() {
    let mut bench = with_schedule(json!({ "successfulRunsHistoryLimit": 0 }));
    bench.pass_time(3600);
    let late = bench.plan();
    bench.settle();
    finish(&mut bench, 0);
    bench.stop_all();
    bench.settle();
    assert!(runs(&bench).is_empty());
    bench.apply(&Plan {
        publications: Vec::new(),
        ..late
    });
    assert_eq!(runs(&bench), [run_at(60)]);
    let done = bench.settle();
    assert!(
        !done.iter().any(|a| matches!(a, Action::CreateTask(_))),
        "{done:?}"
    );
    assert!(runs(&bench).is_empty());
}

/// J13.
#[test]
fn of_many_missed_runs_the_latest_is_started_and_the_others_are_counted() {
    let mut bench = with_schedule(json!({}));
    bench.pass_time(5 * 3600 + 1800);
    bench.settle();
    assert_eq!(runs(&bench), [run_at(300)]);
    let status = bench.schedule_status("tick");
    assert_eq!(status.missed_runs, 4);
    assert_eq!(
        status.last_schedule_time.unwrap().0.to_string(),
        "2026-01-01T05:00:00Z"
    );
}

/// J13: a run that is there is not missed, although nobody wrote down that it was started.
#[test]
fn a_run_that_is_there_is_not_missed() {
    let mut bench = with_schedule(json!({}));
    bench.pass_time(3600);
    let plan = bench.plan();
    bench.apply(&Plan {
        publications: Vec::new(),
        ..plan
    });
    bench.pass_time(2 * 3600);
    bench.settle();
    assert_eq!(runs(&bench), [run_at(60), run_at(180)]);
    assert_eq!(bench.schedule_status("tick").missed_runs, 1);
}

/// J13.
#[test]
fn what_is_too_late_is_missed() {
    let mut bench = with_schedule(json!({ "startingDeadlineSeconds": 600 }));
    bench.pass_time(2 * 3600 + 601);
    let plan = bench.pass();
    assert!(
        plan.notes
            .iter()
            .any(|n| n.reason == "RunMissed" && n.warning),
        "{:?}",
        plan.notes
    );
    bench.settle();
    assert!(runs(&bench).is_empty());
    assert_eq!(bench.schedule_status("tick").missed_runs, 2);
    // In time.
    bench.pass_time(3600 - 1);
    bench.settle();
    assert_eq!(runs(&bench), [run_at(180)]);
    assert_eq!(bench.schedule_status("tick").missed_runs, 2);
}

/// J14.
#[test]
fn concurrency_policies() {
    for (policy, at_once, then) in [
        (
            "Allow",
            vec![run_at(60), run_at(120)],
            vec![run_at(60), run_at(120)],
        ),
        // Left out for good.
        ("Forbid", vec![run_at(60)], vec![run_at(60)]),
        ("Replace", vec![run_at(60)], vec![run_at(120)]),
    ] {
        let mut bench = with_schedule(json!({ "concurrencyPolicy": policy }));
        bench.pass_time(3600);
        bench.settle();
        bench.run_all();
        bench.settle();
        bench.pass_time(3600);
        bench.settle();
        assert_eq!(runs(&bench), at_once, "{policy}");
        if policy == "Replace" {
            assert_eq!(says(&bench).0, "Scheduled");
            assert!(
                says(&bench)
                    .1
                    .contains("starts once run tick-29453820 has stopped"),
                "{}",
                says(&bench).1
            );
            bench.stop_all();
            bench.settle();
        }
        assert_eq!(runs(&bench), then, "{policy}");
        finish(&mut bench, 0);
        assert_eq!(bench.schedule_status("tick").missed_runs, 0, "{policy}");
        bench.pass_time(3600);
        bench.settle();
        assert!(runs(&bench).contains(&run_at(180)), "{policy}");
    }
}

/// J15.
#[test]
fn what_falls_due_while_suspended_is_passed_over() {
    let mut bench = with_schedule(json!({ "suspend": true }));
    assert_eq!(says(&bench).0, "Suspended");
    assert_eq!(bench.schedule_status("tick").next_schedule_time, None);
    bench.pass_time(3 * 3600);
    bench.settle();
    bench.pass_time(60);
    bench.apply_schedule("tick", hourly(json!({ "suspend": false })));
    bench.settle();
    assert!(runs(&bench).is_empty());
    assert_eq!(bench.schedule_status("tick").missed_runs, 0);
    bench.pass_time(3540);
    bench.settle();
    assert_eq!(runs(&bench), [run_at(240)]);
}

/// J16.
#[test]
fn a_change_of_the_schedule_starts_nothing_for_the_time_before() {
    let mut bench = with_schedule(json!({}));
    bench.pass_time(1800);
    // At half past: a quarter past was due by the new one.
    bench.apply_schedule(
        "tick",
        json!({ "scheduleExpression": "cron(15 * * * ? *)" }),
    );
    bench.settle();
    assert!(runs(&bench).is_empty());
    assert_eq!(
        bench
            .schedule_status("tick")
            .next_schedule_time
            .unwrap()
            .0
            .to_string(),
        "2026-01-01T01:15:00Z"
    );
    // Any other change misses nothing.
    bench.pass_time(2700);
    bench.apply_schedule(
        "tick",
        json!({ "scheduleExpression": "cron(15 * * * ? *)", "runTask": { "count": 2 } }),
    );
    bench.settle();
    assert_eq!(runs(&bench), [run_at(75)]);
    // Nor is anything due for the time in which it could not be read.
    bench.apply_schedule("tick", json!({ "scheduleExpression": "cron(15 * * *)" }));
    bench.settle();
    assert_eq!(says(&bench).0, "InvalidSpec");
    bench.pass_time(7200);
    bench.apply_schedule(
        "tick",
        json!({ "scheduleExpression": "cron(15 * * * ? *)" }),
    );
    bench.settle();
    assert_eq!(runs(&bench), [run_at(75)]);
    assert_eq!(
        bench
            .schedule_status("tick")
            .next_schedule_time
            .unwrap()
            .0
            .to_string(),
        "2026-01-01T04:15:00Z"
    );
}

/// J17.
#[test]
fn ended_runs_are_kept_up_to_a_limit() {
    let mut bench =
        with_schedule(json!({ "successfulRunsHistoryLimit": 2, "failedRunsHistoryLimit": 1 }));
    for code in [0, 1, 0, 1, 0, 0] {
        bench.pass_time(3600);
        finish(&mut bench, code);
        bench.stop_all();
        bench.settle();
    }
    assert_eq!(runs(&bench), [run_at(240), run_at(300), run_at(360)]);
    let status = bench.schedule_status("tick");
    assert_eq!(
        status.last_result.unwrap(),
        format!("{}: complete, 1 of 1 ended well", run_at(360))
    );
    // As of a CronJob when nothing is said.
    let mut bench = with_schedule(json!({}));
    for code in [1, 1, 0, 0, 0, 0] {
        bench.pass_time(3600);
        finish(&mut bench, code);
        bench.stop_all();
        bench.settle();
    }
    assert_eq!(
        runs(&bench),
        [run_at(120), run_at(240), run_at(300), run_at(360)]
    );
}

#[test]
fn a_result_is_not_forgotten_with_its_run() {
    let mut bench = with_schedule(json!({ "failedRunsHistoryLimit": 0 }));
    for code in [0, 7] {
        bench.pass_time(3600);
        finish(&mut bench, code);
        bench.stop_all();
        bench.settle();
    }
    assert_eq!(runs(&bench), [run_at(60)]);
    let status = bench.schedule_status("tick");
    assert_eq!(
        status.last_result.unwrap(),
        format!("{}: failed, 1 of 1 failed", run_at(120))
    );
    assert!(status.last_successful_time.unwrap().0 < status.last_completion_time.unwrap().0);
}

/// J18.
#[test]
fn a_schedule_that_cannot_be_read_is_stalled_and_stops_no_other() {
    for (fields, reason, said) in [
        (
            json!({ "scheduleExpression": "cron(61 * * * ? *)" }),
            "InvalidSpec",
            "not `61`",
        ),
        (
            json!({ "scheduleExpressionTimezone": "Mars/Olympus" }),
            "InvalidSpec",
            "not `Mars/Olympus`",
        ),
        (
            json!({ "runTask": { "clientToken": "x" } }),
            "InvalidSpec",
            "`spec.runTask.clientToken` must be absent",
        ),
        (
            json!({ "runTask": { "placementConstraints": [
                { "type": "memberOf", "expression": "attribute:x ==" }
            ] } }),
            "InvalidSpec",
            "`spec.runTask.placementConstraints[0].expression`",
        ),
        (
            json!({ "runTask": { "capacityProviderStrategy": [{ "capacityProvider": "x" }] } }),
            "UnsupportedFields",
            "`spec.runTask.capacityProviderStrategy",
        ),
    ] {
        let mut bench = with_schedule(fields.clone());
        bench.apply_schedule("other", hourly(json!({})));
        bench.settle();
        let plan = bench.plan();
        assert!(plan.publications.is_empty() && plan.actions.is_empty());
        let status = bench.schedule_status("tick");
        let stalled = status
            .conditions
            .iter()
            .find(|c| c.type_ == conditions::STALLED)
            .unwrap();
        assert_eq!(stalled.reason, reason, "{fields}");
        assert!(stalled.message.contains(said), "{}", stalled.message);
        assert_eq!(status.next_schedule_time, None);
        bench.pass_time(3600);
        bench.settle();
        assert_eq!(runs(&bench), [format!("other-{}", START + 60)], "{fields}");
    }
}

#[test]
fn a_rate_begins_with_the_object_and_at_comes_once() {
    let mut bench = with_schedule(json!({ "scheduleExpression": "rate(30 minutes)" }));
    assert_eq!(runs(&bench), [run_at(0)]);
    finish(&mut bench, 0);
    bench.pass_time(1800);
    bench.settle();
    assert_eq!(runs(&bench), [run_at(0), run_at(30)]);

    let mut bench = with_schedule(json!({ "scheduleExpression": "at(2026-01-01T00:10:00)" }));
    bench.pass_time(600);
    bench.settle();
    assert_eq!(runs(&bench), [run_at(10)]);
    assert_eq!(says(&bench).1, "No further run is due.");
    bench.pass_time(86_400);
    bench.settle();
    assert_eq!(runs(&bench), [run_at(10)]);
}

#[test]
fn a_name_that_is_taken_is_waited_for() {
    let mut bench = with_schedule(json!({}));
    bench.apply_run(&run_at(60), json!({}));
    bench.pass_time(3600);
    bench.settle();
    assert!(
        says(&bench)
            .1
            .contains("is there already and is not of this schedule"),
        "{}",
        says(&bench).1
    );
    assert_eq!(bench.schedule_status("tick").last_schedule_time, None);
    bench.delete(Kind::RunTask, &run_at(60));
    bench.settle();
    bench.stop_all();
    bench.settle();
    let status = bench.schedule_status("tick");
    assert_eq!(
        status.last_schedule_time.unwrap().0.to_string(),
        "2026-01-01T01:00:00Z"
    );
}

/// A run that somebody deletes is not made again.
#[test]
fn a_deleted_run_stays_deleted() {
    let mut bench = with_schedule(json!({}));
    bench.pass_time(3600);
    bench.pass();
    // It is taken on; the schedule's status is never written.
    for _ in 0..3 {
        let mut plan = bench.plan();
        plan.publications
            .retain(|p| p.target.kind != Kind::ScheduledTask);
        bench.apply(&plan);
    }
    bench.run_all();
    bench.delete(Kind::RunTask, &run_at(60));
    for _ in 0..3 {
        let mut plan = bench.plan();
        plan.publications
            .retain(|p| p.target.kind != Kind::ScheduledTask);
        bench.apply(&plan);
        bench.stop_all();
    }
    assert_eq!(
        runs(&bench),
        [run_at(60)],
        "its name is kept until the schedule knows"
    );
    bench.settle();
    bench.stop_all();
    bench.settle();
    assert!(runs(&bench).is_empty());
}

#[test]
fn a_schedule_that_is_deleted_starts_nothing() {
    let mut bench = with_schedule(json!({}));
    bench.edit(Kind::ScheduledTask, "tick", &|v| {
        v["metadata"]["finalizers"] = json!(["example.com/slow"])
    });
    bench.delete(Kind::ScheduledTask, "tick");
    bench.pass_time(7200);
    bench.settle();
    assert!(runs(&bench).is_empty());
}

/// Runs of a schedule that was moved to another cluster count on.
#[test]
fn forbid_sees_runs_of_every_cluster() {
    let mut bench = with_schedule(
        json!({ "concurrencyPolicy": "Forbid", "runTask": { "cluster": "elsewhere", "waitForCapacity": true } }),
    );
    let pass = |bench: &mut Bench| {
        for cluster in ["elsewhere", "default"] {
            let world = tallyman_operator_core::World::gather(
                &bench.objects,
                common::NAMESPACE,
                cluster,
                &bench.settings,
                1,
            );
            let plan = tallyman_operator_core::plan(&world, bench.now);
            bench.apply(&plan);
        }
    };
    pass(&mut bench);
    bench.pass_time(3600);
    for _ in 0..4 {
        pass(&mut bench);
    }
    assert_eq!(runs(&bench), [run_at(60)]);
    bench.apply_schedule("tick", hourly(json!({ "concurrencyPolicy": "Forbid" })));
    bench.pass_time(3600);
    for _ in 0..4 {
        pass(&mut bench);
    }
    assert_eq!(runs(&bench).len(), 1, "{:?}", runs(&bench));
}

#[test]
fn the_clock_of_the_bench_is_where_the_names_count_from() {
    let start: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
    assert_eq!(start.as_second() / 60, START);
    assert_eq!(Bench::default().now, start);
}
