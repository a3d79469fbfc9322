//! Task sets: a test per rule of ECS' external deployment type.

use crate::common;
use crate::common::Bench;
use crate::common::build::{checked, definition, service};
use crate::common::moves::holding;
use crate::common::task_sets::{external, of_set};
use proptest::prelude::*;
use serde_json::{Value, json};
use tallyman_crds::StabilityStatus::{Stabilizing, SteadyState};
use tallyman_crds::{ConditionStatus, HealthStatus, StopCode, Task, TaskSetLifecycle, labels};
use tallyman_operator_core::{Action, Kind};

fn ready(bench: &Bench) -> bool {
    bench.service_status("web").conditions[0].status == ConditionStatus::True
}

/// Service `web` of `desired` tasks with the primary task set `blue` at 100 percent, steady.
fn blue(hosts: u8, desired: i64) -> Bench {
    let mut bench = Bench::with_external(hosts, desired);
    bench.apply_task_set("blue", 100.0, json!({}));
    bench.make_primary("blue");
    bench.converge(10);
    assert!(ready(&bench), "{:?}", bench.service_status("web"));
    bench
}

fn has(bench: &Bench, set: &str) -> usize {
    bench.tasks(of_set(set)).len()
}

fn events(bench: &Bench) -> Vec<String> {
    let events = bench.service_status("web").events;
    events.into_iter().map(|e| e.message).collect()
}

#[test]
fn a_scale_is_a_part_of_the_desired_count_rounded_up() {
    let rows: [(i64, f64, i32); 9] = [
        (3, 100.0, 3),
        (3, 50.0, 2),
        (3, 33.3, 1),
        (3, 33.4, 2),
        (10, 0.0, 0),
        (10, 0.1, 1),
        (0, 100.0, 0),
        (1, 1.0, 1),
        (8, 12.5, 1),
    ];
    for (desired, percent, computed) in rows {
        let mut bench = Bench::with_external(3, desired);
        bench.apply_task_set("blue", percent, json!({}));
        bench.converge(10);
        let status = bench.set_status("blue");
        assert_eq!(
            status.computed_desired_count, computed,
            "{percent} of {desired}"
        );
        assert_eq!(status.running_count, computed);
        assert_eq!(status.stability_status, Some(SteadyState));
        assert_eq!(
            i64::from(bench.service_status("web").desired_count),
            desired
        );
    }
}

#[test]
fn without_a_scale_it_has_no_tasks() {
    let mut bench = Bench::with_external(1, 3);
    bench.apply_task_set("blue", 0.0, json!({ "scale": null }));
    bench.converge(10);
    let status = bench.set_status("blue");
    assert_eq!((status.computed_desired_count, has(&bench, "blue")), (0, 0));
    assert_eq!(status.status, Some(TaskSetLifecycle::Active));
}

#[test]
fn blue_becomes_green() {
    let mut bench = blue(3, 4);
    bench.apply_definition("web", definition("web:2"));
    bench.settle();
    bench.apply_task_set("green", 0.0, json!({ "taskDefinition": "web" }));
    bench.converge(10);
    assert_eq!(bench.set_status("green").task_definition.unwrap(), "web:2");
    for (old, new) in [(100.0, 50.0), (50.0, 50.0), (50.0, 100.0)] {
        bench.scale_set("blue", old);
        bench.scale_set("green", new);
        bench.converge(45);
        let tasks = |percent: f64| if percent == 100.0 { 4 } else { 2 };
        let there = (has(&bench, "blue"), has(&bench, "green"));
        assert_eq!(there, (tasks(old), tasks(new)));
        assert!(ready(&bench));
    }
    bench.make_primary("green");
    bench.scale_set("blue", 0.0);
    bench.converge(45);
    assert_eq!((has(&bench, "blue"), has(&bench, "green")), (0, 4));
    let status = bench.service_status("web");
    assert_eq!(status.task_definition.as_deref(), Some("web:2"));
    let sets: Vec<_> = status
        .task_sets
        .iter()
        .map(|s| (s.name.as_str(), s.status, s.running_count))
        .collect();
    assert_eq!(
        sets,
        [
            ("green", TaskSetLifecycle::Primary, 4),
            ("blue", TaskSetLifecycle::Active, 0)
        ]
    );
    bench.delete(Kind::TaskSet, "blue");
    bench.converge(10);
    assert_eq!(bench.names(Kind::TaskSet), ["green"]);
    assert!(ready(&bench));
}

#[test]
fn a_family_is_the_revision_that_it_was_taken_on_with() {
    let mut bench = Bench::with_external(2, 2);
    bench.apply_task_set("blue", 50.0, json!({ "taskDefinition": "web" }));
    bench.converge(10);
    bench.apply_definition("web", definition("web:2"));
    bench.scale_set("blue", 100.0);
    bench.converge(10);
    let old = bench.tasks(|t| t.spec.task_definition == "web:1" && holding(t));
    assert_eq!(old.len(), 2);
    assert_eq!(bench.set_status("blue").task_definition.unwrap(), "web:1");
    // Deregistered, it is kept while the task set uses it.
    bench.delete(Kind::TaskDefinitionRevision, "web-1");
    bench.converge(10);
    assert!(
        bench
            .names(Kind::TaskDefinitionRevision)
            .contains(&"web-1".to_owned())
    );
    bench.delete(Kind::TaskSet, "blue");
    bench.converge(10);
    let gone = bench.tasks(|t| t.spec.task_definition == "web:1" && holding(t));
    assert!(gone.is_empty());
    assert_eq!(bench.names(Kind::TaskDefinitionRevision), ["web-2"]);
}

#[test]
fn numbers_are_those_of_the_service_and_never_given_twice() {
    let mut bench = blue(3, 2);
    bench.apply_task_set("green", 100.0, json!({}));
    let plan = bench.plan();
    bench.apply(&plan);
    bench.apply_task_set("red", 100.0, json!({}));
    bench.converge(10);
    let names = bench.tasks(|_| true);
    let wanted: Vec<String> = (1..=6).map(|n| format!("web-{n:06}")).collect();
    assert_eq!(names, wanted);
    assert_eq!(bench.service_status("web").last_task_number, 6);
    let task: &Task = bench.task("web-000001");
    assert_eq!(task.spec.group.as_deref(), Some("service:web"));
    assert_eq!(task.spec.started_by, bench.set_status("blue").id);
    let owner = &task.metadata.owner_references.as_ref().unwrap()[0];
    assert_eq!(
        (owner.kind.as_str(), owner.name.as_str()),
        ("TaskSet", "blue")
    );
}

#[test]
fn sets_that_start_together_share_what_a_pass_and_a_minute_allow() {
    let mut bench = Bench::with_external(8, 10);
    bench.settings.quotas.launches_per_minute = 12;
    bench.apply_task_set("blue", 100.0, json!({}));
    bench.apply_task_set("green", 100.0, json!({}));
    bench.settle();
    assert_eq!((has(&bench, "blue"), has(&bench, "green")), (10, 2));
    bench.pass_time(61);
    bench.converge(10);
    assert_eq!((has(&bench, "blue"), has(&bench, "green")), (10, 10));
}

#[test]
fn the_primary_one_is_placed_first() {
    // Room for four tasks.
    let mut bench = Bench::default();
    bench.host("host-a", 1024, 8192);
    bench.apply_definition("web", definition("web:1"));
    bench.apply_service("web", external(3));
    bench.apply_task_set("a", 100.0, json!({}));
    bench.apply_task_set("b", 100.0, json!({}));
    bench.make_primary("b");
    bench.converge(10);
    assert_eq!((has(&bench, "b"), has(&bench, "a")), (3, 1));
    assert!(ready(&bench));
    let (reason, message) = bench.set_says("a");
    assert_eq!(reason, "TasksNotPlaceable");
    assert!(
        message.starts_with("2 of 3 tasks cannot be placed. Of 1 host, 1 lacks CPU"),
        "{message}"
    );
    let id = bench.set_status("a").id.unwrap();
    let wanted = format!("(service web, taskSet {id}) was unable to place a task");
    assert!(
        events(&bench).iter().any(|e| e.starts_with(&wanted)),
        "{:?}",
        events(&bench)
    );
}

#[test]
fn steady_is_what_ecs_calls_steady() {
    let mut bench = Bench::with_external(2, 2);
    bench.apply_definition("web", checked("web:2"));
    bench.settle();
    bench.apply_task_set("blue", 100.0, json!({ "taskDefinition": "web:2" }));
    bench.make_primary("blue");
    bench.settle();
    let stability = |bench: &Bench| bench.set_status("blue").stability_status;
    assert_eq!(stability(&bench), Some(Stabilizing));
    bench.run_all();
    bench.settle();
    assert_eq!(
        stability(&bench),
        Some(Stabilizing),
        "nobody knows their health"
    );
    let began = bench.set_status("blue").stability_status_at;
    bench.pass_time(5);
    for task in bench.tasks(holding) {
        bench.health(&task, HealthStatus::Healthy);
    }
    bench.settle();
    let status = bench.set_status("blue");
    assert_eq!(status.stability_status, Some(SteadyState));
    assert_ne!(status.stability_status_at, began);
    assert_eq!(bench.reason("web"), "SteadyState");
    let said = events(&bench);
    let id = status.id.unwrap();
    assert_eq!(
        said[..2],
        [
            "(service web) has reached a steady state.".to_owned(),
            format!("(service web, taskSet {id}) updated state to STEADY_STATE.")
        ]
    );
    assert!(said.contains(&format!(
        "(service web) updated computedDesiredCount for taskSet {id} to 2."
    )));
    // A host that drains takes it away.
    let host = bench.host_of("web-000001");
    bench.edit(Kind::ContainerInstance, &host, &|v| {
        v["spec"]["status"] = json!("DRAINING")
    });
    bench.settle();
    assert_eq!(stability(&bench), Some(Stabilizing));
}

#[test]
fn what_fails_is_replaced_at_the_pace_of_the_throttle() {
    let mut bench = Bench::with_external(2, 1);
    bench.apply_task_set("blue", 100.0, json!({}));
    bench.make_primary("blue");
    bench.settle();
    for n in 1..=3 {
        let task = format!("web-{n:06}");
        bench.fail(&task, StopCode::TaskFailedToStart);
        bench.settle();
    }
    assert_eq!(has(&bench, "blue"), 0, "the fourth waits");
    let (reason, message) = bench.set_says("blue");
    assert_eq!(reason, "TasksFailToStart");
    assert!(message.contains("3 tasks in a row"), "{message}");
    assert!(bench.set_status("blue").launch_not_before.is_some());
    assert_eq!(bench.reason("web"), "TasksFailToStart");
    let id = bench.set_status("blue").id.unwrap();
    let sentence =
        format!("(service web, taskSet {id}) is unable to consistently start tasks successfully.");
    assert!(events(&bench).contains(&sentence), "{:?}", events(&bench));
    // Another task set is held back by nothing.
    bench.apply_task_set("green", 100.0, json!({}));
    bench.settle();
    assert_eq!(has(&bench, "green"), 1);
    bench.pass_time(11);
    bench.settle();
    assert_eq!(has(&bench, "blue"), 1);
}

#[test]
fn an_unhealthy_task_is_replaced_start_first() {
    let mut bench = Bench::with_external(2, 1);
    bench.apply_definition("web", checked("web:2"));
    bench.settle();
    bench.apply_task_set("blue", 100.0, json!({ "taskDefinition": "web:2" }));
    bench.settle();
    bench.run_all();
    bench.health("web-000001", HealthStatus::Unhealthy);
    bench.settle();
    assert_eq!(bench.tasks(of_set("blue")), ["web-000001", "web-000002"]);
    bench.run_all();
    bench.health("web-000002", HealthStatus::Healthy);
    bench.settle();
    bench.stop_all();
    bench.settle();
    assert_eq!(bench.tasks(of_set("blue")), ["web-000002"]);
}

#[test]
fn deletion_stops_the_tasks_first() {
    let mut bench = blue(2, 2);
    bench.delete(Kind::TaskSet, "blue");
    bench.settle();
    let status = bench.set_status("blue");
    assert_eq!(status.status, Some(TaskSetLifecycle::Draining));
    assert_eq!(status.computed_desired_count, 0);
    assert_eq!(bench.reason("web"), "Draining");
    let stopping = bench.tasks(|t| t.spec.stop_code == Some(StopCode::ServiceSchedulerInitiated));
    assert_eq!(stopping.len(), 2);
    bench.stop_all();
    bench.settle();
    assert!(bench.names(Kind::TaskSet).is_empty());
    let (reason, message) = (bench.reason("web"), bench.service_status("web").message);
    assert_eq!(reason, "PrimaryTaskSetNotFound");
    assert_eq!(
        message.unwrap(),
        "`spec.primaryTaskSet` names `blue`, which does not exist; the service has none"
    );
}

#[test]
fn a_service_takes_its_task_sets_along() {
    let mut bench = blue(2, 2);
    bench.apply_task_set("green", 50.0, json!({}));
    bench.converge(10);
    bench.delete(Kind::Service, "web");
    bench.settle();
    assert!(bench.names(Kind::Service).contains(&"web".to_owned()));
    bench.stop_all();
    bench.settle();
    bench.stop_all();
    bench.settle();
    assert!(bench.names(Kind::TaskSet).is_empty());
    assert!(bench.names(Kind::Service).is_empty());
    assert!(bench.tasks(holding).is_empty());
}

#[test]
fn a_task_set_that_its_service_never_took_on_outlives_it() {
    let mut bench = Bench::with_external(1, 1);
    bench.apply_task_set("blue", 100.0, json!({ "taskDefinition": "other" }));
    bench.settle();
    bench.delete(Kind::Service, "web");
    bench.settle();
    assert!(bench.names(Kind::Service).is_empty());
    assert_eq!(bench.names(Kind::TaskSet), ["blue"]);
    assert_eq!(bench.set_says("blue").0, "ServiceNotFound");
}

#[test]
fn protected_tasks_stay_and_say_so_in_the_words_of_ecs() {
    let mut bench = blue(2, 2);
    for task in bench.tasks(holding) {
        bench.edit(Kind::Task, &task, &|v| {
            v["status"]["protectedUntil"] = json!("2026-02-01T00:00:00Z")
        });
    }
    bench.scale_set("blue", 50.0);
    bench.settle();
    assert_eq!(has(&bench, "blue"), 2);
    let (reason, message) = bench.set_says("blue");
    assert_eq!(reason, "TasksProtected");
    let id = bench.set_status("blue").id.unwrap();
    let sentence = format!(
        "(service web) was unable to reach steady state because task set ({id}) was unable to scale in. Reason: The number \
         of protected tasks are more than the desired count of tasks."
    );
    assert!(message.starts_with(&sentence), "{message}");
}

#[test]
fn a_mistake_is_told_on_the_task_set() {
    // Fields beside a good spec -> reason, part of the message, Stalled
    let rows: [(Value, &str, &str, bool); 8] = [
        (
            json!({ "service": "api" }),
            "ServiceNotFound",
            "`spec.service` names `api`, which does not exist",
            false,
        ),
        (
            json!({ "service": "rolls" }),
            "ServiceNotExternal",
            "service `rolls` runs its deployments itself",
            true,
        ),
        (
            json!({ "service": "far" }),
            "ServiceInAnotherCluster",
            "`spec.cluster` must be `other`, the cluster of service `far`, not `default`",
            true,
        ),
        (
            json!({ "taskDefinition": "nothing" }),
            "TaskDefinitionNotFound",
            "names `nothing`, which does not exist",
            false,
        ),
        (
            json!({ "scale": { "value": 101.0 } }),
            "InvalidSpec",
            "`spec.scale.value` must be 0 to 100 percent, not 101",
            true,
        ),
        (
            json!({ "launchType": "FARGATE" }),
            "UnsupportedFields",
            "`spec.launchType: FARGATE`",
            true,
        ),
        (
            json!({ "loadBalancers": [{ "containerName": "app", "containerPort": 80 }] }),
            "UnsupportedFields",
            "`spec.loadBalancers`",
            true,
        ),
        (
            json!({ "capacityProviderStrategy": [{ "capacityProvider": "a" }] }),
            "UnsupportedFields",
            "`spec.capacityProviderStrategy`",
            true,
        ),
    ];
    for (fields, reason, part, stalled) in rows {
        let mut bench = Bench::with_external(1, 1);
        bench.apply_service("rolls", service("web", 0, 100, 200));
        let mut far = external(1);
        far["cluster"] = json!("other");
        bench.apply_service("far", far);
        bench.apply_task_set("blue", 100.0, fields);
        let plan = bench.plan();
        let told: Vec<_> = plan
            .publications
            .iter()
            .filter(|p| p.target.kind == Kind::TaskSet)
            .flat_map(|p| &p.notes)
            .collect();
        assert!(
            told.len() == 1 && told[0].message.contains(part),
            "{told:?}"
        );
        bench.settle();
        let (is, message) = bench.set_says("blue");
        assert_eq!(is, reason);
        assert!(message.contains(part), "{message}");
        let types: Vec<_> = bench
            .set_status("blue")
            .conditions
            .into_iter()
            .map(|c| c.type_)
            .collect();
        assert_eq!(types.contains(&"Stalled".to_owned()), stalled, "{types:?}");
        assert!(bench.tasks(|_| true).is_empty());
    }
}

#[test]
fn a_mistake_of_the_service_is_told_there() {
    let rows: [(Value, &str, &str); 6] = [
        (
            json!({}),
            "NoPrimaryTaskSet",
            "no task set is primary; name one in `spec.primaryTaskSet`: `blue`",
        ),
        (
            json!({ "primaryTaskSet": "green" }),
            "PrimaryTaskSetNotFound",
            "names `green`, which does not exist; the service has `blue`",
        ),
        (
            json!({ "primaryTaskSet": "other" }),
            "PrimaryTaskSetNotFound",
            "`other` is one of service `api`",
        ),
        (
            json!({ "taskDefinition": "web" }),
            "InvalidSpec",
            "`spec.taskDefinition` must be absent with `deploymentController.type: EXTERNAL`",
        ),
        (
            json!({ "launchType": "EC2" }),
            "InvalidSpec",
            "`spec.launchType` must be absent",
        ),
        (
            json!({ "paused": true }),
            "InvalidSpec",
            "`spec.paused` must be absent",
        ),
    ];
    for (fields, reason, part) in rows {
        let mut bench = Bench::with_external(1, 1);
        bench.apply_task_set("blue", 0.0, json!({}));
        bench.apply_task_set("other", 0.0, json!({ "service": "api" }));
        let mut spec = external(1);
        common::merge(&mut spec, &fields);
        bench.apply_service("web", spec);
        bench.settle();
        let condition = bench.service_status("web").conditions[0].clone();
        assert_eq!(condition.reason, reason);
        assert!(condition.message.contains(part), "{}", condition.message);
        if reason == "InvalidSpec" {
            assert_eq!(bench.set_says("blue").0, "ServiceNotRunnable");
        }
    }
}

#[test]
fn a_service_has_five_task_sets() {
    let mut bench = Bench::with_external(1, 1);
    for set in ["a", "b", "c", "d", "e", "f"] {
        bench.apply_task_set(set, 0.0, json!({}));
    }
    bench.settle();
    let (reason, message) = bench.set_says("f");
    assert_eq!(reason, "InvalidSpec");
    assert!(
        message.contains("must name a service with fewer task sets: `web` has 5"),
        "{message}"
    );
    bench.delete(Kind::TaskSet, "a");
    bench.settle();
    assert_eq!(bench.set_says("f").0, "SteadyState");
}

#[test]
fn a_service_may_be_handed_over_and_back() {
    let mut bench = Bench::with_service(2, 2, 100, 200);
    bench.converge(60);
    bench.edit(Kind::Service, "web", &|v| v["spec"] = external(2));
    bench.apply_task_set("blue", 100.0, json!({}));
    bench.make_primary("blue");
    bench.settle();
    let old = |t: &Task| {
        let labels = t.metadata.labels.as_ref().unwrap();
        holding(t) && !labels.contains_key(labels::TASK_SET)
    };
    assert_eq!((bench.tasks(old).len(), has(&bench, "blue")), (2, 2));
    bench.run_all();
    bench.settle();
    assert_eq!(bench.reason("web"), "HandingOver");
    bench.converge(60);
    assert_eq!((bench.tasks(old).len(), has(&bench, "blue")), (0, 2));
    assert!(ready(&bench));
    assert!(bench.service_status("web").deployments.is_empty());
    bench.edit(Kind::Service, "web", &|v| {
        v["spec"] = service("web", 2, 100, 200)
    });
    bench.converge(60);
    assert_eq!((bench.tasks(old).len(), has(&bench, "blue")), (2, 0));
    assert!(ready(&bench));
    assert!(bench.service_status("web").task_sets.is_empty());
    assert_eq!(bench.set_says("blue").0, "ServiceNotExternal");
}

#[test]
fn a_primary_task_set_without_tasks_takes_nothing_over() {
    let mut bench = Bench::with_service(2, 2, 100, 200);
    bench.converge(60);
    bench.edit(Kind::Service, "web", &|v| v["spec"] = external(2));
    bench.apply_task_set("blue", 0.0, json!({}));
    bench.make_primary("blue");
    bench.converge(60);
    assert_eq!(bench.tasks(holding).len(), 2);
    assert_eq!(bench.reason("web"), "HandingOver");
}

#[test]
fn what_is_deleted_together_is_stopped_once() {
    // By its service, too, once that is being deleted or rolls.
    for roll in [false, true] {
        let mut bench = blue(2, 2);
        bench.delete(Kind::TaskSet, "blue");
        if roll {
            bench.edit(Kind::Service, "web", &|v| {
                v["spec"] = service("web", 2, 0, 100)
            });
        } else {
            bench.delete(Kind::Service, "web");
        }
        let mut stopped = std::collections::BTreeSet::new();
        for action in bench.settle() {
            if let Action::StopTask { task, .. } = action {
                assert!(stopped.insert(task.name.clone()), "{} twice", task.name);
            }
        }
        assert_eq!(stopped.len(), 2);
        bench.converge(60);
        assert!(bench.names(Kind::TaskSet).is_empty());
        assert_eq!(bench.tasks(holding).len(), if roll { 2 } else { 0 });
    }
}

#[test]
fn a_revision_that_is_not_seen_is_not_replaced_by_another() {
    let mut bench = Bench::with_external(2, 1);
    bench.apply_definition("web", definition("web:2"));
    bench.settle();
    bench.apply_task_set("blue", 100.0, json!({ "taskDefinition": "web" }));
    bench.settle();
    let known = bench.objects.revisions.clone();
    bench
        .objects
        .revisions
        .retain(|r| r.metadata.name.as_deref() != Some("web-2"));
    let plan = bench.plan();
    let fenced = plan
        .actions
        .iter()
        .any(|a| matches!(a, Action::AddFinalizer { .. } | Action::CreateTask(_)));
    assert!(!fenced, "{:?}", plan.actions);
    bench.objects.revisions = known;
    bench.converge(10);
    assert_eq!(bench.task("web-000001").spec.task_definition, "web:2");
}

#[test]
fn who_sees_the_tasks_late_doubles_none() {
    let mut bench = Bench::with_external(2, 2);
    bench.apply_task_set("blue", 100.0, json!({}));
    bench.pass();
    // The task set was fenced; two leaders decide on the same world.
    let (one, mut two) = (bench.plan(), bench.plan());
    two.publications.clear();
    bench.apply(&one);
    bench.apply(&two);
    bench.settle();
    assert_eq!(bench.tasks(|_| true), ["web-000001", "web-000002"]);
}

/// What may happen to service `web` with up to three task sets.
#[derive(Clone, Debug)]
enum Event {
    Set(u8, u16),
    Delete(u8),
    Primary(u8),
    Desired(u8),
    RunAll,
    StopAll,
    Fail(u8),
    Drain(u8, bool),
    Wait(u16),
    HalfAPass,
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        4 => (0..3_u8, 0..1001_u16).prop_map(|(s, p)| Event::Set(s, p)),
        1 => (0..3_u8).prop_map(Event::Delete),
        1 => (0..3_u8).prop_map(Event::Primary),
        2 => (0..7_u8).prop_map(Event::Desired),
        3 => Just(Event::RunAll),
        3 => Just(Event::StopAll),
        2 => any::<u8>().prop_map(Event::Fail),
        1 => (0..2_u8, any::<bool>()).prop_map(|(h, d)| Event::Drain(h, d)),
        2 => (1..200_u16).prop_map(Event::Wait),
        1 => Just(Event::HalfAPass),
    ]
}

const SETS: [&str; 3] = ["blue", "green", "red"];

fn happen(bench: &mut Bench, event: &Event) {
    match *event {
        Event::Set(s, permille) => {
            bench.apply_task_set(SETS[usize::from(s)], f64::from(permille) / 10.0, json!({}));
        }
        Event::Delete(s)
            if bench
                .names(Kind::TaskSet)
                .contains(&SETS[usize::from(s)].to_owned()) =>
        {
            bench.delete(Kind::TaskSet, SETS[usize::from(s)]);
        }
        Event::Delete(_) => {}
        Event::Primary(s) => bench.make_primary(SETS[usize::from(s)]),
        Event::Desired(n) => bench.scale("web", i64::from(n)),
        Event::RunAll => bench.run_all(),
        Event::StopAll => bench.stop_all(),
        Event::Fail(n) => {
            let tasks = bench.tasks(holding);
            if !tasks.is_empty() {
                let task = tasks[usize::from(n) % tasks.len()].clone();
                bench.fail(&task, StopCode::EssentialContainerExited);
            }
        }
        Event::Drain(h, draining) => {
            let status = if draining { "DRAINING" } else { "ACTIVE" };
            bench.edit(
                Kind::ContainerInstance,
                ["host-a", "host-b"][usize::from(h)],
                &|v| v["spec"]["status"] = json!(status),
            );
        }
        Event::Wait(seconds) => bench.pass_time(i64::from(seconds)),
        Event::HalfAPass => {
            let mut plan = bench.plan();
            plan.publications.clear();
            let keep = plan.actions.len().div_ceil(2);
            plan.actions.truncate(keep);
            bench.check(&plan);
            bench.apply(&plan);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    /// `settle` checks the invariants of every world and plan, and that the plan is a fixpoint.
    /// Step 3.12 of `docs/ecs-rules.md`.
    #[test]
    fn each_task_set_comes_to_its_part_and_no_number_is_given_twice(
        events in prop::collection::vec(event(), 1..24)
    ) {
        let mut bench = Bench::with_external(2, 3);
        let mut created = std::collections::BTreeSet::new();
        for event in &events {
            happen(&mut bench, event);
            for action in bench.settle() {
                if let Action::CreateTask(t) = action {
                    let name = t.metadata.name.clone().unwrap();
                    prop_assert!(created.insert(name.clone()), "{name} twice");
                }
            }
        }
        for host in ["host-a", "host-b"] {
            bench.edit(Kind::ContainerInstance, host, &|v| v["spec"]["status"] = json!("ACTIVE"));
        }
        bench.converge(61);
        let desired = bench.service_status("web").desired_count;
        let mut sum = 0;
        for name in bench.names(Kind::TaskSet) {
            let status = bench.set_status(&name);
            let scale = bench.objects.task_sets.iter().find(|s| s.metadata.name.as_deref() == Some(&name));
            let percent = scale.unwrap().spec.scale.as_ref().unwrap().value.unwrap();
            let exact = f64::from(desired) * percent / 100.0;
            let computed = f64::from(status.computed_desired_count);
            prop_assert!(computed >= exact - 1e-9 && computed < exact + 1.0, "{computed} for {exact}");
            prop_assert_eq!(status.stability_status, Some(SteadyState), "{:?}", status);
            prop_assert_eq!(status.running_count, status.computed_desired_count);
            sum += status.running_count;
        }
        prop_assert_eq!(bench.service_status("web").running_count, sum);
        prop_assert_eq!(bench.tasks(holding).len(), usize::try_from(sum).unwrap());
    }
}
