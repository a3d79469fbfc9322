//! Files of environment variables on this host, its sockets, and what of it is never mounted. What was opened is asked where it is, so that no symbolic link that is
//! changed meanwhile leads elsewhere.

use std::collections::BTreeSet;
use std::fs::{File, Metadata};
use std::io::{self, Read};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::sync::{PoisonError, RwLock};

use rustix::fs::{Mode, OFlags, open};
use rustix::io::Errno;
use tallyman_agent_core::host_files::{HostFiles, LARGEST, Opened, cannot_open, check};
use tallyman_agent_engine::EngineError;

/// What of the host's files tasks may be given, and may not.
#[derive(Debug)]
pub struct HostFolders {
    /// Folders whose files tasks may be given.
    allowed: Vec<String>,
    closed: RwLock<BTreeSet<String>>,
}

impl HostFolders {
    /// Files of `allowed` may be given to tasks; nothing may be mounted that leads to `closed`.
    pub fn new(allowed: Vec<String>, closed: impl IntoIterator<Item = String>) -> Self {
        Self {
            allowed,
            closed: RwLock::new(closed.into_iter().collect()),
        }
    }

    /// Nothing may be mounted that leads there either.
    pub fn close(&self, path: &str) {
        let mut closed = self.closed.write().unwrap_or_else(PoisonError::into_inner);
        closed.insert(path.to_owned());
    }
}

/// As many links in a row as the kernel follows.
const MOST_LINKS: usize = 40;

impl HostFiles for HostFolders {
    fn leads_to(&self, path: &str) -> String {
        let led = followed(Path::new(path), MOST_LINKS);
        led.display().to_string()
    }

    fn closed(&self) -> Vec<String> {
        let closed = self.closed.read().unwrap_or_else(PoisonError::into_inner);
        closed.iter().cloned().collect()
    }

    fn listens(&self, path: &str) -> bool {
        listens(Path::new(path))
    }

    fn read(&self, path: &str) -> Result<String, EngineError> {
        // A folder that is not there allows nothing.
        let folders: Vec<PathBuf> = self
            .allowed
            .iter()
            .flat_map(std::fs::canonicalize)
            .collect();
        let failed = |error: io::Error| cannot_open(path, &error.to_string(), &self.allowed);
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

/// Whether a process listens at a socket, of whatever type it is. Asked with a datagram, which a listener of streams does not
/// take: nobody is connected and nothing waits, and still the kernel tells a socket that lives (`EPROTOTYPE`) from the file
/// that a killed process left (`ECONNREFUSED`).
pub fn listens(path: &Path) -> bool {
    let asked = UnixDatagram::unbound().and_then(|socket| socket.connect(path));
    match asked {
        Ok(()) => true,
        Err(error) => error.raw_os_error() == Some(Errno::PROTOTYPE.raw_os_error()),
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
    use std::os::unix::net::UnixListener;

    use socket2::{Domain, SockAddr, Socket, Type};

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
        let files = HostFolders::new(Vec::new(), []);
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
    fn a_socket_is_heard_while_its_process_listens_and_its_file_alone_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        assert!(!listens(&at("none")));
        std::fs::write(at("file"), "").unwrap();
        assert!(!listens(&at("file")) && !listens(folder.path()));

        let stream = UnixListener::bind(at("stream")).unwrap();
        stream.set_nonblocking(true).unwrap();
        assert!(listens(&at("stream")));
        // Nobody was connected.
        assert_eq!(
            stream.accept().unwrap_err().kind(),
            io::ErrorKind::WouldBlock
        );
        let datagrams = UnixDatagram::bind(at("datagrams")).unwrap();
        let packets = Socket::new(Domain::UNIX, Type::SEQPACKET, None).unwrap();
        packets
            .bind(&SockAddr::unix(at("packets")).unwrap())
            .unwrap();
        packets.listen(1).unwrap();
        assert!(listens(&at("datagrams")) && listens(&at("packets")));

        // Killed, it leaves its file.
        drop((stream, datagrams, packets));
        for name in ["stream", "datagrams", "packets"] {
            assert!(at(name).exists() && !listens(&at(name)), "{name}");
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
        let files = HostFolders::new(vec![at("allowed"), at("missing")], []);
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
