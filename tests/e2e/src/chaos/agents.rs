//! Agents that are killed, that sleep, and that find their disk changed.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use tallyman_lab::Signal;

use crate::chaos::{Row, Stage};

/// Rows of this file.
pub const ROWS: &[Row] = &[
    Row {
        number: "1",
        name: "agents are killed at random moments",
        fault: "SIGKILL of any host's agent, also while it starts, with rollouts under way and tasks that end by themselves",
        measured: "start of the agent until it is ready",
        bound: Duration::from_secs(5),
        count: 100,
        run: killed,
    },
    Row {
        number: "3",
        name: "an agent sleeps for 60 s",
        fault: "SIGSTOP of an agent for 10 s more than the operator's grace, then SIGCONT, with tasks that end meanwhile",
        measured: "SIGCONT until it is connected and every end is reported",
        bound: Duration::from_secs(15),
        count: 2,
        run: asleep,
    },
    Row {
        number: "5",
        name: "an agent finds its files gone or changed",
        fault: "a file of the agent deleted, cut short, emptied, one bit of it turned, or one of an earlier day, while the agent is dead",
        measured: "start of the agent until it is ready",
        bound: Duration::from_secs(5),
        count: 50,
        run: damaged,
    },
];

/// So often something else is begun beside the kills.
const ROUND: u32 = 10;

fn killed(stage: &Stage<'_>, count: u32) -> Result<Vec<Duration>> {
    let before = stage.proof()?;
    let mut times = Vec::new();
    for first in (0..count).step_by(ROUND as usize) {
        stage.roll()?;
        let exits = stage.exits(6, None, 12)?;
        for _ in first..count.min(first + ROUND) {
            let host = stage.any_host();
            stage.any_moment(Duration::from_secs(2));
            stage.kill(host.agent())?;
            let since = Instant::now();
            host.agent().start()?;
            // Every other one is killed before it is ready, perhaps.
            if stage.below(2) == 0 {
                times.push(stage.agent_ready(host, since)?);
            }
        }
        stage.rolled()?;
        stage.accounted(exits)?;
        stage.same(&before, None)?;
    }
    Ok(times)
}

fn asleep(stage: &Stage<'_>, count: u32) -> Result<Vec<Duration>> {
    let before = stage.proof()?;
    let mut times = Vec::new();
    for _ in 0..count {
        let host = stage.any_host();
        let exits = stage.exits(3, Some(host), 15)?;
        stage.reach(&exits, &["RUNNING", "STOPPED"])?;
        let fell_asleep = Instant::now();
        host.agent().signal(Signal::STOP);
        let told = stage.wait_connected(host, false, stage.times.grace * 2);
        let left =
            (stage.times.grace + Duration::from_secs(10)).saturating_sub(fell_asleep.elapsed());
        stage.pass(left);
        host.agent().signal(Signal::CONT);
        let since = Instant::now();
        told?;
        stage.wait_connected(host, true, crate::user::PATIENCE)?;
        stage.reach(&exits, &["STOPPED"])?;
        times.push(since.elapsed());
        stage.accounted(exits)?;
        stage.same(&before, None)?;
    }
    Ok(times)
}

/// What the agent keeps on disk.
const FILES: [&str; 4] = ["plan.json", "tasks.json", "engine.json", "images.json"];

fn damaged(stage: &Stage<'_>, count: u32) -> Result<Vec<Duration>> {
    let before = stage.proof()?;
    let old = stage
        .lab()
        .hosts()
        .iter()
        .map(|host| read(host.agent_data()));
    let old: Vec<Vec<Vec<u8>>> = old.collect();
    let mut times = Vec::new();
    for first in (0..count).step_by(ROUND as usize) {
        stage.roll()?;
        let exits = stage.exits(4, None, 8)?;
        for _ in first..count.min(first + ROUND) {
            let at = stage.below(stage.lab().hosts().len());
            let host = stage.lab().host(at);
            stage.hold(host.agent());
            host.agent().kill9()?;
            // One file, or all of them.
            let which = stage.below(FILES.len() + 1);
            let how = stage.below(5);
            for (file, old) in FILES
                .iter()
                .zip(&old[at])
                .enumerate()
                .filter_map(|(i, f)| (which == i || which == FILES.len()).then_some(f))
            {
                let path = host.agent_data().join(file);
                damage(stage, &path, how, old).with_context(|| path.display().to_string())?;
            }
            stage.release(host.agent());
            let since = Instant::now();
            host.agent().start()?;
            times.push(stage.agent_ready(host, since)?);
        }
        stage.rolled()?;
        stage.accounted(exits)?;
        stage.same(&before, None)?;
    }
    Ok(times)
}

fn read(folder: &Path) -> Vec<Vec<u8>> {
    let paths = FILES.iter().map(|file| folder.join(file));
    let read = |path: PathBuf| std::fs::read(path).unwrap_or_default();
    paths.map(read).collect()
}

fn damage(stage: &Stage<'_>, path: &Path, how: usize, old: &[u8]) -> Result<()> {
    let mut bytes = std::fs::read(path).unwrap_or_default();
    match how {
        0 => {
            let _ = std::fs::remove_file(path);
            return Ok(());
        }
        1 => bytes.truncate(stage.below(bytes.len())),
        2 => bytes.clear(),
        3 => bytes = old.to_vec(),
        _ => {
            let at = stage.below(bytes.len() * 8);
            if let Some(byte) = bytes.get_mut(at / 8) {
                *byte ^= 1 << (at % 8);
            }
        }
    }
    Ok(std::fs::write(path, bytes)?)
}
