//! GPUs of a host: counted, given by id, and each to one container. The first host of the lab has two, as far as its
//! files say.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use tallyman_lab::{LabHost as Host, wait_until};

use crate::suite::{Lane, Scenario, daemon_begins, daemon_is_killed, pipes};
use crate::user::{PATIENCE, User, condition, hello, service};

/// Scenarios of this file.
pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "tasks with GPUs get their own, and one too many says what is free",
        run: own_gpus,
    },
    Scenario {
        name: "tasks share GPUs by parts of their memory, and one too many says what is free",
        run: parts,
    },
    Scenario {
        name: "a host shares its GPUs while the daemon of MPS runs, and says so",
        run: daemon_comes_and_goes,
    },
    Scenario {
        name: "a container without GPUs sees none of its host",
        run: sees_none,
    },
];

const DRIVER: &str = "ecs.capability.nvidia-driver-version.535.104.05";
const SHARING: &str = "ecs.capability.gpu-sharing-mps";
const VARIABLE: &str = "NVIDIA_VISIBLE_DEVICES";

fn training(name: &str, gpus: u32) -> Value {
    json!({
        "kind": "TaskDefinition", "metadata": { "name": name },
        "spec": { "containerDefinitions": [{
            "name": "app", "image": "localhost/tallyman/busybox:1", "cpu": 16, "memory": 16, "stopTimeout": 2,
            "command": ["sh", "-c", "trap 'exit 0' TERM; while :; do sleep 1; done"],
            "resourceRequirements": [{ "type": "GPU", "value": gpus.to_string() }],
        }] },
    })
}

fn texts(list: &Value) -> BTreeSet<String> {
    let items = list.as_array().into_iter().flatten();
    items
        .filter_map(|item| item.as_str().map(str::to_owned))
        .collect()
}

/// What the engine was asked for a task, by the status of the task, and what the container sees.
fn request(host: &Host, task: &Value) -> Result<BTreeSet<String>> {
    let container = &task["status"]["containers"][0];
    let id = container["runtimeId"].as_str().context("no runtimeId")?;
    let format = "{{json .HostConfig.DeviceRequests}}";
    let text = host.docker_ok(["inspect", "--format", format, id])?;
    let requests: Value = serde_json::from_str(&text)?;
    ensure!(
        requests[0]["Driver"] == "nvidia" && requests[0]["Capabilities"] == json!([["gpu"]]),
        "the request: {requests}"
    );
    let ids = texts(&requests[0]["DeviceIDs"]);
    let told = texts(&container["gpuIds"]);
    ensure!(ids == told, "asked for {ids:?}, told {told:?}");
    let seen = host.docker_ok(["exec", id, "sh", "-c", &format!("echo ${VARIABLE}")])?;
    let seen: BTreeSet<String> = seen.trim().split(',').map(str::to_owned).collect();
    ensure!(ids == seen, "asked for {ids:?}, sees {seen:?}");
    Ok(ids)
}

fn own_gpus(user: &User<'_>) -> Result<()> {
    let host = user.lab.host(0);
    let instance = user.get("containerinstances", host.name())?;
    let report = &instance["status"]["host"];
    let all = texts(&report["registeredResources"]["gpu"]);
    ensure!(all.len() == 2, "registered: {report}");
    let attributes = report["attributes"].as_array().cloned().unwrap_or_default();
    ensure!(
        attributes.iter().any(|a| a["name"] == DRIVER),
        "no {DRIVER}: {attributes:?}"
    );
    user.apply(&[training("train", 1), service("train", 2)])?;
    let mut given = BTreeSet::new();
    for task in user.wait_steady("train", 2)? {
        ensure!(task["spec"]["containerInstance"] == host.name(), "{task}");
        given.extend(request(host, &task)?);
    }
    ensure!(given == all, "of {all:?} were given {given:?}");

    user.apply(&[service("train", 3)])?;
    wait_until("the service to say what is free", PATIENCE, || {
        let (_, reason, message) = condition(&user.get("services", "train")?, "Ready");
        ensure!(reason == "TasksNotPlaceable", "{reason}: {message}");
        for part in [
            "1 of 3 tasks cannot be placed. Of 3 hosts, 3 lack GPUs (a task needs 1, the most free is 0 on",
            "encountered error \"RESOURCE:GPU\"",
        ] {
            ensure!(message.contains(part), "it lacks '{part}': {message}");
        }
        let left = &user.get("containerinstances", host.name())?["status"]["remainingResources"];
        ensure!(left["gpu"].is_null(), "remaining: {left}");
        Ok(true)
    })?;

    // A new agent knows from the containers what was given.
    let before = user.running("train")?;
    host.agent().kill9()?;
    host.agent().start()?;
    let own = json!({
        "kind": "Task", "metadata": { "name": "train-more" },
        "spec": { "taskDefinition": "train", "containerInstance": host.name() },
    });
    user.apply(std::slice::from_ref(&own))?;
    wait_until("a task of its own to be refused", PATIENCE, || {
        let status = user.get("tasks", "train-more")?["status"].clone();
        let reason = status["stoppedReason"].as_str().unwrap_or_default();
        ensure!(
            reason.starts_with("TaskFailedToStart: RESOURCE:GPU."),
            "{status}"
        );
        Ok(true)
    })?;
    user.k(&[
        "delete",
        "tasks.tallyman.dev",
        "train-more",
        "--timeout=60s",
    ])?;
    user.apply(&[service("train", 1)])?;
    let kept = user.wait_steady("train", 1)?;
    let kept = request(host, &kept[0])?;
    user.apply(&[own])?;
    wait_until("a task to get the GPU that is free", PATIENCE, || {
        let task = user.get("tasks", "train-more")?;
        ensure!(
            task["status"]["lastStatus"] == "RUNNING",
            "{}",
            task["status"]
        );
        let ids = request(host, &task)?;
        ensure!(ids.is_disjoint(&kept), "{ids:?} and {kept:?}");
        Ok(true)
    })?;
    let after = user.running("train")?;
    let gone_on = after
        .iter()
        .filter(|(task, id)| before.get(*task) == Some(id));
    ensure!(gone_on.count() == 1, "{before:?} became {after:?}");
    user.k(&[
        "delete",
        "tasks.tallyman.dev",
        "train-more",
        "--timeout=60s",
    ])?;

    user.delete(&["train"])?;

    user.apply(&[training("pair", 2), service("pair", 1)])?;
    let both = user.wait_steady("pair", 1)?;
    let both = request(host, &both[0])?;
    ensure!(both == all, "of {all:?} were given {both:?}");
    user.delete(&["pair"])
}

fn sharing(name: &str, memory: u32) -> Value {
    let mut definition = training(name, 1);
    definition["spec"]["containerDefinitions"][0]["resourceRequirements"] = json!([{
        "type": "GPU", "sharingStrategy": { "nvidiaMps": { "memory": memory, "maxComputePercent": 25 } },
    }]);
    definition
}

/// Whether the host offers parts, and what its condition says.
fn offers(user: &User<'_>, host: &Host) -> Result<(bool, String)> {
    let instance = user.get("containerinstances", host.name())?;
    let attributes = instance["status"]["host"]["attributes"].as_array();
    let offered = attributes
        .into_iter()
        .flatten()
        .any(|a| a["name"] == SHARING);
    let (_, _, message) = condition(&instance, "Ready");
    Ok((offered, message))
}

fn parts(user: &User<'_>) -> Result<()> {
    let host = user.lab.host(0);
    let (offered, said) = offers(user, host)?;
    ensure!(offered, "no {SHARING}: {said}");
    // Of 8192 MiB each has two.
    user.apply(&[sharing("share", 3000), service("share", 4)])?;
    let mut on: BTreeMap<String, usize> = BTreeMap::new();
    for task in user.wait_steady("share", 4)? {
        let ids = request(host, &task)?;
        ensure!(ids.len() == 1, "it has {ids:?}");
        for id in ids {
            *on.entry(id).or_default() += 1;
        }
        let container = &task["status"]["containers"][0];
        let id = container["runtimeId"].as_str().context("no runtimeId")?;
        let look = "echo $CUDA_MPS_PINNED_DEVICE_MEM_LIMIT $CUDA_MPS_ACTIVE_THREAD_PERCENTAGE; \
                    ls $CUDA_MPS_PIPE_DIRECTORY";
        let seen = host.docker_ok(["exec", id, "sh", "-c", look])?;
        let seen: Vec<&str> = seen.split_whitespace().collect();
        ensure!(seen == ["0=3000M", "25", "control"], "it sees {seen:?}");
    }
    ensure!(on.len() == 2 && on.values().all(|n| *n == 2), "{on:?}");

    user.apply(&[service("share", 5)])?;
    wait_until("the service to say what is free", PATIENCE, || {
        let (_, reason, message) = condition(&user.get("services", "share")?, "Ready");
        ensure!(reason == "TasksNotPlaceable", "{reason}: {message}");
        for part in [
            "1 lacks memory of one GPU (a task needs 3000 MiB, the most free is 2192 on",
            "2 lack an attribute (`ecs.capability.gpu-sharing-mps`",
            "encountered error \"RESOURCE:GPU\"",
        ] {
            ensure!(message.contains(part), "it lacks '{part}': {message}");
        }
        let left = &user.get("containerinstances", host.name())?["status"]["remainingResources"];
        let memory = left["gpuMemory"].as_array().cloned().unwrap_or_default();
        ensure!(
            left["gpu"].is_null() && memory.iter().all(|gpu| gpu["memory"] == 2192),
            "remaining: {left}"
        );
        Ok(true)
    })?;
    user.delete(&["share"])
}

/// The agent is not restarted, and a task that has its part goes on.
fn daemon_comes_and_goes(user: &User<'_>) -> Result<()> {
    let host = user.lab.host(0);
    let lane = Lane::about(host.generation());
    user.apply(&[sharing("share", 1000), service("share", 1)])?;
    user.wait_steady("share", 1)?;
    let before = user.running("share")?;
    daemon_is_killed(lane);
    ensure!(pipes(lane).join("control").exists(), "it leaves nothing");
    let seen = without_daemon(user, host);
    // Whatever was seen, others find the host as it was.
    daemon_begins(lane)?;
    seen?;
    user.wait_steady("share", 2)?;
    let (offered, said) = offers(user, host)?;
    ensure!(offered && !said.contains("MPS"), "{said}");
    let after = user.running("share")?;
    ensure!(
        before.iter().all(|(task, id)| after.get(task) == Some(id)),
        "{before:?} became {after:?}"
    );
    user.delete(&["share"])
}

fn without_daemon(user: &User<'_>, host: &Host) -> Result<()> {
    wait_until("the host to say that it shares no GPUs", PATIENCE, || {
        let (offered, said) = offers(user, host)?;
        ensure!(!offered, "still offered: {said}");
        ensure!(
            said.contains("not shared while MPS' control daemon does not listen at"),
            "{said}"
        );
        Ok(true)
    })?;
    user.apply(&[service("share", 2)])?;
    wait_until("the service to say what is missing", PATIENCE, || {
        let (_, reason, message) = condition(&user.get("services", "share")?, "Ready");
        ensure!(reason == "TasksNotPlaceable", "{reason}: {message}");
        ensure!(
            message.contains("3 lack an attribute (`ecs.capability.gpu-sharing-mps`"),
            "{message}"
        );
        Ok(true)
    })
}

fn sees_none(user: &User<'_>) -> Result<()> {
    user.apply(&[hello("blind", "x")])?;
    for (index, wanted) in [(0, "void"), (1, "")] {
        let host = user.lab.host(index);
        let name = format!("blind-{index}");
        let task = json!({
            "kind": "Task", "metadata": { "name": name },
            "spec": { "taskDefinition": "blind", "containerInstance": host.name() },
        });
        user.apply(&[task])?;
        let id = wait_until("the task to run", PATIENCE, || {
            let status = user.get("tasks", &name)?["status"].clone();
            ensure!(status["lastStatus"] == "RUNNING", "{status}");
            let id = status["containers"][0]["runtimeId"].as_str();
            Ok(id.map(str::to_owned))
        })?;
        let format = "{{json .HostConfig.DeviceRequests}}";
        let requests = host.docker_ok(["inspect", "--format", format, &id])?;
        ensure!(
            requests == "null" || requests == "[]",
            "asked for {requests}"
        );
        let seen = host.docker_ok(["exec", &id, "sh", "-c", &format!("echo ${VARIABLE}")])?;
        ensure!(seen == wanted, "on {} it sees '{seen}'", host.name());
        user.k(&["delete", "tasks.tallyman.dev", &name, "--timeout=60s"])?;
    }
    user.delete(&["blind"])
}
