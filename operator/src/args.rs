//! Command line of the operator. Every flag has an environment variable of the same name.

use std::time::Duration;

use clap::Parser;
use tallyman_operator_core::quotas::Quotas;

/// Runs Amazon ECS task definitions and services on plain Docker hosts.
///
/// The operator watches Tallyman's custom resources, decides placement and deployments, and writes each host's plan.
/// One copy leads; others wait for its Lease.
#[derive(Parser, Debug)]
#[command(name = "tallyman-operator", version)]
pub struct Args {
    /// Kubeconfig file. Default: $KUBECONFIG, ~/.kube/config, or the service account of the Pod it runs in.
    #[arg(long, env = "TALLYMAN_KUBECONFIG")]
    pub kubeconfig: Option<std::path::PathBuf>,

    /// Watch this namespace only. Default: all namespaces.
    #[arg(long, env = "TALLYMAN_NAMESPACE")]
    pub namespace: Option<String>,

    /// Address of /healthz, /readyz and /metrics.
    #[arg(long, env = "TALLYMAN_HTTP_ADDRESS", default_value = "127.0.0.1:8080")]
    pub http_address: std::net::SocketAddr,

    /// Namespace of the Lease by which one of several operators leads.
    #[arg(
        long,
        env = "TALLYMAN_LEASE_NAMESPACE",
        default_value = "tallyman-system"
    )]
    pub lease_namespace: String,

    /// How long a leader that is not heard of keeps the lead.
    #[arg(long, env = "TALLYMAN_LEASE_DURATION", default_value = "15s", value_parser = duration)]
    pub lease_duration: Duration,

    /// How long a task without container health check must run before it counts as healthy in a deployment (ECS: 40s).
    #[arg(long, env = "TALLYMAN_HEALTHY_AFTER", default_value = "40s", value_parser = duration)]
    pub healthy_after: Duration,

    /// How long a STOPPED task is kept.
    #[arg(long, env = "TALLYMAN_TASK_RETENTION", default_value = "1h", value_parser = duration)]
    pub task_retention: Duration,

    /// Silence after which a host's agent counts as disconnected: no task is placed there.
    #[arg(long, env = "TALLYMAN_AGENT_GRACE", default_value = "50s", value_parser = duration)]
    pub agent_grace: Duration,

    /// Silence after which a host's service tasks are replaced elsewhere.
    #[arg(long, env = "TALLYMAN_REPLACE_AFTER", default_value = "5m", value_parser = duration)]
    pub replace_after: Duration,

    /// Container instances that a cluster may have (an ECS quota).
    #[arg(long, env = "TALLYMAN_INSTANCES_PER_CLUSTER", default_value_t = Quotas::default().instances_per_cluster)]
    pub instances_per_cluster: usize,

    /// Services that a cluster may have (an ECS quota).
    #[arg(long, env = "TALLYMAN_SERVICES_PER_CLUSTER", default_value_t = Quotas::default().services_per_cluster)]
    pub services_per_cluster: usize,

    /// Tasks that a service may want (an ECS quota).
    #[arg(long, env = "TALLYMAN_TASKS_PER_SERVICE", default_value_t = Quotas::default().tasks_per_service)]
    pub tasks_per_service: i64,

    /// Tasks of a service that are started within a minute (an ECS quota).
    #[arg(long, env = "TALLYMAN_LAUNCHES_PER_MINUTE", default_value_t = Quotas::default().launches_per_minute)]
    pub launches_per_minute: usize,

    /// Task sets that a service may have (an ECS quota).
    #[arg(long, env = "TALLYMAN_TASK_SETS_PER_SERVICE", default_value_t = Quotas::default().task_sets_per_service)]
    pub task_sets_per_service: usize,

    /// Form of the log.
    #[arg(long, env = "TALLYMAN_LOG_FORMAT", default_value = "text", value_parser = ["text", "json"])]
    pub log_format: String,
}

/// Parses `500ms`, `40s`, `5m`, `1h`.
fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("must be a duration such as 500ms, 40s, 5m or 1h, not '{text}'");
    let span: jiff::SignedDuration = text.parse().map_err(|_| wrong())?;
    Duration::try_from(span).map_err(|_| wrong())
}
