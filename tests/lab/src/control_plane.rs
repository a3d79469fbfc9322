//! A Kubernetes control plane: etcd, kube-apiserver and kube-controller-manager as processes, or a cluster that exists.
//!
//! The person at kubectl is in `system:masters`; operator and agents never are. They come with tokens of their service accounts
//! ([`ControlPlane::account_kubeconfig`]), so that every right they lack is noticed.

use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use crate::audit::{self, AuditLog};
use crate::certificates::{Authority, signing_key};
use crate::command::Output;
use crate::kubectl::Kubectl;
use crate::network::free_port;
use crate::process::{CommandSpec, Process};
use crate::state::{ControlPlaneRecord, Ledger};
use crate::wait::wait_until;
use crate::{paths, progress};

const READY: Duration = Duration::from_secs(120);
const GRACE: Duration = Duration::from_secs(30);
const LOCAL: Ipv4Addr = Ipv4Addr::LOCALHOST;

/// The first address of the service range, which is the API server's own name inside pods.
const SERVICE_RANGE: &str = "10.0.0.0/24";

/// Controllers that Tallyman's objects lean on. Those for pods and nodes are left out.
const CONTROLLERS: &[&str] = &[
    "garbage-collector-controller",
    "namespace-controller",
    "serviceaccount-controller",
    "serviceaccount-token-controller",
    "root-ca-certificate-publisher-controller",
    "certificatesigningrequest-signing-controller",
    "clusterrole-aggregation-controller",
    "validatingadmissionpolicy-status-controller",
];

/// How a control plane is made.
#[derive(Clone, Debug)]
pub struct ControlPlaneOptions {
    /// Address of this machine by which others than this machine reach it: then it listens on all addresses, else on loopback alone.
    pub address: Option<Ipv4Addr>,
    /// Writes an audit log of every request.
    pub audit: bool,
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
const API: &str = "apiserver";
const CONTROLLER_MANAGER: &str = "controller-manager";

impl ControlPlane {
    /// A control plane of its own run, on loopback, gone when it is let go of. For tests of schemas and policies.
    ///
    /// # Errors
    /// As [`ControlPlane::start`].
    pub fn standalone() -> Result<Self> {
        let ledger = Ledger::create(None)?;
        Self::start(&ledger, &ControlPlaneOptions { address: None, audit: false })
    }

    /// Starts a control plane and waits until it serves and its controllers work.
    ///
    /// # Errors
    /// When a part does not start; the end of its log is in the message.
    pub fn start(ledger: &Arc<Ledger>, options: &ControlPlaneOptions) -> Result<Self> {
        let folder = ledger.folder("control-plane")?;
        let pki = Pki::write(&folder, options.address)?;
        let ports = Ports { etcd: free_port()?, etcd_peer: free_port()?, api: free_port()? };
        let server = format!("https://{LOCAL}:{}", ports.api);
        let audit = match options.audit {
            true => Some(ledger.logs()?.join("audit.log")),
            false => None,
        };

        // The public half, before anything runs: everybody below reads one of these.
        let admin = kubeconfig(&folder, "admin", &server, &pki.ca, &pki.admin)?;
        let controllers = kubeconfig(
            &folder,
            "controller-manager",
            &server,
            &pki.ca,
            &pki.controller_manager,
        )?;
        let kubeconfig = ledger.work().join("admin.kubeconfig");
        ledger.update(|state| {
            state.folders.push(kubeconfig.clone());
            state.control_plane = Some(ControlPlaneRecord {
                kubeconfig: kubeconfig.clone(),
                embedded: true,
                audit_log: audit.clone(),
            });
        })?;
        let flat = Kubectl::new(&admin, folder.join("cache"))?
            .ok(["config", "view", "--raw", "--flatten"])?;
        paths::private_file(&kubeconfig, flat)?;

        let etcd = Process::new(ledger, ETCD, etcd_command(&folder, &pki, &ports)?)?;
        let api = Process::new(
            ledger,
            API,
            api_command(&folder, &pki, &ports, options.address, audit.as_deref())?,
        )?;
        let controllers = Process::new(
            ledger,
            CONTROLLER_MANAGER,
            controller_manager_command(&pki, &controllers)?,
        )?;
        let plane = Self::with(
            ledger,
            &kubeconfig,
            audit,
            Some(Embedded { etcd, api, controllers }),
            options.address.map(|address| format!("https://{address}:{}", ports.api)),
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
        let record = ledger.state().control_plane.context("this run has no control plane")?;
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
            format!("{} has no cluster in its current context", kubeconfig.display())
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
        let Some(embedded) = &self.embedded else { return Ok(()) };
        embedded.etcd.start()?;
        self.start_api()?;
        progress::say("the API server is ready, waiting for its controllers");
        embedded.controllers.start()?;
        embedded.controllers.wait_ready("the controllers of the control plane", READY, || {
            // Each namespace gets both from a controller.
            let account = self.kubectl.get("serviceaccount", "default", "default")?;
            let root = self.kubectl.get("configmap", "default", "kube-root-ca.crt")?;
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
        self.embedded.as_ref().context("this control plane is not the lab's to start or end")
    }

    /// Ends the API server in order.
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
        let mut args = vec!["create", "token", account, "-n", namespace, "--duration=8760h"];
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

    /// Waits until something answers as this account.
    ///
    /// # Errors
    /// When the API server knows the account by no other name than none.
    pub fn wait_for_account(&self, kubeconfig: &Path) -> Result<()> {
        let kubectl = self.kubectl.as_user(kubeconfig);
        wait_until("the API server to accept a fresh token", Duration::from_secs(20), || {
            Ok(kubectl.run(["auth", "whoami"])?.success)
        })
    }
}

struct Ports {
    etcd: u16,
    etcd_peer: u16,
    api: u16,
}

struct Pki {
    ca: Authority,
    etcd_ca: Authority,
    etcd: crate::certificates::Pair,
    etcd_client: crate::certificates::Pair,
    api: crate::certificates::Pair,
    admin: crate::certificates::Pair,
    controller_manager: crate::certificates::Pair,
    accounts: PathBuf,
}

impl Pki {
    fn write(folder: &Path, address: Option<Ipv4Addr>) -> Result<Self> {
        let folder = folder.join("pki");
        paths::private_folder(&folder)?;
        let ca = Authority::new(&folder, "ca")?;
        // Whoever has a certificate for the API server has none for what lies below it.
        let etcd_ca = Authority::new(&folder, "etcd-ca")?;
        let mut addresses = vec![IpAddr::V4(LOCAL), IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1))];
        addresses.extend(address.map(IpAddr::V4));
        let names =
            ["localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc"].as_slice();
        Ok(Pki {
            api: ca.server("apiserver", names, &addresses)?,
            admin: ca.client("admin", "admin", Some("system:masters"))?,
            controller_manager: ca.client(
                "controller-manager",
                "system:kube-controller-manager",
                None,
            )?,
            etcd: etcd_ca.server("etcd", &["localhost"], &[IpAddr::V4(LOCAL)])?,
            etcd_client: etcd_ca.client("etcd-client", "apiserver", None)?,
            accounts: signing_key(&folder, "service-accounts")?,
            ca,
            etcd_ca,
        })
    }
}

fn kubeconfig(
    folder: &Path,
    user: &str,
    server: &str,
    ca: &Authority,
    pair: &crate::certificates::Pair,
) -> Result<PathBuf> {
    let config = json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{
            "name": "tallyman",
            "cluster": {"server": server, "certificate-authority": ca.certificate},
        }],
        "users": [{
            "name": user,
            "user": {"client-certificate": pair.certificate, "client-key": pair.key},
        }],
        "contexts": [{"name": "tallyman", "context": {"cluster": "tallyman", "user": user}}],
        "current-context": "tallyman",
    });
    let path = folder.join(format!("{user}.kubeconfig"));
    paths::private_file(&path, serde_json::to_vec_pretty(&config)?)?;
    Ok(path)
}

fn etcd_command(folder: &Path, pki: &Pki, ports: &Ports) -> Result<CommandSpec> {
    let client = format!("https://{LOCAL}:{}", ports.etcd);
    // Nobody but itself speaks to it there; it has no peers.
    let peer = format!("http://{LOCAL}:{}", ports.etcd_peer);
    Ok(CommandSpec::new(paths::control_plane_tool("etcd")?)
        .flag("name", "lab")
        .flag("data-dir", folder.join("etcd").display())
        .flag("listen-client-urls", &client)
        .flag("advertise-client-urls", &client)
        .flag("listen-peer-urls", &peer)
        .flag("initial-advertise-peer-urls", &peer)
        .flag("initial-cluster", format!("lab={peer}"))
        .flag("cert-file", pki.etcd.certificate.display())
        .flag("key-file", pki.etcd.key.display())
        .flag("client-cert-auth", true)
        .flag("trusted-ca-file", pki.etcd_ca.certificate.display())
        .flag("log-level", "warn"))
}

fn api_command(
    folder: &Path,
    pki: &Pki,
    ports: &Ports,
    address: Option<Ipv4Addr>,
    audit: Option<&Path>,
) -> Result<CommandSpec> {
    let bind = address.map_or(LOCAL, |_| Ipv4Addr::UNSPECIFIED);
    let mut command = CommandSpec::new(paths::control_plane_tool("kube-apiserver")?)
        .flag("bind-address", bind)
        .flag("advertise-address", address.unwrap_or(LOCAL))
        .flag("secure-port", ports.api)
        .flag("etcd-servers", format!("https://{LOCAL}:{}", ports.etcd))
        .flag("etcd-cafile", pki.etcd_ca.certificate.display())
        .flag("etcd-certfile", pki.etcd_client.certificate.display())
        .flag("etcd-keyfile", pki.etcd_client.key.display())
        .flag("tls-cert-file", pki.api.certificate.display())
        .flag("tls-private-key-file", pki.api.key.display())
        .flag("client-ca-file", pki.ca.certificate.display())
        .flag("service-account-issuer", "https://kubernetes.default.svc")
        .flag("service-account-key-file", pki.accounts.display())
        .flag("service-account-signing-key-file", pki.accounts.display())
        .flag("service-cluster-ip-range", SERVICE_RANGE)
        .flag("authorization-mode", "Node,RBAC")
        .flag("anonymous-auth", false)
        .flag("endpoint-reconciler-type", "none")
        // There are no pods to give tokens to.
        .flag("disable-admission-plugins", "ServiceAccount");
    if let Some(log) = audit {
        let policy = folder.join("audit-policy.yaml");
        paths::private_file(&policy, audit::POLICY)?;
        command =
            command.flag("audit-policy-file", policy.display()).flag("audit-log-path", log.display());
    }
    Ok(command)
}

fn controller_manager_command(pki: &Pki, kubeconfig: &Path) -> Result<CommandSpec> {
    Ok(CommandSpec::new(paths::control_plane_tool("kube-controller-manager")?)
        .flag("kubeconfig", kubeconfig.display())
        .flag("leader-elect", false)
        .flag("secure-port", 0)
        .flag("controllers", CONTROLLERS.join(","))
        .flag("use-service-account-credentials", true)
        .flag("service-account-private-key-file", pki.accounts.display())
        .flag("root-ca-file", pki.ca.certificate.display())
        .flag("cluster-signing-cert-file", pki.ca.certificate.display())
        .flag("cluster-signing-key-file", pki.ca.key.display()))
}
