//! `Cluster`: a scheduling domain.

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::conditions::Condition;
use crate::ecs::Tag;
use crate::task_policy::TaskPolicy;

/// A scheduling domain: services and tasks of a cluster run on the container instances of that
/// cluster (ECS `Cluster`). The cluster `default` is made when something first needs it; a cluster
/// in use cannot be deleted.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "tallyman.dev",
    version = "v1alpha1",
    doc = "A scheduling domain (ECS `Cluster`).",
    kind = "Cluster",
    plural = "clusters",
    shortname = "tclu",
    category = "tallyman",
    namespaced,
    status = "ClusterStatus"
)]
#[serde(rename_all = "camelCase")]
pub struct ClusterSpec {
    /// ECS tags of the cluster, up to 50.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 50))]
    pub tags: Vec<Tag>,
    /// What tasks of the cluster may ask of its hosts: to be privileged, to share namespaces, to mount paths. Absent: the defaults
    /// of its fields, under which no container takes its host. What runs already goes on when it changes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task_policy: Option<TaskPolicy>,
}

/// What the operator counts in a cluster.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ClusterStatus {
    /// Generation of the spec that this status speaks of; -1 until a controller has seen the
    /// object.
    #[serde(
        default = "crate::conditions::unobserved",
        deserialize_with = "crate::numbers::whole"
    )]
    #[schemars(range(min = -1))]
    pub observed_generation: i64,
    /// `Ready`, and what else is true of the cluster.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
    /// Container instances of the cluster that have registered.
    #[serde(default, deserialize_with = "crate::numbers::whole")]
    #[schemars(range(min = 0))]
    pub registered_container_instances_count: i32,
    /// Tasks that are RUNNING.
    #[serde(default, deserialize_with = "crate::numbers::whole")]
    #[schemars(range(min = 0))]
    pub running_tasks_count: i32,
    /// Tasks that are placed and not yet RUNNING.
    #[serde(default, deserialize_with = "crate::numbers::whole")]
    #[schemars(range(min = 0))]
    pub pending_tasks_count: i32,
    /// Services that are ACTIVE.
    #[serde(default, deserialize_with = "crate::numbers::whole")]
    #[schemars(range(min = 0))]
    pub active_services_count: i32,
}
