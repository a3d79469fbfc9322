//! How hosts of the lab reach the API server of a cluster that was given.
//!
//! They know it by the address that its certificate bears, and reach the world through the lab's bridge alone. A cluster in containers
//! of this machine often listens on loopback, which is another one in a host's namespace: from there to here its port is led on both
//! sides.

use std::net::Ipv4Addr;

use anyhow::{Context, Result, ensure};
use http::Uri;

use crate::command::Tool;
use crate::firewall;
use crate::network::{Place, inside};
use crate::state::Ledger;

const FORWARDING: &str = "/proc/sys/net/ipv4/ip_forward";
const HTTPS: u16 = 443;

/// Where an API server listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Server {
    address: Ipv4Addr,
    port: u16,
}

impl Server {
    /// Of an URL as kubeconfigs hold it.
    ///
    /// # Errors
    /// When it is no IPv4 address: the hosts have no other, and nobody resolves names for them.
    pub(crate) fn parse(url: &str) -> Result<Self> {
        let uri: Uri = url.parse().with_context(|| format!("{url} is no URL"))?;
        let host = uri.host().with_context(|| format!("{url} names no host"))?;
        let address = match host {
            "localhost" => Ipv4Addr::LOCALHOST,
            _ => host.parse().with_context(|| {
                format!(
                    "the lab's hosts cannot look up {host}: its kubeconfig has to name the API server by an IPv4 address"
                )
            })?,
        };
        Ok(Server {
            address,
            port: uri.port_u16().unwrap_or(HTTPS),
        })
    }

    /// Opens the way from the bridge, where the machine has `gateway`, for hosts of `subnet`.
    ///
    /// # Errors
    /// When iptables refuses, or this machine forwards nothing.
    pub(crate) fn open(
        self,
        ledger: &Ledger,
        bridge: &str,
        gateway: Ipv4Addr,
        subnet: &str,
    ) -> Result<()> {
        let (port, address) = (self.port.to_string(), self.address.to_string());
        let comment = format!("tallyman-lab-{}", ledger.id());
        let put = |rule: &[&str]| {
            let mark = ["-m", "comment", "--comment", &comment];
            firewall::insert(ledger, &[rule, &mark].concat())
        };
        let from = ["-i", bridge, "-p", "tcp", "--dport", &port, "-d"];
        if self.address.is_loopback() {
            let there = format!("{address}:{port}");
            let gateway = gateway.to_string();
            let lead = [&gateway, "-j", "DNAT", "--to-destination", &there];
            put(&[&["nat", "PREROUTING"], &from[..], &lead].concat())?;
            // What else listens on loopback stays there.
            put(&[
                "filter",
                "INPUT",
                "-i",
                bridge,
                "-d",
                "127.0.0.0/8",
                "-m",
                "conntrack",
                "!",
                "--ctstate",
                "DNAT",
                "-j",
                "DROP",
            ])?;
            return route_loopback(None, bridge);
        }
        if is_here(self.address)? {
            return Ok(());
        }
        let forwards = std::fs::read_to_string(FORWARDING).context(FORWARDING)?;
        ensure!(
            forwards.trim() == "1",
            "the lab's hosts reach {address} through this machine alone, which forwards nothing: `sysctl net.ipv4.ip_forward=1` lets it"
        );
        put(&[
            &["filter", "FORWARD"],
            &from[..],
            &[&address, "-j", "ACCEPT"],
        ]
        .concat())?;
        put(&[
            "filter", "FORWARD", "-o", bridge, "-p", "tcp", "--sport", &port, "-s", &address, "-j",
            "ACCEPT",
        ])?;
        put(&[
            "nat",
            "POSTROUTING",
            "-s",
            subnet,
            "-d",
            &address,
            "-p",
            "tcp",
            "--dport",
            &port,
            "-j",
            "MASQUERADE",
        ])
    }

    /// Opens the way within a host's namespace.
    ///
    /// # Errors
    /// When iptables refuses.
    pub(crate) fn open_within(self, place: &Place, gateway: Ipv4Addr) -> Result<()> {
        if !self.address.is_loopback() {
            return Ok(());
        }
        let there = format!("{gateway}:{}", self.port);
        let port = self.port.to_string();
        let address = self.address.to_string();
        let nat = || inside(&place.namespace).args(["iptables", "--wait", "20", "-t", "nat", "-A"]);
        nat()
            .args(["OUTPUT", "-d", &address, "-p", "tcp", "--dport", &port])
            .args(["-j", "DNAT", "--to-destination", &there])
            .check()?;
        nat()
            .args(["POSTROUTING", "-o", "eth0", "-s", "127.0.0.0/8"])
            .args(["-j", "MASQUERADE"])
            .check()?;
        route_loopback(Some(place), "eth0")
    }
}

/// Lets a link carry what is addressed to loopback.
fn route_loopback(place: Option<&Place>, link: &str) -> Result<()> {
    let setting = format!("net.ipv4.conf.{link}.route_localnet=1");
    let tool = match place {
        Some(place) => inside(&place.namespace).arg("sysctl"),
        None => Tool::new("sysctl"),
    };
    tool.args(["--quiet", "--write", &setting])
        .check()
        .map(drop)
}

/// It is an address of this machine.
fn is_here(address: Ipv4Addr) -> Result<bool> {
    let route = Tool::new("ip")
        .args(["route", "get", &address.to_string()])
        .check()?;
    Ok(route.starts_with("local "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_an_address_and_a_port() {
        let server = |address: [u8; 4], port| Server {
            address: address.into(),
            port,
        };
        for (url, expected) in [
            ("https://127.0.0.1:6443", server([127, 0, 0, 1], 6443)),
            ("https://localhost:6443/", server([127, 0, 0, 1], 6443)),
            ("https://10.1.2.3", server([10, 1, 2, 3], 443)),
        ] {
            assert_eq!(Server::parse(url).unwrap(), expected, "{url}");
        }
    }

    #[test]
    fn a_name_is_refused_with_what_would_do() {
        let error = Server::parse("https://k8s.example.org:6443").unwrap_err();
        let sentence = error.to_string();
        assert!(sentence.contains("k8s.example.org"), "{sentence}");
        assert!(sentence.contains("IPv4 address"), "{sentence}");
        assert!(Server::parse("https://[::1]:6443").is_err());
    }
}
