//! A port whose packets are dropped: a chain of its own in the `filter` table, for IPv4 and for IPv6.

use crate::fault_injection::request::{BlackHole, Direction, Source};
use crate::fault_injection::tools::{Shell, Tools};
use crate::fault_injection::{Act, Answer, Status, Trouble};
use crate::metadata::inject::{ADDRESS, PORT};

/// Where SDKs look for credentials, and clients of metadata v2 for everything.
const OLD_PORT: u16 = 80;
/// Seconds that `iptables` waits for other users of the firewall.
const WAIT: &str = "-w 5";

/// `iptables` and `ip6tables`, with what is everybody there.
const FAMILIES: [(&str, &str, bool); 2] = [
    ("iptables", "0.0.0.0/0", false),
    ("ip6tables", "::/0", true),
];

pub(super) fn perform<T: Tools>(
    act: Act,
    hole: &BlackHole,
    shell: &Shell<'_, T>,
) -> Result<Answer, Trouble> {
    let runs = runs(hole, shell)?;
    let status = match (act, runs) {
        (Act::Start, true) => Status::Running,
        (Act::Start, false) => {
            start(hole, shell)?;
            Status::Running
        }
        (Act::Stop, true) => {
            stop(hole, shell)?;
            Status::Stopped
        }
        (Act::Stop, false) => Status::Stopped,
        (Act::Status, true) => Status::Running,
        (Act::Status, false) => Status::NotRunning,
    };
    Ok(Answer::Done(status))
}

/// Whether it is there; IPv4 speaks for both, as in ECS.
fn runs<T: Tools>(hole: &BlackHole, shell: &Shell<'_, T>) -> Result<bool, Trouble> {
    let BlackHole { port, protocol, .. } = hole;
    let chain = chain(hole);
    let line = format!("iptables {WAIT} -C {chain} -p {protocol} --dport {port} -j DROP");
    match shell.try_line(&line)?.code {
        Some(0) => Ok(true),
        // There is no such rule, or no such chain.
        Some(1) => Ok(false),
        Some(_) | None => shell.line(&line).map(|_| true),
    }
}

fn start<T: Tools>(hole: &BlackHole, shell: &Shell<'_, T>) -> Result<(), Trouble> {
    for (tool, everybody, v6) in FAMILIES {
        let mut begun = Ok(());
        for line in chain_up(hole, tool, everybody, v6) {
            begun = shell.line(&line).map(drop);
            if begun.is_err() {
                break;
            }
        }
        match begun {
            Ok(()) => {}
            // A host without IPv6 has none to drop; it is tidied up all the same.
            Err(_) if v6 && !shell.network.ipv6 => take_down(hole, tool, shell),
            Err(trouble) => {
                for (tool, _, _) in FAMILIES {
                    take_down(hole, tool, shell);
                }
                return Err(trouble);
            }
        }
    }
    Ok(())
}

fn stop<T: Tools>(hole: &BlackHole, shell: &Shell<'_, T>) -> Result<(), Trouble> {
    for (tool, _, v6) in FAMILIES {
        for line in chain_down(hole, tool) {
            match shell.line(&line) {
                Ok(_) => {}
                Err(_) if v6 && !shell.network.ipv6 => break,
                Err(trouble) => return Err(trouble),
            }
        }
    }
    Ok(())
}

fn take_down<T: Tools>(hole: &BlackHole, tool: &str, shell: &Shell<'_, T>) {
    for line in chain_down(hole, tool) {
        shell.undo(&line);
    }
}

/// The chain is complete before packets meet it.
fn chain_up(hole: &BlackHole, tool: &str, everybody: &str, v6: bool) -> Vec<String> {
    let BlackHole {
        port,
        protocol,
        direction,
        spared,
    } = hole;
    let chain = chain(hole);
    let rule = |side: &str, address: &str, verdict: &str| {
        format!(
            "{tool} {WAIT} -A {chain} -p {protocol} {side} {address} --dport {port} -j {verdict}"
        )
    };
    let side = match direction {
        Direction::Ingress => "-s",
        Direction::Egress => "-d",
    };
    let mut lines = vec![format!("{tool} {WAIT} -N {chain}")];
    // Whoever asks for this must be able to ask for its end.
    if !v6 && [PORT, OLD_PORT].contains(port) {
        lines.push(rule("-d", &ADDRESS.to_string(), "ACCEPT"));
    }
    let same = spared.iter().filter(|source: &&Source| source.v6 == v6);
    lines.extend(same.map(|source| rule(side, &source.text, "ACCEPT")));
    lines.push(rule("-d", everybody, "DROP"));
    lines.push(format!("{tool} {WAIT} -I {} -j {chain}", table(hole)));
    lines
}

fn chain_down(hole: &BlackHole, tool: &str) -> [String; 3] {
    let chain = chain(hole);
    [
        format!("{tool} {WAIT} -F {chain}"),
        format!("{tool} {WAIT} -D {} -j {chain}", table(hole)),
        format!("{tool} {WAIT} -X {chain}"),
    ]
}

fn table(hole: &BlackHole) -> &'static str {
    match hole.direction {
        Direction::Ingress => "INPUT",
        Direction::Egress => "OUTPUT",
    }
}

/// Its name says what it does, as in ECS.
fn chain(hole: &BlackHole) -> String {
    let direction = match hole.direction {
        Direction::Ingress => "ingress",
        Direction::Egress => "egress",
    };
    format!("{direction}-{}-{}", hole.protocol, hole.port)
}

/// What a host must be able to do for it.
pub(super) fn rehearsal() -> Vec<String> {
    let hole = BlackHole {
        port: 1,
        protocol: "tcp",
        direction: Direction::Egress,
        spared: Vec::new(),
    };
    chain_up(&hole, "iptables", "0.0.0.0/0", false)
}
