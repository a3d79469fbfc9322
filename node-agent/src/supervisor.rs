//! Tells the service manager how the agent stands: ready, alive, ending. Without one (no NOTIFY_SOCKET) nothing is told.
//!
//! Alive is what the host's loop is, so the loop itself feeds the watchdog each time that it turns, and turns for that when it has
//! nothing else to do. No timer or thread of its own may do it: it would go on while the loop hangs.

use std::time::Duration;

use sd_notify::NotifyState;
use tokio::time::Instant;
use tracing::debug;

/// Told so much more often than asked for, as the manual of systemd advises at least twice.
const OFTENER: u32 = 3;

/// What the loop tells of itself.
#[derive(Debug)]
pub struct Watchdog {
    every: Option<Duration>,
    due: Option<Instant>,
    ready: bool,
}

impl Watchdog {
    /// As the service manager asks for it in WATCHDOG_USEC.
    pub fn asked_for() -> Self {
        Self::every(sd_notify::watchdog_enabled().map(|period| period / OFTENER))
    }

    fn every(every: Option<Duration>) -> Self {
        Watchdog {
            every,
            due: None,
            ready: false,
        }
    }

    /// The loop turned: says so when it is time to. The first turn is the end of the start.
    pub fn turned(&mut self) {
        let now = Instant::now();
        if !self.ready {
            self.ready = true;
            tell(NotifyState::Ready);
        }
        if self.is_due(now) {
            tell(NotifyState::Watchdog);
        }
    }

    /// When the loop has to turn again.
    pub fn due(&self) -> Option<Instant> {
        self.due
    }

    /// It is time to say so; then the next time is set.
    fn is_due(&mut self, now: Instant) -> bool {
        let Some(every) = self.every else {
            return false;
        };
        let due = self.due.is_none_or(|due| due <= now);
        if due {
            self.due = Some(now + every);
        }
        due
    }
}

/// The agent ends in order.
pub fn stopping() {
    tell(NotifyState::Stopping);
}

fn tell(state: NotifyState<'_>) {
    // Whoever does not listen does not need to be told.
    if let Err(error) = sd_notify::notify(&[state]) {
        debug!(%error, "the service manager was not told");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_due_at_the_first_turn_and_after_each_period() {
        let period = Duration::from_secs(10);
        let mut watchdog = Watchdog::every(Some(period));
        let start = Instant::now();
        let seconds = [0, 1, 9, 10, 11, 25, 26, 35];
        let told: Vec<u64> = seconds
            .into_iter()
            .filter(|second| watchdog.is_due(start + Duration::from_secs(*second)))
            .collect();
        assert_eq!(told, [0, 10, 25, 35]);
        assert_eq!(watchdog.due(), Some(start + Duration::from_secs(45)));
    }

    #[test]
    fn who_asks_for_nothing_is_told_nothing_and_wakes_nobody() {
        let mut watchdog = Watchdog::every(None);
        assert!(!watchdog.is_due(Instant::now()));
        assert_eq!(watchdog.due(), None);
    }
}
