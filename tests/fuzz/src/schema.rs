//! Values that a schema of a definition takes, of the definition alone: no field is known by name.

use std::collections::BTreeMap;
use std::sync::{LazyLock, Mutex, PoisonError};

use regex::Regex;
use serde_json::{Map, Value, json};
use tallyman_crds::patterns;

use crate::dice::Dice;

/// Texts that a pattern of ours may take; which it does is tried out.
const TEXTS: &[&str] = &[
    "a",
    "web",
    "bad",
    "nothing:99",
    "nothing",
    "1",
    "512",
    ".5 vCPU",
    "0.5GB",
    "8000-8010",
    "99999-0",
    "arn:aws:ecs:x:0:cluster/bad",
    "arn:aws:ecs:x:0:task-definition/nothing:1",
    "arn:aws:ecs:x:0:service/bad/nothing",
    "99999999999999999999",
    "99999999999999999999 GB",
    "sha256:0000000000000000000000000000000000000000000000000000000000000000",
    "/",
    "True",
];

/// Texts where any text is taken.
const FREE: &[&str] = &[
    "a",
    "web",
    "localhost/tallyman/hello:1",
    "/a",
    "0.5",
    "rate(1 hour)",
    "cron(0 10 * * ? *)",
    "at(2030-01-01T00:00:00)",
    "*/5 * * * *",
    "attribute:ecs.os-type == linux",
    "host",
    "Europe/Stockholm",
    "CMD-SHELL",
];

/// As times may be written; which of them the pattern takes is tried out.
const TIMES: &[&str] = &[
    "9999-12-31T23:59:59Z",
    "2026-01-01t00:00:00z",
    "2026-01-01T00:00:00x5Z",
    "2026-01-01T00:00:00+99:99",
    "2026-01-01T00:00:00.0123456789Z",
    "0000-01-01T00:00:00+23:59",
    "8999-12-31T23:59:59-23:59",
    "2026-02-29T00:00:00Z",
    "2900-02-29T00:00:00Z",
    "2028-02-29T00:00:00Z",
    "2026-01-01T00:00:00Z",
    "2027-02-03T04:05:06.789Z",
    "2190-12-31T23:59:59+05:30",
    "1970-01-01T00:00:00Z",
];

/// Whether `pattern`, which the API server reads as RE2, takes `text`.
pub fn takes(pattern: &str, text: &str) -> bool {
    static READ: LazyLock<Mutex<BTreeMap<String, Option<Regex>>>> = LazyLock::new(Mutex::default);
    let mut read = READ.lock().unwrap_or_else(PoisonError::into_inner);
    let regex = read
        .entry(pattern.to_owned())
        .or_insert_with(|| Regex::new(pattern).ok());
    regex.as_ref().is_none_or(|regex| regex.is_match(text))
}

/// A value that `schema` takes, but for what CEL says; `depth` is how far below the top it is.
pub fn value(schema: &Value, depth: usize, dice: &mut Dice<'_>) -> Value {
    if let Some(all) = schema["enum"].as_array() {
        return dice.one(all).cloned().unwrap_or_default();
    }
    match schema["type"].as_str() {
        Some("object") => object(schema, depth, dice),
        Some("array") => {
            let least = length(schema, "minItems").unwrap_or(0);
            let more = if depth > 4 { 0 } else { dice.below(3) };
            let most = length(schema, "maxItems").unwrap_or(usize::MAX);
            let count = (least + more).min(most);
            (0..count)
                .map(|_| value(&schema["items"], depth + 1, dice))
                .collect()
        }
        Some("integer") => integer(schema, dice),
        Some("number") => json!(*dice.one(&[0.0, 0.5, 12.5, 100.0]).unwrap_or(&1.0)),
        Some("boolean") => dice.chance(50).into(),
        _ => text(schema, dice),
    }
}

fn length(schema: &Value, word: &str) -> Option<usize> {
    usize::try_from(schema[word].as_u64()?).ok()
}

fn object(schema: &Value, depth: usize, dice: &mut Dice<'_>) -> Value {
    let mut fields = Map::new();
    if let Some(of) = schema.get("additionalProperties").filter(|v| v.is_object()) {
        for key in ["a", "b"].iter().take(dice.below(3)) {
            fields.insert((*key).to_owned(), value(of, depth + 1, dice));
        }
    }
    let required: Vec<&str> = schema["required"]
        .as_array()
        .map(|list| list.iter().filter_map(Value::as_str).collect())
        .unwrap_or_default();
    for (name, field) in schema["properties"].as_object().into_iter().flatten() {
        let often = [60, 30, 30, 20, 15, 10];
        let often = often.get(depth).copied().unwrap_or(5);
        if required.contains(&name.as_str()) || dice.chance(often) {
            fields.insert(name.clone(), value(field, depth + 1, dice));
        }
    }
    fields.into()
}

/// One that is small, or at the edge of what is taken.
fn integer(schema: &Value, dice: &mut Dice<'_>) -> Value {
    let least = schema["minimum"].as_i64().unwrap_or(0);
    // Of an `int32` the API server knows the bounds by its format.
    let widest = match schema["format"].as_str() {
        Some("int32") => i64::from(i32::MAX),
        _ => i64::MAX,
    };
    let most = schema["maximum"].as_i64().unwrap_or(widest);
    let choices = [least, least.saturating_add(1), 1, 2, 16, 80, most];
    let taken: Vec<i64> = choices
        .into_iter()
        .filter(|n| (least..=most).contains(n))
        .collect();
    // The API server keeps it as it is written, where a bound allows 0.
    if (least..=most).contains(&0) && dice.chance(10) {
        return json!(-0.0);
    }
    dice.one(&taken).copied().unwrap_or(least).into()
}

fn text(schema: &Value, dice: &mut Dice<'_>) -> Value {
    let pattern = schema["pattern"].as_str();
    let offered = match pattern {
        Some(patterns::TIME) => TIMES,
        Some(_) => TEXTS,
        None => FREE,
    };
    let least = length(schema, "minLength").unwrap_or(0);
    let most = length(schema, "maxLength").unwrap_or(usize::MAX);
    let fit = |text: &&&str| {
        let long = text.chars().count();
        long >= least && long <= most && pattern.is_none_or(|pattern| takes(pattern, text))
    };
    let taken: Vec<&&str> = offered.iter().filter(fit).collect();
    match dice.one(&taken) {
        Some(text) => (**text).into(),
        None => "a".repeat(least.max(1)).into(),
    }
}
