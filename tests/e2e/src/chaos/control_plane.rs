//! An API server and an etcd that hang, die, and forget.

use std::time::{Duration, Instant};

use anyhow::Result;
use tallyman_lab::Signal;

use crate::chaos::{Row, Stage};
use crate::user::PATIENCE;

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
        for host in stage.lab().hosts() {
            stage.wait_connected(host, true, PATIENCE)?;
        }
        stage.reach(&exits, &["STOPPED"])?;
        times.push(since.elapsed());
        stage.accounted(exits)?;
        stage.same(&before, None)?;
    }
    Ok(times)
}
