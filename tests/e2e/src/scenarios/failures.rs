//! Containers, agents and the operator that fail.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::json;
use tallyman_lab::wait_until;

use crate::scenarios::traces;
use crate::suite::Scenario;
use crate::user::{PATIENCE, User, condition, hello, service};

/// Scenarios of this file.
pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "docker kill of a container brings a new task",
        run: docker_kill,
    },
    Scenario {
        name: "an agent killed and started again keeps every container",
        run: agent_killed,
    },
    Scenario {
        name: "an operator killed in mid-rollout doubles nothing",
        run: operator_killed,
    },
    Scenario {
        name: "tasks that never start are not restarted in a storm",
        run: throttled,
    },
];

fn docker_kill(user: &User<'_>) -> Result<()> {
    user.apply(&[hello("killed", "x"), service("killed", 2)])?;
    let before = user.wait_steady("killed", 2)?;
    let victim = &before[0];
    let name = victim["metadata"]["name"]
        .as_str()
        .context("task without name")?;
    let host = user.lab.host_named(
        victim["status"]["containerInstance"]
            .as_str()
            .unwrap_or_default(),
    )?;
    let id = user
        .running("killed")?
        .remove(name)
        .context("the task has no container")?;
    host.docker_ok(["kill", &id])?;
    wait_until("the killed task to be STOPPED", PATIENCE, || {
        Ok(user.get("tasks", name)?["status"]["lastStatus"] == "STOPPED")
    })?;
    let after = user.wait_steady("killed", 2)?;
    ensure!(
        after.iter().all(|t| t["metadata"]["name"] != name),
        "a STOPPED task runs again"
    );
    let status = user.get("tasks", name)?["status"].clone();
    ensure!(
        status["stopCode"] == "EssentialContainerExited",
        "stopCode is {}",
        status["stopCode"]
    );
    ensure!(
        status["stoppedReason"] == "Essential container in task exited",
        "{}",
        status["stoppedReason"]
    );
    ensure!(
        status["containers"][0]["exitCode"] == 137,
        "exit code is {}",
        status["containers"]
    );
    user.delete(&["killed"])
}

fn agent_killed(user: &User<'_>) -> Result<()> {
    user.apply(&[hello("kept", "x"), service("kept", 6)])?;
    user.wait_steady("kept", 6)?;
    let before = user.running("kept")?;
    for host in user.lab.hosts() {
        host.agent().kill9()?;
        host.agent().start()?;
    }
    // An agent that adopted its containers goes on to act: a scale to 7 is seen through.
    user.k(&["scale", "services.tallyman.dev/kept", "--replicas=7"])?;
    user.wait_steady("kept", 7)?;
    let after = user.running("kept")?;
    for (task, id) in &before {
        ensure!(
            after.get(task) == Some(id),
            "{task} had container {id}, now {:?}",
            after.get(task)
        );
    }
    ensure!(after.len() == 7, "{} containers run", after.len());
    user.delete(&["kept"])
}

fn operator_killed(user: &User<'_>) -> Result<()> {
    user.apply(&[hello("storm", "one"), service("storm", 4)])?;
    user.wait_steady("storm", 4)?;
    user.apply(&[hello("storm", "two")])?;
    wait_until("the rollout to begin", PATIENCE, || {
        Ok(user
            .tasks("storm")?
            .iter()
            .any(|t| t["spec"]["taskDefinition"] == "storm:2"))
    })?;
    user.lab.operator().kill9()?;
    user.lab.operator().start()?;
    wait_until("the rollout to end", PATIENCE, || {
        let alive = user.alive("storm")?;
        ensure!(
            alive.len() <= 8,
            "{} tasks exist: maximumPercent 200 allows 8",
            alive.len()
        );
        let new = alive
            .iter()
            .filter(|t| t["spec"]["taskDefinition"] == "storm:2")
            .count();
        Ok(alive.len() == 4 && new == 4)
    })?;
    user.wait_steady("storm", 4)?;
    let tasks = user.tasks("storm")?;
    let new: Vec<_> = tasks
        .iter()
        .filter(|t| t["spec"]["taskDefinition"] == "storm:2")
        .collect();
    ensure!(
        new.len() == 4,
        "{} tasks of storm:2 were made for 4",
        new.len()
    );
    let running = user.running("storm")?;
    ensure!(
        running.len() == 4,
        "{} containers run for 4 tasks",
        running.len()
    );
    // Whoever leads goes on with the same trace.
    traces::one_tree(user, "storm", "storm:2", 4)?;
    user.delete(&["storm"])
}

fn throttled(user: &User<'_>) -> Result<()> {
    let mut t = hello("never", "x");
    t["spec"]["containerDefinitions"][0]["entryPoint"] = json!(["/no/such/program"]);
    user.apply(&[t, service("never", 1)])?;
    let seen: BTreeSet<String> = wait_until(
        "the service to say that its tasks fail to start",
        PATIENCE,
        || {
            let s = user.get("services", "never")?;
            let (_, reason, message) = condition(&s, "Ready");
            if reason != "TasksFailToStart" {
                bail!("reason is {reason}: {message}");
            }
            ensure!(
                message.contains("unable to consistently start tasks"),
                "{message}"
            );
            ensure!(message.contains("CannotStartContainerError"), "{message}");
            let names = user
                .tasks("never")?
                .iter()
                .map(|t| t["metadata"]["name"].to_string())
                .collect();
            Ok(Some(names))
        },
    )?;
    ensure!(
        (3..=5).contains(&seen.len()),
        "{} tasks were tried: {seen:?}",
        seen.len()
    );
    let fixed = hello("never", "mended");
    user.apply(&[fixed])?;
    let tasks = user.wait_steady("never", 1)?;
    ensure!(
        tasks[0]["spec"]["taskDefinition"] == "never:2",
        "{}",
        tasks[0]["spec"]
    );
    user.delete(&["never"])
}
