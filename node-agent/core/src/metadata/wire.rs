//! The documents of the endpoint, field by field as ECS spells them. What is absent is left out.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::Serialize;

/// A container, of v2, v3 and v4.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Container {
    /// The engine's id.
    pub docker_id: String,
    /// Name in the task definition.
    pub name: String,
    /// Name on the engine.
    pub docker_name: String,
    /// Image reference.
    pub image: String,
    /// The engine's id of the image.
    #[serde(rename = "ImageID")]
    pub image_id: String,
    /// Ports of the host that lead into it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<Port>,
    /// Labels, the image's own included.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// RUNNING or STOPPED.
    pub desired_status: &'static str,
    /// NONE, PULLED, CREATED, RUNNING or STOPPED.
    pub known_status: &'static str,
    /// Once it has exited.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
    /// CPU units and MiB of its definition.
    pub limits: ContainerLimits,
    /// When it was created.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created_at: Option<Timestamp>,
    /// When it was last started.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Timestamp>,
    /// When it ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub finished_at: Option<Timestamp>,
    /// NORMAL: it is of the task definition.
    #[serde(rename = "Type")]
    pub kind: &'static str,
    /// Its networks.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub networks: Vec<Network>,
    /// Of its health check.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub health: Option<Health>,
    /// What it sees of volumes and of the host.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub volumes: Vec<Volume>,
    /// v4.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log_driver: Option<String>,
    /// v4.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub log_options: BTreeMap<String, String>,
    /// v4.
    #[serde(rename = "ContainerARN", skip_serializing_if = "Option::is_none")]
    pub container_arn: Option<String>,
    /// v4, of a container with a restart policy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub restart_count: Option<u32>,
}

/// Limits of a container; 0 is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct ContainerLimits {
    /// CPU units.
    #[serde(rename = "CPU")]
    pub cpu: i64,
    /// MiB.
    #[serde(rename = "Memory")]
    pub memory: i64,
}

/// Limits of a task.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct TaskLimits {
    /// Virtual processors.
    #[serde(rename = "CPU", skip_serializing_if = "Option::is_none")]
    pub cpu: Option<f64>,
    /// MiB.
    #[serde(rename = "Memory", skip_serializing_if = "Option::is_none")]
    pub memory: Option<i64>,
}

/// A port.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Port {
    /// Inside.
    pub container_port: i32,
    /// `tcp` or `udp`.
    pub protocol: &'static str,
    /// On the host.
    pub host_port: i32,
    /// Address on the host.
    pub host_ip: String,
}

/// A network.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Network {
    /// `bridge`, `host`, `none` or `awsvpc`.
    pub network_mode: &'static str,
    /// Addresses there.
    #[serde(rename = "IPv4Addresses", skip_serializing_if = "Vec::is_empty")]
    pub ipv4_addresses: Vec<String>,
    /// Addresses there.
    #[serde(rename = "IPv6Addresses", skip_serializing_if = "Vec::is_empty")]
    pub ipv6_addresses: Vec<String>,
    /// v4 and `awsvpc` only, as in ECS.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub interface: Option<Interface>,
}

/// The interface of a task with an address of its own.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Interface {
    /// Counts from 0.
    pub attachment_index: usize,
    /// Hardware address.
    #[serde(rename = "MACAddress", skip_serializing_if = "Option::is_none")]
    pub mac_address: Option<String>,
    /// Subnet.
    #[serde(
        rename = "IPv4SubnetCIDRBlock",
        skip_serializing_if = "Option::is_none"
    )]
    pub ipv4_subnet: Option<String>,
    /// Subnet.
    #[serde(
        rename = "IPv6SubnetCIDRBlock",
        skip_serializing_if = "Option::is_none"
    )]
    pub ipv6_subnet: Option<String>,
    /// Name servers that its containers ask.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub domain_name_servers: Vec<String>,
    /// Domains in which they look for short names.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub domain_name_search_list: Vec<String>,
    /// Gateway, with the length of the subnet's prefix.
    #[serde(
        rename = "SubnetGatewayIpv4Address",
        skip_serializing_if = "Option::is_none"
    )]
    pub ipv4_gateway: Option<String>,
    /// Gateway, with the length of the subnet's prefix.
    #[serde(
        rename = "SubnetGatewayIpv6Address",
        skip_serializing_if = "Option::is_none"
    )]
    pub ipv6_gateway: Option<String>,
}

/// Health of a container.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Health {
    /// UNKNOWN, HEALTHY or UNHEALTHY.
    pub status: &'static str,
    /// Since when.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status_since: Option<Timestamp>,
    /// Of the last check.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i64>,
    /// Of the last check.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub output: String,
}

/// A volume, or a path of the host.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Volume {
    /// Name of the volume.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub docker_name: Option<String>,
    /// On the host.
    pub source: String,
    /// Inside.
    pub destination: String,
}

/// A task, of v2, v3 and v4.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Task {
    /// Name of the cluster.
    pub cluster: String,
    /// The task.
    #[serde(rename = "TaskARN")]
    pub task_arn: String,
    /// Family.
    pub family: String,
    /// Number of the revision.
    pub revision: String,
    /// RUNNING or STOPPED.
    pub desired_status: &'static str,
    /// NONE, CREATED, RUNNING or STOPPED.
    pub known_status: &'static str,
    /// Of the task as a whole.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limits: Option<TaskLimits>,
    /// First pull began.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pull_started_at: Option<Timestamp>,
    /// Last pull ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pull_stopped_at: Option<Timestamp>,
    /// An essential container exited.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub execution_stopped_at: Option<Timestamp>,
    /// Of the host.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub availability_zone: Option<String>,
    /// v4.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub launch_type: Option<&'static str>,
    /// v4.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service_name: Option<String>,
    /// v4.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// Its containers that the engine has.
    pub containers: Vec<Container>,
    /// ECS tags of the task, when they were asked for.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub task_tags: BTreeMap<String, String>,
    /// ECS tags of the host, when they were asked for.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub container_instance_tags: BTreeMap<String, String>,
    /// v4: whether faults can be injected through the endpoint.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fault_injection_enabled: Option<bool>,
}
