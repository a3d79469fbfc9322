//! The table in docs/reliability.md. A run of some rows keeps the others.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};

use crate::chaos::{Outcome, Row, rows};

const BEGIN: &str = "<!-- written by `make chaos` from here -->";
const END: &str = "<!-- to here -->";
const HEAD: &str = "\
| row | fault | times | what must never be | seconds until all is well: median | worst | allowed | |
|---|---|---|---|---|---|---|---|";

/// Puts a row's outcome into the document at `path`.
///
/// # Errors
/// The document is not there, or has no place for the table.
pub fn write(path: &Path, row: &Row, outcome: &Outcome) -> Result<()> {
    let old =
        std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let new = replaced(&old, row.number, &line(row, outcome))
        .with_context(|| format!("{} has no place for the table", path.display()))?;
    std::fs::write(path, new).with_context(|| format!("cannot write {}", path.display()))
}

fn line(row: &Row, outcome: &Outcome) -> String {
    let seconds = |time: Option<Duration>| {
        time.map_or("-".to_owned(), |time| format!("{:.1}", time.as_secs_f64()))
    };
    let verdict = if outcome.held(row.bound) {
        "held".to_owned()
    } else {
        format!("**missed**: {}", outcome.complaints(row.bound).join("; "))
    };
    // A line of a table cannot break.
    let verdict = verdict.replace(['\n', '|'], " ");
    // What was not seen through was brought about less often.
    let most = if outcome.failure.is_some() {
        "at most "
    } else {
        ""
    };
    format!(
        "| {} | {}: {}. Measured: {} | {most}{} | {} seen in {} looks | {} | {} | {} | {verdict} |",
        row.number,
        row.name,
        row.fault,
        row.measured,
        outcome.count,
        outcome.violations.len(),
        outcome.looks,
        seconds(outcome.median()),
        seconds(outcome.worst()),
        row.bound.as_secs(),
    )
}

fn replaced(old: &str, number: &str, line: &str) -> Option<String> {
    let (before, rest) = old.split_once(BEGIN)?;
    let (table, after) = rest.split_once(END)?;
    let mut lines = BTreeMap::new();
    for line in table.lines().chain([line]) {
        let number = line.split('|').nth(1).unwrap_or_default().trim();
        lines.insert(number.to_owned(), line.to_owned());
    }
    debug_assert!(lines.contains_key(number));
    let mut table = HEAD.to_owned();
    for row in rows() {
        if let Some(line) = lines.get(row.number) {
            table.push('\n');
            table.push_str(line);
        }
    }
    Some(format!("{before}{BEGIN}\n\n{table}\n\n{END}{after}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_of_one_row_keeps_the_others_and_their_order() {
        let empty = format!("# Reliability\n\n{BEGIN}\n{END}\n\nmore\n");
        let mut text = empty;
        for (number, word) in [("17a", "old"), ("1", "first"), ("17a", "new")] {
            text = replaced(&text, number, &format!("| {number} | {word} |")).unwrap();
        }
        let expected = format!(
            "# Reliability\n\n{BEGIN}\n\n{HEAD}\n| 1 | first |\n| 17a | new |\n\n{END}\n\nmore\n"
        );
        assert_eq!(text, expected);
        assert_eq!(replaced("nothing", "1", "| 1 |"), None);
    }

    #[test]
    fn a_row_that_misses_its_bound_says_by_how_much() {
        let row = rows().next().unwrap();
        let mut outcome = Outcome {
            count: 2,
            times: vec![row.bound, row.bound + Duration::from_secs(2)],
            violations: Vec::new(),
            failure: None,
            looks: 9,
        };
        assert!(line(row, &outcome).contains("**missed**: it took 7.0 s, and 5 s are allowed"));
        outcome.times.pop();
        assert!(line(row, &outcome).ends_with("| held |"));
        outcome.violations.push("web-1 runs twice".to_owned());
        assert!(line(row, &outcome).contains("**missed**: web-1 runs twice"));
    }

    #[test]
    fn every_row_has_a_number_of_its_own() {
        let numbers: std::collections::BTreeSet<_> = rows().map(|row| row.number).collect();
        assert_eq!(numbers.len(), rows().count());
    }
}
