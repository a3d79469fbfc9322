//! The door: quantities, what is wrong with a definition, and what is not supported.

use std::collections::BTreeMap;

use crate::common::written::{one, problems, spec};
use proptest::prelude::*;
use serde_json::{Value, json};
use tallyman_crds::{ServiceSpec, TaskSpec};
use tallyman_operator_core::definition::{Definition, cpu_units, memory_mib};
use tallyman_operator_core::unsupported;

#[test]
fn cpu_is_units_or_vcpus() {
    let rows = [
        ("256", Some(256)),
        ("1 vCPU", Some(1024)),
        ("1vcpu", Some(1024)),
        (".5 vCPU", Some(512)),
        ("0.25 VCPU", Some(256)),
        ("2 vcpus", Some(2048)),
        (" 128 ", Some(128)),
        ("0.0001 vCPU", None),
        ("0", None),
        ("-5", None),
        ("", None),
        ("vCPU", None),
        (". vCPU", None),
        ("1.5", None),
        ("1e3", None),
        ("half", None),
        ("99999999999999999999", None),
        ("9223372036854775807 vCPU", None),
    ];
    for (text, expected) in rows {
        assert_eq!(cpu_units(text), expected, "{text:?}");
    }
}

#[test]
fn memory_is_mebibytes_or_gigabytes() {
    let rows = [
        ("512", Some(512)),
        ("1 GB", Some(1024)),
        ("0.5GB", Some(512)),
        ("2.5 gb", Some(2560)),
        ("1 MB", None),
        ("0", None),
        ("GB", None),
        ("1.1234567 GB", None),
    ];
    for (text, expected) in rows {
        assert_eq!(memory_mib(text), expected, "{text:?}");
    }
}

/// Step 1.1 of `docs/ecs-rules.md`.
#[test]
fn the_task_size_counts_before_the_sum_of_the_containers() {
    let containers = json!([
        { "name": "a", "image": "a", "cpu": 100, "memory": 300, "memoryReservation": 200 },
        { "name": "b", "image": "b", "cpu": 28, "memory": 56 }
    ]);
    let d = Definition::parse(&spec(json!({ "containerDefinitions": containers }))).unwrap();
    assert_eq!(
        (d.demand.cpu, d.demand.memory),
        (128, 256),
        "the reservation counts before the limit"
    );
    let sized = json!({ "containerDefinitions": containers, "cpu": "1 vCPU", "memory": "1 GB" });
    let d = Definition::parse(&spec(sized)).unwrap();
    assert_eq!((d.demand.cpu, d.demand.memory), (1024, 1024));
}

/// Step 1.1 of `docs/ecs-rules.md`.
#[test]
fn only_fixed_host_ports_are_demanded() {
    let ports = json!([
        { "containerPort": 80, "hostPort": 8080 }, { "containerPort": 81, "hostPort": 0 }, { "containerPort": 82 },
        { "containerPort": 53, "hostPort": 53, "protocol": "udp" }
    ]);
    let d = Definition::parse(&one(json!({ "portMappings": ports }))).unwrap();
    assert_eq!(d.demand.ports.into_iter().collect::<Vec<_>>(), [8080]);
    assert_eq!(d.demand.ports_udp.into_iter().collect::<Vec<_>>(), [53]);
    let mut host = one(json!({ "portMappings": [{ "containerPort": 80 }] }));
    host.network_mode = Some(tallyman_crds::ecs::NetworkMode::Host);
    let d = Definition::parse(&host).unwrap();
    assert_eq!(
        d.demand.ports.into_iter().collect::<Vec<_>>(),
        [80],
        "in host mode every port is the host's"
    );
}

/// Step 5.1 of `docs/ecs-rules.md`.
#[test]
fn a_health_check_counts_when_its_container_is_essential() {
    let check = json!({ "command": ["CMD", "true"] });
    assert!(
        Definition::parse(&one(json!({ "healthCheck": check })))
            .unwrap()
            .health_checked
    );
    assert!(
        !Definition::parse(&one(json!({ "healthCheck": { "command": ["NONE"] } })))
            .unwrap()
            .health_checked
    );
    let sidecar = spec(json!({ "containerDefinitions": [
        { "name": "a", "image": "a", "memory": 6 },
        { "name": "b", "image": "b", "memory": 6, "essential": false, "healthCheck": check }
    ]}));
    let d = Definition::parse(&sidecar).unwrap();
    assert!(!d.health_checked);
    assert_eq!(
        d.demand.attributes.len(),
        1,
        "the host must be able to check all the same"
    );
}

#[test]
fn each_problem_names_its_field() {
    let at = |f: &str| format!("`spec.containerDefinitions[app].{f}`");
    let rows = [
        (
            spec(json!({ "containerDefinitions": [] })),
            "`spec.containerDefinitions` must hold 1 to 10".to_owned(),
        ),
        (one(json!({ "image": " " })), at("image")),
        (one(json!({ "memory": null })), at("memory")),
        (
            one(json!({ "memory": 10, "memoryReservation": 20 })),
            at("memoryReservation"),
        ),
        (
            one(json!({ "essential": false })),
            "`spec.containerDefinitions` at least one".to_owned(),
        ),
        (
            one(json!({ "portMappings": [{ "containerPort": 0 }] })),
            at("portMappings.containerPort"),
        ),
        (
            one(json!({ "portMappings": [{ "containerPort": 70000 }] })),
            at("portMappings.containerPort"),
        ),
        (
            one(json!({ "portMappings": [{ "containerPort": 1, "hostPort": 70000 }] })),
            at("portMappings.hostPort"),
        ),
        (
            one(
                json!({ "portMappings": [{ "containerPort": 1, "hostPort": 9 }, { "containerPort": 2, "hostPort": 9 }] }),
            ),
            at("portMappings.hostPort"),
        ),
        (
            spec(
                json!({ "cpu": "lots", "containerDefinitions": [{ "name": "app", "image": "a", "memory": 6 }] }),
            ),
            "`spec.cpu` must be CPU units".to_owned(),
        ),
        (
            spec(
                json!({ "memory": "1 MB", "containerDefinitions": [{ "name": "app", "image": "a" }] }),
            ),
            "`spec.memory` must be MiB".to_owned(),
        ),
        (
            spec(
                json!({ "cpu": "64", "containerDefinitions": [{ "name": "app", "image": "a", "memory": 6, "cpu": 65 }] }),
            ),
            "`spec.cpu` must be at least the 65".to_owned(),
        ),
        (
            spec(json!({ "containerDefinitions": [
                { "name": "app", "image": "a", "memory": 6 }, { "name": "app", "image": "a", "memory": 6 }
            ]})),
            at("name"),
        ),
        (
            spec(json!({ "networkMode": "none", "containerDefinitions": [
                { "name": "app", "image": "a", "memory": 6, "portMappings": [{ "containerPort": 80 }] }
            ]})),
            at("portMappings"),
        ),
        (
            spec(json!({ "networkMode": "host", "containerDefinitions": [
                { "name": "app", "image": "a", "memory": 6, "portMappings": [{ "containerPort": 80, "hostPort": 81 }] }
            ]})),
            at("portMappings.hostPort"),
        ),
        (
            spec(json!({ "networkMode": "awsvpc", "containerDefinitions": [
                { "name": "app", "image": "a", "memory": 6, "portMappings": [{ "containerPort": 80, "hostPort": 81 }] }
            ]})),
            at("portMappings.hostPort"),
        ),
        (
            spec(json!({ "networkMode": "host", "containerDefinitions": [
                { "name": "app", "image": "a", "memory": 6, "portMappings": [{ "containerPortRange": "80-81" }] }
            ]})),
            at("portMappings.containerPortRange"),
        ),
        (
            one(json!({ "portMappings": [{ "containerPortRange": "82-81" }] })),
            at("portMappings.containerPortRange"),
        ),
        (
            one(
                json!({ "portMappings": [{ "containerPortRange": "80-90" }, { "containerPort": 85 }] }),
            ),
            at("portMappings.containerPortRange"),
        ),
        (
            one(
                json!({ "portMappings": [{ "containerPortRange": "80-90" }, { "containerPortRange": "90-99" }] }),
            ),
            at("portMappings.containerPortRange"),
        ),
    ];
    for (spec, expected) in rows {
        let found = problems(&spec);
        assert!(
            found.iter().any(|p| p.starts_with(&expected)),
            "{expected} in {found:?}"
        );
    }
}

#[test]
fn what_ecs_takes_is_taken() {
    // One container port on both protocols, or on two host ports (ECS NetworkBinding; the API server's rule allows it).
    for ports in [
        json!([{ "containerPort": 53, "protocol": "tcp" }, { "containerPort": 53, "protocol": "udp" }]),
        json!([{ "containerPort": 80, "hostPort": 8080 }, { "containerPort": 80, "hostPort": 8081 }]),
        json!([{ "containerPortRange": "80-90" }, { "containerPortRange": "80-90", "protocol": "udp" }, { "containerPort": 91 }]),
    ] {
        let d = Definition::parse(&one(json!({ "portMappings": ports })));
        assert!(d.is_ok(), "{ports}: {d:?}");
    }
}

#[test]
fn overrides_change_the_demand_and_stay_in_bounds() {
    let base = one(json!({ "cpu": 100, "memory": 200 }));
    let d = Definition::parse(&base).unwrap();
    let demand = |o: Value| {
        let o = serde_json::from_value(o).unwrap();
        let found = d.demand_with(&base, Some(&o));
        (found.cpu, found.memory)
    };
    assert_eq!(demand(json!({})), (100, 200));
    assert_eq!(
        demand(json!({ "containerOverrides": [{ "name": "app", "cpu": 7, "memory": 9 }] })),
        (7, 9)
    );
    assert_eq!(
        demand(json!({ "containerOverrides": [{ "name": "other", "cpu": 7 }] })),
        (100, 200)
    );
    assert_eq!(
        demand(json!({ "cpu": "1 vCPU", "memory": "1 GB" })),
        (1024, 1024)
    );
}

#[test]
fn containers_that_wait_in_vain_are_a_problem_with_their_field() {
    let after = |name: &str, on: &str, condition: &str| {
        json!({ "name": name, "image": "a", "memory": 64,
                "dependsOn": [{ "containerName": on, "condition": condition }] })
    };
    let of = |containers: Value| problems(&spec(json!({ "containerDefinitions": containers })));
    assert_eq!(
        of(json!([after("a", "b", "START"), after("b", "a", "START")])),
        [
            "`spec.containerDefinitions[a].dependsOn` must not close a circle: `a` waits for `b`, which waits for `a`"
        ]
    );
    let told = of(json!([after("a", "b", "SUCCESS"), { "name": "b", "image": "b", "memory": 64 }]));
    assert!(told[0].contains("`essential: false`"), "{told:?}");
    let mut host = spec(json!({ "containerDefinitions": [
        { "name": "a", "image": "a", "memory": 64, "links": ["b"] }, { "name": "b", "image": "b", "memory": 64 }
    ]}));
    assert!(Definition::parse(&host).is_ok());
    host.network_mode = Some(tallyman_crds::ecs::NetworkMode::Host);
    assert_eq!(
        problems(&host),
        ["`spec.containerDefinitions[a].links` must be absent unless `networkMode` is `bridge`"]
    );
}

/// Step 1.1 of `docs/ecs-rules.md`.
#[test]
fn attributes_that_a_host_must_have_follow_from_the_definition() {
    let required = |container: Value, platform: Value| -> Vec<String> {
        let mut spec = one(container);
        spec.runtime_platform = serde_json::from_value(platform).unwrap();
        let demand = Definition::parse(&spec).unwrap().demand;
        demand
            .attributes
            .into_iter()
            .map(|(name, value)| match value {
                None => name,
                Some(value) => format!("{name}={value}"),
            })
            .collect()
    };
    const C: &str = "com.amazonaws.ecs.capability";
    let driver = |name: &str| json!({ "logConfiguration": { "logDriver": name } });
    let logs = |name: &str| {
        vec![
            format!("{C}.docker-remote-api.1.18"),
            format!("{C}.logging-driver.{name}"),
        ]
    };
    let nothing = Vec::<String>::new();
    for (container, expected) in [
        (json!({}), nothing.clone()),
        (
            json!({ "privileged": true }),
            vec![format!("{C}.privileged-container")],
        ),
        (json!({ "privileged": false }), nothing),
        (
            json!({ "portMappings": [{ "containerPortRange": "80-90" }] }),
            vec!["ecs.capability.network.container-port-range".to_owned()],
        ),
        (driver("json-file"), logs("json-file")),
        (driver("none"), logs("none")),
        (driver("splunk"), logs("splunk")),
        (
            json!({ "dockerLabels": { "a": "b" } }),
            vec![format!("{C}.docker-remote-api.1.18")],
        ),
        (
            json!({ "linuxParameters": { "initProcessEnabled": true } }),
            vec![format!("{C}.docker-remote-api.1.25")],
        ),
        (
            json!({ "dockerSecurityOptions": ["apparmor:x", "label:type:x", "no-new-privileges"] }),
            vec![format!("{C}.apparmor"), format!("{C}.selinux")],
        ),
        (
            json!({ "healthCheck": { "command": ["CMD", "true"] } }),
            vec!["ecs.capability.container-health-check".to_owned()],
        ),
    ] {
        assert_eq!(
            required(container.clone(), json!(null)),
            expected,
            "{container}"
        );
    }
    let platform = json!({ "cpuArchitecture": "X86_64", "operatingSystemFamily": "LINUX" });
    assert_eq!(
        required(json!({}), platform),
        ["ecs.cpu-architecture=x86_64", "ecs.os-family=LINUX"]
    );
    assert_eq!(
        required(json!({}), json!({ "cpuArchitecture": "ARM64" })),
        ["ecs.cpu-architecture=arm64"]
    );
}

#[test]
fn a_size_and_a_volume_plugin_must_be_offered_by_the_host() {
    let of = |more: Value| {
        let mut spec = self::spec(
            json!({ "containerDefinitions": [{ "name": "a", "image": "b", "memory": 8 }] }),
        );
        let fields: tallyman_crds::TaskDefinitionSpec = {
            let mut all = serde_json::to_value(&spec).unwrap();
            all.as_object_mut()
                .unwrap()
                .extend(more.as_object().unwrap().clone());
            serde_json::from_value(all).unwrap()
        };
        spec.clone_from(&fields);
        let demand = Definition::parse(&spec).unwrap().demand;
        demand.attributes.into_keys().collect::<Vec<_>>()
    };
    let size = ["ecs.capability.task-cpu-mem-limit"];
    assert_eq!(of(json!({ "cpu": "256" })), size);
    assert_eq!(of(json!({ "memory": "256" })), size);
    let file_system =
        json!([{ "name": "data", "efsVolumeConfiguration": { "fileSystemId": "fs-1" } }]);
    assert_eq!(
        of(json!({ "volumes": file_system })),
        ["ecs.capability.efs.fs-1"]
    );
    let volume = |driver: &str| json!({ "volumes": [{ "name": "v", "dockerVolumeConfiguration": { "driver": driver } }] });
    for driver in ["rexray/ebs", "rexray/ebs:0.11"] {
        assert_eq!(
            of(volume(driver)),
            ["ecs.capability.docker-plugin.rexray/ebs"]
        );
    }
    assert_eq!(of(volume("")), [] as [&str; 0]);
    let faults = |on: bool| json!({ "networkMode": "awsvpc", "enableFaultInjection": on });
    assert_eq!(
        of(faults(true)),
        ["ecs.capability.fault-injection", "ecs.capability.task-eni"]
    );
    assert_eq!(of(faults(false)), ["ecs.capability.task-eni"]);
}

fn refused_of(spec: Value) -> Vec<String> {
    let found = unsupported::of_definition(&self::spec(spec));
    found.refused.into_keys().collect()
}

#[test]
fn unsupported_fields_are_refused_or_left_out_and_always_told() {
    let with = |field: &str, value: Value| {
        let mut spec =
            json!({ "containerDefinitions": [{ "name": "app", "image": "a", "memory": 6 }] });
        spec[field] = value;
        spec
    };
    let mut inner = with("tags", json!([]));
    inner["containerDefinitions"][0]["credentialSpecs"] = json!(["credentialspec:file://x.json"]);
    inner["containerDefinitions"][0]["privileged"] = json!(false);
    assert_eq!(
        refused_of(inner),
        ["spec.containerDefinitions[app].credentialSpecs"]
    );
    for (field, value) in [
        ("networkMode", "awsvpc"),
        ("pidMode", "task"),
        ("ipcMode", "task"),
    ] {
        assert_eq!(refused_of(with(field, json!(value))), Vec::<String>::new());
    }
    let volumes = json!([
        { "name": "v" },
        { "name": "shared", "dockerVolumeConfiguration": { "scope": "shared", "autoprovision": true } },
        { "name": "efs", "configuredAtLaunch": false, "efsVolumeConfiguration": {
            "fileSystemId": "fs-1", "rootDirectory": "/a", "transitEncryption": "DISABLED",
            "authorizationConfig": { "iam": "DISABLED" } } },
    ]);
    assert_eq!(refused_of(with("volumes", volumes)), Vec::<String>::new());
    let volumes = json!([
        { "name": "efs", "efsVolumeConfiguration": { "fileSystemId": "fs-1",
            "transitEncryption": "ENABLED", "transitEncryptionPort": 2999,
            "authorizationConfig": { "accessPointId": "fsap-1", "iam": "ENABLED" } } },
        { "name": "ebs", "configuredAtLaunch": true },
        { "name": "s3", "s3filesVolumeConfiguration": { "fileSystemArn": "arn:x" } },
    ]);
    let platform =
        json!({ "cpuArchitecture": "ARM64", "operatingSystemFamily": "WINDOWS_SERVER_2022_CORE" });
    assert_eq!(
        refused_of(with("runtimePlatform", platform)),
        ["spec.runtimePlatform.operatingSystemFamily: WINDOWS_SERVER_2022_CORE"]
    );
    assert_eq!(
        refused_of(with("volumes", volumes)),
        [
            "spec.volumes[0].efsVolumeConfiguration.authorizationConfig.accessPointId",
            "spec.volumes[0].efsVolumeConfiguration.authorizationConfig.iam: ENABLED",
            "spec.volumes[0].efsVolumeConfiguration.transitEncryption: ENABLED",
            "spec.volumes[0].efsVolumeConfiguration.transitEncryptionPort",
            "spec.volumes[1].configuredAtLaunch",
            "spec.volumes[2].s3filesVolumeConfiguration",
        ]
    );
    assert_eq!(
        refused_of(with(
            "requiresCompatibilities",
            json!(["FARGATE", "MANAGED_INSTANCES"])
        )),
        ["spec.requiresCompatibilities: FARGATE, MANAGED_INSTANCES"]
    );
    for compatible in [json!([]), json!(["FARGATE", "EC2"]), json!(["EXTERNAL"])] {
        let refused = refused_of(with("requiresCompatibilities", compatible));
        assert_eq!(refused, Vec::<String>::new());
    }
    assert_eq!(
        refused_of(with("executionRoleArn", json!("arn:x"))),
        Vec::<String>::new()
    );
    let disk = json!({ "sizeInGiB": 30 });
    let told = unsupported::of_definition(&spec(with("ephemeralStorage", disk)));
    assert_eq!(
        told.sentence().as_deref(),
        Some(
            "Not supported: `spec.ephemeralStorage` (the disk of a machine of Fargate; containers here have their host's). \
             Remove the field to run this here."
        )
    );
    let told = unsupported::of_definition(&spec(with("executionRoleArn", json!("arn:x"))));
    let told = told.sentence().unwrap();
    assert!(
        told.starts_with("Left out: `spec.executionRoleArn` (no role is assumed: "),
        "{told}"
    );
    // Those of one reason stand together.
    let proxy = json!({ "containerName": "envoy", "type": "APPMESH" });
    let mut both = with("proxyConfiguration", proxy);
    both["inferenceAccelerators"] = json!([{ "deviceName": "d", "deviceType": "eia2.medium" }]);
    both["volumes"] = json!([
        { "name": "a", "efsVolumeConfiguration": { "fileSystemId": "fs-1",
            "transitEncryption": "ENABLED", "transitEncryptionPort": 2999 } },
    ]);
    let told = unsupported::of_definition(&spec(both));
    assert_eq!(
        told.sentence().as_deref(),
        Some(
            "Not supported: `spec.inferenceAccelerators` (Elastic Inference is a closed product of AWS; `resourceRequirements` \
             asks for GPUs); `spec.proxyConfiguration` (of App Mesh, a service of AWS; a proxy of your own is a container of the \
             task); `spec.volumes[0].efsVolumeConfiguration.transitEncryption: ENABLED`, \
             `spec.volumes[0].efsVolumeConfiguration.transitEncryptionPort` (needs the mount helper of EFS; encrypt the network \
             below instead). Remove these fields to run this here."
        )
    );
}

#[test]
fn services_and_tasks_say_what_is_not_supported() {
    let service = |v: Value| -> ServiceSpec { serde_json::from_value(v).unwrap() };
    let found = unsupported::of_service(&service(json!({
        "taskDefinition": "web",
        "loadBalancers": [{ "targetGroupArn": "x", "containerName": "app", "containerPort": 80 }],
        "deploymentConfiguration": { "deploymentCircuitBreaker": { "enable": true, "rollback": true } },
        "networkConfiguration": { "awsvpcConfiguration": { "subnets": ["subnet-1"], "assignPublicIp": "ENABLED" } }
    })));
    let fields = |of: &BTreeMap<String, &str>| of.keys().cloned().collect::<Vec<_>>();
    assert_eq!(fields(&found.refused), ["spec.loadBalancers"]);
    assert_eq!(fields(&found.ignored), ["spec.networkConfiguration"]);
    let plain = service(json!({
        "taskDefinition": "web", "desiredCount": 2, "launchType": "EC2", "schedulingStrategy": "REPLICA",
        "deploymentConfiguration": { "minimumHealthyPercent": 50, "maximumPercent": 150 }, "clientToken": "x",
        "placementConstraints": [{ "type": "distinctInstance" }], "placementStrategy": [{ "type": "random" }]
    }));
    assert_eq!(
        unsupported::of_service(&plain),
        unsupported::Unsupported::default()
    );
    let task: TaskSpec = serde_json::from_value(json!({
        "taskDefinition": "web", "overrides": { "ephemeralStorage": { "sizeInGiB": 30 }, "containerOverrides": [{ "name": "a", "command": ["x"] }] }
    }))
    .unwrap();
    assert_eq!(
        fields(&unsupported::of_task(&task).refused),
        ["spec.overrides.ephemeralStorage"]
    );
}

proptest! {
    #[test]
    fn quantities_never_panic_and_are_positive(text in "[0-9. vVcCpPuUgGbB-]{0,24}") {
        for parsed in [cpu_units(&text), memory_mib(&text)].into_iter().flatten() {
            prop_assert!(parsed > 0);
        }
    }

    #[test]
    fn whole_vcpus_and_gigabytes_are_1024_each(n in 1_i64..100_000) {
        prop_assert_eq!(cpu_units(&format!("{n} vCPU")), Some(n * 1024));
        prop_assert_eq!(memory_mib(&format!("{n}GB")), Some(n * 1024));
        prop_assert_eq!(cpu_units(&n.to_string()), Some(n));
    }
}
