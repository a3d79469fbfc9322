//! `kubectl tally` where it has to say no: exit codes that pipelines branch on, and the sentences with them. What it does when
//! all is well is in the tour.

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use tallyman_lab::wait_until;

use crate::suite::Scenario;
use crate::user::{PATIENCE, User, condition, hello, service};

/// Scenarios of this file.
pub const SCENARIOS: &[Scenario] = &[Scenario {
    name: "kubectl tally ends with the exit code that a pipeline branches on",
    run: exit_codes,
}];

/// `text` has all of these.
pub(super) fn says(text: &str, parts: &[&str]) -> Result<()> {
    for part in parts {
        ensure!(text.contains(part), "it lacks '{part}':\n{text}");
    }
    Ok(())
}

/// A definition of one container of busybox that runs `line`.
fn job(name: &str, line: &str) -> Value {
    json!({ "kind": "TaskDefinition", "metadata": { "name": name }, "spec": { "containerDefinitions": [{
        "name": "job", "image": crate::inside::BUSYBOX, "cpu": 16, "memory": 24, "stopTimeout": 2, "command": ["sh", "-c", line] }] } })
}

fn exit_codes(user: &User<'_>) -> Result<()> {
    // A service that will not come to what is wanted by itself.
    let mut wrong = service("wrong", 1);
    wrong["spec"]["placementConstraints"] =
        json!([{ "type": "memberOf", "expression": "attribute:stack prod" }]);
    // One that waits for room for ever, and one that is pinned to an image that is nowhere.
    let mut big = hello("big", "x");
    big["spec"]["containerDefinitions"][0]["memory"] = json!(900_000);
    let mut broken = job("broken", "exit 0");
    broken["spec"]["containerDefinitions"][0]["image"] = json!("localhost/tallyman/no-such:1");
    user.apply(&[
        hello("wrong", "x"),
        wrong,
        big,
        service("big", 1),
        broken,
        job("ends", "exit $CODE"),
    ])?;

    let output = user.tally("status wrong --timeout=60s", 1)?;
    says(
        &output.stdout,
        &["spec.placementConstraints[0].expression", "column 17"],
    )?;
    wait_until("big to say why", PATIENCE, || {
        let (_, reason, message) = condition(&user.get("services", "big")?, "Ready");
        ensure!(reason == "TasksNotPlaceable", "{reason}: {message}");
        Ok(true)
    })?;
    let output = user.tally("status big --timeout=2s", 2)?;
    says(&output.stderr, &["1 of 1 tasks cannot be placed"])?;
    says(&output.stdout, &["after 2 s not there yet"])?;
    let output = user.tally("explain big -o json", 0)?;
    let explained: Value = serde_json::from_str(&output.stdout)?;
    let hosts = explained["hosts"].as_array().cloned().unwrap_or_default();
    ensure!(hosts.len() == 3, "an answer of each host: {explained}");
    for host in &hosts {
        ensure!(host["ecsReasons"] == json!(["RESOURCE:MEMORY"]), "{host}");
        says(&host.to_string(), &["the task needs 900000 MiB"])?;
    }

    let output = user.tally("run ends --rm -e CODE=7 --memory 32", 7)?;
    says(&output.stderr, &["started", "exit code 7"])?;
    user.tally("run ends --rm -e CODE=0", 0)?;
    let output = user.tally("run broken --name broken-run --rm", 125)?;
    says(&output.stderr, &["CannotPullContainerError"])?;
    let output = user.tally(
        "run ends --name late --timeout=1s -- sh -c 'sleep 300'",
        124,
    )?;
    says(&output.stderr, &["--timeout is over"])?;
    let output = user.tally("status late", 1)?;
    says(&output.stdout, &["run late"])?;
    user.k(&["delete", "trun", "late", "--timeout=60s"])?;

    // Ctrl-C stops the task, and only then ends.
    let interrupted = "timeout --foreground -s INT 5 kubectl tally run ends --name cut -- sh -c 'sleep 300'; echo code $?";
    let output = user.shell(interrupted)?;
    says(&output.stderr, &["its tasks are stopped"])?;
    let run = user.get("runtasks", "cut")?;
    ensure!(
        run["status"]["completionTime"].is_string(),
        "it had not ended: {}",
        run["status"]
    );
    user.k(&["delete", "trun", "cut", "--timeout=60s"])?;

    let output = user.tally("plan -f crds/generated/nothing.yaml", 255)?;
    says(&output.stderr, &["cannot read"])?;
    let output = user.tally("instances --filter 'attribute:stack prod'", 1)?;
    says(&output.stderr, &["column 17", "\n                  ^"])?;
    user.tally("explain nobody", 1)?;
    for name in ["broken", "ends"] {
        user.k(&["delete", "tdef", name, "--timeout=60s"])?;
    }
    user.delete(&["wrong", "big"])
}
