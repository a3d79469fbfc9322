//! Who hears of changes.

use super::*;

impl World {
    pub(in crate::fake) fn watch(&mut self, scope: (String, String), hints: UnboundedSender<Hint>) {
        self.watchers.push(Watcher { scope, hints });
    }

    /// Breaks every watch. The channel is unbounded, so only a receiver that is gone can refuse.
    pub(in crate::fake) fn break_watches(&mut self) {
        for watcher in std::mem::take(&mut self.watchers) {
            let _ = watcher.hints.unbounded_send(Hint::Lost);
        }
    }

    pub(in crate::fake) fn wait(&mut self, waker: &Waker) {
        self.waiting.push(waker.clone());
    }

    pub(super) fn wake(&mut self) {
        self.waiting.drain(..).for_each(Waker::wake);
    }

    pub(super) fn hint(&mut self, name: &str, make: fn(String) -> Hint) {
        let Some(container) = self.containers.get(name) else {
            return;
        };
        if self.mute {
            return;
        }
        self.watchers.retain(|watcher| {
            let (key, value) = &watcher.scope;
            !carries(container, key, value)
                || watcher.hints.unbounded_send(make(name.to_owned())).is_ok()
        });
    }
}
