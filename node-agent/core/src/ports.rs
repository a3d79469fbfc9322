//! Port mappings (ECS PortMapping).

use tallyman_agent_engine::{Network, PortSpec, Protocol};
use tallyman_crds::ecs::{PortMapping, TransportProtocol};

use crate::refused::Refused;

/// The ports of a container.
pub(crate) struct Ports {
    /// Published on the host.
    pub(crate) published: Vec<PortSpec>,
    /// Occupied on the host without publishing (network mode `host`).
    pub(crate) exposed: Vec<(u16, Protocol)>,
}

/// Reads the port mappings of a container for its network.
pub(crate) fn ports(
    container: &str,
    mappings: &[PortMapping],
    network: Network,
) -> Result<Ports, Refused> {
    let mut ports = Ports {
        published: Vec::new(),
        exposed: Vec::new(),
    };
    for mapping in mappings {
        let PortMapping {
            container_port,
            host_port,
            protocol,
            // Of no meaning to an engine.
            name: _,
            app_protocol: _,
            // Nothing honours this yet.
            container_port_range: _,
        } = mapping;
        let refuse = |field: &'static str, port: i32| Refused::Port {
            container: container.to_owned(),
            field,
            port,
        };
        let Some(inner) = *container_port else {
            continue;
        };
        let container_port = u16::try_from(inner)
            .ok()
            .filter(|port| *port > 0)
            .ok_or_else(|| refuse("containerPort", inner))?;
        let outer = host_port.unwrap_or(0);
        let host_port = u16::try_from(outer).map_err(|_| refuse("hostPort", outer))?;
        let protocol = match protocol {
            None | Some(TransportProtocol::Tcp) => Protocol::Tcp,
            Some(TransportProtocol::Udp) => Protocol::Udp,
        };
        match network {
            Network::Bridge => ports.published.push(PortSpec {
                container_port,
                host_port: (host_port > 0).then_some(host_port),
                protocol,
                host_ip: None,
            }),
            Network::Host => ports.exposed.push((container_port, protocol)),
            Network::None => {}
        }
    }
    Ok(ports)
}
