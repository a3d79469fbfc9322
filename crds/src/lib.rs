//! The shared language of Tallyman: custom resource types, the life cycle of a task, labels and names.
//!
//! Everything a user writes and everything one process tells another is a type of this crate; the other crates agree on
//! nothing else. It decides nothing, talks to nothing and knows no clock. `crdgen` turns the types into the definitions
//! in `crds/generated/`: docs become `kubectl explain`, attributes become bounds and defaults, and [`rules`] holds what
//! the API server refuses by itself.
//!
//! # Nomenclature
//!
//! One word for one thing, here, in code, in logs and in docs. Words of ECS mean what they mean there.
//!
//! | Word | Meaning |
//! |---|---|
//! | cluster | A scheduling domain: services and tasks of a cluster run on the hosts of that cluster. |
//! | family | The name under which task definitions are revised. One [`TaskDefinition`] object is one family. |
//! | task definition | The mutable object a user writes. Each change of its content mints a revision. |
//! | revision | One immutable snapshot of a task definition, written `family:number`; object [`TaskDefinitionRevision`]. |
//! | service | Keeps `desiredCount` tasks, or one per host, of a revision running. |
//! | deployment | The part of a service that runs one revision. The newest is PRIMARY. |
//! | task set | One [`TaskSet`]: the part of a service that runs one revision when somebody else decides on deployments. |
//! | task | One copy of a revision on one host. Placed once, never moved, never restarted once STOPPED. |
//! | container | One process tree of a task, as the engine runs it; *essential* when its end is the end of the task. |
//! | run | One [`RunTask`]: up to ten copies that belong to no service. |
//! | copy, try | One of the copies that a run wants; each of its tasks is a try of it. |
//! | schedule | One [`ScheduledTask`]. |
//! | due time | When a schedule wants a run: started, left out, passed over while suspended, or missed. |
//! | container instance, host | A machine with an engine and an agent. *Container instance* is the object and the ECS word, *host* the machine. |
//! | attribute | A name, or name and value, of a host that placement can ask for. |
//! | placement | Choosing the host of a task: *constraints* must hold, *strategies* prefer. |
//! | registered, remaining | What a host has for tasks; what its tasks leave of it. |
//! | agent | The process on a host that runs its tasks. |
//! | engine | What the agent runs containers with, such as Docker. |
//! | operator | The process beside the API server that places tasks and tells people about it. |
//! | join (HostJoin) | Leave for one host to join once: a token that lets it ask, and what became of that. |
//! | plan (HostPlan) | The mailbox of one host: every task it is to know, derived from the Tasks assigned to it. |
//! | generation, epoch | Of a plan: how new it is, and which leader wrote it. Neither ever falls. |
//! | forgotten | Of a task: it ran when the API server went back to an older state, which does not have it. Left alone until somebody decides. |
//! | desired status | What somebody wants of a task: RUNNING, then once STOPPED. |
//! | last status | Where a task is. It has a rank and never goes back. |
//! | stalled | A failure that will not mend itself; somebody has to change the object. |

pub mod arn;
pub mod capabilities;
pub mod cluster;
pub mod conditions;
pub mod container_instance;
pub mod ecs;
pub mod firelens;
pub mod gpus;
pub mod host_join;
pub mod host_plan;
pub mod labels;
pub mod lifecycle;
pub mod names;
pub mod numbers;
pub mod order;
pub mod patterns;
pub mod quantity;
pub mod readable;
pub mod roles;
pub mod rules;
pub mod run_task;

pub mod scheduled_task;
pub mod schema;
pub mod service;
pub mod size;
pub mod sources;
pub mod task;
pub mod task_definition;
pub mod task_definition_revision;
pub mod task_policy;
pub mod task_set;
pub mod versions;

pub use cluster::*;
pub use conditions::{Condition, ConditionStatus};
pub use container_instance::*;
pub use host_join::*;
pub use host_plan::*;
pub use lifecycle::{Connectivity, DesiredStatus, HealthStatus, LastStatus, StopCode};
pub use run_task::*;
pub use scheduled_task::*;
pub use service::*;
pub use task::*;
pub use task_definition::*;
pub use task_definition_revision::*;
pub use task_policy::{HostNamespace, TaskPolicy};
pub use task_set::*;

/// API group of every kind.
pub const GROUP: &str = "tallyman.dev";
/// The one served and stored version.
pub const VERSION: &str = "v1alpha1";
