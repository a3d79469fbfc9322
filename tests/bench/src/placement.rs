//! How many placements a second the operator's core makes, and how that grows with the cluster. In process: no API server, no
//! host, one thread.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use serde_json::json;
use tallyman_crds::ContainerInstance;
use tallyman_operator_core::definition::Demand;
use tallyman_operator_core::liveness::Silence;
use tallyman_operator_core::names::Group;
use tallyman_operator_core::placement::{
    Constraints, Ledger, Preference, Query, Request, Resource, Rules, Strategy,
};
use tallyman_operator_core::{Objects, Settings, World};

use crate::document::Part;
use crate::events;

/// Sizes of the cluster.
const HOSTS: [usize; 3] = [500, 5_000, 10_000];
/// Tasks placed in one measurement; on the smallest cluster 40 a host.
const TASKS: usize = 20_000;
/// Of the median.
const ROUNDS: usize = 15;
/// Placements a second at 5,000 hosts that are the goal.
const GOAL: f64 = 50_000.0;

/// How tasks are placed.
struct Case {
    name: &'static str,
    rules: fn() -> Result<Rules>,
    /// Tasks of one service; the next one has a group of its own.
    service: usize,
}

const CASES: [Case; 6] = [
    Case {
        name: "binpack by memory",
        rules: || {
            Ok(Rules {
                strategy: Strategy {
                    steps: vec![Preference::Binpack(Resource::Memory)],
                    lot: false,
                },
                ..Rules::default()
            })
        },
        service: 1_000,
    },
    Case {
        name: "spread over zones, then hosts",
        rules: || Ok(Rules::default()),
        service: 1_000,
    },
    Case {
        name: "the same, services of 16 tasks",
        rules: || Ok(Rules::default()),
        service: 16,
    },
    Case {
        name: "two memberOf, then spread",
        rules: || {
            let queries = [
                "attribute:ecs.instance-type =~ 'm5\\..*' and attribute:stack != test",
                "not(task:group == service:noisy) and runningTasksCount < 100",
            ];
            Ok(Rules {
                constraints: Constraints {
                    distinct_instance: false,
                    member_of: queries
                        .iter()
                        .map(|q| Query::parse(q).context("a query of the benchmark"))
                        .collect::<Result<_>>()?,
                },
                ..Rules::default()
            })
        },
        service: 1_000,
    },
    Case {
        name: "distinctInstance",
        rules: || {
            Ok(Rules {
                constraints: Constraints {
                    distinct_instance: true,
                    member_of: Vec::new(),
                },
                ..Rules::default()
            })
        },
        service: 400,
    },
    Case {
        name: "random",
        rules: || {
            Ok(Rules {
                strategy: Strategy {
                    steps: Vec::new(),
                    lot: true,
                },
                ..Rules::default()
            })
        },
        service: 1_000,
    },
];

/// Measures, and returns the part of the document.
///
/// # Errors
/// A host or a query of the benchmark is wrong.
pub fn run() -> Result<String> {
    let mut text = String::from(Part::Placement.heading());
    text.push_str(
        "\nThe core alone: no API server, no host, one thread. Hosts have 64 cores and 256 GiB and stand in three zones; a third of \
         them\nis no `m5` and a tenth is of the stack `test`. Tasks of 256 CPU units and 512 MiB come as services of 1,000 (of 400 with \
         `distinctInstance`,\nso that they fit), each a group of its own. Placements a second, medians of ",
    );
    let _ = write!(
        text,
        "{ROUNDS} rounds of {TASKS} placements, the making of the ledger's index included.\n\n"
    );
    text.push_str("| strategy and constraints | 500 hosts | 5,000 hosts | goal | 10,000 hosts | time a task, 10,000 / 500 | goal |\n");
    text.push_str("|---|---|---|---|---|---|---|\n");
    let worlds: Vec<World> = HOSTS
        .iter()
        .map(|n| Ok(gather(&objects(*n)?)))
        .collect::<Result<_>>()?;
    for case in &CASES {
        let rules = (case.rules)()?;
        // In turn, so that all sizes meet the same machine.
        let mut rounds: Vec<Vec<f64>> = vec![Vec::new(); worlds.len()];
        for _ in 0..ROUNDS {
            for (world, rates) in worlds.iter().zip(&mut rounds) {
                rates.push(rate(world, &rules, case.service));
            }
        }
        let rates: Vec<f64> = rounds.into_iter().map(|r| median(r.into_iter())).collect();
        let [small, middle, large] = rates[..] else {
            anyhow::bail!("three sizes are measured");
        };
        println!("{}: {small:.0} {middle:.0} {large:.0} a second", case.name);
        let _ = writeln!(
            text,
            "| {} | {small:.0} | {middle:.0} | {GOAL:.0} | {large:.0} | {:.2} | 3 |",
            case.name,
            small / large
        );
    }
    events::run(&mut text)?;
    Ok(text)
}

/// Placements a second.
fn rate(world: &World, rules: &Rules, service: usize) -> f64 {
    let mut ledger = Ledger::of(world);
    let mut request = Request {
        demand: Demand {
            cpu: 256,
            memory: 512,
            ..Demand::default()
        },
        rules: rules.clone(),
        group: Group::from("service:first"),
        seed: 0,
    };
    let begin = Instant::now();
    for n in 0..TASKS {
        if n % service == 0 {
            request.group = Group::from(format!("service:web-{n}"));
        }
        request.seed = u64::try_from(n)
            .unwrap_or(0)
            .wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let placed = ledger.place(&request);
        assert!(placed.is_ok(), "there is room for all: {placed:?}");
    }
    per_second(TASKS, begin.elapsed())
}

fn gather(objects: &Objects) -> World {
    World::gather(objects, "bench", "default", &Settings::default(), 1)
}

/// Hosts, as an API server would list them.
fn objects(hosts: usize) -> Result<Objects> {
    let mut objects = Objects::default();
    for n in 0..hosts {
        let name = format!("host-{n:05}");
        let host: ContainerInstance = serde_json::from_value(json!({
            "apiVersion": "tallyman.dev/v1alpha1", "kind": "ContainerInstance",
            "metadata": { "name": name, "uid": format!("uid-{n}"), "generation": 1, "finalizers": ["tallyman.dev/in-use"] },
            "spec": { "attributes": [
                { "name": "ecs.availability-zone", "value": format!("zone-{}", n % 3) },
                { "name": "ecs.instance-type", "value": if n % 3 == 2 { "c5.large" } else { "m5.large" } },
                { "name": "stack", "value": if n % 10 == 0 { "test" } else { "prod" } },
            ] },
            "status": { "observedGeneration": 1, "host": {
                "agentVersion": "0.1.0", "engine": "docker 29.1", "engineApiVersion": "1.52", "engineReachable": true,
                "registeredResources": { "cpu": 65536, "memory": 262_144, "ports": [22] },
                "attributes": (0..40).map(|c| json!({ "name": format!("ecs.capability.number-{c}") })).collect::<Vec<_>>(),
            } },
        }))?;
        objects.instances.push(Arc::new(host));
        objects
            .silence
            .insert(name, Silence::since_heard(Duration::ZERO));
    }
    Ok(objects)
}

#[expect(
    clippy::cast_precision_loss,
    reason = "counts of a benchmark are far below 2^52"
)]
fn per_second(count: usize, time: Duration) -> f64 {
    count as f64 / time.as_secs_f64()
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
