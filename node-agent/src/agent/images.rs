//! Image cleanup, now and then: the core has the cycle.

use std::sync::Arc;

use jiff::Timestamp;
use tallyman_agent_core::Settings;
use tallyman_agent_core::images::{self, Removal};
use tallyman_agent_engine::{Engine, EngineError};
use tokio::time::MissedTickBehavior;
use tracing::{debug, info, warn};

use crate::ledger::Ledger;

/// Cleans up every `ECS_IMAGE_CLEANUP_INTERVAL`, for as long as the agent runs.
pub async fn run<E: Engine>(engine: Arc<E>, ledger: Ledger, settings: Settings) {
    if !images::is_on(&settings.images) {
        info!("images are never cleaned up");
        return;
    }
    let mut interval = tokio::time::interval(settings.images.cleanup_interval);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // The first tick is at once; ECS, too, begins after one interval.
    interval.tick().await;
    loop {
        interval.tick().await;
        if let Err(error) = cycle(&*engine, &ledger, &settings, Timestamp::now()).await {
            debug!(%error, "images are not cleaned up; tried again later");
        }
    }
}

/// One cycle by the book on disk, told in the log.
async fn cycle<E: Engine>(
    engine: &E,
    ledger: &Ledger,
    settings: &Settings,
    now: Timestamp,
) -> Result<(), EngineError> {
    let keep = |listed: &[_]| ledger.keep_images(listed);
    for removal in images::clean(engine, settings, keep, now).await? {
        match removal {
            Removal::Container(container, Ok(())) => {
                info!(container, "a container of nobody's task is removed");
            }
            Removal::Image(image, Ok(())) => {
                info!(image, "an image that nothing uses is removed");
            }
            Removal::Container(container, Err(error)) => {
                warn!(container, %error, "not removed; tried again later");
            }
            Removal::Image(image, Err(error)) => {
                warn!(image, %error, "not removed; tried again later");
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::time::Duration;

    use tallyman_agent_core::images::ImageBook;
    use tallyman_agent_engine::fake::FakeEngine;
    use tallyman_agent_engine::{ContainerSpec, PullBehavior};

    use super::*;

    /// Three images were brought by tasks and one by somebody; a container of somebody is over, and one runs.
    #[tokio::test]
    async fn a_cycle_removes_what_nothing_uses_and_leaves_the_rest() {
        let folder = tempfile::tempdir().unwrap();
        let ledger = Ledger::open(
            folder.path().to_owned(),
            BTreeMap::new(),
            ImageBook::default(),
        );
        let engine = FakeEngine::new("host");
        let now = Timestamp::from_second(1_800_000_000).unwrap();
        for image in ["idle:1", "used:1", "runs:1"] {
            let prepared = engine
                .prepare(image, PullBehavior::Always, None)
                .await
                .unwrap();
            ledger.note_image(&prepared.image_id, prepared.pulled, now);
        }
        engine.import_image("foreign:1");
        for (name, image) in [("over", "used:1"), ("up", "runs:1")] {
            let mut spec = ContainerSpec::new(name, image);
            spec.labels.insert("whose".to_owned(), "mine".to_owned());
            engine.create(&spec).await.unwrap();
        }
        engine.start("up").await.unwrap();
        let mut settings = Settings::default();
        let later = now + Duration::from_secs(2 * 60 * 60);
        let names = || async {
            let images = engine.list_images().await.unwrap();
            let mut names: Vec<String> = images.into_iter().flat_map(|i| i.names).collect();
            names.sort();
            names
        };
        cycle(&engine, &ledger, &settings, later).await.unwrap();
        assert_eq!(names().await, ["foreign:1", "runs:1", "used:1"]);
        settings.images.untracked = true;
        cycle(&engine, &ledger, &settings, later).await.unwrap();
        assert_eq!(names().await, ["runs:1"]);
        let left = engine.list_all().await.unwrap();
        assert_eq!(left.len(), 1, "{left:?}");
        // What is gone is forgotten, and what is not outlives the agent.
        cycle(&engine, &ledger, &settings, later).await.unwrap();
        ledger.flush().await;
        let saved = crate::ledger::load(folder.path()).images;
        assert!(saved.has(&left[0].image_id));
        assert_eq!(saved, {
            let mut book = ImageBook::default();
            book.note(&left[0].image_id, true, now);
            book
        });
    }

    /// By itself, one interval after the agent began.
    #[tokio::test(start_paused = true)]
    async fn cycles_come_by_themselves() {
        let folder = tempfile::tempdir().unwrap();
        let book = ImageBook::default();
        let ledger = Ledger::open(folder.path().to_owned(), BTreeMap::new(), book);
        let engine = Arc::new(FakeEngine::new("host"));
        let long_ago = Timestamp::now() - Duration::from_secs(2 * 60 * 60);
        let prepared = engine.prepare("idle:1", PullBehavior::Always, None).await;
        ledger.note_image(&prepared.unwrap().image_id, true, long_ago);
        let settings = Settings::default();
        let interval = settings.images.cleanup_interval;
        tokio::spawn(run(Arc::clone(&engine), ledger, settings));
        let left = || async { engine.list_images().await.unwrap().len() };
        tokio::time::sleep(interval - Duration::from_secs(1)).await;
        assert_eq!(left().await, 1);
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert_eq!(left().await, 0);
    }
}
