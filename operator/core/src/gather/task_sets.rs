//! Task sets at the door, and services whose deployments are task sets.

use std::sync::Arc;

use tallyman_crds::ecs::{DeploymentControllerType, SchedulingStrategy};
use tallyman_crds::{ServiceSpec, TaskSet, labels};

use super::{cluster_name, identity, label, object_name};
use crate::deployments;
use crate::names::{RevisionName, ServiceName, TaskSetName};
use crate::problem::Problem;
use crate::tags;
use crate::task_sets::Percent;
use crate::unsupported;
use crate::world::{Controller, Objects, TaskSetState};

/// Who runs the deployments of a service with this spec; what does not go with that is told.
pub(super) fn controller(spec: &ServiceSpec, problems: &mut Vec<Problem>) -> Controller {
    let given = spec.deployment_controller.as_ref().map(|c| c.r#type);
    let mut must = |field: &str, what: &str| {
        problems.push(Problem::new(format!("spec.{field}"), what));
    };
    if given != Some(DeploymentControllerType::External) {
        if spec.task_definition.is_none() {
            must(
                "taskDefinition",
                "must name a task definition: only a service with `deploymentController.type: EXTERNAL` has none",
            );
        }
        if spec.primary_task_set.is_some() {
            must(
                "primaryTaskSet",
                "must be absent unless `deploymentController.type` is EXTERNAL",
            );
        }
        return Controller::Ecs {
            task_definition: spec.task_definition.clone().unwrap_or_default(),
        };
    }
    let per_set = [
        ("taskDefinition", spec.task_definition.is_some()),
        ("launchType", spec.launch_type.is_some()),
        ("platformVersion", spec.platform_version.is_some()),
        ("networkConfiguration", spec.network_configuration.is_some()),
        ("loadBalancers", !spec.load_balancers.is_empty()),
        ("serviceRegistries", !spec.service_registries.is_empty()),
        (
            "capacityProviderStrategy",
            !spec.capacity_provider_strategy.is_empty(),
        ),
    ];
    for (field, _) in per_set.into_iter().filter(|(_, given)| *given) {
        must(
            field,
            "must be absent with `deploymentController.type: EXTERNAL`: it is a matter of each TaskSet",
        );
    }
    let deployment = spec.deployment_configuration.as_ref();
    let breaker = deployment.and_then(|d| d.deployment_circuit_breaker.as_ref());
    let alarms = deployment.and_then(|d| d.alarms.as_ref());
    let own = [
        (
            "deploymentConfiguration.deploymentCircuitBreaker",
            breaker.is_some_and(|b| b.enable),
        ),
        (
            "deploymentConfiguration.alarms",
            alarms.is_some_and(|a| a.enable),
        ),
        ("paused", spec.paused == Some(true)),
    ];
    for (field, _) in own.into_iter().filter(|(_, given)| *given) {
        must(
            field,
            "must be absent with `deploymentController.type: EXTERNAL`: the service has no deployments of its own",
        );
    }
    if spec.scheduling_strategy == Some(SchedulingStrategy::Daemon) {
        must(
            "schedulingStrategy",
            "must not be DAEMON with `deploymentController.type: EXTERNAL`",
        );
    }
    let primary = spec.primary_task_set.as_deref();
    Controller::External {
        primary: primary.map(TaskSetName::from),
    }
}

pub(super) fn task_set(s: &Arc<TaskSet>, cluster: &str, objects: &Objects) -> TaskSetState {
    let spec = &s.spec;
    let identity = identity(&s.metadata);
    let service = service_name(&spec.service);
    let found = objects
        .services
        .iter()
        .find(|o| object_name(&o.metadata) == service);
    let elsewhere = found
        .map(|o| cluster_name(o.spec.cluster.as_deref()))
        .filter(|c| *c != cluster);
    let mut problems = tags::problems("spec.tags", &spec.tags);
    let given = spec.scale.as_ref().and_then(|scale| scale.value);
    let scale = Percent::of(given.unwrap_or(0.0));
    if scale.is_none() {
        problems.push(Problem::new(
            "spec.scale.value",
            format!(
                "must be 0 to 100 percent, not {}",
                given.unwrap_or_default()
            ),
        ));
    }
    TaskSetState {
        id: deployments::task_set_id(&identity.uid),
        identity,
        object: s.clone(),
        status: s.status.clone().unwrap_or_default(),
        elsewhere: elsewhere.map(str::to_owned),
        service: ServiceName::from(service),
        scale: scale.unwrap_or_default(),
        revision: label(&s.metadata, labels::REVISION).map(RevisionName::from),
        unsupported: unsupported::of_task_set(spec),
        problems,
    }
}

/// The object name of a service that a user gave by name, in capitals or not, or by ARN.
fn service_name(given: &str) -> String {
    let short = given.rsplit('/').next().unwrap_or(given);
    short.to_ascii_lowercase().replace('_', "-")
}
