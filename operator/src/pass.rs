//! A pass: gather, decide, apply, publish. When the next one is, the core's `pacing` says.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use kube::Client;
use tallyman_operator_core::pacing::{Key, Pace, Turn};
use tallyman_operator_core::{Plan, Settings, World, families, plan, world};

use crate::apply::Applier;
use crate::events::Recorder;
use crate::http::Health;
use crate::snapshot::Snapshot;

/// Events that come together are handled together.
pub const COALESCE: Duration = Duration::from_millis(20);

/// Runs passes.
pub struct Passes {
    client: Client,
    settings: Settings,
    epoch: i64,
    health: Arc<Health>,
    recorder: Recorder,
    began: Instant,
    paces: BTreeMap<String, Pace>,
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
            began: Instant::now(),
            paces: BTreeMap::new(),
        }
    }

    /// `namespace` changed: its next pass is as soon as its pace lets it.
    pub fn wake(&mut self, namespace: &str) {
        let now = self.began.elapsed();
        self.paces
            .entry(namespace.to_owned())
            .or_insert_with(|| Pace::new(now))
            .wake(now);
    }

    /// When the next pass of any namespace is due.
    pub fn due(&self) -> Option<Instant> {
        self.paces.values().map(|p| self.began + p.due()).min()
    }

    /// Runs every pass that is due.
    pub async fn run(&mut self, snapshot: &mut Snapshot) {
        let mut paces = std::mem::take(&mut self.paces);
        for (namespace, pace) in &mut paces {
            if pace.due() <= self.began.elapsed() {
                self.pass(namespace, pace, snapshot).await;
            }
        }
        self.paces = paces;
    }

    async fn pass(&mut self, namespace: &str, pace: &mut Pace, snapshot: &mut Snapshot) {
        let started = Instant::now();
        let applier = Applier {
            client: &self.client,
            namespace,
            health: &self.health,
        };
        let seen = |(kind, name): &Key| snapshot.cached_version(*kind, namespace, name);
        match pace.turn(self.began.elapsed(), seen) {
            Turn::Go => {}
            Turn::Later => return,
            Turn::Look(missing) => {
                for key in missing {
                    if applier.is_gone(key.0, &key.1).await {
                        pace.forget(&key);
                    }
                }
            }
        }

        let objects = snapshot.gather(namespace, &self.settings).await;
        let plans = decide(&objects, namespace, &self.settings, self.epoch);
        let plan = pace.admit(plans, self.began.elapsed());

        let mut outcomes = applier.apply(plan.actions).await;
        let (published, told) = applier.publish(plan.publications).await;
        outcomes.extend(published);
        let notes = self.recorder.fresh(plan.notes).into_iter().chain(told);
        self.recorder
            .record(&self.client, namespace, notes.collect())
            .await;
        self.health
            .metrics
            .pass_seconds
            .observe(started.elapsed().as_secs_f64());
        pace.finish(outcomes, self.began.elapsed(), Timestamp::now());
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
