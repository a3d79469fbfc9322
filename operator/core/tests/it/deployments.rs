//! Services: what is started, scaled and stopped, a test per rule.

use crate::common;
use crate::common::Bench;
use crate::common::build::{checked, definition, service};
use crate::common::moves::{counts, holding, moves};
use serde_json::json;
use tallyman_crds::{ConditionStatus, DesiredStatus, HealthStatus, StopCode};
use tallyman_operator_core::Kind;
use tallyman_operator_core::deployments::Bounds;

/// Step 3.2 of `docs/ecs-rules.md`.
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

/// Step 3.6 of `docs/ecs-rules.md`.
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

/// Step 3.6 of `docs/ecs-rules.md`.
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

/// Step 3.4 of `docs/ecs-rules.md`.
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

/// Step 2.1 of `docs/ecs-rules.md`.
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

/// Step 2.2 of `docs/ecs-rules.md`.
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

/// Step 3.4 of `docs/ecs-rules.md`.
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

#[test]
fn tasks_get_the_tags_that_are_handed_on() {
    let mut bench = Bench::with_hosts(1);
    let mut definition = definition("web:1");
    definition["tags"] = json!([{ "key": "team", "value": "a" }]);
    bench.apply_definition("web", definition);
    let mut spec = service("web", 1, 100, 200);
    spec["tags"] = json!([{ "key": "team", "value": "b" }]);
    spec["enableECSManagedTags"] = json!(true);
    let tags_of = |bench: &Bench| {
        let live = bench.tasks(common::moves::holding);
        let tags = &bench.task(&live[0]).spec.tags;
        serde_json::to_value(tags).unwrap()
    };
    let managed = [
        json!({ "key": "aws:ecs:clusterName", "value": "default" }),
        json!({ "key": "aws:ecs:serviceName", "value": "web" }),
    ];
    for (from, team) in [
        ("NONE", None),
        ("TASK_DEFINITION", Some("a")),
        ("SERVICE", Some("b")),
    ] {
        spec["propagateTags"] = json!(from);
        bench.apply_service("web", spec.clone());
        // What is handed on is for new tasks.
        bench.converge(60);
        let live = bench.tasks(common::moves::holding);
        for name in live {
            bench.fail(&name, tallyman_crds::StopCode::EssentialContainerExited);
        }
        bench.converge(60);
        let mut expected = managed.to_vec();
        expected.extend(team.map(|value| json!({ "key": "team", "value": value })));
        assert_eq!(tags_of(&bench), json!(expected), "{from}");
    }
    spec["tags"] = json!([{ "key": "aws:mine", "value": "b" }]);
    bench.apply_service("web", spec);
    bench.settle();
    let message = &bench.service_status("web").conditions[0].message;
    assert!(
        message.contains("`spec.tags[0].key` must not begin with `aws:`"),
        "{message}"
    );
}

#[test]
fn quotas_are_told_and_what_runs_goes_on() {
    let mut bench = Bench::with_service(2, 2, 100, 200);
    bench.settings.quotas.tasks_per_service = 3;
    bench.settings.quotas.services_per_cluster = 1;
    bench.scale("web", 4);
    bench.converge(60);
    let message =
        |bench: &Bench, service: &str| bench.service_status(service).conditions[0].message.clone();
    let said = message(&bench, "web");
    assert!(
        said.contains("`spec.desiredCount` must be at most 3"),
        "{said}"
    );
    assert_eq!(bench.tasks(holding).len(), 2);
    bench.scale("web", 3);
    bench.apply_service("another", service("web", 1, 100, 200));
    bench.converge(60);
    assert_eq!(bench.tasks(holding).len(), 3);
    let said = message(&bench, "another");
    assert!(
        said.contains("`default` has 1, which is its quota"),
        "{said}"
    );
}

#[test]
fn hosts_beyond_the_quota_take_no_tasks() {
    let mut bench = Bench::with_service(2, 4, 100, 200);
    bench.settings.quotas.instances_per_cluster = 1;
    // The younger one by name: they came together.
    bench.scale("web", 8);
    bench.converge(60);
    let on = |bench: &Bench, host: &str| {
        let here = |t: &tallyman_crds::Task| t.spec.container_instance.as_deref() == Some(host);
        bench.tasks(|t| holding(t) && here(t)).len()
    };
    assert_eq!((on(&bench, "host-a"), on(&bench, "host-b")), (6, 2));
    let condition = bench.instance("host-b").status.clone().unwrap().conditions[0].clone();
    assert_eq!(condition.reason, "QuotaExceeded");
    assert!(
        condition
            .message
            .contains("has 1 older container instances"),
        "{}",
        condition.message
    );
    // What its agent reports does not change that, and a host that leaves does.
    bench.register("host-b", 4096, 16_384);
    bench.settle();
    bench.delete(Kind::ContainerInstance, "host-a");
    bench.converge(60);
    assert_eq!((on(&bench, "host-a"), on(&bench, "host-b")), (0, 8));
}

/// Step 3.2 of `docs/ecs-rules.md`.
#[test]
fn so_many_tasks_are_started_in_a_minute() {
    let mut bench = Bench::with_service(2, 1, 100, 200);
    bench.settings.quotas.launches_per_minute = 3;
    bench.pass_time(61);
    bench.scale("web", 8);
    bench.settle();
    assert_eq!(bench.tasks(holding).len(), 4);
    let wake = bench.plan().wake_at.unwrap();
    assert!(
        wake <= bench.now + jiff::SignedDuration::from_secs(60),
        "{wake}"
    );
    bench.pass_time(61);
    bench.settle();
    assert_eq!(bench.tasks(holding).len(), 7);
    bench.pass_time(61);
    bench.settle();
    assert_eq!(bench.tasks(holding).len(), 8);
}
