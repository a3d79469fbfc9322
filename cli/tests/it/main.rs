//! The command line against golden output. One program, so that it is linked once.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod convert;
mod forms;
mod golden;
mod krew;
mod program;
mod reading;
mod support;
