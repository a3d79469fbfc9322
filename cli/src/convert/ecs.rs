//! ECS JSON: what `describe-task-definition`, `describe-services` and their like print, and what `register-task-definition`
//! and `create-service` take.

use serde_json::{Map, Value};
use tallyman_crds::ServiceSpec;
use tallyman_operator_core::unsupported;

use super::{Manifest, definition, not_honoured, object_name, unknown};

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
const FORMS: &str = "it must be the output of `aws ecs describe-task-definition` or `describe-services`, the input of \
                     `register-task-definition` or `create-service`, or a Compose file (with `services`)";

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
    if let Some(services) = value["services"].as_array() {
        if services.is_empty() {
            return Err(format!(
                "it describes no service; `failures`: {}",
                value["failures"]
            ));
        }
        return services.iter().map(|s| service(s.clone())).collect();
    }
    if value["service"].is_object() {
        return Ok(vec![service(value["service"].take())?]);
    }
    if value["containerDefinitions"].is_array() {
        return Ok(vec![task_definition(value)?]);
    }
    if value["serviceName"].is_string() {
        return Ok(vec![service(value)?]);
    }
    Err(FORMS.to_owned())
}

fn fields(value: Value) -> Result<Map<String, Value>, String> {
    match value {
        Value::Object(map) => Ok(map),
        other => Err(format!("it must be an object, not {other}")),
    }
}

/// Takes out what ECS writes by itself, and says so.
fn written_by_ecs(map: &mut Map<String, Value>, names: &[&str], notes: &mut Vec<String>) {
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

fn task_definition(value: Value) -> Result<Manifest, String> {
    let mut map = fields(value)?;
    let mut notes = Vec::new();
    written_by_ecs(&mut map, &OF_DEFINITION, &mut notes);
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
fn short(given: &str) -> &str {
    given.rsplit('/').next().unwrap_or(given)
}

fn service(value: Value) -> Result<Manifest, String> {
    let mut map = fields(value)?;
    let mut notes = Vec::new();
    written_by_ecs(&mut map, &OF_SERVICE, &mut notes);
    let given = map.remove("serviceName");
    let given = given
        .as_ref()
        .and_then(Value::as_str)
        .ok_or("a service must have `serviceName`")?
        .to_owned();
    let name = object_name(&given);
    if name != given {
        notes.push(format!("Service `{given}` is named `{name}` here: names of objects have small letters, digits and hyphens."));
    }
    // Described, it is `clusterArn` and `roleArn`.
    for (described, input) in [("clusterArn", "cluster"), ("roleArn", "role")] {
        if let Some(found) = map.remove(described) {
            map.entry(input).or_insert(found);
        }
    }
    if let Some(cluster) = map
        .get("cluster")
        .and_then(Value::as_str)
        .map(short)
        .map(str::to_owned)
    {
        if cluster == "default" {
            map.remove("cluster");
        } else {
            map.insert("cluster".to_owned(), cluster.into());
        }
    }
    if let Some(given) = map
        .get("taskDefinition")
        .and_then(Value::as_str)
        .map(short)
        .map(str::to_owned)
    {
        let (family, number) = given.rsplit_once(':').unwrap_or((&given, ""));
        if !number.is_empty() {
            notes.push(format!(
                "`taskDefinition` was `{given}`. Revisions are numbered anew here, so it follows the latest of `{family}`; pin it \
                 once that has a number."
            ));
        }
        let family = family.to_owned();
        map.insert("taskDefinition".to_owned(), family.into());
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
