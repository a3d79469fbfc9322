//! Runs the scenarios on three hosts with Docker 20.10, on three with current Docker, and what does not depend on it on three more,
//! side by side.
//!
//! `cargo test -p tallyman-e2e --test e2e [-- [20.10|current|deciding] WORD ...]`: only scenarios whose name holds a WORD.

use std::process::ExitCode;

use tallyman_e2e::{Lane, Tally, run, scenarios};

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args()
        .skip(1)
        .filter(|a| !a.starts_with('-'))
        .collect();
    let mut lanes = Lane::ALL.to_vec();
    let (names, filters): (Vec<String>, Vec<String>) = words
        .into_iter()
        .partition(|w| lanes.iter().any(|(name, _)| name == w));
    lanes.retain(|(name, _)| names.is_empty() || names.iter().any(|w| w == name));

    let filters = &filters;
    let tallies: Vec<Tally> = std::thread::scope(|scope| {
        let labs: Vec<_> = lanes
            .into_iter()
            .map(|(name, lane)| scope.spawn(move || on(name, lane, filters)))
            .collect();
        labs.into_iter()
            .map(|lab| lab.join().unwrap_or_else(|_| lost("a scenario panicked")))
            .collect()
    });

    let passed: usize = tallies.iter().map(|t| t.passed).sum();
    let mut failures: Vec<String> = tallies.into_iter().flat_map(|t| t.failures).collect();
    if passed + failures.len() == 0 {
        failures.push(format!("no scenario has a name with {filters:?}"));
    }
    println!("\n{passed} passed, {} failed", failures.len());
    for failure in &failures {
        println!("{failure}");
    }
    if failures.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn on(name: &str, lane: Lane, filters: &[String]) -> Tally {
    let tally = run(
        lane,
        &scenarios::all(lane),
        &scenarios::joining(lane),
        filters,
    );
    tally.unwrap_or_else(|error| lost(&format!("test {name}: the lab ... FAILED\n  {error:#}")))
}

fn lost(why: &str) -> Tally {
    println!("{why}");
    Tally {
        failures: vec![why.to_owned()],
        ..Tally::default()
    }
}
