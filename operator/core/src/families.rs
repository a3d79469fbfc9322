//! Families: each change of a TaskDefinition mints a revision (ECS RegisterTaskDefinition).
//!
//! A pass per namespace, because a family belongs to no cluster. Identical content mints nothing, numbers are never
//! reused, the younger of two objects of one family is Stalled, a deleted revision is INACTIVE and kept while in use.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use tallyman_crds::{
    Attribute, LastStatus, RevisionLifecycle, RunTask, Service, Task, TaskDefinition,
    TaskDefinitionRevision, TaskDefinitionRevisionSpec, TaskDefinitionRevisionStatus,
    TaskDefinitionStatus, TaskSet, conditions, labels, names,
};

use crate::definition::Definition;
use crate::gather::short_task_definition;
use crate::plan::{Action, Kind, Note, Plan, Target};
use crate::problem;
use crate::requirements;
use crate::services::time;
use crate::status::{Standing, json, statements};
use crate::unsupported;
use crate::world::Objects;

/// Decides for every object of the namespace that belongs to no cluster: TaskDefinitions and revisions.
pub fn plan(objects: &Objects, namespace: &str, now: Timestamp) -> Plan {
    let mut plan = Plan::default();
    let owners = owners(objects);
    for t in &objects.task_definitions {
        if t.metadata.deletion_timestamp.is_none() {
            register(objects, namespace, t, &owners, now, &mut plan);
        }
    }
    let leaving = |r: &TaskDefinitionRevision| r.metadata.deletion_timestamp.is_some();
    // What cannot be read may use any.
    let may_go = objects.unreadable.is_empty();
    let used = match objects.revisions.iter().any(|r| leaving(r)) {
        true => in_use(objects),
        // Nobody asks.
        false => BTreeSet::new(),
    };
    for r in &objects.revisions {
        let used = !may_go || used.contains(&ecs_name(r));
        revision(r, used, now, &mut plan);
    }
    plan
}

fn name(meta: &ObjectMeta) -> &str {
    meta.name.as_deref().unwrap_or_default()
}

fn family(t: &TaskDefinition) -> &str {
    t.spec
        .family
        .as_deref()
        .unwrap_or_else(|| name(&t.metadata))
}

/// The oldest object of each family.
fn owners(objects: &Objects) -> BTreeMap<&str, &str> {
    let mut list: Vec<_> = objects.task_definitions.iter().collect();
    list.sort_by_key(|t| {
        (
            t.metadata.creation_timestamp.as_ref().map(|t| t.0),
            name(&t.metadata),
        )
    });
    let mut owners = BTreeMap::new();
    for t in list {
        owners.entry(family(t)).or_insert_with(|| name(&t.metadata));
    }
    owners
}

/// It belongs to a TaskDefinition that was of this family before, and is deleted with that.
fn goes_with_another(r: &TaskDefinitionRevision, t: &TaskDefinition) -> bool {
    let kind = Kind::TaskDefinition.as_str();
    let mut owners = r.metadata.owner_references.iter().flatten();
    owners.any(|o| o.kind == kind && Some(&o.uid) != t.metadata.uid.as_ref())
}

/// Bytes of the largest definition (ECS quota for the size of a task definition).
const LARGEST: usize = 64 * 1024;

fn register(
    objects: &Objects,
    namespace: &str,
    t: &TaskDefinition,
    owners: &BTreeMap<&str, &str>,
    now: Timestamp,
    plan: &mut Plan,
) {
    let own = name(&t.metadata);
    let family = family(t);
    let generation = t.metadata.generation.unwrap_or_default();
    let previous = t.status.clone().unwrap_or(TaskDefinitionStatus {
        observed_generation: conditions::UNOBSERVED,
        conditions: Vec::new(),
        family: None,
        latest: None,
        latest_revision: 0,
    });
    let unsupported = unsupported::of_definition(&t.spec);
    let refusal = match (owners.get(family), Definition::parse(&t.spec)) {
        (Some(owner), _) if *owner != own => Some((
            "FamilyConflict",
            format!(
                "`spec.family` must be of one TaskDefinition only; `{owner}` has family `{family}` already."
            ),
        )),
        (_, Err(problems)) => Some(("InvalidSpec", problem::sentence(&problems))),
        (_, Ok(_)) if size(t) > LARGEST => Some((
            "InvalidSpec",
            format!(
                "`spec` must be at most {LARGEST} bytes as JSON, not {}.",
                size(t)
            ),
        )),
        (_, Ok(_)) if !unsupported.refused.is_empty() => Some((
            "UnsupportedFields",
            unsupported.sentence().unwrap_or_default(),
        )),
        (_, Ok(_)) => None,
    };
    let existing: Vec<_> = objects
        .revisions
        .iter()
        .filter(|r| r.spec.family == family)
        .collect();
    let newest = existing.iter().max_by_key(|r| r.spec.revision);
    let highest = newest
        .map_or(0, |r| r.spec.revision)
        .max(previous.latest_revision);
    let latest_active = |list: &[&std::sync::Arc<TaskDefinitionRevision>]| {
        list.iter()
            .filter(|r| r.metadata.deletion_timestamp.is_none())
            .map(|r| r.spec.revision)
            .max()
    };
    let mut next = previous.clone();
    next.observed_generation = generation;
    next.family = Some(family.to_owned());
    let (standing, reason, message) = match refusal {
        Some((reason, message)) => {
            next.latest = latest_active(&existing).map(|n| names::family_revision(family, n));
            next.latest_revision = highest;
            (Standing::Stalled, reason, message)
        }
        None => {
            let same = newest.is_some_and(|r| {
                content(&r.spec.definition) == content(&t.spec) && !goes_with_another(r, t)
            });
            // The content was registered, and its revision has been deregistered and is gone since.
            let gone = newest.is_none_or(|r| r.spec.revision < previous.latest_revision)
                && previous.observed_generation == generation;
            let ecs_name = |n| names::family_revision(family, n);
            if same || gone {
                next.latest_revision = highest;
                next.latest = latest_active(&existing).map(ecs_name);
                let number = if same {
                    newest.map_or(highest, |r| r.spec.revision)
                } else {
                    highest
                };
                let active =
                    same && newest.is_some_and(|r| r.metadata.deletion_timestamp.is_none());
                let text = if active {
                    format!("Registered as {}.", ecs_name(number))
                } else {
                    format!(
                        "{} was deregistered; a change registers the next revision.",
                        ecs_name(number)
                    )
                };
                (Standing::Ready, "Registered", text)
            } else {
                // It is told once the revision is there: a create that fails must be tried again, and a status that
                // speaks of the revision already would look as if that had been deregistered since.
                return mint(namespace, t, family, highest + 1, plan);
            }
        }
    };
    let was = previous
        .conditions
        .iter()
        .find(|c| c.type_ == conditions::READY);
    let mut notes = Vec::new();
    if was.is_none_or(|c| c.message != message) {
        notes.push(Note {
            target: Target::of(Kind::TaskDefinition, &t.metadata),
            warning: standing == Standing::Stalled,
            reason,
            message: message.clone(),
        });
    }
    let list = statements(&standing, reason, &message, unsupported.sentence());
    next.conditions = conditions::merge(&previous.conditions, &list, generation, &time(now));
    let target = Target::of(Kind::TaskDefinition, &t.metadata);
    plan.tell(target, &previous, &next, false, notes);
}

fn size(t: &TaskDefinition) -> usize {
    serde_json::to_string(&t.spec).map_or(0, |text| text.len())
}

/// What makes two registrations the same: everything but the family, which both have.
fn content(spec: &tallyman_crds::TaskDefinitionSpec) -> serde_json::Value {
    let mut spec = spec.clone();
    spec.family = None;
    json(&spec)
}

fn mint(namespace: &str, t: &TaskDefinition, family: &str, number: i64, plan: &mut Plan) {
    let own = name(&t.metadata);
    let mut definition = t.spec.clone();
    definition.family = Some(family.to_owned());
    plan.actions
        .push(Action::CreateRevision(Box::new(TaskDefinitionRevision {
            metadata: ObjectMeta {
                name: Some(names::revision(own, number)),
                namespace: Some(namespace.to_owned()),
                labels: Some(
                    [
                        (labels::TASK_DEFINITION.to_owned(), own.to_owned()),
                        (labels::MANAGED_BY.to_owned(), labels::MANAGER.to_owned()),
                    ]
                    .into(),
                ),
                finalizers: Some(vec![labels::IN_USE_FINALIZER.to_owned()]),
                owner_references: Some(vec![
                    Target::of(Kind::TaskDefinition, &t.metadata).as_owner(),
                ]),
                ..ObjectMeta::default()
            },
            spec: TaskDefinitionRevisionSpec {
                family: family.to_owned(),
                revision: number,
                definition,
            },
            status: None,
        })));
}

/// `family:revision` of the revisions that are being deleted.
pub(crate) fn retiring(objects: &Objects) -> BTreeSet<String> {
    let leaving = objects.revisions.iter();
    let leaving = leaving.filter(|r| r.metadata.deletion_timestamp.is_some());
    leaving.map(|r| ecs_name(r)).collect()
}

/// `family:revision` of everything that a task holds, a service names or runs, or a task set or a run was taken on with.
fn in_use(objects: &Objects) -> BTreeSet<String> {
    let revisions: BTreeMap<&str, _> = objects
        .revisions
        .iter()
        .map(|r| (name(&r.metadata), r))
        .collect();
    let ecs_name = |revision: &str| {
        let r = revisions.get(revision)?;
        Some(names::family_revision(&r.spec.family, r.spec.revision))
    };
    let mut used = BTreeSet::new();
    let tasks = objects.tasks.iter();
    used.extend(tasks.flat_map(|t| used_by_task(t, ecs_name)));
    used.extend(objects.services.iter().flat_map(|s| used_by_service(s)));
    let sets = objects.task_sets.iter();
    used.extend(sets.filter_map(|s| used_by_task_set(s, ecs_name)));
    let runs = objects.run_tasks.iter();
    used.extend(runs.filter_map(|r| used_by_run(r, ecs_name)));
    used
}

/// What a task holds. `ecs_name` of a revision's object name is `family:revision`.
pub(crate) fn used_by_task(
    t: &Task,
    ecs_name: impl Fn(&str) -> Option<String>,
) -> BTreeSet<String> {
    let done = t.status.as_ref().is_some_and(|s| {
        s.last_status == LastStatus::Stopped
            && (t.metadata.deletion_timestamp.is_none() || s.removed_at.is_some())
    });
    if done {
        return BTreeSet::new();
    }
    let named = short_task_definition(&t.spec.task_definition).to_owned();
    // A user's own task may name a family; its label says which revision that was.
    let label = revision_label(&t.metadata).and_then(ecs_name);
    std::iter::once(named).chain(label).collect()
}

/// What a service names or runs.
pub(crate) fn used_by_service(s: &Service) -> BTreeSet<String> {
    let named = s.spec.task_definition.as_deref();
    let named = named.map(|given| short_task_definition(given).to_owned());
    let running = s.status.iter().flat_map(|s| &s.deployments);
    // A rollout that fails goes back there.
    let completed = s
        .status
        .iter()
        .filter_map(|s| s.last_completed_deployment.as_ref());
    named
        .into_iter()
        .chain(running.map(|d| d.task_definition.clone()))
        .chain(completed.map(|d| d.task_definition.clone()))
        .collect()
}

/// What a task set was taken on with.
fn used_by_task_set(s: &TaskSet, ecs_name: impl Fn(&str) -> Option<String>) -> Option<String> {
    revision_label(&s.metadata).and_then(ecs_name)
}

/// What a run that has not ended was taken on with.
pub(crate) fn used_by_run(
    r: &RunTask,
    ecs_name: impl Fn(&str) -> Option<String>,
) -> Option<String> {
    let ended = r.status.as_ref().and_then(|s| s.completion_time.as_ref());
    let label = revision_label(&r.metadata).filter(|_| ended.is_none());
    label.and_then(ecs_name)
}

fn revision_label(meta: &ObjectMeta) -> Option<&str> {
    let labels = meta.labels.as_ref()?;
    labels.get(labels::REVISION).map(String::as_str)
}

fn ecs_name(r: &TaskDefinitionRevision) -> String {
    names::family_revision(&r.spec.family, r.spec.revision)
}

fn revision(r: &TaskDefinitionRevision, used: bool, now: Timestamp, plan: &mut Plan) {
    let ecs_name = ecs_name(r);
    let target = Target::of(Kind::TaskDefinitionRevision, &r.metadata);
    let deleting = r.metadata.deletion_timestamp.is_some();
    if deleting && !used {
        let fenced = r
            .metadata
            .finalizers
            .iter()
            .flatten()
            .any(|f| f == labels::IN_USE_FINALIZER);
        if fenced {
            plan.actions.push(Action::RemoveFinalizer {
                target,
                finalizer: labels::IN_USE_FINALIZER,
            });
        }
        return;
    }
    let generation = r.metadata.generation.unwrap_or_default();
    let previous = r.status.clone().unwrap_or(TaskDefinitionRevisionStatus {
        observed_generation: conditions::UNOBSERVED,
        conditions: Vec::new(),
        status: RevisionLifecycle::Active,
        requires_attributes: Vec::new(),
    });
    let (status, standing, reason, message) = if deleting {
        let text =
            format!("{ecs_name} is deregistered, and kept while a service or a task uses it.");
        (
            RevisionLifecycle::Inactive,
            Standing::Reconciling,
            "Deregistered",
            text,
        )
    } else {
        (
            RevisionLifecycle::Active,
            Standing::Ready,
            "Registered",
            format!("{ecs_name} is ACTIVE."),
        )
    };
    let list = statements(&standing, reason, &message, None);
    let next = TaskDefinitionRevisionStatus {
        observed_generation: generation,
        conditions: conditions::merge(&previous.conditions, &list, generation, &time(now)),
        status,
        requires_attributes: requirements::of(&r.spec.definition)
            .into_iter()
            .map(|(name, value)| Attribute { name, value })
            .collect(),
    };
    plan.publish(target, &previous, &next);
}
