//! The loop's side toward its ContainerInstance: when `status.host` is sent.

use std::time::Duration;

use jiff::Timestamp;
use tallyman_agent_engine::Engine;
use tallyman_crds::HostReport;
use tokio::time::Instant;
use tracing::{debug, info, warn};

use crate::agent::Agent;
use crate::{gpus, instance};

impl<E: Engine> Agent<E> {
    /// Whether GPUs are shared may change while the agent runs. Looked at with every list of containers.
    pub(super) fn look_at_gpus(&mut self) {
        let found = &mut self.host_facts.gpus;
        if gpus::look_again(found) {
            match found.complaint() {
                Some(complaint) => warn!(complaint, "GPUs"),
                None => info!("MPS' control daemon listens; GPUs are shared"),
            }
        }
    }

    /// Sends the host's report if it is due; says when to come back otherwise.
    pub(super) fn report(&mut self, report: HostReport) -> Option<Instant> {
        if self.reporting.is_some() {
            return None;
        }
        if !self.engine.heard {
            return None;
        }
        let now = Timestamp::now();
        let due = self.outbox.due(&report, now);
        if due <= now {
            let api = self.shared.api.clone();
            self.reporting = Some(Box::pin(async move {
                let sent = instance::send(&api, &report).await;
                (report, sent)
            }));
            return None;
        }
        let wait = Duration::try_from(due.duration_since(now)).unwrap_or(Duration::from_secs(1));
        Some(Instant::now() + wait)
    }

    pub(super) fn reported(&mut self, report: HostReport, sent: Result<(), String>) {
        let now = Timestamp::now();
        match sent {
            Ok(()) => {
                debug!(generation = report.applied_plan_generation, "host reported");
                self.outbox.sent(report, now);
            }
            Err(error) => {
                warn!(error, "host not reported; tried again");
                self.outbox.failed(u64::from(std::process::id()), now);
            }
        }
    }
}
