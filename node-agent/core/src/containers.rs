//! From a task definition to what the engine is told (ECS ContainerDefinition).
//!
//! This is the one place that says which fields of a container definition are honoured: the
//! destructuring in [`plan_one`] names every field, and `_` marks those that nothing honours yet. The
//! operator refuses or reports those; here they are left alone.

use std::collections::BTreeMap;
use std::time::Duration;

use tallyman_agent_engine::{
    ContainerSpec, HealthCheck, Link, LocalImage, Mount, MountSource, Network,
};
use tallyman_crds::arn::Arns;
use tallyman_crds::ecs::{
    ContainerDefinition, ContainerOverride, ContainerRestartPolicy, KeyValuePair,
};
use tallyman_crds::labels;
use tallyman_crds::order;
use tallyman_crds::roles;
use tallyman_crds::{PlannedDefinition, PlannedTask, TaskPolicy};

use crate::firelens::{FirelensSettings, Lens};
use crate::host_paths::HostPaths;
use crate::ids::TaskUid;
use crate::metadata::Injection;
use crate::names;
use crate::needs::Needs;
use crate::parameters;
use crate::pause;
use crate::planned::{PlannedContainer, RestartPolicy};
use crate::ports::ports;
use crate::refused::Refused;
use crate::settings::gpus::GpuSettings;
use crate::settings::network::Networking;
use crate::settings::volumes::VolumeSettings;
use crate::shares::Asked;
use crate::volumes;

/// Smallest and largest CPU shares that an engine takes; ECS clamps `cpu` to them.
const CPU_SHARES: (i64, i64) = (2, 262_144);
/// Engines refuse a smaller limit; ECS documents the same minimum.
const MEMORY_MINIMUM_MIB: i64 = 6;
pub(crate) const MIB: i64 = 1024 * 1024;
/// ECS defaults of a health check.
const HEALTH_INTERVAL: Duration = Duration::from_secs(30);
const HEALTH_TIMEOUT: Duration = Duration::from_secs(5);
const HEALTH_RETRIES: u32 = 3;
/// ECS default of `restartPolicy.restartAttemptPeriod`.
const RESTART_ATTEMPT_PERIOD: Duration = Duration::from_secs(300);

/// What all containers of a host share.
#[derive(Clone, Copy, Debug)]
pub struct Scope<'a> {
    /// Namespace of the task.
    pub namespace: &'a str,
    /// Cluster of the host.
    pub cluster: &'a str,
    /// uid of the host's ContainerInstance.
    pub container_instance_uid: &'a str,
    /// Grace of containers without `stopTimeout`.
    pub stop_timeout: Duration,
    /// How the host provides volumes.
    pub volumes: &'a VolumeSettings,
    /// How tasks reach the network.
    pub networking: &'a Networking,
    /// How containers get GPUs.
    pub gpus: &'a GpuSettings,
    /// Image of pause containers.
    pub pause_image: &'a LocalImage,
    /// Most processes of each task (`ECS_TASK_PIDS_LIMIT`).
    pub pids_limit: Option<i64>,
    /// No container may be `privileged` (`ECS_DISABLE_PRIVILEGED`).
    pub disable_privileged: bool,
    /// What tasks may ask of the host; `None` is the default.
    pub policy: Option<&'a TaskPolicy>,
    /// What containers are told of their agent.
    pub injection: &'a Injection,
    /// How log routers are served.
    pub firelens: &'a FirelensSettings,
}

/// The containers of one task, in the order of its definition.
///
/// # Errors
/// [`Refused`] when a value cannot be told to any engine.
pub fn plan(
    planned: &PlannedDefinition,
    task: &PlannedTask,
    scope: &Scope<'_>,
) -> Result<Vec<PlannedContainer>, Refused> {
    let definition = &planned.definition;
    let network = pause::network(planned, task, scope)?;
    if definition.container_definitions.is_empty() {
        return Err(Refused::Empty);
    }
    let lens = Lens::of(planned, task, &network, scope)?;
    let mut containers: Vec<PlannedContainer> = Vec::new();
    containers.extend(pause::plan(planned, task, scope));
    for container in &definition.container_definitions {
        if containers.iter().any(|other| other.name == container.name) {
            return Err(Refused::TwiceNamed(container.name.clone()));
        }
        let changes = task.overrides.as_ref().and_then(|overrides| {
            overrides
                .container_overrides
                .iter()
                .find(|o| o.name.as_deref() == Some(container.name.as_str()))
        });
        containers.push(plan_one(
            container, changes, planned, task, &network, &lens, scope,
        )?);
    }
    if let Some(tangle) = order::tangles(&definition.container_definitions)
        .into_iter()
        .next()
    {
        return Err(Refused::Order(tangle));
    }
    lens.order(&mut containers);
    pause::hold(&mut containers);
    Ok(containers)
}

fn plan_one(
    container: &ContainerDefinition,
    changes: Option<&ContainerOverride>,
    planned: &PlannedDefinition,
    task: &PlannedTask,
    network: &Network,
    lens: &Lens<'_>,
    scope: &Scope<'_>,
) -> Result<PlannedContainer, Refused> {
    let ContainerDefinition {
        name,
        image,
        cpu,
        memory,
        memory_reservation,
        port_mappings,
        essential,
        entry_point,
        command,
        environment,
        docker_labels,
        user,
        working_directory,
        links,
        depends_on: _, // read by `order::edges`
        restart_policy,
        start_timeout,
        mount_points,
        volumes_from,
        stop_timeout,
        health_check,
        disable_networking,
        // Read by `parameters::of`.
        linux_parameters: _,
        hostname: _,
        privileged: _,
        readonly_root_filesystem: _,
        dns_servers: _,
        dns_search_domains: _,
        extra_hosts: _,
        docker_security_options: _,
        interactive: _,
        pseudo_terminal: _,
        ulimits: _,
        log_configuration: _,
        system_controls: _,
        // Read by `Needs::of`.
        repository_credentials: _,
        environment_files: _,
        secrets: _,
        // Read by `Lens::of`.
        firelens_configuration: _,
        // The operator's: it says in the plan which digest is meant.
        version_consistency: _,
        resource_requirements: _, // read by `Asked::by`
        // Nothing honours these yet.
        credential_specs: _,
    } = container;
    let nothing = ContainerOverride::default();
    let ContainerOverride {
        name: _,
        command: other_command,
        environment: other_environment,
        cpu: other_cpu,
        memory: other_memory,
        memory_reservation: other_reservation,
        // Read by `Needs::of`.
        environment_files: _,
        resource_requirements: _, // read by `Asked::by`
    } = changes.unwrap_or(&nothing);
    let gpus = Asked::by(container, changes.unwrap_or(&nothing), planned, task)?;

    if image.trim().is_empty() {
        return Err(Refused::NoImage(name.clone()));
    }
    let uid = TaskUid::new(task.uid.clone());
    // ECS `disableNetworking`: loopback only, whatever the task's network mode.
    let network = match disable_networking {
        Some(true) => Network::None,
        Some(false) | None => network.clone(),
    };
    let memory_bytes =
        mebibytes(other_memory.or(*memory)).map(|mib| mib.max(MEMORY_MINIMUM_MIB) * MIB);
    let mappings = ports(name, port_mappings, &network)?;
    let grace = seconds(*stop_timeout).unwrap_or(scope.stop_timeout);
    let command = if other_command.is_empty() {
        command
    } else {
        other_command
    };
    let health_check = health_check
        .as_ref()
        .map(|check| health(name, check))
        .transpose()?;
    let mut environment = variables(name, environment, other_environment)?;
    let has_role = roles::named(&planned.definition, task.overrides.as_ref()).is_some();
    scope.injection.add(&uid, name, has_role, &mut environment);
    lens.variables(container, &network, &mut environment);
    let mut labels = our_labels(unreserved(docker_labels), name, planned, task, scope);
    let mut mounts = volumes::mounts(name, mount_points, planned, task, scope)?;
    let host_paths = HostPaths::of(&mounts, mount_points, planned, scope.policy);
    if let Some((folder, path)) = scope.injection.file_folder(&uid, name) {
        mounts.push(Mount {
            source: MountSource::HostPath(folder),
            path,
            read_only: true,
        });
    }
    mounts.extend(lens.mounts(container));
    gpus.tell(
        container,
        scope.gpus,
        &mut environment,
        &mut labels,
        &mut mounts,
    );
    let spec = ContainerSpec {
        name: names::container(&planned.family, planned.revision, name, &uid, 1),
        image: image.trim().to_owned(),
        entrypoint: (!entry_point.is_empty()).then(|| entry_point.clone()),
        command: (!command.is_empty()).then(|| command.clone()),
        environment,
        secrets: Vec::new(),
        labels,
        cpu_shares: Some(
            i64::from(other_cpu.or(*cpu).unwrap_or(0)).clamp(CPU_SHARES.0, CPU_SHARES.1),
        ),
        memory_bytes,
        memory_reservation_bytes: mebibytes(other_reservation.or(*memory_reservation))
            .map(|mib| mib * MIB),
        // Put in by `TaskLimits::apply`, once the host has said what it can do.
        cpu_quota: None,
        group: None,
        runtime: scope.gpus.runtime.clone().filter(|_| gpus.share.is_some()),
        // Chosen when it is created.
        gpus: Vec::new(),
        ports: mappings.fixed,
        links: linked(name, links, &network, planned, &uid)?,
        network,
        user: user.clone().filter(|user| !user.is_empty()),
        working_directory: working_directory.clone().filter(|path| !path.is_empty()),
        mounts,
        volumes_from: volumes::sources(volumes_from, planned, task),
        stop_timeout: Some(grace),
        health_check: health_check.clone(),
        parameters: parameters::of(
            container,
            &planned.definition,
            memory_bytes,
            task,
            &pause::engine_name(planned, task),
            lens,
            scope,
        )?,
    };
    let health_checked = health_check.is_some_and(|check| !is_none(&check.test));
    let mut planned = PlannedContainer::new(
        name.clone(),
        essential.unwrap_or(true),
        health_checked,
        grace,
        spec,
    );
    if let Some(digest) = task.images.get(name) {
        planned.pin(digest);
    }
    planned.cpu_units = i64::from(other_cpu.or(*cpu).unwrap_or(0));
    planned.memory_mib = i64::from(other_memory.or(*memory).unwrap_or(0));
    planned.gpus = gpus.share;
    planned.host_paths = host_paths;
    planned.exposed = mappings.exposed;
    planned.dynamic = mappings.dynamic;
    planned.edges = order::edges(container);
    planned.start_timeout = seconds(*start_timeout);
    planned.needs = Needs::of(container, changes.unwrap_or(&nothing))?;
    planned.needs.route(lens.sources(container));
    planned.router = lens.configuration(container);
    planned.routed = lens.routed(container);
    planned.restart = restart_policy.as_ref().and_then(restart);
    Ok(planned)
}

/// The containers of the same task that it reaches by name. Links that cannot be read are told with the
/// order of the containers.
fn linked(
    container: &str,
    links: &[String],
    network: &Network,
    planned: &PlannedDefinition,
    uid: &TaskUid,
) -> Result<Vec<Link>, Refused> {
    match network {
        Network::Bridge => {}
        _ if links.is_empty() => {}
        Network::Host | Network::None | Network::Named(_) | Network::Container(_) => {
            return Err(Refused::LinksOffTheBridge(container.to_owned()));
        }
    }
    let link = |(on, alias): (&str, &str)| Link {
        container: names::container(&planned.family, planned.revision, on, uid, 1),
        alias: alias.to_owned(),
    };
    let read = links.iter().filter_map(|text| order::link(text));
    Ok(read.map(link).collect())
}

/// A policy that is not enabled is none.
fn restart(policy: &ContainerRestartPolicy) -> Option<RestartPolicy> {
    let ContainerRestartPolicy {
        enabled,
        ignored_exit_codes,
        restart_attempt_period,
    } = policy;
    enabled.then(|| RestartPolicy {
        ignored_exit_codes: ignored_exit_codes.clone(),
        attempt_period: seconds(*restart_attempt_period).unwrap_or(RESTART_ATTEMPT_PERIOD),
    })
}

/// A positive number of seconds; ECS reads 0 as absent.
fn seconds(value: Option<i32>) -> Option<Duration> {
    value
        .and_then(|seconds| u64::try_from(seconds).ok())
        .filter(|seconds| *seconds > 0)
        .map(Duration::from_secs)
}

/// A positive number of MiB; ECS reads 0 as absent.
fn mebibytes(value: Option<i32>) -> Option<i64> {
    value.map(i64::from).filter(|mib| *mib > 0)
}

/// The definition's variables in order, those of the override in their places or at the end.
fn variables(
    container: &str,
    defined: &[KeyValuePair],
    overridden: &[KeyValuePair],
) -> Result<Vec<(String, String)>, Refused> {
    let mut variables: Vec<(String, String)> = Vec::new();
    for pair in defined.iter().chain(overridden) {
        let name = pair
            .name
            .clone()
            .filter(|name| !name.is_empty())
            .ok_or_else(|| Refused::NamelessVariable(container.to_owned()))?;
        let value = pair.value.clone().unwrap_or_default();
        match variables.iter_mut().find(|(known, _)| *known == name) {
            Some(known) => known.1 = value,
            None => variables.push((name, value)),
        }
    }
    Ok(variables)
}

/// What the user wants as labels, less what is reserved.
pub(crate) fn unreserved(wanted: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    wanted
        .iter()
        .filter(|(key, _)| {
            !key.starts_with("com.amazonaws.ecs.") && !key.starts_with("tallyman.dev/")
        })
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect()
}

pub(crate) fn our_labels(
    mut set: BTreeMap<String, String>,
    container: &str,
    planned: &PlannedDefinition,
    task: &PlannedTask,
    scope: &Scope<'_>,
) -> BTreeMap<String, String> {
    let ours = [
        (
            labels::ecs::TASK_ARN,
            Arns {
                region: scope.injection.region(),
                namespace: scope.namespace,
            }
            .task(scope.cluster, &task.name),
        ),
        (labels::ecs::CONTAINER_NAME, container.to_owned()),
        (labels::ecs::TASK_DEFINITION_FAMILY, planned.family.clone()),
        (
            labels::ecs::TASK_DEFINITION_VERSION,
            planned.revision.to_string(),
        ),
        (labels::ecs::CLUSTER, scope.cluster.to_owned()),
        (labels::CONTAINER_ATTEMPT, "1".to_owned()),
    ];
    set.extend(ours.map(|(key, value)| (key.to_owned(), value)));
    let stop_after = task.stop_after.map(|seconds| seconds.to_string());
    set.extend(stop_after.map(|seconds| (labels::CONTAINER_STOP_AFTER.to_owned(), seconds)));
    set.extend(of_task(task, scope));
    set
}

/// Labels that say whose a container or a volume is.
pub(crate) fn of_task(
    task: &PlannedTask,
    scope: &Scope<'_>,
) -> impl Iterator<Item = (String, String)> {
    let ours = [
        (labels::CONTAINER_TASK_UID, task.uid.as_str()),
        (labels::CONTAINER_TASK, task.name.as_str()),
        (labels::CONTAINER_NAMESPACE, scope.namespace),
        (labels::CONTAINER_INSTANCE_UID, scope.container_instance_uid),
    ];
    ours.map(|(key, value)| (key.to_owned(), value.to_owned()))
        .into_iter()
}

fn health(
    container: &str,
    check: &tallyman_crds::ecs::HealthCheck,
) -> Result<HealthCheck, Refused> {
    let tallyman_crds::ecs::HealthCheck {
        command,
        interval,
        timeout,
        retries,
        start_period,
    } = check;
    if command.is_empty() {
        return Err(Refused::EmptyHealthCheck(container.to_owned()));
    }
    Ok(HealthCheck {
        test: if is_none(command) {
            vec!["NONE".to_owned()]
        } else {
            command.clone()
        },
        interval: seconds(*interval).unwrap_or(HEALTH_INTERVAL),
        timeout: seconds(*timeout).unwrap_or(HEALTH_TIMEOUT),
        retries: retries
            .and_then(|retries| u32::try_from(retries).ok())
            .filter(|retries| *retries > 0)
            .unwrap_or(HEALTH_RETRIES),
        start_period: seconds(*start_period),
    })
}

/// `["NONE"]` switches a health check off.
fn is_none(command: &[String]) -> bool {
    command.first().is_some_and(|word| word == "NONE")
}
