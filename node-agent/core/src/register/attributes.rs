//! Attributes of a host, and what it can do as ECS names it.

use std::collections::BTreeMap;

use tallyman_agent_engine::EngineDescription;
use tallyman_crds::Attribute;
use tallyman_crds::capabilities;

use crate::register::HostFacts;
use crate::settings::Settings;

/// First engine API that ECS has a capability for.
const FIRST_API_MINOR: u32 = 17;

/// Sorted by name. A custom attribute may set `ecs.availability-zone`, never a capability.
pub(super) fn attributes(
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
pub(super) const FIRELENS: [&str; 6] = [
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
pub(super) fn offered(
    settings: &Settings,
    host: &HostFacts,
    description: &EngineDescription,
) -> Vec<String> {
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
        capabilities::PARAMETERS,
        capabilities::LOG_PARAMETERS,
        capabilities::PRIVATE_REGISTRY,
        capabilities::ORDERING,
        capabilities::RESTARTS,
        capabilities::MANY_CPUS,
        capabilities::EXTERNAL,
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
        (
            !settings.volumes.file_systems.is_empty(),
            capabilities::FILE_SYSTEMS,
        ),
        // Without it nobody could tell for how long it was silent.
        (host.boot_id.is_some(), capabilities::STOP_AFTER),
        (host.gpus.are_shared(), capabilities::GPU_SHARING),
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
    let file_systems = settings.volumes.file_systems.keys();
    let file_systems = file_systems.map(|id| capabilities::file_system(id));
    apis.chain(drivers)
        .chain(plugins)
        .chain(file_systems)
        .chain(privileged)
        .chain(labels)
        .chain(named.map(str::to_owned))
        .collect()
}
