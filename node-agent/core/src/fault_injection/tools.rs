//! The programs of the host that change a network: `iptables`, `ip6tables`, `tc` and `ip`, in the network of a task by
//! `nsenter`.

use std::fmt;

use crate::fault_injection::Trouble;
use crate::fault_injection::place::Network;

/// A program with its arguments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Command(Vec<String>);

impl Command {
    /// A line of words.
    pub(super) fn line(line: &str) -> Self {
        Self(line.split_whitespace().map(str::to_owned).collect())
    }

    /// A line of words, and a script as its last argument.
    pub(super) fn script(line: &str, script: String) -> Self {
        let mut command = Self::line(line);
        command.0.push(script);
        command
    }

    /// The same, inside the network of a process.
    pub(super) fn inside(self, pid: u32) -> Self {
        let mut words = vec!["nsenter".to_owned(), format!("--net=/proc/{pid}/ns/net")];
        words.extend(self.0);
        Self(words)
    }

    /// Program and arguments, in this order; never empty.
    pub fn words(&self) -> &[String] {
        &self.0
    }
}

impl fmt::Display for Command {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0.join(" "))
    }
}

/// What came of a command that ran.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ran {
    /// Its exit code; `None` when a signal ended it.
    pub code: Option<i32>,
    /// What it printed.
    pub out: String,
    /// What it complained of.
    pub err: String,
}

impl Ran {
    pub(super) fn succeeded(&self) -> bool {
        self.code == Some(0)
    }

    /// Its words, for people.
    fn said(&self) -> String {
        let said = [self.err.trim(), self.out.trim()];
        let said = said.into_iter().find(|words| !words.is_empty());
        said.unwrap_or("it failed without a word")
            .replace('\n', " ")
    }
}

/// Why a command did not run to its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NotRun {
    /// There is no such program, or it may not be started; in the words of the system.
    Absent(String),
    /// It took too long.
    TimedOut,
}

/// Runs commands. Past the time that a request has, each one still gets a moment, so that what was begun can be undone.
pub trait Tools {
    /// Runs one to its end.
    ///
    /// # Errors
    /// It did not run to its end.
    fn run(&self, command: &Command) -> Result<Ran, NotRun>;
}

/// The tools at the network of a task.
pub(super) struct Shell<'a, T> {
    tools: &'a T,
    pub(super) network: &'a Network,
}

impl<'a, T: Tools> Shell<'a, T> {
    pub(super) fn new(tools: &'a T, network: &'a Network) -> Self {
        Self { tools, network }
    }

    /// Runs a line there and tells how it ended.
    pub(super) fn try_line(&self, line: &str) -> Result<Ran, Trouble> {
        let command = self.network.command(line);
        run(self.tools, &command)
    }

    /// Runs a line that must succeed.
    pub(super) fn line(&self, line: &str) -> Result<Ran, Trouble> {
        let ran = self.try_line(line)?;
        must(line, ran)
    }

    /// Runs a line that may fail: it takes away what may not be there.
    pub(super) fn undo(&self, line: &str) {
        let _ = self.try_line(line);
    }
}

pub(super) fn run(tools: &impl Tools, command: &Command) -> Result<Ran, Trouble> {
    match tools.run(command) {
        // It found no such network: the process is gone.
        Ok(ran) if !ran.succeeded() && ran.err.starts_with("nsenter:") => {
            Err(Trouble::Refused(ran.said()))
        }
        Ok(ran) => Ok(ran),
        Err(NotRun::TimedOut) => Err(Trouble::TimedOut),
        Err(NotRun::Absent(why)) => {
            let program = command.words().first().map_or("", String::as_str);
            Err(Trouble::Refused(format!(
                "the host cannot run `{program}`: {why}"
            )))
        }
    }
}

pub(super) fn must(line: &str, ran: Ran) -> Result<Ran, Trouble> {
    if ran.succeeded() {
        return Ok(ran);
    }
    let program = line.split_whitespace().next().unwrap_or_default();
    Err(Trouble::Refused(format!("{program}: {}", ran.said())))
}
