//! What the agent tells its service manager, heard as one would hear it.

use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result};
use tallyman_lab::wait_until;

use super::PATIENCE;

/// A service manager's ear.
pub struct Notices {
    socket: PathBuf,
    heard: Arc<Mutex<Vec<String>>>,
}

impl Notices {
    /// Listens at `socket` as long as the test lives. What is not read at once would hold the agent up.
    pub fn listen(socket: &Path) -> Result<Notices> {
        let listener = UnixDatagram::bind(socket).with_context(|| socket.display().to_string())?;
        let heard: Arc<Mutex<Vec<String>>> = Arc::default();
        let ear = Arc::clone(&heard);
        std::thread::spawn(move || {
            let mut buffer = [0; 512];
            while let Ok(length) = listener.recv(&mut buffer) {
                let told = String::from_utf8_lossy(&buffer[..length]).trim().to_owned();
                let mut heard = ear.lock().unwrap_or_else(PoisonError::into_inner);
                heard.push(told);
            }
        });
        Ok(Notices {
            socket: socket.to_owned(),
            heard,
        })
    }

    /// Where it listens.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Waits until `notice` was told `times` times.
    pub fn wait(&self, notice: &str, times: usize) -> Result<()> {
        wait_until(format!("{notice} from the agent"), PATIENCE, || {
            let heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
            Ok(heard.iter().filter(|told| *told == notice).count() >= times)
        })
    }
}
