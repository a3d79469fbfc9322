//! The agent as a process: what it logs, where its engine and its files are.

use super::group::{Variable, settings};
use super::values::Wrong;

/// How much is logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogLevel {
    /// `crit`, `error`
    Error,
    /// `warn`
    Warn,
    /// `info`
    Info,
    /// `debug`
    Debug,
}

impl LogLevel {
    /// As log filters spell it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
        }
    }
}

/// Variables that are flags of the command line, too, and read there.
pub(super) const OF_THE_COMMAND_LINE: &[Variable] = &[
    Variable {
        name: "ECS_DATADIR",
        key: "DataDir",
        what: "where plan and records are kept (default /var/lib/tallyman)",
    },
    Variable {
        name: "DOCKER_HOST",
        key: "DockerEndpoint",
        what: "the engine (default unix:///var/run/docker.sock)",
    },
];

settings! {
    /// The agent as a process.
    pub struct Process {
        log_level: LogLevel = LogLevel::Info,
            ["ECS_LOGLEVEL", "LogLevel", "crit, error, warn, info or debug (default info); RUST_LOG goes before"],
            log_level;
    }
}

fn log_level(text: &str) -> Result<LogLevel, Wrong> {
    match text {
        "info" => Ok(LogLevel::Info),
        "crit" | "critical" | "error" => Ok(LogLevel::Error),
        "warn" | "warning" => Ok(LogLevel::Warn),
        "debug" | "trace" => Ok(LogLevel::Debug),
        _ => Err(Wrong::wanted("one of crit, error, warn, info and debug")),
    }
}
