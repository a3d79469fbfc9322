//! Images of the fake: what the host has and what the registry would give.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;

use crate::{
    EngineError, ImageState, Moment, Prepared, PullBehavior, PullFault, RegistryCredentials,
};

/// How the registry behind the fake is disposed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RegistryMood {
    /// It gives every image that was not declared missing.
    #[default]
    Gives,
    /// It cannot be reached.
    Unreachable,
    /// It wants other credentials.
    Denies,
    /// It refuses for now.
    RateLimits,
}

#[derive(Debug, Default)]
pub(super) struct Images {
    /// On the host, by reference.
    cached: BTreeMap<String, Cached>,
    /// Ids of those on the host that lost their last name to another one.
    nameless: BTreeSet<String>,
    /// In no registry.
    missing: BTreeSet<String>,
    /// Given only to these users.
    private: BTreeMap<String, RegistryCredentials>,
    mood: RegistryMood,
    pulls: u64,
}

/// What a reference means on the host.
#[derive(Clone, Debug)]
struct Cached {
    id: String,
    /// A registry has it.
    known: bool,
}

/// The name without its digest: the tags of the fake's registry never move.
pub(super) fn named(image: &str) -> &str {
    image.split('@').next().unwrap_or(image)
}

impl Images {
    pub(super) fn set_mood(&mut self, mood: RegistryMood) {
        self.mood = mood;
    }

    pub(super) fn declare_missing(&mut self, image: &str) {
        self.missing.insert(image.to_owned());
    }

    pub(super) fn keep_private(&mut self, image: &str, credentials: RegistryCredentials) {
        self.private.insert(image.to_owned(), credentials);
    }

    pub(super) fn publish(&mut self, image: &str) {
        self.missing.remove(image);
    }

    pub(super) fn import(&mut self, image: &str) {
        self.name(image, image_id(image), false);
        self.missing.insert(image.to_owned());
    }

    /// Another name for an image of the host, which an image that has it loses. Says whether there is such an image.
    pub(super) fn name_too(&mut self, image: &str, name: &str) -> bool {
        let id = self.id(image).map(str::to_owned);
        if let Some(id) = &id {
            self.name(name, id.clone(), false);
        }
        id.is_some()
    }

    fn name(&mut self, name: &str, id: String, known: bool) {
        self.nameless.remove(&id);
        let new = Cached { id, known };
        if let Some(old) = self.cached.insert(name.to_owned(), new)
            && self.names(&old.id).next().is_none()
        {
            self.nameless.insert(old.id);
        }
    }

    fn names(&self, id: &str) -> impl Iterator<Item = &String> {
        let all = self
            .cached
            .iter()
            .filter(move |(_, cached)| cached.id == id);
        all.map(|(name, _)| name)
    }

    /// Of the image that the host has under this name.
    pub(super) fn id(&self, image: &str) -> Option<&str> {
        let cached = self.cached.get(named(image))?;
        Some(cached.id.as_str())
    }

    pub(super) fn forget(&mut self, image: &str) {
        self.cached.remove(image);
    }

    /// Takes a name off, or an image without names away. Not the last name of one that is in use, and not one in use.
    pub(super) fn remove(&mut self, name: &str, in_use: impl Fn(&str) -> bool) -> bool {
        let (id, last) = match self.cached.get(name) {
            Some(cached) => (cached.id.as_str(), self.names(&cached.id).nth(1).is_none()),
            None => (name, self.nameless.contains(name)),
        };
        if last && in_use(id) {
            return false;
        }
        self.cached.remove(name);
        self.nameless.remove(name);
        true
    }

    pub(super) fn has(&self, image: &str) -> bool {
        self.cached.contains_key(named(image))
    }

    pub(super) fn pulls(&self) -> u64 {
        self.pulls
    }

    pub(super) fn list(&self) -> Vec<ImageState> {
        let named = self.cached.values().map(|cached| &cached.id);
        let ids: BTreeSet<&String> = named.chain(&self.nameless).collect();
        ids.into_iter()
            .map(|id| ImageState {
                id: id.clone(),
                names: self.names(id).cloned().collect(),
                created_at: Some(Moment(0)),
                bytes: 1,
            })
            .collect()
    }

    pub(super) fn prepare(
        &mut self,
        image: &str,
        behavior: PullBehavior,
        credentials: Option<&RegistryCredentials>,
    ) -> Result<Prepared, EngineError> {
        match behavior {
            PullBehavior::Once | PullBehavior::PreferCached if self.has(image) => {
                Ok(self.prepared(image, false, None))
            }
            PullBehavior::Once | PullBehavior::PreferCached | PullBehavior::Always => {
                self.pull(image, credentials)?;
                Ok(self.prepared(image, true, None))
            }
            PullBehavior::Default => match self.pull(image, credentials) {
                Ok(()) => Ok(self.prepared(image, true, None)),
                Err(error) if self.has(image) => Ok(self.prepared(image, false, Some(error))),
                Err(error) => Err(error),
            },
        }
    }

    fn pull(
        &mut self,
        image: &str,
        credentials: Option<&RegistryCredentials>,
    ) -> Result<(), EngineError> {
        self.pulls += 1;
        let failed = |why, words: &str| {
            Err(EngineError::PullFailed {
                image: image.to_owned(),
                why,
                message: format!("{words} for {image}"),
            })
        };
        match self.mood {
            RegistryMood::Unreachable => {
                failed(PullFault::RegistryUnreachable, "dial tcp: no route to host")
            }
            RegistryMood::Denies => failed(PullFault::Denied, "pull access denied"),
            RegistryMood::Gives
                if self
                    .private
                    .get(image)
                    .is_some_and(|of| credentials != Some(of)) =>
            {
                failed(PullFault::Denied, "pull access denied")
            }
            RegistryMood::RateLimits => failed(PullFault::RateLimited, "toomanyrequests"),
            RegistryMood::Gives if self.missing.contains(named(image)) => {
                Err(EngineError::ImageNotFound {
                    image: image.to_owned(),
                    message: format!("manifest for {image} not found: manifest unknown"),
                })
            }
            RegistryMood::Gives => {
                self.name(named(image), image_id(image), true);
                Ok(())
            }
        }
    }

    fn prepared(&self, image: &str, pulled: bool, pull_failure: Option<EngineError>) -> Prepared {
        let cached = self.cached.get(named(image));
        let known = cached.is_some_and(|cached| cached.known);
        Prepared {
            image_id: cached.map_or_else(|| image_id(image), |cached| cached.id.clone()),
            image_digest: known.then(|| sha("digest", named(image))),
            pulled,
            pull_failure,
        }
    }
}

fn image_id(image: &str) -> String {
    sha("id", named(image))
}

/// Looks like a digest, is a function of its arguments.
fn sha(salt: &str, image: &str) -> String {
    let word = hash(&[salt, image]);
    format!("sha256:{word:016x}{word:016x}{word:016x}{word:016x}")
}

/// FNV-1a: stable over versions and platforms, unlike the standard library's hasher.
pub(super) fn hash(parts: &[&str]) -> u64 {
    let mut word = 0xcbf2_9ce4_8422_2325_u64;
    for byte in parts.iter().flat_map(|part| part.bytes().chain([0])) {
        word = (word ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    }
    word
}

pub(super) fn cause(words: &str) -> Arc<io::Error> {
    Arc::new(io::Error::other(words.to_owned()))
}
