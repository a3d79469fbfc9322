//! Why a host does not carry a task out, in words for people.

use tallyman_crds::{order, task_policy};

/// Why a task cannot be carried out; the messages name the field.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The host gives tasks no addresses of their own.
    #[error(
        "`networkMode: awsvpc` is switched off on this host (ECS_ENABLE_TASK_ENI is false); use bridge, host or none."
    )]
    TaskEniDisabled,
    /// A role that no credentials can be had for.
    #[error("`taskRoleArn` {why}.")]
    Role {
        /// What is wrong with it.
        why: String,
    },
    /// The cluster does not let tasks ask that of its hosts.
    #[error("{0}.")]
    Policy(task_policy::Breach),
    /// There is nothing to run.
    #[error("`containerDefinitions` is empty.")]
    Empty,
    /// Two containers of one name.
    #[error("Two containers of the task definition are called `{0}`.")]
    TwiceNamed(String),
    /// A container without an image.
    #[error("Container `{0}`: `image` is empty.")]
    NoImage(String),
    /// A port outside 1 to 65535 (host port: 0 to 65535).
    #[error("Container `{container}`: `portMappings.{field}` {port} is not a port number.")]
    Port {
        /// Which container.
        container: String,
        /// `containerPort` or `hostPort`.
        field: &'static str,
        /// What it says.
        port: i32,
    },
    /// `cpu` or `memory` of the task is no number.
    #[error("`{field}` of the task is `{text}`, which cannot be read.")]
    Quantity {
        /// Which of them.
        field: &'static str,
        /// What it says.
        text: String,
    },
    /// A container may take more memory than its task.
    #[error(
        "Container `{container}`: `memory` is {own} MiB, above the {limit} MiB that `memory` of the task allows."
    )]
    MoreThanTheTask {
        /// Which container.
        container: String,
        /// Its limit, MiB.
        own: i64,
        /// That of the task, MiB.
        limit: i64,
    },
    /// A range that is none.
    #[error(
        "Container `{container}`: `portMappings.containerPortRange` `{text}` is not `first-last` with \
         1 <= first <= last <= 65535."
    )]
    PortRange {
        /// Which container.
        container: String,
        /// What it says.
        text: String,
    },
    /// An environment entry without a name.
    #[error("Container `{0}`: an entry of `environment` has no name.")]
    NamelessVariable(String),
    /// A parameter that no engine can be told, or that this host forbids.
    #[error("Container `{container}`: `{field}` {why}.")]
    Parameter {
        /// Which container.
        container: String,
        /// Path of the field in the container definition.
        field: &'static str,
        /// What is wrong with it.
        why: String,
    },
    /// A health check without a command.
    #[error("Container `{0}`: `healthCheck.command` is empty.")]
    EmptyHealthCheck(String),
    /// Links in another network mode than `bridge`.
    #[error("Container `{0}`: `links` need `networkMode: bridge`.")]
    LinksOffTheBridge(String),
    /// The containers wait for each other in a way that can never be met.
    #[error(
        "TaskDependencyError: Task dependencies cannot be resolved. Container `{}`: `{}` {}.",
        .0.container, .0.field, .0.message
    )]
    Order(order::Tangle),
    /// A volume that this host cannot provide.
    #[error("Volume `{volume}`: {why}.")]
    Volume {
        /// Name in the task definition.
        volume: String,
        /// Names the field.
        why: String,
    },
    /// A mount point that leads nowhere.
    #[error("Container `{container}`: `mountPoints`: {why}.")]
    MountPoint {
        /// Which container.
        container: String,
        /// Names the field.
        why: String,
    },
}
