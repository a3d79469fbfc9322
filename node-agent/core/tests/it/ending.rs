//! One test for each rule of a task's end and of what follows it, on the fake engine.

use crate::rig;
use std::time::Duration;

use crate::rig::{Rig, block, container};
use tallyman_agent_core::perform::perform;
use tallyman_agent_engine::fake::{Mishap, Program};
use tallyman_agent_engine::{Hint, Phase, PullBehavior, Verb};
use tallyman_crds::{LastStatus, StopCode};

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn the_end_of_an_essential_container_ends_the_task_and_stops_the_others() {
    let mut rig = Rig::new(vec![container("app", true), container("sidecar", false)]);
    rig.settle_down();
    let name = rig.name("app");
    rig.engine.exit(&name, 9);
    rig.machine.hinted(&name, &Hint::Died(name.clone()));
    rig.settle_down();
    let status = rig.status().clone();
    assert_eq!(status.last_status, LastStatus::Stopped);
    assert_eq!(status.stop_code, Some(StopCode::EssentialContainerExited));
    assert_eq!(
        status.stopped_reason.as_deref(),
        Some("Essential container in task exited")
    );
    assert_eq!(status.containers[0].exit_code, Some(9));
    assert_eq!(status.containers[1].last_status, LastStatus::Stopped);
    assert!(status.execution_stopped_at.is_some() && status.stopped_at.is_some());
    assert_eq!(status.ports, None);
    let starts = rig.starts();
    rig.run(SECOND * 60);
    assert_eq!(rig.starts(), starts, "nothing is ever restarted");
}

/// Whether the engine is asked once more about a container of which `during` was told while it was looked at. It died before
/// that look, or after it and before its answer.
fn is_asked_again(dies_first: bool, during: fn(String) -> Hint) -> bool {
    let mut rig = Rig::new(vec![container("app", true)]);
    rig.settle_down();
    let (name, now) = (rig.name("app"), rig.now());
    rig.machine
        .hinted(&name, &Hint::HealthChanged(name.clone()));
    let look = rig.machine.step(&rig.host, now).actions.remove(0);
    assert_eq!(look.verb(), Verb::Inspect);
    rig.machine.started(&look);
    let answer = |rig: &Rig| block(perform(&rig.engine, rig.premises(), &look));
    let too_early = answer(&rig);
    rig.engine.exit(&name, 0);
    let answer = if dies_first { answer(&rig) } else { too_early };
    rig.machine.hinted(&name, &during(name.clone()));
    rig.machine.settle("app", answer, now);
    let step = rig.machine.step(&rig.host, now);
    step.actions.iter().any(|a| a.verb() == Verb::Inspect)
}

#[test]
fn a_death_that_is_told_during_the_look_that_saw_it_is_no_reason_for_another() {
    assert!(!is_asked_again(true, Hint::Died));
    assert!(is_asked_again(true, Hint::Destroyed));
    assert!(is_asked_again(false, Hint::Died), "that look was too early");
}

#[test]
fn the_end_of_another_container_leaves_the_task_running() {
    let mut rig = Rig::new(vec![container("app", true), container("sidecar", false)]);
    rig.settle_down();
    rig.engine.exit(&rig.name("sidecar"), 1);
    rig.run(SECOND * 20);
    assert_eq!(rig.status().last_status, LastStatus::Running);
    assert_eq!(rig.status().containers[1].last_status, LastStatus::Stopped);
    assert_eq!(rig.status().containers[1].exit_code, Some(1));
    rig.engine.exit(&rig.name("app"), 0);
    rig.run(SECOND * 20);
    assert_eq!(rig.status().last_status, LastStatus::Stopped);
}

#[test]
fn a_container_that_ends_at_once_has_run() {
    let mut rig = Rig::new(vec![container("app", true)]);
    rig.engine
        .set_program("app:1", Program::exits(3, Duration::ZERO));
    rig.run(SECOND * 20);
    let status = rig.status();
    assert_eq!(status.last_status, LastStatus::Stopped);
    assert_eq!(status.stop_code, Some(StopCode::EssentialContainerExited));
    assert!(status.started_at.is_some());
    assert_eq!(rig.starts(), 1);
}

#[test]
fn out_of_memory_is_said() {
    let mut rig = Rig::new(vec![container("app", true)]);
    rig.engine
        .set_program("app:1", Program::runs_out_of_memory(SECOND));
    rig.run(SECOND * 20);
    let reason = rig.status().containers[0].reason.clone().unwrap();
    assert_eq!(
        reason,
        "OutOfMemoryError: Container killed due to memory usage"
    );
    assert_eq!(rig.status().containers[0].exit_code, Some(137));
}

#[test]
fn what_the_engine_says_of_an_exit_is_said() {
    let mut rig = Rig::new(vec![container("app", true)]);
    rig.settle_down();
    let exited = Phase::Exited {
        exit_code: 128,
        finished_at: Some(rig.engine.now()),
        oom_killed: false,
        error: Some("the shim is gone".to_owned()),
    };
    rig.engine.distort(&rig.name("app"), exited);
    rig.run(SECOND * 20);
    assert_eq!(
        rig.status().containers[0].reason.as_deref(),
        Some("DockerStateError: the shim is gone")
    );
}

#[test]
fn a_sidecar_without_image_ends_the_task_only_when_pulls_must_succeed() {
    for (behavior, expected) in [
        (PullBehavior::Default, LastStatus::Running),
        (PullBehavior::PreferCached, LastStatus::Running),
        (PullBehavior::Once, LastStatus::Stopped),
        (PullBehavior::Always, LastStatus::Stopped),
    ] {
        let mut rig = Rig::new(vec![container("app", true), container("sidecar", false)]);
        rig.host.pull_behavior = behavior;
        rig.engine.set_missing("sidecar:1");
        rig.run(SECOND * 60);
        assert_eq!(rig.status().last_status, expected, "{behavior:?}");
    }
}

#[test]
fn a_stop_before_anything_was_created_calls_nothing() {
    let mut rig = Rig::new(vec![container("app", true)]);
    rig.want_stop(StopCode::ServiceSchedulerInitiated, "Scaling activity");
    rig.settle_down();
    let status = rig.status();
    assert_eq!(status.last_status, LastStatus::Stopped);
    assert_eq!(status.stop_code, Some(StopCode::ServiceSchedulerInitiated));
    assert_eq!(status.stopped_reason.as_deref(), Some("Scaling activity"));
    assert_eq!(rig.engine.call_count(), 0);
}

#[test]
fn a_task_that_is_stopped_before_its_first_pull_says_so_of_its_containers() {
    let mut rig = Rig::new(vec![container("app", true), container("sidecar", false)]);
    rig.want_stop(StopCode::UserInitiated, "enough");
    rig.settle_down();
    let status = rig.status();
    assert_eq!(status.stopped_reason.as_deref(), Some("enough"));
    for container in &status.containers {
        assert_eq!(
            container.reason.as_deref(),
            Some(
                "TaskStoppedBeforePullBeginError: Task stopped before image pull could begin for task: web-000001"
            )
        );
        assert_eq!(container.exit_code, None);
    }
    // Once a pull began it is not said, whatever came of it.
    let mut rig = Rig::new(vec![container("app", true)]);
    rig.engine.set_missing("app:1");
    rig.settle_down();
    rig.want_stop(StopCode::UserInitiated, "enough");
    rig.settle_down();
    assert_eq!(rig.status().last_status, LastStatus::Stopped);
    assert_eq!(rig.status().containers[0].reason, None);
}

/// Not told at the first try, nor of a task that waits for nothing.
#[test]
fn a_look_that_keeps_failing_is_told_while_the_task_waits_for_it() {
    let broken = tallyman_agent_engine::EngineError::Engine {
        verb: Verb::Inspect,
        status: 500,
        message: "no such file".to_owned(),
    };
    let words = "CannotInspectContainerError: no such file";
    let mut rig = Rig::new(vec![container("app", true)]);
    rig.engine.fail(Verb::Inspect, 8, &broken);
    rig.run(SECOND * 10);
    assert_eq!(rig.status().last_status, LastStatus::Pending);
    assert_eq!(rig.status().containers[0].reason.as_deref(), Some(words));
    rig.run(SECOND * 60);
    assert_eq!(rig.status().last_status, LastStatus::Running);
    assert_eq!(rig.status().containers[0].reason, None);
    rig.engine.fail(Verb::Inspect, 8, &broken);
    rig.want_stop(StopCode::UserInitiated, "enough");
    rig.run(SECOND * 10);
    assert_eq!(rig.status().last_status, LastStatus::Stopping);
    assert_eq!(rig.status().containers[0].reason.as_deref(), Some(words));
    rig.run(SECOND * 60);
    assert_eq!(rig.status().last_status, LastStatus::Stopped);
    assert_eq!(rig.status().containers[0].reason, None);
}

#[test]
fn a_removal_that_keeps_failing_is_told_of_a_task_that_is_being_deleted() {
    let broken = tallyman_agent_engine::EngineError::Engine {
        verb: Verb::Remove,
        status: 500,
        message: "device or resource busy".to_owned(),
    };
    let mut rig = Rig::new(vec![container("app", true)]);
    rig.settle_down();
    rig.engine.fail(Verb::Remove, 5, &broken);
    rig.want_removal();
    rig.want_stop(StopCode::UserInitiated, "deleted");
    rig.run(SECOND * 30);
    let told = rig.told.last().unwrap();
    assert_eq!(
        (told.last_status, &told.removed_at),
        (LastStatus::Stopped, &None)
    );
    assert_eq!(
        told.conditions[0].message,
        "The task has stopped: deleted. Container `app` cannot be removed: CannotRemoveContainerError: device or resource busy."
    );
    let so_far = rig.told.len();
    rig.run(SECOND * 300);
    let told = rig.told.last().unwrap();
    assert!(told.removed_at.is_some());
    assert_eq!(told.conditions[0].message, "The task has stopped: deleted.");
    assert_eq!(rig.told.len(), so_far + 1, "told once, and that it is over");
}

#[test]
fn a_stop_is_one_stop_and_one_look_for_each_container() {
    let mut rig = Rig::new(vec![container("app", true), container("other", true)]);
    rig.settle_down();
    let before = rig.engine.call_count();
    rig.want_stop(StopCode::UserInitiated, "enough");
    rig.settle_down();
    assert_eq!(rig.status().last_status, LastStatus::Stopped);
    assert_eq!(rig.status().stop_code, Some(StopCode::UserInitiated));
    assert_eq!(rig.engine.calls_of(Verb::Stop), 2);
    assert_eq!(rig.engine.call_count(), before + 4);
    assert_eq!(rig.told.len(), 2);
}

#[test]
fn a_stop_that_fails_is_asked_again_and_nothing_is_taken_for_dead() {
    let mut rig = Rig::new(vec![container("app", true)]);
    rig.settle_down();
    for _ in 0..6 {
        rig.engine.next(Verb::Stop, Mishap::TimeoutBefore);
    }
    rig.want_stop(StopCode::UserInitiated, "enough");
    rig.run(SECOND * 20);
    assert_eq!(rig.status().last_status, LastStatus::Stopping);
    let reason = rig.status().containers[0].reason.clone().unwrap();
    assert!(reason.starts_with("CannotStopContainerError"), "{reason}");
    rig.run(SECOND * 200);
    assert_eq!(rig.status().last_status, LastStatus::Stopped);
}

#[test]
fn the_first_cause_of_an_end_stays() {
    let mut rig = Rig::new(vec![container("app", true), container("slow", false)]);
    rig.engine
        .set_program("slow:1", Program::runs().stopping(SECOND * 20, 0));
    rig.settle_down();
    rig.engine.exit(&rig.name("app"), 1);
    rig.engine.hold_stops(true);
    let list = rig.list();
    rig.machine.listed(&list);
    for _ in 0..4 {
        rig.turn();
    }
    assert_eq!(rig.status().last_status, LastStatus::Stopping);
    rig.want_stop(StopCode::UserInitiated, "late");
    rig.turn();
    assert_eq!(
        rig.status().stop_code,
        Some(StopCode::EssentialContainerExited)
    );
}

#[test]
fn a_container_that_somebody_removed_has_vanished() {
    let mut rig = Rig::new(vec![container("app", true)]);
    rig.settle_down();
    rig.engine.destroy(&rig.name("app"));
    rig.run(SECOND * 20);
    assert_eq!(rig.status().last_status, LastStatus::Stopped);
    let reason = rig.status().containers[0].reason.clone().unwrap();
    assert!(reason.starts_with("ContainerVanishedError"), "{reason}");
    assert_eq!(rig.engine.calls_of(Verb::Create), 1);
}

#[test]
fn a_container_that_somebody_started_after_its_end_is_stopped_again() {
    let mut rig = Rig::new(vec![container("app", true)]);
    rig.settle_down();
    rig.want_stop(StopCode::UserInitiated, "enough");
    rig.settle_down();
    let name = rig.name("app");
    rig::block(tallyman_agent_engine::Engine::start(&rig.engine, &name)).unwrap();
    rig.run(SECOND * 20);
    assert!(!rig.engine.peek(&name).unwrap().phase.kind().is_alive());
    assert_eq!(rig.status().last_status, LastStatus::Stopped);
}

#[test]
fn phases_that_pass_are_waited_for() {
    for phase in [Phase::Paused, Phase::Restarting, Phase::Removing] {
        let mut rig = Rig::new(vec![container("app", true)]);
        rig.settle_down();
        let name = rig.name("app");
        rig.engine.distort(&name, phase.clone());
        rig.run(SECOND * 30);
        assert_eq!(rig.status().last_status, LastStatus::Running, "{phase:?}");
        assert_eq!(rig.starts(), 1);
    }
    let mut rig = Rig::new(vec![container("app", true)]);
    rig.settle_down();
    rig.engine.distort(&rig.name("app"), Phase::Dead);
    rig.run(SECOND * 30);
    assert_eq!(rig.status().last_status, LastStatus::Stopped);
    assert_eq!(rig.starts(), 1);
}

#[test]
fn a_namesake_that_is_not_ours_is_not_touched() {
    let mut rig = Rig::new(vec![container("app", true)]);
    let spec = tallyman_agent_engine::ContainerSpec::new(rig.name("app"), "other:1");
    rig.engine.run_outside(&spec).unwrap();
    rig.run(SECOND * 30);
    let reason = rig.status().stopped_reason.clone().unwrap();
    assert!(reason.starts_with("CannotCreateContainerError"), "{reason}");
    rig.want_removal();
    rig.run(SECOND * 30);
    assert!(
        rig.engine
            .peek(&rig.name("app"))
            .unwrap()
            .phase
            .kind()
            .is_alive()
    );
}

#[test]
fn removal_follows_the_end_and_is_told() {
    let mut rig = Rig::new(vec![container("app", true)]);
    rig.settle_down();
    rig.want_removal();
    rig.run(SECOND * 20);
    assert_eq!(
        rig.status().last_status,
        LastStatus::Running,
        "removal alone stops nothing"
    );
    rig.want_stop(StopCode::UserInitiated, "deleted");
    rig.run(SECOND * 20);
    assert!(rig.engine.containers().is_empty());
    assert!(rig.told.last().unwrap().removed_at.is_some());
    assert_eq!(
        rig.told.len(),
        2,
        "RUNNING, then STOPPED and removed in one"
    );
    rig.machine.unplanned();
    let now = rig.now();
    assert!(rig.machine.step(&rig.host, now).finished);
}

#[test]
fn a_stopped_task_is_cleaned_up_after_the_wait_and_not_before_its_end_was_taken() {
    let mut rig = Rig::new(vec![container("app", true)]);
    rig.settle_down();
    rig.api = false;
    rig.engine.exit(&rig.name("app"), 0);
    rig.run(Duration::from_secs(4 * 3600));
    assert_eq!(rig.engine.containers().len(), 1);
    rig.api = true;
    rig.run(SECOND * 60);
    // As long as the plan lists the task they are the evidence that it has ended, also for an agent without its disk.
    assert_eq!(rig.engine.containers().len(), 1);
    rig.machine.unplanned();
    rig.run(SECOND * 60);
    assert_eq!(rig.engine.containers().len(), 0);
    let now = rig.now();
    assert!(rig.machine.step(&rig.host, now).finished);
}

#[test]
fn absence_from_the_plan_neither_kills_nor_starts() {
    let mut rig = Rig::new(vec![container("app", true)]);
    rig.settle_down();
    rig.machine.unplanned();
    rig.run(Duration::from_secs(24 * 3600));
    assert!(
        rig.engine
            .peek(&rig.name("app"))
            .unwrap()
            .phase
            .kind()
            .is_alive()
    );

    let mut rig = Rig::new(vec![container("app", true)]);
    rig.machine.unplanned();
    rig.run(SECOND * 60);
    assert_eq!(rig.engine.call_count(), 0);
}

#[test]
fn a_condemned_task_is_stopped_removed_and_not_reported() {
    let mut rig = Rig::new(vec![container("app", true)]);
    rig.settle_down();
    rig.machine.condemn();
    rig.run(SECOND * 20);
    assert_eq!(
        rig.status().last_status,
        LastStatus::Running,
        "a planned task cannot be condemned"
    );
    rig.machine.unplanned();
    rig.machine.condemn();
    rig.run(SECOND * 20);
    assert!(rig.engine.containers().is_empty());
    assert_eq!(rig.told.len(), 1);
    let now = rig.now();
    assert!(rig.machine.step(&rig.host, now).finished);
}

#[test]
fn nothing_is_removed_before_a_live_plan() {
    let mut rig = Rig::new(vec![container("app", true)]);
    rig.settle_down();
    rig.host.plan_is_live = false;
    rig.want_removal();
    rig.want_stop(StopCode::UserInitiated, "deleted");
    rig.run(SECOND * 60);
    assert_eq!(rig.status().last_status, LastStatus::Stopped);
    assert_eq!(rig.engine.containers().len(), 1);
    rig.host.plan_is_live = true;
    rig.run(SECOND * 60);
    assert!(rig.engine.containers().is_empty());
}

/// ECS_ENGINE_TASK_CLEANUP_WAIT_DURATION_JITTER: containers of a task are kept a little longer, and always as much.
#[test]
fn the_cleanup_wait_differs_from_task_to_task_and_not_from_start_to_start() {
    let removed_after = |uid: &str| {
        let mut spec = rig::plan(vec![rig::container("app", true)]);
        spec.tasks[0].uid = uid.to_owned();
        let mut rig = rig::Rig::of(spec);
        rig.host.cleanup_wait = Duration::from_secs(60);
        rig.host.cleanup_jitter = Duration::from_secs(600);
        rig.settle_down();
        rig.want_stop(tallyman_crds::StopCode::UserInitiated, "enough");
        rig.run(Duration::from_secs(60));
        rig.machine.unplanned();
        let mut waited = 60;
        while !rig::list_all(&rig.engine).is_empty() {
            assert!(waited < 700, "the containers never went");
            rig.run(Duration::from_secs(10));
            waited += 10;
        }
        waited
    };
    let (one, other) = (removed_after("one"), removed_after("another"));
    assert_eq!(one, removed_after("one"));
    assert!(one >= 60 && other >= 60, "{one} {other}");
    assert_ne!(one, other);
}
