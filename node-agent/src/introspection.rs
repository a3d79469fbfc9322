//! HTTP for the host itself: health checks, and the introspection API that ECS hosts have
//! (ECS agent introspection). Answers come from memory; the engine is never asked.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Context;
use axum::Router;
use axum::extract::{ConnectInfo, Query, Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde::{Deserialize, Serialize};
use tallyman_agent_core::metadata::Place;
use tallyman_agent_core::metadata::introspection::{self, Choice, TaskDocument};
use tokio::net::TcpListener;
use tracing::info;

use crate::desk::Desk;
use crate::metadata;

/// Port of the introspection API (ECS).
pub const PORT: u16 = 51678;

const LICENSE: &str = include_str!("../../LICENSE");

/// What the answers are made from.
pub struct Facts {
    /// Cluster, once a plan named it.
    pub cluster: Mutex<String>,
    /// Where the host is.
    pub place: Place,
    /// A plan is at hand and containers were listed.
    pub ready: AtomicBool,
    /// Where tasks are asked about.
    pub desk: Arc<Desk>,
    /// `ECS_ALLOW_OFFHOST_INTROSPECTION_ACCESS`: others than this host may ask about tasks.
    pub offhost: bool,
}

/// Serves until dropped.
///
/// # Errors
/// The address is taken.
pub async fn serve(address: SocketAddr, facts: Arc<Facts>, metrics: Router) -> anyhow::Result<()> {
    let guarded = Router::new()
        .route("/license", get(|| async { LICENSE }))
        .route("/v1/metadata", get(metadata))
        .route("/v1/tasks", get(tasks))
        .layer(from_fn_with_state(Arc::clone(&facts), guard));
    let routes = Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .merge(guarded)
        .with_state(facts)
        .merge(metrics)
        .into_make_service_with_connect_info::<SocketAddr>();
    let listener = TcpListener::bind(address)
        .await
        .with_context(|| format!("cannot listen on {address}; choose another --http-address"))?;
    info!(%address, "serving health checks and introspection");
    axum::serve(listener, routes)
        .await
        .context("the introspection API broke off")
}

async fn ready(State(facts): State<Arc<Facts>>) -> Response {
    if facts.ready.load(Ordering::Relaxed) {
        "ok\n".into_response()
    } else {
        (
            StatusCode::SERVICE_UNAVAILABLE,
            "no plan, or the engine was not listed yet\n",
        )
            .into_response()
    }
}

fn json<T: Serialize>(status: StatusCode, value: &T) -> Response {
    match serde_json::to_string(value) {
        Ok(text) => (status, [(header::CONTENT_TYPE, "application/json")], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

async fn metadata(State(facts): State<Arc<Facts>>) -> Response {
    let cluster = facts
        .cluster
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .clone();
    let version = env!("CARGO_PKG_VERSION");
    json(
        StatusCode::OK,
        &introspection::host(&facts.place, &cluster, version),
    )
}

/// What a query may ask for.
#[derive(Deserialize)]
struct Wanted {
    taskarn: Option<String>,
    dockerid: Option<String>,
}

async fn tasks(State(facts): State<Arc<Facts>>, Query(wanted): Query<Wanted>) -> Response {
    let sights = facts.desk.ask_all().await;
    let tasks: Vec<TaskDocument> = sights
        .iter()
        .map(|sight| introspection::task(sight, &facts.place))
        .collect();
    let Wanted { taskarn, dockerid } = wanted;
    match introspection::choose(&tasks, taskarn.as_deref(), dockerid.as_deref()) {
        Choice::All => json(StatusCode::OK, &serde_json::json!({ "Tasks": tasks })),
        Choice::One(task) => json(StatusCode::OK, task),
        Choice::Unknown => json(StatusCode::NOT_FOUND, &TaskDocument::default()),
        Choice::Ambiguous => json(StatusCode::BAD_REQUEST, &TaskDocument::default()),
    }
}

/// Lets the host itself in, and others when the setting says so (CVE-2025-9039 was ECS' agent letting everybody in).
async fn guard(
    State(facts): State<Arc<Facts>>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    request: Request,
    next: Next,
) -> Response {
    let peer = peer.ip().to_canonical();
    if facts.offhost || peer.is_loopback() || metadata::is_own_address(peer).await {
        return next.run(request).await;
    }
    let words =
        "Introspection is for this host; ECS_ALLOW_OFFHOST_INTROSPECTION_ACCESS opens it.\n";
    (StatusCode::FORBIDDEN, words).into_response()
}
