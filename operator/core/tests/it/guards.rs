//! Circuit breaker, alarms, time limit, restart, pause, and what is told of them (ECS deployment failure detection).

use crate::common::Bench;
use crate::common::build::{checked, definition, service};
use crate::common::moves::{counts, holding, of_image};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::{Value, json};
use tallyman_crds::{
    DesiredStatus, HealthStatus, LastStatus, MonitorStatus, RolloutState, ServiceStatus, StopCode,
    Task,
};
use tallyman_operator_core::Kind;

/// Service `web` of `desired` tasks with a breaker that rolls back, converged at `web:1`.
fn guarded(desired: i64, breaker: Value) -> Bench {
    let mut bench = Bench::with_hosts(3);
    bench.apply_definition("web", definition("web:1"));
    let mut spec = service("web", desired, 100, 200);
    spec["deploymentConfiguration"]["deploymentCircuitBreaker"] = breaker;
    bench.apply_service("web", spec);
    bench.converge(60);
    assert_eq!(bench.reason("web"), "SteadyState");
    bench
}

fn rolling_back() -> Value {
    json!({ "enable": true, "rollback": true })
}

fn live(bench: &Bench, image: &str) -> Vec<String> {
    bench.tasks(|t| holding(t) && of_image(bench, image)(t))
}

/// Every task of `image` that is wanted stops before it runs, until `rounds` are over or nothing of it is started any more.
fn never_starts(bench: &mut Bench, image: &str, rounds: usize) {
    for _ in 0..rounds {
        bench.settle();
        let wanted = |t: &Task| t.spec.desired_status == DesiredStatus::Running;
        let names = bench.tasks(|t| holding(t) && wanted(t) && of_image(bench, image)(t));
        for name in names {
            bench.fail(&name, StopCode::TaskFailedToStart);
        }
        bench.stop_all();
        bench.pass_time(3600);
    }
    bench.settle();
}

fn said(status: &ServiceStatus) -> Vec<&str> {
    status.events.iter().map(|e| e.message.as_str()).collect()
}

/// Steps 4.3 and 4.8 of `docs/ecs-rules.md`.
#[test]
fn a_deployment_whose_tasks_fail_to_start_goes_back_to_the_last_that_completed() {
    let mut bench = guarded(3, rolling_back());
    let completed = bench.service_status("web").deployments[0].id.clone();
    bench.roll("web:2");
    bench.settle();
    let failed = bench.service_status("web").deployments[0].id.clone();
    for (n, name) in live(&bench, "web:2").into_iter().enumerate() {
        let breaker = bench.service_status("web").deployments[0]
            .circuit_breaker
            .clone()
            .unwrap();
        assert_eq!(breaker.status, MonitorStatus::Monitoring);
        assert_eq!(
            (
                usize::try_from(breaker.failure_count).unwrap(),
                breaker.threshold
            ),
            (n, 3)
        );
        bench.fail(&name, StopCode::TaskFailedToStart);
        bench.pass();
    }
    bench.converge(60);
    let status = bench.service_status("web");
    assert_eq!(live(&bench, "web:1").len(), 3);
    assert_eq!(live(&bench, "web:2"), Vec::<String>::new());
    assert_eq!(status.deployments[0].id, completed);
    assert_eq!(status.deployments[0].rollout_state, RolloutState::Completed);
    assert_eq!(status.task_definition.as_deref(), Some("web:1"));
    let given_up = status.failed_deployment.as_ref().unwrap();
    assert_eq!(
        (&given_up.id, given_up.task_definition.as_str()),
        (&failed, "web:2")
    );
    // Stalled, so that a pipeline that waits ends, and says why.
    assert_eq!(status.conditions[0].reason, "DeploymentRolledBack");
    assert!(status.conditions.iter().any(|c| c.type_ == "Stalled"));
    for part in [
        "web:2 failed",
        "tasks failed to start",
        "3 failures",
        "it failed",
        "back to web:1",
    ] {
        let message = &status.conditions[0].message;
        assert!(message.contains(part), "{part}: {message}");
    }
    let told = said(&status);
    for sentence in [
        format!("(service web) (deployment {failed}) deployment failed: tasks failed to start."),
        format!("(service web) rolling back to deployment {completed}."),
        format!("(service web) (deployment {completed}) deployment completed."),
        "(service web) has reached a steady state.".to_owned(),
    ] {
        assert!(told.contains(&sentence.as_str()), "{sentence}: {told:#?}");
    }
}

#[test]
fn another_revision_ends_the_matter() {
    let mut bench = guarded(2, rolling_back());
    bench.roll("web:2");
    never_starts(&mut bench, "web:2", 4);
    bench.converge(60);
    assert_eq!(bench.reason("web"), "DeploymentRolledBack");
    bench.roll("web:3");
    bench.converge(60);
    let status = bench.service_status("web");
    assert_eq!(status.conditions[0].reason, "SteadyState");
    assert_eq!(status.failed_deployment, None);
    assert_eq!(live(&bench, "web:3").len(), 2);
}

#[test]
fn a_restart_tries_the_failed_revision_again() {
    let mut bench = guarded(2, rolling_back());
    bench.roll("web:2");
    never_starts(&mut bench, "web:2", 4);
    bench.converge(60);
    restart(&mut bench, "1");
    bench.converge(60);
    assert_eq!(live(&bench, "web:2").len(), 2);
    assert_eq!(bench.reason("web"), "SteadyState");
}

/// Step 4.7 of `docs/ecs-rules.md`.
#[test]
fn a_failed_deployment_without_rollback_starts_nothing_more_and_leaves_the_old_tasks() {
    let mut bench = guarded(3, json!({ "enable": true, "rollback": false }));
    bench.roll("web:2");
    never_starts(&mut bench, "web:2", 4);
    bench.pass_time(3600);
    assert_eq!(counts(&bench.plan()), (0, 0));
    assert_eq!(live(&bench, "web:1").len(), 3);
    let status = bench.service_status("web");
    assert_eq!(status.conditions[0].reason, "DeploymentFailed");
    assert_eq!(status.deployments[0].rollout_state, RolloutState::Failed);
    // Scaling in still works.
    bench.scale("web", 0);
    bench.converge(60);
    assert_eq!(bench.tasks(holding), Vec::<String>::new());
}

/// Steps 4.4 and 4.8 of `docs/ecs-rules.md`.
#[test]
fn a_first_deployment_that_fails_has_nothing_to_go_back_to() {
    let mut bench = Bench::with_hosts(2);
    bench.apply_definition("web", definition("web:1"));
    let mut spec = service("web", 1, 100, 200);
    spec["deploymentConfiguration"]["deploymentCircuitBreaker"] = rolling_back();
    bench.apply_service("web", spec);
    never_starts(&mut bench, "web:1", 6);
    assert_eq!(bench.reason("web"), "DeploymentFailed");
    assert_eq!(
        bench.names(Kind::Task).len(),
        3,
        "the threshold of one task is 3"
    );
    bench.pass_time(3600);
    assert_eq!(counts(&bench.plan()), (0, 0));
}

/// Step 4.8 of `docs/ecs-rules.md`.
#[test]
fn a_rollback_that_fails_goes_back_no_further() {
    let mut bench = guarded(2, rolling_back());
    bench.roll("web:2");
    bench.settle();
    // All old tasks go at once: the rollback has to start its own.
    for name in live(&bench, "web:1") {
        bench.fail(&name, StopCode::EssentialContainerExited);
    }
    never_starts(&mut bench, "web:2", 3);
    assert_eq!(
        bench.service_status("web").task_definition.as_deref(),
        Some("web:1")
    );
    never_starts(&mut bench, "web:1", 6);
    let status = bench.service_status("web");
    assert_eq!(status.deployments[0].rollout_state, RolloutState::Failed);
    assert!(
        status.conditions[0]
            .message
            .contains("going back to web:1 failed, too")
    );
    bench.pass_time(3600);
    assert_eq!(counts(&bench.plan()), (0, 0));
}

/// Steps 4.1 and 4.2 of `docs/ecs-rules.md`.
#[test]
fn thresholds_are_those_of_the_configuration() {
    // Type, value, desired -> failures at which it trips
    let rows = [
        (None, 2, 3),
        (Some(("COUNT", 1)), 4, 1),
        (Some(("COUNT", 5)), 2, 5),
        (Some(("BOUNDED_PERCENT", 100)), 4, 4),
        (Some(("BOUNDED_PERCENT", 10)), 4, 3),
        (Some(("UNBOUNDED_PERCENT", 10)), 4, 1),
    ];
    for (threshold, desired, expected) in rows {
        let mut breaker = rolling_back();
        if let Some((kind, value)) = threshold {
            breaker["thresholdConfiguration"] = json!({ "type": kind, "value": value });
        }
        let mut bench = guarded(desired, breaker);
        bench.roll("web:2");
        let mut failures = 0;
        while bench.service_status("web").failed_deployment.is_none() {
            bench.settle();
            let Some(name) = live(&bench, "web:2").into_iter().next() else {
                bench.pass_time(3600);
                continue;
            };
            bench.fail(&name, StopCode::TaskFailedToStart);
            failures += 1;
            bench.pass();
        }
        assert_eq!(failures, expected, "{threshold:?} of {desired}");
    }
}

/// Fails until the deployment of `web:2` is given up or `limit` failures are over; says how many there were.
fn failures_until_given_up(
    bench: &mut Bench,
    limit: usize,
    fail: impl Fn(&mut Bench, &str),
) -> usize {
    for n in 0..limit {
        for _ in 0..3 {
            bench.settle();
            bench.stop_all();
        }
        if bench.service_status("web").failed_deployment.is_some() {
            return n;
        }
        let wanted = |t: &Task| t.spec.desired_status == DesiredStatus::Running;
        let name = bench.tasks(|t| holding(t) && wanted(t) && of_image(bench, "web:2")(t));
        if let Some(name) = name.first() {
            fail(bench, name);
        }
        bench.settle();
        bench.pass_time(5);
    }
    limit
}

/// Step 4.4 of `docs/ecs-rules.md`.
#[test]
fn what_counts_is_what_was_asked_for() {
    let crash = |bench: &mut Bench, name: &str| {
        bench.run(name);
        bench.fail(name, StopCode::EssentialContainerExited);
    };
    let mut plain = guarded(2, rolling_back());
    plain.roll("web:2");
    assert_eq!(
        failures_until_given_up(&mut plain, 12, crash),
        12,
        "ECS does not count exits"
    );

    let mut breaker = rolling_back();
    breaker["countedFailures"] = json!(["TaskFailedToStart", "EssentialContainerExited"]);
    let mut asked = guarded(2, breaker);
    asked.roll("web:2");
    assert_eq!(failures_until_given_up(&mut asked, 12, crash), 3);
}

/// Step 4.5 of `docs/ecs-rules.md`.
#[test]
fn once_a_task_ran_launch_failures_no_longer_count() {
    let mut bench = guarded(2, rolling_back());
    bench.roll("web:2");
    bench.settle();
    let first = live(&bench, "web:2")[0].clone();
    bench.run(&first);
    bench.pass_time(1);
    for _ in 0..6 {
        for name in live(&bench, "web:2").into_iter().filter(|n| *n != first) {
            bench.fail(&name, StopCode::TaskFailedToStart);
        }
        bench.settle();
        bench.pass_time(3600);
        bench.settle();
    }
    assert_eq!(bench.service_status("web").failed_deployment, None);
}

/// Tasks of `web:2` that run and whose health nobody knows yet.
fn unchecked(bench: &mut Bench) -> Vec<String> {
    bench.settle();
    bench.run_all();
    bench.settle();
    bench.pass_time(5);
    bench.tasks(|t| {
        let status = t.status.as_ref();
        holding(t)
            && of_image(bench, "web:2")(t)
            && status.is_some_and(|s| s.health_status == HealthStatus::Unknown)
    })
}

/// Lets one task of `web:2` fail its health check, and stop for it.
fn sicken(bench: &mut Bench) {
    let name = unchecked(bench)[0].clone();
    bench.health(&name, HealthStatus::Unhealthy);
    for _ in 0..3 {
        bench.settle();
        bench.stop_all();
    }
    bench.settle();
}

/// Lets one task of `web:2` pass it.
fn heal(bench: &mut Bench) {
    let name = unchecked(bench)[0].clone();
    bench.health(&name, HealthStatus::Healthy);
    let now = Time(bench.now);
    bench.edit(Kind::Task, &name, &|v| {
        v["status"]["conditions"] = json!([{
            "type": "Ready", "status": "True", "reason": "Running", "message": "", "lastTransitionTime": now
        }]);
    });
    bench.settle();
    bench.pass_time(5);
}

/// Step 4.6 of `docs/ecs-rules.md`.
#[test]
fn failed_health_checks_count_and_a_healthy_task_sets_the_count_back() {
    for reset in [true, false] {
        let mut breaker = rolling_back();
        breaker["resetOnHealthyTask"] = json!(reset);
        let mut bench = guarded(3, breaker);
        // No room for a replacement beside it, so that a sick task is stopped at once.
        bench.edit(Kind::Service, "web", &|v| {
            v["spec"]["deploymentConfiguration"]["minimumHealthyPercent"] = json!(0);
            v["spec"]["deploymentConfiguration"]["maximumPercent"] = json!(100);
        });
        bench.apply_definition("web", checked("web:2"));
        bench.settle();
        bench.stop_all();
        let count = |bench: &Bench| {
            let status = bench.service_status("web");
            status.deployments[0]
                .circuit_breaker
                .as_ref()
                .unwrap()
                .failure_count
        };
        sicken(&mut bench);
        sicken(&mut bench);
        assert_eq!(count(&bench), 2);
        heal(&mut bench);
        assert_eq!(count(&bench), if reset { 0 } else { 2 });
        sicken(&mut bench);
        let given_up = bench.service_status("web").failed_deployment.is_some();
        assert_eq!(given_up, !reset);
    }
}

/// Step 4.9 of `docs/ecs-rules.md`.
#[test]
fn no_room_counts_only_when_asked_and_once_a_minute() {
    let crowded = |breaker: Value| {
        let mut bench = guarded(1, breaker);
        let mut spec = definition("web:2");
        spec["containerDefinitions"][0]["memory"] = json!(60000);
        bench.apply_definition("web", spec);
        bench.settle();
        bench
    };
    let mut patient = crowded(rolling_back());
    patient.pass_time(36000);
    patient.settle();
    assert_eq!(patient.service_status("web").failed_deployment, None);

    let mut breaker = rolling_back();
    breaker["countedFailures"] = json!(["PlacementFailed"]);
    let mut bench = crowded(breaker);
    for minute in 0..3 {
        assert_eq!(
            bench.service_status("web").failed_deployment,
            None,
            "minute {minute}"
        );
        let wake = bench.plan().wake_at.unwrap();
        assert!(wake <= bench.now + jiff::SignedDuration::from_secs(60));
        bench.pass_time(60);
        bench.settle();
    }
    assert!(bench.service_status("web").failed_deployment.is_some());
    bench.converge(60);
    assert_eq!(bench.reason("web"), "DeploymentRolledBack");
}

/// Step 4.9 of `docs/ecs-rules.md`.
#[test]
fn a_lost_host_is_no_failure_of_the_deployment() {
    let mut bench = guarded(2, rolling_back());
    bench.roll("web:2");
    for _ in 0..5 {
        bench.settle();
        for name in live(&bench, "web:2") {
            bench.fail(&name, StopCode::InfrastructureHealth);
        }
        bench.pass_time(10);
    }
    bench.settle();
    assert_eq!(bench.service_status("web").failed_deployment, None);
}

#[test]
fn a_deployment_that_takes_too_long_is_given_up() {
    let mut bench = guarded(2, rolling_back());
    bench.edit(Kind::Service, "web", &|v| {
        v["spec"]["deploymentConfiguration"]["timeoutInMinutes"] = json!(10);
    });
    bench.roll("web:2");
    bench.settle();
    assert!(bench.plan().wake_at.unwrap() <= bench.now + jiff::SignedDuration::from_mins(10));
    bench.pass_time(599);
    bench.settle();
    assert_eq!(bench.service_status("web").failed_deployment, None);
    bench.pass_time(1);
    bench.converge(60);
    let status = bench.service_status("web");
    assert_eq!(status.conditions[0].reason, "DeploymentRolledBack");
    let failed = status.failed_deployment.unwrap();
    assert!(
        failed.reason.contains("`timeoutInMinutes`, 10"),
        "{}",
        failed.reason
    );
}

/// Sets the condition by which others say that an alarm goes off.
fn alarm(bench: &mut Bench, name: &str, on: bool) {
    let now = Time(bench.now);
    bench.edit(Kind::Service, "web", &|v| {
        let list = v["status"]["conditions"].as_array_mut().unwrap();
        let type_ = format!("alarm.tallyman.dev/{name}");
        list.retain(|c| c["type"] != type_);
        list.push(json!({
            "type": type_, "status": if on { "True" } else { "False" }, "reason": "Threshold", "message": "",
            "lastTransitionTime": now
        }));
    });
}

fn alarmed(names: &[&str]) -> Bench {
    let mut bench = guarded(2, json!({ "enable": false, "rollback": false }));
    bench.edit(Kind::Service, "web", &|v| {
        v["spec"]["deploymentConfiguration"]["alarms"] =
            json!({ "alarmNames": names, "rollback": true, "enable": true });
    });
    bench.settle();
    bench
}

/// Step 4.10 of `docs/ecs-rules.md`.
#[test]
fn an_alarm_during_a_deployment_gives_it_up() {
    let mut bench = alarmed(&["errors"]);
    bench.roll("web:2");
    bench.settle();
    alarm(&mut bench, "latency", true);
    bench.settle();
    assert_eq!(
        bench.service_status("web").failed_deployment,
        None,
        "not one of its alarms"
    );
    alarm(&mut bench, "errors", true);
    bench.converge(60);
    let status = bench.service_status("web");
    assert_eq!(status.conditions[0].reason, "DeploymentRolledBack");
    assert!(
        status
            .conditions
            .iter()
            .any(|c| c.type_ == "alarm.tallyman.dev/errors")
    );
    assert!(
        status.conditions[0]
            .message
            .contains("Alarms went off: errors.")
    );
    assert_eq!(live(&bench, "web:1").len(), 2);
}

/// Step 4.10 of `docs/ecs-rules.md`.
#[test]
fn an_alarm_that_went_off_before_does_not_count_and_a_steady_service_is_not_watched() {
    let mut bench = alarmed(&["errors"]);
    alarm(&mut bench, "errors", true);
    bench.settle();
    assert_eq!(bench.reason("web"), "SteadyState");
    bench.roll("web:2");
    bench.settle();
    let status = bench.service_status("web");
    let watched = status.deployments[0].alarms.clone().unwrap();
    assert_eq!(watched.ignored_alarm_names, ["errors"]);
    bench.converge(60);
    assert_eq!(bench.reason("web"), "SteadyState");
    assert_eq!(live(&bench, "web:2").len(), 2);
}

/// Step 4.10 of `docs/ecs-rules.md`.
#[test]
fn a_deployment_bakes_before_it_completes() {
    let mut bench = alarmed(&["errors"]);
    bench.edit(Kind::Service, "web", &|v| {
        v["spec"]["deploymentConfiguration"]["bakeTimeInMinutes"] = json!(5);
    });
    bench.roll("web:2");
    bench.settle();
    bench.run_all();
    bench.pass_time(41);
    bench.settle();
    bench.stop_all();
    bench.settle();
    let status = bench.service_status("web");
    assert_eq!(status.conditions[0].reason, "Baking", "{status:#?}");
    assert_eq!(
        status.deployments[0].rollout_state,
        RolloutState::InProgress
    );
    let mut alarmed = bench.clone();
    bench.pass_time(300);
    bench.settle();
    assert_eq!(bench.reason("web"), "SteadyState");
    alarm(&mut alarmed, "errors", true);
    alarmed.converge(60);
    assert_eq!(alarmed.reason("web"), "DeploymentRolledBack");
}

fn restart(bench: &mut Bench, value: &str) {
    bench.edit(Kind::Service, "web", &|v| {
        v["metadata"]["annotations"]["tallyman.dev/restartedAt"] = json!(value);
    });
}

/// Step 3.9 of `docs/ecs-rules.md`.
#[test]
fn a_restart_replaces_every_task_without_a_new_revision() {
    let mut bench = Bench::with_service(2, 3, 100, 200);
    let before = bench.tasks(holding);
    restart(&mut bench, "2026-01-01T12:00:00Z");
    bench.converge(60);
    let after = bench.tasks(holding);
    assert_eq!(after.len(), 3);
    assert!(before.iter().all(|name| !after.contains(name)));
    assert_eq!(bench.names(Kind::TaskDefinitionRevision), ["web-1"]);
    restart(&mut bench, "2026-01-01T12:00:00Z");
    bench.converge(60);
    assert_eq!(
        bench.tasks(holding),
        after,
        "the same value again does nothing"
    );
}

fn pause(bench: &mut Bench, on: bool) {
    bench.edit(Kind::Service, "web", &|v| v["spec"]["paused"] = json!(on));
}

#[test]
fn a_paused_service_begins_no_deployment_and_keeps_the_one_it_has() {
    let mut bench = Bench::with_service(2, 2, 100, 200);
    pause(&mut bench, true);
    bench.settle();
    assert_eq!(bench.reason("web"), "SteadyState", "nothing waits");
    bench.roll("web:2");
    bench.converge(60);
    assert_eq!(bench.reason("web"), "Paused");
    assert!(
        bench
            .service_status("web")
            .message
            .unwrap()
            .contains("web:2 waits, web:1 runs")
    );
    let lost = live(&bench, "web:1")[0].clone();
    bench.fail(&lost, StopCode::EssentialContainerExited);
    bench.scale("web", 3);
    bench.converge(60);
    assert_eq!(
        (live(&bench, "web:1").len(), live(&bench, "web:2").len()),
        (3, 0)
    );
    pause(&mut bench, false);
    bench.converge(60);
    assert_eq!(
        (live(&bench, "web:1").len(), live(&bench, "web:2").len()),
        (0, 3)
    );
}

#[test]
fn a_rollout_paused_halfway_stays_there() {
    let mut bench = Bench::with_service(2, 4, 50, 100);
    bench.roll("web:2");
    bench.settle();
    bench.stop_all();
    bench.settle();
    bench.run_all();
    bench.settle();
    pause(&mut bench, true);
    bench.converge(60);
    let halfway = (live(&bench, "web:1").len(), live(&bench, "web:2").len());
    assert_eq!(halfway, (2, 2));
    assert_eq!(bench.reason("web"), "Paused");
    let lost = live(&bench, "web:1")[0].clone();
    bench.fail(&lost, StopCode::EssentialContainerExited);
    bench.converge(60);
    assert_eq!(
        (live(&bench, "web:1").len(), live(&bench, "web:2").len()),
        (1, 3)
    );
    pause(&mut bench, false);
    bench.converge(60);
    assert_eq!(
        (live(&bench, "web:1").len(), live(&bench, "web:2").len()),
        (0, 4)
    );
    assert_eq!(bench.reason("web"), "SteadyState");
}

#[test]
fn a_service_made_paused_starts_nothing() {
    let mut bench = Bench::with_hosts(1);
    bench.apply_definition("web", definition("web:1"));
    let mut spec = service("web", 2, 100, 200);
    spec["paused"] = json!(true);
    bench.apply_service("web", spec);
    bench.converge(60);
    assert_eq!(bench.names(Kind::Task), Vec::<String>::new());
    assert_eq!(bench.reason("web"), "Paused");
    pause(&mut bench, false);
    bench.converge(60);
    assert_eq!(bench.tasks(holding).len(), 2);
}

/// Steps 3.8 and 5.1 of `docs/ecs-rules.md`.
#[test]
fn health_checks_do_not_count_in_the_grace_period() {
    let mut bench = Bench::with_checked_service(2, 2, 100, 200);
    bench.edit(Kind::Service, "web", &|v| {
        v["spec"]["healthCheckGracePeriodSeconds"] = json!(300);
    });
    let name = bench.tasks(holding)[0].clone();
    bench.pass_time(120);
    bench.health(&name, HealthStatus::Unhealthy);
    bench.settle();
    assert_eq!(bench.tasks(holding).len(), 2, "nothing replaces it yet");
    let started = bench
        .task(&name)
        .status
        .clone()
        .unwrap()
        .started_at
        .unwrap()
        .0;
    let ends = started + jiff::SignedDuration::from_secs(300);
    assert!(bench.plan().wake_at.unwrap() <= ends);
    bench.now = ends;
    bench.settle();
    assert_eq!(bench.tasks(holding).len(), 3, "now it is replaced");
}

/// Step 3.6 of `docs/ecs-rules.md`.
#[test]
fn events_are_in_the_status_the_newest_first() {
    let mut bench = Bench::with_service(2, 2, 100, 200);
    bench.scale("web", 1);
    bench.converge(60);
    let status = bench.service_status("web");
    let told = said(&status);
    assert_eq!(told[0], "(service web) has reached a steady state.");
    assert!(
        told[1].starts_with("(service web) has stopped 1 running tasks: (task web-"),
        "{told:?}"
    );
    let last = told.last().unwrap();
    assert!(
        last.starts_with("(service web) has started 2 tasks: (task web-000001)"),
        "{told:?}"
    );
    assert!(told.iter().any(|t| t.ends_with("deployment completed.")));
}

#[test]
fn failed_tasks_are_kept_as_long_as_the_breaker_needs_them() {
    let mut breaker = rolling_back();
    breaker["thresholdConfiguration"] = json!({ "type": "COUNT", "value": 4 });
    breaker["countedFailures"] = json!(["EssentialContainerExited"]);
    let mut bench = guarded(1, breaker);
    bench.roll("web:2");
    for _ in 0..4 {
        bench.settle();
        assert_eq!(bench.service_status("web").failed_deployment, None);
        let name = live(&bench, "web:2")[0].clone();
        bench.run(&name);
        bench.fail(&name, StopCode::EssentialContainerExited);
        bench.settle();
        // Longer than STOPPED tasks are kept.
        bench.pass_time(5000);
    }
    bench.settle();
    assert!(bench.service_status("web").failed_deployment.is_some());
}

/// Step 4.3 of `docs/ecs-rules.md`.
#[test]
fn a_last_status_of_the_breaker_says_that_it_is_done() {
    let bench = guarded(2, rolling_back());
    let breaker = bench.service_status("web").deployments[0]
        .circuit_breaker
        .clone();
    assert_eq!(breaker.unwrap().status, MonitorStatus::MonitoringComplete);
    let stopped = bench.tasks(|t| {
        t.status
            .as_ref()
            .is_some_and(|s| s.last_status == LastStatus::Stopped)
    });
    assert_eq!(stopped, Vec::<String>::new());
}
