//! Who has which GPU of a host: what S15 looks at.

use std::collections::{BTreeMap, BTreeSet};

use crate::user::GPU_MEMORY;

/// GPUs of a host in containers that run: each whole in one, or in parts in the containers of tasks (S15).
#[derive(Default)]
pub(crate) struct Gpus {
    whole: BTreeSet<String>,
    /// MiB of each task, by id.
    parts: BTreeMap<String, BTreeMap<String, i64>>,
}

impl Gpus {
    /// A container of `task` has `id`: whole, or the `part` that its label says. What is wrong with that.
    pub fn give(&mut self, id: &str, task: &str, part: Option<&str>) -> Option<&'static str> {
        if let Some(part) = part {
            let parts = self.parts.entry(id.to_owned()).or_default();
            // What cannot be read is more than any GPU has.
            parts.insert(task.to_owned(), part.parse().unwrap_or(i64::from(i32::MAX)));
            if parts.values().sum::<i64>() > GPU_MEMORY {
                return Some("of which tasks have more than there is");
            }
        }
        let first = part.is_some() || self.whole.insert(id.to_owned());
        let alone = part.is_none() || !self.whole.contains(id);
        let alone = alone && (part.is_some() || !self.parts.contains_key(id));
        (!first || !alone).then_some("as another one has")
    }
}
