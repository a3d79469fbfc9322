//! What a container can ask of its agent (ECS task metadata, introspection, container metadata file).
//!
//! Why: programs in containers, and collectors beside them, find out where they are by URIs in their
//! environment. Every answer is composed here, from what is planned, remembered and seen of a task.
//!
//! Where: [`inject`] adds the variables when a container is planned; the shell (`node-agent/src/metadata`) listens,
//! finds the task with [`key`], asks [`access`] and answers with [`documents`] and [`stats`].
//!
//! Never: nothing here reveals a value of a container's environment, or anything of another task. [`credentials`] are for
//! the containers of their task alone, and in no document.

pub mod access;
pub mod credentials;
pub mod documents;
pub mod file;
pub mod inject;
pub mod introspection;
pub mod key;
pub mod limiter;
pub mod places;
pub mod protection;
pub mod resolver;
pub mod route;
pub mod sight;
pub mod stats;
pub mod wire;

pub use credentials::TaskRole;
pub use inject::{Injection, Roles};
pub use key::MetadataKey;
pub use resolver::Resolver;
pub use sight::{Place, TaskSight};
