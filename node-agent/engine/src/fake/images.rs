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
    /// On the host: reference to whether a registry knows it.
    cached: BTreeMap<String, bool>,
    /// In no registry.
    missing: BTreeSet<String>,
    /// Given only to these users.
    private: BTreeMap<String, RegistryCredentials>,
    mood: RegistryMood,
    pulls: u64,
}

/// The name without its digest: the fake's tags never move.
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
        self.cached.insert(image.to_owned(), false);
        self.missing.insert(image.to_owned());
    }

    pub(super) fn forget(&mut self, image: &str) {
        self.cached.remove(image);
    }

    pub(super) fn has(&self, image: &str) -> bool {
        self.cached.contains_key(named(image))
    }

    pub(super) fn pulls(&self) -> u64 {
        self.pulls
    }

    pub(super) fn list(&self) -> Vec<ImageState> {
        let mut images: Vec<ImageState> = self
            .cached
            .keys()
            .map(|name| ImageState {
                id: image_id(name),
                names: vec![name.clone()],
                created_at: Some(Moment(0)),
                bytes: 1,
            })
            .collect();
        images.sort_by(|left, right| left.id.cmp(&right.id));
        images
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
                self.cached.insert(named(image).to_owned(), true);
                Ok(())
            }
        }
    }

    fn prepared(&self, image: &str, pulled: bool, pull_failure: Option<EngineError>) -> Prepared {
        let known_to_registry = self.cached.get(named(image)).copied().unwrap_or(false);
        Prepared {
            image_id: image_id(image),
            image_digest: known_to_registry.then(|| sha("digest", named(image))),
            pulled,
            pull_failure,
        }
    }
}

pub(super) fn image_id(image: &str) -> String {
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
