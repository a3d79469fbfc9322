//! Clocks that are wrong: a preloaded library tells a program another time of day; clocks that count from the boot stay right.

use std::path::PathBuf;

use anyhow::{Context as _, Result};

/// Environment in which a program has a clock that is `seconds` ahead, or behind when they are negative.
///
/// # Errors
/// The library is not installed.
pub fn off_by(seconds: i64) -> Result<[(&'static str, String); 4]> {
    Ok([
        ("LD_PRELOAD", library()?.display().to_string()),
        ("FAKETIME", format!("{seconds:+}")),
        ("FAKETIME_DONT_FAKE_MONOTONIC", "1".to_owned()),
        ("NO_FAKE_STAT", "1".to_owned()),
    ])
}

fn library() -> Result<PathBuf> {
    let folders = std::fs::read_dir("/usr/lib").context("/usr/lib")?.flatten();
    let mut files = folders.map(|folder| folder.path().join("faketime/libfaketime.so.1"));
    let found = files.find(|file| file.exists());
    found.context("libfaketime is missing: dev/tools.sh packages")
}
