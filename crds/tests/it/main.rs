//! The types and what is made of them, without an API server. One program, so that it is linked once.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod ecs_input;
mod schema;
mod sources;
#[path = "../support/mod.rs"]
mod support;
mod task_policy;
