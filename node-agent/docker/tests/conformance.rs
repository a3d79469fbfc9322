//! Real engines pass the suite that the fake passes.
//!
//! Needs `TALLYMAN_TEST_ENGINES="20.10=unix:///path,current=unix:///path"` and busybox-static. Run with
//! `cargo test -p tallyman-agent-docker --test conformance -- --nocapture`.
#![allow(
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by panicking"
)]

#[path = "support/bench.rs"]
#[allow(dead_code, reason = "shared with the pull tests")]
mod bench;

use std::time::{Duration, Instant};

use futures::stream::{self, StreamExt};
use tallyman_agent_docker::{DockerEngine, Settings};
use tallyman_agent_engine::conformance::{Bench, cases};
use tallyman_agent_engine::{ContainerSpec, Engine};

use bench::{DockerBench, engines};

/// As many cases at a time; most of them wait for an engine.
const AT_ONCE: usize = 4;

#[tokio::test]
async fn real_engines_pass_the_suite() {
    let mut failures = Vec::new();
    for (index, (name, endpoint)) in engines().into_iter().enumerate() {
        let bench = DockerBench::new(&endpoint, index).await;
        let told = bench.described().await;
        println!(
            "engine {name}: docker {} API {}",
            told.version, told.api_version
        );
        let begun = Instant::now();
        let cases = cases::<DockerBench>();
        let count = cases.len();
        let verdicts: Vec<_> = stream::iter(&cases)
            .map(|case| async {
                let begun = Instant::now();
                let verdict = case.run(&bench).await;
                (case.name(), verdict, begun.elapsed())
            })
            .buffer_unordered(AT_ONCE)
            .collect()
            .await;
        for (case, verdict, took) in verdicts {
            match verdict {
                Ok(()) => println!("  ok     {case} ({:.1} s)", took.as_secs_f32()),
                Err(sentence) => {
                    println!("  FAILED {case} ({:.1} s): {sentence}", took.as_secs_f32());
                    failures.push(format!("{name}: {case}: {sentence}"));
                }
            }
        }
        println!("  {count} cases in {:.1} s", begun.elapsed().as_secs_f32());
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

/// Two handles on one engine: what one agent process created, the next one finds.
#[tokio::test]
async fn a_second_agent_process_finds_what_the_first_created() {
    for (index, (_, endpoint)) in engines().into_iter().enumerate() {
        let bench = DockerBench::new(&endpoint, 10 + index).await;
        let mut spec = ContainerSpec::new("conformance-second-process", bench::IMAGE);
        spec.command = Some(vec!["sleep".to_owned(), "600".to_owned()]);
        spec.labels
            .insert("second-process".to_owned(), "1".to_owned());
        bench.destroy(&spec.name).await.unwrap();
        let first = DockerEngine::new(&endpoint, Settings::default()).unwrap();
        let created = first.create(&spec).await.unwrap();
        first.start(&spec.name).await.unwrap();
        drop(first);
        let second = DockerEngine::new(&endpoint, Settings::default()).unwrap();
        let adopted = second.create(&spec).await.unwrap();
        assert!(adopted.adopted);
        assert_eq!(created.container_id, adopted.container_id);
        let listed = second.list(("second-process", "1")).await.unwrap();
        assert_eq!(listed.len(), 1);
        second.stop(&spec.name, Duration::ZERO).await.unwrap();
        second.remove(&spec.name).await.unwrap();
    }
}
