//! What is seen of the fake's state.

use super::*;

impl World {
    pub(in crate::fake) fn inspect(&self, name: &str) -> Option<ContainerState> {
        let container = self.containers.get(name)?;
        Some(ContainerState {
            id: container.id.clone(),
            name: name.to_owned(),
            image: container.spec.image.clone(),
            image_id: container.image_id.clone(),
            labels: container.spec.labels.clone(),
            phase: container.phase.clone(),
            health: container.health,
            ports: container.ports.clone(),
            created_at: Some(container.created_at),
            started_at: container.started_at,
            attachments: sight::attachments(
                &container.spec.network,
                &container.attached,
                container.phase.kind(),
                container.number,
            ),
            pid: u32::try_from(container.number + 100)
                .ok()
                .filter(|_| container.phase.kind().is_alive()),
            resolver_file: String::new(),
            mounts: container.mounts.iter().map(sight::mounted).collect(),
            last_check: container
                .check
                .clone()
                .filter(|_| container.phase.kind().is_alive()),
        })
    }

    /// What a running container uses.
    pub(in crate::fake) fn stats(&self, name: &str) -> Option<Stats> {
        let container = self.containers.get(name)?;
        if !container.phase.kind().is_alive() {
            return None;
        }
        let ran = container
            .started_at
            .map_or(0, |at| self.now.millis().saturating_sub(at.millis()));
        Some(sight::stats(
            name,
            &container.id,
            &container.spec,
            self.now,
            ran,
        ))
    }

    pub(in crate::fake) fn list(&self, scope: Option<Label<'_>>) -> Vec<ContainerSummary> {
        self.containers
            .iter()
            .filter(|(_, container)| match scope {
                Some((key, value)) => carries(container, key, value),
                None => true,
            })
            .map(|(name, container)| ContainerSummary {
                id: container.id.clone(),
                name: name.clone(),
                image_id: container.image_id.clone(),
                labels: container.spec.labels.clone(),
                phase: container.phase.kind(),
                health: Some(container.health),
                ports: container.ports.clone(),
            })
            .collect()
    }

    /// What a container sees of the host, once it is created.
    pub(in crate::fake) fn mounts_of(&self, name: &str) -> Option<&[Mount]> {
        Some(&self.containers.get(name)?.mounts)
    }

    /// Containers that have this volume, running or not.
    pub(in crate::fake) fn users_of<'a>(
        &'a self,
        volume: &'a str,
    ) -> impl Iterator<Item = &'a str> {
        self.containers
            .values()
            .filter(move |container| container.mounts.iter().any(|mount| mount.shows(volume)))
            .map(|container| container.id.as_str())
    }

    /// Whether a process lives in a group.
    pub(in crate::fake) fn alive_in(&self, group: &str) -> bool {
        self.containers.values().any(|container| {
            container.spec.group.as_deref() == Some(group) && container.phase.kind().is_alive()
        })
    }

    pub(in crate::fake) fn spec(&self, name: &str) -> Option<ContainerSpec> {
        Some(self.containers.get(name)?.spec.clone())
    }
}
