//! What the first process of a fake container does.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::{ContainerSpec, Health, PublishedPort};

/// What the first process of a container does, from each start on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    /// It cannot be started at all, and these are the engine's words.
    pub refuses_to_start: Option<String>,
    /// It ends by itself, this long after the start, with this exit code.
    pub ends: Option<(Duration, i64)>,
    /// The end in `ends` is the kernel's, for memory.
    pub oom_killed: bool,
    /// What it does on the stop signal.
    pub on_stop: OnStop,
    /// Verdicts of the health check, each this long after the start, in order. They count only when
    /// the container has a health check.
    pub verdicts: Vec<(Duration, Health)>,
}

/// What a program does on its stop signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnStop {
    /// Ends after a while with an exit code.
    Ends {
        /// How long it takes.
        after: Duration,
        /// With which exit code.
        exit_code: i64,
    },
    /// Goes on until it is killed.
    Ignores,
}

impl Default for Program {
    fn default() -> Self {
        Self::runs()
    }
}

impl Program {
    /// Runs until stopped; ends at once with 0 on SIGTERM.
    pub fn runs() -> Self {
        Self {
            refuses_to_start: None,
            ends: None,
            oom_killed: false,
            on_stop: OnStop::Ends {
                after: Duration::ZERO,
                exit_code: 0,
            },
            verdicts: Vec::new(),
        }
    }

    /// Ends by itself.
    pub fn exits(exit_code: i64, after: Duration) -> Self {
        Self {
            ends: Some((after, exit_code)),
            ..Self::runs()
        }
    }

    /// Killed by the kernel for memory.
    pub fn runs_out_of_memory(after: Duration) -> Self {
        Self {
            oom_killed: true,
            ..Self::exits(137, after)
        }
    }

    /// Cannot be started.
    pub fn cannot_start(words: impl Into<String>) -> Self {
        Self {
            refuses_to_start: Some(words.into()),
            ..Self::runs()
        }
    }

    /// The same, deaf to SIGTERM.
    #[must_use]
    pub fn ignoring_stop(mut self) -> Self {
        self.on_stop = OnStop::Ignores;
        self
    }

    /// The same, taking a while to end on SIGTERM.
    #[must_use]
    pub fn stopping(mut self, after: Duration, exit_code: i64) -> Self {
        self.on_stop = OnStop::Ends { after, exit_code };
        self
    }

    /// The same, with a verdict of its health check.
    #[must_use]
    pub fn health_after(mut self, after: Duration, health: Health) -> Self {
        self.verdicts.push((after, health));
        self
    }
}

type Interpret = dyn Fn(&ContainerSpec, &[PublishedPort]) -> Program + Send + Sync;

/// Decides what a container's first process does, from its spec and from what is published on the
/// host when it starts.
#[derive(Clone)]
pub(super) struct Interpreter(pub(super) Arc<Interpret>);

impl fmt::Debug for Interpreter {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("Interpreter")
    }
}
