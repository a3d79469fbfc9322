//! Hosts that are cut off, tasks of which no two may run, and tasks that stay when their host comes back.

use std::collections::BTreeSet;

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use tallyman_lab::{LabHost, wait_until};

use crate::suite::Scenario;
use crate::user::{PATIENCE, User, condition, hello, service, watched};

/// Scenarios of this file.
pub const SCENARIOS: &[Scenario] = &[Scenario {
    name: "a task with stopAfter stops on a host that is cut off before it runs elsewhere, and one that is to stay stays",
    run: alone,
}];

/// Hosts on which a container of the service runs.
fn running(user: &User<'_>, service: &str) -> Result<BTreeSet<String>> {
    let of = |task: &str| task.rsplit_once('-').map(|(of, _)| of.to_owned());
    let all = user.containers()?.into_iter();
    let mine = all.filter(|c| c.state == "running" && of(&c.task).as_deref() == Some(service));
    Ok(mine.map(|c| c.host).collect())
}

/// The link of its host breaks, and the agent there dies in between; a witness asks the engines all the time.
fn alone(user: &User<'_>) -> Result<()> {
    let mut sole = service("sole", 1);
    sole["spec"]["deploymentConfiguration"] =
        json!({ "minimumHealthyPercent": 0, "maximumPercent": 100 });
    sole["spec"]["disconnect"] = json!({ "stopAfter": 30, "replaceAfter": 54 });
    let refused = user.apply(&[hello("sole", "x"), sole.clone()]);
    let words = refused.err().map(|e| format!("{e:#}")).unwrap_or_default();
    ensure!(words.contains("at least 25 s more than"), "{words}");
    sole["spec"]["disconnect"] = json!({ "stopAfter": 30 });
    let mut kept = service("kept", 3);
    kept["spec"]["disconnect"] = json!({ "keepOnReturn": "Original" });
    user.apply(&[hello("sole", "x"), sole, hello("kept", "x"), kept])?;
    let before = names(&user.wait_steady("kept", 3)?);
    let task = user.wait_steady("sole", 1)?.remove(0);
    let name = task["spec"]["containerInstance"].as_str();
    let host = user.lab.host_named(name.unwrap_or_default())?;

    let seen = watched(
        || Ok(running(user, "sole")?.len()),
        || {
            let told = cut_off(user, host, &before);
            // Whatever came of it, the next scenario finds the link as it was.
            told.and(host.set_link(true))
                .and_then(|()| come_back(user, host, &before))
        },
    )?;
    let most = seen.into_iter().max();
    ensure!(most == Some(1), "{most:?} hosts ran it at a time");
    let old = user.get(
        "tasks",
        task["metadata"]["name"].as_str().unwrap_or_default(),
    )?;
    let reason = old["status"]["stoppedReason"].as_str().unwrap_or_default();
    ensure!(
        old["status"]["stopCode"] == "InfrastructureHealth"
            && reason.contains("disconnect.stopAfter"),
        "{}",
        old["status"]
    );
    user.delete(&["sole", "kept"])
}

fn names(tasks: &[Value]) -> BTreeSet<String> {
    let name = |task: &Value| task["metadata"]["name"].as_str().map(str::to_owned);
    tasks.iter().filter_map(name).collect()
}

fn cut_off(user: &User<'_>, host: &LabHost, kept: &BTreeSet<String>) -> Result<()> {
    host.set_link(false)?;
    host.agent().kill9()?;
    host.agent().start()?;
    wait_until("the agent to stop it by itself", PATIENCE, || {
        Ok(running(user, "sole")?.is_empty())
    })?;
    let (_, _, words) = condition(&user.get("services", "sole")?, "TasksOutOfTouch");
    ensure!(
        words.contains("stopped there by the agent after 30 s"),
        "{words}"
    );
    wait_until("it to run elsewhere", PATIENCE, || {
        let hosts = running(user, "sole")?;
        Ok(!hosts.is_empty() && !hosts.contains(host.name()))
    })?;
    wait_until("a copy of what is to stay beside it", PATIENCE, || {
        let alive = names(&user.alive("kept")?);
        ensure!(alive.len() == 4 && alive.is_superset(kept), "{alive:?}");
        Ok(true)
    })?;
    // It runs on there, unheard of.
    ensure!(running(user, "kept")?.contains(host.name()));
    for name in kept {
        let task = user.get("tasks", name)?;
        let away = task["spec"]["containerInstance"] == host.name();
        let wanted = if away { "DISCONNECTED" } else { "CONNECTED" };
        let status = &task["status"];
        ensure!(status["connectivity"] == wanted, "{task}");
        // The agent's first word of it still.
        ensure!(status["connectivityAt"] == status["acceptedAt"], "{task}");
    }
    Ok(())
}

fn come_back(user: &User<'_>, host: &LabHost, kept: &BTreeSet<String>) -> Result<()> {
    wait_until("the host to be connected again", PATIENCE, || {
        let i = user.get("containerinstances", host.name())?;
        Ok(i["status"]["agentConnected"] == true)
    })?;
    user.wait_steady("sole", 1)?;
    let hosts = running(user, "sole")?;
    ensure!(!hosts.contains(host.name()), "{hosts:?}");
    wait_until(
        "the copy to go, and what was there to stay",
        PATIENCE,
        || {
            let alive = names(&user.alive("kept")?);
            ensure!(alive == *kept, "{alive:?} instead of {kept:?}");
            Ok(true)
        },
    )?;
    ensure!(running(user, "kept")?.contains(host.name()));
    for name in kept {
        let task = user.get("tasks", name)?;
        let status = &task["status"];
        ensure!(status["connectivity"] == "CONNECTED", "{task}");
        // Times of one form are in order as texts.
        let [at, accepted] = ["connectivityAt", "acceptedAt"].map(|of| status[of].as_str());
        let back = task["spec"]["containerInstance"] == host.name();
        ensure!(if back { at > accepted } else { at == accepted }, "{task}");
    }
    Ok(())
}
