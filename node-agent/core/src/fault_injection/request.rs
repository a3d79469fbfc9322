//! What is asked for, read and validated (ECS fault injection, request parameters).

use std::net::IpAddr;

use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::fault_injection::{Act, Kind};

/// A fault as it is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// Drop packets of a port.
    BlackHole(BlackHole),
    /// Delay packets; `None` when only their end, or whether there are any, is asked for.
    Latency(Option<Latency>),
    /// Lose packets; likewise.
    PacketLoss(Option<PacketLoss>),
}

/// Packets of a port are dropped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlackHole {
    /// Port that packets go to.
    pub port: u16,
    /// `tcp` or `udp`.
    pub protocol: &'static str,
    /// Packets that come, or that go.
    pub direction: Direction,
    /// Whom the packets may come from, or go to, all the same.
    pub spared: Vec<Source>,
}

/// Which way packets go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// To the task.
    Ingress,
    /// From the task.
    Egress,
}

/// Packets are late.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Latency {
    /// Milliseconds.
    pub delay: u64,
    /// More or less by so many milliseconds.
    pub jitter: u64,
    /// Which ones.
    pub to: Targets,
}

/// Packets are lost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PacketLoss {
    /// Of a hundred, 1 to 100.
    pub percent: u64,
    /// Which ones.
    pub to: Targets,
}

/// Packets to whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Targets {
    /// To these; at least one.
    pub sources: Vec<Source>,
    /// But not to these.
    pub spared: Vec<Source>,
}

/// An address, or a block of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// As it was written.
    pub text: String,
    /// Of IPv6.
    pub v6: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct WrittenBlackHole {
    port: Option<u16>,
    protocol: Option<String>,
    traffic_type: Option<String>,
    sources_to_filter: Option<Vec<String>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct WrittenLatency {
    delay_milliseconds: Option<u64>,
    jitter_milliseconds: Option<u64>,
    sources: Option<Vec<String>>,
    sources_to_filter: Option<Vec<String>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct WrittenPacketLoss {
    loss_percent: Option<u64>,
    sources: Option<Vec<String>>,
    sources_to_filter: Option<Vec<String>>,
}

impl Request {
    /// Reads the body of a request. To end latency or loss, and to ask for it, needs none (ECS).
    ///
    /// # Errors
    /// What is missing or wrong, in ECS' words.
    pub fn read(kind: Kind, act: Act, body: &[u8]) -> Result<Self, String> {
        let starts = match act {
            Act::Start => true,
            Act::Stop | Act::Status => false,
        };
        Ok(match kind {
            Kind::BlackHolePort => Self::BlackHole(black_hole(parsed(body)?)?),
            Kind::Latency if starts => Self::Latency(Some(latency(parsed(body)?)?)),
            Kind::Latency => Self::Latency(None),
            Kind::PacketLoss if starts => Self::PacketLoss(Some(packet_loss(parsed(body)?)?)),
            Kind::PacketLoss => Self::PacketLoss(None),
        })
    }

    /// Which kind of fault it is about.
    pub fn kind(&self) -> Kind {
        match self {
            Self::BlackHole(_) => Kind::BlackHolePort,
            Self::Latency(_) => Kind::Latency,
            Self::PacketLoss(_) => Kind::PacketLoss,
        }
    }

    /// Whether it is about an interface, and not about all packets.
    pub(super) fn needs_interface(&self) -> bool {
        match self {
            Self::BlackHole(_) => false,
            Self::Latency(_) | Self::PacketLoss(_) => true,
        }
    }
}

fn parsed<T: DeserializeOwned>(body: &[u8]) -> Result<T, String> {
    if body.trim_ascii().is_empty() {
        return Err("required request body is missing".to_owned());
    }
    serde_json::from_slice(body)
        .map_err(|error| format!("the request body cannot be read: {error}"))
}

fn black_hole(written: WrittenBlackHole) -> Result<BlackHole, String> {
    let WrittenBlackHole {
        port,
        protocol,
        traffic_type,
        sources_to_filter,
    } = written;
    let port = port.ok_or_else(|| missing("Port"))?;
    let protocol = protocol.filter(|text| !text.is_empty());
    let protocol = protocol.ok_or_else(|| missing("Protocol"))?;
    let traffic = traffic_type.filter(|text| !text.is_empty());
    let traffic = traffic.ok_or_else(|| missing("TrafficType"))?;
    Ok(BlackHole {
        port,
        protocol: match protocol.as_str() {
            "tcp" => "tcp",
            "udp" => "udp",
            other => return Err(invalid(other, "Protocol")),
        },
        direction: match traffic.as_str() {
            "ingress" => Direction::Ingress,
            "egress" => Direction::Egress,
            other => return Err(invalid(other, "TrafficType")),
        },
        spared: sources(sources_to_filter, "SourcesToFilter")?,
    })
}

fn latency(written: WrittenLatency) -> Result<Latency, String> {
    let WrittenLatency {
        delay_milliseconds,
        jitter_milliseconds,
        sources,
        sources_to_filter,
    } = written;
    Ok(Latency {
        delay: delay_milliseconds.ok_or_else(|| missing("DelayMilliseconds"))?,
        jitter: jitter_milliseconds.ok_or_else(|| missing("JitterMilliseconds"))?,
        to: targets(sources, sources_to_filter)?,
    })
}

fn packet_loss(written: WrittenPacketLoss) -> Result<PacketLoss, String> {
    let WrittenPacketLoss {
        loss_percent,
        sources,
        sources_to_filter,
    } = written;
    let percent = loss_percent.ok_or_else(|| missing("LossPercent"))?;
    if !(1..=100).contains(&percent) {
        return Err(invalid(&percent.to_string(), "LossPercent"));
    }
    Ok(PacketLoss {
        percent,
        to: targets(sources, sources_to_filter)?,
    })
}

fn targets(written: Option<Vec<String>>, spared: Option<Vec<String>>) -> Result<Targets, String> {
    let sources_of = sources(written, "Sources")?;
    if sources_of.is_empty() {
        return Err(missing("Sources"));
    }
    Ok(Targets {
        sources: sources_of,
        spared: sources(spared, "SourcesToFilter")?,
    })
}

fn sources(written: Option<Vec<String>>, parameter: &str) -> Result<Vec<Source>, String> {
    let written = written.unwrap_or_default().into_iter();
    let read = |text: String| match family(&text) {
        Some(v6) => Ok(Source { text, v6 }),
        None => Err(invalid(&text, parameter)),
    };
    written.map(read).collect()
}

/// Whether an address or block is of IPv6; `None` when it is none.
fn family(text: &str) -> Option<bool> {
    let (address, length) = match text.split_once('/') {
        Some((address, length)) => (address, Some(length)),
        None => (text, None),
    };
    let address: IpAddr = address.parse().ok()?;
    let longest = if address.is_ipv6() { 128 } else { 32 };
    let fits = |length: &str| {
        let digits = length.bytes().all(|byte| byte.is_ascii_digit());
        digits && length.parse::<u8>().is_ok_and(|length| length <= longest)
    };
    length.is_none_or(fits).then_some(address.is_ipv6())
}

fn missing(parameter: &str) -> String {
    format!("required parameter {parameter} is missing")
}

fn invalid(value: &str, parameter: &str) -> String {
    format!("invalid value {value} for parameter {parameter}")
}
