//! iptables in the root namespace: the few rules of our bridge, and what an engine started there leaves behind.
//!
//! An engine in a host's own namespace needs no care: its rules go with the namespace.

use std::fs;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use crate::command::Tool;
use crate::state::Ledger;

const FORWARDING: &str = "/proc/sys/net/ipv4/ip_forward";
const ENGINE_BRIDGE: &str = "docker0";

/// What the engine's bridge is given, see [`crate::engine::BRIDGE_ADDRESS`].
const ENGINE_ADDRESSES: &str = "172.17.";

fn iptables(table: &str) -> Tool {
    Tool::new("iptables").args(["--wait", "20", "-t", table])
}

/// Puts a rule at the head of a chain: `rule` is `[table, chain, rule...]`.
///
/// # Errors
/// When iptables refuses.
pub fn insert(ledger: &Ledger, rule: &[&str]) -> Result<()> {
    let (table, chain, rest) = split(rule)?;
    ledger.update(|state| {
        state
            .firewall_rules
            .push(rule.iter().map(|&part| part.to_owned()).collect());
    })?;
    iptables(table).args(["-I", chain]).args(rest).check()?;
    Ok(())
}

/// Takes such a rule away; fine when it is not there.
///
/// # Errors
/// When iptables refuses.
pub fn remove(rule: &[String]) -> Result<()> {
    let rule: Vec<&str> = rule.iter().map(String::as_str).collect();
    let (table, chain, rest) = split(&rule)?;
    while iptables(table)
        .args(["-C", chain])
        .args(rest)
        .run()?
        .success
    {
        iptables(table).args(["-D", chain]).args(rest).check()?;
    }
    Ok(())
}

/// The address of an agent's metadata endpoint.
const AGENT_ADDRESS: &str = "169.254.170.2/32";
/// What an agent writes beside its rules.
const AGENT_MARK: &str = "--comment tallyman ";

/// Notes that an agent starts in the root namespace, unless one was there already.
///
/// # Errors
/// When `ip` does not answer.
pub fn expect_agent(ledger: &Ledger) -> Result<()> {
    let addresses = Tool::new("ip")
        .args(["-oneline", "address", "show", "dev", "lo"])
        .check()?;
    if addresses.contains(AGENT_ADDRESS) {
        return Ok(());
    }
    ledger.update(|state| state.agent_address = true)
}

/// Takes away what an agent in the root namespace leaves when it is killed.
///
/// # Errors
/// When something cannot be removed.
pub fn remove_agent() -> Result<()> {
    let rules = iptables("nat").arg("-S").check()?;
    for rule in rules.lines().filter(|line| line.contains(AGENT_MARK)) {
        let deletion = rule.replacen("-A", "-D", 1);
        iptables("nat").args(deletion.split(' ')).check()?;
    }
    let addresses = Tool::new("ip")
        .args(["-oneline", "address", "show", "dev", "lo"])
        .check()?;
    if addresses.contains(AGENT_ADDRESS) {
        Tool::new("ip")
            .args(["address", "delete", AGENT_ADDRESS, "dev", "lo"])
            .check()?;
    }
    Ok(())
}

fn split<'a, 'b>(rule: &'b [&'a str]) -> Result<(&'a str, &'a str, &'b [&'a str])> {
    match rule {
        [table, chain, rest @ ..] => Ok((table, chain, rest)),
        _ => anyhow::bail!("a rule has a table and a chain"),
    }
}

/// The root namespace before an engine was started in it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Before {
    forwarding: String,
    forward_policy: String,
}

impl Before {
    /// Takes a note, unless an engine's traces are there already: then they are not ours to remove.
    ///
    /// # Errors
    /// When iptables does not answer.
    pub fn observe() -> Result<Option<Self>> {
        let filter = iptables("filter").arg("-S").check()?;
        let engine_was_here = fs::exists(format!("/sys/class/net/{ENGINE_BRIDGE}"))?
            || filter.lines().any(|line| line.starts_with("-N DOCKER"));
        if engine_was_here {
            return Ok(None);
        }
        Ok(Some(Before {
            forwarding: fs::read_to_string(FORWARDING)
                .context(FORWARDING)?
                .trim()
                .to_owned(),
            forward_policy: forward_policy(&filter).unwrap_or("ACCEPT").to_owned(),
        }))
    }

    /// Removes the engine's bridge, chains and rules, and sets back what it changed.
    ///
    /// # Errors
    /// When something cannot be removed.
    pub fn restore(&self) -> Result<()> {
        for table in ["filter", "nat"] {
            for line in deletions(&iptables(table).arg("-S").check()?) {
                iptables(table).args(&line).check()?;
            }
        }
        iptables("filter")
            .args(["-P", "FORWARD", &self.forward_policy])
            .check()?;
        if fs::exists(format!("/sys/class/net/{ENGINE_BRIDGE}"))? {
            Tool::new("ip")
                .args(["link", "delete", ENGINE_BRIDGE])
                .check()?;
        }
        fs::write(FORWARDING, &self.forwarding).context(FORWARDING)?;
        Ok(())
    }
}

fn forward_policy(rules: &str) -> Option<&str> {
    rules
        .lines()
        .find_map(|line| line.strip_prefix("-P FORWARD "))
}

/// Commands that remove an engine's rules and chains from a table listed by `iptables -S`: rules first, for a chain goes only when empty.
fn deletions(rules: &str) -> Vec<Vec<String>> {
    let words = |line: &str| {
        line.split_whitespace()
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    let is_engines = |line: &str| {
        let words = words(line);
        // A container that calls its own published port is masqueraded by a rule that names its address alone.
        let to_itself = words
            .windows(4)
            .any(|w| matches!(w, [s, from, d, to] if s == "-s" && d == "-d" && from == to && is_container(from)));
        to_itself
            || words
                .iter()
                .any(|word| word.starts_with("DOCKER") || word == ENGINE_BRIDGE)
    };
    let mut commands = Vec::new();
    for line in rules
        .lines()
        .filter(|line| line.starts_with("-A ") && is_engines(line))
    {
        let mut command = words(line);
        if let Some(verb) = command.first_mut() {
            "-D".clone_into(verb);
        }
        commands.push(command);
    }
    for chain in rules
        .lines()
        .filter_map(|line| line.strip_prefix("-N DOCKER"))
    {
        commands.push(vec!["-X".into(), format!("DOCKER{chain}")]);
    }
    commands
}

/// `172.17.0.2/32`: a container of the engine that was started here.
fn is_container(address: &str) -> bool {
    address.starts_with(ENGINE_ADDRESSES) && address.ends_with("/32")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_engines_rules_go_before_its_chains_and_others_stay() {
        let rules = "\
-P FORWARD DROP
-N DOCKER
-N DOCKER-USER
-N MINE
-A FORWARD -j DOCKER-USER
-A FORWARD -o docker0 -j DOCKER
-A FORWARD -i eth0 -j MINE
-A DOCKER-USER -j RETURN
-A POSTROUTING -s 172.17.0.2/32 -d 172.17.0.2/32 -p tcp -m tcp --dport 80 -j MASQUERADE
-A POSTROUTING -s 10.1.0.2/32 -d 10.1.0.2/32 -p tcp -m tcp --dport 80 -j MASQUERADE
";
        let commands: Vec<String> = deletions(rules)
            .iter()
            .map(|command| command.join(" "))
            .collect();
        assert_eq!(
            commands,
            [
                "-D FORWARD -j DOCKER-USER",
                "-D FORWARD -o docker0 -j DOCKER",
                "-D DOCKER-USER -j RETURN",
                "-D POSTROUTING -s 172.17.0.2/32 -d 172.17.0.2/32 -p tcp -m tcp --dport 80 -j MASQUERADE",
                "-X DOCKER",
                "-X DOCKER-USER",
            ]
        );
        assert_eq!(forward_policy(rules), Some("DROP"));
    }
}
