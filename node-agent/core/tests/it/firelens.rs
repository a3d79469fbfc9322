//! FireLens: a log router and the containers that send to it, between the task definition and the engine.
//!
//! The configurations in `goldens/` are what a router of either kind is given; `fluent-bit.conf` and `fluentd.conf` show
//! everything that ECS agents write.

use crate::rig;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use crate::rig::{Rig, UID, assigned, written};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::{Value, json};
use tallyman_agent_core::assignment::Door;
use tallyman_agent_core::{
    Assignment, FirelensSettings, Plan, PlannedContainer, RouterFiles, TaskBody,
};
use tallyman_agent_engine::fake::Crash;
use tallyman_agent_engine::{MountSource, Verb};
use tallyman_crds::sources::{Contents, Source, SourceKind, SourceObject, Supply, of_task, supply};
use tallyman_crds::{HostPlanSpec, LastStatus, StopCode};

/// The router of a task.
fn router(r#type: &str, options: Value) -> Value {
    json!({ "name": "logs", "memory": 64, "essential": true,
            "firelensConfiguration": { "type": r#type, "options": options } })
}

/// A container that sends to it.
fn sender(name: &str, options: Value) -> Value {
    json!({ "name": name, "memory": 64,
            "logConfiguration": { "logDriver": "awsfirelens", "options": options } })
}

fn plan(network: &str, containers: Value) -> HostPlanSpec {
    let mut spec = written(&containers, &json!([]));
    let planned = spec.definitions.get_mut("web-7").unwrap();
    planned.definition.network_mode = Some(serde_json::from_value(json!(network)).unwrap());
    spec
}

/// The containers of a plan less the pause container, by name.
fn containers(spec: HostPlanSpec) -> BTreeMap<String, PlannedContainer> {
    let task = assigned(spec);
    let TaskBody::Runnable(all) = task.body else {
        panic!("refused: {:?}", task.body)
    };
    let defined = all.into_iter().filter(|c| !c.is_pause());
    defined.map(|c| (c.name.clone(), c)).collect()
}

fn refusal(spec: HostPlanSpec) -> String {
    match assigned(spec).body {
        TaskBody::Refused(why) => why,
        TaskBody::Runnable(_) => panic!("not refused"),
    }
}

fn configuration(spec: HostPlanSpec) -> String {
    containers(spec)["logs"].router.clone().unwrap()
}

fn environment(container: &PlannedContainer) -> BTreeMap<String, String> {
    container.spec(1).environment.into_iter().collect()
}

/// Supplies every source of a plan from ConfigMaps and Secrets with these values.
fn delivered(spec: &HostPlanSpec, values: &[(SourceKind, &str, &str, &str)]) -> Arc<Supply> {
    let mut objects: BTreeMap<SourceObject, Contents> = BTreeMap::new();
    for (kind, name, key, value) in values {
        let object = SourceObject {
            kind: *kind,
            name: (*name).to_owned(),
        };
        let contents = objects.entry(object).or_insert_with(|| Contents {
            metadata: ObjectMeta {
                resource_version: Some("1".to_owned()),
                ..ObjectMeta::default()
            },
            data: BTreeMap::new(),
        });
        contents
            .data
            .insert((*key).to_owned(), value.as_bytes().to_vec());
    }
    let sources: BTreeSet<Source> = of_task(&spec.definitions["web-7"].definition, None);
    Arc::new(supply(&sources, &objects).0)
}

/// Everything that a configuration may say: metadata, patterns, options, a secret, a file, a container without outputs.
fn everything(r#type: &str, plugin: &str) -> HostPlanSpec {
    let mut app = sender(
        "app",
        json!({ plugin: "http", "Host": "logs.example.com", "include-pattern": "^(WARN|ERROR)",
                "exclude-pattern": "/health", "log-driver-buffer-limit": "4096" }),
    );
    app["logConfiguration"]["secretOptions"] =
        json!([{ "name": "http_passwd", "valueFrom": "sink:password" }]);
    let file = json!({ "config-file-type": "s3", "config-file-value": "arn:aws:s3:::acme/logs/extra.conf" });
    plan(
        "bridge",
        json!([router(r#type, file), app, sender("quiet", json!({}))]),
    )
}

#[test]
fn the_configuration_of_fluent_bit_says_all_that_ecs_says() {
    let golden = include_str!("goldens/fluent-bit.conf");
    assert_eq!(configuration(everything("fluentbit", "Name")), golden);
}

#[test]
fn the_configuration_of_fluentd_says_all_that_ecs_says() {
    let golden = include_str!("goldens/fluentd.conf");
    assert_eq!(configuration(everything("fluentd", "@type")), golden);
}

#[test]
fn without_metadata_and_network_little_is_left() {
    let options = json!({ "enable-ecs-log-metadata": "false",
                          "config-file-type": "file", "config-file-value": "/extra.conf" });
    let of = |r#type: &str, plugin: &str, network: &str| {
        let app = sender("app", json!({ plugin: "stdout" }));
        configuration(plan(network, json!([router(r#type, options.clone()), app])))
    };
    for network in ["host", "none"] {
        let golden = include_str!("goldens/fluent-bit-least.conf");
        assert_eq!(of("fluentbit", "Name", network), golden, "{network}");
        let golden = include_str!("goldens/fluentd-least.conf");
        assert_eq!(of("fluentd", "@type", network), golden, "{network}");
    }
}

#[test]
fn the_router_listens_where_its_containers_are() {
    for (network, fluent_bit, fluentd) in [
        (
            "bridge",
            "    Listen 0.0.0.0\n    Port 24224\n",
            "    bind 0.0.0.0\n",
        ),
        (
            "awsvpc",
            "    Listen 127.0.0.1\n    Port 24224\n",
            "    bind 127.0.0.1\n",
        ),
    ] {
        let of = |r#type: &str| configuration(plan(network, json!([router(r#type, json!({}))])));
        assert!(of("fluentbit").contains(fluent_bit), "{network}");
        assert!(of("fluentd").contains(fluentd), "{network}");
    }
    let mut deaf = router("fluentbit", json!({}));
    deaf["disableNetworking"] = json!(true);
    let configuration = configuration(plan("bridge", json!([deaf])));
    assert!(!configuration.contains("Listen"), "{configuration}");
}

#[test]
fn output_goes_to_the_socket_of_the_router_and_no_option_to_the_engine() {
    let planned = containers(everything("fluentbit", "Name"));
    let log = planned["app"].spec(1).parameters.log.unwrap();
    assert_eq!(log.driver, "fluentd");
    let options = [
        (
            "fluentd-address",
            format!("unix:///var/lib/tallyman/firelens/{UID}/socket/fluent.sock"),
        ),
        ("fluentd-async", "true".to_owned()),
        ("fluentd-buffer-limit", "4096".to_owned()),
        ("fluentd-sub-second-precision", "true".to_owned()),
        ("tag", "app-firelens-web-000001".to_owned()),
    ];
    let options = options.map(|(name, value)| (name.to_owned(), value));
    assert_eq!(log.options, BTreeMap::from(options));
    assert!(log.secret_options.is_empty());
    assert!(planned["logs"].log().is_none());
    // Task metadata tells what was written.
    let written = planned["app"].log().unwrap();
    assert_eq!(written.driver, "awsfirelens");
    assert_eq!(written.options["Host"], "logs.example.com");
    let door = Door {
        firelens: FirelensSettings {
            asynchronous: false,
            ..rig::door().firelens
        },
        ..rig::door()
    };
    let spec = everything("fluentbit", "Name");
    let task = Assignment::parse(Plan::from(spec), &door).tasks;
    let task = task.into_values().next().unwrap();
    let app = task.containers().iter().find(|c| c.name == "app").unwrap();
    let log = app.spec(1).parameters.log.unwrap();
    assert_eq!(log.options["fluentd-async"], "false");
}

#[test]
fn the_router_has_its_configuration_and_the_folder_of_its_socket() {
    for (r#type, plugin, folder, main) in [
        ("fluentbit", "Name", "/fluent-bit/etc", "fluent-bit.conf"),
        ("fluentd", "@type", "/fluentd/etc", "fluent.conf"),
    ] {
        let planned = containers(everything(r#type, plugin));
        let on_host =
            |path: &str| MountSource::HostPath(format!("/var/lib/tallyman/firelens/{UID}/{path}"));
        let mounts: Vec<_> = planned["logs"]
            .mounts()
            .iter()
            .map(|m| (m.source.clone(), m.path.clone()))
            .collect();
        assert_eq!(
            mounts,
            [
                (on_host("config/fluent.conf"), format!("{folder}/{main}")),
                (on_host("socket"), "/var/run".to_owned()),
                (
                    on_host("config/external.conf"),
                    format!("{folder}/external.conf")
                ),
            ]
        );
        assert!(planned["app"].mounts().is_empty());
        let root = environment(&planned["logs"]).remove("FLUENT_UID");
        assert_eq!(root.as_deref(), (r#type == "fluentd").then_some("0"));
    }
}

#[test]
fn a_socket_whose_path_the_kernel_refuses_is_refused_with_the_setting() {
    let long = format!("/{}", "d".repeat(60));
    let door = Door {
        firelens: FirelensSettings {
            folder: long,
            ..rig::door().firelens
        },
        ..rig::door()
    };
    let spec = plan("bridge", json!([router("fluentbit", json!({}))]));
    let task = Assignment::parse(Plan::from(spec), &door).tasks;
    let TaskBody::Refused(why) = task.into_values().next().unwrap().body else {
        panic!("not refused")
    };
    assert!(
        why.contains("117 bytes where the kernel takes 107; set a shorter ECS_DATADIR"),
        "{why}"
    );
}

#[test]
fn what_cannot_be_routed_is_refused_with_the_field() {
    let alone = plan(
        "bridge",
        json!([sender("app", json!({ "Name": "stdout" }))]),
    );
    assert_eq!(
        refusal(alone),
        "Container `app`: `logConfiguration.logDriver` is `awsfirelens`, so a container of the task must have \
         `firelensConfiguration`."
    );
}

#[test]
fn the_router_starts_first_and_stops_last_and_its_address_is_told() {
    let app = sender("app", json!({ "Name": "stdout" }));
    let mut rig = Rig::of(plan("bridge", json!([app, router("fluentbit", json!({}))])));
    rig.run(Duration::from_secs(5));
    assert_eq!(rig.status().last_status, LastStatus::Running);
    let spec = |name: &str| rig.engine.spec(&rig.name(name)).unwrap();
    let variables: BTreeMap<String, String> = spec("app").environment.into_iter().collect();
    let known = &rig.machine.record().containers["logs"];
    let address = known.interface.as_ref().unwrap().ipv4.unwrap();
    assert_eq!(variables["FLUENT_HOST"], address.to_string());
    assert_eq!(variables["FLUENT_PORT"], "24224");
    assert!(!environment_of(&rig, "logs").contains_key("FLUENT_HOST"));
    let files = rig.disk.written.lock().unwrap().clone();
    let [
        RouterFiles {
            task,
            configuration,
            external,
        },
    ] = &files[..]
    else {
        panic!("{files:?}")
    };
    assert!(task.as_str() == UID && external.is_none());
    assert!(
        configuration.contains("    Match app-firelens*\n"),
        "{configuration}"
    );
    rig.want_stop(StopCode::UserInitiated, "enough");
    rig.settle_down();
    let record = rig.machine.record();
    let ended = |name: &str| record.containers[name].end.as_ref().unwrap().at;
    assert!(ended("app") <= ended("logs"));
    let stops = rig.engine.calls_of(Verb::Stop);
    assert_eq!(stops, 2);
}

fn environment_of(rig: &Rig, container: &str) -> BTreeMap<String, String> {
    let spec = rig.engine.spec(&rig.name(container)).unwrap();
    spec.environment.into_iter().collect()
}

#[test]
fn a_task_with_an_address_of_its_own_reaches_the_router_at_loopback() {
    let app = sender("app", json!({ "Name": "stdout" }));
    let planned = containers(plan("awsvpc", json!([app, router("fluentbit", json!({}))])));
    let variables = environment(&planned["app"]);
    assert_eq!(variables["FLUENT_HOST"], "127.0.0.1");
    assert_eq!(variables["FLUENT_PORT"], "24224");
    for network in ["host", "none"] {
        let app = sender("app", json!({ "Name": "stdout" }));
        let planned = containers(plan(network, json!([app, router("fluentbit", json!({}))])));
        assert!(!environment(&planned["app"]).contains_key("FLUENT_HOST"));
        assert_eq!(planned["app"].fluent_host, None, "{network}");
    }
}

#[test]
fn what_the_router_waits_for_does_not_wait_for_it() {
    let mut logs = router("fluentbit", json!({}));
    logs["dependsOn"] = json!([{ "containerName": "between", "condition": "START" }]);
    let between = json!({ "name": "between", "memory": 64,
                          "dependsOn": [{ "containerName": "first", "condition": "START" }] });
    let first = sender("first", json!({ "Name": "stdout" }));
    let last = sender("last", json!({ "Name": "stdout" }));
    let spec = plan("bridge", json!([logs, between, first, last]));
    let planned = containers(spec.clone());
    assert!(planned["first"].edges.is_empty() && planned["first"].fluent_host.is_none());
    assert_eq!(planned["last"].edges.len(), 1);
    let mut rig = Rig::of(spec);
    rig.run(Duration::from_secs(5));
    assert_eq!(rig.status().last_status, LastStatus::Running);
    assert!(environment_of(&rig, "last").contains_key("FLUENT_HOST"));
}

#[test]
fn values_of_secrets_are_variables_of_the_router_and_in_no_file() {
    let spec = everything("fluentbit", "Name");
    let mut rig = Rig::of(spec.clone());
    rig.host.supply = Some(delivered(
        &spec,
        &[
            (SourceKind::Secret, "sink", "password", "canary"),
            (
                SourceKind::ConfigMap,
                "acme",
                "logs.extra.conf",
                "[OUTPUT]\n",
            ),
        ],
    ));
    rig.run(Duration::from_secs(5));
    assert_eq!(rig.status().last_status, LastStatus::Running);
    let secrets = rig.engine.spec(&rig.name("logs")).unwrap().secrets;
    let secrets: Vec<_> = secrets
        .iter()
        .map(|(name, value)| (name.as_str(), value.expose()))
        .collect();
    assert_eq!(secrets, [("http_passwd_1", "canary")]);
    assert!(
        rig.engine
            .spec(&rig.name("app"))
            .unwrap()
            .secrets
            .is_empty()
    );
    let files = rig.disk.written.lock().unwrap().clone();
    assert_eq!(files[0].external.as_deref(), Some("[OUTPUT]\n"));
    let written: Vec<_> = files[0].files().collect();
    assert_eq!(written.len(), 2);
    assert!(written.iter().all(|(_, text)| !text.contains("canary")));
}

#[test]
fn a_file_that_is_missing_fails_the_task_with_its_name() {
    let spec = everything("fluentbit", "Name");
    let mut rig = Rig::of(spec.clone());
    rig.host.supply = Some(delivered(
        &spec,
        &[
            (SourceKind::Secret, "sink", "password", "canary"),
            (SourceKind::ConfigMap, "acme", "other", "x"),
        ],
    ));
    rig.run(Duration::from_secs(5));
    let status = rig.status();
    assert_eq!(status.last_status, LastStatus::Stopped);
    assert_eq!(
        status.stopped_reason.as_deref(),
        Some(
            "ResourceInitializationError: unable to download firelens s3 config file: container `logs`: \
             ConfigMap `acme` has no key `logs.extra.conf`"
        )
    );
    assert_eq!(rig.starts(), 0);
}

#[test]
fn a_full_disk_is_tried_again_and_told_in_the_end() {
    let spec = plan("bridge", json!([router("fluentbit", json!({}))]));
    let mut rig = Rig::of(spec.clone());
    *rig.disk.full.lock().unwrap() = 2;
    rig.run(Duration::from_secs(60));
    assert_eq!(rig.status().last_status, LastStatus::Running);
    let mut rig = Rig::of(spec);
    *rig.disk.full.lock().unwrap() = u32::MAX;
    rig.run(Duration::from_secs(120));
    let status = rig.status();
    assert_eq!(status.last_status, LastStatus::Stopped);
    assert_eq!(
        status.stopped_reason.as_deref(),
        Some(
            "ResourceInitializationError: /var/lib/tallyman/firelens could not be written: No space left on device"
        )
    );
}

#[test]
fn a_new_agent_writes_the_files_before_it_creates_the_router() {
    let spec = plan("bridge", json!([router("fluentbit", json!({}))]));
    let mut rig = Rig::of(spec);
    let now = rig.now();
    let host = rig.host.clone();
    // The first agent dies between its first step and its deeds.
    rig.machine.step(&host, now);
    let record = rig.machine.record().clone();
    rig.restart(Some(record));
    rig.run(Duration::from_secs(5));
    assert_eq!(rig.disk.written.lock().unwrap().len(), 1);
    // A router that runs needs no new ones.
    let record = rig.machine.record().clone();
    rig.restart(Some(record));
    rig.run(Duration::from_secs(5));
    assert_eq!(rig.disk.written.lock().unwrap().len(), 1);
    assert_eq!(rig.starts(), 1);
}

#[test]
fn killed_at_every_call_the_router_has_its_files_and_the_others_its_address() {
    for kept in [true, false] {
        for carried_out in [true, false] {
            for at_call in 1..=12 {
                let what = format!("record kept {kept}, carried out {carried_out}, call {at_call}");
                let app = sender("app", json!({ "Name": "stdout" }));
                let spec = plan("bridge", json!([app, router("fluentbit", json!({}))]));
                let mut rig = Rig::of(spec);
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
                assert_eq!(rig.engine.containers().len(), 2, "{what}");
                assert!(!rig.disk.written.lock().unwrap().is_empty(), "{what}");
                let known = &rig.machine.record().containers["logs"];
                let address = known.interface.as_ref().unwrap().ipv4.unwrap().to_string();
                assert_eq!(
                    environment_of(&rig, "app")["FLUENT_HOST"],
                    address,
                    "{what}"
                );
            }
        }
    }
}
