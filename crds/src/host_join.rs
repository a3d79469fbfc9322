//! `HostJoin`: leave for one host to join.

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::conditions::Condition;
use crate::patterns;
use crate::rules;

/// Leave for one host to join, once. The operator answers with a ServiceAccount `tallyman-join-<name>`; a token of it lets a
/// host ask, and nothing else. What the host is given when it is accepted is sealed to the key that it asked with. Who may
/// create or change these objects decides which machines run this namespace's tasks. The object's name is at most 40
/// characters long.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "tallyman.dev",
    version = "v1alpha1",
    doc = "Leave for one host to join, once.",
    kind = "HostJoin",
    plural = "hostjoins",
    shortname = "hjoin",
    category = "tallyman",
    namespaced,
    status = "HostJoinStatus"
)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = rules::on("HostJoinSpec")))]
pub struct HostJoinSpec {
    /// Name of the ContainerInstance that the host becomes. It may exist already, applied by hand or from Git, or be one
    /// that was locked out; otherwise the operator makes it. Default: the name that the host asks for, which must be free.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 40), regex(pattern = patterns::OBJECT_NAME))]
    pub container_instance: Option<String>,
    /// Cluster of a ContainerInstance that the operator makes. Default `default`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 255), regex(pattern = patterns::REFERENCE), extend("default" = "default"))]
    pub cluster: Option<String>,
    /// Manual: somebody names the host's key in `acceptedKey` first. Automatic: whoever asks first with the token is
    /// accepted. Default Manual.
    #[serde(default)]
    pub accept: Acceptance,
    /// Fingerprint of the key that is accepted, `sha256:` and 64 hexadecimal digits, as `tallyman-agent join` prints it on the
    /// host and `status.keyFingerprint` has it. A host with another key is not accepted, whatever `accept` says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 71), regex(pattern = patterns::FINGERPRINT))]
    pub accepted_key: Option<String>,
    /// For how long after its creation a host can join, in seconds. From 60 to 86400 (a day), default 3600.
    #[serde(
        default,
        deserialize_with = "crate::numbers::whole_or_none",
        skip_serializing_if = "Option::is_none"
    )]
    #[schemars(range(min = 60, max = 86400), extend("default" = 3600))]
    pub expires_after_seconds: Option<i32>,
}

/// Who says that a host may join.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
pub enum Acceptance {
    /// Somebody who compares keys.
    #[default]
    Manual,
    /// Who made the HostJoin, in advance.
    Automatic,
}

/// What became of a HostJoin. The part `request` is written by the host that asks, everything else by the operator.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = rules::on("HostJoinStatus")))]
pub struct HostJoinStatus {
    /// Generation of the spec that this status speaks of; -1 until the operator has seen the object.
    #[serde(
        default = "crate::conditions::unobserved",
        deserialize_with = "crate::numbers::whole"
    )]
    #[schemars(range(min = -1))]
    pub observed_generation: i64,
    /// `Ready` once the host has joined; `Stalled` with the reason when it cannot.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
    /// What the host asks; it alone writes this part, until it is admitted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<JoinRequest>,
    /// `request.id` that the conditions answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub answered: Option<String>,
    /// Fingerprint of the key that the host asks with, to be compared with what the host shows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 71))]
    pub key_fingerprint: Option<String>,
    /// The ContainerInstance that the host was admitted as. From then on the token is used up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 63))]
    pub container_instance: Option<String>,
    /// The first token of the host, sealed to its key; taken away some minutes after the host has joined.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32768))]
    pub sealed_token: Option<String>,
}

impl Default for HostJoinStatus {
    fn default() -> Self {
        Self {
            observed_generation: crate::conditions::UNOBSERVED,
            conditions: Vec::new(),
            request: None,
            answered: None,
            key_fingerprint: None,
            container_instance: None,
            sealed_token: None,
        }
    }
}

/// What a host asks.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct JoinRequest {
    /// Differs from request to request.
    #[schemars(length(min = 1, max = 64))]
    pub id: String,
    /// Public key of the host (X25519) in base64. Its private half never leaves the host.
    #[schemars(length(min = 44, max = 44))]
    pub public_key: String,
    /// Name of the ContainerInstance that the host wants to be.
    #[schemars(length(min = 1, max = 40), regex(pattern = patterns::OBJECT_NAME))]
    pub container_instance: String,
}
