//! Files of log routers on the host's disk: `<folder>/<task uid>/config/fluent.conf`, and beside it the folder in which the
//! router makes its socket.
//!
//! Only root may look into the folder of a task: what a configuration includes may be private, and who reaches the socket
//! writes into the log.

use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use tallyman_agent_core::firelens::SOCKETS;
use tallyman_agent_core::{RouterFiles, RouterFolder};
use tallyman_agent_engine::EngineError;

use crate::files;

/// The folder of all log routers, as the agent reaches it.
#[derive(Clone, Debug)]
pub struct Routers {
    /// Where it is.
    pub path: PathBuf,
}

impl RouterFolder for Routers {
    fn provide(&self, wanted: &RouterFiles) -> Result<(), EngineError> {
        let folder = self.path.join(wanted.task.as_str());
        let failed = |path: &Path, error: io::Error| EngineError::CannotWrite {
            path: path.display().to_string(),
            message: error.to_string(),
        };
        make(&folder, 0o700).map_err(|error| failed(&folder, error))?;
        let sockets = folder.join(SOCKETS);
        make(&sockets, 0o755).map_err(|error| failed(&sockets, error))?;
        for (name, text) in wanted.files() {
            let path = folder.join(name);
            let above = path.parent().unwrap_or(&folder);
            make(above, 0o700).map_err(|error| failed(above, error))?;
            files::replace(&path, text.as_bytes()).map_err(|error| failed(&path, error))?;
        }
        Ok(())
    }
}

/// A folder, and those above it that are missing.
fn make(path: &Path, mode: u32) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(mode).create(path)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use tallyman_agent_core::TaskUid;

    use super::*;

    fn mode(path: &Path) -> u32 {
        std::fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    fn wanted(external: Option<&str>) -> RouterFiles {
        RouterFiles {
            task: TaskUid::new("uid-1"),
            configuration: "[INPUT]\n".to_owned(),
            external: external.map(str::to_owned),
        }
    }

    #[test]
    fn only_root_reads_them_and_the_last_ones_stay() {
        let root = tempfile::tempdir().unwrap();
        let routers = Routers {
            path: root.path().join("firelens"),
        };
        routers.provide(&wanted(None)).unwrap();
        let folder = root.path().join("firelens/uid-1");
        let config = folder.join("config/fluent.conf");
        assert_eq!(mode(&folder), 0o700);
        assert_eq!(mode(&config), 0o600);
        assert!(folder.join("socket").is_dir());
        assert!(!folder.join("config/external.conf").exists());
        routers.provide(&wanted(Some("[OUTPUT]\n"))).unwrap();
        let external = std::fs::read_to_string(folder.join("config/external.conf"));
        assert_eq!(external.unwrap(), "[OUTPUT]\n");
        assert_eq!(std::fs::read_to_string(config).unwrap(), "[INPUT]\n");
    }

    #[test]
    fn what_cannot_be_written_is_named() {
        let root = tempfile::tempdir().unwrap();
        std::fs::write(root.path().join("firelens"), "a file").unwrap();
        let routers = Routers {
            path: root.path().join("firelens"),
        };
        let error = routers.provide(&wanted(None)).unwrap_err();
        assert!(
            matches!(&error, EngineError::CannotWrite { path, .. } if path.ends_with("firelens/uid-1")),
            "{error:?}"
        );
    }
}
