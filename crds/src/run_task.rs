//! `RunTask`: up to ten standalone copies of a task definition.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::conditions::Condition;
use crate::ecs::*;
use crate::lifecycle::{LastStatus, StopCode};
use crate::patterns;
use crate::rules;

/// Up to ten standalone copies of a task definition (the input of ECS `RunTask`), each a Task named
/// `<run>-<number>`. Runs once, so the spec is immutable, and the object's name is what makes it run once: applied
/// twice it is one run. Ours, in the words of Kubernetes Jobs: `backoffLimit`, `activeDeadlineSeconds`,
/// `ttlSecondsAfterFinished`; and `waitForCapacity`.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "tallyman.dev",
    version = "v1alpha1",
    doc = "Up to ten standalone copies of a task definition (ECS `RunTask`).",
    kind = "RunTask",
    plural = "runtasks",
    shortname = "trun",
    category = "tallyman",
    namespaced,
    status = "RunTaskStatus"
)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = rules::on("RunTaskSpec")))]
pub struct RunTaskSpec {
    /// Capacity providers and their parts. Not together with `launchType`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 20))]
    pub capacity_provider_strategy: Vec<CapacityProviderStrategyItem>,
    /// Cluster to run in. Default `default`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 2048), regex(pattern = patterns::REFERENCE), extend("default" = "default"))]
    pub cluster: Option<String>,
    /// Hosts that the copies run on, one copy on each, up to 10 (ECS `StartTask`). Nothing is placed then: a host is asked for room
    /// and attributes, and for nothing else. Without: the operator chooses a host for each copy.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 10), inner(length(min = 1, max = 253)), extend("x-kubernetes-list-type" = "set"))]
    pub container_instances: Vec<String>,
    /// How many copies, 1 to 10. Default 1, and as many as `containerInstances` names.
    #[serde(
        default,
        deserialize_with = "crate::numbers::whole_or_none",
        skip_serializing_if = "Option::is_none"
    )]
    #[schemars(range(min = 1, max = 10), extend("default" = 1))]
    pub count: Option<i32>,
    /// True: tasks get tags for cluster and service.
    #[serde(
        rename = "enableECSManagedTags",
        default,
        skip_serializing_if = "Option::is_none"
    )]
    pub enable_ecs_managed_tags: Option<bool>,
    /// True: commands may be run in the task's containers (ECS Exec).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enable_execute_command: Option<bool>,
    /// Task group, for placement that spreads or joins groups. Default `family:<family>`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 255))]
    pub group: Option<String>,
    /// Kind of capacity; kept for ECS input.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub launch_type: Option<LaunchType>,
    /// Network, with network mode `awsvpc`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network_configuration: Option<NetworkConfiguration>,
    /// Changes to the task definition for this run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub overrides: Option<TaskOverride>,
    /// Rules that every chosen host must meet, up to 10, beside those of the task definition.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 10))]
    pub placement_constraints: Vec<PlacementConstraint>,
    /// Preferences between hosts, up to 5, applied in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 5))]
    pub placement_strategy: Vec<PlacementStrategy>,
    /// Fargate platform version; kept for ECS input.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub platform_version: Option<String>,
    /// Whose tags the tasks get.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub propagate_tags: Option<PropagateTags>,
    /// Free text of the caller.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub reference_id: Option<String>,
    /// Who started the tasks, free text up to 128 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128))]
    pub started_by: Option<String>,
    /// ECS tags of the tasks, up to 50.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 50))]
    pub tags: Vec<Tag>,
    /// `family` for its latest ACTIVE revision, or `family:revision`.
    #[schemars(length(min = 1, max = 2048), regex(pattern = patterns::TASK_DEFINITION))]
    pub task_definition: String,
    /// Idempotency token of ECS. The object's name is what makes it run once; of two RunTasks of a cluster with one token
    /// the younger starts nothing and says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub client_token: Option<String>,
    /// What the task definition's volumes with `configuredAtLaunch` are.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 10))]
    pub volume_configurations: Vec<TaskVolumeConfiguration>,
    /// True: a copy that finds no host waits until one has room. False, the default and what ECS does: it fails at once
    /// and is in `status.failures`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("default" = false))]
    pub wait_for_capacity: Option<bool>,
    /// How many times, over all copies, a copy that failed is tried again: its task did not start, found no host, lost its
    /// host, or ended with an exit code other than 0 of an essential container. 0 to 100, default 0. The delay before
    /// each further try of a copy is 10 s, 20 s, 40 s, ... and at most 6 minutes. Other copies go on, unlike the pods of a
    /// Kubernetes Job.
    #[serde(
        default,
        deserialize_with = "crate::numbers::whole_or_none",
        skip_serializing_if = "Option::is_none"
    )]
    #[schemars(range(min = 0, max = 100), extend("default" = 0))]
    pub backoff_limit: Option<i32>,
    /// Seconds after `status.startTime` at which whatever is left of the run is stopped, and the run fails. Retries and
    /// waiting count. No limit when absent.
    #[serde(
        default,
        deserialize_with = "crate::numbers::whole_or_none",
        skip_serializing_if = "Option::is_none"
    )]
    #[schemars(range(min = 1))]
    pub active_deadline_seconds: Option<i32>,
    /// Seconds after the run's end at which the RunTask is deleted, with its tasks. Never when absent.
    #[serde(
        default,
        deserialize_with = "crate::numbers::whole_or_none",
        skip_serializing_if = "Option::is_none"
    )]
    #[schemars(range(min = 0))]
    pub ttl_seconds_after_finished: Option<i32>,
}

/// What became of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RunTaskStatus {
    /// Generation of the spec that this status speaks of; -1 until a controller has seen the
    /// object.
    #[serde(
        default = "crate::conditions::unobserved",
        deserialize_with = "crate::numbers::whole"
    )]
    #[schemars(range(min = -1))]
    pub observed_generation: i64,
    /// `Ready` is True once every copy has started, and False again while one is to be tried again or has failed for good.
    /// `Complete` or `Failed` is True once the run has ended, as of a Kubernetes Job: nothing is started any more.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
    /// How it stands, in a few words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32768))]
    pub message: Option<String>,
    /// The revision that the run was taken on with, `family:revision`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 2048))]
    pub task_definition: Option<String>,
    /// Tasks that have not STOPPED.
    #[serde(default, deserialize_with = "crate::numbers::whole")]
    #[schemars(range(min = 0))]
    pub active: i32,
    /// Copies that ended well: exit code 0 of every essential container.
    #[serde(default, deserialize_with = "crate::numbers::whole")]
    #[schemars(range(min = 0))]
    pub succeeded: i32,
    /// Tasks that failed, those that were tried again and those that found no host too.
    #[serde(default, deserialize_with = "crate::numbers::whole")]
    #[schemars(range(min = 0))]
    pub failed: i32,
    /// When the run was taken on; `activeDeadlineSeconds` counts from it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_time: Option<Time>,
    /// When the run ended, well or not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub completion_time: Option<Time>,
    /// The copies that were started or tried, each by its latest task.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 10))]
    pub tasks: Vec<RunTaskCopy>,
    /// Why copies found no host (ECS RunTask): one entry for every host that was asked, at most 100.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 100))]
    pub failures: Vec<Failure>,
}

impl Default for RunTaskStatus {
    fn default() -> Self {
        RunTaskStatus {
            observed_generation: crate::conditions::UNOBSERVED,
            conditions: Vec::new(),
            message: None,
            task_definition: None,
            active: 0,
            succeeded: 0,
            failed: 0,
            start_time: None,
            completion_time: None,
            tasks: Vec::new(),
            failures: Vec::new(),
        }
    }
}

/// One copy of a run, by its latest task.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RunTaskCopy {
    /// Name of its latest task.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// Where that task is in its life.
    #[serde(default)]
    pub last_status: LastStatus,
    /// Its host. Absent: no host took it, and there is no such Task.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub container_instance: Option<String>,
    /// Exit code of its essential containers: the first that is not 0, or 0.
    #[serde(
        default,
        deserialize_with = "crate::numbers::whole_or_none",
        skip_serializing_if = "Option::is_none"
    )]
    #[schemars(range(min = i32::MIN))]
    pub exit_code: Option<i32>,
    /// Why it stopped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stop_code: Option<StopCode>,
    /// Why it stopped, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32768))]
    pub stopped_reason: Option<String>,
    /// When it stopped, or found no host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stopped_at: Option<Time>,
}

/// Why something was refused (ECS `Failure`).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Failure {
    /// Name of the container instance (or other object) that the failure is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 2048))]
    pub arn: Option<String>,
    /// ECS reason, such as `RESOURCE:MEMORY` or `AGENT`.
    #[schemars(length(min = 1, max = 1024))]
    pub reason: String,
    /// More, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32768))]
    pub detail: Option<String>,
}
