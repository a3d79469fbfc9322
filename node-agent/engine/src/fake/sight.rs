//! What the fake tells of a container beyond its life: addresses, mounts, checks and use.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use serde_json::{Value, json};

use crate::{
    Attachment, Check, ContainerSpec, Health, Moment, Mount, MountSource, Mounted, Network,
    PhaseKind, Stats,
};

/// The first address of the bridge's subnet, 172.17.0.0.
const SUBNET: u32 = 0xac11_0000;
/// That of other networks, 172.30.0.0.
const NAMED_SUBNET: u32 = 0xac1e_0000;
/// That of networks beside its own, 172.31.0.0.
const BESIDE: u32 = 0xac1f_0000;
const NANOS_PER_MILLI: i64 = 1_000_000;

/// The container's place on the bridge and on networks beside it: addresses of its own, by its number. Sorted.
pub(super) fn attachments(
    network: &Network,
    beside: &BTreeSet<String>,
    phase: PhaseKind,
    number: u64,
) -> Vec<Attachment> {
    let own = match network {
        Network::Bridge => ("bridge", SUBNET),
        Network::Named(name) => (name.as_str(), NAMED_SUBNET),
        Network::Host | Network::None | Network::Container(_) => return Vec::new(),
    };
    if !phase.is_alive() {
        return Vec::new();
    }
    let host = u32::try_from(number % 65_000).unwrap_or_default() + 1;
    let attachment = |(name, subnet): (&str, u32)| {
        let address = Ipv4Addr::from(subnet | (host + 1));
        let [a, b, c, d] = address.octets();
        Attachment {
            network: name.to_owned(),
            ipv4: Some((address, 16)),
            ipv6: None,
            mac: Some(format!("02:42:{a:02x}:{b:02x}:{c:02x}:{d:02x}")),
            gateway: Some(Ipv4Addr::from(subnet | 1)),
            ipv6_gateway: None,
        }
    };
    let beside = beside.iter().map(|name| (name.as_str(), BESIDE));
    let mut all: Vec<Attachment> = std::iter::once(own).chain(beside).map(attachment).collect();
    all.sort();
    all
}

pub(super) fn mounted(mount: &Mount) -> Mounted {
    let Mount {
        source,
        path,
        read_only: _,
    } = mount;
    let destination = path.clone();
    match source {
        MountSource::HostPath(source) => Mounted {
            destination,
            source: source.clone(),
            volume: None,
        },
        MountSource::Volume(name) => Mounted {
            destination,
            source: format!("/var/lib/docker/volumes/{name}/_data"),
            volume: Some(name.clone()),
        },
    }
}

/// The run of the check that came to a verdict.
pub(super) fn check(verdict: Health, now: Moment) -> Option<Check> {
    let (exit_code, output) = match verdict {
        Health::Healthy => (0, "fine"),
        Health::Unhealthy => (1, "not fine"),
        Health::None | Health::Starting => return None,
    };
    Some(Check {
        ended_at: Some(now),
        exit_code,
        output: output.to_owned(),
    })
}

/// A tenth of a processor, a MiB of memory, and a kilobyte a second each way.
pub(super) fn stats(name: &str, id: &str, spec: &ContainerSpec, now: Moment, ran: i64) -> Stats {
    let nanos = |millis: i64| millis.saturating_mul(NANOS_PER_MILLI);
    let networks = match &spec.network {
        Network::Bridge | Network::Named(_) => json!({"eth0": {"rx_bytes": ran, "tx_bytes": ran}}),
        Network::Host | Network::None | Network::Container(_) => Value::Null,
    };
    let limit = spec.memory_bytes.unwrap_or(8 << 30);
    let mut stats = Stats::new();
    let fields = [
        ("name", json!(format!("/{name}"))),
        ("id", json!(id)),
        ("read", json!(time(now))),
        (
            "cpu_stats",
            json!({
                "cpu_usage": {"total_usage": nanos(ran) / 10},
                "system_cpu_usage": nanos(now.millis()).saturating_mul(4),
                "online_cpus": 4,
            }),
        ),
        ("memory_stats", json!({"usage": 1 << 20, "limit": limit})),
        ("pids_stats", json!({"current": 1})),
        ("networks", networks),
    ];
    for (field, value) in fields {
        if !value.is_null() {
            stats.insert(field.to_owned(), value);
        }
    }
    stats
}

/// RFC 3339 of a moment within a day of time zero, which is as long as tests of use run; later ones wrap.
fn time(moment: Moment) -> String {
    let millis = moment.millis().rem_euclid(86_400_000);
    let (seconds, rest) = (millis / 1000, millis % 1000);
    let (hours, minutes) = (seconds / 3600, seconds / 60 % 60);
    format!(
        "1970-01-01T{hours:02}:{minutes:02}:{:02}.{rest:03}Z",
        seconds % 60
    )
}
