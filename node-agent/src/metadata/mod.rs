//! The task metadata endpoint: HTTP on 169.254.170.2 port 51679, for the containers of this host's tasks and nobody else.
//!
//! The address is put on the loopback interface. A container's packets for it go to its default gateway, which is this
//! host, and arrive there with the container's own address; so no packet is rewritten, and `route_localnet`, which
//! opens loopback to neighbours, stays off. Answers go out with a hop limit of one: they reach a container of this host
//! or a neighbour, and a neighbour's address is no container's.
//!
//! Where: [`address`] takes the address, [`serve`] reads requests within bounds, [`answers`] looks up what is asked.
//! What the answers are, and who gets them, is `tallyman_agent_core::metadata`.

mod address;
mod answers;
pub mod files;
mod key;
mod serve;

use std::path::Path;

use tallyman_agent_core::metadata::MetadataKey;
use tokio::net::TcpListener;
use tracing::{info, warn};

pub use address::is_own as is_own_address;
pub use answers::Endpoint;
pub use serve::serve;

use crate::options::Switch;

/// The endpoint's address, taken, and the key for ids of containers. `None` when it is off, or when the host does not
/// let the agent: then tasks run without it, and are not told of it.
pub async fn open(switch: Switch, data_dir: &Path) -> Option<(TcpListener, MetadataKey)> {
    match switch {
        Switch::Off => {
            info!("the task metadata endpoint is off");
            return None;
        }
        Switch::On => {}
    }
    let opened = async { anyhow::Ok((address::listen().await?, key::load(data_dir)?)) };
    match opened.await {
        Ok(open) => {
            info!("serving task metadata on 169.254.170.2");
            Some(open)
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
