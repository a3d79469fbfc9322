//! How the texts of variables become values. Each function takes a text that is not empty.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::de::DeserializeOwned;

/// Why a text is no value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wrong {
    /// Not what is wanted: `a number of MiB`.
    Wanted(String),
    /// Readable, but out of range; the default is used. A clause: `below its minimum of 1 s`.
    OutOfRange(String),
    /// Not what is wanted, of a value that must not be told.
    Secret(String),
    /// Readable, but no good: ECS' agent does not start with it. In whole sentences.
    Refused(Vec<String>),
}

impl Wrong {
    /// Not what is wanted.
    pub fn wanted(what: &str) -> Self {
        Self::Wanted(what.to_owned())
    }
}

/// A value that may be absent.
pub fn some<T>(
    read: impl Fn(&str) -> Result<T, Wrong>,
) -> impl Fn(&str) -> Result<Option<T>, Wrong> {
    move |text| read(text).map(Some)
}

/// Any text.
///
/// # Errors
/// Never.
pub fn text(text: &str) -> Result<String, Wrong> {
    Ok(text.to_owned())
}

/// Texts as a JSON list.
///
/// # Errors
/// [`Wrong::Wanted`]
pub fn list(text: &str) -> Result<Vec<String>, Wrong> {
    json("[\"one\",\"two\"]")(text)
}

/// Go's booleans, as ECS takes them.
///
/// # Errors
/// [`Wrong::Wanted`]
pub fn flag(text: &str) -> Result<bool, Wrong> {
    match text {
        "false" | "False" | "FALSE" | "f" | "F" | "0" => Ok(false),
        "true" | "True" | "TRUE" | "t" | "T" | "1" => Ok(true),
        _ => Err(Wrong::wanted("true or false")),
    }
}

/// JSON like the example.
pub fn json<T: DeserializeOwned>(example: &str) -> impl Fn(&str) -> Result<T, Wrong> {
    move |text| {
        serde_json::from_str(text).map_err(|_| Wrong::Wanted(format!("JSON like `{example}`")))
    }
}

/// A number within bounds; out of them is as if the variable were not there.
pub fn number(least: i64, most: i64, of_what: &str) -> impl Fn(&str) -> Result<i64, Wrong> {
    move |text| match text.parse::<i64>() {
        Ok(number) if (least..=most).contains(&number) => Ok(number),
        Ok(_) => Err(Wrong::OutOfRange(format!("not {least} to {most}"))),
        Err(_) => Err(Wrong::Wanted(format!("a number of {of_what}"))),
    }
}

/// A duration of Go, at least this many seconds.
pub fn at_least(seconds: u64) -> impl Fn(&str) -> Result<Duration, Wrong> {
    move |text| match go_duration(text) {
        None => Err(Wrong::wanted("a duration like `30s` or `1h30m`")),
        Some(span) if span < Duration::from_secs(seconds) => Err(Wrong::OutOfRange(format!(
            "below its minimum of {seconds} s"
        ))),
        Some(span) => Ok(span),
    }
}

/// A duration of Go within bounds, in milliseconds.
pub fn between(least: u64, most: u64) -> impl Fn(&str) -> Result<Duration, Wrong> {
    move |text| match go_duration(text) {
        None => Err(Wrong::wanted("a duration like `100ms`")),
        Some(span) if span < Duration::from_millis(least) || span > Duration::from_millis(most) => {
            Err(Wrong::OutOfRange(format!("not {least} to {most} ms")))
        }
        Some(span) => Ok(span),
    }
}

/// Texts by name, as a JSON object.
///
/// # Errors
/// [`Wrong::Wanted`]
pub fn texts(example: &str, text: &str) -> Result<BTreeMap<String, String>, Wrong> {
    json(example)(text)
}

/// Go's durations, as ECS takes them: `1h30m`, `30s`, `500ms`, `1.5h`.
fn go_duration(text: &str) -> Option<Duration> {
    let mut rest = text;
    let mut total = Duration::ZERO;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let letters = rest
            .find(|c: char| c.is_ascii_digit())
            .unwrap_or(rest.len());
        let seconds = match &rest[..letters] {
            "h" => 3600.0,
            "m" => 60.0,
            "s" => 1.0,
            "ms" => 0.001,
            "us" | "µs" => 0.000_001,
            "ns" => 0.000_000_001,
            _ => return None,
        };
        total = total.checked_add(Duration::try_from_secs_f64(number * seconds).ok()?)?;
        rest = &rest[letters..];
    }
    Some(total)
}
