//! Ports of the fake's host.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};

use crate::{EngineError, PortSpec, Protocol, PublishedPort};

/// First port that the engine chooses by itself: Linux's usual ephemeral range.
const FIRST_DYNAMIC: u16 = 32768;
/// Last port that the engine chooses by itself.
const LAST_DYNAMIC: u16 = 60999;

/// Who listens where. A port is held while its container runs, as on Docker.
#[derive(Debug)]
pub(super) struct HostPorts {
    taken: BTreeSet<(u16, Protocol, IpAddr)>,
    next: u16,
}

impl Default for HostPorts {
    fn default() -> Self {
        Self {
            taken: BTreeSet::new(),
            next: FIRST_DYNAMIC,
        }
    }
}

impl HostPorts {
    /// A process of the host, no container, listens on every address.
    pub(super) fn occupy(&mut self, port: u16, protocol: Protocol) {
        self.taken.insert((port, protocol, ANY));
    }

    pub(super) fn vacate(&mut self, port: u16, protocol: Protocol) {
        self.taken.remove(&(port, protocol, ANY));
    }

    /// Takes all ports or none.
    pub(super) fn publish(
        &mut self,
        specs: &[PortSpec],
    ) -> Result<Vec<PublishedPort>, EngineError> {
        let mut published = Vec::new();
        for spec in specs {
            match self.take(spec) {
                Ok(port) => published.push(port),
                Err(error) => {
                    self.release(&published);
                    return Err(error);
                }
            }
        }
        published.sort();
        Ok(published)
    }

    pub(super) fn release(&mut self, ports: &[PublishedPort]) {
        for port in ports {
            self.taken
                .remove(&(port.host_port, port.protocol, port.host_ip));
        }
    }

    fn take(&mut self, spec: &PortSpec) -> Result<PublishedPort, EngineError> {
        let host_ip = spec.host_ip.unwrap_or(ANY);
        let host_port = match spec.host_port {
            Some(port) if self.is_free(port, spec.protocol, host_ip) => port,
            Some(port) => {
                return Err(EngineError::PortTaken {
                    port: Some(port),
                    message: format!("Bind for {host_ip}:{port} failed: port is already allocated"),
                });
            }
            None => self.choose(spec.protocol, host_ip)?,
        };
        self.taken.insert((host_port, spec.protocol, host_ip));
        Ok(PublishedPort {
            container_port: spec.container_port,
            protocol: spec.protocol,
            host_port,
            host_ip,
        })
    }

    /// Goes round the range, so that a port just released is not at once somebody else's.
    fn choose(&mut self, protocol: Protocol, host_ip: IpAddr) -> Result<u16, EngineError> {
        for _ in FIRST_DYNAMIC..=LAST_DYNAMIC {
            let port = self.next;
            self.next = match port {
                LAST_DYNAMIC => FIRST_DYNAMIC,
                _ => port + 1,
            };
            if self.is_free(port, protocol, host_ip) {
                return Ok(port);
            }
        }
        Err(EngineError::PortTaken {
            port: None,
            message: "all ports are allocated".to_owned(),
        })
    }

    /// An address collides with itself, and "every address" with all.
    pub(super) fn is_free(&self, port: u16, protocol: Protocol, host_ip: IpAddr) -> bool {
        self.taken.iter().all(|(taken, with, at)| {
            *taken != port
                || *with != protocol
                || !(*at == host_ip || at.is_unspecified() || host_ip.is_unspecified())
        })
    }
}

/// Every address.
pub(super) const ANY: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
