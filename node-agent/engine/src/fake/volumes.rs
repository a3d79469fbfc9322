//! The fake's volumes and directories of its host.

use std::collections::{BTreeMap, BTreeSet};

use crate::fake::world::World;
use crate::{ContainerSpec, EngineError, Label, Mount, MountSource, VolumeSpec, VolumeState};

/// The driver that every engine has; the fake has no other.
const LOCAL: &str = "local";

#[derive(Debug, Default)]
pub(super) struct Volumes {
    volumes: BTreeMap<String, VolumeState>,
    directories: BTreeSet<String>,
}

impl Volumes {
    pub(super) fn create(&mut self, spec: &VolumeSpec) -> Result<(), EngineError> {
        let taken = |message: String| {
            Err(EngineError::VolumeTaken {
                name: spec.name.clone(),
                message,
            })
        };
        if let Some(volume) = self.volumes.get(&spec.name) {
            if volume.driver != spec.driver {
                return taken(format!("A volume named {} already exists", spec.name));
            }
            let ours = spec
                .labels
                .iter()
                .all(|(key, value)| volume.labels.get(key) == Some(value));
            return if ours {
                Ok(())
            } else {
                taken(format!(
                    "the volume {} does not carry our labels",
                    spec.name
                ))
            };
        }
        check(spec)?;
        let volume = VolumeState {
            name: spec.name.clone(),
            driver: spec.driver.clone(),
            options: spec.options.clone(),
            labels: spec.labels.clone(),
        };
        self.volumes.insert(spec.name.clone(), volume);
        Ok(())
    }

    pub(super) fn inspect(&self, name: &str) -> Option<VolumeState> {
        self.volumes.get(name).cloned()
    }

    pub(super) fn list(&self, scope: Option<Label<'_>>) -> Vec<VolumeState> {
        self.volumes
            .values()
            .filter(|volume| scope.is_none_or(|label| carries(volume, label)))
            .cloned()
            .collect()
    }

    /// Volumes that a container mounts and that nobody made: the engine makes them.
    pub(super) fn provide(&mut self, mounts: &[Mount]) {
        for mount in mounts {
            if let MountSource::Volume(name) = &mount.source {
                self.volumes
                    .entry(name.clone())
                    .or_insert_with(|| VolumeState {
                        name: name.clone(),
                        driver: LOCAL.to_owned(),
                        options: BTreeMap::new(),
                        labels: BTreeMap::new(),
                    });
            }
        }
    }

    /// Paths of the host that a container mounts as it starts.
    pub(super) fn make_directories(&mut self, mounts: &[Mount]) {
        for mount in mounts {
            if let MountSource::HostPath(path) = &mount.source {
                self.directories.insert(path.clone());
            }
        }
    }

    pub(super) fn made_directory(&self, path: &str) -> bool {
        self.directories.contains(path)
    }
}

impl World {
    /// A container's mounts with those of others that it asks for; its own go before.
    pub(super) fn mounts(&self, spec: &ContainerSpec) -> Result<Vec<Mount>, EngineError> {
        let mut mounts: BTreeMap<String, Mount> = BTreeMap::new();
        for from in &spec.volumes_from {
            let theirs =
                self.mounts_of(&from.container)
                    .ok_or_else(|| EngineError::InvalidSpec {
                        message: format!("No such container: {}", from.container),
                    })?;
            for mount in theirs {
                let mut mount = mount.clone();
                mount.read_only |= from.read_only;
                mounts.insert(mount.path.clone(), mount);
            }
        }
        let mut paths = BTreeSet::new();
        for mount in &spec.mounts {
            if !paths.insert(&mount.path) {
                let message = format!("Duplicate mount point: {}", mount.path);
                return Err(EngineError::InvalidSpec { message });
            }
            mounts.insert(mount.path.clone(), mount.clone());
        }
        Ok(mounts.into_values().collect())
    }

    pub(super) fn remove_volume(
        &mut self,
        name: &str,
        owner: Label<'_>,
    ) -> Result<(), EngineError> {
        let ours = self
            .volumes
            .inspect(name)
            .is_some_and(|volume| carries(&volume, owner));
        if !ours {
            return Ok(());
        }
        let users: Vec<&str> = self.users_of(name).collect();
        if !users.is_empty() {
            return Err(EngineError::VolumeInUse {
                name: name.to_owned(),
                message: format!("remove {name}: volume is in use - {users:?}"),
            });
        }
        self.volumes.volumes.remove(name);
        Ok(())
    }

    pub(super) fn destroy_volume(&mut self, name: &str) -> bool {
        let used = self.users_of(name).next().is_some();
        !used && self.volumes.volumes.remove(name).is_some()
    }
}

fn carries(volume: &VolumeState, (key, value): Label<'_>) -> bool {
    volume.labels.get(key).is_some_and(|has| has == value)
}

/// The refusals of a real engine that an agent may run into.
fn check(spec: &VolumeSpec) -> Result<(), EngineError> {
    let invalid = |message: String| Err(EngineError::InvalidSpec { message });
    let fine = |letter: char| letter.is_ascii_alphanumeric() || "_.-".contains(letter);
    if spec.name.len() < 2 || !spec.name.chars().all(fine) {
        return invalid(format!(
            "\"{}\" includes invalid characters for a local volume name",
            spec.name
        ));
    }
    if spec.driver != LOCAL {
        return invalid(format!("plugin \"{}\" not found", spec.driver));
    }
    let unknown = |key: &&String| !["type", "o", "device", "size"].contains(&key.as_str());
    if let Some(key) = spec.options.keys().find(unknown) {
        return invalid(format!("invalid option: \"{key}\""));
    }
    Ok(())
}
