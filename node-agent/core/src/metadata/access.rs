//! Who may read what is for a container: the container, by its address.

use std::net::IpAddr;

use tallyman_agent_engine::{Attachment, Network};

/// Whether a request that came from `peer` with the id of a container is that container's own.
///
/// A container with addresses of its own asks from one of them. One on the host's network asks from an address of
/// the host (`peer_is_host`), as does everything else that runs there: the id alone keeps those apart.
pub fn is_own(
    network: &Network,
    attachments: &[Attachment],
    peer: IpAddr,
    peer_is_host: bool,
) -> bool {
    match network {
        Network::Bridge | Network::Named(_) | Network::Container(_) => {
            has_address(attachments, peer)
        }
        Network::Host => peer_is_host,
        Network::None => false,
    }
}

/// Whether one of the attachments has this address.
pub fn has_address(attachments: &[Attachment], peer: IpAddr) -> bool {
    attachments.iter().any(|one| match peer {
        IpAddr::V4(peer) => one.ipv4.is_some_and(|(address, _)| address == peer),
        IpAddr::V6(peer) => one.ipv6.is_some_and(|(address, _)| address == peer),
    })
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    #[test]
    fn only_the_container_itself_is_let_in() {
        let own = [Attachment {
            network: "bridge".to_owned(),
            ipv4: Some((Ipv4Addr::new(172, 17, 0, 2), 16)),
            ..Attachment::default()
        }];
        let address = |last| IpAddr::from([172, 17, 0, last]);
        for (network, attachments, peer, peer_is_host, wanted) in [
            (Network::Bridge, &own[..], address(2), false, true),
            (Network::Bridge, &own, address(3), false, false),
            (Network::Bridge, &own, address(1), true, false),
            (Network::Bridge, &[], address(2), false, false),
            (Network::Host, &[], address(1), true, true),
            (Network::Host, &[], address(2), false, false),
            (Network::None, &[], address(1), true, false),
        ] {
            let let_in = is_own(&network, attachments, peer, peer_is_host);
            assert_eq!(let_in, wanted, "{network:?} {peer} {peer_is_host}");
        }
    }
}
