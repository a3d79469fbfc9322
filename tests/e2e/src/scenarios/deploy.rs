//! Apply, serve, scale, roll, delete.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use tallyman_lab::{http, wait_until};

use crate::suite::Scenario;
use crate::user::{PATIENCE, User, checked, hello, service};

/// Scenarios of this file.
pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "apply to Ready, pages from each published port",
        run: apply_and_serve,
    },
    Scenario {
        name: "apply of the same manifests twice changes nothing",
        run: apply_twice,
    },
    Scenario {
        name: "kubectl scale 1 to 6 to 2",
        run: scale,
    },
    Scenario {
        name: "a changed text rolls within minimumHealthyPercent and maximumPercent",
        run: roll,
    },
    Scenario {
        name: "a pinned revision stays until the pin moves",
        run: pinned,
    },
    Scenario {
        name: "a health check decides when a service is Ready",
        run: health_check,
    },
    Scenario {
        name: "delete stops everything first and leaves no container",
        run: delete,
    },
];

fn apply_and_serve(user: &User<'_>) -> Result<()> {
    user.apply(&[hello("web", "first"), service("web", 3)])?;
    user.wait_ready("web")?;
    let tasks = user.wait_steady("web", 3)?;
    let mut hosts = BTreeSet::new();
    for t in &tasks {
        hosts.insert(t["status"]["containerInstance"].to_string());
        let addresses = user.addresses(t);
        ensure!(
            addresses.len() == 1,
            "task has {} published ports: {}",
            addresses.len(),
            t["status"]
        );
        let page = http::get(addresses[0], "/", Duration::from_secs(5))?;
        ensure!(
            page.status == 200 && page.body.contains("first"),
            "the page is {page:?}"
        );
    }
    ensure!(hosts.len() == 3, "3 tasks are spread over {hosts:?}");
    let table = user.k(&["get", "tsvc", "web"])?;
    for word in [
        "CLUSTER",
        "TASK DEFINITION",
        "DESIRED",
        "RUNNING",
        "READY",
        "web:1",
        "steady since",
    ] {
        ensure!(
            table.contains(word),
            "`kubectl get tsvc` lacks {word}:\n{table}"
        );
    }
    wait_until("the cluster to count 3 tasks", PATIENCE, || {
        let status = user.get("clusters", "default")?["status"].clone();
        ensure!(status["runningTasksCount"] == 3, "{status}");
        Ok(true)
    })?;
    user.delete(&["web"])
}

fn apply_twice(user: &User<'_>) -> Result<()> {
    let manifests = [hello("twice", "same"), service("twice", 1)];
    user.apply(&manifests)?;
    user.wait_steady("twice", 1)?;
    let version = |kind: &str| -> Result<(String, String)> {
        let o = user.get(kind, "twice")?;
        Ok((
            o["metadata"]["resourceVersion"].to_string(),
            o["metadata"]["generation"].to_string(),
        ))
    };
    let before = (
        version("services")?,
        version("taskdefinitions")?,
        user.running("twice")?,
    );
    let diff = user.apply(&manifests)?;
    ensure!(diff.contains("serverside-applied"), "kubectl said {diff}");
    let after = (
        version("services")?,
        version("taskdefinitions")?,
        user.running("twice")?,
    );
    ensure!(before == after, "before {before:?}, after {after:?}");
    let revisions = user
        .kubectl()
        .list("taskdefinitionrevisions.tallyman.dev", user.namespace())?;
    ensure!(revisions.len() == 1, "{} revisions exist", revisions.len());
    user.delete(&["twice"])
}

fn scale(user: &User<'_>) -> Result<()> {
    user.apply(&[checked("scaled", "x"), service("scaled", 1)])?;
    let first = user.wait_steady("scaled", 1)?;
    user.k(&["scale", "services.tallyman.dev/scaled", "--replicas=6"])?;
    let six = user.wait_steady("scaled", 6)?;
    ensure!(
        six.iter()
            .any(|t| t["metadata"]["uid"] == first[0]["metadata"]["uid"]),
        "the first task was replaced by scaling out"
    );
    let on = |host: &str| {
        six.iter()
            .filter(|t| t["status"]["containerInstance"] == host)
            .count()
    };
    for host in user.lab.hosts() {
        ensure!(
            on(host.name()) == 2,
            "{} has {} of 6 tasks",
            host.name(),
            on(host.name())
        );
    }
    user.k(&["scale", "services.tallyman.dev/scaled", "--replicas=2"])?;
    let two = user.wait_steady("scaled", 2)?;
    let hosts: BTreeSet<_> = two
        .iter()
        .map(|t| t["status"]["containerInstance"].to_string())
        .collect();
    ensure!(hosts.len() == 2, "2 tasks are left on {hosts:?}");
    // Who wrote which field is kept of what runs, and no longer of what a service stopped.
    let all = user.k(&[
        "get",
        "tasks.tallyman.dev",
        "--show-managed-fields",
        "-ojson",
    ])?;
    let all: Value = serde_json::from_str(&all)?;
    let all = all["items"].as_array().context("no tasks")?;
    let of_scaled = all
        .iter()
        .filter(|t| t["spec"]["group"] == "service:scaled");
    let (stopped, running): (Vec<&Value>, Vec<&Value>) =
        of_scaled.partition(|t| t["spec"]["desiredStatus"] == "STOPPED");
    let kept = |tasks: &[&Value]| {
        let writers = tasks
            .iter()
            .map(|t| t["metadata"]["managedFields"].as_array());
        writers.filter(|w| w.is_some_and(|w| !w.is_empty())).count()
    };
    let counts = (running.len(), kept(&running), stopped.len(), kept(&stopped));
    ensure!(
        counts == (2, 2, 4, 0),
        "running, with writers, stopped, with writers: {counts:?}"
    );
    user.delete(&["scaled"])
}

/// 4 copies at 50/150, under load: never fewer than 2 answering, never more than 6 that are not STOPPED, and every request of every
/// client gets its page.
fn roll(user: &User<'_>) -> Result<()> {
    let mut s = service("rolled", 4);
    s["spec"]["deploymentConfiguration"] =
        json!({ "minimumHealthyPercent": 50, "maximumPercent": 150 });
    user.apply(&[hello("rolled", "before"), s])?;
    user.wait_steady("rolled", 4)?;
    // Old tasks count as healthy a while after their start; the bounds are about those.
    wait_until("a page from every task", PATIENCE, || {
        Ok(answering(user, "before")? == 4)
    })?;

    let (samples, served) = user.under_load("rolled", || {
        user.apply(&[hello("rolled", "after")])?;
        wait_until("every task to run rolled:2", PATIENCE, || {
            let tasks = user.alive("rolled")?;
            let new = tasks
                .iter()
                .filter(|t| t["spec"]["taskDefinition"] == "rolled:2")
                .count();
            ensure!(
                new == 4 && tasks.len() == 4,
                "{new} of {} tasks are new",
                tasks.len()
            );
            Ok(true)
        })
    })?;
    ensure!(
        samples.len() >= 5,
        "only {} samples were taken during the rollout",
        samples.len()
    );
    for (answering, alive) in &samples {
        ensure!(
            *answering >= 2,
            "only {answering} of 4 answered at one time; (answering, alive): {samples:?}"
        );
        ensure!(
            *alive <= 6,
            "{alive} tasks existed at one time; (answering, alive): {samples:?}"
        );
    }
    ensure!(
        served.requests >= 100 && served.failed == 0,
        "while two tasks at least were healthy all the time: {served:?}"
    );
    user.wait_steady("rolled", 4)?;
    ensure!(
        answering(user, "after")? == 4,
        "not every page has the new text"
    );
    let s = user.get("services", "rolled")?;
    let deployments = s["status"]["deployments"].as_array().map_or(0, Vec::len);
    ensure!(deployments == 1, "{deployments} deployments are left");
    ensure!(
        s["status"]["deployments"][0]["rolloutState"] == "COMPLETED",
        "{}",
        s["status"]["deployments"]
    );
    user.delete(&["rolled"])
}

fn answering(user: &User<'_>, text: &str) -> Result<usize> {
    let tasks = user.alive("rolled")?;
    Ok(tasks
        .iter()
        .flat_map(|t| user.addresses(t))
        .filter(|a| http::get(*a, "/", Duration::from_secs(2)).is_ok_and(|r| r.body.contains(text)))
        .count())
}

fn pinned(user: &User<'_>) -> Result<()> {
    let mut s = service("pinned", 1);
    s["spec"]["taskDefinition"] = json!("pinned:1");
    user.apply(&[hello("pinned", "one"), s.clone()])?;
    let one = user.wait_steady("pinned", 1)?;
    user.apply(&[hello("pinned", "two")])?;
    wait_until("revision pinned:2", PATIENCE, || {
        Ok(user.get("taskdefinitions", "pinned")?["status"]["latest"] == "pinned:2")
    })?;
    let still = user.wait_steady("pinned", 1)?;
    ensure!(
        still[0]["metadata"]["uid"] == one[0]["metadata"]["uid"],
        "a pinned service followed its family"
    );
    s["spec"]["taskDefinition"] = json!("pinned:2");
    user.apply(&[s])?;
    wait_until("the pin to move the service", PATIENCE, || {
        let tasks = user.wait_steady("pinned", 1)?;
        Ok(tasks[0]["spec"]["taskDefinition"] == "pinned:2")
    })?;
    user.delete(&["pinned"])
}

fn health_check(user: &User<'_>) -> Result<()> {
    let mut t = hello("checked", "x");
    t["spec"]["containerDefinitions"][0]["healthCheck"] = json!({ "command": ["CMD-SHELL", "wget -q -O /dev/null http://127.0.0.1/"], "interval": 5, "timeout": 2 });
    user.apply(&[t, service("checked", 1)])?;
    let tasks = user.wait_steady("checked", 1)?;
    ensure!(
        tasks[0]["status"]["healthStatus"] == "HEALTHY",
        "health is {}",
        tasks[0]["status"]["healthStatus"]
    );
    user.delete(&["checked"])
}

fn delete(user: &User<'_>) -> Result<()> {
    user.apply(&[hello("gone", "x"), service("gone", 3)])?;
    user.wait_steady("gone", 3)?;
    user.k(&["delete", "services.tallyman.dev", "gone", "--timeout=60s"])?;
    let running = user.running("gone")?;
    ensure!(
        running.is_empty(),
        "the service is gone and these still run: {running:?}"
    );
    user.delete(&["gone"])
}
