//! What holds of one pass over any state of a service, up to 300 tasks of it, however it came about: histories reach few of
//! them (`fixpoint.rs` has those).

use crate::common;
use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use crate::common::build::{checked, definition};
use crate::common::{Bench, CLUSTER, NAMESPACE};
use jiff::SignedDuration;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use proptest::prelude::*;
use proptest::sample::select;
use serde_json::{Value, json};
use tallyman_crds::{
    ContainerInstance, DesiredStatus, HealthStatus, LastStatus, Service, Task, TaskSpec,
    TaskStatus, labels, names,
};
use tallyman_operator_core::deployments::deployment_id;
use tallyman_operator_core::liveness::Silence;
use tallyman_operator_core::names::InstanceName;
use tallyman_operator_core::{Action, Plan, World, invariants, plan};

/// CPU units and MiB of a task of `common::build::definition`.
const TASK: (i64, i64) = (256, 512);

/// A host: zone, tasks that it has room for, and whether it drains or is silent.
#[derive(Clone, Copy, Debug)]
struct Host {
    zone: u8,
    room: i64,
    drains: bool,
    silent: bool,
}

fn host() -> impl Strategy<Value = Host> {
    let rare = || prop::bool::weighted(0.1);
    (0..3_u8, select(vec![0_i64, 2, 8, 100]), rare(), rare()).prop_map(
        |(zone, room, drains, silent)| Host {
            zone,
            room,
            drains,
            silent,
        },
    )
}

/// A task of the service.
#[derive(Clone, Copy, Debug)]
struct Placed {
    host: usize,
    /// Of the deployment before.
    old: bool,
    last: LastStatus,
    health: HealthStatus,
    /// Seconds since it was created, and started.
    age: i64,
    stopping: bool,
    protected: bool,
}

fn placed() -> impl Strategy<Value = Placed> {
    use LastStatus::*;
    (
        any::<usize>(),
        any::<bool>(),
        prop_oneof![
            6 => Just(Running),
            1 => select(vec![Provisioning, Pending, Activating, Deactivating, Stopping, Deprovisioning, Stopped]),
        ],
        select(vec![HealthStatus::Healthy, HealthStatus::Healthy, HealthStatus::Unhealthy, HealthStatus::Unknown]),
        select(vec![5, 400]),
        prop::bool::weighted(0.1),
        prop::bool::weighted(0.05),
    )
        .prop_map(|(host, old, last, health, age, stopping, protected)| Placed {
            host, old, last, health, age, stopping, protected,
        })
}

/// What is asked of the service.
#[derive(Clone, Debug)]
struct Asked {
    desired: i64,
    percent: (i64, i64),
    checked: bool,
    rules: usize,
    paused: bool,
    /// Early success criteria, and whether old tasks may outlive the deployment.
    early: Option<bool>,
}

fn asked() -> impl Strategy<Value = Asked> {
    let percent = vec![
        (100, 200),
        (50, 100),
        (0, 100),
        (100, 150),
        (90, 110),
        (150, 200),
        (100, 100),
    ];
    (
        prop_oneof![4 => 0..12_i64, 1 => 0..150_i64],
        select(percent),
        any::<bool>(),
        0..4_usize,
        prop::bool::weighted(0.1),
        prop::option::weighted(0.3, any::<bool>()),
    )
        .prop_map(|(desired, percent, checked, rules, paused, early)| Asked {
            desired,
            percent,
            checked,
            rules,
            paused,
            early,
        })
}

fn rules(number: usize) -> Value {
    match number {
        0 => json!({}),
        1 => json!({ "placementStrategy": [{ "type": "binpack", "field": "memory" }] }),
        2 => json!({ "placementStrategy": [{ "type": "random" }] }),
        _ => json!({ "placementConstraints": [{ "type": "distinctInstance" }] }),
    }
}

/// Families `web` and `seen` (with a health check), two revisions each.
static REGISTERED: LazyLock<Bench> = LazyLock::new(|| {
    let mut bench = Bench::default();
    for image in ["web:1", "web:2"] {
        bench.apply_definition("web", definition(image));
        bench.apply_definition("seen", checked(image));
        bench.settle();
    }
    bench
});

fn meta(name: String, number: usize) -> ObjectMeta {
    ObjectMeta {
        name: Some(name),
        namespace: Some(NAMESPACE.to_owned()),
        uid: Some(format!("uid-{number}")),
        resource_version: Some("7".to_owned()),
        generation: Some(1),
        ..ObjectMeta::default()
    }
}

fn instance(number: usize, host: Host) -> ContainerInstance {
    let mut instance = ContainerInstance::new(
        "",
        serde_json::from_value(json!({
            "status": if host.drains { "DRAINING" } else { "ACTIVE" },
            "attributes": [{ "name": "ecs.availability-zone", "value": format!("zone-{}", host.zone) }],
        }))
        .unwrap(),
    );
    instance.metadata = meta(format!("host-{number:02}"), 1000 + number);
    let (cpu, memory) = (host.room * TASK.0, host.room * TASK.1);
    instance.status = serde_json::from_value(json!({ "observedGeneration": 1, "host": {
        "agentVersion": "1.0.0", "engine": "docker", "engineApiVersion": "1.41", "engineReachable": true,
        "registeredResources": { "cpu": cpu, "memory": memory, "ports": [22] },
        "attributes": [{ "name": tallyman_crds::capabilities::HEALTH_CHECK }],
    } }))
    .unwrap();
    instance
}

/// The world of such a state, with the time of its pass.
fn world(
    hosts: &[Host],
    asked: &Asked,
    tasks: &[Placed],
    turned: bool,
) -> (World, jiff::Timestamp) {
    let mut bench = REGISTERED.clone();
    let objects = &mut bench.objects;
    for (n, host) in hosts.iter().enumerate() {
        let object = instance(n, *host);
        let lasts = Duration::from_secs(if host.silent { 60 } else { 0 });
        objects
            .silence
            .insert(format!("host-{n:02}"), Silence::since_heard(lasts));
        objects.instances.push(Arc::new(object));
    }
    let family = if asked.checked { "seen" } else { "web" };
    let mut spec = rules(asked.rules);
    spec["taskDefinition"] = json!(family);
    spec["desiredCount"] = json!(asked.desired);
    spec["paused"] = json!(asked.paused);
    spec["deploymentConfiguration"] =
        json!({ "minimumHealthyPercent": asked.percent.0, "maximumPercent": asked.percent.1 });
    if let Some(deferred) = asked.early.filter(|_| asked.percent.0 <= 100) {
        spec["deploymentConfiguration"]["earlySuccessCriteria"] = json!({
            "enable": true, "healthyPercent": asked.percent.0,
            "sourceServiceRevisionCleanup": if deferred { "DEFERRED" } else { "BLOCKING" },
        });
    }
    let mut service = Service::new("", serde_json::from_value(spec).unwrap());
    service.metadata = meta("api".to_owned(), 1);
    service.metadata.finalizers = Some(vec![labels::SERVICE_FINALIZER.to_owned()]);
    objects.services.push(Arc::new(service));

    let (settings, now) = (&bench.settings, bench.now);
    let before = World::gather(&bench.objects, NAMESPACE, CLUSTER, settings, 1);
    let deployment =
        |revision: &str| deployment_id(&before.services["api"], &revision.into()).to_string();
    let revisions = [1, 2].map(|n| names::revision(family, n));
    let deployments = revisions.each_ref().map(|r| deployment(r));
    let at = |age: i64| Time(now - SignedDuration::from_secs(age));
    for (n, placed) in tasks.iter().enumerate() {
        let which = usize::from(!placed.old);
        let host = format!("host-{:02}", placed.host % hosts.len());
        let name = names::service_task("api", i64::try_from(n).unwrap() + 1);
        let mut metadata = meta(name, 2000 + n);
        metadata.creation_timestamp = Some(at(placed.age));
        metadata.finalizers = Some(vec![labels::STOP_FINALIZER.to_owned()]);
        metadata.labels = Some(BTreeMap::from([
            (labels::SERVICE.to_owned(), "api".to_owned()),
            (labels::CLUSTER.to_owned(), CLUSTER.to_owned()),
            (labels::REVISION.to_owned(), revisions[which].clone()),
            (labels::DEPLOYMENT.to_owned(), deployments[which].clone()),
        ]));
        let stops = placed.stopping || placed.last > LastStatus::Running;
        let ran = placed.last >= LastStatus::Running;
        let task = Task {
            metadata,
            spec: TaskSpec {
                cluster: Some(CLUSTER.to_owned()),
                task_definition: format!("{family}:{}", which + 1),
                container_instance: Some(host.clone()),
                group: Some("service:api".to_owned()),
                desired_status: if stops {
                    DesiredStatus::Stopped
                } else {
                    DesiredStatus::Running
                },
                ..TaskSpec::default()
            },
            status: Some(TaskStatus {
                last_status: placed.last,
                health_status: if asked.checked {
                    placed.health
                } else {
                    HealthStatus::Unknown
                },
                container_instance: Some(host),
                accepted_at: Some(at(placed.age)),
                started_at: ran.then(|| at(placed.age)),
                stopped_at: (placed.last == LastStatus::Stopped).then(|| at(1)),
                protected_until: placed.protected.then(|| at(-600)),
                ..TaskStatus::default()
            }),
        };
        bench.objects.tasks.push(Arc::new(task));
    }
    if turned {
        bench.objects.tasks.reverse();
        bench.objects.instances.reverse();
    }
    (
        World::gather(&bench.objects, NAMESPACE, CLUSTER, &bench.settings, 1),
        now,
    )
}

/// Tasks that the plan starts, by host.
fn starts(plan: &Plan) -> BTreeMap<&str, i64> {
    let mut starts = BTreeMap::new();
    for action in &plan.actions {
        if let Action::CreateTask(task) = action {
            *starts
                .entry(task.spec.container_instance.as_deref().unwrap())
                .or_default() += 1;
        }
    }
    starts
}

proptest! {
    #![proptest_config(common::cases(2_000))]

    /// Whatever the state: never outside of minimumHealthyPercent and maximumPercent by our own doing (I3, I7), no name
    /// twice (I6), what is distinct stays distinct (I8); no host gets more than it has left, none that takes no tasks
    /// gets one; the tasks of the pass are spread over the zones within one; a service that has none gets some; and whoever looks at the same, in whatever
    /// order it lies, decides the same.
    #[test]
    fn one_pass_keeps_every_bound(
        hosts in prop::collection::vec(host(), 1..10),
        asked in asked(),
        tasks in prop_oneof![
            12 => prop::collection::vec(placed(), 0..14),
            3 => prop::collection::vec(placed(), 14..80),
            1 => prop::collection::vec(placed(), 80..=300),
        ],
    ) {
        let (world, now) = world(&hosts, &asked, &tasks, false);
        let plan = plan(&world, now);
        prop_assert_eq!(invariants::check_plan(&world, &plan, now), Vec::new());

        let starts = starts(&plan);
        let on = |n: usize| InstanceName::from(format!("host-{n:02}"));
        let held = |n: usize| world.tasks_on(&on(n)).filter(|(_, t)| t.holds()).count();
        let wanted = |n: usize| world.tasks_on(&on(n)).filter(|(_, t)| t.holds() && !t.leaving()).count();
        let started = |n: usize| starts.get(on(n).as_str()).copied().unwrap_or(0);
        let left = |n: usize| hosts[n].room - i64::try_from(held(n)).unwrap() - started(n);
        let takes = |n: usize| !hosts[n].drains && !hosts[n].silent;
        for n in (0..hosts.len()).filter(|n| started(*n) > 0) {
            prop_assert!(takes(n), "a task is started on {}", on(n));
            prop_assert!(left(n) >= 0, "{} is over-committed", on(n));
        }
        // A service that has nothing begins with as many as it wants and there is room for, or with a part of them.
        if tasks.is_empty() && !asked.paused {
            let open = (0..hosts.len()).filter(|n| takes(*n)).map(|n| hosts[n].room);
            let most = if asked.rules == 3 { 1 } else { i64::MAX };
            let wanted = asked.desired.min(open.map(|room| room.min(most)).sum());
            let begun: i64 = starts.values().sum();
            prop_assert!(begun <= wanted && (begun > 0) == (wanted > 0), "{begun} of {wanted}");
        }
        if asked.rules == 0 {
            let mut zones: BTreeMap<u8, (i64, i64, bool)> = BTreeMap::new();
            for (n, host) in hosts.iter().enumerate() {
                let (here, new, open) = zones.entry(host.zone).or_default();
                *here += i64::try_from(wanted(n)).unwrap() + started(n);
                *new += started(n);
                *open |= takes(n) && left(n) >= 1;
            }
            let least = zones.values().filter(|(_, _, open)| *open).map(|(here, ..)| *here).min();
            for (zone, (here, new, _)) in &zones {
                prop_assert!(*new == 0 || least.is_none_or(|least| here - least <= 1), "zone {zone}: {zones:?}");
            }
        }

        let (turned, _) = self::world(&hosts, &asked, &tasks, true);
        prop_assert_eq!(format!("{plan:?}"), format!("{:?}", tallyman_operator_core::plan(&turned, now)));
    }
}
