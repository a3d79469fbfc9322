//! Services whose deployments somebody else runs: here a person with kubectl.

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use tallyman_lab::wait_until;

use crate::suite::Scenario;
use crate::user::{PATIENCE, User, condition, hello};

/// Scenarios of this file.
pub const SCENARIOS: &[Scenario] = &[Scenario {
    name: "task sets shift a service from blue to green with kubectl",
    run: blue_to_green,
}];

fn task_set(name: &str, task_definition: &str, percent: i64) -> Value {
    json!({
        "kind": "TaskSet", "metadata": { "name": name },
        "spec": {
            "service": "shift", "taskDefinition": task_definition, "externalId": name,
            "scale": { "value": percent, "unit": "PERCENT" },
        },
    })
}

fn service(primary: &str) -> Value {
    json!({
        "kind": "Service", "metadata": { "name": "shift" },
        "spec": {
            "desiredCount": 4, "deploymentController": { "type": "EXTERNAL" }, "primaryTaskSet": primary,
        },
    })
}

/// Waits until the task set is steady with `n` tasks, and returns its status.
fn steady(user: &User<'_>, name: &str, n: i64) -> Result<Value> {
    wait_until(format!("{name} to be steady with {n}"), PATIENCE, || {
        let set = user.get("tasksets", name)?;
        let status = &set["status"];
        ensure!(
            status["observedGeneration"] == set["metadata"]["generation"]
                && status["stabilityStatus"] == "STEADY_STATE"
                && status["computedDesiredCount"] == n
                && status["runningCount"] == n,
            "{status}"
        );
        Ok(Some(status.clone()))
    })
}

fn scale(user: &User<'_>, name: &str, percent: i64, n: i64) -> Result<()> {
    let patch = json!({ "spec": { "scale": { "value": percent } } }).to_string();
    user.k(&["patch", "tset", name, "--type=merge", "-p", &patch])?;
    steady(user, name, n)?;
    Ok(())
}

fn blue_to_green(user: &User<'_>) -> Result<()> {
    // In the order in which a folder of manifests may be applied.
    user.apply(&[
        task_set("shift-blue", "shift:1", 100),
        service("shift-blue"),
        hello("shift", "one"),
    ])?;
    user.wait_ready("shift")?;
    steady(user, "shift-blue", 4)?;
    user.apply(&[hello("shift", "two")])?;
    wait_until("the second revision", PATIENCE, || {
        Ok(user.get("taskdefinitionrevisions", "shift-2").is_ok())
    })?;
    user.apply(&[task_set("shift-green", "shift", 0)])?;
    let green = steady(user, "shift-green", 0)?;
    ensure!(
        green["status"] == "ACTIVE" && green["taskDefinition"] == "shift:2",
        "{green}"
    );

    let samples = user.sampled("shift", || {
        scale(user, "shift-green", 50, 2)?;
        scale(user, "shift-blue", 50, 2)?;
        let table = user.k(&["get", "tset"])?;
        let rows = table
            .lines()
            .filter(|l| l.contains(" 50 ") && l.contains("STEADY_STATE"));
        ensure!(rows.count() == 2, "the columns:\n{table}");
        scale(user, "shift-green", 100, 4)?;
        user.k(&[
            "patch",
            "tsvc",
            "shift",
            "--type=merge",
            "-p",
            r#"{"spec":{"primaryTaskSet":"shift-green"}}"#,
        ])?;
        user.wait_ready("shift")?;
        scale(user, "shift-blue", 0, 0)
    })?;
    let fewest = samples.iter().map(|(answers, _)| *answers).min();
    ensure!(
        // What is asked for may be stopped, or not yet known, when it is asked: half of four always answers.
        fewest.is_some_and(|n| n >= 2),
        "at some moment fewer than 2 answered: {samples:?}"
    );

    let shift = wait_until("the service to have a new primary", PATIENCE, || {
        let s = user.get("services", "shift")?;
        let sets = &s["status"]["taskSets"];
        ensure!(
            sets[0]["name"] == "shift-green"
                && sets[0]["status"] == "PRIMARY"
                && sets[1]["runningCount"] == 0,
            "{sets}"
        );
        Ok(Some(s))
    })?;
    ensure!(
        shift["status"]["taskDefinition"] == "shift:2" && shift["status"]["desiredCount"] == 4,
        "{}",
        shift["status"]
    );
    let told = user.k(&["describe", "tsvc", "shift"])?;
    let id = green["id"].as_str().unwrap_or_default();
    for sentence in [
        format!("(service shift) updated computedDesiredCount for taskSet {id} to 2."),
        format!("(service shift, taskSet {id}) has started 2 tasks: (task shift-"),
        format!("(service shift, taskSet {id}) updated state to STEADY_STATE."),
    ] {
        ensure!(
            told.contains(&sentence),
            "describe lacks '{sentence}':\n{told}"
        );
    }

    let immutable = json!({ "spec": { "taskDefinition": "shift:1" } }).to_string();
    let refused = user.k(&[
        "patch",
        "tset",
        "shift-green",
        "--type=merge",
        "-p",
        &immutable,
    ]);
    let refused = refused.err().map(|e| format!("{e:#}")).unwrap_or_default();
    ensure!(
        refused.contains("`taskDefinition` must not change: make another TaskSet"),
        "kubectl said: {refused}"
    );
    user.apply(&[json!({
        "kind": "TaskSet", "metadata": { "name": "shift-lost" },
        "spec": { "service": "nobody", "taskDefinition": "shift" },
    })])?;
    wait_until("a task set without service to say so", PATIENCE, || {
        let (_, reason, message) = condition(&user.get("tasksets", "shift-lost")?, "Ready");
        ensure!(
            reason == "ServiceNotFound" && message.contains("`nobody`"),
            "{reason}: {message}"
        );
        Ok(true)
    })?;

    // One with tasks: kubectl returns when their containers have stopped.
    user.k(&[
        "delete",
        "tset",
        "shift-lost",
        "shift-blue",
        "--timeout=60s",
    ])?;
    scale(user, "shift-green", 25, 1)?;
    user.k(&["delete", "tset", "shift-green", "--timeout=60s"])?;
    ensure!(
        user.running("shift")?.is_empty(),
        "containers of a task set that is gone"
    );
    user.apply(&[task_set("shift-red", "shift", 50)])?;
    steady(user, "shift-red", 2)?;
    // The service takes its task sets with it.
    user.delete(&["shift"])?;
    let left = user
        .kubectl()
        .list("tasksets.tallyman.dev", user.namespace())?;
    ensure!(left.is_empty(), "{} task sets are left", left.len());
    Ok(())
}
