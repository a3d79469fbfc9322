//! Objects that were stored under an older, laxer definition and that no program of ours can read: no other object waits for them.

use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use tallyman_lab::{http, wait_until};

use crate::suite::Scenario;
use crate::user::{PATIENCE, User, hello, service};

/// Scenarios of this file.
pub const SCENARIOS: &[Scenario] = &[Scenario {
    name: "a service and a join that cannot be read stop no other, are told with their field, and the service keeps its tasks",
    run: unreadable,
}];

/// An object with a text where a number is due.
struct Dark {
    /// Name of the definition.
    definition: &'static str,
    resource: &'static str,
    name: &'static str,
    /// Another object, which stays as it is.
    clear: &'static str,
    field: &'static str,
}

/// (`desiredCount` would be refused under any definition: the scale subresource reads it.)
const SERVICE: Dark = Dark {
    definition: "services.tallyman.dev",
    resource: "tsvc",
    name: "dark",
    clear: "steady",
    field: "healthCheckGracePeriodSeconds",
};
const JOIN: Dark = Dark {
    definition: "hostjoins.tallyman.dev",
    resource: "hjoin",
    name: "dark-host",
    clear: "clear-host",
    field: "expiresAfterSeconds",
};

impl Dark {
    /// Writes the text. (`kubectl patch` looks at no schema of its own.)
    fn patch(&self, user: &User<'_>, name: &str, how: &[&str]) -> Result<String> {
        let merge = json!({ "spec": { self.field: "two" } }).to_string();
        let patch = ["patch", self.resource, name, "--type=merge", "-p", &merge];
        user.k(&[&patch, how].concat())
    }

    /// Puts a schema in place, and waits until the server goes by it.
    fn go_by(&self, user: &User<'_>, schema: &Value, takes: bool) -> Result<()> {
        let path = "/spec/versions/0/schema/openAPIV3Schema";
        let patch = json!([{ "op": "replace", "path": path, "value": schema }]).to_string();
        let kubectl = user.kubectl();
        kubectl.ok(["patch", "crd", self.definition, "--type=json", "-p", &patch])?;
        wait_until("the server to go by the definition", PATIENCE, || {
            Ok(self.patch(user, self.clear, &["--dry-run=server"]).is_ok() == takes)
        })
    }

    /// Stores it under a lax definition, does `more`, and puts the definition back.
    fn store(&self, user: &User<'_>, more: impl FnOnce() -> Result<()>) -> Result<()> {
        let crd = user
            .kubectl()
            .ok(["get", "crd", self.definition, "-o", "json"])?;
        let crd: Value = serde_json::from_str(&crd)?;
        let schema = &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
        let lax = json!({ "type": "object", "x-kubernetes-preserve-unknown-fields": true });
        let stored = self.go_by(user, &lax, true).and_then(|()| {
            self.patch(user, self.name, &[])?;
            more()
        });
        // Whatever came of it, the next scenario finds the definition as it was.
        self.go_by(user, schema, false)?;
        stored
    }
}

/// As `kubectl apply` would send it.
fn broken(name: &str) -> Value {
    let mut object = service(name, 1);
    object["spec"][SERVICE.field] = json!("two");
    object
}

fn unreadable(user: &User<'_>) -> Result<()> {
    user.apply(&[hello("steady", "x"), service("steady", 1)])?;
    user.apply(&[hello("dark", "x"), service("dark", 1)])?;
    user.wait_steady("steady", 1)?;
    user.wait_steady("dark", 1)?;
    let before = user.running("dark")?;

    let join = |name: &str| json!({ "kind": "HostJoin", "metadata": { "name": name }, "spec": {} });
    user.apply(&[join(JOIN.name), join(JOIN.clear)])?;
    SERVICE.store(user, || user.apply(&[broken("never-read")]).map(drop))?;
    JOIN.store(user, || Ok(()))?;

    // A new leader lists everything anew, and has never read them.
    user.lab.operator().kill9()?;
    user.lab.operator().start()?;
    for (name, field) in [
        (SERVICE.name, SERVICE.field),
        ("never-read", SERVICE.field),
        (JOIN.name, JOIN.field),
    ] {
        told(user, name, field)?;
    }
    user.k(&["scale", "tsvc/steady", "--replicas=2"])?;
    user.wait_steady("steady", 2)?;
    let after = user.running("dark")?;
    ensure!(after == before, "{after:?} instead of {before:?}");
    wait_until("the operator to count them", PATIENCE, || {
        let answer = Duration::from_secs(10);
        let text = http::get(user.lab.operator_http(), "/metrics", answer)?.body;
        Ok(text.contains("tallyman_operator_unreadable_objects 3"))
    })?;

    // The command line lists the others, and says which one it leaves out and why.
    let tree = user.tally("get", 0)?;
    ensure!(tree.stdout.contains("steady"), "{tree:?}");
    let left_out = format!(
        "Service {}/dark is stored in a way that this version cannot read: `spec.{}` must be",
        user.namespace(),
        SERVICE.field
    );
    ensure!(tree.stderr.contains(&left_out), "{tree:?}");
    user.tally("explain steady", 0)?;
    let named = user.tally("explain dark", 1)?;
    ensure!(named.stderr.contains(&left_out), "{named:?}");

    // Put right, it is a service like any other.
    let spec = json!({ SERVICE.field: null, "desiredCount": 2 });
    let merge = json!({ "spec": spec }).to_string();
    user.k(&["patch", "tsvc", "dark", "--type=merge", "-p", &merge])?;
    user.wait_steady("dark", 2)?;
    let both = user.running("dark")?;
    ensure!(
        before.iter().all(|(task, id)| both.get(task) == Some(id)),
        "{both:?} has not {before:?}"
    );
    user.k(&["delete", "tsvc", "never-read"])?;
    user.k(&["delete", JOIN.resource, JOIN.name, JOIN.clear])?;
    user.delete(&["steady", "dark"])
}

/// An Event on the object names the field.
fn told(user: &User<'_>, name: &str, spec: &str) -> Result<()> {
    wait_until(format!("an event on {name}"), PATIENCE, || {
        let field = format!("involvedObject.name={name},reason=Unreadable");
        let events = user.k(&["get", "events", "--field-selector", &field, "-o", "json"])?;
        let events: Value = serde_json::from_str(&events)?;
        let items = events["items"].as_array().cloned().unwrap_or_default();
        let message = items.iter().filter_map(|e| e["message"].as_str()).next();
        ensure!(
            message.is_some_and(|m| m.contains(&format!("`spec.{spec}` must be"))),
            "{message:?}"
        );
        Ok(true)
    })
}
