//! Bad input, generated: objects that are wrong somewhere ([`objects`]), and fuzz targets for every parser and for both cores
//! ([`TARGETS`]).
//!
//! A target is a plain function of bytes that panics when something is wrong, so three can call it: the smoke run of `cargo test`
//! (`tests/smoke.rs`: the corpus, and some mutations of each entry), `cargo fuzz` (`fuzz/`, which only wraps them), and the end-to-end
//! scenario, which sends the same objects to a real API server.
//!
//! Never: a target with a clock, a file or chance of its own. The same bytes do the same.

mod dice;
pub mod mutate;
pub mod objects;
pub mod schema;
mod targets;

pub use dice::Dice;
pub use targets::{TARGETS, Target};
