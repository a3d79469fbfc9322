//! The last things that happened, for the report of a failure.

use std::collections::VecDeque;

use jiff::Timestamp;

const KEPT: usize = 40;

/// The last lines of a history.
#[derive(Clone, Debug, Default)]
pub struct Trace {
    lines: VecDeque<String>,
    /// Print every line as it comes (`TALLYMAN_SIM_TRACE=1`).
    pub loud: bool,
}

impl Trace {
    /// Nothing has happened yet.
    pub fn new(loud: bool) -> Trace {
        Trace {
            lines: VecDeque::new(),
            loud,
        }
    }

    /// Notes what `who` did.
    pub fn note(&mut self, now: Timestamp, who: &str, what: &str) {
        let line = format!("{} {who:<10} {what}", now.strftime("%H:%M:%S%.3f"));
        if self.loud {
            println!("{line}");
        }
        if self.lines.len() == KEPT {
            self.lines.pop_front();
        }
        self.lines.push_back(line);
    }

    /// The lines, oldest first.
    pub fn text(&self) -> String {
        self.lines
            .iter()
            .map(String::as_str)
            .collect::<Vec<_>>()
            .join("\n  ")
    }
}
