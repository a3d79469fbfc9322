//! `make chaos`. Breaks one thing after the other on a lab of four hosts with some fifty containers and two operators, and writes
//! what came of it into docs/reliability.md.

use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result};
use clap::Parser;
use tallyman_e2e::chaos::{Load, Row, Times, UPGRADE, Versions, report, rows, run};
use tallyman_e2e::table::chosen;
use tallyman_lab::{EngineGeneration, HostOptions, Lab, paths};

/// Breaks one thing after the other, and says what came of it.
#[derive(Parser, Debug)]
struct Args {
    /// Rows of docs/reliability.md, such as `1 17a`; all without.
    rows: Vec<String>,
    /// Times that agents are killed (row 1).
    #[arg(long, env = "CHAOS_KILLS")]
    kills: Option<u32>,
    /// Times that an agent's files are damaged (row 5).
    #[arg(long, env = "CHAOS_FILES")]
    files: Option<u32>,
    /// Deeds at which an agent (row 2) or an operator (row 16b) is killed: at most, and spread over all.
    #[arg(long, env = "CHAOS_DEATHS")]
    deaths: Option<u32>,
    /// Times that the lead changes, in each of the rows 16, 17a and 17b.
    #[arg(long, env = "CHAOS_FAILOVERS")]
    failovers: Option<u32>,
    /// Times that every other fault is brought about; as many as each row says without.
    #[arg(long, env = "CHAOS_TIMES")]
    times: Option<u32>,
    /// Seconds that the lead lasts without news of the leader; fail-overs by the hundred want a short one.
    #[arg(
        long,
        env = "CHAOS_LEASE",
        default_value_t = 15,
        value_name = "SECONDS"
    )]
    lease: u32,
    /// Which engine the hosts have.
    #[arg(long, default_value = "current")]
    engine: EngineGeneration,
    /// Another version of tallyman-agent, for row 4.
    #[arg(long, env = "CHAOS_OTHER_AGENT", value_name = "FILE")]
    other_agent: Option<PathBuf>,
    /// Where random moments come from; another one each time without.
    #[arg(long)]
    seed: Option<u64>,
    /// Where the table goes.
    #[arg(long, default_value = "docs/reliability.md")]
    out: PathBuf,
}

/// Times are those that users get, but for these: every rollout would last a minute, and the witness of a long run would look at
/// thousands of STOPPED tasks.
const OPERATOR_FLAGS: [&str; 2] = ["--healthy-after=3s", "--task-retention=10m"];
const GRACE: Duration = Duration::from_secs(50);
const REPLACE_AFTER: Duration = Duration::from_secs(300);
const LOAD: Load = Load {
    standing: 40,
    rolling: 6,
    sturdy: 4,
};

impl Args {
    fn count(&self, row: &Row) -> u32 {
        let said = match row.number {
            "1" => self.kills,
            "2" | "16b" => self.deaths,
            "5" => self.files,
            "16" | "17a" | "17b" => self.failovers,
            _ => self.times,
        };
        said.unwrap_or(row.count)
    }

    /// Of all rows, the one that needs what is not there; asked for by its number, it says so itself.
    fn leaves_out(&self, row: &Row) -> bool {
        row.number == UPGRADE && self.other_agent.is_none() && self.rows.is_empty()
    }
}

fn main() -> Result<ExitCode> {
    let args = Args::parse();
    let chosen: Vec<_> = chosen(rows(), |row| row.number, &args.rows)?
        .into_iter()
        .filter(|row| !args.leaves_out(row))
        .map(|row| (row, args.count(row)))
        .collect();
    if rows().any(|row| args.leaves_out(row)) {
        println!("row {UPGRADE} is left out: it needs --other-agent FILE");
    }
    let seed = args.seed.unwrap_or_else(|| fastrand::u64(..));
    println!("seed {seed}");
    let installed = tempfile::tempdir()?;
    let versions = args.other_agent.as_ref().map(|other| Versions {
        installed: installed.path().join("tallyman-agent"),
        other: other.clone(),
    });
    if let Some(versions) = &versions {
        fs::copy(paths::built_program("tallyman-agent")?, &versions.installed)?;
    }
    let lab = lab(&args, versions.as_ref())?;
    let times = Times {
        grace: GRACE,
        replace_after: REPLACE_AFTER,
        lease: Duration::from_secs(args.lease.into()),
    };
    let mut missed = Vec::new();
    let result = run(
        &lab,
        LOAD,
        times,
        versions,
        seed,
        &chosen,
        &mut |row, outcome| {
            if !outcome.held(row.bound) {
                missed.push(row.number);
            }
            if let Err(error) = report::write(&args.out, row, outcome) {
                println!("  {error:#}");
            }
        },
    );
    if result.is_err() || !missed.is_empty() {
        lab.save_logs();
    }
    lab.down()?;
    result?;
    if missed.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    println!("missed: {}", missed.join(", "));
    Ok(ExitCode::FAILURE)
}

/// Three hosts whose containers outlive their engine, and one whose do not.
fn lab(args: &Args, versions: Option<&Versions>) -> Result<Lab> {
    let generation = args.engine;
    let brittle = HostOptions {
        live_restore: false,
        ..HostOptions::new(generation)
    };
    let mut lab = Lab::builder()
        .hosts(3, generation)
        .host("host-4", brittle)
        .operator_args(OPERATOR_FLAGS)
        .operator_args([format!("--lease-duration={}s", args.lease)]);
    if let Some(versions) = versions {
        lab = lab.agent_binary(&versions.installed);
    }
    lab.start().context("the lab did not come up")
}
