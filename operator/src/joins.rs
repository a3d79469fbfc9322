//! Hosts that join: reads what a decision needs, asks the core (`joins`), carries the step out, and tells.
//!
//! A loop of its own beside the passes: joins are rare, each concerns one host, and what they need (entropy, tokens) has no
//! place in a pass. It runs in the leader only; everything it writes carries the version that the decision was made on.
//! Here tokens are taken and sealed; none is logged, kept, or written unsealed.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use futures::StreamExt as _;
use jiff::Timestamp;
use k8s_openapi::ByteString;
use k8s_openapi::api::authentication::v1::{BoundObjectReference, TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::{Secret, ServiceAccount};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{Api, Patch, PostParams};
use kube::runtime::reflector::{Store, reflector, store};
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Client, ResourceExt as _};
use serde_json::{Value, json};
use tallyman_crds::readable::{Readable, Unread};
use tallyman_crds::{ContainerInstance, HostJoin, HostJoinStatus, HostPlan, labels, names};
use tallyman_join::{PublicKey, Purpose};
use tallyman_operator_core::joins::{self, Decision, Step};
use tallyman_operator_core::plan::merge_patch;
use tallyman_operator_core::{Kind, Target, unreadable};
use tokio::sync::Notify;

use crate::apply::{created_by_us, written_by_us};
use crate::events::Recorder;
use crate::http::Health;
use crate::readable::{Seen, UnreadableOfKind};

const CALL_TIMEOUT: Duration = Duration::from_secs(10);
const AFTER_FAILURE: Duration = Duration::from_secs(5);
const LONGEST_WAIT: Duration = Duration::from_secs(30);
/// Steps of one join without a look at the others; a whole join takes fewer.
const STEPS: usize = 12;

/// Serves joins until dropped, and tells of those that cannot be read.
pub async fn run(
    client: Client,
    namespace: Option<String>,
    recorder: Recorder,
    health: Arc<Health>,
) {
    let api: Api<Readable<HostJoin>> = match &namespace {
        Some(namespace) => Api::namespaced(client.clone(), namespace),
        None => Api::all(client.clone()),
    };
    let (joins, writer) = store::<HostJoin>();
    let news = Arc::new(Notify::new());
    let told = Arc::clone(&news);
    let events = watcher(api, watcher::Config::default().timeout(240));
    let (cached, mut dark) = (joins.clone(), UnreadableOfKind::default());
    let (say, mut to_say) = tokio::sync::mpsc::unbounded_channel::<Unread>();
    // One that cannot be read is not served, and holds up no other.
    let events = events.filter_map(move |event| {
        let event = event.map(|event| {
            let (event, unread) = dark.sort(event, &cached);
            // Nobody takes a join that is in neither for deleted, so the cache need not have it first.
            event.iter().for_each(|event| {
                dark.taken(event);
            });
            if let Some((Seen::Listed | Seen::Stored, unread)) = unread {
                let _never_closed = say.send(unread);
            }
            health.metrics.unreadable_joins(dark.count());
            event
        });
        std::future::ready(event.transpose())
    });
    let watch = reflector(writer, events);
    let watch = watch.default_backoff().for_each(move |event| {
        match event {
            Ok(_) => told.notify_one(),
            Err(error) => tracing::warn!(%error, "watch of HostJoins failed"),
        }
        futures::future::ready(())
    });
    let tell = async {
        let mut recorder = recorder;
        while let Some(unread) = to_say.recv().await {
            let text = unreadable::of_join(&unread);
            recorder
                .warn_of_join(&client, &unread.metadata, unreadable::REASON, text)
                .await;
        }
    };
    tokio::join!(watch, serve(&client, &joins, &news), tell);
}

/// When a join is looked at again, and the version that was looked at.
type Waits = BTreeMap<(String, String), (Option<String>, Instant)>;

async fn serve(client: &Client, store: &Store<HostJoin>, news: &Notify) {
    let mut waits = Waits::new();
    loop {
        let open: Vec<_> = store
            .state()
            .into_iter()
            .filter(|j| !joins::at_rest(j))
            .collect();
        let mut seen = Waits::new();
        for join in &open {
            let key = (join.namespace().unwrap_or_default(), join.name_any());
            let version = join.resource_version();
            let waited = waits.remove(&key);
            let rests = waited.filter(|(of, due)| *of == version && *due > Instant::now());
            let due = match rests {
                Some((_, due)) => due,
                None => Instant::now() + look(client, &key.0, &key.1).await,
            };
            seen.insert(key, (version, due));
        }
        waits = seen;
        let due = waits.values().map(|(_, due)| *due).min();
        let latest = Instant::now() + LONGEST_WAIT;
        tokio::select! {
            () = tokio::time::sleep_until(due.unwrap_or(latest).min(latest).into()) => {}
            () = news.notified() => {}
        }
    }
}

/// Takes a join as far as it goes now. Returns for how long it may rest.
async fn look(client: &Client, namespace: &str, name: &str) -> Duration {
    let desk = Desk { client, namespace };
    for _ in 0..STEPS {
        match desk.once(name).await {
            Ok(Some(rest)) => return rest,
            Ok(None) => {}
            Err(error) => {
                tracing::warn!(
                    namespace,
                    join = name,
                    error = format!("{error:#}"),
                    "join not served"
                );
                return AFTER_FAILURE;
            }
        }
    }
    AFTER_FAILURE
}

/// One namespace.
struct Desk<'a> {
    client: &'a Client,
    namespace: &'a str,
}

impl Desk<'_> {
    fn api<K>(&self) -> Api<K>
    where
        K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>,
    {
        Api::namespaced(self.client.clone(), self.namespace)
    }

    /// Reads, decides, acts, tells. `None`: something was done, look again.
    async fn once(&self, name: &str) -> anyhow::Result<Option<Duration>> {
        let Some(join) = timed(self.api::<HostJoin>().get_opt(name)).await? else {
            return Ok(Some(LONGEST_WAIT));
        };
        let wanted = joins::wanted(&join).map(str::to_owned);
        let (instance, secret, plan) = match &wanted {
            Some(host) => self.host(host).await?,
            None => (None, None, None),
        };
        let request = join.status.as_ref().and_then(|s| s.request.as_ref());
        let key = request.and_then(|r| PublicKey::from_text(&r.public_key).ok());
        let fingerprint = key.as_ref().map(PublicKey::fingerprint);
        let seen = joins::Seen {
            join: &join,
            key: fingerprint.as_deref(),
            instance: instance.as_ref(),
            secret: secret.as_ref(),
            plan: plan.as_ref(),
        };
        let Decision {
            step,
            mut status,
            wake,
        } = joins::decide(&seen, Timestamp::now());
        let acted = step.is_some();
        if let Some(step) = step {
            self.act(&seen, key.as_ref(), step, &mut status).await?;
        }
        if self.tell(&join, &status).await? || acted {
            return Ok(None);
        }
        let rest = wake.map(|at| at.duration_since(Timestamp::now()));
        let rest = rest.and_then(|rest| Duration::try_from(rest).ok());
        Ok(Some(rest.unwrap_or(LONGEST_WAIT).min(LONGEST_WAIT)))
    }

    /// What there is of a host, read live.
    async fn host(
        &self,
        host: &str,
    ) -> anyhow::Result<(
        Option<ContainerInstance>,
        Option<ObjectMeta>,
        Option<ObjectMeta>,
    )> {
        let instance = timed(self.api::<ContainerInstance>().get_opt(host)).await?;
        let secrets = self.api::<Secret>();
        let secret = timed(secrets.get_metadata_opt(&names::host_identity(host))).await?;
        let plan = timed(self.api::<HostPlan>().get_metadata_opt(host)).await?;
        Ok((
            instance,
            secret.map(|s| s.metadata),
            plan.map(|p| p.metadata),
        ))
    }

    async fn act(
        &self,
        seen: &joins::Seen<'_>,
        key: Option<&PublicKey>,
        step: Step,
        status: &mut HostJoinStatus,
    ) -> anyhow::Result<()> {
        let join = seen.join.name_any();
        let namespace = self.namespace;
        match step {
            Step::Open => timed(crate::identity::open(self.client, namespace, seen.join)).await?,
            Step::Register(instance) => {
                let api = self.api::<ContainerInstance>();
                match timed(api.create(&created_by_us(), &instance)).await {
                    // Its next look says whose it is.
                    Err(kube::Error::Api(s)) if s.is_already_exists() => {}
                    other => drop(other?),
                }
                tracing::info!(
                    namespace,
                    join,
                    host = instance.name_any(),
                    "host registered"
                );
            }
            Step::Restore { container_instance } => {
                let instance = seen.instance.context("the host went meanwhile")?;
                let target = Target::of(Kind::ContainerInstance, &instance.metadata);
                let key = key.context("the request has no key")?.to_text();
                let made = crate::identity::restore(self.client, namespace, &target, Some(&key));
                timed(made).await?;
                tracing::info!(
                    namespace,
                    join,
                    host = container_instance,
                    "host may come back"
                );
            }
            Step::Bind { container_instance } => {
                let secret = seen.secret.context("the Secret went meanwhile")?;
                let key = key.context("the request has no key")?;
                let body = json!({ "metadata": {
                    "uid": secret.uid, "resourceVersion": secret.resource_version,
                    "annotations": { labels::HOST_KEY: key.to_text() },
                }});
                let name = names::host_identity(&container_instance);
                let api = self.api::<Secret>();
                timed(api.patch_metadata(&name, &written_by_us(), &Patch::Merge(body))).await?;
            }
            Step::Answer { container_instance } => {
                let secret = seen.secret.context("the Secret went meanwhile")?;
                let key = key.context("the request has no key")?;
                let token = self.token(&container_instance, secret).await?;
                let join_uid = seen.join.uid().unwrap_or_default();
                let purpose = Purpose::Token {
                    join_uid: &join_uid,
                };
                let sealed = key.seal(token.as_bytes(), &purpose)?;
                let text = serde_json::to_value(ByteString(sealed))?;
                status.sealed_token = text.as_str().map(str::to_owned);
                tracing::info!(
                    namespace,
                    join,
                    host = container_instance,
                    key = key.fingerprint(),
                    "host admitted"
                );
            }
            Step::Forget => status.sealed_token = None,
        }
        Ok(())
    }

    /// A token of the host, whose life hangs on its Secret.
    async fn token(&self, host: &str, secret: &ObjectMeta) -> anyhow::Result<String> {
        let identity = names::host_identity(host);
        let request = TokenRequest {
            spec: TokenRequestSpec {
                expiration_seconds: Some(names::HOST_TOKEN_SECONDS),
                bound_object_ref: Some(BoundObjectReference {
                    api_version: Some("v1".to_owned()),
                    kind: Some("Secret".to_owned()),
                    name: Some(identity.clone()),
                    uid: secret.uid.clone(),
                }),
                ..TokenRequestSpec::default()
            },
            ..TokenRequest::default()
        };
        let accounts = self.api::<ServiceAccount>();
        let params = PostParams::default();
        let answer = timed(accounts.create_token_request(&identity, &params, &request)).await?;
        let status = answer.status.context("the answer has no token")?;
        Ok(status.token)
    }

    /// Writes what changed of the status. Says whether something did.
    async fn tell(&self, join: &HostJoin, status: &HostJoinStatus) -> anyhow::Result<bool> {
        let before = join.status.clone().unwrap_or_default();
        let Some(patch) = merge_patch(&json!(before), &json!(status)) else {
            return Ok(false);
        };
        let reason = |s: &HostJoinStatus| s.conditions.first().map(|c| c.reason.clone());
        if reason(&before) != reason(status)
            && let Some(ready) = status.conditions.first()
        {
            let (namespace, join) = (self.namespace, join.name_any());
            tracing::info!(namespace, join, reason = ready.reason, "{}", ready.message);
        }
        let body: Value = json!({
            "metadata": { "uid": join.uid(), "resourceVersion": join.resource_version() },
            "status": patch,
        });
        let api = self.api::<HostJoin>();
        let name = join.name_any();
        let (params, patch) = (written_by_us(), Patch::Merge(body));
        let write = api.patch_status(&name, &params, &patch);
        match timed(write).await {
            Ok(_) => Ok(true),
            // The host asked meanwhile, or somebody accepted it: what was read is not what there is.
            Err(kube::Error::Api(s)) if s.is_conflict() || s.is_not_found() => Ok(true),
            Err(error) => Err(error.into()),
        }
    }
}

/// An answer in time, or the words for none.
async fn timed<T>(call: impl Future<Output = Result<T, kube::Error>>) -> Result<T, kube::Error> {
    tokio::time::timeout(CALL_TIMEOUT, call)
        .await
        .unwrap_or_else(|_| Err(kube::Error::Service("no answer in time".into())))
}
