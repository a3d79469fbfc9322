//! Files that are either the old or the new one, never half of it; and folders with a folder for each task.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use tallyman_agent_core::TaskUid;
use tracing::warn;

/// Writes beside the file, makes it durable, and renames it over the old one. Readable by the owner only.
///
/// # Errors
/// The disk is full or read-only, or the folder is not there.
pub fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
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
    std::fs::rename(&beside, path)?;
    if let Some(folder) = path.parent() {
        File::open(folder)?.sync_all()?;
    }
    Ok(())
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
