//! A bench on a real engine: an image of static busybox, and a hand on the engine past the port.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use bollard::Docker;
use bollard::errors::Error;
use bollard::models::{ContainerInspectResponse, RestartPolicyNameEnum};
use bollard::query_parameters::{
    CreateImageOptions, InspectContainerOptions, KillContainerOptions, RemoveContainerOptions,
    RemoveVolumeOptions, TagImageOptions,
};
use futures::stream::TryStreamExt;
use tallyman_agent_docker::{DockerEngine, Settings as DockerSettings};
use tallyman_agent_engine::conformance::{Bench, Program, Settings, Verdict};
use tallyman_agent_engine::{CpuQuota, Engine, EngineDescription, Ipc, LocalImage, Log, Network};

#[path = "sights.rs"]
mod sights;

/// Nobody listens on port 1, so that a pull of it fails at once.
const REPOSITORY: &str = "localhost:1/tallyman-conformance";
pub const IMAGE: &str = "localhost:1/tallyman-conformance:1";
const APPLETS: [&str; 13] = [
    "sh", "sleep", "seq", "httpd", "nc", "grep", "id", "pwd", "kill", "true", "false", "test",
    "cat",
];

const VARIABLE: &str = "TALLYMAN_TEST_ENGINES";

/// Name and endpoint of every engine to test.
pub fn engines() -> Vec<(String, String)> {
    let told = std::env::var(VARIABLE).unwrap_or_default();
    let engines: Vec<_> = told
        .split(',')
        .filter_map(|one| one.trim().split_once('='))
        .map(|(name, endpoint)| (name.to_owned(), endpoint.to_owned()))
        .collect();
    assert!(
        !engines.is_empty(),
        "{VARIABLE} names no engine. Set it to name=endpoint pairs, such as \
         20.10=unix:///run/old/docker.sock,current=unix:///run/new/docker.sock"
    );
    engines
}

fn quota(quota: Option<i64>, period: Option<i64>) -> Option<CpuQuota> {
    let micros = |value: Option<i64>| value.filter(|v| *v > 0).map(i64::unsigned_abs);
    Some(CpuQuota {
        quota: Duration::from_micros(micros(quota)?),
        period: Duration::from_micros(micros(period)?),
    })
}

pub struct DockerBench {
    engine: DockerEngine,
    docker: Docker,
    next_port: AtomicU16,
    /// Folders of the host; engines under test run on this machine.
    folders: Scratch,
}

impl DockerBench {
    /// `index` keeps ports of engines apart that share a host.
    pub async fn new(endpoint: &str, index: usize) -> Self {
        let engine = DockerEngine::new(endpoint, DockerSettings::default()).unwrap();
        let docker = match endpoint.strip_prefix("unix://") {
            Some(path) => Docker::connect_with_unix(path, 120, bollard::API_DEFAULT_VERSION),
            None => Docker::connect_with_http(endpoint, 120, bollard::API_DEFAULT_VERSION),
        };
        let docker = docker.unwrap_or_else(|error| panic!("no engine at {endpoint}: {error}"));
        import(&docker, REPOSITORY, "1", busybox("")).await;
        let first = 21_000 + u16::try_from(index).unwrap() * 500;
        Self {
            engine,
            docker,
            next_port: AtomicU16::new(first),
            folders: Scratch::new(),
        }
    }

    /// The engine, past the port.
    pub fn docker(&self) -> &Docker {
        &self.docker
    }

    pub async fn described(&self) -> EngineDescription {
        self.engine.describe().await.unwrap()
    }

    async fn look(&self, name: &str) -> Result<ContainerInspectResponse, String> {
        let answer = self
            .docker
            .inspect_container(name, None::<InspectContainerOptions>);
        answer.await.map_err(|error| error.to_string())
    }
}

/// Makes an image of the files of an archive.
pub async fn import(docker: &Docker, repository: &str, tag: &str, archive: Vec<u8>) {
    let options = CreateImageOptions {
        from_src: Some("-".to_owned()),
        repo: Some(repository.to_owned()),
        tag: Some(tag.to_owned()),
        ..CreateImageOptions::default()
    };
    let body = bollard::body_full(archive.into());
    let imported = docker.create_image(Some(options), Some(body), None);
    let _: Vec<_> = imported.try_collect().await.unwrap();
}

/// Busybox and a page, as a tar archive. Another mark makes another image.
pub fn busybox(mark: &str) -> Vec<u8> {
    let root = Scratch::new();
    root.install(
        "/usr/bin/busybox",
        "bin/busybox",
        "install the package busybox-static",
    );
    for applet in APPLETS {
        std::os::unix::fs::symlink("busybox", root.0.join("bin").join(applet)).unwrap();
    }
    std::fs::create_dir(root.0.join("tmp")).unwrap();
    root.write("www/ok", "ok\n");
    root.write("mark", mark);
    root.write("etc/passwd", "root:x:0:0::/:/bin/sh\n");
    root.archive()
}

/// A folder that goes away with the value.
pub struct Scratch(PathBuf);

impl Scratch {
    pub fn new() -> Self {
        static COUNT: AtomicU16 = AtomicU16::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("tallyman-conformance-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir(&path).unwrap();
        Self(path)
    }

    /// Copies a program of this machine into the folder.
    pub fn install(&self, program: &str, to: &str, remedy: &str) {
        let missing = format!("{program} is missing: {remedy}");
        assert!(Path::new(program).exists(), "{missing}");
        std::fs::copy(program, self.parent(to)).unwrap();
    }

    pub fn write(&self, to: &str, text: &str) {
        std::fs::write(self.parent(to), text).unwrap();
    }

    fn parent(&self, to: &str) -> PathBuf {
        let path = self.0.join(to);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        path
    }

    /// The folder as a tar archive.
    pub fn archive(&self) -> Vec<u8> {
        let tar = Command::new("tar")
            .arg("-cC")
            .arg(&self.0)
            .arg(".")
            .output()
            .unwrap();
        assert!(
            tar.status.success(),
            "{}",
            String::from_utf8_lossy(&tar.stderr)
        );
        tar.stdout
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

impl Bench for DockerBench {
    type Engine = DockerEngine;

    fn engine(&self) -> &DockerEngine {
        &self.engine
    }

    fn image(&self) -> String {
        IMAGE.to_owned()
    }

    async fn spare_image(&self) -> Result<String, String> {
        let tag = self.free_port().to_string();
        let root = Scratch::new();
        root.write("spare", &tag);
        import(&self.docker, REPOSITORY, &tag, root.archive()).await;
        Ok(format!("{REPOSITORY}:{tag}"))
    }

    async fn name_image(&self, image: &str, name: &str) -> Verdict {
        let (repository, tag) = name.rsplit_once(':').unwrap();
        let options = TagImageOptions {
            repo: Some(repository.to_owned()),
            tag: Some(tag.to_owned()),
        };
        let tagged = self.docker.tag_image(image, Some(options)).await;
        tagged.map_err(|error| error.to_string())
    }

    fn missing_image(&self) -> String {
        "localhost:1/tallyman-nobody:1".to_owned()
    }

    fn command(&self, program: &Program) -> Vec<String> {
        let script = match program {
            Program::Runs => "trap 'exit 0' TERM; : > /tmp/ready; sleep 600 & wait".to_owned(),
            Program::IgnoresStop => "trap '' TERM; : > /tmp/ready; while :; do sleep 1; done".to_owned(),
            Program::Exits { code, after } => {
                format!("sleep {}; exit {code}", after.as_secs_f32())
            }
            Program::Finds {
                uid,
                gid,
                directory,
                variable: (name, value),
            } => format!(
                "test \"$(id -u):$(id -g)\" = {uid}:{gid} && test \"$(pwd)\" = '{directory}' && \
                 test \"${name}\" = '{value}'"
            ),
            Program::Sees(wanted) => sights::script(wanted),
            Program::Serves { port } => {
                format!("trap 'exit 0' TERM; httpd -f -p {port} -h /www & wait")
            }
            // Not wget: statically linked, it dies in the C library's name services.
            Program::Fetches { port } => format!(
                "for n in $(seq 100); do
                   printf 'GET /ok HTTP/1.0\\r\\n\\r\\n' | nc -w 10 127.0.0.1 {port} | grep -q '200 OK' && exit 0
                   sleep 0.1
                 done; exit 1"
            ),
            Program::AsksHost { address, port } => {
                let [a, b, c, _] = address.octets();
                format!(
                    "grep -q '^eth0\\s00000000\\s' /proc/net/route || exit 2
                     grep -q '^{a}\\.{b}\\.{c}\\.' /etc/hosts && exit 2
                     for n in $(seq 100); do
                       printf 'GET /ok HTTP/1.0\\r\\n\\r\\n' | nc -w 10 {address} {port} | grep -q '200 OK' && exit 0
                       sleep 0.1
                     done; exit 1"
                )
            }
            Program::Reaches { name, port } => format!(
                "for n in $(seq 30); do while read address names; do for one in $names; do \
                 test \"$one\" = {name} && printf 'GET /ok HTTP/1.0\\r\\n\\r\\n' | nc -w 10 $address {port} \
                 | grep -q '200 OK' && exit 0; done; done < /etc/hosts; sleep 0.1; done; exit 1"
            ),
            Program::Writes { path, text } => {
                format!("printf %s '{text}' > {path} || exit 1")
            }
            Program::Reads { path, text } => format!("test \"$(cat {path})\" = '{text}'"),
            Program::Meets { first } => {
                format!("busybox tr '\\0' '\\n' < /proc/1/cmdline | grep -q '^{first}'")
            }
            Program::Leaves { name } => {
                format!("trap 'exit 0' TERM; : > /dev/shm/{name}; sleep 600 & wait")
            }
            Program::Discovers { name } => format!(
                "for n in $(seq 30); do test -e /dev/shm/{name} && exit 0; sleep 0.1; done; exit 1"
            ),
            // The first process itself grows, so it is the one that is killed.
            // Docker 20.10 forgets why a process was killed that died while it was being started.
            Program::Swells => "sleep 1; x=a; while :; do x=$x$x; done".to_owned(),
            Program::Missing => return vec!["/no/such/program".to_owned(), "x".to_owned()],
        };
        vec!["sh".to_owned(), "-c".to_owned(), script]
    }

    fn free_port(&self) -> u16 {
        self.next_port.fetch_add(1, Ordering::Relaxed)
    }

    async fn pass(&self, span: Duration) {
        tokio::time::sleep(span).await;
    }

    async fn kill(&self, name: &str) -> Verdict {
        let killed = self
            .docker
            .kill_container(name, None::<KillContainerOptions>);
        killed.await.map_err(|error| error.to_string())
    }

    async fn destroy(&self, name: &str) -> Verdict {
        let options = RemoveContainerOptions {
            v: true,
            force: true,
            link: false,
        };
        match self.docker.remove_container(name, Some(options)).await {
            Ok(())
            | Err(Error::DockerResponseServerError {
                status_code: 404, ..
            }) => Ok(()),
            Err(error) => Err(error.to_string()),
        }
    }

    async fn destroy_volume(&self, name: &str) -> Verdict {
        let removed = self.docker.remove_volume(name, None::<RemoveVolumeOptions>);
        removed.await.map_err(|error| error.to_string())
    }

    async fn destroy_network(&self, name: &str) -> Verdict {
        match self.docker.remove_network(name).await {
            Ok(())
            | Err(Error::DockerResponseServerError {
                status_code: 404, ..
            }) => Ok(()),
            Err(error) => Err(error.to_string()),
        }
    }

    fn brought(&self) -> LocalImage {
        tallyman_agent_pause::image()
    }

    fn host_folder(&self) -> String {
        let number = self.next_port.fetch_add(1, Ordering::Relaxed);
        let folder = self.folders.0.join(format!("host/{number}"));
        folder.to_str().unwrap().to_owned()
    }

    fn host_file(&self, path: &str) -> Option<String> {
        std::fs::read_to_string(path).ok()
    }

    async fn settings(&self, name: &str) -> Result<Settings, String> {
        let found = self.look(name).await?;
        let host = found.host_config.unwrap_or_default();
        let config = found.config.unwrap_or_default();
        let network = match host.network_mode.as_deref() {
            Some("bridge" | "default") => Network::Bridge,
            Some("host") => Network::Host,
            Some("none") => Network::None,
            other => return Err(format!("network mode {other:?}")),
        };
        let memory = host.memory.unwrap_or(0);
        // Engines that have a memory limit answer with their own rule, twice the memory.
        let swap = host.memory_swap.filter(|all| *all > 0);
        let log = host.log_config.unwrap_or_default();
        let log = Log {
            driver: log.typ.unwrap_or_default(),
            options: log.config.unwrap_or_default().into_iter().collect(),
            ..Log::default()
        };
        let own = log.driver == "json-file" && log.options.is_empty();
        let restarts = host.restart_policy.and_then(|policy| policy.name);
        Ok(Settings {
            cpu_shares: host.cpu_shares.unwrap_or(0),
            memory_bytes: host.memory.unwrap_or(0),
            memory_reservation_bytes: host.memory_reservation.unwrap_or(0),
            cpu_quota: quota(host.cpu_quota, host.cpu_period),
            group: host
                .cgroup_parent
                .and_then(|path| path.strip_prefix('/').map(str::to_owned))
                .filter(|path| !path.is_empty()),
            argv: found
                .path
                .into_iter()
                .chain(found.args.unwrap_or_default())
                .collect(),
            stop_timeout_seconds: config.stop_timeout,
            gpus: host
                .device_requests
                .into_iter()
                .flatten()
                .filter(|one| one.driver.as_deref() == Some("nvidia"))
                .flat_map(|one| one.device_ids.unwrap_or_default())
                .collect(),
            network,
            privileged: host.privileged.unwrap_or(false),
            ipc: match host.ipc_mode.as_deref() {
                Some("host") => Ipc::Host,
                Some("none") => Ipc::None,
                _ => Ipc::Engine,
            },
            swap: swap.map(|all| all - memory),
            // Engines have -1 for none in their own settings.
            swappiness: host.memory_swappiness.filter(|weight| *weight >= 0),
            log: (!own).then_some(log),
            engine_restarts: !matches!(
                restarts,
                None | Some(RestartPolicyNameEnum::NO | RestartPolicyNameEnum::EMPTY)
            ),
            engine_removes: host.auto_remove.unwrap_or(false),
        })
    }
}
