//! Credentials for registries, by registry: what `ECS_ENGINE_AUTH_DATA` holds, and what a Secret of type
//! `kubernetes.io/dockerconfigjson` does (ECS agent dockerauth).

use std::collections::BTreeMap;

use base64::Engine;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use serde::Deserialize;
use tallyman_agent_engine::{
    DOCKER_HUB, DOCKER_HUB_INDEX, Reference, RegistryCredentials, Sensitive,
};

/// Credentials by registry, or by registry and the beginning of a path.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Registries(BTreeMap<String, RegistryCredentials>);

#[derive(Deserialize)]
struct Entry {
    #[serde(default)]
    auth: Option<String>,
    #[serde(default)]
    username: Option<String>,
    #[serde(default)]
    password: Option<String>,
}

impl Registries {
    /// Reads `{"<url>": {"auth": "<base64 of user:password>"}}` (`dockercfg`), or
    /// `{"<url>": {"username": "..", "password": ".."}}` (`docker`). Either form is taken for each entry.
    ///
    /// # Errors
    /// What it is not; never a part of it.
    pub fn read(json: &str) -> Result<Self, &'static str> {
        let entries: BTreeMap<String, Entry> =
            serde_json::from_str(json).map_err(|_| "a JSON object of registries")?;
        let read = entries.into_iter().map(|(key, entry)| {
            let credentials =
                credentials(entry).ok_or("user name and password, or `auth`, for each registry")?;
            Ok((place(&key).to_owned(), credentials))
        });
        read.collect::<Result<_, _>>().map(Self)
    }

    /// Reads a Docker configuration file: [`Self::read`] of what is under `auths`.
    ///
    /// # Errors
    /// What it is not; never a part of it.
    pub fn of_config(json: &str) -> Result<Self, &'static str> {
        let whole: serde_json::Value =
            serde_json::from_str(json).map_err(|_| "a Docker configuration file")?;
        Self::read(&whole["auths"].to_string())
    }

    /// The credentials for an image: of the longest entry that the image's name begins with, at the same host.
    pub fn of(&self, image: &str) -> Option<&RegistryCredentials> {
        let reference = Reference::split(image);
        let host = place(reference.registry());
        if host == DOCKER_HUB {
            return self.0.get(DOCKER_HUB);
        }
        let begins = |key: &str| {
            let rest = reference.repository.strip_prefix(key);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/') || key.ends_with('/'))
        };
        self.0
            .iter()
            .filter(|(key, _)| begins(key))
            .max_by_key(|(key, _)| key.len())
            .map(|(_, credentials)| credentials)
    }
}

fn credentials(entry: Entry) -> Option<RegistryCredentials> {
    let Entry {
        auth,
        username,
        password,
    } = entry;
    if let (Some(username), Some(password)) = (username, password) {
        return Some(RegistryCredentials {
            username,
            password: Sensitive::new(password),
        });
    }
    let padding =
        GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
    let bytes = GeneralPurpose::new(&alphabet::STANDARD, padding)
        .decode(auth?.trim())
        .ok()?;
    let text = String::from_utf8(bytes).ok()?;
    let (username, password) = text.split_once(':')?;
    Some(RegistryCredentials {
        username: username.to_owned(),
        // Old Docker clients end it with zeros.
        password: Sensitive::new(password.trim_end_matches('\0')),
    })
}

/// A registry without scheme, and Docker Hub by one name.
fn place(key: &str) -> &str {
    let key = key.strip_prefix("https://").unwrap_or(key);
    let key = key.strip_prefix("http://").unwrap_or(key);
    let host = key.split('/').next().unwrap_or(key);
    match host {
        DOCKER_HUB | DOCKER_HUB_INDEX | "registry-1.docker.io" => DOCKER_HUB,
        _ => key.trim_end_matches('/'),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user<'a>(known: &'a Registries, image: &str) -> Option<&'a str> {
        known.of(image).map(|c| c.username.as_str())
    }

    #[test]
    fn the_longest_entry_of_the_same_host_decides() {
        let hub = format!("https://{DOCKER_HUB_INDEX}/v1/");
        let text = r#"{
            "HUB": {"username": "hub", "password": "p"},
            "registry.test": {"username": "all", "password": "p"},
            "http://registry.test/team": {"username": "team", "password": "p"},
            "registry.test:5000": {"auth": "cG9ydDpwYTpzcwAA"}
        }"#;
        let known = Registries::read(&text.replace("HUB", &hub)).unwrap();
        for (image, wanted) in [
            ("nginx", Some("hub")),
            ("acme/web:1", Some("hub")),
            ("registry-1.docker.io/acme/web", Some("hub")),
            ("registry.test/web", Some("all")),
            ("registry.test/teams/web", Some("all")),
            ("registry.test/team/web@sha256:12", Some("team")),
            ("registry.test:5000/web", Some("port")),
            ("registry.test.evil.test/web", None),
            ("quay.io/web", None),
        ] {
            assert_eq!(user(&known, image), wanted, "{image}");
        }
        let password = known.of("registry.test:5000/web").map(|c| &c.password);
        assert_eq!(password.map(Sensitive::expose), Some("pa:ss"));
    }

    #[test]
    fn what_is_not_credentials_is_told_without_showing_it() {
        for text in ["", "[]", r#"{"a": {}}"#, r#"{"a": {"auth": "%%"}}"#] {
            let error = Registries::read(text).unwrap_err();
            assert!(!error.contains('%'), "{text}: {error}");
        }
        assert!(Registries::of_config(r#"{"auths": {"a": {"auth": "YTpi"}}}"#).is_ok());
        assert!(Registries::of_config("{}").is_err());
        let known = Registries::read(r#"{"a": {"username": "anna", "password": "s3cret"}}"#);
        assert!(!format!("{known:?}").contains("s3cret"));
    }
}
