//! When we saw a host's Lease change, on our own monotonic clock; no clock of another machine is asked.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// How silent a host is, as far as we have seen it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Silence {
    /// For how long its Lease was not seen to change.
    pub lasts: Duration,
    /// Its Lease was seen to change, or to appear, since we look. Until then nobody knows that the host is there: one that
    /// was known as disconnected stays so.
    pub heard: bool,
}

impl Silence {
    /// Of a host that was heard before.
    pub fn since_heard(lasts: Duration) -> Silence {
        Silence { lasts, heard: true }
    }
}

#[derive(Clone, Debug)]
struct Seen {
    version: String,
    at: Duration,
    heard: bool,
}

impl Seen {
    fn silence(&self, now: Duration) -> Silence {
        Silence {
            lasts: now.saturating_sub(self.at),
            heard: self.heard,
        }
    }
}

/// Memory of the Leases of all hosts.
#[derive(Clone, Debug, Default)]
pub struct LeaseObserver {
    seen: BTreeMap<String, Seen>,
    /// The same, those that changed longest ago first.
    order: BTreeSet<(Duration, String)>,
    disrupted: bool,
    looked: Option<Duration>,
}

impl LeaseObserver {
    /// Takes note of the Leases as they are at `now`, a reading of a monotonic clock: key of the host, and anything
    /// that changes with each renewal. A Lease seen for the first time counts as just renewed, so that a starting
    /// operator gives every host its full grace; at the first look of all, nobody is heard by it.
    ///
    /// When at least `brake_percent` of the hosts were older than `grace` and then fewer are, every timer starts anew:
    /// it was us who could not see. So they do when nobody looked for twice `grace`: a process that hung, or could
    /// not read, has seen nobody be silent. Returns whether they did.
    pub fn observe<'a>(
        &mut self,
        leases: impl IntoIterator<Item = (&'a str, &'a str)>,
        now: Duration,
        grace: Duration,
        brake_percent: u32,
    ) -> bool {
        let leases: BTreeMap<&str, &str> = leases.into_iter().collect();
        let gone: Vec<String> = self
            .seen
            .keys()
            .filter(|key| !leases.contains_key(key.as_str()))
            .cloned()
            .collect();
        let gone = gone.iter().map(|key| (key.as_str(), None));
        let there = leases
            .into_iter()
            .map(|(key, version)| (key, Some(version)));
        self.observe_some(gone.chain(there), now, grace, brake_percent)
    }

    /// The same for some Leases, the others being as they were; one without version is gone.
    pub fn observe_some<'a>(
        &mut self,
        leases: impl IntoIterator<Item = (&'a str, Option<&'a str>)>,
        now: Duration,
        grace: Duration,
        brake_percent: u32,
    ) -> bool {
        let unwatched = self
            .looked
            .is_some_and(|at| now.saturating_sub(at) >= grace * 2);
        let first = self.looked.replace(now).is_none();
        if unwatched {
            self.begin_anew(now, grace);
        }
        for (key, version) in leases {
            self.see(key, version, now, !first);
        }
        let old = self.silent(now, grace).count();
        let share = old * 100 / self.seen.len().max(1);
        let disrupted =
            self.seen.len() > 1 && share >= usize::try_from(brake_percent).unwrap_or(100);
        let mended = self.disrupted && !disrupted;
        if mended {
            self.begin_anew(now, grace);
        }
        self.disrupted = disrupted;
        unwatched || mended
    }

    fn see(&mut self, key: &str, version: Option<&str>, now: Duration, heard: bool) {
        let known = self.seen.get(key);
        if version.is_some() && known.map(|seen| seen.version.as_str()) == version {
            return;
        }
        if let Some(seen) = self.seen.remove(key) {
            self.order.remove(&(seen.at, key.to_owned()));
        }
        if let Some(version) = version {
            let (version, at) = (version.to_owned(), now);
            self.seen
                .insert(key.to_owned(), Seen { version, at, heard });
            self.order.insert((now, key.to_owned()));
        }
    }

    fn begin_anew(&mut self, now: Duration, grace: Duration) {
        for seen in self.seen.values_mut() {
            seen.heard &= seen.silence(now).lasts < grace;
            seen.at = now;
        }
        self.order = self.seen.keys().map(|key| (now, key.clone())).collect();
    }

    /// The hosts whose Lease was not seen to change for `grace`.
    pub fn silent(&self, now: Duration, grace: Duration) -> impl Iterator<Item = &str> {
        self.order
            .iter()
            .take_while(move |(at, _)| now.saturating_sub(*at) >= grace)
            .map(|(_, key)| key.as_str())
    }

    /// How silent a host is, if it has a Lease.
    pub fn silence(&self, key: &str, now: Duration) -> Option<Silence> {
        self.seen.get(key).map(|seen| seen.silence(now))
    }

    /// How silent each host is.
    pub fn silences(&self, now: Duration) -> BTreeMap<String, Silence> {
        let all = self.seen.iter();
        all.map(|(key, seen)| (key.clone(), seen.silence(now)))
            .collect()
    }
}
