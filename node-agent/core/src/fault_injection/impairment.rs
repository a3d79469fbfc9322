//! Packets that are late or lost: a queue of the interface (`netem`) for packets to some addresses, beside the usual one. There
//! is one such fault at a time, as in ECS.

use serde::Deserialize;
use serde_json::Value;

use crate::fault_injection::place::read;
use crate::fault_injection::request::{Latency, PacketLoss, Request, Source, Targets};
use crate::fault_injection::tools::{Shell, Tools};
use crate::fault_injection::{Act, Answer, Kind, Status, Trouble};
use crate::metadata::inject::ADDRESS;

/// Every packet goes to the third band, unless a filter says otherwise; the first is the impaired one.
const BANDS: &str = "prio priomap 2 2 2 2 2 2 2 2 2 2 2 2 2 2 2 2";

/// A line of `tc -j q show`.
#[derive(Deserialize)]
struct Queue {
    #[serde(default)]
    kind: String,
    #[serde(default)]
    options: Value,
}

pub(super) fn perform<T: Tools>(
    act: Act,
    request: &Request,
    shell: &Shell<'_, T>,
) -> Result<Answer, Trouble> {
    let there = there(shell)?;
    let runs = there == Some(request.kind());
    let status = match (act, runs) {
        (Act::Status, true) => Status::Running,
        (Act::Status, false) => Status::NotRunning,
        (Act::Stop, true) => {
            stop(shell)?;
            Status::Stopped
        }
        (Act::Stop, false) => Status::Stopped,
        (Act::Start, _) => {
            if let Some(other) = there {
                return Ok(Answer::Conflict(conflict(other)));
            }
            let (netem, to) = match request {
                Request::Latency(Some(latency)) => delay(latency),
                Request::PacketLoss(Some(loss)) => lose(loss),
                Request::Latency(None) | Request::PacketLoss(None) | Request::BlackHole(_) => {
                    let words = "the request does not say what is to start".to_owned();
                    return Ok(Answer::Invalid(words));
                }
            };
            start(&netem, to, shell)?;
            Status::Running
        }
    };
    Ok(Answer::Done(status))
}

fn conflict(there: Kind) -> String {
    let name = match there {
        Kind::Latency => "network latency",
        Kind::PacketLoss => "network packet loss",
        Kind::BlackHolePort => "network blackhole port",
    };
    format!("There is already one {name} fault running")
}

/// The fault that is there.
fn there<T: Tools>(shell: &Shell<'_, T>) -> Result<Option<Kind>, Trouble> {
    let interface = &shell.network.interface;
    let line = format!("tc -j q show dev {interface} parent 1:1");
    let queues: Vec<Queue> = read(&line, &shell.line(&line)?.out)?;
    let kind = |queue: Queue| {
        let has = |option: &str| queue.options.get(option).is_some_and(|v| !v.is_null());
        match queue.kind.as_str() {
            "netem" if has("delay") => Some(Kind::Latency),
            "netem" if has("loss-random") => Some(Kind::PacketLoss),
            _ => None,
        }
    };
    Ok(queues.into_iter().find_map(kind))
}

fn delay(latency: &Latency) -> (String, &Targets) {
    let Latency { delay, jitter, to } = latency;
    (format!("delay {delay}ms {jitter}ms"), to)
}

fn lose(loss: &PacketLoss) -> (String, &Targets) {
    let PacketLoss { percent, to } = loss;
    (format!("loss {percent}%"), to)
}

fn start<T: Tools>(netem: &str, to: &Targets, shell: &Shell<'_, T>) -> Result<(), Trouble> {
    let interface = &shell.network.interface;
    for line in up(interface, netem, to) {
        if let Err(trouble) = shell.line(&line) {
            // Nothing is left that would be in the way of the next one.
            shell.undo(&root_down(interface));
            return Err(trouble);
        }
    }
    Ok(())
}

fn up(interface: &str, netem: &str, to: &Targets) -> Vec<String> {
    let filter = |priority: u8, v6: bool, address: &str, band: u8| {
        let family = if v6 { "ip6" } else { "ip" };
        format!(
            "tc filter add dev {interface} protocol all parent 1:0 prio {priority} u32 match {family} dst {address} \
             flowid 1:{band}"
        )
    };
    let spared = |source: &Source| filter(1, source.v6, &source.text, 3);
    let hit = |source: &Source| filter(2, source.v6, &source.text, 1);
    let mut lines = vec![
        format!("tc qdisc add dev {interface} root handle 1: {BANDS}"),
        format!("tc qdisc add dev {interface} parent 1:1 handle 10: netem {netem}"),
        // Whoever asks for this must be able to ask for its end.
        filter(1, false, &ADDRESS.to_string(), 3),
    ];
    lines.extend(to.spared.iter().map(spared));
    lines.extend(to.sources.iter().map(hit));
    lines
}

fn stop<T: Tools>(shell: &Shell<'_, T>) -> Result<(), Trouble> {
    let interface = &shell.network.interface;
    let impaired = format!("tc qdisc del dev {interface} parent 1:1 handle 10:");
    shell.line(&impaired)?;
    shell.line(&root_down(interface))?;
    Ok(())
}

fn root_down(interface: &str) -> String {
    format!("tc qdisc del dev {interface} root handle 1: prio")
}

/// What a host must be able to do for it.
pub(super) fn rehearsal() -> Vec<String> {
    let everybody = Source {
        text: "0.0.0.0/0".to_owned(),
        v6: false,
    };
    let to = Targets {
        sources: vec![everybody],
        spared: Vec::new(),
    };
    up("lo", "delay 1ms 0ms", &to)
}
