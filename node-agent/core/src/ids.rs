//! Identities and fences: newtypes that keep one string from being taken for another.

use std::fmt;

use serde::{Deserialize, Serialize};

/// `metadata.uid` of a Task. Task names may be used again after deletion; uids never are.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TaskUid(String);

impl TaskUid {
    /// Takes any string as the API server gave it.
    pub fn new(uid: impl Into<String>) -> Self {
        Self(uid.into())
    }

    /// The uid as the API server spells it.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for TaskUid {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

/// Which plan is newer: first the leader's epoch, then the generation. Compared in this order, so a
/// deposed leader's late write loses against any write of its successor.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Fence {
    /// `spec.leaderEpoch`: which leader wrote the plan.
    pub epoch: i64,
    /// `spec.generation`: rises with every write.
    pub generation: i64,
}

impl fmt::Display for Fence {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            out,
            "generation {} of leader {}",
            self.generation, self.epoch
        )
    }
}
