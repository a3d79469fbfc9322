//! Sends what the operator's core tells of rollouts (`traces`) to a collector of OpenTelemetry: OTLP in protobuf over HTTP.
//!
//! A crate of its own, so that the operator has it only with its feature `otlp`, and every test has it without building anything twice.
//! Spans come finished and with their ids, so there is no tracer and nothing global: only the exporter of the SDK, over the client
//! that speaks to the API server, too. It decides nothing and remembers nothing.

mod client;

use std::time::SystemTime;

use opentelemetry::trace::{SpanContext, SpanKind, Status, TraceFlags, TraceState};
use opentelemetry::{InstrumentationScope, KeyValue};
use opentelemetry_otlp::{SpanExporter, WithExportConfig as _, WithHttpConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{SpanData, SpanEvents, SpanExporter as _, SpanLinks};
use tallyman_operator_core::traces::{Outcome, Span};

use client::Client;

/// Variables that say where the collector is; the first that is set counts.
const ENDPOINTS: [&str; 2] = [
    opentelemetry_otlp::OTEL_EXPORTER_OTLP_TRACES_ENDPOINT,
    opentelemetry_otlp::OTEL_EXPORTER_OTLP_ENDPOINT,
];

/// Name of the service that the operator is to whoever looks at traces, unless OTEL_SERVICE_NAME has another.
const SERVICE: &str = "tallyman-operator";

/// Nothing can be sent with these settings.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A variable holds what it must not.
    #[error("the settings for OTLP (OTEL_EXPORTER_OTLP_...) are not usable")]
    Settings(#[source] opentelemetry_otlp::ExporterBuildError),
    /// The endpoint asks for TLS, and there is nobody to trust.
    #[error(
        "the endpoint for OTLP is https, and no certificate authorities were found: install ca-certificates, or set SSL_CERT_FILE"
    )]
    Authorities(#[source] rustls::Error),
}

/// The collector did not take what it was sent; it may later.
#[derive(Debug, thiserror::Error)]
#[error("the collector did not take spans")]
pub struct ExportError(#[source] opentelemetry_sdk::error::OTelSdkError);

/// The way to a collector.
#[derive(Debug)]
pub struct Exporter {
    inner: SpanExporter,
    scope: InstrumentationScope,
}

impl Exporter {
    /// To the collector that the variables of OpenTelemetry name (OTEL_EXPORTER_OTLP_ENDPOINT and others), or to `endpoint`, which is
    /// the whole address. `version` is the operator's.
    ///
    /// # Errors
    /// When the settings are not usable. Whether anybody answers there is not tried.
    pub fn new(endpoint: Option<&str>, version: &str) -> Result<Exporter, ConfigError> {
        let mut addresses = endpoint.map(str::to_owned).into_iter().chain(variables());
        let tls = addresses.next().is_some_and(|a| a.starts_with("https:"));
        let client = Client::new(tls).map_err(ConfigError::Authorities)?;
        let mut builder = SpanExporter::builder().with_http().with_http_client(client);
        if let Some(endpoint) = endpoint {
            builder = builder.with_endpoint(endpoint);
        }
        let mut inner = builder.build().map_err(ConfigError::Settings)?;
        inner.set_resource(&resource(version));
        let scope = InstrumentationScope::builder("tallyman").with_version(version.to_owned());
        Ok(Exporter {
            inner,
            scope: scope.build(),
        })
    }

    /// Sends spans.
    ///
    /// # Errors
    /// When the collector does not answer within ten seconds, or refuses.
    pub async fn export(&self, spans: &[Span]) -> Result<(), ExportError> {
        let data = spans.iter().map(|span| self.data(span)).collect();
        self.inner.export(data).await.map_err(ExportError)
    }

    fn data(&self, span: &Span) -> SpanData {
        let bytes = |id: &[u8; 8]| opentelemetry::trace::SpanId::from_bytes(*id);
        let context = SpanContext::new(
            opentelemetry::trace::TraceId::from_bytes(span.trace.0),
            bytes(&span.id.0),
            TraceFlags::SAMPLED,
            false,
            TraceState::default(),
        );
        let parent = span.parent.map(|parent| bytes(&parent.0));
        let attributes = span.attributes.iter();
        SpanData {
            span_context: context,
            parent_span_id: parent.unwrap_or(opentelemetry::trace::SpanId::INVALID),
            parent_span_is_remote: false,
            span_kind: SpanKind::Internal,
            name: span.name.clone().into(),
            start_time: SystemTime::from(span.start),
            end_time: SystemTime::from(span.end),
            attributes: attributes
                .map(|(name, value)| KeyValue::new(*name, value.clone()))
                .collect(),
            dropped_attributes_count: 0,
            events: SpanEvents::default(),
            links: SpanLinks::default(),
            status: match &span.outcome {
                Outcome::Unset => Status::Unset,
                Outcome::Ok => Status::Ok,
                Outcome::Error(why) => Status::error(why.clone()),
            },
            instrumentation_scope: self.scope.clone(),
        }
    }
}

/// What the variables that name a collector hold.
fn variables() -> impl Iterator<Item = String> {
    let set = ENDPOINTS.iter().filter_map(|name| std::env::var(name).ok());
    set.filter(|value| !value.is_empty())
}

/// Who tells: OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES add to it.
fn resource(version: &str) -> Resource {
    let named = std::env::var_os("OTEL_SERVICE_NAME").is_some()
        || std::env::var("OTEL_RESOURCE_ATTRIBUTES").is_ok_and(|a| a.contains("service.name="));
    let mut builder = Resource::builder();
    if !named {
        builder = builder.with_service_name(SERVICE);
    }
    builder
        .with_attribute(KeyValue::new("service.version", version.to_owned()))
        .build()
}
