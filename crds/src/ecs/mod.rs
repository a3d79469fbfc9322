//! The shapes of Amazon ECS requests, field by field and word by word: `RegisterTaskDefinition`, `CreateService`,
//! `CreateTaskSet`, `RunTask` and `StartTask`, so that what the AWS command line takes can stand under `spec` unchanged.
//!
//! Bounds are those of ECS where ECS states one. Where it does not, they follow from its limit of 64 KiB for a task
//! definition and only keep the cost of rules and of storage finite. Nothing here chooses or checks: what the API server
//! refuses by itself is in [`crate::rules`].

mod container_definition;
mod deployment;
mod gateway;
mod linux_parameters;
mod log_configuration;
mod network;
mod overrides;
mod placement;
mod port_mapping;
mod resource_requirement;
mod service;
mod service_connect;
mod task_definition;
mod task_set;
mod volume;
mod volume_configuration;

pub use container_definition::*;
pub use deployment::*;
pub use gateway::*;
pub use linux_parameters::*;
pub use log_configuration::*;
pub use network::*;
pub use overrides::*;
pub use placement::*;
pub use port_mapping::*;
pub use resource_requirement::*;
pub use service::*;
pub use service_connect::*;
pub use task_definition::*;
pub use task_set::*;
pub use volume::*;
pub use volume_configuration::*;
