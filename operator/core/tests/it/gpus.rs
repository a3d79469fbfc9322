//! GPUs of hosts: counted whole, told as ECS tells them, and left out of what remains.

use crate::common::Bench;
use crate::common::build::{definition, service};
use serde_json::{Value, json};
use tallyman_crds::{LastStatus, TaskDefinitionSpec};
use tallyman_operator_core::Kind;
use tallyman_operator_core::definition::Definition;
use tallyman_operator_core::invariants;

fn with(requirements: Value) -> Value {
    let mut spec = definition("a");
    spec["containerDefinitions"][0]["resourceRequirements"] = requirements;
    spec
}

fn gpus(count: &str) -> Value {
    with(json!([{ "type": "GPU", "value": count }]))
}

/// Hosts `host-a` ... with so many GPUs each.
fn bench(counts: &[usize]) -> Bench {
    let mut bench = Bench::with_hosts(u8::try_from(counts.len()).unwrap());
    for (host, count) in bench.names(Kind::ContainerInstance).iter().zip(counts) {
        let ids: Vec<String> = (1..=*count).map(|n| format!("GPU-{n}")).collect();
        bench.edit(Kind::ContainerInstance, host, &|v| {
            v["status"]["host"]["registeredResources"]["gpu"] = json!(ids);
        });
    }
    bench
}

fn message(bench: &Bench, service: &str) -> String {
    bench.service_status(service).conditions[0].message.clone()
}

fn hosts(bench: &Bench) -> Vec<String> {
    let names = bench.names(Kind::Task);
    let mut hosts: Vec<String> = names.iter().map(|name| bench.host_of(name)).collect();
    hosts.sort();
    hosts
}

fn remaining(bench: &Bench, host: &str) -> Vec<String> {
    let mut instances = bench.objects.instances.iter();
    let found = instances.find(|i| i.metadata.name.as_deref() == Some(host));
    let status = found.unwrap().status.clone().unwrap();
    status.remaining_resources.unwrap().gpu
}

#[test]
fn gpus_are_counted_whole_and_a_task_that_does_not_fit_says_so() {
    let mut bench = bench(&[0, 1, 3]);
    bench.apply_definition("train", gpus("1"));
    bench.apply_service("train", service("train", 5, 100, 200));
    bench.settle();
    assert_eq!(hosts(&bench), ["host-b", "host-c", "host-c", "host-c"]);
    assert_eq!(
        message(&bench, "train"),
        "1 of 5 tasks cannot be placed. Of 3 hosts, 3 lack GPUs (a task needs 1, the most free is 0 on `host-a`). Next try \
         when a host changes. (service train) was unable to place a task because no container instance met all of its \
         requirements. The closest matching container-instance host-a encountered error \"RESOURCE:GPU\"."
    );
    bench.apply_definition("pair", gpus("2"));
    bench.apply_task("once", json!({ "taskDefinition": "pair" }));
    bench.settle();
    let reason = bench.task("once").status.clone().unwrap().stopped_reason;
    assert_eq!(
        reason.as_deref(),
        Some(
            "TaskFailedToStart: RESOURCE:GPU. Of 3 hosts, 3 lack GPUs (a task needs 2, the most free is 0 on `host-a`)."
        )
    );
}

/// Step 1.1 of `docs/ecs-rules.md`.
#[test]
fn the_containers_of_a_task_are_added_up_and_an_override_changes_one() {
    let mut bench = bench(&[3]);
    let mut two = gpus("1");
    let mut other = two["containerDefinitions"][0].clone();
    other["name"] = json!("other");
    two["containerDefinitions"]
        .as_array_mut()
        .unwrap()
        .push(other);
    bench.apply_definition("two", two);
    let changes = json!({ "containerOverrides": [{
        "name": "app", "resourceRequirements": [{ "type": "GPU", "value": "3" }],
    }] });
    bench.apply_task(
        "more",
        json!({ "taskDefinition": "two", "overrides": changes }),
    );
    bench.apply_task("plain", json!({ "taskDefinition": "two" }));
    bench.settle();
    let status = |name: &str| bench.task(name).status.clone().unwrap();
    assert_eq!(
        status("plain").container_instance.as_deref(),
        Some("host-a")
    );
    let refused = status("more").stopped_reason.unwrap();
    assert!(
        refused.contains("(a task needs 4, the most free is 3"),
        "{refused}"
    );
}

#[test]
fn gpus_of_a_stopping_task_are_free_once_it_stopped() {
    let mut bench = bench(&[2]);
    bench.apply_definition("train", gpus("2"));
    bench.apply_service("train", service("train", 1, 0, 200));
    bench.converge(60);
    bench.apply_definition("train", {
        let mut next = gpus("2");
        next["containerDefinitions"][0]["image"] = json!("b");
        next
    });
    bench.settle();
    assert_eq!(bench.names(Kind::Task).len(), 1);
    bench.converge(60);
    assert_eq!(bench.reason("train"), "SteadyState");
}

#[test]
fn remaining_gpus_are_those_that_no_task_is_known_to_have() {
    let mut bench = bench(&[3]);
    bench.settle();
    assert_eq!(remaining(&bench, "host-a"), ["GPU-1", "GPU-2", "GPU-3"]);
    bench.apply_definition("train", gpus("1"));
    bench.apply_service("train", service("train", 1, 100, 200));
    bench.settle();
    // Which one it got is not told yet; the first, as agents choose.
    assert_eq!(remaining(&bench, "host-a"), ["GPU-2", "GPU-3"]);
    let told = json!({ "containers": [{ "name": "app", "gpuIds": ["GPU-2"] }] });
    bench.report("train-000001", LastStatus::Running, &told);
    bench.settle();
    assert_eq!(remaining(&bench, "host-a"), ["GPU-1", "GPU-3"]);
}

#[test]
fn more_gpus_held_than_registered_is_a_violation() {
    let mut bench = bench(&[2]);
    bench.apply_definition("train", gpus("2"));
    bench.apply_service("train", service("train", 1, 100, 200));
    bench.settle();
    assert!(invariants::check(&bench.world()).is_empty());
    bench.edit(Kind::ContainerInstance, "host-a", &|v| {
        v["status"]["host"]["registeredResources"]["gpu"] = json!(["GPU-1"]);
    });
    let broken = invariants::check(&bench.world());
    assert_eq!(broken[0].id, "I1");
    assert!(broken[0].message.contains(", 2] of ["), "{}", broken[0]);
}

#[test]
fn what_the_agent_says_beside_its_engine_is_told() {
    let mut bench = bench(&[0]);
    bench.edit(Kind::ContainerInstance, "host-a", &|v| {
        v["status"]["host"]["message"] = json!("No GPU was found.");
    });
    bench.settle();
    let host = &bench.objects.instances[0];
    let ready = &host.status.as_ref().unwrap().conditions[0];
    assert_eq!(
        (ready.reason.as_str(), ready.message.as_str()),
        (
            "AgentConnected",
            "The agent of host-a is connected and its engine answers. No GPU was found."
        )
    );
}

#[test]
fn what_is_no_count_of_whole_gpus_names_its_field() {
    for (requirements, words) in [
        (json!([{ "type": "GPU", "value": "0" }]), "not '0'"),
        (json!([{ "type": "GPU" }]), "a whole number of GPUs from 1"),
        (
            json!([{ "type": "GPU", "value": "1" }, { "type": "GPU", "value": "1" }]),
            "once",
        ),
    ] {
        let spec: TaskDefinitionSpec = serde_json::from_value(with(requirements)).unwrap();
        let problems = Definition::parse(&spec).unwrap_err();
        let said = problems[0].to_string();
        assert!(
            said.contains("spec.containerDefinitions[app].resourceRequirements")
                && said.contains(words),
            "{said}"
        );
    }
}

#[test]
fn what_only_aws_has_is_unsupported_and_not_invalid() {
    for (requirements, field) in [
        (
            json!([{ "type": "NeuronDevice", "value": "1" }]),
            "`spec.containerDefinitions[app].resourceRequirements[0].type: NeuronDevice`",
        ),
        (
            json!([{ "type": "GPU", "value": "1", "sharingStrategy": { "nvidiaMps": { "memory": 512 } } }]),
            "`spec.containerDefinitions[app].resourceRequirements[0].sharingStrategy",
        ),
    ] {
        let mut bench = bench(&[1]);
        bench.apply_definition("train", with(requirements));
        bench.settle();
        let definition = &bench.objects.task_definitions[0];
        let conditions = &definition.status.as_ref().unwrap().conditions;
        let stalled = conditions.iter().find(|c| c.type_ == "Stalled").unwrap();
        assert!(
            stalled.message.starts_with("Not supported: ") && stalled.message.contains(field),
            "{}",
            stalled.message
        );
    }
}
