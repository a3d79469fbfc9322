//! A memory that is told of what changes in a namespace, held against passes over everything.

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use tallyman_crds::sources::{SourceKind, SourceObject};
use tallyman_operator_core::{Change, Memory, Objects, Plan, Settings};

use super::{Bench, NAMESPACE};

/// The memory of a leader, and what it was told.
#[derive(Clone)]
pub struct Remembered {
    memory: Memory,
    told: Objects,
    settings: Settings,
    epoch: i64,
    /// Passes over everything that were needed.
    pub whole: usize,
    /// Passes over what changed.
    pub parts: usize,
}

impl Remembered {
    /// Nothing yet.
    pub fn new(bench: &Bench) -> Remembered {
        Remembered {
            memory: Memory::new(NAMESPACE, &bench.settings, bench.epoch),
            told: Objects::default(),
            settings: bench.settings.clone(),
            epoch: bench.epoch,
            whole: 0,
            parts: 0,
        }
    }

    /// A pass over what changed since the last one. What is remembered is what the objects say, and the plans are those of
    /// a pass over everything; they are returned.
    pub fn pass(&mut self, bench: &Bench) -> Vec<Plan> {
        if self.epoch != bench.epoch || self.settings != bench.settings {
            *self = Remembered {
                whole: self.whole,
                parts: self.parts,
                ..Remembered::new(bench)
            };
        }
        let objects = &bench.objects;
        let changes = changes(&self.told, objects);
        self.told = objects.clone();
        let mut fresh = Memory::new(NAMESPACE, &bench.settings, bench.epoch);
        let whole = fresh.pass_over(objects, bench.now);
        let text = brief(&changes);
        let silence = |host: &str| objects.silence.get(host).copied();
        let Some(part) = self.memory.pass(changes, silence, bench.now) else {
            self.whole += 1;
            return self.memory.pass_over(objects, bench.now);
        };
        self.parts += 1;
        if self.parts.is_multiple_of(3)
            && let Some(difference) = self.memory.differs_from(objects)
        {
            panic!("{difference}\nafter {text}");
        }
        same("actions", &part, &whole, &text, |p| {
            p.actions.iter().map(say).collect()
        });
        same("publications", &part, &whole, &text, |p| {
            p.publications.iter().map(say).collect()
        });
        same("notes", &part, &whole, &text, |p| {
            p.notes.iter().map(say).collect()
        });
        // It may ask to be woken for what has been settled since, and never too late.
        let wake = |plans: &[Plan]| plans.iter().filter_map(|p| p.wake_at).min();
        if let Some(at) = wake(&whole) {
            assert!(
                wake(&part).is_some_and(|part| part <= at),
                "wakes at {:?} instead of {at} after {text}",
                wake(&part)
            );
        }
        part
    }
}

/// Kinds and names.
fn brief(changes: &[Change]) -> String {
    let cut = |c: &Change| format!("{c:?}").split("Some(").next().unwrap().to_owned();
    changes.iter().map(cut).collect::<Vec<_>>().join(" ")
}

fn say(thing: &impl Debug) -> String {
    format!("{thing:?}")
}

fn same(
    what: &str,
    part: &[Plan],
    whole: &[Plan],
    changes: &str,
    tell: impl Fn(&Plan) -> Vec<String>,
) {
    let all = |plans: &[Plan]| plans.iter().flat_map(&tell).collect::<BTreeSet<_>>();
    let (part, whole) = (all(part), all(whole));
    let missing: Vec<_> = whole.difference(&part).collect();
    let surplus: Vec<_> = part.difference(&whole).collect();
    assert!(
        missing.is_empty() && surplus.is_empty(),
        "{what} missing: {missing:#?}\nsurplus: {surplus:#?}\nafter {changes}"
    );
}

/// What a watch would tell.
pub fn changes(old: &Objects, new: &Objects) -> Vec<Change> {
    let mut found = Vec::new();
    let mut definitions = Vec::new();
    diff(
        &old.clusters,
        &new.clusters,
        |o| &o.metadata,
        Change::Cluster,
        &mut found,
    );
    diff(
        &old.task_definitions,
        &new.task_definitions,
        |o| &o.metadata,
        |_, _| Change::Definition,
        &mut definitions,
    );
    diff(
        &old.revisions,
        &new.revisions,
        |o| &o.metadata,
        |_, _| Change::Definition,
        &mut definitions,
    );
    diff(
        &old.task_sets,
        &new.task_sets,
        |o| &o.metadata,
        |_, _| Change::TaskSet,
        &mut definitions,
    );
    diff(
        &old.services,
        &new.services,
        |o| &o.metadata,
        Change::Service,
        &mut found,
    );
    diff(
        &old.tasks,
        &new.tasks,
        |o| &o.metadata,
        Change::Task,
        &mut found,
    );
    diff(
        &old.run_tasks,
        &new.run_tasks,
        |o| &o.metadata,
        Change::RunTask,
        &mut found,
    );
    diff(
        &old.scheduled_tasks,
        &new.scheduled_tasks,
        |o| &o.metadata,
        Change::ScheduledTask,
        &mut found,
    );
    diff(
        &old.instances,
        &new.instances,
        |o| &o.metadata,
        Change::Instance,
        &mut found,
    );
    diff(
        &old.plans,
        &new.plans,
        |o| &o.metadata,
        Change::Plan,
        &mut found,
    );
    found.extend(definitions);
    let sources: BTreeSet<&SourceObject> = old.sources.keys().chain(new.sources.keys()).collect();
    for source in sources {
        if old.sources.get(source) != new.sources.get(source) {
            let meta = new.sources.get(source).map(|version| {
                Arc::new(ObjectMeta {
                    resource_version: Some(version.clone()),
                    ..ObjectMeta::default()
                })
            });
            found.push(Change::Source(source.kind, source.name.clone(), meta));
        }
    }
    let secrets: BTreeSet<&String> = old
        .host_secrets
        .keys()
        .chain(new.host_secrets.keys())
        .collect();
    for name in secrets {
        let meta = new.host_secrets.get(name);
        if old.host_secrets.get(name) != meta {
            found.push(Change::Source(
                SourceKind::Secret,
                name.clone(),
                meta.cloned(),
            ));
        }
    }
    let hosts: BTreeSet<&String> = old.silence.keys().chain(new.silence.keys()).collect();
    let other = hosts
        .into_iter()
        .filter(|host| old.silence.get(*host) != new.silence.get(*host));
    found.extend(other.map(|host| Change::Lease(host.clone())));
    found
}

fn diff<K>(
    old: &[Arc<K>],
    new: &[Arc<K>],
    meta: fn(&K) -> &ObjectMeta,
    change: impl Fn(String, Option<Arc<K>>) -> Change,
    found: &mut Vec<Change>,
) {
    let name = |o: &Arc<K>| meta(o).name.clone().unwrap();
    for o in new {
        if !old.iter().any(|known| Arc::ptr_eq(known, o)) {
            found.push(change(name(o), Some(o.clone())));
        }
    }
    for o in old {
        if !new.iter().any(|left| name(left) == name(o)) {
            found.push(change(name(o), None));
        }
    }
}

impl Bench {
    /// A pass of a memory that goes through the test with it: every test of a rule is one of what depends on what, too.
    pub fn remember(&mut self) {
        let known = self.remembered.take();
        let mut remembered = known.unwrap_or_else(|| Remembered::new(self));
        remembered.pass(self);
        self.remembered = Some(remembered);
    }

    /// Passes of its memory over everything, and over what changed.
    pub fn remembered(&self) -> (usize, usize) {
        let known = self.remembered.as_ref();
        known.map_or((0, 0), |r| (r.whole, r.parts))
    }
}
