//! What the operator decides. Pure: a [`World`] and a time go in, a [`Plan`] comes out.
//!
//! No client, no clock, no chance: the operator's shell gathers the world and carries the plan out, the simulator does
//! the same in memory. A plan is a fixpoint: carry it out, plan again, and nothing is left to do.

pub mod definition;
pub mod deployments;
mod digests;
pub mod disconnect;
pub mod early_success;
pub mod families;
pub mod figures;
pub mod guards;
pub mod invariants;
pub mod joins;
pub mod leadership;
pub mod liveness;
pub mod memory;
pub mod names;
pub mod pacing;
pub mod placement;
pub mod plan;
mod ports;
pub mod problem;
pub mod questions;
pub mod quotas;
pub mod requirements;
pub mod rollouts;
pub mod runs;
pub mod schedules;
pub mod service_events;
pub mod settings;
pub mod tags;
pub mod throttle;
pub mod traces;
pub mod unreadable;
pub mod unsupported;
pub mod world;

mod attention;
mod clusters;
mod daemons;
mod deployment_report;
mod gather;
mod gpus;
mod host_plans;
mod instances;
mod pass;
mod service_report;
mod services;
mod status;
mod supplies;
pub mod task_sets;
mod tasks;
mod zones;

use attention::Attention;
use jiff::Timestamp;

pub use memory::{Change, Memory};
pub use plan::{Action, Kind, Note, Plan, Publication, Target};
pub use settings::Settings;
pub use unreadable::Unreadable;
pub use world::{Objects, World};

/// Decides for one cluster, whoever is in it: what to write, what to publish, what to say, and when to be asked again.
pub fn plan(world: &World, now: Timestamp) -> Plan {
    let mut ledger = placement::Ledger::of(world);
    pass::pass(world, &mut ledger, &mut Attention::default(), now)
}
