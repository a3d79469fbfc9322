//! Stops, a few at a time, as the core says (`stops`).

use tallyman_agent_core::stops::{TURNS, Turn};
use tokio::sync::{Notify, Semaphore};
use tokio::time::Instant;

/// Turns for stops.
pub struct Stops {
    turns: Semaphore,
    returned: Notify,
}

impl Default for Stops {
    fn default() -> Self {
        Self {
            turns: Semaphore::new(TURNS),
            returned: Notify::new(),
        }
    }
}

impl Stops {
    /// Does it when it is its turn.
    pub async fn in_turn<T>(&self, stop: impl Future<Output = T>) -> T {
        // Never closed.
        let place = self.turns.acquire().await.ok();
        let (began, mut turn) = (Instant::now(), Turn::default());
        let mut stop = std::pin::pin!(stop);
        let done = loop {
            tokio::select! {
                biased;
                done = &mut stop => break Some(done),
                () = self.returned.notified() => turn.another_returned(began.elapsed()),
                () = tokio::time::sleep_until(began + turn.over_at()) => break None,
            }
        };
        drop(place);
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
    use std::cell::Cell;
    use std::time::Duration;

    use super::*;

    async fn seen_every(period: Duration, times: usize, begun: &Cell<usize>) -> Vec<usize> {
        let mut seen = Vec::new();
        for _ in 0..times {
            tokio::time::sleep(period).await;
            seen.push(begun.get());
        }
        seen
    }

    #[tokio::test(start_paused = true)]
    async fn containers_that_take_their_time_hold_nobody_up() {
        let (stops, begun) = (Stops::default(), Cell::new(0));
        let slow = || async {
            begun.set(begun.get() + 1);
            tokio::time::sleep(Duration::from_secs(30)).await;
        };
        let all = futures::future::join_all((0..20).map(|_| stops.in_turn(slow())));
        let look = seen_every(Duration::from_millis(400), 3, &begun);
        let (_, seen) = futures::future::join(all, look).await;
        assert_eq!(seen, [8, 16, 20]);
    }

    #[tokio::test(start_paused = true)]
    async fn an_engine_that_works_is_asked_for_eight_at_once_however_long_each_takes() {
        let (stops, at_once, most) = (Stops::default(), Cell::new(0_u64), Cell::new(0));
        // Fifty stops of which one returns every 100 ms: 0.8 s each.
        let engine = tokio::sync::Mutex::new(());
        let stop = || async {
            at_once.set(at_once.get() + 1);
            most.set(most.get().max(at_once.get()));
            let _works = engine.lock().await;
            tokio::time::sleep(Duration::from_millis(100)).await;
            at_once.set(at_once.get() - 1);
        };
        let began = tokio::time::Instant::now();
        futures::future::join_all((0..50).map(|_| stops.in_turn(stop()))).await;
        assert_eq!(most.get(), 8);
        assert_eq!(began.elapsed(), Duration::from_secs(5));
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_takes_its_time_gives_up_its_turn_though_others_return() {
        let stops = Stops::default();
        let took =
            |seconds: f64| stops.in_turn(tokio::time::sleep(Duration::from_secs_f64(seconds)));
        let began = tokio::time::Instant::now();
        let slow = futures::future::join_all((0..7).map(|_| took(30.0)));
        let quick = async {
            futures::future::join_all((0..20).map(|_| took(0.3))).await;
            began.elapsed()
        };
        let (_, quick) = futures::future::join(slow, quick).await;
        // One after the other they would take 6 s.
        assert!(quick < Duration::from_secs(3), "{quick:?}");
    }
}
