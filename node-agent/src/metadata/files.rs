//! Container metadata files on the host's disk: `<folder>/<task uid>/<container>/ecs-container-metadata.json`.
//!
//! Containers see their own folder, read-only. A file is replaced by renaming, so nobody reads half of one.

use std::collections::BTreeMap;
use std::fs::{DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use tallyman_agent_core::metadata::file::{self, MetadataFile};
use tallyman_agent_core::metadata::inject::FILE_NAME;
use tallyman_agent_core::metadata::{Place, TaskSight};
use tallyman_agent_core::{Action, TaskMachine, TaskUid};
use tracing::warn;

/// The folder of all files, and what is told in them.
#[derive(Clone, Debug)]
pub struct Folder {
    /// As the agent reaches it.
    pub path: PathBuf,
    /// Where the host is.
    pub place: Place,
}

/// The files of one task.
#[derive(Debug)]
pub struct Files {
    folder: Folder,
    /// What each container's file holds.
    written: BTreeMap<String, MetadataFile>,
}

impl Folder {
    /// The files of a task; none are written yet.
    pub fn of_task(&self) -> Files {
        Files {
            folder: self.clone(),
            written: BTreeMap::new(),
        }
    }

    fn task(&self, uid: &TaskUid) -> PathBuf {
        self.path.join(uid.as_str())
    }
}

impl Files {
    /// Writes what is due before these actions: the first file of a container before it is created, the whole one
    /// once it was seen running.
    pub fn keep(&mut self, machine: &TaskMachine, actions: &[Action]) {
        let sight = machine.sight();
        for container in machine.task().containers() {
            let name = container.name.as_str();
            let creates = actions.iter().any(
                |action| matches!(action, Action::Create { container, .. } if container == name),
            );
            if let Some(next) = file::of(&sight, &self.folder.place, name) {
                self.keep_one(&sight, name, next, creates);
            }
        }
    }

    fn keep_one(&mut self, sight: &TaskSight, name: &str, next: MetadataFile, creates: bool) {
        if !next.is_due(creates) || self.written.get(name) == Some(&next) {
            return;
        }
        let folder = self.folder.task(&sight.task.uid).join(name);
        match write(&folder, &next) {
            Ok(()) => {
                self.written.insert(name.to_owned(), next);
            }
            Err(error) => warn!(container = name, %error, "its metadata file is not written"),
        }
    }
}

/// Readable by every user: those of the container are not the agent's.
fn write(folder: &Path, file: &MetadataFile) -> io::Result<()> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o755)
        .create(folder)?;
    let bytes = serde_json::to_vec_pretty(file)?;
    let beside = folder.join(".new");
    std::fs::write(&beside, bytes)?;
    std::fs::set_permissions(&beside, Permissions::from_mode(0o644))?;
    std::fs::rename(&beside, folder.join(FILE_NAME))
}
