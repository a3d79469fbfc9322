//! What a quickstart adds to a cluster, so that it can take away exactly that.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result};
use serde_json::Value;
use tallyman_crds::names;

use crate::control_plane::ControlPlane;
use crate::process::Process;
use crate::progress::say;
use crate::state::{Ledger, ObjectRecord};

/// Longest time for an object to let go of what it holds.
const DELETION: &str = "--timeout=90s";

/// Applies manifests and writes down which of their objects were not there before.
pub(crate) fn apply_noting(ledger: &Ledger, plane: &ControlPlane, path: &Path) -> Result<()> {
    let get = || {
        let command =
            plane
                .kubectl()
                .tool()
                .args(["get", "--ignore-not-found", "-o", "json", "-f"]);
        command.arg(path)
    };
    // Of kinds that the cluster does not know yet there can be none.
    let before = get().run()?;
    let before = objects(if before.success { &before.stdout } else { "" })?;
    plane.kubectl().apply_path(path)?;
    let after = objects(&get().check()?)?;
    note_created(
        ledger,
        after.into_iter().filter(|object| !before.contains(object)),
    )
}

/// Objects in what `kubectl get --output=json` prints: nothing, one, or a list.
fn objects(printed: &str) -> Result<Vec<ObjectRecord>> {
    if printed.trim().is_empty() {
        return Ok(Vec::new());
    }
    let value: Value = serde_json::from_str(printed).context("kubectl printed no JSON")?;
    match value["items"].as_array() {
        Some(items) => items.iter().map(object).collect(),
        None => Ok(vec![object(&value)?]),
    }
}

pub(crate) fn object(value: &Value) -> Result<ObjectRecord> {
    let text = |field: &Value| field.as_str().map(str::to_owned);
    let metadata = &value["metadata"];
    let identity = || {
        let kind = value["kind"].as_str()?;
        let kind = match value["apiVersion"].as_str()?.split_once('/') {
            Some((group, version)) => format!("{kind}.{version}.{group}"),
            None => kind.to_owned(),
        };
        Some(ObjectRecord {
            kind,
            namespace: text(&metadata["namespace"]),
            name: text(&metadata["name"])?,
            uid: text(&metadata["uid"])?,
        })
    };
    identity().with_context(|| format!("an object without kind, name or uid: {value}"))
}

pub(crate) fn note_created(
    ledger: &Ledger,
    objects: impl IntoIterator<Item = ObjectRecord>,
) -> Result<()> {
    ledger.update(|state| {
        let record = state.quickstart.get_or_insert_default();
        for object in objects {
            if !record.created.contains(&object) {
                record.created.push(object);
            }
        }
    })
}

/// Deletes what was not in the cluster before.
pub(crate) fn leave_cluster(ledger: &Arc<Ledger>) -> Result<()> {
    let plane = ControlPlane::attach(ledger)?;
    for name in ["operator", "agent"] {
        if let Ok(process) = Process::attach(ledger, name) {
            process.start()?;
        }
    }
    let created = ledger.state().quickstart.unwrap_or_default().created;
    for object in deletion_order(&created) {
        let namespace = object.namespace.as_deref().unwrap_or("default");
        let found = plane.kubectl().get(&object.kind, namespace, &object.name);
        // A kind that is gone has no objects.
        if !matches!(found, Ok(Some(found)) if found["metadata"]["uid"] == object.uid.as_str()) {
            continue;
        }
        say(format!("deleting {} {}", object.kind, object.name));
        let name = object.name.as_str();
        plane
            .kubectl()
            .ok(["delete", &object.kind, name, "-n", namespace, DELETION])?;
        if object.kind.starts_with("ContainerInstance.") {
            // The cluster's garbage collector may not come to it before the kind is gone, and then never does.
            let identity = names::host_identity(name);
            let kinds = "serviceaccounts,roles,rolebindings,secrets,leases";
            plane.kubectl().ok([
                "delete",
                kinds,
                &identity,
                "--ignore-not-found",
                "-n",
                namespace,
                DELETION,
            ])?;
        }
    }
    Ok(())
}

/// Services first, then the rest of Tallyman's objects and its host, then their kinds, while the operator can still let go of them; last what
/// the operator itself lives on.
fn deletion_order(created: &[ObjectRecord]) -> Vec<&ObjectRecord> {
    let rank = |object: &ObjectRecord| match object.kind.split_once('.') {
        Some(("Service", "v1alpha1.tallyman.dev")) => 0,
        Some(("ContainerInstance", "v1alpha1.tallyman.dev")) => 2,
        Some((_, "v1alpha1.tallyman.dev")) => 1,
        Some(("CustomResourceDefinition", _)) => 3,
        _ => 4,
    };
    let mut order: Vec<&ObjectRecord> = created.iter().rev().collect();
    order.sort_by_key(|object| rank(object));
    order
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn objects_go_before_their_kinds_and_those_before_roles() {
        let record = |kind: &str, name: &str| ObjectRecord {
            kind: kind.into(),
            namespace: None,
            name: name.into(),
            uid: name.into(),
        };
        let created = [
            record(
                "CustomResourceDefinition.v1.apiextensions.k8s.io",
                "tasks.tallyman.dev",
            ),
            record("Namespace", "tallyman-system"),
            record("ContainerInstance.v1alpha1.tallyman.dev", "box"),
            record("Service.v1alpha1.tallyman.dev", "hello"),
            record("TaskDefinition.v1alpha1.tallyman.dev", "hello-definition"),
        ];
        let order: Vec<&str> = deletion_order(&created)
            .iter()
            .map(|object| object.name.as_str())
            .collect();
        assert_eq!(
            order,
            [
                "hello",
                "hello-definition",
                "box",
                "tasks.tallyman.dev",
                "tallyman-system"
            ]
        );
    }

    #[test]
    fn objects_are_read_from_one_or_from_a_list() {
        let one = json!({
            "apiVersion": "v1",
            "kind": "Namespace",
            "metadata": {"name": "n", "uid": "1"},
        });
        let list = json!({"kind": "List", "items": [one]});
        assert_eq!(objects("").unwrap(), []);
        assert_eq!(
            objects(&one.to_string()).unwrap(),
            objects(&list.to_string()).unwrap()
        );
        assert_eq!(objects(&one.to_string()).unwrap()[0].kind, "Namespace");
    }
}
