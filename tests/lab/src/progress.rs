//! What the lab tells the person who waits for it. Silent in tests, one line per step in the commands.

use std::sync::atomic::{AtomicBool, Ordering};

static ON: AtomicBool = AtomicBool::new(false);

/// Lets [`say`] print.
pub fn on() {
    ON.store(true, Ordering::Relaxed);
}

/// One line about what is being done now.
pub fn say(line: impl AsRef<str>) {
    if ON.load(Ordering::Relaxed) {
        println!("{}", line.as_ref());
    }
}
