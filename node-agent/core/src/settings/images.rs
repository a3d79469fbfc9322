//! How images come and go.

use tallyman_agent_engine::PullBehavior;

use super::group::settings;
use super::values::Wrong;

settings! {
    /// How images come and go.
    pub struct Images {
        pull_behavior: PullBehavior = PullBehavior::Default,
            ["ECS_IMAGE_PULL_BEHAVIOR", "ImagePullBehavior", "default, always, once or prefer-cached"],
            pull_behavior;
    }
}

fn pull_behavior(text: &str) -> Result<PullBehavior, Wrong> {
    match text {
        "default" => Ok(PullBehavior::Default),
        "always" => Ok(PullBehavior::Always),
        "once" => Ok(PullBehavior::Once),
        "prefer-cached" => Ok(PullBehavior::PreferCached),
        _ => Err(Wrong::wanted(
            "one of default, always, once and prefer-cached",
        )),
    }
}
