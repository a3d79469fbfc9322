//! What the world knows of its objects together: who belongs to whom, and how many there are. Kept by every object that
//! comes, changes or goes, so that one of them never costs a look at all.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use tallyman_crds::sources::SourceObject;
use tallyman_crds::{KeepOnReturn, LastStatus};

use super::{InstanceState, PlanState, RunState, ScheduleState, ServiceState, TaskState, World};
use crate::names::{InstanceName, RunTaskName, ScheduledTaskName, ServiceName, TaskName};
use crate::settings::Settings;

/// Tasks that belong together, by name. It shares their states with the world: to look at all tasks of a service among fifty
/// thousand is one look into a tree, and not one for every task.
#[derive(Clone, Default)]
pub(crate) struct Tasks(BTreeMap<TaskName, Arc<TaskState>>);

impl Tasks {
    /// In order of name.
    pub fn iter(&self) -> impl Iterator<Item = (&TaskName, &TaskState)> {
        self.0.iter().map(|(name, task)| (name, &**task))
    }
}

/// Which tasks, and as of which write of each: what else there is to say of them the world says.
impl fmt::Debug for Tasks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let version = |task: &TaskState| task.identity.resource_version.clone();
        let tasks = self.iter().map(|(name, task)| (name, version(task)));
        f.debug_map().entries(tasks).finish()
    }
}

/// Who belongs to whom. What has nothing is absent.
#[derive(Clone, Debug, Default)]
pub(crate) struct Index {
    /// Tasks of each service.
    pub by_service: BTreeMap<ServiceName, Tasks>,
    /// Tasks that say they are of a run.
    pub by_run: BTreeMap<RunTaskName, Tasks>,
    /// Tasks on each host, and on each that is not there.
    pub by_host: BTreeMap<InstanceName, Tasks>,
    /// Names of the tasks that take something of a Secret or a ConfigMap.
    pub by_source: BTreeMap<SourceObject, BTreeSet<TaskName>>,
    /// Hosts that tasks are on and that are not there.
    pub homeless: BTreeSet<InstanceName>,
    /// Hosts that are being deleted, or whose agent is not connected: those that may be lost.
    pub suspects: BTreeSet<InstanceName>,
    /// DAEMON services.
    pub daemons: BTreeSet<ServiceName>,
    /// Services that protected tasks hold up.
    pub blocked: BTreeSet<ServiceName>,
    /// Availability zones, and how many hosts are in each.
    pub zones: BTreeMap<String, usize>,
    /// Counts.
    pub counts: Counts,
}

/// How many of each there are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    /// Tasks that are RUNNING.
    pub running: usize,
    /// Tasks that hold resources and do not run yet.
    pub pending: usize,
    /// Tasks that are not STOPPED.
    pub holding: usize,
    /// Services that are not being deleted.
    pub active_services: usize,
    /// Runs that have not ended.
    pub open_runs: usize,
    /// Hosts whose agent registered.
    pub registered: usize,
    /// Those of them whose agent is not connected.
    pub dead: usize,
    /// Services and tasks that have their own say in what a host's silence means: as long as there are none, nobody's are
    /// looked at.
    pub own_say: usize,
}

fn step(count: &mut usize, applies: bool, comes: bool) {
    let by = usize::from(applies);
    *count = if comes {
        *count + by
    } else {
        count.saturating_sub(by)
    };
}

/// Enters `value` under `key`, or takes it out.
fn list<K: Ord + Clone, V: Ord + Clone>(
    index: &mut BTreeMap<K, BTreeSet<V>>,
    key: &K,
    value: &V,
    comes: bool,
) {
    if comes {
        match index.get_mut(key) {
            Some(values) => {
                values.insert(value.clone());
            }
            None => {
                index.insert(key.clone(), BTreeSet::from([value.clone()]));
            }
        }
    } else if let Some(values) = index.get_mut(key) {
        values.remove(value);
        if values.is_empty() {
            index.remove(key);
        }
    }
}

/// Enters a task under the key that it has now, and takes it out where it was before.
fn keep<K: Ord + Clone>(
    index: &mut BTreeMap<K, Tasks>,
    name: &TaskName,
    old: Option<&TaskState>,
    new: Option<&Arc<TaskState>>,
    key: fn(&TaskState) -> Option<&K>,
) {
    let new = new.and_then(|task| Some((key(task)?, task)));
    if let Some(old) = old.and_then(key)
        && new.is_none_or(|(new, _)| new != old)
        && let Some(tasks) = index.get_mut(old)
    {
        tasks.0.remove(name);
        if tasks.0.is_empty() {
            index.remove(old);
        }
    }
    let Some((key, task)) = new else { return };
    let tasks = match index.get_mut(key) {
        Some(tasks) => tasks,
        None => index.entry(key.clone()).or_default(),
    };
    match tasks.0.get_mut(name) {
        Some(known) => *known = task.clone(),
        None => drop(tasks.0.insert(name.clone(), task.clone())),
    }
}

impl Index {
    /// A task comes, changes or goes.
    fn task(&mut self, name: &TaskName, old: Option<&TaskState>, new: Option<&Arc<TaskState>>) {
        keep(&mut self.by_service, name, old, new, |t| t.service.as_ref());
        keep(&mut self.by_run, name, old, new, |t| t.run.as_ref());
        keep(&mut self.by_host, name, old, new, |t| t.instance.as_ref());
        if old.map(|t| &t.sources) != new.map(|t| &t.sources) {
            for (t, comes) in [(old, false), (new.map(|t| &**t), true)] {
                for source in t.iter().flat_map(|t| &t.sources) {
                    list(&mut self.by_source, &source.object, name, comes);
                }
            }
        }
        old.into_iter().for_each(|t| self.count_task(t, false));
        new.into_iter().for_each(|t| self.count_task(t, true));
    }

    fn count_task(&mut self, t: &TaskState, comes: bool) {
        let counts = &mut self.counts;
        step(&mut counts.running, t.last == LastStatus::Running, comes);
        step(
            &mut counts.pending,
            t.holds() && t.last < LastStatus::Running,
            comes,
        );
        step(&mut counts.holding, t.holds(), comes);
        step(&mut counts.own_say, t.fenced_after.is_some(), comes);
    }

    fn service(&mut self, name: &ServiceName, s: &ServiceState, comes: bool) {
        step(
            &mut self.counts.active_services,
            !s.identity.deleting,
            comes,
        );
        let own_say = s.replace_after.is_some() || s.keep_on_return == KeepOnReturn::Original;
        step(&mut self.counts.own_say, own_say, comes);
        let enter = |set: &mut BTreeSet<ServiceName>, belongs: bool| {
            if belongs && comes {
                set.insert(name.clone());
            } else {
                set.remove(name);
            }
        };
        enter(&mut self.daemons, s.daemon);
        enter(&mut self.blocked, s.blocked_by_protection());
    }

    fn instance(
        &mut self,
        name: &InstanceName,
        i: &InstanceState,
        settings: &Settings,
        comes: bool,
    ) {
        let connected = i.connected(settings);
        let registered = i.host.is_some();
        step(&mut self.counts.registered, registered, comes);
        step(&mut self.counts.dead, registered && !connected, comes);
        if comes && (i.identity.deleting || !connected) {
            self.suspects.insert(name.clone());
        } else {
            self.suspects.remove(name);
        }
        if let Some(zone) = i.zone() {
            let count = self.zones.entry(zone.to_owned()).or_default();
            step(count, true, comes);
            if *count == 0 {
                self.zones.remove(zone);
            }
        }
    }
}

/// Each takes an object in instead of the one of its name, or takes that out, and returns it.
impl World {
    pub(crate) fn put_task(
        &mut self,
        name: &TaskName,
        new: Option<TaskState>,
    ) -> Option<Arc<TaskState>> {
        let new = new.map(Arc::new);
        let old = match new.clone() {
            Some(new) => self.tasks.insert(name.clone(), new),
            None => self.tasks.remove(name),
        };
        self.index.task(name, old.as_deref(), new.as_ref());
        let was = old.as_ref().and_then(|t| t.instance.as_ref());
        let is = new.as_ref().and_then(|t| t.instance.as_ref());
        if was != is {
            self.note_home(was);
            self.note_home(is);
        }
        old
    }

    fn note_home(&mut self, host: Option<&InstanceName>) {
        let Some(host) = host else { return };
        if self.index.by_host.contains_key(host) && !self.instances.contains_key(host) {
            self.index.homeless.insert(host.clone());
        } else {
            self.index.homeless.remove(host);
        }
    }

    pub(crate) fn put_service(
        &mut self,
        name: &ServiceName,
        new: Option<ServiceState>,
    ) -> Option<ServiceState> {
        let old = match new {
            Some(new) => self.services.insert(name.clone(), new),
            None => self.services.remove(name),
        };
        if let Some(old) = &old {
            self.index.service(name, old, false);
        }
        if let Some(new) = self.services.get(name) {
            self.index.service(name, new, true);
        }
        old
    }

    pub(crate) fn put_run(
        &mut self,
        name: &RunTaskName,
        new: Option<RunState>,
    ) -> Option<RunState> {
        let old = self.runs.remove(name);
        let open = &mut self.index.counts.open_runs;
        step(open, old.as_ref().is_some_and(|r| !r.finished()), false);
        step(open, new.as_ref().is_some_and(|r| !r.finished()), true);
        if let Some(new) = new {
            self.runs.insert(name.clone(), new);
        }
        old
    }

    pub(crate) fn put_schedule(
        &mut self,
        name: &ScheduledTaskName,
        new: Option<ScheduleState>,
    ) -> Option<ScheduleState> {
        match new {
            Some(new) => self.schedules.insert(name.clone(), new),
            None => self.schedules.remove(name),
        }
    }

    /// A host comes before the tasks on it, and never goes: a world with fewer hosts is another one.
    pub(crate) fn put_instance(
        &mut self,
        name: &InstanceName,
        new: InstanceState,
    ) -> Option<InstanceState> {
        let old = self.instances.insert(name.clone(), new);
        if let Some(old) = &old {
            self.index.instance(name, old, &self.settings, false);
        }
        if let Some(new) = self.instances.get(name) {
            self.index.instance(name, new, &self.settings, true);
        }
        old
    }

    pub(crate) fn put_plan(
        &mut self,
        host: &InstanceName,
        new: Option<PlanState>,
    ) -> Option<PlanState> {
        match new {
            Some(new) => self.plans.insert(host.clone(), new),
            None => self.plans.remove(host),
        }
    }

    /// Something names this cluster.
    pub(crate) fn in_use(&self) -> bool {
        !self.services.is_empty()
            || !self.instances.is_empty()
            || !self.schedules.is_empty()
            || !self.task_sets.is_empty()
            || self.index.counts.open_runs > 0
            || self.index.counts.holding > 0
    }
}
