//! The store, and what may be written to it.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use tallyman_crds::sources::{Contents, SourceObject};
use tallyman_operator_core::Kind;

use super::object::Object;
use super::{defaults, json_patch, rules};

/// How long the garbage collector takes to see that an owner is gone.
const COLLECTOR_DELAY: SignedDuration = SignedDuration::from_secs(2);

/// Why a write was not done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// There is one of this name.
    AlreadyExists,
    /// There is none of this name.
    NotFound,
    /// uid or resourceVersion are not those of the precondition.
    Conflict,
    /// A rule of the schema says no.
    Invalid(String),
    /// The API server does not answer. Nothing was done.
    Away,
}

/// What must hold of an object for a write to be done.
#[derive(Clone, Debug, Default)]
pub struct Preconditions<'a> {
    /// `metadata.uid`.
    pub uid: Option<&'a str>,
    /// `metadata.resourceVersion`.
    pub resource_version: Option<&'a str>,
}

/// One change, as watches tell it.
#[derive(Clone, Debug)]
pub(super) struct Event {
    pub name: String,
    /// `None`: it is gone.
    pub object: Option<Object>,
    pub version: u64,
}

/// An event of a watch: an object was stored, or is gone.
#[derive(Clone, Copy, Debug)]
pub struct Told<'a> {
    /// Its name.
    pub name: &'a str,
    /// `None`: it is gone.
    pub object: Option<&'a Object>,
    /// resourceVersion of the write.
    pub version: u64,
}

/// An object as JSON, and typed for those who read often.
#[derive(Clone, Debug)]
struct Stored {
    value: Value,
    object: Object,
    /// Its status is of the definition's defaults and was never stored: the first write stores it, though it changes nothing.
    unsaid: bool,
}

/// Writes of others between a backup and the next write of ours.
const OTHERS_WRITE: u64 = 1_000;

/// A copy of the store.
#[derive(Clone, Debug)]
pub struct Backup {
    version: u64,
    objects: BTreeMap<(Kind, String), Stored>,
    leases: BTreeMap<String, u64>,
}

/// The API server.
#[derive(Debug, Default)]
pub struct Server {
    version: u64,
    /// How often it was put back to a backup.
    restored: u64,
    objects: BTreeMap<(Kind, String), Stored>,
    pub(super) log: BTreeMap<Kind, Vec<Event>>,
    leases: BTreeMap<String, u64>,
    orphaned_since: BTreeMap<(Kind, String), Timestamp>,
    collected: u64,
    /// It does not answer.
    pub down: bool,
    /// Writes that were done, of any client.
    pub writes: u64,
    /// Objects that were made, by kind.
    pub made: BTreeMap<Kind, u64>,
}

impl Server {
    /// resourceVersion of the newest write.
    pub fn version(&self) -> u64 {
        self.version
    }

    // --- backups ---

    /// A copy of everything. What others write after it, such as leases of Kubernetes' own, raises the version, too, and by
    /// more than what is written in the first moments after a restore.
    pub fn backup(&mut self) -> Backup {
        let version = self.version;
        self.version += OTHERS_WRITE;
        Backup {
            version,
            objects: self.objects.clone(),
            leases: self.leases.clone(),
        }
    }

    /// Everything is as it was, and versions count on from there. A watch that was begun before hears nothing until the
    /// server has come to the version that it waits for, and misses what came until then: its client has to list anew.
    pub fn restore(&mut self, backup: Backup) {
        self.restored += 1;
        self.version = backup.version;
        self.objects = backup.objects;
        self.leases = backup.leases;
        self.orphaned_since.clear();
        self.collected = 0;
        self.log.values_mut().for_each(Vec::clear);
    }

    /// How often it was put back to a backup.
    pub fn restored(&self) -> u64 {
        self.restored
    }

    // --- reading ---

    /// Events of a kind so far.
    pub fn events(&self, kind: Kind) -> usize {
        self.log.get(&kind).map_or(0, Vec::len)
    }

    /// What a watch of a kind from this version on tells.
    pub fn told(&self, kind: Kind, after: u64) -> impl Iterator<Item = Told<'_>> {
        let events = self.log.get(&kind).into_iter().flatten();
        let later = events.filter(move |event| event.version > after);
        later.map(|event| Told {
            name: &event.name,
            object: event.object.as_ref(),
            version: event.version,
        })
    }

    /// An object as it is.
    pub fn get(&self, kind: Kind, name: &str) -> Option<&Value> {
        self.objects.get(&(kind, name.to_owned())).map(|s| &s.value)
    }

    /// All objects of a kind as they are, by name.
    pub fn all(&self, kind: Kind) -> impl Iterator<Item = (&str, &Value)> {
        self.of(kind).map(|(name, s)| (name, &s.value))
    }

    fn of(&self, kind: Kind) -> impl Iterator<Item = (&str, &Stored)> {
        self.objects
            .range((kind, String::new())..)
            .take_while(move |((k, _), _)| *k == kind)
            .map(|((_, n), s)| (n.as_str(), s))
    }

    /// All objects of a kind as they are, typed.
    pub fn typed(&self, kind: Kind) -> Vec<Object> {
        self.of(kind).map(|(_, s)| s.object.clone()).collect()
    }

    /// What Secrets hold.
    pub fn contents(&self) -> BTreeMap<SourceObject, Contents> {
        let secrets = self
            .typed(Kind::Secret)
            .into_iter()
            .filter_map(|object| match object {
                Object::Secret(secret) => Some(secret),
                _ => None,
            });
        secrets
            .map(|secret| {
                let name = secret.metadata.name.clone().unwrap_or_default();
                let data = secret.data.iter();
                let data = data.map(|(k, v)| (k.clone(), v.clone().into_bytes()));
                let contents = Contents {
                    metadata: secret.metadata.clone(),
                    data: data.collect(),
                };
                (super::secret(&name), contents)
            })
            .collect()
    }

    /// Version of a host's Lease.
    pub fn leases(&self) -> &BTreeMap<String, u64> {
        &self.leases
    }

    // --- writing ---

    /// Creates an object.
    ///
    /// # Errors
    /// [`Refusal`].
    pub fn create(&mut self, kind: Kind, mut value: Value, now: Timestamp) -> Result<u64, Refusal> {
        self.up()?;
        let name = value["metadata"]["name"]
            .as_str()
            .unwrap_or_default()
            .to_owned();
        if self.objects.contains_key(&(kind, name.clone())) {
            return Err(Refusal::AlreadyExists);
        }
        if let Some(fields) = value.as_object_mut()
            && kind != Kind::Secret
        {
            // A status is written by its own path only.
            fields.remove("status");
        }
        let meta = &mut value["metadata"];
        // No uid comes twice, also when versions do.
        meta["uid"] = json!(match self.restored {
            0 => format!("uid-{}", self.version + 1),
            n => format!("uid-{n}-{}", self.version + 1),
        });
        if kind != Kind::Secret {
            meta["generation"] = json!(1);
        }
        meta["creationTimestamp"] = json!(now.round(jiff::Unit::Second).unwrap_or(now));
        meta["namespace"] = json!("sim");
        complete(kind, &mut value);
        as_written(&mut value);
        rules::check(kind, None, &value).map_err(Refusal::Invalid)?;
        let unsaid = !value["status"].is_null();
        let stored = self.store(kind, name, value, unsaid)?;
        *self.made.entry(kind).or_default() += 1;
        Ok(stored)
    }

    /// Merges `patch` into an object, its status aside.
    ///
    /// # Errors
    /// [`Refusal`].
    pub fn patch(
        &mut self,
        kind: Kind,
        name: &str,
        patch: &Value,
        must: &Preconditions<'_>,
    ) -> Result<u64, Refusal> {
        self.up()?;
        let old = self.checked(kind, name, must)?.clone();
        let mut new = old.clone();
        let mut patch = patch.clone();
        if let Some(fields) = patch.as_object_mut() {
            fields.remove("status");
        }
        merge(&mut new, &patch);
        self.update(kind, name, &old, new)
    }

    /// Merges `patch` into an object's status.
    ///
    /// # Errors
    /// [`Refusal`].
    pub fn patch_status(
        &mut self,
        kind: Kind,
        name: &str,
        patch: &Value,
        must: &Preconditions<'_>,
    ) -> Result<u64, Refusal> {
        self.up()?;
        let old = self.checked(kind, name, must)?.clone();
        let mut new = old.clone();
        merge(&mut new["status"], patch);
        self.update(kind, name, &old, new)
    }

    /// Changes an object's status by the operations of a JSON patch, as an agent does.
    ///
    /// # Errors
    /// [`Refusal`]; a `test` that fails is [`Refusal::Conflict`].
    pub fn patch_status_by(
        &mut self,
        kind: Kind,
        name: &str,
        operations: &Value,
    ) -> Result<u64, Refusal> {
        self.up()?;
        let old = self.checked(kind, name, &Preconditions::default())?.clone();
        let mut new = old.clone();
        json_patch::apply(&mut new, operations)?;
        self.update(kind, name, &old, new)
    }

    /// Deletes an object, or marks it when finalizers hold it.
    ///
    /// # Errors
    /// [`Refusal`].
    pub fn delete(
        &mut self,
        kind: Kind,
        name: &str,
        must: &Preconditions<'_>,
        now: Timestamp,
    ) -> Result<u64, Refusal> {
        self.up()?;
        let old = self.checked(kind, name, must)?.clone();
        let mut new = old.clone();
        if new["metadata"]["deletionTimestamp"].is_null() {
            new["metadata"]["deletionTimestamp"] =
                json!(now.round(jiff::Unit::Second).unwrap_or(now));
            raise(&mut new["metadata"]["generation"]);
        }
        self.update(kind, name, &old, new)
    }

    /// Adds or takes away a finalizer, with a label in the same write.
    ///
    /// # Errors
    /// [`Refusal`].
    pub fn finalize(
        &mut self,
        kind: Kind,
        name: &str,
        uid: &str,
        finalizer: &str,
        add: bool,
        label: Option<&(&'static str, String)>,
    ) -> Result<u64, Refusal> {
        self.up()?;
        let must = Preconditions {
            uid: Some(uid),
            resource_version: None,
        };
        let old = self.checked(kind, name, &must)?.clone();
        let mut list: Vec<Value> = old["metadata"]["finalizers"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        list.retain(|f| f != finalizer);
        if add {
            if !old["metadata"]["deletionTimestamp"].is_null() {
                // The shell reads live first and leaves it.
                return Err(Refusal::Conflict);
            }
            list.push(json!(finalizer));
        }
        let mut new = old.clone();
        new["metadata"]["finalizers"] = Value::Array(list);
        if let Some((key, value)) = label {
            new["metadata"]["labels"][*key] = json!(value);
        }
        self.update(kind, name, &old, new)
    }

    /// A host renews its Lease, if it has one.
    ///
    /// # Errors
    /// [`Refusal`].
    pub fn renew(&mut self, host: &str) -> Result<(), Refusal> {
        self.up()?;
        let lease = self.leases.get_mut(host).ok_or(Refusal::NotFound)?;
        *lease += 1;
        Ok(())
    }

    /// The Lease of a host that was prepared.
    pub fn make_lease(&mut self, host: &str) {
        self.leases.entry(host.to_owned()).or_insert(0);
    }

    /// The garbage collector: what an owner left behind is deleted a while later.
    pub fn collect(&mut self, now: Timestamp) {
        if self.orphaned_since.is_empty() && self.collected == self.version {
            return;
        }
        self.collected = self.version;
        let live: BTreeSet<&str> = self
            .objects
            .values()
            .filter_map(|s| s.value["metadata"]["uid"].as_str())
            .collect();
        let orphans: Vec<(Kind, String)> = self
            .objects
            .iter()
            .filter(|(_, s)| {
                let owners = s.value["metadata"]["ownerReferences"].as_array();
                owners.is_some_and(|o| {
                    !o.is_empty()
                        && o.iter()
                            .all(|o| !o["uid"].as_str().is_some_and(|uid| live.contains(uid)))
                })
            })
            .map(|(key, _)| key.clone())
            .collect();
        self.orphaned_since.retain(|key, _| orphans.contains(key));
        for (kind, name) in orphans {
            let since = *self
                .orphaned_since
                .entry((kind, name.clone()))
                .or_insert(now);
            let marked = self
                .get(kind, &name)
                .is_some_and(|v| !v["metadata"]["deletionTimestamp"].is_null());
            if !marked && now.duration_since(since) >= COLLECTOR_DELAY {
                // It works through the API server like everybody else: when that is down, later.
                let _later = self.delete(kind, &name, &Preconditions::default(), now);
            }
        }
        let hosts: Vec<String> = self
            .all(Kind::ContainerInstance)
            .map(|(n, _)| n.to_owned())
            .collect();
        self.leases.retain(|host, _| hosts.contains(host));
    }

    fn up(&self) -> Result<(), Refusal> {
        if self.down {
            Err(Refusal::Away)
        } else {
            Ok(())
        }
    }

    fn checked(&self, kind: Kind, name: &str, must: &Preconditions<'_>) -> Result<&Value, Refusal> {
        let value = self.get(kind, name).ok_or(Refusal::NotFound)?;
        let same = |wanted: Option<&str>, found: &Value| wanted.is_none_or(|w| *found == *w);
        let meta = &value["metadata"];
        if same(must.uid, &meta["uid"]) && same(must.resource_version, &meta["resourceVersion"]) {
            Ok(value)
        } else {
            Err(Refusal::Conflict)
        }
    }

    fn update(
        &mut self,
        kind: Kind,
        name: &str,
        old: &Value,
        mut new: Value,
    ) -> Result<u64, Refusal> {
        complete(kind, &mut new);
        rules::check(kind, Some(old), &new).map_err(Refusal::Invalid)?;
        if new["spec"] != old["spec"] {
            raise(&mut new["metadata"]["generation"]);
        }
        as_written(&mut new);
        let key = (kind, name.to_owned());
        if new == *old && !self.objects.get(&key).is_some_and(|s| s.unsaid) {
            // As etcd: a write that changes nothing makes no version and no event.
            return Ok(old["metadata"]["resourceVersion"]
                .as_str()
                .and_then(|v| v.parse().ok())
                .unwrap_or(0));
        }
        let held = new["metadata"]["finalizers"]
            .as_array()
            .is_some_and(|f| !f.is_empty());
        if !new["metadata"]["deletionTimestamp"].is_null() && !held {
            self.version += 1;
            self.writes += 1;
            self.objects.remove(&key);
            let event = Event {
                name: name.to_owned(),
                object: None,
                version: self.version,
            };
            self.log.entry(kind).or_default().push(event);
            return Ok(self.version);
        }
        self.store(kind, name.to_owned(), new, false)
    }

    fn store(
        &mut self,
        kind: Kind,
        name: String,
        mut value: Value,
        unsaid: bool,
    ) -> Result<u64, Refusal> {
        value["metadata"]["resourceVersion"] = json!((self.version + 1).to_string());
        let object = Object::parse(kind, &value).map_err(Refusal::Invalid)?;
        self.version += 1;
        self.writes += 1;
        let event = Event {
            name: name.clone(),
            object: Some(object.clone()),
            version: self.version,
        };
        self.log.entry(kind).or_default().push(event);
        let stored = Stored {
            value,
            object,
            unsaid,
        };
        self.objects.insert((kind, name), stored);
        Ok(self.version)
    }
}

/// An object as it is stored: with the defaults of its definition. Metadata is of a type that leaves out what is empty.
fn complete(kind: Kind, object: &mut Value) {
    defaults::fill(kind, object);
    if let Some(fields) = object["metadata"].as_object_mut() {
        fields.retain(|_, value| {
            value.as_object().is_none_or(|map| !map.is_empty())
                && value.as_array().is_none_or(|list| !list.is_empty())
        });
    }
}

/// Go writes a number without a fraction without a point, so it is stored as a whole one. A client that sends it with a point
/// changes the object all the same: generations are raised before it is written.
fn as_written(value: &mut Value) {
    match value {
        Value::Number(number) if number.is_f64() => {
            let whole = number.as_f64().filter(|n| n.fract() == 0.0);
            if let Some(whole) = whole.and_then(|n| format!("{n}").parse::<i64>().ok()) {
                *value = json!(whole);
            }
        }
        Value::Object(fields) => fields.values_mut().for_each(as_written),
        Value::Array(values) => values.iter_mut().for_each(as_written),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// One more; what has no generation, such as a Secret, gets none.
fn raise(generation: &mut Value) {
    if let Some(number) = generation.as_i64() {
        *generation = json!(number + 1);
    }
}

/// A merge patch (RFC 7386).
pub(crate) fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(fields) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = json!({});
    }
    if let Some(object) = target.as_object_mut() {
        for (key, value) in fields {
            if value.is_null() {
                object.remove(key);
            } else {
                merge(object.entry(key.clone()).or_insert(Value::Null), value);
            }
        }
    }
}

#[cfg(test)]
mod tests;
