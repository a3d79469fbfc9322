//! Instance metadata of a cloud, closed to tasks that have an address of their own, where the host's owner says so
//! (`ECS_AWSVPC_BLOCK_IMDS`): whoever reaches it has the credentials of the machine.

use tallyman_agent_core::pause::BRIDGE;
use tracing::{info, warn};

use crate::firewall::Rules;

/// Where EC2 has it, and others after it.
const ADDRESS: &str = "169.254.169.254";

/// Closes it, or opens it again. It stays closed while no agent runs, until the host boots.
pub async fn close(closed: bool) {
    let rules = Rules {
        purpose: "tasks with an address of their own do not reach 169.254.169.254",
        table: "raw",
        chains: &["PREROUTING"],
        does: format!("-i {BRIDGE} -d {ADDRESS}/32 -j DROP"),
    };
    if !closed {
        // Nobody waits for what is open.
        tokio::spawn(async move { rules.leave().await });
        return;
    }
    let put = rules.put().await;
    match &put {
        Ok(()) => info!("{}", rules.purpose),
        Err(error) => {
            let error = format!("{error:#}");
            warn!(
                error,
                "ECS_AWSVPC_BLOCK_IMDS cannot be honoured yet: tasks with an address of their own may reach 169.254.169.254"
            );
        }
    }
    tokio::spawn(rules.keep(put.is_err()));
}
