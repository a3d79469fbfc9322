//! Tasks that protect themselves from scale-in and deployments (ECS task scale-in protection).

use crate::common::Bench;
use crate::common::moves::{holding, of_image};
use jiff::SignedDuration;
use serde_json::json;
use tallyman_crds::DesiredStatus;
use tallyman_operator_core::Kind;

fn protect(bench: &mut Bench, task: &str, minutes: i64) {
    let until = bench.now + SignedDuration::from_mins(minutes);
    bench.edit(Kind::Task, task, &|v| {
        v["status"]["protectedUntil"] = json!(until);
    });
}

/// A service of tasks that all run and count as healthy.
fn mature(tasks: i64) -> Bench {
    let mut bench = Bench::with_service(2, tasks, 100, 200);
    bench.pass_time(60);
    bench.settle();
    bench
}

fn wanted(bench: &Bench) -> Vec<String> {
    let running =
        |t: &tallyman_crds::Task| holding(t) && t.spec.desired_status == DesiredStatus::Running;
    bench.tasks(running)
}

/// Step 9.2 of `docs/ecs-rules.md`.
#[test]
fn scale_in_takes_the_others_and_waits_for_the_rest() {
    let mut bench = mature(4);
    for task in ["web-000003", "web-000004"] {
        protect(&mut bench, task, 10);
    }
    bench.scale("web", 1);
    bench.settle();
    bench.stop_all();
    bench.settle();
    assert_eq!(wanted(&bench), ["web-000003", "web-000004"]);
    let status = bench.service_status("web");
    assert_eq!(status.conditions[0].reason, "TasksProtected");
    assert!(
        status.conditions[0]
            .message
            .contains("was unable to scale in. Reason: The number of protected tasks are more than the desired count of tasks."),
        "{}",
        status.conditions[0].message
    );

    // It wakes by itself when protection ends.
    let end = bench.now + SignedDuration::from_mins(10);
    assert!(bench.plan().wake_at.is_some_and(|at| at <= end));
    bench.pass_time(601);
    bench.settle();
    assert_eq!(wanted(&bench).len(), 1);
}

/// Step 9.3 of `docs/ecs-rules.md`.
#[test]
fn a_deployment_replaces_all_but_the_protected() {
    let mut bench = mature(3);
    protect(&mut bench, "web-000002", 60);
    bench.roll("web:2");
    bench.converge(120);
    let old = |t: &tallyman_crds::Task| holding(t) && !of_image(&bench, "web:2")(t);
    assert_eq!(bench.tasks(old), ["web-000002"]);
    assert_eq!(wanted(&bench).len(), 4, "all of the new revision beside it");
    let message = bench.service_status("web").conditions[0].message.clone();
    assert!(message.contains("1 protected until"), "{message}");

    bench.edit(Kind::Task, "web-000002", &|v| {
        v["status"]["protectedUntil"] = json!(null);
    });
    bench.converge(60);
    assert_eq!(bench.reason("web"), "SteadyState");
    assert_eq!(wanted(&bench).len(), 3);
}

/// Step 9.3 of `docs/ecs-rules.md`.
#[test]
fn no_room_beside_protected_tasks_is_no_deadlock() {
    let mut bench = Bench::with_service(2, 2, 50, 100);
    bench.pass_time(60);
    bench.settle();
    for task in ["web-000001", "web-000002"] {
        protect(&mut bench, task, 60);
    }
    bench.roll("web:2");
    bench.converge(60);
    let condition = bench.service_status("web").conditions[0].clone();
    assert_eq!(condition.reason, "RollingOut");
    assert!(
        condition.message.contains("2 protected until"),
        "{}",
        condition.message
    );
    assert_eq!(wanted(&bench), ["web-000001", "web-000002"]);
}

/// Which tasks their hosts are told of as ones that protected tasks hold up.
fn told_blocked(bench: &Bench) -> Vec<String> {
    let plans = bench.objects.plans.iter().flat_map(|p| &p.spec.tasks);
    let mut told: Vec<String> = plans
        .filter(|t| t.deployment_blocked)
        .map(|t| t.name.clone())
        .collect();
    told.sort();
    told
}

fn blocked(bench: &Bench) -> bool {
    bench.service_status("web").deployments[0].blocked_by_protection
}

/// Step 9.3 of `docs/ecs-rules.md`.
#[test]
fn protected_tasks_that_take_the_room_of_new_ones_block_the_deployment() {
    // Of 2 at 0/100 one is protected: the other one is replaced, and no third may run beside them.
    let mut bench = Bench::with_service(2, 2, 0, 100);
    bench.pass_time(60);
    bench.settle();
    protect(&mut bench, "web-000001", 60);
    bench.settle();
    assert!(!blocked(&bench), "nothing is rolled out");
    bench.roll("web:2");
    bench.converge(60);
    assert_eq!(wanted(&bench), ["web-000001", "web-000003"]);
    assert!(blocked(&bench));
    assert_eq!(told_blocked(&bench), ["web-000001", "web-000003"]);

    // More room, and it goes on: what is protected is left and blocks nobody.
    bench.edit(Kind::Service, "web", &|v| {
        v["spec"]["deploymentConfiguration"]["maximumPercent"] = json!(200);
    });
    bench.converge(60);
    assert_eq!(wanted(&bench), ["web-000001", "web-000003", "web-000004"]);
    assert!(!blocked(&bench));
    assert_eq!(told_blocked(&bench), Vec::<String>::new());
}

/// Step 9.3 of `docs/ecs-rules.md`.
#[test]
fn a_block_ends_with_the_protection() {
    let mut bench = Bench::with_service(2, 2, 0, 100);
    bench.pass_time(60);
    bench.settle();
    for task in ["web-000001", "web-000002"] {
        protect(&mut bench, task, 60);
    }
    bench.roll("web:2");
    bench.converge(60);
    assert!(blocked(&bench));
    assert_eq!(told_blocked(&bench), ["web-000001", "web-000002"]);
    bench.pass_time(3600);
    bench.converge(60);
    assert!(!blocked(&bench));
    assert_eq!(told_blocked(&bench), Vec::<String>::new());
    assert_eq!(bench.reason("web"), "SteadyState");
}

/// Step 9.3 of `docs/ecs-rules.md`.
#[test]
fn more_protected_tasks_than_are_wanted_block_others() {
    for (desired, wanted) in [(4, false), (3, false), (2, true), (0, true)] {
        let mut bench = mature(4);
        for task in ["web-000001", "web-000002", "web-000003"] {
            protect(&mut bench, task, 60);
        }
        bench.scale("web", desired);
        bench.settle();
        assert_eq!(blocked(&bench), wanted, "3 protected, {desired} wanted");
        assert_eq!(!told_blocked(&bench).is_empty(), wanted, "{desired}");
    }
}

/// Step 9.4 of `docs/ecs-rules.md`.
#[test]
fn protection_is_from_nothing_else() {
    // A host that drains, a deletion of the service, and a failing health check take it.
    let mut bench = mature(1);
    protect(&mut bench, "web-000001", 60);
    let host = bench.host_of("web-000001");
    bench.edit(Kind::ContainerInstance, &host, &|v| {
        v["spec"]["status"] = json!("DRAINING");
    });
    bench.converge(120);
    assert!(!wanted(&bench).contains(&"web-000001".to_owned()));
    assert_eq!(wanted(&bench).len(), 1);

    let mut bench = mature(1);
    protect(&mut bench, "web-000001", 60);
    bench.delete(Kind::Service, "web");
    bench.settle();
    assert!(wanted(&bench).is_empty());
}
