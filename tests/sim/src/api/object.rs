//! Objects: JSON in the store, typed for those who read.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::Deserialize;
use serde_json::Value;
use tallyman_crds::sources::{self, Supply};
use tallyman_crds::{
    Cluster, ContainerInstance, HostPlan, RunTask, ScheduledTask, Service, Task, TaskDefinition,
    TaskDefinitionRevision, TaskSet,
};
use tallyman_operator_core::Kind;

/// One version of an object.
#[derive(Clone, Debug)]
pub enum Object {
    /// A Cluster.
    Cluster(Arc<Cluster>),
    /// A TaskDefinition.
    TaskDefinition(Arc<TaskDefinition>),
    /// A TaskDefinitionRevision.
    Revision(Arc<TaskDefinitionRevision>),
    /// A Service.
    Service(Arc<Service>),
    /// A RunTask.
    RunTask(Arc<RunTask>),
    /// A TaskSet.
    TaskSet(Arc<TaskSet>),
    /// A ScheduledTask.
    ScheduledTask(Arc<ScheduledTask>),
    /// A Task.
    Task(Arc<Task>),
    /// A ContainerInstance.
    Instance(Arc<ContainerInstance>),
    /// A HostPlan.
    Plan(Arc<HostPlan>),
    /// A Secret, of a user or of a host.
    Secret(Arc<Secret>),
}

/// A Secret; its values are plain text here.
#[derive(Clone, Debug, Deserialize)]
pub struct Secret {
    /// Metadata.
    pub metadata: ObjectMeta,
    /// Values by key.
    #[serde(default)]
    pub data: BTreeMap<String, String>,
}

impl Secret {
    /// What the operator put into the Secret of a host.
    pub fn supply(&self) -> Supply {
        let text = self.data.get(sources::DATA_KEY);
        text.and_then(|text| serde_json::from_str(text).ok())
            .unwrap_or_default()
    }
}

impl Object {
    /// Reads a stored object.
    ///
    /// # Errors
    /// It does not have the shape of its kind: the API server's schema would refuse it.
    pub fn parse(kind: Kind, value: &Value) -> Result<Object, String> {
        fn read<K: serde::de::DeserializeOwned>(value: &Value) -> Result<Arc<K>, String> {
            K::deserialize(value)
                .map(Arc::new)
                .map_err(|error| error.to_string())
        }
        Ok(match kind {
            Kind::Cluster => Object::Cluster(read(value)?),
            Kind::TaskDefinition => Object::TaskDefinition(read(value)?),
            Kind::TaskDefinitionRevision => Object::Revision(read(value)?),
            Kind::Service => Object::Service(read(value)?),
            Kind::Task => Object::Task(read(value)?),
            Kind::ContainerInstance => Object::Instance(read(value)?),
            Kind::HostPlan => Object::Plan(read(value)?),
            Kind::Secret => Object::Secret(read(value)?),
            Kind::RunTask => Object::RunTask(read(value)?),
            Kind::ScheduledTask => Object::ScheduledTask(read(value)?),
            Kind::TaskSet => Object::TaskSet(read(value)?),
        })
    }
}
