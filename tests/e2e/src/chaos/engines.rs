//! Engines that are killed, restarted and that hang, and containers that somebody else lays hands on.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde_json::json;
use tallyman_lab::procfs::ProcessId;
use tallyman_lab::{LabHost, Signal, wait_until};

use crate::chaos::registry::Registry;
use crate::chaos::{Row, Stage};
use crate::inside::{container, definition};
use crate::user::{Container, PATIENCE, condition};

/// Rows of this file.
pub const ROWS: &[Row] = &[
    Row {
        number: "6",
        name: "an engine with live-restore is killed and started",
        fault: "SIGKILL of dockerd, tasks that end while it is away, start",
        measured: "start of dockerd until the host takes tasks again and every end is reported",
        bound: Duration::from_secs(10),
        count: 8,
        run: live_restore,
    },
    Row {
        number: "7",
        name: "an engine without live-restore is killed and started",
        fault: "SIGKILL of dockerd of the last host, which ends its containers when it is back",
        measured: "start of dockerd until as many tasks run as are wanted",
        bound: Duration::from_secs(60),
        count: 2,
        run: without_live_restore,
    },
    Row {
        number: "8",
        name: "an engine hangs",
        fault: "SIGSTOP of dockerd for 60 s, then SIGCONT",
        measured: "SIGSTOP until the ContainerInstance says so",
        bound: Duration::from_secs(30),
        count: 2,
        run: hung,
    },
    Row {
        number: "9",
        name: "a container's shim is killed",
        fault: "SIGKILL of the shim of a task's container",
        measured: "SIGKILL until the task is STOPPED and another runs in its place",
        bound: Duration::from_secs(60),
        count: 3,
        run: shim_killed,
    },
    Row {
        number: "30",
        name: "a registry lies",
        fault: "images that are not there, that nobody may have, with manifests that break off, that are none, that are huge, that are other \
                ones, that lead in a circle, and a registry that fails",
        measured: "the task until it is STOPPED with the reason that its image could not be pulled",
        bound: Duration::from_secs(60),
        count: 8,
        run: lied_to,
    },
    Row {
        number: "31",
        name: "a container cannot be killed",
        fault: "SIGSTOP of the shim of a task whose container ignores SIGTERM, its deletion, SIGCONT 60 s later",
        measured: "SIGCONT until nothing is left of it",
        bound: Duration::from_secs(60),
        count: 1,
        run: unkillable,
    },
    Row {
        number: "32",
        name: "containers are removed, stopped and renamed by hand",
        fault: "docker rm -f, docker stop and docker rename of a task's container, and a foreign container with our labels and another uid",
        measured: "the command until the task is replaced",
        bound: Duration::from_secs(60),
        count: 1,
        run: by_hand,
    },
];

/// Hosts whose containers outlive their engine.
fn restoring<'a>(stage: &Stage<'a>) -> &'a [LabHost] {
    let hosts = stage.lab().hosts();
    hosts.split_last().map_or(hosts, |(_, others)| others)
}

/// Waits until a host says of its agent and engine what is `wanted`.
fn wait_reason(stage: &Stage<'_>, host: &LabHost, wanted: &str) -> Result<()> {
    wait_until(format!("{} to be {wanted}", host.name()), PATIENCE, || {
        let all = stage.eyes.list("containerinstances")?;
        let own = all.iter().find(|i| i["metadata"]["name"] == host.name());
        let (_, reason, message) = condition(own.context("the host is gone")?, "Ready");
        ensure!(reason == wanted, "{reason}: {message}");
        Ok(true)
    })
}

fn live_restore(stage: &Stage<'_>, count: u32) -> Result<Vec<Duration>> {
    let before = stage.proof()?;
    let mut times = Vec::new();
    for i in 0..count as usize {
        let hosts = restoring(stage);
        let host = &hosts[i % hosts.len()];
        let exits = stage.running_exits(3, Some(host), 6)?;
        host.stop_engine(Signal::KILL)?;
        // The last of them has ended by then.
        stage.pass(Duration::from_secs(8));
        let since = Instant::now();
        host.start_engine()?;
        wait_reason(stage, host, "AgentConnected")?;
        stage.reach(&exits, &["STOPPED"])?;
        times.push(since.elapsed());
        stage.accounted(exits)?;
        stage.all_steady()?;
        stage.same(&before, None)?;
    }
    Ok(times)
}

fn without_live_restore(stage: &Stage<'_>, count: u32) -> Result<Vec<Duration>> {
    let mut times = Vec::new();
    for _ in 0..count {
        let before = stage.proof()?;
        let host = stage.lab().hosts().last().context("no host")?;
        host.stop_engine(Signal::KILL)?;
        stage.any_moment(Duration::from_secs(10));
        let since = Instant::now();
        host.start_engine()?;
        stage.whole()?;
        times.push(since.elapsed());
        stage.same(&before, Some(host))?;
    }
    Ok(times)
}

fn hung(stage: &Stage<'_>, count: u32) -> Result<Vec<Duration>> {
    let before = stage.proof()?;
    let mut times = Vec::new();
    for _ in 0..count {
        let host = stage.any_host();
        let dockerd = host.engine().dockerd();
        dockerd.signal(Signal::STOP);
        let since = Instant::now();
        let told = wait_reason(stage, host, "EngineUnreachable");
        times.push(since.elapsed());
        stage.pass(Duration::from_secs(60).saturating_sub(since.elapsed()));
        dockerd.signal(Signal::CONT);
        told?;
        wait_reason(stage, host, "AgentConnected")?;
        stage.all_steady()?;
        stage.same(&before, None)?;
    }
    Ok(times)
}

/// A task of the rolling service, its host, and its container's id.
fn victim<'a>(stage: &Stage<'a>) -> Result<(String, &'a LabHost, String)> {
    let running = stage.user.containers()?;
    let mine = |c: &&crate::user::Container| c.task.starts_with("rolling-") && c.state == "running";
    let all: Vec<_> = running.iter().filter(mine).collect();
    ensure!(!all.is_empty(), "no task of the rolling service runs");
    let c = all[stage.below(all.len())];
    Ok((
        c.task.clone(),
        stage.lab().host_named(&c.host)?,
        c.id.clone(),
    ))
}

/// Waits until a task is STOPPED and another runs in its place; how long it took.
fn replaced(stage: &Stage<'_>, task: &str, since: Instant) -> Result<Duration> {
    wait_until(format!("{task} to be STOPPED"), PATIENCE, || {
        let status = stage.user.get("tasks", task)?["status"].clone();
        ensure!(status["lastStatus"] == "STOPPED", "{status}");
        Ok(true)
    })?;
    stage.steady_rolling()?;
    Ok(since.elapsed())
}

/// The shim of a running container.
fn shim_of(host: &LabHost, id: &str) -> Result<ProcessId> {
    let pid = host.docker_ok(["inspect", "--format", "{{.State.Pid}}", id])?;
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let parent = status.lines().find_map(|line| line.strip_prefix("PPid:"));
    let parent = parent.context("no parent")?.trim().parse()?;
    ProcessId::of(parent).context("the shim is gone")
}

fn shim_killed(stage: &Stage<'_>, count: u32) -> Result<Vec<Duration>> {
    let before = stage.proof()?;
    let mut times = Vec::new();
    for _ in 0..count {
        let (task, host, id) = victim(stage)?;
        let shim = shim_of(host, &id)?;
        shim.signal(Signal::KILL);
        times.push(replaced(stage, &task, Instant::now())?);
        stage.same(&before, None)?;
    }
    Ok(times)
}

fn by_hand(stage: &Stage<'_>, count: u32) -> Result<Vec<Duration>> {
    let before = stage.proof()?;
    let mut times = Vec::new();
    for _ in 0..count {
        for command in [&["rm", "-f"][..], &["stop", "-t", "1"]] {
            let (task, host, id) = victim(stage)?;
            let since = Instant::now();
            host.docker_ok(command.iter().copied().chain([id.as_str()]))?;
            times.push(replaced(stage, &task, since)?);
        }
        let (task, host, id) = victim(stage)?;
        host.docker_ok(["rename", &id, "renamed-by-hand"])?;
        let foreign = host.docker_ok([
            "run",
            "-d",
            "--name",
            "not-of-tallyman",
            "--label",
            "tallyman.dev/task=not-of-tallyman",
            "--label",
            "tallyman.dev/task-uid=6f9619ff-8b86-d011-b42d-00cf4fc964ff",
            "--label",
            "tallyman.dev/container-instance-uid=of-another-host",
            crate::inside::BUSYBOX,
            "sleep",
            "600",
        ])?;
        // Two full lists of the engine.
        stage.pass(Duration::from_secs(30));
        let running = stage.user.running("rolling")?;
        if running.get(&task) != Some(&id) {
            stage.witness.accuse(format!(
                "{task} was renamed and is {:?}",
                running.get(&task)
            ));
        }
        let left =
            host.docker_ok(["ps", "-q", "--no-trunc", "--filter", "name=not-of-tallyman"])?;
        if left != foreign {
            stage.witness.accuse(format!(
                "a container of somebody else is gone from {}",
                host.name()
            ));
        }
        host.docker_ok(["rm", "-f", "not-of-tallyman"])?;
        stage.same(&before, None)?;
    }
    Ok(times)
}

/// Task whose container does not go.
const STUBBORN: &str = "stubborn";

fn unkillable(stage: &Stage<'_>, count: u32) -> Result<Vec<Duration>> {
    let before = stage.proof()?;
    let mut stubborn = container("stubborn");
    stubborn["command"] = json!(["trap '' TERM; while :; do sleep 1; done"]);
    stage
        .user
        .apply(&[definition(STUBBORN, &json!([stubborn]))])?;
    let mut times = Vec::new();
    for _ in 0..count {
        let task = json!({ "kind": "Task", "metadata": { "name": STUBBORN },
                           "spec": { "taskDefinition": STUBBORN } });
        stage.user.apply(&[task])?;
        let of_it = || -> Result<Option<Container>> {
            let all = stage.user.containers()?.into_iter();
            Ok(all.into_iter().find(|c| c.task == STUBBORN))
        };
        let it = wait_until("its container to run", PATIENCE, || {
            Ok(of_it()?.filter(|c| c.state == "running"))
        })?;
        let host = stage.lab().host_named(&it.host)?;
        let shim = shim_of(host, &it.id)?;
        shim.signal(Signal::STOP);
        let stopped = Instant::now();
        let meanwhile = || {
            stage
                .user
                .k(&["delete", "tasks.tallyman.dev", STUBBORN, "--wait=false"])?;
            // Everything else on that host goes on.
            let exits = stage.exits(4, Some(host), 8)?;
            stage.roll()?;
            stage.rolled()?;
            stage.accounted(exits)?;
            stage.pass(Duration::from_secs(60).saturating_sub(stopped.elapsed()));
            ensure!(of_it()?.is_some(), "it went with its shim asleep");
            let task = stage.user.get("tasks", STUBBORN)?;
            let status = task["status"]["lastStatus"].as_str().unwrap_or_default();
            ensure!(status != "STOPPED", "it is told of as STOPPED, and runs");
            Ok(())
        };
        let result = meanwhile();
        shim.signal(Signal::CONT);
        let since = Instant::now();
        result?;
        wait_until("nothing to be left of it", PATIENCE, || {
            Ok(of_it()?.is_none() && stage.user.get("tasks", STUBBORN).is_err())
        })?;
        times.push(since.elapsed());
        stage.same(&before, None)?;
    }
    stage.user.delete(&[STUBBORN])?;
    Ok(times)
}

/// Task of an image that cannot be pulled.
const PULLER: &str = "puller";

fn lied_to(stage: &Stage<'_>, count: u32) -> Result<Vec<Duration>> {
    let before = stage.proof()?;
    let registry = Registry::open(stage.lab().network().gateway())?;
    let mut times = Vec::new();
    for image in registry.images().iter().cycle().take(count as usize) {
        let mut puller = container("puller");
        puller["image"] = json!(image);
        let task = json!({ "kind": "Task", "metadata": { "name": PULLER },
                           "spec": { "taskDefinition": PULLER } });
        stage
            .user
            .apply(&[definition(PULLER, &json!([puller])), task])?;
        let since = Instant::now();
        let status = wait_until(format!("the task of {image} to end"), PATIENCE, || {
            let task = stage.user.get("tasks", PULLER)?;
            let status = task["status"].clone();
            Ok((status["lastStatus"] == "STOPPED").then_some(status))
        })?;
        times.push(since.elapsed());
        let reason = status["stoppedReason"].as_str().unwrap_or_default();
        if status["stopCode"] != "TaskFailedToStart" || !reason.contains("CannotPull") {
            stage.witness.accuse(format!("{image}: {status}"));
        }
        stage.user.delete(&[PULLER])?;
        stage.delete_tasks([PULLER])?;
        stage.same(&before, None)?;
    }
    Ok(times)
}
