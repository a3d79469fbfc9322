//! `kubectl tally`.

use std::process::ExitCode;

use clap::Parser as _;
use tallyman_cli::args::{Cli, Command};
use tallyman_cli::{commands, outcome};

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let cli = Cli::parse();
    let failure = match cli.command {
        Command::Plan(_) => outcome::UNKNOWN,
        Command::Run(_) => outcome::NOT_RUN,
        _ => outcome::FAILED,
    };
    outcome::of(commands::run(cli).await, failure)
}
