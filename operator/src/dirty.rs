//! What the watches told since somebody asked: names only, for what an object is like now is in the cache.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};

use tallyman_operator_core::Kind;
use tokio::sync::Notify;

/// Names that are remembered. More are more than a pass over everything costs; and a standby never asks.
const MOST: usize = 10_000;

/// What is watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Watched {
    /// Objects of a kind that plans act on.
    Object(Kind),
    /// ConfigMaps.
    ConfigMap,
    /// Leases of hosts, each under the name of its host.
    Lease,
}

/// One object of a namespace.
pub type Key = (Watched, String);

/// What changed.
#[derive(Debug, Default)]
pub struct News {
    /// By namespace.
    pub changed: BTreeMap<String, BTreeSet<Key>>,
    /// Something was listed anew, or it was too much to remember: anything may have changed, or be gone.
    pub anything: bool,
}

/// What changed since it was last taken.
#[derive(Debug, Default)]
pub struct Dirty {
    news: Mutex<News>,
    wake: Notify,
}

impl Dirty {
    /// An object of `namespace` changed, or is gone.
    pub fn mark(&self, namespace: &str, key: Key) {
        self.tell(|news| {
            let keys = news.changed.entry(namespace.to_owned()).or_default();
            keys.insert(key);
            if keys.len() > MOST {
                keys.clear();
                news.anything = true;
            }
        });
    }

    /// A watch was listed anew.
    pub fn relisted(&self) {
        self.tell(|news| news.anything = true);
    }

    fn tell(&self, change: impl FnOnce(&mut News)) {
        change(&mut self.news.lock().unwrap_or_else(PoisonError::into_inner));
        self.wake.notify_one();
    }

    /// Takes what changed.
    pub fn take(&self) -> News {
        std::mem::take(&mut *self.news.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Returns when something changed.
    pub async fn changed(&self) {
        self.wake.notified().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_told_once_and_too_many_are_anything() {
        let dirty = Dirty::default();
        let key = |n: usize| (Watched::Object(Kind::Task), format!("t-{n}"));
        dirty.mark("a", key(1));
        dirty.mark("a", key(1));
        dirty.mark("b", key(1));
        let news = dirty.take();
        assert_eq!((news.changed["a"].len(), news.changed.len()), (1, 2));
        assert!(!news.anything);
        assert!(dirty.take().changed.is_empty());
        for n in 0..=MOST {
            dirty.mark("a", key(n));
        }
        let news = dirty.take();
        assert!(news.anything && news.changed["a"].is_empty());
    }
}
