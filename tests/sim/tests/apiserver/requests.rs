//! What is asked: requests as the operator, the agents and users send them, of two kinds and two names at a time.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use serde_json::{Value, json};
use tallyman_operator_core::Kind;
use tallyman_sim::api::KINDS;

/// Which version of an object a writer has read: so many writes before the newest, perhaps of a namesake before.
pub type Read = usize;

/// One request about one of two names.
#[derive(Clone, Debug)]
pub enum Request {
    Create(Value),
    /// A merge patch, with uid and resourceVersion of what its sender read, or (of users, and of agents) without.
    Patch(Value, Option<Read>),
    PatchStatus(Value, Option<Read>),
    /// The JSON patch of an agent, for the uid that it read.
    ReportStatus(Value, Read),
    Delete(Option<Read>),
    AddFinalizer(Read),
    RemoveFinalizer(Read),
    List,
    /// A watch from the version that was the newest so many requests ago.
    Watch(usize),
}

/// Requests, each about an object.
#[derive(Clone, Debug)]
pub struct Sequence {
    pub requests: Vec<(Kind, &'static str, Request)>,
}

/// What a kind's objects are made of: `create`, then patches of the spec, then patches of the status.
fn parts(kind: Kind) -> [Vec<Value>; 3] {
    let container = |image: &str| json!([{ "name": "app", "image": image, "memory": 64 }]);
    let condition = |status: &str| {
        json!([{ "type": "Ready", "status": status, "reason": "Told", "message": "It is told.",
                 "lastTransitionTime": "2026-01-01T00:00:00Z" }])
    };
    let seen = json!({ "observedGeneration": 1 });
    let ready = json!({ "observedGeneration": 2, "conditions": condition("True") });
    let not_ready = json!({ "conditions": condition("False") });
    let nothing = json!({ "conditions": null });
    let [create, spec, mut status] = match kind {
        Kind::Cluster => [
            vec![json!({})],
            vec![
                json!({ "tags": [{ "key": "a", "value": "b" }] }),
                json!({ "tags": null }),
            ],
            vec![json!({ "activeServicesCount": 1 })],
        ],
        Kind::TaskDefinition => [
            vec![json!({ "containerDefinitions": container("a:1") })],
            vec![
                json!({ "containerDefinitions": container("a:1") }),
                json!({ "containerDefinitions": container("a:2") }),
                json!({ "family": "other" }),
            ],
            vec![],
        ],
        Kind::TaskDefinitionRevision => [
            vec![
                json!({ "family": "web", "revision": 1, "definition": { "containerDefinitions": container("a:1") } }),
            ],
            vec![json!({ "revision": 1 }), json!({ "revision": 2 })],
            vec![
                json!({ "status": "ACTIVE" }),
                json!({ "status": "INACTIVE" }),
            ],
        ],
        Kind::Service => [
            vec![
                json!({ "taskDefinition": "web" }),
                json!({ "taskDefinition": "web", "desiredCount": 1, "cluster": "default" }),
            ],
            vec![
                json!({ "desiredCount": 2 }),
                json!({ "desiredCount": null }),
                json!({ "desiredCount": "two" }),
                json!({ "cluster": "default" }),
                json!({ "cluster": null }),
                json!({ "cluster": "other" }),
                json!({ "taskDefinition": "web:2", "paused": true }),
                json!({ "schedulingStrategy": "DAEMON" }),
            ],
            vec![
                json!({ "runningCount": 1, "lastTaskNumber": 3 }),
                json!({ "runningCount": null }),
                json!({ "runningCount": "one" }),
            ],
        ],
        Kind::RunTask => [
            vec![
                json!({ "taskDefinition": "web" }),
                json!({ "taskDefinition": "web", "count": 2 }),
            ],
            vec![
                json!({ "count": 1 }),
                json!({ "count": 2 }),
                json!({ "cluster": "default" }),
            ],
            vec![
                json!({ "active": 1 }),
                json!({ "active": 0, "succeeded": 1 }),
            ],
        ],
        Kind::ScheduledTask => [
            vec![
                json!({ "scheduleExpression": "rate(1 hour)", "runTask": { "taskDefinition": "web" } }),
            ],
            vec![
                json!({ "suspend": true }),
                json!({ "runTask": { "count": 1 } }),
                json!({ "runTask": { "count": 2 } }),
            ],
            vec![json!({ "decidedUntil": "2026-01-01T00:00:00Z" })],
        ],
        Kind::TaskSet => [
            vec![json!({ "service": "web", "taskDefinition": "web:1" })],
            vec![
                json!({ "scale": { "value": 50.0, "unit": "PERCENT" } }),
                json!({ "service": "other" }),
            ],
            vec![json!({ "runningCount": 1 })],
        ],
        Kind::Task => [
            vec![
                json!({ "taskDefinition": "web:1" }),
                json!({ "taskDefinition": "web:1", "containerInstance": "host-a", "group": "service:web" }),
            ],
            vec![
                json!({ "desiredStatus": "STOPPED", "stopCode": "UserInitiated", "stoppedReason": "enough" }),
                json!({ "desiredStatus": "STOPPED" }),
                json!({ "desiredStatus": "RUNNING" }),
                json!({ "desiredStatus": null }),
                json!({ "stoppedReason": "enough" }),
                json!({ "containerInstance": "host-a" }),
                json!({ "containerInstance": "host-b" }),
                json!({ "containerInstance": null }),
                json!({ "group": "mine" }),
                json!({ "startedBy": "me" }),
                json!({ "taskDefinition": "web:1" }),
                json!({ "taskDefinition": null }),
            ],
            vec![
                json!({ "lastStatus": "PENDING" }),
                json!({ "lastStatus": "RUNNING", "containerInstance": "host-a" }),
                json!({ "lastStatus": "STOPPING" }),
                json!({ "lastStatus": "STOPPED", "stoppedReason": "over" }),
                json!({ "lastStatus": null }),
                json!({ "absence": { "since": "2026-01-01T00:00:00Z" } }),
                json!({ "absence": null }),
            ],
        ],
        Kind::ContainerInstance => [
            vec![
                json!({}),
                json!({ "status": "ACTIVE", "cluster": "default" }),
            ],
            vec![
                json!({ "status": "DRAINING" }),
                json!({ "status": "ACTIVE" }),
                json!({ "status": "GONE" }),
                json!({ "cluster": "other" }),
                json!({ "attributes": [{ "name": "rack", "value": "r1" }] }),
            ],
            vec![
                json!({ "agentConnected": true }),
                json!({ "runningTasksCount": 1 }),
            ],
        ],
        Kind::HostPlan => [
            vec![
                json!({ "generation": 1, "leaderEpoch": 1, "cluster": "default", "containerInstanceUid": "u" }),
            ],
            vec![
                json!({ "generation": 2 }),
                json!({ "generation": 1 }),
                json!({ "generation": 3, "leaderEpoch": 2 }),
                json!({ "leaderEpoch": 1 }),
                json!({ "tasks": [{ "name": "web-000001", "uid": "u", "definition": "web-1" }] }),
                json!({ "tasks": null }),
                json!({ "generation": null }),
            ],
            vec![],
        ],
        Kind::Secret => [
            vec![json!({ "a": "YQ==" })],
            vec![json!({ "a": "Yg==" }), json!({ "a": null, "b": "YQ==" })],
            vec![],
        ],
    };
    if !matches!(kind, Kind::Secret | Kind::HostPlan) {
        status.extend([seen, ready, not_ready, nothing]);
    }
    [create, spec, status]
}

/// Where a kind's objects have what people write.
fn content(kind: Kind) -> &'static str {
    match kind {
        Kind::Secret => "data",
        _ => "spec",
    }
}

fn request(kind: Kind) -> BoxedStrategy<Request> {
    let [create, spec, status] = parts(kind);
    let content = content(kind);
    let metadata = select(vec![
        json!({}),
        json!({ "labels": { "a": "b" } }),
        json!({ "labels": { "a": null } }),
        json!({ "annotations": { "tallyman.dev/x": "y" } }),
        json!({ "ownerReferences": null }),
    ]);
    let made = select(vec![
        json!({}),
        json!({ "labels": { "a": "b" }, "finalizers": ["tallyman.dev/tasks"] }),
    ]);
    // What others read is mostly the newest.
    let read = || prop_oneof![4 => Just(0_usize), 2 => 1..3_usize];
    let create = (select(create), made).prop_map(move |(spec, metadata)| {
        let mut object = json!({ "metadata": metadata });
        object[content] = spec;
        if kind == Kind::Service {
            object["status"] = json!({ "runningCount": 7 });
        }
        Request::Create(object)
    });
    let patch = (select(spec), metadata, 0..4, proptest::option::of(read()));
    let patch = patch.prop_map(move |(part, metadata, what, read)| {
        let mut patch = json!({});
        if what < 3 {
            patch[content] = part;
        }
        if what > 1 {
            patch["metadata"] = metadata;
        }
        Request::Patch(patch, read)
    });
    let mut all = vec![
        (4, create.boxed()),
        (6, patch.boxed()),
        (
            2,
            proptest::option::of(read())
                .prop_map(Request::Delete)
                .boxed(),
        ),
        (1, read().prop_map(Request::AddFinalizer).boxed()),
        (2, read().prop_map(Request::RemoveFinalizer).boxed()),
        (1, Just(Request::List).boxed()),
        (1, (0..20_usize).prop_map(Request::Watch).boxed()),
    ];
    if !status.is_empty() {
        let patch = (select(status.clone()), proptest::option::of(read()));
        let patch = patch.prop_map(|(part, read)| Request::PatchStatus(part, read));
        all.push((5, patch.boxed()));
        if kind == Kind::Task {
            let report = (select(status), read());
            let report = report.prop_map(|(part, read)| Request::ReportStatus(part, read));
            all.push((4, report.boxed()));
        }
    }
    proptest::strategy::Union::new_weighted(all).boxed()
}

/// Any requests about two kinds.
pub fn sequence() -> impl Strategy<Value = Sequence> {
    let kinds = || prop_oneof![1 => Just(Kind::Task), 3 => select(KINDS.to_vec())];
    (kinds(), kinds()).prop_flat_map(|(one, other)| {
        let about = |kind: Kind| {
            let names = prop_oneof![2 => Just("a"), 1 => Just("b")];
            (Just(kind), names, request(kind))
        };
        vec(prop_oneof![about(one), about(other)], 1..50).prop_map(|requests| Sequence { requests })
    })
}

/// The creation of some object.
pub fn any(kind: Kind) -> Request {
    let [create, ..] = parts(kind);
    let mut object = json!({ "metadata": {} });
    object[content(kind)] = create[0].clone();
    Request::Create(object)
}
