//! Engines in trouble: nothing is invented of their tasks, the ContainerInstance says what is wrong, and all goes on when
//! the trouble is over.

use std::fs::File;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use tallyman_lab::{Host, Signal, wait_until};

use crate::suite::Scenario;
use crate::user::{PATIENCE, User, condition, hello, service};

/// Scenarios of this file.
pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "an engine that stops takes no new task and loses none",
        run: engine_stopped,
    },
    Scenario {
        name: "an engine that hangs is told of within 30 seconds, and nothing is invented of its tasks",
        run: hung,
    },
    Scenario {
        name: "an engine without live-restore that restarts ends its tasks, and they are replaced",
        run: restarted,
    },
    Scenario {
        name: "containers outlive a containerd that is killed",
        run: containerd_killed,
    },
    Scenario {
        name: "a host with a full disk says so within 30 seconds, takes no new task, keeps the others, and takes them again when there is room",
        run: disk_full,
    },
    Scenario {
        name: "a host with a broken image store is given no tasks, keeps those it has, and is tried again when it is mended",
        run: store_broken,
    },
];

/// How soon a host says that its engine is in trouble.
const TOLD_WITHIN: Duration = Duration::from_secs(30);

fn engine_stopped(user: &User<'_>) -> Result<()> {
    user.apply(&[hello("engine", "x"), service("engine", 3)])?;
    user.wait_steady("engine", 3)?;
    let before = user.running("engine")?;
    let host = user.lab.host(0);
    host.stop_engine(Signal::TERM)?;
    told_in_time(user, host, Instant::now(), "EngineUnreachable")?;
    user.k(&["scale", "services.tallyman.dev/engine", "--replicas=5"])?;
    wait_until("5 tasks", PATIENCE, || Ok(user.alive("engine")?.len() == 5))?;
    let new: Vec<_> = user
        .alive("engine")?
        .into_iter()
        .filter(|t| !before.contains_key(t["metadata"]["name"].as_str().unwrap_or_default()))
        .collect();
    for t in &new {
        ensure!(
            t["spec"]["containerInstance"] != host.name(),
            "a task was placed on a host without engine"
        );
    }
    host.start_engine()?;
    user.wait_steady("engine", 5)?;
    let after = user.running("engine")?;
    for (task, id) in &before {
        ensure!(
            after.get(task) == Some(id),
            "{task} had container {id}, now {:?}",
            after.get(task)
        );
    }
    user.delete(&["engine"])
}

fn hung(user: &User<'_>) -> Result<()> {
    user.apply(&[hello("patient", "x"), service("patient", 3)])?;
    user.wait_steady("patient", 3)?;
    let before = user.running("patient")?;
    let host = user.lab.host(0);
    let dockerd = host.engine().dockerd();
    dockerd.signal(Signal::STOP);
    let while_hung = while_hung(user, host);
    // Whatever was seen, nobody else shall find it asleep.
    dockerd.signal(Signal::CONT);
    while_hung?;
    wait_ready(user, host, "AgentConnected")?;
    user.wait_steady("patient", 4)?;
    let after = user.running("patient")?;
    for (task, id) in &before {
        ensure!(
            after.get(task) == Some(id),
            "{task} had container {id}, now {:?}",
            after.get(task)
        );
    }
    user.delete(&["patient"])
}

fn while_hung(user: &User<'_>, host: &Host) -> Result<()> {
    let since = Instant::now();
    let message = told_in_time(user, host, since, "EngineUnreachable")?;
    ensure!(
        message.contains("has not listed its containers for 15 s"),
        "{message}"
    );
    user.k(&["scale", "services.tallyman.dev/patient", "--replicas=4"])?;
    wait_until("4 tasks that run", PATIENCE, || {
        let alive = user.alive("patient")?;
        let all_run = alive.iter().all(|t| t["status"]["lastStatus"] == "RUNNING");
        Ok(alive.len() == 4 && all_run)
    })?;
    let tasks = user.tasks("patient")?;
    ensure!(tasks.len() == 4, "{} tasks were made for 4", tasks.len());
    let last = tasks
        .iter()
        .max_by_key(|t| t["metadata"]["name"].to_string())
        .context("no task")?;
    ensure!(
        last["spec"]["containerInstance"] != host.name(),
        "a task was placed on a host whose engine hangs"
    );
    Ok(())
}

/// The third host's engine ends its containers with itself.
fn restarted(user: &User<'_>) -> Result<()> {
    user.apply(&[hello("brittle", "x"), service("brittle", 3)])?;
    let tasks = user.wait_steady("brittle", 3)?;
    let before = user.running("brittle")?;
    let host = user.lab.host(2);
    let ended: Vec<String> = tasks
        .iter()
        .filter(|t| t["spec"]["containerInstance"] == host.name())
        .filter_map(|t| t["metadata"]["name"].as_str().map(str::to_owned))
        .collect();
    ensure!(!ended.is_empty(), "no task is on {}", host.name());
    host.stop_engine(Signal::TERM)?;
    told_in_time(user, host, Instant::now(), "EngineUnreachable")?;
    host.start_engine()?;
    wait_ready(user, host, "AgentConnected")?;
    wait_until("its tasks to have ended", PATIENCE, || {
        for name in &ended {
            let status = user.get("tasks", name)?["status"].clone();
            ensure!(status["lastStatus"] == "STOPPED", "{status}");
            ensure!(
                status["stopCode"] == "EssentialContainerExited"
                    && status["containers"][0]["exitCode"].is_number(),
                "{status}"
            );
        }
        Ok(true)
    })?;
    user.wait_steady("brittle", 3)?;
    let after = user.running("brittle")?;
    for (task, id) in &before {
        let expected = Some(id).filter(|_| !ended.contains(task));
        ensure!(
            after.get(task) == expected,
            "{task} had container {id}, now {:?}",
            after.get(task)
        );
    }
    user.delete(&["brittle"])
}

fn containerd_killed(user: &User<'_>) -> Result<()> {
    user.apply(&[hello("below", "x"), service("below", 3)])?;
    user.wait_steady("below", 3)?;
    let before = user.running("below")?;
    let host = user.lab.host(0);
    host.engine().containerd().kill9()?;
    host.start_engine()?;
    user.k(&["scale", "services.tallyman.dev/below", "--replicas=6"])?;
    user.wait_steady("below", 6)?;
    let after = user.running("below")?;
    ensure!(after.len() == 6, "{} containers run", after.len());
    for (task, id) in &before {
        ensure!(
            after.get(task) == Some(id),
            "{task} had container {id}, now {:?}",
            after.get(task)
        );
    }
    user.delete(&["below"])
}

/// The second host's engine has a small disk of its own.
fn disk_full(user: &User<'_>) -> Result<()> {
    let host = user.lab.host(1);
    let ballast = host.engine().data().join("ballast");
    user.apply(&[hello("roomy", "x")])?;
    user.apply(&[task("roomy-before", "roomy", host)])?;
    wait_running(user, "roomy-before")?;
    fill(&ballast)?;
    let since = Instant::now();
    let while_full = while_full(user, host, since);
    // Whatever was seen, nobody else shall find it full.
    std::fs::remove_file(&ballast)?;
    while_full?;
    let message = wait_ready(user, host, "AgentConnected")?;
    ensure!(!message.contains("disk"), "{message}");
    user.apply(&[task("roomy-after", "roomy", host)])?;
    wait_running(user, "roomy-after")?;
    wait_running(user, "roomy-before")?;
    user.k(&[
        "delete",
        "tasks.tallyman.dev",
        "roomy-before",
        "roomy-full",
        "roomy-after",
        "--timeout=60s",
    ])?;
    user.delete(&["roomy", "elsewhere"])
}

fn while_full(user: &User<'_>, host: &Host, since: Instant) -> Result<()> {
    let message = told_in_time(user, host, since, "DiskFull")?;
    ensure!(message.contains("has hardly any space left"), "{message}");
    user.apply(&[task("roomy-full", "roomy", host)])?;
    wait_refused(user, "roomy-full", "has a full disk")?;
    user.apply(&[hello("elsewhere", "x"), service("elsewhere", 3)])?;
    let tasks = user.wait_steady("elsewhere", 3)?;
    for t in &tasks {
        ensure!(
            t["spec"]["containerInstance"] != host.name(),
            "a task was placed on a host whose disk is full"
        );
    }
    wait_running(user, "roomy-before")
}

/// Where engines make the layer of a new container: 20.10, and current ones with containerd's image store or without.
const LAYERS: [&str; 3] = [
    "containerd/io.containerd.snapshotter.v1.overlayfs/snapshots",
    "docker/overlay2/l",
    "docker/image/overlay2/layerdb",
];

fn store_broken(user: &User<'_>) -> Result<()> {
    let host = user.lab.host(0);
    user.apply(&[hello("roomy", "x"), hello("roomier", "x")])?;
    user.apply(&[task("roomy-before", "roomy", host)])?;
    wait_running(user, "roomy-before")?;
    let holds_layers =
        |folder: &PathBuf| std::fs::read_dir(folder).is_ok_and(|mut all| all.next().is_some());
    let layers = LAYERS.map(|folder| host.engine().data().join(folder));
    let layers = layers.into_iter().find(holds_layers).context("no layers")?;
    let aside = layers.with_added_extension("aside");
    std::fs::rename(&layers, &aside)?;
    let while_broken = while_broken(user, host);
    // Whatever was seen, nobody else shall find it broken.
    let _ = std::fs::remove_dir_all(&layers);
    std::fs::rename(&aside, &layers)?;
    while_broken?;
    // It is tried again after a minute, perhaps two.
    wait_ready(user, host, "AgentConnected")?;
    user.apply(&[task("roomy-after", "roomy", host)])?;
    wait_running(user, "roomy-after")?;
    wait_running(user, "roomy-before")?;
    wait_until("the host to say nothing of it any more", PATIENCE, || {
        let (_, _, message) = condition(&user.get("containerinstances", host.name())?, "Ready");
        ensure!(!message.contains("fails to"), "{message}");
        Ok(true)
    })?;
    user.k(&[
        "delete",
        "tasks.tallyman.dev",
        "roomy-before",
        "roomy-broken",
        "roomier-broken",
        "roomy-refused",
        "roomy-after",
        "--timeout=60s",
    ])?;
    user.delete(&["roomy", "roomier"])
}

fn while_broken(user: &User<'_>, host: &Host) -> Result<()> {
    let since = Instant::now();
    // One task definition alone might be what the engine cannot take.
    let families = ["roomy", "roomier"];
    let broken = families.map(|family| (format!("{family}-broken"), family));
    user.apply(
        &broken
            .each_ref()
            .map(|(name, family)| task(name, family, host)),
    )?;
    let message = told_in_time(user, host, since, "EngineFails")?;
    ensure!(
        message.contains(
            "fails to create containers (CannotCreateContainerError), whichever task asks"
        ),
        "{message}"
    );
    for (name, _) in &broken {
        wait_until("a new task to fail", PATIENCE, || {
            let status = user.get("tasks", name)?["status"].clone();
            let reason = status["stoppedReason"].as_str().unwrap_or_default();
            ensure!(
                status["lastStatus"] == "STOPPED" && reason.contains("CannotCreateContainerError"),
                "{status}"
            );
            Ok(true)
        })?;
    }
    user.apply(&[task("roomy-refused", "roomy", host)])?;
    wait_refused(user, "roomy-refused", "has an engine that fails")?;
    wait_running(user, "roomy-before")
}

/// Writes until there is no room for one byte more.
fn fill(path: &Path) -> Result<()> {
    let mut file = File::create(path)?;
    for piece in [1 << 20, 1 << 10, 1] {
        let zeros = vec![0; piece];
        loop {
            match file.write_all(&zeros) {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::StorageFull => break,
                Err(error) => return Err(error.into()),
            }
        }
    }
    Ok(())
}

fn task(name: &str, family: &str, host: &Host) -> Value {
    json!({
        "kind": "Task",
        "metadata": { "name": name },
        "spec": { "taskDefinition": family, "containerInstance": host.name() },
    })
}

fn wait_running(user: &User<'_>, task: &str) -> Result<()> {
    wait_until(format!("{task} to run"), PATIENCE, || {
        let status = user.get("tasks", task)?["status"].clone();
        ensure!(status["lastStatus"] == "RUNNING", "{status}");
        Ok(true)
    })
    .map(drop)
}

/// Waits until the task was not taken by its host, for this reason.
fn wait_refused(user: &User<'_>, task: &str, because: &str) -> Result<()> {
    wait_until(format!("{task} to be refused"), PATIENCE, || {
        let status = user.get("tasks", task)?["status"].clone();
        let reason = status["stoppedReason"].as_str().unwrap_or_default();
        ensure!(
            status["lastStatus"] == "STOPPED"
                && status["stopCode"] == "TaskFailedToStart"
                && reason.contains(because),
            "{status}"
        );
        Ok(true)
    })
    .map(drop)
}

/// Waits until the host is Ready, or not, for this reason, and returns its words.
fn wait_ready(user: &User<'_>, host: &Host, because: &str) -> Result<String> {
    wait_until(
        format!("{} to say {because}", host.name()),
        PATIENCE,
        || {
            let instance = user.get("containerinstances", host.name())?;
            let (_, reason, message) = condition(&instance, "Ready");
            ensure!(reason == because, "{reason}: {message}");
            Ok(Some(message))
        },
    )
}

/// The same, soon enough after the trouble began.
fn told_in_time(user: &User<'_>, host: &Host, since: Instant, because: &str) -> Result<String> {
    let message = wait_ready(user, host, because)?;
    let took = since.elapsed();
    ensure!(took <= TOLD_WITHIN, "told after {took:?}");
    Ok(message)
}
