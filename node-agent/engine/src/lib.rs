//! The container engine as the agent sees it.
//!
//! Why: the agent decides in words of its own, and must be tested against an engine that lies,
//! stalls and forgets. So the verbs live here as a port ([`Engine`]) with values in our own words,
//! beside a deterministic engine in memory ([`fake`]) and one suite of cases ([`conformance`]) that
//! the fake and every real engine must pass.
//!
//! Where: `node-agent/core` speaks the value types of this crate, `node-agent/docker` implements the
//! trait, the simulator drives the fake.
//!
//! Never: this crate names no engine client, no runtime and no Kubernetes client; it reads no clock
//! and starts no thread. Times are [`Moment`]s that somebody else measured.

pub mod conformance;
mod container;
mod counted;
mod description;
mod error;
pub mod fake;
mod image;
mod limits;
mod network;
mod parameters;
mod port;
mod reference;
mod sensitive;
mod sight;
mod spec;
mod time;
mod volume;

pub use container::{
    ContainerState, ContainerSummary, Health, Phase, PhaseKind, Protocol, PublishedPort,
};
pub use counted::{Counted, Counts};
pub use description::EngineDescription;
pub use error::{Cause, EngineError, Fault, PullFault, Retry};
pub use image::{Archive, ImageState, LocalImage, Prepared, PullBehavior};
pub use limits::{CpuQuota, Group};
pub use network::{NetworkSpec, ToHost};
pub use parameters::{Device, Ipc, Log, Parameters, Processes, Swap, Tmpfs, Ulimit, is_ipc_sysctl};
pub use port::{Created, Engine, Hint, Label, Verb};
pub use reference::{DOCKER_HUB, DOCKER_HUB_INDEX, Reference, is_plausible};
pub use sensitive::{RegistryCredentials, Sensitive};
pub use sight::{Attachment, Check, Mounted, Stats};
pub use spec::{ContainerSpec, HealthCheck, Link, Network, PortSpec};
pub use time::Moment;
pub use volume::{Mount, MountSource, VolumeSpec, VolumeState, VolumesFrom};
