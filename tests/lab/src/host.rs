//! A Docker host: a network namespace and an engine of its own.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;

use crate::command::{Output, Tool};
use crate::engine::{Engine, EngineGeneration, EngineOptions};
use crate::network::Network;
use crate::process::{CommandSpec, Process, Signal};
use crate::state::{HostRecord, Ledger};
use crate::{http, image, network};

/// How a host is made.
#[derive(Clone, Debug)]
pub struct HostOptions {
    /// Which engine.
    pub generation: EngineGeneration,
    /// Containers survive a restart of the engine; true by default.
    pub live_restore: bool,
    /// A key file to share with another 20.10 host, which then has the same engine id; `None` by default.
    pub identity: Option<PathBuf>,
    /// More arguments for dockerd.
    pub dockerd_args: Vec<String>,
    /// Variables for dockerd, whose log drivers read some.
    pub dockerd_env: BTreeMap<String, String>,
    /// A folder of programs that dockerd finds before others; `None` by default.
    pub tools: Option<PathBuf>,
    /// The engine has a disk of its own with so many MiB, to be filled; `None` by default.
    pub disk_mib: Option<u32>,
    /// Variables for its agent, beside those that all agents get.
    pub agent_env: BTreeMap<String, String>,
}

impl HostOptions {
    /// The usual host with this engine.
    pub fn new(generation: EngineGeneration) -> Self {
        HostOptions {
            generation,
            live_restore: true,
            identity: None,
            dockerd_args: Vec::new(),
            dockerd_env: BTreeMap::new(),
            tools: None,
            disk_mib: None,
            agent_env: BTreeMap::new(),
        }
    }
}

/// A host that runs.
#[derive(Clone, Debug)]
pub struct Host {
    ledger: Arc<Ledger>,
    name: String,
    address: Ipv4Addr,
    namespace: String,
    generation: EngineGeneration,
    engine: Engine,
    agent_env: BTreeMap<String, String>,
}

impl Host {
    /// Makes host number `index` (from 0, unique in the network) and waits until its engine answers.
    ///
    /// # Errors
    /// When it does not.
    pub fn start(
        network: &Network,
        ledger: &Arc<Ledger>,
        index: usize,
        name: &str,
        options: &HostOptions,
    ) -> Result<Self> {
        let programs = options.generation.programs()?;
        let place = network.place(index, name)?;
        // Registries of tests live on the bridge and speak plain HTTP.
        let mut dockerd_args = vec![format!("--insecure-registry={}", network.cidr())];
        dockerd_args.extend(options.dockerd_args.iter().cloned());
        let engine = Engine::start(
            ledger,
            name,
            &EngineOptions {
                programs,
                namespace: Some(place.namespace.clone()),
                live_restore: options.live_restore,
                identity: options.identity.clone(),
                dockerd_args,
                dockerd_env: options.dockerd_env.clone(),
                tools: options.tools.clone(),
                disk_mib: options.disk_mib,
            },
        )?;
        ledger.update(|state| {
            state.hosts.push(HostRecord {
                name: name.to_owned(),
                address: place.address.to_string(),
                engine: format!("docker {}", engine.version()),
                socket: engine.socket().to_owned(),
            });
        })?;
        Ok(Host {
            ledger: Arc::clone(ledger),
            name: name.to_owned(),
            address: place.address,
            namespace: place.namespace,
            generation: options.generation,
            engine,
            agent_env: options.agent_env.clone(),
        })
    }

    /// Its name, also that of its ContainerInstance.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where its published ports are reached from the root namespace and from other hosts.
    pub fn address(&self) -> Ipv4Addr {
        self.address
    }

    /// Its network namespace.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// Which engine it has.
    pub fn generation(&self) -> EngineGeneration {
        self.generation
    }

    /// Its engine.
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// Variables for its agent, beside those that all agents get.
    pub fn agent_env(&self) -> &BTreeMap<String, String> {
        &self.agent_env
    }

    /// Its engine's API socket.
    pub fn engine_socket(&self) -> &Path {
        self.engine.socket()
    }

    /// Ends dockerd; containers stay if the host was made with live-restore.
    ///
    /// # Errors
    /// When it does not end.
    pub fn stop_engine(&self, signal: Signal) -> Result<()> {
        self.engine.stop(signal)
    }

    /// Starts the engine again and waits until it answers.
    ///
    /// # Errors
    /// When it does not.
    pub fn start_engine(&self) -> Result<()> {
        self.engine.run()
    }

    /// Runs the docker command against its engine.
    ///
    /// # Errors
    /// When the command cannot be started or hangs; its own failure is in the output.
    pub fn docker<S: AsRef<std::ffi::OsStr>>(
        &self,
        args: impl IntoIterator<Item = S>,
    ) -> Result<Output> {
        self.engine.docker().args(args).run()
    }

    /// [`Host::docker`], returning its standard output without the end of line.
    ///
    /// # Errors
    /// Also when the command fails.
    pub fn docker_ok<S: AsRef<std::ffi::OsStr>>(
        &self,
        args: impl IntoIterator<Item = S>,
    ) -> Result<String> {
        Ok(self
            .engine
            .docker()
            .args(args)
            .check()?
            .trim_end()
            .to_owned())
    }

    /// Makes an image of a root file system.
    ///
    /// # Errors
    /// When the engine refuses.
    pub fn import_image(&self, rootfs: &[u8], name: &str, changes: &[&str]) -> Result<()> {
        image::import(self.engine.docker(), rootfs, name, changes)
    }

    /// `GET path` from a published port, from the root namespace.
    ///
    /// # Errors
    /// When nothing answers.
    pub fn get(&self, port: u16, path: &str) -> Result<http::Response> {
        http::get(
            SocketAddr::from((self.address, port)),
            path,
            Duration::from_secs(5),
        )
    }

    /// A command that runs inside the host's network, to its end.
    pub fn inside(&self, program: &str) -> Tool {
        network::inside(&self.namespace).arg(program)
    }

    /// A process of the lab inside the host's network, such as its agent.
    ///
    /// # Errors
    /// When the ledger cannot be written.
    pub fn process(&self, name: &str, command: CommandSpec) -> Result<Process> {
        Process::new(&self.ledger, name, command.namespace(Some(&self.namespace)))
    }

    /// Cuts or mends its cable: nothing reaches the host any more, and no one is told.
    ///
    /// # Errors
    /// When `ip` refuses.
    pub fn set_link(&self, up: bool) -> Result<()> {
        let state = if up { "up" } else { "down" };
        self.inside("ip")
            .args(["link", "set", "eth0", state])
            .check()?;
        if up {
            // The route went with the link.
            let gateway = Ipv4Addr::from(u32::from(self.address) & 0xffff_ff00 | 1);
            self.inside("ip")
                .args(["route", "replace", "default", "via", &gateway.to_string()])
                .check()?;
        }
        Ok(())
    }
}
