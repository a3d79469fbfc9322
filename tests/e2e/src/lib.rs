//! End-to-end tests of Tallyman: what a user does with kubectl, on a real API server and real Docker engines.
//!
//! One lab of three hosts per engine generation; the scenarios run on it one after the other, each with objects of its
//! own, and each leaves the lab as it found it. `tests/e2e.rs` is the runner; here are the scenarios and what they share.

pub mod attack;
pub mod chaos;
mod clients;
mod conditions;
mod inside;
pub mod scenarios;
pub mod shell;
pub mod suite;
pub mod table;
pub mod user;

pub use suite::{Lane, Scenario, Tally, run};
pub use user::User;
