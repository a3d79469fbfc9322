//! What the operator reads from objects.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use tallyman_crds::sources::Source;
use tallyman_crds::{
    Cluster, ContainerInstance, HostJoin, HostPlan, RunTask, ScheduledTask, ScheduledTaskSpec,
    Service, Task, TaskDefinition, TaskDefinitionRevision, TaskSet, names, order, quantity, roles,
};
use tallyman_operator_core::definition::Definition;
use tallyman_operator_core::names::Group;
use tallyman_operator_core::placement::{Facts, Query, Rules};
use tallyman_operator_core::schedules::expression::Schedule;

use super::text;
use crate::dice::Dice;
use crate::objects::{self, CRDS};
use crate::schema;

/// An expression of the cluster query language, asked of two hosts. What is refused says where.
pub fn query(bytes: &[u8]) {
    let Some(text) = text(bytes) else { return };
    match Query::parse(text) {
        Err(invalid) => {
            let end = text.chars().count() + 1;
            assert!(invalid.column >= 1 && invalid.column <= end, "{invalid}");
            assert!(!invalid.message.is_empty());
        }
        Ok(query) => {
            let attributes: BTreeMap<String, Option<String>> = [
                ("rack".to_owned(), Some("r1".to_owned())),
                ("ecs.os-type".to_owned(), Some("linux".to_owned())),
                ("bare".to_owned(), None),
            ]
            .into();
            let groups = [(Group::from("service:web"), 2)].into();
            let (nothing, nobody) = (BTreeMap::new(), BTreeMap::new());
            let known = Facts {
                name: "host-a",
                agent_connected: true,
                agent_version: Some("1.2.3"),
                registered_at: Some(Timestamp::UNIX_EPOCH),
                running_tasks_count: 2,
                attributes: &attributes,
                groups: &groups,
            };
            let unknown = Facts {
                name: "",
                agent_connected: false,
                agent_version: None,
                registered_at: None,
                running_tasks_count: 0,
                attributes: &nothing,
                groups: &nobody,
            };
            for facts in [known, unknown] {
                let _ = query.matches(&facts);
            }
            assert_eq!(
                &**query.text(),
                text,
                "an expression is kept as it was written"
            );
        }
    }
}

/// `expression`, and on a second line a time zone: the next times are later and later, and what is due lies between.
pub fn schedule(bytes: &[u8]) {
    let Some(text) = text(bytes) else { return };
    let (expression, zone) = super::first_line(text);
    let mut spec =
        json!({ "scheduleExpression": expression, "runTask": { "taskDefinition": "a" } });
    if !zone.is_empty() {
        spec["scheduleExpressionTimezone"] = zone.into();
    }
    let Ok(spec) = serde_json::from_value::<ScheduledTaskSpec>(spec) else {
        return;
    };
    let created = Timestamp::from_second(1_767_225_600).unwrap_or(Timestamp::UNIX_EPOCH);
    let schedule = match Schedule::parse(&spec, created) {
        Ok(schedule) => schedule,
        Err(problems) => {
            assert!(!problems.is_empty(), "a refusal says why");
            return;
        }
    };
    let mut at = created;
    for _ in 0..3 {
        let Some(next) = schedule.next(at) else { break };
        assert!(next > at, "{expression}: {next} is not later than {at}");
        at = next;
    }
    let until = created + SignedDuration::from_hours(24 * 40);
    if let Some(due) = schedule.due(created, until) {
        assert!(due.latest > created && due.latest <= until);
    }
}

/// Texts that stand for numbers, or for something else.
pub fn texts(bytes: &[u8]) {
    let Some(text) = text(bytes) else { return };
    let numbers = [quantity::cpu_units(text), quantity::memory_mib(text)];
    assert!(numbers.into_iter().flatten().all(|n| n > 0), "{text}");
    if let Some((first, last)) = quantity::port_range(text) {
        assert!(first > 0 && first <= last, "{text}");
    }
    let _ = order::link(text);
    let _ = Source::of_value_from(text);
    let _ = Source::of_object(text);
    let _ = roles::RoleSources::of(text);
    let (head, tail) = super::first_line(text);
    for (owner, name) in [(head, tail), ("web", text)] {
        if let Some(number) = names::service_task_number(owner, name) {
            // There is always one more, and it is read back, too.
            let next = names::service_task(owner, number + 1);
            assert!(next.len() <= owner.len() + 12, "{next}");
        }
        let _ = names::run_task_number(owner, name);
    }
}

/// Whatever the schema takes, the types read: an object that they do not is told as unreadable, and waits. Beside it an object
/// that is any JSON, which the types may refuse.
pub fn objects(bytes: &[u8]) {
    let dice = &mut Dice::of(bytes);
    let crd = &CRDS[dice.below(CRDS.len())];
    let spec = schema::value(&objects::schema_of(crd)["properties"]["spec"], 0, dice);
    let object = json!({
        "apiVersion": "tallyman.dev/v1alpha1", "kind": crd.kind, "metadata": { "name": "a" }, "spec": spec,
    });
    let answer = read(&crd.kind, &object);
    // Only the operator writes plans, and agents read them entry by entry.
    assert!(
        answer.is_ok() || crd.kind == "HostPlan",
        "{} is taken by its schema, and not read: {answer:?}\n{object}",
        crd.kind
    );
    if let Ok(any) = serde_json::from_slice::<Value>(bytes) {
        for crd in CRDS.iter() {
            let _ = read(&crd.kind, &any);
        }
    }
}

/// Reads an object as the operator's watches do, and what stands in it as the operator's door does.
fn read(kind: &str, object: &Value) -> Result<(), serde_json::Error> {
    let value = object.clone();
    match kind {
        "Cluster" => serde_json::from_value::<Cluster>(value).map(drop),
        "ContainerInstance" => serde_json::from_value::<ContainerInstance>(value).map(drop),
        "HostJoin" => serde_json::from_value::<HostJoin>(value).map(drop),
        "HostPlan" => serde_json::from_value::<HostPlan>(value).map(drop),
        "RunTask" => serde_json::from_value::<RunTask>(value).map(drop),
        "ScheduledTask" => serde_json::from_value::<ScheduledTask>(value).map(drop),
        "Service" => serde_json::from_value::<Service>(value).map(|s| {
            let spec = s.spec;
            drop(Rules::parse(
                "spec",
                &spec.placement_constraints,
                &spec.placement_strategy,
            ));
        }),
        "Task" => serde_json::from_value::<Task>(value).map(drop),
        "TaskDefinition" => serde_json::from_value::<TaskDefinition>(value)
            .map(|t| drop(Definition::parse(&t.spec))),
        "TaskDefinitionRevision" => {
            serde_json::from_value::<TaskDefinitionRevision>(value).map(drop)
        }
        "TaskSet" => serde_json::from_value::<TaskSet>(value).map(drop),
        _ => serde_json::from_value::<Value>(value).map(drop),
    }
}
