//! Two ways, one answer: what the ledger's index chooses and explains is what a scan over all hosts does. And what must hold
//! of every choice.

use crate::common;
use std::collections::{BTreeMap, BTreeSet};

use crate::common::scan::{GPU_MEMORY, Scan};
use proptest::prelude::*;
use proptest::sample::select;
use serde_json::{Value, json};
use tallyman_crds::ContainerInstance;
use tallyman_operator_core::definition::Demand;
use tallyman_operator_core::names::{Group, InstanceName};
use tallyman_operator_core::placement::{
    Constraints, Field, Ledger, Preference, Query, Request, Resource, Rules, Strategy as Chain,
};
use tallyman_operator_core::world::TASK_ADDRESSES;
use tallyman_operator_core::{Kind, World};

use crate::common::Bench;

/// A host: zone, rack, CPU, memory, GPUs, and in which state.
type Host = (Option<u8>, Option<u8>, i64, i64, usize, u8);

fn host() -> impl Strategy<Value = Host> {
    (
        prop::option::weighted(0.9, 0..3_u8),
        prop::option::weighted(0.8, 0..4_u8),
        select(vec![256, 512, 1024, 2048]),
        select(vec![512, 1024, 4096]),
        0..3_usize,
        // Every tenth is out of order, in one way or another.
        prop_oneof![9 => Just(0_u8), 1 => 1..5_u8],
    )
}

fn object(n: usize, (zone, rack, cpu, memory, gpus, state): &Host) -> Value {
    let mut attributes = vec![json!({ "name": "plain" })];
    attributes.extend(
        zone.map(|z| json!({ "name": "ecs.availability-zone", "value": format!("zone-{z}") })),
    );
    attributes.extend(rack.map(|r| json!({ "name": "rack", "value": r.to_string() })));
    if *gpus == 1 {
        attributes.push(json!({ "name": TASK_ADDRESSES, "value": "2" }));
    }
    let gpus: Vec<String> = (0..*gpus).map(|g| format!("GPU-{g}")).collect();
    let of_gpus: Vec<Value> = gpus
        .iter()
        .map(|id| json!({ "gpuId": id, "memory": GPU_MEMORY }))
        .collect();
    let report = json!({
        "agentVersion": if n.is_multiple_of(3) { "1.0.0" } else { "1.2.0" },
        "engine": "docker", "engineApiVersion": "1.41", "engineReachable": *state != 1,
        "registeredResources": { "cpu": cpu, "memory": memory, "ports": [22], "gpu": gpus, "gpuMemory": of_gpus },
        "attributes": attributes,
    });
    json!({
        "metadata": { "name": format!("host-{n:04}") },
        "spec": { "status": if *state == 2 { "DRAINING" } else { "ACTIVE" } },
        "status": { "host": if *state == 3 { Value::Null } else { report } },
    })
}

fn world(hosts: &[Host]) -> World {
    let mut bench = Bench::default();
    for (n, host) in hosts.iter().enumerate() {
        let object: ContainerInstance = serde_json::from_value(with_kind(object(n, host))).unwrap();
        bench.objects.instances.push(object.into());
        let age = if host.5 == 4 { 70 } else { 0 };
        bench.silent(&format!("host-{n:04}"), age);
    }
    bench.world()
}

fn with_kind(mut object: Value) -> Value {
    object["apiVersion"] = json!("tallyman.dev/v1alpha1");
    object["kind"] = json!(Kind::ContainerInstance.as_str());
    object
}

fn demand() -> impl Strategy<Value = Demand> {
    (
        select(vec![0, 64, 128, 256, 512]),
        select(vec![0, 64, 256, 1024]),
        prop_oneof![
            8 => Just((0, 0)),
            1 => (1..3_i64).prop_map(|whole| (whole, 0)),
            1 => select(vec![20, 35, 50, 101]).prop_map(|part| (0, part)),
        ],
        prop_oneof![6 => Just(None), 1 => Just(Some(22_u16)), 2 => Just(Some(80_u16))],
        prop_oneof![
            8 => Just(None),
            1 => Just(Some(("plain", None))),
            1 => Just(Some(("rack", Some("1")))),
        ],
        prop_oneof![3 => Just(0), 1 => Just(1_i64)],
    )
        .prop_map(
            |(cpu, memory, (gpus, gpu_memory), port, attribute, addresses)| Demand {
                cpu,
                memory,
                gpus,
                gpu_memory,
                addresses,
                ports: port.into_iter().collect(),
                ports_udp: BTreeSet::new(),
                attributes: attribute
                    .map(|(n, v): (&str, Option<&str>)| (n.to_owned(), v.map(str::to_owned)))
                    .into_iter()
                    .collect(),
            },
        )
}

fn step() -> impl Strategy<Value = Preference> {
    let attribute = |name: &str| Preference::Spread(Field::Attribute(name.to_owned()));
    select(vec![
        Preference::Spread(Field::Instance),
        attribute("ecs.availability-zone"),
        attribute("rack"),
        attribute("nobody-has-it"),
        Preference::Binpack(Resource::Cpu),
        Preference::Binpack(Resource::Memory),
    ])
}

fn rules() -> impl Strategy<Value = Rules> {
    let queries = select(vec![
        "attribute:rack in [0, 1]",
        "attribute:ecs.availability-zone != zone-1",
        "runningTasksCount < 2",
        "not(task:group == b)",
        "task:group == a or agentVersion > 1.1",
        "ec2InstanceId =~ 'host-.*[02468]'",
    ]);
    let chain = prop_oneof![
        2 => Just(None),
        3 => (prop::collection::vec(step(), 0..4), any::<bool>()).prop_map(Some),
    ];
    (
        prop::bool::weighted(0.25),
        prop_oneof![3 => Just(Vec::new()), 2 => prop::collection::vec(queries, 1..3)],
        chain,
    )
        .prop_map(|(distinct_instance, queries, chain)| Rules {
            constraints: Constraints {
                distinct_instance,
                member_of: queries.iter().map(|q| Query::parse(q).unwrap()).collect(),
            },
            strategy: chain.map_or_else(Chain::default, |(steps, lot)| Chain { steps, lot }),
        })
}

/// What happens to a ledger. Questions are taken from a few, so that they are asked again after changes.
#[derive(Clone, Debug)]
enum Event {
    Place(usize, u8, u64),
    Enter(usize, u8, usize),
    TakeAway(usize),
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        8 => (0..4_usize, 0..3_u8, any::<u64>()).prop_map(|(q, g, s)| Event::Place(q, g, s)),
        1 => (0..4_usize, 0..3_u8, any::<usize>()).prop_map(|(q, g, h)| Event::Enter(q, g, h)),
        2 => any::<usize>().prop_map(Event::TakeAway),
    ]
}

fn request((demand, rules): &(Demand, Rules), group: u8, seed: u64) -> Request {
    Request {
        demand: demand.clone(),
        rules: rules.clone(),
        group: Group::from(["a", "b", "service:web"][usize::from(group)]),
        seed,
    }
}

/// Lets the same happen to both, and compares them.
fn compare(
    hosts: &[Host],
    questions: &[(Demand, Rules)],
    events: &[Event],
) -> Result<(), TestCaseError> {
    let world = world(hosts);
    let mut ledger = Ledger::of(&world);
    let mut scan = Scan::of(&world);
    for event in events {
        match event {
            Event::Place(question, group, seed) => {
                let request = request(&questions[question % questions.len()], *group, *seed);
                let (ours, theirs) = (ledger.place(&request), scan.place(&request));
                match (&ours, &theirs) {
                    (Ok(ours), Ok(theirs)) => prop_assert_eq!(ours, theirs, "{:?}", request),
                    (Err(ours), Err(theirs)) => {
                        prop_assert_eq!(&*ours.refusals, theirs, "{:?}", request)
                    }
                    _ => prop_assert!(false, "{ours:?} {theirs:?} {request:?}"),
                }
            }
            Event::Enter(question, group, host) => {
                let request = request(&questions[question % questions.len()], *group, 0);
                if let Some((name, _)) = world.instances.iter().nth(host % hosts.len().max(1))
                    && ledger.place_on(name, &request).is_ok()
                {
                    scan.enter(name, &request);
                }
            }
            Event::TakeAway(n) => {
                if let Some((host, request)) = scan.take_away(*n) {
                    ledger.give_back(&host, &request);
                }
            }
        }
    }
    for name in world.instances.keys() {
        let left = ledger.remaining(name).unwrap();
        prop_assert_eq!(
            [left.cpu, left.memory],
            [scan.free(name)[0], scan.free(name)[1]]
        );
    }
    Ok(())
}

proptest! {
    #![proptest_config(common::cases(1000))]

    /// Step 1.3 of `docs/ecs-rules.md`.
    #[test]
    fn the_index_chooses_and_explains_as_a_scan_does(
        hosts in prop::collection::vec(host(), 0..14),
        questions in prop::collection::vec((demand(), rules()), 1..4),
        events in prop::collection::vec(event(), 1..40),
    ) {
        compare(&hosts, &questions, &events)?;
    }

    /// Nothing is over-committed, what is distinct stays distinct, and what is nowhere has a reason everywhere.
    #[test]
    fn no_host_gives_more_than_it_has_and_every_refusal_has_its_reasons(
        hosts in prop::collection::vec(host(), 1..10),
        questions in prop::collection::vec((demand(), rules()), 1..4),
        events in prop::collection::vec(event(), 1..60),
    ) {
        let world = world(&hosts);
        let mut ledger = Ledger::of(&world);
        let mut placed: BTreeMap<InstanceName, Vec<Request>> = BTreeMap::new();
        for event in &events {
            let Event::Place(question, group, seed) = event else { continue };
            let request = request(&questions[question % questions.len()], *group, *seed);
            let objections = |host: &InstanceName| ledger.objections(host, &request).unwrap();
            match ledger.clone().place(&request) {
                Ok(host) => {
                    prop_assert!(objections(&host).is_empty(), "it objects to what it takes");
                    prop_assert_eq!(&ledger.place(&request).unwrap(), &host, "the same question, the same answer");
                    let here = placed.entry(host).or_default();
                    if request.rules.constraints.distinct_instance {
                        prop_assert!(here.iter().all(|r| r.group != request.group));
                    }
                    here.push(request);
                }
                Err(why) => {
                    let all: Vec<_> = world.instances.keys().collect();
                    prop_assert_eq!(why.refusals.keys().collect::<Vec<_>>(), all);
                    // Of all that is wrong with a host, the refusal is the first.
                    for (host, refusal) in why.refusals.iter() {
                        let found = objections(host);
                        prop_assert_eq!(found.first(), Some(refusal));
                    }
                    prop_assert!(why.sentence().starts_with("Of ") && why.closest().is_some());
                }
            }
        }
        for (host, requests) in &placed {
            let has = &world.instances[host].host.as_ref().unwrap().registered_resources;
            let sum = |pick: fn(&Demand) -> i64| requests.iter().map(|r| pick(&r.demand)).sum::<i64>();
            prop_assert!(sum(|d| d.cpu) <= has.cpu && sum(|d| d.memory) <= has.memory);
            let shared = i64::try_from(has.gpu.len()).unwrap() - sum(|d| d.gpus);
            prop_assert!(shared >= 0 && sum(|d| d.gpu_memory) <= shared * GPU_MEMORY);
            let mut ports = BTreeSet::from([22]);
            for port in requests.iter().flat_map(|r| &r.demand.ports) {
                prop_assert!(ports.insert(*port), "port {port} twice on {host}");
            }
        }
    }

    /// Step 1.6 of `docs/ecs-rules.md`.
    #[test]
    fn spread_keeps_zones_and_hosts_within_one(zones in prop::collection::vec(0..3_u8, 1..12), tasks in 1..60_usize) {
        let hosts: Vec<Host> = zones.iter().map(|z| (Some(*z), None, 1 << 20, 1 << 20, 0, 0)).collect();
        let world = world(&hosts);
        let mut ledger = Ledger::of(&world);
        let asked = Request {
            demand: Demand { cpu: 1, memory: 1, ..Demand::default() },
            rules: Rules::default(),
            group: Group::from("service:web"),
            seed: 0,
        };
        let mut by_host: BTreeMap<InstanceName, usize> = world.instances.keys().map(|n| (n.clone(), 0)).collect();
        for _ in 0..tasks {
            *by_host.get_mut(&ledger.place(&asked).unwrap()).unwrap() += 1;
        }
        let within_one = |counts: &[usize]| counts.iter().max().unwrap() - counts.iter().min().unwrap() <= 1;
        let mut by_zone: BTreeMap<u8, Vec<usize>> = BTreeMap::new();
        for (count, zone) in by_host.values().zip(&zones) {
            by_zone.entry(*zone).or_default().push(*count);
        }
        let zones: Vec<usize> = by_zone.values().map(|hosts| hosts.iter().sum()).collect();
        prop_assert!(within_one(&zones), "{by_host:?}");
        prop_assert!(by_zone.values().all(|hosts| within_one(hosts)), "{by_host:?}");
    }
}

proptest! {
    #![proptest_config(common::cases(24))]

    /// The same with rows that are deeper than a few.
    #[test]
    fn the_index_chooses_as_a_scan_does_among_many_hosts(
        hosts in prop::collection::vec(host(), 90..160),
        questions in prop::collection::vec((demand(), rules()), 2..5),
        events in prop::collection::vec(event(), 100..160),
    ) {
        compare(&hosts, &questions, &events)?;
    }
}

/// Step 1.7 of `docs/ecs-rules.md`.
#[test]
fn a_lot_falls_on_everybody_alike() {
    let hosts: Vec<Host> = (0..8)
        .map(|n| (Some(n % 2), None, 1 << 20, 1 << 20, 0, 0))
        .collect();
    let world = world(&hosts);
    let mut counts: BTreeMap<InstanceName, u32> = BTreeMap::new();
    for n in 0..4000_u64 {
        let asked = Request {
            demand: Demand::default(),
            rules: Rules {
                strategy: Chain {
                    steps: Vec::new(),
                    lot: true,
                },
                ..Rules::default()
            },
            group: Group::from("a"),
            seed: tallyman_operator_core::placement::seed(&["uid", &n.to_string()]),
        };
        *counts
            .entry(Ledger::of(&world).place(&asked).unwrap())
            .or_default() += 1;
    }
    assert_eq!(counts.len(), 8);
    assert!(
        counts.values().all(|n| (400..600).contains(n)),
        "{counts:?}"
    );
}
