//! Tasks with `stopAfter`: when the agent stops them by itself, over restarts of agent and host.

use std::sync::Arc;
use std::time::Duration;

use crate::rig::{Rig, container, door, in_touch, plan, silent_for};
use tallyman_agent_core::{Assignment, Contacts, Plan, Silences};
use tallyman_crds::{HostPlanSpec, LastStatus, StopCode};

const SECOND: Duration = Duration::from_secs(1);

fn spec(stop_after: Option<i32>) -> HostPlanSpec {
    let mut spec = plan(vec![container("app", true)]);
    spec.tasks[0].stop_after = stop_after;
    spec
}

/// A task that runs, and stops by itself after a minute.
fn running() -> Rig {
    let mut rig = Rig::of(spec(Some(60)));
    rig.settle_down();
    assert_eq!(rig.status().last_status, LastStatus::Running);
    rig
}

/// The API server confirmed something at each of these seconds since the boot, and it is `now`.
fn heard(confirmed: &[(&str, u64)], boot: &str, now: u64) -> Silences {
    let mut contacts = Contacts::default();
    for (boot, at) in confirmed {
        let at = Duration::from_secs(*at);
        contacts.confirmed(boot, at, at);
    }
    let now = Some(Duration::from_secs(now));
    Silences::at(Arc::new(contacts), Some(boot), now)
}

#[test]
fn a_task_stops_once_its_host_was_out_of_touch_for_so_long() {
    let mut rig = running();
    rig.host.silences = silent_for("a", 100, 59);
    rig.settle_down();
    assert_eq!(rig.status().last_status, LastStatus::Running);
    let woken = rig.turn().wake_at.unwrap();
    assert_eq!(woken, rig.now() + jiff::SignedDuration::from_secs(1));
    rig.host.silences = silent_for("a", 100, 60);
    rig.settle_down();
    let status = rig.status().clone();
    assert_eq!(status.last_status, LastStatus::Stopped);
    assert_eq!(status.stop_code, Some(StopCode::InfrastructureHealth));
    assert_eq!(
        status.stopped_reason.as_deref(),
        Some(
            "The host was out of touch with the API server for 60 s, and `disconnect.stopAfter` of the service is 60 s"
        )
    );
    // What is heard later takes nothing back.
    rig.host.silences = in_touch();
    rig.run(SECOND * 60);
    assert_eq!(rig.starts(), 1);
}

#[test]
fn a_task_without_the_policy_runs_on_however_long() {
    for silences in [silent_for("a", 100, 1_000_000), heard(&[], "a", 1)] {
        let mut rig = Rig::of(spec(None));
        rig.settle_down();
        rig.host.silences = silences;
        rig.host.plan_is_live = false;
        rig.run(SECOND * 60);
        assert_eq!(rig.status().last_status, LastStatus::Running);
        assert_eq!(rig.machine.record().heard, None);
    }
}

#[test]
fn an_agent_that_takes_over_stops_what_may_have_been_replaced() {
    let first = ("a", 100);
    for (what, record, silences, stops) in [
        ("at once", true, heard(&[first], "a", 110), false),
        ("while it is silent", true, heard(&[first], "a", 160), true),
        (
            "just in time",
            true,
            heard(&[first, ("a", 159)], "a", 160),
            false,
        ),
        // The API server was found again before the task was.
        (
            "too late",
            true,
            heard(&[first, ("a", 160)], "a", 161),
            true,
        ),
        (
            "too late, long ago",
            true,
            heard(&[first, ("a", 160), ("a", 200), ("a", 210)], "a", 211),
            true,
        ),
        // Nobody knows how long a host was off.
        ("after a boot", true, heard(&[first], "b", 5), true),
        (
            "after a boot, and confirmed",
            true,
            heard(&[first, ("b", 5)], "b", 6),
            true,
        ),
        (
            "without what was confirmed",
            true,
            heard(&[], "a", 110),
            true,
        ),
        ("without its record", false, heard(&[first], "a", 110), true),
    ] {
        let mut rig = running();
        let kept = rig.machine.record().clone();
        rig.restart(record.then_some(kept));
        rig.host.silences = silences;
        rig.run(SECOND * 20);
        let stopped = rig.status().last_status == LastStatus::Stopped;
        assert_eq!(stopped, stops, "{what}");
        if stops {
            assert_eq!(
                rig.status().stop_code,
                Some(StopCode::InfrastructureHealth),
                "{what}"
            );
            assert_eq!(rig.starts(), 1, "{what}");
        }
    }
}

#[test]
fn what_one_agent_looked_at_the_next_one_does_not_count_again() {
    let mut rig = running();
    rig.host.silences = heard(&[("a", 100), ("a", 150)], "a", 151);
    rig.settle_down();
    assert_eq!(rig.machine.record().heard, Some(2));
    let kept = rig.machine.record().clone();
    rig.restart(Some(kept));
    rig.host.silences = heard(&[("a", 100), ("a", 150), ("a", 160)], "a", 161);
    rig.run(SECOND * 20);
    assert_eq!(rig.status().last_status, LastStatus::Running);
}

#[test]
fn a_task_that_is_new_begins_only_on_fresh_word() {
    let mut rig = Rig::of(spec(Some(60)));
    // The plan is that of the disk.
    rig.host.plan_is_live = false;
    rig.run(SECOND * 5);
    assert_eq!(rig.starts(), 0);
    assert_eq!(rig.machine.record().heard, None);
    // The API server has not confirmed yet that it hears of the host.
    rig.host.plan_is_live = true;
    rig.host.silences = heard(&[], "a", 1);
    rig.run(SECOND * 5);
    assert_eq!(rig.starts(), 0);
    assert_ne!(rig.status().last_status, LastStatus::Stopped);
    rig.host.silences = heard(&[("a", 2)], "a", 2);
    rig.run(SECOND * 5);
    assert_eq!(rig.status().last_status, LastStatus::Running);
    // One that waits for its image while the silence grows too long does not begin any more.
    let mut rig = Rig::of(spec(Some(60)));
    rig.turn();
    rig.host.silences = silent_for("a", 100, 61);
    rig.run(SECOND * 20);
    assert_eq!(rig.status().last_status, LastStatus::Stopped);
    assert_eq!(rig.starts(), 0);
}

#[test]
fn containers_get_no_longer_to_stop_than_the_operator_waits() {
    let mut door = door();
    door.stop_timeout = SECOND * 120;
    for (stop_after, own, grace) in [
        (None, None, 120),
        (Some(60), None, 30),
        (Some(60), Some(90), 90),
    ] {
        let mut spec = spec(stop_after);
        let planned = spec.definitions.get_mut("web-7").unwrap();
        planned.definition.container_definitions[0].stop_timeout = own;
        let assignment = Assignment::parse(Plan::from(spec), &door);
        let task = assignment.tasks.into_values().next().unwrap();
        assert_eq!(task.containers()[0].grace, SECOND * grace, "{stop_after:?}");
    }
}
