//! Who has an image in hand: it is not removed while it is prepared, and not prepared while it is removed.
//!
//! One image at a time, and nobody queues behind a pull: a removal that waited for one would hold every pull that came
//! after it (ECS agent #836), for as long as a registry takes.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use tokio::sync::{OwnedRwLockReadGuard, OwnedRwLockWriteGuard, RwLock};

/// Images in hand, by reference.
#[derive(Default)]
pub(crate) struct Hands(Mutex<HashMap<String, Weak<RwLock<()>>>>);

impl Hands {
    /// For whoever prepares the image; waits for a removal of it that is under way.
    pub(crate) async fn prepare(&self, image: &str) -> OwnedRwLockReadGuard<()> {
        self.of(image).read_owned().await
    }

    /// For whoever removes it; `None` while somebody prepares it.
    pub(crate) fn remove(&self, image: &str) -> Option<OwnedRwLockWriteGuard<()>> {
        self.of(image).try_write_owned().ok()
    }

    fn of(&self, image: &str) -> Arc<RwLock<()>> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|_, lock| lock.strong_count() > 0);
        if let Some(lock) = all.get(image).and_then(Weak::upgrade) {
            return lock;
        }
        let lock = Arc::new(RwLock::new(()));
        all.insert(image.to_owned(), Arc::downgrade(&lock));
        lock
    }
}
