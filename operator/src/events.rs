//! Delivers the sentences of the core as Kubernetes events.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use futures::StreamExt;
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use kube::Client;
use kube::api::{Api, PostParams};
use tallyman_operator_core::{Note, service_events};

const SILENCE: Duration = Duration::from_secs(6 * 3600);
const REMEMBERED: usize = 4096;

/// The object that an event is about.
struct About<'a> {
    kind: &'static str,
    name: &'a str,
    uid: &'a str,
}

/// Writes an event, or says why not.
async fn write(api: &Api<Event>, event: &Event) {
    let params = PostParams::default();
    let write = api.create(&params, event);
    match tokio::time::timeout(Duration::from_secs(10), write).await {
        Ok(Ok(_)) => {}
        Ok(Err(error)) => tracing::warn!(%error, "event not recorded"),
        Err(_) => tracing::warn!("event not recorded: no answer in time"),
    }
}

/// Records events.
#[derive(Debug, Default)]
pub struct Recorder {
    said: BTreeMap<(String, &'static str, String), Instant>,
    instance: String,
    count: u64,
}

impl Recorder {
    /// A recorder that signs as `instance`.
    pub fn new(instance: String) -> Recorder {
        Recorder {
            instance,
            ..Recorder::default()
        }
    }

    /// Those of `notes` that were not said within six hours (ECS service event messages). Notes that go out with a status
    /// need no such memory: the status is it.
    pub fn fresh(&mut self, mut notes: Vec<Note>) -> Vec<Note> {
        notes.retain(|note| self.is_fresh(&note.target.uid, note.reason, &note.message));
        notes
    }

    /// It was not said of this object within six hours; from now on it was.
    fn is_fresh(&mut self, uid: &str, reason: &'static str, message: &str) -> bool {
        let key = (uid.to_owned(), reason, message.to_owned());
        if self.said.get(&key).is_some_and(|at| at.elapsed() < SILENCE) {
            return false;
        }
        if self.said.len() >= REMEMBERED {
            self.said.retain(|_, at| at.elapsed() < SILENCE / 2);
        }
        self.said.insert(key, Instant::now());
        true
    }

    /// Warns of a HostJoin, which no pass knows, unless that was said within six hours.
    pub async fn warn_of_join(
        &mut self,
        client: &Client,
        join: &ObjectMeta,
        reason: &'static str,
        message: String,
    ) {
        let (namespace, name) = (join.namespace.as_deref(), join.name.as_deref());
        let about = About {
            kind: "HostJoin",
            name: name.unwrap_or_default(),
            uid: join.uid.as_deref().unwrap_or_default(),
        };
        if !self.is_fresh(about.uid, reason, &message) {
            return;
        }
        let namespace = namespace.unwrap_or_default();
        let event = self.event(namespace, &about, "Warning", reason, message);
        write(&Api::namespaced(client.clone(), namespace), &event).await;
    }

    /// Records `notes` on objects of `namespace`. An event that cannot be written is logged and dropped: conditions
    /// hold what matters.
    pub async fn record(&mut self, client: &Client, namespace: &str, notes: Vec<Note>) {
        let api: Api<Event> = Api::namespaced(client.clone(), namespace);
        let mut events = Vec::new();
        for note in notes {
            tracing::info!(
                kind = note.target.kind.as_str(),
                namespace,
                name = note.target.name,
                reason = note.reason,
                "{}",
                note.message
            );
            let about = About {
                kind: note.target.kind.as_str(),
                name: &note.target.name,
                uid: &note.target.uid,
            };
            let type_ = if note.warning { "Warning" } else { "Normal" };
            events.push(self.event(namespace, &about, type_, note.reason, note.message));
        }
        futures::stream::iter(events)
            .for_each_concurrent(8, |event| {
                let api = api.clone();
                async move { write(&api, &event).await }
            })
            .await;
    }

    fn event(
        &mut self,
        namespace: &str,
        about: &About<'_>,
        type_: &str,
        reason: &str,
        message: String,
    ) -> Event {
        let now = jiff::Timestamp::now();
        let text = service_events::cut(message);
        self.count += 1;
        Event {
            metadata: ObjectMeta {
                name: Some(format!(
                    "{}.{:x}{:x}",
                    about.name,
                    now.as_nanosecond(),
                    self.count
                )),
                namespace: Some(namespace.to_owned()),
                ..ObjectMeta::default()
            },
            event_time: Some(MicroTime(now)),
            type_: Some(type_.to_owned()),
            reason: Some(reason.to_owned()),
            action: Some(reason.to_owned()),
            note: Some(text),
            reporting_controller: Some("tallyman.dev/operator".to_owned()),
            reporting_instance: Some(self.instance.clone()),
            regarding: Some(ObjectReference {
                api_version: Some(format!(
                    "{}/{}",
                    tallyman_crds::GROUP,
                    tallyman_crds::VERSION
                )),
                kind: Some(about.kind.to_owned()),
                name: Some(about.name.to_owned()),
                namespace: Some(namespace.to_owned()),
                uid: Some(about.uid.to_owned()),
                ..ObjectReference::default()
            }),
            ..Event::default()
        }
    }
}
