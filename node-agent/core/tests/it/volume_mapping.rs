//! Volumes and mount points: from the task definition to what the engine is told.

use crate::rig;
use std::collections::BTreeMap;

use crate::rig::{UID, plan, written};
use serde_json::{Value, json};
use tallyman_agent_core::assignment::Door;
use tallyman_agent_core::settings::volumes::VolumeSettings;
use tallyman_agent_core::volumes::{Life, NfsExport};
use tallyman_agent_core::{AssignedTask, Assignment, Plan, TaskBody};
use tallyman_agent_engine::{MountSource, VolumeSpec};
use tallyman_crds::HostPlanSpec;

fn settings() -> VolumeSettings {
    let export = NfsExport::parse("10.0.0.9:/exports/data/").unwrap();
    VolumeSettings {
        match_full_config: false,
        file_systems: [("fs-1".to_owned(), export)].into(),
    }
}

fn assigned(spec: HostPlanSpec) -> AssignedTask {
    let door = Door {
        volumes: settings(),
        ..rig::door()
    };
    let tasks = Assignment::parse(Plan::from(spec), &door).tasks;
    tasks.into_values().next().unwrap()
}

/// A task with one volume, mounted by its only container.
fn with_volume(volume: &Value) -> HostPlanSpec {
    let mut volume = volume.clone();
    volume["name"] = json!("data");
    let app = json!([{ "name": "app", "mountPoints": [
        { "sourceVolume": "data", "containerPath": "/var/data" }] }]);
    written(&app, &json!([volume]))
}

fn refusal(spec: HostPlanSpec) -> String {
    match assigned(spec).body {
        TaskBody::Refused(why) => why,
        TaskBody::Runnable(_) => panic!("not refused"),
    }
}

fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    let owned = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
    pairs.iter().map(owned).collect()
}

const OURS: [(&str, &str); 4] = [
    ("tallyman.dev/task-uid", UID),
    ("tallyman.dev/task", "web-000001"),
    ("tallyman.dev/namespace", "shop"),
    ("tallyman.dev/container-instance-uid", rig::INSTANCE),
];

#[test]
fn a_path_of_the_host_is_mounted_and_needs_no_volume() {
    let containers = json!([{ "name": "app", "mountPoints": [
        { "sourceVolume": "data", "containerPath": "/a", "readOnly": true },
        { "sourceVolume": "data", "containerPath": "/b" }] }]);
    let volumes = json!([{ "name": "data", "host": { "sourcePath": "/srv/data" } }]);
    let task = assigned(written(&containers, &volumes));
    assert!(task.volumes.is_empty());
    let told: Vec<_> = task.containers()[0]
        .mounts()
        .iter()
        .map(|m| (m.source.clone(), m.path.as_str(), m.read_only))
        .collect();
    let source = MountSource::HostPath("/srv/data".to_owned());
    assert_eq!(told, [(source.clone(), "/a", true), (source, "/b", false)]);
}

#[test]
fn a_volume_without_a_path_is_the_tasks_own() {
    for volume in [
        json!({}),
        json!({ "host": {} }),
        json!({ "host": { "sourcePath": "" } }),
        json!({ "dockerVolumeConfiguration": {} }),
        json!({ "dockerVolumeConfiguration": { "scope": "task", "driver": "local", "autoprovision": true } }),
    ] {
        let task = assigned(with_volume(&volume));
        let [planned] = task.volumes.as_slice() else {
            panic!("{volume}: {:?}", task.volumes)
        };
        assert_eq!(planned.life, Life::Task, "{volume}");
        let expected = VolumeSpec {
            name: "ecs-web-7-data-550e8400e2".to_owned(),
            driver: "local".to_owned(),
            options: BTreeMap::new(),
            labels: map(&OURS),
        };
        assert_eq!(planned.spec, expected, "{volume}");
        let source = &task.containers()[0].mounts()[0].source;
        assert_eq!(*source, MountSource::Volume(expected.name));
    }
    // Nobody mounts it: ECS makes one for the mount points that name it.
    let unused = written(&json!([{ "name": "app" }]), &json!([{ "name": "data" }]));
    assert!(assigned(unused).volumes.is_empty());
}

#[test]
fn driver_options_and_labels_are_told_and_reserved_labels_are_ours() {
    let volume = json!({ "dockerVolumeConfiguration": {
        "scope": "task", "driver": "rexray",
        "driverOpts": { "size": "5" },
        "labels": { "team": "blue", "tallyman.dev/task-uid": "evil" } } });
    let spec = assigned(with_volume(&volume)).volumes[0].spec.clone();
    assert_eq!(spec.driver, "rexray");
    assert_eq!(spec.options, map(&[("size", "5")]));
    let mut labels = map(&OURS);
    labels.insert("team".to_owned(), "blue".to_owned());
    assert_eq!(spec.labels, labels);
}

#[test]
fn a_shared_volume_has_its_own_name_and_no_label_of_ours() {
    let volume = json!({ "dockerVolumeConfiguration": {
        "scope": "shared", "autoprovision": true,
        "labels": { "team": "blue", "tallyman.dev/container-instance-uid": "evil" } } });
    let planned = assigned(with_volume(&volume)).volumes.remove(0);
    assert_eq!(planned.spec.name, "data");
    assert_eq!(planned.spec.labels, map(&[("team", "blue")]));
    assert_eq!(
        planned.life,
        Life::Shared {
            autoprovision: true,
            match_full: false
        }
    );
}

#[test]
fn efs_is_a_volume_of_the_task_over_nfs() {
    for (root, device) in [
        (json!(null), ":/exports/data"),
        (json!("/"), ":/exports/data"),
        (json!("/shop/a b/"), ":/exports/data/shop/a b"),
    ] {
        let volume = json!({ "efsVolumeConfiguration": {
            "fileSystemId": "fs-1", "rootDirectory": root } });
        let planned = assigned(with_volume(&volume)).volumes.remove(0);
        assert_eq!(planned.life, Life::Task);
        assert_eq!(planned.spec.driver, "local");
        let o = "addr=10.0.0.9,nfsvers=4.1,rw,hard,timeo=600,retrans=2";
        assert_eq!(
            planned.spec.options,
            map(&[("type", "nfs"), ("o", o), ("device", device)])
        );
    }
}

#[test]
fn what_no_host_can_provide_is_refused_with_the_field() {
    let efs = |fields: Value| {
        let mut all = json!({ "fileSystemId": "fs-1" });
        all.as_object_mut()
            .unwrap()
            .extend(fields.as_object().unwrap().clone());
        json!({ "efsVolumeConfiguration": all })
    };
    for (volume, words) in [
        (
            json!({ "host": { "sourcePath": "data" } }),
            "`volumes[data].host.sourcePath` must be an absolute path",
        ),
        (
            json!({ "host": { "sourcePath": "/a:b" } }),
            "`host.sourcePath` `/a:b`",
        ),
        (
            json!({ "configuredAtLaunch": true }),
            "`configuredAtLaunch`",
        ),
        (
            json!({ "s3filesVolumeConfiguration": { "fileSystemArn": "arn:x" } }),
            "`s3filesVolumeConfiguration`",
        ),
        (
            json!({ "fsxWindowsFileServerVolumeConfiguration": { "fileSystemId": "fs-1", "rootDirectory": "a",
                "authorizationConfig": { "credentialsParameter": "a", "domain": "b" } } }),
            "`fsxWindowsFileServerVolumeConfiguration`",
        ),
        (
            efs(json!({ "fileSystemId": "fs-2" })),
            "ECS_EFS_FILE_SYSTEMS",
        ),
        (
            efs(json!({ "rootDirectory": "/../b" })),
            "`efsVolumeConfiguration.rootDirectory`",
        ),
        (
            efs(json!({ "transitEncryption": "ENABLED" })),
            "`efsVolumeConfiguration.transitEncryption`",
        ),
        (
            efs(json!({ "authorizationConfig": { "iam": "ENABLED" } })),
            "`efsVolumeConfiguration.authorizationConfig`",
        ),
    ] {
        let why = refusal(with_volume(&volume));
        assert!(why.contains(words) && why.contains("`data`"), "{why}");
    }
    let mut named = with_volume(&json!({ "dockerVolumeConfiguration": { "scope": "shared" } }));
    let definition = &mut named.definitions.get_mut("web-7").unwrap().definition;
    for (name, why) in [("../x", "scope `shared`"), ("/etc", "scope `shared`")] {
        definition.volumes[0].name = Some(name.to_owned());
        definition.container_definitions[0].mount_points.clear();
        let mut spec = plan(definition.container_definitions.clone());
        let planned = spec.definitions.get_mut("web-7").unwrap();
        planned.definition.volumes.clone_from(&definition.volumes);
        let told = refusal(spec);
        assert!(told.contains(why) && told.contains(name), "{told}");
    }
}

#[test]
fn mount_points_and_volumes_from_that_lead_nowhere_are_refused() {
    let volumes = json!([{ "name": "data" }]);
    let mount = |source: &str, path: &str| json!([{ "name": "app", "mountPoints": [{ "sourceVolume": source, "containerPath": path }] }]);
    for (containers, words) in [
        (mount("other", "/a"), "`sourceVolume` `other`"),
        (mount("data", "a"), "`containerPath` `a`"),
        (mount("data", "/"), "`containerPath` `/`"),
        (mount("data", "/a:ro"), "`containerPath` `/a:ro`"),
        (
            json!([{ "name": "app", "volumesFrom": [{ "sourceContainer": "app" }] }]),
            "`app` waits for `app`",
        ),
        (
            json!([{ "name": "app", "volumesFrom": [{ "sourceContainer": "nobody" }] }]),
            "`volumesFrom` must name a container of the task, and `nobody` is none",
        ),
        (
            json!([{ "name": "app", "volumesFrom": [{ "sourceContainer": "b" }] },
                   { "name": "b", "volumesFrom": [{ "sourceContainer": "app" }] }]),
            "must not close a circle",
        ),
    ] {
        let why = refusal(written(&containers, &volumes));
        assert!(why.contains(words) && why.contains("`app`"), "{why}");
    }
}
