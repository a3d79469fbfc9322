//! The address at which published ports of this host are reached, when nobody says it.

use std::net::{IpAddr, UdpSocket};

/// An address of the documentation network: nobody has it, so its route is the default route.
const ELSEWHERE: (&str, u16) = ("192.0.2.1", 9);

/// The local address of the route to the API server; when that is this machine itself, that of the
/// default route. Asks the kernel only: connecting a datagram socket sends nothing.
pub fn guess(api_host: Option<&str>, api_port: u16) -> Option<IpAddr> {
    let toward_api = api_host.and_then(|host| local_address(host, api_port));
    match toward_api {
        Some(address) if !address.is_loopback() => Some(address),
        loopback_or_none => local_address(ELSEWHERE.0, ELSEWHERE.1).or(loopback_or_none),
    }
}

fn local_address(host: &str, port: u16) -> Option<IpAddr> {
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let bind = if host.contains(':') {
        "[::]:0"
    } else {
        "0.0.0.0:0"
    };
    let socket = UdpSocket::bind(bind).ok()?;
    socket.connect((host, port)).ok()?;
    let address = socket.local_addr().ok()?.ip();
    (!address.is_unspecified()).then_some(address)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_way_to_this_machine_is_no_address_for_others_unless_there_is_no_other() {
        let address = guess(Some("127.0.0.1"), 6443);
        match local_address(ELSEWHERE.0, ELSEWHERE.1) {
            Some(other) => assert_eq!(address, Some(other)),
            None => assert!(address.is_some_and(|a| a.is_loopback())),
        }
    }
}
