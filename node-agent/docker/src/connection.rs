//! The way to the engine: endpoint, lazy connection, API version.

use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use bollard::{API_DEFAULT_VERSION, BollardRequest, Docker};
use tokio::sync::OnceCell;

use tallyman_agent_engine::EngineError;

use crate::faults::{Trouble, unreachable};

/// The oldest Engine API that we speak: Docker 20.10's.
pub const OLDEST_API: &str = "1.41";

const OLDEST: ApiVersion = ApiVersion(1, 41);

/// bollard's own limit only covers the head of an answer; every verb sets its own instead.
const BOLLARD_TIMEOUT: Duration = Duration::from_secs(24 * 60 * 60);

/// An endpoint that is spelled in a way we do not know.
#[derive(Debug, thiserror::Error)]
#[error("the engine endpoint {endpoint:?} is neither unix:///path nor tcp://host:port")]
pub struct BadEndpoint {
    endpoint: String,
}

/// A connection that is made when first needed and agrees on an API version then.
///
/// bollard 0.21 drops the version from every path, so that the engine would answer in the newest
/// version it knows, newer than bollard's types. We put the agreed version back in front of the path.
pub(crate) struct Connection {
    endpoint: Endpoint,
    client: OnceCell<Docker>,
    agreed: Arc<RwLock<Option<ApiVersion>>>,
}

enum Endpoint {
    Unix(String),
    Http(String),
}

/// Major and minor number of an Engine API.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct ApiVersion(u32, u32);

impl fmt::Display for ApiVersion {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}.{}", self.0, self.1)
    }
}

impl ApiVersion {
    fn parse(text: &str) -> Option<Self> {
        let (major, minor) = text.split_once('.')?;
        Some(Self(major.parse().ok()?, minor.parse().ok()?))
    }

    /// The newest version that bollard's types describe.
    fn ours() -> Self {
        Self::parse(&API_DEFAULT_VERSION.to_string()).unwrap_or(OLDEST)
    }
}

impl Connection {
    pub(crate) fn new(endpoint: &str) -> Result<Self, BadEndpoint> {
        let bad = || BadEndpoint {
            endpoint: endpoint.to_owned(),
        };
        let (scheme, rest) = endpoint.split_once("://").ok_or_else(bad)?;
        let endpoint = match scheme {
            "unix" if rest.starts_with('/') => Endpoint::Unix(rest.to_owned()),
            "tcp" | "http" if !rest.is_empty() => Endpoint::Http(rest.to_owned()),
            _ => return Err(bad()),
        };
        Ok(Self {
            endpoint,
            client: OnceCell::new(),
            agreed: Arc::new(RwLock::new(None)),
        })
    }

    /// The client, after the first agreement on a version.
    pub(crate) async fn client(&self) -> Result<&Docker, Trouble> {
        self.client
            .get_or_try_init(|| async {
                let client = self.connect()?;
                self.agree(&client).await?;
                Ok(client)
            })
            .await
    }

    /// Asks for the engine's version anew, as the engine may have been replaced meanwhile.
    pub(crate) async fn renegotiate(&self) -> Result<&Docker, Trouble> {
        if let Some(client) = self.client.get() {
            self.agree(client).await?;
        }
        self.client().await
    }

    fn connect(&self) -> Result<Docker, Trouble> {
        let seconds = BOLLARD_TIMEOUT.as_secs();
        let client = match &self.endpoint {
            Endpoint::Unix(path) => Docker::connect_with_unix(path, seconds, API_DEFAULT_VERSION),
            Endpoint::Http(address) => {
                Docker::connect_with_http(address, seconds, API_DEFAULT_VERSION)
            }
        }
        .map_err(|error| Trouble::Known(unreachable(error)))?;
        let agreed = Arc::clone(&self.agreed);
        Ok(
            client.with_request_modifier(move |request| match current(&agreed) {
                Some(version) => versioned(request, version),
                None => request,
            }),
        )
    }

    async fn agree(&self, client: &Docker) -> Result<(), Trouble> {
        set(&self.agreed, None);
        let told = client.version().await?.api_version.unwrap_or_default();
        let theirs = ApiVersion::parse(&told).filter(|version| *version >= OLDEST);
        let Some(theirs) = theirs else {
            return Err(Trouble::Known(EngineError::TooOld {
                found: told,
                oldest: OLDEST_API.to_owned(),
            }));
        };
        set(&self.agreed, Some(theirs.min(ApiVersion::ours())));
        Ok(())
    }
}

fn current(agreed: &RwLock<Option<ApiVersion>>) -> Option<ApiVersion> {
    *agreed.read().unwrap_or_else(PoisonError::into_inner)
}

fn set(agreed: &RwLock<Option<ApiVersion>>, version: Option<ApiVersion>) {
    *agreed.write().unwrap_or_else(PoisonError::into_inner) = version;
}

/// Puts `/v1.41` in front of the path. A target that would not parse is sent as it was.
fn versioned(mut request: BollardRequest, version: ApiVersion) -> BollardRequest {
    let target = request.uri();
    let (scheme, authority) = (target.scheme_str(), target.authority());
    let (Some(scheme), Some(authority)) = (scheme, authority) else {
        return request;
    };
    let path = target.path_and_query().map_or("/", |path| path.as_str());
    if let Ok(parsed) = format!("{scheme}://{authority}/v{version}{path}").parse() {
        *request.uri_mut() = parsed;
    }
    request
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_compare_by_number() {
        assert_eq!(ApiVersion::parse("1.41"), Some(ApiVersion(1, 41)));
        assert!(ApiVersion(1, 9) < ApiVersion(1, 41));
        assert_eq!(ApiVersion::parse("next"), None);
        assert_eq!(OLDEST.to_string(), OLDEST_API);
        assert!(ApiVersion::ours() >= OLDEST);
    }

    #[test]
    fn endpoints_are_unix_or_tcp() {
        for good in [
            "unix:///run/docker.sock",
            "tcp://10.0.0.1:2375",
            "http://h:1",
        ] {
            assert!(Connection::new(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            "/run/docker.sock",
            "unix://relative",
            "ssh://host",
            "tcp://",
        ] {
            assert!(Connection::new(bad).is_err(), "{bad}");
        }
    }
}
