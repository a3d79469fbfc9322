//! Rolling deployments: a row per rule of ECS service scale-in.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod common;

use common::Bench;
use common::build::{checked, definition, service};
use serde_json::json;
use tallyman_crds::{ConditionStatus, DesiredStatus, HealthStatus, LastStatus, StopCode, Task};
use tallyman_operator_core::deployments::Bounds;
use tallyman_operator_core::{Action, Kind, Plan};

/// Names of the tasks that a plan creates, and of those that it stops.
fn moves(plan: &Plan) -> (Vec<String>, Vec<String>) {
    let (mut starts, mut stops) = (Vec::new(), Vec::new());
    for action in &plan.actions {
        match action {
            Action::CreateTask(t) => starts.push(t.metadata.name.clone().unwrap()),
            Action::StopTask { task, .. } => stops.push(task.name.clone()),
            _ => {}
        }
    }
    stops.sort();
    (starts, stops)
}

fn counts(plan: &Plan) -> (usize, usize) {
    let (starts, stops) = moves(plan);
    (starts.len(), stops.len())
}

fn holding(t: &Task) -> bool {
    t.status
        .as_ref()
        .is_none_or(|s| s.last_status != LastStatus::Stopped)
}

fn of_image<'a>(bench: &'a Bench, image: &'a str) -> impl Fn(&Task) -> bool + 'a {
    move |t| {
        let revision = &t.metadata.labels.as_ref().unwrap()[tallyman_crds::labels::REVISION];
        let found = bench
            .objects
            .revisions
            .iter()
            .find(|r| r.metadata.name.as_deref() == Some(revision))
            .unwrap();
        found.spec.definition.container_definitions[0].image == image
    }
}

#[test]
fn bounds_round_in_favour_of_the_service() {
    // D, minimum, maximum -> L, U
    let rows = [
        ((3, 100, 200), (3, 6)),
        ((3, 50, 150), (2, 4)),
        ((1, 50, 100), (1, 1)),
        ((1, 0, 100), (0, 1)),
        ((4, 50, 100), (2, 4)),
        ((5, 33, 133), (2, 6)),
        ((0, 100, 200), (0, 0)),
        ((7, 1, 199), (1, 13)),
        ((100_000, 100, 1000), (100_000, 1_000_000)),
    ];
    for ((d, min, max), (l, u)) in rows {
        let b = Bounds::new(d, min, max);
        assert_eq!((b.lower, b.upper), (l, u), "{d} at {min}/{max}");
    }
}

#[test]
fn more_than_all_are_never_required_to_be_healthy() {
    // `minimumHealthyPercent` may be up to 200; what cannot be had is not waited for.
    assert_eq!(Bounds::new(4, 150, 200).lower, 4);
    let mut bench = Bench::with_service(2, 4, 150, 200);
    bench.scale("web", 2);
    bench.converge(60);
    assert_eq!(bench.tasks(holding).len(), 2);
}

#[test]
fn a_new_service_starts_all_its_tasks_at_once_whatever_the_maximum() {
    for (min, max) in [(100, 200), (0, 100), (50, 100), (0, 50)] {
        let mut bench = Bench::with_hosts(2);
        bench.apply_definition("web", definition("web:1"));
        bench.apply_service("web", service("web", 4, min, max));
        bench.settle();
        assert_eq!(
            bench.tasks(holding),
            ["web-000001", "web-000002", "web-000003", "web-000004"],
            "{min}/{max}"
        );
    }
}

#[test]
fn a_started_task_is_placed_labelled_owned_and_fenced() {
    let mut bench = Bench::with_hosts(1);
    bench.apply_definition("web", definition("web:1"));
    bench.apply_service("web", service("web", 1, 100, 200));
    bench.settle();
    let t = bench.task("web-000001");
    assert_eq!(t.spec.container_instance.as_deref(), Some("host-a"));
    assert_eq!(t.spec.task_definition, "web:1");
    assert_eq!(t.spec.group.as_deref(), Some("service:web"));
    assert!(
        t.spec
            .started_by
            .as_deref()
            .unwrap()
            .starts_with("ecs-svc/")
    );
    assert_eq!(
        t.metadata.finalizers.as_deref().unwrap(),
        ["tallyman.dev/stop"]
    );
    assert_eq!(
        t.metadata.owner_references.as_ref().unwrap()[0].kind,
        "Service"
    );
    assert_eq!(bench.host_plan("host-a").tasks[0].name, "web-000001");
    assert_eq!(bench.reason("web"), "Starting");
}

#[test]
fn a_service_without_health_checks_is_ready_as_soon_as_it_runs() {
    let mut bench = Bench::with_hosts(1);
    bench.apply_definition("web", definition("web:1"));
    bench.apply_service("web", service("web", 2, 100, 200));
    bench.settle();
    bench.run_all();
    bench.settle();
    let status = bench.service_status("web");
    assert_eq!(status.conditions.len(), 1);
    assert_eq!(status.conditions[0].status, ConditionStatus::True);
    assert_eq!((status.running_count, status.pending_count), (2, 0));
    assert_eq!(status.deployments.len(), 1);
}

#[test]
fn a_service_with_health_checks_is_ready_once_they_pass() {
    let mut bench = Bench::with_hosts(1);
    bench.apply_definition("web", checked("web:1"));
    bench.apply_service("web", service("web", 1, 100, 200));
    bench.settle();
    bench.run_all();
    bench.settle();
    assert_eq!(bench.reason("web"), "Starting");
    bench.health("web-000001", HealthStatus::Healthy);
    bench.settle();
    assert_eq!(bench.reason("web"), "SteadyState");
}

#[test]
fn scaling_up_starts_the_difference_even_where_the_maximum_is_100() {
    let mut bench = Bench::with_service(2, 2, 100, 100);
    bench.scale("web", 5);
    assert_eq!(
        moves(&bench.plan()).0,
        ["web-000003", "web-000004", "web-000005"]
    );
}

#[test]
fn scaling_down_stops_the_difference_at_once() {
    let mut bench = Bench::with_service(3, 6, 100, 200);
    bench.scale("web", 2);
    let plan = bench.plan();
    assert_eq!(counts(&plan), (0, 4));
    bench.converge(1);
    assert_eq!(bench.tasks(holding).len(), 2);
    assert_eq!(bench.reason("web"), "SteadyState");
}

#[test]
fn scaling_to_zero_stops_all() {
    let mut bench = Bench::with_service(2, 3, 100, 200);
    bench.scale("web", 0);
    bench.converge(1);
    assert_eq!(bench.tasks(holding), Vec::<String>::new());
    assert_eq!(bench.reason("web"), "SteadyState");
}

#[test]
fn scaling_in_takes_what_does_not_run_first_then_from_the_fullest_host_the_youngest() {
    let mut bench = Bench::with_service(2, 5, 100, 200);
    // host-a has 1, 3, 5; host-b has 2, 4.
    assert_eq!(bench.host_of("web-000005"), "host-a");
    bench.scale("web", 4);
    assert_eq!(moves(&bench.plan()).1, ["web-000005"]);
    bench.scale("web", 3);
    assert_eq!(moves(&bench.plan()).1, ["web-000004", "web-000005"]);
    bench.scale("web", 6);
    bench.pass();
    assert_eq!(bench.host_of("web-000006"), "host-b");
    bench.scale("web", 5);
    assert_eq!(moves(&bench.plan()).1, ["web-000006"], "it is PENDING");
}

#[test]
fn scaling_in_keeps_zones_even() {
    let mut bench = Bench::with_hosts(3);
    for (host, zone) in [("host-a", "x"), ("host-b", "x"), ("host-c", "y")] {
        bench.edit(Kind::ContainerInstance, host, &|v| {
            v["spec"]["attributes"] = json!([{ "name": "ecs.availability-zone", "value": zone }]);
        });
    }
    bench.apply_definition("web", definition("web:1"));
    bench.apply_service("web", service("web", 4, 100, 200));
    bench.converge(60);
    let hosts: Vec<String> = bench
        .names(Kind::Task)
        .iter()
        .map(|t| bench.host_of(t))
        .collect();
    assert_eq!(
        hosts,
        ["host-a", "host-c", "host-b", "host-c"],
        "zones first, then hosts"
    );
    bench.scale("web", 2);
    bench.converge(1);
    let mut left: Vec<String> = bench
        .tasks(holding)
        .iter()
        .map(|t| bench.host_of(t))
        .collect();
    left.sort();
    assert_eq!(left, ["host-a", "host-c"]);
}

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
        let minted = bench.families();
        bench.apply(&minted);
        assert_eq!(counts(&bench.plan()), expected, "{d} at {min}/{max}");
    }
}

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

#[test]
fn old_tasks_that_never_ran_are_stopped_at_once() {
    let mut bench = Bench::with_hosts(2);
    bench.apply_definition("web", definition("web:1"));
    bench.apply_service("web", service("web", 3, 100, 200));
    bench.settle();
    bench.roll("web:2");
    let minted = bench.families();
    bench.apply(&minted);
    let (starts, stops) = moves(&bench.plan());
    assert_eq!(stops, ["web-000001", "web-000002", "web-000003"]);
    assert_eq!(starts.len(), 3);
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

#[test]
fn a_change_of_the_desired_count_or_the_percentages_is_no_deployment() {
    let mut bench = Bench::with_service(2, 2, 100, 200);
    let before = bench.service_status("web").deployments[0].id.clone();
    bench.apply_service("web", service("web", 3, 50, 150));
    bench.converge(20);
    assert_eq!(bench.service_status("web").deployments[0].id, before);
    assert_eq!(bench.tasks(holding).len(), 3);
}

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
}

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

#[test]
fn an_unhealthy_task_that_recovers_is_kept_and_its_replacement_goes() {
    let mut bench = Bench::with_checked_service(2, 2, 100, 200);
    bench.health("web-000001", HealthStatus::Unhealthy);
    bench.settle();
    bench.health("web-000001", HealthStatus::Healthy);
    bench.converge(5);
    assert_eq!(bench.tasks(holding), ["web-000001", "web-000002"]);
}

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

#[test]
fn a_task_that_stopped_is_replaced() {
    let mut bench = Bench::with_service(2, 2, 100, 200);
    bench.fail("web-000002", StopCode::EssentialContainerExited);
    let plan = bench.pass();
    assert_eq!(moves(&plan).0, ["web-000003"]);
    bench.converge(1);
    assert_eq!(bench.reason("web"), "SteadyState");
}

#[test]
fn a_task_that_a_user_stops_or_deletes_is_replaced() {
    let mut bench = Bench::with_service(2, 2, 0, 100);
    bench.edit(Kind::Task, "web-000001", &|v| {
        v["spec"]["desiredStatus"] = json!("STOPPED")
    });
    bench.delete(Kind::Task, "web-000002");
    bench.settle();
    assert_eq!(
        bench.tasks(holding).len(),
        2,
        "U = 2: nothing starts before they have stopped"
    );
    bench.converge(1);
    assert_eq!(bench.tasks(holding), ["web-000003", "web-000004"]);
    assert!(
        !bench.names(Kind::Task).contains(&"web-000002".to_owned()),
        "deleted for good"
    );
}

#[test]
fn an_absent_desired_count_keeps_what_runs() {
    let mut bench = Bench::with_service(2, 3, 100, 200);
    bench.edit(Kind::Service, "web", &|v| {
        v["spec"].as_object_mut().unwrap().remove("desiredCount");
    });
    bench.converge(1);
    assert_eq!(bench.tasks(holding).len(), 3);
    let mut fresh = Bench::with_hosts(1);
    fresh.apply_definition("web", definition("web:1"));
    fresh.apply_service("web", json!({ "taskDefinition": "web" }));
    fresh.converge(1);
    assert_eq!(fresh.tasks(holding).len(), 1, "a new service runs one");
}

#[test]
fn task_numbers_are_never_used_again() {
    let mut bench = Bench::with_service(1, 2, 100, 200);
    bench.scale("web", 0);
    bench.converge(1);
    bench.pass_time(2 * 3600);
    bench.converge(1);
    assert_eq!(
        bench.names(Kind::Task),
        Vec::<String>::new(),
        "retention is over"
    );
    bench.scale("web", 1);
    bench.settle();
    assert_eq!(bench.names(Kind::Task), ["web-000003"]);
}

#[test]
fn deleting_a_service_stops_everything_first() {
    let mut bench = Bench::with_service(2, 3, 100, 200);
    bench.delete(Kind::Service, "web");
    bench.settle();
    assert_eq!(
        bench.names(Kind::Service),
        ["web"],
        "its tasks have not stopped"
    );
    assert_eq!(
        bench
            .tasks(|t| t.spec.desired_status == DesiredStatus::Stopped)
            .len(),
        3
    );
    bench.converge(1);
    assert_eq!(bench.names(Kind::Service), Vec::<String>::new());
    assert_eq!(bench.names(Kind::Task), Vec::<String>::new());
}

#[test]
fn deleting_everything_at_once_leaves_nothing() {
    // `kubectl delete -f` of a whole folder: the revision must not go before the tasks that need it.
    let mut bench = Bench::with_service(2, 2, 100, 200);
    for kind in [
        Kind::TaskDefinition,
        Kind::TaskDefinitionRevision,
        Kind::Service,
    ] {
        for name in bench.names(kind) {
            bench.delete(kind, &name);
        }
    }
    bench.converge(1);
    for kind in [
        Kind::Task,
        Kind::Service,
        Kind::TaskDefinition,
        Kind::TaskDefinitionRevision,
    ] {
        assert_eq!(bench.names(kind), Vec::<String>::new(), "{kind:?}");
    }
}

#[test]
fn a_stopped_task_whose_revision_is_gone_can_still_be_deleted() {
    let mut bench = Bench::with_service(1, 1, 100, 200);
    bench.scale("web", 0);
    bench.converge(1);
    bench.edit(Kind::Service, "web", &|v| {
        v["spec"]["taskDefinition"] = json!("other")
    });
    for kind in [Kind::TaskDefinition, Kind::TaskDefinitionRevision] {
        for name in bench.names(kind) {
            bench.delete(kind, &name);
        }
    }
    bench.apply_definition("other", definition("other:1"));
    bench.converge(1);
    bench.delete(Kind::Task, "web-000001");
    bench.converge(1);
    assert!(!bench.names(Kind::Task).contains(&"web-000001".to_owned()));
}

#[test]
fn a_pinned_deregistered_revision_stays_where_it_runs_and_is_refused_elsewhere() {
    let mut bench = Bench::with_service(2, 1, 100, 200);
    bench.edit(Kind::Service, "web", &|v| {
        v["spec"]["taskDefinition"] = json!("web:1")
    });
    bench.converge(1);
    bench.delete(Kind::TaskDefinitionRevision, "web-1");
    bench.scale("web", 2);
    bench.converge(1);
    assert_eq!(bench.tasks(holding).len(), 2);
    bench.apply_service("late", service("web:1", 1, 100, 200));
    bench.settle();
    assert_eq!(bench.reason("late"), "TaskDefinitionInactive");
}

#[test]
fn a_service_waits_for_its_task_definition() {
    let mut bench = Bench::with_hosts(1);
    bench.apply_service("web", service("web", 1, 100, 200));
    bench.settle();
    assert_eq!(bench.reason("web"), "TaskDefinitionNotFound");
    bench.apply_definition("web", definition("web:1"));
    bench.converge(1);
    assert_eq!(bench.reason("web"), "SteadyState");
}
