//! The engine driven flat out by eight workers: what Tallyman is measured against.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, Result};
use tallyman_agent_docker::{DockerEngine, Settings};
use tallyman_agent_engine::{ContainerSpec, Engine, EngineError};
use tallyman_lab::Lab;

use crate::measure::Seconds;

const WORKERS: usize = 8;
const LABEL: (&str, &str) = ("tallyman.dev/bench", "raw");

/// Starts and stops `n` containers.
pub fn up_and_down(lab: &Lab, n: usize) -> Result<Seconds> {
    let socket = format!("unix://{}", lab.host(0).engine_socket().display());
    let label = format!("label={}={}", LABEL.0, LABEL.1);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let engine =
            Arc::new(DockerEngine::new(&socket, Settings::default()).context("no engine")?);
        let since = |started: SystemTime, up| -> Result<f64> {
            let last = crate::measure::last(lab, &label, up)?;
            Ok(last
                .duration_since(started)
                .context("the engine's clock is behind")?
                .as_secs_f64())
        };
        let started = SystemTime::now();
        each(n, &engine, |engine, name| async move {
            engine.create(&spec(&name)).await?;
            engine.start(&name).await
        })
        .await?;
        let up = since(started, true)?;
        let started = SystemTime::now();
        each(n, &engine, |engine, name| async move {
            engine.stop(&name, Duration::from_secs(2)).await
        })
        .await?;
        let down = started
            .elapsed()
            .context("the clock went back")?
            .as_secs_f64();
        let ended = since(started, false)?;
        each(n, &engine, |engine, name| async move {
            engine.remove(&name).await
        })
        .await?;
        Ok(Seconds { up, ended, down })
    })
}

async fn each<F>(
    n: usize,
    engine: &Arc<DockerEngine>,
    work: impl Fn(Arc<DockerEngine>, String) -> F,
) -> Result<()>
where
    F: Future<Output = Result<(), EngineError>>,
{
    let next = AtomicUsize::new(0);
    let workers = (0..WORKERS).map(|_| async {
        loop {
            let i = next.fetch_add(1, Ordering::Relaxed);
            if i >= n {
                return Ok(());
            }
            work(engine.clone(), format!("raw-{i:03}")).await?;
        }
    });
    futures::future::try_join_all(workers)
        .await
        .map(drop)
        .map_err(|e: EngineError| anyhow::anyhow!("{e}"))
}

/// The container that a task of the benchmark's service has.
fn spec(name: &str) -> ContainerSpec {
    let mut spec = ContainerSpec::new(name, crate::measure::IMAGE);
    spec.command = Some(crate::measure::COMMAND.map(str::to_owned).to_vec());
    spec.memory_bytes = Some(16 << 20);
    spec.labels.insert(LABEL.0.to_owned(), LABEL.1.to_owned());
    spec
}
