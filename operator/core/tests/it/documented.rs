//! `docs/task-definition.md` tells the truth: a row for every parameter of a task definition, with what `unsupported` says
//! of it, and where it is honoured the name of a test that real engines of both generations run. So does `docs/not-supported.md` of the other kinds.

use std::collections::{BTreeMap, BTreeSet};

use crate::common::named_tests::{NamedTests, root};
use serde_json::Value;
use tallyman_operator_core::unsupported::{Kind, Support};

const DOCUMENT: &str = "docs/task-definition.md";
/// Of services, task sets, tasks and runs: what is not honoured.
const OTHERS: &str = "docs/not-supported.md";

/// Paths of all parameters below `spec`, as the document spells them: `containerDefinitions[].cpu`.
fn parameters(file: &str) -> BTreeSet<String> {
    let crds = tallyman_crds::schema::crds();
    let definition = crds.iter().find(|c| c.file == file).unwrap();
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

/// Rows of the tables of a document whose first cell is code.
fn cells<const N: usize>(document: &str) -> Vec<[String; N]> {
    let text = std::fs::read_to_string(root().join(document)).unwrap();
    let cells = |line: &str| -> Vec<String> {
        let line = line.trim().trim_matches('|');
        line.split(" | ").map(|c| c.trim().to_owned()).collect()
    };
    text.lines()
        .filter(|line| line.starts_with("| `"))
        .map(|line| <[String; N]>::try_from(cells(line)).unwrap())
        .collect()
}

/// Rows of the tables: parameter, what is done with it, and why or how.
fn rows() -> Vec<[String; 3]> {
    let rows = cells(DOCUMENT).into_iter();
    rows.map(|[name, here, how]| [name.trim_matches('`').to_owned(), here, how])
        .collect()
}

/// What is said begins with the reason that the operator gives, as a sentence.
fn says(how: &str, reason: &str) -> bool {
    how.to_lowercase().starts_with(&reason.to_lowercase())
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
    let wanted = parameters("taskdefinitions.yaml");
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
    for [name, here, how] in rows() {
        let support = Kind::TaskDefinition.support(&name);
        let support = support.unwrap_or_else(|| panic!("`{name}` is in no table"));
        assert_eq!(here, support.word(), "`{name}` in {DOCUMENT}");
        if let Some(reason) = support.reason() {
            assert!(
                says(&how, reason),
                "`{name}` in {DOCUMENT} does not begin with the reason that the operator gives: {reason}"
            );
        }
    }
}

#[test]
fn every_field_of_the_other_kinds_is_honoured_or_has_a_row_with_the_reason() {
    let kinds = [
        ("Service", Kind::Service, "services.yaml"),
        ("TaskSet", Kind::TaskSet, "tasksets.yaml"),
        ("Task", Kind::Task, "tasks.yaml"),
        ("RunTask", Kind::RunTask, "runtasks.yaml"),
    ];
    let mut wanted = BTreeSet::new();
    for (name, kind, file) in kinds {
        for path in parameters(file) {
            assert!(
                kind.support(&path).is_some(),
                "{name}: `{path}` is in no table"
            );
        }
        let fields = kind.fields();
        let not_whole = fields.iter().copied().filter(|(_, s)| *s != Support::Full);
        wanted.extend(not_whole.map(|(field, support)| {
            let reason = support.reason().unwrap_or_default();
            (field, name, support.word(), reason)
        }));
    }
    let rows = cells(OTHERS);
    let rows: Vec<(String, &str, String, String)> = rows
        .iter()
        .flat_map(|[field, of, here, why]: &[String; 4]| {
            let row = move |kind| {
                (
                    field.trim_matches('`').to_owned(),
                    kind,
                    here.clone(),
                    why.clone(),
                )
            };
            of.split(", ").map(row)
        })
        .collect();
    for (field, kind, word, reason) in &wanted {
        let row = rows.iter().find(|(f, k, ..)| f == field && k == kind);
        let Some((.., here, why)) = row else {
            panic!("`{field}` of {kind} has no row in {OTHERS}: {word}, {reason}");
        };
        assert!(
            here == word && says(why, reason),
            "`{field}` of {kind}: {word}, {reason}"
        );
    }
    assert_eq!(
        rows.len(),
        wanted.len(),
        "{OTHERS} has rows of fields that are honoured"
    );
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
        let shown: Vec<&str> = shown.split('`').skip(1).step_by(2).collect();
        for test in &shown {
            let there = tests.has(test);
            assert!(there, "`{name}` in {DOCUMENT}: there is no test `{test}`");
        }
        assert!(
            shown.iter().any(|test| tests.has_on_engines(test)),
            "`{name}` in {DOCUMENT} names no test that real engines of both generations run"
        );
    }
}
