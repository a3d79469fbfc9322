//! How a command ends.

use std::process::ExitCode;

/// Exit code of a command that did what it was asked for.
pub const DONE: u8 = 0;
/// Of one that found what it was asked about to be wrong, or a change.
pub const FAILED: u8 = 1;
/// Of `status` when the time is over.
pub const TIMED_OUT: u8 = 2;
/// Of `plan` when nothing can be said (as Nomad has it).
pub const UNKNOWN: u8 = 255;
/// Of `run` when no container ran (as `docker run` has it).
pub const NOT_RUN: u8 = 125;
/// Of `run` when the time is over (as `timeout` has it).
pub const RUN_TIMED_OUT: u8 = 124;
/// Of `run` when it was interrupted (128 and SIGINT, as shells have it).
pub const INTERRUPTED: u8 = 130;

/// Exit code of a command that cannot do what it was asked for.
pub fn failure_of(command: &str) -> u8 {
    match command {
        "plan" => UNKNOWN,
        "run" => NOT_RUN,
        _ => FAILED,
    }
}

/// The exit code of a container as that of a process: what no process can end with is 1.
pub fn of_container(code: i32) -> u8 {
    u8::try_from(code).unwrap_or(FAILED)
}

/// The exit code of a command: what it says itself, or `failure` with its message on stderr.
pub fn of(result: anyhow::Result<u8>, failure: u8) -> ExitCode {
    match result {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(failure)
        }
    }
}
