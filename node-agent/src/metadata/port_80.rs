//! Port 80 of the endpoint's address, led to its own port by the host's firewall, as ECS' own init does it: SDKs look for
//! credentials there, and clients of metadata v2. Nobody listens on port 80 itself, which would keep Docker from
//! publishing it.

use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, bail};
use tallyman_agent_core::metadata::inject::{ADDRESS, PORT};
use tokio::process::Command;
use tracing::{info, warn};

/// What comes in from containers, and what starts on the host itself.
const CHAINS: [&str; 2] = ["PREROUTING", "OUTPUT"];
/// For one call, with its wait for other users of the firewall.
const PATIENCE: Duration = Duration::from_secs(10);
/// Between looks whether the rules are still there: whoever reloads a firewall takes them away.
const EVERY: Duration = Duration::from_secs(20);

#[derive(Clone, Copy)]
enum Verb {
    /// Fails when the rule is not there.
    Check,
    /// In front: a task that publishes port 80 on every address has a rule of Docker's for this one, too.
    Insert,
    Delete,
}

/// Puts the rules where they are missing.
///
/// # Errors
/// There is no `iptables`, or it refuses; in its words.
pub async fn lead() -> anyhow::Result<()> {
    for chain in CHAINS {
        if call(Verb::Check, chain).await.is_err() {
            call(Verb::Insert, chain).await?;
        }
    }
    Ok(())
}

/// Puts them back when they are gone, until dropped.
pub async fn keep() {
    let mut trouble = false;
    loop {
        tokio::time::sleep(EVERY).await;
        match lead().await {
            Ok(()) if trouble => {
                trouble = false;
                info!("port 80 of 169.254.170.2 leads to the task metadata endpoint again");
            }
            Ok(()) => {}
            Err(error) if !trouble => {
                trouble = true;
                let error = format!("{error:#}");
                warn!(
                    error,
                    "port 80 of 169.254.170.2 may not lead to the task metadata endpoint any more"
                );
            }
            Err(_) => {}
        }
    }
}

/// Takes the rules away.
pub async fn leave() {
    for chain in CHAINS {
        if let Err(error) = call(Verb::Delete, chain).await {
            let error = format!("{error:#}");
            info!(chain, error, "a rule of the firewall was not taken away");
        }
    }
}

async fn call(verb: Verb, chain: &str) -> anyhow::Result<()> {
    let verb = match verb {
        Verb::Check => "-C",
        Verb::Insert => "-I",
        Verb::Delete => "-D",
    };
    let rule = format!(
        "-w 5 -t nat {verb} {chain} -d {ADDRESS}/32 -p tcp --dport 80 -m comment --comment tallyman -j DNAT --to-destination {ADDRESS}:{PORT}"
    );
    let output = Command::new("iptables")
        .args(rule.split(' '))
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(PATIENCE, output)
        .await
        .context("iptables does not answer")?
        .context("cannot run iptables")?;
    if output.status.success() {
        return Ok(());
    }
    let words = String::from_utf8_lossy(&output.stderr);
    bail!("iptables: {}", words.trim())
}
