//! A task definition past the door: what it demands of a host, and what is wrong with one that does not pass.
//!
//! The CRD refuses most of this already; the core says it again, because objects may be older than the rules
//! (ECS RegisterTaskDefinition).

use std::collections::BTreeSet;

use tallyman_crds::TaskDefinitionSpec;
use tallyman_crds::ecs::{ContainerDefinition, NetworkMode, TaskOverride};
use tallyman_crds::firelens;
use tallyman_crds::gpus;
use tallyman_crds::order;
pub use tallyman_crds::quantity::{cpu_units, memory_mib};
use tallyman_crds::roles::RoleSources;
use tallyman_crds::size::{self, Size};
use tallyman_crds::sources::Source;

use crate::placement::{self, Query};
use crate::ports;
use crate::problem::Problem;
use crate::requirements::{self, Requirements};

/// What a task takes from the host that runs it.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Demand {
    /// CPU units; 1024 are one core.
    pub cpu: i64,
    /// MiB.
    pub memory: i64,
    /// Whole GPUs.
    pub gpus: i64,
    /// MiB of one GPU that it shares with others; 0 is none.
    pub gpu_memory: i64,
    /// Addresses of its own: 1 with `networkMode: awsvpc` (ECS: an elastic network interface).
    pub addresses: i64,
    /// Fixed TCP host ports.
    pub ports: BTreeSet<u16>,
    /// Fixed UDP host ports.
    pub ports_udp: BTreeSet<u16>,
    /// Attributes the host must have.
    pub attributes: Requirements,
}

/// A valid task definition.
#[derive(Clone, Debug, PartialEq)]
pub struct Definition {
    /// What one task of it takes.
    pub demand: Demand,
    /// An essential container has a health check: the task counts as healthy when it is HEALTHY.
    pub health_checked: bool,
    /// `memberOf` expressions that are true of every host of its tasks.
    pub member_of: Vec<Query>,
}

impl Definition {
    /// Validates `spec` and computes what a task of it demands.
    ///
    /// # Errors
    /// Every problem found, each naming its field.
    pub fn parse(spec: &TaskDefinitionSpec) -> Result<Definition, Vec<Problem>> {
        let mut problems = Vec::new();
        let containers = &spec.container_definitions;
        if containers.is_empty() || containers.len() > 10 {
            problems.push(Problem::new(
                "spec.containerDefinitions",
                format!("must hold 1 to 10 containers, not {}", containers.len()),
            ));
        }
        let task_cpu = parsed(
            &spec.cpu,
            "spec.cpu",
            "CPU units such as `256`, or `1 vCPU`",
            cpu_units,
            &mut problems,
        );
        let task_memory = parsed(
            &spec.memory,
            "spec.memory",
            "MiB such as `512`, or `1 GB`",
            memory_mib,
            &mut problems,
        );
        if !containers.is_empty() && !containers.iter().any(essential) {
            problems.push(Problem::new(
                "spec.containerDefinitions",
                "at least one container must be `essential: true`",
            ));
        }
        let mut names = BTreeSet::new();
        for c in containers {
            if !names.insert(c.name.as_str()) {
                problems.push(Problem::new(
                    format!("spec.containerDefinitions[{}].name", c.name),
                    "must be unique in the task definition",
                ));
            }
            check_container(c, spec.network_mode, task_memory, &mut problems);
        }
        if let Some(role) = &spec.task_role_arn {
            let wrong = RoleSources::of(role).err();
            problems.extend(wrong.map(|wrong| Problem::new("spec.taskRoleArn", wrong)));
        }
        for tangle in order::tangles(containers) {
            let field = format!(
                "spec.containerDefinitions[{}].{}",
                tangle.container, tangle.field
            );
            problems.push(Problem::new(field, tangle.message));
        }
        for mistake in firelens::read(containers).err().into_iter().flatten() {
            let field = format!(
                "spec.containerDefinitions[{}].{}",
                mistake.container, mistake.field
            );
            let problem = Problem::new(field, mistake.message);
            // A reference that cannot be read was told above.
            if !problems.contains(&problem) {
                problems.push(problem);
            }
        }
        check_fixed_ports(spec, &mut problems);
        let member_of = placement::member_of(&spec.placement_constraints, &mut problems);
        if let Some(limit) = task_cpu {
            let sum: i64 = containers
                .iter()
                .map(|c| i64::from(c.cpu.unwrap_or(0)))
                .sum();
            if sum > limit {
                problems.push(Problem::new(
                    "spec.cpu",
                    format!("must be at least the {sum} CPU units that the containers ask for, not {limit}"),
                ));
            }
        }
        if let Some(wrong) = gpus::Sum::of_definitions(containers).wrong() {
            let field = "spec.containerDefinitions[].resourceRequirements";
            problems.push(Problem::new(field, wrong));
        }
        if problems.is_empty() {
            Ok(Definition {
                demand: demand(spec),
                health_checked: containers.iter().any(|c| essential(c) && checked(c)),
                member_of,
            })
        } else {
            Err(problems)
        }
    }

    /// Demand of one task with `overrides` (ECS: task size first, else the sum over the containers).
    pub fn demand_with(
        &self,
        spec: &TaskDefinitionSpec,
        overrides: Option<&TaskOverride>,
    ) -> Demand {
        match overrides {
            None => self.demand.clone(),
            some => demand(&size::overridden(spec, some)),
        }
    }
}

fn essential(c: &ContainerDefinition) -> bool {
    c.essential.unwrap_or(true)
}

pub(crate) fn checked(c: &ContainerDefinition) -> bool {
    c.health_check
        .as_ref()
        .is_some_and(|h| h.command.first().is_some_and(|first| first != "NONE"))
}

fn parsed(
    text: &Option<String>,
    field: &str,
    wanted: &str,
    parse: fn(&str) -> Option<i64>,
    problems: &mut Vec<Problem>,
) -> Option<i64> {
    let text = text.as_deref()?;
    let value = parse(text);
    if value.is_none() {
        problems.push(Problem::new(
            field,
            format!("must be {wanted}, not '{text}'"),
        ));
    }
    value
}

fn check_container(
    c: &ContainerDefinition,
    mode: Option<NetworkMode>,
    task_memory: Option<i64>,
    problems: &mut Vec<Problem>,
) {
    let at = |field: &str| format!("spec.containerDefinitions[{}].{field}", c.name);
    if c.name.is_empty() || c.name.len() > 255 {
        problems.push(Problem::new(at("name"), "must have 1 to 255 characters"));
    }
    if c.image.trim().is_empty() {
        problems.push(Problem::new(at("image"), "must name an image"));
    }
    match (c.memory, c.memory_reservation) {
        (None, None) if task_memory.is_none() => problems.push(Problem::new(
            at("memory"),
            "`memory` or `memoryReservation` must be given, or `spec.memory` for the whole task",
        )),
        (Some(hard), Some(soft)) if hard < soft => problems.push(Problem::new(
            at("memoryReservation"),
            format!("must not be above `memory` ({hard} MiB), but is {soft}"),
        )),
        _ => {}
    }
    // What hosts outside AWS do not have is told as unsupported.
    if let Err(gpus::Refusal::Invalid(wrong)) = gpus::wanted(&c.resource_requirements, &[]) {
        problems.push(Problem::new(at("resourceRequirements"), wrong));
    }
    check_sources(c, problems);
    if let (Some(own), Some(limit)) = (c.memory.map(i64::from), task_memory)
        && own > limit
    {
        problems.push(Problem::new(
            at("memory"),
            format!("must not be above `spec.memory` of the task ({limit} MiB), but is {own}"),
        ));
    }
    if !c.links.is_empty() && !matches!(mode, None | Some(NetworkMode::Bridge)) {
        problems.push(Problem::new(
            at("links"),
            "must be absent unless `networkMode` is `bridge`",
        ));
    }
    ports::check(c, mode, problems);
}

/// References to Secrets and ConfigMaps, and the names that their values get (ECS: a name is set once, by `environment` or by
/// `secrets`).
fn check_sources(c: &ContainerDefinition, problems: &mut Vec<Problem>) {
    let at = |field: &str| format!("spec.containerDefinitions[{}].{field}", c.name);
    let secrets = c.secrets.iter().map(|s| ("secrets.valueFrom", s));
    let options = c.log_configuration.iter().flat_map(|l| &l.secret_options);
    let options = options.map(|s| ("logConfiguration.secretOptions.valueFrom", s));
    let read = secrets
        .chain(options)
        .map(|(field, s)| (field, Source::of_value_from(&s.value_from).err()));
    let files = c.environment_files.iter();
    let files = files.map(|f| ("environmentFiles.value", Source::of_file(f).err()));
    let credentials = c.repository_credentials.iter();
    let credentials = credentials.map(|r| {
        let field = "repositoryCredentials.credentialsParameter";
        (field, Source::of_registry(r).err())
    });
    for (field, wrong) in read.chain(files).chain(credentials) {
        problems.extend(wrong.map(|wrong| Problem::new(at(field), wrong)));
    }
    let mut named: BTreeSet<&str> = c
        .environment
        .iter()
        .filter_map(|e| e.name.as_deref())
        .collect();
    for secret in &c.secrets {
        if !named.insert(&secret.name) {
            problems.push(Problem::new(
                at("secrets.name"),
                format!(
                    "`{}` must be set once, by `secrets` or by `environment`",
                    secret.name
                ),
            ));
        }
    }
}

/// What cannot be read counts as nothing: it is told of its field.
pub(crate) fn demand(spec: &TaskDefinitionSpec) -> Demand {
    let Size {
        cpu,
        memory,
        ports,
        ports_udp,
    } = Size::of(spec);
    let gpus = gpus::Sum::of_definitions(&spec.container_definitions);
    Demand {
        cpu,
        memory,
        ports,
        ports_udp,
        gpus: gpus.whole,
        gpu_memory: gpus.memory,
        addresses: i64::from(spec.network_mode == Some(NetworkMode::Awsvpc)),
        attributes: requirements::of(spec),
    }
}

/// A port of the host is taken once.
fn check_fixed_ports(spec: &TaskDefinitionSpec, problems: &mut Vec<Problem>) {
    let mut taken = BTreeSet::new();
    for c in &spec.container_definitions {
        for (protocol, port) in size::fixed_ports(c, spec.network_mode) {
            if !taken.insert((protocol, port)) {
                problems.push(Problem::new(
                    format!(
                        "spec.containerDefinitions[{}].portMappings.hostPort",
                        c.name
                    ),
                    format!("{port} must be taken only once in a task definition"),
                ));
            }
        }
    }
}
