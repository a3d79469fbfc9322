//! Networks of the engine.

use std::collections::BTreeMap;

/// A bridge network that the agent makes for itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetworkSpec {
    /// Name on the engine.
    pub name: String,
    /// Name of the bridge on the host, at most 15 characters. Two networks cannot have one bridge, so that not even an
    /// engine that allows one name twice makes the network twice.
    pub bridge: String,
    /// Labels.
    pub labels: BTreeMap<String, String>,
}
