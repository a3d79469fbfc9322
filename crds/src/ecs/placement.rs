//! Where tasks may go and where they should go.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::rules;

/// Constraints that a task definition may have.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
pub enum TaskDefinitionPlacementConstraintType {
    /// Only hosts that match an expression.
    #[serde(rename = "memberOf")]
    MemberOf,
}

/// A rule that every host of the task must meet.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = rules::on("TaskDefinitionPlacementConstraint")))]
pub struct TaskDefinitionPlacementConstraint {
    /// Kind of constraint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub r#type: Option<TaskDefinitionPlacementConstraintType>,
    /// Expression in the cluster query language, up to 2000 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 2000))]
    pub expression: Option<String>,
}

/// Constraints that a service or a run may have.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
pub enum PlacementConstraintType {
    /// No two tasks of the group on one host.
    #[serde(rename = "distinctInstance")]
    DistinctInstance,
    /// Only hosts that match an expression.
    #[serde(rename = "memberOf")]
    MemberOf,
}

/// A rule that every chosen host must meet (ECS `PlacementConstraint`).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = rules::on("PlacementConstraint")))]
pub struct PlacementConstraint {
    /// Kind of constraint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub r#type: Option<PlacementConstraintType>,
    /// Expression in the cluster query language, up to 2000 characters; with `memberOf` only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 2000))]
    pub expression: Option<String>,
}

/// How one host is preferred to another.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
pub enum PlacementStrategyType {
    /// By lot.
    #[serde(rename = "random")]
    Random,
    /// Evenly over the values of a field.
    #[serde(rename = "spread")]
    Spread,
    /// Where the least of a resource is left afterwards.
    #[serde(rename = "binpack")]
    Binpack,
}

/// One preference; several are applied in order (ECS `PlacementStrategy`).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = rules::on("PlacementStrategy")))]
pub struct PlacementStrategy {
    /// Kind of preference.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub r#type: Option<PlacementStrategyType>,
    /// For `spread`: `instanceId`, `host` or `attribute:<name>`. For `binpack`: `cpu` or `memory`.
    /// Not used by `random`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 255))]
    pub field: Option<String>,
}
