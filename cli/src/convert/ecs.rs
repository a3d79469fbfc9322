//! ECS JSON: what `aws ecs describe-*` prints, and what `register-task-definition` and `create-service` take.

use serde_json::{Map, Value};
use tallyman_crds::ServiceSpec;
use tallyman_operator_core::unsupported;

use super::{Manifest, definition, described, not_honoured, object_name, unknown};

/// What ECS writes into a task definition by itself.
const OF_DEFINITION: [&str; 10] = [
    "taskDefinitionArn",
    "revision",
    "status",
    "requiresAttributes",
    "compatibilities",
    "registeredAt",
    "registeredBy",
    "deregisteredAt",
    "deleteRequestedAt",
    "deletedAt",
];

/// What ECS writes into a service by itself.
const OF_SERVICE: [&str; 16] = [
    "serviceArn",
    "status",
    "runningCount",
    "pendingCount",
    "deployments",
    "events",
    "createdAt",
    "updatedAt",
    "createdBy",
    "taskSets",
    "platformFamily",
    "currentServiceDeployment",
    "currentServiceRevisions",
    "serviceRevisions",
    "deploymentId",
    "resourceManagementType",
];

/// What can be converted.
const FORMS: &str = "it must be the output of `aws ecs describe-task-definition`, `describe-services`, `describe-tasks`, \
                     `describe-task-sets`, `describe-container-instances` or `describe-clusters`, the input of \
                     `register-task-definition` or `create-service`, or a Compose file (with `services`)";

/// What a described list becomes.
type Made = fn(Vec<Value>) -> Result<Vec<Manifest>, String>;

/// Lists that ECS describes, the word for one of each, and what becomes of them.
const LISTS: [(&str, &str, Made); 5] = [
    ("services", "service", |all| each(all, service)),
    ("tasks", "task", described::tasks),
    ("taskSets", "task set", |all| each(all, described::task_set)),
    ("containerInstances", "container instance", |all| {
        each(all, described::container_instance)
    }),
    ("clusters", "cluster", |all| each(all, described::cluster)),
];

fn each(
    all: Vec<Value>,
    one: fn(Value) -> Result<Manifest, String>,
) -> Result<Vec<Manifest>, String> {
    all.into_iter().map(one).collect()
}

/// Makes manifests of whatever it is.
pub(super) fn convert(mut value: Value) -> Result<Vec<Manifest>, String> {
    if !value.is_object() {
        return Err(FORMS.to_owned());
    }
    let tags = value["tags"].take();
    if value["taskDefinition"].is_object() {
        let mut given = value["taskDefinition"].take();
        if tags.as_array().is_some_and(|t| !t.is_empty()) {
            given["tags"] = tags;
        }
        return Ok(vec![task_definition(given)?]);
    }
    if !tags.is_null() {
        value["tags"] = tags;
    }
    for (field, noun, made) in LISTS {
        if let Value::Array(all) = value[field].take() {
            return listed(all, noun, made, &value["failures"]);
        }
    }
    for (field, one) in [
        ("service", service as fn(Value) -> Result<Manifest, String>),
        ("taskSet", described::task_set),
        ("containerInstance", described::container_instance),
        ("cluster", described::cluster),
    ] {
        if value[field].is_object() {
            return Ok(vec![one(value[field].take())?]);
        }
    }
    if value["containerDefinitions"].is_array() {
        return Ok(vec![task_definition(value)?]);
    }
    if value["serviceName"].is_string() {
        return Ok(vec![service(value)?]);
    }
    Err(FORMS.to_owned())
}

/// What becomes of a list, with a word on what ECS did not find.
fn listed(
    all: Vec<Value>,
    noun: &str,
    made: Made,
    failures: &Value,
) -> Result<Vec<Manifest>, String> {
    if all.is_empty() {
        return Err(format!("it describes no {noun}; `failures`: {failures}"));
    }
    let mut manifests = made(all)?;
    let failures = failures.as_array().map_or(&[][..], Vec::as_slice);
    if let (Some(first), false) = (manifests.first_mut(), failures.is_empty()) {
        let failures = Value::Array(failures.to_vec());
        first.notes.push(format!(
            "ECS did not describe all: `failures` is {failures}."
        ));
    }
    Ok(manifests)
}

pub(super) fn fields(value: Value) -> Result<Map<String, Value>, String> {
    match value {
        Value::Object(map) => Ok(map),
        other => Err(format!("it must be an object, not {other}")),
    }
}

/// Takes out what ECS writes by itself, and says so.
pub(super) fn written_by_ecs(
    map: &mut Map<String, Value>,
    names: &[&str],
    notes: &mut Vec<String>,
) {
    let found: Vec<String> = names
        .iter()
        .filter(|n| map.remove(**n).is_some())
        .map(|n| format!("`{n}`"))
        .collect();
    if !found.is_empty() {
        notes.push(format!(
            "Left out, because it is the status that ECS keeps: {}.",
            found.join(", ")
        ));
    }
}

/// Takes out the tags that AWS makes by itself and nobody else may.
pub(super) fn without_tags_of_aws(map: &mut Map<String, Value>, notes: &mut Vec<String>) {
    let Some(tags) = map.get_mut("tags").and_then(Value::as_array_mut) else {
        return;
    };
    let is_of_aws = |tag: &Value| {
        let key = tag["key"].as_str().unwrap_or_default();
        key.to_ascii_lowercase().starts_with("aws:")
    };
    let theirs: Vec<String> = tags
        .iter()
        .filter(|t| is_of_aws(t))
        .map(|t| format!("`{}`", t["key"].as_str().unwrap_or_default()))
        .collect();
    tags.retain(|t| !is_of_aws(t));
    if !theirs.is_empty() {
        notes.push(format!(
            "Left out, because AWS makes these tags by itself: {}.",
            theirs.join(", ")
        ));
    }
}

fn task_definition(value: Value) -> Result<Manifest, String> {
    let mut map = fields(value)?;
    let mut notes = Vec::new();
    written_by_ecs(&mut map, &OF_DEFINITION, &mut notes);
    without_tags_of_aws(&mut map, &mut notes);
    let family = map
        .get("family")
        .and_then(Value::as_str)
        .unwrap_or_default()
        .to_owned();
    if family.is_empty() {
        return Err("a task definition must have `family`".to_owned());
    }
    let name = object_name(&family);
    if name == family {
        map.remove("family");
    }
    definition(name, Value::Object(map), notes)
}

/// The part of an ARN, or of a name, that is the name.
pub(super) fn short(given: &str) -> &str {
    given.rsplit('/').next().unwrap_or(given)
}

/// The name of an object after ECS' name of it; says so where it is another one.
pub(super) fn renamed(kind: &str, given: &str, notes: &mut Vec<String>) -> String {
    let name = object_name(given);
    if name != given {
        notes.push(format!("{kind} `{given}` is named `{name}` here: names of objects have small letters, digits and hyphens."));
    }
    name
}

/// The cluster by its name, under the name that the field has in input; none for `default`.
pub(super) fn in_cluster(map: &mut Map<String, Value>) {
    if let Some(found) = map.remove("clusterArn") {
        map.entry("cluster").or_insert(found);
    }
    let given = map.get("cluster").and_then(Value::as_str);
    if let Some(cluster) = given.map(short).map(str::to_owned) {
        if cluster == "default" {
            map.remove("cluster");
        } else {
            map.insert("cluster".to_owned(), cluster.into());
        }
    }
}

/// Puts the family of a task definition into `taskDefinition`, and says that its number is lost.
pub(super) fn followed(
    map: &mut Map<String, Value>,
    given: &str,
    notes: &mut Vec<String>,
) -> String {
    let given = short(given);
    let (family, number) = given.rsplit_once(':').unwrap_or((given, ""));
    if !number.is_empty() {
        notes.push(format!(
            "`taskDefinition` was `{given}`. Revisions are numbered anew here, so it follows the latest of `{family}`; pin it \
             once that has a number."
        ));
    }
    map.insert("taskDefinition".to_owned(), family.into());
    family.to_owned()
}

fn service(value: Value) -> Result<Manifest, String> {
    let mut map = fields(value)?;
    let mut notes = Vec::new();
    written_by_ecs(&mut map, &OF_SERVICE, &mut notes);
    without_tags_of_aws(&mut map, &mut notes);
    let given = map.remove("serviceName");
    let given = given
        .as_ref()
        .and_then(Value::as_str)
        .ok_or("a service must have `serviceName`")?;
    let name = renamed("Service", given, &mut notes);
    in_cluster(&mut map);
    // Described, it is `roleArn`.
    if let Some(found) = map.remove("roleArn") {
        map.entry("role").or_insert(found);
    }
    let given = map.get("taskDefinition").and_then(Value::as_str);
    if let Some(given) = given.map(str::to_owned) {
        followed(&mut map, &given, &mut notes);
    }
    let given = Value::Object(map);
    let spec: ServiceSpec = serde_json::from_value(given.clone())
        .map_err(|e| format!("service `{name}` cannot be read: {e}"))?;
    let kept = serde_json::to_value(&spec).unwrap_or_default();
    notes.extend(unknown("spec", &given, &kept));
    notes.extend(not_honoured(&unsupported::of_service(&spec)));
    Ok(Manifest {
        kind: "Service",
        name,
        spec: kept,
        notes,
    })
}
