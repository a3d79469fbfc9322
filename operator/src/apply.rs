//! The only writer of what a plan decided. No choices are left here: every action names its object and carries its
//! preconditions, a conflict is dropped (the next pass decides anew), independent writes go out concurrently.

use std::collections::BTreeSet;
use std::time::Duration;

use futures::{StreamExt, TryStreamExt};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::api::{Api, DeleteParams, DynamicObject, Patch, PatchParams, PostParams, Preconditions};
use kube::core::{ApiResource, GroupVersionKind};
use kube::{Client, Error, ResourceExt};
use serde_json::{Value, json};
use tallyman_crds::sources::{self, Contents, Source, SourceKind, SourceObject};
use tallyman_crds::{Cluster, RunTask, Task, TaskDefinitionRevision, labels};
use tallyman_join::{PublicKey, Purpose, SealError};
use tallyman_operator_core::pacing::Outcome;
use tallyman_operator_core::{Action, Kind, Note, Publication, Target};

use crate::http::Health;
use crate::identity;

/// Name under which the API server records our writes.
pub const FIELD_MANAGER: &str = "tallyman-operator";
const CONCURRENT: usize = 16;
const CALL_TIMEOUT: Duration = Duration::from_secs(10);

/// Carries plans out in one namespace.
pub struct Applier<'a> {
    /// Client.
    pub client: &'a Client,
    /// Namespace of every object.
    pub namespace: &'a str,
    /// Counters.
    pub health: &'a Health,
}

/// The generic API of `kind`.
fn resource(kind: Kind) -> ApiResource {
    let gvk = GroupVersionKind::gvk(tallyman_crds::GROUP, tallyman_crds::VERSION, kind.as_str());
    ApiResource::from_gvk_with_plural(&gvk, kind.plural())
}

impl Applier<'_> {
    /// Carries `actions` out.
    pub async fn apply(&self, actions: Vec<Action>) -> Vec<Outcome> {
        futures::stream::iter(actions)
            .map(|action| self.act(action))
            .buffer_unordered(CONCURRENT)
            .collect()
            .await
    }

    /// Publishes statuses. The resourceVersion is the precondition: on a status subresource the API server does not
    /// compare a uid, and a namesake made since would be given the status of the one before.
    /// What goes out with a status that was written is returned to be told.
    pub async fn publish(&self, publications: Vec<Publication>) -> (Vec<Outcome>, Vec<Note>) {
        let written: Vec<(Outcome, Vec<Note>)> = futures::stream::iter(publications)
            .map(|p| async move {
                let body = json!({ "metadata": preconditions(&p.target), "status": p.patch });
                let outcome = self.patch_status(&p.target, body).await;
                let stored = matches!(outcome, Outcome::Written { .. });
                (outcome, if stored { p.notes } else { Vec::new() })
            })
            .buffer_unordered(CONCURRENT)
            .collect()
            .await;
        let (outcomes, notes): (Vec<_>, Vec<_>) = written.into_iter().unzip();
        (outcomes, notes.into_iter().flatten().collect())
    }

    /// The API server says that there is no such object.
    pub async fn is_gone(&self, kind: Kind, name: &str) -> bool {
        matches!(
            self.timed(self.api(kind).get_metadata_opt(name)).await,
            Some(Ok(None))
        )
    }

    fn api(&self, kind: Kind) -> Api<DynamicObject> {
        Api::namespaced_with(self.client.clone(), self.namespace, &resource(kind))
    }

    async fn act(&self, action: Action) -> Outcome {
        match action {
            Action::CreateCluster(object) => self.create::<Cluster>(Kind::Cluster, &object).await,
            Action::CreateRevision(object) => {
                self.create::<TaskDefinitionRevision>(Kind::TaskDefinitionRevision, &object)
                    .await
            }
            Action::CreateTask(object) => self.create::<Task>(Kind::Task, &object).await,
            Action::CreateRunTask(object) => self.create::<RunTask>(Kind::RunTask, &object).await,
            Action::StopTask {
                task,
                code,
                reason,
                made_by_us,
            } => {
                let spec = json!({ "desiredStatus": "STOPPED", "stopCode": code, "stoppedReason": reason });
                let mut metadata = preconditions(&task);
                if made_by_us {
                    // How Kubernetes has it taken away; no entry at all would leave it as it is.
                    metadata["managedFields"] = json!([{}]);
                }
                let body = json!({ "metadata": metadata, "spec": spec });
                self.patch(&task, body).await
            }
            Action::WriteTaskStatus { task, patch } => {
                let body = json!({ "metadata": preconditions(&task), "status": patch });
                self.patch_status(&task, body).await
            }
            Action::Delete(target) => self.delete(&target).await,
            Action::AddFinalizer {
                target,
                finalizer,
                label,
            } => self.finalizer(&target, finalizer, true, label).await,
            Action::RemoveFinalizer { target, finalizer } => {
                self.finalizer(&target, finalizer, false, None).await
            }
            Action::PrepareHost { instance, plan } => {
                let made = identity::prepare(self.client, self.namespace, &instance, *plan);
                match self.timed(made).await {
                    Some(Ok(version)) => {
                        self.written("create", Kind::HostPlan, &instance.name, version)
                    }
                    other => {
                        self.failed(
                            "create",
                            Kind::HostPlan,
                            &instance.name,
                            other.and_then(Result::err),
                        );
                        Outcome::Failed
                    }
                }
            }
            Action::Supply {
                secret,
                sources,
                key,
            } => self.supply(&secret, &sources, key.as_deref()).await,
            Action::WriteHostPlan {
                plan,
                patch,
                spec: _,
            } => {
                let body = json!({ "metadata": preconditions(&plan), "spec": patch });
                self.patch(&plan, body).await
            }
        }
    }

    /// Reads what the sources hold, and puts that into the host's Secret instead of what it held.
    async fn supply(
        &self,
        secret: &Target,
        sources: &BTreeSet<Source>,
        key: Option<&str>,
    ) -> Outcome {
        let objects: BTreeSet<SourceObject> = sources.iter().map(|s| s.object.clone()).collect();
        let read = futures::stream::iter(objects)
            .map(|object| async move {
                let contents = self.contents(&object).await?;
                Ok::<_, Error>(contents.map(|c| (object, c)))
            })
            .buffer_unordered(CONCURRENT)
            .try_collect::<Vec<_>>();
        let objects = match self.timed(read).await {
            Some(Ok(read)) => read.into_iter().flatten().collect(),
            other => {
                return self.failed(
                    "get",
                    secret.kind,
                    &secret.name,
                    other.and_then(Result::err),
                );
            }
        };
        let (supply, receipt) = sources::supply(sources, &objects);
        let (data, receipt) = if sources.is_empty() {
            (unsealed(Value::Null), Value::Null)
        } else {
            let text = json!(supply).to_string().into_bytes();
            let data = match key {
                None => unsealed(json!(ByteString(text))),
                Some(key) => match seal(&text, key, &secret.uid) {
                    Ok(data) => data,
                    Err(error) => {
                        // Nothing may go out unsealed because a key cannot be read.
                        let error = Error::Service(error.into());
                        return self.failed("patch", secret.kind, &secret.name, Some(error));
                    }
                },
            };
            (data, Value::String(json!(receipt).to_string()))
        };
        let mut metadata = preconditions(secret);
        metadata["annotations"] = json!({ labels::SUPPLIED: receipt });
        let body = json!({ "metadata": metadata, "data": data });
        let api: Api<Secret> = Api::namespaced(self.client.clone(), self.namespace);
        let result = self
            .timed(api.patch(&secret.name, &written_by_us(), &Patch::Merge(body)))
            .await;
        self.result("patch", secret, result)
    }

    /// What a Secret or ConfigMap holds.
    async fn contents(&self, object: &SourceObject) -> Result<Option<Contents>, Error> {
        let (metadata, data) = match object.kind {
            SourceKind::Secret => {
                let api: Api<Secret> = Api::namespaced(self.client.clone(), self.namespace);
                let Some(found) = api.get_opt(&object.name).await? else {
                    return Ok(None);
                };
                (found.metadata, found.data.unwrap_or_default())
            }
            SourceKind::ConfigMap => {
                let api: Api<ConfigMap> = Api::namespaced(self.client.clone(), self.namespace);
                let Some(found) = api.get_opt(&object.name).await? else {
                    return Ok(None);
                };
                let text = found.data.unwrap_or_default().into_iter();
                let text = text.map(|(key, value)| (key, ByteString(value.into_bytes())));
                let mut data = found.binary_data.unwrap_or_default();
                data.extend(text);
                (found.metadata, data)
            }
        };
        let data = data.into_iter().map(|(key, bytes)| (key, bytes.0));
        let data = data.collect();
        Ok(Some(Contents { metadata, data }))
    }

    async fn create<K>(&self, kind: Kind, object: &K) -> Outcome
    where
        K: kube::Resource<Scope = kube::core::NamespaceResourceScope, DynamicType = ()>
            + Clone
            + serde::Serialize
            + serde::de::DeserializeOwned
            + std::fmt::Debug,
    {
        let api: Api<K> = Api::namespaced(self.client.clone(), self.namespace);
        let name = object.name_any();
        match self.timed(api.create(&created_by_us(), object)).await {
            Some(Ok(o)) => self.written("create", kind, &name, version(&o)),
            other => self.failed("create", kind, &name, other.and_then(Result::err)),
        }
    }

    async fn patch(&self, target: &Target, body: Value) -> Outcome {
        let api = self.api(target.kind);
        let result = self
            .timed(api.patch(&target.name, &written_by_us(), &Patch::Merge(body)))
            .await;
        self.result("patch", target, result)
    }

    async fn patch_status(&self, target: &Target, body: Value) -> Outcome {
        let api = self.api(target.kind);
        let result = self
            .timed(api.patch_status(&target.name, &written_by_us(), &Patch::Merge(body)))
            .await;
        self.result("patch", target, result)
    }

    async fn delete(&self, target: &Target) -> Outcome {
        let params = DeleteParams {
            preconditions: Some(Preconditions {
                uid: Some(target.uid.clone()),
                resource_version: Some(target.resource_version.clone()),
            }),
            ..DeleteParams::background()
        };
        match self
            .timed(self.api(target.kind).delete(&target.name, &params))
            .await
        {
            Some(Ok(_)) => {
                self.health
                    .metrics
                    .wrote("delete", target.kind.plural(), "ok");
                Outcome::Settled
            }
            other => self.failed(
                "delete",
                target.kind,
                &target.name,
                other.and_then(Result::err),
            ),
        }
    }

    /// Reads the object live, so that finalizers of others are kept, and writes on exactly what was read.
    async fn finalizer(
        &self,
        target: &Target,
        finalizer: &str,
        add: bool,
        label: Option<(&'static str, String)>,
    ) -> Outcome {
        let api = self.api(target.kind);
        let call = async {
            let live = api.get_metadata(&target.name).await?;
            if live.metadata.uid.as_deref() != Some(&target.uid) {
                return Ok(None);
            }
            let mut list = live.metadata.finalizers.clone().unwrap_or_default();
            let has = list.iter().any(|f| f == finalizer);
            if has == add || (add && live.metadata.deletion_timestamp.is_some()) {
                return Ok(None);
            }
            if add {
                list.push(finalizer.to_owned());
            } else {
                list.retain(|f| f != finalizer);
            }
            let mut body = json!({ "metadata": {
                "uid": target.uid,
                "resourceVersion": live.metadata.resource_version,
                "finalizers": list,
            }});
            if let Some((key, value)) = label {
                body["metadata"]["labels"] = json!({ key: value });
            }
            api.patch(&target.name, &written_by_us(), &Patch::Merge(body))
                .await
                .map(Some)
        };
        match self.timed(call).await {
            Some(Ok(None)) => Outcome::Settled,
            // The object may be gone with its last finalizer: nothing to wait for.
            Some(Ok(Some(_))) if !add => {
                self.health
                    .metrics
                    .wrote("patch", target.kind.plural(), "ok");
                Outcome::Settled
            }
            Some(Ok(Some(o))) => self.written("patch", target.kind, &target.name, version(&o)),
            other => self.failed(
                "patch",
                target.kind,
                &target.name,
                other.and_then(Result::err),
            ),
        }
    }

    async fn timed<T>(
        &self,
        call: impl Future<Output = Result<T, Error>>,
    ) -> Option<Result<T, Error>> {
        tokio::time::timeout(CALL_TIMEOUT, call).await.ok()
    }

    fn result<K: ResourceExt>(
        &self,
        verb: &'static str,
        target: &Target,
        result: Option<Result<K, Error>>,
    ) -> Outcome {
        match result {
            Some(Ok(o)) => self.written(verb, target.kind, &target.name, version(&o)),
            other => self.failed(verb, target.kind, &target.name, other.and_then(Result::err)),
        }
    }

    fn written(&self, verb: &'static str, kind: Kind, name: &str, version: u64) -> Outcome {
        self.health.metrics.wrote(verb, kind.plural(), "ok");
        Outcome::Written {
            key: (kind, name.to_owned()),
            version,
            created: verb == "create",
        }
    }

    /// `None`: no answer in time.
    fn failed(&self, verb: &'static str, kind: Kind, name: &str, error: Option<Error>) -> Outcome {
        let (result, outcome) = match &error {
            Some(Error::Api(s)) if s.is_already_exists() => ("exists", Outcome::Settled),
            Some(Error::Api(s)) if s.is_conflict() => ("conflict", Outcome::Settled),
            Some(Error::Api(s)) if s.is_not_found() => ("gone", Outcome::Settled),
            Some(_) | None => ("error", Outcome::Failed),
        };
        self.health.metrics.wrote(verb, kind.plural(), result);
        if matches!(outcome, Outcome::Failed) {
            let error = error.map_or_else(|| "no answer in time".to_owned(), |e| e.to_string());
            tracing::warn!(
                verb,
                kind = kind.as_str(),
                namespace = self.namespace,
                name,
                error,
                "write failed"
            );
        } else {
            tracing::debug!(
                verb,
                kind = kind.as_str(),
                namespace = self.namespace,
                name,
                result,
                "write settled"
            );
        }
        outcome
    }
}

/// Says in `managedFields` who created.
pub(crate) fn created_by_us() -> PostParams {
    PostParams {
        field_manager: Some(FIELD_MANAGER.to_owned()),
        ..PostParams::default()
    }
}

fn preconditions(target: &Target) -> Value {
    json!({ "uid": target.uid, "resourceVersion": target.resource_version })
}

fn version<K: ResourceExt>(object: &K) -> u64 {
    object
        .resource_version()
        .and_then(|v| v.parse().ok())
        .unwrap_or(0)
}

/// Says in `managedFields` who patched.
pub(crate) fn written_by_us() -> PatchParams {
    PatchParams {
        field_manager: Some(FIELD_MANAGER.to_owned()),
        ..PatchParams::default()
    }
}

/// Data of a host's Secret that holds `text` as it is.
fn unsealed(text: Value) -> Value {
    json!({ sources::DATA_KEY: text, sources::SEALED_KEY: Value::Null })
}

/// Data of the host's Secret of `uid` that holds `text` sealed to `key`.
fn seal(text: &[u8], key: &str, uid: &str) -> Result<Value, SealError> {
    let purpose = Purpose::Supply { secret_uid: uid };
    let sealed = PublicKey::from_text(key)?.seal(text, &purpose)?;
    Ok(json!({ sources::DATA_KEY: Value::Null, sources::SEALED_KEY: ByteString(sealed) }))
}
