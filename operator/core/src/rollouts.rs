//! Which deployment of a service is the primary one: the one that its spec asks for, unless that was given up or the
//! service is paused (ECS deployments, deployment circuit breaker).

use crate::deployments;
use crate::names::{DeploymentId, RevisionName};
use crate::world::{Revision, ServiceState, World};

/// Why the primary deployment is the one that it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Course {
    /// The spec asks for it.
    Forward,
    /// The service is paused: the deployment stays where it is.
    Paused {
        /// Revision of the deployment that the spec asks for, if that is another one: it does not begin.
        waiting: Option<String>,
    },
    /// The one that the spec asks for was given up, and this is the one that completed last.
    RolledBack,
    /// The one that the spec asks for was given up, and there is none to go back to.
    GivenUp,
}

/// The primary deployment of a service.
#[derive(Clone, Debug)]
pub struct Rollout<'w> {
    /// Number.
    pub id: DeploymentId,
    /// Object name of its revision.
    pub revision_name: RevisionName,
    /// Its revision.
    pub revision: &'w Revision,
    /// Why it is this one.
    pub course: Course,
}

/// Chooses the primary deployment of `service`, whose spec resolves to `wanted`. `None`: a paused service that never had
/// one begins none.
pub fn choose<'w>(
    world: &'w World,
    service: &ServiceState,
    wanted: (RevisionName, &'w Revision),
) -> Option<Rollout<'w>> {
    let (revision_name, revision) = wanted;
    let id = deployments::deployment_id(service, &revision_name);
    let wanted = Rollout {
        id,
        revision_name,
        revision,
        course: Course::Forward,
    };
    let status = &service.status;
    let failed = status.failed_deployment.as_ref();
    if failed.is_some_and(|f| f.id == wanted.id.ecs()) {
        let back = status
            .last_completed_deployment
            .as_ref()
            .filter(|d| service.guards.roll_back() && d.id != wanted.id.ecs())
            .and_then(|d| named(world, &d.id, &d.task_definition));
        return Some(match back {
            Some(back) => Rollout {
                course: Course::RolledBack,
                ..back
            },
            None => Rollout {
                course: Course::GivenUp,
                ..wanted
            },
        });
    }
    if !service.paused {
        return Some(wanted);
    }
    let primary = status.deployments.first()?;
    let before = named(world, &primary.id, &primary.task_definition);
    let waiting = (primary.id != wanted.id.ecs()).then(|| wanted.revision.ecs_name());
    Some(Rollout {
        course: Course::Paused { waiting },
        ..before.unwrap_or(wanted)
    })
}

/// The deployment of this id and revision, if the revision is still there.
fn named<'w>(world: &'w World, id: &str, task_definition: &str) -> Option<Rollout<'w>> {
    let name = world.by_ecs_name.get(task_definition)?;
    let (revision_name, revision) = world.revisions.get_key_value(name)?;
    if revision.definition.is_err() {
        return None;
    }
    Some(Rollout {
        id: DeploymentId::of_ecs(id)?,
        revision_name: revision_name.clone(),
        revision,
        course: Course::Forward,
    })
}
