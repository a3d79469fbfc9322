//! What the agent takes of its host at rest: memory, and a share of a processor.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use tallyman_lab::Lab;

/// How long the agent is watched while nothing changes. It lists its containers every ten seconds.
const REST: Duration = Duration::from_secs(30);
/// Clock ticks a second in `/proc`, fixed by the kernel's interface (USER_HZ).
const TICKS: f64 = 100.0;

/// The agent at rest.
#[derive(Clone, Copy, Debug)]
pub struct Rest {
    /// Resident memory, MiB.
    pub memory: f64,
    /// Percent of one core.
    pub cpu: f64,
}

/// Watches the agent of the first host while nothing changes.
pub fn at_rest(lab: &Lab) -> Result<Rest> {
    let pid = lab
        .host(0)
        .agent()
        .pid()
        .context("the agent does not run")?;
    let begun = Instant::now();
    let before = ticks(pid)?;
    // What is measured is the passing of time itself.
    std::thread::sleep(REST);
    let used = (ticks(pid)? - before) / TICKS;
    Ok(Rest {
        memory: resident(pid)?,
        cpu: 100.0 * used / begun.elapsed().as_secs_f64(),
    })
}

/// User and system time so far.
fn ticks(pid: u32) -> Result<f64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The name, in brackets, may hold anything; utime and stime are the 12th and 13th field behind it.
    let (_, rest) = text.rsplit_once(')').context("an unknown /proc/pid/stat")?;
    let fields = rest.split_whitespace().skip(11).take(2);
    fields
        .map(|field| field.parse::<f64>().context("an unknown /proc/pid/stat"))
        .sum()
}

fn resident(pid: u32) -> Result<f64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .context("no VmRSS in /proc/pid/status")?;
    let kib: f64 = line.trim().trim_end_matches("kB").trim().parse()?;
    Ok(kib / 1024.0)
}
