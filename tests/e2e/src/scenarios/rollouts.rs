//! Deployments that do not work out, restarts and pauses.

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use tallyman_lab::wait_until;

use crate::suite::Scenario;
use crate::user::{PATIENCE, User, condition, hello, service};

/// Scenarios of this file.
pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "a broken image trips the circuit breaker and the service rolls back",
        run: circuit_breaker,
    },
    Scenario {
        name: "a program that crashes trips the circuit breaker that counts exits",
        run: crash_loop,
    },
    Scenario {
        name: "an alarm that goes off during a deployment rolls it back",
        run: alarm,
    },
    Scenario {
        name: "one annotation restarts a service, and paused it begins no deployment",
        run: restart_and_pause,
    },
];

/// Service `name` of two copies whose deployment configuration has `more`.
fn guarded(name: &str, more: &Value) -> Value {
    let mut s = service(name, 2);
    s["spec"]["deploymentConfiguration"] = more.clone();
    s
}

/// Waits until the service says for `reason` that it will not go on by itself, and returns it.
fn stalled(user: &User<'_>, name: &str, reason: &str) -> Result<Value> {
    wait_until(
        format!("{name} to be Stalled as {reason}"),
        PATIENCE,
        || {
            let s = user.get("services", name)?;
            let (status, why, message) = condition(&s, "Stalled");
            ensure!(status == "True" && why == reason, "{why}: {message}");
            Ok(Some(s))
        },
    )
}

/// Waits until exactly `n` tasks of `task_definition` run and no other task of the service is left.
fn only(user: &User<'_>, name: &str, task_definition: &str, n: usize) -> Result<Vec<Value>> {
    wait_until(format!("{n} tasks of {task_definition}"), PATIENCE, || {
        let tasks = user.alive(name)?;
        let right = |t: &&Value| {
            t["spec"]["taskDefinition"] == task_definition && t["status"]["lastStatus"] == "RUNNING"
        };
        let found = tasks.iter().filter(right).count();
        ensure!(
            found == n && tasks.len() == n,
            "{found} of {} tasks are",
            tasks.len()
        );
        Ok(Some(tasks))
    })
}

fn circuit_breaker(user: &User<'_>) -> Result<()> {
    let breaker = json!({ "deploymentCircuitBreaker": { "enable": true, "rollback": true } });
    user.apply(&[hello("blue", "good"), guarded("blue", &breaker)])?;
    let before = user.wait_steady("blue", 2)?;
    let mut broken = hello("blue", "broken");
    broken["spec"]["containerDefinitions"][0]["image"] = json!("localhost/tallyman/no-such:1");
    user.apply(&[broken])?;
    let s = stalled(user, "blue", "DeploymentRolledBack")?;
    let failed = &s["status"]["failedDeployment"];
    ensure!(failed["taskDefinition"] == "blue:2", "{failed}");
    let reason = failed["reason"].as_str().unwrap_or_default();
    for part in ["tasks failed to start", "CannotPullContainerError"] {
        ensure!(reason.contains(part), "the reason lacks {part}: {reason}");
    }
    let after = only(user, "blue", "blue:1", 2)?;
    for task in &after {
        let uid = &task["metadata"]["uid"];
        let kept = before.iter().any(|t| t["metadata"]["uid"] == *uid);
        ensure!(
            kept,
            "an old task was replaced: {}",
            task["metadata"]["name"]
        );
    }
    wait_until("the rollback to be completed", PATIENCE, || {
        let s = user.get("services", "blue")?;
        let primary = &s["status"]["deployments"][0];
        ensure!(primary["rolloutState"] == "COMPLETED", "{primary}");
        ensure!(s["status"]["taskDefinition"] == "blue:1", "{}", s["status"]);
        Ok(true)
    })?;
    let told = user.k(&["describe", "services.tallyman.dev", "blue"])?;
    for sentence in [
        "deployment failed: tasks failed to start.",
        "(service blue) rolling back to deployment ecs-svc/",
        "deployment completed.",
        "(service blue) has reached a steady state.",
    ] {
        ensure!(
            told.contains(sentence),
            "describe lacks '{sentence}':\n{told}"
        );
    }
    // What was mended is another revision, and ends the matter.
    user.apply(&[hello("blue", "mended")])?;
    only(user, "blue", "blue:3", 2)?;
    user.wait_ready("blue")?;
    user.delete(&["blue"])
}

fn crash_loop(user: &User<'_>) -> Result<()> {
    let breaker = json!({ "deploymentCircuitBreaker": {
        "enable": true, "rollback": true, "thresholdConfiguration": { "type": "COUNT", "value": 4 },
        "countedFailures": ["TaskFailedToStart", "EssentialContainerExited"],
    } });
    user.apply(&[hello("crash", "good"), guarded("crash", &breaker)])?;
    user.wait_steady("crash", 2)?;
    let mut broken = hello("crash", "broken");
    broken["spec"]["containerDefinitions"][0]["image"] = json!("localhost/tallyman/busybox:1");
    broken["spec"]["containerDefinitions"][0]["command"] = json!(["sh", "-c", "sleep 0.2; exit 3"]);
    user.apply(&[broken])?;
    let s = stalled(user, "crash", "DeploymentRolledBack")?;
    let reason = s["status"]["failedDeployment"]["reason"].to_string();
    ensure!(reason.contains("exit 3"), "the reason is {reason}");
    only(user, "crash", "crash:1", 2)?;
    user.delete(&["crash"])
}

fn alarm(user: &User<'_>) -> Result<()> {
    let alarms = json!({
        "bakeTimeInMinutes": 60,
        "alarms": { "enable": true, "rollback": true, "alarmNames": ["errors"] },
    });
    user.apply(&[hello("alarm", "good"), service("alarm", 2)])?;
    user.wait_steady("alarm", 2)?;
    user.apply(&[guarded("alarm", &alarms), hello("alarm", "bad")])?;
    wait_until("the new revision to be watched", PATIENCE, || {
        let s = user.get("services", "alarm")?;
        let (_, reason, message) = condition(&s, "Ready");
        ensure!(reason == "Baking", "{reason}: {message}");
        Ok(true)
    })?;
    // As whoever watches the metrics says it, by a manager of its own.
    let said = json!([{ "op": "add", "path": "/status/conditions/-", "value": {
        "type": "alarm.tallyman.dev/errors", "status": "True", "reason": "TooMany",
        "message": "5 % of the pages are errors.", "lastTransitionTime": "2026-01-01T00:00:00Z",
    } }]);
    user.k(&[
        "patch",
        "services.tallyman.dev",
        "alarm",
        "--subresource=status",
        "--type=json",
        "-p",
        &said.to_string(),
    ])?;
    let s = stalled(user, "alarm", "DeploymentRolledBack")?;
    let reason = s["status"]["failedDeployment"]["reason"].to_string();
    ensure!(reason.contains("Alarms went off: errors."), "{reason}");
    only(user, "alarm", "alarm:1", 2)?;
    user.delete(&["alarm"])
}

fn restart_and_pause(user: &User<'_>) -> Result<()> {
    user.apply(&[hello("again", "one"), service("again", 2)])?;
    let before = user.wait_steady("again", 2)?;
    user.k(&[
        "annotate",
        "services.tallyman.dev",
        "again",
        "tallyman.dev/restartedAt=now",
    ])?;
    wait_until("every task to be another", PATIENCE, || {
        let tasks = user.alive("again")?;
        let new = tasks
            .iter()
            .filter(|t| {
                before
                    .iter()
                    .all(|b| b["metadata"]["uid"] != t["metadata"]["uid"])
            })
            .count();
        ensure!(new == 2 && tasks.len() == 2, "{new} of {}", tasks.len());
        Ok(true)
    })?;
    only(user, "again", "again:1", 2)?;
    user.wait_ready("again")?;
    let mut paused = service("again", 2);
    paused["spec"]["paused"] = json!(true);
    user.apply(&[paused, hello("again", "two")])?;
    wait_until("the service to say that again:2 waits", PATIENCE, || {
        let s = user.get("services", "again")?;
        let (_, reason, message) = condition(&s, "Ready");
        ensure!(
            reason == "Paused" && message.contains("again:2 waits"),
            "{message}"
        );
        Ok(true)
    })?;
    user.k(&["scale", "services.tallyman.dev/again", "--replicas=3"])?;
    only(user, "again", "again:1", 3)?;
    user.k(&[
        "patch",
        "services.tallyman.dev",
        "again",
        "--type=merge",
        "-p",
        r#"{"spec":{"paused":false}}"#,
    ])?;
    only(user, "again", "again:2", 3)?;
    user.wait_ready("again")?;
    user.delete(&["again"])
}
