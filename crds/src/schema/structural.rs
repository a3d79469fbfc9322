//! A JSON Schema made into a Kubernetes structural schema.

use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde_json::{Map, Value, json};

use crate::patterns;

/// Formats that the API server knows for integers and strings of ours; it warns about any other.
const KNOWN_FORMATS: [&str; 3] = ["int32", "int64", "date-time"];

/// Structural schema of `T`, without references.
pub fn of<T: JsonSchema>() -> Value {
    let settings = SchemaSettings::draft2020_12().with(|s| {
        s.inline_subschemas = true;
        s.meta_schema = None;
    });
    let mut schema = settings
        .into_generator()
        .into_root_schema_for::<T>()
        .to_value();
    rewrite(&mut schema);
    schema
}

/// Any object, kept as it is. For parts that were checked where they came from and that only our own processes read.
pub fn opaque(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "object", "x-kubernetes-preserve-unknown-fields": true })
}

/// The schema of `T` without its rules. For a copy of something that was checked where it came from: a rule that is added
/// later must not make an old copy invalid.
pub fn checked<T: JsonSchema>(generator: &mut SchemaGenerator) -> Schema {
    let mut schema = generator.subschema_for::<T>().to_value();
    strip_rules(&mut schema);
    Schema::try_from(schema).unwrap_or_default()
}

fn strip_rules(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.remove("x-kubernetes-validations");
            fields.values_mut().for_each(strip_rules);
        }
        Value::Array(items) => items.iter_mut().for_each(strip_rules),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// Makes `schema` and everything below it structural.
fn rewrite(schema: &mut Value) {
    let Value::Object(node) = schema else { return };
    for word in ["$schema", "title", "examples"] {
        node.remove(word);
    }
    without_null(node);
    plain_enum(node);
    plain_numbers(node);
    plain_times(node);
    tidy_text(node);
    tidy_default(node);
    children(node, &mut rewrite);
    match node.get("type").and_then(Value::as_str) {
        Some("array") => {
            node.entry("x-kubernetes-list-type")
                .or_insert_with(|| "atomic".into());
        }
        Some("object") if node.contains_key("properties") => {
            node.remove("additionalProperties");
        }
        _ => {}
    }
}

/// Applies `change` to every schema directly below `node`.
fn children(node: &mut Map<String, Value>, change: &mut dyn FnMut(&mut Value)) {
    if let Some(properties) = node.get_mut("properties").and_then(Value::as_object_mut) {
        properties.values_mut().for_each(&mut *change);
    }
    for word in ["items", "additionalProperties"] {
        if let Some(child) = node.get_mut(word) {
            change(child);
        }
    }
}

/// `Option` says "or null". The API server drops a null where a field is not nullable, which is what we want.
fn without_null(node: &mut Map<String, Value>) {
    if let Some(Value::Array(types)) = node.get_mut("type") {
        types.retain(|t| t != "null");
        if let [only] = types.as_slice() {
            let only = only.clone();
            node.insert("type".into(), only);
        }
    }
    if let Some(Value::Array(values)) = node.get_mut("enum") {
        values.retain(|value| !value.is_null());
    }
    if let Some(Value::Array(choices)) = node.get("anyOf")
        && let Some(choice) = choices
            .iter()
            .find(|choice| choice["type"] != "null")
            .cloned()
        && choices.len() == 2
        && choices.iter().any(|choice| choice["type"] == "null")
    {
        node.remove("anyOf");
        if let Value::Object(inner) = choice {
            // What is said at the field (its description, its default) is worth more than what its type says.
            for (word, value) in inner {
                node.entry(word).or_insert(value);
            }
        }
        without_null(node);
    }
}

/// An enum whose variants carry docs comes as `oneOf`; the docs move into the description.
fn plain_enum(node: &mut Map<String, Value>) {
    if let Some(value) = node.remove("const") {
        node.insert("enum".into(), json!([value]));
        node.entry("type").or_insert_with(|| "string".into());
    }
    let Some(Value::Array(variants)) = node.get("oneOf").cloned() else {
        return;
    };
    node.remove("oneOf");
    let mut values = Vec::new();
    let mut lines = Vec::new();
    for variant in &variants {
        let mine: Vec<Value> = match (variant.get("const"), variant.get("enum")) {
            (Some(value), _) => vec![value.clone()],
            (None, Some(Value::Array(several))) => several.clone(),
            _ => vec![],
        };
        if let (Some(text), [Value::String(name)]) =
            (variant["description"].as_str(), mine.as_slice())
        {
            lines.push(format!("{name}: {text}"));
        }
        values.extend(mine);
    }
    if !lines.is_empty() {
        let head = node
            .get("description")
            .and_then(Value::as_str)
            .unwrap_or_default();
        let text = format!("{head}\n\n{}", lines.join("\n\n"));
        node.insert("description".into(), text.into());
    }
    node.insert("type".into(), "string".into());
    node.insert("enum".into(), values.into());
}

/// Known formats only, and whole bounds on whole numbers.
fn plain_numbers(node: &mut Map<String, Value>) {
    if node
        .get("format")
        .and_then(Value::as_str)
        .is_some_and(|f| !KNOWN_FORMATS.contains(&f))
    {
        node.remove("format");
    }
    if node.get("type").and_then(Value::as_str) != Some("integer") {
        return;
    }
    for word in ["minimum", "maximum"] {
        if let Some(bound) = node.get(word).and_then(Value::as_f64) {
            #[allow(
                clippy::cast_possible_truncation,
                reason = "a bound of an integer is whole and small"
            )]
            node.insert(word.into(), (bound as i64).into());
        }
    }
}

/// Times that every reader reads. With a format the API server takes more: a list (`startDate: []`), `2026-01-01t00:00:00?5z`, an
/// offset of 99 hours, the last day of the year 9999, which is beyond jiff's last time. One object with such a time, once it is
/// stored, is read by nobody; so a pattern says what a time is, and no format.
fn plain_times(node: &mut Map<String, Value>) {
    if node.get("format").and_then(Value::as_str) == Some("date-time") {
        node.remove("format");
        node.insert("pattern".into(), patterns::TIME.into());
        node.insert("maxLength".into(), 35.into());
    }
}

/// Source lines are wrapped for editors; `kubectl explain` wraps for itself.
fn tidy_text(node: &mut Map<String, Value>) {
    if let Some(text) = node.get("description").and_then(Value::as_str) {
        let paragraphs: Vec<String> = text
            .split("\n\n")
            .map(|paragraph| {
                paragraph
                    .lines()
                    .map(str::trim)
                    .collect::<Vec<_>>()
                    .join(" ")
            })
            .collect();
        let text = paragraphs.join("\n");
        node.insert("description".into(), text.into());
    }
}

/// An empty list, an empty object or null is what absence means anyway.
fn tidy_default(node: &mut Map<String, Value>) {
    let empty = match node.get("default") {
        Some(Value::Null) => true,
        Some(Value::Array(items)) => items.is_empty(),
        Some(Value::Object(fields)) => fields.is_empty(),
        Some(Value::Bool(_) | Value::Number(_) | Value::String(_)) | None => false,
    };
    if empty {
        node.remove("default");
    }
}

/// Takes every default away below `schema`, but for the properties named in `keep`.
pub(super) fn strip_defaults(schema: &mut Value, keep: &[&str]) {
    let Value::Object(node) = schema else { return };
    if let Some(properties) = node.get_mut("properties").and_then(Value::as_object_mut) {
        for (name, property) in properties {
            if let Value::Object(fields) = property
                && !keep.contains(&name.as_str())
            {
                fields.remove("default");
            }
        }
    }
    children(node, &mut |child| strip_defaults(child, &[]));
}

/// Sorts every object by key, whatever map `serde_json` was built with.
pub(super) fn sort(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            let mut entries: Vec<(String, Value)> = std::mem::take(fields).into_iter().collect();
            entries.sort_by(|(a, _), (b, _)| a.cmp(b));
            for (key, mut entry) in entries {
                sort(&mut entry);
                fields.insert(key, entry);
            }
        }
        Value::Array(items) => items.iter_mut().for_each(sort),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}
