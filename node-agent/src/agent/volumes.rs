//! The sweep of volumes whose task is gone: what a lost disk, or somebody else's container, left behind.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tallyman_agent_engine::{Engine, EngineError, VolumeState};
use tallyman_crds::labels;
use tokio::time::Instant;
use tracing::{debug, warn};

use crate::agent::Agent;

/// Volumes of a task go with its machine; this is for what no machine knows, and nobody waits for it.
const PERIOD: Duration = Duration::from_secs(5 * 60);

impl<E: Engine> Agent<E> {
    /// Lists our volumes when that is due: after a plan from the API, and a list of containers.
    pub(super) fn ask_volumes(&mut self, now: Instant) {
        let due = self.next_volumes_call().is_some_and(|at| at <= now);
        let Some(instance) = self.host.container_instance_uid().map(str::to_owned) else {
            return;
        };
        if due {
            self.volumes_at = now + PERIOD;
            let engine = Arc::clone(&self.shared.engine);
            self.listing_volumes = Some(Box::pin(async move {
                let scope = (labels::CONTAINER_INSTANCE_UID, instance.as_str());
                engine.list_volumes(scope).await
            }));
        }
    }

    pub(super) fn next_volumes_call(&self) -> Option<Instant> {
        let may = self.listing_volumes.is_none() && self.listed.is_some() && self.host.is_live();
        may.then_some(self.volumes_at)
    }

    pub(super) fn take_volumes(&mut self, list: Result<Vec<VolumeState>, EngineError>) {
        let list = match list {
            Ok(list) => list,
            Err(error) => {
                debug!(%error, "the engine does not list its volumes; asked again later");
                return;
            }
        };
        let known = self.known_tasks();
        for volume in self.host.stray_volumes(&list, &known, Timestamp::now()) {
            warn!(
                volume = volume.name,
                task = %volume.task,
                "no plan has the task of this volume; removing it"
            );
            let engine = Arc::clone(&self.shared.engine);
            self.condemning.spawn(async move {
                let owner = (labels::CONTAINER_TASK_UID, volume.task.as_str());
                if let Err(error) = engine.remove_volume(&volume.name, owner).await {
                    warn!(volume = volume.name, %error, "not removed; tried again later");
                }
            });
        }
    }
}
