//! One operator leads. A Lease, checked by resourceVersion, timed by what we observe on our own clock.
//!
//! The rules are those of client-go's leader election. What protects against a leader that does not know that it is
//! deposed is not the Lease but derived names, preconditions on every write, and the epoch in every host plan.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use kube::api::{Api, PostParams};
use kube::{Client, Error};
use tallyman_crds::versions;
use tokio::time::timeout;

/// Name of the Lease.
const NAME: &str = "tallyman-operator";
/// A standby looks at least so often.
const STANDBY: Duration = Duration::from_millis(500);

const NO_ANSWER: &str = "the API server did not answer in time";

/// Candidate for the lead.
#[derive(Debug)]
pub struct Candidate {
    api: Api<Lease>,
    identity: String,
    duration: Duration,
    observed: Option<(String, Instant)>,
}

/// The lead.
#[derive(Debug)]
pub struct Lead {
    /// Rises with every change of leader; goes into every host plan.
    pub epoch: i64,
    lease: Lease,
}

impl Candidate {
    /// A candidate called `identity`. `client` must not retry by itself: a late renewal is worse than a failed one.
    pub fn new(client: Client, namespace: &str, identity: String, duration: Duration) -> Candidate {
        Candidate {
            api: Api::namespaced(client, namespace),
            identity,
            duration,
            observed: None,
        }
    }

    /// How often a leader renews.
    pub fn period(&self) -> Duration {
        self.duration / 7
    }

    /// How often a standby looks: a lead that is given back is taken over within two seconds, the first pass included.
    pub fn standby_period(&self) -> Duration {
        self.period().min(STANDBY)
    }

    fn call_timeout(&self) -> Duration {
        self.duration / 3
    }

    /// Tries once to take the lead. `next`: the epoch after that of the Lease, so that epochs go on rising even after the
    /// Lease was deleted or came back from a backup.
    ///
    /// # Errors
    /// The API server refused or did not answer, or epochs are used up; losing a race is not an error.
    pub async fn acquire(&mut self, next: impl Fn(i64) -> i64) -> anyhow::Result<Option<Lead>> {
        let found = timeout(self.call_timeout(), self.api.get_opt(NAME))
            .await
            .context("reading the leader's Lease timed out")?
            .context("cannot read the leader's Lease")?;
        let Some(current) = found else {
            let new = Lease {
                metadata: ObjectMeta {
                    name: Some(NAME.to_owned()),
                    ..ObjectMeta::default()
                },
                spec: None,
            };
            let lease = self.held(&new, within(next(0))?);
            return self
                .write(self.api.create(&PostParams::default(), &lease))
                .await;
        };
        let version = current
            .metadata
            .resource_version
            .clone()
            .unwrap_or_default();
        let spec = current.spec.clone().unwrap_or_default();
        let free = spec.holder_identity.as_deref().is_none_or(str::is_empty);
        let expired = match &self.observed {
            Some((seen, at)) if *seen == version => at.elapsed() >= self.duration,
            Some(_) | None => {
                self.observed = Some((version, Instant::now()));
                false
            }
        };
        if !free && !expired {
            return Ok(None);
        }
        let epoch = within(next(i64::from(spec.lease_transitions.unwrap_or(0))))?;
        let lease = self.held(&current, epoch);
        self.write(self.api.replace(NAME, &PostParams::default(), &lease))
            .await
    }

    /// Renews the lead.
    ///
    /// # Errors
    /// Somebody else leads; or the Lease is an older one of ours; or the API server could not be reached in time: the caller
    /// gives up the lead when this goes on for longer than two thirds of the Lease's duration.
    pub async fn renew(&self, lead: &mut Lead) -> Result<(), RenewError> {
        let lease = self.held(&lead.lease, lead.epoch);
        let params = PostParams::default();
        match timeout(self.call_timeout(), self.api.replace(NAME, &params, &lease)).await {
            Ok(Ok(lease)) => {
                lead.lease = lease;
                Ok(())
            }
            Ok(Err(Error::Api(status))) if status.is_conflict() || status.is_not_found() => {
                let live = self.ours(lead.epoch).await?;
                let went_back = is_older(&live, &lead.lease);
                lead.lease = live;
                if went_back {
                    Err(RenewError::WentBack)
                } else {
                    Ok(())
                }
            }
            Ok(Err(e)) => Err(RenewError::Unreachable(e.to_string())),
            Err(_) => Err(RenewError::Unreachable(NO_ANSWER.to_owned())),
        }
    }

    /// Keeps the lead with an epoch above `above`.
    ///
    /// # Errors
    /// Another operator took the lead, or the API server did not answer: the lead is lost.
    pub async fn raise(&self, mut lead: Lead, above: i64) -> anyhow::Result<Lead> {
        let epoch = within(above.max(lead.epoch).saturating_add(1))?;
        for _ in 0..2 {
            let raised = self.held(&lead.lease, epoch);
            let params = PostParams::default();
            if let Some(lead) = self.write(self.api.replace(NAME, &params, &raised)).await? {
                return Ok(lead);
            }
            lead.lease = self.ours(lead.epoch).await.context("lost the lead")?;
        }
        anyhow::bail!("lost the lead: its Lease is written by somebody else")
    }

    /// Gives the lead back, so that the next leader need not wait.
    pub async fn release(&self, lead: Lead) {
        if let Err(error) = self.give_back(lead).await {
            let error = format!("{error:#}");
            tracing::warn!(
                error,
                "could not give the lead back; the next leader waits for the lease to expire"
            );
        }
    }

    async fn give_back(&self, mut lead: Lead) -> anyhow::Result<()> {
        for _ in 0..2 {
            let mut given = self.held(&lead.lease, lead.epoch);
            given.spec.get_or_insert_default().holder_identity = None;
            let params = PostParams::default();
            let call = self.api.replace(NAME, &params, &given);
            if self.write(call).await?.is_some() {
                return Ok(());
            }
            lead.lease = match self.ours(lead.epoch).await {
                Ok(live) => live,
                Err(RenewError::Deposed) => return Ok(()),
                Err(error) => return Err(error.into()),
            };
        }
        anyhow::bail!("its Lease is written by somebody else")
    }

    /// The Lease as it is, after a write of ours that conflicted: one that was under way may have been stored without our seeing
    /// the answer.
    async fn ours(&self, epoch: i64) -> Result<Lease, RenewError> {
        match timeout(self.call_timeout(), self.api.get_opt(NAME)).await {
            Ok(Ok(Some(live))) if self.holds(&live, epoch) => Ok(live),
            Ok(Ok(_)) => Err(RenewError::Deposed),
            Ok(Err(error)) => Err(RenewError::Unreachable(error.to_string())),
            Err(_) => Err(RenewError::Unreachable(NO_ANSWER.to_owned())),
        }
    }

    /// The Lease is ours, as leader of `epoch`.
    fn holds(&self, lease: &Lease, epoch: i64) -> bool {
        lease.spec.as_ref().is_some_and(|s| {
            s.holder_identity.as_deref() == Some(&self.identity)
                && s.lease_transitions.map(i64::from) == Some(epoch)
        })
    }

    /// `lease`, held by us as leader of `epoch`: from now on, or as long as we hold it.
    fn held(&self, lease: &Lease, epoch: i64) -> Lease {
        let now = MicroTime(jiff::Timestamp::now());
        let taken = self.holds(lease, epoch).then(|| lease.spec.clone());
        let taken = taken.flatten().and_then(|spec| spec.acquire_time);
        Lease {
            metadata: lease.metadata.clone(),
            spec: Some(LeaseSpec {
                holder_identity: Some(self.identity.clone()),
                lease_duration_seconds: i32::try_from(self.duration.as_secs().max(1)).ok(),
                lease_transitions: i32::try_from(epoch).ok(),
                acquire_time: taken.or_else(|| Some(now.clone())),
                renew_time: Some(now),
                ..LeaseSpec::default()
            }),
        }
    }

    async fn write(
        &self,
        call: impl Future<Output = Result<Lease, Error>>,
    ) -> anyhow::Result<Option<Lead>> {
        match timeout(self.call_timeout(), call)
            .await
            .context("taking the lead timed out")?
        {
            Ok(lease) => {
                let epoch = lease
                    .spec
                    .as_ref()
                    .and_then(|s| s.lease_transitions)
                    .map_or(1, i64::from);
                Ok(Some(Lead { epoch, lease }))
            }
            Err(Error::Api(status)) if status.is_conflict() || status.is_already_exists() => {
                Ok(None)
            }
            Err(e) => Err(e).context("cannot write the leader's Lease"),
        }
    }
}

/// An epoch that a Lease takes.
fn within(epoch: i64) -> anyhow::Result<i64> {
    let most = i32::MAX;
    anyhow::ensure!(
        epoch <= i64::from(most),
        "cannot lead: the next leader's number would be {epoch}, and the `leaseTransitions` of a Lease end at {most}; a \
         HostPlan has a `leaderEpoch` that no leader can have given it"
    );
    Ok(epoch)
}

fn is_older(lease: &Lease, than: &Lease) -> bool {
    let versions = [lease, than].map(|lease| lease.metadata.resource_version.as_deref());
    matches!(versions, [Some(version), Some(than)] if versions::is_older(version, than))
}

/// Why a renewal failed.
#[derive(Debug, thiserror::Error)]
pub enum RenewError {
    /// Another operator leads.
    #[error("another operator leads")]
    Deposed,
    /// The Lease is ours, and older than the one that was written last: the API server went back to an older state.
    #[error("the API server went back to an older state")]
    WentBack,
    /// No answer, or an error that may pass.
    #[error("cannot renew the leader's Lease: {0}")]
    Unreachable(String),
}
