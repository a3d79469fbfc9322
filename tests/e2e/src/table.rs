//! Tables in documents that a command writes between two marks, a line a row. A run of some rows keeps the others.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};

/// Ends a table.
const END: &str = "<!-- to here -->";

/// A table in a document.
#[derive(Clone, Debug)]
pub struct Table {
    /// Begins it.
    pub begin: &'static str,
    /// Its head.
    pub head: &'static str,
    /// Numbers of all rows, in their order. A line begins with its number.
    pub numbers: Vec<&'static str>,
}

impl Table {
    /// Puts a row's line into the document at `path`.
    ///
    /// # Errors
    /// The document is not there, or has no place for the table.
    pub fn write(&self, path: &Path, line: &str) -> Result<()> {
        let old = std::fs::read_to_string(path)
            .with_context(|| format!("cannot read {}", path.display()))?;
        let new = self
            .replaced(&old, line)
            .with_context(|| format!("{} has no place for the table", path.display()))?;
        std::fs::write(path, new).with_context(|| format!("cannot write {}", path.display()))
    }

    fn replaced(&self, old: &str, line: &str) -> Option<String> {
        let Table {
            begin,
            head,
            numbers,
        } = self;
        let (before, rest) = old.split_once(begin)?;
        let (table, after) = rest.split_once(END)?;
        let mut lines = BTreeMap::new();
        for line in table.lines().chain([line]) {
            let number = line.split('|').nth(1).unwrap_or_default().trim();
            lines.insert(number, line);
        }
        let mut table = (*head).to_owned();
        for number in numbers {
            if let Some(line) = lines.get(number) {
                table.push('\n');
                table.push_str(line);
            }
        }
        Some(format!("{before}{begin}\n\n{table}\n\n{END}{after}"))
    }
}

/// Those of `rows` that somebody asked for by their numbers; all when nobody did.
///
/// # Errors
/// There is no row of such a number.
pub fn chosen<R>(
    rows: impl Iterator<Item = &'static R>,
    number: fn(&R) -> &'static str,
    wanted: &[String],
) -> Result<Vec<&'static R>> {
    let rows: Vec<_> = rows.collect();
    let numbers: Vec<_> = rows.iter().map(|row| number(row)).collect();
    for one in wanted {
        ensure!(
            numbers.contains(&one.as_str()),
            "there is no row {one}; there are {}",
            numbers.join(", ")
        );
    }
    let meant = |row: &&R| wanted.is_empty() || wanted.iter().any(|one| one == number(row));
    Ok(rows.into_iter().filter(meant).collect())
}

/// A line of a table cannot break.
pub fn cell(text: &str) -> String {
    text.replace(['\n', '|'], " ")
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn rows_are_chosen_by_number() {
        const ROWS: &[(&str, u8)] = &[("1", 1), ("17a", 2)];
        let choose = |wanted: &[&str]| {
            let wanted: Vec<String> = wanted.iter().map(|&w| w.to_owned()).collect();
            let rows = chosen(ROWS.iter(), |row| row.0, &wanted);
            rows.map(|rows| rows.iter().map(|row| row.1).collect::<Vec<_>>())
        };
        assert_eq!(choose(&[]).unwrap(), [1, 2]);
        assert_eq!(choose(&["17a"]).unwrap(), [2]);
        let unknown = choose(&["1", "17"]).unwrap_err().to_string();
        assert_eq!(unknown, "there is no row 17; there are 1, 17a");
    }

    #[test]
    fn a_run_of_one_row_keeps_the_others_and_their_order() {
        let table = Table {
            begin: "<!-- begin -->",
            head: "| row | word |\n|---|---|",
            numbers: vec!["1", "2", "17a"],
        };
        let mut text = format!("# Reliability\n\n{}\n{END}\n\nmore\n", table.begin);
        for (number, word) in [
            ("17a", "old"),
            ("1", "first"),
            ("17a", "new"),
            ("99", "gone"),
        ] {
            text = table
                .replaced(&text, &format!("| {number} | {word} |"))
                .unwrap();
        }
        let expected = format!(
            "# Reliability\n\n{}\n\n{}\n| 1 | first |\n| 17a | new |\n\n{END}\n\nmore\n",
            table.begin, table.head
        );
        assert_eq!(text, expected);
        assert_eq!(table.replaced("nothing", "| 1 |"), None);
    }
}
