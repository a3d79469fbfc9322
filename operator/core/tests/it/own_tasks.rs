//! A user's own tasks: StartTask and StopTask.

use std::collections::BTreeMap;

use crate::common;
use crate::common::Bench;
use crate::common::build::definition;
use serde_json::json;
use tallyman_crds::StopCode;
use tallyman_operator_core::{Action, Kind};

#[test]
fn start_task_says_what_ecs_says() {
    let mut bench = Bench::with_hosts(3);
    bench.apply_definition("job", definition("job:1"));
    bench.settle();
    bench.silent("host-b", 60);
    bench.edit(Kind::ContainerInstance, "host-c", &|v| {
        v["spec"]["status"] = json!("DRAINING")
    });
    let rows = [
        ("a", "host-x", json!({}), "MISSING"),
        ("b", "host-b", json!({}), "AGENT"),
        ("c", "host-c", json!({}), "INACTIVE"),
        (
            "d",
            "host-a",
            json!({ "memory": "9000" }),
            "RESOURCE:MEMORY",
        ),
        ("e", "host-a", json!({ "cpu": "8192" }), "RESOURCE:CPU"),
    ];
    for (name, host, overrides, reason) in &rows {
        let spec =
            json!({ "taskDefinition": "job", "containerInstance": host, "overrides": overrides });
        bench.apply_task(name, spec);
        bench.settle();
        let status = bench.task(name).status.clone().unwrap();
        let expected = format!("TaskFailedToStart: {reason}. ");
        let said = status.stopped_reason.unwrap();
        assert!(said.starts_with(&expected), "{name}: {said}");
        assert_eq!(status.stop_code, Some(StopCode::TaskFailedToStart));
    }
    let typo = json!({ "taskDefinition": "job", "overrides": { "containerOverrides": [{ "name": "ap" }] } });
    bench.apply_task("f", typo);
    bench.settle();
    let said = bench
        .task("f")
        .status
        .clone()
        .unwrap()
        .stopped_reason
        .unwrap();
    assert!(
        said.contains("must be a container of job:1 (`app`), not `ap`"),
        "{said}"
    );
}

#[test]
fn stop_task_has_a_code_and_a_sentence_of_its_own() {
    for (fields, reason) in [
        (json!({}), "Task stopped by user"),
        (json!({ "stoppedReason": "enough" }), "enough"),
    ] {
        let mut bench = Bench::with_job(1);
        bench.apply_task("mine", json!({ "taskDefinition": "job" }));
        bench.settle();
        bench.edit(Kind::Task, "mine", &|v| {
            v["spec"]["desiredStatus"] = json!("STOPPED");
            common::merge(&mut v["spec"], &fields);
        });
        bench.settle();
        let entry = bench.host_plan("host-a").tasks[0].clone();
        assert_eq!(entry.stop_code, Some(StopCode::UserInitiated));
        assert_eq!(entry.stopped_reason.as_deref(), Some(reason));
    }
}

#[test]
fn who_wrote_a_task_is_forgotten_of_those_that_the_operator_made_and_stops() {
    let mut bench = Bench::with_service(1, 1, 0, 200);
    bench.apply_task("mine", json!({ "taskDefinition": "web:1" }));
    bench.converge(60);
    bench.edit(Kind::ContainerInstance, "host-a", &|v| {
        v["metadata"]["annotations"] = json!({ "tallyman.dev/forceDeregistration": "true" })
    });
    bench.delete(Kind::ContainerInstance, "host-a");
    let stops = bench.settle().into_iter().filter_map(|a| match a {
        Action::StopTask {
            task, made_by_us, ..
        } => Some((task.name, made_by_us)),
        _ => None,
    });
    let stops: BTreeMap<String, bool> = stops.collect();
    let expected = [("mine".to_owned(), false), ("web-000001".to_owned(), true)];
    assert_eq!(stops, BTreeMap::from(expected));
}
