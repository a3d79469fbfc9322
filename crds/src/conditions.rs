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
/// Present only while True, of a service: tasks of it are on hosts whose agent is not connected; the message names them and says what
/// becomes of them.
pub const TASKS_OUT_OF_TOUCH: &str = "TasksOutOfTouch";

/// Beginning of the types that others than the operator set: `alarm.tallyman.dev/<name>` on a Service is True while the
/// deployment alarm of that name goes off (ECS `DeploymentAlarms`).
pub const ALARM: &str = "alarm.tallyman.dev/";
/// Present only while True, of a run: every copy ended well (as of a Kubernetes Job).
pub const COMPLETE: &str = "Complete";
/// Present only while True, of a run: it ended, and not every copy ended well (as of a Kubernetes Job).
pub const FAILED: &str = "Failed";

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
    #[serde(
        default,
        deserialize_with = "crate::numbers::whole_or_none",
        skip_serializing_if = "Option::is_none"
    )]
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
/// types that are not stated any more disappear, order is that of the statements; what others set stays, behind them. They need not
/// know the generation: who reads it (Flux does, of every condition) is told that the condition was seen at this one.
pub fn merge(
    previous: &[Condition],
    statements: &[Statement],
    generation: i64,
    now: &Time,
) -> Vec<Condition> {
    let others = previous.iter().filter(|c| c.type_.starts_with(ALARM));
    let others = others.map(|c| Condition {
        observed_generation: Some(generation),
        ..c.clone()
    });
    let stated = statements.iter().map(|s| {
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
    });
    stated.chain(others).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Time {
        serde_json::from_value(text.into()).expect("a time")
    }

    fn ready(status: ConditionStatus, reason: &'static str) -> Statement {
        Statement {
            type_: READY,
            status,
            reason,
            message: format!("It is {reason}."),
        }
    }

    #[test]
    fn the_time_stays_while_the_status_does() {
        let (early, late) = (at("2026-01-01T00:00:00Z"), at("2026-01-02T00:00:00Z"));
        let first = merge(&[], &[ready(ConditionStatus::False, "Placing")], 1, &early);
        let second = merge(
            &first,
            &[ready(ConditionStatus::False, "Starting")],
            2,
            &late,
        );
        assert_eq!(second[0].last_transition_time, early);
        assert_eq!(second[0].observed_generation, Some(2));
        assert_eq!(
            (second[0].reason.as_str(), second[0].message.as_str()),
            ("Starting", "It is Starting.")
        );
        let third = merge(&second, &[ready(ConditionStatus::True, "Steady")], 2, &late);
        assert_eq!(third[0].last_transition_time, late);
    }

    #[test]
    fn what_is_not_stated_any_more_disappears() {
        let now = at("2026-01-01T00:00:00Z");
        let stalled = Statement {
            type_: STALLED,
            status: ConditionStatus::True,
            reason: "InvalidSpec",
            message: String::new(),
        };
        let both = merge(
            &[],
            &[ready(ConditionStatus::False, "Stalled"), stalled],
            1,
            &now,
        );
        assert_eq!(
            both.iter().map(|c| c.type_.as_str()).collect::<Vec<_>>(),
            [READY, STALLED]
        );
        let one = merge(&both, &[ready(ConditionStatus::True, "Steady")], 2, &now);
        assert_eq!(
            one.iter().map(|c| c.type_.as_str()).collect::<Vec<_>>(),
            [READY]
        );
    }

    #[test]
    fn what_others_set_stays() {
        let now = at("2026-01-01T00:00:00Z");
        let mut list = merge(&[], &[ready(ConditionStatus::False, "Placing")], 1, &now);
        list.push(Condition {
            type_: format!("{ALARM}errors"),
            status: ConditionStatus::True,
            observed_generation: None,
            last_transition_time: now.clone(),
            reason: "Threshold".to_owned(),
            message: String::new(),
        });
        let next = merge(&list, &[ready(ConditionStatus::True, "Steady")], 2, &now);
        assert_eq!(next[0].reason, "Steady");
        let seen = Condition {
            observed_generation: Some(2),
            ..list[1].clone()
        };
        assert_eq!(next[1..], [seen]);
    }

    #[test]
    fn saying_the_same_twice_changes_nothing() {
        let (early, late) = (at("2026-01-01T00:00:00Z"), at("2026-01-02T00:00:00Z"));
        let said = [ready(ConditionStatus::True, "Steady")];
        let once = merge(&[], &said, 1, &early);
        assert_eq!(merge(&once, &said, 1, &late), once);
    }
}
