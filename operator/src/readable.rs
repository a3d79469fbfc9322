//! Watches that go on past an object that cannot be read.
//!
//! Each object is read for itself ([`Readable`]): those that can be read go into the cache, of the others there is a list with their
//! metadata and the field that is wrong. What is told of them and what waits for them is the core's (`unreadable`).
//!
//! An object is never in neither: whoever reads cache and list at any moment finds it in one of them, because one that is missing
//! counts as deleted. So it enters the list before it leaves the cache, and leaves it after it entered the cache.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use kube::runtime::reflector::{ObjectRef, Store};
use kube::runtime::watcher::Event;
use tallyman_crds::readable::{Readable, Unread};
use tallyman_operator_core::{Kind, Unreadable};

/// Namespace and name.
type Key = (String, String);

fn key(meta: &ObjectMeta) -> Key {
    let part = |text: &Option<String>| text.clone().unwrap_or_default();
    (part(&meta.namespace), part(&meta.name))
}

/// Objects of one kind that cannot be read.
#[derive(Debug, Default)]
pub struct UnreadableOfKind {
    objects: BTreeMap<Key, Unread>,
    /// Those that a list held that is not at its end yet.
    listed: BTreeSet<Key>,
}

impl UnreadableOfKind {
    /// How many there are.
    pub fn count(&self) -> usize {
        self.objects.len()
    }

    /// What an event means for the cache that `store` reads, and the object that it is about, if that cannot be read. To be called
    /// before the cache takes it in; afterwards [`UnreadableOfKind::taken`] is due.
    pub fn sort<K>(
        &mut self,
        event: Event<Readable<K>>,
        store: &Store<K>,
    ) -> (Option<Event<K>>, Option<(Seen, Unread)>)
    where
        K: Resource<DynamicType = ()> + Clone + 'static,
    {
        if matches!(event, Event::Init) {
            self.listed.clear();
        }
        let (event, unread) = split(event, store);
        if let Some((seen, unread)) = &unread {
            let key = key(&unread.metadata);
            if *seen == Seen::Deleted {
                self.objects.remove(&key);
            } else {
                tracing::warn!(
                    kind = %K::kind(&()),
                    namespace = key.0,
                    name = key.1,
                    field = unread.field,
                    "object cannot be read"
                );
                self.objects.insert(key.clone(), unread.clone());
            }
            if *seen == Seen::Listed {
                self.listed.insert(key);
            }
        }
        (event, unread)
    }

    /// The cache has taken `event` in: what can be read now is in it, and what a list did not hold is gone. True when fewer
    /// objects than before cannot be read.
    pub fn taken<K: Resource<DynamicType = ()>>(&mut self, event: &Event<K>) -> bool {
        let before = self.objects.len();
        match event {
            Event::Apply(object) => {
                self.objects.remove(&key(object.meta()));
            }
            Event::InitDone => self.objects.retain(|key, _| self.listed.contains(key)),
            Event::Delete(_) | Event::Init | Event::InitApply(_) => {}
        }
        self.objects.len() < before
    }
}

/// Objects that cannot be read, of all kinds that passes read.
#[derive(Clone, Debug, Default)]
pub struct UnreadableObjects(Arc<Mutex<BTreeMap<Kind, UnreadableOfKind>>>);

impl UnreadableObjects {
    fn kinds(&self) -> MutexGuard<'_, BTreeMap<Kind, UnreadableOfKind>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Those of a namespace.
    pub fn of(&self, namespace: &str) -> Vec<Arc<Unreadable>> {
        let mut found = Vec::new();
        for (kind, list) in self.kinds().iter() {
            let here = list.objects.iter().filter(|(key, _)| key.0 == namespace);
            found.extend(here.map(|(_, unread)| {
                Arc::new(Unreadable {
                    kind: *kind,
                    unread: unread.clone(),
                })
            }));
        }
        found
    }

    /// Namespaces that have any.
    pub fn namespaces(&self) -> BTreeSet<String> {
        let kinds = self.kinds();
        let keys = kinds.values().flat_map(|list| list.objects.keys());
        keys.map(|key| key.0.clone()).collect()
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.kinds().values().map(UnreadableOfKind::count).sum()
    }

    /// [`UnreadableOfKind::sort`]; says whether the event is about an object that cannot be read.
    pub fn sort<K>(
        &self,
        kind: Kind,
        event: Event<Readable<K>>,
        store: &Store<K>,
    ) -> (Option<Event<K>>, bool)
    where
        K: Resource<DynamicType = ()> + Clone + 'static,
    {
        let (event, unread) = self.kinds().entry(kind).or_default().sort(event, store);
        (event, unread.is_some())
    }

    /// [`UnreadableOfKind::taken`].
    pub fn taken<K: Resource<DynamicType = ()>>(&self, kind: Kind, event: &Event<K>) -> bool {
        self.kinds().entry(kind).or_default().taken(event)
    }
}

/// How an object that cannot be read came up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// In a list.
    Listed,
    /// It was stored.
    Stored,
    /// It is gone.
    Deleted,
}

/// What an event means for the cache that `store` reads, and the object that it is about, if that cannot be read: it leaves the cache.
fn split<K>(
    event: Event<Readable<K>>,
    store: &Store<K>,
) -> (Option<Event<K>>, Option<(Seen, Unread)>)
where
    K: Resource<DynamicType = ()> + Clone + 'static,
{
    let leaves = |unread: &Unread| {
        let meta = &unread.metadata;
        let name = meta.name.as_deref().unwrap_or_default();
        let object =
            ObjectRef::<K>::new(name).within(meta.namespace.as_deref().unwrap_or_default());
        Some(Event::Delete((*store.get(&object)?).clone()))
    };
    match event {
        Event::Init => (Some(Event::Init), None),
        Event::InitDone => (Some(Event::InitDone), None),
        Event::InitApply(Readable(Ok(object))) => (Some(Event::InitApply(object)), None),
        Event::Apply(Readable(Ok(object))) => (Some(Event::Apply(object)), None),
        Event::Delete(Readable(Ok(object))) => (Some(Event::Delete(object)), None),
        // The cache is what the list held, once that is at its end.
        Event::InitApply(Readable(Err(unread))) => (None, Some((Seen::Listed, unread))),
        Event::Apply(Readable(Err(unread))) => (leaves(&unread), Some((Seen::Stored, unread))),
        Event::Delete(Readable(Err(unread))) => (leaves(&unread), Some((Seen::Deleted, unread))),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use kube::runtime::reflector::store;
    use serde_json::{Value, json};
    use tallyman_crds::Service;

    use super::*;

    fn service(name: &str, count: Value) -> Readable<Service> {
        let object = json!({
            "apiVersion": "tallyman.dev/v1alpha1", "kind": "Service",
            "metadata": { "name": name, "namespace": "n", "uid": name },
            "spec": { "taskDefinition": "web", "cluster": "blue", "desiredCount": count },
        });
        serde_json::from_value(object).unwrap()
    }

    /// As a watch does it, with the cache in the middle.
    struct Watch {
        unreadable: UnreadableObjects,
        store: Store<Service>,
        writer: kube::runtime::reflector::store::Writer<Service>,
    }

    impl Watch {
        fn comes(&mut self, event: Event<Readable<Service>>) {
            let (event, worse) = self.unreadable.sort(Kind::Service, event, &self.store);
            self.in_one(worse);
            if let Some(event) = event {
                self.writer.apply_watcher_event(&event);
                self.in_one(false);
                self.unreadable.taken(Kind::Service, &event);
            }
        }

        /// Every object that is there is in the cache or in the list at any moment.
        fn in_one(&self, worse: bool) {
            assert!(!worse || self.unreadable.count() > 0);
            let held = self.names();
            assert!(held.0.len() + held.1.len() > 0, "an object is in neither");
        }

        fn names(&self) -> (Vec<String>, Vec<String>) {
            let name = |meta: &ObjectMeta| meta.name.clone().unwrap();
            let mut cached: Vec<_> = self
                .store
                .state()
                .iter()
                .map(|o| name(&o.metadata))
                .collect();
            cached.sort();
            let listed = self.unreadable.of("n");
            (
                cached,
                listed.iter().map(|o| name(&o.unread.metadata)).collect(),
            )
        }
    }

    #[test]
    fn an_object_is_in_the_cache_or_in_the_list_and_never_in_neither() {
        let (store, writer) = store::<Service>();
        let unreadable = UnreadableObjects::default();
        let mut watch = Watch {
            unreadable,
            store,
            writer,
        };
        let good = |name: &str| service(name, json!(2));
        let bad = |name: &str| service(name, json!("two"));
        let names = |list: &[&str]| list.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>();
        watch
            .unreadable
            .sort(Kind::Service, Event::Init, &watch.store);
        watch.writer.apply_watcher_event(&Event::Init);
        let (none, _) =
            watch
                .unreadable
                .sort(Kind::Service, Event::InitApply(bad("a")), &watch.store);
        assert!(none.is_none());
        watch.comes(Event::InitApply(good("b")));
        watch.comes(Event::InitDone);
        assert_eq!(watch.names(), (names(&["b"]), names(&["a"])));
        watch.comes(Event::Apply(bad("b")));
        assert_eq!(watch.names(), (names(&[]), names(&["a", "b"])));
        watch.comes(Event::Apply(good("a")));
        assert_eq!(watch.names(), (names(&["a"]), names(&["b"])));
        // A list that another object is not in any more: it was deleted while nobody watched.
        watch
            .unreadable
            .sort(Kind::Service, Event::Init, &watch.store);
        watch.writer.apply_watcher_event(&Event::Init);
        watch.comes(Event::InitApply(bad("a")));
        watch.comes(Event::InitDone);
        assert_eq!(watch.names(), (names(&[]), names(&["a"])));
        let (event, _) =
            watch
                .unreadable
                .sort(Kind::Service, Event::Delete(bad("a")), &watch.store);
        assert!(event.is_none(), "the cache has nothing of it");
        assert_eq!(watch.names(), (names(&[]), names(&[])));
    }

    #[test]
    fn objects_that_cannot_be_read_are_counted_until_they_can_be_or_are_gone() {
        let (store, _writer) = store::<Service>();
        let mut list = UnreadableOfKind::default();
        let (bad, good) = (|| service("a", json!("two")), || service("a", json!(2)));
        let events = [
            (Event::Init, 0),
            (Event::InitApply(bad()), 1),
            (Event::InitDone, 1),
            (Event::Apply(bad()), 1),
            (Event::Apply(good()), 0),
            (Event::Apply(bad()), 1),
            (Event::Delete(bad()), 0),
            (Event::Apply(bad()), 1),
            // A list that is not at its end says nothing of what it has not got yet.
            (Event::Init, 1),
            (Event::InitDone, 0),
        ];
        for (i, (event, count)) in events.into_iter().enumerate() {
            let (event, _) = list.sort(event, &store);
            event.iter().for_each(|event| {
                list.taken(event);
            });
            assert_eq!(list.count(), count, "after event {i}");
        }
    }
}
