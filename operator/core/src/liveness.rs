//! When we saw a host's Lease change, on our own monotonic clock; no clock of another machine is asked.

use std::collections::BTreeMap;
use std::time::Duration;

#[derive(Clone, Debug)]
struct Seen {
    version: String,
    at: Duration,
}

/// Memory of the Leases of all hosts.
#[derive(Clone, Debug, Default)]
pub struct LeaseObserver {
    seen: BTreeMap<String, Seen>,
    disrupted: bool,
    looked: Option<Duration>,
}

impl LeaseObserver {
    /// Takes note of the Leases as they are at `now`, a reading of a monotonic clock: key of the host, and anything
    /// that changes with each renewal. A Lease seen for the first time counts as just renewed, so that a starting
    /// operator gives every host its full grace.
    ///
    /// When at least `brake_percent` of the hosts were older than `grace` and then fewer are, every timer starts anew:
    /// it was us who could not see. So they do when nobody looked for twice `grace`: a process that hung, or could
    /// not read, has seen nobody be silent.
    pub fn observe<'a>(
        &mut self,
        leases: impl IntoIterator<Item = (&'a str, &'a str)>,
        now: Duration,
        grace: Duration,
        brake_percent: u32,
    ) {
        let unwatched = self
            .looked
            .is_some_and(|at| now.saturating_sub(at) >= grace * 2);
        self.looked = Some(now);
        let mut current = BTreeMap::new();
        for (key, version) in leases {
            let at = match self.seen.get(key) {
                Some(seen) if seen.version == version && !unwatched => seen.at,
                Some(_) | None => now,
            };
            current.insert(
                key.to_owned(),
                Seen {
                    version: version.to_owned(),
                    at,
                },
            );
        }
        self.seen = current;
        let old = self
            .seen
            .values()
            .filter(|s| now.saturating_sub(s.at) >= grace)
            .count();
        let share = old * 100 / self.seen.len().max(1);
        let disrupted =
            self.seen.len() > 1 && share >= usize::try_from(brake_percent).unwrap_or(100);
        if self.disrupted && !disrupted {
            for s in self.seen.values_mut() {
                s.at = now;
            }
        }
        self.disrupted = disrupted;
    }

    /// For how long each host's Lease was not seen to change.
    pub fn ages(&self, now: Duration) -> BTreeMap<String, Duration> {
        self.seen
            .iter()
            .map(|(k, s)| (k.clone(), now.saturating_sub(s.at)))
            .collect()
    }
}
