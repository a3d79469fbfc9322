//! The API in memory against a real kube-apiserver: the same requests, and what both make of them.
//!
//! Sequences of the requests that operator, agent and users send are made from a seed, and sent to both. Every answer is compared,
//! the object after every write, and in the end every list and every event of every watch, from the beginning and from the middle.
//! Versions and uids are compared by which object and which write they belong to, not by what they are.
//!
//! `make real` has some, `make alike` more; `TALLYMAN_CONFORMANCE_SEED` chooses others, and `TALLYMAN_CONFORMANCE_SEQUENCES` how
//! many. What fails is told with its seed, and made as short as it can be.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests"
)]

use proptest::test_runner::{Config, RngSeed, TestRunner};
use serde_json::json;

mod both;
mod real;
mod requests;

use both::Both;
use real::Real;

const SEQUENCES: u32 = 60;
/// Sequences go on side by side, each in a namespace of its own: the server mostly waits for its disk.
const LANES: u32 = 4;
/// Each attempt to shorten a sequence that fails runs it again.
const ATTEMPTS: u32 = 150;

fn number(variable: &str) -> Option<u32> {
    let text = std::env::var(variable).ok()?;
    Some(
        text.parse()
            .unwrap_or_else(|_| panic!("{variable} is a number")),
    )
}

/// What was sent, and what watches told.
#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    asked: u64,
    told: u64,
}

/// So many sequences of a seed. The error is the first difference, and the seed that shows it.
fn lane(seed: u32, sequences: u32) -> Result<Counts, String> {
    let real = Real::connect();
    let config = Config {
        cases: sequences,
        max_shrink_iters: ATTEMPTS,
        failure_persistence: None,
        rng_seed: RngSeed::Fixed(u64::from(seed)),
        ..Config::default()
    };
    let counts = std::cell::Cell::new(Counts::default());
    let result = TestRunner::new(config).run(&requests::sequence(), |sequence| {
        let mut both = Both::new(&real);
        let result = both.all(&sequence);
        let before = counts.get();
        counts.set(Counts {
            asked: before.asked + both.asked,
            told: before.told + both.told,
        });
        result.map_err(proptest::test_runner::TestCaseError::fail)
    });
    match result {
        Ok(()) => Ok(counts.get()),
        Err(failure) => Err(format!("with TALLYMAN_CONFORMANCE_SEED={seed}:\n{failure}")),
    }
}

#[test]
fn the_api_in_memory_answers_as_the_real_one() {
    let seed = number("TALLYMAN_CONFORMANCE_SEED").unwrap_or(1);
    let sequences = number("TALLYMAN_CONFORMANCE_SEQUENCES").unwrap_or(SEQUENCES);
    let each = sequences.div_ceil(LANES);
    let lanes: Vec<_> = (seed..seed + LANES)
        .map(|seed| std::thread::spawn(move || lane(seed, each)))
        .collect();
    let lanes: Vec<_> = lanes.into_iter().map(|l| l.join().unwrap()).collect();
    let failed: Vec<&String> = lanes.iter().filter_map(|l| l.as_ref().err()).collect();
    if let Some(failure) = failed.first() {
        panic!("{} of {LANES} seeds; {failure}", failed.len());
    }
    let counts: Vec<&Counts> = lanes.iter().flatten().collect();
    let asked: u64 = counts.iter().map(|c| c.asked).sum();
    let told: u64 = counts.iter().map(|c| c.told).sum();
    let sequences = u64::from(each * LANES);
    println!("{sequences} sequences, {asked} requests, {told} events, all the same");
    assert!(
        asked > sequences * 10 && told > sequences,
        "too little was asked"
    );
}

/// What `node-agent/src/mailbox.rs` and the simulator's caches build on.
#[test]
fn a_watch_of_another_age_ends_with_410_or_is_silent() {
    let real = Real::connect();
    let namespace = real.namespace();
    let cluster = json!({ "metadata": { "name": "one" }, "spec": {} });
    let made = real
        .create(&namespace, "Cluster", "clusters", cluster)
        .unwrap();
    let version: u64 = real::version(&made);
    let too_old = real.watch(&namespace, "clusters", 1, 1, 10);
    assert_eq!(
        too_old,
        Err(410),
        "a version from before the server's memory"
    );
    let from_here = real.watch(&namespace, "clusters", version - 1, 1, 60);
    assert_eq!(from_here.unwrap().len(), 1);
    // After a restore from a backup clients know versions that are yet to come.
    let yet_to_come = real.watch(&namespace, "clusters", version + 1_000_000, 1, 1);
    assert_eq!(yet_to_come, Ok(Vec::new()), "neither an event nor an error");
    real.empty(&namespace);
}
