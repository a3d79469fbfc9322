//! Input of the AWS command line stands under `spec` unchanged: nothing in it is lost on the way through the types.

use crate::support;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use tallyman_crds::{ServiceSpec, TaskDefinitionSpec, TaskSetSpec};

#[test]
fn task_definitions_of_the_guide_survive() {
    let files = support::files(&support::here("tests/fixtures/task-definitions"), "json");
    assert!(files.len() >= 9, "the examples of the guide are missing");
    for file in files {
        survives::<TaskDefinitionSpec>(&support::read(&file), &file.display().to_string());
    }
}

#[test]
fn every_field_of_create_service_survives() {
    let file = support::here("tests/fixtures/service-every-field.json");
    survives::<ServiceSpec>(&support::read(&file), &file.display().to_string());
}

#[test]
fn every_field_of_create_task_set_survives() {
    let file = support::here("tests/fixtures/task-set-every-field.json");
    survives::<TaskSetSpec>(&support::read(&file), &file.display().to_string());
}

/// Parsed and written again, the text says the same, but for empty lists, which are absence.
fn survives<T: DeserializeOwned + Serialize>(text: &str, file: &str) {
    let given: Value =
        serde_json::from_str(text).unwrap_or_else(|error| unreachable!("{file}: {error}"));
    let parsed: T =
        serde_json::from_str(text).unwrap_or_else(|error| unreachable!("{file}: {error}"));
    let written = serde_json::to_value(&parsed).expect("types of this crate are plain data");
    assert_eq!(
        without_empty_lists(given),
        without_empty_lists(written),
        "{file}"
    );
}

fn without_empty_lists(value: Value) -> Value {
    match value {
        Value::Object(fields) => Value::Object(
            fields
                .into_iter()
                .filter(|(_, value)| value.as_array().is_none_or(|list| !list.is_empty()))
                .map(|(name, value)| (name, without_empty_lists(value)))
                .collect::<Map<_, _>>(),
        ),
        Value::Array(items) => items.into_iter().map(without_empty_lists).collect(),
        plain => plain,
    }
}
