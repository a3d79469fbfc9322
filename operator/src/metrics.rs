//! Counters that /metrics shows.

use std::sync::Mutex;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

/// Labels of a write.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct WriteLabels {
    /// `create`, `patch`, `replace`, `delete`.
    pub verb: &'static str,
    /// Plural of the kind.
    pub resource: &'static str,
    /// `ok`, `exists`, `conflict`, `gone`, `error`.
    pub result: &'static str,
}

/// All metrics of the operator.
#[derive(Debug)]
pub struct Metrics {
    registry: Mutex<Registry>,
    /// Writes to the API server.
    pub writes: Family<WriteLabels, Counter>,
    /// Seconds from the start of a pass to the end of its writes.
    pub pass_seconds: Histogram,
    /// 1 while this copy leads.
    pub leader: Gauge,
}

impl Metrics {
    /// Registers all metrics.
    pub fn new() -> Metrics {
        let mut registry = Registry::with_prefix("tallyman_operator");
        let metrics = Metrics {
            writes: Family::default(),
            pass_seconds: Histogram::new(exponential_buckets(0.0005, 2.0, 16)),
            leader: Gauge::default(),
            registry: Mutex::new(Registry::default()),
        };
        registry.register(
            "api_writes",
            "Writes to the API server",
            metrics.writes.clone(),
        );
        registry.register(
            "pass_seconds",
            "Duration of a pass",
            metrics.pass_seconds.clone(),
        );
        registry.register("leader", "1 while this copy leads", metrics.leader.clone());
        Metrics {
            registry: Mutex::new(registry),
            ..metrics
        }
    }

    /// Counts a write.
    pub fn wrote(&self, verb: &'static str, resource: &'static str, result: &'static str) {
        self.writes
            .get_or_create(&WriteLabels {
                verb,
                resource,
                result,
            })
            .inc();
    }

    /// The metrics in OpenMetrics text.
    pub fn text(&self) -> String {
        let mut text = String::new();
        let registry = self
            .registry
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        // Writing to a String does not fail.
        let _ = encode(&mut text, &registry);
        text
    }
}
