//! One container of a task definition, and the small shapes that only it uses.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::linux_parameters::{LinuxParameters, Ulimit};
use super::log_configuration::{FirelensConfiguration, LogConfiguration};
use super::port_mapping::PortMapping;
use super::resource_requirement::ResourceRequirement;
use super::volume::{MountPoint, VolumeFrom};
use crate::patterns;
use crate::rules;

/// Credentials for a private registry.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RepositoryCredentials {
    /// Name (or ARN, read as in `secrets`) of the Secret that holds `username` and `password`, or of one of type
    /// `kubernetes.io/dockerconfigjson`.
    #[schemars(length(min = 1, max = 2048))]
    pub credentials_parameter: String,
}

/// Restart of a container in place, by the host's agent (ECS `restartPolicy`).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ContainerRestartPolicy {
    /// True: the container is started again when it exits.
    pub enabled: bool,
    /// Exit codes after which the container is not restarted, up to 50.
    #[serde(
        default,
        deserialize_with = "crate::numbers::all_whole",
        skip_serializing_if = "Vec::is_empty"
    )]
    #[schemars(length(max = 50), inner(range(min = -2147483648, max = 2147483647)))]
    pub ignored_exit_codes: Vec<i32>,
    /// Seconds the container must have run before a restart is tried, 60 to 1800. Default 300.
    #[serde(
        default,
        deserialize_with = "crate::numbers::whole_or_none",
        skip_serializing_if = "Option::is_none"
    )]
    #[schemars(range(min = 60, max = 1800), extend("default" = 300))]
    pub restart_attempt_period: Option<i32>,
}

/// A name and a value.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct KeyValuePair {
    /// Name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 65536))]
    pub name: Option<String>,
    /// Value; empty when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 65536))]
    pub value: Option<String>,
}

/// Where a file of environment variables lives.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
pub enum EnvironmentFileType {
    /// ECS' way to name an object in S3. Here it is a key of a ConfigMap: `arn:aws:s3:::bucket/prod/web.env` is key
    /// `prod.web.env` of ConfigMap `bucket`.
    #[serde(rename = "s3")]
    S3,
    /// A key of a ConfigMap. Not in ECS' list.
    #[serde(rename = "configMap")]
    ConfigMap,
    /// A key of a Secret. Not in ECS' list.
    #[serde(rename = "secret")]
    Secret,
    /// A file of the host that the container runs on, in a folder that its owner allows. Not in ECS' list.
    #[serde(rename = "file")]
    File,
}

/// A file of `NAME=value` lines.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct EnvironmentFile {
    /// ARN of the object for type `s3`; absolute path for type `file`; else `name:key` of a Secret or ConfigMap in the same
    /// namespace, or `name` when it has one key.
    #[schemars(length(min = 1, max = 2048))]
    pub value: String,
    /// Where the file lives.
    pub r#type: EnvironmentFileType,
}

/// A named value that comes from a secret store.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Secret {
    /// Name of the environment variable or of the log option.
    #[schemars(length(min = 1, max = 1024))]
    pub name: String,
    /// Where the value comes from: `name:key` of a Secret in the same namespace, or `name` when it has one key. An ARN
    /// of Secrets Manager or Parameter Store names the Secret of the same name, with `-` for what Kubernetes does not
    /// allow.
    #[schemars(length(min = 1, max = 2048))]
    pub value_from: String,
}

/// What a container waits for in another one (ECS `ContainerCondition`).
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
pub enum ContainerCondition {
    /// It was started.
    #[serde(rename = "START")]
    Start,
    /// It exited, with whatever code. Not for an essential container.
    #[serde(rename = "COMPLETE")]
    Complete,
    /// It exited with code 0. Not for an essential container.
    #[serde(rename = "SUCCESS")]
    Success,
    /// It passed its health check, which it must have.
    #[serde(rename = "HEALTHY")]
    Healthy,
}

/// One thing a container waits for before it starts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ContainerDependency {
    /// Name of another container of the task.
    #[schemars(length(min = 1, max = 255))]
    pub container_name: String,
    /// What must have happened to it.
    pub condition: ContainerCondition,
}

/// Whether a tag is resolved to one digest for all tasks of a deployment.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
pub enum VersionConsistency {
    /// Resolved once; every task runs the same image.
    #[serde(rename = "enabled")]
    Enabled,
    /// Each task pulls what the tag means then.
    #[serde(rename = "disabled")]
    Disabled,
}

/// One line of `/etc/hosts`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HostEntry {
    /// Name.
    #[schemars(length(min = 1, max = 255))]
    pub hostname: String,
    /// Address.
    #[schemars(length(min = 1, max = 64))]
    pub ip_address: String,
}

/// Command run inside the container to tell its health (ECS `HealthCheck`).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = rules::on("HealthCheck")))]
pub struct HealthCheck {
    /// `CMD` and its arguments, `CMD-SHELL` and one line for the shell, or `NONE` to switch off the
    /// image's own check. Exit code 0 is healthy.
    #[schemars(length(min = 1, max = 100), inner(length(max = 65536)))]
    pub command: Vec<String>,
    /// Seconds between two runs, 5 to 300. Default 30.
    #[serde(
        default,
        deserialize_with = "crate::numbers::whole_or_none",
        skip_serializing_if = "Option::is_none"
    )]
    #[schemars(range(min = 5, max = 300), extend("default" = 30))]
    pub interval: Option<i32>,
    /// Seconds a run may take before it counts as failed, 2 to 60. Default 5.
    #[serde(
        default,
        deserialize_with = "crate::numbers::whole_or_none",
        skip_serializing_if = "Option::is_none"
    )]
    #[schemars(range(min = 2, max = 60), extend("default" = 5))]
    pub timeout: Option<i32>,
    /// Failures in a row that make the container unhealthy, 1 to 10. Default 3.
    #[serde(
        default,
        deserialize_with = "crate::numbers::whole_or_none",
        skip_serializing_if = "Option::is_none"
    )]
    #[schemars(range(min = 1, max = 10), extend("default" = 3))]
    pub retries: Option<i32>,
    /// Seconds after the start in which failures do not count, 0 to 300. Off when absent.
    #[serde(
        default,
        deserialize_with = "crate::numbers::whole_or_none",
        skip_serializing_if = "Option::is_none"
    )]
    #[schemars(range(min = 0, max = 300))]
    pub start_period: Option<i32>,
}

/// One kernel parameter.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SystemControl {
    /// Name of the parameter, such as `net.core.somaxconn`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 255))]
    pub namespace: Option<String>,
    /// Its value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 4096))]
    pub value: Option<String>,
}

/// One container of a task (ECS `ContainerDefinition`).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = rules::on("ContainerDefinition")))]
pub struct ContainerDefinition {
    /// Name of the container, unique in its task: up to 255 letters, digits, hyphens and
    /// underscores. Links, dependencies, volumesFrom and overrides refer to it.
    #[schemars(length(min = 1, max = 255), regex(pattern = patterns::NAME))]
    pub name: String,
    /// Image reference as `docker pull` takes it: `repository`, `repository:tag` or
    /// `repository@digest`, up to 255 characters.
    #[schemars(length(min = 1, max = 255))]
    pub image: String,
    /// Credentials for pulling the image from a private registry.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repository_credentials: Option<RepositoryCredentials>,
    /// CPU units, 1024 per core: the relative share under contention and what placement counts.
    /// Default 0, which gives the smallest share.
    #[serde(
        default,
        deserialize_with = "crate::numbers::whole_or_none",
        skip_serializing_if = "Option::is_none"
    )]
    #[schemars(range(min = 0, max = 262144))]
    pub cpu: Option<i32>,
    /// Hard memory limit in MiB; the container is killed when it takes more. Required, here or as
    /// `memoryReservation`, unless the task has `memory`.
    #[serde(
        default,
        deserialize_with = "crate::numbers::whole_or_none",
        skip_serializing_if = "Option::is_none"
    )]
    #[schemars(range(min = 4, max = i32::MAX))]
    pub memory: Option<i32>,
    /// Memory in MiB that placement sets aside; the container may use more while the host has some.
    /// Must be less than `memory` where both are given.
    #[serde(
        default,
        deserialize_with = "crate::numbers::whole_or_none",
        skip_serializing_if = "Option::is_none"
    )]
    #[schemars(range(min = 4, max = i32::MAX))]
    pub memory_reservation: Option<i32>,
    /// Containers of the same task reached by name, as `container` or `container:alias`. Network
    /// mode `bridge` only; the target starts first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 20), inner(length(min = 1, max = 511)))]
    pub links: Vec<String>,
    /// Ports of the container that are published on the host. Not with network mode `none`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 100))]
    pub port_mappings: Vec<PortMapping>,
    /// Whether the end of this container ends the task. Default true; at least one container of a
    /// task is essential.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("default" = true))]
    pub essential: Option<bool>,
    /// Restart of the container in place, without ending the task. Off when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restart_policy: Option<ContainerRestartPolicy>,
    /// Replaces the image's ENTRYPOINT.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 500), inner(length(max = 65536)))]
    pub entry_point: Vec<String>,
    /// Replaces the image's CMD.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 500), inner(length(max = 65536)))]
    pub command: Vec<String>,
    /// Environment variables. Visible to whoever can read the object; use `secrets` for what must
    /// stay secret. The last one of a name wins.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 1000))]
    pub environment: Vec<KeyValuePair>,
    /// Files of environment variables, up to 10. `environment` wins over them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 10))]
    pub environment_files: Vec<EnvironmentFile>,
    /// Where the task's volumes appear in the container.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 100))]
    pub mount_points: Vec<MountPoint>,
    /// Containers of the task whose mounts this container sees too.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 20))]
    pub volumes_from: Vec<VolumeFrom>,
    /// Kernel capabilities, devices, tmpfs, swap and the like.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub linux_parameters: Option<LinuxParameters>,
    /// Environment variables whose values come from a secret store when the container is created.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 500))]
    pub secrets: Vec<Secret>,
    /// What must have happened to other containers of the task before this one starts. No cycles.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 20))]
    pub depends_on: Vec<ContainerDependency>,
    /// Seconds that the dependencies on this container may take to be met before the task gives up.
    /// No limit when absent.
    #[serde(
        default,
        deserialize_with = "crate::numbers::whole_or_none",
        skip_serializing_if = "Option::is_none"
    )]
    #[schemars(range(min = 0, max = i32::MAX))]
    pub start_timeout: Option<i32>,
    /// Seconds between SIGTERM and SIGKILL when the container is stopped. When absent the agent's
    /// own setting holds, 30 seconds.
    #[serde(
        default,
        deserialize_with = "crate::numbers::whole_or_none",
        skip_serializing_if = "Option::is_none"
    )]
    #[schemars(range(min = 0, max = i32::MAX))]
    pub stop_timeout: Option<i32>,
    /// Whether a tag is pinned to the digest that the first task of a deployment found. Default
    /// enabled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version_consistency: Option<VersionConsistency>,
    /// Host name inside the container. Not with network mode `awsvpc`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 255))]
    pub hostname: Option<String>,
    /// User to run as: `user`, `user:group`, `uid`, `uid:gid`, `user:gid` or `uid:group`. The
    /// image's own when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 255))]
    pub user: Option<String>,
    /// Directory to start in. The image's own when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 4096))]
    pub working_directory: Option<String>,
    /// True: no network but loopback in this container.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disable_networking: Option<bool>,
    /// True: all rights on the host that root has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub privileged: Option<bool>,
    /// True: the container cannot write to its root file system.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub readonly_root_filesystem: Option<bool>,
    /// DNS servers for the container. Not with network mode `awsvpc`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 20), inner(length(max = 255)))]
    pub dns_servers: Vec<String>,
    /// DNS search domains for the container. Not with network mode `awsvpc`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 50), inner(length(max = 255)))]
    pub dns_search_domains: Vec<String>,
    /// Lines for `/etc/hosts`. Not with network mode `awsvpc`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 200))]
    pub extra_hosts: Vec<HostEntry>,
    /// Security options as `docker run --security-opt` takes them: SELinux and AppArmor labels,
    /// `no-new-privileges`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 50), inner(length(max = 1024)))]
    pub docker_security_options: Vec<String>,
    /// True: standard input stays open.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interactive: Option<bool>,
    /// True: the container gets a terminal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pseudo_terminal: Option<bool>,
    /// Labels of the container in the engine. Keys that begin with `com.amazonaws.ecs.` or
    /// `tallyman.dev/` are set by the agent.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 1000, "additionalProperties" = serde_json::json!({"type": "string", "maxLength": 65536})))]
    pub docker_labels: BTreeMap<String, String>,
    /// Resource limits of the container's processes. The engine's own when absent.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 20))]
    pub ulimits: Vec<Ulimit>,
    /// Where the container's output goes. The engine's default when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log_configuration: Option<LogConfiguration>,
    /// Command that tells whether the container is healthy. A HEALTHCHECK of the image alone is not
    /// watched.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health_check: Option<HealthCheck>,
    /// Kernel parameters (sysctl) of the container's namespaces.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 100))]
    pub system_controls: Vec<SystemControl>,
    /// GPUs and other devices the container needs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 10))]
    pub resource_requirements: Vec<ResourceRequirement>,
    /// Makes this container the task's log router.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub firelens_configuration: Option<FirelensConfiguration>,
    /// Credential specification for a domain identity, at most one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 1), inner(length(max = 2048)))]
    pub credential_specs: Vec<String>,
}
