//! The programs of a control plane: their keys, their ports, their flags.

use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};

use anyhow::Result;
use serde_json::json;

use crate::ControlPlaneOptions;
use crate::certificates::{Authority, Pair, TokenKeys};
use crate::process::CommandSpec;
use crate::{audit, paths};

const SERVICE_RANGE: &str = "10.0.0.0/24";

/// The first address of the service range, by which pods reach the API server.
pub(crate) const SERVICE: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);

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
    "horizontal-pod-autoscaler-controller",
];

pub(crate) const LOCAL: Ipv4Addr = Ipv4Addr::LOCALHOST;

pub(crate) struct Ports {
    pub(crate) etcd: u16,
    pub(crate) etcd_peer: u16,
    pub(crate) api: u16,
}

pub(crate) struct Pki {
    pub(crate) ca: Authority,
    pub(crate) etcd_ca: Authority,
    etcd: Pair,
    pub(crate) etcd_client: Pair,
    api: Pair,
    pub(crate) admin: Pair,
    pub(crate) controller_manager: Pair,
    accounts: TokenKeys,
}

impl Pki {
    pub(crate) fn write(folder: &Path, address: Option<Ipv4Addr>) -> Result<Self> {
        let folder = folder.join("pki");
        paths::private_folder(&folder)?;
        let ca = Authority::new(&folder, "ca")?;
        // Whoever has a certificate for the API server has none for what lies below it.
        let etcd_ca = Authority::new(&folder, "etcd-ca")?;
        let mut addresses = vec![IpAddr::V4(LOCAL), IpAddr::V4(SERVICE)];
        addresses.extend(address.map(IpAddr::V4));
        let names = [
            "localhost",
            "kubernetes",
            "kubernetes.default",
            "kubernetes.default.svc",
        ]
        .as_slice();
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
            accounts: TokenKeys::new(&folder, "service-accounts")?,
            ca,
            etcd_ca,
        })
    }
}

pub(crate) fn kubeconfig(
    folder: &Path,
    user: &str,
    server: &str,
    ca: &Authority,
    pair: &Pair,
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

pub(crate) fn etcd_command(folder: &Path, pki: &Pki, ports: &Ports) -> Result<CommandSpec> {
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

pub(crate) fn api_command(
    folder: &Path,
    pki: &Pki,
    ports: &Ports,
    options: &ControlPlaneOptions,
    audit: Option<&Path>,
) -> Result<CommandSpec> {
    let address = options.address;
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
        .flag("service-account-key-file", pki.accounts.public.display())
        .flag(
            "service-account-signing-key-file",
            pki.accounts.private.display(),
        )
        .flag("service-cluster-ip-range", SERVICE_RANGE)
        .flag("authorization-mode", "Node,RBAC")
        // As Kubernetes has it by default: a host that joins asks for the certificate authority before it has a name.
        .flag("anonymous-auth", true)
        .flag("endpoint-reconciler-type", "none")
        // Nobody resolves names of nodes here.
        .flag("kubelet-preferred-address-types", "InternalIP")
        // A fifth of the work of a small API server under load is collecting garbage: on a machine that it shares with an
        // engine, half of that for some memory is a good bargain.
        .env("GOGC", "200");
    if options.node.is_none() {
        // There are no pods to give tokens to.
        command = command.flag("disable-admission-plugins", "ServiceAccount");
    }
    if let Some(log) = audit {
        let policy = folder.join("audit-policy.yaml");
        paths::private_file(&policy, audit::POLICY)?;
        command = command
            .flag("audit-policy-file", policy.display())
            .flag("audit-log-path", log.display());
    }
    Ok(command)
}

pub(crate) fn controller_manager_command(
    pki: &Pki,
    kubeconfig: &Path,
    pods: bool,
) -> Result<CommandSpec> {
    let controllers = if pods {
        "*".to_owned()
    } else {
        CONTROLLERS.join(",")
    };
    Ok(
        CommandSpec::new(paths::control_plane_tool("kube-controller-manager")?)
            .flag("kubeconfig", kubeconfig.display())
            .flag("leader-elect", false)
            .flag("secure-port", 0)
            .flag("controllers", controllers)
            .flag("use-service-account-credentials", true)
            // Fifteen by default. Without an autoscaler it is nothing.
            .flag("horizontal-pod-autoscaler-sync-period", "2s")
            .flag(
                "service-account-private-key-file",
                pki.accounts.private.display(),
            )
            .flag("root-ca-file", pki.ca.certificate.display())
            .flag("cluster-signing-cert-file", pki.ca.certificate.display())
            .flag("cluster-signing-key-file", pki.ca.key.display()),
    )
}
