//! A network of a kernel, as far as the commands of faults go.

use super::*;

/// A kernel's network, as far as the commands go.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Net {
    /// Rules by tool and chain.
    pub chains: BTreeMap<(String, String), Vec<String>>,
    /// Tool, built-in chain, and the chain that it jumps to.
    pub jumps: BTreeSet<(String, String, String)>,
    /// The root queue, with what is below.
    pub root: Option<Queues>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Queues {
    pub netem: Option<String>,
    pub filters: Vec<String>,
}

/// Tools that work on such a network, and write down what they were asked.
pub struct Fake {
    pub net: Mutex<Net>,
    pub lines: Mutex<Vec<String>>,
    /// The nth command that changes something fails.
    pub fails: Option<usize>,
    /// There is no `ip6tables` that works.
    pub v4_only: bool,
    /// It has no kind of queue called so.
    pub lacks: Option<&'static str>,
}

impl Fake {
    pub fn new() -> Self {
        Self {
            net: Mutex::default(),
            lines: Mutex::default(),
            fails: None,
            v4_only: false,
            lacks: None,
        }
    }

    pub fn net(&self) -> Net {
        self.net.lock().unwrap().clone()
    }

    pub fn transcript(&self) -> String {
        std::mem::take(&mut *self.lines.lock().unwrap()).join("\n")
    }

    fn changes(&self, words: &[&str]) -> Result<(), String> {
        let mut net = self.net.lock().unwrap();
        match *words {
            [
                "tc",
                "qdisc",
                "add",
                "dev",
                "eth0",
                "root",
                "handle",
                "1:",
                kind,
                ..,
            ] => {
                if self.lacks == Some(kind) {
                    return Err("Error: Specified qdisc kind is unknown.".to_owned());
                }
                if net.root.is_some() {
                    return Err("Error: Exclusivity flag on, cannot modify.".to_owned());
                }
                net.root = Some(Queues::default());
            }
            [
                "tc",
                "qdisc",
                "add",
                ..,
                "parent",
                "1:1",
                "handle",
                "10:",
                kind,
                option,
                a,
            ] => {
                if self.lacks == Some(kind) {
                    return Err("Error: Specified qdisc kind is unknown.".to_owned());
                }
                let root = net.root.as_mut().ok_or("Error: no parent.")?;
                root.netem = Some(format!("{option} {a}"));
            }
            [
                "tc",
                "qdisc",
                "add",
                ..,
                "parent",
                "1:1",
                "handle",
                "10:",
                "netem",
                option,
                a,
                b,
            ] => {
                let root = net.root.as_mut().ok_or("Error: no parent.")?;
                root.netem = Some(format!("{option} {a} {b}"));
            }
            [
                "tc",
                "filter",
                "add",
                "dev",
                "eth0",
                ..,
                "dst",
                address,
                "flowid",
                band,
            ] => {
                let root = net.root.as_mut().ok_or("Error: no parent.")?;
                root.filters.push(format!("{address} {band}"));
            }
            ["tc", "qdisc", "del", .., "parent", "1:1", "handle", "10:"] => {
                let root = net.root.as_mut().ok_or("Error: no parent.")?;
                root.netem.take().ok_or("Error: no such qdisc.")?;
            }
            ["tc", "qdisc", "del", .., "root", "handle", "1:", "prio"] => {
                net.root.take().ok_or("Error: no such qdisc.")?;
            }
            [tool, "-w", "5", verb, chain, ref rest @ ..] if tool.ends_with("tables") => {
                if self.v4_only && tool == "ip6tables" {
                    return Err("ip6tables: Address family not supported by protocol.".to_owned());
                }
                net.firewall(tool, verb, chain, rest)?;
            }
            _ => panic!("{words:?}"),
        }
        Ok(())
    }

    fn looks(&self, words: &[&str]) -> Option<Ran> {
        let net = self.net.lock().unwrap();
        let says = |out: String| Ran {
            code: Some(0),
            out,
            ..Ran::default()
        };
        Some(match *words {
            ["ip", "-j", "address", "show"] => says(
                json!([
                    { "ifname": "lo", "addr_info": [{ "local": "127.0.0.1" }, { "local": "::1" }] },
                    { "ifname": "eth0", "addr_info": [{ "local": "172.18.0.5" }] },
                ])
                .to_string(),
            ),
            ["ip", "-j", "route", "show", "default"] => says(
                json!([{ "dst": "default", "gateway": "10.0.0.1", "dev": "eth0" }]).to_string(),
            ),
            ["tc", "-j", "q", "show", "dev", "eth0", "parent", "1:1"] => {
                let netem = net.root.as_ref().and_then(|root| root.netem.as_deref());
                says(match netem.and_then(|netem| netem.split_once(' ')) {
                    Some(("delay", _)) => json!([{ "kind": "netem", "options": { "limit": 1000, "delay": { "delay": 0.2 } } }])
                        .to_string(),
                    Some(_) => json!([{ "kind": "netem", "options": { "limit": 1000, "loss-random": { "loss": 0.3 } } }])
                        .to_string(),
                    None => "[]".to_owned(),
                })
            }
            ["iptables", "-w", "5", "-C", chain, ..] => {
                let rules = net.chains.get(&("iptables".to_owned(), chain.to_owned()));
                let there =
                    rules.is_some_and(|rules| rules.iter().any(|rule| rule.ends_with("DROP")));
                Ran {
                    code: Some(i32::from(!there)),
                    ..Ran::default()
                }
            }
            _ => return None,
        })
    }
}

impl Net {
    fn firewall(
        &mut self,
        tool: &str,
        verb: &str,
        chain: &str,
        rest: &[&str],
    ) -> Result<(), String> {
        let key = (tool.to_owned(), chain.to_owned());
        let none = || "No chain/target/match by that name.".to_owned();
        match (verb, rest) {
            ("-N", []) => match self.chains.insert(key, Vec::new()) {
                None => Ok(()),
                Some(_) => Err("Chain already exists.".to_owned()),
            },
            ("-A", rule) => {
                let rules = self.chains.get_mut(&key).ok_or_else(none)?;
                rules.push(rule.join(" "));
                Ok(())
            }
            ("-I", ["-j", target]) => {
                let jump = (tool.to_owned(), chain.to_owned(), (*target).to_owned());
                self.jumps.insert(jump);
                Ok(())
            }
            ("-F", []) => {
                self.chains.get_mut(&key).ok_or_else(none)?.clear();
                Ok(())
            }
            ("-D", ["-j", target]) => {
                let jump = (tool.to_owned(), chain.to_owned(), (*target).to_owned());
                self.jumps.remove(&jump).then_some(()).ok_or_else(none)
            }
            ("-X", []) => self.chains.remove(&key).map(drop).ok_or_else(none),
            _ => panic!("{tool} {verb} {chain} {rest:?}"),
        }
    }
}

impl Tools for Fake {
    fn run(&self, command: &Command) -> Result<Ran, NotRun> {
        let mut log = self.lines.lock().unwrap();
        log.push(command.to_string());
        let words: Vec<&str> = command.words().iter().map(String::as_str).collect();
        let words = match words.as_slice() {
            ["nsenter", "--net=/proc/77/ns/net", inside @ ..] => inside,
            other => other,
        };
        if let Some(ran) = self.looks(words) {
            return Ok(ran);
        }
        let changes = |line: &&String| {
            let looks = ["ip -j", "tc -j", " -C "];
            !looks.iter().any(|look| line.contains(look))
        };
        let nth = log.iter().filter(changes).count();
        drop(log);
        let done = if self.fails == Some(nth) {
            Err("it is broken".to_owned())
        } else {
            self.changes(words)
        };
        Ok(match done {
            Ok(()) => Ran {
                code: Some(0),
                ..Ran::default()
            },
            Err(err) => Ran {
                code: Some(2),
                err,
                ..Ran::default()
            },
        })
    }
}
