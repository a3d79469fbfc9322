//! The host's Lease: the one sign of life that the operator goes by, and the sign of who works as the host.
//!
//! A task and a client of its own, so that neither a burst of reports nor a slow engine delays it.
//! What was confirmed is noted, for tasks that stop by themselves on a host that is cut off. Whether another machine
//! works as this host is `tallyman_agent_core::tenure`'s to say.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use serde_json::json;
use tallyman_agent_core::tenure::{Holder, Rival, Step, Tenure};
use tallyman_crds::names;
use tracing::{info, warn};

use crate::api::{Api, LeaseError, StoredLease};
use crate::contact::{self, Contacts};
use crate::jitter;

const RENEW: Duration = Duration::from_secs(10);
const FIRST_RETRY: Duration = Duration::from_millis(200);
const LONGEST_RETRY: Duration = Duration::from_secs(7);
/// An API server that is away keeps a starting agent from its work for so long and no longer.
const FIRST_ANSWER: Duration = Duration::from_secs(3);
/// What the Lease says; the operator's grace, for people who read it.
const DURATION_SECONDS: i32 = 50;

/// What the Lease tells of the host's identity, for whoever tells people.
#[derive(Clone)]
pub struct Identity(Arc<Mutex<Tenure>>);

impl Identity {
    /// Of this start of the agent, on this machine, with this folder.
    pub fn new(boot_id: Option<&str>, folder: &Path) -> Self {
        let boot = boot_id.unwrap_or("unknown");
        // A copy of the folder beside it is another one.
        let machine = match std::fs::metadata(folder) {
            Ok(folder) => format!("{boot}.{:x}.{:x}", folder.dev(), folder.ino()),
            Err(_) => boot.to_owned(),
        };
        let pid = std::process::id();
        let start = format!("{pid}-{:x}", Timestamp::now().as_millisecond());
        Self(Arc::new(Mutex::new(Tenure::new(Holder { machine, start }))))
    }

    /// What is wrong with it.
    pub fn complaint(&self) -> Option<String> {
        self.with(|tenure| tenure.complaint(now()))
    }

    fn with<T>(&self, work: impl FnOnce(&mut Tenure) -> T) -> T {
        work(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

fn now() -> Duration {
    contact::since_boot().unwrap_or_default()
}

/// Renews the Lease.
pub struct Heartbeat {
    api: Api,
    lease: String,
    identity: Identity,
    contacts: Arc<Contacts>,
    /// As it was written last; `None` when it may have changed since.
    known: Option<StoredLease>,
}

/// How a beat went.
enum Beat {
    Renewed,
    /// Nothing was written; another one is due.
    Again(Duration),
}

/// Why a beat failed.
enum Missed {
    /// In words; it is tried again.
    Failed(String),
    /// This machine is a copy of another.
    Copy(Rival),
}

impl From<LeaseError> for Missed {
    fn from(error: LeaseError) -> Self {
        Self::Failed(error.to_string())
    }
}

impl Heartbeat {
    /// Nothing is sent yet.
    pub fn new(api: Api, identity: Identity, contacts: Arc<Contacts>) -> Self {
        Self {
            lease: names::host_identity(&api.name),
            api,
            identity,
            contacts,
            known: None,
        }
    }

    /// Renews it for the first time, or watches as long as another machine may be at work. An API server that does not answer
    /// is no reason to wait: the host goes on with what it knows.
    ///
    /// # Errors
    /// Another machine works as this host.
    pub async fn settle(&mut self) -> Result<(), Rival> {
        let mut told = false;
        loop {
            let wait = match tokio::time::timeout(FIRST_ANSWER, self.beat()).await {
                Ok(Ok(Beat::Renewed)) => return Ok(()),
                Ok(Ok(Beat::Again(after))) => after,
                Ok(Err(Missed::Copy(rival))) => return Err(rival),
                Ok(Err(Missed::Failed(_))) | Err(_) => {
                    if self
                        .identity
                        .with(|tenure| tenure.may_work_unanswered(now()))
                    {
                        return Ok(());
                    }
                    FIRST_RETRY
                }
            };
            if self.identity.with(|tenure| tenure.watches()) && !std::mem::replace(&mut told, true)
            {
                info!(
                    lease = self.lease,
                    "this machine, before it booted, or another one worked as this host last; waiting whether somebody still does"
                );
            }
            tokio::time::sleep(wait).await;
        }
    }

    /// Renews it until dropped, or until another machine turns out to work as this host.
    pub async fn run(mut self) -> Rival {
        let mut failures: u32 = 0;
        loop {
            let wait = match self.beat().await {
                Ok(Beat::Again(after)) => after,
                Ok(Beat::Renewed) => {
                    if failures > 0 {
                        info!(lease = self.lease, failures, "lease renewed again");
                    }
                    failures = 0;
                    jitter::about(RENEW)
                }
                Err(Missed::Copy(rival)) => return rival,
                Err(Missed::Failed(error)) => {
                    failures = failures.saturating_add(1);
                    // The first, and then every now and then.
                    if failures == 1 || failures.is_multiple_of(20) {
                        warn!(lease = self.lease, failures, error, "lease not renewed");
                    }
                    let wait = FIRST_RETRY.saturating_mul(1 << failures.min(8).saturating_sub(1));
                    jitter::about(wait.min(LONGEST_RETRY))
                }
            };
            tokio::time::sleep(wait).await;
        }
    }

    async fn beat(&mut self) -> Result<Beat, Missed> {
        let stored = match self.known.take() {
            Some(stored) => stored,
            None => self.api.lease(&self.lease).await?,
        };
        let (step, holder) = self
            .identity
            .with(|tenure| (tenure.step(&stored.lease, now()), tenure.own().to_string()));
        match step {
            Step::Look { after } => Ok(Beat::Again(after)),
            Step::Renew { number } => {
                let spec = json!({
                    "holderIdentity": holder,
                    "leaseTransitions": number,
                    "leaseDurationSeconds": DURATION_SECONDS,
                    "renewTime": format!("{:.6}", Timestamp::now()),
                });
                let sent = contact::since_boot();
                match self.api.patch_lease(&stored, spec).await {
                    Ok(written) => {
                        self.known = Some(written);
                        self.identity.with(|tenure| tenure.wrote(number));
                        self.contacts.confirmed(sent);
                        Ok(Beat::Renewed)
                    }
                    // Somebody else wrote it since it was read.
                    Err(LeaseError::Changed) => Ok(Beat::Again(jitter::about(FIRST_RETRY))),
                    Err(error) => Err(error.into()),
                }
            }
            Step::Yield { number, rival } => {
                let sign = json!({ "leaseTransitions": number });
                match self.api.patch_lease(&stored, sign).await {
                    Err(LeaseError::Changed) => Ok(Beat::Again(jitter::about(FIRST_RETRY))),
                    Ok(_) | Err(LeaseError::Failed(_)) => Err(Missed::Copy(rival)),
                }
            }
        }
    }
}
