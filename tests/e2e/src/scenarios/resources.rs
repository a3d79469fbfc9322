//! What a host gives to tasks, and takes back.

use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use tallyman_lab::{CommandSpec, LabHost as Host, Process, paths, wait_until};

use crate::suite::{MOST_PROCESSES, Scenario};
use crate::user::{PATIENCE, User, condition, service};

/// Scenarios of this file.
pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "the containers of a task share its cpu and memory",
        run: shared_limits,
    },
    Scenario {
        name: "the containers of a task share its most processes",
        run: shared_processes,
    },
    Scenario {
        name: "a container that may take more than its task is named",
        run: above_the_task,
    },
    Scenario {
        name: "a service goes on with the image of its first task though the tag moves",
        run: moved_tag,
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

/// Two containers with 120 processes each on a host where a task may have 200: the second does not get all of its own.
fn shared_processes(user: &User<'_>) -> Result<()> {
    let many =
        "i=0; while [ $i -lt 120 ]; do sleep 300 & i=$((i+1)); done; trap 'exit 0' TERM; wait";
    let first = container("first", many);
    let mut second = container("second", &format!("sleep 2; {many}"));
    second["essential"] = json!(false);
    second["dependsOn"] = json!([{ "containerName": "first", "condition": "START" }]);
    let definition = json!({
        "kind": "TaskDefinition", "metadata": { "name": "crowd" },
        "spec": { "memory": "128", "containerDefinitions": [first, second] },
    });
    let host = user.lab.host(2);
    let task = json!({
        "kind": "Task", "metadata": { "name": "crowd" },
        "spec": { "taskDefinition": "crowd", "containerInstance": host.name() },
    });
    user.apply(&[definition, task])?;
    wait_until("the second container to fail to fork", PATIENCE, || {
        let status = user.get("tasks", "crowd")?["status"].clone();
        let containers = status["containers"].as_array().cloned().unwrap_or_default();
        let second = containers.iter().find(|c| c["name"] == "second");
        ensure!(second.is_some_and(|c| c["exitCode"] == 2), "{status}");
        ensure!(status["lastStatus"] == "RUNNING", "{status}");
        Ok(true)
    })?;
    let object = user.get("tasks", "crowd")?;
    let uid = object["metadata"]["uid"].as_str().context("no uid")?;
    let parent = parent_of(host, uid, "first")?;
    let most = limit(&parent, "pids", "pids.max", "pids.max")?;
    ensure!(most == MOST_PROCESSES.to_string(), "pids.max: {most}");
    user.k(&["delete", "tasks.tallyman.dev", "crowd"])?;
    user.k(&["delete", "taskdefinitions.tallyman.dev", "crowd"])?;
    Ok(())
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

const PORT: u16 = 5008;

/// A registry that every host reaches, without credentials.
fn registry(host: &Host, folder: &Path) -> Result<Process> {
    std::fs::create_dir_all(folder)?;
    let configuration = folder.join("registry.yml");
    let text = format!(
        "version: 0.1\nstorage:\n  filesystem:\n    rootdirectory: {}\nhttp:\n  addr: {}:{PORT}\n",
        folder.join("data").display(),
        host.address(),
    );
    std::fs::write(&configuration, text)?;
    let program = paths::test_tool("registry")?;
    let arguments = ["serve".to_owned(), configuration.display().to_string()];
    let command = CommandSpec::new(program).args(arguments);
    host.process(&format!("open-registry-{}", host.name()), command)
}

/// Builds an image that is unlike all others, and pushes it.
fn push(host: &Host, image: &str, version: &str) -> Result<()> {
    let change = format!("LABEL version={version}");
    host.docker_ok(["create", "--name", "draft", BUSYBOX, "true"])?;
    host.docker_ok(["commit", "--change", &change, "draft", image])?;
    host.docker_ok(["rm", "draft"])?;
    wait_until("the registry to take the image", PATIENCE, || {
        host.docker_ok(["push", image]).map(|_| true)
    })?;
    host.docker_ok(["rmi", image]).map(|_| ())
}

fn digest_of(task: &Value) -> String {
    let digest = &task["status"]["containers"][0]["imageDigest"];
    digest.as_str().unwrap_or_default().to_owned()
}

/// The tag moves; a service that grows, and loses a task, goes on with what its first task got. A task of a user's own
/// gets what the tag means now, and so does the next deployment.
fn moved_tag(user: &User<'_>) -> Result<()> {
    let host = user.lab.host(0);
    let folder = user.lab.log_path("operator")?;
    let folder = folder
        .parent()
        .context("a log has a folder")?
        .join("open-registry");
    let process = registry(host, &folder)?;
    process.start()?;
    let image = format!("{}:{PORT}/shop/moving:1", host.address());
    push(host, &image, "one")?;
    let mut app = container("app", "trap 'exit 0' TERM; while :; do sleep 1; done");
    app["image"] = json!(image);
    app["memory"] = json!(16);
    let mut definition = json!({
        "kind": "TaskDefinition", "metadata": { "name": "moving" },
        "spec": { "containerDefinitions": [app] },
    });
    user.apply(&[definition.clone(), service("moving", 1)])?;
    let first = digest_of(&user.wait_steady("moving", 1)?[0]);
    ensure!(first.starts_with("sha256:"), "no digest: {first:?}");
    wait_until("the service to keep the digest", PATIENCE, || {
        let status = user.get("tsvc", "moving")?["status"].clone();
        let kept = &status["deployments"][0]["containerImages"][0]["imageDigest"];
        ensure!(*kept == json!(first), "{status}");
        Ok(true)
    })?;

    push(host, &image, "two")?;
    user.apply(&[service("moving", 3)])?;
    for task in user.wait_steady("moving", 3)? {
        let digest = digest_of(&task);
        ensure!(digest == first, "{digest} runs, not {first}");
    }
    let own = json!({
        "kind": "Task", "metadata": { "name": "moved" }, "spec": { "taskDefinition": "moving" },
    });
    user.apply(&[own])?;
    wait_until("a task of its own to get the new image", PATIENCE, || {
        let task = user.get("tasks", "moved")?;
        let digest = digest_of(&task);
        ensure!(
            task["status"]["lastStatus"] == "RUNNING" && digest.starts_with("sha256:"),
            "{}",
            task["status"]
        );
        Ok(digest != first)
    })?;
    user.k(&["delete", "tasks.tallyman.dev", "moved", "--timeout=60s"])?;

    definition["spec"]["containerDefinitions"][0]["environment"] =
        json!([{ "name": "ROUND", "value": "2" }]);
    user.apply(&[definition])?;
    wait_until("the next deployment to get the new image", PATIENCE, || {
        let digests: Vec<String> = user.alive("moving")?.iter().map(digest_of).collect();
        Ok(digests.len() == 3 && !digests.contains(&first) && !digests.contains(&String::new()))
    })?;
    user.delete(&["moving"])?;
    process.stop(PATIENCE)?;
    Ok(())
}
