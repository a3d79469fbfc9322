//! What applying something would do: objects that change, and what follows for services, runs and hosts.
//!
//! What would happen anyway is not a consequence of what is applied: the future with the change is held against the future
//! without it.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use tallyman_crds::conditions::{READY, STALLED};
use tallyman_crds::{DesiredStatus, LastStatus, Task, labels};
use tallyman_operator_core::Objects;
use tallyman_operator_core::names::{InstanceName, RunTaskName, ServiceName};
use tallyman_operator_core::placement::Ledger;
use tallyman_operator_core::questions::{self, Question};
use tallyman_operator_core::world::{cluster_name, cluster_names};

use crate::diff::Difference;
use crate::explain::{Answer, answers, table_of};
use crate::session::world;
use crate::standing::{condition, holds};
use crate::table::{Paint, Table, Tone};
use crate::words::{count, label, name, resource};

/// What becomes of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verb {
    /// It is new.
    Create,
    /// It is changed.
    Change,
    /// It stays as it is.
    Keep,
}

/// An object that is applied.
#[derive(Clone, Debug, Serialize)]
pub struct Change {
    /// Group of its kind; empty for that of Kubernetes' first kinds.
    pub group: String,
    /// Kind.
    pub kind: String,
    /// Name.
    pub name: String,
    /// What becomes of it.
    pub verb: Verb,
    /// What is different.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub differences: Vec<Difference>,
}

/// What follows.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Forecast {
    /// Objects that are applied.
    pub objects: Vec<Change>,
    /// Revisions that are registered.
    pub revisions: Vec<String>,
    /// Services for which something follows.
    pub services: Vec<Outlook>,
    /// Runs and single tasks for which something follows.
    pub runs: Vec<Outlook>,
    /// Hosts of which more or less is left.
    pub hosts: Vec<Room>,
    /// What else is to be said.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

/// What follows for a service, a run or a task.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Outlook {
    /// `service web`.
    pub subject: String,
    /// Revision that it runs now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub before: Option<String>,
    /// Revision that it runs then.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
    /// Tasks that start, with their hosts.
    pub start: BTreeMap<String, String>,
    /// Tasks that stop, with their hosts.
    pub stop: BTreeMap<String, String>,
    /// Why it does not come to what is wanted, in sentences of the operator.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trouble: Option<String>,
    /// What hosts answer to a task that finds none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub hosts: Vec<Answer>,
}

/// What is left on a host, now and then.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Room {
    /// The host.
    pub host: String,
    /// CPU units.
    pub cpu: [i64; 2],
    /// MiB.
    pub memory: [i64; 2],
    /// Tasks.
    pub tasks: [usize; 2],
}

/// Tasks that are to run, with host and revision.
type Alive<'a> = BTreeMap<&'a str, (&'a str, &'a str)>;

fn alive<'a>(objects: &'a Objects, key: &str, owner: &str) -> Alive<'a> {
    let tasks = objects
        .tasks
        .iter()
        .filter(|t| label(&t.metadata, key) == Some(owner));
    tasks
        .filter(|t| is_to_run(t))
        .map(|t| {
            (
                name(&t.metadata),
                (crate::tree::host(t), t.spec.task_definition.as_str()),
            )
        })
        .collect()
}

fn is_to_run(t: &Task) -> bool {
    let last = t.status.as_ref().map(|s| s.last_status).unwrap_or_default();
    t.spec.desired_status == DesiredStatus::Running
        && last != LastStatus::Stopped
        && t.metadata.deletion_timestamp.is_none()
}

/// Those of `all` that are not in `of`.
fn without(all: &Alive<'_>, of: &Alive<'_>) -> BTreeMap<String, String> {
    let new = all.iter().filter(|(task, _)| !of.contains_key(*task));
    new.map(|(task, (host, _))| ((*task).to_owned(), (*host).to_owned()))
        .collect()
}

/// The whole forecast. `now`: objects as they are; `anyway`: as they come to be without the change; `then`: with it.
pub fn forecast(
    changes: Vec<Change>,
    now: &Objects,
    anyway: &Objects,
    then: &Objects,
    namespace: &str,
) -> Forecast {
    let applied = |kind: &str, name: &str| changes.iter().any(|c| c.kind == kind && c.name == name);
    let mut forecast = Forecast::default();
    let known: BTreeSet<&str> = anyway.revisions.iter().map(|r| name(&r.metadata)).collect();
    let new = then
        .revisions
        .iter()
        .filter(|r| !known.contains(name(&r.metadata)));
    forecast.revisions = new
        .map(|r| tallyman_crds::names::family_revision(&r.spec.family, r.spec.revision))
        .collect();
    let names: BTreeSet<&str> = [now, then]
        .iter()
        .flat_map(|o| &o.services)
        .map(|s| name(&s.metadata))
        .collect();
    for service in names {
        let (outlook, otherwise) = of_service(service, now, anyway, then, namespace);
        if outlook != otherwise || (applied("Service", service) && outlook.trouble.is_some()) {
            forecast.services.push(outlook);
        }
    }
    for c in changes.iter().filter(|c| c.verb != Verb::Keep) {
        match c.kind.as_str() {
            "RunTask" => forecast.runs.extend(of_run(&c.name, now, then, namespace)),
            "Task" => forecast.runs.extend(of_task(&c.name, then, namespace)),
            "TaskDefinition" => forecast.notes.extend(refused(&c.name, then)),
            _ => {}
        }
    }
    forecast.hosts = rooms(now, then, namespace);
    forecast.objects = changes;
    forecast
}

/// The sentence of a task definition that is not accepted.
fn refused(definition: &str, then: &Objects) -> Option<String> {
    let found = then
        .task_definitions
        .iter()
        .find(|d| name(&d.metadata) == definition)?;
    let stalled = holds(&found.status.as_ref()?.conditions, STALLED)?;
    Some(format!(
        "Task definition {definition} is not accepted: {}",
        stalled.message
    ))
}

/// What follows for a service with the change, and without it.
fn of_service(
    service: &str,
    now: &Objects,
    anyway: &Objects,
    then: &Objects,
    namespace: &str,
) -> (Outlook, Outlook) {
    let running = alive(now, labels::SERVICE, service);
    let outlook = |future: &Objects| {
        let later = alive(future, labels::SERVICE, service);
        let find = |o: &Objects| {
            o.services
                .iter()
                .find(|s| name(&s.metadata) == service)
                .cloned()
        };
        let revision = |o: &Objects| find(o)?.status.as_ref()?.task_definition.clone();
        let mut outlook = Outlook {
            subject: format!("service {service}"),
            before: revision(now),
            after: revision(future),
            start: without(&later, &running),
            stop: without(&running, &later),
            ..Outlook::default()
        };
        let Some(s) = find(future) else {
            return outlook;
        };
        let conditions = s
            .status
            .as_ref()
            .map_or(&[][..], |s| s.conditions.as_slice());
        let ready = condition(conditions, READY);
        if let Some(c) = ready.filter(|_| holds(conditions, READY).is_none()) {
            outlook.trouble = Some(c.message.clone());
            if c.reason == "TasksNotPlaceable" {
                let cluster = cluster_name(s.spec.cluster.as_deref());
                let ask = |w: &_| questions::of_service(w, &ServiceName::from(service));
                outlook.hosts = asked(future, namespace, cluster, ask);
            }
        }
        outlook
    };
    (outlook(then), outlook(anyway))
}

/// What hosts answer that do not take the task.
fn asked(
    objects: &Objects,
    namespace: &str,
    cluster: &str,
    ask: impl Fn(&tallyman_operator_core::World) -> Result<Question, String>,
) -> Vec<Answer> {
    let world = world(objects, namespace, cluster);
    let question = ask(&world);
    let all = question
        .map(|q| answers(&world, &Ledger::of(&world), &q))
        .unwrap_or_default();
    all.into_iter().filter(|a| !a.refusals.is_empty()).collect()
}

fn of_run(run: &str, now: &Objects, then: &Objects, namespace: &str) -> Option<Outlook> {
    let found = then.run_tasks.iter().find(|r| name(&r.metadata) == run)?;
    let status = found.status.as_ref()?;
    let running = alive(now, labels::RUN_TASK, run);
    let later = alive(then, labels::RUN_TASK, run);
    let stalled = holds(&status.conditions, STALLED);
    let waits = condition(&status.conditions, READY)
        .filter(|c| c.reason == "WaitingForCapacity" || !status.failures.is_empty());
    let trouble = stalled.or(waits).map(|c| c.message.clone());
    let hosts = if trouble.is_some() {
        let cluster = cluster_name(found.spec.cluster.as_deref());
        asked(then, namespace, cluster, |w| {
            questions::of_run(w, &RunTaskName::from(run))
        })
    } else {
        Vec::new()
    };
    Some(Outlook {
        subject: format!("run {run}"),
        after: status.task_definition.clone(),
        start: without(&later, &running),
        trouble,
        hosts,
        ..Outlook::default()
    })
}

fn of_task(task: &str, then: &Objects, namespace: &str) -> Option<Outlook> {
    let found = then.tasks.iter().find(|t| name(&t.metadata) == task)?;
    let host = crate::tree::host(found).to_owned();
    let stopped = found
        .status
        .as_ref()
        .filter(|s| s.last_status == LastStatus::Stopped);
    let trouble = stopped.and_then(|s| s.stopped_reason.clone());
    let start = if is_to_run(found) && !host.is_empty() {
        [(task.to_owned(), host)].into()
    } else {
        BTreeMap::new()
    };
    let cluster = cluster_name(found.spec.cluster.as_deref());
    let ask = |w: &_| questions::of_task(w, &task.into());
    Some(Outlook {
        subject: format!("task {task}"),
        after: Some(found.spec.task_definition.clone()),
        start,
        hosts: if trouble.is_some() {
            asked(then, namespace, cluster, ask)
        } else {
            Vec::new()
        },
        trouble,
        ..Outlook::default()
    })
}

/// Hosts of which more or less is left then.
fn rooms(now: &Objects, then: &Objects, namespace: &str) -> Vec<Room> {
    let mut rooms = Vec::new();
    for cluster in cluster_names(then) {
        let worlds = [now, then].map(|o| world(o, namespace, &cluster));
        let ledgers = worlds.each_ref().map(Ledger::of);
        let hosts: Vec<InstanceName> = worlds[1].instances.keys().cloned().collect();
        for host in hosts {
            let left = [0, 1].map(|i: usize| ledgers[i].remaining(&host).unwrap_or_default());
            let tasks =
                [0, 1].map(|i: usize| worlds[i].tasks_on(&host).filter(|(_, t)| t.holds()).count());
            let room = Room {
                host: host.to_string(),
                cpu: left.each_ref().map(|r| r.cpu),
                memory: left.each_ref().map(|r| r.memory),
                tasks,
            };
            if room.cpu[0] != room.cpu[1]
                || room.memory[0] != room.memory[1]
                || tasks[0] != tasks[1]
            {
                rooms.push(room);
            }
        }
    }
    rooms
}

impl Outlook {
    fn text(&self, wide: bool, paint: Paint) -> String {
        let revisions = match (&self.before, &self.after) {
            (Some(before), Some(after)) if before != after => format!(": {before} -> {after}"),
            (_, Some(after)) => format!(": {after}"),
            (Some(before), None) => format!(": {before}"),
            (None, None) => String::new(),
        };
        let mut text = format!("{}{revisions}\n", self.subject);
        let mut say = |verb: &str, tasks: &BTreeMap<String, String>, tone: Tone| {
            if tasks.is_empty() {
                return;
            }
            let mut by_host: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
            for (task, host) in tasks {
                by_host.entry(host).or_default().push(task);
            }
            let head = format!("{verb} {}", count(tasks.len(), "task"));
            text.push_str(&format!("  {}\n", paint.paint(&head, tone)));
            for (host, tasks) in by_host {
                let shown = tasks.len().min(8);
                let more = tasks.len() - shown;
                let more = if more > 0 {
                    format!(" and {more} more")
                } else {
                    String::new()
                };
                text.push_str(&format!(
                    "    on {host}: {}{more}\n",
                    tasks[..shown].join(", ")
                ));
            }
        };
        say("start", &self.start, Tone::Good);
        say("stop", &self.stop, Tone::Moving);
        if let Some(trouble) = &self.trouble {
            text.push_str(&format!("  {} {trouble}\n", paint.paint("but", Tone::Bad)));
        }
        if !self.hosts.is_empty() {
            let table = table_of(&self.hosts).text(wide, paint);
            table
                .lines()
                .for_each(|line| text.push_str(&format!("    {line}\n")));
        }
        text
    }
}

impl Forecast {
    /// Names of the objects that would be made or changed, a line each.
    pub fn names(&self) -> String {
        let changed = self.objects.iter().filter(|c| c.verb != Verb::Keep);
        changed
            .map(|c| resource(&c.group, &c.kind, &c.name) + "\n")
            .collect()
    }

    /// Applying it would change something.
    pub fn changes(&self) -> bool {
        self.objects.iter().any(|c| c.verb != Verb::Keep)
            || !self.revisions.is_empty()
            || self
                .services
                .iter()
                .any(|s| !s.start.is_empty() || !s.stop.is_empty())
    }

    /// For people.
    pub fn text(&self, wide: bool, paint: Paint) -> String {
        let mut text = String::new();
        for c in &self.objects {
            let (word, tone) = match c.verb {
                Verb::Create => ("new", Tone::Good),
                Verb::Change => ("changed", Tone::Moving),
                Verb::Keep => ("unchanged", Tone::Dim),
            };
            text.push_str(&format!(
                "{}/{} {}\n",
                c.kind,
                c.name,
                paint.paint(word, tone)
            ));
            for d in &c.differences {
                text.push_str(&format!("  {}\n", d.text()));
            }
        }
        if !self.changes() {
            text.push_str("\nNothing would change.\n");
        }
        for revision in &self.revisions {
            text.push_str(&format!("\nrevision {revision} is registered\n"));
        }
        for outlook in self.services.iter().chain(&self.runs) {
            text.push_str(&format!("\n{}", outlook.text(wide, paint)));
        }
        if !self.hosts.is_empty() {
            let mut table = Table::new(&["HOST", "CPU FREE", "MEMORY FREE", "TASKS"], &[]);
            for r in &self.hosts {
                let [cpu, memory] = [r.cpu, r.memory].map(|[a, b]| format!("{a} -> {b}"));
                let tasks = format!("{} -> {}", r.tasks[0], r.tasks[1]);
                table.rows.push(vec![
                    r.host.as_str().into(),
                    cpu.into(),
                    memory.into(),
                    tasks.into(),
                ]);
            }
            text.push_str(&format!("\n{}", table.text(wide, paint)));
        }
        for note in &self.notes {
            text.push_str(&format!("\n{note}\n"));
        }
        text
    }
}
