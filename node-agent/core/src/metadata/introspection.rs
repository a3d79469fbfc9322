//! The introspection API of a host (ECS agent introspection, `/v1/...`).

use jiff::Timestamp;
use serde::Serialize;
use tallyman_agent_engine::Attachment;
use tallyman_crds::LastStatus;

use crate::metadata::documents::{networks, ports, volumes};
use crate::metadata::sight::{Facts, Place, TaskSight};
use crate::metadata::wire::{Network, Port, Volume};

/// Digits of a short container id.
const SHORT: usize = 12;

/// A host, of `GET /v1/metadata`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct HostDocument {
    cluster: String,
    container_instance_arn: String,
    version: String,
}

/// What a host says of itself. The cluster is empty until a plan named it.
pub fn host(place: &Place, cluster: &str, version: &str) -> HostDocument {
    HostDocument {
        cluster: cluster.to_owned(),
        container_instance_arn: place
            .arns()
            .container_instance(cluster, &place.container_instance),
        version: format!("Tallyman agent - v{version}"),
    }
}

/// A task, of `GET /v1/tasks`.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct TaskDocument {
    arn: String,
    desired_status: &'static str,
    known_status: &'static str,
    family: String,
    version: String,
    containers: Vec<ContainerDocument>,
}

/// A container of it.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct ContainerDocument {
    docker_id: String,
    docker_name: String,
    name: String,
    image: String,
    #[serde(rename = "ImageID")]
    image_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    created_at: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    started_at: Option<Timestamp>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    ports: Vec<Port>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    networks: Vec<Network>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    volumes: Vec<Volume>,
    #[serde(skip_serializing_if = "Option::is_none")]
    restart_count: Option<u32>,
}

/// What is shown of a task.
pub fn task(sight: &TaskSight, place: &Place) -> TaskDocument {
    let task = &sight.task;
    TaskDocument {
        arn: place.arns().task(&task.cluster, &task.name),
        desired_status: if sight.ends() { "STOPPED" } else { "RUNNING" },
        known_status: match sight.record.last_status {
            LastStatus::Provisioning | LastStatus::Pending | LastStatus::Activating => "PENDING",
            LastStatus::Running
            | LastStatus::Deactivating
            | LastStatus::Stopping
            | LastStatus::Deprovisioning => "RUNNING",
            LastStatus::Stopped => "STOPPED",
        },
        family: task.family.clone(),
        version: task.revision.to_string(),
        containers: sight
            .facts()
            .map(|facts| container(facts, &sight.attachments(&facts.planned.name)))
            .collect(),
    }
}

fn container(facts: Facts<'_>, attachments: &[&Attachment]) -> ContainerDocument {
    let Facts {
        planned,
        known,
        state,
        id,
    } = facts;
    ContainerDocument {
        docker_id: id.to_owned(),
        docker_name: planned.engine_name(known.attempt),
        name: planned.name.clone(),
        image: known.image.clone(),
        image_id: facts.image_id(),
        created_at: facts.created_at(),
        started_at: facts.started_at(),
        ports: known.bindings.iter().flat_map(ports).collect(),
        networks: networks(planned, attachments),
        volumes: state.map(volumes).unwrap_or_default(),
        restart_count: planned.restart.as_ref().map(|_| known.restarts),
    }
}

/// What a query asks for.
#[derive(Clone, Debug, PartialEq)]
pub enum Choice<'a> {
    /// Every task.
    All,
    /// This one.
    One(&'a TaskDocument),
    /// None of them.
    Unknown,
    /// More than one; or the query is for two things at once.
    Ambiguous,
}

/// All tasks, or the one with this ARN, or with a container of this id. Of an id its first 12 digits are enough,
/// and fewer as long as they are of one task only.
pub fn choose<'a>(
    tasks: &'a [TaskDocument],
    task_arn: Option<&str>,
    docker_id: Option<&str>,
) -> Choice<'a> {
    let found: Vec<&TaskDocument> = match (task_arn, docker_id) {
        (None, None) => return Choice::All,
        (Some(_), Some(_)) => return Choice::Ambiguous,
        (Some(arn), None) => tasks.iter().filter(|task| task.arn == arn).collect(),
        (None, Some(id)) => {
            let short = (1..=SHORT).contains(&id.len());
            let has = |one: &ContainerDocument| {
                one.docker_id == id || short && one.docker_id.starts_with(id)
            };
            tasks
                .iter()
                .filter(|task| task.containers.iter().any(has))
                .collect()
        }
    };
    match found.as_slice() {
        [] => Choice::Unknown,
        [one] => Choice::One(one),
        _ => Choice::Ambiguous,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(arn: &str, id: &str) -> TaskDocument {
        TaskDocument {
            arn: arn.to_owned(),
            containers: vec![ContainerDocument {
                docker_id: id.to_owned(),
                ..ContainerDocument::default()
            }],
            ..TaskDocument::default()
        }
    }

    #[test]
    fn tasks_are_chosen_as_ecs_does() {
        let tasks = [
            with("arn:a", "aaaabbbbcccc11"),
            with("arn:b", "aaaabbbbdddd22"),
        ];
        let one = |index: usize| Choice::One(&tasks[index]);
        for (arn, id, wanted) in [
            (None, None, Choice::All),
            (Some("arn:a"), None, one(0)),
            (Some("arn:"), None, Choice::Unknown),
            (None, Some("aaaabbbbdddd22"), one(1)),
            (None, Some("aaaabbbbdddd"), one(1)),
            (None, Some("aaaabbbbdddd2"), Choice::Unknown),
            (None, Some("aaaabbbbc"), one(0)),
            (None, Some("aaaa"), Choice::Ambiguous),
            (None, Some(""), Choice::Unknown),
            (None, Some("ff"), Choice::Unknown),
            (Some("arn:a"), Some("aaaabbbbcccc"), Choice::Ambiguous),
        ] {
            assert_eq!(choose(&tasks, arn, id), wanted, "{arn:?} {id:?}");
        }
    }
}
