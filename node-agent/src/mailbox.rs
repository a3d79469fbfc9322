//! What the operator sends, as it is now and as it changes: the HostPlan, and the Secret of this host with what its tasks
//! take from Secrets and ConfigMaps. Each is one object, listed and watched by its name.
//!
//! A list first (consistent, not from a watch cache), then a watch from there. The watch asks for
//! bookmarks, which the API server sends about once a minute: a connection on which nothing came for
//! longer is dead, whatever the kernel thinks. So the watch itself may live for minutes, and an idle host
//! costs no restarts.
//!
//! After a failure, and when nothing came, it begins with a list again. An API server whose etcd was restored from a backup
//! counts versions from an older one on, and a watch from a version that is yet to come says nothing: no event, no bookmark,
//! no error. A list says which version it is of, and so that the server went back.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::Api as KubeApi;
use kube::api::{ApiResource, DynamicObject, ListParams, WatchEvent, WatchParams};
use serde_json::Value;
use tallyman_agent_core::Plan;
use tallyman_crds::sources::{DATA_KEY, SEALED_KEY, Supply};
use tallyman_crds::versions::is_older;
use tallyman_crds::{HostPlan, names};
use tallyman_join::{HostKey, Purpose};
use tokio::sync::mpsc;
use tracing::{debug, info, warn};

use crate::api::{Api, words};
use crate::jitter;

/// How long the API server keeps one watch open.
const WATCH_SECONDS: u32 = 290;
/// Bookmarks come every minute, and a second late at most; nothing for this long means a dead connection. Promised is that
/// a host is not blind for more than 65 s; a watch that is begun anew too early costs one request.
const SILENCE: Duration = Duration::from_secs(64);
const LIST_PATIENCE: Duration = Duration::from_secs(10);
const FIRST_RETRY: Duration = Duration::from_millis(500);
const LONGEST_RETRY: Duration = Duration::from_secs(10);

/// News of one object.
#[derive(Debug)]
pub enum News<T> {
    /// What the object holds now.
    Is(T),
    /// There is no such object, now or any more.
    None,
    /// The API server has gone back to an older state: it may have lost what it was told. What it has now comes next.
    WentBack,
    /// The API cannot be asked. Said once until it can again.
    Away,
}

/// How a watch ended.
enum End {
    /// Go on from the last version seen.
    Resume,
    /// The version is too old, or unknown: list again.
    Relist,
}

/// Tells the plan's `spec` and version ([`Plan::VERSION`]), until the receiver is gone.
pub async fn plan(api: Api, news: mpsc::Sender<News<Arc<Value>>>) {
    let kind = ApiResource::erase::<HostPlan>(&());
    let name = api.name.clone();
    run(
        &api,
        &kind,
        name,
        |plan| Arc::new(versioned_spec(plan)),
        news,
    )
    .await;
}

/// Tells what the host's Secret holds for its tasks, until the receiver is gone. `key` is the file of the key that the host
/// joined with; it is read each time, because a host may join again.
pub async fn supply(api: Api, key: Option<PathBuf>, news: mpsc::Sender<News<Arc<Supply>>>) {
    let kind = ApiResource::erase::<Secret>(&());
    let name = names::host_identity(&api.name);
    let read = move |secret| Arc::new(supplied(secret, key.as_deref()));
    run(&api, &kind, name, read, news).await;
}

async fn run<T>(
    api: &Api,
    kind: &ApiResource,
    name: String,
    read: impl Fn(DynamicObject) -> T + Send + Sync + 'static,
    news: mpsc::Sender<News<T>>,
) {
    let mut source = Source {
        objects: KubeApi::namespaced_with(api.client.clone(), &api.namespace, kind),
        what: kind.kind.clone(),
        name,
        read: Box::new(read),
        news,
        version: None,
        newest: None,
        failures: 0,
    };
    while !source.news.is_closed() {
        match source.pass().await {
            Ok(()) => source.failures = 0,
            Err(error) => {
                source.failures = source.failures.saturating_add(1);
                source.version = None;
                if source.failures == 1 {
                    let what = &source.what;
                    warn!(what, error, "cannot be read; what was read last stays");
                    source.tell(News::Away).await;
                }
                let wait =
                    FIRST_RETRY.saturating_mul(1 << source.failures.min(8).saturating_sub(1));
                tokio::time::sleep(jitter::about(wait.min(LONGEST_RETRY))).await;
            }
        }
    }
}

struct Source<T> {
    objects: KubeApi<DynamicObject>,
    what: String,
    name: String,
    read: Box<dyn Fn(DynamicObject) -> T + Send + Sync>,
    news: mpsc::Sender<News<T>>,
    /// Where a watch goes on; `None`: list first.
    version: Option<String>,
    /// The last version that came, of whatever.
    newest: Option<String>,
    failures: u32,
}

impl<T> Source<T> {
    async fn tell(&self, news: News<T>) {
        // Nobody listens any more: the agent ends.
        let _ = self.news.send(news).await;
    }

    /// A watch brought something of this version.
    fn reached(&mut self, version: Option<String>) {
        if version.is_some() {
            self.newest.clone_from(&version);
        }
        self.version = version;
    }

    async fn pass(&mut self) -> Result<(), String> {
        let version = match &self.version {
            Some(version) => version.clone(),
            None => self.list().await?,
        };
        match self.watch(&version).await? {
            End::Resume => {}
            End::Relist => self.version = None,
        }
        Ok(())
    }

    async fn list(&mut self) -> Result<String, String> {
        let params = ListParams::default().fields(&format!("metadata.name={}", self.name));
        let list = tokio::time::timeout(LIST_PATIENCE, self.objects.list(&params))
            .await
            .map_err(|_| "the API server does not answer".to_owned())?
            .map_err(|error| words(&error))?;
        let version = list.metadata.resource_version.clone().unwrap_or_default();
        if self.failures > 0 {
            info!(failures = self.failures, "the API answers again");
            self.failures = 0;
        }
        if let Some(newest) = &self.newest
            && is_older(&version, newest)
        {
            warn!(
                what = self.what,
                version,
                before = self.newest,
                "the API server went back to an older state"
            );
            self.tell(News::WentBack).await;
        }
        self.newest = Some(version.clone());
        match list.items.into_iter().next() {
            Some(object) => self.tell(News::Is((self.read)(object))).await,
            None => self.tell(News::None).await,
        }
        self.version = Some(version.clone());
        Ok(version)
    }

    async fn watch(&mut self, version: &str) -> Result<End, String> {
        let params = WatchParams::default()
            .fields(&format!("metadata.name={}", self.name))
            .timeout(WATCH_SECONDS);
        let stream = tokio::time::timeout(LIST_PATIENCE, self.objects.watch(&params, version))
            .await
            .map_err(|_| "the API server does not answer".to_owned())?;
        let stream = match stream {
            Ok(stream) => stream,
            Err(kube::Error::Api(status)) if status.code == 410 => return Ok(End::Relist),
            Err(error) => return Err(words(&error)),
        };
        let mut stream = std::pin::pin!(stream);
        loop {
            let event = match tokio::time::timeout(SILENCE, stream.next()).await {
                Err(_) => {
                    info!("nothing came over the watch for too long; listing anew");
                    return Ok(End::Relist);
                }
                Ok(None) => return Ok(End::Resume),
                Ok(Some(Err(error))) => return Err(words(&error)),
                Ok(Some(Ok(event))) => event,
            };
            if self.failures > 0 {
                // After a failed watch the plan at hand may be old news; what comes now is not.
                info!(failures = self.failures, "the API answers again");
                self.failures = 0;
            }
            match event {
                WatchEvent::Added(object) | WatchEvent::Modified(object) => {
                    self.reached(object.metadata.resource_version.clone());
                    self.tell(News::Is((self.read)(object))).await;
                }
                WatchEvent::Deleted(object) => {
                    self.reached(object.metadata.resource_version.clone());
                    self.tell(News::None).await;
                }
                WatchEvent::Bookmark(bookmark) => {
                    debug!(version = bookmark.metadata.resource_version, "bookmark");
                    self.reached(Some(bookmark.metadata.resource_version));
                }
                WatchEvent::Error(status) if status.code == 410 => return Ok(End::Relist),
                WatchEvent::Error(status) => {
                    return Err(format!("{} ({})", status.message, status.code));
                }
            }
        }
    }
}

/// One field, and nothing else of the object.
fn field(mut object: DynamicObject, name: &str) -> Value {
    object
        .data
        .get_mut(name)
        .map(Value::take)
        .unwrap_or_default()
}

/// On disk, too, the version stands beside what is of it.
fn versioned_spec(mut plan: DynamicObject) -> Value {
    let version = plan.metadata.resource_version.take();
    let mut spec = field(plan, "spec");
    if let (Some(spec), Some(version)) = (spec.as_object_mut(), version) {
        spec.insert(Plan::VERSION.to_owned(), Value::String(version));
    }
    spec
}

/// What cannot be read is nothing, and tasks that need it wait; the values are in no message.
fn supplied(secret: DynamicObject, key: Option<&Path>) -> Supply {
    let uid = secret.metadata.uid.clone().unwrap_or_default();
    let mut data = field(secret, "data");
    let mut taken = |name: &str| data.get_mut(name).map(Value::take);
    let (plain, sealed) = (taken(DATA_KEY), taken(SEALED_KEY));
    let read = match (sealed, plain) {
        (Some(sealed), _) => opened(sealed, &uid, key),
        (None, Some(plain)) => bytes(plain),
        (None, None) => return Supply::default(),
    };
    read.and_then(|text| serde_json::from_slice(&text).map_err(|_| "is no supply".to_owned()))
        .unwrap_or_else(|why| {
            warn!(why, "the supply in the host's Secret cannot be read");
            Supply::default()
        })
}

fn bytes(text: Value) -> Result<Vec<u8>, String> {
    let read = serde_json::from_value::<ByteString>(text);
    read.map(|bytes| bytes.0)
        .map_err(|_| "is not base64".to_owned())
}

fn opened(sealed: Value, uid: &str, key: Option<&Path>) -> Result<Vec<u8>, String> {
    let file = key.ok_or("is sealed, and this host has no token file with a key beside it")?;
    let text = std::fs::read_to_string(file)
        .map_err(|error| format!("is sealed, and {} cannot be read: {error}", file.display()))?;
    let key = HostKey::from_text(&text).map_err(|error| format!("{}: {error}", file.display()))?;
    key.open(&bytes(sealed)?, &Purpose::Supply { secret_uid: uid })
        .map_err(|error| error.to_string())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use serde_json::json;
    use tallyman_join::PublicKey;

    use super::*;

    fn secret(uid: &str, data: Value) -> DynamicObject {
        let kind = ApiResource::erase::<Secret>(&());
        let mut secret = DynamicObject::new("tallyman-host-a", &kind).data(json!({ "data": data }));
        secret.metadata.uid = Some(uid.to_owned());
        secret
    }

    fn seal(key: &PublicKey, uid: &str) -> Value {
        let text = br#"{"secret/db/password":{"value":"canary"}}"#;
        let sealed = key
            .seal(text, &Purpose::Supply { secret_uid: uid })
            .unwrap();
        json!({ SEALED_KEY: ByteString(sealed) })
    }

    #[test]
    fn a_sealed_supply_is_read_with_the_hosts_key_and_no_other() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("host.key");
        let key = HostKey::generate();
        std::fs::write(&file, key.to_text()).unwrap();
        let sealed = seal(&key.public(), "u1");
        let read = |uid: &str, file: &Path| supplied(secret(uid, sealed.clone()), Some(file));
        assert_ne!(read("u1", &file), Supply::default());
        // That of another Secret, of another key, and without any.
        assert_eq!(read("u2", &file), Supply::default());
        assert_eq!(read("u1", &folder.path().join("none")), Supply::default());
        std::fs::write(&file, HostKey::generate().to_text()).unwrap();
        assert_eq!(read("u1", &file), Supply::default());
        assert_eq!(
            supplied(secret("u1", sealed.clone()), None),
            Supply::default()
        );
    }

    #[test]
    fn a_supply_for_a_host_without_a_key_is_read_as_it_is() {
        let text = br#"{"secret/db/password":{"value":"canary"}}"#.to_vec();
        let data = json!({ DATA_KEY: ByteString(text) });
        assert_ne!(supplied(secret("u1", data), None), Supply::default());
        assert_eq!(supplied(secret("u1", json!({})), None), Supply::default());
    }
}
