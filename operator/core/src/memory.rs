//! What the operator remembers of a namespace from one pass to the next, so that a pass costs what changed and not what
//! there is.
//!
//! Two kinds of passes say the same. [`Memory::pass_over`] takes all objects, builds the worlds of their clusters anew and
//! asks everybody. [`Memory::pass`] takes the objects that changed, puts each in its place and asks whoever depends on it
//! (`kept`). A change that reaches far, because names resolve otherwise, hosts come or go, or a quota is near, is answered
//! with `None`, and whoever called makes a pass over everything. So does everybody now and then, and after a watch was listed
//! anew, since a change that nobody told of is not noticed here.

mod kept;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use tallyman_crds::sources::{self, SourceKind, SourceObject};
use tallyman_crds::{Cluster, ContainerInstance, HostPlan, RunTask, ScheduledTask, Service, Task};

use crate::families;
use crate::gather::{self, cluster_name, cluster_names};
use crate::liveness::Silence;
use crate::names::RunTaskName;
use crate::plan::Plan;
use crate::settings::Settings;
use crate::unreadable::Held;
use crate::world::{Objects, RunState, World};
use kept::Kept;

/// An object that changed, by name; without it when it is gone.
#[derive(Clone, Debug)]
pub enum Change {
    /// A Cluster.
    Cluster(String, Option<Arc<Cluster>>),
    /// A TaskDefinition or a revision, whichever.
    Definition,
    /// A TaskSet, whichever: what it runs follows from its service, and how many the service has.
    TaskSet,
    /// A Service.
    Service(String, Option<Arc<Service>>),
    /// A Task.
    Task(String, Option<Arc<Task>>),
    /// A RunTask.
    RunTask(String, Option<Arc<RunTask>>),
    /// A ScheduledTask.
    ScheduledTask(String, Option<Arc<ScheduledTask>>),
    /// A ContainerInstance.
    Instance(String, Option<Arc<ContainerInstance>>),
    /// A HostPlan.
    Plan(String, Option<Arc<HostPlan>>),
    /// A Secret or a ConfigMap: its metadata.
    Source(SourceKind, String, Option<Arc<ObjectMeta>>),
    /// The Lease of a host.
    Lease(String),
}

/// What is remembered of a namespace.
#[derive(Clone, Debug)]
pub struct Memory {
    namespace: String,
    settings: Settings,
    leader_epoch: i64,
    /// By name. Empty before the first pass.
    clusters: BTreeMap<String, Kept>,
    /// Runs of all clusters: schedules look at them.
    runs: BTreeMap<RunTaskName, RunState>,
    /// `family:revision` of the revisions that are being deleted and wait until nobody uses them.
    retiring: BTreeSet<String>,
    /// Nothing is to be decided about task definitions as long as none changes.
    settled: bool,
}

impl Memory {
    /// Of a namespace that was not looked at yet, for the leader of `leader_epoch`.
    pub fn new(namespace: &str, settings: &Settings, leader_epoch: i64) -> Memory {
        Memory {
            namespace: namespace.to_owned(),
            settings: settings.clone(),
            leader_epoch,
            clusters: BTreeMap::new(),
            runs: BTreeMap::new(),
            retiring: BTreeSet::new(),
            settled: false,
        }
    }

    /// A pass over everything: one plan for the namespace, and one for each of its clusters.
    pub fn pass_over(&mut self, objects: &Objects, now: Timestamp) -> Vec<Plan> {
        let held = Held::by(&objects.unreadable);
        let mut definitions = match held.everything() {
            true => Plan::default(),
            false => families::plan(objects, &self.namespace, now),
        };
        self.settled = definitions.len() == 0;
        let told = objects.unreadable.iter().map(|object| object.note());
        definitions.notes.extend(told);
        let remedies = objects.unreadable.iter().filter_map(|o| o.remedy());
        definitions.actions.extend(remedies);
        // What is not true any more needs no room beside what is.
        self.clusters = BTreeMap::new();
        self.retiring = families::retiring(objects);
        self.runs = gather::all_runs(objects);
        let names = cluster_names(objects).into_iter();
        let worlds = names.filter(|name| !held.holds(name)).map(|cluster| {
            let world = World::gather(
                objects,
                &self.namespace,
                &cluster,
                &self.settings,
                self.leader_epoch,
            );
            (cluster, Kept::of(world))
        });
        self.clusters = worlds.collect();
        let mut plans = vec![definitions];
        plans.extend(self.clusters.values_mut().map(|kept| kept.pass(now)));
        plans
    }

    /// A pass over what changed. `silence` is how silent a host is, as in
    /// [`Objects::silence`]. Plans are as of [`Memory::pass_over`]. `None`: what changed reaches too far, or nothing is known yet; [`Memory::pass_over`] is due.
    pub fn pass(
        &mut self,
        changes: Vec<Change>,
        silence: impl Fn(&str) -> Option<Silence>,
        now: Timestamp,
    ) -> Option<Vec<Plan>> {
        // Once something reached too far, what is known here is not the whole truth before it was built anew.
        if !std::mem::take(&mut self.settled) {
            return None;
        }
        for change in changes {
            self.take(change, &silence).ok()?;
        }
        self.settled = true;
        let passes = self.clusters.values_mut().map(|kept| {
            kept.look_at_hosts(&silence, now);
            kept.pass(now)
        });
        Some(std::iter::once(Plan::default()).chain(passes).collect())
    }

    /// The worlds of the clusters as they are remembered, in the order of their plans.
    pub fn worlds(&self) -> impl Iterator<Item = &World> {
        self.clusters.values().map(Kept::world)
    }

    /// What is remembered otherwise than objects and silences say, if anything: for tests.
    pub fn differs_from(&self, objects: &Objects) -> Option<String> {
        let names = cluster_names(objects);
        let unknown = names.iter().find(|name| !self.clusters.contains_key(*name));
        if let Some(name) = unknown {
            return Some(format!("cluster {name} is not known"));
        }
        self.clusters.iter().find_map(|(name, kept)| {
            let (space, settings) = (&self.namespace, &self.settings);
            let world = World::gather(objects, space, name, settings, self.leader_epoch);
            kept.differs_from(world)
        })
    }

    fn take(
        &mut self,
        change: Change,
        silence: &impl Fn(&str) -> Option<Silence>,
    ) -> Result<(), Far> {
        let clusters = &mut self.clusters;
        let retiring = &self.retiring;
        match change {
            Change::Definition | Change::TaskSet => return Err(Far),
            Change::Cluster(name, new) => clusters.get_mut(&name).ok_or(Far)?.cluster(new)?,
            Change::Service(name, new) => {
                let was = clusters.values().any(|kept| kept.has_service(&name));
                if was != new.is_some() && clusters.values().any(|kept| kept.has_task_set_of(&name))
                {
                    return Err(Far);
                }
                let of = new.as_ref().map(|s| s.spec.cluster.as_deref());
                if let Some(kept) = of_cluster(clusters, of, |kept| kept.has_service(&name))? {
                    kept.service(&name, new, retiring)?;
                }
            }
            Change::Task(name, new) => {
                let of = new.as_ref().map(|t| t.spec.cluster.as_deref());
                if let Some(kept) = of_cluster(clusters, of, |kept| kept.has_task(&name))? {
                    kept.task(&name, new, retiring)?;
                }
            }
            Change::RunTask(name, new) => self.run(&RunTaskName::from(name), new)?,
            Change::ScheduledTask(name, new) => {
                let of = new.as_ref().map(|s| s.spec.run_task.cluster.as_deref());
                if let Some(kept) = of_cluster(clusters, of, |kept| kept.has_schedule(&name))? {
                    kept.schedule(&name, new.as_ref(), &self.runs);
                }
            }
            Change::Instance(name, new) => {
                let of = new.as_ref().map(|i| i.spec.cluster.as_deref());
                if let Some(kept) = of_cluster(clusters, of, |kept| kept.has_instance(&name))? {
                    kept.instance(&name, new.as_ref())?;
                }
            }
            Change::Plan(name, new) => {
                for kept in clusters.values_mut() {
                    kept.plan(&name, new.as_ref());
                }
            }
            Change::Source(kind, name, meta) => {
                let version = meta.as_ref().and_then(|meta| sources::version(meta));
                let version = version.map(str::to_owned);
                let of_host = meta.filter(|_| version.is_none());
                let object = SourceObject { kind, name };
                for kept in clusters.values_mut() {
                    kept.source(&object, version.as_ref());
                    kept.secret(&object, of_host.as_deref());
                }
            }
            Change::Lease(host) => {
                for kept in clusters.values_mut() {
                    kept.lease(&host, silence(&host));
                }
            }
        }
        Ok(())
    }

    fn run(&mut self, name: &RunTaskName, new: Option<Arc<RunTask>>) -> Result<(), Far> {
        let of = new.as_ref().map(|r| r.spec.cluster.as_deref());
        let state = new.as_ref().map(gather::jobs::run);
        let has = |kept: &Kept| kept.has_run(name.as_str());
        if let Some(kept) = of_cluster(&mut self.clusters, of, has)? {
            kept.run(name, state.clone(), &self.retiring)?;
        }
        match state {
            Some(state) => self.runs.insert(name.clone(), state),
            None => self.runs.remove(name),
        };
        for kept in self.clusters.values_mut() {
            kept.run_of_schedule(name, &self.runs);
        }
        Ok(())
    }
}

/// A change reaches further than what is remembered can follow.
#[derive(Clone, Copy, Debug)]
struct Far;

/// Where an object belongs that is of cluster `new`, or is gone, and that `has` finds where it was before: nowhere, if it
/// is gone and was never seen.
fn of_cluster<'k>(
    clusters: &'k mut BTreeMap<String, Kept>,
    new: Option<Option<&str>>,
    has: impl Fn(&Kept) -> bool,
) -> Result<Option<&'k mut Kept>, Far> {
    let Some(given) = new else {
        return Ok(clusters.values_mut().find(|kept| has(kept)));
    };
    let cluster = cluster_name(given);
    let here = clusters.get(cluster).is_some_and(&has);
    if !here && clusters.values().any(has) {
        // It moved.
        return Err(Far);
    }
    clusters.get_mut(cluster).map(Some).ok_or(Far)
}
