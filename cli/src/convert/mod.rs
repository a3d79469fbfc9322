//! Manifests from what people have: JSON of ECS, and Compose files. Whatever cannot be carried over is named in a note of the
//! manifest that it would have been in; nothing is dropped without a word.

mod compose;
mod compose_container;
mod compose_ports;
mod compose_values;
mod compose_volumes;
mod described;
mod ecs;

use std::collections::BTreeMap;

use serde_json::{Value, json};
use tallyman_crds::{GROUP, TaskDefinitionSpec, VERSION};
use tallyman_operator_core::definition::Definition;
use tallyman_operator_core::unsupported::{self, Unsupported};

/// What the text alone does not say.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Name of a Compose project that has none of its own.
    pub name: String,
    /// Somebody asked for that name, so it comes before the project's own.
    pub named: bool,
    /// Compose: one task with all containers.
    pub together: bool,
    /// Variables of a Compose file.
    pub variables: BTreeMap<String, String>,
}

/// A manifest that was made.
#[derive(Clone, Debug, PartialEq)]
pub struct Manifest {
    /// Kind.
    pub kind: &'static str,
    /// Name.
    pub name: String,
    /// Spec.
    pub spec: Value,
    /// What was not carried over, and what somebody has to look at.
    pub notes: Vec<String>,
}

impl Manifest {
    /// `Service/web`.
    pub fn title(&self) -> String {
        format!("{}/{}", self.kind, self.name)
    }
}

/// Makes manifests.
///
/// # Errors
/// The text is nothing that can be converted.
pub fn convert(text: &str, options: &Options) -> Result<Vec<Manifest>, String> {
    let value: Value = match serde_json::from_str(text) {
        Ok(value) => value,
        Err(_) => {
            serde_saphyr::from_str(text).map_err(|e| format!("it is neither JSON nor YAML: {e}"))?
        }
    };
    if value["services"].is_object() {
        return compose::convert(value, options);
    }
    ecs::convert(value)
}

/// Manifests as text: notes are comments before what they are about.
pub fn text(manifests: &[Manifest]) -> String {
    let each = manifests.iter().map(|m| {
        let notes = m.notes.iter().flat_map(|n| n.lines());
        let notes: String = notes.map(|line| format!("# {line}\n")).collect();
        let object = json!({
            "apiVersion": format!("{GROUP}/{VERSION}"), "kind": m.kind, "metadata": { "name": m.name }, "spec": m.spec,
        });
        let body = serde_saphyr::to_string(&object).unwrap_or_else(|_| object.to_string());
        format!("{notes}{}\n", body.trim_end())
    });
    each.collect::<Vec<_>>().join("---\n")
}

/// What of ECS or Compose may stand in an object's name: small letters, digits and hyphens.
fn object_name(given: &str) -> String {
    let plain = |c: char| {
        if c.is_ascii_alphanumeric() {
            c.to_ascii_lowercase()
        } else {
            '-'
        }
    };
    let name: String = given.chars().map(plain).take(52).collect();
    name.trim_matches('-').to_owned()
}

/// A TaskDefinition of this spec, with what is to be said of it: fields that nobody knows, that nothing honours, or that
/// are wrong.
fn definition(name: String, given: Value, mut notes: Vec<String>) -> Result<Manifest, String> {
    let spec: TaskDefinitionSpec = serde_json::from_value(given.clone())
        .map_err(|e| format!("task definition `{name}` cannot be read: {e}"))?;
    let kept = serde_json::to_value(&spec).unwrap_or_default();
    notes.extend(unknown("spec", &given, &kept));
    if let Err(problems) = Definition::parse(&spec) {
        notes.extend(
            problems
                .iter()
                .map(|p| format!("To be mended before it registers: {p}.")),
        );
    }
    notes.extend(not_honoured(&unsupported::of_definition(&spec)));
    Ok(Manifest {
        kind: "TaskDefinition",
        name,
        spec: kept,
        notes,
    })
}

/// Notes of fields that nothing honours.
fn not_honoured(fields: &Unsupported) -> Vec<String> {
    let refused = fields.refused.iter().map(|(f, why)| {
        format!("Not carried over: `{f}` ({why}). It stands below all the same, and the object is Stalled until it is gone.")
    });
    let ignored = fields.ignored.iter().map(|(f, why)| {
        format!("Not carried over: `{f}` ({why}). It stands below, and has no effect.")
    });
    refused.chain(ignored).collect()
}

/// Notes of fields of `given` that are not in `kept`.
fn unknown(at: &str, given: &Value, kept: &Value) -> Vec<String> {
    let mut paths = Vec::new();
    lost(at, given, kept, &mut paths);
    paths
        .iter()
        .map(|p| format!("Not carried over: `{p}` is no field that is known here."))
        .collect()
}

fn lost(at: &str, given: &Value, kept: &Value, paths: &mut Vec<String>) {
    let nothing = match given {
        Value::Null => true,
        Value::Array(list) => list.is_empty(),
        Value::Object(map) => map.is_empty(),
        Value::String(text) => text.is_empty() && kept.is_null(),
        Value::Bool(_) | Value::Number(_) => false,
    };
    match (given, kept) {
        _ if nothing => {}
        (_, Value::Null) => paths.push(at.to_owned()),
        (Value::Object(a), Value::Object(b)) => {
            for (key, value) in a {
                lost(
                    &format!("{at}.{key}"),
                    value,
                    b.get(key).unwrap_or(&Value::Null),
                    paths,
                );
            }
        }
        (Value::Array(a), Value::Array(b)) => {
            for (i, value) in a.iter().enumerate() {
                let label = value["name"]
                    .as_str()
                    .map_or_else(|| i.to_string(), str::to_owned);
                lost(
                    &format!("{at}[{label}]"),
                    value,
                    b.get(i).unwrap_or(&Value::Null),
                    paths,
                );
            }
        }
        _ => {}
    }
}
