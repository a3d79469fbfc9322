//! The smoke run: every target over its corpus and over mutations of each entry, the same ones every time.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::panic::catch_unwind;
use std::path::PathBuf;

use tallyman_fuzz::mutate::mutated;
use tallyman_fuzz::objects::{self, CRDS, Setting};
use tallyman_fuzz::{Dice, TARGETS, Target};

fn folder(target: &Target) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("corpus")
        .join(target.name)
}

/// Entries by file name.
fn corpus(target: &Target) -> Vec<(String, Vec<u8>)> {
    let folder = folder(target);
    let files = std::fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    let mut entries: Vec<_> = files
        .map(|file| {
            let file = file.unwrap();
            let name = file.file_name().to_string_lossy().into_owned();
            (name, std::fs::read(file.path()).unwrap())
        })
        .collect();
    entries.sort();
    entries
}

/// Runs the target of this name; what makes it panic is written beside the corpus of `cargo fuzz`.
fn smoke(name: &str) {
    let target = TARGETS.iter().find(|t| t.name == name).unwrap();
    let entries = corpus(target);
    assert!(!entries.is_empty(), "{name} has no corpus");
    let more: u64 = std::env::var("TALLYMAN_FUZZ_TIMES").map_or(1, |text| text.parse().unwrap());
    for (number, (file, entry)) in entries.iter().enumerate() {
        try_one(target, file, entry);
        for seed in 0..target.smoke * more {
            let dice = &mut Dice::seeded(seed ^ ((number as u64) << 32));
            let bytes = mutated(entry, dice);
            try_one(target, &format!("{file}, mutation {seed}"), &bytes);
        }
    }
}

fn try_one(target: &Target, what: &str, bytes: &[u8]) {
    if catch_unwind(|| (target.run)(bytes)).is_err() {
        let kept = std::env::temp_dir().join(format!("tallyman-fuzz-{}", target.name));
        std::fs::write(&kept, bytes).unwrap();
        panic!(
            "{} fails with {what}; the bytes are in {}: put them into {} once it is mended",
            target.name,
            kept.display(),
            folder(target).display()
        );
    }
}

macro_rules! smoke {
    ($($name:ident)*) => {
        $(#[test] fn $name() { smoke(stringify!($name)); })*

        #[test]
        fn every_target_is_here_and_in_fuzz() {
            let here = [$(stringify!($name)),*];
            let known: Vec<&str> = TARGETS.iter().map(|t| t.name).collect();
            assert_eq!(here.as_slice(), known);
            let manifest = include_str!("../../../fuzz/Cargo.toml");
            for name in known {
                assert!(manifest.contains(&format!("name = \"{name}\"\n")), "fuzz/Cargo.toml lacks {name}");
            }
        }
    };
}

smoke! {
    agent_core agent_settings both_cores compose_and_manifests container_requests host_files images_and_registries joining
    placement_query quantities_and_references schedule stored_objects
}

#[test]
fn objects_are_the_same_every_time_and_of_every_kind() {
    let setting = Setting {
        prefix: "bad".to_owned(),
        victim: "web".to_owned(),
        host: "host-a".to_owned(),
    };
    let make = |number: usize| {
        let (crd, object) = objects::object(&setting, number, &mut Dice::seeded(number as u64));
        (crd.kind.clone(), object)
    };
    let kinds: std::collections::BTreeSet<String> = (0..CRDS.len()).map(|n| make(n).0).collect();
    assert_eq!(kinds.len(), CRDS.len());
    let mut different = std::collections::BTreeSet::new();
    for number in 0..2000 {
        assert_eq!(make(number), make(number));
        different.insert(make(number).1.to_string());
    }
    assert!(
        different.len() > 1900,
        "only {} are different",
        different.len()
    );
}
