//! Where tasks run: constraints and strategies over attributes of real hosts.

use std::collections::BTreeMap;

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use tallyman_lab::wait_until;

use crate::suite::Scenario;
use crate::user::{PATIENCE, User, checked, condition, hello, service};

/// Scenarios of this file.
pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "tasks run where memberOf holds, spread over an attribute of the hosts",
        run: member_of_and_spread,
    },
    Scenario {
        name: "distinctInstance runs one task of a service on a host",
        run: distinct,
    },
    Scenario {
        name: "a service whose memberOf holds nowhere says why in kubectl describe",
        run: nowhere,
    },
    Scenario {
        name: "an expression that does not parse is refused with its column, and others go on",
        run: bad_expression,
    },
];

/// What the operator says, whatever the engine.
pub const TOLD: &[Scenario] = &[Scenario {
    name: "kubectl describe has the sentences of ECS about GPUs, addresses, constraints, zones and agents",
    run: sentences,
}];

/// Gives the three hosts these custom attributes for as long as `story` takes.
fn with_attributes(
    user: &User<'_>,
    attributes: [&[(&str, &str)]; 3],
    story: impl FnOnce() -> Result<()>,
) -> Result<()> {
    let set = |host: usize, list: &[(&str, &str)]| -> Result<()> {
        let attribute = |(name, value): &(&str, &str)| json!({ "name": name, "value": value });
        let list: Vec<Value> = list.iter().map(attribute).collect();
        let patch = json!({ "spec": { "attributes": list } }).to_string();
        let name = user.lab.host(host).name();
        let kind = "containerinstances.tallyman.dev";
        user.k(&["patch", kind, name, "--type=merge", "-p", &patch])?;
        Ok(())
    };
    for (host, list) in attributes.iter().enumerate() {
        set(host, list)?;
    }
    let told = story();
    for host in 0..attributes.len() {
        set(host, &[])?;
    }
    told
}

/// Running containers of a service by number of the host, as the engines say.
fn by_host(user: &User<'_>, service: &str) -> Result<[usize; 3]> {
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for c in user.containers()? {
        if c.state == "running" && c.task.starts_with(&format!("{service}-")) {
            *counts.entry(c.host).or_default() += 1;
        }
    }
    Ok([0, 1, 2].map(|n| counts.get(user.lab.host(n).name()).copied().unwrap_or(0)))
}

fn with(mut object: Value, more: &[(&str, Value)]) -> Value {
    for (field, value) in more {
        object["spec"][*field] = value.clone();
    }
    object
}

fn member_of_and_spread(user: &User<'_>) -> Result<()> {
    let attributes: [&[(&str, &str)]; 3] = [
        &[("stack", "prod"), ("rack", "1")],
        &[("stack", "prod"), ("rack", "2")],
        &[("stack", "test"), ("rack", "3")],
    ];
    with_attributes(user, attributes, || {
        let rules = [
            (
                "placementConstraints",
                json!([{ "type": "memberOf", "expression": "attribute:stack == prod" }]),
            ),
            (
                "placementStrategy",
                json!([{ "type": "spread", "field": "attribute:rack" }]),
            ),
        ];
        user.apply(&[checked("where", "x"), with(service("where", 4), &rules)])?;
        user.wait_steady("where", 4)?;
        let found = by_host(user, "where")?;
        ensure!(found == [2, 2, 0], "tasks by host: {found:?}");
        // Scale-in keeps the balance; what is packed fills one host.
        user.k(&["scale", "services.tallyman.dev/where", "--replicas=2"])?;
        user.wait_steady("where", 2)?;
        wait_until("the others to have stopped", PATIENCE, || {
            let found = by_host(user, "where")?;
            ensure!(found == [1, 1, 0], "tasks by host: {found:?}");
            Ok(true)
        })?;
        user.delete(&["where"])?;
        // Here the constraint is the definition's.
        let mut definition = hello("packed", "x");
        definition["spec"][rules[0].0] = rules[0].1.clone();
        let packed = [(
            "placementStrategy",
            json!([{ "type": "binpack", "field": "memory" }]),
        )];
        user.apply(&[definition, with(service("packed", 3), &packed)])?;
        user.wait_steady("packed", 3)?;
        let found = by_host(user, "packed")?;
        ensure!(
            found.contains(&3) && found[2] == 0,
            "tasks by host: {found:?}"
        );
        user.delete(&["packed"])
    })
}

fn distinct(user: &User<'_>) -> Result<()> {
    let rules = [(
        "placementConstraints",
        json!([{ "type": "distinctInstance" }]),
    )];
    user.apply(&[hello("apart", "x"), with(service("apart", 4), &rules)])?;
    wait_until(
        "three to run and one to say why it does not",
        PATIENCE,
        || {
            let found = by_host(user, "apart")?;
            ensure!(found == [1, 1, 1], "tasks by host: {found:?}");
            let (_, reason, message) = condition(&user.get("services", "apart")?, "Ready");
            let told = message.contains("1 of 4 tasks cannot be placed. Of 3 hosts, 3 already run a task of `service:apart`");
            ensure!(reason == "TasksNotPlaceable" && told, "{reason}: {message}");
            Ok(true)
        },
    )?;
    user.k(&["scale", "services.tallyman.dev/apart", "--replicas=3"])?;
    user.wait_steady("apart", 3)?;
    user.delete(&["apart"])
}

fn nowhere(user: &User<'_>) -> Result<()> {
    let constraint = json!([{ "type": "memberOf", "expression": "attribute:stack == nowhere" }]);
    let rules = [("placementConstraints", constraint)];
    user.apply(&[hello("nowhere", "x"), with(service("nowhere", 2), &rules)])?;
    wait_until("kubectl describe to say why", PATIENCE, || {
        let text = user.k(&["describe", "services.tallyman.dev", "nowhere"])?;
        // kubectl breaks no lines, but pads them.
        for part in [
            "2 of 2 tasks cannot be placed. Of 3 hosts, 3 do not meet `memberOf` (`attribute:stack == nowhere` is not true of",
            "TaskPlacementFailure",
            "(service nowhere) was unable to place a task because no container instance met all of its requirements.",
            "encountered error \"MemberOf placement constraint unsatisfied.\"",
        ] {
            ensure!(text.contains(part), "it lacks '{part}':\n{text}");
        }
        Ok(true)
    })?;
    // A host that comes to meet it gets the tasks at once.
    with_attributes(user, [&[], &[("stack", "nowhere")], &[]], || {
        user.wait_steady("nowhere", 2)?;
        let found = by_host(user, "nowhere")?;
        ensure!(found == [0, 2, 0], "tasks by host: {found:?}");
        user.delete(&["nowhere"])
    })
}

fn bad_expression(user: &User<'_>) -> Result<()> {
    let constraint = |expression: &str| {
        let list = json!([{ "type": "memberOf", "expression": expression }]);
        [("placementConstraints", list)]
    };
    user.apply(&[
        hello("wrong", "x"),
        with(service("wrong", 1), &constraint("attribute:stack prod")),
        with(hello("wrong-too", "x"), &constraint("agentVersion >= newest")),
        json!({
            "kind": "Task", "metadata": { "name": "wrong-task" },
            "spec": { "taskDefinition": "wrong", "placementConstraints": constraint("task:group ==")[0].1 },
        }),
        hello("right", "x"),
        service("right", 1),
    ])?;
    let rows = [
        (
            "services",
            "wrong",
            "`spec.placementConstraints[0].expression`, column 17: expected an operator such as `==` or `in` after \
             `attribute:stack`, not `prod`.",
        ),
        (
            "taskdefinitions",
            "wrong-too",
            "`spec.placementConstraints[0].expression`, column 17: expected a version such as `1.14.5`, not `newest`.",
        ),
        (
            "tasks",
            "wrong-task",
            "`spec.placementConstraints[0].expression`, column 14: expected a value, but the expression ends.",
        ),
    ];
    for (kind, name, sentence) in rows {
        wait_until(format!("{kind} {name} to be Stalled"), PATIENCE, || {
            let (stalled, _, message) = condition(&user.get(kind, name)?, "Stalled");
            ensure!(stalled == "True" && message == sentence, "{message}");
            Ok(true)
        })?;
    }
    user.wait_steady("right", 1)?;
    user.k(&[
        "delete",
        "tasks.tallyman.dev",
        "wrong-task",
        "--timeout=60s",
    ])?;
    user.delete(&["wrong", "wrong-too", "right"])
}

/// What `kubectl describe` says of a service until it has all of `parts`.
fn described(user: &User<'_>, service: &str, parts: &[&str]) -> Result<()> {
    wait_until(format!("the sentences of {service}"), PATIENCE, || {
        let text = user.k(&["describe", "services.tallyman.dev", service])?;
        for part in parts {
            ensure!(text.contains(part), "it lacks '{part}':\n{text}");
        }
        Ok(true)
    })
}

fn set_status(user: &User<'_>, host: usize, status: &str) -> Result<()> {
    let patch = json!({ "spec": { "status": status } }).to_string();
    let kind = "containerinstances.tallyman.dev";
    let name = user.lab.host(host).name();
    user.k(&["patch", kind, name, "--type=merge", "-p", &patch])?;
    Ok(())
}

fn sentences(user: &User<'_>) -> Result<()> {
    let zone = "ecs.availability-zone";
    let none = ("tallyman.dev/task-addresses", "0");
    let attributes: [&[(&str, &str)]; 3] = [
        &[(zone, "a"), none],
        &[(zone, "a"), none],
        &[(zone, "b"), none],
    ];
    with_attributes(user, attributes, || {
        let mut gpus = hello("gpus", "x");
        gpus["spec"]["containerDefinitions"][0]["resourceRequirements"] =
            json!([{ "type": "GPU", "value": "99" }]);
        let mut address = hello("address", "x");
        address["spec"]["networkMode"] = json!("awsvpc");
        let apart = json!([{ "type": "distinctInstance" }]);
        user.apply(&[
            gpus,
            service("gpus", 1),
            address,
            service("address", 1),
            hello("apart", "x"),
            with(service("apart", 4), &[("placementConstraints", apart)]),
        ])?;
        let rows = [
            ("gpus", "RESOURCE:GPU"),
            ("address", "RESOURCE:ENI"),
            (
                "apart",
                "DistinctInstance placement constraint unsatisfied.",
            ),
        ];
        for (name, error) in rows {
            let error = format!("encountered error \"{error}\".");
            described(user, name, &[&error])?;
        }
        user.delete(&["gpus", "address", "apart"])?;

        // Four tasks in zone a, and the host of zone b comes back.
        set_status(user, 2, "DRAINING")?;
        user.apply(&[checked("zones", "x"), service("zones", 4)])?;
        user.wait_steady("zones", 4)?;
        set_status(user, 2, "ACTIVE")?;
        let uneven = "(service zones) is not AZ balanced with 4 tasks in a, 0 tasks in b. AZ Rebalancing in progress.";
        described(user, "zones", &[uneven])?;
        let moved = [
            "(service zones) has started 1 tasks in b to AZ Rebalance: (task zones-000005).",
            "(service zones) has stopped 1 running tasks in a due to AZ rebalancing: (task zones-",
            "(service zones) is AZ balanced with 2 tasks in a, 2 tasks in b.",
        ];
        described(user, "zones", &moved)?;
        user.wait_steady("zones", 4)?;
        user.delete(&["zones"])
    })?;

    // Of hosts that drain and one whose agent is silent, the latter came closest.
    let silent = user.lab.host(1);
    silent.agent().kill9()?;
    set_status(user, 0, "DRAINING")?;
    set_status(user, 2, "DRAINING")?;
    wait_until("agentConnected to be false", PATIENCE, || {
        let i = user.get("containerinstances", silent.name())?;
        Ok(i["status"]["agentConnected"] == false)
    })?;
    user.apply(&[hello("silent", "x"), service("silent", 1)])?;
    let told = described(user, "silent", &["encountered error \"AGENT\"."]);
    silent.agent().start()?;
    set_status(user, 0, "ACTIVE")?;
    set_status(user, 2, "ACTIVE")?;
    told?;
    user.wait_steady("silent", 1)?;
    user.delete(&["silent"])
}
