//! How operator and agent are started: the only place that knows their flags.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::paths;
use crate::process::CommandSpec;

/// Namespace of operator and policies, as `deploy/` makes it.
pub const SYSTEM_NAMESPACE: &str = "tallyman-system";

/// Service account of the operator, as `deploy/` makes it.
pub const OPERATOR_ACCOUNT: &str = "tallyman-operator";

/// Program of the operator.
pub const OPERATOR_PROGRAM: &str = "tallyman-operator";

/// Program of the agent.
pub const AGENT_PROGRAM: &str = "tallyman-agent";

/// A program of Tallyman, and what tests add to its usual command line.
#[derive(Clone, Debug)]
pub struct Program {
    /// The binary.
    pub binary: PathBuf,
    /// More arguments.
    pub args: Vec<String>,
    /// More variables.
    pub env: BTreeMap<String, String>,
}

impl Program {
    /// A binary with its usual command line.
    pub fn new(binary: impl Into<PathBuf>) -> Self {
        Program {
            binary: binary.into(),
            args: Vec::new(),
            env: BTreeMap::new(),
        }
    }

    fn command(&self) -> CommandSpec {
        let mut command = CommandSpec::new(&self.binary);
        command.env = self.env.clone();
        command
    }
}

/// A [`Program`] that may yet have to be found.
#[derive(Clone, Debug, Default)]
pub struct ProgramChoice {
    /// The binary; the one that was built beside the running program without.
    pub binary: Option<PathBuf>,
    /// More arguments.
    pub args: Vec<String>,
    /// More variables.
    pub env: BTreeMap<String, String>,
}

impl From<Program> for ProgramChoice {
    fn from(Program { binary, args, env }: Program) -> Self {
        ProgramChoice {
            binary: Some(binary),
            args,
            env,
        }
    }
}

impl ProgramChoice {
    /// This binary, or the built one, with its usual command line.
    pub fn binary(binary: Option<PathBuf>) -> Self {
        ProgramChoice {
            binary,
            ..ProgramChoice::default()
        }
    }

    /// Finds the binary.
    ///
    /// # Errors
    /// When it was not built.
    pub fn resolve(self, name: &str) -> Result<Program> {
        let ProgramChoice { binary, args, env } = self;
        let binary = match binary {
            Some(binary) => std::path::absolute(binary)?,
            None => paths::built_program(name)?,
        };
        anyhow::ensure!(binary.is_file(), "there is no program {}", binary.display());
        Ok(Program { binary, args, env })
    }
}

/// The operator's command line.
pub fn operator(program: &Program, kubeconfig: &Path, http: SocketAddr) -> CommandSpec {
    program
        .command()
        .flag("kubeconfig", kubeconfig.display())
        .flag("http-address", http)
        .args(program.args.clone())
}

/// What an agent needs to know.
#[derive(Clone, Debug)]
pub struct AgentFacts<'a> {
    /// Its identity.
    pub kubeconfig: &'a Path,
    /// Name of host and ContainerInstance.
    pub name: &'a str,
    /// Namespace of the ContainerInstance.
    pub namespace: &'a str,
    /// As in DOCKER_HOST.
    pub docker_host: &'a str,
    /// Where it keeps what it knows.
    pub data: &'a Path,
    /// Where it serves health and metrics.
    pub http: SocketAddr,
}

/// An agent's command line.
pub fn agent(program: &Program, facts: &AgentFacts<'_>) -> CommandSpec {
    let AgentFacts {
        kubeconfig,
        name,
        namespace,
        docker_host,
        data,
        http,
    } = facts;
    program
        .command()
        .flag("kubeconfig", kubeconfig.display())
        .flag("name", name)
        .flag("namespace", namespace)
        .flag("docker-host", docker_host)
        .flag("data-dir", data.display())
        .flag("http-address", http)
        .args(program.args.clone())
}
