//! Where the traces of rollouts go. What they say is the core's; the way to a collector is there with the feature `otlp` alone.

use tallyman_operator_core::traces::Span;
use tokio::sync::mpsc;

/// Variables of OpenTelemetry that name a collector.
const ENDPOINTS: [&str; 2] = [
    "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
    "OTEL_EXPORTER_OTLP_ENDPOINT",
];

/// Looks at rollouts that may wait for a collector that is away.
#[cfg(feature = "otlp")]
const WAITING: usize = 256;

/// Takes spans, and never makes a pass wait.
#[derive(Clone, Debug, Default)]
pub struct Outlet {
    queue: Option<mpsc::Sender<Vec<Span>>>,
}

impl Outlet {
    /// To the collector that OTEL_EXPORTER_OTLP_ENDPOINT names; nowhere without one.
    ///
    /// # Errors
    /// When the settings are not usable.
    pub fn from_env() -> anyhow::Result<Outlet> {
        let named = |name: &&&str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        match ENDPOINTS.iter().find(named) {
            None => Ok(Outlet::default()),
            Some(name) => Outlet::open(name),
        }
    }

    #[cfg(not(feature = "otlp"))]
    fn open(name: &str) -> anyhow::Result<Outlet> {
        tracing::warn!(
            "{name} is set, and this operator was built without the feature `otlp`: no traces are sent"
        );
        Ok(Outlet::default())
    }

    #[cfg(feature = "otlp")]
    fn open(name: &str) -> anyhow::Result<Outlet> {
        let exporter = tallyman_operator_otlp::Exporter::new(None, env!("CARGO_PKG_VERSION"))?;
        let (queue, waiting) = mpsc::channel(WAITING);
        tokio::spawn(export(exporter, waiting));
        tracing::info!("traces of rollouts go where {name} says");
        Ok(Outlet { queue: Some(queue) })
    }

    /// Somebody listens.
    pub fn is_open(&self) -> bool {
        self.queue.is_some()
    }

    /// Sends spans as soon as the collector takes them. Those that find no room are lost, which the log says.
    pub fn tell(&self, spans: Vec<Span>) {
        if let Some(queue) = self.queue.as_ref().filter(|_| !spans.is_empty())
            && let Err(error) = queue.try_send(spans)
        {
            tracing::warn!(%error, "spans of rollouts are lost");
        }
    }
}

/// Sends what waits, and tries again for half a minute when the collector does not take it.
#[cfg(feature = "otlp")]
async fn export(
    exporter: tallyman_operator_otlp::Exporter,
    mut waiting: mpsc::Receiver<Vec<Span>>,
) {
    use std::time::Duration;

    while let Some(spans) = waiting.recv().await {
        let mut pause = Duration::from_secs(1);
        while let Err(error) = exporter.export(&spans).await {
            let error = format!("{:#}", anyhow::Error::from(error));
            if pause > Duration::from_secs(16) {
                let lost = spans.len();
                tracing::warn!(error, lost, "spans of rollouts are lost");
                break;
            }
            tracing::debug!(error, "the collector takes no spans yet");
            tokio::time::sleep(pause).await;
            pause *= 2;
        }
    }
}
