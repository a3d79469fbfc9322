//! The spans of a rollout.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use tallyman_crds::conditions::READY;
use tallyman_crds::{ConditionStatus, LastStatus, StopCode, TaskStatus, names};

use super::{Fate, Outcome, Rollout, Span, SpanId};
use crate::names::TaskName;
use crate::status::json;
use crate::world::{TaskState, World};

type Attributes = BTreeMap<&'static str, String>;

impl Rollout {
    /// The span of the whole rollout.
    pub(super) fn root(&self, fate: &Fate, end: Timestamp) -> Span {
        let mut attributes = Attributes::from([
            ("tallyman.namespace", self.namespace.clone()),
            ("tallyman.cluster", self.cluster.clone()),
            ("tallyman.service", self.service.to_string()),
            ("tallyman.deployment", self.deployment.clone()),
            ("tallyman.task_definition", self.revision.clone()),
            ("tallyman.desired_count", self.desired.to_string()),
            ("tallyman.rollout_state", fate.state.to_owned()),
        ]);
        if let Some(failed) = &self.instead_of {
            attributes.insert("tallyman.rolled_back_from", failed.clone());
        }
        Span {
            trace: self.trace(),
            id: self.root_id(),
            parent: None,
            name: format!("rollout {}", self.service),
            start: self.began,
            end: end.max(self.began),
            attributes,
            outcome: fate.outcome.clone(),
        }
    }

    fn root_id(&self) -> SpanId {
        self.span_id("rollout")
    }

    /// Spans of its tasks as far as they are over; `end`: when the rollout ended, if it has.
    pub(super) fn tasks(&self, world: &World, end: Option<Timestamp>) -> Vec<Span> {
        let id = self.id();
        let mut spans = Vec::new();
        for (name, task) in world.tasks_of(&self.service) {
            let Some(status) = &task.object.status else {
                continue;
            };
            let number = names::service_task_number(self.service.as_str(), name.as_str());
            let own = task.deployment == id && number.is_some_and(|n| n > self.after_task);
            if own {
                let in_time = task
                    .created_at
                    .is_some_and(|at| end.is_none_or(|e| at <= e));
                if in_time {
                    spans.extend(self.started(world, name, task, status));
                }
            }
            spans.extend(self.stopped(name, task, status, own, end));
        }
        spans
    }

    /// A task that the rollout started, once it is up or has failed to be.
    fn started(
        &self,
        world: &World,
        name: &TaskName,
        task: &TaskState,
        status: &TaskStatus,
    ) -> Vec<Span> {
        let revision = task.revision.as_ref();
        let revision = revision.and_then(|r| world.revisions.get(r));
        let definition = revision.and_then(|r| r.definition.as_ref().ok());
        let checked = definition.is_some_and(|d| d.health_checked);
        let healthy = checked.then(|| ready_since(status)).flatten();
        let up = if checked { healthy } else { task.started_at };
        let stopped = (task.last == LastStatus::Stopped)
            .then_some(task.stopped_at)
            .flatten();
        let (Some(created), Some(end)) = (task.created_at, up.or(stopped)) else {
            return Vec::new();
        };
        let outcome = match up {
            Some(_) => Outcome::Ok,
            None => why_stopped(task, status),
        };
        let mut attributes = about(name, task);
        if up.is_none() {
            attributes.extend(stop(task, status));
        }
        let uid = &task.identity.uid;
        let parent = self.span_id(&format!("task {uid}"));
        let whole = Span {
            trace: self.trace(),
            id: parent,
            parent: Some(self.root_id()),
            name: format!("task {name}"),
            start: created.max(self.began),
            end: end.max(created.max(self.began)),
            attributes,
            outcome: outcome.clone(),
        };
        let (accepted, pull_began, pulled, started) = (
            at(status.accepted_at.as_ref()),
            at(status.pull_started_at.as_ref()),
            at(status.pull_stopped_at.as_ref()),
            task.started_at,
        );
        let taken_on = pulled.or(accepted);
        let phases = [
            ("accept", Some(created), accepted),
            ("pull", pull_began, pulled),
            ("start", taken_on, started),
            ("become healthy", started.filter(|_| checked), healthy),
        ];
        let mut spans = vec![];
        for (phase, from, to) in phases {
            let last = to.is_none() && up.is_none();
            let Some(from) = from else { continue };
            // What was under way when the task stopped is what failed.
            let (to, ended) = match (to, up) {
                (Some(to), _) => (to, Outcome::Unset),
                (None, Some(_)) => continue,
                (None, None) => (end, outcome.clone()),
            };
            let start = from.clamp(whole.start, whole.end);
            spans.push(Span {
                id: self.span_id(&format!("{phase} {uid}")),
                parent: Some(parent),
                name: phase.to_owned(),
                start,
                end: to.clamp(start, whole.end),
                attributes: about(name, task),
                outcome: ended,
                ..whole.clone()
            });
            if last {
                break;
            }
        }
        spans.push(whole);
        spans
    }

    /// A task that stopped during the rollout: an older one that made room, or one of its own that had been started.
    fn stopped(
        &self,
        name: &TaskName,
        task: &TaskState,
        status: &TaskStatus,
        own: bool,
        end: Option<Timestamp>,
    ) -> Option<Span> {
        let stopped = task.stopped_at.filter(|at| *at >= self.began)?;
        if own && (task.started_at.is_none() || end.is_some_and(|end| stopped > end)) {
            return None;
        }
        let began = at(status.stopping_at.as_ref())
            .or(at(status.execution_stopped_at.as_ref()))
            .unwrap_or(stopped);
        let uid = &task.identity.uid;
        let mut attributes = about(name, task);
        attributes.extend(stop(task, status));
        let parent = if own {
            self.span_id(&format!("task {uid}"))
        } else {
            self.root_id()
        };
        Some(Span {
            trace: self.trace(),
            id: self.span_id(&format!("stop {uid}")),
            parent: Some(parent),
            name: format!("stop {name}"),
            start: began.clamp(self.began, stopped),
            end: stopped,
            attributes,
            outcome: why_stopped(task, status),
        })
    }
}

fn at(time: Option<&Time>) -> Option<Timestamp> {
    time.map(|time| time.0)
}

/// Since when the task is healthy, if it is.
fn ready_since(status: &TaskStatus) -> Option<Timestamp> {
    let ready = status.conditions.iter().find(|c| c.type_ == READY)?;
    (ready.status == ConditionStatus::True).then_some(ready.last_transition_time.0)
}

fn about(name: &TaskName, task: &TaskState) -> Attributes {
    let mut attributes = Attributes::from([
        ("tallyman.task", name.to_string()),
        (
            "tallyman.task_definition",
            task.object.spec.task_definition.clone(),
        ),
    ]);
    if let Some(host) = &task.instance {
        attributes.insert("host.name", host.to_string());
    }
    attributes
}

/// Why a task stopped, as its status has it.
fn stop(task: &TaskState, status: &TaskStatus) -> Attributes {
    let mut attributes = Attributes::new();
    if let Some(code) = task.stop_code {
        let word = json(&code).as_str().unwrap_or_default().to_owned();
        attributes.insert("tallyman.stop_code", word);
    }
    if let Some(reason) = &status.stopped_reason {
        attributes.insert("tallyman.stopped_reason", reason.clone());
    }
    attributes
}

/// Whether it was the task's own doing that it stopped.
fn why_stopped(task: &TaskState, status: &TaskStatus) -> Outcome {
    let own = matches!(
        task.stop_code,
        Some(StopCode::TaskFailedToStart | StopCode::EssentialContainerExited)
    );
    if own || task.failed_health_checks {
        Outcome::Error(status.stopped_reason.clone().unwrap_or_default())
    } else {
        Outcome::Unset
    }
}
