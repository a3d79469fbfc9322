//! A real kube-apiserver, asked as our clients ask it.

use std::path::PathBuf;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use futures::StreamExt;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::core::WatchEvent;
use kube::{Client, Config};
use serde_json::{Value, json};
use tallyman_crds::schema;
use tallyman_sim::api::{KINDS, Refusal};
use tokio::runtime::Runtime;

const PATIENCE: Duration = Duration::from_secs(120);

/// The server, with our definitions.
pub struct Real {
    client: Client,
    runtime: Runtime,
}

/// resourceVersion of an object or list.
pub fn version(object: &Value) -> u64 {
    let text = object["metadata"]["resourceVersion"].as_str();
    text.and_then(|text| text.parse().ok())
        .unwrap_or_else(|| panic!("there is no version in {object}"))
}

/// An event of a watch.
#[derive(Clone, Debug, PartialEq)]
pub struct Happened {
    pub gone: bool,
    pub object: Value,
}

fn path(namespace: &str, plural: &str) -> String {
    let group = match plural {
        "secrets" => "/api/v1",
        _ => "/apis/tallyman.dev/v1alpha1",
    };
    format!("{group}/namespaces/{namespace}/{plural}")
}

/// What our clients make of an error.
fn refusal(error: kube::Error) -> Refusal {
    let kube::Error::Api(status) = error else {
        panic!("the API server does not answer: {error}");
    };
    let details = status.details.as_ref();
    let names_nothing = details.is_none_or(|d| d.name.is_empty() && d.causes.is_empty());
    match (status.code, status.reason.as_str()) {
        (409, "AlreadyExists") => Refusal::AlreadyExists,
        (409, _) => Refusal::Conflict,
        (404, _) => Refusal::NotFound,
        // The `test` of a JSON patch failed (`node-agent/src/api.rs`).
        (422, _) if names_nothing => Refusal::Conflict,
        (422, _) => Refusal::Invalid(status.message.clone()),
        _ => panic!("an answer that none of our clients expects: {status:?}"),
    }
}

impl Real {
    /// The server of `KUBECONFIG`, once the definitions are served.
    pub fn connect() -> Real {
        let kubeconfig = std::env::var_os("KUBECONFIG")
            .map(PathBuf::from)
            .expect("these tests need a kube-apiserver: set KUBECONFIG");
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let client = runtime.block_on(async {
            let config = Kubeconfig::read_from(kubeconfig).unwrap();
            let options = KubeConfigOptions::default();
            let config = Config::from_custom_kubeconfig(config, &options).await;
            Client::try_from(config.unwrap()).unwrap()
        });
        let real = Real { client, runtime };
        static DEFINED: OnceLock<()> = OnceLock::new();
        DEFINED.get_or_init(|| real.define());
        real
    }

    fn define(&self) {
        let start = Instant::now();
        for crd in schema::crds() {
            let name = crd.json["metadata"]["name"].as_str().unwrap();
            let definitions = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
            let path = format!("{definitions}/{name}?fieldManager=tests&force=true");
            self.send(
                "PATCH",
                &path,
                "application/apply-patch+yaml",
                Some(&crd.json),
            )
            .unwrap();
            let plural = crd.file.trim_end_matches(".yaml");
            while self.get_path(&path_of_all(plural)).is_err() {
                assert!(start.elapsed() < PATIENCE, "{name} is not served");
                std::thread::sleep(Duration::from_millis(100));
            }
        }
    }

    fn send(
        &self,
        method: &str,
        path: &str,
        content: &str,
        body: Option<&Value>,
    ) -> Result<Value, Refusal> {
        let request = http::Request::builder()
            .method(method)
            .uri(path)
            .header(http::header::CONTENT_TYPE, content)
            .body(body.map(|b| b.to_string().into_bytes()).unwrap_or_default())
            .unwrap();
        self.runtime
            .block_on(self.client.request(request))
            .map_err(refusal)
    }

    fn get_path(&self, path: &str) -> Result<Value, Refusal> {
        self.send("GET", path, "application/json", None)
    }

    /// A namespace of its own.
    pub fn namespace(&self) -> String {
        let body = json!({ "metadata": { "generateName": "conformance-" } });
        let made = self.send(
            "POST",
            "/api/v1/namespaces",
            "application/json",
            Some(&body),
        );
        let made = made.unwrap();
        made["metadata"]["name"].as_str().unwrap().to_owned()
    }

    pub fn get(&self, namespace: &str, plural: &str, name: &str) -> Result<Value, Refusal> {
        self.get_path(&format!("{}/{name}", path(namespace, plural)))
    }

    pub fn list(&self, namespace: &str, plural: &str) -> Value {
        self.get_path(&path(namespace, plural)).unwrap()
    }

    pub fn create(
        &self,
        namespace: &str,
        kind: &str,
        plural: &str,
        mut object: Value,
    ) -> Result<Value, Refusal> {
        object["kind"] = json!(kind);
        object["apiVersion"] = json!(match kind {
            "Secret" => "v1",
            _ => "tallyman.dev/v1alpha1",
        });
        self.send(
            "POST",
            &path(namespace, plural),
            "application/json",
            Some(&object),
        )
    }

    /// A merge patch, or a JSON patch where it is a list; of the status too.
    pub fn patch(
        &self,
        namespace: &str,
        plural: &str,
        name: &str,
        status: bool,
        patch: &Value,
    ) -> Result<Value, Refusal> {
        let content = match patch {
            Value::Array(_) => "application/json-patch+json",
            _ => "application/merge-patch+json",
        };
        let sub = if status { "/status" } else { "" };
        let path = format!("{}/{name}{sub}", path(namespace, plural));
        self.send("PATCH", &path, content, Some(patch))
    }

    pub fn delete(
        &self,
        namespace: &str,
        plural: &str,
        name: &str,
        preconditions: Value,
    ) -> Result<Value, Refusal> {
        let body = json!({
            "kind": "DeleteOptions", "apiVersion": "v1", "propagationPolicy": "Background", "preconditions": preconditions,
        });
        let path = format!("{}/{name}", path(namespace, plural));
        self.send("DELETE", &path, "application/json", Some(&body))
    }

    /// The first `most` events after `from`. The error is the code that the watch ended with.
    pub fn watch(
        &self,
        namespace: &str,
        plural: &str,
        from: u64,
        most: usize,
        seconds: u32,
    ) -> Result<Vec<Happened>, u16> {
        let path = format!(
            "{}?watch=1&allowWatchBookmarks=true&timeoutSeconds={seconds}&resourceVersion={from}",
            path(namespace, plural)
        );
        let request = http::Request::get(path).body(Vec::new()).unwrap();
        self.runtime.block_on(async {
            let stream = match self.client.request_events::<Value>(request).await {
                Ok(stream) => stream,
                Err(kube::Error::Api(status)) => return Err(status.code),
                Err(error) => panic!("the watch failed: {error}"),
            };
            let mut stream = std::pin::pin!(stream);
            let mut events: Vec<Happened> = Vec::new();
            while let Some(event) = stream.next().await {
                let (gone, object) = match event.unwrap() {
                    WatchEvent::Added(object) | WatchEvent::Modified(object) => (false, object),
                    WatchEvent::Deleted(object) => (true, object),
                    WatchEvent::Bookmark(bookmark) => {
                        let version: u64 = bookmark.metadata.resource_version.parse().unwrap();
                        let newest = events.last().map_or(from, |e| self::version(&e.object));
                        assert!(version >= newest, "a bookmark of {version} after {newest}");
                        continue;
                    }
                    WatchEvent::Error(status) => return Err(status.code),
                };
                events.push(Happened { gone, object });
                if events.len() == most {
                    break;
                }
            }
            Ok(events)
        })
    }

    /// Deletes what is left in a namespace, and the namespace, which nobody else does on a server without controllers.
    pub fn empty(&self, namespace: &str) {
        for kind in KINDS {
            let plural = kind.plural();
            let list = self.list(namespace, plural);
            for object in list["items"].as_array().into_iter().flatten() {
                let name = object["metadata"]["name"].as_str().unwrap();
                let free = json!({ "metadata": { "finalizers": null } });
                self.patch(namespace, plural, name, false, &free).unwrap();
                match self.delete(namespace, plural, name, json!({})) {
                    Ok(_) | Err(Refusal::NotFound) => {}
                    Err(refusal) => panic!("{plural} {name} stays: {refusal:?}"),
                }
            }
        }
        let path = format!("/api/v1/namespaces/{namespace}");
        self.send("DELETE", &path, "application/json", None)
            .unwrap();
    }
}

fn path_of_all(plural: &str) -> String {
    format!("/apis/tallyman.dev/v1alpha1/{plural}")
}
