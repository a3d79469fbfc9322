//! `ScheduledTask`: runs a task on a schedule.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::conditions::Condition;
use crate::run_task::RunTaskSpec;

/// Runs a task on a schedule. The object's name is at most 40 characters long.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "tallyman.dev",
    version = "v1alpha1",
    doc = "Runs a task on a schedule.",
    kind = "ScheduledTask",
    plural = "scheduledtasks",
    shortname = "tsched",
    category = "tallyman",
    namespaced,
    status = "ScheduledTaskStatus"
)]
#[serde(rename_all = "camelCase")]
pub struct ScheduledTaskSpec {
    /// `cron(...)`, `rate(...)` or `at(...)` as in EventBridge Scheduler, or a five-field cron
    /// line.
    #[schemars(length(min = 1, max = 256))]
    pub schedule_expression: String,
    /// IANA name of the time zone, such as `Europe/Berlin`. UTC when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub schedule_expression_timezone: Option<String>,
    /// What happens when the previous run has not ended. Default Allow.
    #[serde(default)]
    pub concurrency_policy: ConcurrencyPolicy,
    /// True: no new runs. Default false.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("default" = false))]
    pub suspend: Option<bool>,
    /// What to run: the fields of a RunTask.
    pub run_task: RunTaskSpec,
}

/// What happens when a run is due and the previous one has not ended.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
pub enum ConcurrencyPolicy {
    /// Both run.
    #[default]
    Allow,
    /// The new one is left out.
    Forbid,
    /// The previous one is stopped.
    Replace,
}

/// What became of a schedule.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ScheduledTaskStatus {
    /// Generation of the spec that this status speaks of; -1 until a controller has seen the
    /// object.
    #[serde(default = "crate::conditions::unobserved")]
    #[schemars(range(min = -1))]
    pub observed_generation: i64,
    /// `Ready` once the schedule is understood.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
    /// When a run was last due.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_schedule_time: Option<Time>,
    /// When the next run is due.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_schedule_time: Option<Time>,
}
