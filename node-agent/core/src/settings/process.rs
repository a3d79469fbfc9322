//! The agent as a process: what it logs, where its engine and its files are.

use super::group::settings;
use super::values::{Wrong, flag, number, some, text};

/// How much is logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogLevel {
    /// `none`
    Off,
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
            Self::Off => "off",
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
        }
    }
}

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people: words, then fields as `key=value`.
    Logfmt,
    /// One JSON object a line.
    Json,
}

/// When a new log file begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rollover {
    /// When the file has its size.
    Size,
    /// Every hour.
    Hourly,
}

settings! {
    /// The agent as a process.
    pub struct Process {
        data_dir: String = "/var/lib/tallyman".to_owned(),
            ["ECS_DATADIR", "DataDir", "where plan and records are kept (default /var/lib/tallyman)"],
            text;
        docker_host: String = "unix:///var/run/docker.sock".to_owned(),
            ["DOCKER_HOST", "DockerEndpoint", "the engine (default unix:///var/run/docker.sock)"],
            text;
        log_level: LogLevel = LogLevel::Info,
            ["ECS_LOGLEVEL", "", "crit, error, warn, info or debug (default info); RUST_LOG goes before"],
            log_level;
        log_level_on_instance: Option<LogLevel> = None,
            ["ECS_LOGLEVEL_ON_INSTANCE", "",
             "as ECS_LOGLEVEL, or none, for ECS_LOGFILE alone (default: ECS_LOGLEVEL)"],
            some(log_level);
        log_format: Option<LogFormat> = None,
            ["ECS_LOG_OUTPUT_FORMAT", "", "logfmt or json (default logfmt); --log-format goes before"],
            some(log_format);
        log_file: Option<String> = None,
            ["ECS_LOGFILE", "", "file that the log is written to as well (default none)"],
            some(text);
        audit_file: Option<String> = None,
            ["ECS_AUDIT_LOGFILE", "",
             "file that is told, beside the log, who was given credentials of a role (default none)"],
            some(text);
        audit_file_disabled: bool = false,
            ["ECS_AUDIT_LOGFILE_DISABLED", "", "true: no such file, even where ECS_AUDIT_LOGFILE names one (default false)"],
            flag;
        log_rollover: Rollover = Rollover::Size,
            ["ECS_LOG_ROLLOVER_TYPE", "", "size or hourly: when a new log file begins (default size)"],
            rollover;
        log_file_mib: i64 = 5,
            ["ECS_LOG_MAX_FILE_SIZE_MB", "", "MiB of a log file under rollover size (default 5)"],
            number(1, 1 << 20, "MiB");
        log_files: i64 = 24,
            ["ECS_LOG_MAX_ROLL_COUNT", "", "old log files that are kept (default 24)"],
            number(1, 1 << 20, "files");
    }
}

fn log_format(text: &str) -> Result<LogFormat, Wrong> {
    match text {
        "logfmt" => Ok(LogFormat::Logfmt),
        "json" => Ok(LogFormat::Json),
        _ => Err(Wrong::wanted("logfmt or json")),
    }
}

fn rollover(text: &str) -> Result<Rollover, Wrong> {
    match text {
        "size" => Ok(Rollover::Size),
        "hourly" => Ok(Rollover::Hourly),
        _ => Err(Wrong::wanted("size or hourly")),
    }
}

fn log_level(text: &str) -> Result<LogLevel, Wrong> {
    match text.to_ascii_lowercase().as_str() {
        "info" => Ok(LogLevel::Info),
        "crit" | "critical" | "error" => Ok(LogLevel::Error),
        "warn" | "warning" => Ok(LogLevel::Warn),
        "debug" | "trace" => Ok(LogLevel::Debug),
        "none" | "off" => Ok(LogLevel::Off),
        _ => Err(Wrong::wanted("one of crit, error, warn, info and debug")),
    }
}
