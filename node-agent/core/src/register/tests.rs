//! Of a host's registration, row by row.

use jiff::Timestamp;
use tallyman_crds::capabilities;

use super::attributes::{FIRELENS, offered};
use super::*;
use crate::disk::{DiskSpace, Room};
use crate::gpu_info::Mps;
use crate::settings::registration::Registration;
use crate::volumes::NfsExport;

fn description() -> EngineDescription {
    EngineDescription {
        name: "docker".to_owned(),
        version: "20.10.24+dfsg1".to_owned(),
        api_version: "1.41".to_owned(),
        cpus: 2,
        memory_mib: 3950,
        operating_system: "Debian".to_owned(),
        os_type: "linux".to_owned(),
        architecture: "aarch64".to_owned(),
        kernel: "6".to_owned(),
        cgroup_version: "1".to_owned(),
        storage_driver: "overlay2".to_owned(),
        data_root: "/var/lib/docker".to_owned(),
        engine_id: "X".to_owned(),
        logging_drivers: vec!["json-file".to_owned(), "syslog".to_owned()],
        cgroup_driver: "cgroupfs".to_owned(),
        volume_drivers: vec!["local".to_owned()],
        live_restore: true,
    }
}

fn engine() -> EngineFacts {
    EngineFacts {
        description: Some(description()),
        heard: true,
        trouble: None,
        disk: EngineDisk::default(),
        failing: None,
    }
}

/// What a host tells first, with nothing else to say of itself.
fn first_report(settings: &Settings, engine: &EngineFacts) -> Result<HostReport, CannotRegister> {
    report(settings, &HostFacts::default(), engine, Fence::default())
}

#[test]
fn resources_are_units_and_mebibytes_less_what_is_reserved() {
    let settings = Settings {
        registration: Registration {
            reserved_memory_mib: 950,
            ..Registration::default()
        },
        ..Settings::default()
    };
    let report = report(
        &settings,
        &HostFacts::default(),
        &engine(),
        Fence {
            epoch: 3,
            generation: 7,
        },
    )
    .unwrap();
    assert_eq!(report.registered_resources.cpu, 2048);
    assert_eq!(report.registered_resources.memory, 3000);
    assert_eq!(
        report.registered_resources.ports,
        [22, 2375, 2376, 51678, 51679]
    );
    assert_eq!(report.engine, "docker 20.10.24");
    assert!(report.engine_reachable);
    assert_eq!(report.applied_plan_generation, 7);
    assert_eq!(report.applied_plan_epoch, 3);
}

#[test]
fn more_reserved_than_there_is_cannot_register() {
    let settings = Settings {
        registration: Registration {
            reserved_memory_mib: 4000,
            ..Registration::default()
        },
        ..Settings::default()
    };
    let error = first_report(&settings, &engine()).unwrap_err();
    assert!(
        error.to_string().contains("ECS_RESERVED_MEMORY is 4000"),
        "{error}"
    );
}

#[test]
fn attributes_are_ecs_spelled_and_capabilities_cannot_be_claimed() {
    let settings = Settings {
        registration: Registration {
            instance_attributes: [
                ("stack", "prod"),
                ("ecs.availability-zone", "a"),
                ("ecs.capability.task-eni", "x"),
            ]
            .map(|(k, v)| (k.to_owned(), v.to_owned()))
            .into(),
            disable_privileged: true,
            apparmor_capable: true,
            logging_drivers: Some(vec!["json-file".to_owned()]),
            ..Registration::default()
        },
        ..Settings::default()
    };
    let report = first_report(&settings, &engine()).unwrap();
    let value = |name: &str| {
        report
            .attributes
            .iter()
            .find(|a| a.name == name)
            .map(|a| a.value.as_deref())
    };
    assert_eq!(value("stack"), Some(Some("prod")));
    assert_eq!(value("ecs.availability-zone"), Some(Some("a")));
    assert_eq!(value("ecs.os-type"), Some(Some("linux")));
    assert_eq!(value("ecs.os-family"), Some(Some("LINUX")));
    assert_eq!(value("ecs.cpu-architecture"), Some(Some("arm64")));
    // A custom attribute may not be called so: it has no value.
    assert_eq!(value("ecs.capability.task-eni"), Some(None));
    assert_eq!(
        value("ecs.capability.pid-ipc-namespace-sharing"),
        Some(None)
    );
    assert_eq!(
        value("com.amazonaws.ecs.capability.docker-remote-api.1.17"),
        Some(None)
    );
    assert_eq!(
        value("com.amazonaws.ecs.capability.docker-remote-api.1.41"),
        Some(None)
    );
    assert_eq!(
        value("com.amazonaws.ecs.capability.docker-remote-api.1.42"),
        None
    );
    assert_eq!(
        value("com.amazonaws.ecs.capability.logging-driver.json-file"),
        Some(None)
    );
    assert_eq!(
        value("com.amazonaws.ecs.capability.logging-driver.syslog"),
        None
    );
    assert_eq!(
        value("com.amazonaws.ecs.capability.privileged-container"),
        None
    );
    assert_eq!(value("com.amazonaws.ecs.capability.apparmor"), Some(None));
    assert_eq!(value("com.amazonaws.ecs.capability.selinux"), None);
}

#[test]
fn log_routers_are_offered_where_the_engine_can_send_to_them() {
    let offers = |drivers: &[&str]| {
        let drivers = drivers.iter().map(|driver| (*driver).to_owned());
        let description = EngineDescription {
            logging_drivers: drivers.collect(),
            ..description()
        };
        let offered = offered(&Settings::default(), &HostFacts::default(), &description);
        FIRELENS.map(|name| offered.iter().any(|one| one == name))
    };
    assert_eq!(offers(&["json-file"]), [false; 6]);
    assert_eq!(offers(&["json-file", "fluentd"]), [true; 6]);
}

#[test]
fn file_systems_are_offered_by_their_ids() {
    let offers = |file_systems: &[(&str, &str)]| {
        let mut settings = Settings::default();
        settings.volumes.file_systems = file_systems
            .iter()
            .map(|(id, export)| ((*id).to_owned(), NfsExport::parse(export).unwrap()))
            .collect();
        let offered = offered(&settings, &HostFacts::default(), &description());
        let of_efs = offered
            .into_iter()
            .filter(|one| one.starts_with("ecs.capability.efs"));
        of_efs.collect::<Vec<_>>()
    };
    assert!(offers(&[]).is_empty());
    assert_eq!(
        offers(&[("fs-1", "nfs.lan:/one"), ("fs-2", "nfs.lan:/two")]),
        [
            "ecs.capability.efs.fs-1",
            "ecs.capability.efs.fs-2",
            "ecs.capability.efs"
        ]
    );
}

#[test]
fn faults_are_offered_as_far_as_the_host_can_make_them() {
    for (black_hole_port, impairment, wanted) in [
        (false, false, [false, false]),
        (false, true, [false, false]),
        (true, false, [true, false]),
        (true, true, [true, true]),
    ] {
        let faults = Abilities {
            black_hole_port,
            impairment,
        };
        let host = HostFacts {
            faults,
            ..HostFacts::default()
        };
        let offered = offered(&Settings::default(), &host, &description());
        let names = [
            capabilities::FAULT_INJECTION,
            capabilities::FAULT_INJECTION_NETEM,
        ];
        let has = names.map(|name| offered.iter().any(|one| one == name));
        assert_eq!(has, wanted, "{faults:?}");
    }
}

#[test]
fn gpus_are_registered_by_id_and_their_driver_is_a_capability() {
    let host = HostFacts {
        gpus: GpuInfo {
            driver_version: Some("535.104.05".to_owned()),
            ids: vec!["GPU-1".to_owned()],
            memory: [("GPU-1".to_owned(), 4096)].into(),
            ..GpuInfo::default()
        },
        ..HostFacts::default()
    };
    let report =
        |host: &HostFacts| report(&Settings::default(), host, &engine(), Fence::default()).unwrap();
    let has = |host: &HostFacts| {
        let name = "ecs.capability.nvidia-driver-version.535.104.05";
        report(host).attributes.iter().any(|a| a.name == name)
    };
    assert_eq!(report(&host).registered_resources.gpu, ["GPU-1"]);
    assert!(has(&host) && !has(&HostFacts::default()));
    assert_eq!(report(&host).message, None);
    let memory = &report(&host).registered_resources.gpu_memory[0];
    assert_eq!((memory.gpu_id.as_str(), memory.memory), ("GPU-1", 4096));
    let shares = |host: &HostFacts| {
        let mut attributes = report(host).attributes.into_iter();
        attributes.any(|a| a.name == capabilities::GPU_SHARING)
    };
    assert!(!shares(&host));
    let mut shared = host.clone();
    shared.gpus.mps = Some(Mps {
        directory: "/run/mps-ecs".to_owned(),
        listens: true,
    });
    assert!(shares(&shared));
    assert_eq!(report(&shared).message, None);
    // The daemon goes: its memory stays registered, since tasks that run hold parts of it.
    assert!(shared.gpus.looked(false) && !shares(&shared));
    let said = report(&shared).message.unwrap_or_default();
    assert!(
        said.contains("not shared while MPS' control daemon"),
        "{said}"
    );
    assert_eq!(report(&shared).registered_resources.gpu_memory.len(), 1);
    let none = HostFacts {
        gpus: GpuInfo::none("why".to_owned()),
        ..HostFacts::default()
    };
    let said = report(&none).message.unwrap_or_default();
    assert!(said.contains("no GPU was found: why."), "{said}");
}

#[test]
fn all_that_is_wrong_is_told_the_worst_first() {
    let mut disk = EngineDisk::default();
    let full = Room {
        free: 0,
        total: 1 << 30,
    };
    disk.looked(Some(DiskSpace {
        bytes: full,
        inodes: Room::default(),
    }));
    let host = HostFacts {
        ledger_trouble: Some("Not written.".to_owned()),
        ..HostFacts::default()
    };
    let mut engine = EngineFacts { disk, ..engine() };
    let message = |engine: &EngineFacts| {
        let report = report(&Settings::default(), &host, engine, Fence::default()).unwrap();
        assert_eq!(report.impairment, Some(Impairment::DiskFull));
        (report.engine_reachable, report.message.unwrap_or_default())
    };
    let (reachable, said) = message(&engine);
    assert!(reachable, "a full disk is no engine that is away");
    assert!(
        said.starts_with(
            "The disk of the container engine (/var/lib/docker) has hardly any space left"
        ) && said.ends_with(" Not written."),
        "{said}"
    );
    engine.trouble = Some("Away.".to_owned());
    assert!(message(&engine).1.starts_with("Away. The disk"));
}

#[test]
fn an_engine_that_fails_is_an_impairment_when_it_bars_the_host() {
    for bars in [false, true] {
        let words = "The container engine fails to start containers.".to_owned();
        let failing = Some(Complaint { words, bars });
        let engine = EngineFacts {
            failing,
            ..engine()
        };
        let report = first_report(&Settings::default(), &engine).unwrap();
        assert_eq!(report.impairment, bars.then_some(Impairment::EngineFails));
        assert!(
            report
                .message
                .is_some_and(|said| said.contains("fails to start"))
        );
    }
}

#[test]
fn an_engine_that_is_away_keeps_what_is_known_of_the_host() {
    let engine = EngineFacts {
        trouble: Some("The engine is away.".to_owned()),
        ..engine()
    };
    let report = first_report(&Settings::default(), &engine).unwrap();
    assert!(!report.engine_reachable);
    assert_eq!(report.registered_resources.cpu, 2048);
    assert_eq!(report.message.as_deref(), Some("The engine is away."));
}

#[test]
fn a_generation_alone_waits_and_anything_else_does_not() {
    let at = |second| Timestamp::from_second(second).unwrap();
    let report = |generation| {
        report(
            &Settings::default(),
            &HostFacts::default(),
            &engine(),
            Fence {
                epoch: 1,
                generation,
            },
        )
        .unwrap()
    };
    let mut outbox = HostOutbox::default();
    assert_eq!(outbox.due(&report(1), at(100)), at(100));
    outbox.sent(report(1), at(100));
    assert_eq!(outbox.due(&report(1), at(101)), at(400));
    assert_eq!(outbox.due(&report(2), at(101)), at(105));
    let mut other = report(2);
    other.engine_reachable = false;
    assert_eq!(outbox.due(&other, at(101)), at(101));
}

#[test]
fn tasks_that_the_api_server_forgot_are_named_with_what_to_do() {
    let said = |n: usize| {
        let host = HostFacts {
            forgotten: (1..=n).map(|n| format!("web-{n}")).collect(),
            ..HostFacts::default()
        };
        let report = report(&Settings::default(), &host, &engine(), Fence::default()).unwrap();
        report.message.unwrap_or_default()
    };
    assert_eq!(said(0), "");
    assert!(said(1).starts_with("1 task runs that"), "{}", said(1));
    assert!(said(1).contains("web-1. "), "{}", said(1));
    assert!(said(1).contains("tallyman.dev/stopForgottenTasks=true"));
    assert!(said(12).starts_with("12 tasks run that"), "{}", said(12));
    assert!(said(12).contains("web-10, ..."), "{}", said(12));
}

#[test]
fn a_report_is_sent_again_when_it_may_be_lost() {
    let at = |seconds| jiff::Timestamp::from_second(seconds).unwrap();
    let mut outbox = HostOutbox::default();
    let told = HostReport::default();
    outbox.sent(told.clone(), at(100));
    assert_eq!(
        outbox.due(&told, at(101)),
        at(400),
        "after five minutes anyway"
    );
    assert_eq!(outbox.due(&told, at(20)), at(320), "the clock was put back");
    outbox.again();
    assert_eq!(outbox.due(&told, at(101)), at(101));
}
