//! Volumes, and where containers see them.

use std::collections::BTreeMap;

/// What a volume of the engine shall be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VolumeSpec {
    /// Name on the engine.
    pub name: String,
    /// Volume driver; `local` is the engine's own.
    pub driver: String,
    /// Options for the driver.
    pub options: BTreeMap<String, String>,
    /// Labels; also what an existing volume of the name must carry to be adopted.
    pub labels: BTreeMap<String, String>,
}

impl VolumeSpec {
    /// A volume of the engine's own driver, without options and labels.
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            driver: "local".to_owned(),
            options: BTreeMap::new(),
            labels: BTreeMap::new(),
        }
    }
}

/// What the engine says about a volume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VolumeState {
    /// Name on the engine.
    pub name: String,
    /// Volume driver.
    pub driver: String,
    /// Options that it was made with.
    pub options: BTreeMap<String, String>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
}

/// Something of the host that a container sees (an ECS mount point).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mount {
    /// What is seen.
    pub source: MountSource,
    /// Where, an absolute path in the container.
    pub path: String,
    /// The container cannot write to it.
    pub read_only: bool,
}

/// What a mount shows.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum MountSource {
    /// An absolute path of the host. The engine makes a directory of what does not exist when a
    /// container that mounts it starts; nobody removes it.
    HostPath(String),
    /// A volume of the engine, by name. One that does not exist when the container is created is made
    /// by the engine, without labels; so the agent makes its own before.
    Volume(String),
}

/// All mounts of another container, at the same paths (ECS `volumesFrom`). The other container must
/// exist; a mount of one's own at the same path goes before.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct VolumesFrom {
    /// Name of the other container on the engine.
    pub container: String,
    /// This container cannot write to them.
    pub read_only: bool,
}

impl Mount {
    /// Whether it shows the volume of this name.
    pub fn shows(&self, volume: &str) -> bool {
        matches!(&self.source, MountSource::Volume(name) if name == volume)
    }
}
