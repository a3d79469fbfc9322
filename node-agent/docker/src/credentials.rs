//! Whom to be for a registry: what the task or the host gives, else what the Docker client of this user would be
//! (its configuration file, with credential helpers).
//!
//! A lookup that fails does not fail the pull by itself, as with the Docker client: a public image wants nobody's
//! credentials. When the registry does want some, the failed lookup is why there is no image.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bollard::auth::DockerCredentials;
use docker_credential::{CredentialRetrievalError, DockerCredential};
use tallyman_agent_engine::{
    DOCKER_HUB, DOCKER_HUB_INDEX, EngineError, PullFault, Reference, RegistryCredentials,
};

/// A helper that takes longer has failed.
const PATIENCE: Duration = Duration::from_secs(30);

/// What helpers print that were asked for what they do not have (docker-credential-helpers).
const HAS_NONE: &str = "credentials not found";

/// Credentials could not be looked up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LookupFailed {
    registry: String,
    /// As a clause; never a part of them.
    why: String,
}

impl LookupFailed {
    /// What a pull came to that was tried without credentials.
    pub(crate) fn explains(self, error: EngineError) -> EngineError {
        let Self { registry, why } = self;
        match error {
            EngineError::PullFailed {
                image,
                why: PullFault::Denied,
                message,
            } => EngineError::CannotAuthenticate {
                image,
                registry,
                why,
                message,
            },
            other => other,
        }
    }
}

/// The Docker client's configuration file of this user: in `$DOCKER_CONFIG`, else in `~/.docker`.
pub fn client_config() -> Option<PathBuf> {
    let home = || std::env::var_os("HOME").map(|home| Path::new(&home).join(".docker"));
    let folder = std::env::var_os("DOCKER_CONFIG").map(PathBuf::from);
    Some(folder.or_else(home)?.join("config.json"))
}

/// Credentials for the registry of `image`, as the pull call takes them; `None` when there are none for it.
pub(crate) async fn find(
    image: &str,
    given: Option<RegistryCredentials>,
    client_config: Option<&Path>,
) -> Result<Option<DockerCredentials>, LookupFailed> {
    let registry = Reference::split(image).registry().to_owned();
    if let Some(RegistryCredentials { username, password }) = given {
        return Ok(Some(DockerCredentials {
            username: Some(username),
            password: Some(password.expose().to_owned()),
            serveraddress: Some(registry),
            ..DockerCredentials::default()
        }));
    }
    let Some(file) = client_config.filter(|path| path.exists()) else {
        return Ok(None);
    };
    let file = file.to_owned();
    let server = match registry.as_str() {
        // As the Docker client writes it.
        DOCKER_HUB => format!("https://{DOCKER_HUB_INDEX}/v1/"),
        other => other.to_owned(),
    };
    let address = server.clone();
    let ask = tokio::task::spawn_blocking(move || {
        let open = File::open(&file).map_err(|_| CredentialRetrievalError::ConfigNotFound)?;
        docker_credential::get_credential_from_reader(open, &server)
    });
    let why = match tokio::time::timeout(PATIENCE, ask).await {
        Ok(Ok(Ok(found))) => return Ok(Some(spelled(found, address))),
        Ok(Ok(Err(error))) => match trouble(error) {
            Some(why) => why,
            None => return Ok(None),
        },
        Ok(Err(_)) => "the lookup broke off".to_owned(),
        Err(_) => "the credential helper does not answer".to_owned(),
    };
    tracing::warn!(registry, why, "pulling without credentials");
    Err(LookupFailed { registry, why })
}

/// What went wrong, as a clause; `None` when nothing did, and there are no credentials. What a helper printed may be a
/// secret, and is not said.
fn trouble(error: CredentialRetrievalError) -> Option<String> {
    use CredentialRetrievalError as E;
    let why = match error {
        E::NoCredentialConfigured => return None,
        E::HelperFailure { stdout, stderr, .. }
            if stdout.contains(HAS_NONE) || stderr.contains(HAS_NONE) =>
        {
            return None;
        }
        E::HelperFailure { helper, .. } => return Some(format!("`{helper}` failed")),
        E::HelperCommunicationError => "the credential helper could not be asked",
        E::MalformedHelperResponse => "the credential helper's answer could not be read",
        E::CredentialDecodingError => "its `auth` in the Docker configuration could not be read",
        E::CredentialMismatchError => "`auth` and user name in the Docker configuration differ",
        E::ConfigNotFound => "the Docker configuration could not be opened",
        E::ConfigReadError => "the Docker configuration could not be read",
    };
    Some(why.to_owned())
}

fn spelled(found: DockerCredential, address: String) -> DockerCredentials {
    let serveraddress = Some(address);
    match found {
        DockerCredential::IdentityToken(token) => DockerCredentials {
            identitytoken: Some(token),
            serveraddress,
            ..DockerCredentials::default()
        },
        DockerCredential::UsernamePassword(username, password) => DockerCredentials {
            username: Some(username),
            password: Some(password),
            serveraddress,
            ..DockerCredentials::default()
        },
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use tallyman_agent_engine::Sensitive;

    use super::*;

    #[tokio::test]
    async fn what_is_given_wins_over_the_clients_file() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("config.json");
        // anna:secret
        std::fs::write(
            &file,
            r#"{"auths": {"registry.test:5000": {"auth": "YW5uYTpzZWNyZXQ="}}}"#,
        )
        .expect("written");
        let found = find("registry.test:5000/web:1", None, Some(&file)).await;
        let found = found.expect("read").expect("the file has it");
        assert_eq!(
            (found.username.as_deref(), found.password.as_deref()),
            (Some("anna"), Some("secret"))
        );
        let given = RegistryCredentials {
            username: "bob".to_owned(),
            password: Sensitive::new("other"),
        };
        let found = find("registry.test:5000/web:1", Some(given), Some(&file)).await;
        let found = found.expect("read").expect("given");
        assert_eq!(found.username.as_deref(), Some("bob"));
        assert_eq!(found.serveraddress.as_deref(), Some("registry.test:5000"));
        for (image, file) in [
            ("elsewhere.test/web", Some(file.as_path())),
            ("registry.test:5000/web", None),
        ] {
            let found = find(image, None, file).await.expect("read");
            assert!(found.is_none(), "{image}");
        }
    }

    #[tokio::test]
    async fn what_is_wrong_with_the_clients_file_is_told_and_nothing_that_it_holds() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("config.json");
        for (content, why) in [
            (
                r#"{"auths": {"r.test": {"auth": "hush!"}}}"#,
                "its `auth` in the Docker configuration could not be read",
            ),
            (
                r#"{"auths": "hush!"}"#,
                "the Docker configuration could not be read",
            ),
            (
                r#"{"credsStore": "nowhere"}"#,
                "the credential helper could not be asked",
            ),
        ] {
            std::fs::write(&file, content).expect("written");
            let failed = find("r.test/web", None, Some(&file)).await.err();
            let wanted = LookupFailed {
                registry: "r.test".to_owned(),
                why: why.to_owned(),
            };
            assert_eq!(failed, Some(wanted), "{content}");
        }
    }

    /// Helpers are found by PATH, which is the whole process's: the test runs itself once more with a PATH of its own.
    #[tokio::test]
    async fn a_credential_helper_is_asked() {
        const INNER: &str = "TALLYMAN_TEST_HELPER_CONFIG";
        if let Some(file) = std::env::var_os(INNER) {
            let file = PathBuf::from(file);
            let found = find("r.test/web", None, Some(&file)).await;
            let found = found.expect("asked").expect("the helper has it");
            assert_eq!(found.identitytoken.as_deref(), Some("token of r.test"));
            let none = find("none.test/web", None, Some(&file)).await;
            assert!(none.expect("asked").is_none());
            let failed = find("s.test/web", None, Some(&file)).await.err();
            let why = failed.expect("the helper fails").why;
            assert_eq!(why, "`docker-credential-shop` failed");
            return;
        }
        let folder = tempfile::tempdir().expect("a folder");
        let helper = folder.path().join("docker-credential-shop");
        let script = "#!/bin/sh\nread -r server\n\
            [ $server != none.test ] || { echo credentials not found in native keychain; exit 1; }\n\
            [ $server = r.test ] || exit 1\n\
            echo \"{\\\"Username\\\": \\\"<token>\\\", \\\"Secret\\\": \\\"token of $server\\\"}\"\n";
        std::fs::write(&helper, script).expect("written");
        std::fs::set_permissions(&helper, std::fs::Permissions::from_mode(0o755)).expect("mode");
        let file = folder.path().join("config.json");
        std::fs::write(&file, r#"{"credsStore": "shop"}"#).expect("written");
        let path = std::env::var("PATH").unwrap_or_default();
        let again = std::process::Command::new(std::env::current_exe().expect("itself"))
            .args([
                "--exact",
                "credentials::tests::a_credential_helper_is_asked",
            ])
            .env("PATH", format!("{}:{path}", folder.path().display()))
            .env(INNER, &file)
            .output()
            .expect("it runs");
        let said = String::from_utf8_lossy(&again.stdout);
        assert!(
            again.status.success() && said.contains("1 passed"),
            "{said}"
        );
    }
}
