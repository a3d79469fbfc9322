//! Files of environment variables on this host. What was opened is asked where it is, so that no symbolic link that is
//! changed meanwhile leads elsewhere.

use std::fs::{File, Metadata};
use std::io::{self, Read};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags, open};
use tallyman_agent_core::host_files::{HostFiles, LARGEST, Opened, cannot_open, check};
use tallyman_agent_engine::EngineError;

/// Folders whose files tasks may be given.
#[derive(Debug)]
pub struct AllowedFolders(pub Vec<String>);

/// As many links in a row as the kernel follows.
const MOST_LINKS: usize = 40;

impl HostFiles for AllowedFolders {
    fn leads_to(&self, path: &str) -> String {
        let led = followed(Path::new(path), MOST_LINKS);
        led.display().to_string()
    }

    fn is_there(&self, path: &str) -> bool {
        Path::new(path).exists()
    }

    fn read(&self, path: &str) -> Result<String, EngineError> {
        // A folder that is not there allows nothing.
        let folders: Vec<PathBuf> = self.0.iter().flat_map(std::fs::canonicalize).collect();
        let failed = |error: io::Error| cannot_open(path, &error.to_string(), &self.0);
        // Before it is opened, too: to open a device may do something.
        let asked = std::fs::canonicalize(path).map_err(failed)?;
        let metadata = std::fs::metadata(&asked).map_err(failed)?;
        check(path, opened(&asked, &metadata), &folders)?;
        // NONBLOCK: otherwise a pipe waits for its writer.
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = open(&asked, flags, Mode::empty()).map_err(|error| failed(error.into()))?;
        let file = File::from(file);
        let resolved = std::fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd()));
        let resolved = resolved.map_err(failed)?;
        let metadata = file.metadata().map_err(failed)?;
        check(path, opened(&resolved, &metadata), &folders)?;
        let mut text = String::new();
        let read = file.take(LARGEST).read_to_string(&mut text);
        read.map_err(failed)?;
        Ok(text)
    }
}

/// The part that is there without links, and the rest as it is. A link to what is not there yet is followed, too: the engine
/// makes what it mounts.
fn followed(path: &Path, links: usize) -> PathBuf {
    if let Ok(real) = std::fs::canonicalize(path) {
        return real;
    }
    let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else {
        return path.to_owned();
    };
    let folder = followed(folder, links);
    match std::fs::read_link(folder.join(name)) {
        Ok(target) if links > 0 => followed(&folder.join(target), links - 1),
        Ok(_) | Err(_) => folder.join(name),
    }
}

fn opened<'a>(path: &'a Path, metadata: &Metadata) -> Opened<'a> {
    Opened {
        path,
        is_file: metadata.is_file(),
        size: metadata.len(),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_path_is_followed_as_far_as_it_is_there() {
        let root = tempfile::tempdir().unwrap();
        let root = std::fs::canonicalize(root.path()).unwrap();
        let at = |path: &str| root.join(path).display().to_string();
        std::fs::create_dir(at("real")).unwrap();
        symlink(at("real"), at("link")).unwrap();
        symlink("../link/new", at("real/relative")).unwrap();
        symlink(at("real/circle"), at("real/circle")).unwrap();
        let files = AllowedFolders(Vec::new());
        for (path, real) in [
            ("real", "real"),
            ("link", "real"),
            ("link/none/of/it", "real/none/of/it"),
            ("real/relative/x", "real/new/x"),
            ("real/circle", "real/circle"),
        ] {
            assert_eq!(files.leads_to(&at(path)), at(real), "{path}");
        }
    }

    #[test]
    fn links_lead_to_allowed_files_only() {
        let root = tempfile::tempdir().unwrap();
        let at = |path: &str| root.path().join(path).display().to_string();
        for folder in ["real", "private"] {
            std::fs::create_dir(at(folder)).unwrap();
            std::fs::write(at(&format!("{folder}/web.env")), "A=1\n").unwrap();
        }
        symlink(at("real"), at("allowed")).unwrap();
        symlink(at("private/web.env"), at("real/out.env")).unwrap();
        symlink(at("real/web.env"), at("private/in.env")).unwrap();
        let files = AllowedFolders(vec![at("allowed"), at("missing")]);
        let read = |path: &str| files.read(&at(path));
        assert_eq!(read("allowed/web.env").unwrap(), "A=1\n");
        assert_eq!(read("real/web.env").unwrap(), "A=1\n");
        assert_eq!(read("private/in.env").unwrap(), "A=1\n");
        for (path, words) in [
            ("allowed/out.env", "it is in none of the folders"),
            ("private/web.env", "it is in none of the folders"),
            ("allowed/none.env", "No such file or directory"),
            ("private/none.env", "it is in none of the folders"),
        ] {
            let said = read(path).unwrap_err().to_string();
            assert!(said.contains(words) && said.contains(&at(path)), "{said}");
        }
    }
}
