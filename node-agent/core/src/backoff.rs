//! How long to wait before asking again.

use std::time::Duration;

use jiff::Timestamp;

/// Doubling waits between two bounds, spread by a salt so that a hundred tasks do not ask at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    /// Wait after the first failure.
    pub first: Duration,
    /// No wait is longer (before the spread).
    pub longest: Duration,
}

impl Backoff {
    /// Wait after `attempts` failures (from 1), give or take an eighth, the same for the same salt.
    ///
    /// Example: `first` 1 s, `longest` 30 s, 4 failures: 8 s, between 7 and 9 s by salt.
    pub fn after(&self, attempts: u32, salt: u64) -> Duration {
        let doublings = attempts.saturating_sub(1).min(20);
        let wait = self.first.saturating_mul(1 << doublings).min(self.longest);
        let spread = (salt ^ u64::from(attempts).wrapping_mul(0x9e37_79b9_7f4a_7c15)) % 257;
        let eighth = wait / 8;
        // spread/256 of a quarter, from one eighth below.
        wait - eighth
            + (eighth * 2).mul_f64(f64::from(u32::try_from(spread).unwrap_or(128)) / 256.0)
    }

    /// `now` plus [`Backoff::after`].
    pub fn next(&self, attempts: u32, salt: u64, now: Timestamp) -> Timestamp {
        later(now, self.after(attempts, salt))
    }
}

/// `now` plus `span`, at most the end of representable time.
pub fn later(now: Timestamp, span: Duration) -> Timestamp {
    now.checked_add(jiff::SignedDuration::try_from(span).unwrap_or(jiff::SignedDuration::MAX))
        .unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_to_the_bound_and_stay_near_it() {
        let backoff = Backoff {
            first: Duration::from_secs(1),
            longest: Duration::from_secs(30),
        };
        for (attempts, middle) in [(1, 1.0), (2, 2.0), (4, 8.0), (6, 30.0), (90, 30.0)] {
            for salt in [0, 1, 77, u64::MAX] {
                let wait = backoff.after(attempts, salt).as_secs_f64();
                assert!(
                    (wait - middle).abs() <= middle / 8.0 + 0.001,
                    "{attempts} {salt}: {wait}"
                );
            }
        }
    }
}
