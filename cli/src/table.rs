//! Columns for people, and the other forms of the same.

use std::collections::BTreeMap;
use std::io::IsTerminal as _;

use serde_json::{Value, json};

use crate::args::Form;

/// What a cell tells at a glance.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Tone {
    /// Nothing in particular.
    #[default]
    Plain,
    /// As wanted.
    Good,
    /// On its way.
    Moving,
    /// Wrong.
    Bad,
    /// Of less interest.
    Dim,
}

/// Whether to use colours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Paint(pub bool);

impl Paint {
    /// On a terminal, unless `NO_COLOR` is set to something.
    pub fn of_stdout() -> Paint {
        let refused = std::env::var_os("NO_COLOR").is_some_and(|v| !v.is_empty());
        Paint(!refused && std::io::stdout().is_terminal())
    }

    /// `text` in the colour of `tone`.
    pub fn paint(self, text: &str, tone: Tone) -> String {
        let code = match tone {
            Tone::Plain => return text.to_owned(),
            Tone::Good => "32",
            Tone::Moving => "33",
            Tone::Bad => "31",
            Tone::Dim => "2",
        };
        if self.0 && !text.is_empty() {
            format!("\u{1b}[{code}m{text}\u{1b}[0m")
        } else {
            text.to_owned()
        }
    }
}

/// One cell.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cell {
    /// What it says.
    pub text: String,
    /// How.
    pub tone: Tone,
}

impl Cell {
    /// A cell in a tone.
    pub fn new(text: impl Into<String>, tone: Tone) -> Cell {
        Cell {
            text: text.into(),
            tone,
        }
    }
}

impl<T: Into<String>> From<T> for Cell {
    fn from(text: T) -> Cell {
        Cell::new(text, Tone::Plain)
    }
}

/// A table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Table {
    /// Headings; those after `narrow` are shown only when it is to be wide.
    pub headings: Vec<&'static str>,
    /// How many columns are always shown.
    pub narrow: usize,
    /// Rows, with a cell for each heading.
    pub rows: Vec<Vec<Cell>>,
}

/// Spaces between columns.
const GAP: usize = 3;

impl Table {
    /// A table with these columns and, when it is to be wide, `more`.
    pub fn new(headings: &[&'static str], more: &[&'static str]) -> Table {
        Table {
            narrow: headings.len(),
            headings: headings.iter().chain(more).copied().collect(),
            rows: Vec::new(),
        }
    }

    /// The tables of these namespaces, which have the same columns, as one that says of which each row is.
    fn of_namespaces(parts: BTreeMap<String, Table>) -> Table {
        let mut all = Table::default();
        for (namespace, part) in parts {
            all.narrow = part.narrow + 1;
            all.headings = std::iter::once("NAMESPACE").chain(part.headings).collect();
            let cell = || std::iter::once(Cell::from(namespace.as_str()));
            let rows = part.rows.into_iter();
            all.rows.extend(rows.map(|row| cell().chain(row).collect()));
        }
        all
    }

    /// The table as text, a line for each row; the last column of a line is not padded.
    pub fn text(&self, wide: bool, paint: Paint) -> String {
        let columns = if wide {
            self.headings.len()
        } else {
            self.narrow
        };
        let heads: Vec<Cell> = self.headings.iter().map(|h| Cell::from(*h)).collect();
        let length = |cell: &Cell| cell.text.chars().count();
        let width = |column: usize| {
            let cells = self.rows.iter().filter_map(|row| row.get(column));
            cells
                .chain(heads.get(column))
                .map(length)
                .max()
                .unwrap_or(0)
        };
        let widths: Vec<usize> = (0..columns).map(width).collect();
        let mut text = String::new();
        for row in std::iter::once(&heads).chain(&self.rows) {
            let row = &row[..columns.min(row.len())];
            let filled = row.iter().rposition(|c| !c.text.is_empty());
            let mut line = String::new();
            for (i, cell) in row.iter().enumerate().take(filled.map_or(0, |n| n + 1)) {
                line.push_str(&paint.paint(&cell.text, cell.tone));
                if Some(i) != filled {
                    let pad = widths[i] + GAP - length(cell);
                    line.extend(std::iter::repeat_n(' ', pad));
                }
            }
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text
    }
}

/// Something to print in any form.
#[derive(Clone, Debug, Default)]
pub struct Listing {
    /// For people.
    pub table: Table,
    /// Of each row what kubectl takes for its name, as [`crate::words::resource`] makes it.
    pub names: Vec<String>,
    /// For programs.
    pub data: Data,
}

/// What there is for programs.
#[derive(Clone, Debug, PartialEq)]
pub enum Data {
    /// Facts of our own, an object for each row: an array.
    Rows(Vec<Value>),
    /// Objects as the API server has them, each as [`object`] makes it: a List, as of `kubectl get`.
    Objects(Vec<Value>),
}

impl Default for Data {
    fn default() -> Data {
        Data::Rows(Vec::new())
    }
}

impl Data {
    /// The same as one value.
    pub fn value(&self) -> Value {
        match self {
            Data::Rows(rows) => Value::Array(rows.clone()),
            Data::Objects(items) => json!({ "apiVersion": "v1", "kind": "List", "items": items,
                                            "metadata": { "resourceVersion": "" } }),
        }
    }

    /// This, and then the other.
    fn and(self, other: Data) -> Data {
        match (self, other) {
            (Data::Rows(a), Data::Rows(b)) => Data::Rows([a, b].concat()),
            (Data::Rows(a) | Data::Objects(a), Data::Objects(b) | Data::Rows(b)) => {
                Data::Objects([a, b].concat())
            }
        }
    }
}

/// An object as kubectl prints it: without the book that the API server keeps of who wrote which field.
pub fn object(of: &impl serde::Serialize) -> Value {
    let mut object = serde_json::to_value(of).unwrap_or_default();
    if let Some(metadata) = object["metadata"].as_object_mut() {
        metadata.remove("managedFields");
    }
    object
}

impl Listing {
    /// The listings of these namespaces as one.
    pub fn of_namespaces(parts: BTreeMap<String, Listing>) -> Listing {
        let (mut tables, mut names, mut data) = (BTreeMap::new(), Vec::new(), None);
        for (namespace, part) in parts {
            tables.insert(namespace, part.table);
            names.extend(part.names);
            data = Some(match data {
                None => part.data,
                Some(before) => Data::and(before, part.data),
            });
        }
        Listing {
            table: Table::of_namespaces(tables),
            names,
            data: data.unwrap_or_default(),
        }
    }

    /// The listing in a form.
    pub fn text(&self, form: Form, paint: Paint) -> String {
        match form {
            Form::Table | Form::Wide => self.table.text(form == Form::Wide, paint),
            Form::Json | Form::Yaml => data(&self.data.value(), form),
            Form::Name => self.names.iter().map(|n| format!("{n}\n")).collect(),
        }
    }
}

/// Data as JSON, or as YAML.
pub fn data(value: &Value, form: Form) -> String {
    let json = || serde_json::to_string_pretty(value).unwrap_or_default() + "\n";
    if form == Form::Yaml {
        // JSON is YAML, too.
        serde_saphyr::to_string(value).unwrap_or_else(|_| json())
    } else {
        json()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table {
        let mut table = Table::new(&["NAME", "STATUS"], &["NODE"]);
        let good = Cell::new("RUNNING", Tone::Good);
        table.rows.push(vec!["web-000001".into(), good, "a".into()]);
        table.rows.push(vec!["x".into(), "".into(), "".into()]);
        table
    }

    #[test]
    fn columns_stand_below_their_headings() {
        let text = table().text(true, Paint(false));
        assert_eq!(
            text,
            "NAME         STATUS    NODE\nweb-000001   RUNNING   a\nx\n"
        );
    }

    #[test]
    fn colours_take_no_room() {
        let text = table().text(true, Paint(true));
        assert!(
            text.contains("web-000001   \u{1b}[32mRUNNING\u{1b}[0m   a\n"),
            "{text:?}"
        );
        assert!(!table().text(false, Paint(true)).contains("NODE"));
    }
}
