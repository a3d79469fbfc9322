//! Making images present: pull behaviours, shared pulls, registries that are away.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bollard::Docker;
use bollard::auth::DockerCredentials;
use bollard::models::ImageInspect;
use bollard::query_parameters::CreateImageOptions;
use futures::future::{BoxFuture, FutureExt, Shared, WeakShared};
use futures::stream::StreamExt;
use tokio::time::{Instant, timeout};

use tallyman_agent_engine::{
    EngineError, Prepared, PullBehavior, PullFault, Reference, RegistryCredentials, Verb,
    is_plausible,
};

use crate::credentials;
use crate::faults::{Answer, Trouble, answer, plain, pull};
use crate::{DockerEngine, Failure, Settings};

/// How often a pull is asked again whose progress could not be read to the end. Layers that came are
/// kept by the engine, so this costs little.
const READINGS: u32 = 3;

type Outcome = Result<(), EngineError>;
type Pull = Shared<BoxFuture<'static, Outcome>>;

/// What is known about pulls, to save work. Losing it is harmless.
#[derive(Default)]
pub(crate) struct Pulls {
    memory: Mutex<Memory>,
}

#[derive(Default)]
struct Memory {
    /// Pulls under way. Weak: when every caller has gone, so has the pull.
    running: BTreeMap<Wanted, WeakShared<BoxFuture<'static, Outcome>>>,
    /// Registries that could not be reached, since when, and how that showed.
    away: BTreeMap<String, (Instant, EngineError)>,
    /// Images just prepared.
    fresh: BTreeMap<(Wanted, PullBehavior), (Instant, Prepared)>,
}

/// An image, and whom the registry is to give it to: one user's pull says nothing about another's.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Wanted {
    image: String,
    user: Option<(String, String)>,
}

impl Wanted {
    fn new(image: &str, credentials: Option<&RegistryCredentials>) -> Self {
        let user = |c: &RegistryCredentials| (c.username.clone(), c.password.expose().to_owned());
        Self {
            image: image.to_owned(),
            user: credentials.map(user),
        }
    }
}

impl Pulls {
    fn lock(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The host turned out not to have the image: what was prepared is stale.
    pub(crate) fn forget(&self, image: &str) {
        self.lock()
            .fresh
            .retain(|(known, _), _| known.image != image);
    }

    fn fresh(&self, wanted: &Wanted, behavior: PullBehavior, span: Duration) -> Option<Prepared> {
        let mut memory = self.lock();
        memory.fresh.retain(|_, (at, _)| at.elapsed() < span);
        let key = (wanted.clone(), behavior);
        memory.fresh.get(&key).map(|(_, prepared)| prepared.clone())
    }

    fn keep_fresh(&self, wanted: &Wanted, behavior: PullBehavior, prepared: &Prepared) {
        let key = (wanted.clone(), behavior);
        let value = (Instant::now(), prepared.clone());
        self.lock().fresh.insert(key, value);
    }

    fn away(&self, registry: &str, span: Duration) -> Option<EngineError> {
        let mut memory = self.lock();
        memory.away.retain(|_, (since, _)| since.elapsed() < span);
        memory.away.get(registry).map(|(_, error)| error.clone())
    }

    /// Remembers that a registry could not be reached, or that it could.
    fn note(&self, registry: &str, outcome: &Outcome) {
        let mut memory = self.lock();
        match outcome {
            Err(error) if is_away(error) => {
                let value = (Instant::now(), error.clone());
                memory.away.insert(registry.to_owned(), value);
            }
            // A broken engine says nothing about a registry.
            Err(EngineError::Unreachable { .. } | EngineError::Interrupted { .. }) => {}
            Ok(()) | Err(_) => {
                memory.away.remove(registry);
            }
        }
    }

    /// Joins the pull of this image that is under way, or begins one.
    fn join(&self, wanted: &Wanted, begin: impl FnOnce() -> BoxFuture<'static, Outcome>) -> Pull {
        let mut memory = self.lock();
        memory
            .running
            .retain(|_, weak| weak.upgrade().is_some_and(|pull| pull.peek().is_none()));
        if let Some(pull) = memory.running.get(wanted).and_then(WeakShared::upgrade) {
            return pull;
        }
        let pull = begin().shared();
        if let Some(weak) = pull.downgrade() {
            memory.running.insert(wanted.clone(), weak);
        }
        pull
    }
}

fn is_away(error: &EngineError) -> bool {
    matches!(
        error,
        EngineError::PullFailed {
            why: PullFault::RegistryUnreachable | PullFault::Stalled,
            ..
        }
    )
}

impl DockerEngine {
    pub(crate) async fn prepare_image(
        &self,
        image: &str,
        behavior: PullBehavior,
        credentials: Option<&RegistryCredentials>,
    ) -> Result<Prepared, EngineError> {
        if !is_plausible(image) {
            return Err(EngineError::InvalidSpec {
                message: format!("invalid reference format: {image:?}"),
            });
        }
        let _in_hand = self.hands.prepare(image).await;
        let wanted = &Wanted::new(image, credentials);
        let span = self.settings.prepared_fresh;
        if let Some(prepared) = self.pulls.fresh(wanted, behavior, span) {
            return Ok(prepared);
        }
        let prepared = match behavior {
            PullBehavior::Default => self.pull_or_cached(wanted, credentials).await?,
            PullBehavior::Always => self.pull(wanted, credentials, None).await?,
            PullBehavior::Once | PullBehavior::PreferCached => match self.cached(image).await? {
                Some(found) => prepared(image, &found, false, None),
                None => self.pull(wanted, credentials, None).await?,
            },
        };
        self.pulls.keep_fresh(wanted, behavior, &prepared);
        Ok(prepared)
    }

    async fn pull_or_cached(
        &self,
        wanted: &Wanted,
        credentials: Option<&RegistryCredentials>,
    ) -> Result<Prepared, EngineError> {
        let image = wanted.image.as_str();
        let Some(found) = self.cached(image).await? else {
            return self.pull(wanted, credentials, None).await;
        };
        let registry = Reference::split(image).registry();
        let error = match self.pulls.away(registry, self.settings.registry_away) {
            Some(error) => error,
            None => match self
                .pull(wanted, credentials, Some(self.settings.pull_patience))
                .await
            {
                Ok(prepared) => return Ok(prepared),
                Err(error) => {
                    tracing::warn!(image, %error, "pull failed, using the cached image");
                    error
                }
            },
        };
        Ok(prepared(image, &found, false, Some(error)))
    }

    /// Pulls, sharing the work with whoever pulls this image already, and looks at what came.
    async fn pull(
        &self,
        wanted: &Wanted,
        credentials: Option<&RegistryCredentials>,
        patience: Option<Duration>,
    ) -> Result<Prepared, EngineError> {
        let image = wanted.image.as_str();
        let client = self.connection.client().await;
        let client =
            client.map_err(|trouble| plain(Verb::Prepare, answer(Verb::Prepare, trouble)))?;
        let pull = self.pulls.join(wanted, || {
            let work = work(
                client.clone(),
                image.to_owned(),
                credentials.cloned(),
                self.settings.clone(),
                patience,
            );
            work.boxed()
        });
        let outcome = pull.await;
        self.pulls
            .note(Reference::split(image).registry(), &outcome);
        outcome?;
        let unresolved = |message: String| EngineError::CannotResolve {
            image: image.to_owned(),
            message: format!("{image} was pulled and {message}"),
        };
        match self.cached(image).await {
            Ok(Some(found)) => Ok(prepared(image, &found, true, None)),
            Ok(None) => Err(unresolved("is not there".to_owned())),
            Err(EngineError::Engine { message, .. } | EngineError::InvalidSpec { message }) => {
                Err(unresolved(format!("cannot be looked at: {message}")))
            }
            Err(error) => Err(error),
        }
    }

    /// What the host has under this reference.
    async fn cached(&self, image: &str) -> Result<Option<ImageInspect>, EngineError> {
        let call = async { Ok(self.connection.client().await?.inspect_image(image).await?) };
        match self.within(Verb::Prepare, self.settings.look, call).await {
            Ok(found) => Ok(Some(found)),
            Err(Failure::Overdue(error)) => Err(error),
            Err(Failure::Answered(trouble)) => match answer(Verb::Prepare, trouble) {
                Answer::Status(404, _) => Ok(None),
                Answer::Status(400, message) => Err(EngineError::InvalidSpec { message }),
                other => Err(plain(Verb::Prepare, other)),
            },
        }
    }
}

/// One pull, read to its end.
async fn work(
    client: Docker,
    image: String,
    credentials: Option<RegistryCredentials>,
    settings: Settings,
    patience: Option<Duration>,
) -> Outcome {
    tracing::info!(image, "pulling image");
    let mut readings = 1;
    let reading = async {
        let found = credentials::find(&image, credentials, settings.client_config.as_deref()).await;
        let (user, failed) = match found {
            Ok(user) => (user, None),
            Err(failed) => (None, Some(failed)),
        };
        let outcome = loop {
            match read(&client, &image, user.clone(), &settings, patience).await {
                Err(Unread) if readings < READINGS => readings += 1,
                // It may be there all the same: the caller looks.
                Err(Unread) => break Ok(()),
                Ok(outcome) => break outcome,
            }
        };
        outcome.map_err(|error| match failed {
            Some(failed) => failed.explains(error),
            None => error,
        })
    };
    let total = settings.pull_total;
    match timeout(total, reading).await {
        Ok(outcome) => outcome,
        Err(_) => Err(stalled(&image, total, "did not finish")),
    }
}

/// The engine's progress report could not be understood, so its end is unknown.
struct Unread;

async fn read(
    client: &Docker,
    image: &str,
    user: Option<DockerCredentials>,
    settings: &Settings,
    patience: Option<Duration>,
) -> Result<Outcome, Unread> {
    let reference = Reference::split(image);
    let options = CreateImageOptions {
        from_image: Some(reference.repository.to_owned()),
        tag: Some(reference.version.to_owned()),
        ..CreateImageOptions::default()
    };
    let mut progress = client.create_image(Some(options), None, user);
    let mut limit = patience.unwrap_or(settings.pull_inactivity);
    loop {
        let Ok(line) = timeout(limit, progress.next()).await else {
            return Ok(Err(stalled(image, limit, "got no word from the registry")));
        };
        limit = settings.pull_inactivity;
        match line {
            None => return Ok(Ok(())),
            Some(Ok(_)) => {}
            Some(Err(
                bollard::errors::Error::JsonDataError { .. }
                | bollard::errors::Error::JsonSerdeError { .. },
            )) => return Err(Unread),
            Some(Err(error)) => {
                let told = answer(Verb::Prepare, Trouble::Raw(error));
                return Ok(Err(pull(image, told)));
            }
        }
    }
}

fn stalled(image: &str, limit: Duration, what: &str) -> EngineError {
    EngineError::PullFailed {
        image: image.to_owned(),
        why: PullFault::Stalled,
        message: format!("pull of {image} {what} within {} s", limit.as_secs()),
    }
}

fn prepared(
    image: &str,
    found: &ImageInspect,
    pulled: bool,
    pull_failure: Option<EngineError>,
) -> Prepared {
    Prepared {
        image_id: found.id.clone().unwrap_or_default(),
        image_digest: digest(image, found.repo_digests.as_deref().unwrap_or_default()),
        pulled,
        pull_failure,
    }
}

/// The digest under which this reference's repository knows the image. `RepoDigests` may name several
/// repositories, Docker Hub's without host and `library/`.
fn digest(image: &str, known: &[String]) -> Option<String> {
    let wanted = familiar(Reference::split(image).repository);
    known
        .iter()
        .filter_map(|one| one.split_once('@'))
        .find(|(repository, _)| familiar(repository) == wanted)
        .map(|(_, digest)| digest.to_owned())
}

/// A repository as Docker shows it to people.
fn familiar(repository: &str) -> &str {
    let short = repository.strip_prefix("docker.io/").unwrap_or(repository);
    short.strip_prefix("library/").unwrap_or(short)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_digest_is_that_of_the_references_repository() {
        let known = [
            "quay.io/a/b@sha256:1".to_owned(),
            "nginx@sha256:2".to_owned(),
        ];
        for (image, wanted) in [
            ("nginx:1", Some("sha256:2")),
            ("docker.io/library/nginx", Some("sha256:2")),
            ("quay.io/a/b:c", Some("sha256:1")),
            ("other", None),
        ] {
            assert_eq!(digest(image, &known).as_deref(), wanted, "{image}");
        }
    }

    #[tokio::test]
    async fn concurrent_pulls_of_an_image_are_one() {
        let pulls = Pulls::default();
        let (done, wait) = futures::channel::oneshot::channel::<()>();
        let mut begun = 0;
        let [a, b] = ["a", "b"].map(|image| Wanted::new(image, None));
        let first = pulls.join(&a, || {
            begun += 1;
            wait.map(|_| Ok(())).boxed()
        });
        let second = pulls.join(&a, || {
            begun += 1;
            futures::future::ready(Ok(())).boxed()
        });
        let _other = pulls.join(&b, || futures::future::ready(Ok(())).boxed());
        done.send(()).expect("the pull waits");
        assert!(first.await.is_ok() && second.await.is_ok());
        assert_eq!(begun, 1);
        // A finished pull is not joined.
        let third = pulls.join(&a, || {
            begun += 1;
            futures::future::ready(Ok(())).boxed()
        });
        assert!(third.await.is_ok());
        assert_eq!(begun, 2);
    }

    #[tokio::test]
    async fn a_registry_that_is_away_is_remembered_until_it_answers() {
        let pulls = Pulls::default();
        let span = Duration::from_secs(30);
        pulls.note("docker.io", &Err(stalled("a", span, "stalled")));
        assert!(pulls.away("docker.io", span).is_some());
        assert!(pulls.away("quay.io", span).is_none());
        assert!(pulls.away("docker.io", Duration::ZERO).is_none());
        pulls.note("docker.io", &Err(stalled("a", span, "stalled")));
        pulls.note("docker.io", &Ok(()));
        assert!(pulls.away("docker.io", span).is_none());
    }
}
