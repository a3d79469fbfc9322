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
    let requirements = json!([{ "type": "NeuronDevice", "value": "1" }]);
    let field = "`spec.containerDefinitions[app].resourceRequirements[0].type: NeuronDevice`";
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

/// A container with so many MiB of one GPU.
fn part(mib: i64) -> Value {
    with(json!([{ "type": "GPU", "sharingStrategy": { "nvidiaMps": { "memory": mib } } }]))
}

/// Hosts with so many GPUs of 100 MiB each, which tasks may share.
fn sharing(counts: &[usize]) -> Bench {
    let mut bench = bench(counts);
    for (host, count) in bench.names(Kind::ContainerInstance).iter().zip(counts) {
        let memory = (1..=*count).map(|n| json!({ "gpuId": format!("GPU-{n}"), "memory": 100 }));
        let memory: Vec<Value> = memory.collect();
        bench.edit(Kind::ContainerInstance, host, &|v| {
            let report = &mut v["status"]["host"];
            report["registeredResources"]["gpuMemory"] = json!(memory);
            let capability = json!({ "name": "ecs.capability.gpu-sharing-mps" });
            match report["attributes"].as_array_mut() {
                Some(list) => list.push(capability),
                None => report["attributes"] = json!([capability]),
            }
        });
    }
    bench
}

/// MiB that are left of each GPU of a host.
fn left(bench: &Bench, host: &str) -> Vec<i64> {
    let mut instances = bench.objects.instances.iter();
    let found = instances.find(|i| i.metadata.name.as_deref() == Some(host));
    let status = found.unwrap().status.clone().unwrap();
    let memory = status.remaining_resources.unwrap().gpu_memory;
    memory.iter().map(|gpu| gpu.memory).collect()
}

#[test]
fn a_task_with_a_part_of_a_gpu_is_placed_by_memory_of_one_gpu() {
    let mut bench = sharing(&[1, 2]);
    bench.apply_definition("serve", part(40));
    bench.apply_service("serve", service("serve", 7, 100, 200));
    bench.settle();
    let on: Vec<usize> = ["host-a", "host-b"]
        .iter()
        .map(|host| hosts(&bench).iter().filter(|on| on == host).count())
        .collect();
    assert_eq!(on, [2, 4]);
    let mut told = std::collections::BTreeMap::<String, usize>::new();
    for task in bench.names(Kind::Task) {
        let n = told.entry(bench.host_of(&task)).or_default();
        let id = format!("GPU-{}", 1 + *n / 2);
        *n += 1;
        let told = json!({ "containers": [{ "name": "app", "gpuIds": [id] }] });
        bench.report(&task, LastStatus::Running, &told);
    }
    bench.settle();
    assert_eq!(
        message(&bench, "serve"),
        "1 of 7 tasks cannot be placed. Of 2 hosts, 2 lack memory of one GPU (a task needs 40 MiB, the most free is 20 on \
         `host-a`). Next try when a host changes. (service serve) was unable to place a task because no container \
         instance met all of its requirements. The closest matching container-instance host-a encountered error \
         \"RESOURCE:GPU\"."
    );
    assert_eq!(
        (left(&bench, "host-a"), left(&bench, "host-b")),
        (vec![20], vec![20, 20])
    );
    assert!(remaining(&bench, "host-b").is_empty());
    assert!(invariants::check(&bench.world()).is_empty());
}

#[test]
fn only_a_host_that_shares_gpus_takes_parts_and_a_gpu_is_whole_or_shared() {
    let mut bench = sharing(&[1, 1]);
    bench.edit(Kind::ContainerInstance, "host-a", &|v| {
        v["status"]["host"]["attributes"] = json!([]);
    });
    bench.apply_definition("serve", part(40));
    bench.apply_definition("train", gpus("1"));
    bench.apply_task("first", json!({ "taskDefinition": "serve" }));
    bench.settle();
    assert_eq!(hosts(&bench), ["host-b"]);
    bench.apply_task("whole", json!({ "taskDefinition": "train" }));
    bench.settle();
    assert_eq!(hosts(&bench), ["host-a", "host-b"]);
    bench.apply_task("more", json!({ "taskDefinition": "train" }));
    bench.settle();
    let reason = bench.task("more").status.clone().unwrap().stopped_reason;
    assert!(
        reason
            .unwrap()
            .contains("lack GPUs (a task needs 1, the most free is 0")
    );
    bench.apply_task("huge", json!({ "taskDefinition": "serve", "overrides": { "containerOverrides": [{
        "name": "app",
        "resourceRequirements": [{ "type": "GPU", "sharingStrategy": { "nvidiaMps": { "memory": 61 } } }],
    }] } }));
    bench.settle();
    let reason = bench
        .task("huge")
        .status
        .clone()
        .unwrap()
        .stopped_reason
        .unwrap();
    assert!(
        reason.contains("1 lacks memory of one GPU (a task needs 61 MiB, the most free is 50"),
        "{reason}"
    );
    assert!(
        reason.contains("1 lacks an attribute (`ecs.capability.gpu-sharing-mps`"),
        "{reason}"
    );
}

#[test]
fn parts_of_different_sizes_wait_until_the_agent_tells_where_the_first_are() {
    let mut bench = sharing(&[2]);
    bench.apply_definition("large", part(60));
    bench.apply_definition("small", part(30));
    bench.apply_service("large", service("large", 1, 100, 200));
    bench.apply_service("small", service("small", 3, 100, 200));
    bench.settle();
    // Nobody knows whether two of 30 are together on a GPU: each is counted as 60.
    assert_eq!(hosts(&bench).len(), 2);
    for task in bench.names(Kind::Task) {
        let told = json!({ "containers": [{ "name": "app", "gpuIds": ["GPU-1"] }] });
        bench.report(&task, LastStatus::Running, &told);
    }
    bench.settle();
    assert_eq!(hosts(&bench).len(), 4);
    assert!(invariants::check(&bench.world()).is_empty());
}

#[test]
fn more_parts_held_than_gpus_have_is_a_violation() {
    let mut bench = sharing(&[2]);
    bench.apply_definition("serve", part(80));
    bench.apply_service("serve", service("serve", 2, 100, 200));
    bench.settle();
    assert!(invariants::check(&bench.world()).is_empty());
    bench.edit(Kind::ContainerInstance, "host-a", &|v| {
        let resources = &mut v["status"]["host"]["registeredResources"];
        resources["gpu"] = json!(["GPU-1"]);
        resources["gpuMemory"] = json!([{ "gpuId": "GPU-1", "memory": 100 }]);
    });
    assert_eq!(invariants::check(&bench.world())[0].id, "I1");
}

#[test]
fn whole_gpus_and_parts_in_one_task_name_their_field() {
    let mut both = part(40);
    let mut other = gpus("1")["containerDefinitions"][0].clone();
    other["name"] = json!("other");
    let list = both["containerDefinitions"].as_array_mut().unwrap();
    list.push(other);
    let spec: TaskDefinitionSpec = serde_json::from_value(both).unwrap();
    let said = Definition::parse(&spec).unwrap_err()[0].to_string();
    assert!(
        said.contains("spec.containerDefinitions[].resourceRequirements")
            && said.contains("in all containers of a task"),
        "{said}"
    );
}
