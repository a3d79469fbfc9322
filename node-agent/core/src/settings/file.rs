//! ECS' configuration file: a JSON object whose keys are the fields of the agent's Go configuration.

use std::collections::BTreeMap;

use serde_json::Value;

use super::values::Wrong;

/// What the file says.
#[derive(Default)]
pub(super) struct Values {
    values: BTreeMap<String, Value>,
}

impl Values {
    /// An empty text is no file.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        if text.trim().is_empty() {
            return Ok(Self::default());
        }
        let values = serde_json::from_str(text)
            .map_err(|error| format!("The configuration file is not a JSON object: {error}."))?;
        Ok(Self { values })
    }

    /// Reads a field as the variable of the same meaning is read. Go writes durations as nanoseconds, so a
    /// number that means nothing by itself is tried as one.
    pub(super) fn value<T>(
        &self,
        key: &str,
        read: impl Fn(&str) -> Result<T, Wrong>,
    ) -> Option<Result<T, (String, Wrong)>> {
        let value = self.values.get(key)?;
        let text = match value {
            Value::Null => return None,
            Value::String(text) => text.trim().to_owned(),
            Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => {
                value.to_string()
            }
        };
        if text.is_empty() {
            return None;
        }
        let wrong = match read(&text) {
            Ok(value) => return Some(Ok(value)),
            Err(wrong) => wrong,
        };
        if value.is_number() && matches!(wrong, Wrong::Wanted(_)) {
            let span = format!("{text}ns");
            return Some(read(&span).map_err(|wrong| (span, wrong)));
        }
        Some(Err((text, wrong)))
    }

    /// A sentence about fields that nobody asks for.
    pub(super) fn left_aside(&self) -> Option<String> {
        let rest: Vec<&str> = self
            .values
            .keys()
            .map(String::as_str)
            .filter(|key| !super::variables().any(|variable| variable.key == *key))
            .collect();
        (!rest.is_empty()).then(|| {
            format!(
                "Of the configuration file these fields are not used: {}.",
                rest.join(", ")
            )
        })
    }
}
