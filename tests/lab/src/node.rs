//! A Kubernetes node on this machine: containerd and a kubelet in a network namespace of their own, and the scheduler that
//! gives it pods. For what has to be seen running as a pod; Tallyman's own hosts have no kubelet.
//!
//! Pods reach the API server by the address of its Service, through a rule of the namespace's firewall: there is no kube-proxy.

use std::net::Ipv4Addr;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::json;

use crate::command::Tool;
use crate::control_plane::ControlPlane;
use crate::control_plane_parts::SERVICE;
use crate::network::{Network, Place, inside};
use crate::process::{CommandSpec, Process};
use crate::state::{Ledger, RecordedEngine};
use crate::{paths, progress};

const READY: Duration = Duration::from_secs(90);

/// Image of the container that holds a pod's namespaces, see [`crate::image`]: an image in containerd alone.
pub const PAUSE: &str = "localhost/tallyman/pause:1";

/// Namespace of a kubelet's images in containerd.
const IMAGES: &str = "k8s.io";

/// Addresses of pods; they never leave the node's namespace.
const PODS: &str = "10.88.0.0/24";

/// Folders of a kubelet that no setting moves. What a node leaves there is removed when the folder was not there before.
const FIXED: [&str; 2] = ["/var/lib/kubelet", "/var/log/containers"];

/// A node that is ready for pods.
#[derive(Clone, Debug)]
pub struct Node {
    name: String,
    address: Ipv4Addr,
    socket: PathBuf,
    tools: PathBuf,
    containerd: Process,
    kubelet: Process,
    scheduler: Process,
}

impl Node {
    /// Starts the node that `plane` was made for as member `index` of the network, and waits until it takes pods. `pause` is an
    /// archive that holds the image [`PAUSE`].
    ///
    /// # Errors
    /// When a part does not start; the end of its log is in the message.
    pub fn start(
        network: &Network,
        ledger: &Arc<Ledger>,
        plane: &ControlPlane,
        index: usize,
        name: &str,
        pause: &Path,
    ) -> Result<Self> {
        paths::need_root("A Kubernetes node")?;
        let place = network.place(index, name)?;
        let run = ledger.run().join(name);
        paths::private_folder(&run)?;
        let data = ledger.folder(name)?;
        ledger.update(|state| {
            for folder in FIXED.map(PathBuf::from) {
                if !folder.exists() && !state.folders.contains(&folder) {
                    state.folders.push(folder);
                }
            }
        })?;
        let record = RecordedEngine {
            name: name.to_owned(),
            version: "containerd".to_owned(),
            containerd_socket: run.join("containerd.sock"),
            cgroup: format!("/tallyman-{}-{name}", ledger.id()),
        };
        ledger.update(|state| state.engines.push(record.clone()))?;
        make_cgroup(&record.cgroup)?;
        lead_to_api_server(&place, network.gateway(), plane.server())?;

        let tools = paths::source_root()?.join(".tools/engines/current/bin");
        let files = Files::write(&run, &data, &record)?;
        let inside = Some(place.namespace.as_str());
        let containerd = CommandSpec::new(tool(&tools, "containerd", "engines")?)
            .flag("config", files.containerd.display())
            .namespace(inside)
            .path(&tools);
        let kubelet = CommandSpec::new(paths::node_tool("kubelet")?)
            .flag("config", files.kubelet.display())
            .flag("kubeconfig", plane.node_kubeconfig("kubelet")?.display())
            .flag("hostname-override", name)
            .flag("node-ip", place.address)
            .flag("root-dir", data.join("kubelet").display())
            .flag("cert-dir", data.join("pki").display())
            .namespace(inside)
            .path(&tools);
        let scheduler = CommandSpec::new(paths::node_tool("kube-scheduler")?)
            .flag("kubeconfig", plane.node_kubeconfig("scheduler")?.display())
            .flag("leader-elect", false)
            .flag("secure-port", 0);
        let node = Node {
            name: name.to_owned(),
            address: place.address,
            socket: record.containerd_socket,
            containerd: Process::new(ledger, &format!("{name}-containerd"), containerd)?,
            kubelet: Process::new(ledger, &format!("{name}-kubelet"), kubelet)?,
            scheduler: Process::new(ledger, "scheduler", scheduler)?,
            tools,
        };
        node.run(plane, pause)?;
        Ok(node)
    }

    fn run(&self, plane: &ControlPlane, pause: &Path) -> Result<()> {
        self.containerd.start()?;
        self.containerd
            .wait_ready("the node's containerd to listen", READY, || {
                Ok(UnixStream::connect(&self.socket).is_ok())
            })?;
        self.import(pause)?;
        self.scheduler.start()?;
        self.kubelet.start()?;
        progress::say("the kubelet is started");
        self.kubelet.wait_ready("the node to be Ready", READY, || {
            let Some(node) = plane.kubectl().get("node", "", &self.name)? else {
                return Ok(false);
            };
            let conditions = node["status"]["conditions"].as_array();
            let ready = conditions
                .into_iter()
                .flatten()
                .any(|c| c["type"] == "Ready" && c["status"] == "True");
            // The controller of nodes takes it away.
            Ok(ready && node["spec"]["taints"].as_array().is_none_or(Vec::is_empty))
        })
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its address on the bridge.
    pub fn address(&self) -> Ipv4Addr {
        self.address
    }

    /// Its kubelet.
    pub fn kubelet(&self) -> &Process {
        &self.kubelet
    }

    /// Takes the images of an archive, as `docker save` writes it.
    ///
    /// # Errors
    /// When containerd refuses.
    pub fn import(&self, archive: &Path) -> Result<()> {
        Tool::new(tool(&self.tools, "ctr", "node")?)
            .arg("--address")
            .arg(&self.socket)
            .args(["--namespace", IMAGES, "images", "import"])
            .arg(archive)
            .check()?;
        Ok(())
    }
}

fn tool(folder: &Path, name: &str, group: &str) -> Result<PathBuf> {
    let path = folder.join(name);
    anyhow::ensure!(
        path.is_file(),
        "{} is missing: run `dev/tools.sh {group}`",
        path.display()
    );
    Ok(path)
}

/// The kubelet wants the control group of all its pods to be there.
fn make_cgroup(cgroup: &str) -> Result<()> {
    let root = Path::new("/sys/fs/cgroup");
    let name = cgroup.trim_start_matches('/');
    let hierarchies: Vec<PathBuf> = if root.join("cgroup.controllers").is_file() {
        vec![root.to_owned()]
    } else {
        std::fs::read_dir(root)?
            .map(|entry| Ok(entry?.path()))
            .collect::<Result<Vec<_>>>()?
            .into_iter()
            .filter(|path| path.is_dir())
            .collect()
    };
    for hierarchy in hierarchies {
        let folder = hierarchy.join(name);
        std::fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
    }
    Ok(())
}

/// Who asks for the Service of the API server reaches it on the lab's bridge.
fn lead_to_api_server(place: &Place, gateway: Ipv4Addr, server: &str) -> Result<()> {
    let port = server
        .rsplit_once(':')
        .map(|(_, port)| port)
        .with_context(|| format!("{server} names no port"))?;
    let service = format!("{SERVICE}/32");
    let there = format!("{gateway}:{port}");
    for chain in ["PREROUTING", "OUTPUT"] {
        inside(&place.namespace)
            .args(["iptables", "--wait", "20", "-t", "nat", "-A", chain])
            .args(["-d", &service, "-p", "tcp", "--dport", "443"])
            .args(["-j", "DNAT", "--to-destination", &there])
            .check()?;
    }
    Ok(())
}

struct Files {
    containerd: PathBuf,
    kubelet: PathBuf,
}

impl Files {
    fn write(run: &Path, data: &Path, record: &RecordedEngine) -> Result<Self> {
        let cni = data.join("cni");
        let plugins = cni.join("bin");
        let networks = cni.join("net.d");
        std::fs::create_dir_all(&plugins)?;
        std::fs::create_dir_all(&networks)?;
        for (name, built) in [("bridge", "cni-bridge"), ("host-local", "cni-host-local")] {
            let built = paths::node_tool(built)?;
            std::os::unix::fs::symlink(&built, plugins.join(name))?;
        }
        let network = json!({
            "cniVersion": "1.0.0",
            "name": "pods",
            "plugins": [{
                "type": "bridge",
                "bridge": "pods",
                "isGateway": true,
                "ipMasq": true,
                "ipam": {
                    "type": "host-local",
                    "dataDir": cni.join("addresses"),
                    "ranges": [[{"subnet": PODS}]],
                    "routes": [{"dst": "0.0.0.0/0"}],
                },
            }],
        });
        std::fs::write(networks.join("10-pods.conflist"), network.to_string())?;

        let containerd = data.join("containerd.toml");
        std::fs::write(
            &containerd,
            containerd_config(run, data, &plugins, &networks, record),
        )?;
        let kubelet = data.join("kubelet.yaml");
        let socket = record.containerd_socket.display();
        // JSON is YAML.
        let config = json!({
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "kind": "KubeletConfiguration",
            "containerRuntimeEndpoint": format!("unix://{socket}"),
            "cgroupDriver": "cgroupfs",
            "cgroupRoot": record.cgroup,
            "failCgroupV1": false,
            "failSwapOn": false,
            "oomScoreAdj": 0,
            // The API server shows no certificate: whoever reaches the namespace is the lab.
            "authentication": {"anonymous": {"enabled": true}, "webhook": {"enabled": false}},
            "authorization": {"mode": "AlwaysAllow"},
            "podLogsDir": data.join("pod-logs"),
            "volumePluginDir": data.join("volume-plugins"),
            "resolvConf": "",
            "clusterDomain": "cluster.local",
            "healthzPort": 0,
            // Changes come by themselves; these only shorten what a restart waits for.
            "nodeStatusUpdateFrequency": "5s",
            "syncFrequency": "10s",
            // A small disk of the machine is no reason to evict the operator.
            "evictionHard": {"memory.available": "50Mi"},
            "imageGCHighThresholdPercent": 100,
            "enforceNodeAllocatable": ["pods"],
        });
        std::fs::write(&kubelet, serde_json::to_vec_pretty(&config)?)?;
        Ok(Files {
            containerd,
            kubelet,
        })
    }
}

fn containerd_config(
    run: &Path,
    data: &Path,
    plugins: &Path,
    networks: &Path,
    record: &RecordedEngine,
) -> String {
    format!(
        r#"version = 3
root = "{data}/containerd"
state = "{run}/containerd"

[grpc]
  address = "{socket}"

[ttrpc]
  address = "{socket}.ttrpc"

[debug]
  address = "{run}/containerd-debug.sock"

[plugins."io.containerd.internal.v1.opt"]
  path = "{data}/opt"

[plugins."io.containerd.nri.v1.nri"]
  disable = true

[plugins."io.containerd.cri.v1.images"]
  snapshotter = "overlayfs"

[plugins."io.containerd.cri.v1.images".pinned_images]
  sandbox = "{PAUSE}"

[plugins."io.containerd.cri.v1.runtime"]
  # Root of a virtual machine may not lower it.
  restrict_oom_score_adj = true

[plugins."io.containerd.cri.v1.runtime".cni]
  bin_dirs = ["{plugins}"]
  conf_dir = "{networks}"
  use_internal_loopback = true
"#,
        data = data.display(),
        run = run.display(),
        socket = record.containerd_socket.display(),
        plugins = plugins.display(),
        networks = networks.display(),
    )
}
