//! What the server refuses and keeps.

use super::*;

fn now() -> Timestamp {
    Timestamp::from_second(1_000_000).unwrap()
}

fn service(server: &mut Server) -> u64 {
    let value = json!({ "metadata": { "name": "web" }, "spec": { "taskDefinition": "web", "desiredCount": 1 } });
    server.create(Kind::Service, value, now()).unwrap()
}

#[test]
fn a_name_is_taken_once_and_versions_rise() {
    let mut server = Server::default();
    let first = service(&mut server);
    let again = json!({ "metadata": { "name": "web" }, "spec": { "taskDefinition": "x" } });
    assert_eq!(
        server.create(Kind::Service, again, now()),
        Err(Refusal::AlreadyExists)
    );
    let patch = json!({ "spec": { "desiredCount": 2 } });
    let second = server
        .patch(Kind::Service, "web", &patch, &Preconditions::default())
        .unwrap();
    assert!(second > first);
    assert_eq!(
        server.get(Kind::Service, "web").unwrap()["metadata"]["generation"],
        2
    );
    assert_eq!(
        server.patch(Kind::Service, "web", &patch, &Preconditions::default()),
        Ok(second),
        "nothing changed"
    );
}

#[test]
fn preconditions_are_checked() {
    let mut server = Server::default();
    let version = service(&mut server).to_string();
    let patch = json!({ "spec": { "desiredCount": 2 } });
    let must = Preconditions {
        uid: Some("other"),
        resource_version: None,
    };
    assert_eq!(
        server.patch(Kind::Service, "web", &patch, &must),
        Err(Refusal::Conflict)
    );
    let must = Preconditions {
        uid: None,
        resource_version: Some(&version),
    };
    assert!(server.patch(Kind::Service, "web", &patch, &must).is_ok());
    assert_eq!(
        server.patch(Kind::Service, "web", &patch, &must),
        Err(Refusal::Conflict)
    );
}

#[test]
fn finalizers_hold_what_is_deleted() {
    let mut server = Server::default();
    service(&mut server);
    let uid = server.get(Kind::Service, "web").unwrap()["metadata"]["uid"]
        .as_str()
        .unwrap()
        .to_owned();
    server
        .finalize(Kind::Service, "web", &uid, "x", true, None)
        .unwrap();
    server
        .delete(Kind::Service, "web", &Preconditions::default(), now())
        .unwrap();
    assert!(server.get(Kind::Service, "web").is_some());
    server
        .finalize(Kind::Service, "web", &uid, "x", false, None)
        .unwrap();
    assert!(server.get(Kind::Service, "web").is_none());
}

#[test]
fn a_task_never_goes_back() {
    let mut server = Server::default();
    let task = json!({ "metadata": { "name": "t" }, "spec": { "taskDefinition": "web:1" } });
    server.create(Kind::Task, task, now()).unwrap();
    let set = |server: &mut Server, status: &str| {
        server.patch_status(
            Kind::Task,
            "t",
            &json!({ "lastStatus": status }),
            &Preconditions::default(),
        )
    };
    assert!(set(&mut server, "RUNNING").is_ok());
    assert!(matches!(
        set(&mut server, "PENDING"),
        Err(Refusal::Invalid(_))
    ));
    assert!(set(&mut server, "STOPPED").is_ok());
    assert!(matches!(
        set(&mut server, "RUNNING"),
        Err(Refusal::Invalid(_))
    ));
}

#[test]
fn a_number_that_is_sent_with_a_point_is_stored_whole_and_changes_the_object_each_time() {
    let mut server = Server::default();
    let set = json!({ "metadata": { "name": "a" }, "spec": { "service": "web", "taskDefinition": "web:1" } });
    server.create(Kind::TaskSet, set, now()).unwrap();
    let patch = json!({ "spec": { "scale": { "value": 50.0, "unit": "PERCENT" } } });
    for generation in [2, 3] {
        let none = Preconditions::default();
        server.patch(Kind::TaskSet, "a", &patch, &none).unwrap();
        let stored = server.get(Kind::TaskSet, "a").unwrap();
        assert_eq!(stored["spec"]["scale"]["value"], json!(50));
        assert_eq!(stored["metadata"]["generation"], json!(generation));
    }
}
