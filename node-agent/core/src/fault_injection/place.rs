//! Whose network a fault is for.

use std::net::IpAddr;

use serde::Deserialize;
use tallyman_agent_engine::Network as EngineNetwork;

use crate::fault_injection::tools::{Command, Tools, must, run};
use crate::fault_injection::{Answer, Trouble};
use crate::metadata::{Place as HostPlace, TaskSight};
use crate::pause;

/// Where the network of a task is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// It is the host's (network mode `host`).
    Host,
    /// It is its own (`awsvpc`).
    Own {
        /// The process that holds it.
        pid: u32,
        /// Addresses that the task has there.
        addresses: Vec<IpAddr>,
    },
}

/// Why a task gets no faults (ECS' own words).
pub fn refused(sight: &TaskSight, host: &HostPlace, container: &str) -> Option<Answer> {
    let task = &sight.task;
    if !task.fault_injection {
        let arn = host.arns().task(&task.cluster, &task.name);
        let words = format!("enableFaultInjection is not enabled for task: {arn}");
        return Some(Answer::Invalid(words));
    }
    let mode = match sight.planned(container)?.network() {
        EngineNetwork::Host | EngineNetwork::Container(_) => return None,
        EngineNetwork::Bridge | EngineNetwork::Named(_) => "bridge",
        EngineNetwork::None => "none",
    };
    Some(Answer::Invalid(format!(
        "{mode} mode is not supported. Please use either host or awsvpc mode."
    )))
}

impl Place {
    /// The place of a task that is not [`refused`]; `None` when its network is not there at the moment.
    pub fn of(sight: &TaskSight, container: &str) -> Option<Self> {
        match sight.planned(container)?.network() {
            EngineNetwork::Host => Some(Self::Host),
            EngineNetwork::Container(_) => {
                let holder = sight.seen.get(pause::NAME)?;
                let addresses = sight.attachments(container).into_iter().flat_map(|one| {
                    let ipv4 = one.ipv4.map(|(address, _)| IpAddr::V4(address));
                    let ipv6 = one.ipv6.map(|(address, _)| IpAddr::V6(address));
                    ipv4.into_iter().chain(ipv6)
                });
                Some(Self::Own {
                    pid: holder.pid?,
                    addresses: addresses.collect(),
                })
            }
            EngineNetwork::Bridge | EngineNetwork::Named(_) | EngineNetwork::None => None,
        }
    }
}

/// The network of a task, found.
pub(super) struct Network {
    /// The process that holds it; `None` is the host's own.
    pid: Option<u32>,
    /// Its interface; empty when nobody needs it.
    pub(super) interface: String,
    /// It has an IPv6 address, so that what cannot be done for IPv6 matters.
    pub(super) ipv6: bool,
}

/// What `ip -j address show` says of an interface.
#[derive(Deserialize)]
struct Interface {
    #[serde(default)]
    ifname: String,
    #[serde(default)]
    addr_info: Vec<Address>,
}

#[derive(Deserialize)]
struct Address {
    local: Option<IpAddr>,
}

/// What `ip -j route show default` says of a route.
#[derive(Deserialize)]
struct Route {
    dev: Option<String>,
}

impl Network {
    /// Finds the network at `place`. One of its own is known by its addresses: a process id may mean somebody else by now, or
    /// another machine's process when the engine is not here.
    pub(super) fn find(
        place: &Place,
        needs_interface: bool,
        tools: &impl Tools,
    ) -> Result<Self, Trouble> {
        match place {
            Place::Host => {
                let interface = if needs_interface {
                    default_interface(tools)?
                } else {
                    String::new()
                };
                Ok(Self {
                    pid: None,
                    interface,
                    ipv6: false,
                })
            }
            Place::Own { pid, addresses } => {
                let line = "ip -j address show";
                let ran = run(tools, &Command::line(line).inside(*pid))?;
                let found: Vec<Interface> = read(line, &must(line, ran)?.out)?;
                let has = |one: &Interface| {
                    let mut own = one.addr_info.iter().filter_map(|a| a.local);
                    own.any(|local| addresses.contains(&local))
                };
                let Some(interface) = found.into_iter().find(has) else {
                    return Err(Trouble::Refused(format!(
                        "the network of process {pid} is not the task's: it has none of its addresses"
                    )));
                };
                Ok(Self {
                    pid: Some(*pid),
                    interface: interface.ifname,
                    ipv6: addresses.iter().any(IpAddr::is_ipv6),
                })
            }
        }
    }

    pub(super) fn command(&self, line: &str) -> Command {
        let command = Command::line(line);
        match self.pid {
            Some(pid) => command.inside(pid),
            None => command,
        }
    }
}

/// The host's interface to the world.
fn default_interface(tools: &impl Tools) -> Result<String, Trouble> {
    for line in ["ip -j route show default", "ip -j -6 route show default"] {
        let ran = run(tools, &Command::line(line))?;
        let routes: Vec<Route> = read(line, &must(line, ran)?.out)?;
        if let Some(dev) = routes.into_iter().find_map(|route| route.dev) {
            return Ok(dev);
        }
    }
    let words = "the host has no default route, and so no interface to the world";
    Err(Trouble::Refused(words.to_owned()))
}

/// Reads a list in JSON; nothing at all is an empty one.
pub(super) fn read<T: for<'a> Deserialize<'a>>(line: &str, out: &str) -> Result<Vec<T>, Trouble> {
    if out.trim().is_empty() {
        return Ok(Vec::new());
    }
    serde_json::from_str(out).map_err(|error| {
        Trouble::Refused(format!("`{line}` did not print what it should: {error}"))
    })
}
