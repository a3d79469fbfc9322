//! What a container is attached to, sees and uses, beyond its life: for those who ask, not for decisions.

use std::net::{Ipv4Addr, Ipv6Addr};

use crate::Moment;

/// One network that a container is attached to.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Attachment {
    /// The engine's name of the network.
    pub network: String,
    /// Its address there, with the length of the subnet's prefix.
    pub ipv4: Option<(Ipv4Addr, u8)>,
    /// Its global IPv6 address there, with the length of the subnet's prefix.
    pub ipv6: Option<(Ipv6Addr, u8)>,
    /// Hardware address, as the engine writes it.
    pub mac: Option<String>,
    /// Where its IPv4 packets leave.
    pub gateway: Option<Ipv4Addr>,
    /// Where its IPv6 packets leave.
    pub ipv6_gateway: Option<Ipv6Addr>,
}

/// One volume, or path of the host, that a container sees.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mounted {
    /// Path inside.
    pub destination: String,
    /// Path on the host.
    pub source: String,
    /// Name of the volume; `None` for a path of the host.
    pub volume: Option<String>,
}

/// One run of a container's health check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// When it ended.
    pub ended_at: Option<Moment>,
    /// 0: it passed.
    pub exit_code: i64,
    /// What it printed, as far as the engine keeps it.
    pub output: String,
}

/// What a running container uses, in the engine's own words (for Docker the object of
/// `GET /containers/<id>/stats`, a single sample): counters since the container started. ECS hands it on as it is.
pub type Stats = serde_json::Map<String, serde_json::Value>;
