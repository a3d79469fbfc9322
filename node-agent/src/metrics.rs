//! /metrics: asks the engine what containers use, and lets the core say it. Nothing is measured while nobody asks.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use axum::Router;
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use futures::StreamExt as _;
use tallyman_agent_core::metadata::TaskSight;
use tallyman_agent_core::metrics::{self, Calls, Usage};
use tallyman_agent_engine::{Counts, Engine};
use tokio::net::TcpListener;
use tokio::time::{Instant, timeout_at};
use tracing::info;

use crate::worker::Shared;

/// Port of /metrics (ECS).
pub const PORT: u16 = 51680;

/// How many containers the engine is asked about at once. Docker 20.10 answers each at its next look at all of them, a second
/// away, so those who wait, wait together.
const AT_ONCE: usize = 64;
/// Whoever asks shall have an answer within the ten seconds that Prometheus waits, also while the engine hangs.
const PATIENCE: Duration = Duration::from_secs(8);

/// What is measured.
pub struct Source<E> {
    /// Engine and workers.
    pub shared: Arc<Shared<E>>,
    /// What was asked of the engine.
    pub counts: Arc<Counts>,
    /// Namespace of the ContainerInstance, and its name.
    pub place: (String, String),
    /// Containers are measured.
    pub usage: bool,
}

/// The route `/metrics`.
pub fn routes<E: Engine>(source: Source<E>) -> Router {
    Router::new()
        .route("/metrics", get(tell::<E>))
        .with_state(Arc::new(source))
}

/// Serves `routes` there until dropped; without an address it waits for ever.
///
/// # Errors
/// The address is taken.
pub async fn serve(address: Option<SocketAddr>, routes: Router) -> anyhow::Result<()> {
    let Some(address) = address else {
        return std::future::pending().await;
    };
    let listener = TcpListener::bind(address)
        .await
        .with_context(|| format!("cannot listen on {address}; choose another --metrics-address"))?;
    info!(%address, "serving metrics");
    axum::serve(listener, routes)
        .await
        .context("/metrics broke off")
}

async fn tell<E: Engine>(State(source): State<Arc<Source<E>>>) -> Response {
    // Counted before measuring, which asks the engine, too.
    let counts = &source.counts;
    let calls: Vec<Calls> = counts
        .read()
        .map(|(verb, calls, failures)| Calls {
            verb: verb.to_string(),
            calls,
            failures,
            seconds: counts.took(verb).as_secs_f64(),
        })
        .collect();
    let usage = if source.usage {
        measure(&source.shared).await
    } else {
        Vec::new()
    };
    let (namespace, host) = &source.place;
    let text = metrics::text(namespace, host, &calls, &usage);
    let content_type = "text/plain; version=0.0.4; charset=utf-8";
    ([(header::CONTENT_TYPE, content_type)], text).into_response()
}

/// What does not answer is left out: it has ended since, or the engine is away.
async fn measure<E: Engine>(shared: &Shared<E>) -> Vec<Usage> {
    let mut containers = Vec::new();
    for sight in shared.desk.ask_all().await {
        let sight = Arc::new(sight);
        for (container, name) in metrics::measured(&sight) {
            containers.push((
                Arc::clone(&shared.engine),
                Arc::clone(&sight),
                container,
                name,
            ));
        }
    }
    let end = Instant::now() + PATIENCE;
    let asked = containers
        .into_iter()
        .map(|container| async move { timeout_at(end, ask(container)).await.ok().flatten() });
    let all: Vec<Option<Usage>> = futures::stream::iter(asked)
        .buffered(AT_ONCE)
        .collect()
        .await;
    all.into_iter().flatten().collect()
}

async fn ask<E: Engine>(
    (engine, sight, container, name): (Arc<E>, Arc<TaskSight>, String, String),
) -> Option<Usage> {
    let stats = engine.stats(&name).await.ok().flatten()?;
    metrics::usage(&sight, &container, &stats)
}
