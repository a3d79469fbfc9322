//! The rules of the scheduler, each in a file of its own; `common` makes clusters and passes. One program, so that it is linked once.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod choice;
mod common;
mod daemons;
mod definitions;
mod deployments;
mod disconnect;
mod documented;
mod early_success;
mod ecs_rules;
mod expressions;
mod families;
mod figures;
mod fixpoint;
mod gpus;
mod guards;
mod hosts;
mod joins;
mod leadership;
mod log_routers;
mod memory;
mod pacing;
mod placement;
mod policy;
mod protection;
mod query;
mod rolling;
mod rules;
mod runs;
mod schedules;
mod states;
mod steps;
mod supplies;
mod task_sets;
mod unreadable;
mod zones;
