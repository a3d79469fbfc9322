//! The API server: clients, names, and what its answers mean.

use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use axum::http;
use axum::http::HeaderValue;
use axum::http::header::USER_AGENT;
use k8s_openapi::api::coordination::v1::Lease;
use kube::api::{GetParams, Patch, PatchParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::core::{Request, Status};
use kube::{Client, Config};
use serde::de::IgnoredAny;
use serde_json::{Value, json};
use tallyman_agent_core::proxy::is_direct;
use tallyman_agent_core::{Delivery, Parcel, tenure};

use crate::clock::Clock;

/// No answer takes longer; it is asked again.
const PATIENCE: Duration = Duration::from_secs(15);
/// For a lease every attempt must fit several times into the grace that the operator allows.
const LEASE_PATIENCE: Duration = Duration::from_secs(5);

/// Where the host's objects are, and how to reach them.
#[derive(Clone)]
pub struct Api {
    /// For plan, status and token.
    pub client: Client,
    /// For the lease alone, so that nothing else can delay it.
    pub lease_client: Client,
    /// What the answers to it say of this host's clock.
    pub clock: Clock,
    /// Namespace of the host's objects.
    pub namespace: String,
    /// Name of the ContainerInstance, and of the HostPlan.
    pub name: String,
}

/// The connection settings of the process.
///
/// # Errors
/// There is no kubeconfig, or it cannot be read.
pub async fn config(kubeconfig: Option<&Path>) -> anyhow::Result<Config> {
    let mut config = match kubeconfig {
        Some(path) => {
            let read = Kubeconfig::read_from(path)
                .with_context(|| format!("cannot read kubeconfig {}", path.display()))?;
            Config::from_custom_kubeconfig(read, &KubeConfigOptions::default())
                .await
                .with_context(|| format!("kubeconfig {} is not usable", path.display()))?
        }
        None => Config::infer()
            .await
            .context("no way to the API server: give --kubeconfig, or set KUBECONFIG")?,
    };
    tune(&mut config);
    Ok(config)
}

/// Sets what every connection of ours has.
pub fn tune(config: &mut Config) {
    config.proxy_url = proxy(config.proxy_url.take(), config.cluster_url.host());
    // Retries are ours: the client's own may keep a call for minutes.
    config.default_retry = false;
    config.connect_timeout = Some(LEASE_PATIENCE);
    let agent = concat!("tallyman-agent/", env!("CARGO_PKG_VERSION"));
    config
        .headers
        .push((USER_AGENT, HeaderValue::from_static(agent)));
}

/// The proxy that leads to the API server: that of the kubeconfig or of `HTTPS_PROXY`. The client holds `NO_PROXY` against the
/// proxy's own name, so it is held against the server's here.
fn proxy(found: Option<http::Uri>, server: Option<&str>) -> Option<http::Uri> {
    let variable = |name: &str| {
        let value = std::env::var(name).or_else(|_| std::env::var(name.to_ascii_lowercase()));
        value.unwrap_or_default()
    };
    choose_proxy(
        found?,
        server,
        &variable("HTTPS_PROXY"),
        &variable("NO_PROXY"),
    )
}

fn choose_proxy(
    found: http::Uri,
    server: Option<&str>,
    https_proxy: &str,
    no_proxy: &str,
) -> Option<http::Uri> {
    // One that the kubeconfig names is meant for this server.
    let by_variable = https_proxy
        .parse()
        .is_ok_and(|named: http::Uri| named == found);
    if by_variable && server.is_some_and(|server| is_direct(server, no_proxy)) {
        return None;
    }
    // ECS writes `host:port`.
    match found.scheme() {
        Some(_) => Some(found),
        None => format!("http://{found}").parse().ok(),
    }
}

impl Api {
    /// Two clients for one configuration.
    ///
    /// # Errors
    /// Certificates or token cannot be read.
    pub fn connect(config: &Config, namespace: &str, name: &str) -> anyhow::Result<Self> {
        let mut lease = config.clone();
        lease.read_timeout = Some(LEASE_PATIENCE);
        lease.write_timeout = Some(LEASE_PATIENCE);
        let clock = Clock::default();
        Ok(Self {
            client: Client::try_from(config.clone()).context("cannot set up the client")?,
            lease_client: clock.client(lease)?,
            clock,
            namespace: namespace.to_owned(),
            name: name.to_owned(),
        })
    }

    /// Puts a task's status in place, if the Task still has the parcel's uid.
    pub async fn deliver(&self, parcel: &Parcel) -> Delivery {
        let path = format!("{}/{}/status", self.path("tasks"), parcel.name);
        let request = http::Request::patch(path)
            .header(http::header::CONTENT_TYPE, "application/json-patch+json")
            .header(http::header::ACCEPT, "application/json")
            .body(parcel.json_patch().to_string().into_bytes());
        match request {
            Ok(request) => self.send(request).await,
            Err(error) => Delivery::Failed(error.to_string()),
        }
    }

    /// Merge-patches the status of the host's ContainerInstance.
    pub async fn patch_instance(&self, body: &Value) -> Delivery {
        let request = Request::new(self.path("containerinstances")).patch_subresource(
            "status",
            &self.name,
            &PatchParams::default(),
            &Patch::Merge(body),
        );
        match request {
            Ok(request) => self.send(request).await,
            Err(error) => Delivery::Failed(error.to_string()),
        }
    }

    fn path(&self, plural: &str) -> String {
        format!(
            "/apis/{}/{}/namespaces/{}/{plural}",
            tallyman_crds::GROUP,
            tallyman_crds::VERSION,
            self.namespace
        )
    }

    /// Sends a patch. What comes back is not looked at, unless it is an error.
    async fn send(&self, request: http::Request<Vec<u8>>) -> Delivery {
        let call = self.client.request::<IgnoredAny>(request);
        match tokio::time::timeout(PATIENCE, call).await {
            Ok(Ok(_)) => Delivery::Accepted,
            Ok(Err(error)) => delivery(&error),
            Err(_) => Delivery::Failed(format!("no answer within {} s", PATIENCE.as_secs())),
        }
    }

    /// Reads the host's Lease.
    ///
    /// # Errors
    /// Whatever went wrong.
    pub async fn lease(&self, name: &str) -> Result<StoredLease, LeaseError> {
        let request = self.leases().get(name, &GetParams::default());
        self.of_lease(request).await
    }

    /// Merge-patches the spec of the host's Lease, if it is as it was in `of`.
    ///
    /// # Errors
    /// [`LeaseError::Changed`] when it is not; or whatever went wrong.
    pub async fn patch_lease(
        &self,
        of: &StoredLease,
        spec: Value,
    ) -> Result<StoredLease, LeaseError> {
        let body = json!({ "metadata": { "resourceVersion": of.version }, "spec": spec });
        let patch = Patch::Merge(body);
        let request = self
            .leases()
            .patch(&of.name, &PatchParams::default(), &patch);
        self.of_lease(request).await
    }

    fn leases(&self) -> Request {
        Request::new(format!(
            "/apis/coordination.k8s.io/v1/namespaces/{}/leases",
            self.namespace
        ))
    }

    async fn of_lease(
        &self,
        request: Result<http::Request<Vec<u8>>, kube::core::request::Error>,
    ) -> Result<StoredLease, LeaseError> {
        let request = request.map_err(|error| LeaseError::Failed(error.to_string()))?;
        let call = self.lease_client.request::<Lease>(request);
        match tokio::time::timeout(LEASE_PATIENCE, call).await {
            Ok(Ok(lease)) => Ok(StoredLease::of(lease)),
            Ok(Err(kube::Error::Api(status))) if status.is_conflict() => Err(LeaseError::Changed),
            Ok(Err(error)) => Err(LeaseError::Failed(words(&error))),
            Err(_) => {
                let seconds = LEASE_PATIENCE.as_secs();
                Err(LeaseError::Failed(format!("no answer within {seconds} s")))
            }
        }
    }
}

/// The Lease as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredLease {
    name: String,
    version: String,
    /// What of it is to be decided upon.
    pub lease: tenure::Lease,
}

impl StoredLease {
    fn of(lease: Lease) -> Self {
        let spec = lease.spec.unwrap_or_default();
        let renewed = spec.renew_time.map(|time| time.0.to_string());
        Self {
            name: lease.metadata.name.unwrap_or_default(),
            version: lease.metadata.resource_version.unwrap_or_default(),
            lease: tenure::Lease {
                holder: spec.holder_identity.unwrap_or_default(),
                number: spec.lease_transitions.unwrap_or_default(),
                renewed: renewed.unwrap_or_default(),
            },
        }
    }
}

/// Why the Lease was not read or written.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum LeaseError {
    /// It is not as it was when it was read.
    #[error("somebody else wrote it meanwhile")]
    Changed,
    /// In words.
    #[error("{0}")]
    Failed(String),
}

/// What an error means for a report.
fn delivery(error: &kube::Error) -> Delivery {
    let kube::Error::Api(status) = error else {
        return Delivery::Failed(words(error));
    };
    match status.code {
        404 => Delivery::Gone,
        422 if is_failed_test(status) => Delivery::Gone,
        403 | 422 => Delivery::Refused(status.message.clone()),
        _ => Delivery::Failed(words(error)),
    }
}

/// A JSON Patch whose `test` failed: invalid, and without a word about any object. A status that a rule
/// of the CRD or a policy refuses names the object.
fn is_failed_test(status: &Status) -> bool {
    status
        .details
        .as_ref()
        .is_none_or(|details| details.name.is_empty() && details.causes.is_empty())
}

/// An error with its causes, once each.
pub fn words(error: &kube::Error) -> String {
    if let kube::Error::Api(status) = error {
        return format!("{} ({})", status.message, status.code);
    }
    let mut words = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        let next = cause.to_string();
        if !words.contains(&next) {
            words.push_str(": ");
            words.push_str(&next);
        }
        source = cause.source();
    }
    words
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::net::SocketAddr;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional};
    use tokio::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn the_api_server_is_reached_by_the_proxy_unless_it_is_excepted() {
        let uri = |text: &str| text.parse::<http::Uri>().unwrap();
        let chosen = |found: &str, variable: &str, no_proxy: &str| {
            let chosen = choose_proxy(uri(found), Some("api.example.com"), variable, no_proxy);
            chosen.map(|uri| uri.to_string())
        };
        let proxy = "http://proxy.example.com:3128/";
        assert_eq!(chosen(proxy, proxy, ""), Some(proxy.to_owned()));
        assert_eq!(chosen(proxy, proxy, "example.com"), None);
        // That of the kubeconfig is meant.
        assert_eq!(chosen(proxy, "", "example.com"), Some(proxy.to_owned()));
        let short = "10.0.0.131:3128";
        assert_eq!(chosen(short, short, ""), Some(format!("http://{short}/")));
    }

    /// Reads the head of a request.
    async fn head(connection: &mut TcpStream) -> String {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(connection.read_u8().await.unwrap());
        }
        String::from_utf8(head).unwrap()
    }

    /// A proxy for one connection that leads every name to `server`. Returns what it was asked for.
    async fn proxy_for_one(listener: TcpListener, server: SocketAddr) -> String {
        let (mut client, _) = listener.accept().await.unwrap();
        let asked = head(&mut client).await;
        let mut server = TcpStream::connect(server).await.unwrap();
        client.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
        // Either side may go first.
        let _ = copy_bidirectional(&mut client, &mut server).await;
        asked
    }

    /// An API server for one request, to which it says yes. Returns what it was asked for.
    async fn serve_one(listener: TcpListener) -> String {
        let (mut client, _) = listener.accept().await.unwrap();
        let asked = head(&mut client).await;
        let yes = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{}";
        client.write_all(yes).await.unwrap();
        asked
    }

    #[tokio::test]
    async fn the_api_server_is_asked_through_a_tunnel_of_the_proxy() {
        let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let proxy = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let folder = tempfile::tempdir().unwrap();
        let kubeconfig = folder.path().join("kubeconfig");
        // The name of the server means something to the proxy only.
        let written = serde_json::json!({
            "current-context": "x",
            "contexts": [{ "name": "x", "context": { "cluster": "x", "user": "x" } }],
            "clusters": [{ "name": "x", "cluster": {
                "server": "http://api.invalid:6443",
                "proxy-url": format!("http://{}", proxy.local_addr().unwrap()),
            } }],
            "users": [{ "name": "x", "user": {} }],
        });
        std::fs::write(&kubeconfig, written.to_string()).unwrap();
        let to = server.local_addr().unwrap();
        let tunnel = tokio::spawn(proxy_for_one(proxy, to));
        let served = tokio::spawn(serve_one(server));
        let config = config(Some(&kubeconfig)).await.unwrap();
        let api = Api::connect(&config, "shop", "host-a").unwrap();
        let delivery = api
            .patch_instance(&serde_json::json!({ "status": {} }))
            .await;
        assert!(matches!(delivery, Delivery::Accepted), "{delivery:?}");
        let asked = served.await.unwrap();
        let path = "/apis/tallyman.dev/v1alpha1/namespaces/shop/containerinstances/host-a/status";
        assert!(asked.starts_with(&format!("PATCH {path}")), "{asked}");
        drop(api);
        let asked = tunnel.await.unwrap();
        assert!(
            asked.starts_with("CONNECT api.invalid:6443 HTTP/1.1\r\n"),
            "{asked}"
        );
    }

    fn answer(status: &str) -> Delivery {
        delivery(&kube::Error::Api(Box::new(
            serde_json::from_str(status).unwrap(),
        )))
    }

    #[test]
    fn answers_mean_what_the_api_server_means() {
        // As a 1.36 API server spelled them.
        let failed_test = r#"{"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure",
            "message":"the server rejected our request due to an error in our request",
            "reason":"Invalid","details":{},"code":422}"#;
        assert_eq!(answer(failed_test), Delivery::Gone);
        let rule = r#"{"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure",
            "message":"Task \"a\" is invalid: status.lastStatus: must not go back","reason":"Invalid",
            "details":{"name":"a","group":"tallyman.dev","kind":"Task","causes":[
            {"reason":"FieldValueInvalid","message":"m","field":"status.lastStatus"}]},"code":422}"#;
        assert!(matches!(answer(rule), Delivery::Refused(_)));
        let with = |code: u16| format!(r#"{{"status":"Failure","message":"m","code":{code}}}"#);
        assert_eq!(answer(&with(404)), Delivery::Gone);
        assert!(matches!(answer(&with(403)), Delivery::Refused(_)));
        // Of a patch without resourceVersion, 409 is contention and says nothing of the Task.
        for code in [401, 409, 429, 500, 503] {
            assert!(matches!(answer(&with(code)), Delivery::Failed(_)), "{code}");
        }
    }
}
