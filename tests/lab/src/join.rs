//! What an administrator does: installs Tallyman into a cluster, starts its operator, and adds hosts.
//!
//! Lab and quickstart share these steps, so that what tests prove is what people run.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tallyman_crds::names;
use tallyman_join::pin;

use crate::cluster_changes;
use crate::command::Tool;
use crate::components::{self, OPERATOR_ACCOUNT, Program, SYSTEM_NAMESPACE};
use crate::control_plane::ControlPlane;
use crate::network::free_port;
use crate::process::Process;
use crate::state::Ledger;

const IDENTITY: Duration = Duration::from_secs(60);
const CONNECTED: Duration = Duration::from_secs(60);

/// Manifests that make a cluster ready for Tallyman, in order: definitions first.
pub fn manifests(root: &Path) -> [PathBuf; 2] {
    [root.join("crds/generated"), root.join("deploy")]
}

/// Applies them, and notes what a cluster that was given did not have. Doing it again changes nothing.
///
/// # Errors
/// When the API server refuses.
pub fn install(ledger: &Ledger, plane: &ControlPlane, root: &Path) -> Result<()> {
    for folder in manifests(root) {
        cluster_changes::apply(ledger, plane, &folder)?;
    }
    Ok(())
}

/// The operator's process, with a token of its own service account. Not started yet.
///
/// # Errors
/// When the API server gives no token.
pub fn operator(
    ledger: &Arc<Ledger>,
    plane: &ControlPlane,
    program: &Program,
    name: &str,
) -> Result<(Process, SocketAddr)> {
    let kubeconfig = plane.account_kubeconfig(
        name,
        plane.server(),
        (SYSTEM_NAMESPACE, OPERATOR_ACCOUNT),
        None,
    )?;
    let http = SocketAddr::from(([127, 0, 0, 1], free_port()?));
    let process = Process::new(
        ledger,
        name,
        components::operator(program, &kubeconfig, http),
    )?;
    Ok((process, http))
}

/// Lets a host join: applies a HostJoin `name` with this `spec`, and takes a token of it.
///
/// # Errors
/// When the API server refuses, or the operator does not make its account.
pub fn permit(plane: &ControlPlane, namespace: &str, name: &str, spec: &Value) -> Result<String> {
    let manifest = json!({
        "apiVersion": "tallyman.dev/v1alpha1",
        "kind": "HostJoin",
        "metadata": {"name": name, "namespace": namespace},
        "spec": spec,
    });
    plane.kubectl().apply(&manifest.to_string())?;
    let account = names::join_identity(name);
    let wait = format!("--timeout={}s", IDENTITY.as_secs());
    let object = format!("serviceaccount/{account}");
    plane
        .kubectl()
        .ok(["wait", "--for=create", &object, "-n", namespace, &wait])?;
    let token = plane.kubectl().ok([
        "create",
        "token",
        &account,
        "-n",
        namespace,
        "--duration=1h",
    ])?;
    Ok(token.trim().to_owned())
}

/// The one command that is run on a host that joins; `tool` begins it, inside the host.
pub fn command(
    tool: Tool,
    plane: &ControlPlane,
    token: &str,
    name: &str,
    folder: &Path,
) -> Result<Tool> {
    let authority = plane.certificate_authority()?;
    let pins = pin::of_pem(authority.as_bytes())?;
    ensure!(pins.len() == 1, "one certificate authority: {pins:?}");
    Ok(tool
        .args(["join", "--server", plane.server_for_hosts()])
        .args(["--token", token, "--ca-cert-hash", &pins[0]])
        .args(["--name", name, "--folder"])
        .arg(folder))
}

/// Makes a host known: the only thing an administrator applies for it.
///
/// # Errors
/// When the API server refuses.
pub fn announce(plane: &ControlPlane, namespace: &str, instance: &str) -> Result<()> {
    let manifest = json!({
        "apiVersion": "tallyman.dev/v1alpha1",
        "kind": "ContainerInstance",
        "metadata": {"name": instance, "namespace": namespace},
        "spec": {"cluster": "default"},
    });
    plane.kubectl().apply(&manifest.to_string()).map(drop)
}

/// Waits for the operator's answer to [`announce`] and takes the host's token: the kubeconfig of its agent.
///
/// # Errors
/// When the operator does not make the host's identity.
pub fn identity(
    plane: &ControlPlane,
    namespace: &str,
    instance: &str,
    server: &str,
    operator: &Process,
) -> Result<PathBuf> {
    let name = names::host_identity(instance);
    let what = format!("the operator to make ServiceAccount and Secret {namespace}/{name}");
    operator.wait_ready(&what, IDENTITY, || {
        Ok(plane
            .kubectl()
            .get("serviceaccount", namespace, &name)?
            .is_some()
            && plane.kubectl().get("secret", namespace, &name)?.is_some())
    })?;
    plane.account_kubeconfig(
        &format!("agent-{instance}"),
        server,
        (namespace, &name),
        Some(&name),
    )
}

/// Waits until the operator has seen the host's agent, and returns the ContainerInstance.
///
/// # Errors
/// When it does not; with the end of the agent's log.
pub fn wait_connected(
    plane: &ControlPlane,
    namespace: &str,
    instance: &str,
    agent: &Process,
) -> Result<Value> {
    let mut last = Value::Null;
    agent
        .wait_ready(
            &format!("the agent of {instance} to be connected"),
            CONNECTED,
            || {
                let found =
                    plane
                        .kubectl()
                        .get("containerinstances.tallyman.dev", namespace, instance)?;
                last = found.unwrap_or_default();
                Ok((last["status"]["agentConnected"] == true).then(|| last.clone()))
            },
        )
        .with_context(|| format!("its status: {}", last["status"]))
        .with_context(|| format!("end of the agent's log:\n{}", agent.log_tail()))
}
