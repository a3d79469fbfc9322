//! The task metadata endpoint: HTTP on 169.254.170.2 port 51679, for the containers of this host's tasks and nobody else.
//!
//! The address is put on the loopback interface. A container's packets for it go to its default gateway, which is this
//! host, and arrive there with the container's own address; `route_localnet`, which opens loopback to neighbours, stays
//! off. Port 80 leads to port 51679 where the host's firewall can be told ([`port_80`]): nobody listens on it. Answers go out with a hop limit of one: they reach a container of this host
//! or a neighbour, and a neighbour's address is no container's.
//!
//! Where: [`address`] takes the address, [`serve`] reads requests within bounds, [`answers`] looks up what is asked, and
//! [`fault_injection`] does what is asked, by [`tools`].
//! What the answers are, and who gets them, is `tallyman_agent_core::metadata`.

mod address;
mod answers;
mod fault_injection;
pub mod files;
mod key;
mod port_80;
mod serve;
mod tools;

use std::path::Path;

use tallyman_agent_core::metadata::MetadataKey;
use tokio::net::TcpListener;
use tracing::{info, warn};

pub use address::is_own as is_own_address;
pub use answers::Endpoint;
pub use fault_injection::find as find_fault_abilities;
pub use serve::serve;

use crate::options::Switch;

/// The endpoint, before it is served.
pub struct Opened {
    /// At its address.
    pub listener: TcpListener,
    /// For ids of containers.
    pub key: MetadataKey,
    /// Port 80 leads to it.
    pub port_80: bool,
}

/// Takes the endpoint's address. `None` when it is off, or when the host does not let the agent: then tasks run without
/// it, and are not told of it.
pub async fn open(switch: Switch, data_dir: &Path) -> Option<Opened> {
    match switch {
        Switch::Off => {
            info!("the task metadata endpoint is off");
            return None;
        }
        Switch::On => {}
    }
    let opened = async { anyhow::Ok((address::listen().await?, key::load(data_dir)?)) };
    match opened.await {
        Ok((listener, key)) => {
            info!("serving task metadata on 169.254.170.2");
            let port_80 = lead().await;
            Some(Opened {
                listener,
                key,
                port_80,
            })
        }
        Err(error) => {
            let error = format!("{error:#}");
            warn!(
                error,
                "no task metadata endpoint: containers that start from now on do not get ECS_CONTAINER_METADATA_URI, \
                 ECS_CONTAINER_METADATA_URI_V4 and ECS_AGENT_URI; --task-metadata=off makes this no warning"
            );
            None
        }
    }
}

async fn lead() -> bool {
    let rules = port_80::rules();
    match rules.put().await {
        Ok(()) => {
            tokio::spawn(rules.keep(false));
            true
        }
        Err(error) => {
            let error = format!("{error:#}");
            warn!(
                error,
                "port 80 of 169.254.170.2 does not lead to the task metadata endpoint: containers are told port 51679, \
                 which old SDKs do not look at for credentials"
            );
            false
        }
    }
}

/// Takes away what was put into the host's firewall. The address stays: containers have URIs with it.
pub async fn close() {
    port_80::rules().leave().await;
}
