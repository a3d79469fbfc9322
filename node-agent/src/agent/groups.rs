//! The sweep of groups that tasks left behind: their limits go with the last container.

use std::sync::Arc;

use tallyman_agent_core::limits::{self, Enforcement};
use tallyman_agent_engine::{Engine, EngineDescription, EngineError, Group};
use tracing::{debug, info, warn};

use crate::agent::Agent;

/// Who the engine is, and whether groups can be made on its host.
pub(super) type Described = Result<(EngineDescription, Result<(), EngineError>), EngineError>;

/// Asks the engine who it is, and tries the group above all others.
pub(super) async fn describe<E: Engine>(engine: &E) -> Described {
    let description = engine.describe().await?;
    let root = Group {
        name: limits::ROOT.to_owned(),
        cpu_shares: limits::ROOT_SHARES,
        cpu_quota: None,
        memory_bytes: None,
        pids: None,
    };
    Ok((description, engine.provide_group(&root).await))
}

impl<E: Engine> Agent<E> {
    /// From now on limits of tasks are enforced as this host can.
    pub(super) fn set_enforcement(&mut self, groups: &Result<(), EngineError>) {
        let how = Enforcement::of(
            &self.settings.tasks,
            self.engine.description.as_ref(),
            groups.is_ok(),
        );
        if let Err(error) = groups
            && self.settings.tasks.cpu_mem_limit
        {
            warn!(%error, "no control groups can be made; `cpu` and `memory` of tasks limit each container instead");
        }
        let mut host = self.shared.host_context();
        if host.enforcement != how {
            info!(?how, "limits of tasks");
            host.enforcement = how;
        }
    }

    /// Removes groups without a task, with every list of containers.
    pub(super) fn sweep_groups(&mut self) {
        let Some(instance) = self.host.container_instance_uid() else {
            return;
        };
        let busy = self.listing_groups.is_some();
        let grouped = matches!(
            self.shared.host_context().enforcement,
            Enforcement::Group { .. }
        );
        if grouped && !busy {
            let engine = Arc::clone(&self.shared.engine);
            let parent = limits::parent(instance);
            self.listing_groups = Some(Box::pin(async move { engine.list_groups(&parent).await }));
        }
    }

    pub(super) fn take_groups(&mut self, list: Result<Vec<String>, EngineError>) {
        let list = match list {
            Ok(list) => list,
            Err(error) => {
                debug!(%error, "groups of tasks are not listed; tried again later");
                return;
            }
        };
        let known = self.known_tasks();
        for name in self.leftovers.check(&list, &known) {
            let engine = Arc::clone(&self.shared.engine);
            self.condemning.spawn(async move {
                match engine.remove_group(&name).await {
                    Ok(true) => debug!(name, "group removed"),
                    Ok(false) => debug!(name, "a container is still in the group"),
                    Err(error) => warn!(name, %error, "group not removed; tried again later"),
                }
            });
        }
    }
}
