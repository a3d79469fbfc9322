//! How many stops an engine is asked for at once, and when the next one begins.
//!
//! An engine that is asked for fifty at once needs half as long again as for eight. What is to be rationed is its work, and a call does not say
//! whether the engine works or waits for a container that takes its time. But an engine that works returns from one call after
//! the other: while it does, nothing more is asked of it.

use std::time::Duration;

/// Stops that begin at once: turns there are.
pub const TURNS: usize = 8;
/// No stop has returned for so long: the engine only waits, and the next ones begin.
const QUIET: Duration = Duration::from_millis(500);
/// A stop lets the next one begin after this in any case: others may return while its container takes its time.
const LONGEST: Duration = Duration::from_secs(2);

/// The turn of one stop. It ends when the stop returns, and at [`Turn::over_at`]. Times count from its beginning.
#[derive(Clone, Copy, Debug, Default)]
pub struct Turn {
    returned: Duration,
}

impl Turn {
    /// Another stop has returned.
    pub fn another_returned(&mut self, at: Duration) {
        self.returned = at;
    }

    /// When the next stop may begin though this one has not returned, unless another returns before.
    pub fn over_at(&self) -> Duration {
        (self.returned + QUIET).min(LONGEST)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_turn_is_as_long_as_others_return_and_no_longer_than_two_seconds() {
        let ms = Duration::from_millis;
        let mut turn = Turn::default();
        assert_eq!(turn.over_at(), ms(500));
        turn.another_returned(ms(499));
        assert_eq!(turn.over_at(), ms(999));
        turn.another_returned(ms(998));
        turn.another_returned(ms(1497));
        assert_eq!(turn.over_at(), ms(1997));
        turn.another_returned(ms(1996));
        assert_eq!(turn.over_at(), ms(2000));
    }
}
