//! Files of environment variables that are the host's own (`environmentFiles` of type `file`), read when a container is
//! created. Whoever writes a task definition could read any file of the host by them, so the host's owner names the folders
//! (`ECS_ENVIRONMENT_FILE_FOLDERS`).

use std::path::Path;

use tallyman_agent_engine::EngineError;

/// The setting, for sentences.
const SETTING: &str = "ECS_ENVIRONMENT_FILE_FOLDERS";
/// A file of variables is not larger, in bytes (as in a ConfigMap).
pub const LARGEST: u64 = 1 << 20;

/// Reads files of the host, follows its links and looks at its sockets.
pub trait HostFiles: Send + Sync {
    /// Where an absolute path leads once every symbolic link is followed; what is not there leads no further.
    fn leads_to(&self, path: &str) -> String;

    /// Folders and sockets that lead to this host's agent and engine, wherever its owner has put them.
    fn closed(&self) -> Vec<String>;

    /// Whether a process listens at the socket at an absolute path. The file of one that was killed stays.
    fn listens(&self, path: &str) -> bool;

    /// The text of a file. It asks [`check`] before it reads.
    ///
    /// # Errors
    /// [`EngineError::CannotRead`]
    fn read(&self, path: &str) -> Result<String, EngineError>;
}

/// What a file turned out to be once it was opened.
#[derive(Clone, Copy, Debug)]
pub struct Opened<'a> {
    /// Where it really is, without symbolic links.
    pub path: &'a Path,
    /// No folder, device or pipe.
    pub is_file: bool,
    /// In bytes.
    pub size: u64,
}

/// Whether the file that a task definition calls `named` may be read. `folders`: what the host allows, without symbolic
/// links, too.
///
/// # Errors
/// [`EngineError::CannotRead`]
pub fn check<F: AsRef<Path>>(
    named: &str,
    opened: Opened<'_>,
    folders: &[F],
) -> Result<(), EngineError> {
    let below = |folder: &F| opened.path.starts_with(folder) && opened.path != folder.as_ref();
    let message = if !folders.iter().any(below) {
        not_allowed(folders)
    } else if !opened.is_file {
        "is no regular file".to_owned()
    } else if opened.size > LARGEST {
        format!("has {} bytes; the most is {LARGEST}", opened.size)
    } else {
        return Ok(());
    };
    Err(cannot_read(named, message))
}

/// A file that cannot be opened. Which of those outside the allowed folders exist is not told.
pub fn cannot_open<F: AsRef<Path>>(named: &str, error: &str, folders: &[F]) -> EngineError {
    let may_be = folders
        .iter()
        .any(|folder| Path::new(named).starts_with(folder));
    cannot_read(
        named,
        if may_be {
            format!("cannot be read: {error}")
        } else {
            not_allowed(folders)
        },
    )
}

fn cannot_read(named: &str, message: String) -> EngineError {
    EngineError::CannotRead {
        path: named.to_owned(),
        message,
    }
}

fn not_allowed<F: AsRef<Path>>(folders: &[F]) -> String {
    let folders: Vec<String> = folders
        .iter()
        .map(|folder| folder.as_ref().display().to_string())
        .collect();
    if folders.is_empty() {
        format!("may not be read: {SETTING} of the host allows no folder")
    } else {
        format!(
            "may not be read: it is in none of the folders that {SETTING} of the host allows ({})",
            folders.join(", ")
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FOLDERS: [&str; 2] = ["/etc/app", "/srv"];

    fn verdict(path: &str, is_file: bool, size: u64) -> Option<String> {
        let opened = Opened {
            path: Path::new(path),
            is_file,
            size,
        };
        let error = check("/etc/app/web.env", opened, &FOLDERS).err()?;
        Some(error.to_string())
    }

    #[test]
    fn only_files_below_an_allowed_folder_are_read() {
        assert_eq!(verdict("/etc/app/web.env", true, LARGEST), None);
        assert_eq!(verdict("/srv/a/b/c.env", true, 0), None);
        for (path, is_file, size, words) in [
            ("/etc/shadow", true, 0, "it is in none of the folders"),
            ("/etc/app-private/web.env", true, 0, "(/etc/app, /srv)"),
            ("/etc/app", false, 0, "it is in none of the folders"),
            ("/etc/app/pipe", false, 0, "is no regular file"),
            ("/etc/app/big", true, LARGEST + 1, "has 1048577 bytes"),
        ] {
            let said = verdict(path, is_file, size).unwrap_or_default();
            assert!(
                said.contains(words) && said.contains("`/etc/app/web.env`"),
                "{path}: {said}"
            );
        }
    }

    #[test]
    fn what_exists_elsewhere_is_not_told() {
        let said = |path| cannot_open(path, "No such file or directory", &FOLDERS).to_string();
        assert!(said("/etc/app/web.env").ends_with("cannot be read: No such file or directory"));
        assert!(!said("/root/secret").contains("No such file"));
        let none: [&str; 0] = [];
        let said = cannot_open("/x", "No such file", &none).to_string();
        assert!(
            said.ends_with("ECS_ENVIRONMENT_FILE_FOLDERS of the host allows no folder"),
            "{said}"
        );
    }
}
