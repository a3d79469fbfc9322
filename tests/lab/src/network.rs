//! The lab's network: a bridge in the root namespace and one network namespace per host.
//!
//! The root side has an address on the bridge, by which hosts reach the API server and tests reach published ports.

use std::net::{IpAddr, Ipv4Addr, TcpListener};
use std::sync::Arc;

use anyhow::{Context, Result, bail};

use crate::command::Tool;
use crate::given::Server;
use crate::state::Ledger;
use crate::{firewall, interrupt, paths};

/// Where `ip netns` keeps its namespaces.
pub const NAMESPACES: &str = "/run/netns";

/// Host addresses start here; the root side is 1.
const FIRST_HOST: u8 = 10;

/// Below the range from which Linux picks ports by itself.
const PORTS: std::ops::Range<u16> = 20_000..32_000;

/// A bridge with a /24 of its own.
#[derive(Clone, Debug)]
pub struct Network {
    ledger: Arc<Ledger>,
    bridge: String,
    subnet: Subnet,
    /// An API server that is not the lab's.
    server: Option<Server>,
}

/// A machine's plug on the bridge.
#[derive(Clone, Debug)]
pub struct Tap {
    /// The link.
    pub name: String,
    /// Address for the machine.
    pub address: Ipv4Addr,
}

/// A host's place in it.
#[derive(Clone, Debug)]
pub struct Place {
    /// Network namespace.
    pub namespace: String,
    /// Address on the bridge.
    pub address: Ipv4Addr,
}

impl Network {
    /// Makes a bridge on a subnet that nothing on this machine uses.
    ///
    /// # Errors
    /// Without root, or when no subnet is free.
    pub fn start(ledger: &Arc<Ledger>) -> Result<Self> {
        paths::need_root("A network of hosts")?;
        let _busy = interrupt::busy();
        // Two labs that start at once must see each other's subnet.
        let lock = std::fs::File::open(paths::run_root())?;
        lock.lock()?;
        let used = used_subnets()?;
        let subnet = candidates(seed(&ledger.id()))
            .find(|candidate| !used.iter().any(|used| used.overlaps(*candidate)))
            .context("no free /24 for the lab's bridge")?;
        let bridge = format!("tl-{}", ledger.id());
        ledger.update(|state| state.links.push(bridge.clone()))?;
        ip(&["link", "add", &bridge, "type", "bridge"])?;
        ip(&[
            "addr",
            "add",
            &format!("{}/24", subnet.address(1)),
            "dev",
            &bridge,
        ])?;
        ip(&["link", "set", &bridge, "up"])?;
        drop(lock);
        // Where Docker runs in the root namespace, its policy is to drop what crosses other bridges; a firewall may refuse the hosts.
        let comment = format!("tallyman-lab-{}", ledger.id());
        let mark = ["-m", "comment", "--comment", &comment];
        for rule in [
            vec![
                "filter", "FORWARD", "-i", &bridge, "-o", &bridge, "-j", "ACCEPT",
            ],
            vec!["filter", "INPUT", "-i", &bridge, "-j", "ACCEPT"],
        ] {
            firewall::insert(ledger, &[rule.as_slice(), &mark].concat())?;
        }
        Ok(Network {
            ledger: Arc::clone(ledger),
            bridge,
            subnet,
            server: None,
        })
    }

    /// Lets hosts that are made from now on reach the API server of a cluster that was given, by its URL.
    ///
    /// # Errors
    /// When it is not named by an IPv4 address, or there is no way to it.
    pub fn lead_to(&mut self, url: &str) -> Result<()> {
        let server = Server::parse(url)?;
        let _busy = interrupt::busy();
        server.open(&self.ledger, &self.bridge, self.gateway(), &self.cidr())?;
        self.server = Some(server);
        Ok(())
    }

    /// The root side's address.
    pub fn gateway(&self) -> Ipv4Addr {
        self.subnet.address(1)
    }

    /// The subnet, as `10.x.y.0/24`.
    pub fn cidr(&self) -> String {
        self.subnet.to_string()
    }

    /// Makes a plug for host number `index`, from 0, that is a machine of its own: its emulator holds the other end.
    ///
    /// # Errors
    /// When the subnet is full, or `ip` refuses.
    pub fn tap(&self, index: usize) -> Result<Tap> {
        let number = number(index)?;
        let _busy = interrupt::busy();
        let name = format!("{}-{index}", self.bridge);
        self.ledger.update(|state| state.links.push(name.clone()))?;
        ip(&["tuntap", "add", "dev", &name, "mode", "tap"])?;
        ip(&["link", "set", &name, "master", &self.bridge, "up"])?;
        Ok(Tap {
            name,
            address: self.subnet.address(number),
        })
    }

    /// Makes the network namespace of host number `index`, from 0.
    ///
    /// # Errors
    /// When the subnet is full, or `ip` refuses.
    pub fn place(&self, index: usize, host: &str) -> Result<Place> {
        let number = number(index)?;
        let _busy = interrupt::busy();
        let namespace = format!("tallyman-{}-{host}", self.ledger.id());
        // The end in the root namespace; the other one goes with the host's namespace.
        let outside = format!("{}-{index}", self.bridge);
        self.ledger.update(|state| {
            state.namespaces.push(namespace.clone());
            state.links.push(outside.clone());
        })?;
        let address = self.subnet.address(number);
        let ns = namespace.as_str();
        ip(&["netns", "add", ns])?;
        ip(&[
            "link", "add", &outside, "type", "veth", "peer", "name", "eth0", "netns", ns,
        ])?;
        ip(&["link", "set", &outside, "master", &self.bridge, "up"])?;
        ip(&["-n", ns, "link", "set", "lo", "up"])?;
        ip(&[
            "-n",
            ns,
            "addr",
            "add",
            &format!("{address}/24"),
            "dev",
            "eth0",
        ])?;
        ip(&["-n", ns, "link", "set", "eth0", "up"])?;
        ip(&[
            "-n",
            ns,
            "route",
            "add",
            "default",
            "via",
            &self.gateway().to_string(),
        ])?;
        let place = Place { namespace, address };
        if let Some(server) = self.server {
            server.open_within(&place, self.gateway())?;
        }
        Ok(place)
    }
}

/// A command in a network namespace, to be gone on with the program.
pub(crate) fn inside(namespace: &str) -> Tool {
    Tool::new("nsenter")
        .arg(format!("--net={NAMESPACES}/{namespace}"))
        .arg("--")
}

/// The last part of a host's address.
fn number(index: usize) -> Result<u8> {
    u8::try_from(index)
        .ok()
        .and_then(|index| index.checked_add(FIRST_HOST))
        .filter(|number| *number < 255)
        .context("a lab has room for 245 hosts")
}

fn ip(args: &[&str]) -> Result<String> {
    Tool::new("ip").args(args).check()
}

/// A port of this machine that nothing uses now.
///
/// # Errors
/// When none is found.
pub fn free_port() -> Result<u16> {
    use std::hash::{BuildHasher, Hasher};
    for _ in 0..200 {
        let random = std::hash::RandomState::new().build_hasher().finish();
        let offset = u16::try_from(random % u64::from(PORTS.end - PORTS.start))?;
        let port = PORTS.start + offset;
        if TcpListener::bind((IpAddr::V4(Ipv4Addr::UNSPECIFIED), port)).is_ok() {
            return Ok(port);
        }
    }
    bail!("no free port between {} and {}", PORTS.start, PORTS.end)
}

/// An IPv4 network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Subnet {
    base: u32,
    length: u32,
}

impl Subnet {
    fn new(address: Ipv4Addr, length: u32) -> Self {
        let base = u32::from(address) & mask(length);
        Subnet { base, length }
    }

    /// `a.b.c.d/n`, or one address.
    fn parse(text: &str) -> Option<Self> {
        let (address, length) = text.split_once('/').unwrap_or((text, "32"));
        let length = length.parse().ok().filter(|length| *length <= 32)?;
        Some(Subnet::new(address.parse().ok()?, length))
    }

    fn overlaps(self, other: Subnet) -> bool {
        let shorter = mask(self.length.min(other.length));
        self.base & shorter == other.base & shorter
    }

    fn address(self, host: u8) -> Ipv4Addr {
        Ipv4Addr::from(self.base | u32::from(host))
    }
}

fn mask(length: u32) -> u32 {
    u32::MAX.checked_shl(32 - length).unwrap_or(0)
}

impl std::fmt::Display for Subnet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", Ipv4Addr::from(self.base), self.length)
    }
}

/// Where runs begin their search, so that they seldom meet.
fn seed(id: &str) -> u32 {
    u32::from_str_radix(id, 16).unwrap_or(0)
}

/// 10.64.0.0/24 to 10.254.255.0/24 in an order of the seed's, then the range set aside for benchmarks of networks.
fn candidates(seed: u32) -> impl Iterator<Item = Subnet> {
    let private = 191 * 256;
    let of = |a: u32, b: u32, c: u32| Subnet {
        base: a << 24 | b << 16 | c << 8,
        length: 24,
    };
    let first = (0..private).map(move |step| {
        let number = (seed.wrapping_add(step)) % private;
        of(10, 64 + number / 256, number % 256)
    });
    let second = (0..512).map(move |number| of(198, 18 + number / 256, number % 256));
    first.chain(second)
}

/// Subnets that this machine has or routes to, the default route aside.
fn used_subnets() -> Result<Vec<Subnet>> {
    let addresses = ip(&["-o", "-4", "addr", "show"])?;
    let routes = ip(&["-4", "route", "show", "table", "all"])?;
    Ok(addresses
        .split_whitespace()
        .chain(routes.split_whitespace())
        .filter_map(Subnet::parse)
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subnet(text: &str) -> Subnet {
        Subnet::parse(text).unwrap()
    }

    #[test]
    fn overlap_is_mutual_and_neighbours_do_not() {
        for (a, b, expected) in [
            ("10.64.1.0/24", "10.64.1.77/32", true),
            ("10.64.1.0/24", "10.0.0.0/8", true),
            ("10.64.1.0/24", "10.64.2.0/24", false),
            ("10.64.1.0/24", "0.0.0.0/0", true),
        ] {
            assert_eq!(subnet(a).overlaps(subnet(b)), expected, "{a} {b}");
            assert_eq!(subnet(b).overlaps(subnet(a)), expected, "{b} {a}");
        }
    }

    #[test]
    fn words_of_ip_that_are_no_networks_are_passed_over() {
        for word in [
            "dev",
            "eth0",
            "10.1",
            "10.1.2.3/64",
            "default",
            "fe80::1/64",
        ] {
            assert_eq!(Subnet::parse(word), None, "{word}");
        }
    }

    #[test]
    fn a_machine_that_routes_all_of_ten_still_gets_a_subnet() {
        let used = subnet("10.0.0.0/8");
        let found = candidates(7)
            .find(|candidate| !candidate.overlaps(used))
            .unwrap();
        assert_eq!(found.to_string(), "198.18.0.0/24");
    }

    #[test]
    fn different_runs_begin_at_different_subnets() {
        assert_ne!(candidates(1).next(), candidates(2).next());
        assert_eq!(
            candidates(0).next().unwrap().address(10),
            Ipv4Addr::new(10, 64, 0, 10)
        );
    }
}
