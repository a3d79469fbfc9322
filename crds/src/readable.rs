//! Objects that are read one by one.
//!
//! A typed list or watch fails as a whole with the first object that its type cannot read: stored under an older definition that took
//! more, or a type of ours is wrong. Whoever asks for [`Readable`] objects gets all others, and of that one its metadata and the
//! field that is wrong.
//!
//! Why not kube's `DeserializeGuard`: it copies each object once more, and does not say which field.

use std::borrow::Cow;
use std::fmt;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize, Deserializer};
use serde_json::Value;

/// An object, or what is known of it when it cannot be read.
#[derive(Clone, Debug)]
pub struct Readable<K>(pub Result<K, Unread>);

/// What is known of an object that cannot be read.
#[derive(Clone, Debug, PartialEq)]
pub struct Unread {
    /// Its metadata.
    pub metadata: ObjectMeta,
    /// `spec.cluster`, as far as that is a text.
    pub cluster: Option<String>,
    /// Path of the first field that cannot be read, such as `spec.tags[2].key`; empty or a dot when it is the whole object.
    pub field: String,
    /// What is wrong with it, in the words of the parser.
    pub why: String,
}

impl Unread {
    /// What is wrong, without the value: it may be a secret, and who is told may not be who may read it.
    pub fn problem(&self) -> String {
        let wrong = match self.why.split_once(", expected ") {
            Some((_, expected)) => format!("must be {expected}"),
            None => format!("cannot be read ({})", self.why),
        };
        match self.field.as_str() {
            "" | "." => format!("the object {wrong}"),
            field => format!("`{field}` {wrong}"),
        }
    }
}

impl fmt::Display for Unread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let part = |text: &Option<String>| text.clone().unwrap_or_default();
        let meta = &self.metadata;
        let (namespace, name) = (part(&meta.namespace), part(&meta.name));
        write!(f, "{namespace}/{name}, field {}", self.field)
    }
}

impl<'de, K: DeserializeOwned> Deserialize<'de> for Readable<K> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = Value::deserialize(deserializer)?;
        if let Ok(object) = K::deserialize(&value) {
            return Ok(Readable(Ok(object)));
        }
        // Once more, and slower, to find the field.
        let error = match serde_path_to_error::deserialize::<_, K>(&value) {
            Ok(object) => return Ok(Readable(Ok(object))),
            Err(error) => error,
        };
        Ok(Readable(Err(Unread {
            metadata: ObjectMeta::deserialize(&value["metadata"]).map_err(D::Error::custom)?,
            cluster: value["spec"]["cluster"].as_str().map(str::to_owned),
            field: error.path().to_string(),
            why: error.inner().to_string(),
        })))
    }
}

impl<K: Resource> Resource for Readable<K> {
    type DynamicType = K::DynamicType;
    type Scope = K::Scope;

    fn kind(dt: &Self::DynamicType) -> Cow<'_, str> {
        K::kind(dt)
    }

    fn group(dt: &Self::DynamicType) -> Cow<'_, str> {
        K::group(dt)
    }

    fn version(dt: &Self::DynamicType) -> Cow<'_, str> {
        K::version(dt)
    }

    fn plural(dt: &Self::DynamicType) -> Cow<'_, str> {
        K::plural(dt)
    }

    fn meta(&self) -> &ObjectMeta {
        match &self.0 {
            Ok(object) => object.meta(),
            Err(unread) => &unread.metadata,
        }
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        match &mut self.0 {
            Ok(object) => object.meta_mut(),
            Err(unread) => &mut unread.metadata,
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic, reason = "tests")]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::Service;

    fn service(count: Value) -> Readable<Service> {
        let object = json!({
            "apiVersion": "tallyman.dev/v1alpha1", "kind": "Service",
            "metadata": { "name": "web", "namespace": "n", "uid": "u" },
            "spec": { "taskDefinition": "web", "cluster": "blue", "desiredCount": count },
        });
        serde_json::from_value(object).unwrap()
    }

    #[test]
    fn what_cannot_be_read_is_known_by_its_metadata_and_the_field_and_its_value_is_not_told() {
        assert!(service(json!(2)).0.is_ok());
        let Err(bad) = service(json!("hunter2")).0 else {
            panic!("a text is no number");
        };
        assert_eq!(bad.metadata.name.as_deref(), Some("web"));
        assert_eq!(bad.cluster.as_deref(), Some("blue"));
        assert_eq!(bad.field, "spec.desiredCount");
        let problem = bad.problem();
        assert!(
            problem.starts_with("`spec.desiredCount` must be "),
            "{problem}"
        );
        assert!(!problem.contains("hunter2"), "{problem}");
    }
}
