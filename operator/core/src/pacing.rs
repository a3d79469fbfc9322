//! When the passes of a namespace run, and how much of what they decide goes out at once.
//!
//! Events only wake a pass. Passes that found nothing to do are spaced, so that fifty tasks reporting one by one cost a few
//! status writes and not fifty; a pass that acted is followed by the next one as soon as the caches hold what it wrote.
//! Nothing that cannot be taken back is decided on caches that lack our own writes.
//!
//! Times are durations since the process began, on its monotonic clock.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;

use crate::plan::{Kind, Plan, Publication};

/// Least time between two passes when the first one wrote nothing but status.
pub const SPACING: Duration = Duration::from_millis(250);
/// Least time between two publications of one object's counts and messages; a change of its standing goes out at once.
pub const HOLD: Duration = Duration::from_secs(2);
/// A pass runs at least this often, whatever the watches say.
pub const PERIOD: Duration = Duration::from_secs(30);
/// A failed write is tried again after this time.
pub const RETRY: Duration = Duration::from_secs(2);
/// The caches not holding our own writes for longer than this: look live, and carry on without what cannot be taken back.
pub const CATCH_UP: Duration = Duration::from_secs(5);
/// One object among those of a namespace.
pub type Key = (Kind, String);

/// What became of a write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Stored.
    Written {
        /// Which object.
        key: Key,
        /// Its resourceVersion after the write.
        version: u64,
        /// It was not there before: as long as a cache does not hold it, the write has not arrived.
        created: bool,
    },
    /// Nothing to wait for: it is so already, or the object is gone or has changed since.
    Settled,
    /// It failed, and the next pass tries again.
    Failed,
}

/// Whether a pass that is due may run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Turn {
    /// It may.
    Go,
    /// Our own writes are on their way to the caches; their arrival wakes us.
    Later,
    /// These writes do not come. It may, after a live read of each: what is gone is to be [forgotten](Pace::forget).
    Look(Vec<Key>),
}

/// A write of ours that the caches may not hold yet.
#[derive(Clone, Copy, Debug)]
struct Write {
    version: u64,
    created: bool,
    at: Duration,
}

/// What the pass under way leaves for its end.
#[derive(Clone, Copy, Debug, Default)]
struct Pass {
    acted: bool,
    cut: bool,
    held_until: Option<Duration>,
    wake_at: Option<Timestamp>,
}

/// The pace of one namespace.
#[derive(Clone, Debug)]
pub struct Pace {
    next: Duration,
    earliest: Duration,
    written: BTreeMap<Key, Write>,
    published: BTreeMap<Key, Duration>,
    pass: Pass,
    /// When everything was looked at, unless it is to be done next.
    looked: Option<Duration>,
}

impl Pace {
    /// Of a namespace first heard of at `now`; its first pass is due at once.
    pub fn new(now: Duration) -> Pace {
        Pace {
            next: now,
            earliest: now,
            written: BTreeMap::new(),
            published: BTreeMap::new(),
            pass: Pass::default(),
            looked: None,
        }
    }

    /// A pass over what changed will do at `now`: everything was looked at less than [`PERIOD`] ago, and nothing was missed since.
    pub fn part_will_do(&self, now: Duration) -> bool {
        self.looked.is_some_and(|at| now < at + PERIOD)
    }

    /// Everything was looked at.
    pub fn looked(&mut self, now: Duration) {
        self.looked = Some(now);
    }

    /// Changes may have been missed: the next pass looks at everything.
    pub fn missed(&mut self) {
        self.looked = None;
    }

    /// Something changed: the next pass is as soon as the spacing lets it.
    pub fn wake(&mut self, now: Duration) {
        self.next = self.next.min(self.earliest.max(now));
    }

    /// When the next pass is due.
    pub fn due(&self) -> Duration {
        self.next
    }

    /// Asked when a pass is due. `seen` is the resourceVersion at which a cache holds an object.
    pub fn turn(&mut self, now: Duration, mut seen: impl FnMut(&Key) -> Option<u64>) -> Turn {
        self.written.retain(|key, write| match seen(key) {
            Some(version) => version < write.version,
            // An object that was there and is no longer has been deleted since.
            None => write.created,
        });
        if self.written.is_empty() {
            Turn::Go
        } else if self.written.values().any(|w| now < w.at + CATCH_UP) {
            self.next = now + CATCH_UP / 10;
            Turn::Later
        } else {
            Turn::Look(self.written.keys().cloned().collect())
        }
    }

    /// The API server says that there is no such object: nothing of it is waited for.
    pub fn forget(&mut self, key: &Key) {
        self.written.remove(key);
    }

    /// What of a pass's decisions goes out at `now`, as one plan. Held back is what cannot be taken back while the caches
    /// lack our own writes, with the statuses that tell of it, and counts and messages published less than [`HOLD`] ago; a later pass decides both anew.
    pub fn admit(&mut self, plans: Vec<Plan>, now: Duration) -> Plan {
        let mut whole = Plan::default();
        for plan in plans {
            whole.actions.extend(plan.actions);
            whole.publications.extend(plan.publications);
            whole.notes.extend(plan.notes);
            for (reason, times) in plan.failures {
                *whole.failures.entry(reason).or_default() += times;
            }
            whole.wake_at = [whole.wake_at, plan.wake_at].into_iter().flatten().min();
        }
        let decided = whole.actions.len();
        if !self.written.is_empty() {
            whole.actions.retain(|a| !a.destructive());
            whole.publications.retain(|p| !p.deeds);
        }
        self.pass = Pass {
            acted: !whole.actions.is_empty(),
            cut: whole.actions.len() < decided,
            held_until: self.hold(&mut whole.publications, now),
            wake_at: whole.wake_at,
        };
        whole
    }

    /// Takes out what is held back, and says until when.
    fn hold(&mut self, publications: &mut Vec<Publication>, now: Duration) -> Option<Duration> {
        self.published.retain(|_, at| now < *at + HOLD);
        let mut until = None::<Duration>;
        publications.retain(|p| {
            let key = (p.target.kind, p.target.name.clone());
            let at = self.published.get(&key).copied().filter(|_| !p.urgent);
            match at {
                Some(at) => until = [until, Some(at + HOLD)].into_iter().flatten().min(),
                None => {
                    self.published.insert(key, now);
                }
            }
            at.is_none()
        });
        until
    }

    /// Ends the pass: remembers what was written, and says when the next one is due. `now` and `wall` are the same moment.
    pub fn finish(
        &mut self,
        outcomes: impl IntoIterator<Item = Outcome>,
        now: Duration,
        wall: Timestamp,
    ) {
        let pass = std::mem::take(&mut self.pass);
        let mut again = pass.cut;
        for outcome in outcomes {
            match outcome {
                Outcome::Written {
                    key,
                    version,
                    created,
                } => {
                    let write = Write {
                        version,
                        created,
                        at: now,
                    };
                    self.written.insert(key, write);
                }
                Outcome::Settled => {}
                Outcome::Failed => again = true,
            }
        }
        let asked = pass
            .wake_at
            .map(|at| now + Duration::try_from(at.duration_since(wall)).unwrap_or(Duration::ZERO));
        self.earliest = if pass.acted { now } else { now + SPACING };
        self.next = [pass.held_until, asked]
            .into_iter()
            .flatten()
            .map(|at| at.max(self.earliest))
            .fold(now + if again { RETRY } else { PERIOD }, Duration::min);
    }
}
