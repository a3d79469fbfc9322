//! What one client has seen: a cache per kind, each behind the server by a number of events of its own.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tallyman_crds::sources::{SourceKind, SourceObject};
use tallyman_operator_core::{Change, Kind, Objects};

use super::object::Object;
use super::server::Server;
use crate::rng::Rng;

/// Every kind that the simulator has.
pub const KINDS: [Kind; 11] = [
    Kind::Cluster,
    Kind::TaskDefinition,
    Kind::TaskDefinitionRevision,
    Kind::Service,
    Kind::RunTask,
    Kind::ScheduledTask,
    Kind::TaskSet,
    Kind::Task,
    Kind::ContainerInstance,
    Kind::HostPlan,
    Kind::Secret,
];

/// The caches of one client.
#[derive(Clone, Debug)]
pub struct Cache {
    kinds: Vec<Kind>,
    objects: BTreeMap<(Kind, String), (u64, Object)>,
    position: BTreeMap<Kind, usize>,
    /// Kinds whose watch is dead without anybody knowing.
    stalled: BTreeSet<Kind>,
    /// What came since somebody asked for it; `None`: something was listed anew.
    news: Option<BTreeSet<(Kind, String)>>,
}

impl Cache {
    /// Empty caches of some kinds.
    pub fn of(kinds: &[Kind]) -> Cache {
        Cache {
            kinds: kinds.to_vec(),
            objects: BTreeMap::new(),
            position: BTreeMap::new(),
            stalled: BTreeSet::new(),
            news: None,
        }
    }

    /// Lists everything anew: the caches hold what the server holds, and every watch works again.
    pub fn relist(&mut self, server: &Server) {
        for kind in self.kinds.clone() {
            self.relist_kind(kind, server);
        }
    }

    /// Lists one kind anew.
    pub fn relist_kind(&mut self, kind: Kind, server: &Server) {
        self.stalled.remove(&kind);
        self.news = None;
        self.objects.retain(|(k, _), _| *k != kind);
        for (name, value) in server.all(kind) {
            let version = value["metadata"]["resourceVersion"]
                .as_str()
                .and_then(|v| v.parse().ok())
                .unwrap_or(0);
            if let Ok(object) = Object::parse(kind, value) {
                self.objects
                    .insert((kind, name.to_owned()), (version, object));
            }
        }
        self.position
            .insert(kind, server.log.get(&kind).map_or(0, Vec::len));
    }

    /// The watch of a kind dies silently: nothing comes any more until it is listed anew.
    pub fn stall(&mut self, kind: Kind) {
        self.stalled.insert(kind);
    }

    /// Kinds whose watch is dead.
    pub fn stalled(&self) -> impl Iterator<Item = Kind> + '_ {
        self.stalled.iter().copied()
    }

    /// Events arrive: of each kind all, or (in `lag` of a hundred cases) only some of those that are due.
    pub fn receive(&mut self, server: &Server, lag: u8, rng: &mut Rng) -> bool {
        let mut news = false;
        for &kind in &self.kinds {
            let known = self.position.get(&kind).copied().unwrap_or(0);
            let log = server.log.get(&kind).map_or(&[][..], Vec::as_slice);
            let due = log.len().saturating_sub(known);
            if due == 0 || self.stalled.contains(&kind) {
                continue;
            }
            let count = if rng.chance(lag) {
                rng.below(due + 1)
            } else {
                due
            };
            for event in &log[known..known + count] {
                let key = (kind, event.name.clone());
                if let Some(news) = &mut self.news {
                    news.insert(key.clone());
                }
                match &event.object {
                    Some(object) => {
                        self.objects.insert(key, (event.version, object.clone()));
                    }
                    None => {
                        self.objects.remove(&key);
                    }
                }
            }
            self.position.insert(kind, known + count);
            news |= count > 0;
        }
        news
    }

    /// resourceVersion of an object in the cache.
    pub fn version(&self, kind: Kind, name: &str) -> Option<u64> {
        self.objects
            .get(&(kind, name.to_owned()))
            .map(|(version, _)| *version)
    }

    /// An object in the cache.
    pub fn get(&self, kind: Kind, name: &str) -> Option<&Object> {
        self.objects
            .get(&(kind, name.to_owned()))
            .map(|(_, object)| object)
    }

    /// What changed since this was last asked; `None` when something was listed anew, and anything may have changed.
    pub fn news(&mut self) -> Option<Vec<Change>> {
        let news = self.news.replace(BTreeSet::new())?;
        Some(news.into_iter().map(|key| self.change(key)).collect())
    }

    fn change(&self, key: (Kind, String)) -> Change {
        let object = self.objects.get(&key).map(|(_, object)| object.clone());
        let (kind, name) = key;
        match object {
            Some(Object::Cluster(o)) => Change::Cluster(name, Some(o)),
            Some(Object::TaskDefinition(_) | Object::Revision(_)) => Change::Definition,
            Some(Object::TaskSet(_)) => Change::TaskSet,
            Some(Object::Service(o)) => Change::Service(name, Some(o)),
            Some(Object::RunTask(o)) => Change::RunTask(name, Some(o)),
            Some(Object::ScheduledTask(o)) => Change::ScheduledTask(name, Some(o)),
            Some(Object::Task(o)) => Change::Task(name, Some(o)),
            Some(Object::Instance(o)) => Change::Instance(name, Some(o)),
            Some(Object::Plan(o)) => Change::Plan(name, Some(o)),
            Some(Object::Secret(o)) => {
                Change::Source(SourceKind::Secret, name, Some(Arc::new(o.metadata.clone())))
            }
            None => match kind {
                Kind::Cluster => Change::Cluster(name, None),
                Kind::TaskDefinition | Kind::TaskDefinitionRevision => Change::Definition,
                Kind::TaskSet => Change::TaskSet,
                Kind::Service => Change::Service(name, None),
                Kind::RunTask => Change::RunTask(name, None),
                Kind::ScheduledTask => Change::ScheduledTask(name, None),
                Kind::Task => Change::Task(name, None),
                Kind::ContainerInstance => Change::Instance(name, None),
                Kind::HostPlan => Change::Plan(name, None),
                Kind::Secret => Change::Source(SourceKind::Secret, name, None),
            },
        }
    }

    /// All of it, as the operator's core takes it.
    pub fn gather(&self) -> Objects {
        collect(self.objects.values().map(|(_, object)| object))
    }
}

/// A Secret that values are taken from.
pub(crate) fn secret(name: &str) -> SourceObject {
    SourceObject {
        kind: SourceKind::Secret,
        name: name.to_owned(),
    }
}

/// Objects of any kinds, as the operator's core takes them.
pub(crate) fn collect<'a>(objects: impl Iterator<Item = &'a Object>) -> Objects {
    let mut all = Objects::default();
    let mut secrets = Vec::new();
    for object in objects {
        match object {
            Object::Cluster(o) => all.clusters.push(o.clone()),
            Object::TaskDefinition(o) => all.task_definitions.push(o.clone()),
            Object::Revision(o) => all.revisions.push(o.clone()),
            Object::Service(o) => all.services.push(o.clone()),
            Object::RunTask(o) => all.run_tasks.push(o.clone()),
            Object::ScheduledTask(o) => all.scheduled_tasks.push(o.clone()),
            Object::TaskSet(o) => all.task_sets.push(o.clone()),
            Object::Task(o) => all.tasks.push(o.clone()),
            Object::Instance(o) => all.instances.push(o.clone()),
            Object::Plan(o) => all.plans.push(o.clone()),
            Object::Secret(o) => secrets.push(o.clone()),
        }
    }
    let secrets = secrets.iter().map(|o| (SourceKind::Secret, &o.metadata));
    all.keep(secrets);
    all
}

impl Server {
    /// Everything as it is, as the operator's core takes it.
    pub fn gather(&self) -> Objects {
        let all: Vec<Object> = KINDS.iter().flat_map(|kind| self.typed(*kind)).collect();
        collect(all.iter())
    }
}
