//! Free ports of the host: the core chooses, this looks.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tallyman_agent_core::{DynamicPorts, PortRange, PortSource, PortSpan, Settings};
use tallyman_agent_engine::{EngineError, PortSpec, Protocol};

/// From where the kernel takes ports of its own; ECS takes the same for containers.
const KERNEL_RANGE: &str = "/proc/sys/net/ipv4/ip_local_port_range";

/// The ports of this host that containers may get.
pub struct HostPorts {
    dynamic: Mutex<DynamicPorts>,
    reserved: BTreeSet<(u16, Protocol)>,
}

impl HostPorts {
    /// As the settings say, else as the kernel does.
    pub fn new(settings: &Settings) -> Self {
        let kernel = || PortRange::parse(&std::fs::read_to_string(KERNEL_RANGE).ok()?);
        let range = settings.network.dynamic_ports.or_else(kernel);
        let of = |ports: &[u16], protocol| -> Vec<(u16, Protocol)> {
            ports.iter().map(|port| (*port, protocol)).collect()
        };
        let registered = &settings.registration;
        let mut reserved = of(&registered.reserved_ports, Protocol::Tcp);
        reserved.extend(of(&registered.reserved_ports_udp, Protocol::Udp));
        let ports = Self {
            dynamic: Mutex::new(DynamicPorts::new(range.unwrap_or(PortRange::FALLBACK))),
            reserved: reserved.into_iter().collect(),
        };
        ports.spare(BTreeSet::new());
        ports
    }

    /// Leaves these ports to the tasks that name them.
    pub fn spare(&self, mut ports: BTreeSet<(u16, Protocol)>) {
        ports.extend(self.reserved.iter().copied());
        self.lock().spare(ports);
    }

    fn lock(&self) -> MutexGuard<'_, DynamicPorts> {
        self.dynamic.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl PortSource for HostPorts {
    fn choose(&self, wishes: &[PortSpan]) -> Result<Vec<PortSpec>, EngineError> {
        self.lock().choose(wishes, is_free)
    }
}

/// Whether this process could listen there now. The engine may still be late: then another one is chosen.
fn is_free(port: u16, protocol: Protocol) -> bool {
    let everywhere = (Ipv4Addr::UNSPECIFIED, port);
    match protocol {
        Protocol::Tcp => TcpListener::bind(everywhere).is_ok(),
        Protocol::Udp => UdpSocket::bind(everywhere).is_ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_that_somebody_has_is_not_free() {
        let tcp = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = tcp.local_addr().unwrap().port();
        assert!(!is_free(port, Protocol::Tcp));
        let udp = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = udp.local_addr().unwrap().port();
        assert!(!is_free(port, Protocol::Udp));
        drop(udp);
        assert!(is_free(port, Protocol::Udp));
    }
}
