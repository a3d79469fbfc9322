//! The port's verbs as calls of the Engine API: one call each, where the verb allows it.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use bollard::Docker;
use bollard::query_parameters::{
    CreateContainerOptions, InspectContainerOptions, ListContainersOptions, RemoveContainerOptions,
    StartContainerOptions, StatsOptions, StopContainerOptions,
};
use futures::stream::{BoxStream, StreamExt};

use tallyman_agent_engine::{
    ContainerSpec, ContainerState, ContainerSummary, Created, Engine, EngineDescription,
    EngineError, Group, Hint, ImageState, Label, LocalImage, NetworkSpec, Prepared, PullBehavior,
    RegistryCredentials, Stats, Verb, VolumeSpec, VolumeState,
};

use crate::faults::{self, Answer, Trouble, answer, plain};
use crate::{DockerEngine, Failure, events, kernel_log, read, spell};

impl Engine for DockerEngine {
    async fn describe(&self) -> Result<EngineDescription, EngineError> {
        let call = async {
            let client = self.connection.renegotiate().await?;
            Ok((client.version().await?, client.info().await?))
        };
        let answered = self.within(Verb::Describe, self.settings.look, call).await;
        let (version, info) = answered.map_err(|failure| failure.plainly(Verb::Describe))?;
        Ok(read::description(version, info))
    }

    async fn prepare(
        &self,
        image: &str,
        behavior: PullBehavior,
        credentials: Option<&RegistryCredentials>,
    ) -> Result<Prepared, EngineError> {
        self.prepare_image(image, behavior, credentials).await
    }

    async fn create(&self, spec: &ContainerSpec) -> Result<Created, EngineError> {
        let options = CreateContainerOptions {
            name: Some(spec.name.clone()),
            ..CreateContainerOptions::default()
        };
        let body = spell::body(spec);
        let call = async {
            let client = self.connection.client().await?;
            Ok(client.create_container(Some(options), body).await?)
        };
        let refusal = match self.within(Verb::Create, self.settings.create, call).await {
            Ok(created) => {
                return Ok(Created {
                    container_id: created.id,
                    adopted: false,
                });
            }
            Err(Failure::Overdue(error)) => return Err(error),
            Err(Failure::Answered(trouble)) => answer(Verb::Create, trouble),
        };
        if let Answer::Status(409, message) = refusal {
            return self.adopt(spec, message).await;
        }
        let error = faults::create(&spec.image, refusal);
        if matches!(error, EngineError::ImageNotFound { .. }) {
            self.pulls.forget(&spec.image);
        }
        Err(error)
    }

    async fn start(&self, name: &str) -> Result<(), EngineError> {
        // Docker answers 304 when it runs already, which bollard takes for success.
        let call = async {
            let client = self.connection.client().await?;
            Ok(client
                .start_container(name, None::<StartContainerOptions>)
                .await?)
        };
        match self.within(Verb::Start, self.settings.start, call).await {
            Ok(()) => Ok(()),
            Err(Failure::Overdue(error)) => Err(error),
            Err(Failure::Answered(trouble)) => {
                Err(faults::start(name, answer(Verb::Start, trouble)))
            }
        }
    }

    async fn stop(&self, name: &str, grace: Duration) -> Result<(), EngineError> {
        let seconds = spell::whole_seconds(grace);
        let options = StopContainerOptions {
            signal: None,
            t: Some(i32::try_from(seconds).unwrap_or(i32::MAX)),
        };
        let limit = grace + self.settings.stop_margin;
        let call = async {
            let client = self.connection.client().await?;
            Ok(client.stop_container(name, Some(options)).await?)
        };
        match self.within(Verb::Stop, limit, call).await {
            Ok(()) => Ok(()),
            Err(Failure::Overdue(error)) => Err(error),
            Err(Failure::Answered(trouble)) => match answer(Verb::Stop, trouble) {
                Answer::Status(404, _) => Ok(()),
                other => Err(plain(Verb::Stop, other)),
            },
        }
    }

    async fn remove(&self, name: &str) -> Result<(), EngineError> {
        let options = RemoveContainerOptions {
            v: true,
            force: false,
            link: false,
        };
        let call = async {
            let client = self.connection.client().await?;
            Ok(client.remove_container(name, Some(options)).await?)
        };
        match self.within(Verb::Remove, self.settings.remove, call).await {
            Ok(()) => Ok(()),
            Err(Failure::Overdue(error)) => Err(error),
            Err(Failure::Answered(trouble)) => match answer(Verb::Remove, trouble) {
                Answer::Status(404, _) => Ok(()),
                // Somebody else's removal; the next list tells how it ended.
                Answer::Status(409, message) if message.contains("already in progress") => Ok(()),
                // Running, paused or restarting.
                Answer::Status(409, _) => Err(EngineError::Running {
                    name: name.to_owned(),
                }),
                other => Err(plain(Verb::Remove, other)),
            },
        }
    }

    async fn inspect(&self, name: &str) -> Result<Option<ContainerState>, EngineError> {
        self.look(Verb::Inspect, name).await
    }

    async fn list(&self, scope: Label<'_>) -> Result<Vec<ContainerSummary>, EngineError> {
        self.containers(Verb::List, Some(scope)).await
    }

    async fn stats(&self, name: &str) -> Result<Option<Stats>, EngineError> {
        // Anything but one shot makes Docker wait for a second sample; who wants a rate asks twice.
        let options = StatsOptions {
            stream: false,
            one_shot: true,
        };
        let call = async {
            let client = self.connection.client().await?;
            let mut samples = std::pin::pin!(client.stats(name, Some(options)));
            Ok(samples.next().await.transpose()?)
        };
        match self.within(Verb::Stats, self.settings.look, call).await {
            Ok(sample) => Ok(sample.and_then(read::stats)),
            Err(Failure::Overdue(error)) => Err(error),
            Err(Failure::Answered(trouble)) => match answer(Verb::Stats, trouble) {
                Answer::Status(404, _) => Ok(None),
                other => Err(plain(Verb::Stats, other)),
            },
        }
    }

    fn watch(&self, scope: Label<'_>) -> BoxStream<'static, Hint> {
        events::hints(self.connection.clone(), scope)
    }

    async fn create_volume(&self, spec: &VolumeSpec) -> Result<(), EngineError> {
        self.make_volume(spec).await
    }

    async fn inspect_volume(&self, name: &str) -> Result<Option<VolumeState>, EngineError> {
        self.look_at_volume(Verb::InspectVolume, name).await
    }

    async fn remove_volume(&self, name: &str, owner: Label<'_>) -> Result<(), EngineError> {
        self.unmake_volume(name, owner).await
    }

    async fn ensure_image(&self, image: &LocalImage) -> Result<(), EngineError> {
        self.bring_image(image).await
    }

    async fn ensure_network(&self, network: &NetworkSpec) -> Result<(), EngineError> {
        self.bring_network(network).await
    }

    async fn attach(&self, name: &str, network: &str) -> Result<(), EngineError> {
        self.put_on(name, network).await
    }

    async fn list_volumes(&self, scope: Label<'_>) -> Result<Vec<VolumeState>, EngineError> {
        self.volumes(scope).await
    }

    async fn provide_group(&self, group: &Group) -> Result<(), EngineError> {
        self.groups.provide(group).await
    }

    async fn remove_group(&self, name: &str) -> Result<bool, EngineError> {
        self.groups.remove(name).await
    }

    async fn list_groups(&self, parent: &str) -> Result<Vec<String>, EngineError> {
        self.groups.list(parent).await
    }

    async fn list_all(&self) -> Result<Vec<ContainerSummary>, EngineError> {
        self.containers(Verb::ListAll, None).await
    }

    async fn list_images(&self) -> Result<Vec<ImageState>, EngineError> {
        self.images().await
    }

    async fn remove_image(&self, name: &str) -> Result<(), EngineError> {
        self.unmake_image(name).await
    }
}

impl DockerEngine {
    async fn containers(
        &self,
        verb: Verb,
        scope: Option<Label<'_>>,
    ) -> Result<Vec<ContainerSummary>, EngineError> {
        let options = ListContainersOptions {
            all: true,
            filters: scope
                .map(|scope| HashMap::from([("label".to_owned(), vec![events::filter(scope)])])),
            ..ListContainersOptions::default()
        };
        let call = async {
            let client = self.connection.client().await?;
            Ok(client.list_containers(Some(options)).await?)
        };
        let answered = self.within(verb, self.settings.list, call).await;
        let lines = answered.map_err(|failure| failure.plainly(verb))?;
        let only_ipv4 = self.settings.exclude_ipv6_port_bindings;
        let read = lines.into_iter().map(|line| read::summary(line, only_ipv4));
        let mut listed: Vec<ContainerSummary> = read
            .collect::<Option<_>>()
            .ok_or_else(|| incomprehensible(verb))?;
        listed.sort_by(|left, right| left.name.cmp(&right.name));
        Ok(listed)
    }

    /// The name is taken: by a container of ours from before, or by somebody else's.
    async fn adopt(&self, spec: &ContainerSpec, words: String) -> Result<Created, EngineError> {
        let Some(found) = self.look(Verb::Create, &spec.name).await? else {
            // Gone between the two calls, or a conflict about something else.
            return Err(EngineError::Engine {
                verb: Verb::Create,
                status: 500,
                message: words,
            });
        };
        if carries(&found.labels, &spec.labels) {
            Ok(Created {
                container_id: found.id,
                adopted: true,
            })
        } else {
            Err(EngineError::NameTaken {
                name: spec.name.clone(),
                holder: found.id,
            })
        }
    }

    async fn look(&self, verb: Verb, name: &str) -> Result<Option<ContainerState>, EngineError> {
        let call = async {
            let client: &Docker = self.connection.client().await?;
            let options = None::<InspectContainerOptions>;
            Ok(client.inspect_container(name, options).await?)
        };
        let found = match self.within(verb, self.settings.look, call).await {
            Ok(found) => found,
            Err(Failure::Overdue(error)) => return Err(error),
            Err(Failure::Answered(trouble)) => match answer(verb, trouble) {
                Answer::Status(404, _) => return Ok(None),
                other => return Err(plain(verb, other)),
            },
        };
        let only_ipv4 = self.settings.exclude_ipv6_port_bindings;
        match read::state(found, only_ipv4) {
            // Docker also finds containers by id prefix; ours are asked for by name only.
            Some(mut state) if state.name == name => {
                kernel_log::correct(&mut state).await;
                Ok(Some(state))
            }
            Some(_) => Ok(None),
            None => Err(incomprehensible(verb)),
        }
    }
}

impl Failure {
    pub(crate) fn plainly(self, verb: Verb) -> EngineError {
        match self {
            Self::Overdue(error) => error,
            Self::Answered(trouble) => plain(verb, answer(verb, trouble)),
        }
    }
}

impl From<EngineError> for Trouble {
    fn from(error: EngineError) -> Self {
        Self::Known(error)
    }
}

pub(crate) fn carries(has: &BTreeMap<String, String>, wanted: &BTreeMap<String, String>) -> bool {
    wanted
        .iter()
        .all(|(key, value)| has.get(key) == Some(value))
}

fn incomprehensible(verb: Verb) -> EngineError {
    EngineError::Engine {
        verb,
        status: 0,
        message: "the engine's answer lacks a container's id, name or state".to_owned(),
    }
}
