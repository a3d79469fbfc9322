//! What a task takes from Secrets and ConfigMaps, between the operator's delivery and the engine.

use crate::rig;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use crate::rig::{Rig, assigned, host, written};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::{Value, json};
use tallyman_agent_core::registries::Registries;
use tallyman_agent_core::{Action, TaskRecord, step, task::TaskObservation};
use tallyman_agent_engine::fake::{Crash, Program};
use tallyman_agent_engine::{RegistryCredentials, Sensitive, Verb};
use tallyman_crds::sources::{Contents, Source, SourceKind, SourceObject, Supply, of_task, supply};
use tallyman_crds::{HostPlanSpec, LastStatus, StopCode};

fn plan(container: Value) -> HostPlanSpec {
    let mut whole = json!({ "name": "app", "memory": 64 });
    let image = container["image"].as_str().unwrap_or("app:1").to_owned();
    for (key, value) in container.as_object().unwrap() {
        whole[key] = value.clone();
    }
    let mut spec = written(&json!([whole]), &json!([]));
    let planned = spec.definitions.get_mut("web-7").unwrap();
    planned.definition.container_definitions[0].image = image;
    spec
}

fn object(kind: SourceKind, name: &str, data: &[(&str, &str)]) -> (SourceObject, Contents) {
    let object = SourceObject {
        kind,
        name: name.to_owned(),
    };
    let data = data.iter();
    let data = data.map(|(k, v)| ((*k).to_owned(), v.as_bytes().to_vec()));
    let metadata = ObjectMeta {
        resource_version: Some("1".to_owned()),
        ..ObjectMeta::default()
    };
    let data = data.collect();
    (object, Contents { metadata, data })
}

fn secret(name: &str, data: &[(&str, &str)]) -> (SourceObject, Contents) {
    object(SourceKind::Secret, name, data)
}

/// What the operator delivers for all tasks of a plan.
fn delivered(plan: &HostPlanSpec, objects: &[(SourceObject, Contents)]) -> Option<Arc<Supply>> {
    let sources: BTreeSet<Source> = plan
        .tasks
        .iter()
        .flat_map(|t| {
            of_task(
                &plan.definitions[&t.definition].definition,
                t.overrides.as_ref(),
            )
        })
        .collect();
    let objects: BTreeMap<_, _> = objects.iter().cloned().collect();
    Some(Arc::new(supply(&sources, &objects).0))
}

/// Variables of the created container, whoever set them.
fn environment(rig: &Rig) -> BTreeMap<String, String> {
    let name = &rig.engine.containers()[0].name;
    let spec = rig.engine.spec(name).unwrap();
    let plain = spec.environment.into_iter();
    let hidden = spec.secrets.into_iter();
    let injected = |(name, _): &(String, String)| name == "AWS_EXECUTION_ENV";
    plain
        .filter(|one| !injected(one))
        .chain(hidden.map(|(k, v)| (k, v.expose().to_owned())))
        .collect()
}

fn pairs(list: &[(&str, &str)]) -> BTreeMap<String, String> {
    let list = list.iter();
    list.map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
        .collect()
}

#[test]
fn nothing_is_pulled_or_created_before_everything_is_delivered() {
    let spec = plan(json!({ "secrets": [{ "name": "PASSWORD", "valueFrom": "db:password" }] }));
    let mut rig = Rig::of(spec.clone());
    rig.settle_down();
    assert_eq!(rig.engine.call_count(), rig.engine.calls_of(Verb::List));
    assert_eq!(rig.status().last_status, LastStatus::Pending);
    let ready = &rig.status().conditions[0];
    assert_eq!(
        ready.message,
        "The task waits for key `password` of Secret `db`, which the operator delivers to this host."
    );

    rig.host.supply = delivered(&spec, &[secret("db", &[("password", "s3cret")])]);
    rig.settle_down();
    assert_eq!(rig.status().last_status, LastStatus::Running);
    assert_eq!(environment(&rig), pairs(&[("PASSWORD", "s3cret")]));
}

#[test]
fn files_of_the_host_are_read_when_the_container_is_created_and_count_in_their_turn() {
    let spec = plan(json!({
        "environment": [{ "name": "SET", "value": "definition" }],
        "environmentFiles": [
            { "type": "configMap", "value": "web:one.env" },
            { "type": "file", "value": "/etc/app/web.env" },
            { "type": "configMap", "value": "web:two.env" },
        ],
    }));
    let mut rig = Rig::of(spec.clone());
    let one = "FIRST=map\nSET=map\n";
    let two = "FIRST=last\nONLY=last\nLAST=last\n";
    let web = object(
        SourceKind::ConfigMap,
        "web",
        &[("one.env", one), ("two.env", two)],
    );
    rig.host.supply = delivered(&spec, &[web]);
    rig.settle_down();
    assert_eq!(rig.status().last_status, LastStatus::Running);
    let wanted = [
        ("FIRST", "map"),
        ("LAST", "last"),
        ("ONLY", "host"),
        ("SET", "definition"),
    ];
    assert_eq!(environment(&rig), pairs(&wanted));
}

/// ECS' agent once waited for itself when it restored such a task (#2580).
#[test]
fn killed_at_every_call_a_task_with_files_of_variables_starts_with_them() {
    let files = json!([
        { "type": "configMap", "value": "web:one.env" },
        { "type": "file", "value": "/etc/app/web.env" },
    ]);
    let spec = plan(json!({ "environmentFiles": files }));
    let one = object(SourceKind::ConfigMap, "web", &[("one.env", "FIRST=map\n")]);
    let supply = delivered(&spec, &[one]);
    let mut whole = Rig::of(spec.clone());
    whole.host.supply.clone_from(&supply);
    whole.settle_down();
    let wanted = environment(&whole);
    assert_eq!(wanted["FIRST"], "map");
    for (kept, carried_out) in [(true, true), (true, false), (false, true), (false, false)] {
        for at_call in 1..=5 {
            let what = format!("record kept {kept}, carried out {carried_out}, call {at_call}");
            let mut rig = Rig::of(spec.clone());
            rig.host.supply.clone_from(&supply);
            let record = rig.machine.record().clone();
            rig.engine.crash(Crash {
                at_call,
                carried_out,
            });
            for _ in 0..20 {
                rig.turn();
            }
            rig.restart(kept.then_some(record));
            rig.run(Duration::from_secs(30));
            assert_eq!(rig.status().last_status, LastStatus::Running, "{what}");
            assert_eq!(rig.engine.containers().len(), 1, "{what}");
            assert_eq!(environment(&rig), wanted, "{what}");
        }
    }
}

#[test]
fn a_file_of_the_host_that_cannot_be_read_fails_the_task_with_its_path() {
    let file = json!({ "type": "file", "value": "/etc/app/none.env" });
    let mut rig = Rig::of(plan(json!({ "environmentFiles": [file] })));
    rig.settle_down();
    let status = rig.status();
    assert_eq!(status.last_status, LastStatus::Stopped);
    assert_eq!(status.stop_code, Some(StopCode::TaskFailedToStart));
    let words = "ResourceInitializationError: environment file `/etc/app/none.env` of the host cannot be read: No such \
                 file or directory";
    assert_eq!(status.stopped_reason.as_deref(), Some(words));
    assert_eq!(rig.engine.calls_of(Verb::Create), 0);
}

#[test]
fn what_is_not_to_be_had_fails_the_task_with_its_name() {
    for (value_from, objects, wanted) in [
        (
            "db:password",
            vec![],
            "container `app`: Secret `db` does not exist",
        ),
        (
            "db:password",
            vec![secret("db", &[("user", "x"), ("host", "y")])],
            "container `app`: Secret `db` has no key `password`",
        ),
        (
            "db",
            vec![secret("db", &[("user", "x"), ("host", "y")])],
            "container `app`: Secret `db` has several keys, so one must be named, as in `name:key`",
        ),
    ] {
        let spec = plan(json!({ "secrets": [{ "name": "P", "valueFrom": value_from }] }));
        let mut rig = Rig::of(spec.clone());
        rig.host.supply = delivered(&spec, &objects);
        rig.settle_down();
        let status = rig.status();
        assert_eq!(status.last_status, LastStatus::Stopped);
        assert_eq!(status.stop_code, Some(StopCode::TaskFailedToStart));
        assert_eq!(
            status.stopped_reason.as_deref(),
            Some(
                format!(
                    "ResourceInitializationError: unable to pull secrets or registry auth: {wanted}"
                )
                .as_str()
            )
        );
        // Nobody told it to stop.
        assert_eq!(status.containers[0].reason, None);
        assert!(rig.engine.containers().is_empty());
    }
}

#[test]
fn files_come_first_then_the_definition_then_the_run_then_secrets() {
    let mut spec = plan(json!({
        "environmentFiles": [
            { "type": "configMap", "value": "web:one.env" },
            { "type": "s3", "value": "arn:aws:s3:::web/two.env" },
        ],
        "environment": [{ "name": "FROM_DEFINITION", "value": "definition" }, { "name": "FROM_RUN", "value": "definition" }],
        "secrets": [{ "name": "FROM_SECRET", "valueFrom": "db" }],
    }));
    spec.tasks[0].overrides = serde_json::from_value(json!({ "containerOverrides": [{
        "name": "app", "environment": [{ "name": "FROM_RUN", "value": "run" }],
    }]}))
    .unwrap();
    let one = "# comment\n\nFROM_FILE=one=1 \"x\"\nFROM_DEFINITION=file\nFROM_SECRET=file\nno line\n =x\r\nLAST=1\r\n";
    let two = "FROM_FILE=two\nFROM_RUN=file\nSECOND=$HOME";
    let map = object(
        SourceKind::ConfigMap,
        "web",
        &[("one.env", one), ("two.env", two)],
    );
    let mut rig = Rig::of(spec.clone());
    rig.host.supply = delivered(&spec, &[map.clone(), secret("db", &[("any", "hidden")])]);
    rig.settle_down();
    assert_eq!(
        environment(&rig),
        pairs(&[
            ("FROM_FILE", "one=1 \"x\""),
            ("FROM_DEFINITION", "definition"),
            ("FROM_RUN", "run"),
            ("FROM_SECRET", "hidden"),
            ("SECOND", "$HOME"),
            ("LAST", "1"),
        ])
    );

    // Files of a run replace those of the definition.
    spec.tasks[0].overrides = serde_json::from_value(json!({ "containerOverrides": [{
        "name": "app", "environmentFiles": [{ "type": "configMap", "value": "web:two.env" }],
    }]}))
    .unwrap();
    let mut rig = Rig::of(spec.clone());
    rig.host.supply = delivered(&spec, &[map, secret("db", &[("any", "hidden")])]);
    rig.settle_down();
    assert_eq!(environment(&rig)["FROM_FILE"], "two");
}

#[test]
fn a_log_drivers_secret_options_are_given_to_it() {
    let spec = plan(json!({ "logConfiguration": {
        "logDriver": "json-file", "options": { "max-file": "2" },
        "secretOptions": [{ "name": "max-size", "valueFrom": "log:size" }],
    }}));
    let mut rig = Rig::of(spec.clone());
    rig.host.supply = delivered(&spec, &[secret("log", &[("size", "1m")])]);
    rig.settle_down();
    let name = &rig.engine.containers()[0].name;
    let log = rig.engine.spec(name).unwrap().parameters.log.unwrap();
    assert_eq!(log.secret_options["max-size"].expose(), "1m");
    assert!(!format!("{log:?}").contains("1m\""), "{log:?}");
}

fn prepared_with(container: Value, objects: &[(SourceObject, Contents)]) -> Action {
    let spec = plan(container);
    let task = assigned(spec.clone());
    let mut host = host();
    host.registries = Arc::new(
        Registries::read(r#"{"registry.test": {"username": "host", "password": "h"}}"#).unwrap(),
    );
    host.supply = delivered(&spec, objects);
    let record = TaskRecord::new(&task);
    let seen = TaskObservation::begin(&task, &record, &[]);
    let now = jiff::Timestamp::from_millisecond(rig::EPOCH_MS).unwrap();
    step(&task, &record, &seen, &host, now).actions.remove(0)
}

#[test]
fn an_image_is_pulled_with_the_tasks_credentials_or_the_hosts() {
    let user = |name: &str, password: &str| {
        Some(RegistryCredentials {
            username: name.to_owned(),
            password: Sensitive::new(password),
        })
    };
    let own = json!({ "image": "registry.test/a:1", "repositoryCredentials": { "credentialsParameter": "reg" } });
    let plain = secret("reg", &[("username", "anna"), ("password", "p")]);
    let whole = secret(
        "reg",
        &[("value", r#"{"username": "anna", "password": "p"}"#)],
    );
    let config = secret(
        "reg",
        &[(
            ".dockerconfigjson",
            r#"{"auths": {"registry.test": {"auth": "YW5uYTpw"}}}"#,
        )],
    );
    for (container, objects, wanted) in [
        (own.clone(), vec![plain], user("anna", "p")),
        (own.clone(), vec![whole], user("anna", "p")),
        (own, vec![config], user("anna", "p")),
        (
            json!({ "image": "registry.test/a:1" }),
            vec![],
            user("host", "h"),
        ),
        (json!({ "image": "elsewhere.test/a:1" }), vec![], None),
    ] {
        match prepared_with(container, &objects) {
            Action::Prepare { credentials, .. } => assert_eq!(credentials, wanted),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn credentials_that_are_none_fail_the_task() {
    let own = json!({ "repositoryCredentials": { "credentialsParameter": "reg" } });
    for (objects, wanted) in [
        (vec![], "Secret `reg` does not exist"),
        (
            vec![secret("reg", &[("username", "anna"), ("token", "p")])],
            "Secret `reg` must have the keys `username` and `password`",
        ),
        (
            vec![secret("reg", &[(".dockerconfigjson", "{}")])],
            "Secret `reg` is not a JSON object of registries",
        ),
        (
            vec![secret(
                "reg",
                &[(
                    ".dockerconfigjson",
                    r#"{"auths": {"quay.io": {"auth": "YTpi"}}}"#,
                )],
            )],
            "Secret `reg` has no credentials for the registry of `app:1`",
        ),
    ] {
        let spec = plan(own.clone());
        let mut rig = Rig::of(spec.clone());
        rig.host.supply = delivered(&spec, &objects);
        rig.settle_down();
        let reason = rig.status().stopped_reason.clone().unwrap_or_default();
        assert!(reason.contains(wanted), "{reason}");
    }
}

#[test]
fn a_running_task_outlives_its_secrets() {
    let spec = plan(json!({ "secrets": [{ "name": "P", "valueFrom": "db:p" }] }));
    let mut rig = Rig::of(spec.clone());
    rig.engine.set_program("app:1", Program::runs());
    rig.host.supply = delivered(&spec, &[secret("db", &[("p", "1")])]);
    rig.settle_down();
    assert_eq!(rig.status().last_status, LastStatus::Running);
    rig.host.supply = delivered(&spec, &[]);
    rig.settle_down();
    assert_eq!(rig.status().last_status, LastStatus::Running);
    // A new agent process begins without a delivery.
    rig.host.supply = None;
    rig.settle_down();
    assert_eq!(rig.status().last_status, LastStatus::Running);
}
