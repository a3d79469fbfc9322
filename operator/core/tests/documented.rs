//! `docs/task-definition.md` tells the truth: a row for every parameter of a task definition, with what `unsupported` says
//! of it, and the name of a test where it is honoured.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

#[path = "common/named_tests.rs"]
mod named_tests;

use std::collections::{BTreeMap, BTreeSet};

use named_tests::{NamedTests, root};
use serde_json::Value;
use tallyman_operator_core::unsupported::{Support, of_field};

const DOCUMENT: &str = "docs/task-definition.md";

/// Paths of all parameters below `spec`, as the document spells them: `containerDefinitions[].cpu`.
fn parameters() -> BTreeSet<String> {
    let crds = tallyman_crds::schema::crds();
    let definition = crds
        .iter()
        .find(|c| c.file == "taskdefinitions.yaml")
        .unwrap();
    let spec =
        &definition.json["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"];
    let mut paths = BTreeSet::new();
    walk(spec, "", &mut paths);
    paths
}

fn walk(schema: &Value, path: &str, paths: &mut BTreeSet<String>) {
    if let Some(fields) = schema["properties"].as_object() {
        for (name, field) in fields {
            let dot = if path.is_empty() { "" } else { "." };
            walk(field, &format!("{path}{dot}{name}"), paths);
        }
    } else if schema["items"]["properties"].is_object() {
        walk(&schema["items"], &format!("{path}[]"), paths);
    } else {
        paths.insert(path.to_owned());
    }
}

/// Rows of the tables: parameter, what is done with it, and why or how.
fn rows() -> Vec<[String; 3]> {
    let text = std::fs::read_to_string(root().join(DOCUMENT)).unwrap();
    let cells = |line: &str| -> Vec<String> {
        let line = line.trim().trim_matches('|');
        line.split(" | ").map(|c| c.trim().to_owned()).collect()
    };
    text.lines()
        .filter(|line| line.starts_with("| `"))
        .map(|line| <[String; 3]>::try_from(cells(line)).unwrap())
        .map(|[name, here, how]| [name.trim_matches('`').to_owned(), here, how])
        .collect()
}

#[test]
fn every_parameter_has_one_row() {
    let mut seen = BTreeMap::<String, u32>::new();
    for [name, _, _] in rows() {
        *seen.entry(name).or_default() += 1;
    }
    let twice: Vec<_> = seen.iter().filter(|(_, n)| **n > 1).collect();
    assert!(twice.is_empty(), "twice in {DOCUMENT}: {twice:?}");
    let documented: BTreeSet<String> = seen.into_keys().collect();
    let wanted = parameters();
    let missing: Vec<_> = wanted.difference(&documented).collect();
    let unknown: Vec<_> = documented.difference(&wanted).collect();
    assert!(
        missing.is_empty(),
        "without a row in {DOCUMENT}: {missing:?}"
    );
    assert!(
        unknown.is_empty(),
        "no parameter, but in {DOCUMENT}: {unknown:?}"
    );
}

#[test]
fn rows_say_what_the_operator_does() {
    for [name, here, _] in rows() {
        let wanted = match of_field(&name) {
            Some(Support::Full) => "yes",
            Some(Support::Values(_)) => "partly",
            Some(Support::Ignored) => "left out",
            None => "refused",
        };
        assert_eq!(here, wanted, "`{name}` in {DOCUMENT}");
    }
}

#[test]
fn what_is_honoured_names_a_test_and_what_is_not_says_why() {
    let tests = NamedTests::all();
    for [name, here, how] in rows() {
        if here != "yes" {
            assert!(how.len() > 10, "`{name}` in {DOCUMENT} does not say why");
            continue;
        }
        let shown = how.rsplit_once("Test: ").map(|(_, tests)| tests);
        let shown = shown.unwrap_or_else(|| panic!("`{name}` in {DOCUMENT} names no test"));
        // Names stand in backticks; between them are commas.
        for test in shown.split('`').skip(1).step_by(2) {
            let there = tests.has(test);
            assert!(there, "`{name}` in {DOCUMENT}: there is no test `{test}`");
        }
    }
}
