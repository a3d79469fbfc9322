//! Any graph of containers.

use super::*;

/// One container of a random task: what it waits for among those before it, and how it behaves.
#[derive(Clone, Debug)]
struct Node {
    edges: Vec<(usize, ContainerCondition)>,
    seconds: u64,
    fails: bool,
}

fn node() -> impl Strategy<Value = Node> {
    let condition = prop_oneof![Just(Start), Just(Complete), Just(Success), Just(Healthy)];
    let edges = proptest::collection::vec((0..5usize, condition), 0..3);
    (edges, 1..20u64, prop::bool::weighted(0.15)).prop_map(|(edges, seconds, fails)| Node {
        edges,
        seconds,
        fails,
    })
}

#[derive(Clone, Debug)]
enum Blow {
    Pass(u16),
    Restart { keep: bool },
    Timeout { verb: u8, done: bool },
    Stop,
}

fn blow() -> impl Strategy<Value = Blow> {
    prop_oneof![
        6 => (100..9_000u16).prop_map(Blow::Pass),
        2 => any::<bool>().prop_map(|keep| Blow::Restart { keep }),
        2 => (0..5u8, any::<bool>()).prop_map(|(verb, done)| Blow::Timeout { verb, done }),
        1 => Just(Blow::Stop),
    ]
}

/// The random task, with the conditions of each container; names are listed backwards, so that the order
/// of the definition is never the right one.
fn build(nodes: &[Node]) -> (Rig, Vec<ContainerDefinition>) {
    let name = |index: usize| format!("c{index}");
    let wanted = |index: usize, of: &[ContainerCondition]| {
        nodes.iter().enumerate().any(|(i, node)| {
            let mut edges = node.edges.iter();
            edges.any(|(on, until)| i > 0 && on % i == index && of.contains(until))
        })
    };
    let mut containers = Vec::new();
    let mut programs = Vec::new();
    for (index, node) in nodes.iter().enumerate() {
        let job = wanted(index, &[Complete, Success]);
        let mut edges: Vec<(String, ContainerCondition)> = Vec::new();
        if index > 0 {
            edges.extend(
                node.edges
                    .iter()
                    .map(|(on, until)| (name(on % index), *until)),
            );
        }
        let edges: Vec<_> = edges
            .iter()
            .map(|(on, until)| (on.as_str(), *until))
            .collect();
        let span = SECOND * u32::try_from(node.seconds).unwrap();
        let mut program = if job {
            Program::exits(i64::from(node.fails), span * 2)
        } else {
            Program::runs()
        };
        let mut definition = after(container(&name(index), !job), &edges);
        if wanted(index, &[Healthy]) {
            definition = checked(definition);
            program = program.health_after(span, Health::Healthy);
        }
        programs.push((definition.image.clone(), program));
        containers.insert(0, definition);
    }
    let rig = Rig::new(containers.clone());
    for (image, program) in programs {
        rig.engine.set_program(&image, program);
    }
    (rig, containers)
}

/// Lets the machine turn until it rests; every start and every stop must be in order.
fn turns(rig: &mut Rig, containers: &[ContainerDefinition]) {
    for _ in 0..100 {
        let alive: BTreeSet<String> = containers
            .iter()
            .map(|c| c.name.clone())
            .filter(|name| {
                let state = rig.engine.peek(&rig.name(name));
                state.is_some_and(|state| state.phase.kind().is_alive())
            })
            .collect();
        rig.engine.take_call_log();
        let done = rig.turn().actions.is_empty();
        for call in rig.engine.take_call_log() {
            if matches!(call.outcome, Outcome::Failed(_)) {
                continue;
            }
            let target = containers.iter().find(|c| rig.name(&c.name) == call.target);
            let Some(target) = target else { continue };
            match call.verb {
                Verb::Create | Verb::Start => {
                    for edge in &target.depends_on {
                        let other = rig.engine.peek(&rig.name(&edge.container_name)).unwrap();
                        let holds = match edge.condition {
                            Start => other.started_at.is_some(),
                            Complete => matches!(other.phase, Phase::Exited { .. }),
                            Success => matches!(other.phase, Phase::Exited { exit_code: 0, .. }),
                            Healthy => other.health == Health::Healthy,
                        };
                        assert!(holds, "{} of {} before {edge:?}", call.verb, target.name);
                    }
                }
                Verb::Stop => {
                    let early = containers.iter().find(|other| {
                        let mut edges = other.depends_on.iter();
                        alive.contains(&other.name)
                            && edges.any(|edge| edge.container_name == target.name)
                    });
                    assert!(early.is_none(), "{} stops before {early:?}", target.name);
                }
                _ => {}
            }
        }
        if done {
            return;
        }
    }
    panic!("no rest: {:#?}", rig.machine.record());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    /// Whatever waits for what, and whenever the agent dies: no container is created or started before its
    /// conditions hold, none is stopped before those that wait for it, and the task comes to its end.
    #[test]
    fn any_graph_starts_in_order_and_stops_in_reverse(
        nodes in proptest::collection::vec(node(), 1..6),
        blows in proptest::collection::vec(blow(), 0..25),
    ) {
        let (mut rig, containers) = build(&nodes);
        if containers.iter().all(|c| c.essential == Some(false)) {
            return Ok(());
        }
        let mut stopped = false;
        let list = |rig: &mut Rig| {
            let list = rig.list();
            rig.machine.listed(&list);
        };
        for blow in blows {
            match blow {
                Blow::Pass(millis) => rig.engine.advance(Duration::from_millis(u64::from(millis))),
                Blow::Restart { keep } => {
                    let record = rig.machine.record().clone();
                    rig.restart(keep.then_some(record));
                }
                Blow::Timeout { verb, done } => {
                    let verbs = [Verb::Prepare, Verb::Create, Verb::Start, Verb::Inspect, Verb::Stop];
                    let mishap = if done { Mishap::TimeoutAfter } else { Mishap::TimeoutBefore };
                    rig.engine.next(verbs[usize::from(verb)], mishap);
                }
                Blow::Stop => {
                    stopped = true;
                    rig.want_stop(StopCode::UserInitiated, "enough");
                }
            }
            list(&mut rig);
            turns(&mut rig, &containers);
        }
        rig.engine.mend();
        for _ in 0..120 {
            rig.engine.advance(SECOND * 5);
            list(&mut rig);
            turns(&mut rig, &containers);
        }
        let status = rig.status();
        // A container that exits is not healthy for long enough that another one may count on it.
        let jobs = containers.iter().filter(|c| c.essential == Some(false));
        let fails = nodes.iter().any(|node| node.fails)
            || jobs.clone().any(|job| job.health_check.is_some());
        match status.last_status {
            LastStatus::Running => prop_assert!(!stopped),
            LastStatus::Stopped => prop_assert!(stopped || fails, "{status:?}"),
            other => prop_assert!(false, "{other:?}: {status:?}"),
        }
    }
}

#[test]
fn mounts_and_conditions_make_one_graph() {
    let after = |name: &str, field: &str, value: serde_json::Value| json!({ "name": name, "image": "a", "memory": 6, field: value });
    let circle = [
        after("a", "volumesFrom", json!([{ "sourceContainer": "b" }])),
        after(
            "b",
            "dependsOn",
            json!([{ "containerName": "a", "condition": "START" }]),
        ),
    ];
    let containers: Vec<ContainerDefinition> = circle
        .into_iter()
        .map(|c| serde_json::from_value(c).unwrap())
        .collect();
    let tangles = tallyman_crds::order::tangles(&containers);
    assert!(
        tangles[0].message.contains("must not close a circle"),
        "{tangles:?}"
    );
}

/// ECS_PULL_DEPENDENT_CONTAINERS_UPFRONT.
#[test]
fn images_may_be_pulled_before_what_their_containers_wait_for() {
    for upfront in [false, true] {
        let mut rig = Rig::new(shop());
        rig.host.pull_upfront = upfront;
        let step = rig.turn();
        let pulled: BTreeSet<&str> = step
            .actions
            .iter()
            .filter(|action| action.verb() == Verb::Prepare)
            .map(|action| action.container())
            .collect();
        let wanted: BTreeSet<&str> = if upfront {
            BTreeSet::from(["log", "web", "db", "init"])
        } else {
            BTreeSet::from(["init"])
        };
        assert_eq!(pulled, wanted, "{upfront}");
    }
}
