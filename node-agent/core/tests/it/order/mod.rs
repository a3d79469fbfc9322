//! Containers of one task that wait for each other, on the fake engine: rules one by one, then any graph.

mod graphs;

use crate::rig;
use std::collections::BTreeSet;
use std::time::Duration;

use crate::rig::{Rig, container, plan};
use proptest::prelude::*;
use serde_json::json;
use tallyman_agent_core::TaskBody;
use tallyman_agent_engine::fake::{Crash, Mishap, Outcome, Program};
use tallyman_agent_engine::{Health, Phase, Verb};
use tallyman_crds::ecs::ContainerCondition::{self, Complete, Healthy, Start, Success};
use tallyman_crds::ecs::{ContainerDefinition, ContainerDependency, HealthCheck};
use tallyman_crds::{LastStatus, StopCode};

const SECOND: Duration = Duration::from_secs(1);

fn after(
    mut definition: ContainerDefinition,
    edges: &[(&str, ContainerCondition)],
) -> ContainerDefinition {
    definition.depends_on = edges
        .iter()
        .map(|(name, condition)| ContainerDependency {
            container_name: (*name).to_owned(),
            condition: *condition,
        })
        .collect();
    definition
}

fn checked(mut definition: ContainerDefinition) -> ContainerDefinition {
    definition.health_check = Some(HealthCheck {
        command: vec!["CMD".to_owned(), "true".to_owned()],
        ..HealthCheck::default()
    });
    definition
}

/// A task as people write them: a job that prepares, a database, what serves, and what ships its logs.
fn shop() -> Vec<ContainerDefinition> {
    vec![
        after(container("log", false), &[("web", Start)]),
        after(
            container("web", true),
            &[("init", Success), ("db", Healthy)],
        ),
        checked(after(container("db", true), &[("init", Complete)])),
        container("init", false),
    ]
}

fn shop_rig() -> Rig {
    let rig = Rig::new(shop());
    rig.engine
        .set_program("init:1", Program::exits(0, SECOND * 3));
    rig.engine.set_program(
        "db:1",
        Program::runs().health_after(SECOND * 20, Health::Healthy),
    );
    rig
}

/// Containers in the order in which the engine was told a verb, each once.
fn order(rig: &Rig, verb: Verb) -> Vec<String> {
    let mut order: Vec<String> = Vec::new();
    for call in rig.engine.call_log() {
        let task = rig.machine.task();
        let name = task
            .containers()
            .iter()
            .find(|c| c.engine_name(1) == call.target || c.image() == call.target)
            .map(|c| c.name.clone());
        if let Some(name) = name.filter(|name| call.verb == verb && !order.contains(name)) {
            order.push(name);
        }
    }
    order
}

fn reason(rig: &Rig, container: &str) -> String {
    let containers = &rig.status().containers;
    let found = containers.iter().find(|c| c.name == container).unwrap();
    found.reason.clone().unwrap_or_default()
}

fn message(rig: &Rig) -> &str {
    &rig.status().conditions[0].message
}

#[test]
fn each_container_is_pulled_created_and_started_when_its_conditions_hold() {
    let mut rig = shop_rig();
    rig.settle_down();
    assert_eq!(
        order(&rig, Verb::Prepare),
        ["init"],
        "not even pulled before"
    );
    assert_eq!(
        message(&rig),
        "Container `log` waits for container `web` to start."
    );
    rig.run(SECOND * 10);
    assert_eq!(order(&rig, Verb::Start), ["init", "db"]);
    assert_eq!(rig.status().last_status, LastStatus::Pending);
    rig.run(SECOND * 30);
    for verb in [Verb::Prepare, Verb::Create, Verb::Start] {
        assert_eq!(order(&rig, verb), ["init", "db", "web", "log"], "{verb}");
    }
    assert_eq!(rig.status().last_status, LastStatus::Running);
    assert_eq!(rig.status().containers[3].exit_code, Some(0));
}

#[test]
fn the_end_is_the_other_way_round_each_with_its_own_grace() {
    let mut rig = Rig::new(shop());
    rig.spec
        .definitions
        .get_mut("web-7")
        .unwrap()
        .definition
        .container_definitions[1]
        .stop_timeout = Some(7);
    rig.machine.assign(rig::assigned(rig.spec.clone()));
    rig.engine.set_program("init:1", Program::exits(0, SECOND));
    rig.engine.set_program(
        "db:1",
        Program::runs().health_after(SECOND, Health::Healthy),
    );
    rig.engine
        .set_program("log:1", Program::runs().stopping(SECOND * 3, 0));
    rig.engine
        .set_program("web:1", Program::runs().ignoring_stop());
    rig.run(SECOND * 60);
    assert_eq!(rig.status().last_status, LastStatus::Running);
    rig.want_stop(StopCode::ServiceSchedulerInitiated, "scale-in");
    rig.run(SECOND * 60);
    assert_eq!(order(&rig, Verb::Stop), ["log", "web", "db"]);
    let now = rig.now();
    assert!(rig.machine.step(&rig.host, now).actions.is_empty());
    assert_eq!(rig.status().last_status, LastStatus::Stopped);
    assert_eq!(rig.status().containers[1].exit_code, Some(137));
    assert_eq!(
        rig.status().stop_code,
        Some(StopCode::ServiceSchedulerInitiated)
    );
}

#[test]
fn an_essential_end_stops_the_others_in_order_too() {
    let mut rig = shop_rig();
    rig.run(SECOND * 60);
    rig.engine.exit(&rig.name("web"), 1);
    rig.run(SECOND * 60);
    assert_eq!(order(&rig, Verb::Stop), ["log", "db"]);
    assert_eq!(
        rig.status().stop_code,
        Some(StopCode::EssentialContainerExited)
    );
}

#[test]
fn a_task_that_ends_in_mid_start_stops_what_runs_and_starts_nothing_more() {
    let mut rig = shop_rig();
    rig.run(SECOND * 10);
    assert_eq!(order(&rig, Verb::Start), ["init", "db"]);
    rig.want_stop(StopCode::UserInitiated, "enough");
    rig.run(SECOND * 60);
    let status = rig.status();
    assert_eq!(status.last_status, LastStatus::Stopped);
    assert_eq!(status.stop_code, Some(StopCode::UserInitiated));
    assert_eq!(status.started_at, None);
    assert_eq!(order(&rig, Verb::Start), ["init", "db"]);
    assert_eq!(order(&rig, Verb::Stop), ["db"]);
    assert_eq!(status.containers[0].exit_code, None, "it never ran");
}

#[test]
fn a_job_that_must_succeed_and_fails_fails_the_task_at_once() {
    let mut rig = shop_rig();
    rig.engine.set_program("init:1", Program::exits(4, SECOND));
    rig.run(SECOND * 60);
    let status = rig.status();
    assert_eq!(status.last_status, LastStatus::Stopped);
    assert_eq!(status.stop_code, Some(StopCode::TaskFailedToStart));
    assert_eq!(
        status.stopped_reason.as_deref(),
        Some(
            "CannotStartContainerError: dependency graph: failed to resolve container ordering dependency [init] for \
             target [web] as dependency did not exit successfully (exit code 4)"
        )
    );
    assert_eq!(status.containers[1].exit_code, Some(143));
    assert_eq!(status.containers[3].exit_code, Some(4));
    assert!(!order(&rig, Verb::Prepare).contains(&"web".to_owned()));
}

#[test]
fn a_side_container_whose_dependency_fails_does_not_end_the_task() {
    let mut rig = Rig::new(vec![
        container("app", true),
        container("job", false),
        after(container("side", false), &[("job", Success)]),
        after(container("tail", false), &[("side", Start)]),
    ]);
    rig.engine.set_program("job:1", Program::exits(1, SECOND));
    rig.run(SECOND * 30);
    assert_eq!(rig.status().last_status, LastStatus::Running);
    let side = reason(&rig, "side");
    assert!(side.contains("did not exit successfully"), "{side}");
    let tail = reason(&rig, "tail");
    assert!(
        tail.contains("because dependency will never start"),
        "{tail}"
    );
    assert_eq!(rig.status().containers[3].exit_code, Some(143));
}

#[test]
fn an_essential_dependency_that_ends_is_the_reason_itself() {
    let mut rig = Rig::new(vec![
        after(container("web", true), &[("db", Healthy)]),
        checked(container("db", true)),
    ]);
    rig.engine.set_missing("db:1");
    rig.run(SECOND * 60);
    let why = rig.status().stopped_reason.clone().unwrap();
    assert!(why.starts_with("CannotPullContainerError"), "{why}");
    assert_eq!(reason(&rig, "web"), "");
}

#[test]
fn the_start_timeout_of_the_one_that_is_waited_for_ends_the_wait() {
    for (condition, essential) in [(Healthy, true), (Success, false), (Complete, false)] {
        let mut slow = checked(container("slow", essential));
        slow.start_timeout = Some(15);
        let mut rig = Rig::new(vec![
            slow,
            after(container("web", true), &[("slow", condition)]),
        ]);
        rig.run(SECOND * 12);
        assert_eq!(rig.status().last_status, LastStatus::Pending);
        // The agent's restart does not begin the time anew.
        let record = rig.machine.record().clone();
        rig.restart((condition == Success).then_some(record));
        rig.run(SECOND * 2);
        assert_eq!(rig.status().last_status, LastStatus::Pending);
        rig.run(SECOND * 3);
        let status = rig.status();
        assert_eq!(status.last_status, LastStatus::Stopped, "{condition:?}");
        assert_eq!(status.stop_code, Some(StopCode::TaskFailedToStart));
        let why = status.stopped_reason.clone().unwrap();
        assert!(
            why.starts_with("CannotStartContainerError: ") && why.contains("has timed out"),
            "{why}"
        );
        assert_eq!(status.containers[1].exit_code, Some(143));
        assert_eq!(order(&rig, Verb::Stop), ["slow"]);
    }
}

#[test]
fn no_start_timeout_counts_for_start_for_what_is_met_or_before_the_start() {
    let mut slow = checked(container("slow", true));
    slow.start_timeout = Some(15);
    let mut rig = Rig::new(vec![
        slow,
        container("long", false),
        after(
            container("web", true),
            &[("slow", Healthy), ("long", Complete)],
        ),
    ]);
    rig.engine.set_missing("slow:1");
    rig.engine.set_program(
        "slow:1",
        Program::runs().health_after(SECOND * 5, Health::Healthy),
    );
    rig.engine
        .set_program("long:1", Program::exits(9, SECOND * 60));
    rig.run(SECOND * 5);
    rig.engine.publish_image("slow:1");
    rig.run(SECOND * 90);
    assert_eq!(rig.status().last_status, LastStatus::Running);
}

#[test]
fn how_a_container_exited_is_remembered_when_somebody_removes_it() {
    let mut rig = shop_rig();
    rig.run(SECOND * 10);
    rig.engine.destroy(&rig.name("init"));
    let record = rig.machine.record().clone();
    let json = serde_json::to_string(&record).unwrap();
    rig.restart(Some(serde_json::from_str(&json).unwrap()));
    rig.run(SECOND * 60);
    assert_eq!(rig.status().last_status, LastStatus::Running);
    assert_eq!(rig.status().containers[3].exit_code, Some(0));
    assert_eq!(rig.starts(), 4);
}

#[test]
fn remembered_health_is_looked_at_again_before_it_counts() {
    let mut rig = Rig::new(vec![
        after(container("web", true), &[("db", Healthy)]),
        checked(container("db", true)),
    ]);
    rig.engine.set_program(
        "db:1",
        Program::runs().health_after(SECOND, Health::Healthy),
    );
    // It is healthy, and the pull of the other takes the agent's whole life.
    rig.engine.set_missing("web:1");
    rig.run(SECOND * 3);
    rig.engine.publish_image("web:1");
    rig.engine.set_health(&rig.name("db"), Health::Unhealthy);
    let record = rig.machine.record().clone();
    rig.restart(Some(record));
    rig.run(SECOND * 30);
    assert_eq!(order(&rig, Verb::Start), ["db"]);
    assert_eq!(
        message(&rig),
        "Container `web` waits for container `db` to become healthy."
    );
    rig.engine.set_health(&rig.name("db"), Health::Healthy);
    rig.run(SECOND * 30);
    assert_eq!(rig.status().last_status, LastStatus::Running);
}

#[test]
fn what_cannot_be_resolved_is_refused_with_ecs_name() {
    for (containers, words) in [
        (
            vec![
                after(container("a", true), &[("b", Start)]),
                after(container("b", true), &[("a", Start)]),
            ],
            "`a` waits for `b`, which waits for `a`",
        ),
        (
            vec![after(container("a", true), &[("nobody", Start)])],
            "`nobody` is none",
        ),
        (
            vec![
                after(container("a", true), &[("b", Healthy)]),
                container("b", true),
            ],
            "`healthCheck`",
        ),
    ] {
        let TaskBody::Refused(why) = rig::assigned(plan(containers)).body else {
            panic!("not refused: {words}")
        };
        assert!(
            why.starts_with("TaskDependencyError: ") && why.contains("`dependsOn`"),
            "{why}"
        );
        assert!(why.contains(words), "{why}");
    }
}

#[test]
fn a_crash_at_every_call_changes_neither_order_nor_end() {
    let undisturbed = {
        let mut rig = shop_rig();
        rig.run(SECOND * 60);
        rig.engine.call_count()
    };
    for keeps_record in [true, false] {
        for carried_out in [false, true] {
            for at_call in 1..=undisturbed + 12 {
                let what = format!("record {keeps_record}, done {carried_out}, call {at_call}");
                let mut rig = shop_rig();
                rig.engine.crash(Crash {
                    at_call,
                    carried_out,
                });
                let mut saved = None;
                for second in 0..60 {
                    rig.run(SECOND);
                    if second == 40 {
                        rig.want_stop(StopCode::UserInitiated, "enough");
                    }
                    if rig.engine.crashed() && saved.is_none() {
                        saved = Some(rig.machine.record().clone());
                        rig.restart(saved.clone().filter(|_| keeps_record));
                    }
                }
                assert_eq!(rig.status().last_status, LastStatus::Stopped, "{what}");
                assert!(rig.status().started_at.is_some() || !keeps_record, "{what}");
                assert_eq!(
                    order(&rig, Verb::Start),
                    ["init", "db", "web", "log"],
                    "{what}"
                );
                assert_eq!(order(&rig, Verb::Stop), ["log", "web", "db"], "{what}");
                let code = |name: &str| match rig.engine.peek(&rig.name(name)).unwrap().phase {
                    Phase::Exited { exit_code, .. } => exit_code,
                    other => panic!("{what}: {name} is {other:?}"),
                };
                assert_eq!(["init", "db", "web", "log"].map(code), [0; 4], "{what}");
            }
        }
    }
}
