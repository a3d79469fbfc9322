//! How tasks reach the network.

use super::group::settings;
use super::values::{Wrong, some};
use crate::dynamic_ports::PortRange;

settings! {
    /// How tasks reach the network.
    pub struct Networking {
        dynamic_ports: Option<PortRange> = None,
            ["ECS_DYNAMIC_HOST_PORT_RANGE", "DynamicHostPortRange",
             "host ports of mappings that name none, like 40000-40999 (default: the kernel's ip_local_port_range)"],
            some(range);
    }
}

fn range(text: &str) -> Result<PortRange, Wrong> {
    PortRange::parse(text).ok_or_else(|| Wrong::wanted("a range of ports like `40000-40999`"))
}
