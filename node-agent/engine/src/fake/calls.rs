//! Calls to the fake: their log, and what is scripted to befall them.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use crate::fake::images::cause;
use crate::{EngineError, Moment, Verb};

/// One call that the fake got.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// Counts from 1 over all verbs.
    pub number: u64,
    /// When.
    pub at: Moment,
    /// Which verb.
    pub verb: Verb,
    /// Container or volume name, image reference or scope value; empty for `describe`.
    pub target: String,
    /// How it ended.
    pub outcome: Outcome,
}

/// How a call to the fake ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Answered well.
    Done,
    /// Answered with an error (its text), and nothing was done unless the text says so.
    Failed(String),
    /// Done, but the caller got an error.
    DoneButLost,
}

/// What befalls a scripted call.
#[derive(Clone, Debug)]
pub enum Mishap {
    /// Nothing is done and this is the answer.
    Refused(EngineError),
    /// Nothing is done and the caller waits in vain.
    TimeoutBefore,
    /// It is done and the caller waits in vain.
    TimeoutAfter,
    /// It is done and the engine breaks off before the answer.
    InterruptedAfter,
}

/// The agent's death at an engine call: that call and all later ones fail as unreachable, until
/// [`super::FakeEngine::mend`]. A test that runs once for every `at_call` kills its agent at every call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Crash {
    /// Number of the call ([`Call::number`]).
    pub at_call: u64,
    /// Whether the engine still carries that call out (died waiting for the answer) or never got it
    /// (died before asking).
    pub carried_out: bool,
}

/// What is to happen to the call at hand.
pub(super) enum Fate {
    Normal,
    /// Error without effect.
    Refuse(EngineError),
    /// Effect, then this error in place of the answer.
    Lose(EngineError),
}

struct Scripted {
    verb: Verb,
    target: Option<String>,
    mishap: Mishap,
}

/// Keeps the last calls; a test that needs more takes them now and then.
const LOG_CAPACITY: usize = 100_000;

/// How long the fake says that the caller waited; it takes no time.
const PRETENDED_WAIT: Duration = Duration::from_secs(60);

#[derive(Default)]
pub(super) struct Calls {
    count: u64,
    per_verb: BTreeMap<Verb, u64>,
    log: VecDeque<Call>,
    scripted: Vec<Scripted>,
    at_call: Option<(u64, Mishap)>,
    unreachable: bool,
    crash: Option<Crash>,
}

impl std::fmt::Debug for Calls {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Calls")
            .field("count", &self.count)
            .finish_non_exhaustive()
    }
}

impl Calls {
    pub(super) fn script(&mut self, verb: Verb, target: Option<&str>, mishap: Mishap) {
        self.scripted.push(Scripted {
            verb,
            target: target.map(str::to_owned),
            mishap,
        });
    }

    pub(super) fn at_call(&mut self, call: u64, mishap: Mishap) {
        self.at_call = Some((call, mishap));
    }

    pub(super) fn set_unreachable(&mut self, unreachable: bool) {
        self.unreachable = unreachable;
    }

    pub(super) fn set_crash(&mut self, crash: Crash) {
        self.crash = Some(crash);
    }

    pub(super) fn crashed(&self) -> bool {
        self.crash.is_some_and(|crash| self.count >= crash.at_call)
    }

    pub(super) fn mend(&mut self) {
        self.crash = None;
        self.unreachable = false;
        self.scripted.clear();
        self.at_call = None;
    }

    pub(super) fn count(&self) -> u64 {
        self.count
    }

    pub(super) fn of(&self, verb: Verb) -> u64 {
        self.per_verb.get(&verb).copied().unwrap_or(0)
    }

    pub(super) fn log(&self) -> Vec<Call> {
        self.log.iter().cloned().collect()
    }

    pub(super) fn take_log(&mut self) -> Vec<Call> {
        std::mem::take(&mut self.log).into()
    }

    /// Counts the call and says what becomes of it. First match wins: crash, unreachable, script.
    pub(super) fn begin(&mut self, verb: Verb, target: &str) -> Fate {
        self.count += 1;
        *self.per_verb.entry(verb).or_default() += 1;
        if let Some(crash) = self.crash.filter(|crash| self.count >= crash.at_call) {
            return if crash.carried_out && self.count == crash.at_call {
                Fate::Lose(unreachable())
            } else {
                Fate::Refuse(unreachable())
            };
        }
        if self.unreachable {
            return Fate::Refuse(unreachable());
        }
        if let Some((_, mishap)) = self.at_call.take_if(|(call, _)| *call == self.count) {
            return fate(mishap, verb);
        }
        let befalls = |scripted: &Scripted| {
            scripted.verb == verb && scripted.target.as_deref().is_none_or(|name| name == target)
        };
        let Some(position) = self.scripted.iter().position(befalls) else {
            return Fate::Normal;
        };
        fate(self.scripted.remove(position).mishap, verb)
    }

    pub(super) fn end(&mut self, at: Moment, verb: Verb, target: &str, outcome: Outcome) {
        if self.log.len() == LOG_CAPACITY {
            self.log.pop_front();
        }
        self.log.push_back(Call {
            number: self.count,
            at,
            verb,
            target: target.to_owned(),
            outcome,
        });
    }
}

fn fate(mishap: Mishap, verb: Verb) -> Fate {
    let timeout = EngineError::Timeout {
        verb,
        after: PRETENDED_WAIT,
    };
    match mishap {
        Mishap::Refused(error) => Fate::Refuse(error),
        Mishap::TimeoutBefore => Fate::Refuse(timeout),
        Mishap::TimeoutAfter => Fate::Lose(timeout),
        Mishap::InterruptedAfter => Fate::Lose(EngineError::Interrupted {
            verb,
            source: cause("connection closed before message completed"),
        }),
    }
}

fn unreachable() -> EngineError {
    EngineError::Unreachable {
        source: cause("connection refused"),
    }
}
