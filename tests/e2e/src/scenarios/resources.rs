//! What a host gives to tasks, and takes back.

use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use tallyman_lab::{Host, wait_until};

use crate::suite::Scenario;
use crate::user::{PATIENCE, User, condition, service};

/// Scenarios of this file.
pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "the containers of a task share its cpu and memory",
        run: shared_limits,
    },
    Scenario {
        name: "a container that may take more than its task is named",
        run: above_the_task,
    },
];

const BUSYBOX: &str = "localhost/tallyman/busybox:1";
const CGROUPS: &str = "/sys/fs/cgroup";

fn container(name: &str, script: &str) -> Value {
    json!({
        "name": name, "image": BUSYBOX, "cpu": 16, "stopTimeout": 2,
        "entryPoint": ["sh", "-c"], "command": [script],
    })
}

/// One number of a control group, in whichever version the machine has.
fn limit(parent: &str, controller: &str, old: &str, new: &str) -> Result<String> {
    let unified = Path::new(CGROUPS).join("cgroup.controllers").exists();
    let path = if unified {
        format!("{CGROUPS}{parent}/{new}")
    } else {
        format!("{CGROUPS}/{controller}{parent}/{old}")
    };
    let text = std::fs::read_to_string(&path).with_context(|| path.clone())?;
    Ok(text.trim().to_owned())
}

/// Where the engine has a container of a task, below the root of control groups.
fn parent_of(host: &Host, uid: &str, name: &str) -> Result<String> {
    let task = format!("label=tallyman.dev/task-uid={uid}");
    let container = format!("label=com.amazonaws.ecs.container-name={name}");
    let id = host.docker_ok(["ps", "-a", "-q", "--filter", &task, "--filter", &container])?;
    let format = "{{.HostConfig.CgroupParent}}";
    Ok(host
        .docker_ok(["inspect", "--format", format, id.trim()])?
        .trim()
        .to_owned())
}

/// Two containers without limits of their own in a task of 48 MiB: the one that grows is killed, the other one and the
/// task go on; when the task is deleted nothing is left.
fn shared_limits(user: &User<'_>) -> Result<()> {
    let mut greedy = container("greedy", "x=a; while :; do x=$x$x; done");
    greedy["essential"] = json!(false);
    let quiet = container("quiet", "trap 'exit 0' TERM; while :; do sleep 1; done");
    let definition = json!({
        "kind": "TaskDefinition", "metadata": { "name": "shared" },
        "spec": { "cpu": ".5 vCPU", "memory": "48", "containerDefinitions": [greedy, quiet] },
    });
    let host = user.lab.host(0);
    let task = json!({
        "kind": "Task", "metadata": { "name": "shared" },
        "spec": { "taskDefinition": "shared", "containerInstance": host.name() },
    });
    user.apply(&[definition, task])?;
    wait_until("the greedy container to be killed", PATIENCE, || {
        let status = user.get("tasks", "shared")?["status"].clone();
        let containers = status["containers"].as_array().cloned().unwrap_or_default();
        let greedy = containers.iter().find(|c| c["name"] == "greedy");
        ensure!(greedy.is_some_and(|c| c["exitCode"] == 137), "{status}");
        ensure!(status["lastStatus"] == "RUNNING", "{status}");
        Ok(true)
    })?;
    let object = user.get("tasks", "shared")?;
    let uid = object["metadata"]["uid"].as_str().context("no uid")?;
    let parent = parent_of(host, uid, "quiet")?;
    ensure!(
        parent.ends_with(uid) && parent.starts_with("/ecs/"),
        "the control group is {parent}"
    );
    ensure!(parent == parent_of(host, uid, "greedy")?, "two groups");
    let memory = limit(&parent, "memory", "memory.limit_in_bytes", "memory.max")?;
    ensure!(memory == (48 << 20).to_string(), "memory: {memory}");
    let cpu = limit(&parent, "cpu", "cpu.cfs_quota_us", "cpu.max")?;
    ensure!(cpu.starts_with("50000"), "cpu: {cpu}");
    user.k(&["delete", "tasks.tallyman.dev", "shared"])?;
    user.k(&["delete", "taskdefinitions.tallyman.dev", "shared"])?;
    wait_until("the control group to be gone", PATIENCE, || {
        ensure!(
            limit(&parent, "memory", "memory.limit_in_bytes", "memory.max").is_err(),
            "{parent} is still there"
        );
        Ok(true)
    })
}

fn above_the_task(user: &User<'_>) -> Result<()> {
    let mut app = container("app", "sleep 1");
    app["memory"] = json!(64);
    let definition = json!({
        "kind": "TaskDefinition", "metadata": { "name": "above" },
        "spec": { "memory": "32", "containerDefinitions": [app] },
    });
    user.apply(&[definition, service("above", 1)])?;
    wait_until("the definition to say what is wrong", PATIENCE, || {
        let (status, reason, message) = condition(&user.get("tdef", "above")?, "Stalled");
        ensure!(
            status == "True" && message.contains("spec.memory") && message.contains("32 MiB"),
            "{status} {reason} {message}"
        );
        Ok(true)
    })?;
    user.delete(&["above"])
}
