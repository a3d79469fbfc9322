//! The lab's own promises, on real engines and a real API server. Needs root and `dev/tools.sh all`; what is missing fails here.

mod traces;

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use tallyman_lab::control_plane::{ControlPlane, ControlPlaneOptions};
use tallyman_lab::{
    EngineGeneration, Host, HostOptions, Lab, Ledger, Network, Signal, image, paths, wait_until,
};

use traces::{inventory, is_again, traces};

const SOON: Duration = Duration::from_secs(20);

fn import(host: &Host, rootfs: &[u8]) -> Result<()> {
    host.import_image(rootfs, image::HELLO, image::HELLO_CHANGES)
}

/// A page is served from a published port, and says `text`.
fn serves(host: &Host, port: u16, text: &str) -> Result<()> {
    wait_until(
        format!("{text:?} on {}:{port}", host.address()),
        SOON,
        || {
            let reply = host.get(port, "/")?;
            Ok(reply.status == 200 && reply.body.contains(text))
        },
    )
}

fn published_port(host: &Host, container: &str) -> Result<u16> {
    let line = host.docker_ok(["port", container, "80/tcp"])?;
    line.lines()
        .next()
        .and_then(|line| line.rsplit_once(':')?.1.parse().ok())
        .with_context(|| format!("no port in {line:?}"))
}

fn engine_keeps_its_promises(generation: EngineGeneration) -> Result<()> {
    let ledger = Ledger::create(None)?;
    let (id, work) = (ledger.id(), ledger.work());
    let network = Network::start(&ledger)?;
    let options = HostOptions::new(generation);
    let a = Host::start(&network, &ledger, 0, "a", &options)?;
    let b = Host::start(&network, &ledger, 1, "b", &options)?;
    let rootfs = image::rootfs()?;
    import(&a, &rootfs)?;
    import(&b, &rootfs)?;

    // Two hosts are two engines.
    let engine_id = |host: &Host| host.docker_ok(["info", "--format", "{{.ID}}"]);
    assert_ne!(engine_id(&a)?, engine_id(&b)?);

    let run = [
        "run",
        "-d",
        "--name",
        "web",
        "-e",
        "TEXT=first",
        "-p",
        "80",
        image::HELLO,
    ];
    a.docker_ok(run)?;
    let port = published_port(&a, "web")?;
    serves(&a, port, "first")?;
    // From one host to the other.
    let url = format!("http://{}:{port}/", a.address());
    let fetched = b.docker_ok([
        "run",
        "--rm",
        "--entrypoint",
        "wget",
        image::HELLO,
        "-qO-",
        &url,
    ])?;
    assert!(fetched.contains("first"), "{fetched}");

    // The container survives its engine.
    let state = |what: &str| a.docker_ok(["inspect", "--format", what, "web"]);
    let pid = state("{{.State.Pid}}")?;
    for signal in [Signal::KILL, Signal::TERM] {
        a.stop_engine(signal)?;
        assert!(!a.engine().answers());
        assert!(
            Path::new("/proc").join(&pid).exists(),
            "the container died with its engine"
        );
        a.start_engine()?;
        assert_eq!(state("{{.State.Pid}}")?, pid);
        serves(&a, port, "first")?;
    }

    // It stops on the first asking.
    a.docker_ok(["stop", "-t", "20", "web"])?;
    assert_eq!(state("{{.State.ExitCode}}")?, "0");

    // A cut cable is silence, and a mended one is not.
    b.docker_ok([
        "run",
        "-d",
        "--name",
        "web",
        "-e",
        "TEXT=second",
        "-p",
        "80",
        image::HELLO,
    ])?;
    let port = published_port(&b, "web")?;
    serves(&b, port, "second")?;
    b.set_link(false)?;
    assert!(b.get(port, "/").is_err());
    b.set_link(true)?;
    serves(&b, port, "second")?;

    // A power cut leaves nothing running.
    assert_eq!(b.engine().shims(), 1);
    b.engine().power_off()?;
    assert_eq!(b.engine().shims(), 0);
    b.start_engine()?;
    assert_eq!(b.docker_ok(["ps", "-q"])?, "");
    // Left running for the teardown to find.
    b.docker_ok(["start", "web"])?;
    a.docker_ok(["start", "web"])?;

    ledger.clear()?;
    assert_eq!(traces(&id), Vec::<String>::new());
    assert!(!work.exists());
    Ok(())
}

#[test]
fn oldest_engine_keeps_its_promises() -> Result<()> {
    engine_keeps_its_promises(EngineGeneration::Debian2010)
}

#[test]
fn current_engine_keeps_its_promises() -> Result<()> {
    engine_keeps_its_promises(EngineGeneration::Current)
}

#[test]
fn control_plane_keeps_its_promises() -> Result<()> {
    let ledger = Ledger::create(None)?;
    let (id, work) = (ledger.id(), ledger.work());
    let plane = ControlPlane::start(
        &ledger,
        &ControlPlaneOptions {
            audit: true,
            ..ControlPlaneOptions::default()
        },
    )?;
    let kubectl = plane.kubectl();

    // A token that hangs on a Secret, as a host's does.
    kubectl.ok(["create", "namespace", "place"])?;
    kubectl.ok(["create", "serviceaccount", "someone", "-n", "place"])?;
    kubectl.ok(["create", "secret", "generic", "someone", "-n", "place"])?;
    let someone = plane.account_kubeconfig(
        "someone",
        plane.server(),
        ("place", "someone"),
        Some("someone"),
    )?;
    let someone = kubectl.as_user(someone);
    let who = someone.json(["auth", "whoami"])?;
    assert_eq!(
        who["status"]["userInfo"]["username"],
        "system:serviceaccount:place:someone"
    );
    assert!(
        !someone.run(["get", "secrets", "-n", "place"])?.success,
        "RBAC is off"
    );

    // Garbage collection works.
    let owner = kubectl.json(["create", "configmap", "owner", "-n", "place"])?;
    kubectl.apply(
        &serde_json::json!({
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {
                "name": "owned",
                "namespace": "place",
                "ownerReferences": [{
                    "apiVersion": "v1",
                    "kind": "ConfigMap",
                    "name": "owner",
                    "uid": owner["metadata"]["uid"],
                }],
            },
        })
        .to_string(),
    )?;
    kubectl.ok(["delete", "configmap", "owner", "-n", "place"])?;
    wait_until("the owned ConfigMap to be collected", SOON, || {
        Ok(kubectl.get("configmap", "place", "owned")?.is_none())
    })?;

    // Every request is counted.
    let since = plane.audit().context("audit")?.from_now()?;
    kubectl.ok(["create", "configmap", "counted", "-n", "place"])?;
    wait_until("the write to be in the audit log", SOON, || {
        Ok(since.counts()?.iter().any(|(request, count)| {
            request.user == "admin"
                && request.verb == "create"
                && request.resource == "configmaps"
                && *count == 1
        }))
    })?;

    // The API server goes and comes back with what it knew.
    plane.stop_api()?;
    assert!(!kubectl.run(["get", "--raw", "/readyz"])?.success);
    plane.start_api()?;
    assert!(kubectl.get("configmap", "place", "counted")?.is_some());
    plane.api()?.restart()?;
    plane.start_api()?;
    assert!(someone.run(["auth", "whoami"])?.success);

    // The token ends with its Secret.
    kubectl.ok(["delete", "secret", "someone", "-n", "place"])?;
    wait_until("the token to end", SOON, || {
        Ok(!someone.run(["auth", "whoami"])?.success)
    })?;

    drop(plane);
    drop(ledger);
    assert_eq!(traces(&id), Vec::<String>::new());
    assert!(!work.exists());
    Ok(())
}

#[test]
fn a_lab_leaves_the_cluster_that_it_was_given_as_it_was() -> Result<()> {
    let ledger = Ledger::create(None)?;
    // On loopback, as clusters in containers of this machine are.
    let plane = ControlPlane::start(&ledger, &ControlPlaneOptions::default())?;
    let kubectl = plane.kubectl();
    let before = inventory(kubectl)?;
    let lab = || {
        Lab::builder()
            .hosts(1, EngineGeneration::Debian2010)
            .kubeconfig(plane.admin_kubeconfig())
    };

    // One that does not come up, when its operator is there already.
    let failed = lab().agent_binary("/bin/false").start();
    let error = failed.err().context("it came up without an agent")?;
    assert!(format!("{error:#}").contains("/bin/false"), "{error:#}");
    is_again(kubectl, &before)?;

    let lab = lab().start()?;
    let id = lab.ledger().id();
    // Of those who use it, the lab knows nothing.
    kubectl.apply_path(&paths::source_root()?.join("examples/hello"))?;
    kubectl.ok([
        "wait",
        "--for=condition=Ready",
        "tsvc/hello",
        "--timeout=60s",
    ])?;
    assert_ne!(inventory(kubectl)?, before);
    lab.down()?;
    is_again(kubectl, &before)?;
    assert_eq!(traces(&id), Vec::<String>::new());
    Ok(())
}
