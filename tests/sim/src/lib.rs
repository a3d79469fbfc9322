//! The whole system in one thread: the operator's and the agents' real cores, fake engines, an API server in memory, a
//! clock that only we move, and one seed from which all chance comes.
//!
//! Why: what goes wrong between processes (a leader that dies between two writes, a watch that lags, a plan that comes
//! twice) is rare in a lab and common here. A history of ten minutes takes a tenth of a second, and comes again from its
//! seed, line by line.
//!
//! Where: [`Sim`] holds the [`api::Server`], any number of [`operator::Operator`]s and one [`agent::Agent`] for each host;
//! tests in `tests/` tell users' stories with it. After every step the numbered invariants of [`invariants`] are checked.
//!
//! Never: no client of Kubernetes or Docker, no runtime, no clock, no entropy.
//!
//! `TALLYMAN_SIM_SEEDS=200 cargo test -p tallyman-sim` runs each story with more seeds, `TALLYMAN_SIM_SEED=17` with that
//! one, `TALLYMAN_SIM_TRACE=1` prints all that happens.

pub mod agent;
pub mod api;
pub mod deaths;
mod gpus;
pub mod invariants;
pub mod lives;
pub mod operator;
pub mod perturbation;
pub mod plans;
mod remembered;
pub mod rng;
pub mod sim;
pub mod trace;
pub mod user;

pub use operator::CrashPoint;
pub use sim::{Sim, story};
