//! Task definitions as people write them.

use serde_json::{Value, json};
use tallyman_crds::TaskDefinitionSpec;
use tallyman_operator_core::definition::Definition;

/// A definition as it is written.
pub fn spec(value: Value) -> TaskDefinitionSpec {
    serde_json::from_value(value).unwrap()
}

/// One container, with these fields beside those that it must have.
pub fn one(container: Value) -> TaskDefinitionSpec {
    let mut whole = json!({ "name": "app", "image": "a", "memory": 64 });
    whole
        .as_object_mut()
        .unwrap()
        .extend(container.as_object().unwrap().clone());
    spec(json!({ "containerDefinitions": [whole] }))
}

/// What is wrong with a definition.
pub fn problems(spec: &TaskDefinitionSpec) -> Vec<String> {
    Definition::parse(spec)
        .unwrap_err()
        .iter()
        .map(ToString::to_string)
        .collect()
}
