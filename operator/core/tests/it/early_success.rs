//! Deployments that complete before their last task is replaced (ECS early success criteria).

use crate::common::Bench;
use crate::common::moves::{holding, of_image};
use jiff::SignedDuration;
use serde_json::{Value, json};
use tallyman_crds::{DeploymentLifecycle, HealthStatus, LastStatus, MonitorStatus, RolloutState};
use tallyman_operator_core::Kind;

fn criteria(percent: i64, cleanup: &str) -> Value {
    json!({ "enable": true, "healthyPercent": percent, "sourceServiceRevisionCleanup": cleanup })
}

/// A service with a health check, of which the old tasks run and `web:2` begins.
fn rolling(desired: i64, minimum: i64, maximum: i64, criteria: &Value) -> Bench {
    let mut bench = Bench::with_checked_service(2, desired, minimum, maximum);
    configure(&mut bench, criteria);
    bench.settle();
    bench.roll("web:2");
    bench.settle();
    bench
}

fn configure(bench: &mut Bench, criteria: &Value) {
    bench.edit(Kind::Service, "web", &|v| {
        v["spec"]["deploymentConfiguration"]["earlySuccessCriteria"] = criteria.clone();
    });
}

fn new(bench: &Bench) -> Vec<String> {
    let is = of_image(bench, "web:2");
    bench.tasks(|t| holding(t) && is(t))
}

fn old(bench: &Bench) -> Vec<String> {
    let is = of_image(bench, "web:1");
    bench.tasks(|t| holding(t) && is(t))
}

/// So many more new tasks run and are HEALTHY.
fn become_healthy(bench: &mut Bench, count: usize) {
    bench.settle();
    let waiting = new(bench).into_iter().filter(|name| {
        let status = bench.task(name).status.as_ref();
        status.is_none_or(|s| s.last_status < LastStatus::Running)
    });
    let waiting: Vec<String> = waiting.take(count).collect();
    assert_eq!(waiting.len(), count, "so many wait");
    for name in waiting {
        bench.run(&name);
        bench.health(&name, HealthStatus::Healthy);
    }
    bench.settle();
}

fn state(bench: &Bench) -> RolloutState {
    bench.service_status("web").deployments[0].rollout_state
}

/// Step 3.11 of `docs/ecs-rules.md`.
#[test]
fn deferred_completes_at_the_percentage_and_the_rest_follows() {
    // The example of S35: 4 tasks at 50/150, done at 75.
    let mut bench = rolling(4, 50, 150, &criteria(75, "DEFERRED"));
    assert_eq!((old(&bench).len(), new(&bench).len()), (4, 2));
    bench.stop_all();
    bench.settle();
    assert_eq!((old(&bench).len(), new(&bench).len()), (2, 4));
    become_healthy(&mut bench, 2);
    assert_eq!(state(&bench), RolloutState::InProgress, "2 of 4");
    become_healthy(&mut bench, 1);
    assert_eq!(state(&bench), RolloutState::Completed, "3 of 4");
    let status = bench.service_status("web");
    let first = &status.deployments[0];
    let reason = first.rollout_state_reason.clone().unwrap();
    assert!(
        reason.ends_with(
            "completed: enough of its tasks are healthy (`earlySuccessCriteria`), the rest follows."
        ),
        "{reason}"
    );
    assert_eq!(status.last_completed_deployment.unwrap().id, first.id);
    assert_eq!(
        status.conditions[0].reason, "RollingOut",
        "Ready is when all is done"
    );
    assert_eq!(new(&bench).len(), 4, "the fourth is on its way");
    assert!(!old(&bench).is_empty());
    assert_eq!(status.deployments[1].status, DeploymentLifecycle::Active);

    become_healthy(&mut bench, 1);
    bench.stop_all();
    bench.settle();
    assert_eq!(bench.reason("web"), "SteadyState");
    let status = bench.service_status("web");
    assert_eq!(status.deployments.len(), 1);
    assert_eq!(
        status.deployments[0].rollout_state_reason,
        Some(reason),
        "how it completed stays said"
    );
}

/// Step 3.11 of `docs/ecs-rules.md`.
#[test]
fn blocking_completes_only_when_the_old_tasks_are_gone() {
    // All old tasks may go once 2 of 4 are healthy, and the fourth new one need not run.
    let mut bench = rolling(4, 50, 150, &criteria(75, "BLOCKING"));
    bench.stop_all();
    bench.settle();
    become_healthy(&mut bench, 2);
    become_healthy(&mut bench, 1);
    assert!(!old(&bench).is_empty());
    assert_eq!(
        state(&bench),
        RolloutState::InProgress,
        "old tasks are stopping"
    );
    bench.stop_all();
    bench.settle();
    assert!(old(&bench).is_empty());
    assert_eq!(state(&bench), RolloutState::Completed);
    assert_eq!(
        bench.reason("web"),
        "Starting",
        "one of four does not run yet"
    );
}

/// Step 3.11 of `docs/ecs-rules.md`.
#[test]
fn a_protected_old_task_holds_a_deployment_open_unless_its_cleanup_is_deferred() {
    for (cleanup, wanted) in [
        ("BLOCKING", RolloutState::InProgress),
        ("DEFERRED", RolloutState::Completed),
    ] {
        let mut bench = rolling(1, 100, 200, &criteria(100, cleanup));
        let until = bench.now + SignedDuration::from_mins(60);
        let task = old(&bench).remove(0);
        bench.edit(Kind::Task, &task, &|v| {
            v["status"]["protectedUntil"] = json!(until)
        });
        become_healthy(&mut bench, 1);
        assert_eq!(state(&bench), wanted, "{cleanup}");
        assert_eq!(old(&bench), [task]);
    }
}

/// Step 3.11 of `docs/ecs-rules.md`.
#[test]
fn it_bakes_first_and_is_watched_until_then() {
    let mut bench = rolling(2, 50, 200, &criteria(50, "DEFERRED"));
    bench.edit(Kind::Service, "web", &|v| {
        let configuration = &mut v["spec"]["deploymentConfiguration"];
        configuration["bakeTimeInMinutes"] = json!(5);
        configuration["alarms"] =
            json!({ "alarmNames": ["errors"], "enable": true, "rollback": true });
    });
    become_healthy(&mut bench, 1);
    assert_eq!(state(&bench), RolloutState::InProgress);
    assert!(
        bench.service_status("web").deployments[0]
            .baking_since
            .is_some()
    );
    let end = bench.now + SignedDuration::from_mins(5);
    assert!(
        bench.plan().wake_at.is_some_and(|at| at <= end),
        "it wakes by itself"
    );
    let alarm = |bench: &mut Bench| {
        bench.edit(Kind::Service, "web", &|v| {
            let list = v["status"]["conditions"].as_array_mut().unwrap();
            list.push(json!({
                "type": "alarm.tallyman.dev/errors", "status": "True", "reason": "Set", "message": "",
                "lastTransitionTime": "2026-01-01T00:00:00Z",
            }));
        });
        bench.settle();
    };
    let mut alarmed = bench.clone();
    alarm(&mut alarmed);
    assert!(alarmed.service_status("web").failed_deployment.is_some());

    bench.pass_time(300);
    bench.settle();
    assert_eq!(state(&bench), RolloutState::Completed);
    alarm(&mut bench);
    let status = bench.service_status("web");
    assert_eq!(status.failed_deployment, None, "nobody watches any more");
    assert_eq!(
        status.deployments[0].alarms.as_ref().unwrap().status,
        MonitorStatus::MonitoringComplete
    );
}

#[test]
fn without_it_or_while_it_is_off_all_of_it_is_waited_for() {
    for off in [
        Value::Null,
        json!({ "enable": false, "healthyPercent": 50 }),
    ] {
        let mut bench = rolling(2, 50, 200, &off);
        become_healthy(&mut bench, 1);
        assert_eq!(state(&bench), RolloutState::InProgress, "{off}");
    }
}

#[test]
fn what_is_missing_or_below_the_minimum_is_refused_by_name() {
    for (minimum, criteria, said) in [
        (
            50,
            json!({ "enable": true }),
            "earlySuccessCriteria` must have `healthyPercent` and",
        ),
        (
            50,
            json!({ "enable": true, "healthyPercent": 90 }),
            "earlySuccessCriteria` must have `healthyPercent` and",
        ),
        (
            50,
            criteria(49, "BLOCKING"),
            "earlySuccessCriteria.healthyPercent` must be `minimumHealthyPercent` (50) to 100, not 49",
        ),
        (
            150,
            criteria(100, "BLOCKING"),
            "earlySuccessCriteria` needs a `minimumHealthyPercent` of at most 100, not 150",
        ),
    ] {
        let mut bench = Bench::with_checked_service(1, 1, minimum, 200);
        configure(&mut bench, &criteria);
        bench.settle();
        let condition = bench.service_status("web").conditions[0].clone();
        assert_eq!(condition.reason, "InvalidSpec", "{criteria}");
        assert!(condition.message.contains(said), "{}", condition.message);
    }
}
