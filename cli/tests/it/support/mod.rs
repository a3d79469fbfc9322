//! A small cluster for golden tests: three hosts, of which one drains and one is away.
use std::sync::Arc;

use jiff::Timestamp;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tallyman_cli::session::{self, heard_of};
use tallyman_operator_core::Objects;
use tallyman_operator_core::deployments::deployment_id;
use tallyman_operator_core::names::ServiceName;

/// Now.
pub fn now() -> Timestamp {
    "2026-01-02T00:00:00Z".parse().unwrap()
}

/// When everything was made.
const EARLIER: &str = "2026-01-01T00:00:00Z";

/// An object, with what the server adds.
pub fn object<K: DeserializeOwned>(kind: &str, name: &str, rest: Value) -> Arc<K> {
    let mut o = rest;
    o["apiVersion"] = json!("tallyman.dev/v1alpha1");
    o["kind"] = json!(kind);
    let meta = json!({ "name": name, "namespace": "default", "uid": format!("uid-{name}"), "resourceVersion": "1",
                       "generation": 1, "creationTimestamp": EARLIER });
    for (key, value) in meta.as_object().unwrap() {
        o["metadata"][key] = value.clone();
    }
    Arc::new(serde_json::from_value(o).unwrap_or_else(|e| panic!("{kind} {name}: {e}")))
}

/// A condition.
pub fn condition(kind: &str, status: &str, reason: &str, message: &str) -> Value {
    json!({ "type": kind, "status": status, "reason": reason, "message": message,
            "observedGeneration": 1, "lastTransitionTime": EARLIER })
}

/// The content of task definition `web`.
pub fn web(memory: i64) -> Value {
    json!({ "containerDefinitions": [{ "name": "app", "image": "web:1", "cpu": 256, "memory": memory, "portMappings": [{ "containerPort": 80 }] }] })
}

fn host(
    name: &str,
    cpu: i64,
    memory: i64,
    wanted: &str,
    connected: bool,
) -> Arc<tallyman_crds::ContainerInstance> {
    let resources = json!({ "cpu": cpu, "memory": memory });
    object(
        "ContainerInstance",
        name,
        json!({
            "spec": { "status": wanted, "attributes": [{ "name": "stack", "value": "prod" }] },
            "status": { "observedGeneration": 1, "status": wanted, "agentConnected": connected, "runningTasksCount": 1,
                "conditions": [condition("Ready", "True", "Ready", "")], "registeredAt": EARLIER, "cpuFree": format!("{cpu}/{cpu}"),
                "memoryFree": format!("{memory}/{memory}"), "remainingResources": resources,
                "host": { "agentVersion": "0.1.0", "engine": "docker 29.1", "engineApiVersion": "1.52", "engineReachable": true,
                          "registeredResources": resources, "appliedPlanGeneration": 1 } },
        }),
    )
}

/// A task of service `web`.
pub fn task(number: u32, host: &str, status: Value) -> Arc<tallyman_crds::Task> {
    let name = format!("web-{number:06}");
    object(
        "Task",
        &name,
        json!({
            "metadata": { "labels": { "tallyman.dev/service": "web", "tallyman.dev/revision": "web-1", "tallyman.dev/deployment": "1",
                                      "tallyman.dev/container-instance": host } },
            "spec": { "taskDefinition": "web:1", "containerInstance": host, "group": "service:web", "desiredStatus": "RUNNING" },
            "status": status,
        }),
    )
}

/// The status of a task that runs.
pub fn running(port: u32) -> Value {
    json!({ "observedGeneration": 1, "lastStatus": "RUNNING", "acceptedAt": EARLIER, "startedAt": EARLIER, "healthStatus": "HEALTHY",
            "ports": format!("10.0.0.5:{port}->80"), "conditions": [condition("Ready", "True", "Running", "It runs.")],
            "containers": [{ "name": "app", "image": "web:1", "lastStatus": "RUNNING", "healthStatus": "HEALTHY" }] })
}

/// The cluster: service `web` of two tasks on host `a`, as it is when the operator has nothing to do.
pub fn cluster() -> Objects {
    let stopped = json!({ "observedGeneration": 1, "lastStatus": "STOPPED", "acceptedAt": EARLIER, "stoppedAt": "2026-01-01T23:30:00Z",
        "stopCode": "EssentialContainerExited", "stoppedReason": "Essential container in task exited",
        "containers": [{ "name": "app", "image": "web:1", "lastStatus": "STOPPED", "exitCode": 3 }] });
    let objects = Objects {
        clusters: vec![object("Cluster", "default", json!({ "spec": {} }))],
        task_definitions: vec![object(
            "TaskDefinition",
            "web",
            json!({
                "spec": web(512),
                "status": { "observedGeneration": 1, "family": "web", "latest": "web:1", "latestRevision": 1,
                            "conditions": [condition("Ready", "True", "Registered", "Registered as web:1.")] },
            }),
        )],
        revisions: vec![object(
            "TaskDefinitionRevision",
            "web-1",
            json!({
                "spec": { "family": "web", "revision": 1, "definition": { "family": "web", "containerDefinitions": web(512)["containerDefinitions"] } },
            }),
        )],
        services: vec![object(
            "Service",
            "web",
            json!({
                "metadata": { "finalizers": ["tallyman.dev/stop-tasks"] },
                "spec": { "taskDefinition": "web", "desiredCount": 2 },
                "status": { "observedGeneration": 1, "desiredCount": 2, "runningCount": 2, "pendingCount": 0, "taskDefinition": "web:1",
                    "status": "ACTIVE", "message": "steady since 2026-01-01 00:00Z", "lastTaskNumber": 3, "steadySince": EARLIER,
                    "lastCompletedDeployment": { "id": "ecs-svc/1", "taskDefinition": "web:1" },
                    "conditions": [condition("Ready", "True", "SteadyState", "(service web) has reached a steady state.")],
                    "deployments": [{ "id": "ecs-svc/1", "status": "PRIMARY", "taskDefinition": "web:1", "desiredCount": 2, "runningCount": 2,
                        "pendingCount": 0, "failedTasks": 0, "rolloutState": "COMPLETED", "createdAt": EARLIER, "afterTaskNumber": 0 }],
                    "events": [{ "createdAt": EARLIER, "message": "(service web) has reached a steady state." }] },
            }),
        )],
        tasks: vec![
            task(1, "a", stopped),
            task(2, "a", running(32768)),
            task(3, "a", running(32769)),
        ],
        instances: vec![
            host("a", 2048, 4000, "ACTIVE", true),
            host("b", 2048, 4000, "DRAINING", true),
            host("c", 1024, 300, "ACTIVE", false),
        ],
        ..Objects::default()
    };
    of_its_deployment(Objects {
        silence: heard_of(&objects),
        ..objects
    })
}

/// The same, with the number that the core gives the deployment of service `web`.
fn of_its_deployment(objects: Objects) -> Objects {
    let world = session::world(&objects, "default", "default");
    let number =
        deployment_id(&world.services[&ServiceName::from("web")], &"web-1".into()).to_string();
    let mut objects = objects;
    changed(&mut objects.services, 0, |s| {
        let status = s.status.as_mut().unwrap();
        status.deployments[0].id = format!("ecs-svc/{number}");
        status.last_completed_deployment.as_mut().unwrap().id = format!("ecs-svc/{number}");
    });
    for at in 0..objects.tasks.len() {
        changed(&mut objects.tasks, at, |t| {
            let labels = t.metadata.labels.as_mut().unwrap();
            labels.insert("tallyman.dev/deployment".to_owned(), number.clone());
        });
    }
    objects
}

/// A clone of what stands behind an `Arc`, changed.
pub fn changed<K: Clone>(list: &mut [Arc<K>], at: usize, how: impl FnOnce(&mut K)) {
    how(Arc::make_mut(&mut list[at]));
}
