//! Secrets and ConfigMaps, and what hosts are given of them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::json;
use tallyman_crds::sources::{Source, SourceKind, SourceObject, Supplied, supply};
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
        let version = self.version.to_string();
        self.objects.sources.insert(object.clone(), version.clone());
        self.contents.insert(object, (version, data));
    }

    /// `kubectl delete secret`.
    pub fn delete_secret(&mut self, name: &str) {
        self.contents.retain(|object, _| object.name != name);
        self.objects.sources.retain(|object, _| object.name != name);
    }

    pub(super) fn create_host_secret(&mut self, host: &str) {
        self.version += 1;
        let meta = ObjectMeta {
            name: Some(names::host_identity(host)),
            uid: Some(format!("uid-{}", self.version)),
            resource_version: Some(self.version.to_string()),
            ..ObjectMeta::default()
        };
        self.objects.host_secrets.push(Arc::new(meta));
    }

    pub(super) fn supply(&mut self, secret: &str, sources: &BTreeSet<Source>) {
        self.version += 1;
        let (given, receipt) = supply(sources, &self.contents);
        let found = self
            .objects
            .host_secrets
            .iter_mut()
            .find(|m| m.name.as_deref() == Some(secret))
            .unwrap();
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
