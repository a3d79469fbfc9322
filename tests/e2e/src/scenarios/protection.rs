//! Tasks that protect themselves from scale-in and deployments.

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::{Value, json};
use tallyman_lab::wait_until;

use crate::inside::{Inside, REGION, container, definition};
use crate::suite::Scenario;
use crate::user::{PATIENCE, User, condition, service};

/// Scenarios of this file.
pub const SCENARIOS: &[Scenario] = &[Scenario {
    name: "a task that protects itself outlives scale-in until it takes that back",
    run: protected,
}];

const URL: &str = "$ECS_AGENT_URI/task-protection/v1/state";

fn protected(user: &User<'_>) -> Result<()> {
    let busy = definition("busy", &json!([container("busy")]));
    user.apply(&[busy, service("busy", 2)])?;
    user.wait_steady("busy", 2)?;
    let inside = Inside::find(user, "busy")?;
    let task = inside.label("tallyman.dev/task")?;
    let arn = format!(
        "arn:aws:ecs:{REGION}:{}:task/default/{task}",
        user.namespace()
    );

    let put = |body: Value, wanted: u16| -> Result<Value> {
        let (status, said) = inside.put(URL, &body)?;
        ensure!(status == wanted, "{body}: {status} {said}");
        serde_json::from_str(&said).with_context(|| said)
    };
    let wrong = put(
        json!({ "ProtectionEnabled": true, "ExpiresInMinutes": 3000 }),
        400,
    )?;
    ensure!(
        wrong["error"]["Code"] == "InvalidParameterException",
        "{wrong}"
    );
    let said = put(
        json!({ "ProtectionEnabled": true, "ExpiresInMinutes": 60 }),
        200,
    )?;
    ensure!(
        said["protection"]["ProtectionEnabled"] == true
            && said["protection"]["TaskArn"] == arn.as_str(),
        "{said}"
    );
    // It was told before the answer.
    let status = user.get("tasks", &task)?["status"].clone();
    ensure!(
        status["protectedUntil"] == said["protection"]["ExpirationDate"],
        "{status}"
    );
    ensure!(
        inside.get(URL)? == said,
        "what is read differs from what was said"
    );

    user.k(&["scale", "services.tallyman.dev/busy", "--replicas=0"])?;
    wait_until("the service to say what holds it up", PATIENCE, || {
        let (_, reason, message) = condition(&user.get("services", "busy")?, "Ready");
        ensure!(reason == "TasksProtected", "{reason}: {message}");
        Ok(true)
    })?;
    let told = user.k(&["describe", "services.tallyman.dev", "busy"])?;
    ensure!(
        told.contains("(service busy) was unable to reach steady state because task set")
            && told.contains(
                "The number of protected tasks are more than the desired count of tasks."
            ),
        "{told}"
    );
    let left = user.get("tasks", &task)?;
    ensure!(left["spec"]["desiredStatus"] == "RUNNING", "{left}");

    put(json!({ "ProtectionEnabled": false }), 200)?;
    user.wait_steady("busy", 0)?;
    blocked(user)
}

/// A protected task of the old revision takes the room of a new one: no other task is protected until it is done.
fn blocked(user: &User<'_>) -> Result<()> {
    let mut spec = service("busy", 2);
    spec["spec"]["deploymentConfiguration"] =
        json!({ "minimumHealthyPercent": 0, "maximumPercent": 100 });
    user.apply(&[spec])?;
    user.wait_steady("busy", 2)?;
    let old = Inside::find(user, "busy")?;
    let protected = old.label("tallyman.dev/task")?;
    let ask = |inside: &Inside<'_>, enabled: bool| -> Result<Value> {
        let (status, said) = inside.put(URL, &json!({ "ProtectionEnabled": enabled }))?;
        ensure!(status == 200, "{status} {said}");
        serde_json::from_str(&said).with_context(|| said)
    };
    let said = ask(&old, true)?;
    ensure!(said["protection"]["ProtectionEnabled"] == true, "{said}");
    let mut another = container("busy");
    another["environment"] = json!([{ "name": "REVISION", "value": "2" }]);
    user.apply(&[definition("busy", &json!([another]))])?;
    wait_until("protected tasks to block the deployment", PATIENCE, || {
        let service = user.get("services", "busy")?;
        Ok(service["status"]["deployments"][0]["blockedByProtection"] == true)
    })?;
    wait_until("the new task to be refused", PATIENCE, || {
        let mut running = user.containers()?.into_iter();
        let is_new = |task: &str| task.starts_with("busy-") && task != protected;
        let new = running.find(|c| c.state == "running" && is_new(&c.task));
        let new = new.context("no other task runs yet")?;
        let new = Inside::of_task(user, &new.task, "busy")?;
        let said = ask(&new, true)?;
        if said["failure"]["Reason"] != "DEPLOYMENT_BLOCKED" {
            // Its agent was not told yet.
            ask(&new, false)?;
            bail!("{said}");
        }
        Ok(true)
    })?;
    let said = ask(&old, true)?;
    ensure!(
        said["protection"]["ProtectionEnabled"] == true,
        "who is protected may ask again: {said}"
    );
    ask(&old, false)?;
    user.wait_steady("busy", 2)?;
    user.delete(&["busy"])
}
