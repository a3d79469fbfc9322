//! What a collector receives: spans are sent to one on loopback, which decodes them with OpenTelemetry's own types.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use opentelemetry_proto::tonic::trace::v1::status::StatusCode as SpanStatus;
use prost::Message as _;
use tallyman_operator_core::traces::{Outcome, Span, SpanId, TraceId};
use tallyman_operator_otlp::Exporter;

type Received = Arc<Mutex<Vec<ExportTraceServiceRequest>>>;

/// A collector that answers with `status`, and its address.
async fn collector(status: StatusCode) -> (String, Received) {
    let received = Received::default();
    let kept = received.clone();
    let take = move |headers: HeaderMap, body: Bytes| async move {
        assert_eq!(headers["content-type"], "application/x-protobuf");
        let request = ExportTraceServiceRequest::decode(body).unwrap();
        kept.lock().unwrap().push(request);
        status
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let router = Router::new().route("/v1/traces", post(take));
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    (format!("http://{address}/v1/traces"), received)
}

fn spans() -> Vec<Span> {
    let whole = Span {
        trace: TraceId([7; 16]),
        id: SpanId([1; 8]),
        parent: None,
        name: "rollout web".to_owned(),
        start: "2026-01-01T00:00:00Z".parse().unwrap(),
        end: "2026-01-01T00:01:00Z".parse().unwrap(),
        attributes: BTreeMap::from([("tallyman.service", "web".to_owned())]),
        outcome: Outcome::Ok,
    };
    let task = Span {
        id: SpanId([2; 8]),
        parent: Some(whole.id),
        name: "task web-000001".to_owned(),
        outcome: Outcome::Error("no such image".to_owned()),
        ..whole.clone()
    };
    vec![whole, task]
}

fn texts(attributes: &[KeyValue]) -> BTreeMap<&str, &str> {
    let text = |value: &Option<AnyValue>| match value.clone()?.value? {
        Value::StringValue(text) => Some(text.leak() as &str),
        _ => None,
    };
    let pairs = attributes.iter();
    pairs
        .filter_map(|a| Some((a.key.as_str(), text(&a.value)?)))
        .collect()
}

#[tokio::test]
async fn a_collector_gets_the_tree() {
    let (address, received) = collector(StatusCode::OK).await;
    let exporter = Exporter::new(Some(&address), "1.2.3").unwrap();
    exporter.export(&spans()).await.unwrap();
    let received = received.lock().unwrap();
    assert_eq!(received.len(), 1, "one request for all");
    let of = &received[0].resource_spans[0];
    let resource = texts(&of.resource.as_ref().unwrap().attributes);
    assert_eq!(resource["service.name"], "tallyman-operator");
    assert_eq!(resource["service.version"], "1.2.3");
    let told = &of.scope_spans[0].spans;
    let [whole, task] = told.as_slice() else {
        panic!("{told:#?}");
    };
    assert_eq!(whole.trace_id, [7; 16]);
    assert_eq!(
        (whole.span_id.as_slice(), whole.parent_span_id.len()),
        ([1; 8].as_slice(), 0)
    );
    assert_eq!(whole.name, "rollout web");
    assert_eq!(
        whole.end_time_unix_nano - whole.start_time_unix_nano,
        60_000_000_000
    );
    assert_eq!(whole.start_time_unix_nano, 1_767_225_600_000_000_000);
    assert_eq!(texts(&whole.attributes)["tallyman.service"], "web");
    assert_eq!(whole.status.as_ref().unwrap().code(), SpanStatus::Ok);
    assert_eq!(
        (&task.trace_id, &task.parent_span_id),
        (&whole.trace_id, &whole.span_id)
    );
    let status = task.status.as_ref().unwrap();
    assert_eq!(
        (status.code(), status.message.as_str()),
        (SpanStatus::Error, "no such image")
    );
}

#[tokio::test]
async fn who_is_not_there_or_refuses_is_told_of() {
    let (address, received) = collector(StatusCode::SERVICE_UNAVAILABLE).await;
    let exporter = Exporter::new(Some(&address), "1.2.3").unwrap();
    exporter.export(&spans()).await.unwrap_err();
    assert!(!received.lock().unwrap().is_empty());
    // The port was free a moment ago.
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}/v1/traces", free.local_addr().unwrap());
    drop(free);
    let exporter = Exporter::new(Some(&address), "1.2.3").unwrap();
    exporter.export(&spans()).await.unwrap_err();
    assert!(Exporter::new(Some("http://no address"), "1.2.3").is_err());
}
