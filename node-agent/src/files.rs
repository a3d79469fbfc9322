//! Files that are either the old or the new one, never half of it; and folders with a folder for each task.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use tallyman_agent_core::TaskUid;
use tracing::warn;

/// As [`write`], and makes it durable that the new one has the name.
///
/// # Errors
/// As [`write`].
pub fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    write(path, bytes)?;
    path.parent().map_or(Ok(()), sync_folder)
}

/// Writes beside the file, makes it durable, and renames it over the old one. Readable by the owner only. Until its folder is
/// [synced](sync_folder), a loss of power may bring the old one back.
///
/// # Errors
/// The disk is full or read-only, or the folder is not there.
pub fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    name.push(".new");
    let beside = path.with_file_name(name);
    let mut file = File::options()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&beside)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    drop(file);
    std::fs::rename(&beside, path)
}

/// Makes names in a folder durable: what was written, and what was removed.
///
/// # Errors
/// The folder is not there, or the disk fails.
pub fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

/// Removes a file that may not be there.
///
/// # Errors
/// The disk is read-only.
pub fn remove(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// Removes what a folder has of a task.
pub fn remove_of(folder: &Path, uid: &TaskUid) {
    match std::fs::remove_dir_all(folder.join(uid.as_str())) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => {
            warn!(%uid, folder = %folder.display(), %error, "files of the task are not removed");
        }
    }
}

/// Removes what a folder has of tasks that nobody knows any more.
pub fn sweep(folder: &Path, known: &BTreeSet<TaskUid>) {
    let Ok(entries) = std::fs::read_dir(folder) else {
        // No task had any.
        return;
    };
    for entry in entries.flatten() {
        let uid = TaskUid::new(entry.file_name().to_string_lossy());
        if !known.contains(&uid) {
            remove_of(folder, &uid);
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn the_new_one_is_there_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("plan.json");
        replace(&path, b"one").unwrap();
        replace(&path, b"two").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"two");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn what_is_swept_is_of_tasks_that_nobody_knows() {
        let folder = tempfile::tempdir().unwrap();
        for uid in ["known", "unknown"] {
            std::fs::create_dir_all(folder.path().join(uid).join("config")).unwrap();
        }
        sweep(folder.path(), &[TaskUid::new("known")].into());
        assert!(folder.path().join("known/config").is_dir());
        assert!(!folder.path().join("unknown").exists());
        remove_of(folder.path(), &TaskUid::new("known"));
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
