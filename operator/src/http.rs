//! /healthz, /readyz, /metrics.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;

use crate::metrics::Metrics;

/// What the probes look at.
#[derive(Debug)]
pub struct Health {
    started: Instant,
    beat_ms: AtomicU64,
    synced: AtomicBool,
    /// Metrics.
    pub metrics: Metrics,
}

/// The main loop beats at least this often; a longer silence means that it hangs.
const SILENCE_MS: u64 = 120_000;

impl Health {
    /// Not ready, and alive as of now.
    pub fn new() -> Health {
        Health {
            started: Instant::now(),
            beat_ms: AtomicU64::new(0),
            synced: AtomicBool::new(false),
            metrics: Metrics::new(),
        }
    }

    /// The main loop is alive.
    pub fn beat(&self) {
        let ms = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.beat_ms.store(ms, Ordering::Relaxed);
    }

    /// The caches are filled.
    pub fn synced(&self) {
        self.synced.store(true, Ordering::Relaxed);
    }
}

/// Serves until the process ends.
///
/// # Errors
/// The address cannot be bound.
pub async fn serve(address: SocketAddr, health: Arc<Health>) -> anyhow::Result<()> {
    let listener = tokio::net::TcpListener::bind(address)
        .await
        .map_err(|e| anyhow::anyhow!("cannot listen on --http-address {address}: {e}"))?;
    tracing::info!(%address, "serving probes and metrics");
    let app = Router::new()
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .with_state(health);
    axum::serve(listener, app).await?;
    Ok(())
}

async fn healthz(State(health): State<Arc<Health>>) -> impl IntoResponse {
    let now = u64::try_from(health.started.elapsed().as_millis()).unwrap_or(u64::MAX);
    let silent = now.saturating_sub(health.beat_ms.load(Ordering::Relaxed));
    if silent < SILENCE_MS {
        (StatusCode::OK, "ok\n".to_owned())
    } else {
        (
            StatusCode::SERVICE_UNAVAILABLE,
            format!("the main loop is silent for {silent} ms\n"),
        )
    }
}

async fn readyz(State(health): State<Arc<Health>>) -> impl IntoResponse {
    if health.synced.load(Ordering::Relaxed) {
        (StatusCode::OK, "ok\n")
    } else {
        (
            StatusCode::SERVICE_UNAVAILABLE,
            "the caches are not filled yet\n",
        )
    }
}

async fn metrics(State(health): State<Arc<Health>>) -> impl IntoResponse {
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, kind)], health.metrics.text())
}
