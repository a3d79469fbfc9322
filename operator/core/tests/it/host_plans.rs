//! The plan of each host: what is in it, when it is written, and who has no say.

use crate::common::Bench;
use serde_json::json;
use tallyman_crds::{DesiredStatus, LastStatus, StopCode};
use tallyman_operator_core::{Action, Kind};

#[test]
fn a_host_gets_a_mailbox_and_a_fence_before_its_agent_came() {
    let mut bench = Bench::with_hosts(1);
    bench.settle();
    let plan = bench.host_plan("host-a");
    assert_eq!(
        (plan.generation, plan.leader_epoch, plan.tasks.len()),
        (1, 1, 0)
    );
    assert_eq!(
        Some(&plan.container_instance_uid),
        bench.instance("host-a").metadata.uid.as_ref()
    );
    assert_eq!(
        bench
            .instance("host-a")
            .metadata
            .finalizers
            .as_deref()
            .unwrap(),
        ["tallyman.dev/in-use"]
    );
}

#[test]
fn a_plan_lists_each_definition_once_and_each_task_in_order() {
    let mut bench = Bench::with_service(1, 3, 100, 200);
    bench.settle();
    let plan = bench.host_plan("host-a").clone();
    assert_eq!(plan.definitions.keys().collect::<Vec<_>>(), ["web-1"]);
    assert_eq!(
        plan.tasks
            .iter()
            .map(|t| t.name.as_str())
            .collect::<Vec<_>>(),
        ["web-000001", "web-000002", "web-000003"]
    );
    let bytes = serde_json::to_string(&plan.tasks[0]).unwrap().len();
    assert!(bytes < 200, "an entry has {bytes} bytes");
}

#[test]
fn a_plan_is_written_once_a_pass_and_only_when_it_changed() {
    let mut bench = Bench::with_service(1, 3, 100, 200);
    let generation = bench.host_plan("host-a").generation;
    bench.scale("web", 6);
    bench.pass();
    let writes = bench
        .pass()
        .actions
        .iter()
        .filter(|a| matches!(a, Action::WriteHostPlan { .. }))
        .count();
    assert_eq!(writes, 1, "three tasks, one write");
    assert_eq!(bench.host_plan("host-a").generation, generation + 1);
    bench.epoch = 2;
    assert!(
        bench.plan().actions.is_empty(),
        "a new leader alone changes nothing"
    );
}

#[test]
fn a_deposed_leader_has_no_say() {
    let mut bench = Bench::with_service(1, 1, 100, 200);
    bench.epoch = 5;
    bench.scale("web", 2);
    bench.settle();
    bench.epoch = 4;
    bench.scale("web", 3);
    bench.pass();
    let plan = bench.plan();
    assert!(
        !plan
            .actions
            .iter()
            .any(|a| matches!(a, Action::WriteHostPlan { .. }))
    );
}

#[test]
fn tasks_that_stop_one_by_one_do_not_cost_a_plan_each() {
    let mut bench = Bench::with_service(1, 6, 0, 200);
    bench.scale("web", 0);
    bench.settle();
    let stopping = bench.host_plan("host-a").clone();
    assert_eq!(stopping.tasks.len(), 6);
    for n in 1..=6 {
        bench.report(&format!("web-00000{n}"), LastStatus::Stopped, &json!({}));
        bench.settle();
    }
    // Nothing of it asks for anything, and nobody waits for it to go.
    assert_eq!(bench.host_plan("host-a"), &stopping);
    let woken = bench.plan().wake_at.unwrap();
    bench.pass_time(5);
    assert_eq!(woken, bench.now, "five seconds after the first stopped");
    bench.settle();
    let after = bench.host_plan("host-a");
    assert_eq!(
        (after.generation, after.tasks.len()),
        (stopping.generation + 1, 0)
    );
    bench.settle();
}

#[test]
fn what_is_over_does_not_linger_by_the_clock_of_its_host() {
    let mut bench = Bench::with_service(1, 1, 0, 200);
    bench.scale("web", 0);
    bench.settle();
    let ahead = json!({ "stoppedAt": bench.now + jiff::SignedDuration::from_hours(1) });
    bench.report("web-000001", LastStatus::Stopped, &ahead);
    bench.settle();
    assert!(bench.host_plan("host-a").tasks.is_empty());
}

#[test]
fn a_stopped_task_leaves_the_plan_and_a_deleted_one_stays_until_it_was_removed() {
    let mut bench = Bench::with_service(1, 1, 0, 100);
    bench.fail("web-000001", StopCode::EssentialContainerExited);
    bench.settle();
    let names = |b: &Bench| {
        b.host_plan("host-a")
            .tasks
            .iter()
            .map(|t| t.name.clone())
            .collect::<Vec<_>>()
    };
    assert_eq!(names(&bench), ["web-000002"]);
    bench.delete(Kind::Task, "web-000001");
    bench.settle();
    assert_eq!(names(&bench), ["web-000001", "web-000002"]);
    let entry = bench.host_plan("host-a").tasks[0].clone();
    assert_eq!(
        (entry.desired_status, entry.remove),
        (DesiredStatus::Stopped, true)
    );
    assert_eq!(
        entry.stop_code,
        Some(StopCode::EssentialContainerExited),
        "why it ended stays"
    );
    bench.stop_all();
    bench.settle();
    assert_eq!(names(&bench), ["web-000002"]);
    assert_eq!(bench.names(Kind::Task), ["web-000002"]);
}

#[test]
fn a_lost_mailbox_goes_on_above_what_the_agent_holds() {
    let mut bench = Bench::with_service(1, 2, 100, 200);
    let held = bench.host_plan("host-a").generation + 7;
    bench.edit(Kind::ContainerInstance, "host-a", &|v| {
        v["status"]["host"]["appliedPlanGeneration"] = json!(held)
    });
    bench.settle();
    assert!(
        bench.host_plan("host-a").generation > held,
        "a plan out of a backup is older than what the agent holds"
    );
    let held = bench.host_plan("host-a").generation;
    bench.edit(Kind::ContainerInstance, "host-a", &|v| {
        v["status"]["host"]["appliedPlanGeneration"] = json!(held)
    });
    bench.delete(Kind::HostPlan, "host-a");
    bench.settle();
    assert!(bench.host_plan("host-a").generation > held);
    assert_eq!(bench.host_plan("host-a").tasks.len(), 2);
}

#[test]
fn a_plan_out_of_a_backup_is_written_again_above_what_the_agent_holds() {
    let mut bench = Bench::with_service(1, 2, 100, 200);
    let held = |bench: &mut Bench, epoch: i64, generation: i64| {
        bench.edit(Kind::ContainerInstance, "host-a", &|v| {
            v["status"]["host"]["appliedPlanEpoch"] = json!(epoch);
            v["status"]["host"]["appliedPlanGeneration"] = json!(generation);
        });
    };
    let of = |bench: &Bench| {
        let plan = bench.host_plan("host-a");
        (plan.leader_epoch, plan.generation)
    };
    let before = of(&bench);
    // While its own number is too low a leader writes nothing for it.
    held(&mut bench, 7, 20);
    assert!(bench.plan().actions.is_empty());
    bench.epoch = 8;
    bench.settle();
    assert_eq!(of(&bench), (8, 21));
    assert_eq!(bench.host_plan("host-a").tasks.len(), 2);
    // A lower generation of a later leader is taken.
    held(&mut bench, 5, 40);
    assert!(bench.plan().actions.is_empty());
    // Numbers that no leader gave: of the host itself, and nobody else's.
    held(&mut bench, i64::MAX, i64::MAX);
    assert!(bench.plan().actions.is_empty());
    held(&mut bench, 8, i64::MAX);
    bench.settle();
    assert_eq!(of(&bench), (8, i64::MAX));
    assert!(before < of(&bench));
}

#[test]
fn an_annotation_of_the_host_lets_it_stop_what_was_forgotten() {
    let mut bench = Bench::with_hosts(1);
    bench.settle();
    assert!(!bench.host_plan("host-a").stop_forgotten);
    for (value, expected) in [("true", true), ("no", false)] {
        bench.edit(Kind::ContainerInstance, "host-a", &|v| {
            v["metadata"]["annotations"] = json!({ "tallyman.dev/stopForgottenTasks": value });
        });
        bench.settle();
        assert_eq!(bench.host_plan("host-a").stop_forgotten, expected);
    }
}

#[test]
fn a_mailbox_of_an_earlier_host_of_the_name_is_not_written_on() {
    let mut bench = Bench::with_hosts(1);
    bench.settle();
    bench.edit(Kind::HostPlan, "host-a", &|v| {
        v["spec"]["containerInstanceUid"] = json!("another")
    });
    bench.settle();
    assert_eq!(
        Some(&bench.host_plan("host-a").container_instance_uid),
        bench.instance("host-a").metadata.uid.as_ref()
    );
    assert_eq!(bench.host_plan("host-a").generation, 1);
}
