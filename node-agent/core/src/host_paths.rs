//! Paths of the host that a container mounts, and where they lead.
//!
//! The policy judges a path as it is written before the task is taken on. Links on the host are followed by the engine when the
//! container starts, so it is then, at every start, that the agent follows them first and asks the policy again. Whoever can
//! change a link between the two is not stopped by this (`docs/security.md`).

use tallyman_agent_engine::{EngineError, Mount, MountSource};
use tallyman_crds::{PlannedDefinition, TaskPolicy, task_policy};

use crate::host_files::HostFiles;

/// What one container mounts of its host, by `mountPoints` of the task definition.
#[derive(Clone, Debug, PartialEq)]
pub struct HostPaths {
    /// Path as written, and whether it is mounted read-only.
    mounted: Vec<(String, bool)>,
    policy: TaskPolicy,
    /// A container of the task traces processes.
    traces: bool,
}

impl HostPaths {
    /// Of a container that mounts `mounts`; `None` when none of these is the host's.
    pub(crate) fn of(
        mounts: &[Mount],
        mount_points: &[tallyman_crds::ecs::MountPoint],
        planned: &PlannedDefinition,
        policy: Option<&TaskPolicy>,
    ) -> Option<Box<Self>> {
        let written = mounts.iter().filter_map(|mount| match &mount.source {
            MountSource::HostPath(path) => Some((path.clone(), mount.read_only)),
            MountSource::Volume(_) => None,
        });
        let volumes = &planned.definition.volumes;
        let by_options = mount_points.iter().filter_map(|point| {
            let mut named = volumes.iter().filter(|v| v.name == point.source_volume);
            let docker = named.next()?.docker_volume_configuration.as_ref()?;
            let path = task_policy::bound(docker)?;
            Some((path.to_owned(), false))
        });
        let mounted: Vec<_> = written.chain(by_options).collect();
        (!mounted.is_empty()).then(|| {
            Box::new(Self {
                mounted,
                policy: policy.cloned().unwrap_or_default(),
                traces: task_policy::traces(&planned.definition),
            })
        })
    }

    /// Asks the policy about where they lead now. What the policy lists may be a link, too.
    ///
    /// # Errors
    /// [`EngineError::LeadsAstray`]
    pub(crate) fn check(&self, files: &dyn HostFiles) -> Result<(), EngineError> {
        let mut policy = self.policy.clone();
        if let Some(listed) = &mut policy.host_paths {
            let led: Vec<String> = listed.iter().map(|path| files.leads_to(path)).collect();
            listed.extend(led);
        }
        let closed = files.closed();
        let closed: Vec<String> = closed.iter().map(|path| files.leads_to(path)).collect();
        for (path, read_only) in &self.mounted {
            let to = files.leads_to(path);
            let why = task_policy::host_path(Some(&policy), &closed, self.traces, &to, *read_only);
            if let Some(why) = why {
                let path = path.clone();
                return Err(EngineError::LeadsAstray { path, why });
            }
        }
        Ok(())
    }
}
