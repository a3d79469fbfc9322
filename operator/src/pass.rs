//! A pass: gather, decide, apply, publish. And when the next one is.
//!
//! Events only wake a pass. Passes of a namespace that found nothing to do are spaced, so that fifty tasks reporting
//! one by one cost a few status writes and not fifty; a pass that acted is followed by the next one as soon as the
//! caches hold what it wrote.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use kube::Client;
use tallyman_operator_core::{Kind, Plan, Publication, Settings, World, families, plan, world};

use crate::apply::{Applier, Outcome};
use crate::events::Recorder;
use crate::http::Health;
use crate::snapshot::Snapshot;

/// Events that come together are handled together.
pub const COALESCE: Duration = Duration::from_millis(20);
/// Least time between two passes of a namespace when the first one wrote nothing but status.
const SPACING: Duration = Duration::from_millis(250);
/// Least time between two publications of one object's counts and messages; a change of its standing goes out at once.
const HOLD: Duration = Duration::from_secs(2);
/// A pass runs at least this often, whatever the watches say.
const PERIOD: Duration = Duration::from_secs(30);
/// A failed write is tried again after this time.
const RETRY: Duration = Duration::from_secs(2);
/// The caches not holding our own writes for longer than this: carry on without what destroys.
const CATCH_UP: Duration = Duration::from_secs(5);

/// What is remembered of a namespace between passes.
#[derive(Debug)]
struct Memory {
    next: Instant,
    earliest: Instant,
    written: BTreeMap<(Kind, String), Write>,
    published: BTreeMap<(Kind, String), Instant>,
}

impl Memory {
    fn new(now: Instant) -> Memory {
        Memory {
            next: now,
            earliest: now,
            written: BTreeMap::new(),
            published: BTreeMap::new(),
        }
    }

    /// Takes out what is held back, and says until when. The pass after that computes it anew.
    fn hold(&mut self, publications: &mut Vec<Publication>, now: Instant) -> Option<Instant> {
        let mut until = None::<Instant>;
        self.published
            .retain(|_, at| now.duration_since(*at) < HOLD);
        publications.retain(|p| {
            let key = (p.target.kind, p.target.name.clone());
            match self.published.get(&key) {
                Some(at) if !p.urgent => {
                    until = Some(until.map_or(*at + HOLD, |u| u.min(*at + HOLD)));
                    false
                }
                Some(_) | None => {
                    self.published.insert(key, now);
                    true
                }
            }
        });
        until
    }
}

/// A write of ours that the caches may not hold yet.
#[derive(Clone, Copy, Debug)]
struct Write {
    version: u64,
    created: bool,
    at: Instant,
}

/// Runs passes.
pub struct Passes {
    client: Client,
    settings: Settings,
    epoch: i64,
    health: Arc<Health>,
    recorder: Recorder,
    memory: BTreeMap<String, Memory>,
}

impl Passes {
    /// Passes of the leader of `epoch`.
    pub fn new(
        client: Client,
        settings: Settings,
        epoch: i64,
        health: Arc<Health>,
        recorder: Recorder,
    ) -> Passes {
        Passes {
            client,
            settings,
            epoch,
            health,
            recorder,
            memory: BTreeMap::new(),
        }
    }

    /// `namespace` changed: its next pass is as soon as the spacing lets it.
    pub fn wake(&mut self, namespace: &str) {
        let memory = self.of(namespace);
        memory.next = memory.next.min(memory.earliest.max(Instant::now()));
    }

    /// When the next pass of any namespace is due.
    pub fn due(&self) -> Option<Instant> {
        self.memory.values().map(|m| m.next).min()
    }

    fn of(&mut self, namespace: &str) -> &mut Memory {
        self.memory
            .entry(namespace.to_owned())
            .or_insert_with(|| Memory::new(Instant::now()))
    }

    /// Runs every pass that is due.
    pub async fn run(&mut self, snapshot: &mut Snapshot) {
        let now = Instant::now();
        let due: Vec<String> = self
            .memory
            .iter()
            .filter(|(_, m)| m.next <= now)
            .map(|(n, _)| n.clone())
            .collect();
        for namespace in due {
            self.pass(&namespace, snapshot).await;
        }
    }

    async fn pass(&mut self, namespace: &str, snapshot: &mut Snapshot) {
        let started = Instant::now();
        let caught_up = self.caught_up(namespace, snapshot);
        if !caught_up
            && self
                .of(namespace)
                .written
                .values()
                .any(|w| w.at.elapsed() < CATCH_UP)
        {
            // Our own writes are on their way to the caches; their arrival wakes us.
            self.of(namespace).next = started + CATCH_UP / 10;
            return;
        }
        if !caught_up {
            self.look(namespace).await;
        }

        let objects = snapshot.gather(namespace, &self.settings).await;
        let plans = decide(&objects, namespace, &self.settings, self.epoch);

        let applier = Applier {
            client: &self.client,
            namespace,
            health: &self.health,
        };
        let (mut acted, mut failed, mut wake_at) = (false, false, None::<Timestamp>);
        let mut outcomes = Vec::new();
        let mut publications = Vec::new();
        let mut notes = Vec::new();
        for mut plan in plans {
            if !caught_up {
                let all = plan.actions.len();
                plan.actions.retain(|a| !a.destructive());
                // What was held back is decided anew as soon as nothing of ours is under way.
                failed |= plan.actions.len() < all;
            }
            acted |= !plan.actions.is_empty();
            wake_at = [wake_at, plan.wake_at].into_iter().flatten().min();
            outcomes.extend(applier.apply(plan.actions).await);
            publications.extend(plan.publications);
            notes.extend(plan.notes);
        }
        let memory = self
            .memory
            .entry(namespace.to_owned())
            .or_insert_with(|| Memory::new(started));
        let held = memory.hold(&mut publications, started);
        let published = applier.publish(publications).await;
        self.recorder.record(&self.client, namespace, notes).await;
        self.health
            .metrics
            .pass_seconds
            .observe(started.elapsed().as_secs_f64());

        let now = Instant::now();
        let memory = self.of(namespace);
        for outcome in outcomes.into_iter().chain(published) {
            match outcome {
                Outcome::Written {
                    kind,
                    name,
                    version,
                    created,
                } => {
                    memory.written.insert(
                        (kind, name),
                        Write {
                            version,
                            created,
                            at: now,
                        },
                    );
                }
                Outcome::Settled => {}
                Outcome::Failed => failed = true,
            }
        }
        memory.earliest = if acted { now } else { now + SPACING };
        memory.next = now + if failed { RETRY } else { PERIOD };
        if let Some(until) = held {
            memory.next = memory.next.min(until.max(memory.earliest));
        }
        if let Some(at) = wake_at {
            let wait =
                Duration::try_from(at.duration_since(Timestamp::now())).unwrap_or(Duration::ZERO);
            memory.next = memory.next.min(memory.earliest.max(now + wait));
        }
    }

    /// Looks live at what was written and does not come: an object that is gone is not waited for. Everything else
    /// is: a cache that does not hold our own writes must not be decided on.
    async fn look(&mut self, namespace: &str) {
        let applier = Applier {
            client: &self.client,
            namespace,
            health: &self.health,
        };
        let missing: Vec<_> = self
            .memory
            .get(namespace)
            .into_iter()
            .flat_map(|m| m.written.keys().cloned())
            .collect();
        let mut gone = Vec::new();
        for (kind, name) in missing {
            if applier.is_gone(kind, &name).await {
                gone.push((kind, name));
            }
        }
        let memory = self.of(namespace);
        for key in gone {
            memory.written.remove(&key);
        }
    }

    /// True when the caches hold everything that was written.
    fn caught_up(&mut self, namespace: &str, snapshot: &Snapshot) -> bool {
        let memory = self.of(namespace);
        memory.written.retain(|(kind, name), write| {
            match snapshot.cached_version(*kind, namespace, name) {
                Some(seen) => seen < write.version,
                // An object that was there and is no longer has been deleted since.
                None => write.created,
            }
        });
        memory.written.is_empty()
    }
}

/// Asks the core: once for the namespace, once for each of its clusters.
fn decide(objects: &world::Objects, namespace: &str, settings: &Settings, epoch: i64) -> Vec<Plan> {
    let now = Timestamp::now();
    let mut plans = vec![families::plan(objects, namespace, now)];
    for cluster in world::cluster_names(objects) {
        let world = World::gather(objects, namespace, &cluster, settings, epoch);
        plans.push(plan(&world, now));
    }
    plans
}
