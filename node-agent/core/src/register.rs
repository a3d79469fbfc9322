//! What the host says of itself: resources, attributes, capabilities (ECS RegisterContainerInstance).
//!
//! A capability is advertised only when containers really get it: placement trusts it.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use tallyman_agent_engine::EngineDescription;
use tallyman_crds::capabilities;
use tallyman_crds::{Attribute, HostReport, Impairment, Resources};

use crate::backoff::{Backoff, later};
use crate::disk::EngineDisk;
use crate::failing::Complaint;
use crate::fault_injection::Abilities;
use crate::gpu_info::GpuInfo;
use crate::metadata::Roles;
use crate::settings::Settings;

/// CPU units of one processor.
const UNITS_PER_CPU: i64 = 1024;
/// First engine API that ECS has a capability for.
const FIRST_API_MINOR: u32 = 17;
/// `appliedPlanGeneration` alone is not worth more than one write in this time.
const GENERATION_PACE: Duration = Duration::from_secs(5);
const FAILED: Backoff = Backoff {
    first: Duration::from_millis(500),
    longest: Duration::from_secs(30),
};

/// What the shell finds out about the host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HostFacts {
    /// Version of the agent.
    pub agent_version: String,
    /// Address at which published ports are reached.
    pub address: Option<String>,
    /// Changes when the host boots.
    pub boot_id: Option<String>,
    /// How its containers are given credentials for roles, if they are.
    pub roles: Option<Roles>,
    /// What faults its tasks may ask for.
    pub faults: Abilities,
    /// Its GPUs for tasks.
    pub gpus: GpuInfo,
    /// Why plan and records cannot be written to disk; `None` while they can.
    pub ledger_trouble: Option<String>,
}

/// What the agent knows of its engine.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EngineFacts {
    /// As it described itself last, in an earlier run of the agent perhaps; `None` before the first answer ever.
    pub description: Option<EngineDescription>,
    /// It has answered, or failed to, in this run: before that nothing is said of the host.
    pub heard: bool,
    /// Why it cannot be reached; `None` while it can.
    pub trouble: Option<String>,
    /// Whether its disk has room.
    pub disk: EngineDisk,
    /// What it fails to do, whichever task asks ([`crate::Failing`]).
    pub failing: Option<Complaint>,
}

impl EngineFacts {
    /// What is wrong with its disk, for people.
    pub fn disk_complaint(&self) -> Option<String> {
        let folder = self.description.as_ref().map(|d| d.data_root.as_str());
        self.disk.complaint(folder.unwrap_or_default())
    }
}

/// Why a host cannot register.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CannotRegister {
    /// Nothing is left for tasks.
    #[error(
        "ECS_RESERVED_MEMORY is {reserved} MiB, but the host has only {total} MiB; reserve less"
    )]
    Memory {
        /// `ECS_RESERVED_MEMORY`.
        reserved: i64,
        /// Of the host.
        total: i64,
    },
}

/// The part of the ContainerInstance's status that the agent writes.
///
/// # Errors
/// [`CannotRegister`] when more is reserved than there is.
pub fn report(
    settings: &Settings,
    host: &HostFacts,
    engine: &EngineFacts,
    applied_generation: i64,
) -> Result<HostReport, CannotRegister> {
    let description = engine.description.as_ref();
    let registered_resources = match description {
        Some(description) => resources(settings, host, description)?,
        None => Resources::default(),
    };
    Ok(HostReport {
        agent_version: host.agent_version.clone(),
        engine: description
            .map(|d| format!("{} {}", d.name, short(&d.version)))
            .unwrap_or_default(),
        engine_api_version: description
            .map(|d| d.api_version.clone())
            .unwrap_or_default(),
        engine_reachable: description.is_some() && engine.trouble.is_none(),
        registered_resources,
        attributes: attributes(settings, host, description),
        address: host.address.clone(),
        boot_id: host.boot_id.clone(),
        engine_id: description
            .map(|d| d.engine_id.clone())
            .filter(|id| !id.is_empty()),
        applied_plan_generation: applied_generation,
        impairment: impairment(engine),
        message: message(host, engine),
    })
}

/// Why tasks that come would not start; an engine that is away is told of by itself.
fn impairment(engine: &EngineFacts) -> Option<Impairment> {
    if engine.disk_complaint().is_some() {
        Some(Impairment::DiskFull)
    } else if engine.failing.as_ref().is_some_and(|told| told.bars) {
        Some(Impairment::EngineFails)
    } else {
        None
    }
}

/// What is wrong with the host as a whole, the worst first.
fn message(host: &HostFacts, engine: &EngineFacts) -> Option<String> {
    let all = [
        engine.trouble.clone(),
        engine.disk_complaint(),
        engine.failing.as_ref().map(|told| told.words.clone()),
        host.ledger_trouble.clone(),
        host.gpus.trouble.clone(),
    ];
    let all: Vec<String> = all.into_iter().flatten().collect();
    (!all.is_empty()).then(|| all.join(" "))
}

/// A version without what the packager added: `20.10.24+dfsg1` is `20.10.24`.
fn short(version: &str) -> &str {
    version.split('+').next().unwrap_or(version)
}

fn resources(
    settings: &Settings,
    host: &HostFacts,
    description: &EngineDescription,
) -> Result<Resources, CannotRegister> {
    let memory = description.memory_mib - settings.registration.reserved_memory_mib;
    if memory < 0 {
        return Err(CannotRegister::Memory {
            reserved: settings.registration.reserved_memory_mib,
            total: description.memory_mib,
        });
    }
    let ports = |ports: &[u16]| ports.iter().map(|port| i32::from(*port)).collect();
    Ok(Resources {
        cpu: description.cpus.saturating_mul(UNITS_PER_CPU),
        memory,
        ports: ports(&settings.registration.reserved_ports),
        ports_udp: ports(&settings.registration.reserved_ports_udp),
        gpu: host.gpus.ids.clone(),
    })
}

/// Sorted by name. A custom attribute may set `ecs.availability-zone`, never a capability.
fn attributes(
    settings: &Settings,
    host: &HostFacts,
    description: Option<&EngineDescription>,
) -> Vec<Attribute> {
    let mut all: BTreeMap<String, Option<String>> = settings
        .registration
        .instance_attributes
        .iter()
        .filter(|(name, _)| {
            name.as_str() == "ecs.availability-zone"
                || !(name.starts_with("ecs.") || name.starts_with("com.amazonaws.ecs."))
        })
        .map(|(name, value)| (name.clone(), Some(value.clone())))
        .collect();
    if let Some(description) = description {
        let os_type = description.os_type.to_ascii_lowercase();
        all.insert(
            "ecs.os-family".to_owned(),
            Some(os_type.to_ascii_uppercase()),
        );
        all.insert("ecs.os-type".to_owned(), Some(os_type));
        all.insert(
            "ecs.cpu-architecture".to_owned(),
            Some(architecture(&description.architecture).to_owned()),
        );
        for capability in offered(settings, host, description) {
            all.insert(capability, None);
        }
        if let Some(version) = &host.gpus.driver_version {
            all.insert(capabilities::nvidia_driver(version), None);
        }
    }
    all.into_iter()
        .map(|(name, value)| Attribute { name, value })
        .collect()
}

/// What the agent does for log routers.
const FIRELENS: [&str; 6] = [
    capabilities::FIRELENS_FLUENTD,
    capabilities::FIRELENS_FLUENTBIT,
    capabilities::FIRELENS_CONFIG_FILE,
    capabilities::FIRELENS_CONFIG_S3,
    capabilities::FIRELENS_DRIVER,
    capabilities::FIRELENS_BUFFER_LIMIT,
];

fn architecture(engine: &str) -> &str {
    match engine {
        "aarch64" | "arm64" => "arm64",
        "x86_64" | "amd64" => "x86_64",
        other => other,
    }
}

/// What this host can do, as ECS names it.
fn offered(settings: &Settings, host: &HostFacts, description: &EngineDescription) -> Vec<String> {
    const OLD: &str = "com.amazonaws.ecs.capability";
    let minor = description
        .api_version
        .strip_prefix("1.")
        .and_then(|minor| minor.parse::<u32>().ok())
        .unwrap_or(0);
    let apis = (FIRST_API_MINOR..=minor).map(|minor| format!("{OLD}.docker-remote-api.1.{minor}"));
    let wanted = |driver: &&String| {
        settings
            .registration
            .logging_drivers
            .as_ref()
            .is_none_or(|list| list.contains(driver))
    };
    let drivers = description
        .logging_drivers
        .iter()
        .filter(wanted)
        .map(|driver| format!("{OLD}.logging-driver.{driver}"));
    let privileged =
        (!settings.registration.disable_privileged).then(|| format!("{OLD}.privileged-container"));
    let settings_of = [
        (settings.registration.selinux_capable, "selinux"),
        (settings.registration.apparmor_capable, "apparmor"),
    ];
    let labels = settings_of
        .into_iter()
        .filter(|(capable, _)| *capable)
        .map(|(_, name)| format!("{OLD}.{name}"));
    let always = [
        capabilities::PORT_RANGES,
        capabilities::SHARED_NAMESPACES,
        capabilities::SECRETS,
        capabilities::LOG_SECRETS,
        capabilities::ENVIRONMENT_FILES,
        capabilities::PRIVATE_REGISTRY,
    ];
    let by_setting = [
        (
            !settings.tasks.disable_health_check,
            capabilities::HEALTH_CHECK,
        ),
        (
            !settings.tasks.environment_file_folders.is_empty(),
            capabilities::HOST_ENVIRONMENT_FILES,
        ),
        (settings.tasks.cpu_mem_limit, capabilities::TASK_LIMITS),
        (settings.network.task_eni, capabilities::TASK_ADDRESS),
        (host.roles.is_some(), capabilities::TASK_ROLE),
        (
            host.roles.is_some_and(|roles| roles.network_host),
            capabilities::TASK_ROLE_NETWORK_HOST,
        ),
        (host.faults.black_hole_port, capabilities::FAULT_INJECTION),
        (
            host.faults.black_hole_port && host.faults.impairment,
            capabilities::FAULT_INJECTION_NETEM,
        ),
    ];
    let by_setting = by_setting.into_iter().filter(|(on, _)| *on);
    // Output reaches a log router by this driver of the engine.
    let routes = description.logging_drivers.iter().any(|d| d == "fluentd");
    let firelens = FIRELENS.iter().copied().filter(|_| routes);
    let named = always
        .into_iter()
        .chain(by_setting.map(|(_, name)| name))
        .chain(firelens);
    let plugins = description.volume_drivers.iter();
    let plugins = plugins.map(|driver| capabilities::docker_plugin(driver));
    apis.chain(drivers)
        .chain(plugins)
        .chain(privileged)
        .chain(labels)
        .chain(named.map(str::to_owned))
        .collect()
}

/// When the host's report is sent: at once when something changed, with patience when only the plan's
/// generation did.
#[derive(Clone, Debug, Default)]
pub struct HostOutbox {
    sent: Option<HostReport>,
    sent_at: Option<Timestamp>,
    failures: u32,
    not_before: Option<Timestamp>,
}

impl HostOutbox {
    /// When `report` is to be sent; `None` if it need not be.
    pub fn due(&self, report: &HostReport, now: Timestamp) -> Option<Timestamp> {
        let at = match &self.sent {
            None => now,
            Some(sent) if sent == report => return None,
            Some(sent) => {
                let same_otherwise = HostReport {
                    applied_plan_generation: report.applied_plan_generation,
                    ..sent.clone()
                } == *report;
                match self.sent_at {
                    Some(sent_at) if same_otherwise => later(sent_at, GENERATION_PACE),
                    _ => now,
                }
            }
        };
        Some(at.max(self.not_before.unwrap_or(Timestamp::MIN)))
    }

    /// The API server took `report`.
    pub fn sent(&mut self, report: HostReport, now: Timestamp) {
        self.sent = Some(report);
        self.sent_at = Some(now);
        self.failures = 0;
        self.not_before = None;
    }

    /// It did not.
    pub fn failed(&mut self, salt: u64, now: Timestamp) {
        self.failures = self.failures.saturating_add(1);
        self.not_before = Some(FAILED.next(self.failures, salt, now));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::{DiskSpace, Room};
    use crate::settings::registration::Registration;

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

    #[test]
    fn resources_are_units_and_mebibytes_less_what_is_reserved() {
        let settings = Settings {
            registration: Registration {
                reserved_memory_mib: 950,
                ..Registration::default()
            },
            ..Settings::default()
        };
        let report = report(&settings, &HostFacts::default(), &engine(), 7).unwrap();
        assert_eq!(report.registered_resources.cpu, 2048);
        assert_eq!(report.registered_resources.memory, 3000);
        assert_eq!(
            report.registered_resources.ports,
            [22, 2375, 2376, 51678, 51679]
        );
        assert_eq!(report.engine, "docker 20.10.24");
        assert!(report.engine_reachable);
        assert_eq!(report.applied_plan_generation, 7);
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
        let error = report(&settings, &HostFacts::default(), &engine(), 0).unwrap_err();
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
        let report = report(&settings, &HostFacts::default(), &engine(), 0).unwrap();
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
                trouble: None,
            },
            ..HostFacts::default()
        };
        let report = |host: &HostFacts| report(&Settings::default(), host, &engine(), 0).unwrap();
        let has = |host: &HostFacts| {
            let name = "ecs.capability.nvidia-driver-version.535.104.05";
            report(host).attributes.iter().any(|a| a.name == name)
        };
        assert_eq!(report(&host).registered_resources.gpu, ["GPU-1"]);
        assert!(has(&host) && !has(&HostFacts::default()));
        assert_eq!(report(&host).message, None);
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
            let report = report(&Settings::default(), &host, engine, 0).unwrap();
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
            let report = report(&Settings::default(), &HostFacts::default(), &engine, 0).unwrap();
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
        let report = report(&Settings::default(), &HostFacts::default(), &engine, 0).unwrap();
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
                generation,
            )
            .unwrap()
        };
        let mut outbox = HostOutbox::default();
        assert_eq!(outbox.due(&report(1), at(100)), Some(at(100)));
        outbox.sent(report(1), at(100));
        assert_eq!(outbox.due(&report(1), at(101)), None);
        assert_eq!(outbox.due(&report(2), at(101)), Some(at(105)));
        let mut other = report(2);
        other.engine_reachable = false;
        assert_eq!(outbox.due(&other, at(101)), Some(at(101)));
    }
}
