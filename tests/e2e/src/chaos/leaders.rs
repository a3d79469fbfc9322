//! Leaders that go, die, and sleep, and their Lease.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use tallyman_lab::{Process, Signal, wait_until};

use crate::chaos::stage::leads;
use crate::chaos::{Row, Stage};
use crate::user::PATIENCE;

/// Rows of this file.
pub const ROWS: &[Row] = &[
    Row {
        number: "16",
        name: "the operator is killed at random moments of a rollout",
        fault: "SIGKILL of the leader, twice in a rollout, with a second operator that waits",
        measured: "SIGKILL until another leads",
        bound: Duration::from_secs(20),
        count: 10,
        run: killed,
    },
    Row {
        number: "17a",
        name: "the lead is handed over",
        fault: "SIGTERM of the leader in the middle of a rollout, up to four times in each",
        measured: "SIGTERM until another leads",
        bound: Duration::from_secs(2),
        count: 20,
        run: handed_over,
    },
    Row {
        number: "17b",
        name: "a leader sleeps in the middle of a rollout and goes on when another leads",
        fault: "SIGSTOP of the leader for 30 s (or twice the Lease), SIGCONT while the other is at work",
        measured: "SIGSTOP until another leads",
        bound: Duration::from_secs(20),
        count: 8,
        run: asleep,
    },
    Row {
        number: "18",
        name: "somebody deletes or edits the leader's Lease in the middle of a rollout",
        fault: "kubectl delete; kubectl patch of its holder, of its renewTime to the year 2099, and of its leaseTransitions to 0",
        measured: "the command until the rollout is done",
        bound: Duration::from_secs(60),
        count: 4,
        run: edited,
    },
];

/// Waits until somebody else than `old` leads; how long it took. Old is the Lease's holder, because a process that was
/// started again is another candidate.
fn taken_over(stage: &Stage<'_>, old: &str, since: Instant) -> Result<Duration> {
    wait_until("another to lead", PATIENCE, || {
        let holder = stage.eyes.leader()?;
        Ok(!holder.is_empty() && holder != old)
    })?;
    Ok(since.elapsed())
}

/// The leader, and what it is called in the Lease.
fn leader<'s>(stage: &'s Stage<'_>) -> Result<(&'s Process, String)> {
    let (leader, _) = stage.leader()?;
    let holder = stage.eyes.leader()?;
    ensure!(leads(&holder, leader), "{holder} leads now");
    Ok((leader, holder))
}

fn killed(stage: &Stage<'_>, count: u32) -> Result<Vec<Duration>> {
    let before = stage.proof()?;
    let mut times = Vec::new();
    while times.len() < count as usize {
        let (mut first, mut holder) = leader(stage)?;
        stage.roll()?;
        for round in 0..2 {
            stage.any_moment(Duration::from_millis(1500));
            let since = Instant::now();
            stage.kill(first)?;
            times.push(taken_over(stage, &holder, since)?);
            if round == 0 {
                (first, holder) = leader(stage)?;
            }
        }
        stage.rolled()?;
        stage.same(&before, None)?;
    }
    Ok(times)
}

/// So often the lead is handed over in one rollout.
const IN_A_ROLLOUT: u32 = 4;

fn handed_over(stage: &Stage<'_>, count: u32) -> Result<Vec<Duration>> {
    let before = stage.proof()?;
    let mut times = Vec::new();
    for first in (0..count).step_by(IN_A_ROLLOUT as usize) {
        leader(stage)?;
        stage.roll()?;
        for _ in first..count.min(first + IN_A_ROLLOUT) {
            let (leads, holder) = leader(stage)?;
            stage.any_moment(Duration::from_millis(1500));
            let since = Instant::now();
            leads.signal(Signal::TERM);
            times.push(taken_over(stage, &holder, since)?);
        }
        stage.rolled()?;
        stage.same(&before, None)?;
    }
    Ok(times)
}

fn asleep(stage: &Stage<'_>, count: u32) -> Result<Vec<Duration>> {
    let before = stage.proof()?;
    let mut times = Vec::new();
    for _ in 0..count {
        let (first, holder) = leader(stage)?;
        stage.roll()?;
        // Also in the middle of a pass, which takes some ten milliseconds.
        stage.any_moment(Duration::from_millis(800));
        let since = Instant::now();
        first.signal(Signal::STOP);
        let taken = taken_over(stage, &holder, since);
        stage.pass((stage.times.lease * 2).saturating_sub(since.elapsed()));
        first.signal(Signal::CONT);
        times.push(taken?);
        // It finds out that it was deposed, ends, and is started again.
        let pid = first.pid();
        wait_until("the old leader to give up", PATIENCE, || {
            let now = first.pid();
            Ok(now.is_some() && now != pid)
        })?;
        stage.rolled()?;
        stage.same(&before, None)?;
    }
    Ok(times)
}

/// What somebody does to the Lease.
const EDITS: [Option<&str>; 4] = [
    None,
    Some(r#"{"spec":{"holderIdentity":"somebody"}}"#),
    Some(r#"{"spec":{"renewTime":"2099-01-01T00:00:00.000000Z","leaseDurationSeconds":100000}}"#),
    Some(r#"{"spec":{"leaseTransitions":0}}"#),
];

fn edited(stage: &Stage<'_>, count: u32) -> Result<Vec<Duration>> {
    let before = stage.proof()?;
    let mut times = Vec::new();
    for edit in EDITS.iter().cycle().take(count as usize) {
        leader(stage)?;
        stage.roll()?;
        stage.any_moment(Duration::from_millis(800));
        let since = Instant::now();
        let lease = ["lease", "tallyman-operator", "-n", "tallyman-system"];
        let how = match edit {
            None => vec!["delete"],
            Some(patch) => vec!["patch", "--type=merge", "-p", patch],
        };
        stage.user.kubectl().ok(how.into_iter().chain(lease))?;
        stage.rolled()?;
        times.push(since.elapsed());
        leader(stage)?;
        stage.same(&before, None)?;
    }
    Ok(times)
}
