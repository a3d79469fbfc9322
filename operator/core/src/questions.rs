//! What the next task of something asks of a host: the question that a pass would put to placement, for people who want to
//! ask it themselves. Decides nothing.

use crate::names::{InstanceName, RunTaskName, ServiceName, TaskName};
use crate::placement::Request;
use crate::problem;
use crate::rollouts;
use crate::runs;
use crate::services::part::Part;
use crate::services::{self, Unresolved};
use crate::tasks;
use crate::world::{Controller, World};

/// What a task asks of a host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// `family:revision` that it runs.
    pub revision: String,
    /// What it asks for.
    pub request: Request,
    /// The hosts that are asked, where they are named (ECS StartTask); without any, every one.
    pub hosts: Vec<InstanceName>,
}

/// What the next task of a service asks for.
///
/// # Errors
/// Why no task of it is started at all, as a sentence.
pub fn of_service(world: &World, name: &ServiceName) -> Result<Question, String> {
    let service = world.services.get(name);
    let service = service.ok_or_else(|| format!("There is no service `{name}`."))?;
    if let Some((_, why)) = services::refusal(&service.problems, &service.unsupported) {
        return Err(why);
    }
    let Controller::Ecs { task_definition } = &service.controller else {
        return Err(format!(
            "Service `{name}` has `deploymentController.type: EXTERNAL`; its tasks are those of its task sets (`kubectl get tset`)."
        ));
    };
    let runs = |ecs_name: &str| {
        let mut deployments = service.status.deployments.iter();
        deployments.any(|d| d.task_definition == ecs_name)
    };
    let found = services::resolve(world, task_definition, runs).map_err(sentence)?;
    let rollout = rollouts::choose(world, service, found)
        .ok_or_else(|| "`spec.paused` is true and there is no deployment yet.".to_owned())?;
    let part = Part {
        world,
        name,
        service,
        id: rollout.id,
        set: None,
        revision_name: rollout.revision_name,
        revision: rollout.revision,
        images: Vec::new(),
    };
    Ok(Question {
        revision: part.revision.ecs_name(),
        request: part.request(),
        hosts: Vec::new(),
    })
}

/// What the next copy of a run asks for.
///
/// # Errors
/// Why no copy of it is started at all, as a sentence.
pub fn of_run(world: &World, name: &RunTaskName) -> Result<Question, String> {
    let run = world.runs.get(name);
    let run = run.ok_or_else(|| format!("There is no run `{name}`."))?;
    if let Some((_, why)) = services::refusal(&run.problems, &run.unsupported) {
        return Err(why);
    }
    let taken_on = run.revision.as_ref().and_then(|r| world.revisions.get(r));
    let revision = match taken_on {
        Some(revision) => revision,
        None => {
            let given = &run.object.spec.task_definition;
            services::resolve(world, given, |_| false)
                .map_err(sentence)?
                .1
        }
    };
    let task = TaskName::from(tallyman_crds::names::run_task(name.as_str(), 1));
    Ok(Question {
        revision: revision.ecs_name(),
        request: runs::request(run, &task, revision),
        hosts: run.hosts.clone(),
    })
}

/// What a user's own task asks for.
///
/// # Errors
/// Why it is not started at all, as a sentence.
pub fn of_task(world: &World, name: &TaskName) -> Result<Question, String> {
    let task = world.tasks.get(name);
    let task = task.ok_or_else(|| format!("There is no task `{name}`."))?;
    let known = task.revision.as_ref().and_then(|r| world.revisions.get(r));
    let revision = match known {
        Some(revision) => revision,
        None => {
            let given = &task.object.spec.task_definition;
            services::resolve(world, given, |_| false)
                .map_err(sentence)?
                .1
        }
    };
    let request = tasks::request(task, revision).map_err(|p| problem::sentence(&p))?;
    let host = task.object.spec.container_instance.as_deref();
    Ok(Question {
        revision: revision.ecs_name(),
        request,
        hosts: host.map(InstanceName::from).into_iter().collect(),
    })
}

fn sentence(why: Unresolved) -> String {
    match why {
        Unresolved::NotFound(m)
        | Unresolved::Unsettled(m)
        | Unresolved::Inactive(m)
        | Unresolved::Invalid(m) => m,
    }
}
