//! A pass: gather, decide, apply, publish. When the next one is, the core's `pacing` says.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use kube::Client;
use tallyman_operator_core::figures::{self, Starts};
use tallyman_operator_core::pacing::{self, Pace, Turn};
use tallyman_operator_core::traces::Traces;
use tallyman_operator_core::{Memory, Plan, Settings};

use crate::apply::Applier;
use crate::dirty::{Key, News, Watched};
use crate::events::Recorder;
use crate::http::Health;
use crate::snapshot::Snapshot;
use crate::traces::Outlet;

/// Events that come together are handled together.
pub const COALESCE: Duration = Duration::from_millis(20);

/// How often /metrics shows how clusters and services stand. The loop of the leader runs at least as often.
const SHOWN_EVERY: Duration = Duration::from_secs(10);

/// How often rollouts are looked at for their traces, at most, while somebody takes them.
const TRACED_EVERY: Duration = Duration::from_secs(2);

/// Runs passes.
pub struct Passes {
    client: Client,
    settings: Settings,
    epoch: i64,
    health: Arc<Health>,
    recorder: Recorder,
    began: Instant,
    namespaces: BTreeMap<String, Namespace>,
    starts: Starts,
    shown: Option<Instant>,
    outlet: Outlet,
    traces: Traces,
    traced: Option<Instant>,
}

/// What is known of a namespace.
struct Namespace {
    pace: Pace,
    memory: Memory,
    /// What is to be looked at in the next pass.
    changed: BTreeSet<Key>,
}

impl Passes {
    /// Passes of the leader of `epoch`.
    pub fn new(
        client: Client,
        settings: Settings,
        epoch: i64,
        health: Arc<Health>,
        recorder: Recorder,
        outlet: Outlet,
    ) -> Passes {
        Passes {
            client,
            settings,
            epoch,
            health,
            recorder,
            began: Instant::now(),
            namespaces: BTreeMap::new(),
            starts: Starts::default(),
            shown: None,
            outlet,
            traces: Traces::default(),
            traced: None,
        }
    }

    /// Takes in what changed: the next pass of each namespace is as soon as its pace lets it.
    pub fn tell(&mut self, news: News, snapshot: &Snapshot) {
        for (namespace, changed) in news.changed {
            self.wake(&namespace).changed.extend(changed);
        }
        if news.anything {
            for namespace in snapshot.namespaces() {
                self.wake(&namespace).pace.missed();
            }
            // Those of which nothing is left, too.
            for known in self.namespaces.values_mut() {
                known.pace.missed();
            }
        }
    }

    fn wake(&mut self, namespace: &str) -> &mut Namespace {
        let now = self.began.elapsed();
        let known = self
            .namespaces
            .entry(namespace.to_owned())
            .or_insert_with(|| Namespace {
                pace: Pace::new(now),
                memory: Memory::new(namespace, &self.settings, self.epoch),
                changed: BTreeSet::new(),
            });
        known.pace.wake(now);
        known
    }

    /// When the next pass of any namespace is due.
    pub fn due(&self) -> Option<Instant> {
        let paces = self.namespaces.values().map(|n| n.pace.due());
        paces.min().map(|due| self.began + due)
    }

    /// Number of the leader.
    pub fn epoch(&self) -> i64 {
        self.epoch
    }

    /// Runs every pass that is due.
    pub async fn run(&mut self, snapshot: &mut Snapshot) {
        let mut namespaces = std::mem::take(&mut self.namespaces);
        for (namespace, known) in &mut namespaces {
            if known.pace.due() <= self.began.elapsed() {
                self.pass(namespace, known, snapshot).await;
            }
        }
        self.namespaces = namespaces;
        self.health.metrics.unreadable(snapshot.unreadable());
        self.show();
        self.trace();
    }

    /// Shows how things stand, now and then: it costs a look at every task.
    fn show(&mut self) {
        let waiting = self.namespaces.values().map(|known| known.changed.len());
        self.health.metrics.waiting(waiting.sum());
        if self.shown.is_some_and(|at| at.elapsed() < SHOWN_EVERY) {
            return;
        }
        self.shown = Some(Instant::now());
        let worlds: Vec<_> = self
            .namespaces
            .values()
            .flat_map(|known| known.memory.worlds())
            .collect();
        let clusters: Vec<_> = worlds.iter().map(|world| figures::of(world)).collect();
        let starts = self.starts.since(&worlds, Timestamp::now());
        self.health.metrics.show(&clusters, &starts);
    }

    /// Tells what of rollouts is over, if somebody wants to know: it costs a look at every service, and at the tasks of those that roll.
    fn trace(&mut self) {
        if !self.outlet.is_open() || self.traced.is_some_and(|at| at.elapsed() < TRACED_EVERY) {
            return;
        }
        self.traced = Some(Instant::now());
        let known = self.namespaces.values();
        let worlds: Vec<_> = known.flat_map(|known| known.memory.worlds()).collect();
        self.outlet
            .tell(self.traces.since(&worlds, Timestamp::now()));
    }

    async fn pass(&mut self, namespace: &str, known: &mut Namespace, snapshot: &mut Snapshot) {
        let started = Instant::now();
        let applier = Applier {
            client: &self.client,
            namespace,
            health: &self.health,
        };
        // A cache may hold what we wrote before its watch tells: where the pace looks, memory looks, too.
        let changed = &mut known.changed;
        let seen = |(kind, name): &pacing::Key| {
            changed.insert((Watched::Object(*kind), name.clone()));
            snapshot.cached_version(*kind, namespace, name)
        };
        match known.pace.turn(self.began.elapsed(), seen) {
            Turn::Go => {}
            Turn::Later => return,
            Turn::Look(missing) => {
                for key in missing {
                    if applier.is_gone(key.0, &key.1).await {
                        known.pace.forget(&key);
                    }
                }
            }
        }

        let plans = self.decide(namespace, known, snapshot).await;
        let plan = known.pace.admit(plans, self.began.elapsed());

        let failures = plan.failures;
        let mut outcomes = applier.apply(plan.actions).await;
        let (published, told) = applier.publish(plan.publications).await;
        outcomes.extend(published);
        let notes = self.recorder.fresh(plan.notes).into_iter().chain(told);
        self.recorder
            .record(&self.client, namespace, notes.collect())
            .await;
        self.health.metrics.passed(started.elapsed(), &failures);
        known
            .pace
            .finish(outcomes, self.began.elapsed(), Timestamp::now());
    }

    /// Asks the core: about what changed, or about everything, when that reaches far or it is time.
    async fn decide(
        &self,
        namespace: &str,
        known: &mut Namespace,
        snapshot: &mut Snapshot,
    ) -> Vec<Plan> {
        let settings = &self.settings;
        let changed = std::mem::take(&mut known.changed);
        if known.pace.part_will_do(self.began.elapsed())
            && let Some(changes) = snapshot.changes(namespace, &changed, settings).await
        {
            let silence = |host: &str| snapshot.silence(namespace, host);
            if let Some(plans) = known.memory.pass(changes, silence, Timestamp::now()) {
                return plans;
            }
        }
        let objects = snapshot.gather(namespace, settings).await;
        known.pace.looked(self.began.elapsed());
        known.memory.pass_over(&objects, Timestamp::now())
    }
}
