//! Every target: the program's name says which.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use tallyman_fuzz::{TARGETS, Target};

static TARGET: LazyLock<&Target> = LazyLock::new(|| {
    let name = env!("CARGO_BIN_NAME");
    TARGETS
        .iter()
        .find(|target| target.name == name)
        .unwrap_or_else(|| panic!("there is no target {name}"))
});

fuzz_target!(|bytes: &[u8]| (TARGET.run)(bytes));
