//! The container metadata file (ECS `ECS_ENABLE_CONTAINER_METADATA`).

use serde::Serialize;

use crate::metadata::documents::{networks, pairs, protocol};
use crate::metadata::sight::{Place, TaskSight};
use crate::metadata::wire::Network;

/// How much of the file is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum FileStatus {
    /// What is known before the container exists.
    Initial,
    /// All of it: the container runs.
    Ready,
}

/// What is in the file.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct MetadataFile {
    cluster: String,
    #[serde(rename = "ContainerInstanceARN")]
    container_instance_arn: String,
    #[serde(rename = "TaskARN")]
    task_arn: String,
    task_definition_family: String,
    task_definition_revision: String,
    #[serde(rename = "ContainerID", skip_serializing_if = "Option::is_none")]
    container_id: Option<String>,
    container_name: String,
    docker_container_name: String,
    #[serde(rename = "ImageID", skip_serializing_if = "Option::is_none")]
    image_id: Option<String>,
    image_name: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    port_mappings: Vec<PortMapping>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    networks: Vec<Network>,
    metadata_file_status: FileStatus,
    #[serde(skip_serializing_if = "Option::is_none")]
    availability_zone: Option<String>,
    #[serde(
        rename = "HostPrivateIPv4Address",
        skip_serializing_if = "Option::is_none"
    )]
    host_private_ipv4_address: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "PascalCase")]
struct PortMapping {
    container_port: i32,
    host_port: i32,
    bind_ip: String,
    protocol: &'static str,
}

impl MetadataFile {
    /// Whether it is to be written: what is known at first only just before the container is created.
    pub fn is_due(&self, creates: bool) -> bool {
        match self.metadata_file_status {
            FileStatus::Initial => creates,
            FileStatus::Ready => true,
        }
    }
}

/// The file of a container, as far as it is known: INITIAL until the container was seen running.
pub fn of(sight: &TaskSight, place: &Place, container: &str) -> Option<MetadataFile> {
    let planned = sight.planned(container)?;
    let known = sight.record.containers.get(container)?;
    let task = &sight.task;
    let state = sight
        .seen
        .get(container)
        .filter(|state| state.phase.kind().is_alive());
    let bindings = known.bindings.iter().filter(|_| state.is_some());
    Some(MetadataFile {
        cluster: task.cluster.clone(),
        container_instance_arn: place
            .arns()
            .container_instance(&task.cluster, &place.container_instance),
        task_arn: place.arns().task(&task.cluster, &task.name),
        task_definition_family: task.family.clone(),
        task_definition_revision: task.revision.to_string(),
        container_id: state.map(|state| state.id.clone()),
        container_name: planned.name.clone(),
        docker_container_name: planned.engine_name(known.attempt),
        image_id: state.map(|state| state.image_id.clone()),
        image_name: known.image.clone(),
        port_mappings: bindings
            .flat_map(|binding| pairs(binding).map(move |pair| (binding, pair)))
            .map(|(binding, (container_port, host_port))| PortMapping {
                container_port,
                host_port,
                bind_ip: binding.bind_ip.clone(),
                protocol: protocol(binding.protocol),
            })
            .collect(),
        networks: state.map_or_else(Vec::new, |_| {
            networks(planned, &sight.attachments(container))
        }),
        metadata_file_status: match state {
            None => FileStatus::Initial,
            Some(_) => FileStatus::Ready,
        },
        availability_zone: place.availability_zone.clone(),
        host_private_ipv4_address: place
            .address
            .clone()
            .filter(|address| address.parse::<std::net::Ipv4Addr>().is_ok()),
    })
}
