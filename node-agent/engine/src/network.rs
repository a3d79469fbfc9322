//! Networks of the engine.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

/// A bridge network that the agent makes for itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetworkSpec {
    /// Name on the engine.
    pub name: String,
    /// Name of the bridge on the host, at most 15 characters. Two networks cannot have one bridge, so that not even an
    /// engine that allows one name twice makes the network twice.
    pub bridge: String,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// It leads to the host and nowhere else; `None` leads wherever the host does, with addresses that the engine chooses.
    pub to_host: Option<ToHost>,
}

/// A network that leads to an address of the host, and to no other network: nothing on it has it for a default route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ToHost {
    /// The address, which the bridge has.
    pub address: Ipv4Addr,
    /// Length of the prefix of the network that it is in, from which containers get theirs.
    pub prefix: u8,
}

impl ToHost {
    /// The network, as `169.254.170.0/23`.
    pub fn subnet(&self) -> String {
        let shift = 32_u32.saturating_sub(u32::from(self.prefix));
        let mask = u32::MAX.checked_shl(shift).unwrap_or(0);
        let first = Ipv4Addr::from(u32::from(self.address) & mask);
        format!("{first}/{}", self.prefix)
    }
}
