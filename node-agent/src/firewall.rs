//! Rules of ours in the host's firewall.

use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, bail};
use tokio::process::Command;
use tracing::{info, warn};

/// For one call, with its wait for other users of the firewall.
const PATIENCE: Duration = Duration::from_secs(10);
/// Between looks whether the rules are still there: whoever reloads a firewall takes them away.
const EVERY: Duration = Duration::from_secs(20);

/// Rules that are there for one purpose.
#[derive(Clone, Debug)]
pub struct Rules {
    /// What holds while they are there, as a clause.
    pub purpose: &'static str,
    /// Of one table of `iptables`.
    pub table: &'static str,
    /// Chains of that table, each of which has the rule.
    pub chains: &'static [&'static str],
    /// Which packets, and what becomes of them.
    pub does: String,
}

#[derive(Clone, Copy)]
enum Verb {
    /// Fails when the rule is not there.
    Check,
    /// In front: others' rules may be about the same packets.
    Insert,
    Delete,
}

impl Rules {
    /// Puts them where they are missing.
    ///
    /// # Errors
    /// There is no `iptables`, or it refuses; in its words.
    pub async fn put(&self) -> anyhow::Result<()> {
        for chain in self.chains {
            if self.call(Verb::Check, chain).await.is_err() {
                self.call(Verb::Insert, chain).await?;
            }
        }
        Ok(())
    }

    /// Puts them back when they are gone, until dropped. `trouble`: they are not there yet.
    pub async fn keep(self, mut trouble: bool) {
        loop {
            tokio::time::sleep(EVERY).await;
            match self.put().await {
                Ok(()) if trouble => {
                    trouble = false;
                    info!("again it holds that {}", self.purpose);
                }
                Ok(()) => {}
                Err(error) if !trouble => {
                    trouble = true;
                    let error = format!("{error:#}");
                    warn!(error, "it may not hold any more that {}", self.purpose);
                }
                Err(_) => {}
            }
        }
    }

    /// Takes them away, where they are.
    pub async fn leave(&self) {
        for chain in self.chains {
            if self.call(Verb::Check, chain).await.is_err() {
                continue;
            }
            if let Err(error) = self.call(Verb::Delete, chain).await {
                let error = format!("{error:#}");
                info!(chain, error, "a rule of the firewall was not taken away");
            }
        }
    }

    async fn call(&self, verb: Verb, chain: &str) -> anyhow::Result<()> {
        let verb = match verb {
            Verb::Check => "-C",
            Verb::Insert => "-I",
            Verb::Delete => "-D",
        };
        let rule = format!(
            "-w 5 -t {} {verb} {chain} {} -m comment --comment tallyman",
            self.table, self.does
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
}
