//! One cluster as it is remembered: its world, what is left on its hosts, who is to be asked; and who depends on what.
//!
//! Dependencies are coarse: rather one unit too many is asked than one too few. What decides is which fields of which
//! states a unit's decision reads; where a decision comes to read more, it is added here, and the property test that holds
//! this against passes over everything says so if it is not.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use tallyman_crds::sources::{SourceKind, SourceObject};
use tallyman_crds::{
    Cluster, Connectivity, ContainerInstance, DesiredInstanceStatus, HostPlan, ScheduledTask,
    Service, Task, names,
};

use super::Far;
use crate::attention::{Attention, Unit};
use crate::disconnect;
use crate::families;
use crate::gather;
use crate::liveness::Silence;
use crate::names::{InstanceName, RunTaskName, ScheduledTaskName, ServiceName, TaskName};
use crate::pass;
use crate::placement::{Ledger, Reach};
use crate::plan::Plan;
use crate::quotas;
use crate::world::{InstanceState, RunState, ServiceState, TaskState, Tasks, World};

/// One cluster.
#[derive(Clone, Debug)]
pub(super) struct Kept {
    world: World,
    ledger: Ledger,
    attention: Attention,
}

impl Kept {
    /// A cluster in which everybody is to be asked.
    pub fn of(world: World) -> Kept {
        Kept {
            ledger: Ledger::of(&world),
            world,
            attention: Attention::default(),
        }
    }

    /// Asks who is awake.
    pub fn pass(&mut self, now: Timestamp) -> Plan {
        pass::pass(&self.world, &mut self.ledger, &mut self.attention, now)
    }

    pub fn world(&self) -> &World {
        &self.world
    }

    pub fn has_service(&self, name: &str) -> bool {
        self.world.services.contains_key(name)
    }

    /// A task set says that it is of this service.
    pub fn has_task_set_of(&self, service: &str) -> bool {
        let mut sets = self.world.task_sets.values();
        sets.any(|set| set.service.as_str() == service)
    }

    pub fn has_task(&self, name: &str) -> bool {
        self.world.tasks.contains_key(name)
    }

    pub fn has_run(&self, name: &str) -> bool {
        self.world.runs.contains_key(name)
    }

    pub fn has_schedule(&self, name: &str) -> bool {
        self.world.schedules.contains_key(name)
    }

    pub fn has_instance(&self, name: &str) -> bool {
        self.world.instances.contains_key(name)
    }

    // --- what changed ---

    /// The Cluster itself is looked at in every pass. Another policy reaches every task definition and every plan.
    pub fn cluster(&mut self, new: Option<Arc<Cluster>>) -> Result<(), Far> {
        let policy = |c: &Option<Arc<Cluster>>| c.as_ref().and_then(|c| c.spec.task_policy.clone());
        if policy(&self.world.cluster_object) != policy(&new) {
            return Err(Far);
        }
        self.world.cluster_object = new;
        Ok(())
    }

    pub fn service(
        &mut self,
        name: &str,
        new: Option<Arc<Service>>,
        retiring: &BTreeSet<String>,
    ) -> Result<(), Far> {
        let name = ServiceName::from(name);
        let quotas = &self.world.settings.quotas;
        let new = new.map(|s| {
            let mut state = gather::service(&s);
            quotas::limit(quotas, &mut state);
            state
        });
        let most = quotas.services_per_cluster;
        let before = self.world.services.len();
        let old = self.world.put_service(&name, new);
        let new = self.world.services.get(&name);
        let used = |s: Option<&ServiceState>| s.map(|s| families::used_by_service(&s.object));
        // Hosts wake for the moment at which their tasks are replaced.
        let waits = |s: Option<&ServiceState>| {
            s.map(|s| (s.replace_after, s.keep_on_return))
                .unwrap_or_default()
        };
        if waits(old.as_ref()) != waits(new) {
            return Err(Far);
        }
        if before.max(self.world.services.len()) > most
            || frees(used(old.as_ref()), used(new), retiring)
        {
            return Err(Far);
        }
        let nature = |s: Option<&ServiceState>| {
            s.map(|s| {
                let kind = (s.identity.deleting, s.daemon, s.blocked_by_protection());
                (s.identity.uid.clone(), kind)
            })
        };
        let another = nature(old.as_ref()) != nature(new);
        self.touch_service(&name);
        if another {
            // Its tasks stop with it, and daemons are told apart on every host; hosts know whether protected tasks hold it up.
            for (task, t) in self.world.tasks_of(&name) {
                self.attention.touch(Unit::Task(task.clone()));
                let host = t.instance.iter();
                host.for_each(|host| self.attention.touch(Unit::Host(host.clone())));
            }
        }
        Ok(())
    }

    pub fn task(
        &mut self,
        name: &str,
        new: Option<Arc<Task>>,
        retiring: &BTreeSet<String>,
    ) -> Result<(), Far> {
        let name = TaskName::from(name);
        let new = new.map(|t| gather::task(&t, &self.world));
        let old = self.world.put_task(&name, new);
        let old = old.as_deref();
        let new = self.world.tasks.get(&name).map(|t| &**t);
        let used =
            |t: Option<&TaskState>| Some(families::used_by_task(&t?.object, self.ecs_name()));
        if !retiring.is_empty() && frees(used(old), used(new), retiring) {
            return Err(Far);
        }
        if self.ledger.exchange(old, new) {
            self.attention.touch_seekers();
        }
        let mut services = BTreeSet::new();
        let mut runs = BTreeSet::new();
        let mut hosts = BTreeSet::new();
        for t in [old, new].into_iter().flatten() {
            services.extend(t.service.clone());
            runs.extend(t.run.clone());
            hosts.extend(t.instance.clone());
        }
        // A name that is taken is not given to another task, whoever's it is.
        if let Some((owner, _)) = name.as_str().rsplit_once('-') {
            services.insert(ServiceName::from(owner));
            runs.insert(RunTaskName::from(owner));
        }
        self.attention.touch(Unit::Task(name));
        for service in services {
            self.touch_service(&service);
        }
        for run in runs {
            self.attention.touch(Unit::Run(run));
        }
        for host in hosts {
            let state = self.world.instances.get(&host);
            if state
                .is_some_and(|i| i.identity.deleting || i.wanted == DesiredInstanceStatus::Draining)
            {
                // Daemons are the last to leave.
                self.touch_daemons();
            }
            self.attention.touch(Unit::Host(host));
        }
        Ok(())
    }

    pub fn run(
        &mut self,
        name: &RunTaskName,
        new: Option<RunState>,
        retiring: &BTreeSet<String>,
    ) -> Result<(), Far> {
        let old = self.world.put_run(name, new);
        let new = self.world.runs.get(name);
        let used = |r: Option<&RunState>| {
            let used = families::used_by_run(&r?.object, self.ecs_name());
            Some(used.into_iter().collect())
        };
        if !retiring.is_empty() && frees(used(old.as_ref()), used(new), retiring) {
            return Err(Far);
        }
        self.attention.touch(Unit::Run(name.clone()));
        let tasks = self.world.index.by_run.get(name).into_iter();
        for (task, _) in tasks.flat_map(Tasks::iter) {
            self.attention.touch(Unit::Task(task.clone()));
        }
        let token = |r: Option<&RunState>| r?.object.spec.client_token.clone();
        for token in token(old.as_ref()).into_iter().chain(token(new)) {
            let same = |r: &RunState| r.object.spec.client_token.as_ref() == Some(&token);
            for (name, _) in self.world.runs.iter().filter(|(_, r)| same(r)) {
                self.attention.touch(Unit::Run(name.clone()));
            }
        }
        Ok(())
    }

    /// A run of the namespace changed: that is, of any schedule whose name its own begins with.
    pub fn run_of_schedule(&mut self, run: &RunTaskName, runs: &BTreeMap<RunTaskName, RunState>) {
        let run = run.as_str();
        for (end, _) in run.match_indices('-') {
            let schedule = run.get(..end).unwrap_or(run);
            let known = self.world.schedules.get(schedule);
            if let Some(object) = known.map(|s| s.object.clone()) {
                self.schedule(schedule, Some(&object), runs);
            }
        }
    }

    pub fn schedule(
        &mut self,
        name: &str,
        new: Option<&Arc<ScheduledTask>>,
        runs: &BTreeMap<RunTaskName, RunState>,
    ) {
        let name = ScheduledTaskName::from(name);
        let new = new.map(|s| gather::jobs::schedule(s, &name, runs));
        let old = self.world.put_schedule(&name, new);
        let new = self.world.schedules.get(&name);
        for s in [old.as_ref(), new].into_iter().flatten() {
            for run in s.runs.keys() {
                self.attention.touch(Unit::Run(run.clone()));
            }
        }
        self.attention.touch(Unit::Schedule(name));
    }

    pub fn instance(
        &mut self,
        name: &str,
        new: Option<&Arc<ContainerInstance>>,
    ) -> Result<(), Far> {
        let name = InstanceName::from(name);
        let (old, new) = match (self.world.instances.get(&name), new) {
            (None, None) => return Ok(()),
            (Some(old), Some(new)) => (old, new),
            // Hosts are numbered in order of name.
            (None, Some(_)) | (Some(_), None) => return Err(Far),
        };
        let mut new = gather::instance(new, old.silence, old.secret.clone());
        new.beyond_quota = old.beyond_quota;
        // With one that leaves, another is no longer beyond the quota.
        let most = self.world.settings.quotas.instances_per_cluster;
        if new.identity.deleting != old.identity.deleting && self.world.instances.len() > most {
            return Err(Far);
        }
        // Services that are spread over zones look at all of them.
        if new.zone() != old.zone() {
            return Err(Far);
        }
        let evicts = new.evicts() != old.evicts();
        self.put_instance(&name, new);
        if evicts {
            let here = self.world.tasks_on(&name);
            let services: BTreeSet<_> = here.filter_map(|(_, t)| t.service.clone()).collect();
            services.iter().for_each(|s| self.touch_service(s));
        }
        Ok(())
    }

    fn put_instance(&mut self, name: &InstanceName, new: InstanceState) {
        let connected = |world: &World| {
            let host = world.instances.get(name);
            host.is_some_and(|i| i.connected(&world.settings))
        };
        let before = connected(&self.world);
        self.world.put_instance(name, new);
        self.attention.touch(Unit::Host(name.clone()));
        if connected(&self.world) != before {
            // What was replaced is back with its host, or away again; what was said to be disconnected is not.
            let here = self.world.tasks_on(name);
            let told = |t: &TaskState| {
                t.absence.is_some() || t.connectivity == Some(Connectivity::Disconnected)
            };
            for (task, _) in here.filter(|(_, t)| told(t)) {
                self.attention.touch(Unit::Task(task.clone()));
            }
        }
        match self.ledger.exchange_host(name, &self.world) {
            Reach::Nowhere => {}
            Reach::Room => self.attention.touch_seekers(),
            Reach::Facts => {
                let here = self.world.tasks_on(name);
                let services: BTreeSet<_> = here.filter_map(|(_, t)| t.service.clone()).collect();
                for service in services {
                    self.touch_service(&service);
                }
                self.touch_daemons();
                self.attention.touch_seekers();
            }
        }
    }

    pub fn plan(&mut self, host: &str, new: Option<&Arc<HostPlan>>) {
        let host = InstanceName::from(host);
        if !self.world.instances.contains_key(&host) {
            return;
        }
        self.world.put_plan(&host, new.map(gather::plan));
        // Of a task that is to stop it matters whether its agent was told.
        for (task, _) in self.world.tasks_on(&host).filter(|(_, t)| t.leaving()) {
            self.attention.touch(Unit::Task(task.clone()));
        }
        self.attention.touch(Unit::Host(host));
    }

    /// A Secret or a ConfigMap that values may be taken from; without version it is none.
    pub fn source(&mut self, object: &SourceObject, version: Option<&String>) {
        if self.world.sources.get(object) == version {
            return;
        }
        let sources = Arc::make_mut(&mut self.world.sources);
        match version {
            Some(version) => sources.insert(object.clone(), version.clone()),
            None => sources.remove(object),
        };
        let takers = self.world.index.by_source.get(object);
        for task in takers.into_iter().flatten() {
            let host = self.world.tasks.get(task).and_then(|t| t.instance.clone());
            host.into_iter()
                .for_each(|host| self.attention.touch(Unit::Host(host)));
        }
    }

    /// The Secret of a host.
    pub fn secret(&mut self, object: &SourceObject, meta: Option<&ObjectMeta>) {
        let host =
            names::host_of_identity(&object.name).filter(|_| object.kind == SourceKind::Secret);
        let Some(host) = host.map(InstanceName::from) else {
            return;
        };
        if let Some(i) = self.world.instances.get_mut(&host) {
            i.secret = meta.map(gather::secret_state);
            self.attention.touch(Unit::Host(host));
        }
    }

    // --- hosts and time ---

    /// The Lease of a host was looked at: that is of interest when it is older than was known, and when its agent was silent.
    pub fn lease(&mut self, host: &str, silence: Option<Silence>) {
        let host = InstanceName::from(host);
        let Some(i) = self.world.instances.get(&host) else {
            return;
        };
        let lasts = silence.map(|silence| silence.lasts);
        if lasts > i.silent_for() || !stands(&self.world, i, silence) {
            self.attention.touch(Unit::Host(host));
        }
    }

    /// Takes down for how long the Leases of hosts that are awake were not seen to change. Those of others were not silent
    /// for long enough to matter: each woke for the moment when it would.
    pub fn look_at_hosts(&mut self, silence: &impl Fn(&str) -> Option<Silence>, now: Timestamp) {
        for name in self.attention.awake_hosts(now) {
            let silence = silence(name.as_str());
            let Some(i) = self.world.instances.get(&name) else {
                continue;
            };
            let stands = stands(&self.world, i, silence);
            if !stands {
                let new = InstanceState {
                    silence,
                    ..i.clone()
                };
                self.put_instance(&name, new);
            } else if let Some(i) = self.world.instances.get_mut(&name) {
                i.silence = silence;
            }
        }
    }

    // --- who depends on it ---

    /// Something of a service changed: what of it stopped is kept as long as it needs that.
    fn touch_service(&mut self, name: &ServiceName) {
        for (task, _) in self.world.tasks_of(name).filter(|(_, t)| !t.holds()) {
            self.attention.touch(Unit::Task(task.clone()));
        }
        self.attention.touch(Unit::Service(name.clone()));
    }

    fn touch_daemons(&mut self) {
        for name in &self.world.index.daemons {
            self.attention.touch(Unit::Service(name.clone()));
        }
    }

    /// `family:revision` of a revision.
    fn ecs_name(&self) -> impl Fn(&str) -> Option<String> {
        |revision| Some(self.world.revisions.get(revision)?.ecs_name())
    }

    // --- the proof ---

    /// What is otherwise than in `world`, made of the same objects.
    pub fn differs_from(&self, mut world: World) -> Option<String> {
        // How old a Lease is matters only as far as it decides something.
        for (name, i) in &self.world.instances {
            if let Some(new) = world.instances.get(name)
                && stands(&self.world, i, new.silence)
                && let Some(new) = world.instances.get_mut(name)
            {
                new.silence = i.silence;
            }
        }
        let ledger = Ledger::of(&world);
        // In one line it is much cheaper, and nearly always the same.
        let same = format!("{world:?}") == format!("{:?}", self.world)
            && format!("{:?}", ledger.account()) == format!("{:?}", self.ledger.account());
        if same {
            return None;
        }
        let told = |world: &World, ledger: &Ledger| {
            [format!("{world:#?}"), format!("{:#?}", ledger.account())]
        };
        let (here, there) = (told(&self.world, &self.ledger), told(&world, &ledger));
        here.iter().zip(&there).find_map(|(here, there)| {
            let (at, (one, other)) = here
                .lines()
                .zip(there.lines())
                .enumerate()
                .find(|(_, (one, other))| one != other)?;
            Some(format!(
                "cluster {}, line {at}: remembered is `{}`, and it is `{}`",
                world.cluster,
                one.trim(),
                other.trim()
            ))
        })
    }
}

/// With a Lease of this age the host stands as it does.
fn stands(world: &World, i: &InstanceState, silence: Option<Silence>) -> bool {
    if i.connected(&world.settings) != i.connected_if(silence, &world.settings) {
        return false;
    }
    let soon = world.settings.agent_grace.min(disconnect::SHORTEST);
    let short = |silence: Option<Silence>| silence.is_some_and(|s| s.lasts < soon);
    if short(i.silence) && short(silence) {
        // Nearly always: nobody's tasks are looked at.
        return true;
    }
    let host = i.object.metadata.name.as_deref().unwrap_or_default();
    let limits = disconnect::limits(world, &InstanceName::from(host));
    let is = |silence: Option<Silence>| silence.map(|s| limits.range(..=s.lasts).count());
    is(i.silence) == is(silence)
}

/// Something of `retiring` was in use, and is no longer.
fn frees(
    old: Option<BTreeSet<String>>,
    new: Option<BTreeSet<String>>,
    retiring: &BTreeSet<String>,
) -> bool {
    let (old, new) = (old.unwrap_or_default(), new.unwrap_or_default());
    old.difference(&new).any(|name| retiring.contains(name))
}
