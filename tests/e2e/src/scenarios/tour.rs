//! `docs/tour.md`, command by command: what it prints is what a reader sees.
//!
//! A line that begins with `$ ` is a command, what follows is its output, and a line `...` stands for any lines. Ages, addresses,
//! ids, times and figures of a host count as the same. `TOUR=write` writes what was printed into the page, where it differs.

use std::sync::LazyLock;

use anyhow::{Context as _, Result, bail};
use regex::Regex;
use tallyman_lab::paths;

use crate::suite::Scenario;
use crate::user::User;

/// Scenarios of this file.
pub const SCENARIOS: &[Scenario] = &[Scenario {
    name: "the tour prints what its page says",
    run: tour,
}];

/// A command of the page and what it prints.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Step {
    command: String,
    output: Vec<String>,
}

/// A piece of the page.
enum Piece {
    /// A line that is none of a command.
    Line(String),
    Step(Step),
}

fn pieces(page: &str) -> Vec<Piece> {
    let mut pieces = Vec::new();
    let mut inside = false;
    for line in page.lines() {
        match (inside, line) {
            (false, "```console") => {
                inside = true;
                pieces.push(Piece::Line(line.to_owned()));
            }
            (true, "```") => {
                inside = false;
                pieces.push(Piece::Line(line.to_owned()));
            }
            (true, _) => match (line.strip_prefix("$ "), pieces.last_mut()) {
                (Some(command), _) => pieces.push(Piece::Step(Step {
                    command: command.to_owned(),
                    output: Vec::new(),
                })),
                (None, Some(Piece::Step(step))) => step.output.push(line.to_owned()),
                (None, _) => pieces.push(Piece::Line(line.to_owned())),
            },
            (false, _) => pieces.push(Piece::Line(line.to_owned())),
        }
    }
    pieces
}

/// What may differ from run to run, and what stands for it.
static VARIES: LazyLock<Vec<(Regex, &str)>> = LazyLock::new(|| {
    let all = [
        (r"sha256:\S+", "HASH"),
        (r"--token \S+", "--token TOKEN"),
        (r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d(\.\d+)?)?Z", "TIME"),
        (r"\d\d:\d\d:\d\dZ", "TIME"),
        (r"\d+\.\d+\.\d+\.\d+(:\d+(->\d+)?)?", "ADDRESS"),
        (r"ecs-svc/\d+", "ecs-svc/ID"),
        (r"\S+_\d+_\d+", "ID"),
        (r"\bv1\.\d+\.\d+\S*", "VERSION"),
        (r"\b\d+[smhd](\d+[smh])?\b", "AGE"),
        (r"\d+%", "PERCENT"),
        (r"\b\d{4,}\b", "FIGURE"),
        (r"\b\d+/FIGURE", "FIGURE/FIGURE"),
        (r"-{2,}|\s+", " "),
    ];
    let made = all
        .into_iter()
        .filter_map(|(pattern, word)| Some((Regex::new(pattern).ok()?, word)));
    made.collect()
});

fn plain(line: &str) -> String {
    let mut text = line.to_owned();
    for (pattern, word) in VARIES.iter() {
        text = pattern.replace_all(&text, *word).into_owned();
    }
    text.trim().to_owned()
}

/// The lines are those of the page, where `...` stands for any.
fn same(page: &[String], printed: &[String]) -> bool {
    match page.split_first() {
        None => printed.is_empty(),
        Some((first, rest)) if first.trim() == "..." => {
            (0..=printed.len()).any(|n| same(rest, &printed[n..]))
        }
        Some((first, rest)) => match printed.split_first() {
            Some((line, further)) => plain(first) == plain(line) && same(rest, further),
            None => false,
        },
    }
}

fn tour(user: &User<'_>) -> Result<()> {
    let path = paths::source_root()?.join("docs/tour.md");
    let page = std::fs::read_to_string(&path)
        .with_context(|| format!("cannot read {}", path.display()))?;
    let mut pieces = pieces(&page);
    let writes = std::env::var("TOUR").is_ok_and(|v| v == "write");
    let mut wrong = Vec::new();
    for piece in &mut pieces {
        let Piece::Step(step) = piece else { continue };
        let output = user.shell(&format!("exec 2>&1; {}", step.command))?;
        let printed: Vec<String> = output.stdout.lines().map(str::to_owned).collect();
        // Empty lines before the next command are the page's own.
        let given: Vec<String> = step.output.clone();
        let end = given
            .iter()
            .rposition(|l| !l.is_empty())
            .map_or(0, |n| n + 1);
        if !same(&given[..end], &printed) {
            wrong.push(format!(
                "$ {}\nprinted:\n{}\nthe page has:\n{}",
                step.command,
                printed.join("\n"),
                given[..end].join("\n")
            ));
            if !writes {
                break;
            }
            step.output = printed
                .into_iter()
                .chain(given[end..].iter().cloned())
                .collect();
        }
    }
    if writes {
        let mut text = String::new();
        for piece in &pieces {
            match piece {
                Piece::Line(line) => text.push_str(&format!("{line}\n")),
                Piece::Step(step) => {
                    text.push_str(&format!("$ {}\n", step.command));
                    step.output
                        .iter()
                        .for_each(|line| text.push_str(&format!("{line}\n")));
                }
            }
        }
        std::fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
        return Ok(());
    }
    match wrong.first() {
        None => Ok(()),
        Some(first) => {
            bail!("docs/tour.md is not what is printed (`TOUR=write` writes it anew):\n{first}")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &str) -> Vec<String> {
        text.lines().map(str::to_owned).collect()
    }

    #[test]
    fn dots_stand_for_any_lines_and_figures_for_figures() {
        let page = lines("a  4m10s\n...\nhost-1  64/2048 3%");
        assert!(same(&page, &lines("a 5s\nb\nc\nhost-1   128/4096 12%")));
        assert!(same(&page, &lines("a 5s\nhost-1 128/4096 12%")));
        assert!(!same(&page, &lines("a 5s\nhost-2 128/4096 12%")));
        assert!(!same(&page, &lines("a 5s\nhost-1 128/4096 12%\nmore")));
    }

    #[test]
    fn commands_and_what_they_print_are_read() {
        let found = pieces("text\n```console\n$ a\n1\n\n$ b\n```\n");
        let steps: Vec<_> = found
            .iter()
            .filter_map(|p| match p {
                Piece::Step(s) => Some(s.command.as_str()),
                Piece::Line(_) => None,
            })
            .collect();
        assert_eq!(steps, ["a", "b"]);
    }
}
