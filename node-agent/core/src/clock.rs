//! How far the host's clock is from the API server's.
//!
//! Every answer of an API server says when it was given (`Date`, RFC 9110 6.6.1), to the second. That was after the request was
//! sent and before the answer came, so an answer that says another time than the host's clock had meanwhile is a proof, however
//! long it took; only what it proves is told. What hangs on time here goes by the clock since boot ([`crate::silence`]) or by
//! changes that somebody sees, so a clock that is off moves no task. But what the host reports has its times.

use std::time::Duration;

use jiff::Timestamp;

/// More than this is told, either way.
const TOLD: Duration = Duration::from_secs(10);
/// What was told is right again with less than this.
const RIGHT: Duration = Duration::from_secs(5);
/// A `Date` has no fractions: it was given in the second that begins with it.
const SECOND: Duration = Duration::from_secs(1);

/// Whose time is later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Off {
    Ahead,
    Behind,
}

/// What is known of the host's clock.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HostClock {
    /// As it is told: it changes when it is another one by more than is told at all.
    told: Option<(Off, Duration)>,
}

impl HostClock {
    /// An answer that says `date`, to a request that was sent and answered at these times of the host's clock.
    pub fn answered(&mut self, date: Timestamp, sent: Timestamp, received: Timestamp) {
        // It was set meanwhile: that says nothing.
        if received < sent {
            return;
        }
        let ahead = between(date, sent).saturating_sub(SECOND);
        let behind = between(received, date);
        let (off, by) = if ahead > behind {
            (Off::Ahead, ahead)
        } else {
            (Off::Behind, behind)
        };
        self.told = match self.told {
            Some((told, before)) if told == off => match by {
                by if by < RIGHT => None,
                by if by.abs_diff(before) <= TOLD => Some((told, before)),
                by => Some((off, by)),
            },
            _ => (by > TOLD).then_some((off, by)),
        };
    }

    /// What is wrong with it, for people.
    pub fn complaint(&self) -> Option<String> {
        let (off, by) = self.told?;
        let off = match off {
            Off::Ahead => "ahead of",
            Off::Behind => "behind",
        };
        Some(format!(
            "The clock of this host is {} s {off} the API server's, and so are the times that it reports. Set it, by NTP for \
             example.",
            by.as_secs()
        ))
    }
}

/// From `earlier` to `later`; none when it is not.
fn between(earlier: Timestamp, later: Timestamp) -> Duration {
    let span = later.duration_since(earlier);
    Duration::try_from(span).unwrap_or_default()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use jiff::SignedDuration;
    use proptest::prelude::*;

    use super::*;

    const NOW: Timestamp = Timestamp::UNIX_EPOCH;

    fn millis(millis: i64) -> SignedDuration {
        SignedDuration::from_millis(millis)
    }

    /// The host's clock is `off` from the API server's; an answer is given `way` after it was asked for and comes `back` later.
    fn answer(clock: &mut HostClock, off: i64, way: i64, back: i64, at: i64) {
        let given = NOW + millis(at + way);
        let date = Timestamp::from_second(given.as_second()).unwrap();
        clock.answered(
            date,
            NOW + millis(at + off),
            NOW + millis(at + way + back + off),
        );
    }

    #[test]
    fn five_minutes_either_way_are_told_and_then_no_more() {
        let mut clock = HostClock::default();
        answer(&mut clock, 300_000, 5, 5, 0);
        let told = clock.complaint().unwrap();
        assert!(
            told.starts_with("The clock of this host is 298 s ahead of the API server's,")
                || told.starts_with("The clock of this host is 299 s ahead of the API server's,"),
            "{told}"
        );
        // It drifts: the sentence stays as it is.
        answer(&mut clock, 304_000, 5, 5, 900);
        assert_eq!(clock.complaint().unwrap(), told);
        answer(&mut clock, -300_000, 5, 5, 0);
        let told = clock.complaint().unwrap();
        assert!(told.contains("is 299 s behind the API server's,"), "{told}");
        answer(&mut clock, -7_000, 5, 5, 0);
        assert_eq!(
            clock.complaint().unwrap(),
            "The clock of this host is 6 s behind the API server's, and so are the times that it reports. Set it, by NTP for example."
        );
        answer(&mut clock, 200, 5, 5, 0);
        assert_eq!(clock.complaint(), None);
    }

    #[test]
    fn a_clock_that_is_set_between_request_and_answer_says_nothing() {
        let mut clock = HostClock::default();
        clock.answered(NOW, NOW + millis(60_000), NOW);
        assert_eq!(clock.complaint(), None);
    }

    proptest! {
        /// An answer that took long, or a process that slept over it, accuses nobody.
        #[test]
        fn a_right_clock_is_never_accused(way in 0..600_000_i64, back in 0..600_000_i64, at in 0..2_000_i64, before in -90_000..90_000_i64) {
            let mut clock = HostClock::default();
            answer(&mut clock, 0, way, back, at);
            prop_assert_eq!(clock.complaint(), None);
            answer(&mut clock, before, 5, 5, at);
            answer(&mut clock, 0, way, back, at);
            prop_assert_eq!(clock.complaint(), None);
        }

        /// What is told is the truth or less of it, and never by more than the answer took and what is not told.
        #[test]
        fn what_is_told_is_true(off in -600_000..600_000_i64, way in 0..3_000_i64, back in 0..3_000_i64, at in 0..2_000_i64) {
            let mut clock = HostClock::default();
            answer(&mut clock, off, way, back, at);
            match clock.told {
                Some((side, by)) => {
                    prop_assert_eq!(side == Off::Ahead, off > 0);
                    let by = i64::try_from(by.as_millis()).unwrap();
                    prop_assert!(by <= off.abs() && by >= off.abs() - way - back - 1_000, "{by} of {off}");
                }
                None => prop_assert!(off.abs() <= 10_000 + way + back + 1_000),
            }
        }
    }
}
