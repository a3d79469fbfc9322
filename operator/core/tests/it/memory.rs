//! What is answered with a pass over what changed, and what reaches further. That both passes say the same is shown by
//! every test that lets a bench settle, and by the property in `fixpoint`.

use crate::common::Bench;
use crate::common::build::{definition, service};
use serde_json::json;
use tallyman_crds::{LastStatus, StopCode};
use tallyman_operator_core::Kind;

/// Three tasks on three hosts, and time for everything to settle.
fn at_rest() -> Bench {
    let mut bench = Bench::with_hosts(3);
    bench.secret("db", &[("password", "one")]);
    let mut spec = definition("web:1");
    spec["containerDefinitions"][0]["secrets"] =
        json!([{ "name": "PASSWORD", "valueFrom": "db:password" }]);
    bench.apply_definition("web", spec);
    bench.apply_service("web", service("web", 3, 100, 200));
    bench.converge(60);
    bench
}

/// Passes over everything that were needed until the bench was at rest again.
fn whole(bench: &mut Bench, change: impl FnOnce(&mut Bench)) -> usize {
    bench.settle();
    let (whole, parts) = bench.remembered();
    change(bench);
    bench.settle();
    let (after, more) = bench.remembered();
    assert!(after + more > whole + parts, "a pass was made");
    after - whole
}

#[test]
fn what_happens_all_day_is_answered_by_whoever_depends_on_it() {
    let mut bench = at_rest();
    let bench = &mut bench;
    let task = "web-000001";
    let none = [
        (
            "a task ends",
            whole(bench, |b| b.fail(task, StopCode::EssentialContainerExited)),
        ),
        ("its successor runs", whole(bench, Bench::run_all)),
        ("a service is scaled", whole(bench, |b| b.scale("web", 5))),
        ("more tasks run", whole(bench, Bench::run_all)),
        (
            "a service is scaled in",
            whole(bench, |b| b.scale("web", 2)),
        ),
        ("tasks stop", whole(bench, Bench::stop_all)),
        (
            "an agent reports something",
            whole(bench, |b| {
                b.edit(Kind::ContainerInstance, "host-b", &|v| {
                    v["status"]["host"]["message"] = json!("a disk is nearly full");
                });
            }),
        ),
        (
            "a host shrinks",
            whole(bench, |b| {
                b.edit(Kind::ContainerInstance, "host-b", &|v| {
                    v["status"]["host"]["registeredResources"]["cpu"] = json!(512);
                });
            }),
        ),
        ("a host is silent", whole(bench, |b| b.silent("host-c", 60))),
        (
            "and is heard again",
            whole(bench, |b| b.silent("host-c", 1)),
        ),
        (
            "a secret changes",
            whole(bench, |b| b.secret("db", &[("password", "two")])),
        ),
        (
            "another secret comes",
            whole(bench, |b| b.secret("other", &[("key", "value")])),
        ),
        (
            "a host drains",
            whole(bench, |b| {
                b.edit(Kind::ContainerInstance, "host-a", &|v| {
                    v["spec"]["status"] = json!("DRAINING")
                });
            }),
        ),
        (
            "a user starts a task",
            whole(bench, |b| {
                b.apply_task("mine", json!({ "taskDefinition": "web" }))
            }),
        ),
        (
            "a user runs two",
            whole(bench, |b| {
                b.apply_run("two", json!({ "taskDefinition": "web", "count": 2 }))
            }),
        ),
        (
            "a service comes",
            whole(bench, |b| {
                b.apply_service("api", service("web", 1, 100, 200))
            }),
        ),
        ("and goes", whole(bench, |b| b.delete(Kind::Service, "api"))),
        ("its tasks stop", whole(bench, Bench::stop_all)),
    ];
    let far: Vec<_> = none.iter().filter(|(_, whole)| *whole > 0).collect();
    assert!(far.is_empty(), "{far:?}");
}

#[test]
fn what_names_resolve_to_and_who_the_hosts_are_reaches_far() {
    let mut bench = at_rest();
    let bench = &mut bench;
    let some = [
        ("a definition changes", whole(bench, |b| b.roll("web:2"))),
        (
            "a host comes",
            whole(bench, |b| b.host("host-d", 4096, 8192)),
        ),
        (
            "a host moves to a zone",
            whole(bench, |b| {
                b.edit(Kind::ContainerInstance, "host-d", &|v| {
                    v["spec"]["attributes"] =
                        json!([{ "name": "ecs.availability-zone", "value": "a" }]);
                });
            }),
        ),
        (
            "a service of a new cluster",
            whole(bench, |b| {
                b.apply_service(
                    "far",
                    json!({ "taskDefinition": "web", "cluster": "other", "desiredCount": 0 }),
                );
            }),
        ),
        (
            "a host goes",
            whole(bench, |b| b.delete(Kind::ContainerInstance, "host-d")),
        ),
    ];
    let near: Vec<_> = some.iter().filter(|(_, whole)| *whole == 0).collect();
    assert!(near.is_empty(), "{near:?}");
}

#[test]
fn a_deregistered_revision_goes_with_the_last_that_uses_it() {
    let mut bench = at_rest();
    bench.delete(Kind::TaskDefinitionRevision, "web-1");
    bench.settle();
    bench.roll("web:2");
    for _ in 0..4 {
        bench.settle();
        bench.run_all();
        bench.pass_time(60);
        bench.settle();
        bench.stop_all();
    }
    bench.settle();
    let done = bench.tasks(|t| {
        let last = t.status.as_ref().map(|s| s.last_status);
        t.spec.task_definition == "web:1" && last != Some(LastStatus::Stopped)
    });
    assert!(done.is_empty(), "{done:?}");
    assert_eq!(bench.names(Kind::TaskDefinitionRevision), ["web-2"]);
}
