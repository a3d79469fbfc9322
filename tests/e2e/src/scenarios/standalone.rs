//! Tasks that a user makes: ECS RunTask of one, StartTask, StopTask.

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use tallyman_lab::wait_until;

use crate::suite::Scenario;
use crate::user::{PATIENCE, User, hello};

/// Scenarios of this file.
pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "a user's task runs to its end with its exit code",
        run: run_to_end,
    },
    Scenario {
        name: "a user's task on a named host is stopped by deletion",
        run: start_task,
    },
];

fn job(name: &str, script: &str) -> Value {
    let mut t = hello(name, "x");
    t["spec"]["containerDefinitions"][0] = json!({
        "name": "job", "image": "localhost/tallyman/busybox:1", "memory": 16, "stopTimeout": 2,
        "entryPoint": ["sh", "-c"], "command": [script],
    });
    t
}

fn run_to_end(user: &User<'_>) -> Result<()> {
    user.apply(&[job("job", "exit 7")])?;
    let task = json!({
        "kind": "Task", "metadata": { "name": "job-run" },
        "spec": { "taskDefinition": "job", "overrides": { "containerOverrides": [{ "name": "job", "command": ["exit 9"] }] } },
    });
    user.apply(&[task])?;
    let status = wait_until("the task to end", PATIENCE, || {
        let t = user.get("tasks", "job-run")?;
        Ok((t["status"]["lastStatus"] == "STOPPED").then(|| t["status"].clone()))
    })?;
    ensure!(
        status["containers"][0]["exitCode"] == 9,
        "the override did not win: {status}"
    );
    ensure!(
        status["startedAt"].is_string(),
        "it has no startedAt: {status}"
    );
    user.k(&["delete", "tasks.tallyman.dev", "job-run", "--timeout=60s"])?;
    user.delete(&["job"])
}

fn start_task(user: &User<'_>) -> Result<()> {
    let host = user.lab.host(1).name();
    user.apply(&[job("stay", "trap 'exit 0' TERM; while :; do sleep 1; done")])?;
    let task = |name: &str, host: &str| {
        json!({ "kind": "Task", "metadata": { "name": name },
                "spec": { "taskDefinition": "stay", "containerInstance": host } })
    };
    user.apply(&[
        task("stay-here", host),
        task("stay-nowhere", "no-such-host"),
    ])?;
    wait_until("the task to run on the named host", PATIENCE, || {
        let t = user.get("tasks", "stay-here")?;
        ensure!(t["status"]["lastStatus"] == "RUNNING", "{}", t["status"]);
        Ok(t["status"]["containerInstance"] == host)
    })?;
    wait_until("the other to be refused", PATIENCE, || {
        let t = user.get("tasks", "stay-nowhere")?;
        let reason = t["status"]["stoppedReason"].as_str().unwrap_or_default();
        ensure!(
            t["status"]["lastStatus"] == "STOPPED" && reason.contains("no-such-host"),
            "{}",
            t["status"]
        );
        Ok(true)
    })?;
    // On several hosts at once, of which one is not there.
    let others: Vec<_> = user.lab.hosts().iter().map(|h| h.name()).collect();
    let named: Vec<_> = others.iter().copied().chain(["no-such-host"]).collect();
    user.apply(&[
        json!({ "kind": "RunTask", "metadata": { "name": "everywhere" },
                         "spec": { "taskDefinition": "stay", "containerInstances": named } }),
    ])?;
    wait_until("a copy on each host, and a failure", PATIENCE, || {
        let run = user.get("runtasks", "everywhere")?;
        let status = &run["status"];
        let copies = status["tasks"].as_array().cloned().unwrap_or_default();
        let on: Vec<_> = copies
            .iter()
            .filter(|c| c["lastStatus"] == "RUNNING")
            .filter_map(|c| c["containerInstance"].as_str())
            .collect();
        ensure!(on == others, "copies run on {on:?}: {status}");
        let failure = &status["failures"][0];
        Ok(failure["reason"] == "MISSING" && failure["arn"] == "no-such-host")
    })?;
    user.k(&["delete", "trun", "everywhere", "--timeout=60s"])?;
    user.k(&[
        "delete",
        "tasks.tallyman.dev",
        "stay-here",
        "stay-nowhere",
        "--timeout=60s",
    ])?;
    user.delete(&["stay"])
}
