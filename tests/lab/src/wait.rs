//! Waiting for something to come true. The only place in the lab that sleeps.

use std::fmt;
use std::time::{Duration, Instant};

use anyhow::{Error, Result, anyhow};

use crate::interrupt;

const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_millis(300);

/// What a condition may answer: `bool` for "is it so", `Option` for "here it is".
pub trait Answer {
    /// What is known once it came true.
    type Value;
    /// The value, or `None` for "not yet".
    fn value(self) -> Option<Self::Value>;
}

impl Answer for bool {
    type Value = ();
    fn value(self) -> Option<()> {
        self.then_some(())
    }
}

impl<T> Answer for Option<T> {
    type Value = T;
    fn value(self) -> Option<T> {
        self
    }
}

/// An error that ends the wait at once. Any other error means "not yet" and is shown when time runs out.
#[derive(Debug)]
pub struct GiveUp(pub String);

impl fmt::Display for GiveUp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for GiveUp {}

/// Asks until the answer is yes. `what` completes the sentence "waited for ...".
///
/// # Errors
/// When `timeout` passes (the sentence names `what` and the last error), and on [`GiveUp`].
pub fn wait_until<A: Answer>(
    what: impl fmt::Display,
    timeout: Duration,
    mut ask: impl FnMut() -> Result<A>,
) -> Result<A::Value> {
    let mut patience = Patience::new(timeout);
    loop {
        if let Some(value) = patience.judge(&what, ask())? {
            return Ok(value);
        }
        std::thread::sleep(patience.pause());
    }
}

/// [`wait_until`] for tests that run on tokio.
///
/// # Errors
/// As [`wait_until`].
pub async fn wait_until_async<A: Answer>(
    what: impl fmt::Display,
    timeout: Duration,
    mut ask: impl AsyncFnMut() -> Result<A>,
) -> Result<A::Value> {
    let mut patience = Patience::new(timeout);
    loop {
        if let Some(value) = patience.judge(&what, ask().await)? {
            return Ok(value);
        }
        tokio::time::sleep(patience.pause()).await;
    }
}

/// Polls for something that the lab itself brings about; goes on after Ctrl-C, for cleaning up.
///
/// # Errors
/// When `timeout` passes.
pub(crate) fn settle(timeout: Duration, mut ask: impl FnMut() -> bool) -> Result<(), ()> {
    let deadline = Instant::now() + timeout;
    let mut pause = Duration::from_millis(2);
    while !ask() {
        if Instant::now() >= deadline {
            return Err(());
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(50));
    }
    Ok(())
}

struct Patience {
    began: Instant,
    timeout: Duration,
    pause: Duration,
}

impl Patience {
    fn new(timeout: Duration) -> Self {
        Patience {
            began: Instant::now(),
            timeout,
            pause: FIRST_PAUSE,
        }
    }

    fn judge<A: Answer>(
        &self,
        what: &impl fmt::Display,
        asked: Result<A>,
    ) -> Result<Option<A::Value>> {
        let last = match asked {
            Ok(answer) => match answer.value() {
                Some(value) => return Ok(Some(value)),
                None => None,
            },
            Err(error) if error.is::<GiveUp>() => {
                return Err(error.context(format!("waiting for {what}")));
            }
            Err(error) => Some(error),
        };
        interrupt::check();
        if self.began.elapsed() >= self.timeout {
            return Err(timed_out(what, self.timeout, last));
        }
        Ok(None)
    }

    fn pause(&mut self) -> Duration {
        let pause = self.pause;
        self.pause = (self.pause * 3 / 2).min(LONGEST_PAUSE);
        pause
    }
}

fn timed_out(what: &impl fmt::Display, timeout: Duration, last: Option<Error>) -> Error {
    let seconds = timeout.as_secs_f32();
    match last {
        None => anyhow!("waited {seconds} s for {what}, and it never came true"),
        Some(error) => anyhow!("waited {seconds} s for {what}; the last answer was: {error:#}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHORT: Duration = Duration::from_millis(30);

    #[test]
    fn a_timeout_says_what_never_came_true() {
        let error = wait_until("the sun to rise", SHORT, || Ok(false)).unwrap_err();
        assert_eq!(
            error.to_string(),
            "waited 0.03 s for the sun to rise, and it never came true"
        );
    }

    #[test]
    fn errors_mean_not_yet_and_the_last_one_is_shown() {
        let error =
            wait_until("a reply", SHORT, || Err::<bool, _>(anyhow!("refused"))).unwrap_err();
        assert!(
            error.to_string().ends_with("the last answer was: refused"),
            "{error}"
        );
    }

    #[test]
    fn giving_up_ends_the_wait_at_once() {
        let began = Instant::now();
        let error = wait_until("a reply", Duration::from_secs(60), || {
            Err::<bool, _>(GiveUp("it is dead".into()).into())
        })
        .unwrap_err();
        assert!(began.elapsed() < Duration::from_secs(5));
        assert_eq!(format!("{error:#}"), "waiting for a reply: it is dead");
    }

    #[test]
    fn the_value_is_handed_over() {
        let mut left = 3;
        let value = wait_until("three tries", Duration::from_secs(5), || {
            left -= 1;
            Ok((left == 0).then_some("here"))
        });
        assert_eq!(value.unwrap(), "here");
    }
}
