//! What the agent takes of its host at rest: memory, and a share of a processor.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use tallyman_lab::Lab;

use crate::document::Part;
use crate::processors::{TICKS, ticks};
use crate::{measure, table};

/// How long the agent is watched while nothing changes. It lists its containers every ten seconds.
const REST: Duration = Duration::from_secs(30);
/// Calls that do not reach the engine are of files of the kernel.
const OUTSIDE: [&str; 4] = ["prepare", "provide_group", "remove_group", "list_groups"];

/// The agent at rest.
#[derive(Clone, Copy, Debug)]
struct Rest {
    /// Resident memory, MiB.
    memory: f64,
    /// Percent of one core.
    cpu: f64,
}

/// Its part of the document: the agent without a task, and with so many tasks of one container each.
pub fn run(containers: usize) -> Result<String> {
    let mut text = format!(
        "{}\nResident memory and share of one core over {} s in which nothing changes; engine calls for one started container, \
         less\nthe pull. Tasks have one container each.\n\n\
         | engine | memory without tasks, MiB | goal | with {containers} containers | goal | CPU without tasks, % | with {containers} | goal | \
         engine calls a start | goal |\n|---|---|---|---|---|---|---|---|---|---|\n",
        Part::Rest.heading(),
        REST.as_secs()
    );
    for (name, generation) in crate::ENGINES {
        println!("engine {name}");
        let lab = crate::lab(generation)?;
        let measured = measured(&lab, containers);
        lab.down()?;
        let (idle, full, calls) = measured?;
        println!("  idle {idle:?}, with {containers} {full:?}, {calls:.2} calls a start");
        let _ = writeln!(
            text,
            "| {name} | {} | {} | {:.2} | {} | {} |",
            table::against(idle.memory, 15.0),
            table::against(full.memory, 20.0),
            idle.cpu,
            table::against(full.cpu, 0.3),
            table::against(calls, 4.0),
        );
    }
    Ok(text)
}

fn measured(lab: &Lab, containers: usize) -> Result<(Rest, Rest, f64)> {
    let orders = crate::orders::Orders::open(lab)?;
    measure::begin(lab)?;
    let idle = at_rest(lab)?;
    let before = measure::calls(lab)?;
    measure::scale(lab, &orders, containers)?;
    let calls = measure::difference(&measure::calls(lab)?, &before);
    let of_engine = calls
        .iter()
        .filter(|(verb, _)| !OUTSIDE.contains(&verb.as_str()));
    let calls = table::per(of_engine.map(|(_, count)| count).sum(), containers);
    let full = at_rest(lab)?;
    measure::scale(lab, &orders, 0)?;
    measure::end(lab)?;
    Ok((idle, full, calls))
}

/// Watches the agent of the first host while nothing changes.
fn at_rest(lab: &Lab) -> Result<Rest> {
    let pid = lab
        .host(0)
        .agent()
        .pid()
        .context("the agent does not run")?;
    let begun = Instant::now();
    let before = ticks(pid)?;
    // What is measured is the passing of time itself.
    std::thread::sleep(REST);
    let used = table::per(ticks(pid)? - before, 1) / table::per(TICKS, 1);
    Ok(Rest {
        memory: resident(pid)?,
        cpu: 100.0 * used / begun.elapsed().as_secs_f64(),
    })
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
