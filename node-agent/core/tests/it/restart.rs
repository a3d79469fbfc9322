//! `restartPolicy`: a container that exited is started again in place, and only when the policy says so.

use crate::rig;
use std::time::Duration;

use crate::rig::{Rig, container, web};
use proptest::prelude::*;
use tallyman_agent_engine::fake::{Crash, Mishap};
use tallyman_agent_engine::{EngineError, Health, Phase, Verb};
use tallyman_crds::ecs::{
    ContainerCondition, ContainerDefinition, ContainerDependency, ContainerRestartPolicy,
    HealthCheck,
};
use tallyman_crds::{LastStatus, StopCode};

const SECOND: Duration = Duration::from_secs(1);

fn restarting(mut definition: ContainerDefinition, ignored: &[i32]) -> ContainerDefinition {
    definition.restart_policy = Some(ContainerRestartPolicy {
        enabled: true,
        ignored_exit_codes: ignored.to_vec(),
        restart_attempt_period: Some(60),
    });
    definition
}

/// How often the container was started, as far as the engine carried it out.
fn runs(rig: &Rig, container: &str) -> usize {
    let name = rig.name(container);
    let mut at: Vec<_> = rig
        .engine
        .call_log()
        .into_iter()
        .filter(|call| call.verb == Verb::Start && call.target == name)
        .filter(|call| {
            !matches!(
                call.outcome,
                tallyman_agent_engine::fake::Outcome::Failed(_)
            )
        })
        .map(|call| call.at)
        .collect();
    at.dedup();
    at.len()
}

fn runs_now(rig: &Rig, container: &str) -> bool {
    let state = rig.engine.peek(&rig.name(container)).unwrap();
    matches!(state.phase, Phase::Running { .. })
}

#[test]
fn a_container_that_ran_long_enough_is_started_again_and_the_task_runs_on() {
    for essential in [true, false] {
        let mut rig = Rig::new(vec![restarting(web("app"), &[]), container("side", true)]);
        rig.spec
            .definitions
            .get_mut("web-7")
            .unwrap()
            .definition
            .container_definitions[0]
            .essential = Some(essential);
        rig.machine.assign(rig::assigned(rig.spec.clone()));
        rig.settle_down();
        let id = rig.engine.peek(&rig.name("app")).unwrap().id;
        let started_at = rig.status().started_at.clone();
        for restarts in 1..=3 {
            rig.run(SECOND * 61);
            rig.engine.exit(&rig.name("app"), restarts);
            rig.run(SECOND * 11);
            assert!(runs_now(&rig, "app"));
            assert_eq!(
                i64::from(rig.machine.record().containers["app"].restarts),
                restarts
            );
        }
        assert_eq!(
            rig.engine.peek(&rig.name("app")).unwrap().id,
            id,
            "in place"
        );
        let status = rig.status();
        assert_eq!(status.last_status, LastStatus::Running);
        assert_eq!(status.started_at, started_at);
        assert_eq!(status.containers[0].last_status, LastStatus::Running);
        assert_eq!(status.containers[0].exit_code, None);
        let published = rig.engine.peek(&rig.name("app")).unwrap().ports[0].host_port;
        let told = &status.containers[0].network_bindings[0];
        assert_eq!(
            told.host_port,
            Some(i32::from(published)),
            "the port of the new run"
        );
    }
}

#[test]
fn too_short_a_run_or_an_ignored_code_is_the_end() {
    for (seconds, code, again) in [
        (59, 1, false),
        (61, 1, true),
        (61, 3, false),
        (500, 0, true),
    ] {
        let mut rig = Rig::new(vec![restarting(container("app", true), &[3, 4])]);
        rig.settle_down();
        rig.engine.advance(SECOND * seconds);
        rig.engine.exit(&rig.name("app"), code);
        rig.run(SECOND * 30);
        assert_eq!(runs_now(&rig, "app"), again, "{seconds} s, code {code}");
        if !again {
            let status = rig.status();
            assert_eq!(status.last_status, LastStatus::Stopped);
            assert_eq!(status.stop_code, Some(StopCode::EssentialContainerExited));
            assert_eq!(status.containers[0].exit_code, i32::try_from(code).ok());
        }
    }
}

#[test]
fn the_period_counts_from_the_last_start() {
    let mut rig = Rig::new(vec![restarting(container("app", true), &[])]);
    rig.run(SECOND * 100);
    rig.engine.exit(&rig.name("app"), 1);
    rig.run(SECOND * 11);
    assert!(runs_now(&rig, "app"));
    rig.engine.exit(&rig.name("app"), 1);
    rig.run(SECOND * 11);
    assert_eq!(rig.status().last_status, LastStatus::Stopped);
    assert_eq!(runs(&rig, "app"), 2);
}

#[test]
fn an_agent_that_was_away_takes_a_run_for_no_longer_than_it_was() {
    for keeps_record in [true, false] {
        for (seconds, again) in [(20, false), (70, true)] {
            let mut rig = Rig::new(vec![restarting(container("app", true), &[])]);
            rig.settle_down();
            rig.engine.advance(SECOND * seconds);
            rig.engine.exit(&rig.name("app"), 1);
            rig.engine.advance(SECOND * 3600);
            let record = rig.machine.record().clone();
            rig.restart(keeps_record.then_some(record));
            rig.run(SECOND * 30);
            assert_eq!(runs_now(&rig, "app"), again);
        }
    }
}

#[test]
fn without_the_api_server_it_is_started_again_all_the_same() {
    let mut rig = Rig::new(vec![restarting(container("app", true), &[])]);
    rig.run(SECOND * 61);
    rig.api = false;
    rig.engine.exit(&rig.name("app"), 1);
    rig.run(SECOND * 11);
    assert!(runs_now(&rig, "app"));
}

#[test]
fn a_policy_that_is_not_enabled_is_none_and_the_default_period_is_five_minutes() {
    for (enabled, period, seconds, again) in [
        (false, Some(60), 400, false),
        (true, None, 299, false),
        (true, None, 301, true),
    ] {
        let mut app = restarting(container("app", true), &[]);
        let policy = app.restart_policy.as_mut().unwrap();
        policy.enabled = enabled;
        policy.restart_attempt_period = period;
        let mut rig = Rig::new(vec![app]);
        rig.settle_down();
        rig.engine.advance(SECOND * seconds);
        rig.engine.exit(&rig.name("app"), 1);
        rig.run(SECOND * 11);
        assert_eq!(
            runs_now(&rig, "app"),
            again,
            "{enabled} {period:?} {seconds}"
        );
    }
}

#[test]
fn a_stop_in_mid_restart_is_a_stop_with_the_exit_as_it_was() {
    let mut rig = Rig::new(vec![restarting(container("app", true), &[])]);
    rig.run(SECOND * 61);
    rig.engine.exit(&rig.name("app"), 9);
    rig.want_stop(StopCode::UserInitiated, "enough");
    rig.run(SECOND * 30);
    let status = rig.status();
    assert_eq!(status.last_status, LastStatus::Stopped);
    assert_eq!(status.stop_code, Some(StopCode::UserInitiated));
    assert_eq!(status.containers[0].exit_code, Some(9));
    assert_eq!(runs(&rig, "app"), 1);
}

#[test]
fn an_end_that_is_decided_between_exit_and_restart_keeps_the_exit_code() {
    // The other one ends the task in the very step that sees both exits.
    let mut rig = Rig::new(vec![
        container("other", true),
        restarting(container("app", true), &[]),
    ]);
    rig.run(SECOND * 61);
    rig.engine.exit(&rig.name("app"), 9);
    rig.engine.exit(&rig.name("other"), 2);
    let list = rig.list();
    rig.machine.listed(&list);
    rig.settle_down();
    let status = rig.status();
    assert_eq!(status.last_status, LastStatus::Stopped);
    assert_eq!(status.containers[0].exit_code, Some(2));
    assert_eq!(status.containers[1].exit_code, Some(9));
    assert_eq!(runs(&rig, "app"), 1);
}

#[test]
fn absence_from_the_plan_and_deletion_restart_nothing() {
    let mut rig = Rig::new(vec![restarting(container("app", true), &[])]);
    rig.run(SECOND * 61);
    rig.machine.unplanned();
    rig.engine.exit(&rig.name("app"), 9);
    rig.run(SECOND * 30);
    assert_eq!(runs(&rig, "app"), 1);
    rig.machine.assign(rig::assigned(rig.spec.clone()));
    rig.run(SECOND * 30);
    assert_eq!(runs(&rig, "app"), 2, "the plan has it again");
}

#[test]
fn a_restart_that_the_engine_refuses_is_the_end_with_the_reason() {
    let mut rig = Rig::new(vec![restarting(container("app", true), &[])]);
    rig.run(SECOND * 61);
    let refused = EngineError::CannotStart {
        name: "app".to_owned(),
        message: "no such device".to_owned(),
    };
    rig.engine.next(Verb::Start, Mishap::Refused(refused));
    rig.engine.exit(&rig.name("app"), 9);
    rig.run(SECOND * 30);
    let status = rig.status();
    assert_eq!(status.last_status, LastStatus::Stopped);
    assert_eq!(status.stop_code, Some(StopCode::EssentialContainerExited));
    assert_eq!(status.containers[0].exit_code, Some(9));
    assert_eq!(
        status.containers[0].reason.as_deref(),
        Some("CannotStartContainerError: no such device")
    );
}

#[test]
fn one_that_others_wait_for_may_restart_before_they_start() {
    let mut db = restarting(container("db", true), &[]);
    db.health_check = Some(HealthCheck {
        command: vec!["CMD".to_owned(), "true".to_owned()],
        ..HealthCheck::default()
    });
    let mut app = container("app", true);
    app.depends_on = vec![ContainerDependency {
        container_name: "db".to_owned(),
        condition: ContainerCondition::Healthy,
    }];
    let mut rig = Rig::new(vec![app, db]);
    rig.run(SECOND * 61);
    rig.engine.exit(&rig.name("db"), 1);
    rig.run(SECOND * 11);
    assert!(runs_now(&rig, "db"));
    assert_eq!(rig.status().last_status, LastStatus::Pending);
    rig.engine.set_health(&rig.name("db"), Health::Healthy);
    rig.run(SECOND * 20);
    assert_eq!(rig.status().last_status, LastStatus::Running);
}

#[test]
fn a_crash_in_mid_restart_makes_it_neither_none_nor_two() {
    for keeps_record in [true, false] {
        for carried_out in [false, true] {
            for call in 1..=5 {
                let what = format!("record {keeps_record}, done {carried_out}, call {call}");
                let mut rig = Rig::new(vec![restarting(container("app", true), &[])]);
                rig.run(SECOND * 61);
                let record = rig.machine.record().clone();
                rig.engine.exit(&rig.name("app"), 1);
                let at_call = rig.engine.call_count() + call;
                rig.engine.crash(Crash {
                    at_call,
                    carried_out,
                });
                rig.run(SECOND * 2);
                rig.restart(keeps_record.then_some(record));
                rig.run(SECOND * 30);
                assert!(runs_now(&rig, "app"), "{what}");
                assert_eq!(rig.status().last_status, LastStatus::Running, "{what}");
                assert_eq!(runs(&rig, "app"), 2, "{what}");
                let restarts = rig.machine.record().containers["app"].restarts;
                // Without the record nobody knows of a run that ended before this agent looked.
                assert!(restarts == 1 || !keeps_record, "{what}");
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    /// Every start but the first follows a run of at least the period that ended with a code that is not
    /// ignored, whenever the agent dies and whatever the engine loses; nothing is started after the end.
    #[test]
    fn every_restart_has_its_exit(
        blows in proptest::collection::vec((0..6u8, 1..90u32, any::<bool>()), 1..30),
    ) {
        let mut rig = Rig::new(vec![restarting(container("app", true), &[3])]);
        let name = rig.name("app");
        let mut last = None;
        let mut may_start = true;
        for (kind, seconds, flag) in blows {
            match kind {
                0 | 1 => rig.run(SECOND * seconds),
                2 => {
                    let code = if flag { 3 } else { 1 };
                    rig.engine.exit(&name, code);
                }
                3 => {
                    let record = rig.machine.record().clone();
                    rig.restart(flag.then_some(record));
                }
                4 => {
                    let verb = if flag { Verb::Start } else { Verb::Inspect };
                    rig.engine.next(verb, if seconds % 2 == 0 { Mishap::TimeoutAfter } else { Mishap::TimeoutBefore });
                }
                _ => { let list = rig.list(); rig.machine.listed(&list); rig.turn(); }
            }
            let Some(state) = rig.engine.peek(&name) else { continue };
            if state.started_at != last {
                prop_assert!(may_start, "started again at {:?}", state.started_at);
                last = state.started_at;
            }
            may_start = match (&state.phase, state.started_at) {
                (Phase::Exited { exit_code, finished_at: Some(at), .. }, Some(began)) => {
                    *exit_code != 3 && at.since(began) >= SECOND * 60
                }
                (Phase::Created, _) => true,
                _ => false,
            };
        }
        rig.engine.mend();
        rig.run(SECOND * 200);
        let runs = runs_now(&rig, "app");
        let status = rig.status();
        prop_assert_eq!(status.last_status == LastStatus::Running, runs);
        prop_assert_eq!(status.last_status == LastStatus::Stopped, !runs);
    }
}
