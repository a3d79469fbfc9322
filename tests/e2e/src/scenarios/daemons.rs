//! DAEMON services.

use std::collections::BTreeSet;

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use tallyman_lab::{HostOptions, Lab, wait_until};

use crate::suite::{Joining, Scenario};
use crate::user::{PATIENCE, User, condition, hello, service};

/// Scenarios of this file.
pub const SCENARIOS: &[Scenario] = &[Scenario {
    name: "a daemon runs on every host and leaves a draining one last",
    run: last_to_leave,
}];

/// Scenarios in which a host joins.
pub fn joining() -> Vec<Joining> {
    vec![Joining {
        name: "a host that joins gets its daemon, and leaves by force when there is no room for its tasks elsewhere",
        run: first_to_come,
    }]
}

/// A daemon of the task definition of the same name.
fn daemon(name: &str) -> Value {
    json!({
        "kind": "Service",
        "metadata": { "name": name },
        "spec": { "taskDefinition": name, "schedulingStrategy": "DAEMON" },
    })
}

/// Hosts on which a task of the service runs.
fn hosts(user: &User<'_>, service: &str) -> Result<BTreeSet<String>> {
    let tasks = user.alive(service)?;
    let running = tasks
        .iter()
        .filter(|t| t["status"]["lastStatus"] == "RUNNING");
    let host = |t: &Value| t["status"]["containerInstance"].as_str().map(str::to_owned);
    Ok(running.filter_map(host).collect())
}

/// Waits until the daemon runs on exactly these hosts and says that this is all.
fn only_on(user: &User<'_>, service: &str, wanted: &[&str]) -> Result<()> {
    let wanted: BTreeSet<String> = wanted.iter().map(|h| (*h).to_owned()).collect();
    wait_until(format!("{service} on {wanted:?}"), PATIENCE, || {
        let s = user.get("services", service)?;
        let (ready, _, message) = condition(&s, "Ready");
        let found = hosts(user, service)?;
        ensure!(
            found == wanted && ready == "True",
            "it is on {found:?}: {message}"
        );
        ensure!(
            s["status"]["desiredCount"] == wanted.len(),
            "it wants {}",
            s["status"]["desiredCount"]
        );
        Ok(true)
    })
}

fn set_status(user: &User<'_>, host: &str, status: &str) -> Result<()> {
    let patch = json!({ "spec": { "status": status } }).to_string();
    let object = format!("containerinstances.tallyman.dev/{host}");
    user.k(&["patch", &object, "--type=merge", "-p", &patch])?;
    Ok(())
}

fn last_to_leave(user: &User<'_>) -> Result<()> {
    let job = json!({
        "kind": "Task", "metadata": { "name": "job" },
        "spec": { "taskDefinition": "app", "containerInstance": "host-2" },
    });
    user.apply(&[
        hello("logs", "x"),
        daemon("logs"),
        hello("app", "x"),
        service("app", 3),
        job,
    ])?;
    only_on(user, "logs", &["host-1", "host-2", "host-3"])?;
    user.wait_steady("app", 3)?;
    set_status(user, "host-2", "DRAINING")?;
    wait_until("the service to have left host-2", PATIENCE, || {
        let on = hosts(user, "app")?;
        ensure!(
            !on.contains("host-2") && user.alive("app")?.len() == 3,
            "it is on {on:?}"
        );
        Ok(true)
    })?;
    // The job is still there, and so is the daemon.
    only_on(user, "logs", &["host-1", "host-2", "host-3"])?;
    user.k(&["delete", "tasks.tallyman.dev", "job", "--timeout=60s"])?;
    only_on(user, "logs", &["host-1", "host-3"])?;
    set_status(user, "host-2", "ACTIVE")?;
    only_on(user, "logs", &["host-1", "host-2", "host-3"])?;
    user.delete(&["app", "logs"])
}

fn first_to_come(lab: &mut Lab, options: &HostOptions) -> Result<()> {
    let user = User::new(lab);
    // More than fit on three hosts, so that a new one fills up at once.
    let mut app = hello("app", "x");
    app["spec"]["containerDefinitions"][0]["cpu"] = json!(900);
    user.apply(&[hello("logs", "x"), daemon("logs"), app, service("app", 9)])?;
    wait_until("three hosts to be full", PATIENCE, || {
        let s = user.get("services", "app")?;
        let (_, reason, message) = condition(&s, "Ready");
        ensure!(reason == "TasksNotPlaceable", "{reason}: {message}");
        Ok(true)
    })?;
    only_on(&user, "logs", &["host-1", "host-2", "host-3"])?;
    lab.add_host("host-4", options)?;
    let user = User::new(lab);
    only_on(&user, "logs", &["host-1", "host-2", "host-3", "host-4"])?;
    wait_until("the service to use the new host, too", PATIENCE, || {
        let on = hosts(&user, "app")?;
        ensure!(on.contains("host-4"), "it is on {on:?}");
        Ok(true)
    })?;
    leaves_by_force(&user)?;
    only_on(&user, "logs", &["host-1", "host-2", "host-3"])?;
    user.delete(&["app", "logs"])
}

/// `host-4` is deleted while its tasks find no room elsewhere: it stays and says how it would leave, and so it does.
fn leaves_by_force(user: &User<'_>) -> Result<()> {
    const OBJECT: &str = "containerinstances.tallyman.dev/host-4";
    const FORCE: &str = "tallyman.dev/forceDeregistration";
    user.k(&["delete", OBJECT, "--wait=false"])?;
    wait_until("the host to say how it leaves", PATIENCE, || {
        let (_, reason, message) = condition(&user.get("containerinstances", "host-4")?, "Ready");
        ensure!(
            reason == "Deregistering" && message.contains(FORCE),
            "{reason}: {message}"
        );
        Ok(true)
    })?;
    ensure!(
        hosts(user, "app")?.contains("host-4"),
        "tasks were stopped without force"
    );
    user.k(&["annotate", OBJECT, &format!("{FORCE}=true")])?;
    user.k(&["wait", "--for=delete", OBJECT, "--timeout=60s"])?;
    let host = user.lab.host_named("host-4")?;
    let left = host.docker_ok(["ps", "--all", "--filter", "label=tallyman.dev/task"])?;
    ensure!(left.lines().count() <= 1, "left on host-4: {left}");
    let tasks = user.tasks("app")?;
    let forced = tasks.iter().filter(|t| {
        t["status"]["stoppedReason"] == "Container instance deregistration forced by user"
    });
    ensure!(forced.count() > 0, "no task says why it was stopped");
    Ok(())
}
