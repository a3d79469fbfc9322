//! Tasks that protect themselves from scale-in and deployments.

use anyhow::{Context as _, Result, ensure};
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
    user.delete(&["busy"])
}
