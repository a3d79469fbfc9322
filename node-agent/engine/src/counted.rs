//! An engine that counts what is asked of it. The counts are for people and benchmarks; nothing decides by them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures::stream::BoxStream;

use crate::{
    ContainerSpec, ContainerState, ContainerSummary, Created, Engine, EngineDescription,
    EngineError, Group, Hint, ImageState, Label, LocalImage, NetworkSpec, Prepared, PullBehavior,
    RegistryCredentials, Stats, Verb, VolumeSpec, VolumeState,
};

const VERBS: [Verb; 22] = [
    Verb::Describe,
    Verb::Prepare,
    Verb::Create,
    Verb::Start,
    Verb::Stop,
    Verb::Remove,
    Verb::Inspect,
    Verb::List,
    Verb::Watch,
    Verb::CreateVolume,
    Verb::InspectVolume,
    Verb::RemoveVolume,
    Verb::ListVolumes,
    Verb::ProvideGroup,
    Verb::RemoveGroup,
    Verb::ListGroups,
    Verb::ListAll,
    Verb::ListImages,
    Verb::RemoveImage,
    Verb::Stats,
    Verb::EnsureImage,
    Verb::EnsureNetwork,
];

/// Calls and failed calls of each verb.
#[derive(Debug, Default)]
pub struct Counts {
    calls: [AtomicU64; VERBS.len()],
    failures: [AtomicU64; VERBS.len()],
}

impl Counts {
    /// Verb, calls, and how many of them failed.
    pub fn read(&self) -> impl Iterator<Item = (Verb, u64, u64)> + '_ {
        let counts = self.calls.iter().zip(&self.failures);
        VERBS
            .into_iter()
            .zip(counts)
            .map(|(verb, (calls, failures))| {
                (
                    verb,
                    calls.load(Ordering::Relaxed),
                    failures.load(Ordering::Relaxed),
                )
            })
    }

    fn note<T>(&self, verb: Verb, result: &Result<T, EngineError>) {
        let slot = VERBS.iter().position(|v| *v == verb).unwrap_or_default();
        self.calls[slot].fetch_add(1, Ordering::Relaxed);
        if result.is_err() {
            self.failures[slot].fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Forwards every call and counts it.
#[derive(Debug)]
pub struct Counted<E> {
    engine: E,
    counts: Arc<Counts>,
}

impl<E: Engine> Counted<E> {
    /// Counts what is asked of `engine`.
    pub fn new(engine: E) -> Counted<E> {
        Counted {
            engine,
            counts: Arc::default(),
        }
    }

    /// The counts, which go on rising.
    pub fn counts(&self) -> Arc<Counts> {
        Arc::clone(&self.counts)
    }
}

impl<E: Engine> Engine for Counted<E> {
    async fn describe(&self) -> Result<EngineDescription, EngineError> {
        let result = self.engine.describe().await;
        self.counts.note(Verb::Describe, &result);
        result
    }

    async fn prepare(
        &self,
        image: &str,
        behavior: PullBehavior,
        credentials: Option<&RegistryCredentials>,
    ) -> Result<Prepared, EngineError> {
        let result = self.engine.prepare(image, behavior, credentials).await;
        self.counts.note(Verb::Prepare, &result);
        result
    }

    async fn create(&self, spec: &ContainerSpec) -> Result<Created, EngineError> {
        let result = self.engine.create(spec).await;
        self.counts.note(Verb::Create, &result);
        result
    }

    async fn start(&self, name: &str) -> Result<(), EngineError> {
        let result = self.engine.start(name).await;
        self.counts.note(Verb::Start, &result);
        result
    }

    async fn stop(&self, name: &str, grace: Duration) -> Result<(), EngineError> {
        let result = self.engine.stop(name, grace).await;
        self.counts.note(Verb::Stop, &result);
        result
    }

    async fn remove(&self, name: &str) -> Result<(), EngineError> {
        let result = self.engine.remove(name).await;
        self.counts.note(Verb::Remove, &result);
        result
    }

    async fn inspect(&self, name: &str) -> Result<Option<ContainerState>, EngineError> {
        let result = self.engine.inspect(name).await;
        self.counts.note(Verb::Inspect, &result);
        result
    }

    async fn list(&self, scope: Label<'_>) -> Result<Vec<ContainerSummary>, EngineError> {
        let result = self.engine.list(scope).await;
        self.counts.note(Verb::List, &result);
        result
    }

    async fn stats(&self, name: &str) -> Result<Option<Stats>, EngineError> {
        let result = self.engine.stats(name).await;
        self.counts.note(Verb::Stats, &result);
        result
    }

    fn watch(&self, scope: Label<'_>) -> BoxStream<'static, Hint> {
        self.counts.note(Verb::Watch, &Ok(()));
        self.engine.watch(scope)
    }

    async fn create_volume(&self, spec: &VolumeSpec) -> Result<(), EngineError> {
        let result = self.engine.create_volume(spec).await;
        self.counts.note(Verb::CreateVolume, &result);
        result
    }

    async fn inspect_volume(&self, name: &str) -> Result<Option<VolumeState>, EngineError> {
        let result = self.engine.inspect_volume(name).await;
        self.counts.note(Verb::InspectVolume, &result);
        result
    }

    async fn remove_volume(&self, name: &str, owner: Label<'_>) -> Result<(), EngineError> {
        let result = self.engine.remove_volume(name, owner).await;
        self.counts.note(Verb::RemoveVolume, &result);
        result
    }

    async fn list_volumes(&self, scope: Label<'_>) -> Result<Vec<VolumeState>, EngineError> {
        let result = self.engine.list_volumes(scope).await;
        self.counts.note(Verb::ListVolumes, &result);
        result
    }

    async fn provide_group(&self, group: &Group) -> Result<(), EngineError> {
        let result = self.engine.provide_group(group).await;
        self.counts.note(Verb::ProvideGroup, &result);
        result
    }

    async fn remove_group(&self, name: &str) -> Result<bool, EngineError> {
        let result = self.engine.remove_group(name).await;
        self.counts.note(Verb::RemoveGroup, &result);
        result
    }

    async fn list_groups(&self, parent: &str) -> Result<Vec<String>, EngineError> {
        let result = self.engine.list_groups(parent).await;
        self.counts.note(Verb::ListGroups, &result);
        result
    }

    async fn list_all(&self) -> Result<Vec<ContainerSummary>, EngineError> {
        let result = self.engine.list_all().await;
        self.counts.note(Verb::ListAll, &result);
        result
    }

    async fn list_images(&self) -> Result<Vec<ImageState>, EngineError> {
        let result = self.engine.list_images().await;
        self.counts.note(Verb::ListImages, &result);
        result
    }

    async fn remove_image(&self, name: &str) -> Result<(), EngineError> {
        let result = self.engine.remove_image(name).await;
        self.counts.note(Verb::RemoveImage, &result);
        result
    }

    async fn ensure_image(&self, image: &LocalImage) -> Result<(), EngineError> {
        let result = self.engine.ensure_image(image).await;
        self.counts.note(Verb::EnsureImage, &result);
        result
    }

    async fn ensure_network(&self, network: &NetworkSpec) -> Result<(), EngineError> {
        let result = self.engine.ensure_network(network).await;
        self.counts.note(Verb::EnsureNetwork, &result);
        result
    }
}
