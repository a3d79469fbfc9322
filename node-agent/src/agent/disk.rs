//! The loop's side toward the disk of the engine: looked at with every list of containers.

use std::sync::Arc;

use futures::future::BoxFuture;
use tallyman_agent_core::disk::{DiskSpace, Room};
use tallyman_agent_engine::Engine;
use tracing::{info, warn};

use crate::agent::Agent;

/// A look under way.
pub(super) type Looking = BoxFuture<'static, Option<DiskSpace>>;

impl<E: Engine> Agent<E> {
    /// Looks at the disk, unless an earlier look still waits for it.
    pub(super) fn look_at_disk(&mut self) {
        let Some(description) = &self.engine.description else {
            return;
        };
        let folder: Arc<str> = description.data_root.as_str().into();
        if self.looking_at_disk.is_none() && !folder.is_empty() {
            self.looking_at_disk = Some(Box::pin(async move {
                let look = tokio::task::spawn_blocking(move || space(&folder));
                look.await.ok().flatten()
            }));
        }
    }

    pub(super) fn take_disk(&mut self, space: Option<DiskSpace>) {
        let before = self.engine.disk;
        self.engine.disk.looked(space);
        if self.engine.disk != before {
            match self.engine.disk_complaint() {
                Some(complaint) => warn!(complaint, "disk"),
                None => info!("the disk of the engine has room again"),
            }
        }
    }
}

/// What the file system of a folder has left for those who are not root: root's reserve is none for tasks.
fn space(folder: &str) -> Option<DiskSpace> {
    let told = rustix::fs::statvfs(folder).ok()?;
    Some(DiskSpace {
        bytes: Room {
            free: told.f_bavail.saturating_mul(told.f_frsize),
            total: told.f_blocks.saturating_mul(told.f_frsize),
        },
        inodes: Room {
            free: told.f_favail,
            total: told.f_files,
        },
    })
}
