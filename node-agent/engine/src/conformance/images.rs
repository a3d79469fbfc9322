//! Images: pull behaviours on a host that cannot pull.

use futures::future::join_all;

use crate::conformance::bench::{Bench, Ground, Program, told, unexpected};
use crate::conformance::{Verdict, ensure};
use crate::{Engine, EngineError, ImageState, PullBehavior};

pub(super) async fn cached_image_is_used_when_the_pull_fails<B: Bench>(
    ground: &Ground<'_, B>,
) -> Verdict {
    let image = ground.bench.image();
    let prepared = ground
        .engine()
        .prepare(&image, PullBehavior::Default, None)
        .await;
    let prepared = prepared.map_err(told("prepare"))?;
    ensure!(!prepared.pulled, "it was pulled: {prepared:?}");
    ensure!(
        prepared.pull_failure.is_some(),
        "no failure told: {prepared:?}"
    );
    ensure!(
        prepared.image_id.starts_with("sha256:"),
        "no id: {prepared:?}"
    );
    Ok(())
}

pub(super) async fn once_and_prefer_cached_do_not_pull_what_is_there<B: Bench>(
    ground: &Ground<'_, B>,
) -> Verdict {
    let image = ground.bench.image();
    for behavior in [PullBehavior::Once, PullBehavior::PreferCached] {
        let prepared = ground.engine().prepare(&image, behavior, None).await;
        let prepared = prepared.map_err(told("prepare"))?;
        ensure!(!prepared.pulled, "{behavior:?} pulled: {prepared:?}");
        ensure!(
            prepared.pull_failure.is_none(),
            "{behavior:?} tried to pull: {prepared:?}"
        );
    }
    Ok(())
}

pub(super) async fn always_fails_when_the_pull_fails<B: Bench>(ground: &Ground<'_, B>) -> Verdict {
    let image = ground.bench.image();
    match ground
        .engine()
        .prepare(&image, PullBehavior::Always, None)
        .await
    {
        Err(EngineError::PullFailed { .. } | EngineError::ImageNotFound { .. }) => Ok(()),
        answer => Err(unexpected(&answer, "pull failed")),
    }
}

pub(super) async fn missing_image_is_told_by_prepare<B: Bench>(ground: &Ground<'_, B>) -> Verdict {
    let image = ground.bench.missing_image();
    for behavior in [
        PullBehavior::Default,
        PullBehavior::Always,
        PullBehavior::Once,
        PullBehavior::PreferCached,
    ] {
        match ground.engine().prepare(&image, behavior, None).await {
            Err(
                EngineError::PullFailed { image: told, .. }
                | EngineError::ImageNotFound { image: told, .. },
            ) if told == image => {}
            answer => return Err(unexpected(&answer, format!("{behavior:?}: pull failed"))),
        }
    }
    Ok(())
}

pub(super) async fn missing_image_is_told_by_create<B: Bench>(ground: &Ground<'_, B>) -> Verdict {
    let mut spec = ground.spec("a", &Program::Runs);
    spec.image = ground.bench.missing_image();
    match ground.engine().create(&spec).await {
        Err(EngineError::ImageNotFound { image, .. }) if image == spec.image => {}
        answer => return Err(unexpected(&answer, "image not found")),
    }
    ensure!(ground.look(&spec.name).await?.is_none(), "it was created");
    Ok(())
}

pub(super) async fn many_at_once_agree<B: Bench>(ground: &Ground<'_, B>) -> Verdict {
    let image = ground.bench.image();
    let calls = (0..20).map(|_| ground.engine().prepare(&image, PullBehavior::Default, None));
    for prepared in join_all(calls).await {
        let prepared = prepared.map_err(told("prepare"))?;
        ensure!(!prepared.pulled, "it was pulled: {prepared:?}");
    }
    Ok(())
}

pub(super) async fn images_and_whose_they_are_are_listed<B: Bench>(
    ground: &Ground<'_, B>,
) -> Verdict {
    let image = ground.bench.image();
    let spec = ground.spec("a", &Program::Runs);
    ground.create(&spec).await?;
    let images = ground.engine().list_images().await;
    let images = images.map_err(told("list images"))?;
    let Some(state) = images.iter().find(|state| state.names.contains(&image)) else {
        return Err(format!("{image} is not in {images:?}"));
    };
    let all = ground.engine().list_all().await.map_err(told("list all"))?;
    let Some(container) = all.iter().find(|one| one.name == spec.name) else {
        return Err(format!("{} is not in {all:?}", spec.name));
    };
    ensure!(
        container.image_id == state.id,
        "{container:?} has another image than {state:?}"
    );
    let described = ground.state(&spec.name).await?;
    ensure!(described.image_id == state.id, "another id: {described:?}");
    Ok(())
}

pub(super) async fn an_image_in_use_stays_and_another_goes<B: Bench>(
    ground: &Ground<'_, B>,
) -> Verdict {
    let spec = ground.spec("a", &Program::Runs);
    ground.create(&spec).await?;
    match ground.engine().remove_image(&spec.image).await {
        Err(EngineError::ImageInUse { image, .. }) if image == spec.image => {}
        answer => return Err(unexpected(&answer, "image in use")),
    }
    let spare = ground.bench.spare_image().await?;
    for _ in 0..2 {
        let removed = ground.engine().remove_image(&spare).await;
        removed.map_err(told("remove image"))?;
    }
    let images = ground.engine().list_images().await;
    let images = images.map_err(told("list images"))?;
    ensure!(
        !images.iter().any(|state| state.names.contains(&spare)),
        "{spare} is still listed"
    );
    // What was prepared a moment ago does not count as present any more.
    match ground
        .engine()
        .prepare(&spare, PullBehavior::PreferCached, None)
        .await
    {
        Err(EngineError::PullFailed { .. } | EngineError::ImageNotFound { .. }) => Ok(()),
        answer => Err(unexpected(&answer, "pull failed")),
    }
}

/// What the host has of an image, by one of its names or by its id.
async fn listed<B: Bench>(
    ground: &Ground<'_, B>,
    image: &str,
) -> Result<Option<ImageState>, String> {
    let images = ground.engine().list_images().await;
    let mut images = images.map_err(told("list images"))?.into_iter();
    Ok(images.find(|state| state.id == image || state.names.iter().any(|name| name == image)))
}

async fn there<B: Bench>(ground: &Ground<'_, B>, image: &str) -> Result<ImageState, String> {
    let found = listed(ground, image).await?;
    found.ok_or_else(|| format!("{image} is not listed"))
}

/// A name that is not the last one comes off whoever uses the image: who removes an image asks before.
pub(super) async fn an_image_goes_with_its_last_name<B: Bench>(ground: &Ground<'_, B>) -> Verdict {
    let (bench, engine) = (ground.bench, ground.engine());
    let first = bench.spare_image().await?;
    let second = format!("{first}-too");
    bench.name_image(&first, &second).await?;
    let state = there(ground, &first).await?;
    ensure!(state.names == [first.clone(), second.clone()], "{state:?}");
    let mut spec = ground.spec("a", &Program::Runs);
    spec.image.clone_from(&first);
    ground.create(&spec).await?;
    let removed = engine.remove_image(&first).await;
    removed.map_err(told("remove image"))?;
    let left = there(ground, &second).await?;
    ensure!(
        left.id == state.id && left.names == [second.clone()],
        "{left:?}"
    );
    match engine.remove_image(&second).await {
        Err(EngineError::ImageInUse { image, .. }) if image == second => {}
        answer => return Err(unexpected(&answer, "image in use")),
    }
    ground.remove(&spec.name).await?;
    let removed = engine.remove_image(&second).await;
    removed.map_err(told("remove image"))?;
    let left = listed(ground, &state.id).await?;
    ensure!(left.is_none(), "{left:?} is still listed");
    Ok(())
}

pub(super) async fn an_image_that_lost_its_name_is_known_by_its_id<B: Bench>(
    ground: &Ground<'_, B>,
) -> Verdict {
    let (bench, engine) = (ground.bench, ground.engine());
    let name = bench.spare_image().await?;
    let old = there(ground, &name).await?;
    let mut spec = ground.spec("a", &Program::Runs);
    spec.image.clone_from(&name);
    ground.create(&spec).await?;
    let other = bench.spare_image().await?;
    bench.name_image(&other, &name).await?;
    let new = there(ground, &name).await?;
    ensure!(new.id != old.id && new.names.contains(&other), "{new:?}");
    let left = there(ground, &old.id).await?;
    ensure!(left.names.is_empty(), "{left:?}");
    let described = ground.state(&spec.name).await?;
    ensure!(described.image_id == old.id, "another id: {described:?}");
    match engine.remove_image(&old.id).await {
        Err(EngineError::ImageInUse { image, .. }) if image == old.id => {}
        answer => return Err(unexpected(&answer, "image in use")),
    }
    ground.remove(&spec.name).await?;
    for reference in [&old.id, &old.id, &name, &other] {
        let removed = engine.remove_image(reference).await;
        removed.map_err(told("remove image"))?;
    }
    for gone in [&old.id, &new.id] {
        let left = listed(ground, gone).await?;
        ensure!(left.is_none(), "{left:?} is still listed");
    }
    Ok(())
}
