//! Log lines: a lowercase event phrase and fields. What bodies the engine is sent (they hold
//! environments) is never logged: bollard is kept at `info` whatever is asked for.

use std::io::IsTerminal;

use tallyman_agent_core::settings::LogLevel;
use tracing_subscriber::EnvFilter;

use crate::options::LogFormat;

/// Starts logging to standard error. `RUST_LOG` goes before `ECS_LOGLEVEL`.
pub fn start(level: LogLevel, format: LogFormat) {
    let wanted = std::env::var("RUST_LOG")
        .ok()
        .filter(|filter| !filter.is_empty());
    let filter = EnvFilter::builder().parse_lossy(
        wanted.unwrap_or_else(|| format!("{},kube_client=off,hyper=warn", level.as_str())),
    );
    let filter = match "bollard=info".parse() {
        Ok(directive) => filter.add_directive(directive),
        Err(_) => filter,
    };
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_target(false)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr);
    match format {
        LogFormat::Text => builder.init(),
        LogFormat::Json => builder.json().flatten_event(true).init(),
    }
}
