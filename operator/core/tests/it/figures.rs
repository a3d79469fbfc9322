//! What is measured, by ECS' own worked examples (ECS CloudWatch metrics).

use crate::common;
use crate::common::Bench;
use crate::common::build::{definition, service};
use jiff::SignedDuration;
use serde_json::json;
use tallyman_operator_core::Kind;
use tallyman_operator_core::figures::{self, Amount, Cluster, Standing, Starts, percent};

fn of(bench: &Bench) -> Cluster {
    figures::of(&bench.world())
}

/// "A cluster has two active container instances registered, a c4.4xlarge instance and a c4.large instance. [...] If a task
/// definition reserves 1,024 CPU units and 2,048 MiB of memory, and ten tasks are started with this task definition, [...] this is
/// reported as 55% CPU reservation and 60% memory reservation for the cluster."
#[test]
fn reservation_is_that_of_the_worked_example() {
    let mut bench = Bench::default();
    bench.host("c4-4xlarge", 16_384, 30_158);
    bench.host("c4-large", 2048, 3768);
    let mut spec = definition("web:1");
    spec["containerDefinitions"][0]["cpu"] = json!(1024);
    spec["containerDefinitions"][0]["memory"] = json!(2048);
    bench.apply_definition("web", spec);
    bench.apply_service("web", service("web", 10, 100, 200));
    bench.settle();
    let placed = of(&bench);
    assert_eq!((placed.running, placed.pending), (0, 10));
    bench.converge(60);
    let cluster = of(&bench);
    let registered = Amount {
        cpu: 18_432,
        memory: 33_926,
        gpus: 0,
    };
    let reserved = Amount {
        cpu: 10_240,
        memory: 20_480,
        gpus: 0,
    };
    assert_eq!(
        (cluster.registered, cluster.reserved),
        (registered, reserved)
    );
    assert_eq!(percent(reserved.cpu, registered.cpu).floor(), 55.0);
    assert_eq!(percent(reserved.memory, registered.memory).floor(), 60.0);
    assert_eq!((cluster.running, cluster.pending), (10, 0));
    assert_eq!(placed.reserved, reserved, "from the placement on");
}

/// A host that drains counts with all that it registered, and one that never registered with nothing.
#[test]
fn hosts_count_until_they_are_gone() {
    let mut bench = Bench::with_service(2, 2, 100, 100);
    bench.edit(Kind::ContainerInstance, "host-b", &|v| {
        v["spec"]["status"] = json!("DRAINING");
    });
    bench.create(
        Kind::ContainerInstance,
        tallyman_crds::ContainerInstance::new("new", serde_json::from_value(json!({})).unwrap()),
    );
    bench.silent("host-a", 60);
    let cluster = of(&bench);
    assert_eq!(cluster.registered.cpu, 2 * 4096);
    let standing = [
        (Standing::Registering, 1),
        (Standing::Draining, 1),
        (Standing::Disconnected, 1),
    ];
    assert_eq!(cluster.instances, standing.into_iter().collect());
}

/// CPU is used of what is reserved, memory of the hard limit where there is one.
#[test]
fn a_service_is_measured_by_what_its_running_tasks_may() {
    let rows = [
        (
            json!({ "cpu": 512, "memory": 1024, "memoryReservation": 128 }),
            json!({}),
            (512, 1024),
        ),
        (
            json!({ "cpu": 512, "memoryReservation": 128 }),
            json!({}),
            (512, 128),
        ),
        (
            json!({ "cpu": 512, "memory": 256 }),
            json!({ "cpu": "1024", "memory": "2048" }),
            (1024, 2048),
        ),
    ];
    for (container, task, expected) in rows {
        let mut bench = Bench::with_hosts(1);
        let mut spec = json!({ "containerDefinitions": [{ "name": "app", "image": "web:1" }] });
        common::merge(&mut spec["containerDefinitions"][0], &container);
        common::merge(&mut spec, &task);
        bench.apply_definition("web", spec);
        bench.apply_service("web", service("web", 2, 100, 200));
        bench.settle();
        assert_eq!(of(&bench).services[0].cpu_reserved, 0, "none runs");
        bench.converge(60);
        let web = &of(&bench).services[0];
        let (cpu, memory) = expected;
        assert_eq!(
            (web.cpu_reserved, web.memory_allowed),
            (2 * cpu, 2 * memory)
        );
        assert_eq!(
            (web.desired, web.running, web.pending, web.ready),
            (2, 2, 0, true)
        );
        assert_eq!(web.reason, "SteadyState");
        assert_eq!(web.rollouts, [("COMPLETED", 1)].into_iter().collect());
    }
    // The guide: 512 reserved, and the task uses the 2,048 units of its c4.large.
    assert_eq!(percent(2048, 512), 400.0);
}

#[test]
fn a_start_is_counted_once_and_none_from_before() {
    let mut bench = Bench::with_service(2, 2, 100, 200);
    let mut starts = Starts::default();
    let mut since = |bench: &Bench| starts.since(&[&bench.world()], bench.now);
    assert!(since(&bench).is_empty(), "they ran before");
    bench.scale("web", 4);
    bench.settle();
    bench.pass_time(3);
    bench.run_all();
    assert_eq!(since(&bench), [3.0, 3.0]);
    assert!(since(&bench).is_empty());
    bench.pass_time(3600);
    assert!(since(&bench).is_empty());
    // And none is counted for having been forgotten.
    bench.now -= SignedDuration::from_secs(1);
    assert!(since(&bench).is_empty());
}

#[test]
fn what_is_not_placed_is_counted_by_the_reason_of_ecs() {
    let mut bench = Bench::with_service(1, 1, 100, 200);
    assert!(bench.plan().failures.is_empty());
    let mut spec = definition("large:1");
    spec["containerDefinitions"][0]["memory"] = json!(999_999);
    bench.apply_definition("large", spec);
    bench.apply_service("large", service("large", 1, 100, 200));
    bench.settle();
    let failures = [("RESOURCE:MEMORY", 1)].into_iter().collect();
    assert_eq!(bench.plan().failures, failures);
    // It leaves once its task has moved, and there is nowhere to go.
    bench.delete(Kind::ContainerInstance, "host-a");
    bench.converge(60);
    let failures: Vec<&str> = bench.plan().failures.into_keys().collect();
    assert_eq!(failures, ["INACTIVE"]);
}
