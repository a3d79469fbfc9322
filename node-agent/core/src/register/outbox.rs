//! When what the host says of itself is sent.

use std::time::Duration;

use jiff::Timestamp;
use tallyman_crds::HostReport;

use crate::backoff::{Backoff, later};

/// Which plan is at hand alone is not worth more than one write in this time.
const GENERATION_PACE: Duration = Duration::from_secs(5);
const FAILED: Backoff = Backoff {
    first: Duration::from_millis(500),
    longest: Duration::from_secs(30),
};

/// When the host's report is sent: at once when something changed, with patience when only the plan's
/// generation did.
#[derive(Clone, Debug, Default)]
pub struct HostOutbox {
    sent: Option<HostReport>,
    sent_at: Option<Timestamp>,
    failures: u32,
    not_before: Option<Timestamp>,
}

impl HostOutbox {
    /// When `report` is to be sent; `None` if it need not be.
    pub fn due(&self, report: &HostReport, now: Timestamp) -> Option<Timestamp> {
        let at = match &self.sent {
            None => now,
            Some(sent) if sent == report => return None,
            Some(sent) => {
                let same_otherwise = HostReport {
                    applied_plan_generation: report.applied_plan_generation,
                    applied_plan_epoch: report.applied_plan_epoch,
                    ..sent.clone()
                } == *report;
                match self.sent_at {
                    Some(sent_at) if same_otherwise => later(sent_at, GENERATION_PACE),
                    _ => now,
                }
            }
        };
        Some(at.max(self.not_before.unwrap_or(Timestamp::MIN)))
    }

    /// The API server may have lost what it was told: it is told again.
    pub fn again(&mut self) {
        self.sent = None;
    }

    /// The API server took `report`.
    pub fn sent(&mut self, report: HostReport, now: Timestamp) {
        self.sent = Some(report);
        self.sent_at = Some(now);
        self.failures = 0;
        self.not_before = None;
    }

    /// It did not.
    pub fn failed(&mut self, salt: u64, now: Timestamp) {
        self.failures = self.failures.saturating_add(1);
        self.not_before = Some(FAILED.next(self.failures, salt, now));
    }
}
