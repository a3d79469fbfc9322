//! Credentials of a task's role: there before it starts, current when they are asked for.

use std::sync::Arc;

use crate::rig::{Rig, assigned, container, door, plan};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::{Value, json};
use tallyman_agent_core::assignment::Door;
use tallyman_agent_core::metadata::credentials::{self, NoCredentials};
use tallyman_agent_core::metadata::{Injection, MetadataKey, Roles};
use tallyman_agent_core::needs::Unmet;
use tallyman_agent_core::{AssignedTask, Assignment, Plan, TaskBody};
use tallyman_crds::ecs::{NetworkMode, TaskOverride};
use tallyman_crds::sources::{Contents, SourceKind, SourceObject, Supply, of_task, supply};
use tallyman_crds::{HostPlanSpec, LastStatus, StopCode};

const ROLE: &str = "arn:aws:iam::123456789012:role/web";

fn with_role() -> HostPlanSpec {
    let mut spec = plan(vec![container("app", true)]);
    for definition in spec.definitions.values_mut() {
        definition.definition.task_role_arn = Some(ROLE.to_owned());
    }
    spec
}

fn delivered(spec: &HostPlanSpec, data: &[(&str, &str)]) -> Option<Arc<Supply>> {
    let definition = &spec.definitions["web-7"].definition;
    let sources = of_task(definition, spec.tasks[0].overrides.as_ref());
    let object = SourceObject {
        kind: SourceKind::Secret,
        name: "web".to_owned(),
    };
    let metadata = ObjectMeta {
        resource_version: Some("1".to_owned()),
        ..ObjectMeta::default()
    };
    let data = data.iter();
    let data = data.map(|(k, v)| ((*k).to_owned(), v.as_bytes().to_vec()));
    let data = data.collect();
    let objects = [(object, Contents { metadata, data })].into();
    Some(Arc::new(supply(&sources, &objects).0))
}

fn answer(spec: HostPlanSpec, data: &[(&str, &str)]) -> Result<Value, Unmet> {
    let supply = delivered(&spec, data);
    let role = assigned(spec).role.unwrap();
    let now = Timestamp::from_second(1_000_000).unwrap();
    role.credentials(supply.as_deref(), now)
        .map(|credentials| json!(credentials))
}

#[test]
fn credentials_are_spelled_as_sdks_read_them() {
    let whole = r#"{"AccessKeyId":"id","SecretAccessKey":"key","SessionToken":"token","Expiration":"2030-01-01T02:00:00+02:00"}"#;
    for data in [
        &[
            ("AccessKeyId", "id"),
            ("SecretAccessKey", "key"),
            ("SessionToken", "token"),
            ("Expiration", "2030-01-01T00:00:00Z"),
        ][..],
        &[("any", whole)],
    ] {
        let wanted = json!({
            "RoleArn": ROLE, "AccessKeyId": "id", "SecretAccessKey": "key", "Token": "token",
            "Expiration": "2030-01-01T00:00:00Z",
        });
        assert_eq!(answer(with_role(), data), Ok(wanted));
    }
    // Those that do not end are asked for again within the hour.
    let lasting = answer(
        with_role(),
        &[("AccessKeyId", "id"), ("SecretAccessKey", "key")],
    )
    .unwrap();
    assert_eq!(lasting["Token"], "");
    assert_eq!(lasting["Expiration"], "1970-01-12T14:46:40Z");
}

#[test]
fn what_is_wrong_with_them_is_said_without_showing_them() {
    for (data, wanted) in [
        (
            &[("AccessKeyId", "id"), ("x", "y")][..],
            "Secret `web` has no key `SecretAccessKey`",
        ),
        (
            &[
                ("AccessKeyId", "id"),
                ("SecretAccessKey", "key"),
                ("Expiration", "tomorrow"),
            ],
            "key `Expiration` of Secret `web` must be a time such as `2026-01-01T00:00:00Z`",
        ),
    ] {
        assert_eq!(
            answer(with_role(), data),
            Err(Unmet::Never(wanted.to_owned()))
        );
    }
}

/// An SDK that is told 400 gives up, and the program with it.
#[test]
fn an_agent_that_knows_a_task_by_its_record_alone_says_ask_again() {
    let mut rig = Rig::of(with_role());
    let supply = delivered(
        &with_role(),
        &[("AccessKeyId", "id"), ("SecretAccessKey", "key")],
    );
    rig.host.supply.clone_from(&supply);
    rig.settle_down();
    let now = Timestamp::from_second(1_000_000).unwrap();
    let of = |task: &AssignedTask, supply| credentials::of_task(task, supply, now).map(drop);
    assert_eq!(of(rig.machine.task(), supply.as_deref()), Ok(()));
    let not_now = |answer| matches!(answer, Err(NoCredentials::NotNow(_)));
    assert!(not_now(of(rig.machine.task(), None)));
    let remembered = AssignedTask::remembered(&rig.machine.sight().record, &door());
    assert!(not_now(of(&remembered, supply.as_deref())));
    let without = assigned(plan(vec![container("app", true)]));
    assert_eq!(of(&without, supply.as_deref()), Err(NoCredentials::NoRole));
}

#[test]
fn a_task_starts_once_its_credentials_are_there_and_fails_when_there_are_none() {
    let mut rig = Rig::of(with_role());
    rig.settle_down();
    assert_eq!(rig.status().last_status, LastStatus::Pending);
    rig.host.supply = delivered(
        &with_role(),
        &[("AccessKeyId", "id"), ("SecretAccessKey", "key")],
    );
    rig.settle_down();
    assert_eq!(rig.status().last_status, LastStatus::Running);
    // It goes on when they are gone: nothing asks for them but its containers.
    rig.host.supply = delivered(&with_role(), &[]);
    rig.settle_down();
    assert_eq!(rig.status().last_status, LastStatus::Running);

    let mut rig = Rig::of(with_role());
    rig.host.supply = delivered(&with_role(), &[]);
    rig.settle_down();
    let status = rig.status();
    assert_eq!(status.stop_code, Some(StopCode::TaskFailedToStart));
    let wanted = format!(
        "ECS was unable to assume the role '{ROLE}' that was provided for this task: Secret `web` has no key `AccessKeyId`"
    );
    assert_eq!(status.stopped_reason, Some(wanted));
}

#[test]
fn a_run_may_change_the_role() {
    let mut spec = plan(vec![container("app", true)]);
    assert_eq!(assigned(spec.clone()).role, None);
    spec.tasks[0].overrides = Some(TaskOverride {
        task_role_arn: Some("web".to_owned()),
        ..TaskOverride::default()
    });
    let answer = answer(spec, &[("AccessKeyId", "id"), ("SecretAccessKey", "key")]).unwrap();
    assert_eq!(answer["RoleArn"], "web");
}

fn refusal(spec: HostPlanSpec, roles: Option<Roles>) -> Option<String> {
    let door = Door {
        injection: Injection {
            roles,
            ..Injection::default()
        },
        ..door()
    };
    let mut tasks = Assignment::parse(Plan::from(spec), &door).tasks;
    match tasks.pop_first()?.1.body {
        TaskBody::Runnable(_) => None,
        TaskBody::Refused(why) => Some(why),
    }
}

#[test]
fn a_host_that_hands_out_nothing_says_so() {
    let roles = |network_host| {
        Some(Roles {
            network_host,
            port_80: true,
        })
    };
    let on_host = || {
        let mut spec = with_role();
        for definition in spec.definitions.values_mut() {
            definition.definition.network_mode = Some(NetworkMode::Host);
        }
        spec
    };
    assert_eq!(refusal(with_role(), roles(false)), None);
    assert_eq!(refusal(on_host(), roles(true)), None);
    for (spec, roles, wanted) in [
        (with_role(), None, "ECS_ENABLE_TASK_IAM_ROLE is false"),
        (
            on_host(),
            roles(false),
            "ECS_ENABLE_TASK_IAM_ROLE_NETWORK_HOST is false",
        ),
    ] {
        let why = refusal(spec, roles).unwrap_or_default();
        assert!(
            why.starts_with("`taskRoleArn` is set") && why.contains(wanted),
            "{why}"
        );
    }
}

#[test]
fn containers_are_told_where_by_what_their_host_can_do() {
    for (port_80, wanted) in [
        (
            true,
            "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI=/v2/credentials/",
        ),
        (
            false,
            "AWS_CONTAINER_CREDENTIALS_FULL_URI=http://169.254.170.2:51679/v2/credentials/",
        ),
    ] {
        let door = Door {
            injection: Injection {
                key: Some(MetadataKey::new([7; 32])),
                roles: Some(Roles {
                    network_host: true,
                    port_80,
                }),
                ..Injection::default()
            },
            ..door()
        };
        for (spec, times) in [(with_role(), 1), (plan(vec![container("app", true)]), 0)] {
            let tasks = Assignment::parse(Plan::from(spec), &door).tasks;
            let planned = &tasks.values().next().unwrap().containers()[0];
            let variables = planned.spec(1).environment;
            let told = variables
                .iter()
                .map(|(name, value)| format!("{name}={value}"))
                .filter(|line| line.starts_with("AWS_CONTAINER_CREDENTIALS"));
            let told: Vec<_> = told.collect();
            assert_eq!(told.len(), times, "{told:?}");
            assert!(told.iter().all(|line| line.starts_with(wanted)), "{told:?}");
        }
    }
}
