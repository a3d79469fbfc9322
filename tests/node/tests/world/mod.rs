//! The world of the story: a control plane with one node, and one Docker host with an agent.

mod notices;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail, ensure};
use serde_json::{Value, json};
use tallyman_crds::names;
use tallyman_lab::command::Tool;
use tallyman_lab::components::{self, AgentFacts, Program};
use tallyman_lab::{
    ControlPlane, ControlPlaneOptions, EngineGeneration, Host, HostOptions, Kubectl, Ledger,
    Network, Node, Process, image, join, node, paths, wait_until,
};
use tallyman_node::{Helm, NAMESPACE};

use notices::Notices;

/// How long anything may take.
pub const PATIENCE: Duration = Duration::from_secs(90);

/// The operator's image, as values.yaml has it.
pub const IMAGE: &str = "localhost/tallyman/operator";

/// Its tag here, which is none that a machine may have already.
pub const TAG: &str = "e2e";

const NODE: &str = "node";
const HOST: &str = "host-1";
/// The agent's container.
const CONTAINER: &str = "tallyman-agent";
const SERVICE: &str = "hello";

/// Everything that is up.
pub struct World {
    /// The source tree.
    pub root: PathBuf,
    /// Helm, talking to the control plane.
    pub helm: Helm,
    host: Host,
    agent: Process,
    notices: Notices,
    node: Node,
    plane: ControlPlane,
    ledger: Arc<Ledger>,
}

impl World {
    /// Brings it up: the operator is an image of the node, and nothing of Tallyman is installed.
    pub fn up() -> Result<World> {
        let root = paths::source_root()?;
        let ledger = Ledger::create(None)?;
        let network = Network::start(&ledger)?;
        let (plane, host) = std::thread::scope(|threads| {
            let options = ControlPlaneOptions {
                address: Some(network.gateway()),
                audit: false,
                node: Some(NODE.to_owned()),
            };
            let plane = {
                let ledger = &ledger;
                threads.spawn(move || ControlPlane::start(ledger, &options))
            };
            let host = host_with_images(&root, &network, &ledger);
            let plane = plane
                .join()
                .map_err(|_| anyhow!("the thread of the control plane panicked"))?;
            anyhow::Ok((plane?, host?))
        })?;
        let images = ledger.folder("images")?;
        let node = Node::start(
            &network,
            &ledger,
            &plane,
            1,
            NODE,
            &images.join("pause.tar"),
        )?;
        node.import(&images.join("operator.tar"))?;
        let helm = Helm::new(&ledger.folder("helm")?, Some(plane.admin_kubeconfig()))?;
        // Known before it is started, for which the host's identity has to be there.
        let notices = Notices::listen(&ledger.run().join("notify"))?;
        let command = components::agent(
            &Program::new(paths::built_program(components::AGENT_PROGRAM)?),
            &AgentFacts {
                kubeconfig: &ledger
                    .folder("identities")?
                    .join(format!("agent-{HOST}.kubeconfig")),
                name: HOST,
                namespace: "default",
                docker_host: &format!("unix://{}", host.engine_socket().display()),
                data: &ledger.folder("agent")?,
                http: SocketAddr::from((host.address(), 51678)),
            },
        )
        // As a unit of Type=notify with WatchdogSec=3 would be started.
        .env("NOTIFY_SOCKET", notices.socket().display().to_string())
        .env("WATCHDOG_USEC", "3000000");
        let agent = host.process(&format!("agent-{HOST}"), command)?;
        Ok(World {
            root,
            helm,
            host,
            agent,
            notices,
            node,
            plane,
            ledger,
        })
    }

    /// The administrator's kubectl.
    pub fn kubectl(&self) -> &Kubectl {
        self.plane.kubectl()
    }

    /// `kubectl args` in the namespace of the host.
    pub fn k(&self, args: &[&str]) -> Result<String> {
        self.kubectl()
            .ok(args.iter().copied().chain(["-n", "default"]))
    }

    /// A folder of examples/.
    pub fn example(&self, name: &str) -> String {
        self.root.join("examples").join(name).display().to_string()
    }

    /// Adds the Docker host, as README says.
    pub fn add_host(&self) -> Result<()> {
        join::announce(&self.plane, "default", HOST)?;
        let identity = names::host_identity(HOST);
        wait_until("the operator to make the host's identity", PATIENCE, || {
            let account = self.kubectl().get("serviceaccount", "default", &identity)?;
            let secret = self.kubectl().get("secret", "default", &identity)?;
            Ok(account.is_some() && secret.is_some())
        })?;
        self.plane.account_kubeconfig(
            &format!("agent-{HOST}"),
            self.plane.server_for_hosts(),
            ("default", &identity),
            Some(&identity),
        )?;
        self.agent.start()?;
        join::wait_connected(&self.plane, "default", HOST, &self.agent)?;
        self.notices.wait("READY=1", 1)?;
        self.notices.wait("WATCHDOG=1", 2)
    }

    /// Ends the agent, and starts its image in its place, as docs/install.md says.
    pub fn agent_as_container(&self) -> Result<()> {
        self.stop_agent()?;
        let same = |folder: &str| -> Result<String> {
            let path = self.ledger.folder(folder)?.display().to_string();
            Ok(format!("{path}:{path}"))
        };
        let socket = format!(
            "{}:/var/run/docker.sock",
            self.host.engine_socket().display()
        );
        let (data, identities) = (same("agent")?, same("identities")?);
        let command = self.agent.command();
        let image = format!("localhost/tallyman/agent:{TAG}");
        let mut args = vec!["run", "--detach", "--name", CONTAINER, "--network", "host"];
        args.extend([
            "--cap-add",
            "NET_ADMIN",
            "--cap-add",
            "SYSLOG",
            "--device",
            "/dev/kmsg",
        ]);
        args.extend(["--volume", "/sys/fs/cgroup:/sys/fs/cgroup"]);
        for volume in [&socket, &data, &identities] {
            args.extend(["--volume", volume]);
        }
        args.push(&image);
        // As before, but for the socket, which is where everybody expects it.
        let flags = command
            .args
            .iter()
            .filter(|flag| !flag.starts_with("--docker-host"));
        args.extend(flags.map(String::as_str));
        self.host.docker_ok(args).map(drop)
    }

    /// Ends the agent for good.
    pub fn stop_agent(&self) -> Result<()> {
        if self.agent.is_running() {
            self.agent.stop(PATIENCE)?;
            return self.notices.wait("STOPPING=1", 1);
        }
        let agent = self.host.docker_ok(["stop", CONTAINER])?;
        ensure!(agent == CONTAINER, "the agent was not there: {agent}");
        self.host.docker_ok(["rm", CONTAINER]).map(drop)
    }

    /// Pods of the operator that are not on their way out.
    pub fn operator_pods(&self) -> Result<Vec<Value>> {
        let list = self.kubectl().list("pods", NAMESPACE)?;
        Ok(list
            .into_iter()
            .filter(|pod| pod["metadata"]["labels"]["app.kubernetes.io/component"] == "operator")
            .collect())
    }

    /// Name of the pod that leads.
    pub fn leader(&self) -> Result<String> {
        let lease = self
            .kubectl()
            .get("lease", NAMESPACE, "tallyman-operator")?
            .context("nobody ever led")?;
        let holder = lease["spec"]["holderIdentity"].as_str().unwrap_or_default();
        // Host name, process, start.
        holder
            .split('_')
            .next()
            .filter(|pod| !pod.is_empty())
            .map(str::to_owned)
            .context("nobody leads")
    }

    /// Waits until the example is Ready, with as many tasks and no other.
    pub fn wait_steady(&self, count: usize) -> Result<()> {
        wait_until(
            format!("the service to be Ready with {count} tasks"),
            PATIENCE,
            || {
                let service = self
                    .kubectl()
                    .get("services.tallyman.dev", "default", SERVICE)?
                    .context("the service is not there")?;
                let fresh =
                    service["status"]["observedGeneration"] == service["metadata"]["generation"];
                let conditions = service["status"]["conditions"].as_array();
                let ready = conditions
                    .into_iter()
                    .flatten()
                    .any(|c| c["type"] == "Ready" && c["status"] == "True");
                let running = service["status"]["runningCount"] == json!(count);
                if !(fresh && ready && running && self.containers()?.len() == count) {
                    bail!("{}", service["status"]["message"]);
                }
                Ok(true)
            },
        )
    }

    /// Ids of the running containers of the host.
    pub fn containers(&self) -> Result<BTreeSet<String>> {
        let ids = self.host.docker_ok([
            "ps",
            "--quiet",
            "--no-trunc",
            "--filter",
            "label=tallyman.dev/task",
        ])?;
        Ok(ids.lines().map(str::to_owned).collect())
    }

    /// Where the tasks of the example answer.
    pub fn pages(&self) -> Result<Vec<SocketAddr>> {
        let tasks = self.kubectl().list("tasks.tallyman.dev", "default")?;
        Ok(tasks
            .iter()
            .flat_map(|task| {
                task["status"]["containers"]
                    .as_array()
                    .cloned()
                    .unwrap_or_default()
            })
            .flat_map(|c| c["networkBindings"].as_array().cloned().unwrap_or_default())
            .filter_map(|binding| u16::try_from(binding["hostPort"].as_u64()?).ok())
            .map(|port| SocketAddr::from((self.host.address(), port)))
            .collect())
    }

    /// Every object of Tallyman's kinds, and every definition, by kind, name and uid.
    pub fn objects(&self) -> Result<BTreeSet<String>> {
        let kinds: Vec<String> = tallyman_crds::schema::crds()
            .iter()
            .map(|crd| format!("{}.tallyman.dev", crd.file.trim_end_matches(".yaml")))
            .collect();
        let mut found = BTreeSet::new();
        for kinds in [kinds.join(","), "customresourcedefinitions".to_owned()] {
            let list = self.kubectl().json(["get", &kinds, "-A"])?;
            for object in list["items"].as_array().into_iter().flatten() {
                found.insert(format!(
                    "{} {} {}",
                    object["kind"], object["metadata"]["name"], object["metadata"]["uid"]
                ));
            }
        }
        Ok(found)
    }

    /// What the definitions of Tallyman's kinds say, by name.
    pub fn definitions(&self) -> Result<BTreeMap<String, Value>> {
        let found = self.kubectl().json(["get", "customresourcedefinitions"])?;
        let items = found["items"].as_array().into_iter().flatten();
        let named = items.map(|crd| (crd["metadata"]["name"].to_string(), crd["spec"].clone()));
        Ok(named.collect())
    }

    /// Prints what helps to understand a failure.
    pub fn describe(&self) {
        for args in [
            vec!["get", "pods,events", "-A", "-o", "wide"],
            vec!["describe", "pods", "-n", NAMESPACE],
            vec!["get", "tallyman", "-A", "-o", "wide"],
            vec![
                "logs",
                "-n",
                NAMESPACE,
                "-l",
                "app.kubernetes.io/component=operator",
                "--prefix",
                "--tail=60",
            ],
        ] {
            self.kubectl().tell(&args);
        }
        println!("--- kubelet\n{}", self.node.kubelet().log_tail());
        println!("--- agent\n{}", self.agent.log_tail());
        if let Ok(logs) = self.host.docker(["logs", "--tail", "40", CONTAINER]) {
            println!("--- its container\n{}{}", logs.stdout, logs.stderr);
        }
    }

    /// Takes everything down and says what could not be.
    pub fn down(self) -> Result<()> {
        self.ledger.clear()
    }
}

/// A Docker host that has what its tasks need; beside it, as archives, what the node needs. The operator's image is built there.
fn host_with_images(root: &Path, network: &Network, ledger: &Arc<Ledger>) -> Result<Host> {
    let host = Host::start(
        network,
        ledger,
        0,
        HOST,
        &HostOptions::new(EngineGeneration::Current),
    )?;
    let rootfs = image::rootfs()?;
    host.import_image(&rootfs, image::HELLO, image::HELLO_CHANGES)?;
    host.import_image(&rootfs, node::PAUSE, &["CMD [\"/bin/sleep\",\"1000000\"]"])?;
    let operator = format!("{IMAGE}:{TAG}");
    let agent = format!("localhost/tallyman/agent:{TAG}");
    for (what, tag, program) in [
        ("operator", &operator, components::OPERATOR_PROGRAM),
        ("agent", &agent, components::AGENT_PROGRAM),
    ] {
        Tool::new(root.join("dev/image.sh"))
            .args([what, tag])
            .arg(paths::built_program(program)?)
            .env(
                "DOCKER_HOST",
                format!("unix://{}", host.engine_socket().display()),
            )
            .check()?;
        // It starts with no more than what the image holds.
        let version = host.docker_ok([
            "run",
            "--rm",
            "--network=none",
            "--read-only",
            tag,
            "--version",
        ])?;
        ensure!(version.starts_with(program), "{version}");
    }
    let folder = ledger.folder("images")?;
    for (image, file) in [(node::PAUSE, "pause.tar"), (&operator, "operator.tar")] {
        let archive = folder.join(file).display().to_string();
        host.docker_ok(["save", "--output", &archive, image])?;
    }
    Ok(host)
}
