//! Which image a service goes on with (ECS container image resolution): the first task of a deployment that pulled an
//! image says by its digest which one it got, and the later tasks of the deployment are started with that one, wherever
//! the tag points by then.
//!
//! The digest is taken from the tasks, and kept in the deployment's status, since tasks go. A task carries the digests
//! that it is started with in its spec, so that its plan never changes for them. Tasks of a user's own are not pinned.

use std::collections::BTreeMap;

use tallyman_crds::ContainerImage;
use tallyman_crds::ecs::VersionConsistency;

use crate::names::{DeploymentId, ServiceName};
use crate::world::{Revision, World};

/// Digests of the images of a deployment or a task set by container, as far as they are known: those that are `kept` in its
/// status, else those that its tasks reported.
pub(crate) fn of_part<'w>(
    world: &'w World,
    service: &ServiceName,
    deployment: &DeploymentId,
    revision: &Revision,
    kept: impl Iterator<Item = &'w ContainerImage>,
) -> Vec<ContainerImage> {
    let kept = kept.map(|image| (image.container_name.as_str(), image.image_digest.as_str()));
    // Sorted by name: the oldest first.
    let reported = world
        .tasks_of(service)
        .filter(|(_, task)| task.deployment.as_ref() == Some(deployment))
        .filter_map(|(_, task)| task.object.status.as_ref())
        .flat_map(|status| &status.containers)
        .filter_map(|c| Some((c.name.as_str(), c.image_digest.as_deref()?)));
    let mut known: BTreeMap<&str, &str> = BTreeMap::new();
    for (container, digest) in kept.chain(reported) {
        known.entry(container).or_insert(digest);
    }
    let containers = &revision.object.spec.definition.container_definitions;
    containers
        .iter()
        .filter(|c| c.version_consistency != Some(VersionConsistency::Disabled))
        // One that names a digest is the same for ever.
        .filter(|c| !c.image.contains('@'))
        .filter_map(|c| {
            Some(ContainerImage {
                container_name: c.name.clone(),
                image_digest: (*known.get(c.name.as_str())?).to_owned(),
            })
        })
        .collect()
}
