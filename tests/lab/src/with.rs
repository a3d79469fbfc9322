//! Runs a command beside a control plane or beside engines: what `make test` gives to suites that need only a part of a lab.

use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::{ControlPlane, EngineGeneration, Host, HostOptions, Ledger, Network, interrupt};

/// Starts a control plane, and runs `command` with `KUBECONFIG` and `TALLYMAN_KUBECTL`.
///
/// # Errors
/// The control plane does not start, or the command fails.
pub fn control_plane(command: &[String]) -> Result<()> {
    let plane = ControlPlane::standalone()?;
    let kubectl = plane.kubectl();
    run(
        command,
        &[
            ("KUBECONFIG", path(kubectl.kubeconfig())?),
            ("TALLYMAN_KUBECTL", path(kubectl.program())?),
        ],
    )
}

/// Starts one host of each engine generation, and runs `command` with `TALLYMAN_TEST_ENGINES=NAME=SOCKET,...`.
///
/// # Errors
/// An engine does not start, or the command fails.
pub fn engines(command: &[String]) -> Result<()> {
    let ledger = Ledger::create(None)?;
    let network = Network::start(&ledger)?;
    let generations = [
        ("20.10", EngineGeneration::Debian2010),
        ("current", EngineGeneration::Current),
    ];
    let mut hosts = Vec::new();
    let mut engines = Vec::new();
    for (index, (name, generation)) in generations.into_iter().enumerate() {
        let options = HostOptions::new(generation);
        let host = Host::start(
            &network,
            &ledger,
            index,
            &format!("host-{}", index + 1),
            &options,
        )
        .with_context(|| format!("a host with Docker {name}"))?;
        engines.push(format!("{name}=unix://{}", path(host.engine_socket())?));
        hosts.push(host);
    }
    run(command, &[("TALLYMAN_TEST_ENGINES", engines.join(","))])
}

fn path(path: &Path) -> Result<String> {
    Ok(path.to_str().context("a path is no text")?.to_owned())
}

fn run(command: &[String], variables: &[(&str, String)]) -> Result<()> {
    let Some((program, args)) = command.split_first() else {
        bail!("no command was given");
    };
    let mut child = Command::new(program);
    child.args(args);
    for (key, value) in variables {
        child.env(key, value);
    }
    let status = child
        .status()
        .with_context(|| format!("{program} cannot be started"))?;
    interrupt::check();
    if !status.success() {
        bail!("{program} failed: {status}");
    }
    Ok(())
}
