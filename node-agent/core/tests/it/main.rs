//! What an agent does with a task, by subject; `rig` is a host without an engine. One program, so that it is linked once.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod account;
mod crashes;
mod dynamic_ports;
mod ending;
mod fault_injection;
mod fence;
mod firelens;
mod gpus;
mod images;
mod limits;
mod mapping;
mod metadata;
mod needs;
mod order;
mod parameters;
mod pause;
mod plans;
mod protection;
mod restart;
mod rig;
mod roles;
mod settings;
mod starting;
mod volume_mapping;
mod volumes;
