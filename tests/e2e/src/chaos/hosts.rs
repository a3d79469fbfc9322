//! Hosts that are gone, that boot, that are copied, and whose firewall somebody empties.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use tallyman_lab::{LabHost, wait_until};

use crate::chaos::{Row, Stage};
use crate::user::PATIENCE;

/// Rows of this file.
pub const ROWS: &[Row] = &[
    Row {
        number: "25",
        name: "a host loses power and boots",
        fault: "SIGKILL of a host's agent, engine and containers at once, start of engine and agent",
        measured: "start of the engine until as many tasks run as are wanted",
        bound: Duration::from_secs(60),
        count: 2,
        run: boots,
    },
    Row {
        number: "26",
        name: "a host is copied",
        fault: "another agent, with a copy of an agent's folder and credentials, on another engine",
        measured: "start of the copy until it has ended; its original says so afterwards",
        bound: Duration::from_secs(30),
        count: 4,
        run: copied,
    },
    Row {
        number: "33",
        name: "somebody empties a host's firewall",
        fault: "iptables -t nat -F",
        measured: "the command until port 80 of 169.254.170.2 leads to the task metadata endpoint again",
        bound: Duration::from_secs(30),
        count: 2,
        run: flushed,
    },
    Row {
        number: "21",
        name: "a host is gone for good",
        fault: "SIGKILL of a host's agent, engine and containers at once",
        measured: "SIGKILL until its tasks run elsewhere; goal: not before 295 s",
        bound: Duration::from_secs(320),
        count: 1,
        run: gone,
    },
];

fn boots(stage: &Stage<'_>, count: u32) -> Result<Vec<Duration>> {
    let mut times = Vec::new();
    for _ in 0..count {
        let before = stage.proof()?;
        let host = stage.any_host();
        stage.hold(host.agent());
        host.power_off()?;
        stage.any_moment(Duration::from_secs(10));
        let since = Instant::now();
        host.power_on()?;
        stage.release(host.agent());
        stage.whole()?;
        times.push(since.elapsed());
        stage.same(&before, Some(host))?;
    }
    Ok(times)
}

fn copied(stage: &Stage<'_>, count: u32) -> Result<Vec<Duration>> {
    let before = stage.proof()?;
    let hosts = stage.lab().hosts();
    let mut times = Vec::new();
    for _ in 0..count {
        let at = stage.below(hosts.len());
        let (original, other) = (&hosts[at], &hosts[(at + 1) % hosts.len()]);
        // What it says of copies it says for an hour, or until it is started anew.
        stage.kill(original.agent())?;
        let since = Instant::now();
        original.agent().start()?;
        stage.agent_ready(original, since)?;
        wait_until("the original to say nothing of copies", PATIENCE, || {
            Ok(!speaks_of_a_copy(stage, original)?)
        })?;
        let copy = stage.lab().copy_of(original, other)?;
        // Tasks that it would start, too.
        stage.roll()?;
        let since = Instant::now();
        copy.start()?;
        let ended = copy.wait_exit(PATIENCE);
        copy.stop(Duration::from_secs(10))?;
        ended?;
        times.push(since.elapsed());
        let said = copy.log_tail();
        ensure!(
            said.contains("another machine works as this host"),
            "{said}"
        );
        wait_until("the original to speak of the copy", PATIENCE, || {
            speaks_of_a_copy(stage, original)
        })?;
        stage.rolled()?;
        stage.same(&before, None)?;
    }
    Ok(times)
}

fn speaks_of_a_copy(stage: &Stage<'_>, host: &LabHost) -> Result<bool> {
    let all = stage.eyes.list("containerinstances")?;
    let own = all.iter().find(|i| i["metadata"]["name"] == host.name());
    let said = &own.context("the host is gone")?["status"]["host"]["message"];
    Ok(said
        .as_str()
        .is_some_and(|said| said.contains("Another machine")))
}

fn flushed(stage: &Stage<'_>, count: u32) -> Result<Vec<Duration>> {
    let before = stage.proof()?;
    let mut times = Vec::new();
    for _ in 0..count {
        let host = stage.any_host();
        let nat = |args: &[&str]| {
            let tool = host.inside("iptables").args(["--wait", "-t", "nat"]);
            tool.args(args).check()
        };
        // In both directions, from containers and from the host.
        let led = || Ok(nat(&["-S"])?.matches("-d 169.254.170.2/32").count() == 2);
        wait_until("port 80 to be led", PATIENCE, led)?;
        let rules = host.inside("iptables-save").args(["-t", "nat"]).check()?;
        nat(&["-F"])?;
        let since = Instant::now();
        wait_until("port 80 to be led again", PATIENCE, led)?;
        times.push(since.elapsed());
        // Docker's own rules it puts back when it starts, and not before.
        let restore = host.inside("iptables-restore").args(["--wait"]);
        restore.stdin(rules).check()?;
        stage.all_steady()?;
        stage.same(&before, None)?;
    }
    Ok(times)
}

fn gone(stage: &Stage<'_>, count: u32) -> Result<Vec<Duration>> {
    let mut times = Vec::new();
    for _ in 0..count {
        let before = stage.proof()?;
        let host = stage.any_host();
        stage.hold(host.agent());
        let since = Instant::now();
        host.power_off()?;
        let patience = stage.times.replace_after + PATIENCE;
        wait_until("every task to run elsewhere", patience, || {
            let all = stage.eyes.list("tasks")?;
            let of_a_service = all.iter().filter(|t| {
                t["metadata"]["labels"]["tallyman.dev/service"].is_string()
                    && t["status"]["lastStatus"] != "STOPPED"
            });
            for t in of_a_service {
                let elsewhere = t["spec"]["containerInstance"] != host.name();
                ensure!(
                    elsewhere && t["status"]["lastStatus"] == "RUNNING",
                    "{} is {} on {}",
                    t["metadata"]["name"],
                    t["status"]["lastStatus"],
                    t["spec"]["containerInstance"]
                );
            }
            Ok(true)
        })?;
        times.push(since.elapsed());
        let soonest = stage
            .times
            .replace_after
            .saturating_sub(Duration::from_secs(15));
        if since.elapsed() < soonest {
            let what = format!("replaced after {:?} already", since.elapsed());
            stage.witness.accuse(what);
        }
        host.power_on()?;
        stage.release(host.agent());
        stage.mend()?;
        stage.same(&before, Some(host))?;
    }
    Ok(times)
}
