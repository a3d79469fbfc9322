//! The only reader: caches of every kind, gathered into the objects of a namespace. Decides nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures::StreamExt;
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::api::{Api, PartialObjectMeta};
use kube::runtime::reflector::{ObjectRef, Store, reflector, store};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Client, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use tallyman_crds::sources::SourceKind;
use tallyman_crds::{
    Cluster, ContainerInstance, HostPlan, RunTask, ScheduledTask, Service, Task, TaskDefinition,
    TaskDefinitionRevision, TaskSet, labels, names,
};
use tallyman_operator_core::liveness::LeaseObserver;
use tallyman_operator_core::{Kind, Objects, Settings};
use tokio::sync::Notify;
use tokio::task::JoinSet;

/// A watch that hears nothing for this long is made anew; it also notices a dead connection.
const WATCH_TIMEOUT_SECONDS: u32 = 240;

/// Namespaces in which something changed since they were last looked at.
#[derive(Debug, Default)]
pub struct Dirty {
    namespaces: Mutex<BTreeSet<String>>,
    wake: Notify,
}

impl Dirty {
    /// Something changed in `namespace`.
    pub fn mark(&self, namespace: &str) {
        self.namespaces
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(namespace.to_owned());
        self.wake.notify_one();
    }

    /// Takes the namespaces that are dirty.
    pub fn take(&self) -> BTreeSet<String> {
        std::mem::take(
            &mut *self
                .namespaces
                .lock()
                .unwrap_or_else(PoisonError::into_inner),
        )
    }

    /// Returns when something is dirty.
    pub async fn changed(&self) {
        self.wake.notified().await;
    }
}

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
    lease_api: Client,
    observers: BTreeMap<String, LeaseObserver>,
    started: Instant,
    /// The watches; they end with the snapshot.
    _watches: JoinSet<()>,
}

fn cache<K>(
    client: &Client,
    namespace: Option<&str>,
    config: watcher::Config,
    dirty: &Arc<Dirty>,
    tasks: &mut JoinSet<()>,
) -> Store<K>
where
    K: Resource<Scope = NamespaceResourceScope>
        + Clone
        + Debug
        + DeserializeOwned
        + Send
        + Sync
        + 'static,
    K::DynamicType: Default + Eq + Hash + Clone + Unpin,
{
    let api: Api<K> = match namespace {
        Some(ns) => Api::namespaced(client.clone(), ns),
        None => Api::all(client.clone()),
    };
    let (reader, writer) = store::<K>();
    let dirty = dirty.clone();
    let events = watcher(api, config.timeout(WATCH_TIMEOUT_SECONDS)).modify(slim);
    let stream = reflector(writer, events)
        .default_backoff()
        .touched_objects();
    tasks.spawn(async move {
        let mut stream = std::pin::pin!(stream);
        while let Some(event) = stream.next().await {
            match event {
                Ok(object) => dirty.mark(&object.namespace().unwrap_or_default()),
                Err(error) => {
                    tracing::warn!(kind = %K::kind(&K::DynamicType::default()), %error, "watch failed")
                }
            }
        }
    });
    reader
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
        let plain = watcher::Config::default;
        let ours = format!(
            "{}={},{}",
            labels::MANAGED_BY,
            labels::MANAGER,
            labels::CONTAINER_INSTANCE
        );
        let mut tasks = JoinSet::new();
        Snapshot {
            clusters: cache(client, namespace, plain(), dirty, &mut tasks),
            task_definitions: cache(client, namespace, plain(), dirty, &mut tasks),
            revisions: cache(client, namespace, plain(), dirty, &mut tasks),
            services: cache(client, namespace, plain(), dirty, &mut tasks),
            tasks: cache(client, namespace, plain(), dirty, &mut tasks),
            instances: cache(client, namespace, plain(), dirty, &mut tasks),
            plans: cache(client, namespace, plain(), dirty, &mut tasks),
            run_tasks: cache(client, namespace, plain(), dirty, &mut tasks),
            scheduled_tasks: cache(client, namespace, plain(), dirty, &mut tasks),
            task_sets: cache(client, namespace, plain(), dirty, &mut tasks),
            secrets: cache(client, namespace, plain(), dirty, &mut tasks),
            config_maps: cache(client, namespace, plain(), dirty, &mut tasks),
            leases: cache(
                client,
                namespace,
                watcher::Config::default().labels(&ours),
                dirty,
                &mut tasks,
            ),
            lease_api: lease_client,
            observers: BTreeMap::new(),
            started: Instant::now(),
            _watches: tasks,
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
        found
    }

    /// Highest leader epoch in any host plan.
    pub fn highest_epoch(&self) -> i64 {
        self.plans
            .state()
            .iter()
            .map(|p| p.spec.leader_epoch)
            .max()
            .unwrap_or(0)
    }

    /// The objects of `namespace`, with the age of every host's Lease. A Lease that seems old is read live first:
    /// a slow watch must not make a host look dead.
    pub async fn gather(&mut self, namespace: &str, settings: &Settings) -> Objects {
        let instances = of(&self.instances, namespace);
        let mut versions: BTreeMap<String, String> = of(&self.leases, namespace)
            .iter()
            .filter_map(|l| {
                Some((
                    l.labels().get(labels::CONTAINER_INSTANCE)?.clone(),
                    version(l)?,
                ))
            })
            .collect();
        let now = self.started.elapsed();
        let observer = self.observers.entry(namespace.to_owned()).or_default();
        let observe = |observer: &mut LeaseObserver, versions: &BTreeMap<String, String>| {
            let leases = versions.iter().map(|(k, v)| (k.as_str(), v.as_str()));
            observer.observe(leases, now, settings.agent_grace, settings.brake_percent);
        };
        observe(observer, &versions);
        let silent: Vec<String> = observer
            .ages(now)
            .into_iter()
            .filter(|(_, age)| *age >= settings.agent_grace)
            .map(|(name, _)| name)
            .collect();
        if !silent.is_empty() {
            let api: Api<Lease> = Api::namespaced(self.lease_api.clone(), namespace);
            let live: Vec<(String, String)> = futures::stream::iter(silent)
                .map(|name| {
                    let api = api.clone();
                    async move {
                        let lease_name = names::host_identity(&name);
                        let read =
                            tokio::time::timeout(Duration::from_secs(5), api.get_opt(&lease_name))
                                .await;
                        Some((name, version(&read.ok()?.ok()??)?))
                    }
                })
                .buffer_unordered(8)
                .filter_map(futures::future::ready)
                .collect()
                .await;
            versions.extend(live);
            observe(observer, &versions);
        }
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
            lease_age: observer.ages(now),
            ..Objects::default()
        };
        objects.keep(secrets.chain(maps));
        objects
    }

    /// resourceVersion of an object in its cache, as a number.
    pub fn cached_version(&self, kind: Kind, namespace: &str, name: &str) -> Option<u64> {
        fn get<K>(store: &Store<K>, namespace: &str, name: &str) -> Option<u64>
        where
            K: Resource<DynamicType = ()> + Clone + 'static,
        {
            let object = store.get(&ObjectRef::<K>::new(name).within(namespace))?;
            object.resource_version()?.parse().ok()
        }
        match kind {
            Kind::Cluster => get(&self.clusters, namespace, name),
            Kind::TaskDefinition => get(&self.task_definitions, namespace, name),
            Kind::TaskDefinitionRevision => get(&self.revisions, namespace, name),
            Kind::Service => get(&self.services, namespace, name),
            Kind::Task => get(&self.tasks, namespace, name),
            Kind::RunTask => get(&self.run_tasks, namespace, name),
            Kind::ScheduledTask => get(&self.scheduled_tasks, namespace, name),
            Kind::TaskSet => get(&self.task_sets, namespace, name),
            Kind::ContainerInstance => get(&self.instances, namespace, name),
            Kind::HostPlan => get(&self.plans, namespace, name),
            Kind::Secret => get(&self.secrets, namespace, name),
        }
    }
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
