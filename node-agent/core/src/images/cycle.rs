//! One cycle of the cleanup, on any engine: what goes is decided beside, and taken away here, one call after the other.

use jiff::Timestamp;
use tallyman_agent_engine::{Engine, EngineError, ImageState};

use crate::images::{ImageBook, dispensable, foreign, references, spent};
use crate::settings::Settings;

/// What a cycle took away, or could not this time.
#[derive(Debug)]
pub enum Removal {
    /// A container of nobody's task, by its name.
    Container(String, Result<(), EngineError>),
    /// A name of an image that nothing uses, or the id of one without names.
    Image(String, Result<(), EngineError>),
}

/// Takes away what the host can do without. `keep` is given what images the engine lists, and returns what of them tasks
/// brought.
///
/// # Errors
/// The engine does not list what it has.
pub async fn clean<E: Engine>(
    engine: &E,
    settings: &Settings,
    keep: impl FnOnce(&[ImageState]) -> ImageBook,
    now: Timestamp,
) -> Result<Vec<Removal>, EngineError> {
    let images = &settings.images;
    let mut removals = Vec::new();
    let mut states = Vec::new();
    for name in foreign(images, &engine.list_all().await?) {
        states.extend(engine.inspect(&name).await?);
    }
    for name in spent(images, settings.tasks.cleanup_wait, &states, now) {
        let outcome = engine.remove(&name).await;
        removals.push(Removal::Container(name, outcome));
    }
    // Images before containers: a container that comes in between is seen.
    let listed = engine.list_images().await?;
    let containers = engine.list_all().await?;
    let book = keep(&listed);
    for image in dispensable(images, &book, &listed, &containers, now) {
        for reference in references(image) {
            let outcome = engine.remove_image(&reference).await;
            removals.push(Removal::Image(reference, outcome));
        }
    }
    Ok(removals)
}
