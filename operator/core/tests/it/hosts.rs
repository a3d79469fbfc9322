//! Hosts: who is lost, what is kept, and whose Lease was seen.

use std::time::Duration;

use crate::common::build::{definition, service};
use crate::common::{Bench, NAMESPACE};
use serde_json::json;
use tallyman_crds::{
    ConditionStatus, DesiredStatus, InstanceStatus, LastStatus, StopCode, Task, labels,
};
use tallyman_operator_core::liveness::{LeaseObserver, Silence};
use tallyman_operator_core::{Action, Kind, World};

fn holding(t: &Task) -> bool {
    t.status
        .as_ref()
        .is_none_or(|s| s.last_status != LastStatus::Stopped)
}

fn on(host: &str) -> impl Fn(&Task) -> bool {
    move |t| holding(t) && t.spec.container_instance.as_deref() == Some(host)
}

// --- kept tasks ---

#[test]
fn retention_is_an_hour_and_a_deleted_services_tasks_go_at_once() {
    let mut bench = Bench::with_service(1, 1, 0, 100);
    bench.fail("web-000001", StopCode::EssentialContainerExited);
    bench.converge(1);
    let plan = bench.plan();
    assert!(
        plan.wake_at
            .is_some_and(|at| at.duration_since(bench.now).as_secs() <= 3600)
    );
    bench.pass_time(3500);
    bench.converge(1);
    assert_eq!(bench.names(Kind::Task), ["web-000001", "web-000002"]);
    bench.pass_time(200);
    bench.converge(1);
    assert_eq!(bench.names(Kind::Task), ["web-000002"]);
}

// --- throttle ---

fn fail_all(bench: &mut Bench) -> usize {
    let pending = bench.tasks(|t| holding(t) && t.spec.desired_status == DesiredStatus::Running);
    for name in &pending {
        bench.fail(name, StopCode::TaskFailedToStart);
    }
    pending.len()
}

/// Steps 6.2, 6.3 and 6.4 of `docs/ecs-rules.md`.
#[test]
fn launches_slow_down_from_the_third_failure_in_a_row_and_a_new_revision_resets() {
    let mut bench = Bench::with_hosts(1);
    bench.apply_definition("web", definition("missing"));
    bench.apply_service("web", service("web", 1, 100, 200));
    let mut waits = Vec::new();
    for _ in 0..12 {
        bench.settle();
        let mut waited = 0;
        while bench.tasks(holding).is_empty() {
            bench.pass_time(5);
            waited += 5;
            bench.settle();
        }
        waits.push(waited);
        assert_eq!(fail_all(&mut bench), 1);
    }
    assert_eq!(waits, [0, 0, 0, 10, 20, 40, 80, 160, 320, 640, 1280, 1620]);
    bench.settle();
    let status = bench.service_status("web");
    assert_eq!(status.conditions[0].reason, "TasksFailToStart");
    assert_eq!(status.consecutive_start_failures, 12);
    assert!(status.launch_not_before.is_some());
    bench.roll("there");
    bench.settle();
    assert_eq!(bench.tasks(holding).len(), 1, "at once");
    bench.converge(60);
    assert_eq!(bench.reason("web"), "SteadyState");
}

/// Step 6.1 of `docs/ecs-rules.md`.
#[test]
fn a_task_that_ran_and_ended_is_replaced_at_once() {
    let mut bench = Bench::with_service(1, 1, 100, 200);
    for n in 1..8 {
        bench.fail(&format!("web-{n:06}"), StopCode::EssentialContainerExited);
        bench.settle();
        bench.run_all();
        bench.settle();
        assert_eq!(bench.tasks(holding).len(), 1);
    }
}

/// Step 6.1 of `docs/ecs-rules.md`.
#[test]
fn tasks_that_the_scheduler_stopped_before_they_ran_are_no_failures() {
    let mut bench = Bench::with_hosts(1);
    bench.apply_definition("web", definition("a"));
    bench.apply_service("web", service("web", 5, 100, 200));
    bench.settle();
    bench.scale("web", 0);
    bench.converge(1);
    bench.scale("web", 5);
    bench.settle();
    assert_eq!(bench.tasks(holding).len(), 5);
}

// --- lost hosts ---

/// Step 10.8 of `docs/ecs-rules.md`.
#[test]
fn a_silent_host_takes_nothing_after_50_seconds_and_is_given_up_after_300() {
    let mut bench = Bench::with_service(3, 3, 100, 200);
    bench.silent("host-a", 49);
    bench.settle();
    assert!(
        bench
            .instance("host-a")
            .status
            .as_ref()
            .unwrap()
            .agent_connected
    );
    bench.silent("host-a", 50);
    bench.settle();
    let status = bench.instance("host-a").status.clone().unwrap();
    assert!(!status.agent_connected);
    assert_eq!(status.conditions[0].reason, "AgentDisconnected");
    bench.scale("web", 6);
    bench.settle();
    assert_eq!(bench.tasks(on("host-a")).len(), 1);
    bench.silent("host-a", 299);
    bench.settle();
    assert_eq!(bench.tasks(on("host-a")).len(), 1);
    bench.silent("host-a", 300);
    bench.settle();
    assert_eq!(bench.tasks(on("host-a")).len(), 0);
    assert_eq!(bench.tasks(holding).len(), 6, "replaced elsewhere");
    let lost = bench.task("web-000001").status.clone().unwrap();
    assert_eq!(lost.stop_code, Some(StopCode::InfrastructureHealth));
    assert_eq!(
        lost.stopped_reason.as_deref(),
        Some("Host host-a was lost: its agent is not connected")
    );
}

// --- hosts in trouble ---

/// The agent of a host reports its impairment.
fn impair(bench: &mut Bench, host: &str, impairment: Option<&str>, message: &str) {
    bench.edit(Kind::ContainerInstance, host, &|v| {
        v["status"]["host"]["impairment"] = json!(impairment);
        v["status"]["host"]["message"] = json!(message);
    });
}

#[test]
fn a_host_whose_disk_is_full_or_whose_engine_fails_keeps_its_tasks_and_takes_none() {
    for (impairment, reason, told, counted) in [
        (
            "DISK_FULL",
            "DiskFull",
            "No task is placed on host-a until there is room again. The disk is full.",
            "has a full disk (`host-a`)",
        ),
        (
            "ENGINE_FAILS",
            "EngineFails",
            "No task is placed on host-a for a while, then it is tried again. The disk is full.",
            "has an engine that fails (`host-a`)",
        ),
    ] {
        let mut bench = Bench::with_service(2, 2, 100, 200);
        impair(&mut bench, "host-a", Some(impairment), "The disk is full.");
        bench.settle();
        let ready = bench.instance("host-a").status.clone().unwrap().conditions[0].clone();
        assert_eq!(
            (ready.status, ready.reason.as_str(), ready.message.as_str()),
            (ConditionStatus::False, reason, told)
        );
        assert_eq!(bench.tasks(on("host-a")), ["web-000001"]);
        bench.scale("web", 4);
        bench.settle();
        assert_eq!(bench.tasks(on("host-a")), ["web-000001"], "none more");
        assert_eq!(bench.tasks(on("host-b")).len(), 3, "nor moved");
        // With nowhere to go, the service counts such hosts.
        impair(&mut bench, "host-b", Some(impairment), "The disk is full.");
        bench.scale("web", 5);
        bench.settle();
        let said = bench.service_status("web").conditions[0].message.clone();
        let counted = counted.replacen("has a", "have a", 1);
        assert!(said.contains(&format!("Of 2 hosts, 2 {counted}")), "{said}");
        // It is over when the agent says nothing of it any more.
        for host in ["host-a", "host-b"] {
            impair(&mut bench, host, None, "");
        }
        bench.settle();
        let status = bench.instance("host-a").status.clone().unwrap();
        assert_eq!(status.conditions[0].reason, "AgentConnected");
        assert_eq!(bench.tasks(holding).len(), 5);
    }
}

#[test]
fn a_task_for_a_host_whose_disk_is_full_is_refused_as_ecs_refuses_it() {
    let mut bench = Bench::with_service(1, 1, 100, 200);
    impair(&mut bench, "host-a", Some("DISK_FULL"), "The disk is full.");
    bench.apply_task(
        "mine",
        json!({ "taskDefinition": "web", "containerInstance": "host-a" }),
    );
    bench.settle();
    let status = bench.task("mine").status.clone().unwrap();
    assert_eq!(status.last_status, LastStatus::Stopped);
    let reason = status.stopped_reason.unwrap_or_default();
    assert!(
        reason.contains("AGENT") && reason.contains("full disk"),
        "{reason}"
    );
}

#[test]
fn a_leader_that_has_not_heard_a_lost_host_places_nothing_there() {
    let mut bench = Bench::with_service(2, 2, 100, 200);
    bench.silent("host-a", 60);
    bench.settle();
    // A new leader has just begun to look: every Lease counts as renewed, and nobody saw one change.
    for host in ["host-a", "host-b"] {
        let unheard = Silence {
            lasts: at(0),
            heard: false,
        };
        bench.objects.silence.insert(host.to_owned(), unheard);
    }
    bench.scale("web", 6);
    bench.settle();
    let connected = |bench: &Bench, host: &str| {
        let status = bench.instance(host).status.clone();
        status.unwrap().agent_connected
    };
    assert!(!connected(&bench, "host-a") && connected(&bench, "host-b"));
    assert_eq!(bench.tasks(on("host-a")).len(), 1, "the one that it had");
    assert_eq!(bench.tasks(on("host-b")).len(), 5);
    // Once it is heard, it takes tasks as any other.
    bench.silent("host-a", 0);
    bench.scale("web", 8);
    bench.settle();
    assert!(connected(&bench, "host-a"));
    assert_eq!(bench.tasks(on("host-a")).len(), 3);
}

// --- hosts that come back ---

/// Step 10.8 of `docs/ecs-rules.md`.
#[test]
fn when_a_lost_host_comes_back_its_old_containers_go() {
    let mut bench = Bench::with_service(2, 2, 100, 200);
    bench.silent("host-a", 300);
    bench.settle();
    let entry = bench.host_plan("host-a").tasks[0].clone();
    assert_eq!(
        (entry.desired_status, entry.remove),
        (DesiredStatus::Stopped, true)
    );
    assert_eq!(entry.stop_code, Some(StopCode::InfrastructureHealth));
    bench.silent("host-a", 0);
    bench.settle();
    bench.stop_all();
    bench.pass_time(5);
    bench.settle();
    assert!(bench.host_plan("host-a").tasks.is_empty());
}

#[test]
fn a_task_that_is_deleted_while_its_host_is_away_stays_until_its_containers_are_gone() {
    for host_comes_back in [true, false] {
        let mut bench = Bench::with_service(2, 2, 100, 200);
        bench.silent("host-a", 300);
        bench.settle();
        bench.delete(Kind::Task, "web-000001");
        bench.settle();
        let there = |b: &Bench| b.names(Kind::Task).contains(&"web-000001".to_owned());
        assert!(there(&bench), "its containers may run there");
        if host_comes_back {
            bench.silent("host-a", 0);
            bench.settle();
            bench.stop_all();
        } else {
            bench.delete(Kind::ContainerInstance, "host-a");
        }
        bench.settle();
        assert!(!there(&bench));
    }
}

/// Step 10.8 of `docs/ecs-rules.md`.
#[test]
fn no_host_is_given_up_while_most_look_dead() {
    let mut bench = Bench::with_service(3, 3, 100, 200);
    for host in ["host-a", "host-b"] {
        bench.silent(host, 1000);
    }
    bench.settle();
    assert_eq!(bench.tasks(holding).len(), 3);
    assert_eq!(
        bench.tasks(on("host-a")).len(),
        1,
        "2 of 3 look dead: it may be us"
    );
    bench.silent("host-b", 0);
    bench.settle();
    assert_eq!(bench.tasks(on("host-a")).len(), 0);
}

/// Step 10.8 of `docs/ecs-rules.md`.
#[test]
fn hosts_are_given_up_one_per_pass() {
    let mut bench = Bench::with_service(5, 10, 100, 200);
    for host in ["host-a", "host-b"] {
        bench.silent(host, 1000);
    }
    let plan = bench.pass();
    assert_eq!(
        (
            bench.tasks(on("host-a")).len(),
            bench.tasks(on("host-b")).len()
        ),
        (0, 2)
    );
    assert!(
        plan.wake_at
            .is_some_and(|at| at.duration_since(bench.now).as_secs() <= 1)
    );
    bench.pass();
    assert_eq!(bench.tasks(on("host-b")).len(), 0);
}

/// Steps 1.2 and 10.7 of `docs/ecs-rules.md`.
#[test]
fn a_host_that_is_deleted_leaves_when_its_tasks_have_moved() {
    let mut bench = Bench::with_service(2, 2, 100, 200);
    bench.apply_task(
        "mine",
        json!({ "taskDefinition": "web:1", "containerInstance": "host-a" }),
    );
    bench.converge(1);
    bench.delete(Kind::ContainerInstance, "host-a");
    bench.settle();
    assert_eq!(
        bench.instance("host-a").status.as_ref().unwrap().status,
        InstanceStatus::Deregistering
    );
    bench.converge(60);
    assert_eq!(bench.names(Kind::ContainerInstance), ["host-b"]);
    assert_eq!(bench.tasks(holding).len(), 2);
    assert_eq!(bench.reason("web"), "SteadyState");
}

/// Step 10.7 of `docs/ecs-rules.md`.
#[test]
fn a_host_that_is_deleted_leaves_when_what_ran_there_is_removed() {
    let mut bench = Bench::with_service(1, 1, 0, 100);
    bench.fail("web-000001", StopCode::EssentialContainerExited);
    bench.settle();
    bench.edit(Kind::ContainerInstance, "host-a", &|v| {
        v["metadata"]["annotations"] = json!({ labels::FORCE_DEREGISTRATION: "true" });
    });
    bench.delete(Kind::ContainerInstance, "host-a");
    bench.settle();
    // Both have ended, the agent has told so of both, and has removed the containers of neither.
    bench.fail("web-000002", StopCode::UserInitiated);
    bench.settle();
    let removals = bench.host_plan("host-a").tasks.iter();
    assert_eq!(removals.filter(|t| t.remove).count(), 2);
    let said = bench.instance("host-a").status.as_ref().unwrap().conditions[0].clone();
    assert_eq!(
        said.message,
        "host-a leaves when its agent has removed the containers of 2 stopped tasks."
    );
    bench.stop_all();
    bench.settle();
    assert!(bench.names(Kind::ContainerInstance).is_empty());
}

#[test]
fn a_host_that_falls_silent_while_it_leaves_is_not_waited_for() {
    let mut bench = Bench::with_service(1, 1, 0, 100);
    bench.delete(Kind::ContainerInstance, "host-a");
    bench.delete(Kind::Service, "web");
    bench.settle();
    bench.fail("web-000001", StopCode::UserInitiated);
    bench.settle();
    assert_eq!(bench.names(Kind::ContainerInstance), ["host-a"]);
    bench.silent("host-a", 60);
    bench.converge(60);
    assert!(bench.names(Kind::ContainerInstance).is_empty());
}

/// Step 10.7 of `docs/ecs-rules.md`.
#[test]
fn a_silent_host_that_is_deleted_is_given_up_at_once() {
    let mut bench = Bench::with_service(2, 2, 100, 200);
    bench.silent("host-a", 60);
    bench.delete(Kind::ContainerInstance, "host-a");
    bench.converge(60);
    assert_eq!(bench.names(Kind::ContainerInstance), ["host-b"]);
    let lost = bench.task("web-000001").status.clone().unwrap();
    assert_eq!(
        lost.stopped_reason.as_deref(),
        Some("Container instance deregistration forced by user")
    );
}

#[test]
fn remaining_resources_are_what_the_tasks_leave() {
    let bench = Bench::with_service(1, 2, 100, 200);
    let status = bench.instance("host-a").status.clone().unwrap();
    let left = status.remaining_resources.unwrap();
    assert_eq!(
        (left.cpu, left.memory, left.ports),
        (4096 - 512, 8192 - 1024, vec![22, 2375])
    );
    assert_eq!(status.cpu_free.as_deref(), Some("3584/4096"));
    assert_eq!(
        (status.running_tasks_count, status.pending_tasks_count),
        (2, 0)
    );
    assert_eq!(status.conditions[0].status, ConditionStatus::True);
}

#[test]
fn the_default_cluster_is_made_on_first_use_and_kept_while_used() {
    let mut bench = Bench::with_service(1, 1, 100, 200);
    assert_eq!(bench.names(Kind::Cluster), ["default"]);
    bench.delete(Kind::Cluster, "default");
    bench.settle();
    assert_eq!(bench.names(Kind::Cluster), ["default"]);
    bench.delete(Kind::Service, "web");
    bench.delete(Kind::ContainerInstance, "host-a");
    bench.converge(1);
    assert_eq!(bench.names(Kind::Cluster), Vec::<String>::new());
}

#[test]
fn a_cluster_that_no_object_can_be_called_by_works_without_one() {
    let mut bench = Bench::with_hosts(1);
    for (service_name, cluster) in [("a", "Prod"), ("b", "prod")] {
        let mut spec = service("web", 1, 100, 200);
        spec["cluster"] = cluster.into();
        bench.apply_service(service_name, spec);
        let world = World::gather(&bench.objects, NAMESPACE, cluster, &bench.settings, 1);
        let plan = tallyman_operator_core::plan(&world, bench.now);
        let makes = |a: &Action| matches!(a, Action::CreateCluster(_));
        assert_eq!(
            plan.actions.iter().any(makes),
            cluster == "prod",
            "{cluster}"
        );
    }
}

// --- leases ---

const GRACE: Duration = Duration::from_secs(50);

fn at(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[test]
fn a_lease_seen_for_the_first_time_counts_as_just_renewed() {
    let mut observer = LeaseObserver::default();
    observer.observe([("a", "1")], at(1000), GRACE, 55);
    assert_eq!(observer.silences(at(1000))["a"].lasts, at(0));
    observer.observe([("a", "1")], at(1040), GRACE, 55);
    assert_eq!(observer.silences(at(1045))["a"].lasts, at(45));
    observer.observe([("a", "2")], at(1060), GRACE, 55);
    assert_eq!(observer.silences(at(1060))["a"].lasts, at(0));
    observer.observe([], at(1070), GRACE, 55);
    assert!(observer.silences(at(1070)).is_empty());
}

#[test]
fn all_timers_start_anew_when_it_was_us_who_could_not_see() {
    let mut observer = LeaseObserver::default();
    for seconds in (0..=290).step_by(10) {
        observer.observe([("a", "1"), ("b", "1"), ("c", "1")], at(seconds), GRACE, 55);
    }
    assert_eq!(observer.silences(at(290))["c"].lasts, at(290));
    // Two of three are back; the third gets its whole time again.
    observer.observe([("a", "2"), ("b", "2"), ("c", "1")], at(301), GRACE, 55);
    assert_eq!(observer.silences(at(301))["c"].lasts, at(0));
    observer.observe([("a", "3"), ("b", "3"), ("c", "1")], at(350), GRACE, 55);
    assert_eq!(observer.silences(at(351))["c"].lasts, at(50));
}

#[test]
fn what_nobody_looked_at_was_not_silent() {
    // The API was away for a quarter of an hour, or the operator hung; then two of three hosts are back first.
    let mut observer = LeaseObserver::default();
    observer.observe([("a", "1"), ("b", "1"), ("c", "1")], at(0), GRACE, 55);
    observer.observe([("a", "2"), ("b", "2"), ("c", "1")], at(900), GRACE, 55);
    assert_eq!(observer.silences(at(900))["c"].lasts, at(0));
}

#[test]
fn a_host_is_heard_once_its_lease_changes_or_appears_while_somebody_looks() {
    let heard = |observer: &LeaseObserver, host: &str| observer.silences(at(0))[host].heard;
    let mut observer = LeaseObserver::default();
    observer.observe([("a", "1"), ("b", "1")], at(0), GRACE, 55);
    assert!(!heard(&observer, "a") && !heard(&observer, "b"));
    observer.observe([("a", "2"), ("b", "1"), ("c", "1")], at(10), GRACE, 55);
    assert!(heard(&observer, "a") && !heard(&observer, "b") && heard(&observer, "c"));
    // All timers start anew; who was silent for as long as a host may be has to be heard again.
    for seconds in (20..=80).step_by(10) {
        let old = [("a", "2"), ("b", "1"), ("c", "1")];
        observer.observe(old, at(seconds), GRACE, 55);
    }
    observer.observe([("a", "3"), ("b", "2"), ("c", "1")], at(90), GRACE, 55);
    assert_eq!(observer.silences(at(90))["c"].lasts, at(0));
    assert!(heard(&observer, "a") && heard(&observer, "b") && !heard(&observer, "c"));
}
