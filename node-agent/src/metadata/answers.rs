//! What is asked, looked up.

use std::net::IpAddr;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::future::join_all;
use hyper::body::Bytes;
use hyper::{Method, StatusCode};
use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;
use tallyman_agent_core::fault_injection::Pace;
use tallyman_agent_core::metadata::credentials::{self, NoCredentials};
use tallyman_agent_core::metadata::documents::{self, Version};
use tallyman_agent_core::metadata::limiter::Limiter;
use tallyman_agent_core::metadata::protection::{self, Code};
use tallyman_agent_core::metadata::route::{self, Route, What};
use tallyman_agent_core::metadata::stats::{Next, SPAN, Samples};
use tallyman_agent_core::metadata::{MetadataKey, Place, Resolver, TaskSight, key};
use tallyman_agent_core::settings::metadata::Rate;
use tallyman_agent_engine::{Engine, Stats};
use tokio::time::Instant;
use tracing::{info, warn};

use crate::introspection::Facts;
use crate::logging::AUDIT;
use crate::metadata::address;
use crate::worker::Shared;

/// ECS: for the control plane to take a protection.
const PATIENCE: Duration = Duration::from_secs(4);

/// All that answers are made from.
pub struct Endpoint<E> {
    shared: Arc<Shared<E>>,
    facts: Arc<Facts>,
    key: MetadataKey,
    pub(super) place: Place,
    limiter: Mutex<Limiter>,
    samples: Mutex<Samples>,
    pub(super) pace: Mutex<Pace>,
    /// Networks are changed one at a time.
    pub(super) faults: Arc<tokio::sync::Mutex<()>>,
    pub(super) since: Instant,
}

/// A request, read.
pub struct Question {
    /// Method.
    pub method: Method,
    /// Path, without a query: the endpoint has none.
    pub path: String,
    /// Body.
    pub body: Bytes,
    /// Who asks.
    pub peer: IpAddr,
}

/// What it is answered.
pub struct Answer {
    /// Status.
    pub status: StatusCode,
    /// Body.
    pub body: Value,
}

impl Answer {
    /// A sentence, as ECS sends them: a JSON text.
    pub fn said(status: StatusCode, words: &str) -> Self {
        Self {
            status,
            body: Value::String(words.to_owned()),
        }
    }

    fn document(document: &impl Serialize) -> Self {
        Self::with(StatusCode::OK, document)
    }

    pub(super) fn with(status: StatusCode, document: &impl Serialize) -> Self {
        match serde_json::to_value(document) {
            Ok(body) => Self { status, body },
            Err(error) => Self::said(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()),
        }
    }

    fn unknown() -> Self {
        let words = "No container of this host has this id, or there is nothing at this path.";
        Self::said(StatusCode::NOT_FOUND, words)
    }
}

/// A task, and the container of it that asks.
pub(super) struct Asker {
    pub(super) sight: TaskSight,
    pub(super) container: String,
}

impl<E: Engine> Endpoint<E> {
    /// An endpoint of this host.
    pub fn new(shared: Arc<Shared<E>>, facts: Arc<Facts>, key: MetadataKey, rate: Rate) -> Self {
        Self {
            shared,
            key,
            place: facts.place.clone(),
            facts,
            limiter: Mutex::new(Limiter::new(rate)),
            samples: Mutex::default(),
            pace: Mutex::default(),
            faults: Arc::default(),
            since: Instant::now(),
        }
    }

    /// Whether `peer` may ask now.
    pub fn admits(&self, peer: IpAddr) -> bool {
        let mut limiter = self.limiter.lock().unwrap_or_else(PoisonError::into_inner);
        limiter.admits(peer, self.since.elapsed())
    }

    /// Whether the tasks of the host are known: shortly after the start of the agent, or without an engine, they are not.
    pub fn is_ready(&self) -> bool {
        self.facts.ready.load(Ordering::Relaxed)
    }

    /// Whether `peer` is this host, or a container of one of its tasks.
    pub async fn knows(&self, peer: IpAddr) -> bool {
        address::is_own(peer).await || self.at(peer).await.is_some()
    }

    /// Answers a question.
    pub async fn answer(&self, question: Question) -> Answer {
        let Question {
            method,
            path,
            body,
            peer,
        } = question;
        let Some(route) = route::read(&path) else {
            return Answer::unknown();
        };
        let put = match (&route, method) {
            (Route::Fault { .. }, Method::POST) => false,
            (
                Route::OfId { .. }
                | Route::OfPeer { .. }
                | Route::Credentials { .. }
                | Route::Protection { .. },
                Method::GET,
            ) => false,
            (Route::Protection { .. }, Method::PUT) => true,
            (route, _) => {
                let words = match route {
                    Route::Protection { .. } => "Only GET and PUT are answered here.",
                    Route::Fault { .. } => "Only POST is answered here.",
                    Route::OfId { .. } | Route::OfPeer { .. } | Route::Credentials { .. } => {
                        "Only GET is answered here."
                    }
                };
                return Answer::said(StatusCode::METHOD_NOT_ALLOWED, words);
            }
        };
        match route {
            Route::Protection { id } => match self.with_id(id, peer).await {
                Ok(asker) => self.protection(&asker, put.then_some(body)).await,
                Err(refusal) => refusal,
            },
            Route::Fault { id, kind, act } => {
                let asker = self.with_id(id, peer).await;
                self.fault(asker, kind, act, &body).await
            }
            Route::OfId { version, id, what } => match self.with_id(id, peer).await {
                Ok(asker) => self.tell(asker, what, version).await,
                Err(refusal) => refusal,
            },
            Route::Credentials { id } => match self.with_id(id, peer).await {
                Ok(asker) => self.credentials(&asker),
                Err(refusal) => refusal,
            },
            Route::OfPeer { docker_id, stats } => {
                let Some(mut asker) = self.at(peer).await else {
                    return Answer::unknown();
                };
                if let Some(id) = docker_id {
                    let Some(other) = asker.sight.with_id(id) else {
                        return Answer::unknown();
                    };
                    asker.container = other.name.clone();
                }
                let what = match (docker_id, stats) {
                    (None, false) => What::Task { tags: false },
                    (None, true) => What::TaskStats,
                    (Some(_), false) => What::Container,
                    (Some(_), true) => What::Stats,
                };
                self.tell(asker, what, Version::Three).await
            }
        }
    }

    /// Tells how the task is protected, after it was protected as `wish` says.
    async fn protection(&self, asker: &Asker, wish: Option<Bytes>) -> Answer {
        let TaskSight { task, record, .. } = &asker.sight;
        let place = &self.place;
        let now = Timestamp::now();
        if let Some(refusal) = protection::refused(task, place) {
            return Answer::document(&refusal);
        }
        let mut until = record.protected_until;
        if let Some(body) = wish {
            until = match protection::read(&body, now) {
                Ok(until) => until,
                Err(words) => {
                    let code = Code::InvalidParameterException;
                    let answer = protection::failed(task, place, code, words);
                    return Answer::with(StatusCode::BAD_REQUEST, &answer);
                }
            };
            let known = record.protected_until;
            if let Some(refusal) = until.and_then(|_| protection::blocked(task, place, known, now))
            {
                return Answer::document(&refusal);
            }
            let told = self.shared.desk.protect(&task.uid, until);
            if !matches!(tokio::time::timeout(PATIENCE, told).await, Ok(true)) {
                let words =
                    "Timed out: the API server does not take it. It is told again until it does.";
                let code = Code::RequestCanceled;
                let answer = protection::failed(task, place, code, words.to_owned());
                return Answer::with(StatusCode::GATEWAY_TIMEOUT, &answer);
            }
            let until = until.map(|until| until.to_string());
            info!(task = task.name, until, "protected from scale-in");
        }
        Answer::document(&protection::state(task, place, until, now))
    }

    fn credentials(&self, asker: &Asker) -> Answer {
        let task = &asker.sight.task;
        let container = &asker.container;
        let role = task.role.as_ref().map(|role| role.arn.as_str());
        let supply = self.shared.supply();
        match credentials::of_task(task, supply.as_deref(), Timestamp::now()) {
            Ok(credentials) => {
                info!(target: AUDIT, task = task.name, container, role, "gave credentials");
                Answer::document(&credentials)
            }
            Err(NoCredentials::NoRole) => {
                Answer::said(StatusCode::BAD_REQUEST, "The task has no role.")
            }
            Err(NoCredentials::NotNow(why)) => {
                warn!(target: AUDIT, task = task.name, container, role, why, "no credentials");
                Answer::said(StatusCode::SERVICE_UNAVAILABLE, &why)
            }
        }
    }

    async fn tell(&self, asker: Asker, what: What, version: Version) -> Answer {
        let Asker {
            mut sight,
            container,
        } = asker;
        let rates = version == Version::Four;
        match what {
            What::Container => {
                look_up_resolver(&mut sight).await;
                match documents::container(&sight, &self.place, &container, version) {
                    Some(document) => Answer::document(&document),
                    None => Answer::unknown(),
                }
            }
            What::Task { tags } => {
                self.look_at_all(&mut sight).await;
                look_up_resolver(&mut sight).await;
                let document = if tags {
                    documents::task_with_tags
                } else {
                    documents::task
                };
                Answer::document(&document(&sight, &self.place, version))
            }
            What::Stats => match self.stats(&sight, &container, rates).await {
                Some((_, Some(stats))) => Answer::document(&stats),
                Some((_, None)) | None => {
                    let words = "The engine does not say what the container uses.";
                    Answer::said(StatusCode::INTERNAL_SERVER_ERROR, words)
                }
            },
            What::TaskStats => {
                let containers = sight.task.defined();
                let asked = containers.map(|one| self.stats(&sight, &one.name, rates));
                let known = join_all(asked).await.into_iter().flatten();
                let all: serde_json::Map<String, Value> = known
                    .map(|(id, stats)| (id, stats.map_or(Value::Null, Value::Object)))
                    .collect();
                Answer::document(&all)
            }
        }
    }

    /// The container that an id is for, if it is the one that asks.
    async fn with_id(&self, id: &str, peer: IpAddr) -> Result<Asker, Answer> {
        let (uid, tag) = key::read(id).ok_or_else(Answer::unknown)?;
        let mut sight = self
            .shared
            .desk
            .ask(&uid)
            .await
            .ok_or_else(Answer::unknown)?;
        let names = sight.task.containers().iter().map(|one| one.name.as_str());
        let holder = self.key.holder(&uid, &tag, names).map(str::to_owned);
        let container = holder.ok_or_else(Answer::unknown)?;
        let peer_is_host = address::is_own(peer).await;
        let own = |sight: &TaskSight| sight.admits(&container, peer, peer_is_host);
        // It may have been started a moment ago, or again.
        if !own(&sight) || !sight.seen.contains_key(&container) {
            let holder = sight.network_holder(&container);
            if holder != container {
                self.look(&mut sight, holder).await;
            }
            self.look(&mut sight, &container).await;
        }
        if own(&sight) {
            Ok(Asker { sight, container })
        } else {
            let words = "This URI is for another container than the one that asks.";
            Err(Answer::said(StatusCode::FORBIDDEN, words))
        }
    }

    /// The container that has this address.
    async fn at(&self, peer: IpAddr) -> Option<Asker> {
        let mut fresh = Vec::new();
        for mut sight in self.shared.desk.ask_all().await {
            let holder = |sight: &TaskSight| sight.with_address(peer).map(str::to_owned);
            if let Some(container) = holder(&sight) {
                return Some(Asker { sight, container });
            }
            // Something happened to a container of it that nobody has looked at yet.
            self.look_at_all(&mut sight).await;
            if let Some(container) = holder(&sight) {
                fresh.push(Asker { sight, container });
            }
        }
        fresh.pop()
    }

    /// Looks at every container that the task has and nobody has looked at since something happened to it.
    async fn look_at_all(&self, sight: &mut TaskSight) {
        let stale: Vec<String> = sight.unseen().map(str::to_owned).collect();
        for container in stale {
            self.look(sight, &container).await;
        }
    }

    pub(super) async fn look(&self, sight: &mut TaskSight, container: &str) {
        let Some(name) = sight.engine_name(container) else {
            return;
        };
        match self.shared.engine.inspect(&name).await {
            Ok(Some(state)) => {
                sight.seen.insert(container.to_owned(), state);
            }
            Ok(None) => {
                sight.seen.remove(container);
            }
            Err(error) => warn!(container = name, %error, "the engine does not say what it is"),
        }
    }

    /// What a container uses, and its id; nothing of one that the engine never had.
    async fn stats(
        &self,
        sight: &TaskSight,
        container: &str,
        rates: bool,
    ) -> Option<(String, Option<Stats>)> {
        let name = sight.engine_name(container)?;
        let known = sight.record.containers.get(container);
        let seen = sight.seen.get(container).map(|state| state.id.clone());
        let id = seen.or_else(|| known?.runtime_id.clone())?;
        let holder = sight.network_holder(container);
        let network = if holder == container {
            None
        } else {
            sight.engine_name(holder)
        };
        let network = network.as_deref();
        if !self.ready(&id, &name, network).await {
            return Some((id, None));
        }
        let document = self.sample(&name, network).await.map(|sample| {
            let mut samples = self.samples.lock().unwrap_or_else(PoisonError::into_inner);
            samples.document(&id, sample, rates)
        });
        Some((id, document))
    }

    /// Sees to it that there is something to compare a sample with. False: the container does not run.
    async fn ready(&self, id: &str, name: &str, network: Option<&str>) -> bool {
        let wait = match self.next(id) {
            Next::Now => Duration::ZERO,
            Next::After(span) => span,
            Next::First => {
                let Some(first) = self.sample(name, network).await else {
                    return false;
                };
                let mut samples = self.samples.lock().unwrap_or_else(PoisonError::into_inner);
                samples.take(id, &first);
                SPAN
            }
        };
        tokio::time::sleep(wait).await;
        true
    }

    fn next(&self, id: &str) -> Next {
        let samples = self.samples.lock().unwrap_or_else(PoisonError::into_inner);
        samples.next(id, Timestamp::now())
    }

    /// A sample of a container; when it is on the `network` of another one, with what passes there (as ECS does).
    async fn sample(&self, name: &str, network: Option<&str>) -> Option<Stats> {
        let mut sample = self.sample_one(name).await?;
        if let Some(holder) = network
            && let Some(mut shared) = self.sample_one(holder).await
            && let Some(networks) = shared.remove("networks")
        {
            sample.insert("networks".to_owned(), networks);
        }
        Some(sample)
    }

    async fn sample_one(&self, name: &str) -> Option<Stats> {
        match self.shared.engine.stats(name).await {
            Ok(sample) => sample,
            Err(error) => {
                warn!(container = name, %error, "the engine does not say what it uses");
                None
            }
        }
    }
}

/// Reads whom a task with an address of its own asks for names. An agent that runs in a container does not see the file.
async fn look_up_resolver(sight: &mut TaskSight) {
    if let Some(file) = sight.resolver_file()
        && let Ok(text) = tokio::fs::read_to_string(file).await
    {
        sight.resolver = Resolver::read(&text);
    }
}
