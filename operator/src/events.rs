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
        notes.retain(|note| {
            let key = (note.target.uid.clone(), note.reason, note.message.clone());
            if self.said.get(&key).is_some_and(|at| at.elapsed() < SILENCE) {
                return false;
            }
            if self.said.len() >= REMEMBERED {
                self.said.retain(|_, at| at.elapsed() < SILENCE / 2);
            }
            self.said.insert(key, Instant::now());
            true
        });
        notes
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
            self.count += 1;
            events.push(self.event(namespace, note));
        }
        futures::stream::iter(events)
            .for_each_concurrent(8, |event| {
                let api = api.clone();
                async move {
                    let params = PostParams::default();
                    let write = api.create(&params, &event);
                    match tokio::time::timeout(Duration::from_secs(10), write).await {
                        Ok(Ok(_)) => {}
                        Ok(Err(error)) => tracing::warn!(%error, "event not recorded"),
                        Err(_) => tracing::warn!("event not recorded: no answer in time"),
                    }
                }
            })
            .await;
    }

    fn event(&self, namespace: &str, note: Note) -> Event {
        let now = jiff::Timestamp::now();
        let text = service_events::cut(note.message);
        Event {
            metadata: ObjectMeta {
                name: Some(format!(
                    "{}.{:x}{:x}",
                    note.target.name,
                    now.as_nanosecond(),
                    self.count
                )),
                namespace: Some(namespace.to_owned()),
                ..ObjectMeta::default()
            },
            event_time: Some(MicroTime(now)),
            type_: Some(if note.warning { "Warning" } else { "Normal" }.to_owned()),
            reason: Some(note.reason.to_owned()),
            action: Some(note.reason.to_owned()),
            note: Some(text),
            reporting_controller: Some("tallyman.dev/operator".to_owned()),
            reporting_instance: Some(self.instance.clone()),
            regarding: Some(ObjectReference {
                api_version: Some(format!(
                    "{}/{}",
                    tallyman_crds::GROUP,
                    tallyman_crds::VERSION
                )),
                kind: Some(note.target.kind.as_str().to_owned()),
                name: Some(note.target.name),
                namespace: Some(namespace.to_owned()),
                uid: Some(note.target.uid),
                ..ObjectReference::default()
            }),
            ..Event::default()
        }
    }
}
