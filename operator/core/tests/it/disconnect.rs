//! The `disconnect` policy of services: when tasks on a silent host are replaced, and what is said of it.

use std::time::Duration;

use crate::common::build::{definition, service};
use crate::common::moves::holding;
use crate::common::{Bench, cases};
use jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;
use serde_json::{Value, json};
use tallyman_crds::{Absence, Connectivity, StopCode, Task, TaskStatus, capabilities, conditions};
use tallyman_operator_core::disconnect::bound;
use tallyman_operator_core::{Action, Kind};

/// Three hosts with a task each of a service with this policy.
fn with_policy(policy: &Value) -> Bench {
    let mut bench = Bench::with_hosts(3);
    bench.apply_definition("web", definition("web:1"));
    let mut spec = service("web", 3, 100, 200);
    spec["disconnect"] = policy.clone();
    bench.apply_service("web", spec);
    bench.converge(60);
    bench
}

fn on(host: &str) -> impl Fn(&Task) -> bool {
    move |t| holding(t) && t.spec.container_instance.as_deref() == Some(host)
}

/// Whether the task of `host-a` is replaced once that was silent for so long, with every silence before it.
fn replaced_at(bench: &mut Bench, seconds: u64) -> bool {
    bench.silent("host-a", seconds);
    bench.settle();
    bench.tasks(on("host-a")).is_empty()
}

#[test]
fn tasks_are_replaced_when_their_service_wants_it() {
    let default = "Host host-a was lost: its agent is not connected";
    let asked = |s| format!("{default} for {s} s (`disconnect.replaceAfter`)");
    let fenced = |stop, s| {
        format!(
            "{default}. The task has stopped there by itself after {stop} s (`disconnect.stopAfter`), which is certain after {s} s"
        )
    };
    // With stopAfter 60 and a container that has 30 s to stop: 1.01 x 90 + 25 = 115.9.
    for (policy, after, reason) in [
        (json!(null), 300, default.to_owned()),
        (json!({}), 300, default.to_owned()),
        // Not before it counts as disconnected.
        (json!({ "replaceAfter": 0 }), 50, asked(50)),
        (json!({ "replaceAfter": 60 }), 60, asked(60)),
        (json!({ "replaceAfter": 900 }), 900, asked(900)),
        (json!({ "stopAfter": 60 }), 116, fenced(60, 115)),
        (
            json!({ "stopAfter": 60, "replaceAfter": 85 }),
            116,
            fenced(60, 115),
        ),
        (
            json!({ "stopAfter": 60, "replaceAfter": 600 }),
            600,
            fenced(60, 600),
        ),
    ] {
        let mut bench = with_policy(&policy);
        let task = bench.tasks(on("host-a")).remove(0);
        for early in [49, after - 1] {
            assert!(!replaced_at(&mut bench, early), "{policy}: {early} s");
        }
        assert!(replaced_at(&mut bench, after), "{policy}: {after} s");
        assert_eq!(bench.tasks(holding).len(), 3, "{policy}: elsewhere");
        let status = bench.task(&task).status.clone().unwrap();
        assert_eq!(status.stop_code, Some(StopCode::InfrastructureHealth));
        assert_eq!(status.stopped_reason, Some(reason));
        // The host comes back: what was replaced stops and goes, what replaced it stays.
        bench.silent("host-a", 0);
        bench.settle();
        let entries = &bench.host_plan("host-a").tasks;
        let entry = entries.iter().find(|e| e.name == task);
        assert!(
            entry.is_none_or(|e| e.desired_status == tallyman_crds::DesiredStatus::Stopped),
            "{entry:?}"
        );
        assert_eq!(bench.tasks(holding).len(), 3);
    }
}

#[test]
fn a_task_keeps_what_it_was_started_with_and_a_service_may_change_its_mind() {
    let mut bench = with_policy(&json!({ "stopAfter": 60 }));
    let told: Vec<_> = bench.host_plan("host-a").tasks.clone();
    assert_eq!(told[0].stop_after, Some(60));
    bench.edit(Kind::Service, "web", &|v| {
        v["spec"]["disconnect"] = json!({ "replaceAfter": 50 });
    });
    bench.settle();
    assert_eq!(bench.host_plan("host-a").tasks[0].stop_after, Some(60));
    assert!(!replaced_at(&mut bench, 115), "its agent stops it, still");
    assert!(replaced_at(&mut bench, 116));
    let younger = bench.tasks(|t| holding(t) && t.spec.stop_after.is_none());
    assert_eq!(younger.len(), 1);
}

#[test]
fn services_on_a_host_wait_for_themselves_alone() {
    let mut bench = with_policy(&json!({ "replaceAfter": 60 }));
    bench.apply_definition("api", definition("api:1"));
    bench.apply_service("api", service("api", 3, 100, 200));
    bench.converge(60);
    bench.silent("host-a", 60);
    bench.settle();
    let left = bench.tasks(on("host-a"));
    assert_eq!(left.len(), 1);
    assert!(left[0].starts_with("api-"), "{left:?}");
    let status = bench.instance("host-a").status.clone().unwrap();
    assert!(
        status.conditions[0].message.contains("replaced 300 s"),
        "{:?}",
        status.conditions[0]
    );
    bench.silent("host-a", 300);
    bench.settle();
    assert!(bench.tasks(on("host-a")).is_empty());
}

#[test]
fn most_hosts_that_are_silent_are_not_given_up_whatever_services_want() {
    let mut bench = with_policy(&json!({ "replaceAfter": 60 }));
    bench.silent("host-a", 60);
    bench.silent("host-b", 60);
    bench.settle();
    assert_eq!(bench.tasks(on("host-a")).len(), 1);
    assert_eq!(bench.tasks(on("host-b")).len(), 1);
}

#[test]
fn a_host_that_is_deleted_while_it_is_silent_waits_for_tasks_that_stop_by_themselves() {
    for (policy, waits) in [(json!({}), false), (json!({ "stopAfter": 60 }), true)] {
        let mut bench = with_policy(&policy);
        bench.silent("host-a", 60);
        bench.delete(Kind::ContainerInstance, "host-a");
        bench.settle();
        assert_eq!(bench.tasks(on("host-a")).len() == 1, waits, "{policy}");
        bench.silent("host-a", 116);
        bench.settle();
        assert!(bench.tasks(on("host-a")).is_empty(), "{policy}");
        assert_eq!(bench.tasks(holding).len(), 3, "{policy}");
    }
}

#[test]
fn a_service_says_which_of_its_tasks_are_out_of_touch() {
    let says = |bench: &Bench| {
        let conditions = bench.service_status("web").conditions;
        let ready = conditions.iter().find(|c| c.type_ == conditions::READY);
        let ready = ready.map(|c| c.reason.clone());
        let told = conditions
            .into_iter()
            .find(|c| c.type_ == conditions::TASKS_OUT_OF_TOUCH);
        (ready.unwrap(), told.map(|c| c.message))
    };
    let mut bench = with_policy(&json!({ "stopAfter": 60 }));
    let task = bench.tasks(on("host-a")).remove(0);
    assert_eq!(says(&bench), ("SteadyState".to_owned(), None));
    bench.silent("host-a", 50);
    bench.settle();
    let message = format!(
        "Tasks on hosts whose agent is not connected: (task {task}). They are stopped there by the agent after 60 s of silence, and \
         are replaced 115 s after the agent was last heard of."
    );
    assert_eq!(says(&bench), ("SteadyState".to_owned(), Some(message)));
    bench.silent("host-a", 0);
    bench.settle();
    assert_eq!(says(&bench), ("SteadyState".to_owned(), None));
    bench.silent("host-a", 116);
    let plan = bench.pass();
    let notes: Vec<_> = plan.notes.iter().map(|n| (n.reason, &n.message)).collect();
    assert!(
        notes.iter().any(|(reason, message)| *reason == "TasksLost"
            && message
                .starts_with("(service web) has lost what it had on a host. Host host-a was lost")),
        "{notes:?}"
    );
}

/// `connectivity` of a task, and since when.
fn connectivity(bench: &Bench, task: &str) -> (Option<Connectivity>, Option<Timestamp>) {
    let status = bench.task(task).status.clone().unwrap_or_default();
    (status.connectivity, status.connectivity_at.map(|at| at.0))
}

#[test]
fn tasks_say_whether_the_agent_of_their_host_is_connected() {
    let mut bench = with_policy(&json!(null));
    let task = bench.tasks(on("host-a")).remove(0);
    let other = bench.tasks(on("host-b")).remove(0);
    let first = connectivity(&bench, &task).1.unwrap();
    assert!(first < bench.now);
    let connected = Some(Connectivity::Connected);
    let disconnected = Some(Connectivity::Disconnected);
    bench.silent("host-a", 49);
    bench.settle();
    assert_eq!(connectivity(&bench, &task), (connected, Some(first)));
    bench.silent("host-a", 50);
    bench.settle();
    assert_eq!(connectivity(&bench, &task), (disconnected, Some(first)));
    assert_eq!(connectivity(&bench, &other), (connected, Some(first)));
    let before = bench.task(&task).status.clone().unwrap_or_default();
    bench.pass_time(10);
    bench.silent("host-a", 0);
    bench.settle();
    assert_eq!(connectivity(&bench, &task), (connected, Some(bench.now)));
    assert_eq!(connectivity(&bench, &other), (connected, Some(first)));
    // All else is its agent's.
    let after = bench.task(&task).status.clone().unwrap_or_default();
    let like_before = TaskStatus {
        connectivity: before.connectivity,
        connectivity_at: before.connectivity_at.clone(),
        ..after
    };
    assert_eq!(like_before, before);
    // What has ended stays as it was at the end.
    for silent in [60, 300] {
        bench.silent("host-a", silent);
        bench.settle();
        assert_eq!(connectivity(&bench, &task).0, disconnected);
    }
    assert!(!holding(bench.task(&task)));
    bench.silent("host-a", 0);
    bench.settle();
    assert_eq!(connectivity(&bench, &task).0, disconnected);
}

#[test]
fn nothing_is_said_of_tasks_that_no_agent_has_told_of_nor_while_most_hosts_are_silent() {
    let mut bench = with_policy(&json!(null));
    let task = bench.tasks(on("host-a")).remove(0);
    let tell = |bench: &mut Bench, connectivity: Value| {
        bench.edit(Kind::Task, &task, &|v| {
            v["status"]["connectivity"] = connectivity.clone();
        });
    };
    tell(&mut bench, Value::Null);
    bench.silent("host-a", 60);
    bench.settle();
    assert_eq!(connectivity(&bench, &task).0, None);
    tell(&mut bench, json!("CONNECTED"));
    bench.silent("host-b", 60);
    bench.settle();
    let connected = Some(Connectivity::Connected);
    assert_eq!(connectivity(&bench, &task).0, connected);
    // Once it is not us, it is said.
    bench.silent("host-b", 0);
    bench.settle();
    assert_eq!(
        connectivity(&bench, &task).0,
        Some(Connectivity::Disconnected)
    );
}

/// A task is told by the host, so that a rack that is cut off is not one flood of writes.
#[test]
fn one_host_is_told_of_in_a_pass() {
    let mut bench = Bench::with_hosts(5);
    bench.apply_definition("web", definition("web:1"));
    bench.apply_service("web", service("web", 10, 100, 200));
    bench.converge(60);
    bench.silent("host-a", 60);
    bench.silent("host-b", 60);
    for host in ["host-a", "host-b"] {
        let plan = bench.plan();
        let told = plan.actions.iter().filter_map(|action| match action {
            Action::WriteTaskStatus { task, .. } => Some(task.name.clone()),
            _ => None,
        });
        assert_eq!(told.collect::<Vec<_>>(), bench.tasks(on(host)));
        bench.apply(&plan);
    }
    bench.settle();
}

fn original() -> Bench {
    with_policy(&json!({ "replaceAfter": 60, "keepOnReturn": "Original" }))
}

fn absence(bench: &Bench, task: &str) -> Option<Absence> {
    bench.task(task).status.as_ref().unwrap().absence.clone()
}

#[test]
fn what_replaced_a_task_stops_once_its_host_is_back_for_a_minute() {
    let mut bench = original();
    let before = bench.tasks(holding);
    let task = bench.tasks(on("host-a")).remove(0);
    bench.silent("host-a", 60);
    let plan = bench.plan();
    let notes: Vec<_> = plan.notes.iter().map(|n| &n.message).collect();
    let told = "(service web) has lost what it had on a host. Host host-a was lost: its agent is not connected for 60 s \
                (`disconnect.replaceAfter`). What runs there stays if it comes back (`disconnect.keepOnReturn`).";
    assert!(notes.iter().any(|m| *m == told), "{notes:?}");
    bench.converge(60);
    let absent = absence(&bench, &task).unwrap();
    assert!(absent.back_since.is_none());
    assert_eq!(bench.tasks(holding).len(), 4);
    let status = bench.service_status("web");
    assert_eq!(
        (status.running_count, status.deployments[0].running_count),
        (3, 3)
    );
    assert_eq!(bench.reason("web"), "SteadyState");
    let told = status
        .conditions
        .iter()
        .find(|c| c.type_ == conditions::TASKS_OUT_OF_TOUCH);
    assert_eq!(
        told.unwrap().message,
        format!(
            "Tasks on hosts whose agent is not connected: (task {task}). They were replaced, run on there, and stay if their host comes \
             back."
        )
    );
    bench.silent("host-a", 0);
    bench.settle();
    assert_eq!(
        absence(&bench, &task).unwrap().back_since.unwrap().0,
        bench.now
    );
    bench.pass_time(59);
    bench.settle();
    assert_eq!(
        bench.tasks(holding).len(),
        4,
        "its agent may still say that it ended"
    );
    assert_eq!(
        bench.plan().wake_at,
        Some(bench.now + SignedDuration::from_secs(1))
    );
    bench.pass_time(1);
    bench.converge(60);
    assert_eq!(bench.tasks(holding), before);
    // The next silence is one like the first.
    bench.silent("host-a", 60);
    bench.converge(60);
    assert!(absence(&bench, &task).unwrap().back_since.is_none());
    assert_eq!(bench.tasks(holding).len(), 4);
}

#[test]
fn a_task_that_ended_meanwhile_is_not_waited_for() {
    let mut bench = original();
    let task = bench.tasks(on("host-a")).remove(0);
    bench.silent("host-a", 60);
    bench.converge(60);
    let replacement = bench.tasks(holding).pop().unwrap();
    bench.silent("host-a", 0);
    bench.settle();
    bench.fail(&task, StopCode::EssentialContainerExited);
    bench.pass_time(60);
    bench.converge(60);
    let left = bench.tasks(holding);
    assert_eq!(left.len(), 3);
    assert!(
        left.contains(&replacement) && !left.contains(&task),
        "{left:?}"
    );
}

#[test]
fn a_host_that_only_seems_to_be_back_changes_nothing() {
    let mut bench = original();
    let task = bench.tasks(on("host-a")).remove(0);
    bench.silent("host-a", 60);
    bench.converge(60);
    let before = bench.tasks(holding);
    // Each new leader begins to count, and comes to the same.
    for leader in 1..=2 {
        for silent in [0, 49, 50, 60, 61, 300] {
            bench.silent("host-a", silent);
            bench.settle();
            assert_eq!(bench.tasks(holding), before, "leader {leader}, {silent} s");
            let seems = absence(&bench, &task).unwrap().back_since.is_some();
            assert_eq!(seems, silent < 50, "leader {leader}, {silent} s");
            bench.pass_time(if silent == 0 { 49 } else { 1 });
        }
    }
}

#[test]
fn an_absent_task_that_is_not_wanted_any_more_is_given_up() {
    type Change = fn(&mut Bench);
    let changes: [(&str, Change, usize); 5] = [
        (
            "another revision",
            |b| b.apply_definition("web", definition("web:2")),
            3,
        ),
        ("none is wanted", |b| b.scale("web", 0), 0),
        (
            "somebody stops it",
            |b| b.delete(Kind::Task, "web-000001"),
            3,
        ),
        (
            "another policy",
            |b| {
                b.edit(Kind::Service, "web", &|v| {
                    v["spec"]["disconnect"]["keepOnReturn"] = json!("Replacement");
                });
            },
            3,
        ),
        (
            "its host is deleted",
            |b| b.delete(Kind::ContainerInstance, "host-a"),
            3,
        ),
    ];
    for (what, change, wanted) in changes {
        let mut bench = original();
        let task = bench.tasks(on("host-a")).remove(0);
        assert_eq!(task, "web-000001");
        bench.silent("host-a", 60);
        bench.converge(60);
        change(&mut bench);
        bench.converge(60);
        let left = bench.tasks(holding);
        assert!(!left.contains(&task), "{what}: {left:?}");
        assert_eq!(left.len(), wanted, "{what}: {left:?}");
    }
}

#[test]
fn a_daemon_that_is_to_stay_is_never_given_up_with_a_silent_host() {
    for (keep, stays) in [("Replacement", false), ("Original", true)] {
        let mut bench = Bench::with_hosts(3);
        bench.apply_definition("web", definition("web:1"));
        bench.apply_service(
            "web",
            json!({ "taskDefinition": "web", "schedulingStrategy": "DAEMON", "disconnect": { "keepOnReturn": keep } }),
        );
        bench.converge(60);
        let before = bench.tasks(holding);
        bench.silent("host-a", 3600);
        bench.converge(60);
        assert_eq!(bench.tasks(on("host-a")).len() == 1, stays, "{keep}");
        bench.silent("host-a", 0);
        bench.converge(60);
        assert_eq!(bench.tasks(holding).len(), 3);
        assert_eq!(bench.tasks(holding) == before, stays, "{keep}");
    }
}

#[test]
fn a_host_whose_agent_knows_nothing_of_stop_after_gets_no_such_task() {
    for policy in [json!({ "stopAfter": 60 }), json!({ "replaceAfter": 60 })] {
        let mut bench = Bench::with_hosts(1);
        bench.edit(Kind::ContainerInstance, "host-a", &|v| {
            let all = v["status"]["host"]["attributes"].as_array_mut().unwrap();
            all.retain(|a| a["name"] != capabilities::STOP_AFTER);
        });
        bench.apply_definition("web", definition("web:1"));
        let mut spec = service("web", 1, 0, 100);
        spec["disconnect"] = policy.clone();
        bench.apply_service("web", spec);
        bench.settle();
        let fenced = policy["stopAfter"].is_number();
        assert_eq!(bench.tasks(holding).is_empty(), fenced, "{policy}");
        if fenced {
            let ready = bench.service_status("web").conditions.remove(0);
            assert_eq!(ready.reason, "TasksNotPlaceable");
            assert!(
                ready.message.contains(capabilities::STOP_AFTER),
                "{}",
                ready.message
            );
            // The agent is updated.
            bench.register("host-a", 4096, 8192);
            bench.settle();
            assert_eq!(bench.tasks(holding).len(), 1);
        }
    }
}

proptest! {
    #![proptest_config(cases(200))]

    /// Whatever its stop takes, an agent whose clock is up to a percent slow has stopped a task before it is replaced.
    #[test]
    fn a_task_has_stopped_before_it_is_replaced(stop in 30_u64..86_400, stops in 0_u64..1200, slow in 0_u64..=100) {
        let real = |host: u64| Duration::from_secs(host).mul_f64(1.0 + slow as f64 / 10_000.0);
        let stopped = real(stop) + Duration::from_secs(stops);
        let waits = bound(Duration::from_secs(stop), Duration::from_secs(stops));
        prop_assert!(waits >= stopped + Duration::from_secs(25), "{waits:?} {stopped:?}");
    }

}

proptest! {
    // Each settles nine tasks.
    #![proptest_config(cases(20))]

    /// A silence replaces exactly the tasks whose time it has reached, and never one that may still run beside its replacement.
    #[test]
    fn a_silence_replaces_what_is_due_and_nothing_else(
        policies in prop::collection::vec((prop::option::of(0_u64..700), prop::option::of(30_u64..700)), 1..4),
        silence in 0_u64..1500,
    ) {
        let mut bench = Bench::with_hosts(3);
        bench.apply_definition("web", definition("web:1"));
        for (n, (replace, stop)) in policies.iter().enumerate() {
            let mut spec = service("web", 3, 100, 200);
            spec["disconnect"] = json!({ "replaceAfter": replace, "stopAfter": stop });
            bench.apply_service(&format!("s{n}"), spec);
        }
        bench.converge(60);
        bench.silent("host-a", silence);
        bench.settle();
        for (n, (replace, stop)) in policies.iter().enumerate() {
            let fence = stop.map(|s| bound(Duration::from_secs(s), Duration::from_secs(30)));
            let asked = replace.map(Duration::from_secs);
            let due = match fence {
                Some(fence) => fence.max(asked.unwrap_or_default()),
                None => asked.unwrap_or(Duration::from_secs(300)),
            };
            let due = Duration::from_secs(silence) >= due.max(Duration::from_secs(50));
            let left = bench.tasks(|t| on("host-a")(t) && t.metadata.name.as_deref().is_some_and(|t| t.starts_with(&format!("s{n}-"))));
            prop_assert_eq!(left.is_empty(), due, "s{} of {:?} after {} s", n, policies, silence);
        }
    }

    /// Whatever it is placed by, and however many there are: in the end as many run as are wanted, and those that were on the host
    /// that came back are the ones that were to stay.
    #[test]
    fn who_is_to_stay_stays(
        wanted in 1_i64..7,
        bounds in prop::sample::select(vec![(100, 200), (50, 150), (0, 100)]),
        strategy in prop::sample::select(vec![
            json!([]),
            json!([{ "type": "spread", "field": "instanceId" }]),
            json!([{ "type": "binpack", "field": "memory" }]),
            json!([{ "type": "random" }]),
        ]),
        original: bool,
        silence in prop::sample::select(vec![50_u64, 60, 300]),
        returns in 0_i64..100,
    ) {
        let mut bench = Bench::with_hosts(4);
        bench.apply_definition("web", definition("web:1"));
        let mut spec = service("web", wanted, bounds.0, bounds.1);
        let keep = if original { "Original" } else { "Replacement" };
        spec["disconnect"] = json!({ "replaceAfter": 60, "keepOnReturn": keep });
        spec["placementStrategy"] = strategy;
        bench.apply_service("web", spec);
        bench.converge(60);
        let before = bench.tasks(holding);
        bench.silent("host-a", silence);
        bench.converge(60);
        prop_assert!(i64::from(bench.service_status("web").running_count) == wanted);
        bench.silent("host-a", 0);
        bench.settle();
        bench.pass_time(returns);
        bench.settle();
        bench.pass_time(60);
        bench.converge(60);
        let after = bench.tasks(holding);
        prop_assert_eq!(i64::try_from(after.len()).unwrap(), wanted);
        let stays = original || silence < 60;
        prop_assert!(before == after || !stays, "{:?} {:?}", before, after);
    }
}
