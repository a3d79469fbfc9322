//! What a container asks of the host's GPUs, and what it is told of them when it is planned. Which ones it gets is chosen when it
//! is created ([`crate::gpus`]).
//!
//! A container with a part of a GPU reaches MPS' control daemon by a directory of pipes, and MPS holds it to its part by
//! variables: without both it would have the whole GPU (ECS agent, `ecs-agent/utils/mps`). It needs no namespace of the host's.

use std::collections::BTreeMap;

use tallyman_agent_engine::{Mount, MountSource};
use tallyman_crds::ecs::{ContainerDefinition, ContainerOverride};
use tallyman_crds::gpus::{self, Sum, Wanted};
use tallyman_crds::{PlannedDefinition, PlannedTask, labels, size};

use crate::gpus::{GpuShare, NO_GPU, VISIBLE_DEVICES};
use crate::refused::Refused;
use crate::settings::gpus::GpuSettings;

/// Where a client of MPS finds the control daemon.
const PIPE_DIRECTORY: &str = "CUDA_MPS_PIPE_DIRECTORY";
/// Most memory of a client of MPS, by number of the GPU as the client sees it: `0=512M`.
const MEMORY_LIMIT: &str = "CUDA_MPS_PINNED_DEVICE_MEM_LIMIT";
/// Most of the GPU's threads in percent.
const THREAD_LIMIT: &str = "CUDA_MPS_ACTIVE_THREAD_PERCENTAGE";

/// What a container asks of the host's GPUs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asked {
    wanted: Wanted,
    /// What it gets for that.
    pub share: Option<GpuShare>,
}

impl Asked {
    /// By `container` with `changes`, of a task.
    ///
    /// # Errors
    /// [`Refused::Parameter`]
    pub fn by(
        container: &ContainerDefinition,
        changes: &ContainerOverride,
        planned: &PlannedDefinition,
        task: &PlannedTask,
    ) -> Result<Self, Refused> {
        let refused = |why: String| Refused::Parameter {
            container: container.name.clone(),
            field: "resourceRequirements",
            why,
        };
        let wanted = gpus::wanted(
            &container.resource_requirements,
            &changes.resource_requirements,
        )
        .map_err(|refusal| refused(refusal.into_clause()))?;
        if wanted == Wanted::Nothing {
            return Ok(Self {
                wanted,
                share: None,
            });
        }
        let whole = size::overridden(&planned.definition, task.overrides.as_ref());
        let sum = Sum::of_definitions(&whole.container_definitions);
        if let Some(wrong) = sum.wrong() {
            return Err(refused(wrong.to_owned()));
        }
        let share = match wanted {
            Wanted::Nothing => None,
            Wanted::Whole(count) => Some(GpuShare::Whole(count)),
            // It comes to where the others of its task are.
            Wanted::Part { .. } => Some(GpuShare::Part(sum.memory)),
        };
        Ok(Self { wanted, share })
    }

    /// Tells the container what does not depend on which GPUs it gets.
    pub fn tell(
        &self,
        container: &ContainerDefinition,
        settings: &GpuSettings,
        environment: &mut Vec<(String, String)>,
        labels: &mut BTreeMap<String, String>,
        mounts: &mut Vec<Mount>,
    ) {
        match self.wanted {
            Wanted::Nothing if settings.enabled => hide(container, environment, labels),
            Wanted::Nothing | Wanted::Whole(_) => {}
            Wanted::Part {
                memory,
                max_compute_percent,
            } => {
                let directory = &settings.mps_pipe_directory;
                // In place of what the definition says: nobody grants himself more.
                environment.retain(|(name, _)| {
                    ![PIPE_DIRECTORY, MEMORY_LIMIT, THREAD_LIMIT].contains(&name.as_str())
                });
                environment.push((PIPE_DIRECTORY.to_owned(), directory.clone()));
                environment.push((MEMORY_LIMIT.to_owned(), format!("0={memory}M")));
                environment.extend(
                    max_compute_percent
                        .map(|percent| (THREAD_LIMIT.to_owned(), percent.to_string())),
                );
                mounts.push(Mount {
                    source: MountSource::HostPath(directory.clone()),
                    path: directory.clone(),
                    read_only: false,
                });
            }
        }
    }
}

/// Images of the vendor ask for all GPUs, and get them where the vendor's runtime is the engine's default. Who writes the
/// variable into the definition means it. And no image says in a label of its own that it holds some.
fn hide(
    container: &ContainerDefinition,
    environment: &mut Vec<(String, String)>,
    labels: &mut BTreeMap<String, String>,
) {
    let by_secret = container.secrets.iter().any(|s| s.name == VISIBLE_DEVICES);
    if !by_secret && !environment.iter().any(|(name, _)| name == VISIBLE_DEVICES) {
        environment.push((VISIBLE_DEVICES.to_owned(), NO_GPU.to_owned()));
    }
    labels.insert(labels::CONTAINER_GPUS.to_owned(), String::new());
}
