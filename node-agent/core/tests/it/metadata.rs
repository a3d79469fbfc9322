//! What containers are told of themselves, as documents.

use crate::rig;
use std::collections::BTreeMap;
use std::time::Duration;

use crate::rig::Rig;
use serde::Serialize;
use serde_json::{Value, json};
use tallyman_agent_core::metadata::documents::{self, Version};
use tallyman_agent_core::metadata::{Place, file, introspection};
use tallyman_agent_engine::Health;

fn place() -> Place {
    Place {
        namespace: "shop".to_owned(),
        region: Some("eu-north-1".to_owned()),
        availability_zone: Some("eu-north-1a".to_owned()),
        container_instance: "host-a".to_owned(),
        address: Some("10.0.0.5".to_owned()),
        tags: [("rack", "overruled"), ("row", "7")]
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .into(),
    }
}

/// A web server with all that is told, and a job beside it, of a service.
fn rig() -> Rig {
    let containers = json!([
        {
            "name": "web", "image": "web:1", "cpu": 100, "memory": 64, "essential": true,
            "portMappings": [{ "containerPort": 80 }],
            "dockerLabels": { "team": "shop" },
            "healthCheck": { "command": ["CMD", "true"], "interval": 5 },
            "mountPoints": [{ "sourceVolume": "data", "containerPath": "/data" }],
            "logConfiguration": { "logDriver": "json-file", "options": { "max-size": "1m" } },
            "restartPolicy": { "enabled": true },
        },
        { "name": "job", "image": "job:1", "essential": false, "memory": 8 },
    ]);
    let volumes = json!([{ "name": "data", "host": { "sourcePath": "/srv/data" } }]);
    let mut spec = rig::written(&containers, &volumes);
    spec.tasks[0].group = Some("service:web".to_owned());
    for definition in spec.definitions.values_mut() {
        definition.definition.cpu = Some(".25 vCPU".to_owned());
        definition.definition.memory = Some("128".to_owned());
    }
    Rig::of(spec)
}

fn pretty(document: &impl Serialize) -> String {
    serde_json::to_string_pretty(document).unwrap()
}

#[test]
fn a_running_task_is_told_in_full() {
    let mut rig = rig();
    rig.settle_down();
    rig.run(Duration::from_secs(5));
    let name = rig.name("web");
    rig.engine.set_health(&name, Health::Healthy);
    rig.run(Duration::from_secs(15));
    let sight = rig.machine.sight();
    insta::assert_snapshot!(
        "task-v4",
        pretty(&documents::task(&sight, &place(), Version::Four))
    );
    insta::assert_snapshot!(
        "container-v3",
        pretty(&documents::container(
            &sight,
            &place(),
            "web",
            Version::Three
        ))
    );
    insta::assert_snapshot!(
        "introspection",
        pretty(&introspection::task(&sight, &place()))
    );
    insta::assert_snapshot!("file-ready", pretty(&file::of(&sight, &place(), "web")));
}

#[test]
fn a_task_without_containers_yet_is_told_as_far_as_it_is_known() {
    let rig = rig();
    let sight = rig.machine.sight();
    let task = serde_json::to_value(documents::task(&sight, &place(), Version::Four)).unwrap();
    assert_eq!(task["KnownStatus"], "NONE");
    assert_eq!(task["Containers"], json!([]));
    assert!(documents::container(&sight, &place(), "web", Version::Four).is_none());
    insta::assert_snapshot!("file-initial", pretty(&file::of(&sight, &place(), "web")));
}

#[test]
fn tags_of_task_and_host_are_told_to_who_asks_for_them() {
    let containers = json!([{ "name": "web", "memory": 8 }]);
    let mut spec = rig::written(&containers, &json!([]));
    spec.tasks[0].tags = [("team".to_owned(), "shop".to_owned())].into();
    spec.container_instance_tags = [("rack".to_owned(), String::new())].into();
    let sight = Rig::of(spec).machine.sight();
    for version in [Version::Three, Version::Four] {
        let told = serde_json::to_value(documents::task(&sight, &place(), version)).unwrap();
        assert!(told.get("TaskTags").is_none() && told.get("ContainerInstanceTags").is_none());
        let with_tags = documents::task_with_tags(&sight, &place(), version);
        let told = serde_json::to_value(with_tags).unwrap();
        assert_eq!(told["TaskTags"], json!({ "team": "shop" }));
        assert_eq!(
            told["ContainerInstanceTags"],
            json!({ "rack": "", "row": "7" })
        );
    }
}

/// On the host's network its ports are the host's, and it has no address of its own. Ports at the task's own address are
/// nobody else's, so none are told.
#[test]
fn networks_and_ports_are_those_of_the_network_mode() {
    for mode in ["bridge", "host", "awsvpc"] {
        let containers = json!([{
            "name": "web", "memory": 8,
            "portMappings": [{ "containerPort": 80 }, { "containerPort": 53, "protocol": "udp" }],
        }]);
        let mut spec = rig::written(&containers, &json!([]));
        for definition in spec.definitions.values_mut() {
            definition.definition.network_mode = serde_json::from_value(json!(mode)).unwrap();
        }
        let mut rig = Rig::of(spec);
        rig.settle_down();
        rig.run(Duration::from_secs(5));
        let sight = rig.machine.sight();
        let document = documents::container(&sight, &place(), "web", Version::Four);
        let told = serde_json::to_value(document).unwrap();
        let ports: BTreeMap<(i64, String), i64> = told["Ports"]
            .as_array()
            .into_iter()
            .flatten()
            .map(|port| {
                let number = |of: &str| port[of].as_i64().unwrap();
                let protocol = port["Protocol"].as_str().unwrap().to_owned();
                ((number("ContainerPort"), protocol), number("HostPort"))
            })
            .collect();
        let inside: Vec<(i64, &str)> = ports.keys().map(|(port, p)| (*port, p.as_str())).collect();
        match mode {
            "awsvpc" => assert!(inside.is_empty(), "{told}"),
            _ => assert_eq!(inside, [(53, "udp"), (80, "tcp")], "{mode}: {told}"),
        }
        let same = ports.iter().all(|((inside, _), outside)| inside == outside);
        assert_eq!(same, mode != "bridge", "{told}");
        let networks = told["Networks"].as_array().unwrap();
        assert_eq!(networks.len(), 1, "{mode}: {told}");
        assert_eq!(networks[0]["NetworkMode"], mode, "{told}");
        let of_its_own = networks[0].get("IPv4Addresses").is_some();
        assert_eq!(of_its_own, mode != "host", "{told}");
        let interface = networks[0].get("AttachmentIndex").is_some();
        assert_eq!(interface, mode == "awsvpc", "{told}");
    }
}

#[test]
fn what_has_ended_says_how() {
    let mut rig = rig();
    rig.settle_down();
    rig.run(Duration::from_secs(5));
    let name = rig.name("job");
    assert!(rig.engine.exit(&name, 3));
    rig.run(Duration::from_secs(15));
    let sight = rig.machine.sight();
    let told = |name: &str| -> Value {
        let document = documents::container(&sight, &place(), name, Version::Four);
        serde_json::to_value(document).unwrap()
    };
    let job = told("job");
    assert_eq!(job["KnownStatus"], "STOPPED");
    assert_eq!(job["DesiredStatus"], "STOPPED");
    assert_eq!(job["ExitCode"], 3);
    assert!(job["FinishedAt"].is_string());
    assert_eq!(job["Networks"], json!([{ "NetworkMode": "bridge" }]));
    assert_eq!(told("web")["DesiredStatus"], "RUNNING");
}
