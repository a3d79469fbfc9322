//! The endpoint's address on this host, and which other addresses are the host's.

use std::net::{IpAddr, SocketAddr};

use anyhow::Context;
use futures::stream::TryStreamExt;
use rtnetlink::Handle;
use rtnetlink::packet_route::address::AddressAttribute;
use tallyman_agent_core::metadata::inject::{ADDRESS, PORT};
use tokio::net::TcpListener;

const LOOPBACK: &str = "lo";
/// Hops that an answer may take.
const HOPS: u32 = 1;

/// Puts the address on the loopback interface, where it stays, and listens there.
///
/// # Errors
/// The agent may not do that (it needs `CAP_NET_ADMIN`), or something else listens there.
pub async fn listen() -> anyhow::Result<TcpListener> {
    with_kernel(async |handle| take(&handle).await)
        .await
        .with_context(|| format!("cannot put {ADDRESS} on interface {LOOPBACK}"))?;
    let listener = TcpListener::bind(SocketAddr::from((ADDRESS, PORT)))
        .await
        .with_context(|| format!("cannot listen on {ADDRESS} port {PORT}"))?;
    listener.set_ttl(HOPS).context("cannot limit hops")?;
    Ok(listener)
}

async fn take(handle: &Handle) -> anyhow::Result<()> {
    let named = handle.link().get().match_name(LOOPBACK.to_owned());
    let link = named.execute().try_next().await?;
    let index = link.context("there is no such interface")?.header.index;
    // An earlier agent may have put it there. The bridge of a network to the agent has it, too, and may go.
    if addresses(handle)
        .await?
        .contains(&(index, IpAddr::V4(ADDRESS)))
    {
        return Ok(());
    }
    let add = handle.address().add(index, IpAddr::V4(ADDRESS), 32);
    add.execute().await?;
    Ok(())
}

/// Whether an address is one of this host's own.
pub async fn is_own(address: IpAddr) -> bool {
    let own = with_kernel(async |handle| addresses(&handle).await).await;
    own.is_ok_and(|own| own.iter().any(|(_, one)| *one == address))
}

/// Each with the index of its interface.
async fn addresses(handle: &Handle) -> anyhow::Result<Vec<(u32, IpAddr)>> {
    let mut own = Vec::new();
    let mut lines = handle.address().get().execute();
    while let Some(line) = lines.try_next().await? {
        // `Local` is ours; `Address` is the other end's where there is one, and ours otherwise.
        let local = line.attributes.iter().find_map(|one| match one {
            AddressAttribute::Local(address) => Some(*address),
            _ => None,
        });
        let address = line.attributes.iter().find_map(|one| match one {
            AddressAttribute::Address(address) => Some(*address),
            _ => None,
        });
        let found = local.or(address);
        own.extend(found.map(|one| (line.header.index, one)));
    }
    Ok(own)
}

/// Asks the kernel over a connection of its own, which ends with the question.
async fn with_kernel<T>(ask: impl AsyncFnOnce(Handle) -> anyhow::Result<T>) -> anyhow::Result<T> {
    let (connection, handle, _) = rtnetlink::new_connection().context("no netlink socket")?;
    let connection = tokio::spawn(connection);
    let answer = ask(handle).await;
    connection.abort();
    answer
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    #[tokio::test]
    async fn loopback_is_the_hosts_and_a_documentation_address_is_not() {
        assert!(is_own(IpAddr::V4(Ipv4Addr::LOCALHOST)).await);
        assert!(!is_own(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1))).await);
    }
}
