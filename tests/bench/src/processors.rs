//! Time on a processor, by program: what of a ratio is whose.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};
use tallyman_lab::{Lab, Process};

/// Clock ticks a second in `/proc`, fixed by the kernel's interface (USER_HZ).
pub const TICKS: u64 = 100;

/// Milliseconds of processor time so far, by program, of what Tallyman puts beside an engine.
pub fn spent(lab: &Lab) -> Result<BTreeMap<String, u64>> {
    let known = |name: &str| Process::attach(lab.ledger(), name);
    [
        ("the agent", lab.host(0).agent().pid()),
        ("the operator", lab.operator().pid()),
        ("the API server", known("apiserver")?.pid()),
        ("etcd", known("etcd")?.pid()),
    ]
    .into_iter()
    .map(|(program, pid)| {
        let pid = pid.with_context(|| format!("{program} does not run"))?;
        Ok((program.to_owned(), ticks(pid)? * (1000 / TICKS)))
    })
    .collect()
}

/// User and system time of a process so far, in [`TICKS`].
pub fn ticks(pid: u32) -> Result<u64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The name, in brackets, may hold anything; utime and stime are the 12th and 13th field behind it.
    let (_, rest) = text.rsplit_once(')').context("an unknown /proc/pid/stat")?;
    let fields = rest.split_whitespace().skip(11).take(2);
    fields
        .map(|field| field.parse::<u64>().context("an unknown /proc/pid/stat"))
        .sum()
}
