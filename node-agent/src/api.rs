//! The API server: clients, names, and what its answers mean.

use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use axum::http::HeaderValue;
use axum::http::header::USER_AGENT;
use kube::api::{Patch, PatchParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::core::Request;
use kube::{Client, Config};
use serde::de::IgnoredAny;
use serde_json::Value;
use tallyman_agent_core::Delivery;

/// No answer takes longer; it is asked again.
const PATIENCE: Duration = Duration::from_secs(15);
/// For a lease every attempt must fit several times into the grace that the operator allows.
const LEASE_PATIENCE: Duration = Duration::from_secs(5);

/// Where the host's objects are, and how to reach them.
#[derive(Clone)]
pub struct Api {
    /// For plan, status and token.
    pub client: Client,
    /// For the lease alone, so that nothing else can delay it.
    pub lease_client: Client,
    /// Namespace of the host's objects.
    pub namespace: String,
    /// Name of the ContainerInstance, and of the HostPlan.
    pub name: String,
}

/// The connection settings of the process.
///
/// # Errors
/// There is no kubeconfig, or it cannot be read.
pub async fn config(kubeconfig: Option<&Path>) -> anyhow::Result<Config> {
    let mut config = match kubeconfig {
        Some(path) => {
            let read = Kubeconfig::read_from(path)
                .with_context(|| format!("cannot read kubeconfig {}", path.display()))?;
            Config::from_custom_kubeconfig(read, &KubeConfigOptions::default())
                .await
                .with_context(|| format!("kubeconfig {} is not usable", path.display()))?
        }
        None => Config::infer()
            .await
            .context("no way to the API server: give --kubeconfig, or set KUBECONFIG")?,
    };
    // Retries are ours: the client's own may keep a call for minutes (ecosystem 2.2).
    config.default_retry = false;
    config.connect_timeout = Some(LEASE_PATIENCE);
    let agent = concat!("tallyman-agent/", env!("CARGO_PKG_VERSION"));
    config
        .headers
        .push((USER_AGENT, HeaderValue::from_static(agent)));
    Ok(config)
}

impl Api {
    /// Two clients for one configuration.
    ///
    /// # Errors
    /// Certificates or token cannot be read.
    pub fn connect(config: &Config, namespace: &str, name: &str) -> anyhow::Result<Self> {
        let mut lease = config.clone();
        lease.read_timeout = Some(LEASE_PATIENCE);
        lease.write_timeout = Some(LEASE_PATIENCE);
        Ok(Self {
            client: Client::try_from(config.clone()).context("cannot set up the client")?,
            lease_client: Client::try_from(lease).context("cannot set up the lease client")?,
            namespace: namespace.to_owned(),
            name: name.to_owned(),
        })
    }

    /// Merge-patches the status of one of our kinds. What comes back is not looked at.
    pub async fn patch_status(&self, plural: &str, name: &str, body: &Value) -> Delivery {
        let path = format!(
            "/apis/{}/{}/namespaces/{}/{plural}",
            tallyman_crds::GROUP,
            tallyman_crds::VERSION,
            self.namespace
        );
        let request = Request::new(path).patch_subresource(
            "status",
            name,
            &PatchParams::default(),
            &Patch::Merge(body),
        );
        let request = match request {
            Ok(request) => request,
            Err(error) => return Delivery::Failed(error.to_string()),
        };
        let answer =
            tokio::time::timeout(PATIENCE, self.client.request::<IgnoredAny>(request)).await;
        match answer {
            Ok(Ok(_)) => Delivery::Accepted,
            Ok(Err(error)) => delivery(&error),
            Err(_) => Delivery::Failed(format!("no answer within {} s", PATIENCE.as_secs())),
        }
    }

    /// Merge-patches the host's Lease.
    ///
    /// # Errors
    /// Whatever went wrong, in words.
    pub async fn patch_lease(&self, name: &str, body: &Value) -> Result<(), String> {
        let path = format!(
            "/apis/coordination.k8s.io/v1/namespaces/{}/leases",
            self.namespace
        );
        let request = Request::new(path)
            .patch(name, &PatchParams::default(), &Patch::Merge(body))
            .map_err(|error| error.to_string())?;
        let call = self.lease_client.request::<IgnoredAny>(request);
        match tokio::time::timeout(LEASE_PATIENCE, call).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(words(&error)),
            Err(_) => Err(format!("no answer within {} s", LEASE_PATIENCE.as_secs())),
        }
    }
}

/// What an error means for a report.
fn delivery(error: &kube::Error) -> Delivery {
    match error {
        kube::Error::Api(status) => match status.code {
            // 409: the uid in the patch is another one, so the Task of that uid is gone.
            404 | 409 => Delivery::Gone,
            403 | 422 => Delivery::Refused(status.message.clone()),
            _ => Delivery::Failed(words(error)),
        },
        _ => Delivery::Failed(words(error)),
    }
}

/// An error with its causes, once each.
pub fn words(error: &kube::Error) -> String {
    if let kube::Error::Api(status) = error {
        return format!("{} ({})", status.message, status.code);
    }
    let mut words = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        let next = cause.to_string();
        if !words.contains(&next) {
            words.push_str(": ");
            words.push_str(&next);
        }
        source = cause.source();
    }
    words
}
