//! Port mappings (ECS PortMapping), and how their bindings are told (ECS NetworkBinding).

use tallyman_agent_engine::{Network, PortSpec, Protocol, PublishedPort};
use tallyman_crds::NetworkBinding;
use tallyman_crds::ecs::{PortMapping, TransportProtocol};
use tallyman_crds::quantity::port_range;

use crate::refused::Refused;

/// Ports in a row that belong together: one, or an ECS `containerPortRange`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PortSpan {
    /// The first.
    pub first: u16,
    /// The last; the first again when it is a single port.
    pub last: u16,
    /// TCP or UDP.
    pub protocol: Protocol,
}

impl PortSpan {
    /// A single port.
    pub fn single(port: u16, protocol: Protocol) -> Self {
        Self {
            first: port,
            last: port,
            protocol,
        }
    }

    /// Whether it is more than one port.
    pub fn is_range(self) -> bool {
        self.last > self.first
    }

    /// Its ports, from the first to the last.
    pub fn ports(self) -> impl Iterator<Item = u16> {
        self.first..=self.last
    }

    fn text(self) -> String {
        format!("{}-{}", self.first, self.last)
    }
}

/// The ports of a container.
#[derive(Default)]
pub(crate) struct Ports {
    /// Published on ports of the host that the definition names.
    pub(crate) fixed: Vec<PortSpec>,
    /// Published on ports of the host that are chosen when the container is created.
    pub(crate) dynamic: Vec<PortSpan>,
    /// Reached without publishing: on the host itself (network mode `host`), or at the task's own address (`awsvpc`).
    pub(crate) exposed: Vec<PortSpan>,
}

/// Reads the port mappings of a container for its network.
pub(crate) fn ports(
    container: &str,
    mappings: &[PortMapping],
    network: &Network,
) -> Result<Ports, Refused> {
    let mut ports = Ports::default();
    for mapping in mappings {
        let PortMapping {
            container_port,
            host_port,
            protocol,
            // Of no meaning to an engine.
            name: _,
            app_protocol: _,
            container_port_range,
        } = mapping;
        let refuse = |field: &'static str, port: i32| Refused::Port {
            container: container.to_owned(),
            field,
            port,
        };
        let protocol = match protocol {
            None | Some(TransportProtocol::Tcp) => Protocol::Tcp,
            Some(TransportProtocol::Udp) => Protocol::Udp,
        };
        let span = match (container_port, container_port_range) {
            (Some(port), _) => {
                let port = number(*port).ok_or_else(|| refuse("containerPort", *port))?;
                PortSpan::single(port, protocol)
            }
            (None, Some(text)) => range(text, protocol).ok_or_else(|| Refused::PortRange {
                container: container.to_owned(),
                text: text.clone(),
            })?,
            (None, None) => continue,
        };
        let outer = host_port.unwrap_or(0);
        let host_port = u16::try_from(outer).map_err(|_| refuse("hostPort", outer))?;
        match network {
            Network::Bridge if host_port > 0 && !span.is_range() => ports.fixed.push(PortSpec {
                container_port: span.first,
                host_port: Some(host_port),
                protocol,
                host_ip: None,
            }),
            Network::Bridge => ports.dynamic.push(span),
            Network::Host | Network::Named(_) | Network::Container(_) => ports.exposed.push(span),
            Network::None => {}
        }
    }
    Ok(ports)
}

fn number(port: i32) -> Option<u16> {
    u16::try_from(port).ok().filter(|port| *port > 0)
}

/// `8000-8009`
fn range(text: &str, protocol: Protocol) -> Option<PortSpan> {
    let (first, last) = port_range(text)?;
    Some(PortSpan {
        first,
        last,
        protocol,
    })
}

/// What is told of published ports: a range as one binding, where the engine has it whole and in a row.
pub(crate) fn published(spans: &[PortSpan], ports: &[PublishedPort]) -> Vec<NetworkBinding> {
    let mut left: Vec<PublishedPort> = ports.to_vec();
    let mut bindings = Vec::new();
    for span in spans.iter().filter(|span| span.is_range()) {
        let firsts: Vec<PublishedPort> = left
            .iter()
            .filter(|one| one.container_port == span.first && one.protocol == span.protocol)
            .cloned()
            .collect();
        for first in firsts {
            let Some(outer) = (span.last - span.first).checked_add(first.host_port) else {
                continue;
            };
            let of_span = |one: &PublishedPort| {
                one.protocol == span.protocol
                    && one.host_ip == first.host_ip
                    && (span.first..=span.last).contains(&one.container_port)
                    && one.host_port.checked_sub(first.host_port)
                        == Some(one.container_port - span.first)
            };
            if left.iter().filter(|one| of_span(one)).count() != span.ports().count() {
                continue;
            }
            left.retain(|one| !of_span(one));
            bindings.push(NetworkBinding {
                bind_ip: first.host_ip.to_string(),
                container_port: None,
                host_port: None,
                protocol: transport(span.protocol),
                container_port_range: Some(span.text()),
                host_port_range: Some(format!("{}-{outer}", first.host_port)),
            });
        }
    }
    let singles = left.iter().map(|port| NetworkBinding {
        bind_ip: port.host_ip.to_string(),
        container_port: Some(i32::from(port.container_port)),
        host_port: Some(i32::from(port.host_port)),
        protocol: transport(port.protocol),
        container_port_range: None,
        host_port_range: None,
    });
    singles.chain(bindings).collect()
}

/// What is told of ports that are the host's own (network mode `host`).
pub(crate) fn exposed(span: PortSpan) -> NetworkBinding {
    let port = (!span.is_range()).then(|| i32::from(span.first));
    let range = span.is_range().then(|| span.text());
    NetworkBinding {
        bind_ip: "0.0.0.0".to_owned(),
        container_port: port,
        host_port: port,
        protocol: transport(span.protocol),
        container_port_range: range.clone(),
        host_port_range: range,
    }
}

fn transport(protocol: Protocol) -> TransportProtocol {
    match protocol {
        Protocol::Tcp => TransportProtocol::Tcp,
        Protocol::Udp => TransportProtocol::Udp,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{IpAddr, Ipv4Addr};

    fn at(container_port: u16, host_port: u16) -> PublishedPort {
        PublishedPort {
            container_port,
            protocol: Protocol::Tcp,
            host_port,
            host_ip: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        }
    }

    #[test]
    fn a_range_is_told_as_one_binding_when_it_is_whole_and_in_a_row() {
        let span = PortSpan {
            first: 8000,
            last: 8002,
            protocol: Protocol::Tcp,
        };
        let told = |ports: &[PublishedPort]| {
            published(&[span], ports)
                .into_iter()
                .map(|b| (b.container_port, b.container_port_range, b.host_port_range))
                .collect::<Vec<_>>()
        };
        let whole = [
            at(80, 1),
            at(8000, 40_000),
            at(8001, 40_001),
            at(8002, 40_002),
        ];
        assert_eq!(
            told(&whole),
            [
                (Some(80), None, None),
                (
                    None,
                    Some("8000-8002".to_owned()),
                    Some("40000-40002".to_owned())
                )
            ]
        );
        assert_eq!(told(&whole[..3]).len(), 3, "not whole");
        let scattered = [at(8000, 40_000), at(8001, 40_002), at(8002, 40_001)];
        assert!(told(&scattered).iter().all(|(port, ..)| port.is_some()));
    }
}
