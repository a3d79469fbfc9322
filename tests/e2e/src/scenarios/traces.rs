//! A rollout as a trace: the operator of the lab sends to a collector in this process. Scenarios that roll ask what it got.

use std::collections::BTreeMap;
use std::sync::{Mutex, OnceLock, PoisonError};

use anyhow::{Context as _, Result, ensure};
use axum::Router;
use axum::body::Bytes;
use axum::http::StatusCode;
use axum::routing::post;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::common::v1::any_value::Value as Attribute;
use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode as Outcome;
use prost::Message as _;
use tallyman_lab::wait_until;

use crate::user::{PATIENCE, User};

/// Spans that the collector got.
static RECEIVED: Mutex<Vec<Span>> = Mutex::new(Vec::new());

/// Where the collector of this process is; the first who asks starts it.
///
/// # Errors
/// When there is no port.
pub fn endpoint() -> Result<&'static str> {
    static ENDPOINT: OnceLock<String> = OnceLock::new();
    if let Some(endpoint) = ENDPOINT.get() {
        return Ok(endpoint);
    }
    let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    listener.set_nonblocking(true)?;
    let endpoint = format!("http://{}", listener.local_addr()?);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    std::thread::spawn(move || {
        runtime.block_on(async move {
            let listener = tokio::net::TcpListener::from_std(listener)?;
            let router = Router::new().route("/v1/traces", post(take));
            axum::serve(listener, router).await
        })
    });
    Ok(ENDPOINT.get_or_init(|| endpoint))
}

async fn take(body: Bytes) -> StatusCode {
    let Ok(request) = ExportTraceServiceRequest::decode(body) else {
        return StatusCode::BAD_REQUEST;
    };
    let scopes = request
        .resource_spans
        .into_iter()
        .flat_map(|r| r.scope_spans);
    let spans = scopes.flat_map(|scope| scope.spans);
    let mut received = RECEIVED.lock().unwrap_or_else(PoisonError::into_inner);
    received.extend(spans);
    StatusCode::OK
}

fn attribute<'a>(span: &'a Span, name: &str) -> Option<&'a str> {
    let found = span.attributes.iter().find(|a: &&KeyValue| a.key == name)?;
    match found.value.as_ref()?.value.as_ref()? {
        Attribute::StringValue(text) => Some(text),
        _ => None,
    }
}

/// The whole trace of a deployment, once that has ended: each span once, by id.
fn trace_of(deployment: &str) -> Result<(Span, BTreeMap<Vec<u8>, Span>)> {
    wait_until(format!("the trace of {deployment}"), PATIENCE, || {
        let received = RECEIVED.lock().unwrap_or_else(PoisonError::into_inner);
        let is = |s: &&Span| attribute(s, "tallyman.deployment") == Some(deployment);
        let Some(whole) = received.iter().find(is) else {
            return Ok(None);
        };
        let mut spans = BTreeMap::new();
        for span in received.iter().filter(|s| s.trace_id == whole.trace_id) {
            let before = spans.insert(span.span_id.clone(), span.clone());
            ensure!(
                before.is_none_or(|before| before == *span),
                "told twice and differently: {span:?}"
            );
        }
        Ok(Some((whole.clone(), spans)))
    })
}

fn below<'a>(spans: &'a BTreeMap<Vec<u8>, Span>, parent: &Span) -> Vec<&'a Span> {
    let is = |s: &&Span| s.parent_span_id == parent.span_id;
    spans.values().filter(is).collect()
}

/// The rollout of `service` to `revision` is told as one tree: `count` tasks that came up, and as many that stopped.
///
/// # Errors
/// When it is not.
pub fn one_tree(user: &User<'_>, service: &str, revision: &str, count: usize) -> Result<()> {
    let deployment = wait_until("the rollout to be completed", PATIENCE, || {
        let s = user.get("services", service)?;
        let primary = &s["status"]["deployments"][0];
        let done = primary["taskDefinition"] == revision && primary["rolloutState"] == "COMPLETED";
        let id = primary["id"].as_str().unwrap_or_default();
        Ok(done.then(|| id.to_owned()))
    })?;
    let log = std::fs::read_to_string(user.lab.operator().log_path())?;
    ensure!(
        !log.contains("without the feature `otlp`"),
        "the operator tells no traces: cargo build --workspace --bins --features tallyman-operator/otlp"
    );
    let (whole, spans) = trace_of(&deployment)?;
    let outcome = whole.status.as_ref().map(|s| s.code());
    ensure!(
        whole.name == format!("rollout {service}") && outcome == Some(Outcome::Ok),
        "{whole:?}"
    );
    ensure!(
        attribute(&whole, "tallyman.rollout_state") == Some("COMPLETED"),
        "{whole:?}"
    );
    let children = below(&spans, &whole);
    let named = |word: &str| children.iter().filter(|s| s.name.starts_with(word)).count();
    ensure!(
        named("task ") == count && named("stop ") == count && children.len() == 2 * count,
        "{children:#?}"
    );
    let mut steps = 0;
    for child in children {
        let host = attribute(child, "host.name").context("no host")?;
        ensure!(host.starts_with("host-"), "{child:?}");
        if !child.name.starts_with("task ") {
            continue;
        }
        ensure!(
            whole.start_time_unix_nano <= child.start_time_unix_nano
                && child.end_time_unix_nano <= whole.end_time_unix_nano,
            "{child:?} is not within {whole:?}"
        );
        let phases = below(&spans, child);
        let has = |name: &str| phases.iter().any(|s| s.name == name);
        ensure!(has("accept") && has("start"), "{phases:#?}");
        steps += phases.len();
    }
    ensure!(
        spans.len() == 1 + 2 * count + steps,
        "spans hang in the air: {spans:#?}"
    );
    Ok(())
}
