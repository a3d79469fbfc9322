//! What the operator sends, as it is now and as it changes: the HostPlan, and the Secret of this host with what its tasks
//! take from Secrets and ConfigMaps. Each is one object, listed and watched by its name.
//!
//! A list first (consistent, not from a watch cache), then a watch from there. The watch asks for
//! bookmarks, which the API server sends about once a minute: a connection on which nothing came for
//! longer is dead, whatever the kernel thinks. So the watch itself may live for minutes, and an idle host
//! costs no restarts.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::Api as KubeApi;
use kube::api::{ApiResource, DynamicObject, ListParams, WatchEvent, WatchParams};
use serde_json::Value;
use tallyman_crds::sources::{DATA_KEY, Supply};
use tallyman_crds::{HostPlan, names};
use tokio::sync::mpsc;
use tracing::{debug, info, warn};

use crate::api::{Api, words};
use crate::jitter;

/// How long the API server keeps one watch open.
const WATCH_SECONDS: u32 = 290;
/// Bookmarks come every minute; nothing for this long means a dead connection.
const SILENCE: Duration = Duration::from_secs(75);
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

/// Tells the plan's `spec`, until the receiver is gone.
pub async fn plan(api: Api, news: mpsc::Sender<News<Arc<Value>>>) {
    let kind = ApiResource::erase::<HostPlan>(&());
    let name = api.name.clone();
    run(
        &api,
        &kind,
        name,
        |plan| Arc::new(field(plan, "spec")),
        news,
    )
    .await;
}

/// Tells what the host's Secret holds for its tasks, until the receiver is gone.
pub async fn supply(api: Api, news: mpsc::Sender<News<Arc<Supply>>>) {
    let kind = ApiResource::erase::<Secret>(&());
    let name = names::host_identity(&api.name);
    run(&api, &kind, name, |secret| Arc::new(supplied(secret)), news).await;
}

async fn run<T>(
    api: &Api,
    kind: &ApiResource,
    name: String,
    read: fn(DynamicObject) -> T,
    news: mpsc::Sender<News<T>>,
) {
    let mut source = Source {
        objects: KubeApi::namespaced_with(api.client.clone(), &api.namespace, kind),
        what: kind.kind.clone(),
        name,
        read,
        news,
        version: None,
        failures: 0,
    };
    while !source.news.is_closed() {
        match source.pass().await {
            Ok(()) => source.failures = 0,
            Err(error) => {
                source.failures = source.failures.saturating_add(1);
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
    read: fn(DynamicObject) -> T,
    news: mpsc::Sender<News<T>>,
    /// Where a watch goes on; `None`: list first.
    version: Option<String>,
    failures: u32,
}

impl<T> Source<T> {
    async fn tell(&self, news: News<T>) {
        // Nobody listens any more: the agent ends.
        let _ = self.news.send(news).await;
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
                    info!("nothing came over the watch for too long; watching anew");
                    return Ok(End::Resume);
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
                    self.version.clone_from(&object.metadata.resource_version);
                    self.tell(News::Is((self.read)(object))).await;
                }
                WatchEvent::Deleted(object) => {
                    self.version.clone_from(&object.metadata.resource_version);
                    self.tell(News::None).await;
                }
                WatchEvent::Bookmark(bookmark) => {
                    debug!(version = bookmark.metadata.resource_version, "bookmark");
                    self.version = Some(bookmark.metadata.resource_version);
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

/// What cannot be read is nothing, and tasks that need it wait; the values are in no message.
fn supplied(secret: DynamicObject) -> Supply {
    let Some(text) = field(secret, "data").get_mut(DATA_KEY).map(Value::take) else {
        return Supply::default();
    };
    let read = serde_json::from_value::<ByteString>(text)
        .ok()
        .and_then(|bytes| serde_json::from_slice(&bytes.0).ok());
    read.unwrap_or_else(|| {
        warn!("the supply in the host's Secret cannot be read");
        Supply::default()
    })
}
