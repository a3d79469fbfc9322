//! Credentials of a task for its role (ECS `/v2/credentials`).

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;
use tallyman_crds::ecs::NetworkMode;
use tallyman_crds::roles::{self, RoleSources};
use tallyman_crds::sources::{Supplied, Supply};
use tallyman_crds::{PlannedDefinition, PlannedTask};

use crate::assignment::AssignedTask;
use crate::containers::Scope;
use crate::needs::{Unmet, take};
use crate::refused::Refused;

/// For how long credentials that name no end are said to hold: SDKs ask again before, and so learn of others.
const HOUR: SignedDuration = SignedDuration::from_hours(1);

/// The role of a task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TaskRole {
    /// As the task definition or the run names it.
    pub arn: String,
    sources: RoleSources,
}

/// What a container is answered, spelled as SDKs read it. Not to be printed.
#[derive(Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Credentials {
    role_arn: String,
    access_key_id: String,
    secret_access_key: String,
    token: String,
    expiration: Timestamp,
}

/// Why a container that asks for credentials gets none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NoCredentials {
    /// Its task has no role: asking again is of no use (400).
    NoRole,
    /// They are not there yet, or cannot be read at the moment: asking again may be (503). In a sentence.
    NotNow(String),
}

/// The credentials of a task, as of `now`.
///
/// # Errors
/// [`NoCredentials`]. An agent that has just started may know a task without its definition, and so without its role: that is
/// no reason for SDKs to give up.
pub fn of_task(
    task: &AssignedTask,
    supply: Option<&Supply>,
    now: Timestamp,
) -> Result<Credentials, NoCredentials> {
    match &task.role {
        Some(role) => role
            .credentials(supply, now)
            .map_err(|unmet| NoCredentials::NotNow(unmet.to_string())),
        None if task.planned => Err(NoCredentials::NoRole),
        None => Err(NoCredentials::NotNow(
            "The plan of the host has no such task, or is not read yet.".to_owned(),
        )),
    }
}

impl TaskRole {
    /// The role of a task, if it has one.
    ///
    /// # Errors
    /// [`Refused::Role`]: it cannot be read, or nobody answers on this host.
    pub(crate) fn plan(
        planned: &PlannedDefinition,
        task: &PlannedTask,
        scope: &Scope<'_>,
    ) -> Result<Option<Self>, Refused> {
        let Some(arn) = roles::named(&planned.definition, task.overrides.as_ref()) else {
            return Ok(None);
        };
        let refuse = |why: String| Refused::Role { why };
        let host = planned.definition.network_mode == Some(NetworkMode::Host);
        let missing = match &scope.injection.roles {
            None => Some(
                "the task metadata endpoint is not served, or ECS_ENABLE_TASK_IAM_ROLE is false",
            ),
            Some(roles) if host && !roles.network_host => {
                Some("ECS_ENABLE_TASK_IAM_ROLE_NETWORK_HOST is false")
            }
            Some(_) => None,
        };
        if let Some(missing) = missing {
            return Err(refuse(format!(
                "is set, and this host hands out no credentials: {missing}"
            )));
        }
        Ok(Some(Self {
            arn: arn.to_owned(),
            sources: RoleSources::of(arn).map_err(refuse)?,
        }))
    }

    /// Whether they are there, at whatever time.
    ///
    /// # Errors
    /// As of [`Self::credentials`].
    pub fn check(&self, supply: Option<&Supply>) -> Result<(), Unmet> {
        self.credentials(supply, Timestamp::UNIX_EPOCH).map(drop)
    }

    /// The credentials that there are, as of `now`.
    ///
    /// # Errors
    /// There are none (yet), or they cannot be read.
    pub fn credentials(
        &self,
        supply: Option<&Supply>,
        now: Timestamp,
    ) -> Result<Credentials, Unmet> {
        let RoleSources {
            object,
            access_key_id,
            secret_access_key,
            session_token,
            expiration,
        } = &self.sources;
        let access_key_id = take(supply, access_key_id)?.to_owned();
        let secret_access_key = take(supply, secret_access_key)?.to_owned();
        // Those of a user have neither.
        let optional = |source| match supply.and_then(|supply| supply.get(source)) {
            Some(Supplied::NoKey) => Ok(None),
            _ => take(supply, source).map(Some),
        };
        let expiration = match optional(expiration)? {
            None => now.saturating_add(HOUR).unwrap_or(now),
            Some(text) => text.trim().parse().map_err(|_| {
                Unmet::Never(format!(
                    "key `Expiration` of {object} must be a time such as `2026-01-01T00:00:00Z`"
                ))
            })?,
        };
        Ok(Credentials {
            role_arn: self.arn.clone(),
            access_key_id,
            secret_access_key,
            token: optional(session_token)?.unwrap_or_default().to_owned(),
            expiration,
        })
    }
}
