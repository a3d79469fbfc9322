//! A new token for the host, before the old one ends.
//!
//! The token lies in the kubeconfig's `tokenFile` and is bound to the host's Secret: deleting the Secret
//! locks the host out. The client reads the file again by itself.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, anyhow};
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use jiff::Timestamp;
use k8s_openapi::api::authentication::v1::{BoundObjectReference, TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::api::PostParams;
use serde_json::Value;
use tallyman_crds::names;
use tracing::{info, warn};

use crate::api::Api;
use crate::files;

/// Part of a token's life after which a new one is asked for.
const OLD: f64 = 0.8;
const SHORTEST_WAIT: Duration = Duration::from_secs(10);
const LONGEST_WAIT: Duration = Duration::from_secs(60 * 60);
/// The API server grants no shorter life.
const SHORTEST_LIFE: i64 = 600;

/// What a token says of itself.
pub struct Claims {
    issued: i64,
    expires: i64,
    secret_uid: Option<String>,
    subject: String,
}

impl Claims {
    /// Namespace and name of the ServiceAccount.
    pub fn account(&self) -> Option<(&str, &str)> {
        self.subject
            .strip_prefix("system:serviceaccount:")?
            .split_once(':')
    }
}

/// The host that the token in `file` is for.
pub fn host_of(file: &Path) -> Option<String> {
    let token = std::fs::read_to_string(file).ok()?;
    let claims = claims(token.trim())?;
    let (_, account) = claims.account()?;
    names::host_of_identity(account).map(str::to_owned)
}

/// Renews the token in `file` until dropped.
pub async fn run(api: Api, file: PathBuf) {
    loop {
        let wait = match renew_if_old(&api, &file).await {
            Ok(wait) => wait,
            Err(error) => {
                warn!(file = %file.display(), error = format!("{error:#}"), "token not renewed");
                Duration::from_secs(60)
            }
        };
        tokio::time::sleep(crate::jitter::about(
            wait.clamp(SHORTEST_WAIT, LONGEST_WAIT),
        ))
        .await;
    }
}

/// How long to wait before looking again.
async fn renew_if_old(api: &Api, file: &Path) -> anyhow::Result<Duration> {
    let token = tokio::fs::read_to_string(file)
        .await
        .context("cannot read it")?;
    let claims = claims(token.trim()).context("it is no service account token")?;
    let now = Timestamp::now().as_second();
    let life = claims.expires - claims.issued;
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_precision_loss,
        reason = "seconds"
    )]
    let old_at = claims.issued + (life as f64 * OLD) as i64;
    if now < old_at {
        return Ok(Duration::from_secs(
            u64::try_from(old_at - now).unwrap_or(0),
        ));
    }
    let identity = names::host_identity(&api.name);
    let request = TokenRequest {
        spec: TokenRequestSpec {
            expiration_seconds: Some(life.clamp(SHORTEST_LIFE, names::HOST_TOKEN_SECONDS)),
            bound_object_ref: Some(BoundObjectReference {
                api_version: Some("v1".to_owned()),
                kind: Some("Secret".to_owned()),
                name: Some(identity.clone()),
                uid: claims.secret_uid,
            }),
            ..TokenRequestSpec::default()
        },
        ..TokenRequest::default()
    };
    let accounts: kube::Api<ServiceAccount> =
        kube::Api::namespaced(api.client.clone(), &api.namespace);
    let answer = tokio::time::timeout(
        Duration::from_secs(15),
        accounts.create_token_request(&identity, &PostParams::default(), &request),
    )
    .await
    .context("the API server does not answer")?
    .context("the API server refuses a new one")?;
    let status = answer
        .status
        .ok_or_else(|| anyhow!("the answer has no token"))?;
    let (path, bytes) = (file.to_owned(), status.token.into_bytes());
    tokio::task::spawn_blocking(move || files::replace(&path, &bytes))
        .await?
        .context("cannot write it")?;
    info!(file = %file.display(), expires = %status.expiration_timestamp.0, "token renewed");
    Ok(SHORTEST_WAIT)
}

/// The readable part of a token. Nothing is verified: it is ours, and the API server checks it.
pub fn claims(token: &str) -> Option<Claims> {
    let payload = token.split('.').nth(1)?;
    let value: Value =
        serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(payload).ok()?).ok()?;
    let number = |name: &str| value.get(name).and_then(Value::as_i64);
    Some(Claims {
        issued: number("iat")?,
        expires: number("exp")?,
        secret_uid: value
            .pointer("/kubernetes.io/secret/uid")
            .and_then(Value::as_str)
            .map(str::to_owned),
        subject: value
            .get("sub")
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned(),
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn the_readable_part_is_read() {
        let payload = r#"{"iat":100,"exp":3700,"kubernetes.io":{"secret":{"uid":"u1"}}}"#;
        let token = format!("h.{}.s", BASE64_URL_SAFE_NO_PAD.encode(payload));
        let claims = claims(&token).unwrap();
        assert_eq!((claims.issued, claims.expires), (100, 3700));
        assert_eq!(claims.secret_uid.as_deref(), Some("u1"));
        assert!(super::claims("plain").is_none());
    }

    #[test]
    fn a_token_says_for_which_host_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("token");
        let host = |subject: &str| {
            let payload = format!(r#"{{"iat":100,"exp":3700,"sub":"{subject}"}}"#);
            let token = format!("h.{}.s\n", BASE64_URL_SAFE_NO_PAD.encode(payload));
            std::fs::write(&file, token).unwrap();
            host_of(&file)
        };
        let account = "system:serviceaccount:prod:";
        let of = host(&format!("{account}tallyman-host-a-b"));
        assert_eq!(of.as_deref(), Some("a-b"));
        assert_eq!(host(&format!("{account}tallyman-join-a")), None);
        assert_eq!(host("admin"), None);
    }
}
