//! Values as Compose writes them: variables, sizes, durations, lists that may be maps.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Map, Value};

/// Text, or a number or truth value that stands for its text.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub(super) enum Scalar {
    Text(String),
    Other(Value),
}

impl Scalar {
    pub fn text(&self) -> String {
        match self {
            Scalar::Text(text) => text.clone(),
            Scalar::Other(Value::Null) => String::new(),
            Scalar::Other(value) => value.to_string(),
        }
    }
}

/// One thing, or a list of things.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub(super) enum OneOrMany<T> {
    Many(Vec<T>),
    One(T),
}

impl<T> OneOrMany<T> {
    pub fn list(self) -> Vec<T> {
        match self {
            OneOrMany::Many(list) => list,
            OneOrMany::One(one) => vec![one],
        }
    }
}

/// `NAME=value` lines, or a map.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub(super) enum Pairs {
    List(Vec<String>),
    Map(BTreeMap<String, Option<Scalar>>),
}

impl Pairs {
    /// Names with values; without one where none is given.
    pub fn pairs(self, separator: char) -> Vec<(String, Option<String>)> {
        match self {
            Pairs::List(list) => list
                .into_iter()
                .map(|line| match line.split_once(separator) {
                    Some((name, value)) => (name.to_owned(), Some(value.to_owned())),
                    None => (line, None),
                })
                .collect(),
            Pairs::Map(map) => map
                .into_iter()
                .map(|(name, value)| (name, value.map(|v| v.text())))
                .collect(),
        }
    }
}

/// Bytes of `512m`, `1.5gb`, `64k` or a number.
fn bytes(text: &str) -> Option<f64> {
    let text = text.trim().to_ascii_lowercase();
    let digits = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let factor = match unit.trim() {
        "" | "b" => 1.0,
        "k" | "kb" | "kib" => 1024.0,
        "m" | "mb" | "mib" => 1024.0 * 1024.0,
        "g" | "gb" | "gib" => 1024.0 * 1024.0 * 1024.0,
        _ => return None,
    };
    Some(number.parse::<f64>().ok()? * factor)
}

/// MiB of a size, at least 1.
pub(super) fn mib(text: &str) -> Option<i64> {
    let mib = (bytes(text)? / (1024.0 * 1024.0)).ceil().max(1.0);
    #[expect(
        clippy::cast_possible_truncation,
        reason = "a whole number, and far below the bounds of i64"
    )]
    (mib < 1e12).then_some(mib as i64)
}

/// Seconds of `90s`, `1m30s` or `2h`, rounded up.
pub(super) fn seconds(text: &str) -> Option<i64> {
    let span: jiff::SignedDuration = text.trim().parse().ok()?;
    Some(span.as_secs() + i64::from(span.subsec_nanos() > 0))
}

/// Replaces `$NAME`, `${NAME}`, `${NAME:-default}`, `${NAME-default}`, `${NAME:?message}`, `${NAME:+other}` and `$$` in every
/// text of a file. Names of variables that are not set, and have no default, go to `unset`.
pub(super) fn fill(
    value: &mut Value,
    variables: &BTreeMap<String, String>,
    unset: &mut Vec<String>,
) -> Result<(), String> {
    match value {
        Value::String(text) if text.contains('$') => *text = filled(text, variables, unset)?,
        Value::Array(list) => list
            .iter_mut()
            .try_for_each(|v| fill(v, variables, unset))?,
        Value::Object(map) => map
            .values_mut()
            .try_for_each(|v| fill(v, variables, unset))?,
        Value::String(_) | Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
    Ok(())
}

fn filled(
    text: &str,
    variables: &BTreeMap<String, String>,
    unset: &mut Vec<String>,
) -> Result<String, String> {
    let mut made = String::new();
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        made.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('$') {
            made.push('$');
            rest = after;
            continue;
        }
        let (expression, after) = if let Some(inner) = rest.strip_prefix('{') {
            let end =
                closing(inner).ok_or_else(|| format!("`{text}` has a `${{` that is not closed"))?;
            (&inner[..end], &inner[end + 1..])
        } else {
            let end = rest
                .find(|c: char| !c.is_ascii_alphanumeric() && c != '_')
                .unwrap_or(rest.len());
            rest.split_at(end)
        };
        if expression.is_empty() {
            made.push('$');
            continue;
        }
        made.push_str(&value_of(expression, variables, unset)?);
        rest = after;
    }
    made.push_str(rest);
    Ok(made)
}

/// Where the bracket closes that is open before `text`.
fn closing(text: &str) -> Option<usize> {
    let mut depth = 1;
    for (i, c) in text.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return Some(i);
        }
    }
    None
}

fn value_of(
    expression: &str,
    variables: &BTreeMap<String, String>,
    unset: &mut Vec<String>,
) -> Result<String, String> {
    let end = expression
        .find(|c: char| !c.is_ascii_alphanumeric() && c != '_')
        .unwrap_or(expression.len());
    let (name, rest) = expression.split_at(end);
    let value = variables.get(name);
    let (rest, value_counts) = match rest.strip_prefix(':') {
        Some(rest) => (rest, value.is_some_and(|v| !v.is_empty())),
        None => (rest, value.is_some()),
    };
    let given = || value.cloned().unwrap_or_default();
    match rest.chars().next() {
        None => {
            if value.is_none() {
                unset.push(name.to_owned());
            }
            Ok(given())
        }
        Some('-') if value_counts => Ok(given()),
        Some('-') => filled(&rest[1..], variables, unset),
        Some('?') if value_counts => Ok(given()),
        Some('?') => Err(format!("variable `{name}` must be set: {}", &rest[1..])),
        Some('+') if value_counts => filled(&rest[1..], variables, unset),
        Some('+') => Ok(String::new()),
        Some(_) => Err(format!("`${{{expression}}}` is no form that Compose knows")),
    }
}

/// Fields of a Compose object. Whoever reads one takes it away; what is left at the end was carried over by nobody.
pub(super) struct Fields {
    at: String,
    map: Map<String, Value>,
    /// What was not carried over.
    pub notes: Vec<String>,
}

impl Fields {
    /// Fields of `value`, which stands at `at`.
    pub fn of(at: &str, value: Value) -> Fields {
        let mut notes = Vec::new();
        let map = match value {
            Value::Object(map) => map,
            Value::Null => Map::new(),
            other => {
                notes.push(format!(
                    "Not carried over: `{at}` must be an object, not {other}."
                ));
                Map::new()
            }
        };
        Fields {
            at: at.to_owned(),
            map,
            notes,
        }
    }

    /// Takes a field. One that is not understood is named.
    pub fn take<T: serde::de::DeserializeOwned>(&mut self, key: &str) -> Option<T> {
        let value = self.map.remove(key).filter(|v| !v.is_null())?;
        let shown = value.to_string();
        match serde_json::from_value(value) {
            Ok(found) => Some(found),
            Err(_) => {
                self.lost(key, &format!("{shown} is not understood"));
                None
            }
        }
    }

    /// Takes a field as text.
    pub fn text(&mut self, key: &str) -> Option<String> {
        self.take::<Scalar>(key).map(|s| s.text())
    }

    /// Takes an object.
    pub fn inner(&mut self, key: &str) -> Fields {
        let value = self.map.remove(key).unwrap_or_default();
        Fields::of(&format!("{}.{key}", self.at), value)
    }

    /// Says why a field, which was taken, is not carried over.
    pub fn lost(&mut self, key: &str, why: &str) {
        self.notes
            .push(format!("Not carried over: `{}.{key}`: {why}.", self.at));
    }

    /// Takes a field that cannot be carried over, and says why.
    pub fn give_up(&mut self, key: &str, why: &str) {
        if self.map.remove(key).is_some_and(|v| !v.is_null()) {
            self.lost(key, why);
        }
    }

    /// Names whatever is left, and hands over all notes.
    pub fn end(mut self) -> Vec<String> {
        let left: Vec<String> = self
            .map
            .keys()
            .filter(|k| !k.starts_with("x-"))
            .cloned()
            .collect();
        for key in left {
            self.lost(&key, "ECS has nothing like it");
        }
        self.notes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_are_filled_in_as_compose_does() {
        let variables = [("TAG", "1.2"), ("EMPTY", "")]
            .map(|(k, v)| (k.to_owned(), v.to_owned()))
            .into();
        for (text, wanted) in [
            ("web:$TAG", Ok("web:1.2")),
            ("web:${TAG}-x", Ok("web:1.2-x")),
            ("${NO:-a}${NO-b}${EMPTY:-c}${EMPTY-d}", Ok("abc")),
            ("${NO:-${TAG}}", Ok("1.2")),
            ("${TAG:+yes}${NO:+no}", Ok("yes")),
            ("$$HOME costs 5$", Ok("$HOME costs 5$")),
            ("${NO:?give it}", Err("variable `NO` must be set: give it")),
            ("${TAG", Err("`${TAG` has a `${` that is not closed")),
        ] {
            let made = filled(text, &variables, &mut Vec::new());
            assert_eq!(made.as_deref().map_err(String::as_str), wanted, "{text}");
        }
        let mut unset = Vec::new();
        assert_eq!(
            filled("${NO}$TAG", &variables, &mut unset),
            Ok("1.2".to_owned())
        );
        assert_eq!(unset, ["NO"]);
    }

    #[test]
    fn sizes_and_durations() {
        for (text, wanted) in [
            ("512m", Some(512)),
            ("1.5gb", Some(1536)),
            ("1", Some(1)),
            ("2GiB", Some(2048)),
            ("x", None),
        ] {
            assert_eq!(mib(text), wanted, "{text}");
        }
        for (text, wanted) in [
            ("90s", Some(90)),
            ("1m30s", Some(90)),
            ("1500ms", Some(2)),
            ("soon", None),
        ] {
            assert_eq!(seconds(text), wanted, "{text}");
        }
    }
}
