//! What Docker tells of a container beyond its life: networks, mounts, checks and use.

use std::collections::HashMap;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use bollard::models::{
    ContainerStatsResponse, EndpointSettings, HealthcheckResult, MountPoint as DockerMount,
};
use serde_json::Value;

use tallyman_agent_engine::{Attachment, Check, Mounted, Stats};

use crate::read::moment;

/// Docker's "never" begins like this.
const NEVER: &str = "0001-01-01";

/// Networks in which the container has an address; `host` and `none` are networks to Docker, too, without one.
pub(crate) fn attachments(networks: HashMap<String, EndpointSettings>) -> Vec<Attachment> {
    let mut attachments: Vec<Attachment> = networks
        .into_iter()
        .map(|(network, end)| Attachment {
            network,
            ipv4: subnet(end.ip_address.as_deref(), end.ip_prefix_len),
            ipv6: subnet(
                end.global_ipv6_address.as_deref(),
                end.global_ipv6_prefix_len,
            ),
            mac: end.mac_address.filter(|mac| !mac.is_empty()),
            gateway: address::<Ipv4Addr>(end.gateway.as_deref()),
            ipv6_gateway: address::<Ipv6Addr>(end.ipv6_gateway.as_deref()),
        })
        .filter(|one| one.ipv4.is_some() || one.ipv6.is_some())
        .collect();
    attachments.sort();
    attachments
}

/// Docker writes an absent address as an empty text; newer ones as `invalid IP`.
fn address<T: FromStr>(text: Option<&str>) -> Option<T> {
    text?.parse().ok()
}

fn subnet<T: FromStr>(text: Option<&str>, prefix: Option<i64>) -> Option<(T, u8)> {
    Some((address(text)?, u8::try_from(prefix?).ok()?))
}

/// Volumes and binds, in the order of their paths inside.
pub(crate) fn mounted(mounts: Vec<DockerMount>) -> Vec<Mounted> {
    let mut mounted: Vec<Mounted> = mounts
        .into_iter()
        .map(|mount| Mounted {
            destination: mount.destination.unwrap_or_default(),
            source: mount.source.unwrap_or_default(),
            volume: mount.name.filter(|name| !name.is_empty()),
        })
        .collect();
    mounted.sort();
    mounted
}

/// The newest entry of the log of a health check; Docker keeps five.
pub(crate) fn last_check(log: Option<Vec<HealthcheckResult>>) -> Option<Check> {
    let last = log?.into_iter().next_back()?;
    Some(Check {
        ended_at: moment(last.end.as_deref()),
        exit_code: last.exit_code.unwrap_or_default(),
        output: last.output.unwrap_or_default(),
    })
}

/// The sample, or `None` when it is the empty one that Docker gives of a container that does not run.
pub(crate) fn stats(sample: ContainerStatsResponse) -> Option<Stats> {
    let read = sample.read.as_deref()?;
    if read.starts_with(NEVER) {
        return None;
    }
    match serde_json::to_value(sample) {
        Ok(Value::Object(stats)) => Some(stats),
        // It was read from an object a moment ago.
        Ok(_) | Err(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_without_an_address_are_none() {
        let end = |address: &str| EndpointSettings {
            ip_address: Some(address.to_owned()),
            ip_prefix_len: Some(16),
            ..EndpointSettings::default()
        };
        let networks = [
            ("host", ""),
            ("none", "invalid IP"),
            ("bridge", "172.17.0.2"),
        ]
        .map(|(name, address)| (name.to_owned(), end(address)));
        let found = attachments(networks.into());
        let names: Vec<&str> = found.iter().map(|one| one.network.as_str()).collect();
        assert_eq!(names, ["bridge"]);
        assert_eq!(found[0].ipv4, Some((Ipv4Addr::new(172, 17, 0, 2), 16)));
    }
}
