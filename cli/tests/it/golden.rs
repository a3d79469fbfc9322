//! What people read: trees, forecasts, explanations, histories, findings.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::support::{changed, cluster, condition, now, object, task, web};
use insta::assert_snapshot;
use serde_json::json;
use tallyman_cli::args::Form;
use tallyman_cli::checks::{self, PERMISSIONS};
use tallyman_cli::explain::explain;
use tallyman_cli::forecast::{Change, Forecast, Verb, forecast};
use tallyman_cli::history::{Past, events};
use tallyman_cli::session::heard_of;
use tallyman_cli::standing::{self, Standing};
use tallyman_cli::subject::Found;
use tallyman_cli::table::Paint;
use tallyman_cli::tree::{Scope, tree};
use tallyman_cli::{foresight, totals};
use tallyman_crds::{RunTask, Service, Task};
use tallyman_operator_core::Objects;
use tallyman_operator_core::placement::Query;

const PLAIN: Paint = Paint(false);

#[test]
fn a_tree_has_deployments_tasks_and_containers() {
    let mut objects = cluster();
    let run = json!({ "spec": { "taskDefinition": "web" }, "status": { "observedGeneration": 1, "message": "1 of 1 copies started",
        "active": 1, "succeeded": 0, "failed": 0 } });
    objects.run_tasks.push(object("RunTask", "etl", run));
    objects.tasks.push(object(
        "Task",
        "alone",
        json!({ "spec": { "taskDefinition": "web" } }),
    ));
    assert_snapshot!(tree(&objects, Scope::All, false, now()).text(false, PLAIN));
}

#[test]
fn a_tree_of_one_task_says_why_it_stopped() {
    assert_snapshot!(tree(&cluster(), Scope::Task("web-000001"), false, now()).text(false, PLAIN));
}

/// What follows when the cluster is changed by `how`.
fn planned(kind: &str, name: &str, verb: Verb, how: impl FnOnce(&mut Objects)) -> Forecast {
    let before = cluster();
    // Nothing is under way that would hide in the difference.
    let rest = foresight::settle(before.clone(), "default", now());
    let alive = |o: &Objects| {
        tree(o, Scope::Service("web"), false, now())
            .text(false, PLAIN)
            .matches("RUNNING")
            .count()
    };
    assert_eq!(alive(&rest), alive(&before));
    let mut then = before.clone();
    how(&mut then);
    then.silence = heard_of(&then);
    let anyway = foresight::settle(before.clone(), "default", now());
    let then = foresight::settle(then, "default", now());
    let change = Change {
        group: "tallyman.dev".to_owned(),
        kind: kind.to_owned(),
        name: name.to_owned(),
        verb,
        differences: Vec::new(),
    };
    forecast(vec![change], &before, &anyway, &then, "default")
}

#[test]
fn nothing_applied_is_nothing_changed() {
    let forecast = planned("Service", "web", Verb::Keep, |_| {});
    assert!(!forecast.changes(), "{forecast:?}");
    assert_snapshot!(forecast.text(false, PLAIN));
}

#[test]
fn more_copies_start_where_there_is_room() {
    let forecast = planned("Service", "web", Verb::Change, |o| {
        changed(&mut o.services, 0, |s| {
            s.spec.desired_count = Some(4);
            s.metadata.generation = Some(2);
        });
    });
    assert!(forecast.changes());
    assert_snapshot!(forecast.text(false, PLAIN));
}

#[test]
fn what_does_not_fit_is_told_with_everything_that_every_host_lacks() {
    let forecast = planned("TaskDefinition", "web", Verb::Change, |o| {
        changed(&mut o.task_definitions, 0, |d| {
            d.spec.container_definitions[0].memory = Some(5000);
            d.spec.container_definitions[0].cpu = Some(4096);
            d.metadata.generation = Some(2);
        });
    });
    assert_snapshot!(forecast.text(true, PLAIN));
}

#[test]
fn a_new_revision_rolls_every_service_that_follows() {
    let forecast = planned("TaskDefinition", "web", Verb::Change, |o| {
        changed(&mut o.task_definitions, 0, |d| {
            d.spec.container_definitions[0].memory = Some(600);
            d.metadata.generation = Some(2);
        });
    });
    assert_snapshot!(forecast.text(false, PLAIN));
}

#[test]
fn a_task_definition_that_is_wrong_says_so() {
    let forecast = planned("TaskDefinition", "web", Verb::Change, |o| {
        changed(&mut o.task_definitions, 0, |d| {
            d.spec.container_definitions[0].links = vec!["db".to_owned()];
            d.metadata.generation = Some(2);
        });
    });
    assert_snapshot!(forecast.text(false, PLAIN));
}

#[test]
fn a_run_is_placed_copy_by_copy() {
    let forecast = planned("RunTask", "etl", Verb::Create, |o| {
        let run = json!({ "spec": { "taskDefinition": "web", "count": 8 } });
        o.run_tasks.push(object::<RunTask>("RunTask", "etl", run));
    });
    assert_snapshot!(forecast.text(false, PLAIN));
}

#[test]
fn a_host_that_drains_empties() {
    let forecast = planned("ContainerInstance", "a", Verb::Change, |o| {
        changed(&mut o.instances, 0, |i| {
            i.spec.status = tallyman_crds::DesiredInstanceStatus::Draining
        });
        changed(&mut o.instances, 1, |i| {
            i.spec.status = tallyman_crds::DesiredInstanceStatus::Active
        });
    });
    assert_snapshot!(forecast.text(false, PLAIN));
}

/// The cluster with a service that wants what no host has.
fn crowded() -> Objects {
    let mut objects = cluster();
    let message =
        "1 of 3 tasks cannot be placed. Of 3 hosts, 1 lacks memory. Next try when a host changes.";
    changed(&mut objects.services, 0, |s| {
        s.spec.desired_count = Some(3);
        let status = s.status.as_mut().unwrap();
        status.conditions = serde_json::from_value(json!([condition(
            "Ready",
            "False",
            "TasksNotPlaceable",
            message
        )]))
        .unwrap();
    });
    changed(&mut objects.revisions, 0, |r| {
        let container = &mut r.spec.definition.container_definitions[0];
        container.memory = Some(3500);
        container.port_mappings[0].host_port = Some(80);
        r.spec.definition.placement_constraints = serde_json::from_value(
            json!([{ "type": "memberOf", "expression": "attribute:stack == test" }]),
        )
        .unwrap();
    });
    let pending = json!({ "observedGeneration": 1, "lastStatus": "PENDING", "acceptedAt": "2026-01-01T00:00:00Z",
        "conditions": [condition("Ready", "False", "Pulling", "pulling web:1")], "containers": [] });
    let mut new = task(4, "a", pending);
    Arc::make_mut(&mut new)
        .metadata
        .labels
        .clone_from(&objects.tasks[2].metadata.labels);
    objects.tasks.push(new);
    objects
}

#[test]
fn a_service_is_explained_host_by_host() {
    let objects = crowded();
    let service: Service = (*objects.services[0]).clone();
    let explanation = explain(&objects, "default", &Found::Service(service), now());
    assert_snapshot!(explanation.text(true, PLAIN));
    assert_eq!(
        explanation.data()["hosts"][0]["ecsReasons"][0],
        "RESOURCE:MEMORY"
    );
}

#[test]
fn a_task_that_stopped_is_explained_by_its_containers() {
    let objects = cluster();
    let stopped: Task = (*objects.tasks[0]).clone();
    assert_snapshot!(explain(&objects, "default", &Found::Task(stopped), now()).text(false, PLAIN));
}

#[test]
fn a_task_that_nobody_placed_is_asked_about() {
    let mut objects = cluster();
    let constraint = json!([{ "type": "memberOf", "expression": "attribute:gpu exists" }]);
    let alone = json!({ "spec": { "taskDefinition": "web", "placementConstraints": constraint } });
    objects.tasks.push(object("Task", "alone", alone));
    let alone: Task = (*objects.tasks[3]).clone();
    assert_snapshot!(explain(&objects, "default", &Found::Task(alone), now()).text(false, PLAIN));
}

/// Service `web` after a rollout to a second revision failed, and a third one exists.
fn with_past() -> Objects {
    let mut objects = cluster();
    for number in [2, 3] {
        let definition = json!({ "family": "web", "containerDefinitions": web(512 + number)["containerDefinitions"] });
        let spec =
            json!({ "spec": { "family": "web", "revision": number, "definition": definition } });
        objects.revisions.push(object(
            "TaskDefinitionRevision",
            &format!("web-{number}"),
            spec,
        ));
    }
    changed(&mut objects.revisions, 1, |r| {
        r.metadata.deletion_timestamp =
            serde_json::from_value(json!("2026-01-01T12:00:00Z")).unwrap();
    });
    changed(&mut objects.services, 0, |s| {
        let status = s.status.as_mut().unwrap();
        status.failed_deployment =
            serde_json::from_value(json!({ "id": "ecs-svc/3", "taskDefinition": "web:3",
            "reason": "tasks failed to start.", "failedAt": "2026-01-01T13:00:00Z" }))
            .unwrap();
    });
    objects
}

#[test]
fn a_history_marks_what_runs_what_completed_and_what_failed() {
    let objects = with_past();
    let service = &objects.services[0];
    let past = Past::of(service, &objects.revisions).unwrap();
    let listing = past.listing(service, now()).text(Form::Table, PLAIN);
    assert_snapshot!(format!(
        "{listing}\n{}",
        events(service, now()).text(false, PLAIN)
    ));
}

#[test]
fn undo_goes_to_what_completed_last_else_to_the_next_lower_active_one() {
    let mut objects = with_past();
    let back = |objects: &Objects, to: Option<i64>| {
        let service = &objects.services[0];
        Past::of(service, &objects.revisions)
            .unwrap()
            .back(service, to)
    };
    assert_eq!(back(&objects, None).as_deref(), Ok("web:1"));
    assert_eq!(back(&objects, Some(3)).as_deref(), Ok("web:3"));
    assert_eq!(
        back(&objects, Some(2)).unwrap_err(),
        "web:2 is INACTIVE (deregistered); name an ACTIVE revision"
    );
    assert!(
        back(&objects, Some(9))
            .unwrap_err()
            .starts_with("there is no revision 9 of `web`")
    );
    // What completed last is what is asked for: the one before, which is not the INACTIVE one.
    changed(&mut objects.services, 0, |s| {
        let status = s.status.as_mut().unwrap();
        status
            .last_completed_deployment
            .as_mut()
            .unwrap()
            .task_definition = "web:3".to_owned();
    });
    assert_eq!(back(&objects, None).as_deref(), Ok("web:1"));
    changed(&mut objects.services, 0, |s| {
        s.spec.task_definition = Some("web:1".to_owned())
    });
    changed(&mut objects.services, 0, |s| {
        s.status.as_mut().unwrap().last_completed_deployment = None
    });
    assert_eq!(
        back(&objects, None).unwrap_err(),
        "`web` has no ACTIVE revision before web:1"
    );
}

#[test]
fn a_status_counts_only_for_the_spec_and_the_revision_of_now() {
    let objects = cluster();
    let of = |how: &dyn Fn(&mut Service),
              definition: &dyn Fn(&mut tallyman_crds::TaskDefinition)| {
        let mut service: Service = (*objects.services[0]).clone();
        let mut family = (*objects.task_definitions[0]).clone();
        how(&mut service);
        definition(&mut family);
        standing::of_service(&service, Some(&family))
    };
    let stall = |s: &mut Service| {
        let stalled = condition(
            "Stalled",
            "True",
            "DeploymentFailed",
            "The deployment of web:1 failed.",
        );
        s.status
            .as_mut()
            .unwrap()
            .conditions
            .push(serde_json::from_value(stalled).unwrap());
    };
    let done = of(&|_| {}, &|_| {});
    assert_eq!(
        done,
        Standing::Done("service web is deployed: web:1, 2 of 2 running".to_owned())
    );
    let seen = of(&|s| s.metadata.generation = Some(2), &|_| {});
    assert_eq!(
        seen,
        Standing::Going("service web: not seen by the operator yet".to_owned())
    );
    let family = of(&|_| {}, &|d| d.metadata.generation = Some(2));
    assert_eq!(
        family,
        Standing::Going("task definition web: not registered yet".to_owned())
    );
    let newer = |d: &mut tallyman_crds::TaskDefinition| {
        d.status.as_mut().unwrap().latest = Some("web:2".to_owned())
    };
    let behind =
        Standing::Going("service web: web:2 is registered and not taken on yet".to_owned());
    assert_eq!(of(&|_| {}, &newer), behind);
    assert_eq!(
        of(&stall, &|_| {}),
        Standing::Failed("service web: The deployment of web:1 failed.".to_owned())
    );
    // What failed is the revision before the one that mends it.
    let failed = |s: &mut Service| {
        stall(s);
        s.status.as_mut().unwrap().failed_deployment =
            serde_json::from_value(json!({ "id": "ecs-svc/1", "taskDefinition": "web:1",
            "reason": "x", "failedAt": "2026-01-01T13:00:00Z" }))
            .unwrap();
    };
    assert_eq!(of(&failed, &newer), behind);
}

#[test]
fn totals_are_what_is_reserved() {
    let objects = cluster();
    let hosts = totals::hosts(&objects).text(Form::Wide, PLAIN);
    let services = totals::services(&objects, "default").text(Form::Wide, PLAIN);
    assert_snapshot!(format!("{hosts}\n{services}"));
}

#[test]
fn a_filter_is_the_query_language_and_a_mistake_is_pointed_at() {
    let objects = cluster();
    let names = |text: &str| {
        let query = Query::parse(text).unwrap();
        totals::instances(&objects, "default", Some(&query)).names
    };
    assert_eq!(
        names("attribute:stack == prod and agentConnected == true"),
        ["a", "b"].map(|host| format!("containerinstance.tallyman.dev/{host}"))
    );
    assert_eq!(
        names("runningTasksCount > 1"),
        ["containerinstance.tallyman.dev/a"]
    );
    let text = "attribute:stack prod";
    assert_snapshot!(totals::pointed(text, &Query::parse(text).unwrap_err()));
}

#[test]
fn findings_say_what_to_do() {
    let mut objects = cluster();
    changed(&mut objects.services, 0, |s| {
        let stalled = condition(
            "Stalled",
            "True",
            "InvalidSpec",
            "`spec.desiredCount` must be 0 or more, not -1.",
        );
        s.status
            .as_mut()
            .unwrap()
            .conditions
            .push(serde_json::from_value(stalled).unwrap());
    });
    let crds = tallyman_crds::schema::crds();
    let mut installed: BTreeMap<String, serde_json::Value> = crds
        .iter()
        .map(|c| {
            let mut json = c.json.clone();
            json["status"]["conditions"] = json!([{ "type": "Established", "status": "True" }]);
            (json["metadata"]["name"].as_str().unwrap().to_owned(), json)
        })
        .collect();
    installed.remove("tasks.tallyman.dev");
    let service = installed.get_mut("services.tallyman.dev").unwrap();
    let schema = &mut service["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
    schema["properties"]["spec"]["properties"]
        .as_object_mut()
        .unwrap()
        .remove("desiredCount");
    let mut findings = vec![checks::server(Some(29), "v1.29.0", "https://a")];
    findings.extend(checks::definitions(&installed));
    findings.push(checks::operator(None, "tallyman-system", now()));
    let lease = json!({ "metadata": {}, "spec": { "holderIdentity": "x_1", "leaseDurationSeconds": 15, "renewTime": "2026-01-01T23:00:00.000000Z" } });
    findings.push(checks::operator(
        Some(&serde_json::from_value(lease).unwrap()),
        "tallyman-system",
        now(),
    ));
    let instances: Vec<_> = objects.instances.iter().map(Arc::as_ref).collect();
    findings.extend(checks::hosts(&instances, "0.2.0"));
    findings.extend(checks::permissions(&[&PERMISSIONS[4]], "default"));
    findings.extend(checks::stalled(&objects));
    assert_snapshot!(format!(
        "{}{}",
        checks::text(&findings, PLAIN),
        checks::summary(&findings)
    ));
}
