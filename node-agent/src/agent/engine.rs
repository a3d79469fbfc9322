//! The loop's side toward the engine: who it is, what it runs, what happens there.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use jiff::Timestamp;
use tallyman_agent_core::{Condemned, TaskUid, error_name, silence};
use tallyman_agent_engine::{ContainerSummary, Engine, EngineError, Hint, Verb};
use tallyman_crds::labels;
use tokio::time::Instant;
use tracing::{debug, info, warn};

use crate::agent::groups::{self, Described};
use crate::agent::{Agent, by_task};
use crate::worker::Told;

/// The full list of our containers is the truth; events are hints.
const LIST_PERIOD: Duration = Duration::from_secs(10);
/// After a list that failed.
const LIST_RETRY: Duration = Duration::from_secs(2);
/// Failed lists in a row after which the engine counts as unreachable.
const LIST_FAILURES: u32 = 2;
/// A list takes a fraction of a second; an engine that needs longer than this hangs.
const LIST_PATIENCE: Duration = Duration::from_secs(15);
const WATCH_RETRY: Duration = Duration::from_secs(1);
const DESCRIBE_RETRY: Duration = Duration::from_secs(2);

impl<E: Engine> Agent<E> {
    /// Puts every call in flight that is due.
    pub(super) fn ask_engine(&mut self) {
        let now = Instant::now();
        if self.describing.is_none() && self.describe_at.is_some_and(|due| due <= now) {
            self.describe_at = None;
            let engine = Arc::clone(&self.shared.engine);
            self.describing = Some(Box::pin(async move { groups::describe(&*engine).await }));
        }
        let Some(instance) = self.host.container_instance_uid().map(str::to_owned) else {
            return;
        };
        if self.hints.is_none() && self.watch_at <= now {
            let scope = (labels::CONTAINER_INSTANCE_UID, instance.as_str());
            self.hints = Some(self.shared.engine.watch(scope));
            // What happened before the watch is in the next list.
            self.list_at = now;
        }
        if self.listing.is_none() && self.list_at <= now {
            self.list_at = now + LIST_PERIOD;
            self.overdue_at = Some(now + LIST_PATIENCE);
            let engine = Arc::clone(&self.shared.engine);
            self.listing = Some(Box::pin(async move {
                engine
                    .list((labels::CONTAINER_INSTANCE_UID, instance.as_str()))
                    .await
            }));
        }
        self.ask_volumes(now);
    }

    /// When [`Agent::ask_engine`] has something to do next.
    pub(super) fn next_engine_call(&self) -> Option<Instant> {
        let describe = self.describe_at.filter(|_| self.describing.is_none());
        let scoped = self.host.container_instance_uid().is_some();
        let list = Some(self.list_at).filter(|_| scoped && self.listing.is_none());
        let watch = Some(self.watch_at).filter(|_| scoped && self.hints.is_none());
        let volumes = self.next_volumes_call();
        [describe, list, watch, volumes].into_iter().flatten().min()
    }

    /// The engine hangs: said while it is still waited for.
    pub(super) fn list_overdue(&mut self) {
        self.overdue_at = None;
        warn!("the engine does not answer; tasks stay as known");
        self.engine.trouble = Some(format!(
            "The container engine has not listed its containers for {} s ({}); tasks keep the status they had.",
            LIST_PATIENCE.as_secs(),
            error_name(Verb::List),
        ));
    }

    pub(super) fn take_list(&mut self, list: Result<Vec<ContainerSummary>, EngineError>) {
        let now = Instant::now();
        self.overdue_at = None;
        self.look_at_disk();
        self.look_at_gpus();
        let list = match list {
            Ok(list) => list,
            Err(error) => {
                self.list_failures = self.list_failures.saturating_add(1);
                self.list_at = now + LIST_RETRY;
                if self.list_failures == LIST_FAILURES {
                    warn!(%error, "the engine does not list its containers; tasks stay as known");
                    self.engine.trouble = Some(trouble(Verb::List, &error));
                }
                return;
            }
        };
        self.list_failures = 0;
        if self.engine.trouble.take().is_some() {
            info!("the engine answers again");
            self.describe_at = Some(now);
        }
        self.list_at = self.list_at.max(now + LIST_PERIOD / 2);
        let none: Vec<ContainerSummary> = Vec::new();
        let by_task = by_task(&list);
        for (uid, worker) in &self.workers {
            let ours = by_task.get(uid.as_str()).unwrap_or(&none).clone();
            let _ = worker.send(Told::Listed(ours));
        }
        let ended = self.shared.ledger.stopped();
        self.shared.holdings.gpus.saw(&list, &ended);
        let forgotten = self.shared.ledger.forgotten(&self.host);
        let forgotten = forgotten.into_keys().collect();
        let condemned = self
            .host
            .strays(&list, &ended, &forgotten, Timestamp::now());
        let silences = self.shared.contacts.silences();
        let silence = silences.missed_since(self.heard);
        self.heard = silences.over();
        let (known, saved) = (self.known_tasks(), &self.saved_records);
        let answers = |task: &TaskUid| known.contains(task) || saved.contains_key(task);
        let overdue = silence::overdue(&list, answers, silence);
        self.listed = Some(list);
        self.begin_waiting();
        for container in overdue {
            self.stop_overdue(container);
        }
        self.sweep_groups();
        for container in condemned {
            self.condemn(container);
        }
        self.facts.ready.store(true, Ordering::Relaxed);
    }

    /// Stops a container that must not run beside its replacement, and that no task of ours answers for.
    fn stop_overdue(&mut self, overdue: Condemned) {
        warn!(
            container = overdue.name,
            task = %overdue.task,
            "the host is cut off, and plan and record of this container were lost; stopping it"
        );
        let engine = Arc::clone(&self.shared.engine);
        let grace = silence::stop_timeout(self.settings.tasks.stop_timeout);
        self.condemning.spawn(async move {
            if let Err(error) = engine.stop(&overdue.name, grace).await {
                warn!(container = overdue.name, %error, "not stopped yet; the next list tries again");
            }
        });
    }

    /// Stops and removes a container that two complete plans did not have.
    fn condemn(&mut self, condemned: Condemned) {
        warn!(
            container = condemned.name,
            task = %condemned.task,
            "no plan has the task of this container; stopping and removing it"
        );
        if self.workers.contains_key(&condemned.task) {
            self.tell(&condemned.task, Told::Condemned);
            return;
        }
        let engine = Arc::clone(&self.shared.engine);
        let grace = self.settings.tasks.stop_timeout;
        self.condemning.spawn(async move {
            let name = condemned.name;
            if let Err(error) = engine.stop(&name, grace).await {
                warn!(container = name, %error, "not stopped; tried again later");
            } else if let Err(error) = engine.remove(&name).await {
                warn!(container = name, %error, "not removed; tried again later");
            }
        });
    }

    pub(super) fn take_hint(&mut self, hint: Option<Hint>) {
        match hint {
            None | Some(Hint::Lost) => {
                debug!("events of the engine broke off");
                self.hints = None;
                self.watch_at = Instant::now() + WATCH_RETRY;
            }
            Some(hint) => {
                let task = hint
                    .container()
                    .and_then(|name| Some((name, self.names.get(name)?)));
                if let Some((name, uid)) = task {
                    self.tell(uid, Told::Hinted(name.to_owned(), hint.clone()));
                }
            }
        }
    }

    pub(super) fn take_description(&mut self, answer: Described) {
        self.engine.heard = true;
        match answer {
            Ok((description, groups)) => {
                let version = description.version.as_str();
                let api = description.api_version.as_str();
                info!(engine = description.name, version, api, "engine");
                if self.engine.description.as_ref() != Some(&description) {
                    self.shared.ledger.put_engine(description.clone());
                }
                if !description.data_root.is_empty() {
                    self.shared.host_files.close(&description.data_root);
                }
                self.engine.description = Some(description);
                self.set_enforcement(&groups);
                if self.list_failures < LIST_FAILURES {
                    self.engine.trouble = None;
                }
            }
            Err(error) => {
                if self.engine.trouble.is_none() {
                    warn!(%error, "the engine does not say who it is; asking on");
                }
                self.engine.trouble = Some(trouble(Verb::Describe, &error));
                self.describe_at = Some(Instant::now() + DESCRIBE_RETRY);
            }
        }
        self.begin_waiting();
    }
}

fn trouble(verb: Verb, error: &EngineError) -> String {
    format!(
        "The container engine does not answer ({}); tasks keep the status they had. It said: {error}.",
        error_name(verb)
    )
}
