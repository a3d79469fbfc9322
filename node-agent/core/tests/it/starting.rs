//! One test for each rule of a task's way up, and of what it tells, on the fake engine.

use crate::rig;
use std::time::Duration;

use crate::rig::{Rig, container, plan, web};
use tallyman_agent_core::{Assignment, Due, Plan, Sighting};
use tallyman_agent_engine::fake::{Mishap, Program};
use tallyman_agent_engine::{EngineError, Health, Phase, Verb};
use tallyman_crds::ecs::HealthCheck;
use tallyman_crds::{ConditionStatus, Connectivity, HealthStatus, LastStatus, StopCode};

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn a_task_starts_with_four_engine_calls_and_one_patch() {
    let mut rig = Rig::new(vec![web("app")]);
    rig.settle_down();
    let calls = [Verb::Prepare, Verb::Create, Verb::Start, Verb::Inspect];
    assert_eq!(calls.map(|verb| rig.engine.calls_of(verb)), [1, 1, 1, 1]);
    assert_eq!(rig.engine.call_count(), 4);
    rig.run(SECOND * 30);
    assert_eq!(
        rig.engine.call_count(),
        4,
        "lists of unchanged containers cause no calls"
    );
    assert_eq!(rig.told.len(), 1);
    let status = &rig.told[0];
    assert_eq!(status.last_status, LastStatus::Running);
    assert_eq!(status.observed_generation, 3);
    assert_eq!(status.container_instance.as_deref(), Some("host-a"));
    assert!(status.accepted_at.is_some() && status.started_at.is_some());
    assert!(status.pull_started_at.is_some() && status.pull_stopped_at.is_some());
    let binding = &status.containers[0].network_bindings[0];
    assert_eq!(
        status.ports.as_deref(),
        Some(format!("10.0.0.5:{}->80", binding.host_port.unwrap()).as_str())
    );
    assert_eq!(status.conditions.len(), 1);
    assert_eq!(status.conditions[0].type_, "Ready");
    assert_eq!(status.conditions[0].status, ConditionStatus::True);
    assert_eq!(status.conditions[0].observed_generation, Some(3));
}

/// ECS `connectivity`. The operator takes it from there, so no later report may have it.
#[test]
fn the_first_report_says_that_the_host_is_connected_and_no_other_does() {
    let mut rig = Rig::new(vec![web("app")]);
    rig.api = false;
    rig.run(SECOND * 5);
    rig.api = true;
    rig.run(SECOND * 60);
    rig.want_stop(StopCode::UserInitiated, "enough");
    rig.run(SECOND * 30);
    let said: Vec<_> = rig.told.iter().map(|told| told.connectivity).collect();
    assert_eq!(said, [Some(Connectivity::Connected), None]);
    assert_eq!(rig.told[0].connectivity_at, rig.told[0].accepted_at);
    let patch = rig.parcels[1].json_patch().to_string();
    assert!(!patch.contains("connectivity"), "{patch}");
    // Nor does it after a restart.
    let record = rig.machine.record().clone();
    rig.restart(Some(record));
    rig.run(SECOND * 60);
    assert_eq!(rig.told.len(), 2);
}

#[test]
fn events_of_our_own_start_are_no_news() {
    let mut rig = Rig::new(vec![web("app")]);
    rig.settle_down();
    let name = rig.name("app");
    rig.machine
        .hinted(&name, &tallyman_agent_engine::Hint::Started(name.clone()));
    rig.settle_down();
    assert_eq!(rig.engine.call_count(), 4);
}

#[test]
fn a_pull_that_fails_for_good_fails_the_task_with_the_name_ecs_has() {
    let mut rig = Rig::new(vec![container("app", true)]);
    rig.engine.set_missing("app:1");
    rig.run(SECOND * 60);
    let status = rig.status();
    assert_eq!(status.last_status, LastStatus::Stopped);
    assert_eq!(status.stop_code, Some(StopCode::TaskFailedToStart));
    let reason = status.stopped_reason.clone().unwrap();
    assert!(reason.starts_with("CannotPullContainerError: "), "{reason}");
    assert_eq!(
        status.containers[0].reason.as_deref(),
        Some(reason.as_str())
    );
    assert_eq!(status.started_at, None);
    assert!(status.conditions.iter().any(|c| c.type_ == "Stalled"));
    assert_eq!(rig.engine.calls_of(Verb::Prepare), 5);
    assert_eq!(rig.engine.calls_of(Verb::Create), 0);
    assert_eq!(rig.engine.calls_of(Verb::Stop), 0);
}

/// A credential helper may answer the next time, and so may an engine that does not know what it pulled.
#[test]
fn what_kept_the_image_away_has_the_name_that_ecs_has_for_it() {
    let image = "app:1".to_owned();
    let cases = [
        (
            EngineError::CannotAuthenticate {
                image: image.clone(),
                registry: "r.test".to_owned(),
                why: "`docker-credential-shop` failed".to_owned(),
                message: "no basic auth credentials".to_owned(),
            },
            "CannotPullContainerAuthError: the credentials for r.test could not be looked up: \
             `docker-credential-shop` failed; without them: no basic auth credentials",
        ),
        (
            EngineError::CannotResolve {
                image,
                message: "app:1 was pulled and is not there".to_owned(),
            },
            "CannotPullImageManifestError: app:1 was pulled and is not there",
        ),
    ];
    for (error, words) in cases {
        let mut rig = Rig::new(vec![container("app", true)]);
        rig.engine.fail(Verb::Prepare, 4, &error);
        rig.run(SECOND * 60);
        assert_eq!(rig.status().last_status, LastStatus::Running, "{words}");
        let mut rig = Rig::new(vec![container("app", true)]);
        rig.engine.fail(Verb::Prepare, 5, &error);
        rig.run(SECOND * 60);
        let status = rig.status();
        assert_eq!(status.stop_code, Some(StopCode::TaskFailedToStart));
        assert_eq!(status.stopped_reason.as_deref(), Some(words));
        assert_eq!(status.containers[0].reason.as_deref(), Some(words));
    }
}

#[test]
fn an_image_that_comes_in_time_is_taken() {
    let mut rig = Rig::new(vec![container("app", true)]);
    rig.engine.set_missing("app:1");
    rig.run(SECOND * 3);
    assert_eq!(rig.status().last_status, LastStatus::Pending);
    let told = rig.told.last().unwrap();
    assert_eq!(told.last_status, LastStatus::Pending);
    assert!(told.conditions.iter().any(|c| c.type_ == "Reconciling"));
    rig.engine.publish_image("app:1");
    rig.run(SECOND * 10);
    assert_eq!(rig.status().last_status, LastStatus::Running);
    assert_eq!(rig.status().conditions.len(), 1);
}

#[test]
fn what_the_engine_refuses_to_create_or_start_fails_the_task() {
    let invalid = EngineError::InvalidSpec {
        message: "bad user".to_owned(),
    };
    let mut rig = Rig::new(vec![container("app", true)]);
    rig.engine.next(Verb::Create, Mishap::Refused(invalid));
    rig.settle_down();
    let reason = rig.status().stopped_reason.clone().unwrap();
    assert_eq!(reason, "CannotCreateContainerError: bad user");
    assert_eq!(rig.engine.calls_of(Verb::Create), 1);

    let mut rig = Rig::new(vec![container("app", true), container("other", true)]);
    rig.engine
        .set_program("app:1", Program::cannot_start("no such program"));
    rig.settle_down();
    let status = rig.status();
    assert_eq!(status.last_status, LastStatus::Stopped);
    assert_eq!(status.stop_code, Some(StopCode::TaskFailedToStart));
    let reason = status.stopped_reason.clone().unwrap();
    assert!(
        reason.starts_with("CannotStartContainerError: "),
        "{reason}"
    );
    assert_eq!(status.started_at, None);
    assert_eq!(rig.engine.calls_of(Verb::Start), 2);
}

#[test]
fn a_start_that_times_out_for_good_is_a_docker_timeout() {
    let mut rig = Rig::new(vec![container("app", true)]);
    for _ in 0..5 {
        rig.engine.next(Verb::Start, Mishap::TimeoutBefore);
    }
    rig.run(SECOND * 120);
    let reason = rig.status().stopped_reason.clone().unwrap();
    assert_eq!(
        reason,
        "DockerTimeoutError: Could not transition to started; timed out after waiting 1m0s"
    );
}

#[test]
fn a_timeout_proves_nothing() {
    for verb in [Verb::Prepare, Verb::Create, Verb::Start, Verb::Inspect] {
        for mishap in [
            Mishap::TimeoutBefore,
            Mishap::TimeoutAfter,
            Mishap::InterruptedAfter,
        ] {
            let mut rig = Rig::new(vec![container("app", true)]);
            rig.engine.next(verb, mishap.clone());
            rig.run(SECOND * 30);
            assert_eq!(
                rig.status().last_status,
                LastStatus::Running,
                "{verb} {mishap:?}"
            );
            assert_eq!(rig.engine.containers().len(), 1);
        }
    }
}

#[test]
fn an_engine_that_is_away_changes_nothing() {
    let mut rig = Rig::new(vec![container("app", true)]);
    rig.settle_down();
    let before = rig.status().clone();
    rig.engine.set_unreachable(true);
    let name = rig.name("app");
    rig.machine
        .hinted(&name, &tallyman_agent_engine::Hint::Died(name.clone()));
    for _ in 0..100 {
        rig.turn();
        rig.engine.advance(SECOND * 5);
    }
    assert_eq!(rig.status().last_status, LastStatus::Running);
    assert_eq!(rig.status().containers, before.containers);
    rig.engine.set_unreachable(false);
    rig.run(SECOND * 30);
    assert_eq!(rig.status().last_status, LastStatus::Running);
}

#[test]
fn a_task_that_waits_for_its_engine_waits_forever() {
    let mut rig = Rig::new(vec![container("app", true)]);
    rig.engine.set_unreachable(true);
    for _ in 0..300 {
        rig.turn();
        rig.engine.advance(SECOND * 3);
    }
    assert_eq!(rig.status().last_status, LastStatus::Pending);
    rig.engine.set_unreachable(false);
    rig.run(SECOND * 30);
    assert_eq!(rig.status().last_status, LastStatus::Running);
}

#[test]
fn health_is_that_of_the_essential_containers_with_a_check() {
    let check = HealthCheck {
        command: vec!["CMD".to_owned(), "true".to_owned()],
        ..HealthCheck::default()
    };
    let mut app = container("app", true);
    app.health_check = Some(check.clone());
    let mut side = container("side", false);
    side.health_check = Some(check);
    let mut rig = Rig::new(vec![app, side, container("plain", true)]);
    rig.engine.set_program(
        "app:1",
        Program::runs().health_after(SECOND * 5, Health::Healthy),
    );
    rig.engine.set_program(
        "side:1",
        Program::runs().health_after(SECOND * 5, Health::Unhealthy),
    );
    rig.settle_down();
    assert_eq!(rig.status().health_status, HealthStatus::Unknown);
    rig.run(SECOND * 20);
    assert_eq!(rig.status().health_status, HealthStatus::Healthy);
    assert_eq!(
        rig.status().containers[1].health_status,
        HealthStatus::Unhealthy
    );
    rig.engine.set_health(&rig.name("app"), Health::Unhealthy);
    rig.run(SECOND * 20);
    assert_eq!(rig.status().health_status, HealthStatus::Unhealthy);
    assert_eq!(
        rig.status().last_status,
        LastStatus::Running,
        "health alone stops nothing"
    );
    assert_eq!(rig.status().conditions[0].status, ConditionStatus::False);
    assert_eq!(rig.status().conditions[0].reason, "Unhealthy");
}

#[test]
fn a_task_that_cannot_be_read_says_so_and_hurts_nobody() {
    let mut spec = plan(vec![container("app", true)]);
    spec.tasks.push(tallyman_crds::PlannedTask {
        name: "other".to_owned(),
        uid: "other-uid".to_owned(),
        definition: "gone-1".to_owned(),
        ..Default::default()
    });
    let assignment = Assignment::parse(Plan::from(spec.clone()), &rig::door());
    assert_eq!(assignment.tasks.len(), 2);
    spec.tasks.remove(0);
    let mut rig = Rig::of(spec);
    rig.settle_down();
    let status = rig.status();
    assert_eq!(status.last_status, LastStatus::Stopped);
    assert_eq!(status.stop_code, Some(StopCode::TaskFailedToStart));
    assert!(
        status
            .stopped_reason
            .as_deref()
            .unwrap()
            .contains("`gone-1`")
    );
    assert_eq!(rig.engine.call_count(), 0);
}

#[test]
fn a_running_task_whose_definition_is_lost_from_the_plan_runs_on() {
    let mut rig = Rig::new(vec![container("app", true)]);
    rig.settle_down();
    rig.spec.definitions.clear();
    rig.machine.assign(rig::assigned(rig.spec.clone()));
    rig.run(SECOND * 30);
    assert_eq!(rig.status().last_status, LastStatus::Running);
    rig.restart(None);
    rig.run(SECOND * 30);
    assert_eq!(rig.status().last_status, LastStatus::Running);
    assert_eq!(rig.starts(), 1);
    rig.want_stop(StopCode::UserInitiated, "enough");
    rig.run(SECOND * 30);
    assert_eq!(rig.status().last_status, LastStatus::Stopped);
    assert!(matches!(
        rig.engine
            .peek(&rig.engine.containers()[0].name)
            .unwrap()
            .phase,
        Phase::Exited { .. }
    ));
}

#[test]
fn reports_are_sent_again_until_they_are_taken() {
    let mut rig = Rig::new(vec![container("app", true)]);
    rig.api = false;
    rig.run(SECOND * 120);
    assert!(rig.told.is_empty());
    rig.api = true;
    rig.run(SECOND * 60);
    assert_eq!(rig.told.len(), 1);
    let record = rig.machine.record().clone();
    rig.restart(Some(record));
    rig.run(SECOND * 60);
    assert_eq!(
        rig.told.len(),
        1,
        "what was acknowledged is not sent again after a restart"
    );
    let now = rig.now();
    assert_eq!(rig.machine.due(now), Due::Nothing);
}

#[test]
fn a_look_is_needed_when_nothing_was_seen() {
    let task = rig::assigned(plan(vec![container("app", true)]));
    let record = tallyman_agent_core::TaskRecord::new(&task);
    let seen = tallyman_agent_core::TaskObservation::default();
    assert_eq!(*seen.sighting("app"), Sighting::Stale);
    let step = tallyman_agent_core::step(
        &task,
        &record,
        &seen,
        &rig::host(),
        jiff::Timestamp::UNIX_EPOCH,
    );
    assert_eq!(step.actions.len(), 1);
    assert_eq!(step.actions[0].verb(), Verb::Inspect);
}

/// `versionConsistency`: the plan says which digest the operator means.
#[test]
fn a_container_is_started_with_the_digest_of_the_plan_and_told_by_the_name_of_the_definition() {
    let digest = format!("sha256:{}", "a".repeat(64));
    let mut spec = rig::plan(vec![
        rig::container("app", true),
        rig::container("other", false),
    ]);
    spec.tasks[0].images = [("app".to_owned(), digest.clone())].into();
    let mut rig = rig::Rig::of(spec);
    rig.settle_down();
    let image = |name: &str| rig.engine.spec(&rig.name(name)).unwrap().image;
    assert_eq!(image("app"), format!("app:1@{digest}"));
    assert_eq!(image("other"), "other:1");
    let told = rig.status().containers.iter().map(|c| c.image.clone());
    assert_eq!(
        told.collect::<Vec<_>>(),
        [Some("app:1".to_owned()), Some("other:1".to_owned())]
    );
}
