//! The `disconnect` policy of services: when tasks on a silent host are replaced, and what is said of it.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod common;

use std::time::Duration;

use common::build::{definition, service};
use common::moves::holding;
use common::{Bench, cases};
use proptest::prelude::*;
use serde_json::{Value, json};
use tallyman_crds::{StopCode, Task, conditions};
use tallyman_operator_core::Kind;
use tallyman_operator_core::disconnect::bound;

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
}
