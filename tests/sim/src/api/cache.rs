//! What one client has seen: a cache per kind, each behind the server by a number of events of its own.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
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

/// A watch that stops at one of its events, once: it goes on later, or ends with 410 Gone and is listed anew.
#[derive(Clone, Copy, Debug)]
pub struct Gap {
    kind: Kind,
    from: usize,
    patience: SignedDuration,
    /// So many events make it end and be listed anew, before the patience is over or then.
    missed: Option<usize>,
    since: Option<Timestamp>,
}

impl Gap {
    /// From this event on nothing comes for so many seconds.
    pub fn lag(kind: Kind, from: usize, seconds: i64) -> Gap {
        let patience = SignedDuration::from_secs(seconds);
        Gap {
            kind,
            from,
            patience,
            missed: None,
            since: None,
        }
    }

    /// It has come.
    pub fn began(&self) -> bool {
        self.since.is_some()
    }

    /// So many events from this one on are never seen; after 20 seconds fewer, if no more come.
    pub fn miss(kind: Kind, from: usize, events: usize) -> Gap {
        Gap {
            missed: Some(events),
            ..Gap::lag(kind, from, 20)
        }
    }
}

/// The caches of one client.
#[derive(Clone, Debug)]
pub struct Cache {
    kinds: Vec<Kind>,
    objects: BTreeMap<(Kind, String), (u64, Object)>,
    position: BTreeMap<Kind, usize>,
    /// Kinds whose watch is dead without anybody knowing.
    stalled: BTreeSet<Kind>,
    /// What its watches meet once.
    pub gap: Option<Gap>,
    /// What came since somebody asked for it; `None`: something was listed anew.
    news: Option<BTreeSet<(Kind, String)>>,
    /// Of which restored server it was listed.
    listed_of: u64,
    /// The last version of that server that it heard of.
    reached: u64,
}

impl Cache {
    /// Empty caches of some kinds.
    pub fn of(kinds: &[Kind]) -> Cache {
        Cache {
            kinds: kinds.to_vec(),
            objects: BTreeMap::new(),
            position: BTreeMap::new(),
            stalled: BTreeSet::new(),
            gap: None,
            news: None,
            listed_of: 0,
            reached: 0,
        }
    }

    /// Lists everything anew when the server was put back to a backup since; says then whether its version shows that.
    pub fn follow(&mut self, server: &Server) -> Option<bool> {
        let went_back = server.version() < self.reached;
        // Also what comes for others is heard of, by bookmarks.
        self.reached = server.version();
        (self.listed_of != server.restored()).then(|| {
            self.relist(server);
            went_back
        })
    }

    /// Lists everything anew: the caches hold what the server holds, and every watch works again.
    pub fn relist(&mut self, server: &Server) {
        self.listed_of = server.restored();
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
    pub fn receive(&mut self, server: &Server, lag: u8, rng: &mut Rng, now: Timestamp) -> bool {
        let mut news = self.end_gap(server, now);
        for kind in self.kinds.clone() {
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
            let count = match &mut self.gap {
                Some(gap) if gap.kind == kind && known + count >= gap.from => {
                    gap.since.get_or_insert(now);
                    gap.from.saturating_sub(known + 1)
                }
                _ => count,
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

    /// Ends a gap whose time has come: what was late comes, or all is listed anew.
    fn end_gap(&mut self, server: &Server, now: Timestamp) -> bool {
        let Some(gap) = self.gap else { return false };
        let Some(since) = gap.since else {
            return false;
        };
        let known = self.position.get(&gap.kind).copied().unwrap_or(0);
        let due = server.events(gap.kind).saturating_sub(known);
        let over = now.duration_since(since) >= gap.patience;
        match gap.missed {
            Some(events) if over || due >= events => {
                self.gap = None;
                self.relist_kind(gap.kind, server);
                true
            }
            None if over => {
                self.gap = None;
                false
            }
            Some(_) | None => false,
        }
    }

    /// resourceVersion of an object in the cache.
    pub fn version(&self, kind: Kind, name: &str) -> Option<u64> {
        self.objects
            .get(&(kind, name.to_owned()))
            .map(|(version, _)| *version)
    }

    /// Number of the leader whose plan each host holds.
    pub fn held_epochs(&self) -> BTreeMap<String, i64> {
        let from = (Kind::ContainerInstance, String::new());
        let of_kind = self.objects.range(from..);
        let of_kind = of_kind.take_while(|((kind, _), _)| *kind == Kind::ContainerInstance);
        let held = of_kind.filter_map(|((_, name), (_, object))| match object {
            Object::Instance(instance) => {
                let host = instance.status.as_ref()?.host.as_ref()?;
                Some((name.clone(), host.applied_plan_epoch))
            }
            _ => None,
        });
        held.collect()
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
