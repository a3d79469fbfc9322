//! From task definitions to what the engine is told, field by field.

use crate::rig;
use std::collections::BTreeMap;
use std::time::Duration;

use crate::rig::{container, plan};
use serde_json::json;
use tallyman_agent_core::{PortSpan, TaskBody};
use tallyman_agent_engine::{ContainerSpec, Network, Protocol};
use tallyman_crds::ecs::{ContainerOverride, KeyValuePair, TaskOverride};

/// The spec of a container that is written as ECS JSON.
fn spec(definition: serde_json::Value) -> ContainerSpec {
    spec_in(json!(null), definition)
}

fn spec_in(network: serde_json::Value, definition: serde_json::Value) -> ContainerSpec {
    match body(network, definition) {
        TaskBody::Runnable(containers) => containers[0].spec(1),
        TaskBody::Refused(why) => panic!("refused: {why}"),
    }
}

fn body(network: serde_json::Value, mut definition: serde_json::Value) -> TaskBody {
    let fields = definition.as_object_mut().unwrap();
    fields.entry("name").or_insert(json!("app"));
    fields.entry("image").or_insert(json!("app:1"));
    let mut spec = plan(vec![serde_json::from_value(definition).unwrap()]);
    let planned = spec.definitions.get_mut("web-7").unwrap();
    planned.definition.network_mode = serde_json::from_value(network).unwrap();
    rig::assigned(spec).body
}

fn refusal(definition: serde_json::Value) -> String {
    match body(json!(null), definition) {
        TaskBody::Refused(why) => why,
        TaskBody::Runnable(_) => panic!("not refused"),
    }
}

#[test]
fn nothing_given_is_what_ecs_gives() {
    let spec = spec(json!({}));
    assert_eq!(spec.name, "ecs-web-7-app-550e8400e2");
    assert_eq!(spec.cpu_shares, Some(2));
    assert_eq!(spec.memory_bytes, None);
    assert_eq!(spec.network, Network::Bridge);
    assert_eq!(spec.entrypoint, None);
    assert_eq!(spec.command, None);
    assert_eq!(spec.stop_timeout, Some(Duration::from_secs(30)));
    assert_eq!(spec.health_check, None);
    let environment = [("AWS_EXECUTION_ENV".to_owned(), "AWS_ECS_EC2".to_owned())];
    assert!(spec.ports.is_empty() && spec.environment == environment);
}

#[test]
fn cpu_is_clamped_and_memory_raised_to_what_engines_take() {
    for (cpu, shares) in [(0, 2), (1, 2), (2, 2), (512, 512), (999_999, 262_144)] {
        assert_eq!(
            spec(json!({ "cpu": cpu })).cpu_shares,
            Some(shares),
            "cpu {cpu}"
        );
    }
    const MIB: i64 = 1024 * 1024;
    for (memory, bytes) in [
        (0, None),
        (1, Some(6 * MIB)),
        (6, Some(6 * MIB)),
        (512, Some(512 * MIB)),
    ] {
        assert_eq!(
            spec(json!({ "memory": memory })).memory_bytes,
            bytes,
            "memory {memory}"
        );
    }
    let both = spec(json!({ "memory": 512, "memoryReservation": 128 }));
    assert_eq!(both.memory_reservation_bytes, Some(128 * MIB));
}

#[test]
fn ports_are_published_on_the_bridge_only() {
    let ports = json!({ "portMappings": [
        { "containerPort": 80 },
        { "containerPort": 81, "hostPort": 0 },
        { "containerPort": 443, "hostPort": 8443, "protocol": "tcp" },
        { "containerPort": 53, "hostPort": 53, "protocol": "udp" },
    ]});
    let bridge = spec_in(json!("bridge"), ports.clone());
    let told: Vec<_> = bridge
        .ports
        .iter()
        .map(|p| (p.container_port, p.host_port, p.protocol))
        .collect();
    assert_eq!(
        told,
        [
            (443, Some(8443), Protocol::Tcp),
            (53, Some(53), Protocol::Udp)
        ]
    );
    let TaskBody::Runnable(containers) = body(json!("bridge"), ports.clone()) else {
        panic!("refused")
    };
    let dynamic = &containers[0].dynamic;
    assert_eq!(
        *dynamic,
        [80, 81].map(|port| PortSpan::single(port, Protocol::Tcp))
    );
    for (mode, network) in [("host", Network::Host), ("none", Network::None)] {
        let spec = spec_in(json!(mode), ports.clone());
        assert_eq!(spec.network, network);
        assert!(spec.ports.is_empty());
    }
    let TaskBody::Runnable(containers) = body(json!("host"), ports) else {
        panic!("refused")
    };
    assert_eq!(containers[0].exposed.len(), 4);
}

#[test]
fn labels_are_ours_where_they_are_reserved() {
    let labels = spec(json!({ "dockerLabels": {
        "team": "blue",
        "com.amazonaws.ecs.cluster": "evil",
        "tallyman.dev/task-uid": "evil",
    }}))
    .labels;
    let expected: BTreeMap<String, String> = [
        ("team", "blue"),
        (
            "com.amazonaws.ecs.task-arn",
            "arn:aws:ecs::shop:task/default/web-000001",
        ),
        ("com.amazonaws.ecs.container-name", "app"),
        ("com.amazonaws.ecs.task-definition-family", "web"),
        ("com.amazonaws.ecs.task-definition-version", "7"),
        ("com.amazonaws.ecs.cluster", "default"),
        ("tallyman.dev/task-uid", rig::UID),
        ("tallyman.dev/task", "web-000001"),
        ("tallyman.dev/namespace", "shop"),
        ("tallyman.dev/container-instance-uid", rig::INSTANCE),
        ("tallyman.dev/attempt", "1"),
    ]
    .map(|(k, v)| (k.to_owned(), v.to_owned()))
    .into();
    assert_eq!(labels, expected);
}

#[test]
fn programs_users_and_folders_are_told_as_written() {
    let spec = spec(json!({
        "entryPoint": ["sh", "-c"],
        "command": ["echo hello"],
        "user": "1000:1000",
        "workingDirectory": "/srv",
        "stopTimeout": 90,
        "environment": [{ "name": "A", "value": "1" }, { "name": "B" }],
    }));
    assert_eq!(spec.entrypoint.unwrap(), ["sh", "-c"]);
    assert_eq!(spec.command.unwrap(), ["echo hello"]);
    assert_eq!(spec.user.as_deref(), Some("1000:1000"));
    assert_eq!(spec.working_directory.as_deref(), Some("/srv"));
    assert_eq!(spec.stop_timeout, Some(Duration::from_secs(90)));
    let pairs: Vec<_> = spec
        .environment
        .iter()
        .map(|(k, v)| (k.as_str(), v.as_str()))
        .collect();
    assert_eq!(pairs[..2], [("A", "1"), ("B", "")]);
}

#[test]
fn overrides_win_by_name_and_leave_the_rest() {
    let mut app = container("app", true);
    app.command = vec!["serve".to_owned()];
    app.cpu = Some(100);
    let pair = |name: &str, value: &str| KeyValuePair {
        name: Some(name.to_owned()),
        value: Some(value.to_owned()),
    };
    app.environment = vec![pair("A", "1"), pair("B", "2")];
    let mut spec = plan(vec![app, container("other", false)]);
    spec.tasks[0].overrides = Some(TaskOverride {
        container_overrides: vec![ContainerOverride {
            name: Some("app".to_owned()),
            command: vec!["migrate".to_owned()],
            environment: vec![pair("C", "3"), pair("A", "9")],
            cpu: Some(200),
            memory: Some(256),
            ..ContainerOverride::default()
        }],
        ..TaskOverride::default()
    });
    let task = rig::assigned(spec);
    let app = task.containers()[0].spec(1);
    assert_eq!(app.command.unwrap(), ["migrate"]);
    assert_eq!(app.cpu_shares, Some(200));
    assert_eq!(app.memory_bytes, Some(256 * 1024 * 1024));
    let pairs: Vec<_> = app
        .environment
        .iter()
        .map(|(k, v)| (k.as_str(), v.as_str()))
        .collect();
    assert_eq!(pairs[..3], [("A", "9"), ("B", "2"), ("C", "3")]);
    assert_eq!(task.containers()[1].spec(1).command, None);
}

#[test]
fn links_lead_to_the_engines_name_under_their_alias() {
    let mut web = container("web", true);
    web.links = vec!["db:store".to_owned(), "cache".to_owned()];
    let others = || vec![container("db", true), container("cache", true)];
    let mut definitions = others();
    definitions.push(web.clone());
    let task = rig::assigned(plan(definitions));
    let links = task.containers()[2].spec(1).links;
    let links: Vec<_> = links
        .iter()
        .map(|l| (l.container.as_str(), l.alias.as_str()))
        .collect();
    assert_eq!(
        links,
        [
            ("ecs-web-7-db-550e8400e2", "store"),
            ("ecs-web-7-cache-550e8400e2", "cache")
        ]
    );
    let waits: Vec<_> = task.containers()[2]
        .edges
        .iter()
        .map(|edge| edge.on.as_str())
        .collect();
    assert_eq!(waits, ["db", "cache"], "what is linked starts first");

    let mut definitions = others();
    definitions.push(web);
    let mut spec = plan(definitions);
    let planned = spec.definitions.get_mut("web-7").unwrap();
    planned.definition.network_mode = Some(tallyman_crds::ecs::NetworkMode::Host);
    let TaskBody::Refused(why) = rig::assigned(spec).body else {
        panic!("not refused")
    };
    assert_eq!(why, "Container `web`: `links` need `networkMode: bridge`.");
}

#[test]
fn health_checks_have_ecs_defaults_and_can_be_switched_off() {
    let check = spec(json!({ "healthCheck": { "command": ["CMD", "true"] } }))
        .health_check
        .unwrap();
    assert_eq!(check.interval, Duration::from_secs(30));
    assert_eq!(check.timeout, Duration::from_secs(5));
    assert_eq!(check.retries, 3);
    assert_eq!(check.start_period, None);
    let check = spec(json!({ "healthCheck": {
        "command": ["CMD-SHELL", "true"], "interval": 5, "timeout": 2, "retries": 1, "startPeriod": 10,
    }}))
    .health_check
    .unwrap();
    assert_eq!(
        (check.interval, check.timeout),
        (Duration::from_secs(5), Duration::from_secs(2))
    );
    assert_eq!(
        (check.retries, check.start_period),
        (1, Some(Duration::from_secs(10)))
    );
    let TaskBody::Runnable(containers) = body(
        json!(null),
        json!({ "healthCheck": { "command": ["NONE"] } }),
    ) else {
        panic!("refused")
    };
    assert!(!containers[0].health_checked);
    assert_eq!(containers[0].spec(1).health_check.unwrap().test, ["NONE"]);
}

#[test]
fn what_no_engine_can_be_told_is_refused_with_the_field() {
    for (definition, field) in [
        (json!({ "image": " " }), "`image`"),
        (
            json!({ "portMappings": [{ "containerPort": 70000 }] }),
            "`portMappings.containerPort` 70000",
        ),
        (
            json!({ "portMappings": [{ "containerPortRange": "90-80" }] }),
            "`portMappings.containerPortRange` `90-80`",
        ),
        (
            json!({ "portMappings": [{ "containerPort": 0 }] }),
            "`portMappings.containerPort` 0",
        ),
        (
            json!({ "portMappings": [{ "containerPort": 80, "hostPort": -1 }] }),
            "`portMappings.hostPort` -1",
        ),
        (
            json!({ "environment": [{ "value": "x" }] }),
            "`environment`",
        ),
        (
            json!({ "healthCheck": { "command": [] } }),
            "`healthCheck.command`",
        ),
    ] {
        let why = refusal(definition);
        assert!(why.contains(field) && why.contains("`app`"), "{why}");
    }
    let twice = plan(vec![container("app", true), container("app", true)]);
    let TaskBody::Refused(why) = rig::assigned(twice).body else {
        panic!("not refused")
    };
    assert!(why.contains("`app`"), "{why}");
}

#[test]
fn a_second_attempt_has_a_name_and_a_label_of_its_own() {
    let task = rig::assigned(plan(vec![container("app", true)]));
    let second = task.containers()[0].spec(2);
    assert_eq!(second.name, "ecs-web-7-app-550e8400e2-2");
    assert_eq!(second.labels["tallyman.dev/attempt"], "2");
}
