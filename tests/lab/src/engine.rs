//! A Docker engine of our own: containerd and dockerd side by side, in a host's namespace or in the root one.
//!
//! containerd is a process of its own, because a dockerd that is killed together with the containerd it owns can fail to start again.
//! Every path, socket and cgroup is the engine's alone, so that many engines of different versions live on one machine.

use std::collections::BTreeMap;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::ValueEnum;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::command::Tool;
use crate::process::{CommandSpec, Process, Signal};
use crate::state::{Ledger, RecordedEngine};
use crate::{http, mounts, paths, teardown};

const READY: Duration = Duration::from_secs(60);
/// Address of an engine's default bridge.
pub const BRIDGE_ADDRESS: &str = "172.17.0.1/16";

const GRACE: Duration = Duration::from_secs(20);

/// The two engines that Tallyman is held to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum, Serialize, Deserialize)]
pub enum EngineGeneration {
    /// Docker 20.10, the oldest supported, as Debian 12 packages it.
    #[value(name = "20.10")]
    Debian2010,
    /// Current Docker, built by `dev/tools.sh engines`.
    #[value(name = "current")]
    Current,
}

impl EngineGeneration {
    /// Both, oldest first.
    pub const ALL: [EngineGeneration; 2] =
        [EngineGeneration::Debian2010, EngineGeneration::Current];

    /// Its name on command lines.
    pub fn name(self) -> &'static str {
        match self {
            EngineGeneration::Debian2010 => "20.10",
            EngineGeneration::Current => "current",
        }
    }

    /// Where its programs are.
    ///
    /// # Errors
    /// When they are missing, or of another version than the name says.
    pub fn programs(self) -> Result<EnginePrograms> {
        match self {
            EngineGeneration::Debian2010 => {
                let programs = EnginePrograms::system()?;
                if !programs.version.starts_with("20.10.") {
                    bail!(
                        "{} is Docker {}, and 20.10 is needed: it is package docker.io of Debian 12",
                        programs.dockerd.display(),
                        programs.version
                    );
                }
                Ok(programs)
            }
            EngineGeneration::Current => {
                let folder = paths::source_root()?.join(".tools/engines/current/bin");
                EnginePrograms::in_folder(&folder).with_context(|| {
                    "current Docker is missing: run `dev/tools.sh engines`".to_owned()
                })
            }
        }
    }
}

impl std::fmt::Display for EngineGeneration {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for EngineGeneration {
    type Err = anyhow::Error;

    fn from_str(name: &str) -> Result<Self> {
        Self::ALL
            .into_iter()
            .find(|generation| generation.name() == name)
            .with_context(|| format!("no engine {name}: 20.10 or current"))
    }
}

/// Programs of one engine.
#[derive(Clone, Debug)]
pub struct EnginePrograms {
    dockerd: PathBuf,
    containerd: PathBuf,
    /// Put before PATH, so that shim, runc and docker-proxy are of the same build.
    folder: PathBuf,
    version: String,
    major: u32,
}

impl EnginePrograms {
    /// As the machine has them installed, of any version.
    ///
    /// # Errors
    /// When they are missing.
    pub fn system() -> Result<Self> {
        let find = |name: &str| {
            ["/usr/sbin", "/usr/bin", "/usr/local/sbin", "/usr/local/bin"]
                .into_iter()
                .map(|folder| Path::new(folder).join(name))
                .find(|path| path.is_file())
                .with_context(|| format!("{name} is missing: run `dev/tools.sh packages`"))
        };
        Self::of(find("dockerd")?, find("containerd")?)
    }

    fn in_folder(folder: &Path) -> Result<Self> {
        Self::of(folder.join("dockerd"), folder.join("containerd"))
    }

    fn of(dockerd: PathBuf, containerd: PathBuf) -> Result<Self> {
        let version = version_in(&Tool::new(&dockerd).arg("--version").check()?)?;
        let major = major_in(&Tool::new(&containerd).arg("--version").check()?)?;
        let folder = dockerd
            .parent()
            .context("dockerd has no folder")?
            .to_owned();
        Ok(EnginePrograms {
            dockerd,
            containerd,
            folder,
            version,
            major,
        })
    }

    /// Version of dockerd.
    pub fn version(&self) -> &str {
        &self.version
    }
}

/// `Docker version 20.10.24+dfsg1, build 297e128`.
fn version_in(text: &str) -> Result<String> {
    text.split_whitespace()
        .skip_while(|word| *word != "version")
        .nth(1)
        .map(|word| word.trim_end_matches(',').to_owned())
        .with_context(|| format!("no version in {text:?}"))
}

/// `containerd github.com/containerd/containerd 1.6.20~ds1 1.6.20~ds1-1+deb12u2`, with or without a `v`.
fn major_in(text: &str) -> Result<u32> {
    text.split_whitespace()
        .nth(2)
        .and_then(|version| {
            version
                .trim_start_matches('v')
                .split('.')
                .next()?
                .parse()
                .ok()
        })
        .with_context(|| format!("no version in {text:?}"))
}

/// Where and how an engine runs.
#[derive(Clone, Debug)]
pub struct EngineOptions {
    /// Programs.
    pub programs: EnginePrograms,
    /// Network namespace; `None` is the root one.
    pub namespace: Option<String>,
    /// Containers survive a restart of dockerd.
    pub live_restore: bool,
    /// Where 20.10 keeps the key that is its identity; `None` is one of its own.
    pub identity: Option<PathBuf>,
    /// More arguments for dockerd.
    pub dockerd_args: Vec<String>,
    /// Variables for dockerd.
    pub dockerd_env: BTreeMap<String, String>,
    /// A folder of programs that dockerd finds before others.
    pub tools: Option<PathBuf>,
    /// Images and containers are on a disk of their own with so many MiB; `None` is the machine's.
    pub disk_mib: Option<u32>,
}

/// An engine of ours.
#[derive(Clone, Debug)]
pub struct Engine {
    record: RecordedEngine,
    data: PathBuf,
    socket: PathBuf,
    pid_file: PathBuf,
    containerd: Process,
    dockerd: Process,
}

impl Engine {
    /// Starts an engine and waits until it answers. `name` is unique in the run.
    ///
    /// # Errors
    /// When it does not start.
    pub fn start(ledger: &Arc<Ledger>, name: &str, options: &EngineOptions) -> Result<Self> {
        paths::need_root("A Docker engine")?;
        let run = ledger.run().join(name);
        paths::private_folder(&run)?;
        let data = ledger.folder(name)?;
        if let Some(mib) = options.disk_mib {
            let disk = ledger.folder(&format!("{name}-disk"))?.join("disk.img");
            mounts::small_disk(&disk, mib, &data)?;
        }
        let files = Files::write(&run, &data, options)?;
        let record = RecordedEngine {
            name: name.to_owned(),
            version: options.programs.version.clone(),
            containerd_socket: files.containerd_socket.clone(),
            cgroup: format!("/tallyman-{}-{name}", ledger.id()),
        };
        ledger.update(|state| state.engines.push(record.clone()))?;
        let namespace = options.namespace.as_deref();
        let folder = &options.programs.folder;

        let containerd = CommandSpec::new(&options.programs.containerd)
            .flag("config", files.containerd_config.display())
            .namespace(namespace)
            .path(folder);
        let mut dockerd = CommandSpec::new(&options.programs.dockerd)
            .flag("config-file", files.dockerd_config.display())
            .flag("host", format!("unix://{}", files.socket.display()))
            .flag("containerd", files.containerd_socket.display())
            .flag("data-root", data.join("docker").display())
            .flag("exec-root", run.join("exec").display())
            .flag("pidfile", files.pid_file.display())
            .flag("cgroup-parent", &record.cgroup)
            // The systemd driver takes no such cgroup, and no service manager is needed for this one.
            .flag("exec-opt", "native.cgroupdriver=cgroupfs")
            .flag("bip", BRIDGE_ADDRESS)
            .flag("live-restore", options.live_restore)
            .args(options.dockerd_args.clone())
            .namespace(namespace)
            .path(folder);
        dockerd.path.extend(options.tools.clone());
        dockerd.env.extend(options.dockerd_env.clone());

        Process::new(ledger, &containerd_name(name), containerd)?;
        Process::new(ledger, &dockerd_name(name), dockerd)?;
        let engine = Engine::attach(ledger, record)?;
        engine.run()?;
        Ok(engine)
    }

    /// An engine that the run has, started or not.
    ///
    /// # Errors
    /// When its processes are not in the ledger.
    pub fn attach(ledger: &Arc<Ledger>, record: RecordedEngine) -> Result<Self> {
        let run = ledger.run().join(&record.name);
        Ok(Engine {
            data: ledger.folder(&record.name)?,
            socket: socket(&run),
            pid_file: pid_file(&run),
            containerd: Process::attach(ledger, &containerd_name(&record.name))?,
            dockerd: Process::attach(ledger, &dockerd_name(&record.name))?,
            record,
        })
    }

    /// Starts what is not running and waits until the engine answers.
    ///
    /// # Errors
    /// When it does not.
    pub fn run(&self) -> Result<()> {
        self.containerd.start()?;
        let socket = &self.record.containerd_socket;
        self.containerd.wait_ready(
            &format!("{} to listen", self.containerd.name()),
            READY,
            || Ok(UnixStream::connect(socket).is_ok()),
        )?;
        if !self.dockerd.is_running() {
            // A later process may have got the number that a killed dockerd left here, or nobody has reaped it yet.
            let _ = std::fs::remove_file(&self.pid_file);
            self.dockerd.start()?;
        }
        self.dockerd
            .wait_ready(&format!("{} to answer", self.dockerd.name()), READY, || {
                Ok(self.answers())
            })
    }

    /// Ends dockerd, by SIGKILL or as a service manager would. containerd and, with live-restore, the containers stay.
    ///
    /// # Errors
    /// When it does not end.
    pub fn stop(&self, signal: Signal) -> Result<()> {
        if signal == Signal::KILL {
            return self.dockerd.kill9();
        }
        self.dockerd.signal(signal);
        self.dockerd.wait_exit(GRACE)
    }

    /// Ends the engine and all its containers at once, as a power cut would.
    ///
    /// # Errors
    /// When something survives.
    pub fn power_off(&self) -> Result<()> {
        self.dockerd.kill9()?;
        self.containerd.kill9()?;
        teardown::end_containers(&self.record)
    }

    /// It answers now.
    pub fn answers(&self) -> bool {
        answers(&self.socket)
    }

    /// Its API socket.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Where it keeps images and containers, containerd's included.
    pub fn data(&self) -> &Path {
        &self.data
    }

    /// Its version.
    pub fn version(&self) -> &str {
        &self.record.version
    }

    /// Its dockerd.
    pub fn dockerd(&self) -> &Process {
        &self.dockerd
    }

    /// Its containerd.
    pub fn containerd(&self) -> &Process {
        &self.containerd
    }

    /// Shims that run now: one per container.
    pub fn shims(&self) -> usize {
        crate::procfs::shims(&self.record.containerd_socket).len()
    }

    /// The docker command, talking to this engine.
    pub fn docker(&self) -> Tool {
        docker(&format!("unix://{}", self.socket.display()))
    }
}

fn containerd_name(name: &str) -> String {
    format!("{name}-containerd")
}

fn dockerd_name(name: &str) -> String {
    format!("{name}-dockerd")
}

fn socket(run: &Path) -> PathBuf {
    run.join("docker.sock")
}

fn pid_file(run: &Path) -> PathBuf {
    run.join("docker.pid")
}

/// The docker command, talking to the engine at `host` and to nothing that the user's own settings name.
pub fn docker(host: &str) -> Tool {
    Tool::new("docker")
        .env("DOCKER_CONTEXT", "")
        .args(["-H", host])
}

/// An engine answers at this socket.
pub fn answers(socket: &Path) -> bool {
    http::get_unix(socket, "/_ping", Duration::from_secs(5)).is_ok_and(|reply| reply.status == 200)
}

/// Two engines of 20.10 share one identity unless each has its own key; later ones make theirs in their data folder and refuse the setting.
fn dockerd_config(options: &EngineOptions, data: &Path) -> serde_json::Value {
    if !options.programs.version.starts_with("20.10.") {
        return json!({});
    }
    let key = options
        .identity
        .clone()
        .unwrap_or_else(|| data.join("identity.json"));
    json!({"deprecated-key-path": key})
}

struct Files {
    socket: PathBuf,
    pid_file: PathBuf,
    containerd_socket: PathBuf,
    containerd_config: PathBuf,
    dockerd_config: PathBuf,
}

impl Files {
    fn write(run: &Path, data: &Path, options: &EngineOptions) -> Result<Self> {
        let files = Files {
            socket: socket(run),
            pid_file: pid_file(run),
            containerd_socket: run.join("containerd.sock"),
            containerd_config: data.join("containerd.toml"),
            dockerd_config: data.join("daemon.json"),
        };
        // Files of our own, so that those of the machine's engine have no say.
        std::fs::write(
            &files.dockerd_config,
            dockerd_config(options, data).to_string(),
        )?;
        std::fs::write(
            &files.containerd_config,
            containerd_config(options.programs.major, run, data, &files.containerd_socket),
        )?;
        Ok(files)
    }
}

/// Without the Kubernetes parts, and with every folder ours.
fn containerd_config(major: u32, run: &Path, data: &Path, socket: &Path) -> String {
    let (version, disabled) = if major >= 2 {
        (
            3,
            r#""io.containerd.grpc.v1.cri", "io.containerd.cri.v1.images", "io.containerd.cri.v1.runtime", "io.containerd.nri.v1.nri""#,
        )
    } else {
        (2, r#""io.containerd.grpc.v1.cri""#)
    };
    format!(
        r#"version = {version}
root = "{data}/containerd"
state = "{run}/containerd"
disabled_plugins = [{disabled}]

[grpc]
  address = "{socket}"

[ttrpc]
  address = "{socket}.ttrpc"

[debug]
  address = "{run}/containerd-debug.sock"

[plugins."io.containerd.internal.v1.opt"]
  path = "{data}/opt"
"#,
        data = data.display(),
        run = run.display(),
        socket = socket.display(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_from_what_the_programs_say() {
        assert_eq!(
            version_in("Docker version 20.10.24+dfsg1, build 297e128\n").unwrap(),
            "20.10.24+dfsg1"
        );
        assert_eq!(
            version_in("Docker version 2.0.0-beta.24, build x").unwrap(),
            "2.0.0-beta.24"
        );
        assert!(version_in("no such").is_err());
        assert_eq!(
            major_in("containerd github.com/containerd/containerd 1.6.20~ds1 1.6").unwrap(),
            1
        );
        assert_eq!(
            major_in("containerd github.com/containerd/containerd/v2 v2.4.2 x").unwrap(),
            2
        );
    }

    #[test]
    fn names_of_generations_are_read_back() {
        for generation in EngineGeneration::ALL {
            assert_eq!(
                generation.name().parse::<EngineGeneration>().unwrap(),
                generation
            );
        }
        assert!("19.03".parse::<EngineGeneration>().is_err());
    }
}
