//! `kubectl tally`.

use std::process::ExitCode;

use clap::Parser as _;
use tallyman_cli::args::{Cli, Command};
use tallyman_cli::{commands, outcome};

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let _ = error.print();
            // Not clap's 2, which is an answer of `status`.
            let words = std::env::args().skip(1);
            let failure = words.map(|word| outcome::failure_of(&word)).max();
            let code = if error.use_stderr() {
                failure.unwrap_or(outcome::FAILED)
            } else {
                outcome::DONE
            };
            return ExitCode::from(code);
        }
    };
    let failure = match cli.command {
        Command::Plan(_) => outcome::failure_of("plan"),
        Command::Run(_) => outcome::failure_of("run"),
        _ => outcome::FAILED,
    };
    outcome::of(commands::run(cli).await, failure)
}
