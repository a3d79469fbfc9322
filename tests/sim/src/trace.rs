//! The last things that happened, for the report of a failure.

use std::collections::VecDeque;
use std::fmt;

use jiff::Timestamp;

const KEPT: usize = 40;

/// The last lines of a history.
#[derive(Clone, Debug, Default)]
pub struct Trace {
    lines: VecDeque<Line>,
    /// Print every line as it comes (`TALLYMAN_SIM_TRACE=1`).
    pub loud: bool,
}

/// Put into words only when somebody reads it: most histories hold.
#[derive(Clone, Debug)]
struct Line {
    at: Timestamp,
    who: String,
    what: String,
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at = self.at.strftime("%H:%M:%S%.3f");
        write!(f, "{at} {:<10} {}", self.who, self.what)
    }
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
    pub fn note(&mut self, at: Timestamp, who: &str, what: &str) {
        let line = Line {
            at,
            who: who.to_owned(),
            what: what.to_owned(),
        };
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
        let lines: Vec<String> = self.lines.iter().map(Line::to_string).collect();
        lines.join("\n  ")
    }
}
