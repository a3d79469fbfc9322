//! Stops, a few at a time: an engine that is asked for fifty at once needs half as long again as for eight.
//!
//! What holds a turn is the engine's work, and a call does not say whether the engine works or waits for a container that takes its
//! time. But an engine that works returns from one call after the other: while it does, nothing more is asked of it.

use std::time::Duration;

use tokio::sync::{Notify, Semaphore};

/// Stops that begin at once.
const STOPS: usize = 8;
/// No stop has returned for so long: the engine only waits, and the next ones begin.
const QUIET: Duration = Duration::from_millis(500);
/// A stop lets the next one begin after this in any case: others may return while its container takes its time.
const TURN: Duration = Duration::from_secs(2);

/// Turns for stops.
pub struct Stops {
    turns: Semaphore,
    returned: Notify,
}

impl Default for Stops {
    fn default() -> Self {
        Self {
            turns: Semaphore::new(STOPS),
            returned: Notify::new(),
        }
    }
}

impl Stops {
    /// Does it when it is its turn.
    pub async fn in_turn<T>(&self, stop: impl Future<Output = T>) -> T {
        // Never closed.
        let turn = self.turns.acquire().await.ok();
        let mut stop = std::pin::pin!(stop);
        let mut over = std::pin::pin!(tokio::time::sleep(TURN));
        let done = loop {
            tokio::select! {
                biased;
                done = &mut stop => break Some(done),
                () = self.returned.notified() => {}
                () = &mut over => break None,
                () = tokio::time::sleep(QUIET) => break None,
            }
        };
        drop(turn);
        let done = match done {
            Some(done) => done,
            None => stop.await,
        };
        self.returned.notify_waiters();
        done
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_few_at_once_and_slow_ones_hold_nobody_up() {
        let stops = Stops::default();
        let begun = AtomicUsize::new(0);
        let slow = || async {
            begun.fetch_add(1, Ordering::Relaxed);
            tokio::time::sleep(Duration::from_secs(30)).await;
        };
        let all = futures::future::join_all((0..20).map(|_| stops.in_turn(slow())));
        let look = async {
            let mut seen = Vec::new();
            for _ in 0..4 {
                tokio::time::sleep(Duration::from_millis(400)).await;
                seen.push(begun.load(Ordering::Relaxed));
            }
            seen
        };
        let (_, seen) = futures::future::join(all, look).await;
        assert_eq!(seen, [12, 20, 20, 20]);
    }
}
