//! When what the host says of itself is sent.

use std::time::Duration;

use jiff::Timestamp;
use tallyman_crds::HostReport;

use crate::backoff::{Backoff, later};

/// Which plan is at hand alone is not worth more than one write in this time.
const GENERATION_PACE: Duration = Duration::from_secs(5);
/// What is told is told again after this long, as a kubelet does it: nobody else would put it right if it changed where it is
/// stored. The API server writes nothing when it did not.
const AGAIN: Duration = Duration::from_secs(300);
const FAILED: Backoff = Backoff {
    first: Duration::from_millis(500),
    longest: Duration::from_secs(30),
};

/// When the host's report is sent: at once when something changed, with patience when only the plan's
/// generation did, with more when nothing did.
#[derive(Clone, Debug, Default)]
pub struct HostOutbox {
    /// And when.
    sent: Option<(HostReport, Timestamp)>,
    failures: u32,
    not_before: Option<Timestamp>,
}

impl HostOutbox {
    /// When `report` is to be sent.
    pub fn due(&self, report: &HostReport, now: Timestamp) -> Timestamp {
        let at = match &self.sent {
            None => now,
            Some((sent, at)) if sent == report => later(*at, AGAIN),
            Some((sent, at)) => {
                let same_otherwise = HostReport {
                    applied_plan_generation: report.applied_plan_generation,
                    applied_plan_epoch: report.applied_plan_epoch,
                    ..sent.clone()
                } == *report;
                if same_otherwise {
                    later(*at, GENERATION_PACE)
                } else {
                    now
                }
            }
        };
        // A clock that was put back must not make it wait for longer.
        let at = at.min(later(now, AGAIN));
        at.max(self.not_before.unwrap_or(Timestamp::MIN))
    }

    /// The API server may have lost what it was told: it is told again.
    pub fn again(&mut self) {
        self.sent = None;
    }

    /// The API server took `report`.
    pub fn sent(&mut self, report: HostReport, now: Timestamp) {
        self.sent = Some((report, now));
        self.failures = 0;
        self.not_before = None;
    }

    /// It did not.
    pub fn failed(&mut self, salt: u64, now: Timestamp) {
        self.failures = self.failures.saturating_add(1);
        self.not_before = Some(FAILED.next(self.failures, salt, now));
    }
}
