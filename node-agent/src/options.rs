//! Flags and variables of the agent, as people type them.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Parser, Subcommand, ValueEnum};
use tallyman_agent_core::Settings;
use tallyman_agent_core::settings::{self, Parsed, Variable};

use crate::join::JoinOptions;

/// Runs the tasks that Tallyman assigns to this host on its container engine, and reports them.
///
/// `tallyman-agent join` makes the host one of the cluster's and writes the kubeconfig that the agent then runs with; it needs
/// access to the engine's socket, too. It keeps containers running while the API or the
/// agent itself is away, and never touches containers that are not its own.
#[derive(Clone, Debug, Parser)]
#[command(
    name = "tallyman-agent",
    version,
    after_help = variables(),
    args_conflicts_with_subcommands = true
)]
pub struct Options {
    /// Something else than to run tasks.
    #[command(subcommand)]
    pub command: Option<Command>,

    /// Kubeconfig to reach the API server with [default: $KUBECONFIG, ~/.kube/config, or in-cluster]
    #[arg(long, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,

    /// Name of the ContainerInstance that is this host [default: the one that its token is for, or the host name]
    #[arg(long, env = "TALLYMAN_NAME", value_name = "NAME")]
    pub name: Option<String>,

    /// Namespace of the ContainerInstance [default: that of the kubeconfig]
    #[arg(long, env = "TALLYMAN_NAMESPACE", value_name = "NAMESPACE")]
    pub namespace: Option<String>,

    /// The container engine: unix:///path or tcp://host:port [default: $DOCKER_HOST]
    #[arg(long, value_name = "ENDPOINT")]
    pub docker_host: Option<String>,

    /// Where the last plan and the records of tasks are kept [default: $ECS_DATADIR]
    #[arg(long, env = "TALLYMAN_DATA_DIR", value_name = "DIR")]
    pub data_dir: Option<PathBuf>,

    /// Where health checks, metrics and the ECS introspection API (/v1/metadata, /v1/tasks) are served; the latter
    /// only to this host [default: 127.0.0.1:51678, or 0.0.0.0:51678 with ECS_ALLOW_OFFHOST_INTROSPECTION_ACCESS]
    #[arg(long, env = "TALLYMAN_HTTP_ADDRESS", value_name = "ADDRESS")]
    pub http_address: Option<SocketAddr>,

    /// Where /metrics alone is served, for Prometheus [default: nowhere, or 0.0.0.0:51680 with
    /// ECS_ENABLE_PROMETHEUS_METRICS]
    #[arg(long, env = "TALLYMAN_METRICS_ADDRESS", value_name = "ADDRESS")]
    pub metrics_address: Option<SocketAddr>,

    /// Whether containers can ask about themselves at http://169.254.170.2:51679 (ECS task metadata endpoint)
    #[arg(
        long,
        env = "TALLYMAN_TASK_METADATA",
        value_name = "SWITCH",
        default_value = "on"
    )]
    pub task_metadata: Switch,

    /// Address at which published ports of this host are reached [default: that of the route to the API
    /// server, or of the default route]
    #[arg(long, env = "TALLYMAN_ADDRESS", value_name = "ADDRESS")]
    pub address: Option<String>,

    /// How log lines look [default: as ECS_LOG_OUTPUT_FORMAT says, else text]
    #[arg(long, env = "TALLYMAN_LOG_FORMAT", value_name = "FORMAT")]
    pub log_format: Option<LogFormat>,
}

/// What the agent does beside running tasks.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// Joins this host: asks with the token of a HostJoin and writes the agent's kubeconfig.
    Join(JoinOptions),
}

/// On or off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Switch {
    /// If the host lets the agent.
    On,
    /// Never.
    Off,
}

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// The ECS variables, for the end of `--help`.
fn variables() -> String {
    let width = settings::variables()
        .map(|variable| variable.name.len())
        .max()
        .unwrap_or(0);
    let lines: Vec<String> = settings::variables()
        .map(|Variable { name, what, .. }| format!("  {name:width$}  {what}"))
        .collect();
    format!(
        "Variables of the ECS agent that are honoured:\n{}",
        lines.join("\n")
    )
}

/// The variables of this process that settings are read from.
fn environment() -> BTreeMap<String, String> {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .filter(|(name, _)| settings::is_ours(name))
        .collect()
}

/// The settings of this process: variables, and the file that one of them names.
///
/// # Errors
/// What ECS' agent does not start with either; a sentence.
pub fn settings() -> Result<Parsed, String> {
    let variables = environment();
    let path = variables
        .get(settings::FILE_VARIABLE)
        .map_or(settings::FILE, String::as_str);
    let file = match std::fs::read_to_string(path) {
        Ok(text) => Some(text),
        // As in ECS the file need not be there, wherever it is said to be.
        Err(error) if error.kind() == ErrorKind::NotFound => None,
        Err(error) => return Err(format!("cannot read {path}: {error}")),
    };
    Settings::parse_with_file(&variables, file.as_deref()).map_err(|bad| bad.to_string())
}

/// Name of the host, as the kernel has it.
pub fn host_name() -> Option<String> {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").ok()?;
    let name = name.trim().to_ascii_lowercase();
    (!name.is_empty()).then_some(name)
}

/// Changes when the host boots.
pub fn boot_id() -> Option<String> {
    let id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    Some(id.trim().to_owned()).filter(|id| !id.is_empty())
}
