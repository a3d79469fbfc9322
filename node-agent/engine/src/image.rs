//! Making an image present on the host.

use std::collections::BTreeMap;
use std::fmt;

use crate::{EngineError, Moment};

/// When to ask the registry: ECS's `ECS_IMAGE_PULL_BEHAVIOR` (ECS image pull behavior).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PullBehavior {
    /// Always try to pull; when that fails, use the image the host has.
    #[default]
    Default,
    /// The pull must succeed.
    Always,
    /// Pull only what the host does not have. An image that is on the host counts as pulled, whoever
    /// brought it.
    Once,
    /// Pull only what the host does not have. Differs from [`PullBehavior::Once`] only in that the
    /// agent never cleans such images up.
    PreferCached,
}

/// An image of the host, in its list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageState {
    /// The engine's id of the image (`sha256:...`).
    pub id: String,
    /// All references to it, sorted: tags, and digests in repositories where it has no tag. May be empty for one that lost its tag.
    pub names: Vec<String>,
    /// When it was built.
    pub created_at: Option<Moment>,
    /// What it takes on the disk, shared layers included.
    pub bytes: i64,
}

/// An image that is on the host now.
#[derive(Clone, Debug)]
pub struct Prepared {
    /// The engine's id of the image (`sha256:...`).
    pub image_id: String,
    /// The manifest digest (`sha256:...`) under which the registry knows it; `None` for an image
    /// that never was in a registry.
    pub image_digest: Option<String>,
    /// Whether this call (or the concurrent one that it joined) pulled.
    pub pulled: bool,
    /// [`PullBehavior::Default`] only: the pull that failed before the cached image was used.
    pub pull_failure: Option<EngineError>,
}

/// An image that the agent brings with itself; no registry has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalImage {
    /// Repository and tag, `localhost/name:tag`; other content has another tag.
    pub reference: String,
    /// Its root file system.
    pub archive: Archive,
    /// Its entry point.
    pub entrypoint: Vec<String>,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
}

/// A root file system as an uncompressed tar archive.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Archive(pub &'static [u8]);

impl fmt::Debug for Archive {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "Archive({} bytes)", self.0.len())
    }
}
