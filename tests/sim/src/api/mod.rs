//! An API server in memory: one namespace, resource versions, preconditions, finalizers, owners, watches that lag.
//!
//! It stands where a kube-apiserver with etcd and our CRDs stands, and refuses what those refuse. Clients read through a
//! [`Cache`] that is behind by as much as the seed says, and write through [`Server`].

mod cache;
mod defaults;
mod json_patch;
mod object;
mod rules;
mod server;

pub(crate) use cache::secret;
pub use cache::{Cache, Gap, KINDS};
pub use object::{Object, Secret};
pub(crate) use server::merge;
pub use server::{Backup, Preconditions, Refusal, Server, Told};
