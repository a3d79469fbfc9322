//! Attributes that a task definition requires of its host (ECS `requiresAttributes`): the host must have each of them,
//! or no task of it is placed there.
//!
//! Only what our agents can advertise is derived (`node-agent/core/src/register.rs`); what they cannot do at all is
//! refused as unsupported instead.

use std::collections::BTreeMap;

use tallyman_crds::TaskDefinitionSpec;
use tallyman_crds::capabilities::{
    ENVIRONMENT_FILES, FAULT_INJECTION, FIRELENS_BUFFER_LIMIT, FIRELENS_CONFIG_FILE,
    FIRELENS_CONFIG_S3, FIRELENS_FLUENTBIT, FIRELENS_FLUENTD, GPU_SHARING, HEALTH_CHECK,
    HOST_ENVIRONMENT_FILES, LOG_SECRETS, PORT_RANGES, PRIVATE_REGISTRY, SECRETS, SHARED_NAMESPACES,
    TASK_ADDRESS, TASK_LIMITS, TASK_ROLE, TASK_ROLE_NETWORK_HOST, docker_plugin, file_system,
};
use tallyman_crds::ecs::{
    CPUArchitecture, ContainerDefinition, EnvironmentFileType, FirelensConfigurationType,
    NetworkMode, OSFamily, ResourceRequirement,
};
use tallyman_crds::firelens::{self, BUFFER_LIMIT, External};

use crate::definition::checked;

const CAPABILITY: &str = "com.amazonaws.ecs.capability";

/// Names of attributes, with the value that each must have; `None` is any.
pub type Requirements = BTreeMap<String, Option<String>>;

/// What `spec` requires.
pub fn of(spec: &TaskDefinitionSpec) -> Requirements {
    let mut required: Requirements = spec
        .container_definitions
        .iter()
        .flat_map(of_container)
        .map(|name| (name, None))
        .collect();
    let plugins = spec
        .volumes
        .iter()
        .filter_map(|v| v.docker_volume_configuration.as_ref())
        .filter_map(|docker| docker.driver.as_deref())
        .filter(|driver| !driver.is_empty());
    for driver in plugins {
        required.insert(docker_plugin(driver), None);
    }
    let file_systems = spec
        .volumes
        .iter()
        .filter_map(|v| v.efs_volume_configuration.as_ref());
    for efs in file_systems {
        required.insert(file_system(&efs.file_system_id), None);
    }
    if spec.cpu.is_some() || spec.memory.is_some() {
        required.insert(TASK_LIMITS.to_owned(), None);
    }
    if spec.network_mode == Some(NetworkMode::Awsvpc) {
        required.insert(TASK_ADDRESS.to_owned(), None);
    }
    if spec.task_role_arn.is_some() {
        let role = match spec.network_mode {
            Some(NetworkMode::Host) => TASK_ROLE_NETWORK_HOST,
            _ => TASK_ROLE,
        };
        required.insert(role.to_owned(), None);
    }
    if spec.enable_fault_injection == Some(true) {
        required.insert(FAULT_INJECTION.to_owned(), None);
    }
    if spec.pid_mode.is_some() || spec.ipc_mode.is_some() {
        required.insert(SHARED_NAMESPACES.to_owned(), None);
    }
    if let Some(platform) = &spec.runtime_platform {
        if let Some(architecture) = platform.cpu_architecture {
            let value = match architecture {
                CPUArchitecture::X8664 => "x86_64",
                CPUArchitecture::Arm64 => "arm64",
            };
            required.insert("ecs.cpu-architecture".to_owned(), Some(value.to_owned()));
        }
        // Other families are refused as unsupported: no agent of ours runs there.
        if platform.operating_system_family == Some(OSFamily::Linux) {
            required.insert("ecs.os-family".to_owned(), Some("LINUX".to_owned()));
        }
    }
    required
}

/// The engine API that a field needs is what the ECS API reference says of it.
fn of_container(c: &ContainerDefinition) -> Vec<String> {
    let mut names = Vec::new();
    let api = |minor: u32| format!("{CAPABILITY}.docker-remote-api.1.{minor}");
    if c.privileged == Some(true) {
        names.push(format!("{CAPABILITY}.privileged-container"));
    }
    if let Some(log) = &c.log_configuration {
        let driver = log.log_driver.as_str();
        names.push(format!("{CAPABILITY}.logging-driver.{driver}"));
    }
    if c.log_configuration.is_some() || !c.docker_labels.is_empty() || !c.ulimits.is_empty() {
        names.push(api(18));
    }
    let linux = c.linux_parameters.as_ref();
    if linux.is_some_and(|l| l.init_process_enabled == Some(true)) {
        names.push(api(25));
    }
    for (words, capability) in [("label", "selinux"), ("apparmor", "apparmor")] {
        let option = |o: &String| o.starts_with(words);
        if c.docker_security_options.iter().any(option) {
            names.push(format!("{CAPABILITY}.{capability}"));
        }
    }
    let kept_elsewhere = [
        (!c.secrets.is_empty(), SECRETS),
        (
            c.environment_files
                .iter()
                .any(|f| f.r#type != EnvironmentFileType::File),
            ENVIRONMENT_FILES,
        ),
        (
            c.environment_files
                .iter()
                .any(|f| f.r#type == EnvironmentFileType::File),
            HOST_ENVIRONMENT_FILES,
        ),
        (c.repository_credentials.is_some(), PRIVATE_REGISTRY),
        (
            c.log_configuration
                .as_ref()
                .is_some_and(|l| !l.secret_options.is_empty()),
            LOG_SECRETS,
        ),
    ];
    names.extend(
        kept_elsewhere
            .into_iter()
            .filter(|(used, _)| *used)
            .map(|(_, name)| name.to_owned()),
    );
    if c.port_mappings
        .iter()
        .any(|m| m.container_port_range.is_some())
    {
        names.push(PORT_RANGES.to_owned());
    }
    let shares = |r: &ResourceRequirement| r.sharing_strategy.is_some();
    if c.resource_requirements.iter().any(shares) {
        names.push(GPU_SHARING.to_owned());
    }
    if checked(c) {
        names.push(HEALTH_CHECK.to_owned());
    }
    names.extend(of_firelens(c).into_iter().map(str::to_owned));
    names
}

/// What the container needs as log router, or to send to one.
fn of_firelens(c: &ContainerDefinition) -> Vec<&'static str> {
    let mut names = Vec::new();
    if let Some(router) = &c.firelens_configuration {
        names.push(match router.r#type {
            FirelensConfigurationType::Fluentd => FIRELENS_FLUENTD,
            FirelensConfigurationType::Fluentbit => FIRELENS_FLUENTBIT,
        });
        let options = firelens::router_options(router).ok();
        names.extend(
            options
                .and_then(|options| options.external)
                .map(|external| match external {
                    External::File(_) => FIRELENS_CONFIG_FILE,
                    External::Kept(_) => FIRELENS_CONFIG_S3,
                }),
        );
    }
    if firelens::sends(c).is_some_and(|log| log.options.contains_key(BUFFER_LIMIT)) {
        names.push(FIRELENS_BUFFER_LIMIT);
    }
    names
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use tallyman_crds::ecs::TaskOverride;
    use tallyman_crds::size;

    use super::*;

    #[test]
    fn files_of_an_override_require_what_those_of_the_definition_would() {
        let spec: TaskDefinitionSpec = serde_json::from_value(json!({ "containerDefinitions": [{
            "name": "app", "image": "x", "environmentFiles": [{ "type": "configMap", "value": "settings/app.env" }],
        }] }))
        .unwrap();
        let with = |kind: &str| -> TaskOverride {
            serde_json::from_value(json!({ "containerOverrides": [{
                "name": "app", "environmentFiles": [{ "type": kind, "value": "/etc/app.env" }],
            }] }))
            .unwrap()
        };
        for (overrides, wanted, other) in [
            (None, ENVIRONMENT_FILES, HOST_ENVIRONMENT_FILES),
            (
                Some(with("file")),
                HOST_ENVIRONMENT_FILES,
                ENVIRONMENT_FILES,
            ),
            (
                Some(with("secret")),
                ENVIRONMENT_FILES,
                HOST_ENVIRONMENT_FILES,
            ),
        ] {
            let required = of(&size::overridden(&spec, overrides.as_ref()));
            assert!(required.contains_key(wanted), "{overrides:?}");
            assert!(!required.contains_key(other), "{overrides:?}");
        }
    }
}
