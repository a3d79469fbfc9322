//! What the agent sees of a task's containers, and what each kind of news does to it.

use std::collections::BTreeMap;

use tallyman_agent_engine::{ContainerState, ContainerSummary, Hint, Phase, PhaseKind, Verb};

use crate::account::Room;
use crate::assignment::AssignedTask;
use crate::task::record::TaskRecord;
use crate::task::volumes::VolumeSighting;

/// What was last seen of a container.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Sighting {
    /// Nobody looked, or something happened since: look before deciding anything.
    #[default]
    Stale,
    /// The engine said that there is none, or a complete list did not have it and nothing is remembered
    /// of it. Creating is safe in any case: a container that is there all the same is adopted.
    Absent,
    /// We just created it and nobody started it.
    Made {
        /// The engine's id.
        id: String,
    },
    /// The engine described it.
    Present(Box<ContainerState>),
}

impl Sighting {
    /// Whether a process of it may be alive: `None` when nobody knows.
    pub fn is_alive(&self) -> Option<bool> {
        match self {
            Self::Stale => None,
            Self::Absent | Self::Made { .. } => Some(false),
            Self::Present(state) => Some(state.phase.kind().is_alive()),
        }
    }
}

/// What is seen of a task, and what was asked of the engine and is not settled.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TaskObservation {
    /// By container name in the task definition; a missing entry is [`Sighting::Stale`].
    pub containers: BTreeMap<String, Sighting>,
    /// The verb in flight for a container. None survives a restart.
    pub in_flight: BTreeMap<String, Verb>,
    /// By volume name in the task definition; a missing entry is [`VolumeSighting::Stale`].
    pub volumes: BTreeMap<String, VolumeSighting>,
    /// The verb in flight for a volume. None survives a restart.
    pub volumes_in_flight: BTreeMap<String, Verb>,
    /// Whether the host has room for it.
    pub room: Room,
    /// Containers of which there was news while a verb was in flight: look again when it settles.
    pub(crate) look_again: BTreeMap<String, News>,
}

/// What was told of a container while a verb was in flight for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum News {
    /// That it died, and nothing else: no news to a look that found it exited.
    Death,
    /// Something else, too.
    More,
}

impl TaskObservation {
    /// What is known when the worker of a task begins, given a *complete* list of our containers.
    /// A container that is remembered or listed is looked at; another one is taken to be absent.
    pub fn begin(task: &AssignedTask, record: &TaskRecord, listed: &[ContainerSummary]) -> Self {
        let mut seen = Self::default();
        for container in task.containers() {
            let known = record.containers.get(&container.name);
            let remembered = known.is_some_and(|known| {
                known.created
                    || known
                        .retrying
                        .as_ref()
                        .is_some_and(|r| r.verb != Verb::Prepare)
            });
            let attempt = known.map_or(1, |known| known.attempt);
            let name = container.engine_name(attempt);
            let is_listed = listed.iter().any(|summary| summary.name == name);
            let sighting = if remembered || is_listed {
                Sighting::Stale
            } else {
                Sighting::Absent
            };
            seen.containers.insert(container.name.clone(), sighting);
        }
        seen
    }

    /// What is seen of a container.
    pub fn sighting(&self, container: &str) -> &Sighting {
        self.containers.get(container).unwrap_or(&Sighting::Stale)
    }

    /// What is seen of a volume.
    pub fn volume(&self, volume: &str) -> &VolumeSighting {
        self.volumes.get(volume).unwrap_or(&VolumeSighting::Stale)
    }

    /// Marks a verb as handed out, for a container or a volume.
    pub fn started(&mut self, name: &str, verb: Verb) {
        let in_flight = match verb {
            Verb::CreateVolume | Verb::InspectVolume | Verb::RemoveVolume => {
                &mut self.volumes_in_flight
            }
            Verb::Prepare
            | Verb::EnsureImage
            | Verb::EnsureNetwork
            | Verb::Attach
            | Verb::Create
            | Verb::Start
            | Verb::Stop
            | Verb::Remove
            | Verb::Inspect
            | Verb::Describe
            | Verb::List
            | Verb::Watch
            | Verb::ListVolumes
            | Verb::ProvideGroup
            | Verb::RemoveGroup
            | Verb::ListGroups
            | Verb::ListAll
            | Verb::ListImages
            | Verb::RemoveImage
            | Verb::Stats => &mut self.in_flight,
        };
        in_flight.insert(name.to_owned(), verb);
    }

    /// Compares a complete list of our containers with what was seen; what differs is looked at.
    /// A list proves nothing by itself: it may be older than our last call.
    pub fn listed(
        &mut self,
        task: &AssignedTask,
        record: &TaskRecord,
        summaries: &[ContainerSummary],
    ) {
        for container in task.containers() {
            if self.in_flight.contains_key(&container.name) {
                continue;
            }
            let attempt = record
                .containers
                .get(&container.name)
                .map_or(1, |known| known.attempt);
            let name = container.engine_name(attempt);
            let summary = summaries.iter().find(|summary| summary.name == name);
            let same = match (self.sighting(&container.name), summary) {
                (Sighting::Stale, _) | (Sighting::Absent, None) => true,
                (Sighting::Absent, Some(_)) => false,
                (Sighting::Made { .. }, summary) => {
                    summary.is_some_and(|s| s.phase == PhaseKind::Created)
                }
                (Sighting::Present(_), None) => false,
                (Sighting::Present(state), Some(summary)) => {
                    state.phase.kind() == summary.phase
                        && state.id == summary.id
                        && state.ports == summary.ports
                        && summary.health.is_none_or(|health| health == state.health)
                }
            };
            if !same {
                self.containers
                    .insert(container.name.clone(), Sighting::Stale);
            }
        }
    }

    /// Takes an engine event for what it is: a reason to look. The start that we asked for ourselves is
    /// no news.
    pub fn hinted(&mut self, container: &str, hint: &Hint) {
        let busy = self.in_flight.contains_key(container);
        let news = match (hint, self.sighting(container)) {
            (Hint::Lost, _) => false,
            (Hint::Started(_), Sighting::Present(state)) => match state.phase {
                Phase::Running { .. } => false,
                Phase::Created
                | Phase::Paused
                | Phase::Restarting
                | Phase::Removing
                | Phase::Exited { .. }
                | Phase::Dead => !busy,
            },
            (Hint::Started(_), Sighting::Stale | Sighting::Made { .. }) => false,
            (Hint::Started(_), Sighting::Absent) => !busy,
            (Hint::Died(_), Sighting::Present(state)) => {
                busy || !matches!(state.phase, Phase::Exited { .. })
            }
            (Hint::Destroyed(_), Sighting::Absent) => busy,
            (Hint::Died(_) | Hint::HealthChanged(_) | Hint::Destroyed(_), _) => true,
        };
        if !news {
            return;
        }
        if busy {
            let death = matches!(hint, Hint::Died(_));
            let news = self.look_again.entry(container.to_owned());
            let news = news.or_insert(News::Death);
            if !death {
                *news = News::More;
            }
        } else {
            self.containers
                .insert(container.to_owned(), Sighting::Stale);
        }
    }
}
