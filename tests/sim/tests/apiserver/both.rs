//! Sends each request to both servers, and compares what they say.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::{Value, json};
use tallyman_agent_core::ids::TaskUid;
use tallyman_crds::LastStatus;
use tallyman_operator_core::Kind;
use tallyman_sim::api::{Cache, Object, Preconditions, Refusal, Server};

use crate::real::{self, Real};
use crate::requests::{self, Read, Request, Sequence};

/// Name of an object that is made after all others.
const LAST: &str = "last";
const FINALIZER: &str = "tallyman.dev/tasks";

/// uid and version of something that was stored, on both.
#[derive(Clone, Debug)]
struct Version {
    uid: (String, String),
    version: (u64, u64),
}

/// Both servers, empty in the beginning.
pub struct Both<'a> {
    real: &'a Real,
    namespace: String,
    server: Server,
    caches: BTreeMap<Kind, Cache>,
    /// The version of each kind's list in the beginning.
    began: BTreeMap<Kind, u64>,
    /// Newest versions of both, after each request.
    newest: Vec<(u64, u64)>,
    /// Versions of each object, oldest first, namesakes among them.
    known: BTreeMap<(Kind, &'static str), Vec<Version>>,
    /// Which version here is which there.
    versions: BTreeMap<u64, u64>,
    uids: BTreeMap<String, String>,
    pub asked: u64,
    pub told: u64,
}

type Same<T = ()> = Result<T, String>;

fn same<T: PartialEq + std::fmt::Debug>(what: &str, here: &T, there: &T) -> Same {
    if here == there {
        return Ok(());
    }
    Err(format!(
        "{what}\n  in memory:  {here:?}\n  API server: {there:?}"
    ))
}

/// Which error it is; the words are each server's own.
fn sort<T>(answer: &Result<T, Refusal>) -> &'static str {
    match answer {
        Ok(_) => "done",
        Err(Refusal::AlreadyExists) => "AlreadyExists",
        Err(Refusal::NotFound) => "NotFound",
        Err(Refusal::Conflict) => "Conflict",
        Err(Refusal::Invalid(_)) => "Invalid",
        Err(Refusal::Away) => "away",
    }
}

fn words<T>(answer: &Result<T, Refusal>) -> String {
    match answer {
        Err(Refusal::Invalid(why)) => format!("Invalid: {why}"),
        other => sort(other).to_owned(),
    }
}

/// What clients read of an object, uid and version aside.
fn content(object: &Value) -> Value {
    let meta = &object["metadata"];
    let list = |field: &Value| field.as_array().cloned().unwrap_or_default();
    let map = |field: &Value| field.as_object().cloned().unwrap_or_default();
    json!({
        "name": meta["name"],
        "generation": meta["generation"],
        "deleted": !meta["deletionTimestamp"].is_null(),
        "finalizers": list(&meta["finalizers"]),
        "labels": map(&meta["labels"]),
        "annotations": map(&meta["annotations"]),
        "spec": object["spec"], "status": object["status"], "data": map(&object["data"]),
    })
}

fn uid(object: &Value) -> String {
    object["metadata"]["uid"].as_str().unwrap().to_owned()
}

fn metadata(object: &Object) -> &ObjectMeta {
    match object {
        Object::Cluster(o) => &o.metadata,
        Object::TaskDefinition(o) => &o.metadata,
        Object::Revision(o) => &o.metadata,
        Object::Service(o) => &o.metadata,
        Object::RunTask(o) => &o.metadata,
        Object::TaskSet(o) => &o.metadata,
        Object::ScheduledTask(o) => &o.metadata,
        Object::Task(o) => &o.metadata,
        Object::Instance(o) => &o.metadata,
        Object::Plan(o) => &o.metadata,
        Object::Secret(o) => &o.metadata,
    }
}

impl<'a> Both<'a> {
    pub fn new(real: &'a Real) -> Both<'a> {
        Both {
            real,
            namespace: real.namespace(),
            server: Server::default(),
            caches: BTreeMap::new(),
            began: BTreeMap::new(),
            newest: Vec::new(),
            known: BTreeMap::new(),
            versions: BTreeMap::new(),
            uids: BTreeMap::new(),
            asked: 0,
            told: 0,
        }
    }

    /// Every request of a sequence, and then every list and every watch.
    pub fn all(&mut self, sequence: &Sequence) -> Same {
        let kinds: BTreeSet<Kind> = sequence.requests.iter().map(|r| r.0).collect();
        for kind in &kinds {
            let list = self.real.list(&self.namespace, kind.plural());
            self.began.insert(*kind, real::version(&list));
            self.newest = vec![(0, real::version(&list))];
            let mut cache = Cache::of(&[*kind]);
            cache.relist(&self.server);
            self.caches.insert(*kind, cache);
        }
        let result = self.each(sequence, &kinds);
        self.real.empty(&self.namespace);
        result
    }

    fn each(&mut self, sequence: &Sequence, kinds: &BTreeSet<Kind>) -> Same {
        for (number, (kind, name, request)) in sequence.requests.iter().enumerate() {
            self.one(*kind, name, request)
                .map_err(|why| format!("request {number}, {kind:?} {name} {request:?}: {why}"))?;
        }
        for kind in kinds {
            self.one(*kind, LAST, &requests::any(*kind))?;
            self.list(*kind)?;
            self.watch(*kind, 0, self.began[kind])?;
            self.follow(*kind)?;
        }
        Ok(())
    }

    fn one(&mut self, kind: Kind, name: &'static str, request: &Request) -> Same {
        self.asked += 1;
        let (namespace, plural) = (self.namespace.clone(), kind.plural());
        let now = Timestamp::from_second(1_767_225_600).unwrap();
        let read = |read: &Read| self.read(kind, name, *read);
        let (here, there) = match request {
            Request::List => return self.list(kind),
            Request::Watch(ago) => {
                let from = self.newest.len().saturating_sub(ago + 1);
                let (here, there) = self.newest[from];
                return self.watch(kind, here, there.max(self.began[&kind]));
            }
            Request::Create(object) => {
                let mut object = object.clone();
                object["metadata"]["name"] = json!(name);
                let there = self
                    .real
                    .create(&namespace, kind.as_str(), plural, object.clone());
                (self.server.create(kind, object, now), there)
            }
            Request::Patch(patch, must) | Request::PatchStatus(patch, must) => {
                let must = match must {
                    None => None,
                    // Nobody has read what never was.
                    Some(n) => match read(n) {
                        None => return Ok(()),
                        found => found,
                    },
                };
                let status = matches!(request, Request::PatchStatus(..));
                let mut body = if status {
                    json!({ "status": patch })
                } else {
                    patch.clone()
                };
                if let Some(v) = &must {
                    body["metadata"]["uid"] = json!(v.uid.1);
                    body["metadata"]["resourceVersion"] = json!(v.version.1.to_string());
                }
                let there = self.real.patch(&namespace, plural, name, status, &body);
                let version = must.as_ref().map(|v| v.version.0.to_string());
                let must = Preconditions {
                    uid: must.as_ref().map(|v| v.uid.0.as_str()),
                    resource_version: version.as_deref(),
                };
                let here = if status {
                    self.server.patch_status(kind, name, patch, &must)
                } else {
                    self.server.patch(kind, name, patch, &must)
                };
                (here, there)
            }
            Request::ReportStatus(status, n) => {
                let Some(v) = read(n) else { return Ok(()) };
                let patch = |uid: &str| report(name, uid, status);
                let there = patch(&v.uid.1);
                let there = self.real.patch(&namespace, plural, name, true, &there);
                let here = self.server.patch_status_by(kind, name, &patch(&v.uid.0));
                (here, there)
            }
            Request::Delete(must) => {
                let must = must.as_ref().and_then(read);
                let version = must.as_ref().map(|v| v.version.0.to_string());
                let there = match &must {
                    None => json!({}),
                    Some(v) => {
                        json!({ "uid": v.uid.1, "resourceVersion": v.version.1.to_string() })
                    }
                };
                let there = self.real.delete(&namespace, plural, name, there);
                let must = Preconditions {
                    uid: must.as_ref().map(|v| v.uid.0.as_str()),
                    resource_version: version.as_deref(),
                };
                (self.server.delete(kind, name, &must, now), there)
            }
            Request::AddFinalizer(n) | Request::RemoveFinalizer(n) => {
                let Some(v) = read(n) else { return Ok(()) };
                let add = matches!(request, Request::AddFinalizer(_));
                let there = match self.finalizer(kind, name, &v.uid.1, add)? {
                    None => return Ok(()),
                    Some(there) => there,
                };
                let here = self
                    .server
                    .finalize(kind, name, &v.uid.0, FINALIZER, add, None);
                (here, there)
            }
        };
        if sort(&here) != sort(&there) {
            return Err(format!(
                "in memory {}, API server {}",
                words(&here),
                words(&there)
            ));
        }
        self.compare(kind, name)
    }

    /// What `operator/src/apply.rs` does: reads live, keeps the finalizers of others, and writes on what it read. `None`: it
    /// leaves the object alone.
    fn finalizer(
        &self,
        kind: Kind,
        name: &str,
        uid: &str,
        add: bool,
    ) -> Same<Option<Result<Value, Refusal>>> {
        let live = match self.real.get(&self.namespace, kind.plural(), name) {
            Ok(live) => live,
            Err(Refusal::NotFound) => return Ok(Some(Err(Refusal::NotFound))),
            Err(refusal) => return Err(format!("{refusal:?}")),
        };
        let meta = &live["metadata"];
        let mut list = meta["finalizers"].as_array().cloned().unwrap_or_default();
        let has = list.contains(&json!(FINALIZER));
        if meta["uid"] != *uid || has == add || (add && !meta["deletionTimestamp"].is_null()) {
            return Ok(None);
        }
        if add {
            list.push(json!(FINALIZER));
        } else {
            list.retain(|f| f != FINALIZER);
        }
        let patch = json!({ "metadata": {
            "uid": uid, "resourceVersion": meta["resourceVersion"], "finalizers": list,
        }});
        let plural = kind.plural();
        Ok(Some(self.real.patch(
            &self.namespace,
            plural,
            name,
            false,
            &patch,
        )))
    }

    /// What somebody knows who read the object so many versions ago.
    fn read(&self, kind: Kind, name: &'static str, ago: usize) -> Option<Version> {
        let known = self.known.get(&(kind, name))?;
        known.iter().rev().nth(ago).cloned()
    }

    /// The object as it is, on both.
    fn compare(&mut self, kind: Kind, name: &'static str) -> Same {
        let there = self.real.get(&self.namespace, kind.plural(), name).ok();
        let here = self.server.get(kind, name).cloned();
        same(
            "the object",
            &here.as_ref().map(content),
            &there.as_ref().map(content),
        )?;
        if let (Some(here), Some(there)) = (here, there) {
            let version = (real::version(&here), real::version(&there));
            self.are_one(version)?;
            let uid = (uid(&here), uid(&there));
            let known = self.uids.entry(uid.0.clone()).or_insert(uid.1.clone());
            same("the uid", &*known, &uid.1)?;
            let known = self.known.entry((kind, name)).or_default();
            if known.last().is_none_or(|last| last.version != version) {
                known.push(Version { uid, version });
            }
            self.newest.push(version);
        }
        Ok(())
    }

    /// Two versions are of the same write, and before and after the same others.
    fn are_one(&mut self, (here, there): (u64, u64)) -> Same {
        let known = *self.versions.entry(here).or_insert(there);
        same("the version", &known, &there)?;
        let before = self.versions.range(..here).next_back();
        let after = self.versions.range(here + 1..).next();
        let ordered = before.is_none_or(|b| *b.1 < there) && after.is_none_or(|a| *a.1 > there);
        let around = (before, (here, there), after);
        ordered
            .then_some(())
            .ok_or_else(|| format!("versions in another order: {around:?}"))
    }

    fn list(&mut self, kind: Kind) -> Same {
        self.asked += 1;
        let list = self.real.list(&self.namespace, kind.plural());
        let items = list["items"].as_array().cloned().unwrap_or_default();
        let newest = items.iter().map(real::version).max().unwrap_or(0);
        if real::version(&list) < newest {
            return Err("a list is older than what it holds".to_owned());
        }
        let there: Vec<Value> = items.iter().map(content).collect();
        let here: Vec<Value> = self.server.all(kind).map(|(_, v)| content(v)).collect();
        same("the list", &here, &there)
    }

    /// Everything that a watch from these versions on tells.
    fn watch(&mut self, kind: Kind, here: u64, there: u64) -> Same {
        self.asked += 1;
        let told: Vec<_> = self
            .server
            .told(kind, here)
            .map(|t| {
                (
                    t.name.to_owned(),
                    t.version,
                    t.object.map(metadata).cloned(),
                )
            })
            .collect();
        if told.is_empty() {
            return Ok(());
        }
        // One too many shows in the end, when an object that was made last is to be the last that comes.
        let events = self
            .real
            .watch(&self.namespace, kind.plural(), there, told.len(), 60)
            .map_err(|code| format!("the watch ended with {code}"))?;
        let brief = |gone: bool, name: &str, generation: Option<i64>, deleted: bool| {
            // What is gone has the state before, and every client looks at its name alone.
            let state = (!gone).then_some((generation, deleted));
            (name.to_owned(), state)
        };
        let seen: Vec<_> = events
            .iter()
            .map(|e| {
                let meta = &e.object["metadata"];
                let name = meta["name"].as_str().unwrap();
                let deleted = !meta["deletionTimestamp"].is_null();
                brief(e.gone, name, meta["generation"].as_i64(), deleted)
            })
            .collect();
        let expected: Vec<_> = told
            .iter()
            .map(|(name, _, meta)| {
                let generation = meta.as_ref().and_then(|m| m.generation);
                let deleted = meta
                    .as_ref()
                    .is_some_and(|m| m.deletion_timestamp.is_some());
                brief(meta.is_none(), name, generation, deleted)
            })
            .collect();
        same("events of the watch", &expected, &seen)?;
        for ((_, version, _), event) in told.iter().zip(&events) {
            self.are_one((*version, real::version(&event.object)))?;
        }
        self.told += events.len() as u64;
        Ok(())
    }

    /// A cache that was filled in the beginning and hears all events holds in the end what the server holds.
    fn follow(&mut self, kind: Kind) -> Same {
        let cache = self.caches.get_mut(&kind).unwrap();
        let now = Timestamp::from_second(1_767_225_700).unwrap();
        let mut rng = tallyman_sim::rng::Rng::new(1);
        cache.receive(&self.server, 0, &mut rng, now);
        let here: Vec<(String, Option<u64>)> = ["a", "b", LAST]
            .iter()
            .map(|name| ((*name).to_owned(), cache.version(kind, name)))
            .collect();
        let there = ["a", "b", LAST].iter().map(|name| {
            let object = self.real.get(&self.namespace, kind.plural(), name).ok();
            let version = object.as_ref().map(real::version);
            let one = |there: u64| self.versions.iter().find(|(_, t)| **t == there);
            (
                (*name).to_owned(),
                version.and_then(one).map(|(here, _)| *here),
            )
        });
        same("what a cache holds", &here, &there.collect())
    }
}

/// What an agent sends.
fn report(name: &str, uid: &str, status: &Value) -> Value {
    let parcel = tallyman_agent_core::Parcel {
        name: name.to_owned(),
        uid: TaskUid::new(uid),
        body: json!({ "status": status }),
        fingerprint: 0,
        ends: false,
        protected_until: None,
        last_status: LastStatus::Pending,
    };
    parcel.json_patch()
}
