//! `docs/stopped-tasks.md` tells the truth: a row for every name that ECS has for an error, with the test that shows it here, or
//! why it cannot come up. No name is in the sources of a core without being in the document as one that comes up.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::common::named_tests::{NamedTests, root};

const DOCUMENT: &str = "docs/stopped-tasks.md";
/// Nothing fails by it.
const NEVER: &str = "never";
/// Where names are said to people.
const SOURCES: [&str; 2] = ["node-agent/core/src", "operator/core/src"];

/// Rows of the table of errors: name, where it is said, and when or why not.
fn rows() -> Vec<[String; 3]> {
    let text = std::fs::read_to_string(root().join(DOCUMENT)).unwrap();
    let rows = text.lines().filter(|line| line.starts_with("| `"));
    let cells = rows.map(|line| -> Vec<String> {
        let line = line.trim().trim_matches('|');
        line.split(" | ")
            .map(|c| c.trim().trim_matches('`').to_owned())
            .collect()
    });
    // The stop codes have two cells.
    cells
        .filter_map(|cells| <[String; 3]>::try_from(cells).ok())
        .collect()
}

/// What a text has at the beginning of a string and what ends as names of errors do.
fn names(text: &str) -> impl Iterator<Item = &str> {
    let code = text
        .lines()
        .filter(|line| !line.trim_start().starts_with("//"));
    let strings = code.flat_map(|line| line.split('"').skip(1));
    strings.filter_map(|string| {
        let name = string.split(':').next()?;
        let is_name = name.ends_with("Error") && name.chars().all(|c| c.is_ascii_alphabetic());
        is_name.then_some(name)
    })
}

/// Names that stand in the sources of a core.
fn said() -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut paths: Vec<PathBuf> = SOURCES.iter().map(|one| root().join(one)).collect();
    while let Some(path) = paths.pop() {
        if path.is_dir() {
            let inside = std::fs::read_dir(path).unwrap();
            paths.extend(inside.map(|entry| entry.unwrap().path()));
        } else if path.extension() == Some(Path::new("rs").as_os_str()) {
            let text = std::fs::read_to_string(path).unwrap();
            found.extend(names(&text).map(str::to_owned));
        }
    }
    found
}

#[test]
fn every_name_has_one_row_and_those_that_come_up_are_in_the_sources() {
    let mut documented = BTreeSet::new();
    let mut never = BTreeSet::new();
    for [name, here, _] in rows() {
        let set = if here == NEVER {
            &mut never
        } else {
            &mut documented
        };
        assert!(set.insert(name.clone()), "`{name}` is twice in {DOCUMENT}");
    }
    let both: Vec<_> = documented.intersection(&never).collect();
    assert!(both.is_empty(), "twice in {DOCUMENT}: {both:?}");
    assert_eq!(documented, said(), "{DOCUMENT}, and what the sources say");
}

#[test]
fn what_comes_up_names_a_test_and_what_does_not_says_why() {
    let tests = NamedTests::all();
    let places = ["task", "container", "waiting", "host"];
    for [name, here, how] in rows() {
        if here == NEVER {
            assert!(how.len() > 10, "`{name}` in {DOCUMENT} does not say why");
            continue;
        }
        let known = here.split(", ").all(|place| places.contains(&place));
        assert!(known, "`{name}` in {DOCUMENT}: {here}");
        let shown = how.rsplit_once("Test: ").map(|(_, tests)| tests);
        let shown = shown.unwrap_or_else(|| panic!("`{name}` in {DOCUMENT} names no test"));
        // Names stand in backticks; between them are commas. The last backtick went with the cell's.
        for test in shown.split('`').skip(1).step_by(2) {
            let there = tests.has(test);
            assert!(there, "`{name}` in {DOCUMENT}: there is no test `{test}`");
        }
    }
}

#[test]
fn every_stop_code_has_a_row() {
    let crds = tallyman_crds::schema::crds();
    let task = crds.iter().find(|c| c.file == "tasks.yaml").unwrap();
    let codes = &task.json["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["status"]
        ["properties"]["stopCode"]["enum"];
    let codes: Vec<&str> = codes
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|c| c.as_str())
        .collect();
    assert!(!codes.is_empty());
    let text = std::fs::read_to_string(root().join(DOCUMENT)).unwrap();
    for code in codes {
        let row = format!("| `{code}` | ");
        assert!(text.contains(&row), "`{code}` has no row in {DOCUMENT}");
    }
}
