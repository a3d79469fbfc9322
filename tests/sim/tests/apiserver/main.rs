//! The API in memory against a real kube-apiserver: the same requests, and what both make of them.
//!
//! Sequences of the requests that operator, agent and users send are made from a seed, and sent to both. Every answer is compared,
//! the object after every write, and in the end every list and every event of every watch, from the beginning and from the middle.
//! Versions and uids are compared by which object and which write they belong to, not by what they are.
//!
//! `make alike`; `TALLYMAN_CONFORMANCE_SEED` chooses other sequences, and
//! `TALLYMAN_CONFORMANCE_SEQUENCES` how many. What fails is told with its seed, and made as short as it can be.
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

const SEQUENCES: u32 = 40;
/// Each attempt to shorten a sequence that fails runs it again.
const ATTEMPTS: u32 = 150;

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(
        text.parse()
            .unwrap_or_else(|_| panic!("{variable} is a number")),
    )
}

#[test]
fn the_api_in_memory_answers_as_the_real_one() {
    let real = Real::connect();
    let seed = number("TALLYMAN_CONFORMANCE_SEED").unwrap_or(1);
    let sequences = number("TALLYMAN_CONFORMANCE_SEQUENCES").unwrap_or(u64::from(SEQUENCES));
    let config = Config {
        cases: u32::try_from(sequences).expect("some sequences"),
        max_shrink_iters: ATTEMPTS,
        failure_persistence: None,
        rng_seed: RngSeed::Fixed(seed),
        ..Config::default()
    };
    let mut asked = 0;
    let mut told = 0;
    let result = {
        let counts = std::cell::RefCell::new((&mut asked, &mut told));
        TestRunner::new(config).run(&requests::sequence(), |sequence| {
            let mut both = Both::new(&real);
            let result = both.all(&sequence);
            let mut counts = counts.borrow_mut();
            *counts.0 += both.asked;
            *counts.1 += both.told;
            result.map_err(proptest::test_runner::TestCaseError::fail)
        })
    };
    if let Err(failure) = result {
        panic!("with TALLYMAN_CONFORMANCE_SEED={seed}:\n{failure}");
    }
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
    let from_here = real.watch(&namespace, "clusters", version - 1, 1, 10);
    assert_eq!(from_here.unwrap().len(), 1);
    // After a restore from a backup clients know versions that are yet to come.
    let yet_to_come = real.watch(&namespace, "clusters", version + 1_000_000, 1, 1);
    assert_eq!(yet_to_come, Ok(Vec::new()), "neither an event nor an error");
    real.empty(&namespace);
}
