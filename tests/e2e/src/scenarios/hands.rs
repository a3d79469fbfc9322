//! Containers that people handle on a host by themselves.

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use tallyman_crds::labels;
use tallyman_lab::{LabHost, wait_until};

use crate::suite::Scenario;
use crate::user::{Container, PATIENCE, User, hello, service};

/// Scenarios of this file.
pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "containers that somebody removes, stops or renames are replaced, a paused one waits, and one that is not ours stays",
        run: by_hand,
    },
    Scenario {
        name: "a container that does not hear SIGTERM is killed after its stopTimeout",
        run: deaf,
    },
];

const BUSYBOX: &str = "localhost/tallyman/busybox:1";

fn by_hand(user: &User<'_>) -> Result<()> {
    user.apply(&[hello("handled", "x"), service("handled", 4)])?;
    user.wait_steady("handled", 4)?;
    let containers: Vec<Container> = user.containers()?.into_iter().collect();
    let [removed, stopped, renamed, paused] = containers.as_slice() else {
        anyhow::bail!("four tasks have {containers:?}");
    };
    let by_hand = |container: &Container, args: &[&str]| -> Result<()> {
        let host = user.lab.host_named(&container.host)?;
        let args = [args, &[&container.id]].concat();
        host.docker_ok(&args).map(drop)
    };
    let host = user.lab.host(0);
    foreign(host)?;
    by_hand(removed, &["rm", "--force"])?;
    by_hand(stopped, &["stop", "-t", "1"])?;
    user.lab
        .host_named(&renamed.host)?
        .docker_ok(["rename", &renamed.id, "renamed"])?;
    by_hand(paused, &["pause"])?;

    for (container, reason) in [
        (removed, "ContainerVanishedError"),
        (renamed, "ContainerVanishedError"),
        (stopped, ""),
    ] {
        let name = &container.task;
        wait_until(format!("task {name} to be STOPPED"), PATIENCE, || {
            let status = user.get("tasks", name)?["status"].clone();
            ensure!(
                status["lastStatus"] == "STOPPED"
                    && status["stopCode"] == "EssentialContainerExited",
                "{status}"
            );
            let told = status["containers"][0]["reason"]
                .as_str()
                .unwrap_or_default();
            ensure!(told.starts_with(reason), "{status}");
            Ok(true)
        })?;
    }
    user.wait_steady("handled", 4)?;
    // It counts as running, as with ECS, and is stopped like any other.
    let task = user.get("tasks", &paused.task)?;
    ensure!(task["status"]["lastStatus"] == "RUNNING", "{task}");
    let state = state(user.lab.host_named(&paused.host)?, &paused.id)?;
    ensure!(state == "paused", "{paused:?} is {state}");
    // Whoever renamed it has it: absence of a name is no order to kill.
    by_hand(renamed, &["rm", "--force"])?;
    user.delete(&["handled"])?;
    ensure!(self::state(host, "foreign")? == "running", "foreign");
    host.docker_ok(["rm", "--force", "foreign"])?;
    Ok(())
}

/// A container that looks like one of ours, made for another ContainerInstance.
fn foreign(host: &LabHost) -> Result<()> {
    let label = |key: &str, value: &str| format!("--label={key}={value}");
    let task = label(
        labels::CONTAINER_TASK_UID,
        "00000000-0000-4000-8000-000000000001",
    );
    let instance = label(
        labels::CONTAINER_INSTANCE_UID,
        "00000000-0000-4000-8000-000000000002",
    );
    let name = label(labels::ecs::CONTAINER_NAME, "web");
    host.docker_ok([
        "run",
        "--detach",
        "--name=foreign",
        &task,
        &instance,
        &name,
        BUSYBOX,
        "sleep",
        "3600",
    ])?;
    Ok(())
}

fn state(host: &LabHost, container: &str) -> Result<String> {
    let state = host.docker_ok(["inspect", "--format={{.State.Status}}", container])?;
    Ok(state.trim().to_owned())
}

fn deaf(user: &User<'_>) -> Result<()> {
    let container = json!({
        "name": "app", "image": BUSYBOX, "cpu": 16, "memory": 16, "stopTimeout": 2,
        "entryPoint": ["sh", "-c"], "command": ["trap '' TERM; while :; do sleep 1; done"],
    });
    user.apply(&[
        json!({ "kind": "TaskDefinition", "metadata": { "name": "deaf" },
                "spec": { "containerDefinitions": [container] } }),
        json!({ "kind": "Task", "metadata": { "name": "deaf" }, "spec": { "taskDefinition": "deaf" } }),
    ])?;
    let until = |status: &'static str| -> Result<Value> {
        wait_until(format!("the task to be {status}"), PATIENCE, || {
            let now = user.get("tasks", "deaf")?["status"].clone();
            ensure!(now["lastStatus"] == status, "{now}");
            Ok(Some(now))
        })
    };
    until("RUNNING")?;
    let stop = r#"{"spec":{"desiredStatus":"STOPPED"}}"#;
    user.k(&[
        "patch",
        "tasks.tallyman.dev",
        "deaf",
        "--type=merge",
        "-p",
        stop,
    ])?;
    let status = until("STOPPED")?;
    let code = status["containers"][0]["exitCode"]
        .as_i64()
        .with_context(|| status.to_string())?;
    ensure!(
        code == 137 && status["stopCode"] == "UserInitiated",
        "{status}"
    );
    user.k(&["delete", "tasks.tallyman.dev", "deaf", "--timeout=60s"])?;
    user.delete(&["deaf"])
}
