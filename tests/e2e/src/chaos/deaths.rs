//! Agents and operators that die at each of their deeds.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use tallyman_lab::trace::{self, Point};
use tallyman_lab::{CommandSpec, LabHost, Process, Signal, wait_until};

use crate::chaos::stage::{Exits, leads};
use crate::chaos::{Row, Stage};
use crate::user::PATIENCE;

/// Rows of this file.
pub const ROWS: &[Row] = &[
    Row {
        number: "2",
        name: "agents are killed at each of their deeds",
        fault: "SIGKILL on the way into a system call by which an agent tells its engine (sendto) or the API server (writev) \
                something, or changes its disk (fsync, rename, unlink): the first one, the second, and so on, from its start until \
                tasks that began there have ended, with a rollout under way",
        measured: "start of the agent until it is ready",
        bound: Duration::from_secs(5),
        // More than there are.
        count: 1000,
        run: agents,
    },
    Row {
        number: "16b",
        name: "operators are killed at each of their deeds",
        fault: "SIGKILL on the way into a system call by which an operator tells the API server something (writev), from its start \
                until it was given the lead and a rollout is done; the other one goes on with that",
        measured: "its death until another leads",
        bound: Duration::from_secs(20),
        count: 40,
        run: operators,
    },
];

/// System calls of an agent that others can notice. It opens a connection of its own for every request to its engine, and holds
/// those to the API server.
const DEEDS: [&str; 5] = ["sendto", "writev", "fsync", "rename", "unlink"];

/// A file is removed when a task is forgotten, which not every life sees.
const SELDOM: &str = "unlink";

/// Those of an operator.
const OPERATORS_DEEDS: [&str; 1] = ["writev"];

/// After so many, all that goes on meanwhile is looked at.
const ROUND: usize = 10;

fn agents(stage: &Stage<'_>, count: u32) -> Result<Vec<Duration>> {
    let before = stage.proof()?;
    let all = deeds(stage)?;
    let mut times = Vec::new();
    for round in evenly(&all, count as usize).chunks(ROUND) {
        let mut begun = Vec::new();
        for point in round {
            let host = stage.any_host();
            let deadly = trace::killed_at(&host.agent().command(), point)?;
            let (exits, died) = a_life(stage, host, deadly)?;
            begun.push(exits);
            let since = Instant::now();
            host.agent().start()?;
            let ready = stage.agent_ready(host, since)?;
            // With other luck a life has fewer deeds.
            if died {
                times.push(ready);
            }
        }
        stage.rolled()?;
        for exits in begun {
            stage.accounted(exits)?;
        }
        stage.same(&before, None)?;
    }
    stage.happened(times.len());
    Ok(times)
}

/// All deeds of an agent in the life that is then cut short at each.
fn deeds(stage: &Stage<'_>) -> Result<Vec<Point>> {
    let folder = tempfile::tempdir()?;
    let log = folder.path().join("deeds");
    let host = stage.lab().host(0);
    let watched = trace::watched(&host.agent().command(), &DEEDS, &log)?;
    let (exits, died) = a_life(stage, host, watched)?;
    ensure!(!died, "the agent died of being watched");
    host.agent().start()?;
    stage.rolled()?;
    stage.accounted(exits)?;
    made(&DEEDS, &log)
}

/// What a program did. A kind that nothing is of would be left out in silence.
fn made(deeds: &[&str], log: &Path) -> Result<Vec<Point>> {
    let points = trace::points(deeds, log)?;
    for deed in deeds {
        let made = points.iter().any(|point| point.call == *deed);
        ensure!(made || *deed == SELDOM, "there was no {deed}");
    }
    Ok(points)
}

/// Runs a host's agent by this command until it is dead, or has seen tasks of its host begin and end. Then it is dead in any case,
/// and has its own command again. Whether it died by itself.
fn a_life(stage: &Stage<'_>, host: &LabHost, command: CommandSpec) -> Result<(Exits, bool)> {
    stage.by_another(host.agent(), command, || live(stage, host))
}

fn live(stage: &Stage<'_>, host: &LabHost) -> Result<(Exits, bool)> {
    let agent = host.agent();
    agent.start()?;
    stage.roll()?;
    let exits = stage.exits(2, Some(host), 2)?;
    wait_until("an agent to die, or its tasks to end", PATIENCE, || {
        if agent.is_running() {
            stage.are(&exits, &["STOPPED"])?;
        }
        Ok(true)
    })?;
    let died = !agent.is_running();
    Ok((exits, died))
}

fn operators(stage: &Stage<'_>, count: u32) -> Result<Vec<Duration>> {
    let before = stage.proof()?;
    let folder = tempfile::tempdir()?;
    let log = folder.path().join("deeds");
    let lived = a_lead(stage, |own| trace::watched(own, &OPERATORS_DEEDS, &log))?;
    ensure!(lived.is_none(), "the operator died of being watched");
    let all = made(&OPERATORS_DEEDS, &log)?;
    let mut times = Vec::new();
    for point in evenly(&all, count as usize) {
        times.extend(a_lead(stage, |own| trace::killed_at(own, &point))?);
        stage.rolled()?;
        stage.same(&before, None)?;
    }
    stage.happened(times.len());
    Ok(times)
}

/// Has the operator that waits run by another command, take the lead, and roll, until it is dead or done. Then it is dead in any
/// case, and has its own command again. How long after a death of its own another led.
fn a_lead(
    stage: &Stage<'_>,
    traced: impl FnOnce(&CommandSpec) -> Result<CommandSpec>,
) -> Result<Option<Duration>> {
    let (leader, waiting) = stage.leader()?;
    let command = traced(&waiting.command())?;
    stage.by_another(waiting, command, || lead(stage, leader, waiting))
}

fn lead(stage: &Stage<'_>, leader: &Process, waiting: &Process) -> Result<Option<Duration>> {
    waiting.start()?;
    if stage.ready_or_dead(waiting)? {
        leader.signal(Signal::TERM);
    }
    stage.roll()?;
    let what = "an operator to die, or its rollout to be done";
    wait_until(what, PATIENCE * 2, || {
        if waiting.is_running() {
            stage.newest_alone()?;
        }
        Ok(true)
    })?;
    if waiting.is_running() {
        return Ok(None);
    }
    let died = Instant::now();
    wait_until("another to lead", PATIENCE, || {
        Ok(leads(&stage.eyes.leader()?, leader))
    })?;
    Ok(Some(died.elapsed()))
}

/// So many of them at most, with the first and the last.
fn evenly<T: Clone>(all: &[T], count: usize) -> Vec<T> {
    if count >= all.len() {
        return all.to_vec();
    }
    let last = all.len().saturating_sub(1);
    let steps = count.saturating_sub(1).max(1);
    (0..count).map(|i| all[i * last / steps].clone()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_few_of_many_are_spread_over_all() {
        let all: Vec<u32> = (0..100).collect();
        assert_eq!(evenly(&all, 4), [0, 33, 66, 99]);
        assert_eq!(evenly(&all, 1), [0]);
        assert_eq!(evenly(&all, 1000), all);
        assert_eq!(evenly(&all[..0], 3), Vec::<u32>::new());
    }
}
