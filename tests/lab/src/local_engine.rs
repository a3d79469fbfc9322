//! The Docker of this machine, for `make up`: the one that runs, or one that is started when none does.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Result, bail};

use crate::command::Tool;
use crate::engine::{self, Engine, EngineOptions, EnginePrograms, docker};
use crate::firewall::Before;
use crate::state::Ledger;

const DEFAULT_SOCKET: &str = "/var/run/docker.sock";

/// Name of the engine's processes and folder, when we start one.
const NAME: &str = "docker";

/// The engine that a quickstart uses.
#[derive(Clone, Debug)]
pub struct LocalEngine {
    host: String,
    started: bool,
    version: String,
}

impl LocalEngine {
    /// Finds the machine's Docker, or starts Debian's in the root namespace with a data folder of its own.
    ///
    /// # Errors
    /// When DOCKER_HOST names an engine that does not answer, or none can be started.
    pub fn find_or_start(ledger: &Arc<Ledger>) -> Result<Self> {
        if let Some(host) = running()? {
            let version = server_version(&host)?;
            return Ok(LocalEngine {
                host,
                started: false,
                version,
            });
        }
        let before = Before::observe()?;
        ledger.update(|state| state.firewall_before = before)?;
        let engine = Engine::start(
            ledger,
            NAME,
            &EngineOptions {
                programs: EnginePrograms::system()?,
                namespace: None,
                live_restore: true,
                identity: None,
                dockerd_args: Vec::new(),
                dockerd_env: BTreeMap::new(),
                tools: None,
                disk_mib: None,
            },
        )?;
        Ok(LocalEngine {
            host: format!("unix://{}", engine.socket().display()),
            started: true,
            version: engine.version().to_owned(),
        })
    }

    /// As in DOCKER_HOST.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// It was started by this run.
    pub fn started(&self) -> bool {
        self.started
    }

    /// Its version.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// The docker command, talking to it.
    pub fn docker(&self) -> Tool {
        docker(&self.host)
    }

    /// Says which engine it is.
    pub fn describe(&self) -> String {
        if self.started {
            format!(
                "no Docker was running here; started Docker {} at {}",
                self.version, self.host
            )
        } else {
            format!(
                "using the Docker {} that runs here, at {}",
                self.version, self.host
            )
        }
    }
}

fn running() -> Result<Option<String>> {
    match std::env::var("DOCKER_HOST") {
        Ok(host) if !host.is_empty() => {
            let Some(socket) = host.strip_prefix("unix://").map(PathBuf::from) else {
                bail!(
                    "DOCKER_HOST is {host}: the agent runs beside its engine, so it must be unix://..."
                );
            };
            if !engine::answers(&socket) {
                bail!("DOCKER_HOST is {host}, and no engine answers there");
            }
            Ok(Some(host))
        }
        _ if engine::answers(Path::new(DEFAULT_SOCKET)) => {
            Ok(Some(format!("unix://{DEFAULT_SOCKET}")))
        }
        _ => Ok(None),
    }
}

fn server_version(host: &str) -> Result<String> {
    let version = docker(host)
        .args(["version", "--format", "{{.Server.Version}}"])
        .check()?;
    Ok(version.trim().to_owned())
}
