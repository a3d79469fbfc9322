//! Everything at once.

use std::time::{Duration, Instant};

use anyhow::Result;
use tallyman_lab::Signal;

use crate::chaos::{Row, Stage};

/// Rows of this file.
pub const ROWS: &[Row] = &[Row {
    number: "44",
    name: "several things break at once in the middle of a rollout",
    fault: "three of these at random, for up to 10 s each: an agent is killed or sleeps, a host is cut off, an engine with live-restore is \
            killed or hangs, an operator is killed or sleeps, the API server is killed, etcd hangs",
    measured: "the end of all that until all tasks run, the rollout is done and every end is reported",
    bound: Duration::from_secs(90),
    count: 5,
    run: mixed,
}];

/// What breaks, until [`Stage::mend`] mends it.
#[derive(Clone, Copy)]
enum Fault {
    AgentKilled,
    AgentSleeps,
    CutOff,
    EngineKilled,
    EngineHangs,
    OperatorKilled,
    OperatorSleeps,
    ApiKilled,
    EtcdHangs,
}

const FAULTS: [Fault; 9] = [
    Fault::AgentKilled,
    Fault::AgentSleeps,
    Fault::CutOff,
    Fault::EngineKilled,
    Fault::EngineHangs,
    Fault::OperatorKilled,
    Fault::OperatorSleeps,
    Fault::ApiKilled,
    Fault::EtcdHangs,
];

/// So many at once.
const TOGETHER: usize = 3;
/// Longest time for which they last, each.
const LASTS: Duration = Duration::from_secs(10);

fn mixed(stage: &Stage<'_>, count: u32) -> Result<Vec<Duration>> {
    let before = stage.proof()?;
    let mut times = Vec::new();
    for _ in 0..count {
        let exits = stage.exits(8, None, 30)?;
        stage.roll()?;
        for _ in 0..TOGETHER {
            let fault = FAULTS[stage.below(FAULTS.len())];
            begin(stage, fault)?;
            stage.any_moment(LASTS);
        }
        let since = Instant::now();
        stage.mend()?;
        stage.rolled()?;
        stage.reach(&exits, &["STOPPED"])?;
        times.push(since.elapsed());
        stage.accounted(exits)?;
        stage.same(&before, None)?;
    }
    Ok(times)
}

fn begin(stage: &Stage<'_>, fault: Fault) -> Result<()> {
    let plane = stage.lab().control_plane();
    // The last has no live-restore.
    let hosts = stage.lab().hosts();
    let host = &hosts[stage.below(hosts.len() - 1)];
    let (operator, _) = stage.operators()[stage.below(2)];
    match fault {
        Fault::AgentKilled => stage.kill(host.agent())?,
        Fault::AgentSleeps => {
            host.agent().signal(Signal::STOP);
        }
        Fault::CutOff => stage.cut(host)?,
        Fault::EngineKilled => host.stop_engine(Signal::KILL)?,
        Fault::EngineHangs => {
            host.engine().dockerd().signal(Signal::STOP);
        }
        Fault::OperatorKilled => stage.kill(operator)?,
        Fault::OperatorSleeps => {
            operator.signal(Signal::STOP);
        }
        Fault::ApiKilled => plane.api()?.kill9()?,
        Fault::EtcdHangs => {
            plane.etcd()?.signal(Signal::STOP);
        }
    }
    Ok(())
}
