//! Agents that are killed, that sleep, and that find their disk changed.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use tallyman_lab::{CommandSpec, LabHost, Signal, clock, wait_until};

use crate::chaos::{Row, Stage};
use crate::user::PATIENCE;

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
        number: UPGRADE,
        name: "agents are upgraded and put back",
        fault: "the agent's program is replaced by another version and every agent restarted, one host after the other, in the middle of a rollout, with tasks that end meanwhile; then the same with the first version",
        measured: "start of the agent until it is ready",
        bound: Duration::from_secs(5),
        count: 5,
        run: upgraded,
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
    Row {
        number: "43",
        name: "a host's clock is off",
        fault: "an agent is killed and started with a clock that is five minutes ahead, the next one with one five minutes behind, with a \
                rollout under way and tasks that end by themselves; then with the right one again",
        measured: "start of the agent until its ContainerInstance says so",
        bound: Duration::from_secs(30),
        count: 4,
        run: clock_off,
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
        let exits = stage.running_exits(3, Some(host), 15)?;
        let fell_asleep = Instant::now();
        host.agent().signal(Signal::STOP);
        let told = stage.wait_connected(host, false, stage.times.grace * 2);
        let left =
            (stage.times.grace + Duration::from_secs(10)).saturating_sub(fell_asleep.elapsed());
        stage.pass(left);
        host.agent().signal(Signal::CONT);
        let since = Instant::now();
        told?;
        stage.wait_connected(host, true, PATIENCE)?;
        stage.reach(&exits, &["STOPPED"])?;
        times.push(since.elapsed());
        stage.accounted(exits)?;
        stage.same(&before, None)?;
    }
    Ok(times)
}

/// The row that needs [`Versions`].
pub const UPGRADE: &str = "4";

/// The agent's program as the hosts of a lab run it, and another version of it.
#[derive(Clone, Debug)]
pub struct Versions {
    /// What every agent of the lab is started from.
    pub installed: PathBuf,
    /// Another version.
    pub other: PathBuf,
}

fn upgraded(stage: &Stage<'_>, count: u32) -> Result<Vec<Duration>> {
    let versions = stage.versions.as_ref();
    let versions =
        versions.context("another version of the agent is missing: --other-agent FILE")?;
    let before = stage.proof()?;
    let (first, other) = (fs::read(&versions.installed)?, fs::read(&versions.other)?);
    let mut times = Vec::new();
    for program in [&other, &first]
        .into_iter()
        .cycle()
        .take(2 * count as usize)
    {
        stage.roll()?;
        let exits = stage.exits(6, None, 12)?;
        install(program, &versions.installed)?;
        for host in stage.lab().hosts() {
            let agent = host.agent();
            stage.hold(agent);
            agent.stop(Duration::from_secs(10))?;
            stage.release(agent);
            let since = Instant::now();
            agent.start()?;
            times.push(stage.agent_ready(host, since)?);
            let pid = agent.pid().context("the agent has no process")?;
            let runs = fs::read(format!("/proc/{pid}/exe"))?;
            ensure!(runs == *program, "{} runs another version", host.name());
        }
        stage.rolled()?;
        stage.accounted(exits)?;
        stage.same(&before, None)?;
    }
    Ok(times)
}

/// As a package manager does it: who runs the old program goes on with it.
fn install(program: &[u8], path: &Path) -> Result<()> {
    let beside = path.with_extension("new");
    fs::write(&beside, program)?;
    fs::set_permissions(&beside, fs::Permissions::from_mode(0o755))?;
    Ok(fs::rename(&beside, path)?)
}

/// What the agent keeps on disk: files, and a folder with a file for each task.
const KEPT: [&str; 6] = [
    "plan.json",
    "tasks",
    "engine.json",
    "images.json",
    "contacts.json",
    "metadata.key",
];

fn damaged(stage: &Stage<'_>, count: u32) -> Result<Vec<Duration>> {
    let before = stage.proof()?;
    let hosts = stage.lab().hosts().iter();
    let old = hosts.map(|host| KEPT.map(|kept| contents(&host.agent_data().join(kept))));
    let old: Vec<[Contents; KEPT.len()]> = old.collect();
    let mut times = Vec::new();
    for first in (0..count).step_by(ROUND as usize) {
        stage.roll()?;
        let exits = stage.exits(4, None, 8)?;
        for _ in first..count.min(first + ROUND) {
            let at = stage.below(stage.lab().hosts().len());
            let host = stage.lab().host(at);
            stage.hold(host.agent());
            host.agent().kill9()?;
            // One of them, or all.
            let which = stage.below(KEPT.len() + 1);
            let how = stage.below(5);
            for (i, (kept, old)) in KEPT.iter().zip(&old[at]).enumerate() {
                if which == i || which == KEPT.len() {
                    let path = host.agent_data().join(kept);
                    damage(stage, &path, how, old).with_context(|| path.display().to_string())?;
                }
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

/// Seconds by which clocks are off.
const OFF: [i64; 2] = [300, -300];

fn clock_off(stage: &Stage<'_>, count: u32) -> Result<Vec<Duration>> {
    let before = stage.proof()?;
    let mut times = Vec::new();
    for off in OFF.into_iter().cycle().take(count as usize) {
        let host = stage.any_host();
        let right = host.agent().command();
        let mut wrong = right.clone();
        for (name, value) in clock::off_by(off)? {
            wrong = wrong.env(name, value);
        }
        stage.roll()?;
        let exits = stage.exits(6, None, 12)?;
        let started = clocked(stage, host, wrong)?;
        let told = says(stage, host, true);
        times.push(started.elapsed());
        stage.rolled()?;
        stage.accounted(exits)?;
        stage.same(&before, None)?;
        clocked(stage, host, right)?;
        told?;
        says(stage, host, false)?;
        stage.same(&before, None)?;
    }
    Ok(times)
}

/// Kills the host's agent and starts it so.
fn clocked(stage: &Stage<'_>, host: &LabHost, command: CommandSpec) -> Result<Instant> {
    let agent = host.agent();
    stage.hold(agent);
    agent.kill9()?;
    agent.set_command(command);
    stage.release(agent);
    let since = Instant::now();
    agent.start()?;
    Ok(since)
}

/// Waits until its ContainerInstance says, or does not say any more, that its clock is off.
fn says(stage: &Stage<'_>, host: &LabHost, wanted: bool) -> Result<()> {
    wait_until("it to say how its clock is", PATIENCE, || {
        let instance = stage.user.get("containerinstances", host.name())?;
        let said = instance["status"]["host"]["message"].as_str();
        let said = said.unwrap_or_default();
        ensure!(said.contains("The clock of this host") == wanted, "{said}");
        Ok(true)
    })
}

/// Files with what they hold.
type Contents = BTreeMap<PathBuf, Vec<u8>>;

/// A file, or those of a folder.
fn contents(path: &Path) -> Contents {
    let below = fs::read_dir(path).into_iter().flatten().flatten();
    let paths = below
        .map(|entry| entry.path())
        .chain([path.to_owned()])
        .filter(|path| path.is_file());
    paths
        .filter_map(|path| Some((path.clone(), fs::read(&path).ok()?)))
        .collect()
}

/// Does it to a file, or to about half of those in a folder; what is of an earlier day is as a whole.
fn damage(stage: &Stage<'_>, path: &Path, how: usize, old: &Contents) -> Result<()> {
    let now = contents(path);
    let all = now.len() < 2 || how == 3;
    for (file, mut bytes) in now {
        if !all && stage.below(2) == 0 {
            continue;
        }
        match how {
            0 | 3 => {
                fs::remove_file(file)?;
                continue;
            }
            1 => bytes.truncate(stage.below(bytes.len())),
            2 => bytes.clear(),
            _ => {
                let at = stage.below(bytes.len() * 8);
                if let Some(byte) = bytes.get_mut(at / 8) {
                    *byte ^= 1 << (at % 8);
                }
            }
        }
        fs::write(file, bytes)?;
    }
    if how == 3 {
        for (file, bytes) in old {
            fs::write(file, bytes)?;
        }
    }
    Ok(())
}
