//! Properties: a plan is a fixpoint, worlds keep their invariants, a patch makes one status of another.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod common;

use common::Bench;
use common::build::{checked, definition, service};
use proptest::prelude::*;
use serde_json::{Map, Value, json};
use tallyman_crds::{HealthStatus, LastStatus, StopCode, TaskStatus};
use tallyman_operator_core::plan::merge_patch;
use tallyman_operator_core::{Action, Kind};

/// Something that happens to a namespace.
#[derive(Clone, Debug)]
enum Event {
    Scale(u8, u8),
    Roll(u8, u8),
    Percent(u8, u8),
    Delete(u8),
    Restore(u8),
    RunAll,
    StopAll,
    Fail(u8),
    Sick(u8),
    Drain(u8, bool),
    Silence(u8, u16),
    Engine(u8, bool),
    UserTask(u8, bool),
    DeleteTask(u8),
    StopTask(u8),
    Deregister(u8),
    Wait(u16),
    Leader,
}

fn event() -> impl Strategy<Value = Event> {
    use Event::*;
    prop_oneof![
        (0..2_u8, 0..6_u8).prop_map(|(s, n)| Scale(s, n)),
        (0..2_u8, 0..4_u8).prop_map(|(s, n)| Roll(s, n)),
        (0..2_u8, 0..6_u8).prop_map(|(s, n)| Percent(s, n)),
        (0..2_u8).prop_map(Delete),
        (0..2_u8).prop_map(Restore),
        Just(RunAll),
        Just(RunAll),
        Just(StopAll),
        Just(StopAll),
        any::<u8>().prop_map(Fail),
        any::<u8>().prop_map(Sick),
        (0..3_u8, any::<bool>()).prop_map(|(h, on)| Drain(h, on)),
        (0..3_u8, prop_oneof![Just(0), Just(60), Just(400)]).prop_map(|(h, s)| Silence(h, s)),
        (0..3_u8, any::<bool>()).prop_map(|(h, on)| Engine(h, on)),
        (0..6_u8, any::<bool>()).prop_map(|(n, placed)| UserTask(n, placed)),
        any::<u8>().prop_map(DeleteTask),
        any::<u8>().prop_map(StopTask),
        (0..3_u8).prop_map(Deregister),
        prop_oneof![Just(1), Just(45), Just(4000)].prop_map(Wait),
        Just(Leader),
    ]
}

const SERVICES: [&str; 2] = ["api", "web"];
const HOSTS: [&str; 3] = ["host-a", "host-b", "host-c"];
const PERCENT: [(i64, i64); 6] = [
    (100, 200),
    (50, 100),
    (0, 100),
    (100, 150),
    (0, 50),
    (150, 200),
];

fn pick(bench: &Bench, n: u8, open: bool) -> Option<String> {
    let all = bench.tasks(|t| {
        !open
            || t.status
                .as_ref()
                .is_none_or(|s| s.last_status != LastStatus::Stopped)
                && t.metadata.labels.is_some()
    });
    (!all.is_empty()).then(|| all[usize::from(n) % all.len()].clone())
}

fn exists(bench: &Bench, kind: Kind, name: &str) -> bool {
    bench.names(kind).contains(&name.to_owned())
}

fn happen(bench: &mut Bench, event: &Event) {
    match *event {
        Event::Scale(s, n) if exists(bench, Kind::Service, SERVICES[s as usize]) => {
            bench.scale(SERVICES[s as usize], i64::from(n));
        }
        Event::Roll(s, n) => {
            let spec = if s == 0 {
                definition(&format!("a:{n}"))
            } else {
                checked(&format!("b:{n}"))
            };
            bench.apply_definition(SERVICES[s as usize], spec);
        }
        Event::Percent(s, n) if exists(bench, Kind::Service, SERVICES[s as usize]) => {
            let (min, max) = PERCENT[n as usize];
            bench.edit(Kind::Service, SERVICES[s as usize], &|v| {
                v["spec"]["deploymentConfiguration"] =
                    json!({ "minimumHealthyPercent": min, "maximumPercent": max });
            });
        }
        Event::Delete(s) if exists(bench, Kind::Service, SERVICES[s as usize]) => {
            bench.delete(Kind::Service, SERVICES[s as usize]);
        }
        Event::Restore(s) if !exists(bench, Kind::Service, SERVICES[s as usize]) => {
            bench.apply_service(
                SERVICES[s as usize],
                service(SERVICES[s as usize], 2, 100, 200),
            );
        }
        Event::RunAll => {
            bench.run_all();
            let undecided = |s: &TaskStatus| {
                s.last_status == LastStatus::Running && s.health_status == HealthStatus::Unknown
            };
            for name in bench.tasks(|t| t.status.as_ref().is_some_and(undecided)) {
                bench.health(&name, HealthStatus::Healthy);
            }
        }
        Event::StopAll => bench.stop_all(),
        Event::Fail(n) => {
            if let Some(name) = pick(bench, n, true).filter(|n| placed(bench, n)) {
                let ran = bench
                    .task(&name)
                    .status
                    .as_ref()
                    .is_some_and(|s| s.started_at.is_some());
                let code = if ran {
                    StopCode::EssentialContainerExited
                } else {
                    StopCode::TaskFailedToStart
                };
                bench.fail(&name, code);
            }
        }
        Event::Sick(n) => {
            if let Some(name) = pick(bench, n, true).filter(|n| placed(bench, n)) {
                bench.health(&name, HealthStatus::Unhealthy);
            }
        }
        Event::Drain(h, on) if exists(bench, Kind::ContainerInstance, HOSTS[h as usize]) => {
            bench.edit(Kind::ContainerInstance, HOSTS[h as usize], &|v| {
                v["spec"]["status"] = json!(if on { "DRAINING" } else { "ACTIVE" });
            });
        }
        Event::Silence(h, s) => bench.silent(HOSTS[h as usize], u64::from(s)),
        Event::Engine(h, on) if exists(bench, Kind::ContainerInstance, HOSTS[h as usize]) => {
            bench.edit(Kind::ContainerInstance, HOSTS[h as usize], &|v| {
                v["status"]["host"]["engineReachable"] = json!(on)
            });
        }
        Event::UserTask(n, named) => {
            let mut spec = json!({ "taskDefinition": SERVICES[usize::from(n % 2)] });
            if named {
                spec["containerInstance"] = json!(HOSTS[usize::from(n % 3)]);
            }
            bench.apply_task(&format!("user-{n}"), spec);
        }
        Event::DeleteTask(n) => {
            if let Some(name) = pick(bench, n, false) {
                bench.delete(Kind::Task, &name);
            }
        }
        Event::StopTask(n) => {
            if let Some(name) = pick(bench, n, false) {
                bench.edit(Kind::Task, &name, &|v| {
                    v["spec"]["desiredStatus"] = json!("STOPPED")
                });
            }
        }
        Event::Deregister(h) if exists(bench, Kind::ContainerInstance, HOSTS[h as usize]) => {
            bench.delete(Kind::ContainerInstance, HOSTS[h as usize]);
        }
        Event::Wait(seconds) => bench.pass_time(i64::from(seconds)),
        Event::Leader => bench.epoch += 1,
        _ => {}
    }
}

fn placed(bench: &Bench, task: &str) -> bool {
    let t = bench.task(task);
    t.metadata.finalizers.is_some()
        && (t
            .metadata
            .labels
            .as_ref()
            .is_some_and(|l| l.contains_key(tallyman_crds::labels::SERVICE))
            || t.status
                .as_ref()
                .is_some_and(|s| s.container_instance.is_some()))
}

fn furnished() -> Bench {
    let mut bench = Bench::default();
    for host in HOSTS {
        bench.host(host, 1100, 2200);
    }
    bench.apply_definition("api", definition("a:0"));
    bench.apply_definition("web", checked("b:0"));
    bench.apply_service("api", service("api", 2, 100, 200));
    bench.apply_service("web", service("web", 2, 50, 100));
    bench
}

/// Obedient agents and time until nothing moves; then nothing must be left over.
fn come_to_rest(bench: &mut Bench) {
    for host in HOSTS {
        bench.silent(host, 0);
        if exists(bench, Kind::ContainerInstance, host) {
            bench.edit(Kind::ContainerInstance, host, &|v| {
                v["spec"]["status"] = json!("ACTIVE");
                v["status"]["host"]["engineReachable"] = json!(true);
            });
        }
    }
    for _ in 0..40 {
        bench.settle();
        bench.stop_all();
        bench.settle();
        bench.run_all();
        for name in bench.tasks(|t| {
            t.status
                .as_ref()
                .is_some_and(|s| s.last_status == LastStatus::Running)
        }) {
            bench.health(&name, HealthStatus::Healthy);
        }
        bench.settle();
        bench.pass_time(61);
    }
    bench.settle();
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn a_plan_is_a_fixpoint_and_keeps_the_invariants(events in prop::collection::vec(event(), 1..24)) {
        let mut bench = furnished();
        bench.settle();
        for event in &events {
            happen(&mut bench, event);
            bench.settle();
        }
    }

    #[test]
    fn whatever_happened_the_system_comes_to_rest(events in prop::collection::vec(event(), 1..24)) {
        let mut bench = furnished();
        for event in &events {
            happen(&mut bench, event);
            bench.pass();
            let minted = bench.families();
            bench.apply(&minted);
        }
        come_to_rest(&mut bench);
        for name in bench.names(Kind::Service) {
            let status = bench.service_status(&name);
            let reason = status.conditions[0].reason.clone();
            let fine = ["SteadyState", "TasksNotPlaceable", "DeploymentConfigurationDeadlock"].contains(&reason.as_str());
            prop_assert!(fine, "{name}: {}", status.conditions[0].message);
            prop_assert!(bench.objects.services.iter().all(|s| s.metadata.deletion_timestamp.is_none()));
        }
        let stuck = bench.tasks(|t| t.metadata.deletion_timestamp.is_some());
        prop_assert!(stuck.is_empty(), "deleted and still there: {stuck:?}");
        let orphans = bench.tasks(|t| {
            let service = t.metadata.labels.as_ref().and_then(|l| l.get(tallyman_crds::labels::SERVICE));
            service.is_some_and(|s| !exists(&bench, Kind::Service, s))
        });
        prop_assert!(orphans.is_empty(), "of services that are gone: {orphans:?}");
    }

    #[test]
    fn the_same_world_gives_the_same_plan(events in prop::collection::vec(event(), 1..12)) {
        let mut bench = furnished();
        for event in &events {
            happen(&mut bench, event);
            let (one, two) = (bench.plan(), bench.clone().plan());
            prop_assert_eq!(format!("{one:?}"), format!("{two:?}"));
            // The order in which a cache lists its objects decides nothing.
            let mut shuffled = bench.clone();
            shuffled.objects.tasks.reverse();
            shuffled.objects.instances.reverse();
            shuffled.objects.services.reverse();
            shuffled.objects.revisions.reverse();
            prop_assert_eq!(format!("{:?}", bench.plan()), format!("{:?}", shuffled.plan()));
            prop_assert_eq!(format!("{:?}", bench.families()), format!("{:?}", shuffled.families()));
            bench.apply(&one);
        }
    }

    #[test]
    fn no_number_is_given_twice(events in prop::collection::vec(event(), 1..24)) {
        let mut bench = furnished();
        let mut created = std::collections::BTreeSet::new();
        for event in &events {
            happen(&mut bench, event);
            let uids: Vec<_> = bench.objects.services.iter().map(|s| (s.metadata.name.clone(), s.metadata.uid.clone())).collect();
            for action in bench.settle() {
                if let Action::CreateTask(t) = action {
                    let owner = t.metadata.owner_references.as_ref().unwrap()[0].clone();
                    prop_assert!(uids.contains(&(Some(owner.name), Some(owner.uid.clone()))));
                    prop_assert!(created.insert((t.metadata.name.clone(), owner.uid)), "{:?} twice", t.metadata.name);
                }
            }
        }
    }

    #[test]
    fn a_merge_patch_makes_the_new_of_the_old((old, new) in (object(), object())) {
        let mut patched = old.clone();
        match merge_patch(&old, &new) {
            None => prop_assert_eq!(&old, &new),
            Some(patch) => common::merge(&mut patched, &patch),
        }
        prop_assert_eq!(&patched, &new);
        prop_assert!(merge_patch(&new, &new).is_none());
    }
}

/// JSON objects as statuses are: no nulls, for a merge patch cannot make one.
fn object() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        any::<bool>().prop_map(Value::from),
        any::<i32>().prop_map(Value::from),
        "[ab]{0,2}".prop_map(Value::from)
    ];
    let value = leaf.prop_recursive(3, 16, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(Value::Array),
            prop::collection::btree_map("[a-d]", inner, 0..4)
                .prop_map(|m| Value::Object(m.into_iter().collect())),
        ]
    });
    prop::collection::btree_map("[a-d]", value, 0..4)
        .prop_map(|m| Value::Object(m.into_iter().collect::<Map<_, _>>()))
}

/// Cases of this file are whole histories, so few of them; `PROPTEST_CASES` asks for more.
fn config() -> ProptestConfig {
    let wanted = ProptestConfig::default();
    let cases = if wanted.cases == 256 {
        48
    } else {
        wanted.cases
    };
    ProptestConfig {
        cases,
        max_shrink_iters: 400,
        failure_persistence: Some(Box::new(
            prop::test_runner::FileFailurePersistence::WithSource("regressions"),
        )),
        ..wanted
    }
}
