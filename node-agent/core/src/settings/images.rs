//! How images come and go.

use std::time::Duration;

use tallyman_agent_engine::PullBehavior;

use super::group::settings;
use super::values::{Wrong, at_least, flag, list, number};
use crate::registries::Registries;

settings! {
    /// How images come and go.
    pub struct Images {
        pull_behavior: PullBehavior = PullBehavior::Default,
            ["ECS_IMAGE_PULL_BEHAVIOR", "ImagePullBehavior", "default, always, once or prefer-cached"],
            pull_behavior;
        authenticated: bool = false,
            ["ECS_ENGINE_AUTH_TYPE", "EngineAuthType",
             "form of ECS_ENGINE_AUTH_DATA: dockercfg or docker (default: none, and no credentials)"],
            auth_type;
        auth_data: Registries = Registries::default(),
            ["ECS_ENGINE_AUTH_DATA", "EngineAuthData",
             "credentials of the host for private registries, a JSON object"],
            auth_data;
        pull_timeout: Duration = Duration::from_secs(2 * 60 * 60),
            ["ECS_IMAGE_PULL_TIMEOUT", "ImagePullTimeout", "what a pull may take in all (default 2h)"],
            at_least(1);
        pull_inactivity: Duration = Duration::from_secs(60),
            ["ECS_IMAGE_PULL_INACTIVITY_TIMEOUT", "ImagePullInactivityTimeout",
             "a pull from which nothing came for so long has failed (default 1m, at least 1m)"],
            at_least(60);
        cleanup_disabled: bool = false,
            ["ECS_DISABLE_IMAGE_CLEANUP", "ImageCleanupDisabled", "true: never remove images (default false)"],
            flag;
        cleanup_interval: Duration = Duration::from_secs(30 * 60),
            ["ECS_IMAGE_CLEANUP_INTERVAL", "ImageCleanupInterval",
             "how often images are cleaned up (default 30m, at least 10m)"],
            at_least(600);
        minimum_age: Duration = Duration::from_secs(60 * 60),
            ["ECS_IMAGE_MINIMUM_CLEANUP_AGE", "MinimumImageDeletionAge",
             "an image is kept for so long after it was pulled (default 1h)"],
            at_least(0);
        untracked_minimum_age: Duration = Duration::from_secs(60 * 60),
            ["NON_ECS_IMAGE_MINIMUM_CLEANUP_AGE", "NonECSMinimumImageDeletionAge",
             "an image that no task brought is kept for so long after it was built (default 1h)"],
            at_least(0);
        images_per_cycle: i64 = 5,
            ["ECS_NUM_IMAGES_DELETE_PER_CYCLE", "NumImagesToDeletePerCycle",
             "at most so many images are removed at once (default 5, at least 1)"],
            number(1, i64::MAX, "images");
        containers_per_cycle: i64 = 5,
            ["NONECS_NUM_CONTAINERS_DELETE_PER_CYCLE", "NumNonECSContainersToDeletePerCycle",
             "at most so many containers that are not of tasks are removed at once (default 5, at least 1)"],
            number(1, i64::MAX, "containers");
        untracked: bool = false,
            ["ECS_ENABLE_UNTRACKED_IMAGE_CLEANUP", "DeleteNonECSImagesEnabled",
             "true: clean up images and stopped containers that no task brought, too (default false)"],
            flag;
        excluded: Vec<String> = Vec::new(),
            ["ECS_EXCLUDE_UNTRACKED_IMAGE", "ImageCleanupExclusionList",
             "images that are never cleaned up, separated by commas (default none)"],
            excluded;
    }
}

impl Images {
    /// The host's own credentials for registries; none without a type (ECS).
    pub fn registries(&self) -> Registries {
        if self.authenticated {
            self.auth_data.clone()
        } else {
            Registries::default()
        }
    }
}

/// Either form is taken for each entry of the data, so only that there is one counts.
fn auth_type(text: &str) -> Result<bool, Wrong> {
    match text {
        "dockercfg" | "docker" => Ok(true),
        _ => Err(Wrong::wanted("one of dockercfg and docker")),
    }
}

/// What is wrong is told without the value: it holds passwords.
fn auth_data(text: &str) -> Result<Registries, Wrong> {
    Registries::read(text).map_err(|wanted| Wrong::Refused(vec![format!("is not {wanted}.")]))
}

/// The variable has them separated by commas, the file as a JSON list.
fn excluded(text: &str) -> Result<Vec<String>, Wrong> {
    if text.starts_with('[') {
        return list(text);
    }
    let names = text.split(',').map(|name| name.trim().to_owned());
    Ok(names.filter(|name| !name.is_empty()).collect())
}

/// The file has them as numbers.
fn pull_behavior(text: &str) -> Result<PullBehavior, Wrong> {
    match text {
        "default" | "0" => Ok(PullBehavior::Default),
        "always" | "1" => Ok(PullBehavior::Always),
        "once" | "2" => Ok(PullBehavior::Once),
        "prefer-cached" | "3" => Ok(PullBehavior::PreferCached),
        _ => Err(Wrong::wanted(
            "one of default, always, once and prefer-cached",
        )),
    }
}
