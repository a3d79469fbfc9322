//! An API server and an etcd that hang, die, and forget.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use tallyman_lab::{Signal, wait_until};

use crate::chaos::links::{restarted_in_place, sturdy};
use crate::chaos::{Row, Stage};
use crate::user::{Container, PATIENCE, hello, service};

/// Rows of this file.
pub const ROWS: &[Row] = &[
    Row {
        number: "11",
        name: "etcd hangs for 40 s",
        fault: "SIGSTOP of etcd for 40 s, then SIGCONT, with tasks that end meanwhile",
        measured: "SIGCONT until a rollout is done that was begun then",
        bound: Duration::from_secs(60),
        count: 2,
        run: etcd_hangs,
    },
    Row {
        number: "12",
        name: "the API server is killed and comes back",
        fault: "SIGKILL of the API server in the middle of a rollout, 20 s without it, start, with tasks that end meanwhile",
        measured: "the API server ready until the rollout is done and every end is reported",
        bound: Duration::from_secs(60),
        count: 2,
        run: api_killed,
    },
    Row {
        number: "13",
        name: "the API server is away for longer than the operator's grace",
        fault: "SIGKILL of the API server, 90 s without it, start, with containers killed that restart in place, and tasks that end meanwhile",
        measured: "the API server ready until every host is connected and every end is reported",
        bound: Duration::from_secs(60),
        count: 1,
        run: api_away,
    },
    Row {
        number: "14",
        name: "the versions from which watches go on are forgotten",
        fault: "all hosts cut off and operators asleep for some 15 s, a rollout and tasks begun meanwhile, etcd compacted, the API server killed and \
                started",
        measured: "all of them back until the rollout is done and every end is reported",
        bound: Duration::from_secs(60),
        count: 2,
        run: compacted,
    },
    Row {
        number: "34",
        name: "etcd is restored from a backup",
        fault: "API server and etcd stopped, etcd's data as it was before a service was scaled, another one was made and \
                (every other time) another leader came, start",
        measured: "the API server ready until that service, scaled again, has as many tasks as wanted",
        bound: Duration::from_secs(60),
        count: 2,
        run: etcd_restored,
    },
];

fn etcd_hangs(stage: &Stage<'_>, count: u32) -> Result<Vec<Duration>> {
    let before = stage.proof()?;
    let etcd = stage.lab().control_plane().etcd()?;
    let mut times = Vec::new();
    for _ in 0..count {
        let exits = stage.exits(6, None, 20)?;
        etcd.signal(Signal::STOP);
        stage.pass(Duration::from_secs(40));
        etcd.signal(Signal::CONT);
        let since = Instant::now();
        stage.roll()?;
        stage.rolled()?;
        times.push(since.elapsed());
        stage.accounted(exits)?;
        stage.same(&before, None)?;
        // 40 s are less than the grace: nobody is given up, not even for a moment.
        for host in stage.witness.disconnected() {
            let what = format!("{host} was taken for disconnected");
            stage.witness.accuse(what);
        }
    }
    Ok(times)
}

fn api_killed(stage: &Stage<'_>, count: u32) -> Result<Vec<Duration>> {
    let before = stage.proof()?;
    let plane = stage.lab().control_plane();
    let mut times = Vec::new();
    for _ in 0..count {
        let exits = stage.exits(6, None, 20)?;
        stage.roll()?;
        stage.any_moment(Duration::from_secs(2));
        plane.api()?.kill9()?;
        stage.pass(Duration::from_secs(20));
        plane.start_api()?;
        let since = Instant::now();
        stage.rolled()?;
        all_connected(stage)?;
        stage.reach(&exits, &["STOPPED"])?;
        times.push(since.elapsed());
        stage.accounted(exits)?;
        stage.same(&before, None)?;
    }
    Ok(times)
}

fn api_away(stage: &Stage<'_>, count: u32) -> Result<Vec<Duration>> {
    let before = stage.proof()?;
    let plane = stage.lab().control_plane();
    let mut times = Vec::new();
    for _ in 0..count {
        let sturdy = sturdy(stage, stage.any_host())?;
        let exits = stage.running_exits(6, None, 60)?;
        plane.api()?.kill9()?;
        let away = Instant::now();
        if let Some(sturdy) = &sturdy {
            sturdy.host.docker_ok(["kill", &sturdy.id])?;
            restarted_in_place(stage, sturdy)?;
        }
        stage.pass((stage.times.grace + Duration::from_secs(40)).saturating_sub(away.elapsed()));
        plane.start_api()?;
        let since = Instant::now();
        all_connected(stage)?;
        stage.reach(&exits, &["STOPPED"])?;
        times.push(since.elapsed());
        stage.accounted(exits)?;
        stage.all_steady()?;
        stage.same(&before, None)?;
    }
    Ok(times)
}

fn compacted(stage: &Stage<'_>, count: u32) -> Result<Vec<Duration>> {
    let before = stage.proof()?;
    let plane = stage.lab().control_plane();
    let hosts = stage.lab().hosts();
    let tasks = format!(
        "/apis/tallyman.dev/v1alpha1/namespaces/{}/tasks",
        stage.user.namespace()
    );
    let raw = |path: &str| stage.user.kubectl().ok(["get", "--raw", path]);
    let mut times = Vec::new();
    for _ in 0..count {
        let list: Value = serde_json::from_str(&raw(&format!("{tasks}?limit=1"))?)?;
        let seen = list["metadata"]["resourceVersion"].as_str();
        let seen = seen.context("a list without version")?;
        for (operator, _) in stage.operators() {
            operator.signal(Signal::STOP);
        }
        for host in hosts {
            stage.cut(host)?;
        }
        stage.roll()?;
        let exits = stage.exits(6, None, 10)?;
        plane.compact()?;
        plane.api()?.kill9()?;
        plane.start_api()?;
        let said = raw(&format!(
            "{tasks}?watch=1&timeoutSeconds=1&resourceVersion={seen}"
        ));
        let said = said.unwrap_or_else(|refused| format!("{refused:#}"));
        ensure!(
            said.contains("too old resource version") || said.contains("Expired"),
            "{seen} is not forgotten: {said}"
        );
        for host in hosts {
            stage.heal(host)?;
        }
        for (operator, _) in stage.operators() {
            operator.signal(Signal::CONT);
        }
        let since = Instant::now();
        stage.rolled()?;
        stage.reach(&exits, &["STOPPED"])?;
        times.push(since.elapsed());
        stage.accounted(exits)?;
        stage.same(&before, None)?;
    }
    Ok(times)
}

/// Service that is there before the backup and is scaled after it.
const AGED: &str = "aged";
/// Service that is made after the backup.
const LATER: &str = "later";

fn etcd_restored(stage: &Stage<'_>, count: u32) -> Result<Vec<Duration>> {
    let before = stage.proof()?;
    let plane = stage.lab().control_plane();
    let user = &stage.user;
    user.apply(&[hello(AGED, "x"), service(AGED, 2)])?;
    user.wait_steady(AGED, 2)?;
    let mut times = Vec::new();
    for round in 0..count {
        plane.back_up()?;
        all_connected(stage)?;
        if round % 2 == 0 {
            // Hosts come to hold plans of a leader that the backup does not know.
            stage.kill(stage.leader()?.0)?;
            stage.leader()?;
        }
        stage.scale(AGED, 4)?;
        user.apply(&[hello(LATER, "x"), service(LATER, 1)])?;
        user.wait_steady(AGED, 4)?;
        user.wait_steady(LATER, 1)?;
        let ran = of_both(stage)?;
        ensure!(ran.len() == 5, "{ran:?} run, and not five");

        stage.witness.goes_back(|| plane.restore())?;
        let since = Instant::now();
        stage.scale(AGED, 3)?;
        user.wait_steady(AGED, 3)?;
        times.push(since.elapsed());
        all_connected(stage)?;
        let now = of_both(stage)?;
        for container in &ran {
            if !now.contains(container) {
                let what = format!("{container:?} ended with the restore");
                stage.witness.accuse(what);
            }
        }
        ensure!(
            user.tasks(LATER)?.is_empty(),
            "{LATER} outlived the restore"
        );
        let (named, forgotten) = forgotten(stage, &now)?;
        ensure!(
            forgotten.len() == 3,
            "{forgotten:?} are forgotten, and not three"
        );
        wait_until("hosts to name what is forgotten", PATIENCE, || {
            let hosts = stage.eyes.list("containerinstances")?;
            let said = hosts
                .iter()
                .filter_map(|h| h["status"]["host"]["message"].as_str());
            let said: Vec<&str> = said.collect();
            let missing = named
                .iter()
                .find(|task| !said.iter().any(|s| s.contains(*task)));
            ensure!(missing.is_none(), "{missing:?} is not in {said:?}");
            Ok(true)
        })?;
        stage.same(&before, None)?;
        // A person decides: here, with the engine's own means.
        for container in &forgotten {
            let host = stage.lab().host_named(&container.host)?;
            host.docker_ok(["rm", "-f", &container.id])?;
        }
        stage.scale(AGED, 2)?;
        user.wait_steady(AGED, 2)?;
    }
    user.delete(&[AGED])?;
    Ok(times)
}

fn all_connected(stage: &Stage<'_>) -> Result<()> {
    let mut hosts = stage.lab().hosts().iter();
    hosts.try_for_each(|host| stage.wait_connected(host, true, PATIENCE))
}

/// Containers of both services that run.
fn of_both(stage: &Stage<'_>) -> Result<BTreeSet<Container>> {
    let all = stage.user.containers()?.into_iter();
    let ours = |name: &str| name.starts_with(AGED) || name.starts_with(LATER);
    Ok(all
        .filter(|c| c.state == "running" && ours(&c.task))
        .collect())
}

/// Names of tasks that no Task is for, and their containers.
fn forgotten(
    stage: &Stage<'_>,
    running: &BTreeSet<Container>,
) -> Result<(BTreeSet<String>, Vec<Container>)> {
    let tasks = stage.eyes.list("tasks")?;
    let known = |container: &&Container| {
        let ids = tasks
            .iter()
            .flat_map(|t| t["status"]["containers"].as_array().into_iter().flatten());
        ids.into_iter()
            .any(|c| c["runtimeId"] == container.id.as_str())
    };
    let forgotten: Vec<Container> = running.iter().filter(|c| !known(c)).cloned().collect();
    Ok((
        forgotten.iter().map(|c| c.task.clone()).collect(),
        forgotten,
    ))
}
