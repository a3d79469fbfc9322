//! The port, as the fake answers it.

use std::future::{Future, poll_fn, ready};
use std::task::Poll;
use std::time::Duration;

use futures::channel::mpsc::unbounded;
use futures::stream::{BoxStream, StreamExt};

use crate::fake::FakeEngine;
use crate::fake::calls::{Fate, Outcome};
use crate::fake::world::World;
use crate::{
    ContainerSpec, ContainerState, ContainerSummary, Created, Engine, EngineDescription,
    EngineError, Group, Hint, ImageState, Label, LocalImage, NetworkSpec, Prepared, PullBehavior,
    RegistryCredentials, Stats, Verb, VolumeSpec, VolumeState,
};

impl FakeEngine {
    /// Runs one call: its fate first, then the effect, then the log.
    fn call<T>(
        &self,
        verb: Verb,
        target: &str,
        effect: impl FnOnce(&mut World) -> Result<T, EngineError>,
    ) -> Result<T, EngineError> {
        let mut world = self.lock();
        let (answer, outcome) = match world.calls.begin(verb, target) {
            Fate::Refuse(error) => {
                let outcome = Outcome::Failed(error.to_string());
                (Err(error), outcome)
            }
            Fate::Lose(error) => {
                let outcome = match effect(&mut world) {
                    Ok(_) => Outcome::DoneButLost,
                    Err(inner) => Outcome::Failed(inner.to_string()),
                };
                (Err(error), outcome)
            }
            Fate::Normal => {
                let answer = effect(&mut world);
                let outcome = match &answer {
                    Ok(_) => Outcome::Done,
                    Err(error) => Outcome::Failed(error.to_string()),
                };
                (answer, outcome)
            }
        };
        let now = world.now;
        world.calls.end(now, verb, target, outcome);
        answer
    }

    /// Resolves when the container does not run. Only a held stop ever waits.
    async fn until_stopped(&self, name: &str) {
        poll_fn(|context| {
            let mut world = self.lock();
            let alive = world
                .inspect(name)
                .is_some_and(|state| state.phase.kind().is_alive());
            if alive {
                world.wait(context.waker());
                Poll::Pending
            } else {
                Poll::Ready(())
            }
        })
        .await;
    }
}

impl Engine for FakeEngine {
    fn describe(&self) -> impl Future<Output = Result<EngineDescription, EngineError>> + Send {
        ready(self.call(Verb::Describe, "", |world| Ok(world.description.clone())))
    }

    fn prepare(
        &self,
        image: &str,
        behavior: PullBehavior,
        credentials: Option<&RegistryCredentials>,
    ) -> impl Future<Output = Result<Prepared, EngineError>> + Send {
        ready(self.call(Verb::Prepare, image, |world| {
            world.images.prepare(image, behavior, credentials)
        }))
    }

    fn create(
        &self,
        spec: &ContainerSpec,
    ) -> impl Future<Output = Result<Created, EngineError>> + Send {
        ready(self.call(Verb::Create, &spec.name, |world| world.create(spec)))
    }

    fn start(&self, name: &str) -> impl Future<Output = Result<(), EngineError>> + Send {
        ready(self.call(Verb::Start, name, |world| world.start(name)))
    }

    async fn stop(&self, name: &str, grace: Duration) -> Result<(), EngineError> {
        self.call(Verb::Stop, name, |world| {
            if world.begin_stop(name, grace).is_some() && !world.hold_stops {
                world.finish_stop(name);
            }
            Ok(())
        })?;
        self.until_stopped(name).await;
        Ok(())
    }

    fn remove(&self, name: &str) -> impl Future<Output = Result<(), EngineError>> + Send {
        ready(self.call(Verb::Remove, name, |world| world.remove(name)))
    }

    fn inspect(
        &self,
        name: &str,
    ) -> impl Future<Output = Result<Option<ContainerState>, EngineError>> + Send {
        ready(self.call(Verb::Inspect, name, |world| Ok(world.inspect(name))))
    }

    fn list(
        &self,
        scope: Label<'_>,
    ) -> impl Future<Output = Result<Vec<ContainerSummary>, EngineError>> + Send {
        ready(self.call(Verb::List, scope.1, |world| Ok(world.list(Some(scope)))))
    }

    fn stats(&self, name: &str) -> impl Future<Output = Result<Option<Stats>, EngineError>> + Send {
        ready(self.call(Verb::Stats, name, |world| Ok(world.stats(name))))
    }

    fn watch(&self, scope: Label<'_>) -> BoxStream<'static, Hint> {
        let (sender, receiver) = unbounded();
        let subscribed = self.call(Verb::Watch, scope.1, |world| {
            world.watch((scope.0.to_owned(), scope.1.to_owned()), sender.clone());
            Ok(())
        });
        if subscribed.is_err() {
            // Fresh and unbounded, with its receiver at hand: it cannot refuse.
            let _ = sender.unbounded_send(Hint::Lost);
        }
        receiver.boxed()
    }

    fn create_volume(
        &self,
        spec: &VolumeSpec,
    ) -> impl Future<Output = Result<(), EngineError>> + Send {
        ready(self.call(Verb::CreateVolume, &spec.name, |world| {
            world.volumes.create(spec)
        }))
    }

    fn inspect_volume(
        &self,
        name: &str,
    ) -> impl Future<Output = Result<Option<VolumeState>, EngineError>> + Send {
        ready(self.call(Verb::InspectVolume, name, |world| {
            Ok(world.volumes.inspect(name))
        }))
    }

    fn remove_volume(
        &self,
        name: &str,
        owner: Label<'_>,
    ) -> impl Future<Output = Result<(), EngineError>> + Send {
        ready(self.call(Verb::RemoveVolume, name, |world| {
            world.remove_volume(name, owner)
        }))
    }

    fn list_volumes(
        &self,
        scope: Label<'_>,
    ) -> impl Future<Output = Result<Vec<VolumeState>, EngineError>> + Send {
        ready(self.call(Verb::ListVolumes, scope.1, |world| {
            Ok(world.volumes.list(Some(scope)))
        }))
    }

    fn provide_group(&self, group: &Group) -> impl Future<Output = Result<(), EngineError>> + Send {
        ready(self.call(Verb::ProvideGroup, &group.name, |world| {
            world.provide_group(group);
            Ok(())
        }))
    }

    fn ensure_image(
        &self,
        image: &LocalImage,
    ) -> impl Future<Output = Result<(), EngineError>> + Send {
        ready(self.call(Verb::EnsureImage, &image.reference, |world| {
            world.images.import(&image.reference);
            Ok(())
        }))
    }

    fn remove_group(&self, name: &str) -> impl Future<Output = Result<bool, EngineError>> + Send {
        ready(self.call(Verb::RemoveGroup, name, |world| {
            Ok(world.remove_group(name))
        }))
    }

    fn list_groups(
        &self,
        parent: &str,
    ) -> impl Future<Output = Result<Vec<String>, EngineError>> + Send {
        ready(self.call(Verb::ListGroups, parent, |world| {
            Ok(world.list_groups(parent))
        }))
    }

    fn list_all(&self) -> impl Future<Output = Result<Vec<ContainerSummary>, EngineError>> + Send {
        ready(self.call(Verb::ListAll, "", |world| Ok(world.list(None))))
    }

    fn list_images(&self) -> impl Future<Output = Result<Vec<ImageState>, EngineError>> + Send {
        ready(self.call(Verb::ListImages, "", |world| Ok(world.images.list())))
    }

    fn remove_image(&self, name: &str) -> impl Future<Output = Result<(), EngineError>> + Send {
        ready(self.call(Verb::RemoveImage, name, |world| world.remove_image(name)))
    }
    fn ensure_network(
        &self,
        network: &NetworkSpec,
    ) -> impl Future<Output = Result<(), EngineError>> + Send {
        ready(self.call(Verb::EnsureNetwork, &network.name, |world| {
            let labels = || network.labels.clone();
            world
                .networks
                .entry(network.name.clone())
                .or_insert_with(labels);
            Ok(())
        }))
    }

    fn attach(
        &self,
        name: &str,
        network: &str,
    ) -> impl Future<Output = Result<(), EngineError>> + Send {
        ready(self.call(Verb::Attach, name, |world| world.attach(name, network)))
    }
}
