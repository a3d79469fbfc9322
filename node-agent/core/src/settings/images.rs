//! How images come and go.

use tallyman_agent_engine::PullBehavior;

use super::group::settings;
use super::values::Wrong;
use crate::registries::Registries;

settings! {
    /// How images come and go.
    pub struct Images {
        pull_behavior: PullBehavior = PullBehavior::Default,
            ["ECS_IMAGE_PULL_BEHAVIOR", "ImagePullBehavior", "default, always, once or prefer-cached"],
            pull_behavior;
        auth_type: Option<AuthType> = None,
            ["ECS_ENGINE_AUTH_TYPE", "EngineAuthType",
             "form of ECS_ENGINE_AUTH_DATA: dockercfg or docker (default: none, and no credentials)"],
            auth_type;
        auth_data: Registries = Registries::default(),
            ["ECS_ENGINE_AUTH_DATA", "EngineAuthData",
             "credentials of the host for private registries, a JSON object"],
            auth_data;
    }
}

/// How `ECS_ENGINE_AUTH_DATA` is written. Each entry is read in either form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuthType {
    /// `{"<url>": {"auth": "<base64 of user:password>"}}`
    Dockercfg,
    /// `{"<url>": {"username": "..", "password": ".."}}`
    Docker,
}

impl Images {
    /// The host's own credentials for registries; none without a type (ECS).
    pub fn registries(&self) -> Registries {
        match self.auth_type {
            Some(AuthType::Dockercfg | AuthType::Docker) => self.auth_data.clone(),
            None => Registries::default(),
        }
    }
}

fn auth_type(text: &str) -> Result<Option<AuthType>, Wrong> {
    match text {
        "dockercfg" => Ok(Some(AuthType::Dockercfg)),
        "docker" => Ok(Some(AuthType::Docker)),
        _ => Err(Wrong::wanted("one of dockercfg and docker")),
    }
}

/// What is wrong is told without the value: it holds passwords.
fn auth_data(text: &str) -> Result<Registries, Wrong> {
    Registries::read(text).map_err(|wanted| Wrong::Refused(vec![format!("is not {wanted}.")]))
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
