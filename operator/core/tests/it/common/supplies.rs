//! Secrets and ConfigMaps, and what hosts are given of them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::json;
use tallyman_crds::sources::{Contents, Source, SourceKind, SourceObject, Supplied, supply};
use tallyman_crds::{labels, names};

use super::Bench;

impl Bench {
    /// `kubectl create secret generic`, or a change of it.
    pub fn secret(&mut self, name: &str, data: &[(&str, &str)]) {
        self.version += 1;
        let object = SourceObject {
            kind: SourceKind::Secret,
            name: name.to_owned(),
        };
        let data: BTreeMap<String, Vec<u8>> = data
            .iter()
            .map(|(key, value)| ((*key).to_owned(), value.as_bytes().to_vec()))
            .collect();
        let metadata = ObjectMeta {
            name: Some(name.to_owned()),
            resource_version: Some(self.version.to_string()),
            ..ObjectMeta::default()
        };
        self.contents.insert(object, Contents { metadata, data });
        self.keep();
    }

    fn keep(&mut self) {
        let found = self.contents.iter().map(|(o, c)| (o.kind, &c.metadata));
        self.objects.keep(found);
    }

    /// An object that carries our label, whoever made it.
    pub fn ours(&mut self, kind: SourceKind, name: &str) {
        let object = SourceObject {
            kind,
            name: name.to_owned(),
        };
        let ours = (labels::MANAGED_BY.to_owned(), labels::MANAGER.to_owned());
        let metadata = ObjectMeta {
            name: Some(name.to_owned()),
            resource_version: Some("7".to_owned()),
            labels: Some([ours].into()),
            ..ObjectMeta::default()
        };
        let data = [("key".to_owned(), b"value".to_vec())].into();
        self.contents.insert(object, Contents { metadata, data });
        self.keep();
    }

    /// `kubectl delete secret`.
    pub fn delete_secret(&mut self, name: &str) {
        self.contents.retain(|object, _| object.name != name);
        self.keep();
    }

    pub(super) fn create_host_secret(&mut self, host: &str) {
        self.version += 1;
        let meta = ObjectMeta {
            name: Some(names::host_identity(host)),
            uid: Some(format!("uid-{}", self.version)),
            resource_version: Some(self.version.to_string()),
            labels: Some([(labels::MANAGED_BY.to_owned(), labels::MANAGER.to_owned())].into()),
            ..ObjectMeta::default()
        };
        let name = names::host_identity(host);
        self.objects.host_secrets.insert(name, Arc::new(meta));
    }

    /// The host joined with this key.
    pub fn host_key(&mut self, host: &str, key: &str) {
        self.version += 1;
        let secret = self
            .objects
            .host_secrets
            .get_mut(&names::host_identity(host));
        let meta = Arc::make_mut(secret.unwrap());
        meta.resource_version = Some(self.version.to_string());
        let annotations = meta.annotations.get_or_insert_default();
        annotations.insert(labels::HOST_KEY.to_owned(), key.to_owned());
    }

    pub(super) fn supply(&mut self, secret: &str, sources: &BTreeSet<Source>) {
        self.version += 1;
        let (given, receipt) = supply(sources, &self.contents);
        let found = self.objects.host_secrets.get_mut(secret).unwrap();
        let meta = Arc::make_mut(found);
        meta.resource_version = Some(self.version.to_string());
        let text = json!(receipt).to_string();
        meta.annotations = Some([(labels::SUPPLIED.to_owned(), text)].into());
        self.supplies.insert(secret.to_owned(), given);
    }

    /// What a host was given for a `valueFrom`.
    pub fn given(&self, host: &str, value_from: &str) -> Option<&Supplied> {
        let source = Source::of_value_from(value_from).unwrap();
        self.supplies.get(&names::host_identity(host))?.get(&source)
    }
}
