//! The status contract of every kind: `observedGeneration`, `Ready`, and `Reconciling`/`Stalled` while True.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::patterns;

/// Condition type that is always present.
pub const READY: &str = "Ready";
/// Present only while True: the object is on its way.
pub const RECONCILING: &str = "Reconciling";
/// Present only while True: a failure that will not mend itself.
pub const STALLED: &str = "Stalled";
/// Present only while True: the object uses fields that nothing honours yet; the message names them.
pub const UNSUPPORTED_FIELDS: &str = "UnsupportedFields";

/// `observedGeneration` of an object that no controller has seen.
pub const UNOBSERVED: i64 = -1;

/// Serde default for `observedGeneration`.
pub fn unobserved() -> i64 {
    UNOBSERVED
}

/// A Kubernetes condition: one thing that is true, false or unknown of an object, and since when.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Condition {
    /// Adjective or past participle in CamelCase, such as `Ready`.
    #[serde(rename = "type")]
    #[schemars(length(min = 1, max = 316), regex(pattern = patterns::CONDITION_TYPE))]
    pub type_: String,
    /// `True`, `False` or `Unknown`.
    pub status: ConditionStatus,
    /// `metadata.generation` that the condition was computed from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub observed_generation: Option<i64>,
    /// When `status` last changed.
    pub last_transition_time: Time,
    /// One CamelCase word for programs.
    #[schemars(length(min = 1, max = 1024), regex(pattern = patterns::REASON))]
    pub reason: String,
    /// A whole sentence for people.
    #[serde(default)]
    #[schemars(length(max = 32768))]
    pub message: String,
}

/// Three-valued truth.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
pub enum ConditionStatus {
    /// It holds.
    True,
    /// It does not hold.
    False,
    /// Nobody knows.
    Unknown,
}

/// What a core says about a condition; `merge` turns it into a `Condition`, keeping transition times.
#[derive(Clone, Debug, PartialEq)]
pub struct Statement {
    /// Condition type.
    pub type_: &'static str,
    /// Truth.
    pub status: ConditionStatus,
    /// CamelCase reason.
    pub reason: &'static str,
    /// Whole sentence.
    pub message: String,
}

/// Conditions after `statements` at `generation`: transition times are kept where the status did not change,
/// types that are not stated any more disappear, order is that of the statements.
pub fn merge(
    previous: &[Condition],
    statements: &[Statement],
    generation: i64,
    now: &Time,
) -> Vec<Condition> {
    statements
        .iter()
        .map(|s| {
            let since = previous
                .iter()
                .find(|c| c.type_ == s.type_ && c.status == s.status)
                .map(|c| c.last_transition_time.clone());
            Condition {
                type_: s.type_.to_owned(),
                status: s.status,
                observed_generation: Some(generation),
                last_transition_time: since.unwrap_or_else(|| now.clone()),
                reason: s.reason.to_owned(),
                message: s.message.clone(),
            }
        })
        .collect()
}
