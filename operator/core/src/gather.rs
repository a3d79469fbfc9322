//! The door: objects of the caches become the [`World`] of one cluster. Here they are parsed, names are resolved and
//! problems are collected; past it no object is parsed again. Nothing here decides.

pub(crate) mod jobs;
mod task_sets;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::SignedDuration;
use k8s_openapi::apimachinery::pkg::apis::meta::v1 as k8s_meta;
use tallyman_crds::conditions::ALARM;
use tallyman_crds::ecs::{SchedulingStrategy, TaskOverride};
use tallyman_crds::sources::Source;
use tallyman_crds::{
    ConditionStatus, ContainerInstance, DesiredStatus, HostPlan, LastStatus, Service, Task,
    TaskDefinitionSpec, TaskPolicy, TaskStatus, capabilities, labels, names, roles, size, sources,
    task_policy,
};

use crate::definition::{self, Definition, Demand};
use crate::deployments;
use crate::disconnect;
use crate::early_success::EarlySuccess;
use crate::guards::Guards;
use crate::liveness::Silence;
use crate::names::{
    DeploymentId, Family, Group, InstanceName, RevisionName, RunTaskName, ScheduledTaskName,
    ServiceName, TaskName, TaskSetName,
};
use crate::placement::Rules;
use crate::problem::Problem;
use crate::quotas;
use crate::settings::Settings;
use crate::tags;
use crate::unreadable::There;
use crate::unsupported;
use crate::world::{
    Controller, FamilyState, Identity, Index, InstanceState, Objects, PlanState, Revision,
    RunState, SecretState, ServiceState, TaskState, World,
};

fn identity(meta: &k8s_meta::ObjectMeta) -> Identity {
    Identity {
        uid: meta.uid.clone().unwrap_or_default(),
        resource_version: meta.resource_version.clone().unwrap_or_default(),
        generation: meta.generation.unwrap_or_default(),
        deleting: meta.deletion_timestamp.is_some(),
        finalizers: meta.finalizers.iter().flatten().cloned().collect(),
    }
}

pub(crate) fn object_name(meta: &k8s_meta::ObjectMeta) -> String {
    meta.name.clone().unwrap_or_default()
}

fn label(meta: &k8s_meta::ObjectMeta, key: &str) -> Option<String> {
    meta.labels.as_ref()?.get(key).cloned()
}

pub(crate) fn of_cluster(given: Option<&String>, cluster: &str) -> bool {
    cluster_name(given.map(String::as_str)) == cluster
}

/// The short name of a cluster that a user gave as name or ARN, or `default`.
pub fn cluster_name(given: Option<&str>) -> &str {
    match given {
        None | Some("") => names::DEFAULT_CLUSTER,
        Some(text) => text.rsplit('/').next().unwrap_or(text),
    }
}

/// Every cluster that something in `objects` names, or that exists.
pub fn cluster_names(objects: &Objects) -> BTreeSet<String> {
    let mut found: BTreeSet<String> = objects
        .clusters
        .iter()
        .map(|c| object_name(&c.metadata))
        .collect();
    found.extend(
        objects
            .services
            .iter()
            .map(|s| cluster_name(s.spec.cluster.as_deref()).to_owned()),
    );
    found.extend(
        objects
            .tasks
            .iter()
            .map(|t| cluster_name(t.spec.cluster.as_deref()).to_owned()),
    );
    found.extend(
        objects
            .instances
            .iter()
            .map(|i| cluster_name(i.spec.cluster.as_deref()).to_owned()),
    );
    found.extend(
        objects
            .run_tasks
            .iter()
            .map(|r| cluster_name(r.spec.cluster.as_deref()).to_owned()),
    );
    found.extend(
        objects
            .scheduled_tasks
            .iter()
            .map(|s| cluster_name(s.spec.run_task.cluster.as_deref()).to_owned()),
    );
    found.extend(
        objects
            .task_sets
            .iter()
            .map(|s| cluster_name(s.spec.cluster.as_deref()).to_owned()),
    );
    found
}

impl World {
    /// The world of `cluster` in `namespace`.
    pub fn gather(
        objects: &Objects,
        namespace: &str,
        cluster: &str,
        settings: &Settings,
        leader_epoch: i64,
    ) -> World {
        let mut world = World::empty(objects, namespace, cluster, settings, leader_epoch);
        let here = |i: &&Arc<ContainerInstance>| of_cluster(i.spec.cluster.as_ref(), cluster);
        let instances = objects.instances.iter().filter(here);
        let beyond = quotas::beyond(&settings.quotas, instances.clone().map(|i| &**i));
        for i in instances {
            let name = object_name(&i.metadata);
            let secret = objects.host_secrets.get(&names::host_identity(&name));
            let silence = objects.silence.get(&name).copied();
            let name = InstanceName::from(name);
            let mut state = instance(i, silence, secret.map(|meta| secret_state(meta)));
            state.beyond_quota = beyond.contains(&name);
            world.put_instance(&name, state);
        }
        for p in &objects.plans {
            let host = InstanceName::from(object_name(&p.metadata));
            if world.instances.contains_key(&host) {
                world.put_plan(&host, Some(plan(p)));
            }
        }
        for t in &objects.tasks {
            if of_cluster(t.spec.cluster.as_ref(), cluster) {
                let state = task(t, &world);
                world.put_task(&TaskName::from(object_name(&t.metadata)), Some(state));
            }
        }
        let services = objects
            .services
            .iter()
            .filter(|s| of_cluster(s.spec.cluster.as_ref(), cluster));
        let mut services = services
            .map(|s| (ServiceName::from(object_name(&s.metadata)), service(s)))
            .collect();
        quotas::enforce(&settings.quotas, cluster, &mut services);
        for (name, state) in services {
            world.put_service(&name, Some(state));
        }
        let task_sets = objects.task_sets.iter();
        let here = task_sets.filter(|s| of_cluster(s.spec.cluster.as_ref(), cluster));
        world.task_sets = here
            .map(|s| {
                let name = TaskSetName::from(object_name(&s.metadata));
                (name, task_sets::task_set(s, cluster, objects))
            })
            .collect();
        quotas::enforce_task_sets(&settings.quotas, &mut world.task_sets);
        let all_runs = all_runs(objects);
        for s in &objects.scheduled_tasks {
            if of_cluster(s.spec.run_task.cluster.as_ref(), cluster) {
                let name = ScheduledTaskName::from(object_name(&s.metadata));
                let state = jobs::schedule(s, &name, &all_runs);
                world.put_schedule(&name, Some(state));
            }
        }
        for (name, state) in all_runs {
            if of_cluster(state.object.spec.cluster.as_ref(), cluster) {
                world.put_run(&name, Some(state));
            }
        }
        world
    }

    /// The cluster with its task definitions and nothing else.
    fn empty(
        objects: &Objects,
        namespace: &str,
        cluster: &str,
        settings: &Settings,
        leader_epoch: i64,
    ) -> World {
        let cluster_object = objects
            .clusters
            .iter()
            .find(|c| c.metadata.name.as_deref() == Some(cluster))
            .cloned();
        let policy = cluster_object
            .as_ref()
            .and_then(|c| c.spec.task_policy.as_ref());
        let revisions = revisions(objects, policy);
        let mut by_ecs_name = BTreeMap::new();
        for (name, r) in &revisions {
            by_ecs_name
                .entry(r.ecs_name())
                .or_insert_with(|| name.clone());
        }
        World {
            namespace: namespace.to_owned(),
            cluster: cluster.to_owned(),
            cluster_object,
            families: families(objects, &revisions),
            revisions,
            by_ecs_name,
            services: BTreeMap::new(),
            task_sets: BTreeMap::new(),
            runs: BTreeMap::new(),
            schedules: BTreeMap::new(),
            tasks: BTreeMap::new(),
            instances: BTreeMap::new(),
            plans: BTreeMap::new(),
            index: Index::default(),
            unreadable: There::of(&objects.unreadable),
            sources: objects.sources.clone(),
            settings: settings.clone(),
            leader_epoch,
        }
    }
}

/// Every run of the namespace, of whatever cluster.
pub(crate) fn all_runs(objects: &Objects) -> BTreeMap<RunTaskName, RunState> {
    let runs = objects.run_tasks.iter();
    runs.map(|r| (RunTaskName::from(object_name(&r.metadata)), jobs::run(r)))
        .collect()
}

/// The plan of a host.
pub(crate) fn plan(p: &Arc<HostPlan>) -> PlanState {
    PlanState {
        identity: identity(&p.metadata),
        spec: p.spec.clone(),
    }
}

fn revisions(objects: &Objects, policy: Option<&TaskPolicy>) -> BTreeMap<RevisionName, Revision> {
    objects
        .revisions
        .iter()
        .map(|r| {
            let revision = Revision {
                family: Family::from(r.spec.family.as_str()),
                number: r.spec.revision,
                active: r.metadata.deletion_timestamp.is_none(),
                definition: permitted(&r.spec.definition, policy),
                sources: sources::of_task(&r.spec.definition, None),
                object: r.clone(),
            };
            (RevisionName::from(object_name(&r.metadata)), revision)
        })
        .collect()
}

/// The definition, if it is valid and the policy of the cluster allows what it asks.
fn permitted(
    spec: &TaskDefinitionSpec,
    policy: Option<&TaskPolicy>,
) -> Result<Definition, Vec<Problem>> {
    let definition = Definition::parse(spec)?;
    let breaches = task_policy::breaches(policy, spec);
    let problems: Vec<Problem> = breaches
        .into_iter()
        .map(|breach| Problem::new(format!("spec.{}", breach.field), breach.why))
        .collect();
    match problems.is_empty() {
        true => Ok(definition),
        false => Err(problems),
    }
}

fn families(
    objects: &Objects,
    revisions: &BTreeMap<RevisionName, Revision>,
) -> BTreeMap<Family, FamilyState> {
    let mut families: BTreeMap<Family, FamilyState> = BTreeMap::new();
    let mut latest: BTreeMap<Family, i64> = BTreeMap::new();
    for (name, r) in revisions.iter().filter(|(_, r)| r.active) {
        if latest.get(&r.family).is_none_or(|n| *n < r.number) {
            latest.insert(r.family.clone(), r.number);
            families.entry(r.family.clone()).or_default().latest = Some(name.clone());
        }
    }
    for t in &objects.task_definitions {
        let name = object_name(&t.metadata);
        let family = Family::from(t.spec.family.clone().unwrap_or(name));
        let state = families.entry(family).or_default();
        let observed = t.status.as_ref().map(|s| s.observed_generation);
        if observed != t.metadata.generation {
            state.unsettled = true;
        }
        let stalled = t
            .status
            .iter()
            .flat_map(|s| &s.conditions)
            .find(|c| c.type_ == "Stalled");
        if let Some(c) = stalled {
            state.stalled.get_or_insert_with(|| c.message.clone());
        }
    }
    families
}

/// A service, but for what the quotas of its cluster say.
pub(crate) fn service(s: &Arc<Service>) -> ServiceState {
    let spec = &s.spec;
    let name = object_name(&s.metadata);
    let deployment = spec.deployment_configuration.as_ref();
    // Absent: what is wanted now, or 1 for a service that nobody has seen (ECS UpdateService keeps the count).
    let seen = s
        .status
        .as_ref()
        .filter(|s| s.observed_generation >= 0)
        .map(|s| s.desired_count);
    let mut problems = Vec::new();
    let controller = task_sets::controller(spec, &mut problems);
    let external = matches!(controller, Controller::External { .. });
    let daemon = spec.scheduling_strategy == Some(SchedulingStrategy::Daemon) && !external;
    let desired = match daemon {
        false => i64::from(spec.desired_count.or(seen).unwrap_or(1)),
        true => i64::from(seen.unwrap_or(0)),
    };
    let (least, most) = if daemon { (0, 100) } else { (100, 200) };
    let minimum = deployment.and_then(|d| d.minimum_healthy_percent);
    let minimum = i64::from(minimum.unwrap_or(least));
    let maximum = deployment.and_then(|d| d.maximum_percent);
    let maximum = i64::from(maximum.unwrap_or(most));
    if daemon && (maximum != 100 || minimum > 100) {
        problems.push(Problem::new(
            "spec.deploymentConfiguration",
            format!(
                "must have `maximumPercent` 100 and `minimumHealthyPercent` 0 to 100 with `schedulingStrategy: DAEMON`, \
                 not {maximum} and {minimum}: a host has one task at a time"
            ),
        ));
    }
    if desired < 0 {
        problems.push(Problem::new(
            "spec.desiredCount",
            format!("must be 0 or more, not {desired}"),
        ));
    }
    if spec.service_name.as_ref().is_some_and(|n| *n != name) {
        problems.push(Problem::new(
            "spec.serviceName",
            format!("must be absent or the object's own name `{name}`"),
        ));
    }
    if minimum < 0 {
        problems.push(Problem::new(
            "spec.deploymentConfiguration.minimumHealthyPercent",
            format!("must be 0 or more, not {minimum}"),
        ));
    }
    if maximum < 100 && maximum <= minimum {
        problems.push(Problem::new(
            "spec.deploymentConfiguration.maximumPercent",
            format!(
                "must be 100 or more, or above `minimumHealthyPercent` ({minimum}), not {maximum}"
            ),
        ));
    }
    let early_success = EarlySuccess::parse(deployment, minimum, &mut problems);
    let rules = Rules::parse(
        "spec",
        &spec.placement_constraints,
        &spec.placement_strategy,
    );
    let rules = rules.unwrap_or_else(|found| {
        problems.extend(found);
        Rules::default()
    });
    problems.extend(tags::problems("spec.tags", &spec.tags));
    let annotations = s.metadata.annotations.as_ref();
    let on = s.status.iter().flat_map(|status| &status.conditions);
    let alarming = on
        .filter(|c| c.status == ConditionStatus::True)
        .filter_map(|c| c.type_.strip_prefix(ALARM))
        .map(str::to_owned)
        .collect();
    let grace = spec.health_check_grace_period_seconds.unwrap_or(0);
    ServiceState {
        identity: identity(&s.metadata),
        object: s.clone(),
        controller,
        daemon,
        guards: Guards::of(deployment),
        early_success,
        grace: SignedDuration::from_secs(i64::from(grace)),
        paused: spec.paused == Some(true),
        replace_after: disconnect::replace_after(spec),
        keep_on_return: disconnect::keep_on_return(spec),
        restarted_at: annotations
            .and_then(|a| a.get(labels::RESTARTED_AT))
            .cloned(),
        alarming,
        status: s
            .status
            .clone()
            .unwrap_or_else(crate::status::untouched_service),
        desired: desired.max(0),
        minimum_healthy_percent: minimum.max(0),
        maximum_percent: maximum.max(0),
        rules,
        unsupported: unsupported::of_service(spec),
        problems,
    }
}

/// A task; of `world` only the task definitions matter.
pub(crate) fn task(t: &Arc<Task>, world: &World) -> TaskState {
    let (revisions, by_ecs_name) = (&world.revisions, &world.by_ecs_name);
    let status = t.status.clone().unwrap_or_default();
    let revision = label(&t.metadata, labels::REVISION)
        .map(RevisionName::from)
        .filter(|r| revisions.contains_key(r))
        .or_else(|| {
            by_ecs_name
                .get(short_task_definition(&t.spec.task_definition))
                .cloned()
        });
    let demand = revision
        .as_ref()
        .and_then(|r| revisions.get(r))
        .map(|r| demand_of(r, t.spec.overrides.as_ref()));
    let sources = revision
        .as_ref()
        .and_then(|r| revisions.get(r))
        .map(|r| sources_of(t, &status, r));
    let service = label(&t.metadata, labels::SERVICE).map(ServiceName::from);
    let run = label(&t.metadata, labels::RUN_TASK).map(RunTaskName::from);
    // A user's own task that names a host holds nothing there before it is admitted.
    let ours = service.is_some() || run.is_some();
    let given = t.spec.container_instance.clone().filter(|_| ours);
    let placed = given.or(status.container_instance);
    let waits = !ours && placed.is_none() && status.last_status != LastStatus::Stopped;
    let rules = if waits {
        Rules::parse(
            "spec",
            &t.spec.placement_constraints,
            &t.spec.placement_strategy,
        )
    } else {
        Ok(Rules::default())
    };
    let family = revision.as_ref().and_then(|r| revisions.get(r));
    let fenced_after = disconnect::fenced_after(&t.spec, family);
    TaskState {
        identity: identity(&t.metadata),
        object: t.clone(),
        group: group(t, service.as_ref(), family.map(|r| &r.family)),
        rules,
        service,
        run,
        deployment: label(&t.metadata, labels::DEPLOYMENT).map(DeploymentId::from),
        revision,
        instance: placed.map(InstanceName::from),
        desired: t.spec.desired_status,
        last: status.last_status,
        accepted: status.accepted_at.is_some(),
        health: status.health_status,
        started_at: status.started_at.map(|t| t.0),
        stopped_at: status.stopped_at.map(|t| t.0),
        created_at: t.metadata.creation_timestamp.as_ref().map(|t| t.0),
        removed: status.removed_at.is_some(),
        protected_until: status.protected_until.map(|t| t.0),
        stop_code: status.stop_code,
        failed_health_checks: t.spec.stopped_reason.as_deref() == Some(deployments::UNHEALTHY),
        fenced_after,
        absence: status.absence.clone(),
        connectivity: status.connectivity,
        demand: demand.unwrap_or_default(),
        sources: sources.unwrap_or_default(),
    }
}

/// The task group (ECS API reference, Task): as given, else that of the service, else that of the family.
fn group(t: &Task, service: Option<&ServiceName>, family: Option<&Family>) -> Group {
    match (&t.spec.group, service, family) {
        (Some(given), _, _) if !given.is_empty() => Group::from(given.as_str()),
        (_, Some(service), _) => Group::of_service(service),
        (_, None, Some(family)) => Group::of_family(family),
        (_, None, None) => {
            let short = short_task_definition(&t.spec.task_definition);
            let family = short.rsplit_once(':').map_or(short, |(family, _)| family);
            Group::of_family(&Family::from(family))
        }
    }
}

/// What a task takes from Secrets and ConfigMaps. One that is to stop starts nothing any more, but its containers may
/// use the credentials of their role to the end.
fn sources_of(t: &Task, status: &TaskStatus, revision: &Revision) -> BTreeSet<Source> {
    let stops =
        t.spec.desired_status == DesiredStatus::Stopped || t.metadata.deletion_timestamp.is_some();
    let definition = &revision.object.spec.definition;
    match (&t.spec.overrides, status.last_status) {
        (_, LastStatus::Stopped) => BTreeSet::new(),
        (changes, _) if stops => roles::of_task(definition, changes.as_ref()),
        (None, _) => revision.sources.clone(),
        (changes, _) => sources::of_task(definition, changes.as_ref()),
    }
}

/// The Secret of a host. A receipt that cannot be read is none: all is supplied anew.
pub(crate) fn secret_state(meta: &k8s_meta::ObjectMeta) -> SecretState {
    let annotation = |name: &str| meta.annotations.as_ref().and_then(|all| all.get(name));
    SecretState {
        identity: identity(meta),
        receipt: annotation(labels::SUPPLIED)
            .and_then(|text| serde_json::from_str(text).ok())
            .unwrap_or_default(),
        key: annotation(labels::HOST_KEY).cloned(),
    }
}

/// Demand of a task of `revision`. One that is not valid, or not allowed any more, has tasks only from before, and they hold what
/// they hold.
pub fn demand_of(revision: &Revision, overrides: Option<&TaskOverride>) -> Demand {
    let spec = &revision.object.spec.definition;
    match &revision.definition {
        Ok(d) => d.demand_with(spec, overrides),
        Err(_) => definition::demand(&size::overridden(spec, overrides)),
    }
}

/// `family` or `family:revision` of a task definition given by name or ARN.
pub fn short_task_definition(given: &str) -> &str {
    given.rsplit('/').next().unwrap_or(given)
}

/// A host, with what is known of it beside its object.
pub(crate) fn instance(
    i: &Arc<ContainerInstance>,
    silence: Option<Silence>,
    secret: Option<SecretState>,
) -> InstanceState {
    let host = i.status.as_ref().and_then(|s| s.host.clone());
    let annotations = i.metadata.annotations.as_ref();
    let forced = annotations.and_then(|all| all.get(labels::FORCE_DEREGISTRATION));
    InstanceState {
        identity: identity(&i.metadata),
        object: i.clone(),
        wanted: i.spec.status,
        forced: forced.is_some_and(|value| value == "true"),
        silence,
        beyond_quota: false,
        secret,
        registered_at: i
            .status
            .as_ref()
            .and_then(|s| s.registered_at.as_ref())
            .map(|at| at.0),
        attributes: Arc::new(attributes(i)),
        host,
    }
}

/// Attributes of a host. A custom one of the ContainerInstance wins over what the agent was told by
/// `ECS_INSTANCE_ATTRIBUTES`, because whoever may change the object runs the cluster. What only the agent can know stays
/// the agent's: a capability that a host lacks cannot be claimed for it.
fn attributes(i: &ContainerInstance) -> BTreeMap<String, Option<String>> {
    let host = i.status.as_ref().and_then(|s| s.host.as_ref());
    let reported = host.into_iter().flat_map(|h| &h.attributes);
    let custom = i.spec.attributes.iter();
    reported
        .chain(custom.filter(|a| !capabilities::is_agents_own(&a.name)))
        .map(|a| (a.name.clone(), a.value.clone()))
        .collect()
}
