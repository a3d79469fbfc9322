//! `ScheduledTask`: runs a task on a schedule.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::conditions::Condition;
use crate::rules;
use crate::run_task::RunTaskSpec;

/// Runs a task on a schedule (EventBridge Scheduler's expressions, Kubernetes CronJob's policies). Each due time makes one
/// RunTask, named `<schedule>-<minutes since 1970>`.
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
#[schemars(extend("x-kubernetes-validations" = rules::on("ScheduledTaskSpec")))]
pub struct ScheduledTaskSpec {
    /// `cron(minutes hours day-of-month month day-of-week year)`, `rate(5 minutes)` or `at(2026-12-24T18:00:00)` as in
    /// EventBridge Scheduler, or a five-field cron line as in Kubernetes.
    #[schemars(length(min = 1, max = 256))]
    pub schedule_expression: String,
    /// IANA name of the time zone in which `cron`, `at` and cron lines are read, such as `Europe/Berlin`. UTC when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub schedule_expression_timezone: Option<String>,
    /// No run is due before this time, and a `rate` counts from it; from the object's creation when absent. `at` does not
    /// look at it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_date: Option<Time>,
    /// No run is due at this time or later. `at` does not look at it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end_date: Option<Time>,
    /// What happens when a run is due and an earlier one has not ended. Default Allow.
    #[serde(default)]
    pub concurrency_policy: ConcurrencyPolicy,
    /// True: what falls due is passed over, and not caught up later. Runs that have started go on. Default false.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("default" = false))]
    pub suspend: Option<bool>,
    /// How late a run may start, in seconds. What is later is missed. No limit when absent.
    #[serde(
        default,
        deserialize_with = "crate::numbers::whole_or_none",
        skip_serializing_if = "Option::is_none"
    )]
    #[schemars(range(min = 1))]
    pub starting_deadline_seconds: Option<i32>,
    /// How many runs that ended well are kept; older ones are deleted. Default 3.
    #[serde(
        default,
        deserialize_with = "crate::numbers::whole_or_none",
        skip_serializing_if = "Option::is_none"
    )]
    #[schemars(range(min = 0, max = 1000), extend("default" = 3))]
    pub successful_runs_history_limit: Option<i32>,
    /// How many runs that failed are kept; older ones are deleted. Default 1.
    #[serde(
        default,
        deserialize_with = "crate::numbers::whole_or_none",
        skip_serializing_if = "Option::is_none"
    )]
    #[schemars(range(min = 0, max = 1000), extend("default" = 1))]
    pub failed_runs_history_limit: Option<i32>,
    /// What to run: the fields of a RunTask.
    pub run_task: RunTaskSpec,
}

/// What happens when a run is due and an earlier one has not ended.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
pub enum ConcurrencyPolicy {
    /// Both run.
    #[default]
    Allow,
    /// The new one is left out, for good.
    Forbid,
    /// The earlier one is deleted, and the new one starts once its tasks have stopped.
    Replace,
}

/// What became of a schedule.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ScheduledTaskStatus {
    /// Generation of the spec that this status speaks of; -1 until a controller has seen the
    /// object.
    #[serde(
        default = "crate::conditions::unobserved",
        deserialize_with = "crate::numbers::whole"
    )]
    #[schemars(range(min = -1))]
    pub observed_generation: i64,
    /// `Ready` once the schedule is understood.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
    /// Expression, time zone and dates that the times here were computed from. A change of them counts from when the
    /// operator saw it: nothing is due for the time before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub schedule: Option<String>,
    /// Due times up to this one are decided on: started, left out or missed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decided_until: Option<Time>,
    /// The latest due time that a run was started for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_schedule_time: Option<Time>,
    /// When the next run is due. Absent: none is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_schedule_time: Option<Time>,
    /// When a run last ended well.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_successful_time: Option<Time>,
    /// When a run last ended, well or not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_completion_time: Option<Time>,
    /// How that run ended, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32768))]
    pub last_result: Option<String>,
    /// Due times that no run was started for although one should have: the operator was away, or it was too late. Of one
    /// absence at most 1000 are counted.
    #[serde(default, deserialize_with = "crate::numbers::whole")]
    #[schemars(range(min = 0))]
    pub missed_runs: i64,
    /// Runs that have not ended, by name; the latest 100.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 100), inner(length(max = 253)))]
    pub active: Vec<String>,
}

impl Default for ScheduledTaskStatus {
    fn default() -> Self {
        ScheduledTaskStatus {
            observed_generation: crate::conditions::UNOBSERVED,
            conditions: Vec::new(),
            schedule: None,
            decided_until: None,
            last_schedule_time: None,
            next_schedule_time: None,
            last_successful_time: None,
            last_completion_time: None,
            last_result: None,
            missed_runs: 0,
            active: Vec::new(),
        }
    }
}
