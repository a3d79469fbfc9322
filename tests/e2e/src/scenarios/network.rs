//! How tasks reach the network and each other: ports of the host, addresses of their own, shared namespaces.

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use tallyman_lab::wait_until;

use crate::suite::Scenario;
use crate::user::{PATIENCE, User};

/// Scenarios of this file.
pub const SCENARIOS: &[Scenario] = &[Scenario {
    name: "a range of ports and dynamic ports come from the host's own range",
    run: chosen_ports,
}];

fn container(name: &str, script: &str, more: Value) -> Value {
    let mut one = json!({
        "name": name, "image": "localhost/tallyman/busybox:1", "memory": 16, "stopTimeout": 2,
        "entryPoint": ["sh", "-c"], "command": [script],
    });
    if let (Some(one), Value::Object(more)) = (one.as_object_mut(), more) {
        one.extend(more);
    }
    one
}

/// A TaskDefinition.
fn definition(name: &str, containers: &[Value], more: Value) -> Value {
    let mut spec = json!({ "containerDefinitions": containers });
    if let (Some(spec), Value::Object(more)) = (spec.as_object_mut(), more) {
        spec.extend(more);
    }
    json!({ "kind": "TaskDefinition", "metadata": { "name": name }, "spec": spec })
}

/// A Task of the definition on the first host.
fn task(user: &User<'_>, name: &str, definition: &str) -> Result<()> {
    user.apply(&[json!({
        "kind": "Task", "metadata": { "name": name },
        "spec": { "taskDefinition": definition, "containerInstance": user.lab.host(0).name() },
    })])?;
    Ok(())
}

fn until(user: &User<'_>, task: &str, last_status: &str) -> Result<Value> {
    wait_until(format!("{task} to be {last_status}"), PATIENCE, || {
        let task = user.get("tasks", task)?;
        let status = &task["status"];
        ensure!(status["lastStatus"] == last_status, "{status}");
        Ok(Some(status.clone()))
    })
}

fn gone(user: &User<'_>, tasks: &[&str], definition: &str) -> Result<()> {
    for task in tasks {
        user.k(&["delete", "tasks.tallyman.dev", task, "--timeout=60s"])?;
    }
    user.delete(&[definition])
}

/// Serves a page that says `text` on these ports.
fn serving(text: &str, ports: &[u16]) -> String {
    use std::fmt::Write as _;
    let mut script = format!("mkdir -p /page && echo {text} > /page/index.html; ");
    for port in ports {
        let _ = write!(script, "httpd -p {port} -h /page; ");
    }
    script + "trap 'exit 0' TERM; while :; do sleep 1; done"
}

fn chosen_ports(user: &User<'_>) -> Result<()> {
    let host = user.lab.host(0);
    let web = container(
        "web",
        &serving("served", &[80, 8000, 8001, 8002]),
        json!({ "portMappings": [{ "containerPort": 80 }, { "containerPortRange": "8000-8002" }] }),
    );
    user.apply(&[definition("ranged", &[web], json!({}))])?;
    let names = ["ranged-a", "ranged-b"];
    for name in names {
        task(user, name, "ranged")?;
    }
    let mut seen: Vec<u16> = Vec::new();
    for name in names {
        let status = until(user, name, "RUNNING")?;
        let bindings = status["containers"][0]["networkBindings"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        ensure!(bindings.len() == 2, "one binding each: {bindings:?}");
        let single = bindings[0]["hostPort"].as_u64().context("no hostPort")?;
        seen.push(u16::try_from(single)?);
        ensure!(
            bindings[1]["containerPortRange"] == "8000-8002",
            "{bindings:?}"
        );
        let range = bindings[1]["hostPortRange"].as_str().unwrap_or_default();
        let (first, last) = range.split_once('-').context("no hostPortRange")?;
        let (first, last): (u16, u16) = (first.parse()?, last.parse()?);
        ensure!(last - first == 2, "not three in a row: {range}");
        seen.extend(first..=last);
    }
    let all = crate::suite::DYNAMIC_PORTS;
    ensure!(
        seen.iter().all(|port| all.contains(port)),
        "{seen:?} are not all in {all:?}"
    );
    for port in &seen {
        let page = wait_until(format!("port {port} to answer"), PATIENCE, || {
            Ok(host.get(*port, "/").ok())
        })?;
        ensure!(page.body.contains("served"), "port {port}: {page:?}");
    }
    seen.sort_unstable();
    seen.dedup();
    ensure!(seen.len() == 8, "a port was given twice: {seen:?}");
    gone(user, &names, "ranged")
}
