//! The only reader: caches of every kind, gathered into the objects of a namespace. Decides nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::hash::Hash;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::StreamExt;
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::api::{Api, PartialObjectMeta};
use kube::runtime::reflector::{ObjectRef, Store, reflector, store};
use kube::runtime::watcher::Event;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Client, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use tallyman_crds::readable::Readable;
use tallyman_crds::sources::SourceKind;
use tallyman_crds::{
    Cluster, ContainerInstance, HostPlan, RunTask, ScheduledTask, Service, Task, TaskDefinition,
    TaskDefinitionRevision, TaskSet, labels, names,
};
use tallyman_operator_core::liveness::{LeaseObserver, Silence};
use tallyman_operator_core::{Change, Kind, Objects, Settings, leadership};
use tokio::task::JoinSet;

use crate::dirty::{Dirty, Key, Watched};
use crate::readable::UnreadableObjects;

/// A watch that hears nothing for this long is made anew; it also notices a dead connection.
const WATCH_TIMEOUT_SECONDS: u32 = 240;

/// The caches.
pub struct Snapshot {
    clusters: Store<Cluster>,
    task_definitions: Store<TaskDefinition>,
    revisions: Store<TaskDefinitionRevision>,
    services: Store<Service>,
    tasks: Store<Task>,
    instances: Store<ContainerInstance>,
    plans: Store<HostPlan>,
    run_tasks: Store<RunTask>,
    scheduled_tasks: Store<ScheduledTask>,
    task_sets: Store<TaskSet>,
    /// Names and versions only: what Secrets and ConfigMaps hold is read when it is handed on, and not kept.
    secrets: Store<PartialObjectMeta<Secret>>,
    config_maps: Store<PartialObjectMeta<ConfigMap>>,
    leases: Store<Lease>,
    unreadable: UnreadableObjects,
    lease_api: Client,
    observers: BTreeMap<String, LeaseObserver>,
    /// By namespace, hosts whose Lease is old and could not be read live, with the longest silence that they count for.
    unread: BTreeMap<String, BTreeMap<String, Duration>>,
    started: Instant,
    /// The watches; they end with the snapshot.
    _watches: JoinSet<()>,
}

/// Where the watches begin and what they tell.
struct Watches<'a> {
    client: &'a Client,
    namespace: Option<&'a str>,
    dirty: &'a Arc<Dirty>,
    unreadable: UnreadableObjects,
    tasks: JoinSet<()>,
}

impl Watches<'_> {
    fn api<K>(&self) -> Api<K>
    where
        K: Watchable,
        K::DynamicType: Default,
    {
        match self.namespace {
            Some(ns) => Api::namespaced(self.client.clone(), ns),
            None => Api::all(self.client.clone()),
        }
    }

    /// A cache of a kind of ours. An object of it that cannot be read is in a list of its own.
    fn of_kind<K>(&mut self, kind: Kind) -> Store<K>
    where
        K: Watchable + Resource<DynamicType = ()>,
    {
        let (reader, writer) = store::<K>();
        let (dirty, unreadable) = (self.dirty.clone(), self.unreadable.clone());
        let cached = reader.clone();
        let config = watcher::Config::default().timeout(WATCH_TIMEOUT_SECONDS);
        let events = watcher(self.api::<Readable<K>>(), config).filter_map(move |event| {
            let event = event.map(|event| {
                let (sorted, worse) = unreadable.sort(kind, event, &cached);
                if worse {
                    // Before the cache loses it: no pass may take it for deleted.
                    dirty.relisted();
                }
                sorted
            });
            std::future::ready(event.transpose())
        });
        let stream = reflector(writer, events.modify(slim)).default_backoff();
        let (dirty, unreadable) = (self.dirty.clone(), self.unreadable.clone());
        self.tasks.spawn(async move {
            let mut stream = std::pin::pin!(stream);
            while let Some(event) = stream.next().await {
                if let Ok(event) = &event
                    && unreadable.taken(kind, event)
                {
                    dirty.relisted();
                }
                let name = |o: &K| o.meta().name.clone();
                tell(&dirty, Watched::Object(kind), name, event);
            }
        });
        reader
    }

    /// A cache of what every version reads; `name` is what its objects are told by.
    fn cache<K>(
        &mut self,
        watched: Watched,
        config: watcher::Config,
        name: fn(&K) -> Option<String>,
    ) -> Store<K>
    where
        K: Watchable,
        K::DynamicType: Default + Eq + Hash + Clone + Unpin,
    {
        let (reader, writer) = store::<K>();
        let dirty = self.dirty.clone();
        let events = watcher(self.api(), config.timeout(WATCH_TIMEOUT_SECONDS)).modify(slim);
        let stream = reflector(writer, events).default_backoff();
        self.tasks.spawn(async move {
            let mut stream = std::pin::pin!(stream);
            while let Some(event) = stream.next().await {
                tell(&dirty, watched, name, event);
            }
        });
        reader
    }
}

/// Tells what an event means for whoever looks into the caches.
fn tell<K>(
    dirty: &Dirty,
    watched: Watched,
    name: fn(&K) -> Option<String>,
    event: watcher::Result<Event<K>>,
) where
    K: Resource,
    K::DynamicType: Default,
{
    match event {
        Ok(Event::Apply(object) | Event::Delete(object)) => {
            if let Some(name) = name(&object) {
                let namespace = object.meta().namespace.as_deref();
                dirty.mark(namespace.unwrap_or_default(), (watched, name));
            }
        }
        // The cache holds the new list, and what was deleted meanwhile nobody tells.
        Ok(Event::InitDone) => dirty.relisted(),
        Ok(Event::Init | Event::InitApply(_)) => {}
        Err(error) => {
            tracing::warn!(kind = %K::kind(&K::DynamicType::default()), %error, "watch failed")
        }
    }
}

/// What can be watched.
trait Watchable:
    Resource<Scope = NamespaceResourceScope> + Clone + Debug + DeserializeOwned + Send + Sync + 'static
{
}

impl<K> Watchable for K where
    K: Resource<Scope = NamespaceResourceScope>
        + Clone
        + Debug
        + DeserializeOwned
        + Send
        + Sync
        + 'static
{
}

/// Takes away what nobody here reads; of a Secret that kubectl applied, that is a copy of what it holds.
fn slim<K: Resource>(object: &mut K) {
    object.managed_fields_mut().clear();
    object
        .annotations_mut()
        .remove("kubectl.kubernetes.io/last-applied-configuration");
}

impl Snapshot {
    /// Starts the caches. `lease_client` reads single Leases and must not retry by itself.
    pub fn start(
        client: &Client,
        lease_client: Client,
        namespace: Option<&str>,
        dirty: &Arc<Dirty>,
    ) -> Snapshot {
        let ours = format!(
            "{}={},{}",
            labels::MANAGED_BY,
            labels::MANAGER,
            labels::CONTAINER_INSTANCE
        );
        let mut watches = Watches {
            client,
            namespace,
            dirty,
            unreadable: UnreadableObjects::default(),
            tasks: JoinSet::new(),
        };
        Snapshot {
            clusters: watches.of_kind(Kind::Cluster),
            task_definitions: watches.of_kind(Kind::TaskDefinition),
            revisions: watches.of_kind(Kind::TaskDefinitionRevision),
            services: watches.of_kind(Kind::Service),
            tasks: watches.of_kind(Kind::Task),
            instances: watches.of_kind(Kind::ContainerInstance),
            plans: watches.of_kind(Kind::HostPlan),
            run_tasks: watches.of_kind(Kind::RunTask),
            scheduled_tasks: watches.of_kind(Kind::ScheduledTask),
            task_sets: watches.of_kind(Kind::TaskSet),
            secrets: watches.cache(
                Watched::Object(Kind::Secret),
                watcher::Config::default(),
                |o: &PartialObjectMeta<Secret>| o.metadata.name.clone(),
            ),
            config_maps: watches.cache(
                Watched::ConfigMap,
                watcher::Config::default(),
                |o: &PartialObjectMeta<ConfigMap>| o.metadata.name.clone(),
            ),
            leases: watches.cache(
                Watched::Lease,
                watcher::Config::default().labels(&ours),
                host_of,
            ),
            unreadable: watches.unreadable,
            lease_api: lease_client,
            observers: BTreeMap::new(),
            unread: BTreeMap::new(),
            started: Instant::now(),
            _watches: watches.tasks,
        }
    }

    /// Waits until every cache was filled once.
    ///
    /// # Errors
    /// A cache was dropped, which only happens at the end of the process.
    pub async fn ready(&self) -> anyhow::Result<()> {
        self.clusters.wait_until_ready().await?;
        self.task_definitions.wait_until_ready().await?;
        self.revisions.wait_until_ready().await?;
        self.services.wait_until_ready().await?;
        self.tasks.wait_until_ready().await?;
        self.instances.wait_until_ready().await?;
        self.plans.wait_until_ready().await?;
        self.run_tasks.wait_until_ready().await?;
        self.scheduled_tasks.wait_until_ready().await?;
        self.task_sets.wait_until_ready().await?;
        self.secrets.wait_until_ready().await?;
        self.config_maps.wait_until_ready().await?;
        self.leases.wait_until_ready().await?;
        Ok(())
    }

    /// Every namespace that holds an object of ours.
    pub fn namespaces(&self) -> BTreeSet<String> {
        let mut found = BTreeSet::new();
        collect(&self.clusters, &mut found);
        collect(&self.task_definitions, &mut found);
        collect(&self.revisions, &mut found);
        collect(&self.services, &mut found);
        collect(&self.tasks, &mut found);
        collect(&self.instances, &mut found);
        collect(&self.plans, &mut found);
        collect(&self.run_tasks, &mut found);
        collect(&self.scheduled_tasks, &mut found);
        collect(&self.task_sets, &mut found);
        found.extend(self.unreadable.namespaces());
        found
    }

    /// How many objects of all namespaces cannot be read.
    pub fn unreadable(&self) -> usize {
        self.unreadable.count()
    }

    /// The number of a leader that takes the lead over, when the Lease has `lease`.
    pub fn next_epoch(&self, lease: i64) -> i64 {
        let plans = self.plans.state();
        let plans = plans.iter().map(|p| p.spec.leader_epoch);
        let held = self.held_epochs();
        leadership::next(lease, plans, held.into_values())
    }

    /// Number of the leader whose plan each host holds, by namespace and name.
    pub fn held_epochs(&self) -> BTreeMap<String, i64> {
        let instances = self.instances.state();
        let held = instances.iter().filter_map(|instance| {
            let host = instance.status.as_ref()?.host.as_ref()?;
            let namespace = instance.metadata.namespace.as_deref()?;
            let name = instance.metadata.name.as_deref()?;
            Some((format!("{namespace}/{name}"), host.applied_plan_epoch))
        });
        held.collect()
    }

    /// The objects of `namespace`, with the age of every host's Lease. A Lease that seems old is read live first:
    /// a slow watch must not make a host look dead.
    pub async fn gather(&mut self, namespace: &str, settings: &Settings) -> Objects {
        // Before the caches and after them: an object may go from here to there meanwhile, or back.
        let before = self.unreadable.of(namespace);
        let instances = of(&self.instances, namespace);
        let leases = of(&self.leases, namespace);
        let versions: Vec<(String, String)> = leases
            .iter()
            .filter_map(|l| Some((host_of(l)?, version(l)?)))
            .collect();
        let leases = versions.iter().map(|(k, v)| (k.as_str(), v.as_str()));
        let now = self.started.elapsed();
        let observer = self.observers.entry(namespace.to_owned()).or_default();
        observer.observe(leases, now, settings.agent_grace, settings.brake_percent);
        self.look_live(namespace, settings).await;
        let secrets = of(&self.secrets, namespace);
        let maps = of(&self.config_maps, namespace);
        let secrets = secrets.iter().map(|o| (SourceKind::Secret, &o.metadata));
        let maps = maps.iter().map(|o| (SourceKind::ConfigMap, &o.metadata));
        let mut objects = Objects {
            clusters: of(&self.clusters, namespace),
            task_definitions: of(&self.task_definitions, namespace),
            revisions: of(&self.revisions, namespace),
            services: of(&self.services, namespace),
            tasks: of(&self.tasks, namespace),
            instances,
            plans: of(&self.plans, namespace),
            run_tasks: of(&self.run_tasks, namespace),
            scheduled_tasks: of(&self.scheduled_tasks, namespace),
            task_sets: of(&self.task_sets, namespace),
            silence: self.silences(namespace),
            ..Objects::default()
        };
        objects.keep(secrets.chain(maps));
        let both = before.into_iter().chain(self.unreadable.of(namespace));
        let both: BTreeMap<_, _> = both
            .map(|object| ((object.kind, object.unread.metadata.name.clone()), object))
            .collect();
        objects.unreadable = both.into_values().collect();
        objects
    }

    /// The objects that `keys` name, as they are, after a look at the Leases. `None` when the timers of all hosts began anew, and
    /// while an object of the namespace cannot be read: to a cache it is gone.
    pub async fn changes(
        &mut self,
        namespace: &str,
        keys: &BTreeSet<Key>,
        settings: &Settings,
    ) -> Option<Vec<Change>> {
        let mut changes = Vec::new();
        let mut leases = Vec::new();
        for (watched, name) in keys {
            match watched {
                Watched::Object(kind) => changes.push(self.change(*kind, namespace, name)),
                Watched::ConfigMap => {
                    let object = get(&self.config_maps, namespace, name);
                    let meta = object.map(|o| Arc::new(o.metadata.clone()));
                    changes.push(Change::Source(SourceKind::ConfigMap, name.clone(), meta));
                }
                Watched::Lease => {
                    let lease = get(&self.leases, namespace, &names::host_identity(name));
                    leases.push((name, lease.and_then(|l| version(&l))));
                    changes.push(Change::Lease(name.clone()));
                }
            }
        }
        let leases = leases.iter().map(|(k, v)| (k.as_str(), v.as_deref()));
        let now = self.started.elapsed();
        let observer = self.observers.entry(namespace.to_owned()).or_default();
        let (grace, brake) = (settings.agent_grace, settings.brake_percent);
        let anew = observer.observe_some(leases, now, grace, brake);
        let (mended, looked_at) = self.look_live(namespace, settings).await;
        changes.extend(looked_at.into_iter().map(Change::Lease));
        let all_is_read = self.unreadable.of(namespace).is_empty();
        (!anew && !mended && all_is_read).then_some(changes)
    }

    fn change(&self, kind: Kind, namespace: &str, name: &str) -> Change {
        let own = name.to_owned();
        match kind {
            Kind::Cluster => Change::Cluster(own, get(&self.clusters, namespace, name)),
            Kind::TaskDefinition | Kind::TaskDefinitionRevision => Change::Definition,
            Kind::Service => Change::Service(own, get(&self.services, namespace, name)),
            Kind::Task => Change::Task(own, get(&self.tasks, namespace, name)),
            Kind::RunTask => Change::RunTask(own, get(&self.run_tasks, namespace, name)),
            Kind::ScheduledTask => {
                Change::ScheduledTask(own, get(&self.scheduled_tasks, namespace, name))
            }
            Kind::TaskSet => Change::TaskSet,
            Kind::ContainerInstance => Change::Instance(own, get(&self.instances, namespace, name)),
            Kind::HostPlan => Change::Plan(own, get(&self.plans, namespace, name)),
            Kind::Secret => {
                let object = get(&self.secrets, namespace, name);
                let meta = object.map(|o| Arc::new(o.metadata.clone()));
                Change::Source(SourceKind::Secret, own, meta)
            }
        }
    }

    /// Reads the Leases of silent hosts live. Says whether all timers began anew, and of which hosts it read the Lease. One that
    /// cannot be read makes its host disconnected, and no task of it is given up: nobody knows that it is silent still.
    async fn look_live(&mut self, namespace: &str, settings: &Settings) -> (bool, Vec<String>) {
        let now = self.started.elapsed();
        let (grace, brake) = (settings.agent_grace, settings.brake_percent);
        let observer = self.observers.entry(namespace.to_owned()).or_default();
        let silent: Vec<String> = observer.silent(now, grace).map(str::to_owned).collect();
        self.unread.remove(namespace);
        if silent.is_empty() {
            return (false, silent);
        }
        let api: Api<Lease> = Api::namespaced(self.lease_api.clone(), namespace);
        let read: Vec<(String, Option<Option<Lease>>)> = futures::stream::iter(silent.clone())
            .map(|name| {
                let api = api.clone();
                async move {
                    let lease_name = names::host_identity(&name);
                    let read =
                        tokio::time::timeout(Duration::from_secs(5), api.get_opt(&lease_name))
                            .await;
                    (name, read.ok().and_then(Result::ok))
                }
            })
            .buffer_unordered(8)
            .collect()
            .await;
        let unread = read.iter().filter(|(_, lease)| lease.is_none());
        let unread: BTreeMap<_, _> = unread.map(|(name, _)| (name.clone(), grace)).collect();
        if !unread.is_empty() {
            self.unread.insert(namespace.to_owned(), unread);
        }
        let live = read.into_iter().filter_map(|(name, lease)| {
            let version = version(&lease??)?;
            Some((name, version))
        });
        let live: Vec<(String, String)> = live.collect();
        let live = live.iter().map(|(k, v)| (k.as_str(), Some(v.as_str())));
        // What was read may be younger than the question: it is seen now, and not before a host can have sent it.
        let now = self.started.elapsed();
        (observer.observe_some(live, now, grace, brake), silent)
    }

    /// How silent a host is.
    pub fn silence(&self, namespace: &str, host: &str) -> Option<Silence> {
        let observer = self.observers.get(namespace)?;
        let mut silence = observer.silence(host, self.started.elapsed())?;
        if let Some(most) = self.unread.get(namespace).and_then(|hosts| hosts.get(host)) {
            silence.lasts = silence.lasts.min(*most);
        }
        Some(silence)
    }

    fn silences(&self, namespace: &str) -> BTreeMap<String, Silence> {
        let observer = self.observers.get(namespace);
        let mut all = observer.map_or_else(BTreeMap::new, |o| o.silences(self.started.elapsed()));
        for (host, most) in self.unread.get(namespace).into_iter().flatten() {
            if let Some(silence) = all.get_mut(host) {
                silence.lasts = silence.lasts.min(*most);
            }
        }
        all
    }

    /// resourceVersion of an object in its cache, as a number.
    pub fn cached_version(&self, kind: Kind, namespace: &str, name: &str) -> Option<u64> {
        fn at<K>(store: &Store<K>, namespace: &str, name: &str) -> Option<u64>
        where
            K: Resource<DynamicType = ()> + Clone + 'static,
        {
            get(store, namespace, name)?
                .resource_version()?
                .parse()
                .ok()
        }
        match kind {
            Kind::Cluster => at(&self.clusters, namespace, name),
            Kind::TaskDefinition => at(&self.task_definitions, namespace, name),
            Kind::TaskDefinitionRevision => at(&self.revisions, namespace, name),
            Kind::Service => at(&self.services, namespace, name),
            Kind::Task => at(&self.tasks, namespace, name),
            Kind::RunTask => at(&self.run_tasks, namespace, name),
            Kind::ScheduledTask => at(&self.scheduled_tasks, namespace, name),
            Kind::TaskSet => at(&self.task_sets, namespace, name),
            Kind::ContainerInstance => at(&self.instances, namespace, name),
            Kind::HostPlan => at(&self.plans, namespace, name),
            Kind::Secret => at(&self.secrets, namespace, name),
        }
    }
}

fn get<K>(store: &Store<K>, namespace: &str, name: &str) -> Option<Arc<K>>
where
    K: Resource<DynamicType = ()> + Clone + 'static,
{
    store.get(&ObjectRef::<K>::new(name).within(namespace))
}

/// The host whose Lease it is.
fn host_of(lease: &Lease) -> Option<String> {
    let labels = lease.metadata.labels.as_ref()?;
    labels
        .get(tallyman_crds::labels::CONTAINER_INSTANCE)
        .cloned()
}

fn version(lease: &Lease) -> Option<String> {
    lease.metadata.resource_version.clone()
}

fn collect<K: Resource<DynamicType = ()> + Clone + 'static>(
    store: &Store<K>,
    found: &mut BTreeSet<String>,
) {
    found.extend(store.state().iter().filter_map(|o| o.namespace()));
}

fn of<K: Resource<DynamicType = ()> + Clone + 'static>(
    store: &Store<K>,
    namespace: &str,
) -> Vec<Arc<K>> {
    let mut list = store.state_filter(|o| o.namespace().as_deref() == Some(namespace));
    list.sort_by_key(|o| o.name_any());
    list
}
