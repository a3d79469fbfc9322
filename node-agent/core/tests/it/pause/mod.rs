//! Tasks with a pause container: what it is, that all others join it and outlive it never, and that no crash doubles or
//! loses anything.

mod beside;
mod crashes;

use crate::rig;
use std::time::Duration;

use crate::rig::{Rig, written};
use proptest::prelude::*;
use serde_json::{Value, json};
use tallyman_agent_core::pause::NAME;
use tallyman_agent_core::{Assignment, Plan, TaskBody};
use tallyman_agent_engine::fake::{Crash, Mishap, Outcome};
use tallyman_agent_engine::{ContainerSpec, EngineError, Ipc, Network, Phase, Processes, Verb};
use tallyman_crds::{HostPlanSpec, LastStatus, StopCode, TaskDefinitionSpec, labels};

const SECOND: Duration = Duration::from_secs(1);

/// Two containers, in a task that shares what `modes` say.
fn plan(modes: &Value) -> HostPlanSpec {
    let containers = json!([
        { "name": "web", "memory": 64, "portMappings": [{ "containerPort": 80 }, { "containerPort": 53, "protocol": "udp" }] },
        { "name": "log", "memory": 64, "essential": false },
    ]);
    let mut spec = written(&containers, &json!([]));
    let planned = spec.definitions.get_mut("web-7").unwrap();
    let mut definition = serde_json::to_value(&planned.definition).unwrap();
    for (key, value) in modes.as_object().unwrap() {
        definition[key] = value.clone();
    }
    planned.definition = serde_json::from_value::<TaskDefinitionSpec>(definition).unwrap();
    spec
}

fn awsvpc() -> Value {
    json!({ "networkMode": "awsvpc" })
}

fn created(rig: &Rig, container: &str) -> ContainerSpec {
    rig.engine.spec(&rig.name(container)).unwrap()
}

fn runs(rig: &Rig, container: &str) -> bool {
    let state = rig.engine.peek(&rig.name(container));
    state.is_some_and(|state| matches!(state.phase, Phase::Running { .. }))
}

/// Names of containers in the order in which a verb was carried out.
fn order(rig: &Rig, verb: Verb) -> Vec<String> {
    let containers = rig.machine.task().containers();
    let called = rig.engine.call_log().into_iter();
    called
        .filter(|call| call.verb == verb && !matches!(call.outcome, Outcome::Failed(_)))
        .filter_map(|call| {
            let container = containers
                .iter()
                .find(|c| c.engine_name(1) == call.target)?;
            Some(container.name.clone())
        })
        .collect()
}

#[test]
fn a_task_with_an_address_of_its_own_shares_it_and_tells_it() {
    let mut rig = Rig::of(plan(&awsvpc()));
    rig.settle_down();
    assert_eq!(order(&rig, Verb::Start), [NAME, "web", "log"]);
    let pause = created(&rig, NAME);
    assert_eq!(pause.network, Network::Named("tallyman".to_owned()));
    assert_eq!(pause.labels[labels::ecs::CONTAINER_NAME], NAME);
    assert_eq!(pause.labels[labels::CONTAINER_INSTANCE_UID], rig::INSTANCE);
    assert_eq!(pause.parameters.dropped_capabilities, ["ALL"]);
    assert!(pause.ports.is_empty());
    for member in ["web", "log"] {
        let spec = created(&rig, member);
        assert_eq!(spec.network, Network::Container(rig.name(NAME)));
        assert_eq!(spec.parameters.processes, Processes::Own);
        assert_eq!(spec.parameters.ipc, Ipc::Engine);
        assert!(spec.ports.is_empty());
    }
    let network = rig.engine.network_labels("tallyman").unwrap();
    assert!(network.contains_key(labels::TASK_NETWORK));

    let status = rig.status();
    assert_eq!(status.last_status, LastStatus::Running);
    let names: Vec<&str> = status.containers.iter().map(|c| c.name.as_str()).collect();
    assert_eq!(
        names,
        ["web", "log"],
        "the pause container is nobody's business"
    );
    let attachment = &status.attachments[0];
    assert_eq!(attachment.r#type, "ElasticNetworkInterface");
    assert_eq!(attachment.status, "ATTACHED");
    let detail = |name: &str| {
        let found = attachment
            .details
            .iter()
            .find(|d| d.name.as_deref() == Some(name));
        found.and_then(|d| d.value.clone()).unwrap_or_default()
    };
    let address = rig.engine.peek(&rig.name(NAME)).unwrap().attachments[0]
        .ipv4
        .unwrap()
        .0;
    assert_eq!(detail("privateIPv4Address"), address.to_string());
    assert!(detail("macAddress").starts_with("02:42:"));
    assert!(detail("networkInterfaceId").starts_with("eni-"));
    for container in &status.containers {
        assert!(container.network_bindings.is_empty());
        let told = &container.network_interfaces[0];
        assert_eq!(told.attachment_id, attachment.id);
        assert_eq!(told.private_ipv4_address, Some(address.to_string()));
    }
    assert_eq!(status.ports, Some(format!("{address}:80,{address}:53/udp")));
    let message = &status.conditions[0].message;
    assert!(message.contains("2 containers"), "{message}");

    rig.want_stop(StopCode::UserInitiated, "enough");
    rig.settle_down();
    assert_eq!(
        order(&rig, Verb::Stop).last().map(String::as_str),
        Some(NAME)
    );
    let status = rig.status();
    assert_eq!(status.last_status, LastStatus::Stopped);
    assert_eq!(status.attachments[0].status, "DELETED");
    assert_eq!(status.ports, None);
}

#[test]
fn processes_and_memory_of_a_task_are_those_of_its_pause_container() {
    let mut spec = plan(&json!({ "pidMode": "task", "ipcMode": "task", "networkMode": "bridge" }));
    let planned = spec.definitions.get_mut("web-7").unwrap();
    planned.definition.container_definitions[1].linux_parameters =
        serde_json::from_value(json!({ "sharedMemorySize": 256 })).unwrap();
    let mut rig = Rig::of(spec);
    rig.settle_down();
    let pause = created(&rig, NAME);
    assert_eq!(pause.network, Network::None);
    assert_eq!(pause.parameters.ipc, Ipc::Shareable);
    assert_eq!(pause.parameters.shared_memory_bytes, Some(256 << 20));
    for member in ["web", "log"] {
        let spec = created(&rig, member);
        assert_eq!(spec.network, Network::Bridge);
        assert_eq!(
            spec.parameters.processes,
            Processes::Container(rig.name(NAME))
        );
        assert_eq!(spec.parameters.ipc, Ipc::Container(rig.name(NAME)));
    }
    assert_eq!(created(&rig, "web").ports.len(), 2);
    assert!(rig.status().attachments.is_empty());
    assert_eq!(rig.engine.calls_of(Verb::EnsureNetwork), 0);
    assert_eq!(rig.engine.calls_of(Verb::EnsureImage), 1);
}

#[test]
fn a_task_that_shares_nothing_has_no_pause_container() {
    for modes in [
        json!({}),
        json!({ "networkMode": "host", "pidMode": "host", "ipcMode": "host" }),
        json!({ "networkMode": "none", "ipcMode": "none" }),
    ] {
        let mut rig = Rig::of(plan(&modes));
        rig.settle_down();
        assert_eq!(rig.engine.containers().len(), 2, "{modes}");
    }
}

#[test]
fn what_needs_a_network_of_its_own_is_refused_with_its_field() {
    for (field, value) in [
        ("hostname", json!("cart")),
        ("dnsServers", json!(["10.0.0.53"])),
        ("dnsSearchDomains", json!(["shop.internal"])),
        (
            "extraHosts",
            json!([{ "hostname": "db", "ipAddress": "10.9.8.7" }]),
        ),
        ("links", json!(["log"])),
    ] {
        let mut spec = plan(&awsvpc());
        let planned = spec.definitions.get_mut("web-7").unwrap();
        let mut definition = serde_json::to_value(&planned.definition).unwrap();
        definition["containerDefinitions"][0][field] = value;
        planned.definition = serde_json::from_value(definition).unwrap();
        let TaskBody::Refused(why) = rig::assigned(spec).body else {
            panic!("{field} is not refused")
        };
        assert!(
            why.contains(&format!("`{field}`")) && why.contains("`web`"),
            "{why}"
        );
    }
    let mut door = rig::door();
    door.networking.task_eni = false;
    let assignment = Assignment::parse(Plan::from(plan(&awsvpc())), &door);
    let TaskBody::Refused(why) = &assignment.tasks.values().next().unwrap().body else {
        panic!("not refused")
    };
    assert!(why.contains("ECS_ENABLE_TASK_ENI"), "{why}");
}

#[test]
fn a_container_without_networking_stays_without_in_such_a_task() {
    let mut spec = plan(&awsvpc());
    let planned = spec.definitions.get_mut("web-7").unwrap();
    planned.definition.container_definitions[1].disable_networking = Some(true);
    let mut rig = Rig::of(spec);
    rig.settle_down();
    assert_eq!(created(&rig, "log").network, Network::None);
    let status = rig.status();
    assert_eq!(status.containers[0].network_interfaces.len(), 1);
    assert!(status.containers[1].network_interfaces.is_empty());
}

#[test]
fn another_network_is_the_operators_and_must_be_there() {
    let mut door = rig::door();
    door.networking.awsvpc_network = Some("lan".to_owned());
    let spec = plan(&awsvpc());
    let mut rig = Rig::of(spec.clone());
    let task = Assignment::parse(Plan::from(spec), &door)
        .tasks
        .into_values()
        .next()
        .unwrap();
    rig.machine = tallyman_agent_core::TaskMachine::begin(task, None, &[]);
    rig.run(SECOND * 120);
    assert_eq!(rig.engine.calls_of(Verb::EnsureNetwork), 0);
    let status = rig.status();
    assert_eq!(status.stop_code, Some(StopCode::TaskFailedToStart));
    let reason = status.stopped_reason.clone().unwrap();
    assert!(
        reason.starts_with("ContainerNetworkingError: network lan not found")
            && reason.contains("docker network create"),
        "{reason}"
    );
}

#[test]
fn labels_of_the_setting_are_the_pause_containers_and_ours_go_before() {
    let mut door = rig::door();
    let uid = labels::CONTAINER_TASK_UID;
    door.networking.pause_labels = [("team", "shop"), (uid, "forged")]
        .map(|(k, v)| (k.to_owned(), v.to_owned()))
        .into();
    let assignment = Assignment::parse(Plan::from(plan(&awsvpc())), &door);
    let task = assignment.tasks.values().next().unwrap();
    let of = |pause: bool| {
        let mut all = task.containers().iter();
        let one = all.find(|one| one.is_pause() == pause).unwrap();
        one.spec(1).labels
    };
    assert_eq!(of(true)["team"], "shop");
    assert_eq!(of(true)[uid], rig::UID);
    assert!(!of(false).contains_key("team"));
}

#[test]
fn a_network_that_went_away_is_made_again() {
    let mut rig = Rig::of(plan(&awsvpc()));
    // Made; and gone before the start.
    rig.turn();
    rig.turn();
    assert!(rig.engine.network_labels("tallyman").is_some());
    assert!(rig.engine.destroy_network("tallyman"));
    rig.run(SECOND * 30);
    assert_eq!(rig.status().last_status, LastStatus::Running);
    assert_eq!(rig.engine.calls_of(Verb::EnsureNetwork), 2);
}

#[test]
fn the_end_of_the_pause_container_is_the_end_of_the_task() {
    for gone in [false, true] {
        let mut rig = Rig::of(plan(&awsvpc()));
        rig.settle_down();
        if gone {
            rig.engine.destroy(&rig.name(NAME));
        } else {
            rig.engine.kill(&rig.name(NAME));
        }
        rig.run(SECOND * 30);
        let status = rig.status();
        assert_eq!(status.last_status, LastStatus::Stopped);
        assert_eq!(status.stop_code, Some(StopCode::EssentialContainerExited));
        let reason = status.stopped_reason.as_deref().unwrap();
        assert!(
            reason.starts_with("Essential container in task exited") && reason.contains("pause"),
            "{reason}"
        );
        assert!(!runs(&rig, "web") && !runs(&rig, "log"));
        assert_eq!(rig.starts(), 3);
    }
}

#[test]
fn a_task_whose_containers_have_all_ended_ends_though_the_pause_container_runs() {
    let mut spec = plan(&awsvpc());
    for container in &mut spec
        .definitions
        .get_mut("web-7")
        .unwrap()
        .definition
        .container_definitions
    {
        container.essential = Some(false);
    }
    let mut rig = Rig::of(spec);
    rig.settle_down();
    rig.engine.exit(&rig.name("web"), 0);
    rig.run(SECOND * 11);
    assert_eq!(rig.status().last_status, LastStatus::Running);
    rig.engine.exit(&rig.name("log"), 0);
    rig.run(SECOND * 11);
    assert_eq!(rig.status().last_status, LastStatus::Stopped);
    assert!(!runs(&rig, NAME));
}

#[test]
fn a_restart_of_a_member_keeps_the_pause_container() {
    let mut spec = plan(&json!({ "networkMode": "awsvpc", "pidMode": "task" }));
    let web = &mut spec
        .definitions
        .get_mut("web-7")
        .unwrap()
        .definition
        .container_definitions[0];
    web.restart_policy =
        serde_json::from_value(json!({ "enabled": true, "restartAttemptPeriod": 60 })).unwrap();
    let mut rig = Rig::of(spec);
    rig.run(SECOND * 61);
    let before = rig.engine.peek(&rig.name(NAME)).unwrap();
    let attachments = rig.status().attachments.clone();
    rig.engine.exit(&rig.name("web"), 1);
    rig.run(SECOND * 20);
    assert!(runs(&rig, "web"));
    assert_eq!(rig.engine.peek(&rig.name(NAME)).unwrap(), before);
    assert_eq!(rig.status().attachments, attachments);
}

#[test]
fn it_is_removed_with_the_task() {
    let mut rig = Rig::of(plan(&awsvpc()));
    rig.settle_down();
    rig.want_removal();
    rig.want_stop(StopCode::UserInitiated, "Task deleted");
    rig.run(SECOND * 30);
    assert!(rig.status().removed_at.is_some());
    assert!(rig.engine.containers().is_empty());
    assert!(
        rig.engine.network_labels("tallyman").is_some(),
        "others may use it"
    );
}

#[test]
fn an_image_or_network_that_cannot_be_made_fails_the_task_by_its_ecs_name() {
    for (verb, name) in [
        (Verb::EnsureImage, "ResourceInitializationError"),
        (Verb::EnsureNetwork, "ContainerNetworkingError"),
    ] {
        let mut rig = Rig::of(plan(&awsvpc()));
        let error = EngineError::Engine {
            verb,
            status: 500,
            message: "no more addresses".to_owned(),
        };
        rig.engine.fail(verb, 5, &error);
        rig.run(SECOND * 120);
        let status = rig.status();
        assert_eq!(
            status.stop_code,
            Some(StopCode::TaskFailedToStart),
            "{verb}"
        );
        let reason = status.stopped_reason.as_deref().unwrap();
        assert_eq!(reason, format!("{name}: no more addresses"));
        assert!(rig.engine.containers().is_empty());
    }
}

#[test]
fn a_record_alone_and_a_list_alone_are_enough_to_stop_it_last() {
    for lost in [false, true] {
        let mut rig = Rig::of(plan(&awsvpc()));
        rig.settle_down();
        let record = rig.machine.record().clone();
        let list = rig.list();
        rig.engine.take_call_log();
        if lost {
            // The plan cannot be read any more.
            let mut door = rig::door();
            door.networking.task_eni = false;
            rig.want_stop(StopCode::UserInitiated, "enough");
            let plan = Plan::from(rig.spec.clone());
            let task = Assignment::parse(plan, &door)
                .tasks
                .into_values()
                .next()
                .unwrap();
            rig.machine = tallyman_agent_core::TaskMachine::begin(task, None, &list);
        } else {
            let task = tallyman_agent_core::AssignedTask::remembered(&record, &rig::door());
            rig.machine = tallyman_agent_core::TaskMachine::begin(task, Some(record), &list);
            rig.machine.condemn();
        }
        rig.run(SECOND * 30);
        assert_eq!(
            order(&rig, Verb::Stop).last().map(String::as_str),
            Some(NAME),
            "lost {lost}"
        );
        let status = rig.status();
        assert_eq!(status.last_status, LastStatus::Stopped);
        assert!(status.containers.iter().all(|c| c.name != NAME));
    }
}
