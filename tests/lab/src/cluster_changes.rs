//! What a run adds to a cluster that it was given, so that it can take away exactly that.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};
use tallyman_crds::names;

use crate::control_plane::ControlPlane;
use crate::kubectl::Kubectl;
use crate::process::Process;
use crate::progress::say;
use crate::state::{Ledger, ObjectRecord, State};

/// A kind that holds tasks, by the name of its definition.
const SERVICES: &str = "services.tallyman.dev";

/// Longest time for an object to let go of what it holds.
const DELETION: Duration = Duration::from_secs(90);
/// How long kubectl may take beside that.
const KUBECTL: Duration = Duration::from_secs(30);

/// Applies manifests, and in a cluster that was given writes down which of their objects were not there before. Their kinds have to be
/// known to it.
pub(crate) fn apply(ledger: &Ledger, plane: &ControlPlane, path: &Path) -> Result<()> {
    if plane.is_embedded() {
        return plane.kubectl().apply_path(path).map(drop);
    }
    let get = || {
        let command =
            plane
                .kubectl()
                .tool()
                .args(["get", "--ignore-not-found", "-o", "json", "-f"]);
        command.arg(path)
    };
    // A guess would one day delete what was there before.
    let before = objects(&get().check()?)?;
    let is_new = |object: &ObjectRecord| !before.iter().any(|known| known.names_same(object));
    // Noted by name before, in case that we are interrupted, and with their uids as soon as they have some.
    let planned = ["create", "--dry-run=client", "-o", "json", "-f"];
    let planned = plane.kubectl().tool().args(planned).arg(path).check()?;
    note_created(ledger, objects(&planned)?.into_iter().filter(is_new))?;
    plane.kubectl().apply_path(path)?;
    let after = objects(&get().check()?)?;
    note_created(ledger, after.into_iter().filter(is_new))
}

/// Objects in what kubectl prints as JSON: nothing, one after the other, or a list.
fn objects(printed: &str) -> Result<Vec<ObjectRecord>> {
    let mut found = Vec::new();
    for value in serde_json::Deserializer::from_str(printed).into_iter::<Value>() {
        let value = value.context("kubectl printed no JSON")?;
        match value["items"].as_array() {
            Some(items) => found.extend(items.iter().map(object).collect::<Result<Vec<_>>>()?),
            None => found.push(object(&value)?),
        }
    }
    Ok(found)
}

fn object(value: &Value) -> Result<ObjectRecord> {
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
            uid: text(&metadata["uid"]).unwrap_or_default(),
        })
    };
    identity().with_context(|| format!("an object without kind or name: {value}"))
}

/// Writes down an object that was not there before, if it is there now.
pub(crate) fn note(
    ledger: &Ledger,
    plane: &ControlPlane,
    (kind, namespace, name): (&str, &str, &str),
) -> Result<Option<ObjectRecord>> {
    let found = plane.kubectl().get(kind, namespace, name)?;
    let record = found.as_ref().map(object).transpose()?;
    note_created(ledger, record.clone())?;
    Ok(record)
}

fn note_created(ledger: &Ledger, objects: impl IntoIterator<Item = ObjectRecord>) -> Result<()> {
    ledger.update(|state| {
        for object in objects {
            let known = &mut state.created;
            match known.iter_mut().find(|known| known.names_same(&object)) {
                Some(known) => *known = object,
                None => known.push(object),
            }
        }
    })
}

/// Starts those that have to be there when a cluster is left, where they are not: they let go of what is deleted.
pub(crate) fn wake(ledger: &Arc<Ledger>) -> Result<()> {
    let state = ledger.state();
    if !has_to_leave(&state) {
        return Ok(());
    }
    for recorded in state.processes.iter().filter(|known| known.is_tallyman()) {
        Process::attach(ledger, &recorded.name)?.start()?;
    }
    Ok(())
}

/// The run was given a cluster, and made something there.
fn has_to_leave(state: &State) -> bool {
    let given = state
        .control_plane
        .as_ref()
        .is_some_and(|plane| !plane.embedded);
    given && !state.created.is_empty()
}

/// Deletes from a cluster that was given what was not in it before. Operator and agents have to be there.
///
/// # Errors
/// When the cluster does not answer, or something cannot be deleted.
pub(crate) fn leave(state: &State) -> Result<()> {
    let Some(plane) = &state.control_plane else {
        return Ok(());
    };
    if !has_to_leave(state) {
        return Ok(());
    }
    let kubectl = Kubectl::new(&plane.kubeconfig, state.work.join("kubectl-cache"))?;
    if let Err(error) = kubectl.ok(["version"]) {
        let left: Vec<String> = state.created.iter().map(ToString::to_string).collect();
        bail!(
            "the cluster of {} does not answer ({error:#}), so there stay {}",
            plane.kubeconfig.display(),
            left.join(", ")
        );
    }
    let definition = state.created.iter().find(|object| object.name == SERVICES);
    if !present(&kubectl, definition.as_slice())?.is_empty() {
        // With their kind go those that others made, too; their tasks go while there are hosts.
        say("deleting all services of Tallyman");
        if let Err(error) = delete(&kubectl, &[SERVICES, "--all", "--all-namespaces"], "") {
            // As when the kind is not served yet.
            say(format!("{error:#}"));
        }
    }
    let mut failures = Vec::new();
    for (what, of) in deletion_order(&state.created) {
        if let Err(error) = delete_step(&kubectl, what, &of) {
            failures.push(format!("{error:#}"));
        }
    }
    ensure!(failures.is_empty(), "{}", failures.join("; "));
    Ok(())
}

fn delete_step(kubectl: &Kubectl, what: &str, of: &[&ObjectRecord]) -> Result<()> {
    let objects = present(kubectl, of)?;
    if objects.is_empty() {
        return Ok(());
    }
    say(format!("deleting {what}"));
    let manifests = manifests(&objects);
    if objects.iter().any(|object| is_definition(object)) {
        // The API server may take minutes to delete one that it has not begun to serve.
        let wait = [
            "wait",
            "--for=condition=Established",
            "--timeout=30s",
            "-f",
            "-",
        ];
        let _served = kubectl.tool().args(wait).stdin(manifests.as_str()).run();
    }
    delete(kubectl, &["-f", "-"], &manifests)?;
    for object in objects {
        // The cluster's garbage collector may not come to an identity before the kind of its owner is gone, and then never does.
        let identity = match object.kind.split('.').next() {
            Some("ContainerInstance") => names::host_identity(&object.name),
            Some("HostJoin") => names::join_identity(&object.name),
            _ => continue,
        };
        let kinds = "serviceaccounts,roles,rolebindings,secrets,leases";
        let namespace = object.namespace.as_deref().unwrap_or("default");
        let of = [kinds, &identity, "--ignore-not-found", "-n", namespace];
        delete(kubectl, &of, "")?;
    }
    Ok(())
}

fn is_definition(object: &ObjectRecord) -> bool {
    object.kind.starts_with("CustomResourceDefinition.")
}

/// Those that are still there, and are not others of the same name.
fn present<'a>(kubectl: &Kubectl, of: &[&'a ObjectRecord]) -> Result<Vec<&'a ObjectRecord>> {
    if of.is_empty() {
        return Ok(Vec::new());
    }
    let get = ["get", "--ignore-not-found", "-o", "json", "-f", "-"];
    let found = kubectl.tool().args(get).stdin(manifests(of)).run()?;
    if !found.success {
        // A kind that is gone has no objects; then the others are asked for one by one.
        let each = of.chunks(1).filter(|_| of.len() > 1);
        return each
            .map(|one| present(kubectl, one))
            .collect::<Result<Vec<_>>>()
            .map(|all| all.concat());
    }
    let found = objects(&found.stdout)?;
    let is_there = |object: &&&ObjectRecord| {
        let found = found.iter().find(|found| found.names_same(object));
        found.is_some_and(|found| object.uid.is_empty() || found.uid == object.uid)
    };
    Ok(of.iter().filter(is_there).copied().collect())
}

/// As kubectl reads who is meant.
fn manifests(of: &[&ObjectRecord]) -> String {
    let manifest = |object: &&ObjectRecord| {
        let (kind, version) = match object.kind.split_once('.') {
            Some((kind, rest)) => {
                let (version, group) = rest.split_once('.').unwrap_or((rest, ""));
                (kind, format!("{group}/{version}"))
            }
            None => (object.kind.as_str(), "v1".to_owned()),
        };
        let metadata = json!({ "name": object.name, "namespace": object.namespace });
        json!({ "apiVersion": version, "kind": kind, "metadata": metadata })
    };
    let items: Vec<Value> = of.iter().map(manifest).collect();
    json!({ "apiVersion": "v1", "kind": "List", "items": items }).to_string()
}

fn delete(kubectl: &Kubectl, what: &[&str], manifests: &str) -> Result<()> {
    let patience = format!("--timeout={}s", DELETION.as_secs());
    let command = kubectl.tool().arg("delete").args(what).arg(&patience);
    let command = command.stdin(manifests);
    command.timeout(DELETION + KUBECTL).check().map(drop)
}

/// Services first, then the rest of Tallyman's objects and its hosts, then their kinds, while the operator can still let go of them; last
/// what the operator itself lives on.
fn deletion_order(created: &[ObjectRecord]) -> [(&'static str, Vec<&ObjectRecord>); 5] {
    let step = |object: &ObjectRecord| match object.kind.split_once('.') {
        Some(("Service", "v1alpha1.tallyman.dev")) => 0,
        Some(("ContainerInstance", "v1alpha1.tallyman.dev")) => 2,
        Some((_, "v1alpha1.tallyman.dev")) => 1,
        _ if is_definition(object) => 3,
        _ => 4,
    };
    let mut steps = [
        "services",
        "task definitions and joins",
        "hosts",
        "Tallyman's kinds",
        "its roles and policies",
    ]
    .map(|what| (what, Vec::new()));
    for object in created.iter().rev() {
        steps[step(object)].1.push(object);
    }
    steps
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
            .flat_map(|(_, of)| of)
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
    fn an_object_is_asked_for_as_it_was_read() {
        for version in [
            "v1",
            "rbac.authorization.k8s.io/v1",
            "tallyman.dev/v1alpha1",
        ] {
            let read = object(&json!({
                "apiVersion": version,
                "kind": "Role",
                "metadata": {"name": "r", "namespace": "n", "uid": "1"},
            }))
            .unwrap();
            let asked = objects(&manifests(&[&read])).unwrap();
            assert!(asked[0].names_same(&read), "{asked:?} {read:?}");
        }
    }

    #[test]
    fn objects_are_read_one_by_one_or_from_a_list() {
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
        assert_eq!(objects(&format!("{one}\n{one}\n")).unwrap().len(), 2);
    }
}
