//! Variables of ECS' agent that have no meaning here, and why. They are accepted, so that the environment file
//! of an ECS host can be used as it is, and named in one line of the log.

const AWS: &str = "the agent talks to no AWS service";
const PACKAGED: &str = "the agent is updated as it was installed";
const ENI: &str = "there are no elastic network interfaces";
const ACTIVE_DIRECTORY: &str =
    "group managed service accounts are of Active Directory, a service of Windows";
const WINDOWS: &str = "Windows only";
const METRICS: &str = "containers are measured when /metrics is asked, and not in between";
const INIT: &str = "for the container that ECS' own agent runs in";

/// Variables and reasons, sorted.
pub const VARIABLES: &[(&str, &str)] = &[
    ("AWS_ACCESS_KEY_ID", AWS),
    ("AWS_SECRET_ACCESS_KEY", AWS),
    ("AWS_SESSION_TOKEN", AWS),
    ("CREDENTIALS_FETCHER_HOST", ACTIVE_DIRECTORY),
    (
        "CREDENTIALS_FETCHER_SECRET_NAME_FOR_DOMAINLESS_GMSA",
        ACTIVE_DIRECTORY,
    ),
    ("ECS_AGENT_APPARMOR_PROFILE", INIT),
    ("ECS_AGENT_HEALTHCHECK_HOST", INIT),
    ("ECS_AGENT_LABELS", INIT),
    ("ECS_AGENT_PID_NAMESPACE_HOST", INIT),
    ("ECS_ALTERNATE_CREDENTIAL_PROFILE", AWS),
    ("ECS_AWSVPC_ADDITIONAL_LOCAL_ROUTES", ENI),
    (
        "ECS_BACKEND_HOST",
        "the kubeconfig says where the control plane is",
    ),
    (
        "ECS_CHECKPOINT",
        "plan and records are always kept; a host without them loses nothing, but learns anew",
    ),
    ("ECS_CNI_PLUGINS_PATH", ENI),
    (
        "ECS_CONTAINER_INSTANCE_PROPAGATE_TAGS_FROM",
        "there are no EC2 tags; ECS_CONTAINER_INSTANCE_TAGS and `spec.tags` of the ContainerInstance are told",
    ),
    ("ECS_DETAILED_OS_FAMILY", WINDOWS),
    (
        "ECS_DISABLE_TASK_METADATA_AZ",
        "the availability zone is an attribute that the administrator sets",
    ),
    (
        "ECS_DOCKER_GRAPH_PATH",
        "was dropped by ECS; the engine knows its own folder",
    ),
    ("ECS_EBSTA_SUPPORTED", "there are no EBS volumes"),
    (
        "ECS_ENABLE_AWSLOGS_EXECUTIONROLE_OVERRIDE",
        "the log driver awslogs has the credentials of the engine's own environment",
    ),
    ("ECS_ENABLE_CPU_UNBOUNDED_WINDOWS_WORKAROUND", WINDOWS),
    ("ECS_ENABLE_HIGH_DENSITY_ENI", ENI),
    ("ECS_ENABLE_INF_SUPPORT", "Inferentia is hardware of AWS"),
    ("ECS_ENABLE_MEMORY_UNBOUNDED_WINDOWS_WORKAROUND", WINDOWS),
    (
        "ECS_ENABLE_RUNTIME_STATS",
        "statistics of the Go runtime; /metrics has what there is",
    ),
    (
        "ECS_ENABLE_SPOT_INSTANCE_DRAINING",
        "there are no notices of EC2; set the ContainerInstance to DRAINING",
    ),
    (
        "ECS_EXTERNAL",
        "every host is outside AWS, and none is less for it",
    ),
    ("ECS_FSX_WINDOWS_FILE_SERVER_SUPPORTED", WINDOWS),
    ("ECS_GMSA_SUPPORTED", WINDOWS),
    ("ECS_INSTANCE_IP_COMPATIBILITY", AWS),
    ("ECS_LOG_DRIVER", INIT),
    ("ECS_LOG_OPTS", INIT),
    (
        "ECS_MANIFEST_PULL_TIMEOUT",
        "the digest comes with the pull, not before it",
    ),
    ("ECS_NOIID", AWS),
    (
        "ECS_OFFHOST_INTROSPECTION_INTERFACE_NAME",
        "whoever asks for introspection is known by the address, not by the interface",
    ),
    ("ECS_POLLING_METRICS_WAIT_DURATION", METRICS),
    ("ECS_POLL_METRICS", METRICS),
    ("ECS_RUNTIME_STATS_LOG_FILE", "statistics of the Go runtime"),
    (
        "ECS_SKIP_LOCALHOST_TRAFFIC_FILTER",
        "the agent sets no such filter",
    ),
    ("ECS_UPDATES_ENABLED", PACKAGED),
    ("ECS_UPDATE_DOWNLOAD_DIR", PACKAGED),
    ("ECS_WARM_POOLS_CHECK", AWS),
    (
        "HTTP_PROXY",
        "the API server is reached by HTTPS_PROXY, or `proxy-url` of the kubeconfig; the engine pulls images through its own proxy",
    ),
    (
        "SSL_CERT_DIR",
        "the kubeconfig names the certificate authority",
    ),
    (
        "VOLUME_PLUGIN_CAPABILITIES",
        "of the volume plugin that mounts EFS with IAM; there is no IAM, and other plugins are the engine's to list",
    ),
];

/// Why a variable has no meaning here; `None` when it has one, or is nobody's.
pub fn reason(name: &str) -> Option<&'static str> {
    VARIABLES
        .iter()
        .find(|(known, _)| *known == name)
        .map(|(_, reason)| *reason)
}
