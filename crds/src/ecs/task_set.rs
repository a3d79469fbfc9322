//! Parts of `CreateTaskSet`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// In what a scale is given.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    JsonSchema,
)]
pub enum ScaleUnit {
    /// Percent of the service's desired count.
    #[default]
    #[serde(rename = "PERCENT")]
    Percent,
}

/// How many of the service's tasks a task set runs.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Scale {
    /// Percent of the service's `desiredCount`, 0.0 to 100.0; the number of tasks is rounded up. Default 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0.0, max = 100.0))]
    pub value: Option<f64>,
    /// PERCENT.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit: Option<ScaleUnit>,
}
