//! Port 80 of the endpoint's address, led to its own port by the host's firewall, as ECS' own init does it: SDKs look for
//! credentials there, and clients of metadata v2. Nobody listens on port 80 itself, which would keep Docker from
//! publishing it. The rule is in front: a task that publishes port 80 on every address has a rule of Docker's for this one, too.

use tallyman_agent_core::metadata::inject::{ADDRESS, PORT};

use crate::firewall::Rules;

/// What leads there.
pub fn rules() -> Rules {
    Rules {
        purpose: "port 80 of 169.254.170.2 leads to the task metadata endpoint",
        table: "nat",
        chains: &["PREROUTING", "OUTPUT"],
        does: format!(
            "-d {ADDRESS}/32 -p tcp --dport 80 -j DNAT --to-destination {ADDRESS}:{PORT}"
        ),
    }
}
