//! HTTP for the host itself: health checks, and the introspection API that ECS hosts have
//! (ECS agent introspection). Answers come from memory; the engine is never asked.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Context;
use axum::Router;
use axum::extract::{RawQuery, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde::Serialize;
use tallyman_agent_core::{AssignedTask, Desired, TaskRecord, TaskUid};
use tallyman_agent_engine::{Counts, Verb};
use tallyman_crds::LastStatus;
use tokio::net::TcpListener;
use tracing::info;

/// A task as `GET /v1/tasks` shows it.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct TaskView {
    arn: String,
    desired_status: &'static str,
    known_status: &'static str,
    family: String,
    version: String,
    containers: Vec<ContainerView>,
}

/// A container of it.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct ContainerView {
    docker_id: String,
    docker_name: String,
    name: String,
    image: String,
}

/// What is shown of a task.
pub fn view(task: &AssignedTask, record: &TaskRecord, namespace: &str) -> TaskView {
    TaskView {
        arn: format!("{namespace}/{}", record.name),
        desired_status: match (&task.desired, record.is_stopped()) {
            (Desired::Run, false) => LastStatus::Running.as_str(),
            (Desired::Stop { .. }, _) | (Desired::Run, true) => LastStatus::Stopped.as_str(),
        },
        known_status: record.last_status.as_str(),
        family: record.family.clone(),
        version: record.revision.to_string(),
        containers: task
            .defined()
            .filter_map(|container| {
                let known = record.containers.get(&container.name)?;
                Some(ContainerView {
                    docker_id: known.runtime_id.clone()?,
                    docker_name: container.engine_name(known.attempt),
                    name: container.name.clone(),
                    image: known.image.clone(),
                })
            })
            .collect(),
    }
}

/// What the answers are made from.
pub struct Facts {
    /// Cluster, once a plan named it.
    pub cluster: Mutex<String>,
    /// `<namespace>/<name>` of the ContainerInstance.
    pub container_instance: String,
    /// A plan is at hand and containers were listed.
    pub ready: AtomicBool,
    /// What was asked of the engine.
    pub counts: Arc<Counts>,
    /// Shown tasks.
    pub tasks: Box<dyn Fn() -> BTreeMap<TaskUid, TaskView> + Send + Sync>,
}

/// Serves until dropped.
///
/// # Errors
/// The address is taken.
pub async fn serve(address: SocketAddr, facts: Arc<Facts>) -> anyhow::Result<()> {
    let routes = Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .route("/v1/metadata", get(metadata))
        .route("/v1/tasks", get(tasks))
        .with_state(facts);
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

/// Counters in the Prometheus text format.
async fn metrics(State(facts): State<Arc<Facts>>) -> Response {
    let mut text = String::new();
    let mut family = |name: &str, help: &str, pick: fn((Verb, u64, u64)) -> (Verb, u64)| {
        text.push_str(&format!("# HELP {name} {help}\n# TYPE {name} counter\n"));
        for (verb, count) in facts.counts.read().map(pick) {
            text.push_str(&format!("{name}{{verb=\"{verb}\"}} {count}\n"));
        }
    };
    family(
        "tallyman_agent_engine_calls_total",
        "Calls to the container engine.",
        |(verb, calls, _)| (verb, calls),
    );
    family(
        "tallyman_agent_engine_failures_total",
        "Calls to the container engine that failed.",
        |(verb, _, failures)| (verb, failures),
    );
    let content_type = "text/plain; version=0.0.4; charset=utf-8";
    ([(header::CONTENT_TYPE, content_type)], text).into_response()
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
    json(
        StatusCode::OK,
        &serde_json::json!({
            "Cluster": cluster,
            "ContainerInstanceArn": facts.container_instance,
            "Version": format!("Tallyman agent - v{}", env!("CARGO_PKG_VERSION")),
        }),
    )
}

/// All tasks, or with `taskarn` or `dockerid` (its first 12 digits do) a single one.
async fn tasks(State(facts): State<Arc<Facts>>, RawQuery(query): RawQuery) -> Response {
    let tasks: Vec<TaskView> = (facts.tasks)().into_values().collect();
    match choose(&tasks, query.as_deref().unwrap_or_default()) {
        Choice::All => json(StatusCode::OK, &serde_json::json!({ "Tasks": tasks })),
        Choice::One(task) => json(StatusCode::OK, task),
        Choice::Unknown => json(StatusCode::NOT_FOUND, &serde_json::json!({})),
        Choice::Ambiguous => json(StatusCode::BAD_REQUEST, &serde_json::json!({})),
    }
}

enum Choice<'a> {
    All,
    One(&'a TaskView),
    Unknown,
    Ambiguous,
}

fn choose<'a>(tasks: &'a [TaskView], query: &str) -> Choice<'a> {
    let value = |name: &str| {
        query
            .split('&')
            .find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))
    };
    let decoded = |text: &str| {
        text.replace("%2F", "/")
            .replace("%2f", "/")
            .replace("%3A", ":")
    };
    let found: Vec<&TaskView> = match (value("taskarn"), value("dockerid")) {
        (None, None) => return Choice::All,
        (Some(_), Some(_)) => return Choice::Ambiguous,
        (Some(arn), None) => {
            let arn = decoded(arn);
            tasks.iter().filter(|task| task.arn == arn).collect()
        }
        (None, Some(id)) => tasks
            .iter()
            .filter(|task| {
                task.containers.iter().any(|container| {
                    container.docker_id == id
                        || (id.len() <= 12 && !id.is_empty() && container.docker_id.starts_with(id))
                })
            })
            .collect(),
    };
    match found.as_slice() {
        [] => Choice::Unknown,
        [one] => Choice::One(one),
        _ => Choice::Ambiguous,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn task(arn: &str, id: &str) -> TaskView {
        TaskView {
            arn: arn.to_owned(),
            containers: vec![ContainerView {
                docker_id: id.to_owned(),
                ..Default::default()
            }],
            ..TaskView::default()
        }
    }

    #[test]
    fn tasks_are_chosen_as_ecs_does() {
        let tasks = [
            task("shop/a", "aaaabbbbcccc11"),
            task("shop/b", "aaaabbbbdddd22"),
        ];
        assert!(matches!(choose(&tasks, ""), Choice::All));
        assert!(matches!(choose(&tasks, "taskarn=shop%2Fa"), Choice::One(t) if t.arn == "shop/a"));
        assert!(
            matches!(choose(&tasks, "dockerid=aaaabbbbdddd"), Choice::One(t) if t.arn == "shop/b")
        );
        assert!(matches!(choose(&tasks, "dockerid=aaaa"), Choice::Ambiguous));
        assert!(matches!(choose(&tasks, "dockerid=ff"), Choice::Unknown));
        assert!(matches!(
            choose(&tasks, "dockerid=aaaa&taskarn=x"),
            Choice::Ambiguous
        ));
    }
}
