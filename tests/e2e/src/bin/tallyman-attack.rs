//! `make attack`. Brings up a lab, tries to break in from inside a container, from another host and with a stolen host token, and
//! writes what came of it into docs/security.md.

use std::io::Read as _;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result};
use clap::Parser;
use tallyman_e2e::attack::{self, report, rows};
use tallyman_e2e::table::chosen;
use tallyman_lab::{EngineGeneration, Lab};

/// Tries to break in, and says what came of it.
#[derive(Parser, Debug)]
struct Args {
    /// Rows of docs/security.md, such as `1 22`; all without.
    rows: Vec<String>,
    /// Which engine the hosts have.
    #[arg(long, default_value = "current")]
    engine: EngineGeneration,
    /// Where the table goes.
    #[arg(long, default_value = "docs/security.md")]
    out: PathBuf,
    /// Part of an attack, run where it is to come from: holds connections to this address open, and prints how many were opened.
    #[arg(long, value_name = "ADDRESS", hide = true)]
    hold: Option<SocketAddr>,
    /// How many at once.
    #[arg(long, default_value_t = 600, hide = true)]
    connections: usize,
    /// For how long.
    #[arg(long, default_value_t = 15, hide = true)]
    seconds: u64,
    /// Part of an attack, run where it is to come from: sends the requests that standard input holds to this API server.
    #[arg(long, value_name = "URL", hide = true)]
    relay: Option<String>,
}

fn main() -> Result<ExitCode> {
    let args = Args::parse();
    if let Some(address) = args.hold {
        let time = Duration::from_secs(args.seconds);
        println!("{}", attack::hold(address, args.connections, time));
        return Ok(ExitCode::SUCCESS);
    }
    if let Some(server) = args.relay {
        let mut requests = String::new();
        std::io::stdin().read_to_string(&mut requests)?;
        println!("{}", attack::relay(&server, &requests)?);
        return Ok(ExitCode::SUCCESS);
    }
    let chosen = chosen(rows(), |row| row.number, &args.rows)?;
    let lab = Lab::builder()
        .hosts(2, args.engine)
        .start()
        .context("the lab did not come up")?;
    let mut lost = Vec::new();
    let result = as_users_get_it(&lab).and_then(|()| {
        attack::run(&lab, &chosen, &mut |row, haul| {
            if !haul.held() {
                lost.push(row.number);
            }
            if let Err(error) = report::write(&args.out, row, haul) {
                println!("  {error:#}");
            }
        })
    });
    if result.is_err() || !lost.is_empty() {
        lab.save_logs();
    }
    lab.down()?;
    result?;
    if lost.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    println!("not held: {}", lost.join(", "));
    Ok(ExitCode::FAILURE)
}

/// Agents serve on a host's own loopback, as they do for users. Labs have them serve on the network, for tests to look at.
fn as_users_get_it(lab: &Lab) -> Result<()> {
    for host in lab.hosts() {
        let agent = host.agent();
        let mut command = agent.command();
        command
            .args
            .retain(|arg| !arg.starts_with("--http-address="));
        agent.stop(Duration::from_secs(30))?;
        agent.set_command(command);
        agent.start()?;
    }
    Ok(())
}
