//! What ECS describes of what runs: tasks, task sets, container instances, clusters. Each becomes what a user would have applied
//! to come to the same.

use serde_json::{Map, Value, json};
use tallyman_crds::{ClusterSpec, ContainerInstanceSpec, RunTaskSpec, TaskSetSpec};
use tallyman_operator_core::unsupported;

use super::ecs::{
    fields, followed, in_cluster, renamed, short, without_tags_of_aws, written_by_ecs,
};
use super::{Manifest, not_honoured, object_name, unknown};
use crate::words::{count, list};

/// What ECS writes into a task by itself.
const OF_TASK: [&str; 24] = [
    "taskArn",
    "containerInstanceArn",
    "attachments",
    "attributes",
    "availabilityZone",
    "connectivity",
    "connectivityAt",
    "containers",
    "cpu",
    "memory",
    "createdAt",
    "desiredStatus",
    "lastStatus",
    "healthStatus",
    "executionStoppedAt",
    "pullStartedAt",
    "pullStoppedAt",
    "startedAt",
    "stoppingAt",
    "stoppedAt",
    "stopCode",
    "stoppedReason",
    "platformFamily",
    "version",
];

/// What ECS writes into a task set by itself.
const OF_TASK_SET: [&str; 11] = [
    "id",
    "taskSetArn",
    "startedBy",
    "status",
    "computedDesiredCount",
    "pendingCount",
    "runningCount",
    "createdAt",
    "updatedAt",
    "stabilityStatus",
    "stabilityStatusAt",
];

/// What ECS writes into a container instance by itself, or its agent says.
const OF_INSTANCE: [&str; 14] = [
    "containerInstanceArn",
    "version",
    "versionInfo",
    "remainingResources",
    "registeredResources",
    "statusReason",
    "agentConnected",
    "runningTasksCount",
    "pendingTasksCount",
    "agentUpdateStatus",
    "registeredAt",
    "attachments",
    "healthStatus",
    "ec2InstanceId",
];

/// What ECS writes into a cluster by itself.
const OF_CLUSTER: [&str; 9] = [
    "clusterArn",
    "status",
    "registeredContainerInstancesCount",
    "runningTasksCount",
    "pendingTasksCount",
    "activeServicesCount",
    "statistics",
    "attachments",
    "attachmentsStatus",
];

const NO_PROVIDERS: &str =
    "there are no capacity providers, every host of the cluster takes its tasks";

/// The longest name of a ContainerInstance.
const HOST_NAME: usize = 40;
/// The most copies of one RunTask.
const COPIES: usize = 10;
/// How much of a family and of a task's id the name of a RunTask has: 52 letters are the most.
const FAMILY: usize = 40;
const ID: usize = 8;

/// A text of `map`, taken out.
fn taken(map: &mut Map<String, Value>, field: &str) -> Option<String> {
    let text = map.get(field)?.as_str()?.to_owned();
    map.remove(field);
    Some(text)
}

/// Takes a field out that has no place here, and says why.
fn given_up(map: &mut Map<String, Value>, field: &str, why: &str, notes: &mut Vec<String>) {
    let is_something = |v: &Value| !(v.is_null() || v == "" || *v == json!([]) || *v == json!({}));
    if let Some(value) = map.remove(field).filter(is_something) {
        let said = value.as_str().map(|text| format!(": {text}"));
        let said = said.unwrap_or_default();
        notes.push(format!("Not carried over: `{field}{said}`: {why}."));
    }
}

/// A spec as it is kept, with notes of what of it is not.
fn kept<S: serde::Serialize + serde::de::DeserializeOwned>(
    subject: &str,
    map: Map<String, Value>,
    notes: &mut Vec<String>,
) -> Result<(S, Value), String> {
    let given = Value::Object(map);
    let spec: S = serde_json::from_value(given.clone())
        .map_err(|e| format!("{subject} cannot be read: {e}"))?;
    let kept = serde_json::to_value(&spec).unwrap_or_default();
    notes.extend(unknown("spec", &given, &kept));
    Ok((spec, kept))
}

/// A task as the run that would start it.
struct Run {
    id: String,
    family: String,
    spec: Value,
    notes: Vec<String>,
}

fn run(value: Value) -> Result<Run, String> {
    let mut map = fields(value)?;
    let mut notes = Vec::new();
    let arn = map.get("taskArn").and_then(Value::as_str);
    let id = arn.map(short).unwrap_or_default().to_owned();
    written_by_ecs(&mut map, &OF_TASK, &mut notes);
    in_cluster(&mut map);
    let definition =
        taken(&mut map, "taskDefinitionArn").ok_or("a task must have `taskDefinitionArn`")?;
    let family = followed(&mut map, &definition, &mut notes);
    let service = map.get("group").and_then(Value::as_str);
    if let Some(service) = service.and_then(|g| g.strip_prefix("service:")) {
        notes.push(format!(
            "Not carried over: `group` and `startedBy`: it was a task of service `{service}`, which starts its tasks itself (convert \
             `describe-services`). This starts one more, once."
        ));
        map.remove("group");
        map.remove("startedBy");
    }
    given_up(&mut map, "capacityProviderName", NO_PROVIDERS, &mut notes);
    let storage = "a container writes on the disk of its host's engine";
    given_up(&mut map, "ephemeralStorage", storage, &mut notes);
    given_up(&mut map, "fargateEphemeralStorage", storage, &mut notes);
    without_tags_of_aws(&mut map, &mut notes);
    prune(&mut map);
    notes.push(
        "ECS does not tell `placementConstraints`, `placementStrategy`, `networkConfiguration` and `volumeConfigurations` of a task: add \
         those that it was started with."
            .to_owned(),
    );
    let (spec, kept): (RunTaskSpec, _) = kept(&format!("task `{id}`"), map, &mut notes)?;
    notes.extend(not_honoured(&unsupported::of_run(&spec)));
    Ok(Run {
        id,
        family,
        spec: kept,
        notes,
    })
}

/// Takes out overrides that change nothing: ECS tells one for each container.
fn prune(map: &mut Map<String, Value>) {
    let Some(overrides) = map.get_mut("overrides").and_then(Value::as_object_mut) else {
        return;
    };
    let containers = overrides.get_mut("containerOverrides");
    if let Some(containers) = containers.and_then(Value::as_array_mut) {
        let changes = |c: &Value| c.as_object().is_none_or(|c| c.keys().any(|k| k != "name"));
        containers.retain(changes);
    }
    overrides.retain(|_, v| !(v.is_null() || *v == json!([])));
    if overrides.is_empty() {
        map.remove("overrides");
    }
}

/// Tasks: a RunTask for each, and one of several copies for those that are alike.
pub(super) fn tasks(described: Vec<Value>) -> Result<Vec<Manifest>, String> {
    let mut alike: Vec<Vec<Run>> = Vec::new();
    for task in described {
        let one = run(task)?;
        let same = |runs: &&mut Vec<Run>| {
            let first = runs.first();
            let same = first.is_some_and(|f| f.spec == one.spec && f.notes == one.notes);
            same && runs.len() < COPIES
        };
        match alike.iter_mut().find(same) {
            Some(runs) => runs.push(one),
            None => alike.push(vec![one]),
        }
    }
    Ok(alike.into_iter().filter_map(run_task).collect())
}

fn run_task(runs: Vec<Run>) -> Option<Manifest> {
    let ids: Vec<String> = runs.iter().map(|r| format!("`{}`", r.id)).collect();
    let copies = runs.len();
    let Run {
        id,
        family,
        mut spec,
        mut notes,
    } = runs.into_iter().next()?;
    if copies > 1 {
        spec["count"] = copies.into();
        notes.insert(
            0,
            format!("{} that are alike: {}.", count(copies, "task"), list(&ids)),
        );
    }
    let family: String = family.chars().take(FAMILY).collect();
    let id: String = id.chars().take(ID).collect();
    Some(Manifest {
        kind: "RunTask",
        name: object_name(&format!("{family}-{id}")),
        spec,
        notes,
    })
}

/// A task set.
pub(super) fn task_set(value: Value) -> Result<Manifest, String> {
    let mut map = fields(value)?;
    let mut notes = Vec::new();
    let text = |map: &Map<String, Value>, field: &str| {
        let text = map.get(field).and_then(Value::as_str);
        text.unwrap_or_default().to_owned()
    };
    let (id, status) = (text(&map, "id"), text(&map, "status"));
    written_by_ecs(&mut map, &OF_TASK_SET, &mut notes);
    in_cluster(&mut map);
    let service = taken(&mut map, "serviceArn").ok_or("a task set must have `serviceArn`")?;
    let service = renamed("Service", short(&service), &mut notes);
    let name = object_name(&format!("{service}-{}", short(&id)));
    map.insert("service".to_owned(), service.clone().into());
    let definition =
        taken(&mut map, "taskDefinition").ok_or("a task set must have `taskDefinition`")?;
    followed(&mut map, &definition, &mut notes);
    without_tags_of_aws(&mut map, &mut notes);
    if status == "PRIMARY" {
        notes.push(format!(
            "It was PRIMARY: `primaryTaskSet: {name}` in the spec of Service `{service}` makes it so here."
        ));
    }
    let (spec, kept): (TaskSetSpec, _) = kept(&format!("task set `{id}`"), map, &mut notes)?;
    notes.extend(not_honoured(&unsupported::of_task_set(&spec)));
    Ok(Manifest {
        kind: "TaskSet",
        name,
        spec: kept,
        notes,
    })
}

/// Its host's agent says it, and nobody else may.
fn is_of_agent(attribute: &str) -> bool {
    let fixed = ["ecs.os-type", "ecs.os-family", "ecs.cpu-architecture"];
    attribute.starts_with("ecs.capability.")
        || attribute.starts_with("com.amazonaws.ecs.")
        || fixed.contains(&attribute)
}

/// Takes attributes apart: those of the agent go, and of those that tell of EC2 is said that they do.
fn attributes(map: &mut Map<String, Value>, notes: &mut Vec<String>) {
    let given = map.remove("attributes");
    let given = given.as_ref().and_then(Value::as_array);
    let (mut kept, mut theirs, mut of_ec2) = (Vec::new(), 0, Vec::new());
    for attribute in given.into_iter().flatten() {
        let name = attribute["name"].as_str().unwrap_or_default();
        if is_of_agent(name) {
            theirs += 1;
            continue;
        }
        if name.starts_with("ecs.") {
            of_ec2.push(format!("`{name}`"));
        }
        let mut one = json!({ "name": name });
        if let Some(value) = attribute["value"].as_str() {
            one["value"] = value.into();
        }
        kept.push(one);
    }
    if theirs > 0 {
        notes.push(format!(
            "Left out, because the agent of a host says them: {} (`ecs.capability.*`, `com.amazonaws.ecs.*`, `ecs.os-type` and the like).",
            count(theirs, "attribute")
        ));
    }
    if !of_ec2.is_empty() {
        notes.push(format!(
            "Told of the EC2 instance, and to be changed to what is true of the host: {}.",
            list(&of_ec2)
        ));
    }
    if !kept.is_empty() {
        map.insert("attributes".to_owned(), kept.into());
    }
}

/// A container instance.
pub(super) fn container_instance(value: Value) -> Result<Manifest, String> {
    let mut map = fields(value)?;
    let mut notes = Vec::new();
    let arn = map.get("containerInstanceArn").and_then(Value::as_str);
    let arn = arn
        .ok_or("a container instance must have `containerInstanceArn`")?
        .to_owned();
    let given = map.get("ec2InstanceId").and_then(Value::as_str);
    let given = given.filter(|id| !id.is_empty()).unwrap_or(short(&arn));
    let name: String = object_name(given).chars().take(HOST_NAME).collect();
    notes.push(format!(
        "The host has to join: `kubectl tally join {name}` prints what to run on it. The name is that of the instance; give it the one that \
         you call the host by."
    ));
    written_by_ecs(&mut map, &OF_INSTANCE, &mut notes);
    // Long ARNs are `...:container-instance/<cluster>/<id>`, and short ones do not name the cluster.
    let (_, path) = arn.split_once(":container-instance/").unwrap_or_default();
    match path.split_once('/') {
        Some((cluster, _)) => {
            map.insert("cluster".to_owned(), cluster.into());
            in_cluster(&mut map);
        }
        None => notes.push(
            "`containerInstanceArn` does not name the cluster: without `cluster` it is `default`."
                .to_owned(),
        ),
    }
    match taken(&mut map, "status").as_deref() {
        Some("DRAINING") => {
            map.insert("status".to_owned(), "DRAINING".into());
        }
        Some("ACTIVE") | None => {}
        Some(other) => notes.push(format!(
            "Not carried over: `status: {other}`: it is ACTIVE once it has joined."
        )),
    }
    given_up(&mut map, "capacityProviderName", NO_PROVIDERS, &mut notes);
    attributes(&mut map, &mut notes);
    without_tags_of_aws(&mut map, &mut notes);
    let subject = format!("container instance `{name}`");
    let (_, kept) = kept::<ContainerInstanceSpec>(&subject, map, &mut notes)?;
    Ok(Manifest {
        kind: "ContainerInstance",
        name,
        spec: kept,
        notes,
    })
}

/// A cluster.
pub(super) fn cluster(value: Value) -> Result<Manifest, String> {
    let mut map = fields(value)?;
    let mut notes = Vec::new();
    written_by_ecs(&mut map, &OF_CLUSTER, &mut notes);
    let given = taken(&mut map, "clusterName").ok_or("a cluster must have `clusterName`")?;
    let name = object_name(&given);
    if name != given {
        notes.push(format!(
            "Cluster `{given}` works under its own name without an object. This one is of cluster `{name}`: names of objects have small \
             letters, digits and hyphens."
        ));
    }
    let settings = map.remove("settings");
    for setting in settings
        .as_ref()
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
    {
        let text = |v: &Value| v.as_str().unwrap_or_default().to_owned();
        let (name, value) = (text(&setting["name"]), text(&setting["value"]));
        let why = if name == "containerInsights" {
            "`/metrics` of operator and agents is always there (docs/metrics.md)"
        } else {
            "clusters have no settings here"
        };
        notes.push(format!(
            "Not carried over: `settings[{name}]: {value}`: {why}."
        ));
    }
    for (field, why) in [
        ("capacityProviders", NO_PROVIDERS),
        ("defaultCapacityProviderStrategy", NO_PROVIDERS),
        (
            "configuration",
            "it is of ECS Exec and of disks of Fargate, which are not here",
        ),
        (
            "serviceConnectDefaults",
            "there is no Service Connect (docs/not-supported.md)",
        ),
    ] {
        given_up(&mut map, field, why, &mut notes);
    }
    without_tags_of_aws(&mut map, &mut notes);
    let (_, kept) = kept::<ClusterSpec>(&format!("cluster `{name}`"), map, &mut notes)?;
    Ok(Manifest {
        kind: "Cluster",
        name,
        spec: kept,
        notes,
    })
}
