//! An engine that counts what is asked of it. The counts are for people and benchmarks; nothing decides by them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use futures::stream::BoxStream;

use crate::{
    ContainerSpec, ContainerState, ContainerSummary, Created, Engine, EngineDescription,
    EngineError, Group, Hint, ImageState, Label, LocalImage, NetworkSpec, Prepared, PullBehavior,
    RegistryCredentials, Stats, Verb, VolumeSpec, VolumeState,
};

const VERBS: [Verb; 23] = [
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
    Verb::Attach,
];

/// Calls and failed calls of each verb.
#[derive(Debug, Default)]
pub struct Counts {
    calls: [AtomicU64; VERBS.len()],
    failures: [AtomicU64; VERBS.len()],
    /// Microseconds that all calls took.
    micros: [AtomicU64; VERBS.len()],
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

    /// How long all calls of a verb took.
    pub fn took(&self, verb: Verb) -> Duration {
        let slot = VERBS.iter().position(|v| *v == verb).unwrap_or_default();
        Duration::from_micros(self.micros[slot].load(Ordering::Relaxed))
    }

    async fn timed<T>(
        &self,
        verb: Verb,
        call: impl Future<Output = Result<T, EngineError>>,
    ) -> Result<T, EngineError> {
        let begin = Instant::now();
        let result = call.await;
        let slot = VERBS.iter().position(|v| *v == verb).unwrap_or_default();
        let micros = u64::try_from(begin.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.micros[slot].fetch_add(micros, Ordering::Relaxed);
        self.note(verb, &result);
        result
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
        self.counts
            .timed(Verb::Describe, self.engine.describe())
            .await
    }

    async fn prepare(
        &self,
        image: &str,
        behavior: PullBehavior,
        credentials: Option<&RegistryCredentials>,
    ) -> Result<Prepared, EngineError> {
        self.counts
            .timed(
                Verb::Prepare,
                self.engine.prepare(image, behavior, credentials),
            )
            .await
    }

    async fn create(&self, spec: &ContainerSpec) -> Result<Created, EngineError> {
        self.counts
            .timed(Verb::Create, self.engine.create(spec))
            .await
    }

    async fn start(&self, name: &str) -> Result<(), EngineError> {
        self.counts
            .timed(Verb::Start, self.engine.start(name))
            .await
    }

    async fn stop(&self, name: &str, grace: Duration) -> Result<(), EngineError> {
        self.counts
            .timed(Verb::Stop, self.engine.stop(name, grace))
            .await
    }

    async fn remove(&self, name: &str) -> Result<(), EngineError> {
        self.counts
            .timed(Verb::Remove, self.engine.remove(name))
            .await
    }

    async fn inspect(&self, name: &str) -> Result<Option<ContainerState>, EngineError> {
        self.counts
            .timed(Verb::Inspect, self.engine.inspect(name))
            .await
    }

    async fn list(&self, scope: Label<'_>) -> Result<Vec<ContainerSummary>, EngineError> {
        self.counts.timed(Verb::List, self.engine.list(scope)).await
    }

    async fn stats(&self, name: &str) -> Result<Option<Stats>, EngineError> {
        self.counts
            .timed(Verb::Stats, self.engine.stats(name))
            .await
    }

    fn watch(&self, scope: Label<'_>) -> BoxStream<'static, Hint> {
        self.counts.note(Verb::Watch, &Ok(()));
        self.engine.watch(scope)
    }

    async fn create_volume(&self, spec: &VolumeSpec) -> Result<(), EngineError> {
        self.counts
            .timed(Verb::CreateVolume, self.engine.create_volume(spec))
            .await
    }

    async fn inspect_volume(&self, name: &str) -> Result<Option<VolumeState>, EngineError> {
        self.counts
            .timed(Verb::InspectVolume, self.engine.inspect_volume(name))
            .await
    }

    async fn remove_volume(&self, name: &str, owner: Label<'_>) -> Result<(), EngineError> {
        self.counts
            .timed(Verb::RemoveVolume, self.engine.remove_volume(name, owner))
            .await
    }

    async fn list_volumes(&self, scope: Label<'_>) -> Result<Vec<VolumeState>, EngineError> {
        self.counts
            .timed(Verb::ListVolumes, self.engine.list_volumes(scope))
            .await
    }

    async fn provide_group(&self, group: &Group) -> Result<(), EngineError> {
        self.counts
            .timed(Verb::ProvideGroup, self.engine.provide_group(group))
            .await
    }

    async fn remove_group(&self, name: &str) -> Result<bool, EngineError> {
        self.counts
            .timed(Verb::RemoveGroup, self.engine.remove_group(name))
            .await
    }

    async fn list_groups(&self, parent: &str) -> Result<Vec<String>, EngineError> {
        self.counts
            .timed(Verb::ListGroups, self.engine.list_groups(parent))
            .await
    }

    async fn list_all(&self) -> Result<Vec<ContainerSummary>, EngineError> {
        self.counts
            .timed(Verb::ListAll, self.engine.list_all())
            .await
    }

    async fn list_images(&self) -> Result<Vec<ImageState>, EngineError> {
        self.counts
            .timed(Verb::ListImages, self.engine.list_images())
            .await
    }

    async fn remove_image(&self, name: &str) -> Result<(), EngineError> {
        self.counts
            .timed(Verb::RemoveImage, self.engine.remove_image(name))
            .await
    }

    async fn ensure_image(&self, image: &LocalImage) -> Result<(), EngineError> {
        self.counts
            .timed(Verb::EnsureImage, self.engine.ensure_image(image))
            .await
    }

    async fn ensure_network(&self, network: &NetworkSpec) -> Result<(), EngineError> {
        self.counts
            .timed(Verb::EnsureNetwork, self.engine.ensure_network(network))
            .await
    }

    async fn attach(&self, name: &str, network: &str) -> Result<(), EngineError> {
        self.counts
            .timed(Verb::Attach, self.engine.attach(name, network))
            .await
    }
}
