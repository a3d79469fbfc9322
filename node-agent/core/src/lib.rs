//! What the agent decides.
//!
//! Why: everything on a host that chooses (which container to create, whether a task has ended, when
//! to ask again, what to tell the control plane) is here, as functions of values. So it runs against
//! a real engine, against the fake one, and a thousand times a second in the simulator, and behaves
//! the same.
//!
//! Where: between the plan that the operator wrote ([`assignment`]) and the engine port
//! (`tallyman-agent-engine`). The shell (`node-agent/src`) feeds [`Host`] with plans and container
//! lists and each [`TaskMachine`] with the outcomes of its actions, and carries out what they return.
//!
//! Never: this crate waits for nothing, reads no clock, draws no random number, and names neither a
//! runtime nor a client. Time and chance are arguments.
//!
//! Nomenclature: an **assignment** is the plan after it was parsed; a **task** of it has **planned
//! containers**. A **record** is what the agent remembers of a task and may lose; a **sighting** is what
//! it last saw of a container; an **action** is one engine verb handed out and not yet **settled**.

pub mod account;
pub mod assignment;
pub mod backoff;
pub mod clock;
pub mod containers;
pub mod disk;
pub mod dynamic_ports;
pub mod failing;
pub mod fault_injection;
pub mod firelens;
pub mod gpu_info;
pub mod gpus;
pub mod holdings;
pub mod host;
pub mod host_files;
pub mod host_paths;
pub mod ids;
pub mod images;
pub mod joining;
pub mod limits;
pub mod metadata;
pub mod metrics;
pub mod names;
pub mod needs;
pub mod orphans;
mod parameters;
pub mod pause;
pub mod perform;
mod planned;
pub mod ports;
pub mod proxy;
mod refused;
pub mod register;
pub mod registries;
pub mod report;
pub mod settings;
mod shares;
pub mod silence;
pub mod stops;
pub mod task;
pub mod tenure;
pub mod volumes;

pub use account::{Account, Room};
pub use assignment::{AssignedTask, Assignment, Desired, Plan, TaskBody};
pub use dynamic_ports::{DynamicPorts, PortRange, PortSource};
pub use failing::Failing;
pub use firelens::{FirelensSettings, RouterFiles, RouterFolder};
pub use gpu_info::GpuInfo;
pub use gpus::{GpuClaim, GpuHolder, GpuShare, GpuWish, Gpus};
pub use holdings::Holdings;
pub use host::{Host, Offer, Refusal};
pub use host_files::HostFiles;
pub use ids::{Fence, TaskUid};
pub use limits::Enforcement;
pub use orphans::{Condemned, Orphans};
pub use perform::{Outcome, Premises, perform};
pub use planned::{PlannedContainer, RestartPolicy};
pub use ports::PortSpan;
pub use refused::Refused;
pub use report::{Delivery, Due, Outbox, Parcel};
pub use settings::Settings;
pub use silence::{Contacts, Silence, Silences};
pub use task::{
    Action, ContainerRecord, HostContext, Sighting, Step, TaskMachine, TaskObservation, TaskRecord,
    error_name, settle, step,
};
