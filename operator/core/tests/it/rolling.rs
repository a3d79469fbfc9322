//! Rolls, drains and health: a test per rule of the ECS service scheduler.

use crate::common::Bench;
use crate::common::build::{checked, definition, service};
use crate::common::moves::{counts, holding, moves, of_image};
use serde_json::json;
use tallyman_crds::{ConditionStatus, DesiredStatus, HealthStatus, Task};
use tallyman_operator_core::Kind;

/// Runs a roll to its end, looking at the bounds after every single thing that happens: returns the largest number of
/// tasks held and the smallest number of mature tasks seen.
fn roll(bench: &mut Bench, image: &str) -> (usize, usize) {
    bench.roll(image);
    let (mut most, mut least) = (0, usize::MAX);
    let mut look = |bench: &Bench| {
        let mature = |t: &Task| {
            let started = t.status.as_ref().and_then(|s| s.started_at.clone());
            holding(t)
                && t.spec.desired_status == DesiredStatus::Running
                && started.is_some_and(|at| bench.now.duration_since(at.0).as_secs() >= 40)
        };
        most = most.max(bench.tasks(holding).len());
        least = least.min(bench.tasks(mature).len());
    };
    for _ in 0..60 {
        bench.settle();
        look(bench);
        bench.stop_all();
        bench.settle();
        look(bench);
        bench.run_all();
        bench.settle();
        look(bench);
        bench.pass_time(10);
        let done = bench
            .tasks(|t| holding(t) && !of_image(bench, image)(t))
            .is_empty();
        if done && bench.service_status("web").conditions[0].status == ConditionStatus::True {
            bench.pass_time(60);
            bench.settle();
            return (most, least);
        }
    }
    panic!("the roll did not end: {:?}", bench.service_status("web"));
}

/// Steps 3.1 and 3.8 of `docs/ecs-rules.md`.
#[test]
fn a_roll_stays_within_its_bounds() {
    // D, minimum, maximum -> most tasks, least mature
    let rows = [
        ((3, 100, 200), (6, 3)),
        ((4, 50, 100), (4, 2)),
        ((3, 0, 100), (3, 0)),
        ((4, 100, 150), (6, 4)),
        ((1, 100, 200), (2, 1)),
        ((1, 0, 100), (1, 0)),
        ((5, 50, 150), (7, 3)),
        ((2, 50, 100), (2, 1)),
        ((3, 100, 134), (4, 3)),
    ];
    for ((d, min, max), expected) in rows {
        let mut bench = Bench::with_service(3, d, min, max);
        assert_eq!(roll(&mut bench, "web:2"), expected, "{d} at {min}/{max}");
        assert_eq!(bench.tasks(holding).len(), usize::try_from(d).unwrap());
        assert_eq!(
            bench.service_status("web").task_definition.as_deref(),
            Some("web:2")
        );
        assert_eq!(bench.service_status("web").deployments.len(), 1);
    }
}

/// The family has its revision, and says so: one pass asks for it, the next one names what is there.
fn mint(bench: &mut Bench) {
    for _ in 0..2 {
        let plan = bench.families();
        bench.apply(&plan);
    }
}

#[test]
fn a_revision_that_could_not_be_created_is_asked_for_again() {
    let mut bench = Bench::with_service(2, 2, 50, 100);
    bench.roll("web:2");
    let mut plan = bench.families();
    assert_eq!(plan.actions.len(), 1);
    // The create fails, and what is published goes out.
    plan.actions.clear();
    bench.apply(&plan);
    assert_eq!(bench.families().actions.len(), 1);
}

/// Steps 3.2 and 3.3 of `docs/ecs-rules.md`.
#[test]
fn the_first_step_of_a_roll() {
    // D, minimum, maximum -> starts, stops
    let rows = [
        ((4, 100, 200), (4, 0)),
        ((4, 50, 100), (0, 2)),
        ((4, 0, 100), (0, 4)),
        ((4, 100, 150), (2, 0)),
        ((4, 50, 150), (2, 2)),
        ((4, 0, 200), (4, 4)),
    ];
    for ((d, min, max), expected) in rows {
        let mut bench = Bench::with_service(2, d, min, max);
        bench.roll("web:2");
        mint(&mut bench);
        assert_eq!(counts(&bench.plan()), expected, "{d} at {min}/{max}");
    }
}

/// Step 3.5 of `docs/ecs-rules.md`.
#[test]
fn a_roll_that_cannot_move_says_so() {
    for (d, min, max) in [
        (1, 100, 100),
        (3, 100, 100),
        (1, 100, 150),
        (2, 100, 149),
        (1, 50, 100),
    ] {
        let mut bench = Bench::with_service(2, d, min, max);
        bench.roll("web:2");
        bench.converge(60);
        let status = bench.service_status("web");
        assert_eq!(
            status.conditions[0].reason, "DeploymentConfigurationDeadlock",
            "{d} at {min}/{max}"
        );
        assert!(
            status.conditions[0]
                .message
                .contains("minimumHealthyPercent or maximumPercent")
        );
        bench.edit(Kind::Service, "web", &|v| {
            v["spec"]["deploymentConfiguration"] =
                json!({ "minimumHealthyPercent": 0, "maximumPercent": 200 });
        });
        bench.converge(60);
        assert_eq!(bench.reason("web"), "SteadyState");
    }
}

/// Step 3.3 of `docs/ecs-rules.md`.
#[test]
fn old_tasks_that_never_ran_are_stopped_at_once() {
    let mut bench = Bench::with_hosts(2);
    bench.apply_definition("web", definition("web:1"));
    bench.apply_service("web", service("web", 3, 100, 200));
    bench.settle();
    bench.roll("web:2");
    mint(&mut bench);
    let (starts, stops) = moves(&bench.pass());
    assert_eq!(stops, ["web-000001", "web-000002", "web-000003"]);
    assert_eq!(starts.len(), 3);
    told(&bench, "(service web) stopped 3 pending tasks.");
}

/// The service says so in an event.
fn told(bench: &Bench, wanted: &str) {
    let events = bench.service_status("web").events;
    assert!(events.iter().any(|e| e.message == wanted), "{events:#?}");
}

#[test]
fn old_tasks_that_run_and_do_not_count_yet_are_not_stopped_freely() {
    let mut bench = Bench::with_hosts(2);
    bench.apply_definition("web", definition("web:1"));
    bench.apply_service("web", service("web", 2, 100, 200));
    bench.settle();
    bench.run_all();
    bench.settle();
    bench.pass_time(10);
    bench.roll("web:2");
    bench.settle();
    bench.run_all();
    // Nothing is mature: neither the old tasks nor the new ones may be given up.
    assert_eq!(counts(&bench.plan()), (0, 0));
}

/// Step 3.3 of `docs/ecs-rules.md`.
#[test]
fn old_tasks_that_never_become_healthy_do_not_hold_a_roll_up() {
    // The old revision's health checks never come to a verdict; the new one is healthy, so nothing is lost.
    let mut bench = Bench::with_hosts(2);
    bench.apply_definition("web", checked("web:1"));
    bench.apply_service("web", service("web", 2, 100, 200));
    bench.settle();
    bench.run_all();
    bench.settle();
    bench.roll("web:2");
    bench.settle();
    bench.run_all();
    bench.settle();
    for name in bench.tasks(of_image(&bench, "web:2")) {
        bench.health(&name, HealthStatus::Healthy);
    }
    assert_eq!(moves(&bench.plan()).1, ["web-000001", "web-000002"]);
}

/// Step 3.10 of `docs/ecs-rules.md`.
#[test]
fn a_second_roll_supersedes_the_first() {
    let mut bench = Bench::with_service(3, 2, 100, 200);
    bench.roll("web:2");
    bench.settle();
    bench.run_all();
    bench.settle();
    bench.roll("web:3");
    bench.converge(60);
    assert_eq!(
        bench.tasks(holding),
        bench.tasks(|t| holding(t) && of_image(&bench, "web:3")(t))
    );
    assert_eq!(bench.tasks(holding).len(), 2);
}

/// Step 3.10 of `docs/ecs-rules.md`.
#[test]
fn going_back_to_a_pinned_revision_takes_its_tasks_back() {
    let mut bench = Bench::with_service(3, 2, 100, 200);
    bench.roll("web:2");
    bench.settle();
    assert_eq!(bench.tasks(holding).len(), 4);
    bench.edit(Kind::Service, "web", &|v| {
        v["spec"]["taskDefinition"] = json!("web:1")
    });
    bench.converge(20);
    assert_eq!(
        bench.tasks(holding),
        ["web-000001", "web-000002"],
        "the tasks that ran all the time"
    );
}

/// Step 3.7 of `docs/ecs-rules.md`.
#[test]
fn a_change_of_the_desired_count_or_the_percentages_is_no_deployment() {
    let mut bench = Bench::with_service(2, 2, 100, 200);
    let before = bench.service_status("web").deployments[0].id.clone();
    bench.apply_service("web", service("web", 3, 50, 150));
    bench.converge(20);
    assert_eq!(bench.service_status("web").deployments[0].id, before);
    assert_eq!(bench.tasks(holding).len(), 3);
}

/// Step 10.3 of `docs/ecs-rules.md`.
#[test]
fn a_draining_host_is_left_start_first_within_the_bounds() {
    let mut bench = Bench::with_service(2, 2, 100, 200);
    let moved = bench.host_of("web-000001");
    bench.edit(Kind::ContainerInstance, &moved, &|v| {
        v["spec"]["status"] = json!("DRAINING")
    });
    let plan = bench.pass();
    assert_eq!(counts(&plan), (1, 0));
    bench.converge(60);
    assert_eq!(bench.tasks(holding).len(), 2);
    assert!(
        bench
            .tasks(holding)
            .iter()
            .all(|t| bench.host_of(t) != moved)
    );
    let reason = bench.task("web-000001").spec.stopped_reason.clone();
    assert_eq!(
        reason.as_deref(),
        Some("Task stopped during instance draining")
    );
    bench.edit(Kind::ContainerInstance, &moved, &|v| {
        v["spec"]["status"] = json!("ACTIVE")
    });
    bench.settle();
    assert_eq!(counts(&bench.plan()), (0, 0));
}

/// Step 10.3 of `docs/ecs-rules.md`.
#[test]
fn a_draining_host_is_left_stop_first_where_the_maximum_leaves_no_room() {
    let mut bench = Bench::with_service(2, 2, 50, 100);
    let moved = bench.host_of("web-000001");
    bench.edit(Kind::ContainerInstance, &moved, &|v| {
        v["spec"]["status"] = json!("DRAINING")
    });
    let plan = bench.pass();
    assert_eq!(moves(&plan).1, ["web-000001"]);
    bench.converge(60);
    assert!(
        bench
            .tasks(holding)
            .iter()
            .all(|t| bench.host_of(t) != moved)
    );
    assert_eq!(bench.tasks(holding).len(), 2);
}

#[test]
fn a_disconnected_host_is_not_left_before_it_is_lost() {
    let mut bench = Bench::with_service(2, 2, 100, 200);
    bench.silent("host-a", 120);
    assert_eq!(counts(&bench.plan()), (0, 0));
}

/// Step 5.2 of `docs/ecs-rules.md`.
#[test]
fn an_unhealthy_task_is_replaced_start_first() {
    let mut bench = Bench::with_checked_service(2, 2, 100, 200);
    bench.health("web-000001", HealthStatus::Unhealthy);
    let plan = bench.pass();
    assert_eq!(moves(&plan), (vec!["web-000003".to_owned()], vec![]));
    bench.settle();
    bench.run_all();
    bench.settle();
    assert_eq!(
        counts(&bench.plan()),
        (0, 0),
        "the replacement is not healthy yet"
    );
    bench.health("web-000003", HealthStatus::Healthy);
    let plan = bench.pass();
    assert_eq!(moves(&plan).1, ["web-000001"]);
    let reason = bench.task("web-000001").spec.stopped_reason.clone();
    assert_eq!(
        reason.as_deref(),
        Some("Task failed container health checks")
    );
    told(
        &bench,
        "(service web) (task web-000001) failed container health checks.",
    );
    told(
        &bench,
        "(service web) has stopped 1 running tasks: (task web-000001).",
    );
}

/// Step 5.3 of `docs/ecs-rules.md`.
#[test]
fn unhealthy_tasks_are_stopped_first_one_at_a_time_where_there_is_no_room() {
    let mut bench = Bench::with_checked_service(2, 3, 0, 100);
    for name in ["web-000001", "web-000002"] {
        bench.health(name, HealthStatus::Unhealthy);
    }
    let plan = bench.pass();
    assert_eq!(moves(&plan), (vec![], vec!["web-000001".to_owned()]));
    bench.settle();
    assert_eq!(counts(&bench.plan()), (0, 0), "one at a time");
    bench.stop_all();
    bench.settle();
    assert!(bench.tasks(holding).contains(&"web-000004".to_owned()));
}

/// Step 5.4 of `docs/ecs-rules.md`.
#[test]
fn an_unhealthy_task_that_recovers_is_kept_and_its_replacement_goes() {
    let mut bench = Bench::with_checked_service(2, 2, 100, 200);
    bench.health("web-000001", HealthStatus::Unhealthy);
    bench.settle();
    bench.health("web-000001", HealthStatus::Healthy);
    bench.converge(5);
    assert_eq!(bench.tasks(holding), ["web-000001", "web-000002"]);
}

/// Step 5.4 of `docs/ecs-rules.md`.
#[test]
fn a_replacement_that_turns_unhealthy_is_the_one_stopped() {
    // ECS unhealthy task replacement: counts must not grow.
    let mut bench = Bench::with_checked_service(2, 1, 100, 200);
    bench.health("web-000001", HealthStatus::Unhealthy);
    bench.settle();
    bench.run_all();
    bench.settle();
    bench.health("web-000002", HealthStatus::Unhealthy);
    let plan = bench.pass();
    assert_eq!(moves(&plan), (vec![], vec!["web-000002".to_owned()]));
}

/// `versionConsistency`: what the first task pulled is what the later ones are started with, though the tag moves, though
/// that task goes, and until the next deployment.
#[test]
fn later_tasks_of_a_deployment_are_started_with_the_digest_of_the_first() {
    let digest = |letter: char| format!("sha256:{}", letter.to_string().repeat(64));
    let mut bench = Bench::with_hosts(2);
    let mut spec = definition("web:1");
    let mut loose = spec["containerDefinitions"][0].clone();
    loose["name"] = json!("loose");
    loose["versionConsistency"] = json!("disabled");
    let mut exact = spec["containerDefinitions"][0].clone();
    exact["name"] = json!("exact");
    exact["image"] = json!(format!("web@{}", digest('e')));
    let name = spec["containerDefinitions"][0]["name"].clone();
    spec["containerDefinitions"]
        .as_array_mut()
        .unwrap()
        .extend([loose, exact]);
    bench.apply_definition("web", spec);
    bench.apply_service("web", service("web", 1, 0, 200));
    bench.settle();
    let pinned = |bench: &Bench, task: &str| {
        let images = &bench.task(task).spec.container_images;
        images
            .iter()
            .map(|i| (i.container_name.clone(), i.image_digest.clone()))
            .collect::<Vec<_>>()
    };
    assert_eq!(pinned(&bench, "web-000001"), []);
    let found = |letter| {
        let one = |name: &serde_json::Value| json!({ "name": name, "image": "web:1", "imageDigest": digest(letter), "lastStatus": "RUNNING" });
        json!({ "containers": [one(&name), one(&json!("loose")), one(&json!("exact"))] })
    };
    bench.report(
        "web-000001",
        tallyman_crds::LastStatus::Running,
        &found('a'),
    );
    bench.settle();
    let wanted = [(name.as_str().unwrap().to_owned(), digest('a'))];
    let kept = &bench.service_status("web").deployments[0].container_images;
    assert_eq!(kept.len(), 1);
    assert_eq!(kept[0].image_digest, digest('a'));
    bench.scale("web", 2);
    bench.settle();
    assert_eq!(pinned(&bench, "web-000002"), wanted);
    let plans = ["host-a", "host-b"].map(|host| bench.host_plan(host).tasks.clone());
    let entry = plans.iter().flatten().find(|t| t.name == "web-000002");
    assert_eq!(
        entry.unwrap().images,
        wanted.clone().into_iter().collect(),
        "the host is not told"
    );
    // Nobody is left who knows it but the service.
    bench.scale("web", 0);
    bench.settle();
    bench.stop_all();
    bench.settle();
    for task in bench.tasks(|_| true) {
        bench.delete(Kind::Task, &task);
    }
    bench.scale("web", 1);
    bench.settle();
    let name = bench.tasks(holding)[0].clone();
    assert_eq!(pinned(&bench, &name), wanted);
    // Another deployment asks anew.
    bench.roll("web:2");
    bench.settle();
    let rolled = bench.tasks(|t| of_image(&bench, "web:2")(t));
    assert!(!rolled.is_empty());
    for task in rolled {
        assert_eq!(pinned(&bench, &task), []);
    }
}
