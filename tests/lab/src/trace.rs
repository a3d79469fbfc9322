//! Programs under strace: which system calls they make, and how they die on the way into one.
//!
//! Between two calls by which a program tells others something or changes its disk, others do not see how far it is. So its deaths at
//! each of them are those that matter most, and it needs no failpoints for them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use crate::process::CommandSpec;

/// A system call of a program, by how many of its kind its thread made before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Point {
    /// Its name.
    pub call: String,
    /// 1 is the first one.
    pub number: u32,
}

impl std::fmt::Display for Point {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} number {}", self.call, self.number)
    }
}

/// The same command, whose system calls of these kinds are written to `log`, without what they carry.
///
/// # Errors
/// strace is not installed.
pub fn watched(command: &CommandSpec, calls: &[&str], log: &Path) -> Result<CommandSpec> {
    let calls = format!("trace={}", calls.join(","));
    let log = log.display().to_string();
    under_strace(command, &["-s", "0", "-e", &calls, "-o", &log])
}

/// The same command, which dies by SIGKILL on the way into this call. It is the thread that comes to it first.
///
/// # Errors
/// strace is not installed.
pub fn killed_at(command: &CommandSpec, point: &Point) -> Result<CommandSpec> {
    let Point { call, number } = point;
    let trace = format!("trace={call}");
    let inject = format!("inject={call}:signal=KILL:when={number}");
    under_strace(command, &["-e", &trace, "-e", &inject, "-o", "/dev/null"])
}

/// Each point that a program came to, of what [`watched`] wrote: kind by kind, in the order of `calls`.
///
/// # Errors
/// Of the file system.
pub fn points(calls: &[&str], log: &Path) -> Result<Vec<Point>> {
    let text = std::fs::read_to_string(log).with_context(|| log.display().to_string())?;
    Ok(points_of(calls, &text))
}

fn points_of(calls: &[&str], log: &str) -> Vec<Point> {
    // `1234 rename("...`; what is resumed was counted when it began.
    let mut counts: BTreeMap<(&str, &str), u32> = BTreeMap::new();
    for line in log.lines() {
        if let Some((thread, rest)) = line.split_once(' ')
            && let Some((call, _)) = rest.trim_start().split_once('(')
        {
            *counts.entry((call, thread)).or_default() += 1;
        }
    }
    let most = |call: &str| {
        let of = counts.iter().filter(|((name, _), _)| *name == call);
        of.map(|(_, count)| *count).max().unwrap_or_default()
    };
    let numbered = |call: &&str| {
        let call = (*call).to_owned();
        (1..=most(&call)).map(move |number| Point {
            call: call.clone(),
            number,
        })
    };
    calls.iter().flat_map(numbered).collect()
}

/// strace is the grandchild, so that the process that is started is the program.
fn under_strace(command: &CommandSpec, options: &[&str]) -> Result<CommandSpec> {
    let mut traced = command.clone();
    traced.program = strace()?;
    traced.args = ["-D", "-f", "-qq", "--signal=none"]
        .iter()
        .chain(options)
        .map(|&option| option.to_owned())
        .collect();
    traced.args.push(command.program.display().to_string());
    traced.args.extend(command.args.iter().cloned());
    Ok(traced)
}

fn strace() -> Result<PathBuf> {
    let path = PathBuf::from("/usr/bin/strace");
    anyhow::ensure!(path.is_file(), "strace is missing: dev/tools.sh packages");
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_point_is_counted_by_thread_and_only_when_it_begins() {
        let log = "\
7 sendto(9, \"\"..., 120, MSG_NOSIGNAL, NULL, 0) = 120
7 rename(\"\"..., \"\"... <unfinished ...>
8 rename(\"\"..., \"\"...) = 0
7 <... rename resumed>) = 0
8 rename(\"\"..., \"\"...) = 0
7 +++ exited with 0 +++
";
        let points = points_of(&["rename", "sendto", "unlink"], log);
        let told: Vec<String> = points.iter().map(ToString::to_string).collect();
        assert_eq!(
            told,
            ["rename number 1", "rename number 2", "sendto number 1"]
        );
    }
}
