//! A Kubernetes control plane: etcd, kube-apiserver and kube-controller-manager as processes, or a cluster that exists.
//!
//! The person at kubectl is in `system:masters`; operator and agents never are. They come with tokens of their service accounts
//! ([`ControlPlane::account_kubeconfig`]), so that every right they lack is noticed.

use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use k8s_openapi::ByteString;
use serde_json::{Value, json};

use crate::audit::AuditLog;
use crate::command::Output;
use crate::control_plane_parts::{
    LOCAL, Pki, Ports, api_command, controller_manager_command, etcd_command, kubeconfig,
};
use crate::kubectl::Kubectl;
use crate::network::free_port;
use crate::process::Process;
use crate::state::{ControlPlaneRecord, Ledger};
use crate::{paths, progress};

const READY: Duration = Duration::from_secs(120);
/// An API server on its way out waits for watches that nobody ends.
const GRACE: Duration = Duration::from_secs(5);

/// How a control plane is made.
#[derive(Clone, Debug, Default)]
pub struct ControlPlaneOptions {
    /// Address of this machine by which others than this machine reach it: then it listens on all addresses, else on loopback alone.
    pub address: Option<Ipv4Addr>,
    /// Writes an audit log of every request.
    pub audit: bool,
    /// Pods run on a node of this name, which [`crate::Node`] brings up; `None` is a control plane without pods.
    pub node: Option<String>,
}

/// A control plane.
#[derive(Clone, Debug)]
pub struct ControlPlane {
    ledger: Arc<Ledger>,
    kubectl: Kubectl,
    cluster: Value,
    server_for_hosts: String,
    audit: Option<AuditLog>,
    embedded: Option<Embedded>,
}

#[derive(Clone, Debug)]
struct Embedded {
    etcd: Process,
    api: Process,
    controllers: Process,
}

const ETCD: &str = "etcd";
const ETCD_KUBECONFIG: &str = "etcd.kubeconfig";
const API: &str = "apiserver";
const CONTROLLER_MANAGER: &str = "controller-manager";

impl ControlPlane {
    /// A control plane of its own run, on loopback, gone when it is let go of. For tests of schemas and policies.
    ///
    /// # Errors
    /// As [`ControlPlane::start`].
    pub fn standalone() -> Result<Self> {
        let ledger = Ledger::create(None)?;
        Self::start(&ledger, &ControlPlaneOptions::default())
    }

    /// Starts a control plane and waits until it serves and its controllers work.
    ///
    /// # Errors
    /// When a part does not start; the end of its log is in the message.
    pub fn start(ledger: &Arc<Ledger>, options: &ControlPlaneOptions) -> Result<Self> {
        let folder = ledger.folder("control-plane")?;
        let pki = Pki::write(&folder, options.address)?;
        let ports = Ports {
            etcd: free_port()?,
            etcd_peer: free_port()?,
            api: free_port()?,
        };
        let server = format!("https://{LOCAL}:{}", ports.api);
        let audit = match options.audit {
            true => Some(ledger.logs()?.join("audit.log")),
            false => None,
        };

        if let Some(node) = &options.node {
            let address = options.address.context("a node needs an address")?;
            let server = format!("https://{address}:{}", ports.api);
            for (name, user, group) in [
                (
                    "kubelet",
                    format!("system:node:{node}"),
                    Some("system:nodes"),
                ),
                ("scheduler", "system:kube-scheduler".to_owned(), None),
            ] {
                let pair = pki.ca.client(name, &user, group)?;
                kubeconfig(&folder, name, &server, &pki.ca, &pair)?;
            }
        }

        // The public half, before anything runs: everybody below reads one of these.
        let admin = kubeconfig(&folder, "admin", &server, &pki.ca, &pki.admin)?;
        let to_etcd = format!("https://{LOCAL}:{}", ports.etcd);
        kubeconfig(&folder, ETCD, &to_etcd, &pki.etcd_ca, &pki.etcd_client)?;
        let controllers = kubeconfig(
            &folder,
            "controller-manager",
            &server,
            &pki.ca,
            &pki.controller_manager,
        )?;
        let kubeconfig = ledger.work().join("admin.kubeconfig");
        ledger.update(|state| {
            state.files.push(kubeconfig.clone());
            state.control_plane = Some(ControlPlaneRecord {
                kubeconfig: kubeconfig.clone(),
                embedded: true,
                audit_log: audit.clone(),
            });
        })?;
        let flat = Kubectl::new(&admin, folder.join("cache"))?.ok([
            "config",
            "view",
            "--raw",
            "--flatten",
        ])?;
        paths::private_file(&kubeconfig, flat)?;

        let etcd = Process::new(ledger, ETCD, etcd_command(&folder, &pki, &ports)?)?;
        let api = Process::new(
            ledger,
            API,
            api_command(&folder, &pki, &ports, options, audit.as_deref())?,
        )?;
        let controllers = Process::new(
            ledger,
            CONTROLLER_MANAGER,
            controller_manager_command(&pki, &controllers, options.node.is_some())?,
        )?;
        let plane = Self::with(
            ledger,
            &kubeconfig,
            audit,
            Some(Embedded {
                etcd,
                api,
                controllers,
            }),
            options
                .address
                .map(|address| format!("https://{address}:{}", ports.api)),
        )?;
        plane.run()?;
        Ok(plane)
    }

    /// A cluster that exists: nothing is started, and nothing is ended later.
    ///
    /// # Errors
    /// When the cluster does not answer.
    pub fn existing(ledger: &Arc<Ledger>, kubeconfig: &Path) -> Result<Self> {
        let kubeconfig = std::path::absolute(kubeconfig)?;
        if !kubeconfig.is_file() {
            bail!("there is no kubeconfig {}", kubeconfig.display());
        }
        ledger.update(|state| {
            state.control_plane = Some(ControlPlaneRecord {
                kubeconfig: kubeconfig.clone(),
                embedded: false,
                audit_log: None,
            });
        })?;
        let plane = Self::with(ledger, &kubeconfig, None, None, None)?;
        plane
            .kubectl
            .ok(["version"])
            .with_context(|| format!("the cluster of {} does not answer", kubeconfig.display()))?;
        Ok(plane)
    }

    /// The control plane that an earlier command of the same run started or was given.
    ///
    /// # Errors
    /// When the run has none.
    pub fn attach(ledger: &Arc<Ledger>) -> Result<Self> {
        let record = ledger
            .state()
            .control_plane
            .context("this run has no control plane")?;
        let embedded = match record.embedded {
            true => Some(Embedded {
                etcd: Process::attach(ledger, ETCD)?,
                api: Process::attach(ledger, API)?,
                controllers: Process::attach(ledger, CONTROLLER_MANAGER)?,
            }),
            false => None,
        };
        Self::with(ledger, &record.kubeconfig, record.audit_log, embedded, None)
    }

    fn with(
        ledger: &Arc<Ledger>,
        kubeconfig: &Path,
        audit: Option<PathBuf>,
        embedded: Option<Embedded>,
        server_for_hosts: Option<String>,
    ) -> Result<Self> {
        let kubectl = Kubectl::new(kubeconfig, ledger.folder("kubectl-cache")?)?;
        let view = kubectl.json(["config", "view", "--raw", "--flatten", "--minify"])?;
        let cluster = view["clusters"][0]["cluster"].clone();
        let server = cluster["server"].as_str().with_context(|| {
            format!(
                "{} has no cluster in its current context",
                kubeconfig.display()
            )
        })?;
        Ok(ControlPlane {
            ledger: Arc::clone(ledger),
            server_for_hosts: server_for_hosts.unwrap_or_else(|| server.to_owned()),
            kubectl,
            cluster,
            audit: audit.map(AuditLog::new),
            embedded,
        })
    }

    /// Starts what is not running and waits until all of it works. Does nothing to a cluster that was given.
    ///
    /// # Errors
    /// When it does not.
    pub fn run(&self) -> Result<()> {
        let Some(embedded) = &self.embedded else {
            return Ok(());
        };
        embedded.etcd.start()?;
        self.start_api()?;
        progress::say("the API server is ready, waiting for its controllers");
        embedded.controllers.start()?;
        embedded
            .controllers
            .wait_ready("the controllers of the control plane", READY, || {
                // Each namespace gets both from a controller.
                let account = self.kubectl.get("serviceaccount", "default", "default")?;
                let root = self
                    .kubectl
                    .get("configmap", "default", "kube-root-ca.crt")?;
                Ok(account.is_some() && root.is_some())
            })
    }

    /// The administrator's kubectl.
    pub fn kubectl(&self) -> &Kubectl {
        &self.kubectl
    }

    /// Runs `kubectl args` as administrator, with `stdin` to read.
    ///
    /// # Errors
    /// When it cannot be started or hangs.
    pub fn kubectl_with<S: AsRef<std::ffi::OsStr>>(
        &self,
        args: impl IntoIterator<Item = S>,
        stdin: &str,
    ) -> Result<Output> {
        self.kubectl.tool().args(args).stdin(stdin).run()
    }

    /// The administrator's kubeconfig, good on this machine.
    pub fn admin_kubeconfig(&self) -> &Path {
        self.kubectl.kubeconfig()
    }

    /// The API server as this machine reaches it.
    pub fn server(&self) -> &str {
        self.cluster["server"].as_str().unwrap_or_default()
    }

    /// The API server as the lab's hosts reach it.
    pub fn server_for_hosts(&self) -> &str {
        &self.server_for_hosts
    }

    /// Certificate of the authority that signed the API server's, in PEM.
    ///
    /// # Errors
    /// When the kubeconfig does not hold it.
    pub fn certificate_authority(&self) -> Result<String> {
        let data = self.cluster["certificate-authority-data"].clone();
        let data: ByteString = serde_json::from_value(data)
            .context("the kubeconfig has no certificate-authority-data")?;
        Ok(String::from_utf8(data.0)?)
    }

    /// The kubeconfig of a part of the node that was asked for: `kubelet` or `scheduler`.
    ///
    /// # Errors
    /// When no node was asked for.
    pub fn node_kubeconfig(&self, part: &str) -> Result<PathBuf> {
        let folder = self.ledger.folder("control-plane")?;
        let path = folder.join(format!("{part}.kubeconfig"));
        anyhow::ensure!(path.is_file(), "this control plane was made without a node");
        Ok(path)
    }

    /// It was started by this run.
    pub fn is_embedded(&self) -> bool {
        self.embedded.is_some()
    }

    /// The audit log, if it was asked for.
    pub fn audit(&self) -> Option<&AuditLog> {
        self.audit.as_ref()
    }

    /// The API server's process.
    ///
    /// # Errors
    /// In a cluster that was given.
    pub fn api(&self) -> Result<&Process> {
        Ok(&self.embedded()?.api)
    }

    /// etcd's process.
    ///
    /// # Errors
    /// In a cluster that was given.
    pub fn etcd(&self) -> Result<&Process> {
        Ok(&self.embedded()?.etcd)
    }

    /// The controller manager's process.
    ///
    /// # Errors
    /// In a cluster that was given.
    pub fn controller_manager(&self) -> Result<&Process> {
        Ok(&self.embedded()?.controllers)
    }

    fn embedded(&self) -> Result<&Embedded> {
        self.embedded
            .as_ref()
            .context("this control plane is not the lab's to start or end")
    }

    /// Ends the API server: by SIGTERM, and by SIGKILL when it takes its time.
    ///
    /// # Errors
    /// When it survives.
    pub fn stop_api(&self) -> Result<()> {
        self.embedded()?.api.stop(GRACE).map(drop)
    }

    /// Starts the API server, on its old port, and waits until it is ready.
    ///
    /// # Errors
    /// When it does not get ready.
    pub fn start_api(&self) -> Result<()> {
        let api = &self.embedded()?.api;
        api.start()?;
        api.wait_ready("the API server to be ready", READY, || {
            Ok(self.kubectl.run(["get", "--raw", "/readyz"])?.success)
        })
    }

    /// Copies etcd's data, for [`ControlPlane::restore`]. API server and etcd are ended for it and started again.
    ///
    /// # Errors
    /// When something does not end, is not copied or does not start.
    pub fn back_up(&self) -> Result<()> {
        self.without_etcd(copy_folder)
    }

    /// Puts the copy of etcd's data in place: everything is as it was then. As Kubernetes asks for it, no API server is up
    /// meanwhile, and its controllers are started anew.
    ///
    /// # Errors
    /// When there is no copy, or something does not end or start.
    pub fn restore(&self) -> Result<()> {
        self.without_etcd(|data, copy| copy_folder(copy, data))?;
        self.embedded()?.controllers.restart()
    }

    /// Has etcd forget every version but the newest of each object, as the API server asks it to every five minutes for those
    /// that are older than that.
    ///
    /// # Errors
    /// When etcd refuses.
    pub fn compact(&self) -> Result<()> {
        let status = self.ask_etcd("/v3/maintenance/status", &json!({}))?;
        let newest = &status["header"]["revision"];
        let body = json!({"revision": newest, "physical": true});
        self.ask_etcd("/v3/kv/compaction", &body).map(drop)
    }

    /// An object of ours as etcd holds it: `plural` of its kind, namespace and name. `None` when there is none.
    ///
    /// # Errors
    /// When etcd refuses.
    pub fn stored(&self, of: [&str; 3]) -> Result<Option<Value>> {
        let found = self.ask_etcd("/v3/kv/range", &json!({ "key": etcd_key(of) }))?;
        let Some(value) = found["kvs"].get(0).map(|kv| kv["value"].clone()) else {
            return Ok(None);
        };
        let bytes: ByteString = serde_json::from_value(value)?;
        Ok(Some(serde_json::from_slice(&bytes.0)?))
    }

    /// Has etcd hold this in place of the object, past the API server and all its rules.
    ///
    /// # Errors
    /// When etcd refuses.
    pub fn store(&self, of: [&str; 3], object: &Value) -> Result<()> {
        let value = ByteString(serde_json::to_vec(object)?);
        let body = json!({ "key": etcd_key(of), "value": value });
        self.ask_etcd("/v3/kv/put", &body).map(drop)
    }

    fn ask_etcd(&self, path: &str, body: &Value) -> Result<Value> {
        // etcd takes JSON, too, and kubectl sends it.
        let folder = self.ledger.folder("control-plane")?;
        let kubectl = self.kubectl.as_user(folder.join(ETCD_KUBECONFIG));
        let tool = kubectl.tool().args(["create", "--raw", path, "-f", "-"]);
        Ok(serde_json::from_str(
            &tool.stdin(body.to_string()).check()?,
        )?)
    }

    fn without_etcd(&self, work: impl FnOnce(&Path, &Path) -> Result<()>) -> Result<()> {
        let etcd = self.etcd()?;
        let folder = self.ledger.folder("control-plane")?;
        self.stop_api()?;
        etcd.stop(GRACE)?;
        work(&folder.join(ETCD), &folder.join("etcd-backup"))?;
        etcd.start()?;
        self.start_api()
    }

    /// Writes a kubeconfig that holds no credentials itself but names a file with a fresh token of a service account.
    ///
    /// `bound` is the Secret on which the token's life hangs.
    ///
    /// # Errors
    /// When the API server gives no token.
    pub fn account_kubeconfig(
        &self,
        name: &str,
        server: &str,
        (namespace, account): (&str, &str),
        bound: Option<&str>,
    ) -> Result<PathBuf> {
        let folder = self.ledger.folder("identities")?;
        let mut args = vec![
            "create",
            "token",
            account,
            "-n",
            namespace,
            "--duration=8760h",
        ];
        if let Some(secret) = bound {
            args.extend(["--bound-object-kind=Secret", "--bound-object-name", secret]);
        }
        let token = self.kubectl.ok(&args)?;
        let token_file = folder.join(format!("{name}.token"));
        paths::private_file(&token_file, token.trim())?;
        let mut cluster = self.cluster.clone();
        cluster["server"] = json!(server);
        let config = json!({
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "tallyman", "cluster": cluster}],
            "users": [{"name": account, "user": {"tokenFile": token_file}}],
            "contexts": [{
                "name": "tallyman",
                "context": {"cluster": "tallyman", "user": account, "namespace": namespace},
            }],
            "current-context": "tallyman",
        });
        let path = folder.join(format!("{name}.kubeconfig"));
        paths::private_file(&path, serde_json::to_vec_pretty(&config)?)?;
        Ok(path)
    }
}

/// Where etcd holds an object of ours.
fn etcd_key([plural, namespace, name]: [&str; 3]) -> ByteString {
    let key = format!(
        "/registry/{}/{plural}/{namespace}/{name}",
        tallyman_crds::GROUP
    );
    ByteString(key.into_bytes())
}

/// Makes `to` what `from` is.
fn copy_folder(from: &Path, to: &Path) -> Result<()> {
    if to.exists() {
        fs::remove_dir_all(to).with_context(|| format!("cannot remove {}", to.display()))?;
    }
    paths::private_folder(to)?;
    let list = fs::read_dir(from).with_context(|| format!("cannot read {}", from.display()))?;
    for entry in list {
        let entry = entry?;
        let (path, target) = (entry.path(), to.join(entry.file_name()));
        if entry.file_type()?.is_dir() {
            copy_folder(&path, &target)?;
        } else {
            fs::copy(&path, &target).with_context(|| format!("cannot copy {}", path.display()))?;
        }
    }
    Ok(())
}
