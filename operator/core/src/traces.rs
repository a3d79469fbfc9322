//! A rollout told as a trace (OpenTelemetry): a span from the start of the deployment to its end, below it one for each task that
//! it started or stopped, below those what a task goes through.
//!
//! Nothing is held open: a span is told once, when it is over, and made of what the objects say of their times, in whole seconds. Ids
//! follow from the deployment, so whoever leads next goes on with the same trace and nobody has to remember it. What was told
//! shortly before may be told again, with the same ids. Nothing is decided by this.

mod spans;

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use sha2::{Digest, Sha256};
use tallyman_crds::{DeploymentStatus, RolloutState};

use crate::names::{DeploymentId, ServiceName};
use crate::world::{ServiceState, World};

/// Which trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct TraceId(pub [u8; 16]);

/// Which span of a trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SpanId(pub [u8; 8]);

/// How something ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Neither well nor badly.
    Unset,
    /// As it was meant to.
    Ok,
    /// Otherwise, and why.
    Error(String),
}

/// Something that is over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Span {
    /// Trace that it is of.
    pub trace: TraceId,
    /// Its id.
    pub id: SpanId,
    /// What it is a part of.
    pub parent: Option<SpanId>,
    /// What it is.
    pub name: String,
    /// When it began.
    pub start: Timestamp,
    /// When it ended; never before its start.
    pub end: Timestamp,
    /// What else is known of it.
    pub attributes: BTreeMap<&'static str, String>,
    /// How it ended.
    pub outcome: Outcome,
}

/// How long after its end a rollout is looked at: what its hosts report late belongs to it.
const REMEMBERED: SignedDuration = SignedDuration::from_mins(5);

/// What ended longer before the first look is not told: the leader before did. Longer than a lead takes to pass on.
const TOLD_BY_OTHERS: SignedDuration = SignedDuration::from_mins(1);

/// Tells each span once.
#[derive(Clone, Debug, Default)]
pub struct Traces {
    told: BTreeSet<SpanId>,
    open: BTreeMap<TraceId, Rollout>,
    began: bool,
}

impl Traces {
    /// Spans that ended since this was asked last.
    pub fn since(&mut self, worlds: &[&World], now: Timestamp) -> Vec<Span> {
        let mut found = Vec::new();
        let mut open = BTreeMap::new();
        for world in worlds {
            for (name, service) in &world.services {
                let Some(primary) = service.status.deployments.first() else {
                    continue;
                };
                let rollout = Rollout::of(world, name, service, primary);
                let trace = rollout.trace();
                let known = self.open.remove(&trace).is_some();
                let fate = Fate::of_primary(name, service, primary);
                let end = match &fate {
                    None => None,
                    // Without a word of when, only who saw it in progress knows that it was just now.
                    Some(fate) => match fate.at.or(known.then_some(now)) {
                        Some(at) if now.duration_since(at) < REMEMBERED => Some(at),
                        Some(_) | None => continue,
                    },
                };
                found.extend(rollout.tasks(world, end));
                match fate.zip(end) {
                    Some((fate, end)) => found.push(rollout.root(&fate, end)),
                    None => {
                        open.insert(trace, rollout);
                    }
                }
            }
        }
        // What was in progress and is the primary deployment no more.
        for rollout in std::mem::replace(&mut self.open, open).into_values() {
            let its = |world: &&&World| {
                world.namespace == rollout.namespace && world.cluster == rollout.cluster
            };
            let world = worlds.iter().find(its);
            let service = world.and_then(|world| world.services.get(&rollout.service));
            let service = service.filter(|s| s.identity.uid == rollout.service_uid);
            let fate = Fate::of_former(&rollout, service);
            let end = fate.at.unwrap_or(now);
            if let Some(world) = world {
                found.extend(rollout.tasks(world, Some(end)));
            }
            found.push(rollout.root(&fate, end));
        }
        let fresh: BTreeSet<SpanId> = found.iter().map(|span| span.id).collect();
        found.retain(|span| {
            let recent = now.duration_since(span.end) < TOLD_BY_OTHERS;
            !self.told.contains(&span.id) && (self.began || recent)
        });
        self.told = fresh;
        self.began = true;
        found
    }
}

/// A deployment of a service, from the time on when it became the primary one.
#[derive(Clone, Debug)]
struct Rollout {
    namespace: String,
    cluster: String,
    service: ServiceName,
    service_uid: String,
    /// `ecs-svc/<number>`.
    deployment: String,
    revision: String,
    began: Timestamp,
    /// Tasks with a higher number are its own.
    after_task: i64,
    desired: i32,
    /// The deployment that failed, when this one goes back.
    instead_of: Option<String>,
}

impl Rollout {
    fn of(
        world: &World,
        name: &ServiceName,
        service: &ServiceState,
        primary: &DeploymentStatus,
    ) -> Rollout {
        let failed = service.status.failed_deployment.as_ref();
        Rollout {
            namespace: world.namespace.clone(),
            cluster: world.cluster.clone(),
            service: name.clone(),
            service_uid: service.identity.uid.clone(),
            deployment: primary.id.clone(),
            revision: primary.task_definition.clone(),
            began: primary.created_at.0,
            after_task: primary.after_task_number,
            desired: primary.desired_count,
            instead_of: failed
                .filter(|failed| failed.id != primary.id)
                .map(|failed| failed.id.clone()),
        }
    }

    fn id(&self) -> Option<DeploymentId> {
        DeploymentId::of_ecs(&self.deployment)
    }

    /// A deployment that is gone back to has the id that it had: when it began tells its tries apart.
    fn trace(&self) -> TraceId {
        let began = self.began.as_second();
        TraceId(first(&format!(
            "{}\n{}\n{began}",
            self.service_uid, self.deployment
        )))
    }

    fn span_id(&self, words: &str) -> SpanId {
        let TraceId(trace) = self.trace();
        SpanId(first(&format!("{trace:?}\n{words}")))
    }
}

/// The first bytes of the digest of `text`.
fn first<const N: usize>(text: &str) -> [u8; N] {
    let digest = Sha256::digest(text);
    let mut bytes = [0; N];
    for (byte, of_digest) in bytes.iter_mut().zip(digest) {
        *byte = of_digest;
    }
    bytes
}

/// How a rollout ended.
struct Fate {
    /// `rolloutState`, or what came in its place.
    state: &'static str,
    /// When, if the objects say so.
    at: Option<Timestamp>,
    outcome: Outcome,
}

impl Fate {
    /// Of the primary deployment, if it has ended.
    fn of_primary(
        name: &ServiceName,
        service: &ServiceState,
        primary: &DeploymentStatus,
    ) -> Option<Fate> {
        let status = &service.status;
        let id = &primary.id;
        let told = |words: &str| {
            let sentence = format!("(service {name}) (deployment {id}) deployment {words}");
            let of_it = status.events.iter().find(|event| {
                event.message.starts_with(&sentence) && event.created_at.0 >= primary.created_at.0
            });
            of_it.map(|event| event.created_at.0)
        };
        match primary.rollout_state {
            RolloutState::InProgress => None,
            RolloutState::Completed => Some(Fate {
                state: "COMPLETED",
                at: told("completed"),
                outcome: Outcome::Ok,
            }),
            RolloutState::Failed => {
                let failed = status.failed_deployment.as_ref().filter(|f| f.id == *id);
                let reason = failed.map(|f| f.reason.clone());
                let reason = reason.or_else(|| primary.rollout_state_reason.clone());
                Some(Fate {
                    state: "FAILED",
                    at: failed.map(|f| f.failed_at.0).or_else(|| told("failed")),
                    outcome: Outcome::Error(reason.unwrap_or_default()),
                })
            }
        }
    }

    /// Of a deployment that was in progress and is not the primary one any more; `service`: as it is now, if it is there.
    fn of_former(rollout: &Rollout, service: Option<&ServiceState>) -> Fate {
        let Some(service) = service else {
            return Fate {
                state: "DELETED",
                at: None,
                outcome: Outcome::Unset,
            };
        };
        let failed = service.status.failed_deployment.as_ref();
        let failed =
            failed.filter(|f| f.id == rollout.deployment && f.failed_at.0 >= rollout.began);
        if let Some(failed) = failed {
            return Fate {
                state: "FAILED",
                at: Some(failed.failed_at.0),
                outcome: Outcome::Error(failed.reason.clone()),
            };
        }
        let next = service.status.deployments.first();
        Fate {
            state: "SUPERSEDED",
            at: next.map(|next| next.created_at.0),
            outcome: Outcome::Unset,
        }
    }
}
