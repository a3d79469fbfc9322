//! The port: the verbs that the agent asks of an engine.

use std::fmt;
use std::future::Future;
use std::time::Duration;

use futures::stream::BoxStream;

use crate::{
    ContainerSpec, ContainerState, ContainerSummary, EngineDescription, EngineError, Group,
    ImageState, LocalImage, NetworkSpec, Prepared, PullBehavior, RegistryCredentials, Stats,
    VolumeSpec, VolumeState,
};

/// A label's key and value; containers and volumes that carry it are in scope.
pub type Label<'a> = (&'a str, &'a str);

/// A container engine.
///
/// Every verb is idempotent: doing it again after an unknown outcome is safe and ends in the same
/// state. Every verb ends in bounded time; [`EngineError::Timeout`] and [`EngineError::Interrupted`]
/// mean that the outcome is unknown, not that nothing happened. Containers are addressed by name.
/// Dropping a future gives up waiting; the engine may still carry the call out.
pub trait Engine: Send + Sync + 'static {
    /// Says who the engine is and what its host has.
    ///
    /// # Errors
    /// [`EngineError::TooOld`] when the engine's API is older than we speak, and the common ones.
    fn describe(&self) -> impl Future<Output = Result<EngineDescription, EngineError>> + Send;

    /// Makes an image present on the host as `behavior` says, asking the registry with `credentials`, or without
    /// those as the engine's own client would. Concurrent calls for one image with the same credentials share one pull.
    ///
    /// # Errors
    /// [`EngineError::ImageNotFound`], [`EngineError::PullFailed`], [`EngineError::CannotAuthenticate`],
    /// [`EngineError::CannotResolve`], [`EngineError::NoSpace`]: the pull failed and, under [`PullBehavior::Default`],
    /// the host has no such image either.
    fn prepare(
        &self,
        image: &str,
        behavior: PullBehavior,
        credentials: Option<&RegistryCredentials>,
    ) -> impl Future<Output = Result<Prepared, EngineError>> + Send;

    /// Makes an image present that the agent brings with itself; one that is there is fine.
    ///
    /// # Errors
    /// [`EngineError::NoSpace`], and the common ones.
    fn ensure_image(
        &self,
        image: &LocalImage,
    ) -> impl Future<Output = Result<(), EngineError>> + Send;

    /// Creates a container, or adopts the one that has this name and all the spec's labels.
    ///
    /// # Errors
    /// [`EngineError::NameTaken`] when a container without our labels has the name,
    /// [`EngineError::ImageNotFound`] when the host does not have the image,
    /// [`EngineError::InvalidSpec`] when the engine refuses the settings.
    fn create(
        &self,
        spec: &ContainerSpec,
    ) -> impl Future<Output = Result<Created, EngineError>> + Send;

    /// Starts a container; one that runs already is fine. One that exited runs again.
    ///
    /// # Errors
    /// [`EngineError::NotFound`], [`EngineError::PortTaken`], [`EngineError::NetworkNotFound`],
    /// [`EngineError::NoDeviceDriver`], [`EngineError::CannotStart`].
    fn start(&self, name: &str) -> impl Future<Output = Result<(), EngineError>> + Send;

    /// Stops a container: its stop signal (SIGTERM), and SIGKILL when it still runs after `grace`.
    /// One that is stopped, was never started, or does not exist is fine. On success it does not run.
    ///
    /// # Errors
    /// The common ones. The call may take as long as `grace` and some 30 s.
    fn stop(
        &self,
        name: &str,
        grace: Duration,
    ) -> impl Future<Output = Result<(), EngineError>> + Send;

    /// Removes a stopped container and its anonymous volumes; one that does not exist is fine.
    ///
    /// # Errors
    /// [`EngineError::Running`]: it runs, nothing was removed.
    fn remove(&self, name: &str) -> impl Future<Output = Result<(), EngineError>> + Send;

    /// Looks at one container. `None` only when the engine itself says that there is none.
    ///
    /// # Errors
    /// The common ones.
    fn inspect(
        &self,
        name: &str,
    ) -> impl Future<Output = Result<Option<ContainerState>, EngineError>> + Send;

    /// All containers that carry `scope`, whatever their phase, sorted by name.
    ///
    /// # Errors
    /// The common ones. Never a partial answer.
    fn list(
        &self,
        scope: Label<'_>,
    ) -> impl Future<Output = Result<Vec<ContainerSummary>, EngineError>> + Send;

    /// What a container uses at the moment. `None` when it does not run, or when the engine itself says that
    /// there is none.
    ///
    /// # Errors
    /// The common ones.
    fn stats(&self, name: &str) -> impl Future<Output = Result<Option<Stats>, EngineError>> + Send;

    /// What happens to containers that carry `scope`, from now on. Best effort: hints may be lost,
    /// late or doubled, so a full list is needed after subscribing and now and then. The stream ends
    /// with one [`Hint::Lost`]; the caller waits a little and watches again.
    fn watch(&self, scope: Label<'_>) -> BoxStream<'static, Hint>;

    /// Creates a volume, or adopts the one that has this name and all the spec's labels.
    ///
    /// # Errors
    /// [`EngineError::VolumeTaken`] when a volume without these labels, or of another driver, has the
    /// name, [`EngineError::InvalidSpec`] when the engine refuses name, driver or options.
    fn create_volume(
        &self,
        spec: &VolumeSpec,
    ) -> impl Future<Output = Result<(), EngineError>> + Send;

    /// Looks at one volume. `None` only when the engine itself says that there is none.
    ///
    /// # Errors
    /// The common ones.
    fn inspect_volume(
        &self,
        name: &str,
    ) -> impl Future<Output = Result<Option<VolumeState>, EngineError>> + Send;

    /// Removes a volume that carries `owner`, with all that is in it. One that does not exist is fine;
    /// one that does not carry `owner` is somebody else's and stays, which is fine, too.
    ///
    /// # Errors
    /// [`EngineError::VolumeInUse`]: a container has it, running or not; nothing was removed.
    fn remove_volume(
        &self,
        name: &str,
        owner: Label<'_>,
    ) -> impl Future<Output = Result<(), EngineError>> + Send;

    /// All volumes that carry `scope`, sorted by name.
    ///
    /// # Errors
    /// The common ones. Never a partial answer.
    fn list_volumes(
        &self,
        scope: Label<'_>,
    ) -> impl Future<Output = Result<Vec<VolumeState>, EngineError>> + Send;

    /// Makes a group with these limits, or gives its limits to one that is there.
    ///
    /// # Errors
    /// [`EngineError::CannotLimit`] when the host does not let us; containers of the group must not start then.
    fn provide_group(&self, group: &Group) -> impl Future<Output = Result<(), EngineError>> + Send;

    /// Removes a group. Says whether it is gone: one that has running containers stays.
    ///
    /// # Errors
    /// [`EngineError::CannotLimit`]
    fn remove_group(&self, name: &str) -> impl Future<Output = Result<bool, EngineError>> + Send;

    /// Names of all groups right below `parent`, sorted. None when there is no such parent.
    ///
    /// # Errors
    /// [`EngineError::CannotLimit`]
    fn list_groups(
        &self,
        parent: &str,
    ) -> impl Future<Output = Result<Vec<String>, EngineError>> + Send;

    /// All containers of the engine, whosever they are, sorted by name.
    ///
    /// # Errors
    /// The common ones. Never a partial answer.
    fn list_all(&self) -> impl Future<Output = Result<Vec<ContainerSummary>, EngineError>> + Send;

    /// All images of the host that have a name or had one, sorted by id.
    ///
    /// # Errors
    /// The common ones. Never a partial answer.
    fn list_images(&self) -> impl Future<Output = Result<Vec<ImageState>, EngineError>> + Send;

    /// Takes a reference (a name, or the id of an image without names) off an image, and removes the image with
    /// the last one. Never while an image is being prepared. One that does not exist is fine.
    ///
    /// # Errors
    /// [`EngineError::ImageInUse`]: a container has it, running or not, or it is being prepared; nothing was removed.
    fn remove_image(&self, name: &str) -> impl Future<Output = Result<(), EngineError>> + Send;
    /// Makes sure that there is a network of this name. One that is there is fine, whoever made it and whatever it is:
    /// the operator of a host may want another one.
    ///
    /// # Errors
    /// The common ones; [`EngineError::Engine`] also when the host has no addresses left for it.
    fn ensure_network(
        &self,
        network: &NetworkSpec,
    ) -> impl Future<Output = Result<(), EngineError>> + Send;

    /// Puts a container that runs on one more network of the engine. One that is on it is fine. The interfaces that the
    /// container has stay as they are, and so does its own address to itself: its hosts file has no word of this one, where
    /// the adapter can write it.
    ///
    /// # Errors
    /// [`EngineError::NotFound`], [`EngineError::NetworkNotFound`], and the common ones.
    fn attach(
        &self,
        name: &str,
        network: &str,
    ) -> impl Future<Output = Result<(), EngineError>> + Send;
}

/// The container that a create ended with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Created {
    /// The engine's id.
    pub container_id: String,
    /// It was there before, with all our labels. It may be in any phase.
    pub adopted: bool,
}

/// Something may have happened to a container; look.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Hint {
    /// The named container was started.
    Started(String),
    /// The first process of the named container ended.
    Died(String),
    /// The health check of the named container changed its verdict.
    HealthChanged(String),
    /// The named container was removed.
    Destroyed(String),
    /// The stream broke; always the last item.
    Lost,
}

impl Hint {
    /// The container that it is about.
    pub fn container(&self) -> Option<&str> {
        match self {
            Self::Started(name)
            | Self::Died(name)
            | Self::HealthChanged(name)
            | Self::Destroyed(name) => Some(name),
            Self::Lost => None,
        }
    }
}

/// The verbs of [`Engine`], for errors, logs and counters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Verb {
    /// [`Engine::describe`]
    Describe,
    /// [`Engine::prepare`]
    Prepare,
    /// [`Engine::create`]
    Create,
    /// [`Engine::start`]
    Start,
    /// [`Engine::stop`]
    Stop,
    /// [`Engine::remove`]
    Remove,
    /// [`Engine::inspect`]
    Inspect,
    /// [`Engine::list`]
    List,
    /// [`Engine::watch`]
    Watch,
    /// [`Engine::create_volume`]
    CreateVolume,
    /// [`Engine::inspect_volume`]
    InspectVolume,
    /// [`Engine::remove_volume`]
    RemoveVolume,
    /// [`Engine::list_volumes`]
    ListVolumes,
    /// [`Engine::provide_group`]
    ProvideGroup,
    /// [`Engine::remove_group`]
    RemoveGroup,
    /// [`Engine::list_groups`]
    ListGroups,
    /// [`Engine::list_all`]
    ListAll,
    /// [`Engine::list_images`]
    ListImages,
    /// [`Engine::remove_image`]
    RemoveImage,
    /// [`Engine::stats`]
    Stats,
    /// [`Engine::ensure_image`]
    EnsureImage,
    /// [`Engine::ensure_network`]
    EnsureNetwork,
    /// [`Engine::attach`]
    Attach,
}

impl Verb {
    /// Lowercase name, for metrics and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Describe => "describe",
            Self::Prepare => "prepare",
            Self::Create => "create",
            Self::Start => "start",
            Self::Stop => "stop",
            Self::Remove => "remove",
            Self::Inspect => "inspect",
            Self::List => "list",
            Self::Watch => "watch",
            Self::CreateVolume => "create_volume",
            Self::InspectVolume => "inspect_volume",
            Self::RemoveVolume => "remove_volume",
            Self::ListVolumes => "list_volumes",
            Self::ProvideGroup => "provide_group",
            Self::RemoveGroup => "remove_group",
            Self::ListGroups => "list_groups",
            Self::ListAll => "list_all",
            Self::ListImages => "list_images",
            Self::RemoveImage => "remove_image",
            Self::Stats => "stats",
            Self::EnsureImage => "ensure_image",
            Self::EnsureNetwork => "ensure_network",
            Self::Attach => "attach",
        }
    }
}

impl fmt::Display for Verb {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.as_str())
    }
}
