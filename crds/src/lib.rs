//! The shared language of Tallyman: custom resource types, the life cycle of a task, labels and names.

pub mod cluster;
pub mod conditions;
pub mod container_instance;
pub mod ecs;
pub mod host_plan;
pub mod labels;
pub mod lifecycle;
pub mod names;
pub mod patterns;
pub mod rules;
pub mod run_task;

pub mod scheduled_task;
pub mod schema;
pub mod service;
pub mod task;
pub mod task_definition;
pub mod task_definition_revision;

pub use cluster::*;
pub use conditions::{Condition, ConditionStatus};
pub use container_instance::*;
pub use host_plan::*;
pub use lifecycle::{DesiredStatus, HealthStatus, LastStatus, StopCode};
pub use run_task::*;
pub use scheduled_task::*;
pub use service::*;
pub use task::*;
pub use task_definition::*;
pub use task_definition_revision::*;

/// API group of every kind.
pub const GROUP: &str = "tallyman.dev";
/// The one served and stored version.
pub const VERSION: &str = "v1alpha1";
