//! Stops, a few at a time: an engine that is asked for fifty at once needs half as long again as for eight. A dozen, with the
//! operator's smaller steps, end the last of fifty containers sooner, though all are known to be stopped no sooner (`make bench`).

use std::time::Duration;

use tokio::sync::Semaphore;

/// Stops that begin at once.
const STOPS: usize = 12;
/// A stop that takes longer lets the next one begin: its container takes its time, and the engine only waits.
const TURN: Duration = Duration::from_millis(500);

/// Turns for stops.
pub struct Stops(Semaphore);

impl Default for Stops {
    fn default() -> Self {
        Self(Semaphore::new(STOPS))
    }
}

impl Stops {
    /// Does it when it is its turn.
    pub async fn in_turn<T>(&self, stop: impl Future<Output = T>) -> T {
        // Never closed.
        let turn = self.0.acquire().await.ok();
        let mut stop = std::pin::pin!(stop);
        tokio::select! {
            biased;
            done = &mut stop => return done,
            () = tokio::time::sleep(TURN) => drop(turn),
        }
        stop.await
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
