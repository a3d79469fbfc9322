//! Credentials of tasks: what `taskRoleArn` names, and how they are kept.
//!
//! ECS' control plane assumes the role of a task and hands the credentials to the agent. Here somebody else does that (a
//! CronJob that runs `aws sts assume-role`, External Secrets, a person) and keeps what he got in the Secret that the role names,
//! spelled as STS spells it. It reaches the host as every other [`Source`] does, also when it changes.

use std::collections::BTreeSet;

use crate::ecs::TaskOverride;
use crate::sources::{Source, SourceObject};
use crate::task_definition::TaskDefinitionSpec;

/// Keys of the Secret, or of the JSON object under its only key: `Credentials` of STS.
pub mod keys {
    /// Id of the access key.
    pub const ACCESS_KEY_ID: &str = "AccessKeyId";
    /// The access key.
    pub const SECRET_ACCESS_KEY: &str = "SecretAccessKey";
    /// Token of temporary credentials; others have none.
    pub const SESSION_TOKEN: &str = "SessionToken";
    /// Until when temporary credentials hold, RFC 3339; others have none.
    pub const EXPIRATION: &str = "Expiration";
}

/// What a task takes of the Secret of its role.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoleSources {
    /// The Secret.
    pub object: SourceObject,
    /// [`keys::ACCESS_KEY_ID`].
    pub access_key_id: Source,
    /// [`keys::SECRET_ACCESS_KEY`].
    pub secret_access_key: Source,
    /// [`keys::SESSION_TOKEN`].
    pub session_token: Source,
    /// [`keys::EXPIRATION`].
    pub expiration: Source,
}

impl RoleSources {
    /// Reads a role (ECS: its ARN or its name): `arn:aws:iam::123456789012:role/service/Web` is Secret `web`. The path
    /// says nothing: names of roles are unique in an account.
    ///
    /// # Errors
    /// What it must be, to go behind the name of the field.
    pub fn of(role: &str) -> Result<Self, String> {
        let name = match role.strip_prefix("arn:") {
            None => Some(role),
            Some(arn) => arn
                .splitn(5, ':')
                .nth(4)
                .and_then(|resource| resource.strip_prefix("role/"))
                .filter(|_| arn.split(':').nth(1) == Some("iam"))
                .and_then(|path| path.rsplit('/').next()),
        };
        let name = name.filter(|name| !name.is_empty()).ok_or_else(|| {
            format!("must be the name or the ARN of a role, such as `arn:aws:iam::123456789012:role/web`, unlike '{role}'")
        })?;
        let object = SourceObject::secret(name)?;
        let key = |key: &str| Source {
            object: object.clone(),
            key: Some(key.to_owned()),
        };
        Ok(Self {
            access_key_id: key(keys::ACCESS_KEY_ID),
            secret_access_key: key(keys::SECRET_ACCESS_KEY),
            session_token: key(keys::SESSION_TOKEN),
            expiration: key(keys::EXPIRATION),
            object,
        })
    }

    fn all(self) -> [Source; 4] {
        [
            self.access_key_id,
            self.secret_access_key,
            self.session_token,
            self.expiration,
        ]
    }
}

/// The role of a task of `spec`, run with `overrides`.
pub fn named<'a>(
    spec: &'a TaskDefinitionSpec,
    overrides: Option<&'a TaskOverride>,
) -> Option<&'a str> {
    let changed = overrides.and_then(|o| o.task_role_arn.as_deref());
    changed.or(spec.task_role_arn.as_deref())
}

/// What such a task takes of the Secret of its role; nothing when it has none, or one that cannot be read: it was
/// refused for it.
pub fn of_task(spec: &TaskDefinitionSpec, overrides: Option<&TaskOverride>) -> BTreeSet<Source> {
    let role = named(spec, overrides).map(RoleSources::of);
    let role = role.and_then(Result::ok);
    role.into_iter().flat_map(RoleSources::all).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn a_role_names_a_secret() {
        for (role, secret) in [
            ("arn:aws:iam::123456789012:role/web", "web"),
            (
                "arn:aws:iam::123456789012:role/shop/prod/Web_App",
                "web-app",
            ),
            ("arn:aws-cn:iam::123456789012:role/web", "web"),
            ("web", "web"),
        ] {
            assert_eq!(RoleSources::of(role).unwrap().object.name, secret, "{role}");
        }
        for role in [
            "",
            "--",
            "arn:aws:iam::123456789012:user/web",
            "arn:aws:iam::123456789012:role/",
            "arn:aws:s3:::role/web",
            "arn:aws:iam",
        ] {
            let wrong = RoleSources::of(role).unwrap_err();
            assert!(wrong.starts_with("must"), "{role}: {wrong}");
        }
    }
}
