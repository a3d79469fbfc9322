//! Rollouts told as traces: one for each deployment, a span for each thing that is over, each once.

use std::collections::{BTreeMap, BTreeSet};

use crate::common::Bench;
use crate::common::build::{definition, service};
use crate::common::moves::{holding, of_image};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::json;
use tallyman_crds::{DesiredStatus, LastStatus, StopCode, Task};
use tallyman_operator_core::Kind;
use tallyman_operator_core::traces::{Outcome, Span, SpanId, Traces};

fn look(traces: &mut Traces, bench: &Bench) -> Vec<Span> {
    traces.since(&[&bench.world()], bench.now)
}

/// A service that has been at rest for long, and a leader that has looked at it.
fn at_rest(desired: i64) -> (Bench, Traces) {
    let mut bench = Bench::with_service(2, desired, 100, 200);
    bench.pass_time(3600);
    bench.settle();
    let mut traces = Traces::default();
    assert_eq!(look(&mut traces, &bench), []);
    (bench, traces)
}

fn new_tasks(bench: &Bench, image: &str) -> Vec<String> {
    let pending = |t: &Task| {
        let last = t
            .status
            .as_ref()
            .map_or(LastStatus::Provisioning, |s| s.last_status);
        last < LastStatus::Running && t.spec.desired_status == DesiredStatus::Running
    };
    bench.tasks(|t| holding(t) && pending(t) && of_image(bench, image)(t))
}

/// Agents take tasks of `image` on, pull for 3 s, and start for 2 s.
fn bring_up(bench: &mut Bench, image: &str) {
    let tasks = new_tasks(bench, image);
    bench.pass_time(1);
    let accepted = Time(bench.now);
    for task in &tasks {
        let pulls = json!({ "pullStartedAt": accepted });
        bench.report(task, LastStatus::Pending, &pulls);
    }
    bench.pass_time(3);
    let pulled = Time(bench.now);
    bench.pass_time(2);
    for task in &tasks {
        let runs = json!({ "pullStoppedAt": pulled, "acceptedAt": accepted });
        bench.report(task, LastStatus::Running, &runs);
    }
}

/// Rolls `web` to `image` until nothing moves, with a look after everything that happens.
fn roll(bench: &mut Bench, image: &str, mut look: impl FnMut(&Bench)) {
    bench.roll(image);
    for _ in 0..6 {
        bench.settle();
        look(bench);
        bring_up(bench, image);
        look(bench);
        bench.settle();
        look(bench);
        bench.stop_all();
        look(bench);
        bench.pass_time(20);
    }
}

/// Tells a tree as a person would: names, indented below what they are part of.
fn tree(spans: &[Span]) -> String {
    fn below(spans: &[Span], parent: Option<SpanId>, depth: usize, text: &mut String) {
        let mut children: Vec<_> = spans.iter().filter(|s| s.parent == parent).collect();
        children.sort_by_key(|s| (s.start, s.end, s.name.clone()));
        for s in children {
            let took = s.end.duration_since(s.start).as_secs();
            let how = match &s.outcome {
                Outcome::Unset => String::new(),
                Outcome::Ok => " ok".to_owned(),
                Outcome::Error(why) => format!(" error: {why}"),
            };
            *text += &format!("{}{} {took}s{how}\n", "  ".repeat(depth), s.name);
            below(spans, Some(s.id), depth + 1, text);
        }
    }
    let mut text = String::new();
    below(spans, None, 0, &mut text);
    assert_eq!(
        text.lines().count(),
        spans.len(),
        "a span hangs in the air: {spans:#?}"
    );
    text
}

/// Of one trace, with ids that are there once, and none longer than what it is part of.
fn check(spans: &[Span]) {
    let traces: BTreeSet<_> = spans.iter().map(|s| s.trace).collect();
    assert_eq!(traces.len(), 1);
    let by_id: BTreeMap<_, _> = spans.iter().map(|s| (s.id, s)).collect();
    assert_eq!(by_id.len(), spans.len(), "an id is there twice");
    for s in spans {
        assert!(s.start <= s.end, "{s:?}");
        if let Some(parent) = s.parent.and_then(|p| by_id.get(&p))
            && !s.name.starts_with("stop ")
        {
            assert!(
                parent.start <= s.start && s.end <= parent.end,
                "{s:?} {parent:?}"
            );
        }
    }
}

#[test]
fn a_rollout_is_one_tree() {
    let (mut bench, mut traces) = at_rest(2);
    let mut spans = Vec::new();
    roll(&mut bench, "web:2", |b| spans.extend(look(&mut traces, b)));
    check(&spans);
    let whole = spans.iter().find(|s| s.parent.is_none()).unwrap();
    let of_whole = |name: &str| whole.attributes.get(name).map(String::as_str);
    assert_eq!(of_whole("tallyman.rollout_state"), Some("COMPLETED"));
    assert_eq!(of_whole("tallyman.task_definition"), Some("web:2"));
    let took = whole.end.duration_since(whole.start).as_secs();
    let of_task = "\x20   accept 1s\n    pull 3s\n    start 2s\n";
    assert_eq!(
        tree(&spans),
        format!(
            "rollout web {took}s ok\n  task web-000003 6s ok\n{of_task}  task web-000004 6s ok\n{of_task}  stop web-000001 0s\n  stop web-000002 0s\n"
        )
    );
    let task = spans.iter().find(|s| s.name == "task web-000003").unwrap();
    assert!(task.attributes["host.name"].starts_with("host-"));
    // What happens to a service outside a rollout is none.
    bench.scale("web", 4);
    bench.converge(60);
    bench.fail("web-000003", StopCode::EssentialContainerExited);
    bench.converge(60);
    assert_eq!(look(&mut traces, &bench), []);
}

/// A leader that comes in the middle tells the same spans as the one before would have, and what is long past not again.
#[test]
fn the_next_leader_goes_on_with_the_same_trace() {
    let (bench, traces) = at_rest(3);
    let told = |leaders: &dyn Fn(usize) -> bool| {
        let (mut bench, mut leader) = (bench.clone(), traces.clone());
        let (mut spans, mut looks) = (Vec::new(), 0);
        roll(&mut bench, "web:2", |b| {
            looks += 1;
            if leaders(looks) {
                leader = Traces::default();
            }
            spans.extend(look(&mut leader, b));
        });
        spans.sort_by_key(|s| s.id);
        spans.dedup();
        (spans, looks)
    };
    let (one, looks) = told(&|_| false);
    check(&one);
    for at in 1..looks {
        assert_eq!(told(&|n| n == at).0, one, "another leader at look {at}");
    }
    assert_eq!(told(&|_| true).0, one, "another leader at every look");
}

#[test]
fn a_rollout_that_fails_says_why_and_going_back_is_another() {
    let mut bench = Bench::with_hosts(2);
    bench.apply_definition("web", definition("web:1"));
    let mut spec = service("web", 2, 100, 200);
    spec["deploymentConfiguration"]["deploymentCircuitBreaker"] =
        json!({ "enable": true, "rollback": true });
    bench.apply_service("web", spec);
    bench.converge(60);
    bench.pass_time(3600);
    let mut traces = Traces::default();
    assert_eq!(look(&mut traces, &bench), []);
    let mut spans = Vec::new();
    bench.roll("web:2");
    for _ in 0..8 {
        bench.settle();
        spans.extend(look(&mut traces, &bench));
        for task in new_tasks(&bench, "web:2") {
            let accepted = Time(bench.now);
            let pulls = json!({ "pullStartedAt": accepted });
            bench.report(&task, LastStatus::Pending, &pulls);
            bench.pass_time(4);
            let fails = json!({ "acceptedAt": accepted, "stopCode": StopCode::TaskFailedToStart, "stoppedReason": "it failed" });
            bench.report(&task, LastStatus::Stopped, &fails);
        }
        bench.stop_all();
        bench.pass_time(900);
    }
    bench.converge(60);
    spans.extend(look(&mut traces, &bench));
    let failed = bench.service_status("web").failed_deployment.unwrap();
    let of = |id: &str| {
        let is =
            |s: &&Span| s.attributes.get("tallyman.deployment").map(String::as_str) == Some(id);
        let whole = spans.iter().find(is).unwrap();
        let trace: Vec<Span> = spans
            .iter()
            .filter(|s| s.trace == whole.trace)
            .cloned()
            .collect();
        check(&trace);
        (whole.clone(), trace)
    };
    let (whole, trace) = of(&failed.id);
    assert_eq!(whole.outcome, Outcome::Error(failed.reason.clone()));
    assert_eq!(whole.attributes["tallyman.rollout_state"], "FAILED");
    let text = tree(&trace);
    let task =
        "  task web-000003 4s error: it failed\n    accept 0s\n    pull 4s error: it failed\n";
    assert!(text.contains(task), "{text}");
    assert!(text.matches("  task ").count() >= 3, "{text}");
    let (back, _) = of(&bench.service_status("web").deployments[0].id);
    assert_eq!(back.outcome, Outcome::Ok);
    assert_eq!(back.attributes["tallyman.rolled_back_from"], failed.id);
    assert_ne!(back.trace, whole.trace);
}

#[test]
fn a_rollout_ends_when_another_takes_its_place_or_its_service_goes() {
    let (mut bench, mut traces) = at_rest(2);
    bench.roll("web:2");
    bench.settle();
    assert_eq!(look(&mut traces, &bench), []);
    bench.pass_time(30);
    bench.roll("web:3");
    bench.settle();
    let spans = look(&mut traces, &bench);
    assert_eq!(tree(&spans), "rollout web 30s\n");
    assert_eq!(spans[0].attributes["tallyman.rollout_state"], "SUPERSEDED");
    assert_eq!(look(&mut traces, &bench), []);
    bench.pass_time(10);
    bench.delete(Kind::Service, "web");
    bench.converge(60);
    let deleted = look(&mut traces, &bench);
    let whole = deleted.iter().find(|s| s.parent.is_none()).unwrap();
    assert_eq!(whole.attributes["tallyman.rollout_state"], "DELETED");
    assert_ne!(whole.trace, spans[0].trace);
}

#[test]
fn a_task_with_a_health_check_is_up_once_it_is_healthy() {
    let mut bench = Bench::with_checked_service(2, 1, 100, 200);
    bench.pass_time(3600);
    bench.settle();
    let mut traces = Traces::default();
    look(&mut traces, &bench);
    bench.roll("web:2");
    bench.settle();
    bring_up(&mut bench, "web:2");
    bench.settle();
    assert_eq!(
        look(&mut traces, &bench),
        [],
        "it runs, and is not healthy yet"
    );
    bench.pass_time(7);
    let now = Time(bench.now);
    let healthy = json!({
        "healthStatus": "HEALTHY",
        "conditions": [{ "type": "Ready", "status": "True", "reason": "Healthy", "message": "", "observedGeneration": 1, "lastTransitionTime": now }],
    });
    bench.edit(Kind::Task, "web-000002", &|v| {
        crate::common::merge(&mut v["status"], &healthy);
    });
    bench.settle();
    let spans = look(&mut traces, &bench);
    let told: Vec<_> = spans
        .iter()
        .map(|s| (s.name.as_str(), s.end.duration_since(s.start).as_secs()))
        .collect();
    let expected = [
        ("accept", 1),
        ("pull", 3),
        ("start", 2),
        ("become healthy", 7),
        ("task web-000002", 13),
    ];
    assert_eq!(told, expected);
}
