//! When the API server last confirmed that the host lives: on this host's clock, in memory and on disk.
//!
//! What follows from it is `tallyman_agent_core::silence`'s to say.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use tallyman_agent_core::Silences;
use tracing::warn;

use crate::ledger;

const FILE: &str = "contacts.json";

/// The renewals of the host's Lease that were confirmed.
pub struct Contacts {
    path: PathBuf,
    boot_id: Option<String>,
    known: Mutex<Arc<tallyman_agent_core::Contacts>>,
}

impl Contacts {
    /// With what an earlier process left in `folder`. What cannot be read counts as lost: then nothing is known, and tasks with
    /// `stopAfter` stop.
    pub fn load(folder: &Path, boot_id: Option<String>) -> Self {
        let path = folder.join(FILE);
        let saved = std::fs::read(&path).ok();
        let known = saved.and_then(|bytes| ledger::unsealed(&bytes).ok());
        Self {
            path,
            boot_id,
            known: Mutex::new(Arc::new(known.unwrap_or_default())),
        }
    }

    fn known(&self) -> MutexGuard<'_, Arc<tallyman_agent_core::Contacts>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is known at this moment.
    pub fn silences(&self) -> Silences {
        let known = Arc::clone(&self.known());
        Silences::at(known, self.boot_id.as_deref(), since_boot())
    }

    /// A renewal was confirmed that was sent at that time since the boot.
    pub fn confirmed(&self, sent: Option<Duration>) {
        let (Some(sent), Some(now), Some(boot_id)) = (sent, since_boot(), &self.boot_id) else {
            return;
        };
        let mut known = tallyman_agent_core::Contacts::clone(&self.known());
        known.confirmed(boot_id, sent, now);
        // First the disk: a process that dies in between must find what tasks have missed. It need not outlive the boot, so
        // nobody waits for the disk itself; and what is older only stops tasks sooner.
        let beside = self.path.with_extension("new");
        let written = serde_json::to_vec(&known)
            .map_err(std::io::Error::from)
            .and_then(|json| std::fs::write(&beside, ledger::sealed(&json)))
            .and_then(|()| std::fs::rename(&beside, &self.path));
        if let Err(error) = written {
            warn!(path = %self.path.display(), %error, "cannot save when the API server last answered");
        }
        *self.known() = Arc::new(known);
    }
}

/// Time since the host booted, with that in which it was suspended.
pub fn since_boot() -> Option<Duration> {
    let now = clock_gettime(ClockId::Boottime);
    let seconds = u64::try_from(now.tv_sec).ok()?;
    let nanos = u32::try_from(now.tv_nsec).ok()?;
    Some(Duration::new(seconds, nanos))
}

#[cfg(test)]
mod tests {
    use tallyman_agent_core::Silence;

    use super::*;

    #[test]
    fn it_outlives_the_process_and_not_the_boot() {
        let folder = tempfile::tempdir().unwrap();
        let open = |boot: &str| Contacts::load(folder.path(), Some(boot.to_owned()));
        let contacts = open("a");
        assert_eq!(contacts.silences().lasts(), Silence::Unknown);
        contacts.confirmed(since_boot());
        for contacts in [contacts, open("a")] {
            let known = contacts.silences();
            assert!(!known.lasts().exceeds(Duration::from_secs(60)));
            assert_eq!(known.missed_since(0), Silence::Unknown, "before the first");
        }
        assert_eq!(open("b").silences().lasts(), Silence::Unknown);
        std::fs::write(folder.path().join(FILE), b"{ \"last").unwrap();
        assert_eq!(open("a").silences().lasts(), Silence::Unknown);
    }
}
