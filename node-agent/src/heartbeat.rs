//! The host's Lease: the one sign of life that the operator goes by.
//!
//! A task and a client of its own, so that neither a burst of reports nor a slow engine delays it.
//! What was confirmed is noted, for tasks that stop by themselves on a host that is cut off.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::json;
use tallyman_crds::names;
use tracing::{info, warn};

use crate::api::Api;
use crate::contact::{self, Contacts};
use crate::jitter;

const RENEW: Duration = Duration::from_secs(10);
const FIRST_RETRY: Duration = Duration::from_millis(200);
const LONGEST_RETRY: Duration = Duration::from_secs(7);
/// What the Lease says; the operator's grace, for people who read it.
const DURATION_SECONDS: i32 = 50;

/// Renews the Lease until dropped.
pub async fn run(api: Api, holder: String, contacts: Arc<Contacts>) {
    let lease = names::host_identity(&api.name);
    let mut failures: u32 = 0;
    loop {
        let body = json!({ "spec": {
            "holderIdentity": holder,
            "leaseDurationSeconds": DURATION_SECONDS,
            "renewTime": format!("{:.6}", Timestamp::now()),
        }});
        let sent = contact::since_boot();
        match api.patch_lease(&lease, &body).await {
            Ok(()) => {
                contacts.confirmed(sent);
                if failures > 0 {
                    info!(lease, failures, "lease renewed again");
                }
                failures = 0;
                tokio::time::sleep(jitter::about(RENEW)).await;
            }
            Err(error) => {
                failures = failures.saturating_add(1);
                // The first, and then every now and then.
                if failures == 1 || failures.is_multiple_of(20) {
                    warn!(lease, failures, error, "lease not renewed");
                }
                let wait = FIRST_RETRY.saturating_mul(1 << failures.min(8).saturating_sub(1));
                tokio::time::sleep(jitter::about(wait.min(LONGEST_RETRY))).await;
            }
        }
    }
}
