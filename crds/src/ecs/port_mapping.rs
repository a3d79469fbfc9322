//! How a container's ports are published on its host.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::patterns;
use crate::rules;

/// Protocol of a published port.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
pub enum TransportProtocol {
    /// TCP.
    #[serde(rename = "tcp")]
    Tcp,
    /// UDP.
    #[serde(rename = "udp")]
    Udp,
}

/// What is spoken over a port, for Service Connect.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
pub enum ApplicationProtocol {
    /// HTTP/1.1.
    #[serde(rename = "http")]
    Http,
    /// HTTP/2.
    #[serde(rename = "http2")]
    Http2,
    /// gRPC.
    #[serde(rename = "grpc")]
    Grpc,
}

/// One published port, or one range of them (ECS `PortMapping`).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = rules::on("PortMapping")))]
pub struct PortMapping {
    /// Port inside the container, 1 to 65535. Either this or `containerPortRange`.
    #[serde(
        default,
        deserialize_with = "crate::numbers::whole_or_none",
        skip_serializing_if = "Option::is_none"
    )]
    #[schemars(range(min = 1, max = 65535))]
    pub container_port: Option<i32>,
    /// Port on the host. Absent or 0 with network mode `bridge`: the agent takes a free one. With
    /// `host` and `awsvpc`: absent, 0 or equal to `containerPort`.
    #[serde(
        default,
        deserialize_with = "crate::numbers::whole_or_none",
        skip_serializing_if = "Option::is_none"
    )]
    #[schemars(range(min = 0, max = 65535))]
    pub host_port: Option<i32>,
    /// `tcp` or `udp`. Default `tcp`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("default" = "tcp"))]
    pub protocol: Option<TransportProtocol>,
    /// Name of the port for Service Connect, up to 64 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub name: Option<String>,
    /// What is spoken over the port; plain TCP when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub app_protocol: Option<ApplicationProtocol>,
    /// Ports `first-last` inside the container, each published on a free port of the host. Not
    /// together with `containerPort` or `hostPort`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 11), regex(pattern = patterns::PORT_RANGE))]
    pub container_port_range: Option<String>,
}
