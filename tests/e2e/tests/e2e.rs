//! Runs the scenarios on three hosts with Docker 20.10, then on three hosts with current Docker.
//!
//! `cargo test -p tallyman-e2e --features real [-- [20.10|current] WORD ...]`: only scenarios whose name holds a WORD.

use std::process::ExitCode;

use tallyman_e2e::{run, scenarios};
use tallyman_lab::EngineGeneration;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args()
        .skip(1)
        .filter(|a| !a.starts_with('-'))
        .collect();
    let only = |g: &str| words.iter().any(|w| w == g);
    let filters: Vec<String> = words
        .iter()
        .filter(|w| *w != "20.10" && *w != "current")
        .cloned()
        .collect();
    let generations = [
        ("20.10", EngineGeneration::Debian2010),
        ("current", EngineGeneration::Current),
    ];
    let (mut passed, mut failed) = (0, 0);
    for (name, generation) in generations {
        if (only("20.10") || only("current")) && !only(name) {
            continue;
        }
        match run(
            generation,
            &scenarios::all(),
            &scenarios::joining(),
            &filters,
        ) {
            Ok((p, f)) => {
                passed += p;
                failed += f;
            }
            Err(error) => {
                println!("test {name}: the lab ... FAILED\n  {error:#}");
                failed += 1;
            }
        }
    }
    if passed + failed == 0 {
        println!("no scenario has a name with {filters:?}");
        failed = 1;
    }
    println!("\n{passed} passed, {failed} failed");
    if failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
