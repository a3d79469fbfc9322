//! `make chaos`: every fault of the table in docs/reliability.md that one machine can bring about, with real processes, while a
//! witness looks at every engine and every task.
//!
//! A [`Row`] is one fault: it is brought about so and so many times, what must never be is looked for all the time, and how
//! long it takes until all is well is held against a bound. `tallyman-chaos` runs the rows with full counts on a lab of four
//! hosts; the end-to-end tests run some of them with small ones on theirs.

mod agents;
mod control_plane;
mod deaths;
mod engines;
mod hosts;
mod leaders;
mod links;
mod mixed;
mod registry;
pub mod report;
mod stage;
mod store;
mod users;
mod witness;

use std::time::{Duration, Instant};

use anyhow::Result;
use tallyman_lab::Lab;

pub use agents::{UPGRADE, Versions};
pub use stage::{Load, Stage, Times};
pub use witness::Witness;

/// A fault, what is promised, and how to bring it about.
pub struct Row {
    /// Number in the table of docs/reliability.md.
    pub number: &'static str,
    /// Reads as a sentence.
    pub name: &'static str,
    /// How it is brought about.
    pub fault: &'static str,
    /// What the time is that is held against the bound.
    pub measured: &'static str,
    /// Longest time allowed.
    pub bound: Duration,
    /// How often by default.
    pub count: u32,
    /// Shows it.
    pub run: fn(&Stage<'_>, u32) -> Result<Vec<Duration>>,
}

/// How a row went.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// How often the fault was brought about.
    pub count: u32,
    /// What was measured.
    pub times: Vec<Duration>,
    /// What must never be, and was.
    pub violations: Vec<String>,
    /// Why it could not be seen through.
    pub failure: Option<String>,
    /// How often the witness looked.
    pub looks: u64,
}

impl Outcome {
    /// Nothing happened that must not, and everything in time.
    pub fn held(&self, bound: Duration) -> bool {
        self.violations.is_empty()
            && self.failure.is_none()
            && self.worst().is_none_or(|worst| worst <= bound)
    }

    /// Longest time.
    pub fn worst(&self) -> Option<Duration> {
        self.times.iter().max().copied()
    }

    /// Median.
    pub fn median(&self) -> Option<Duration> {
        let mut times = self.times.clone();
        times.sort();
        times.get(times.len() / 2).copied()
    }

    /// All that is wrong, in sentences.
    pub fn complaints(&self, bound: Duration) -> Vec<String> {
        let late = self.worst().filter(|worst| *worst > bound);
        let late = late.map(|worst| {
            let (worst, bound) = (worst.as_secs_f64(), bound.as_secs_f64());
            format!("it took {worst:.1} s, and {bound:.0} s are allowed")
        });
        let all = self.failure.iter().chain(&self.violations).cloned();
        all.chain(late).collect()
    }
}

/// Every row, in the order in which they are run.
pub fn rows() -> impl Iterator<Item = &'static Row> {
    [
        agents::ROWS,
        deaths::ROWS,
        engines::ROWS,
        links::ROWS,
        leaders::ROWS,
        control_plane::ROWS,
        store::ROWS,
        users::ROWS,
        mixed::ROWS,
        hosts::ROWS,
    ]
    .into_iter()
    .flatten()
}

/// Runs rows on a lab, each as often as `count` says, and hands each outcome over as it is known.
///
/// # Errors
/// The containers that everything is about do not come up or do not go.
pub fn run(
    lab: &Lab,
    load: Load,
    times: Times,
    versions: Option<Versions>,
    seed: u64,
    rows: &[(&'static Row, u32)],
    told: &mut dyn FnMut(&'static Row, &Outcome),
) -> Result<()> {
    let stage = Stage::set(lab, load, times, versions, seed)?;
    let witness = &stage.witness;
    let result = witness.watch(
        lab,
        || stage.keep(),
        || {
            stage.load()?;
            for (row, count) in rows {
                let started = Instant::now();
                witness.take();
                let result = (row.run)(&stage, *count);
                let mended = stage.mend();
                let failure = result.as_ref().err().or(mended.as_ref().err());
                let failure = failure.map(|error| format!("{error:#}"));
                let (violations, looks) = witness.take();
                let count = stage.times_happened().unwrap_or(*count);
                let outcome = Outcome {
                    count,
                    times: result.unwrap_or_default(),
                    violations,
                    failure,
                    looks,
                };
                let (seconds, held) = (started.elapsed().as_secs_f64(), outcome.held(row.bound));
                println!(
                    "row {}: {}, {} times ... {} ({seconds:.0} s)",
                    row.number,
                    row.name,
                    count,
                    if held { "held" } else { "MISSED" }
                );
                for complaint in outcome.complaints(row.bound) {
                    println!("  {complaint}");
                }
                told(row, &outcome);
            }
            stage.unload()
        },
    );
    stage.leave()?;
    result
}
