//! The table in docs/security.md. A run of some rows keeps the others.

use std::path::Path;

use anyhow::Result;

use crate::attack::{Haul, Row, rows};
use crate::table::{Table, cell};

const BEGIN: &str = "<!-- written by `make attack` from here -->";
const HEAD: &str = "\
| row | from | what was tried | tries | what came back | |
|---|---|---|---|---|---|";

/// Puts a row's haul into the document at `path`.
///
/// # Errors
/// The document is not there, or has no place for the table.
pub fn write(path: &Path, row: &Row, haul: &Haul) -> Result<()> {
    let table = Table {
        begin: BEGIN,
        head: HEAD,
        numbers: rows().map(|row| row.number).collect(),
    };
    table.write(path, &line(row, haul))
}

fn line(row: &Row, haul: &Haul) -> String {
    let verdict = if haul.held() {
        "held".to_owned()
    } else {
        format!("**not held**: {}", haul.complaints().join("; "))
    };
    let mut answers: Vec<_> = haul.answers.iter().collect();
    answers.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
    let answers = answers
        .into_iter()
        .map(|(answer, count)| format!("{answer}: {count}"));
    format!(
        "| {} | {} | {} | {} | {} | {} |",
        row.number,
        row.from.name(),
        cell(row.tried),
        haul.tries(),
        cell(&answers.collect::<Vec<_>>().join(", ")),
        cell(&verdict),
    )
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn a_row_says_what_came_back_and_what_was_got() {
        let row = rows().next().unwrap();
        let mut haul = Haul::default();
        haul.note("404");
        haul.note("403");
        haul.note("403");
        assert!(line(row, &haul).ends_with("| 3 | 403: 2, 404: 1 | held |"));
        haul.got("a|b");
        assert!(line(row, &haul).ends_with("| **not held**: got a b |"));
    }
}
