//! Objects that were stored under an older, laxer definition and that the operator cannot read: no other object waits for them.

use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use tallyman_lab::{http, wait_until};

use crate::suite::Scenario;
use crate::user::{PATIENCE, User, hello, service};

/// Scenarios of this file.
pub const SCENARIOS: &[Scenario] = &[Scenario {
    name: "a service that cannot be read stops no other, keeps its tasks, and is told with its field",
    run: unreadable,
}];

const DEFINITION: &str = "services.tallyman.dev";

/// A text where a number is due. (`desiredCount` would be refused under any definition: the scale subresource reads it.)
fn a_text() -> String {
    json!({ "spec": { "healthCheckGracePeriodSeconds": "two" } }).to_string()
}

/// As `kubectl apply` would send it.
fn broken(name: &str) -> Value {
    let mut object = service(name, 1);
    object["spec"]["healthCheckGracePeriodSeconds"] = json!("two");
    object
}

/// Puts a schema in place, and waits until the server goes by it.
fn go_by(user: &User<'_>, schema: &Value, takes: bool) -> Result<()> {
    let path = "/spec/versions/0/schema/openAPIV3Schema";
    let patch = json!([{ "op": "replace", "path": path, "value": schema }]).to_string();
    let kubectl = user.kubectl();
    kubectl.ok(["patch", "crd", DEFINITION, "--type=json", "-p", &patch])?;
    let merge = a_text();
    wait_until("the server to go by the definition", PATIENCE, || {
        // `kubectl patch` looks at no schema of its own.
        let dry = user.k(&[
            "patch",
            "tsvc",
            "steady",
            "--type=merge",
            "--dry-run=server",
            "-p",
            &merge,
        ]);
        Ok(dry.is_ok() == takes)
    })
}

fn unreadable(user: &User<'_>) -> Result<()> {
    user.apply(&[hello("steady", "x"), service("steady", 1)])?;
    user.apply(&[hello("dark", "x"), service("dark", 1)])?;
    user.wait_steady("steady", 1)?;
    user.wait_steady("dark", 1)?;
    let before = user.running("dark")?;

    let crd = user
        .kubectl()
        .ok(["get", "crd", DEFINITION, "-o", "json"])?;
    let crd: Value = serde_json::from_str(&crd)?;
    let schema = &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
    let lax = json!({ "type": "object", "x-kubernetes-preserve-unknown-fields": true });
    let stored = go_by(user, &lax, true).and_then(|()| {
        user.k(&["patch", "tsvc", "dark", "--type=merge", "-p", &a_text()])?;
        user.apply(&[broken("never-read")])
    });
    // Whatever came of it, the next scenario finds the definition as it was.
    go_by(user, schema, false)?;
    stored?;

    // A new leader lists everything anew, and has never read them.
    user.lab.operator().kill9()?;
    user.lab.operator().start()?;
    for name in ["dark", "never-read"] {
        told(user, name)?;
    }
    user.k(&["scale", "tsvc/steady", "--replicas=2"])?;
    user.wait_steady("steady", 2)?;
    let after = user.running("dark")?;
    ensure!(after == before, "{after:?} instead of {before:?}");
    wait_until("the operator to count them", PATIENCE, || {
        let answer = Duration::from_secs(10);
        let text = http::get(user.lab.operator_http(), "/metrics", answer)?.body;
        Ok(text.contains("tallyman_operator_unreadable_objects 2"))
    })?;

    // Put right, it is a service like any other.
    let spec = json!({ "healthCheckGracePeriodSeconds": null, "desiredCount": 2 });
    let merge = json!({ "spec": spec }).to_string();
    user.k(&["patch", "tsvc", "dark", "--type=merge", "-p", &merge])?;
    user.wait_steady("dark", 2)?;
    let both = user.running("dark")?;
    ensure!(
        before.iter().all(|(task, id)| both.get(task) == Some(id)),
        "{both:?} has not {before:?}"
    );
    user.k(&["delete", "tsvc", "never-read"])?;
    user.delete(&["steady", "dark"])
}

/// An Event on the object names the field.
fn told(user: &User<'_>, name: &str) -> Result<()> {
    wait_until(format!("an event on {name}"), PATIENCE, || {
        let field = format!("involvedObject.name={name},reason=Unreadable");
        let events = user.k(&["get", "events", "--field-selector", &field, "-o", "json"])?;
        let events: Value = serde_json::from_str(&events)?;
        let items = events["items"].as_array().cloned().unwrap_or_default();
        let message = items.iter().filter_map(|e| e["message"].as_str()).next();
        ensure!(
            message.is_some_and(|m| m.contains("`spec.healthCheckGracePeriodSeconds` must be")),
            "{message:?}"
        );
        Ok(true)
    })
}
