//! Which images and foreign containers the host can do without (ECS agent, automated image cleanup).
//!
//! An image that tasks brought goes when it is old enough and no container has it, least recently used first. With
//! `ECS_ENABLE_UNTRACKED_IMAGE_CLEANUP` stopped containers and images of others go, too. An image that any container
//! has, running or not, whosever it is, is never touched.

mod cycle;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tallyman_agent_engine::{
    ContainerState, ContainerSummary, ImageState, Moment, Phase, PhaseKind, PullBehavior,
};
use tallyman_crds::labels;

use crate::backoff::later;
use crate::pause;
use crate::settings::images::Images;

pub use cycle::{Removal, clean};

/// An image that a task was given lately is not touched: its container may be about to be created.
const IN_HAND: Duration = Duration::from_secs(10 * 60);

/// When the host got an image for a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Brought {
    /// When it was last pulled, or first found on the host.
    pub pulled_at: Timestamp,
    /// When a task was last given it.
    pub used_at: Timestamp,
}

/// Images that tasks brought, by the engine's id. Kept on disk.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ImageBook(BTreeMap<String, Brought>);

impl ImageBook {
    /// A task was given an image.
    pub fn note(&mut self, image_id: &str, pulled: bool, now: Timestamp) {
        let brought = self.0.entry(image_id.to_owned()).or_insert(Brought {
            pulled_at: now,
            used_at: now,
        });
        brought.used_at = now;
        if pulled {
            brought.pulled_at = now;
        }
    }

    /// Forgets what is not on the host any more; says whether anything changed.
    pub fn keep(&mut self, images: &[ImageState]) -> bool {
        let before = self.0.len();
        let there: BTreeSet<&str> = images.iter().map(|image| image.id.as_str()).collect();
        self.0.retain(|id, _| there.contains(id.as_str()));
        self.0.len() != before
    }

    /// Whether a task brought it.
    pub fn has(&self, image_id: &str) -> bool {
        self.0.contains_key(image_id)
    }
}

/// Whether images are ever cleaned up on this host.
pub fn is_on(settings: &Images) -> bool {
    !settings.cleanup_disabled && settings.pull_behavior != PullBehavior::PreferCached
}

/// Containers of others that may have been over long enough; what became of each takes an inspect.
pub fn foreign(settings: &Images, containers: &[ContainerSummary]) -> Vec<String> {
    if !settings.untracked || !is_on(settings) {
        return Vec::new();
    }
    let over = |container: &&ContainerSummary| match container.phase {
        PhaseKind::Created | PhaseKind::Exited | PhaseKind::Dead => true,
        PhaseKind::Running | PhaseKind::Paused | PhaseKind::Restarting | PhaseKind::Removing => {
            false
        }
    };
    containers
        .iter()
        .filter(|container| !container.labels.contains_key(labels::CONTAINER_TASK_UID))
        .filter(over)
        .map(|container| container.name.clone())
        .collect()
}

/// Of [`foreign`] containers those that go now: over for longer than containers of tasks are kept, the oldest first.
pub fn spent(
    settings: &Images,
    wait: Duration,
    containers: &[ContainerState],
    now: Timestamp,
) -> Vec<String> {
    let mut old: Vec<(Moment, &str)> = containers
        .iter()
        .filter_map(|container| Some((over_since(container)?, container.name.as_str())))
        .filter(|(since, _)| Moment(now.as_millisecond()).since(*since) >= wait)
        .collect();
    old.sort_unstable();
    old.into_iter()
        .take(count(settings.containers_per_cycle))
        .map(|(_, name)| name.to_owned())
        .collect()
}

fn over_since(container: &ContainerState) -> Option<Moment> {
    match &container.phase {
        Phase::Created | Phase::Dead => container.created_at,
        Phase::Exited { finished_at, .. } => finished_at.or(container.created_at),
        Phase::Running { .. } | Phase::Paused | Phase::Restarting | Phase::Removing => None,
    }
}

/// Images that go now, in this order; at most as many as a cycle may remove.
pub fn dispensable<'a>(
    settings: &Images,
    book: &ImageBook,
    images: &'a [ImageState],
    containers: &[ContainerSummary],
    now: Timestamp,
) -> Vec<&'a ImageState> {
    if !is_on(settings) {
        return Vec::new();
    }
    let used: BTreeSet<&str> = containers
        .iter()
        .map(|container| container.image_id.as_str())
        .collect();
    let free = images
        .iter()
        .filter(|image| !used.contains(image.id.as_str()) && !is_excluded(settings, image));
    let mut brought: Vec<(Timestamp, &ImageState)> = Vec::new();
    let mut foreign: Vec<(i64, &ImageState)> = Vec::new();
    for image in free {
        match book.0.get(&image.id) {
            Some(known) => {
                let of_age = now >= later(known.pulled_at, settings.minimum_age);
                if of_age && now >= later(known.used_at, IN_HAND) {
                    brought.push((known.used_at, image));
                }
            }
            None if settings.untracked && of_age(settings, image, now) => {
                foreign.push((image.bytes, image));
            }
            None => {}
        }
    }
    brought.sort_by(|a, b| (a.0, &a.1.id).cmp(&(b.0, &b.1.id)));
    foreign.sort_by(|a, b| (a.0, &a.1.id).cmp(&(b.0, &b.1.id)));
    let brought = brought.into_iter().map(|(_, image)| image);
    brought
        .chain(foreign.into_iter().map(|(_, image)| image))
        .take(count(settings.images_per_cycle))
        .collect()
}

/// What is to be taken off an image so that it goes: its names, or its id when it has none.
pub fn references(image: &ImageState) -> Vec<String> {
    if image.names.is_empty() {
        vec![image.id.clone()]
    } else {
        image.names.clone()
    }
}

fn of_age(settings: &Images, image: &ImageState, now: Timestamp) -> bool {
    image.created_at.is_some_and(|built| {
        Moment(now.as_millisecond()).since(built) >= settings.untracked_minimum_age
    })
}

/// `nginx` is `nginx:latest`.
fn is_excluded(settings: &Images, image: &ImageState) -> bool {
    image.names.iter().any(|name| pause::is_image(name))
        || settings.excluded.iter().any(|excluded| {
            let tagged = format!("{excluded}:latest");
            image
                .names
                .iter()
                .any(|name| name == excluded || *name == tagged)
        })
}

fn count(most: i64) -> usize {
    usize::try_from(most).unwrap_or(usize::MAX)
}
