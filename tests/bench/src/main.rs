//! `make bench`. A Service from 0 to 50 tasks and back on one host, against the same engine driven directly by eight
//! workers, interleaved, so that both meet the same machine. Prints and writes ratios and counts, not absolute times.
//!
//! `tallyman-bench rest`: the agent's memory and share of a processor, with a hundred containers.
//! `tallyman-bench placement`: placements of the operator's core, in process.

mod document;
mod events;
mod footprint;
mod measure;
mod orders;
mod placement;
mod processors;
mod raw;
mod table;

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use clap::{Parser, Subcommand};
use tallyman_lab::{EngineGeneration, Lab};

use crate::document::Part;
use crate::measure::Round;
use crate::orders::Orders;

/// Measures Tallyman against the raw engine, or a part of it alone, and writes its part of docs/benchmarks.md.
#[derive(Parser, Debug)]
struct Args {
    #[command(subcommand)]
    alone: Option<Alone>,
    /// Copies of the service.
    #[arg(long, default_value_t = 50)]
    tasks: usize,
    /// Rounds; medians of their ratios are reported.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Where the table goes.
    #[arg(long, default_value = "docs/benchmarks.md")]
    out: PathBuf,
}

/// What is measured without the raw engine.
#[derive(Subcommand, Debug)]
enum Alone {
    /// What the agent takes of its host at rest.
    Rest {
        /// Containers that run meanwhile.
        #[arg(long, default_value_t = 100)]
        containers: usize,
    },
    /// Placements a second of the operator's core, in process.
    Placement,
}

fn main() -> Result<()> {
    let args = Args::parse();
    let (part, text) = match args.alone {
        None => (Part::Engine, beside_the_engine(&args)?),
        Some(Alone::Rest { containers }) => (Part::Rest, footprint::run(containers)?),
        Some(Alone::Placement) => (Part::Placement, placement::run()?),
    };
    document::write(&args.out, part, &text)?;
    println!("\n{text}");
    Ok(())
}

/// Engines that are measured.
const ENGINES: [(&str, EngineGeneration); 2] = [
    ("20.10", EngineGeneration::Debian2010),
    ("current", EngineGeneration::Current),
];

/// A host with an engine, and all that it needs.
fn lab(generation: EngineGeneration) -> Result<Lab> {
    Lab::builder()
        .hosts(1, generation)
        .audit(true)
        .operator_binary(binary("tallyman-operator")?)
        .agent_binary(binary("tallyman-agent")?)
        .start()
        .context("the lab did not come up")
}

fn beside_the_engine(args: &Args) -> Result<String> {
    let mut engines = Vec::new();
    for (name, generation) in ENGINES {
        println!("engine {name}");
        let lab = lab(generation)?;
        let orders = Orders::open(&lab)?;
        let mut rounds = Vec::new();
        let result = (0..=args.rounds).try_for_each(|i| {
            let round = measure::round(&lab, &orders, args.tasks)?;
            println!(
                "  {}: {round}",
                if i == 0 {
                    "warm-up".to_owned()
                } else {
                    format!("round {i}")
                }
            );
            if i > 0 {
                rounds.push(round);
            }
            anyhow::Ok(())
        });
        lab.down()?;
        result?;
        engines.push((name.to_owned(), rounds));
    }
    Ok(table::document(args.tasks, &engines))
}

/// A program of this workspace, built beside this one.
fn binary(name: &str) -> Result<PathBuf> {
    let own = std::env::current_exe().context("this program has no path")?;
    let path = own.with_file_name(name);
    anyhow::ensure!(
        path.is_file(),
        "{} is missing: run `cargo build --release --workspace`",
        path.display()
    );
    Ok(path)
}

/// Rounds of one engine.
type Engine = (String, Vec<Round>);
