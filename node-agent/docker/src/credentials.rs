//! Whom to be for a registry: what the task or the host gives, else what the Docker client of this user would be
//! (its configuration file, with credential helpers).

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bollard::auth::DockerCredentials;
use docker_credential::{CredentialRetrievalError, DockerCredential};
use tallyman_agent_engine::{DOCKER_HUB, DOCKER_HUB_INDEX, Reference, RegistryCredentials};

/// A helper that takes longer has failed.
const PATIENCE: Duration = Duration::from_secs(30);

/// The Docker client's configuration file of this user: in `$DOCKER_CONFIG`, else in `~/.docker`.
pub fn client_config() -> Option<PathBuf> {
    let home = || std::env::var_os("HOME").map(|home| Path::new(&home).join(".docker"));
    let folder = std::env::var_os("DOCKER_CONFIG").map(PathBuf::from);
    Some(folder.or_else(home)?.join("config.json"))
}

/// Credentials for the registry of `image`, as the pull call takes them.
pub(crate) async fn find(
    image: &str,
    given: Option<RegistryCredentials>,
    client_config: Option<&Path>,
) -> Option<DockerCredentials> {
    let registry = Reference::split(image).registry().to_owned();
    if let Some(RegistryCredentials { username, password }) = given {
        return Some(DockerCredentials {
            username: Some(username),
            password: Some(password.expose().to_owned()),
            serveraddress: Some(registry),
            ..DockerCredentials::default()
        });
    }
    let file = client_config.filter(|path| path.exists())?.to_owned();
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
    let trouble = match tokio::time::timeout(PATIENCE, ask).await {
        Ok(Ok(Ok(found))) => return Some(spelled(found, address)),
        Ok(Ok(Err(CredentialRetrievalError::NoCredentialConfigured))) => return None,
        // What a helper printed may be a secret.
        Ok(Ok(Err(CredentialRetrievalError::HelperFailure { helper, .. }))) => {
            format!("`{helper}` has none, or failed")
        }
        Ok(Ok(Err(error))) => error.to_string(),
        Ok(Err(error)) => error.to_string(),
        Err(_) => "the credential helper does not answer".to_owned(),
    };
    tracing::warn!(registry = address, trouble, "pulling without credentials");
    None
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
        let found = found.expect("the file has it");
        assert_eq!(
            (found.username.as_deref(), found.password.as_deref()),
            (Some("anna"), Some("secret"))
        );
        let given = RegistryCredentials {
            username: "bob".to_owned(),
            password: Sensitive::new("other"),
        };
        let found = find("registry.test:5000/web:1", Some(given), Some(&file)).await;
        let found = found.expect("given");
        assert_eq!(found.username.as_deref(), Some("bob"));
        assert_eq!(found.serveraddress.as_deref(), Some("registry.test:5000"));
        assert!(
            find("elsewhere.test/web", None, Some(&file))
                .await
                .is_none()
        );
        assert!(find("registry.test:5000/web", None, None).await.is_none());
    }

    /// Helpers are found by PATH, which is the whole process's: the test runs itself once more with a PATH of its own.
    #[tokio::test]
    async fn a_credential_helper_is_asked() {
        const INNER: &str = "TALLYMAN_TEST_HELPER_CONFIG";
        if let Some(file) = std::env::var_os(INNER) {
            let file = PathBuf::from(file);
            let found = find("r.test/web", None, Some(&file)).await;
            let found = found.expect("the helper has it");
            assert_eq!(found.identitytoken.as_deref(), Some("token of r.test"));
            assert!(find("s.test/web", None, Some(&file)).await.is_none());
            return;
        }
        let folder = tempfile::tempdir().expect("a folder");
        let helper = folder.path().join("docker-credential-shop");
        let script = "#!/bin/sh\nread -r server\n[ $server = r.test ] || exit 1\n\
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
