//! A task that its containers protect from scale-in: told to the API server before they are answered.

use std::time::Duration;

use crate::rig::{Rig, assigned, container, plan};
use jiff::{SignedDuration, Timestamp};
use serde_json::json;
use tallyman_agent_core::metadata::{Place, protection};
use tallyman_agent_core::{TaskMachine, TaskRecord};

fn told(rig: &Rig) -> Option<Timestamp> {
    let last = rig.told.last().unwrap();
    last.protected_until.as_ref().map(|t| t.0)
}

fn protect(rig: &mut Rig) -> Timestamp {
    let until = rig.now() + SignedDuration::from_hours(2);
    rig.machine.protect(Some(until));
    until
}

/// Step 9.1 of `docs/ecs-rules.md`.
#[test]
fn protection_is_told_and_taken_back() {
    let mut rig = Rig::new(vec![container("app", true)]);
    rig.settle_down();
    assert!(rig.machine.protection_is_told(), "there is none");
    let until = protect(&mut rig);
    assert!(!rig.machine.protection_is_told());
    rig.run(Duration::from_secs(1));
    assert!(rig.machine.protection_is_told());
    assert_eq!(told(&rig), Some(until));
    rig.machine.protect(None);
    assert!(!rig.machine.protection_is_told());
    rig.run(Duration::from_secs(1));
    assert!(rig.machine.protection_is_told());
    assert_eq!(told(&rig), None);
}

#[test]
fn it_is_not_told_while_the_api_is_away_and_outlives_the_agent() {
    let mut rig = Rig::new(vec![container("app", true)]);
    rig.settle_down();
    rig.api = false;
    let until = protect(&mut rig);
    rig.run(Duration::from_secs(5));
    assert!(!rig.machine.protection_is_told());
    // The next agent knows of it from disk, and that nobody was told.
    let record = serde_json::to_string(rig.machine.record()).unwrap();
    let record: TaskRecord = serde_json::from_str(&record).unwrap();
    let listed = rig.list();
    rig.machine = TaskMachine::begin(assigned(rig.spec.clone()), Some(record), &listed);
    assert!(!rig.machine.protection_is_told());
    rig.api = true;
    rig.run(Duration::from_secs(60));
    assert!(rig.machine.protection_is_told());
    assert_eq!(told(&rig), Some(until));
}

/// Step 9.1 of `docs/ecs-rules.md`.
#[test]
fn only_tasks_of_services_are_protected_and_only_until_then() {
    let place = Place {
        namespace: "shop".to_owned(),
        region: Some("eu-north-1".to_owned()),
        ..Place::default()
    };
    let mut spec = plan(vec![container("app", true)]);
    let arn = "arn:aws:ecs:eu-north-1:shop:task/default/web-000001";
    let refused = protection::refused(&assigned(spec.clone()), &place);
    assert_eq!(
        json!(refused),
        json!({ "failure": { "Arn": arn, "Reason": "TASK_NOT_VALID", "Detail": "The task is not of a service." } })
    );
    spec.tasks[0].group = Some("service:web".to_owned());
    let task = assigned(spec);
    assert_eq!(protection::refused(&task, &place), None);
    let end: Timestamp = "2026-01-01T02:00:00Z".parse().unwrap();
    let state = |now| json!(protection::state(&task, &place, Some(end), now));
    assert_eq!(
        state(end - SignedDuration::from_secs(1)),
        json!({ "protection": {
            "TaskArn": arn, "ProtectionEnabled": true, "ExpirationDate": "2026-01-01T02:00:00Z",
        } })
    );
    assert_eq!(
        state(end),
        json!({ "protection": { "TaskArn": arn, "ProtectionEnabled": false } })
    );
}

/// Step 9.3 of `docs/ecs-rules.md`.
#[test]
fn while_protected_tasks_hold_the_service_up_only_they_may_ask_again() {
    let place = Place {
        namespace: "shop".to_owned(),
        ..Place::default()
    };
    let mut spec = plan(vec![container("app", true)]);
    spec.tasks[0].group = Some("service:web".to_owned());
    let now: Timestamp = "2026-01-01T02:00:00Z".parse().unwrap();
    let later = now + SignedDuration::from_secs(1);
    let free = assigned(spec.clone());
    assert_eq!(protection::blocked(&free, &place, None, now), None);

    spec.tasks[0].deployment_blocked = true;
    let task = assigned(spec);
    for (until, wanted) in [
        (None, Some("DEPLOYMENT_BLOCKED")),
        (Some(now), Some("DEPLOYMENT_BLOCKED")),
        (Some(later), None),
    ] {
        let said = json!(protection::blocked(&task, &place, until, now));
        assert_eq!(
            said["failure"]["Reason"].as_str(),
            wanted,
            "{until:?}: {said}"
        );
    }
    let said = json!(protection::blocked(&task, &place, None, now));
    let detail = said["failure"]["Detail"].as_str().unwrap();
    assert!(
        detail.contains("keep service:web from what is wanted"),
        "{said}"
    );
    assert_eq!(
        said["failure"]["Arn"],
        "arn:aws:ecs::shop:task/default/web-000001"
    );
}
