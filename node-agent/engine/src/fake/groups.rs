//! Groups of the fake: names and limits, and who keeps one.

use std::collections::BTreeMap;

use crate::Group;
use crate::fake::world::World;

/// Groups that were made and not removed.
pub(super) type Groups = BTreeMap<String, Group>;

impl World {
    pub(super) fn provide_group(&mut self, group: &Group) {
        self.groups.insert(group.name.clone(), group.clone());
    }

    /// As with the kernel's own: one with processes stays.
    pub(super) fn remove_group(&mut self, name: &str) -> bool {
        let busy = self.alive_in(name);
        if !busy {
            self.groups.remove(name);
        }
        !busy
    }

    pub(super) fn list_groups(&self, parent: &str) -> Vec<String> {
        let below = |name: &&String| {
            name.strip_prefix(parent)
                .and_then(|rest| rest.strip_prefix('/'))
                .is_some_and(|rest| !rest.contains('/'))
        };
        self.groups.keys().filter(below).cloned().collect()
    }
}
