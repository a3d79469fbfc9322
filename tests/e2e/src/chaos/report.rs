//! The table in docs/reliability.md. A run of some rows keeps the others.

use std::path::Path;
use std::time::Duration;

use anyhow::Result;

use crate::chaos::{Outcome, Row, rows};
use crate::table::{Table, cell};

const BEGIN: &str = "<!-- written by `make chaos` from here -->";
const HEAD: &str = "\
| row | fault | times | what must never be | seconds until all is well: median | worst | allowed | |
|---|---|---|---|---|---|---|---|";

/// Puts a row's outcome into the document at `path`.
///
/// # Errors
/// The document is not there, or has no place for the table.
pub fn write(path: &Path, row: &Row, outcome: &Outcome) -> Result<()> {
    let table = Table {
        begin: BEGIN,
        head: HEAD,
        numbers: rows().map(|row| row.number).collect(),
    };
    table.write(path, &line(row, outcome))
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
    let verdict = cell(&verdict);
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

#[cfg(test)]
mod tests {
    use super::*;

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
