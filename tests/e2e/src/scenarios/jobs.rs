//! Runs and schedules: ECS RunTask to its end, its failures, waiting for room, and a schedule on the minute.

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use tallyman_lab::{paths, wait_until};

use crate::suite::Scenario;
use crate::user::{PATIENCE, User, condition, hello};

/// Scenarios of this file.
pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "a run ends with the exit codes of its copies, and failures are told as ECS tells them",
        run: run_to_the_end,
    },
    Scenario {
        name: "a schedule starts a run on the minute, a run waits for room, and deletion stops tasks first",
        run: on_the_minute,
    },
];

/// A definition of one container that runs a script.
fn job(name: &str, script: &str) -> Value {
    let mut t = hello(name, "x");
    t["spec"]["containerDefinitions"][0] = json!({
        "name": "job", "image": "localhost/tallyman/busybox:1", "memory": 16, "stopTimeout": 2,
        "entryPoint": ["sh", "-c"], "command": [script],
    });
    t
}

fn run(name: &str, fields: Value) -> Value {
    json!({ "kind": "RunTask", "metadata": { "name": name }, "spec": fields })
}

/// `kubectl wait --for=condition=...` of a run, and its status then.
fn wait_for(user: &User<'_>, name: &str, what: &str) -> Result<Value> {
    let object = format!("trun/{name}");
    let condition = format!("--for=condition={what}");
    let timeout = format!("--timeout={}s", PATIENCE.as_secs());
    let waited = user.k(&["wait", &condition, &object, &timeout]);
    let status = user.get("runtasks", name)?["status"].clone();
    waited.with_context(|| format!("{name} is not {what}: {status}"))?;
    Ok(status)
}

fn run_to_the_end(user: &User<'_>) -> Result<()> {
    user.apply(&[
        job("batch", "exit 0"),
        run(
            "three",
            json!({ "taskDefinition": "batch", "count": 3, "startedBy": "e2e" }),
        ),
        run(
            "again",
            json!({
                "taskDefinition": "batch", "backoffLimit": 1,
                "overrides": { "containerOverrides": [{ "name": "job", "command": ["exit 7"] }] },
            }),
        ),
        run(
            "giant",
            json!({
                "taskDefinition": "batch", "count": 2,
                "overrides": { "containerOverrides": [{ "name": "job", "memory": 900_000_000 }] },
            }),
        ),
    ])?;

    let examples = paths::source_root()?
        .join("examples/jobs")
        .display()
        .to_string();
    user.k(&["apply", "-f", &examples])?;
    let status = wait_for(user, "three", "Complete")?;
    let copies = status["tasks"].as_array().cloned().unwrap_or_default();
    let ended: Vec<_> = copies
        .iter()
        .map(|c| (c["name"].clone(), c["exitCode"].clone()))
        .collect();
    let expected: Vec<_> = (1..=3)
        .map(|n| (json!(format!("three-{n}")), json!(0)))
        .collect();
    ensure!(ended == expected, "the copies: {status}");
    ensure!(
        status["succeeded"] == 3 && status["active"] == 0,
        "the counts: {status}"
    );
    let task = user.get("tasks", "three-2")?;
    ensure!(
        task["spec"]["group"] == "family:batch" && task["spec"]["startedBy"] == "e2e",
        "group and startedBy of {}",
        task["spec"]
    );

    let status = wait_for(user, "giant", "Failed")?;
    let failures = status["failures"].as_array().cloned().unwrap_or_default();
    let hosts: Vec<_> = user.lab.hosts().iter().map(|h| json!(h.name())).collect();
    let told: Vec<_> = failures.iter().map(|f| f["arn"].clone()).collect();
    ensure!(
        told == hosts && failures.iter().all(|f| f["reason"] == "RESOURCE:MEMORY"),
        "one failure for each host: {failures:?}"
    );
    ensure!(
        user.k(&["get", "task", "giant-1"]).is_err(),
        "there is no such task"
    );

    // It failed, waited for ten seconds, and failed again.
    let status = wait_for(user, "again", "Failed")?;
    ensure!(
        status["tasks"][0]["name"] == "again-2"
            && status["tasks"][0]["exitCode"] == 7
            && status["failed"] == 2,
        "the second try: {status}"
    );
    let (_, reason, message) = condition(&user.get("runtasks", "again")?, "Failed");
    ensure!(
        reason == "BackoffLimitExceeded" && message.contains("exit code 7"),
        "{reason}: {message}"
    );
    let table = user.k(&["get", "trun"])?;
    ensure!(
        table.contains("complete, 3 of 3 ended well"),
        "the columns:\n{table}"
    );

    // What a newcomer applies.
    wait_for(user, "greeting", "Complete")?;
    let schedule = user.get("scheduledtasks", "morning")?;
    ensure!(
        condition(&schedule, "Ready").0 == "True"
            && schedule["status"]["nextScheduleTime"].is_string(),
        "the example's schedule: {}",
        schedule["status"]
    );
    user.k(&["delete", "-f", &examples, "--timeout=60s"])?;

    user.k(&["delete", "trun", "three", "again", "giant", "--timeout=60s"])?;
    user.delete(&["batch"])
}

fn on_the_minute(user: &User<'_>) -> Result<()> {
    let mut port = job("port", "sleep 12");
    port["spec"]["containerDefinitions"][0]["portMappings"] =
        json!([{ "containerPort": 80, "hostPort": 8099 }]);
    let schedule = |name: &str, expression: &str| {
        json!({
            "kind": "ScheduledTask", "metadata": { "name": name },
            "spec": {
                "scheduleExpression": expression, "scheduleExpressionTimezone": "Europe/Berlin",
                "concurrencyPolicy": "Forbid", "runTask": { "taskDefinition": "stay" },
            },
        })
    };
    user.apply(&[
        port,
        job("stay", "trap 'exit 0' TERM; while :; do sleep 1; done"),
        schedule("tick", "cron(* * * * ? *)"),
        schedule("wrong", "cron(61 * * * ? *)"),
        // One more than there are hosts, each on the same port of its host.
        run(
            "ports",
            json!({ "taskDefinition": "port", "count": 4, "waitForCapacity": true }),
        ),
    ])?;

    let wrong = wait_until("the wrong schedule to say so", PATIENCE, || {
        let (is, _, message) = condition(&user.get("scheduledtasks", "wrong")?, "Stalled");
        Ok((is == "True").then_some(message))
    })?;
    ensure!(wrong.contains("0-59") && wrong.contains("`61`"), "{wrong}");
    wait_until("the fourth copy to wait for the port", PATIENCE, || {
        let (_, reason, message) = condition(&user.get("runtasks", "ports")?, "Reconciling");
        Ok(reason == "TasksNotPlaceable" && message.contains("1 of 4 copies wait for room"))
    })?;
    let status = wait_for(user, "ports", "Complete")?;
    ensure!(
        status["succeeded"] == 4 && status["failed"] == 0,
        "{status}"
    );

    let (name, task) = wait_until("a run of this minute", PATIENCE, || {
        let status = user.get("scheduledtasks", "tick")?["status"].clone();
        let Some(name) = status["active"][0].as_str() else {
            anyhow::bail!("the schedule: {status}");
        };
        let task = user.get("tasks", &format!("{name}-1"))?;
        ensure!(
            task["status"]["lastStatus"] == "RUNNING",
            "{}",
            task["status"]
        );
        Ok(Some((name.to_owned(), task["metadata"]["name"].clone())))
    })?;
    let made = user.get("runtasks", &name)?;
    let due = made["metadata"]["annotations"]["tallyman.dev/scheduled-time"].clone();
    let status = user.get("scheduledtasks", "tick")?["status"].clone();
    ensure!(
        due.as_str().is_some_and(|due| due.ends_with(":00Z")) && status["lastScheduleTime"] == due,
        "{name} was due at {due}: {status}"
    );
    let first = wait_for(user, &name, "Ready")?;
    ensure!(first["active"] == 1, "{first}");

    // The schedule takes its run with it, and that its task.
    user.k(&["delete", "tsched", "tick", "wrong", "--timeout=60s"])?;
    user.k(&[
        "wait",
        "--for=delete",
        &format!("trun/{name}"),
        "--timeout=60s",
    ])?;
    let alive = user
        .containers()?
        .into_iter()
        .any(|c| json!(c.task) == task && c.state == "running");
    ensure!(!alive, "{task} runs on although its run is gone");
    user.k(&["delete", "trun", "ports", "--timeout=60s"])?;
    user.delete(&["port", "stay"])
}
