//! Services, runs and single tasks as a tree: deployments, tasks, containers.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::Timestamp;
use tallyman_crds::conditions::{READY, STALLED};
use tallyman_crds::{
    ConditionStatus, ContainerStatus, HealthStatus, LastStatus, RunTask, Service, StopCode, Task,
    labels,
};
use tallyman_operator_core::Objects;

use crate::standing::{condition, holds};
use crate::table::{Cell, Data, Listing, Table, Tone, object};
use crate::words::{age, age_of, label, name, ours, word};

/// How many STOPPED tasks of a service are shown unless all are asked for.
const FAILED_SHOWN: usize = 2;

/// What to show.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Scope<'a> {
    /// Everything.
    #[default]
    All,
    /// One service.
    Service(&'a str),
    /// One run.
    Run(&'a str),
    /// One task.
    Task(&'a str),
}

/// A listing of all that is shown: the tree, and the objects of it, services first, then runs, then tasks. `all` is of the tree
/// alone: programs get every task.
pub fn listing(objects: &Objects, scope: Scope<'_>, all: bool, now: Timestamp) -> Listing {
    let services = objects
        .services
        .iter()
        .filter(|s| scope == Scope::All || scope == Scope::Service(name(&s.metadata)));
    let runs = objects
        .run_tasks
        .iter()
        .filter(|r| scope == Scope::All || scope == Scope::Run(name(&r.metadata)));
    let tasks = objects.tasks.iter().filter(|t| match scope {
        Scope::All => true,
        Scope::Service(s) => label(&t.metadata, labels::SERVICE) == Some(s),
        Scope::Run(r) => label(&t.metadata, labels::RUN_TASK) == Some(r),
        Scope::Task(one) => name(&t.metadata) == one,
    });
    let (mut names, mut items) = (Vec::new(), Vec::new());
    for s in services {
        names.push(ours(&**s));
        items.push(object(&**s));
    }
    for r in runs {
        names.push(ours(&**r));
        items.push(object(&**r));
    }
    for t in tasks {
        names.push(ours(&**t));
        items.push(object(&**t));
    }
    Listing {
        table: tree(objects, scope, all, now),
        names,
        data: Data::Objects(items),
    }
}

/// A line of the tree, with what is below it.
#[derive(Clone, Debug)]
struct Node {
    /// All columns but for the branches before the name.
    cells: Vec<Cell>,
    below: Vec<Node>,
}

/// The tree as a table. `all`: STOPPED tasks of services, too.
pub fn tree(objects: &Objects, scope: Scope<'_>, all: bool, now: Timestamp) -> Table {
    let by = Grouped::of(&objects.tasks);
    let mut roots = Vec::new();
    for s in &objects.services {
        if scope == Scope::All || scope == Scope::Service(name(&s.metadata)) {
            let tasks = by
                .services
                .get(name(&s.metadata))
                .map_or(&[][..], Vec::as_slice);
            roots.push(service(s, tasks, all, now));
        }
    }
    for r in &objects.run_tasks {
        if scope == Scope::All || scope == Scope::Run(name(&r.metadata)) {
            let tasks = by
                .runs
                .get(name(&r.metadata))
                .map_or(&[][..], Vec::as_slice);
            roots.push(run(r, tasks, now));
        }
    }
    for t in &objects.tasks {
        let single = by.singles.contains(name(&t.metadata));
        if scope == Scope::Task(name(&t.metadata)) || (scope == Scope::All && single) {
            roots.push(task(t, now));
        }
    }
    let headings = ["NAME", "STATUS", "HEALTH", "HOST", "AGE", "INFO"];
    let mut table = Table::new(&headings, &["CONTAINER ID"]);
    for root in roots {
        draw(root, "", "", &mut table);
    }
    table
}

/// Tasks by whose they are.
struct Grouped<'a> {
    services: BTreeMap<&'a str, Vec<&'a Task>>,
    runs: BTreeMap<&'a str, Vec<&'a Task>>,
    singles: BTreeSet<&'a str>,
}

impl Grouped<'_> {
    fn of(tasks: &[Arc<Task>]) -> Grouped<'_> {
        let mut by = Grouped {
            services: BTreeMap::new(),
            runs: BTreeMap::new(),
            singles: BTreeSet::new(),
        };
        for t in tasks {
            let of = |key| label(&t.metadata, key);
            match (of(labels::SERVICE), of(labels::RUN_TASK)) {
                (Some(service), _) => by.services.entry(service).or_default().push(t),
                (None, Some(run)) => by.runs.entry(run).or_default().push(t),
                (None, None) => {
                    by.singles.insert(name(&t.metadata));
                }
            }
        }
        by
    }
}

/// Writes a node and what is below it. `branch` is what its own line begins with, `margin` that of lines below.
fn draw(node: Node, branch: &str, margin: &str, table: &mut Table) {
    let mut cells = node.cells;
    if let Some(first) = cells.first_mut() {
        first.text = format!("{branch}{}", first.text);
    }
    table.rows.push(cells);
    let last = node.below.len().saturating_sub(1);
    for (i, below) in node.below.into_iter().enumerate() {
        let (own, further) = if i == last {
            ("└─ ", "   ")
        } else {
            ("├─ ", "│  ")
        };
        draw(
            below,
            &format!("{margin}{own}"),
            &format!("{margin}{further}"),
            table,
        );
    }
}

fn service(s: &Service, tasks: &[&Task], all: bool, now: Timestamp) -> Node {
    let status = s.status.as_ref();
    let conditions = status.map_or(&[][..], |s| s.conditions.as_slice());
    let ready = condition(conditions, READY).map(|c| c.status);
    let state = match (holds(conditions, STALLED), ready) {
        (Some(_), _) => Cell::new("Stalled", Tone::Bad),
        (None, Some(ConditionStatus::True)) => Cell::new("Ready", Tone::Good),
        (None, Some(_)) => Cell::new("Reconciling", Tone::Moving),
        (None, None) => Cell::new("Unseen", Tone::Moving),
    };
    let counts = status.map(|s| format!("{}/{} running", s.running_count, s.desired_count));
    let message = status.and_then(|s| s.message.clone());
    let info = [counts, message]
        .into_iter()
        .flatten()
        .collect::<Vec<_>>()
        .join(", ");
    let mut parts: BTreeMap<String, Vec<&Task>> = BTreeMap::new();
    for t in tasks {
        let deployment = label(&t.metadata, labels::DEPLOYMENT).unwrap_or_default();
        parts
            .entry(format!("ecs-svc/{deployment}"))
            .or_default()
            .push(t);
    }
    let mut below = Vec::new();
    for d in status.map_or(&[][..], |s| s.deployments.as_slice()) {
        let tasks = parts.remove(&d.id).unwrap_or_default();
        let tone = match d.rollout_state {
            tallyman_crds::RolloutState::InProgress => Tone::Moving,
            tallyman_crds::RolloutState::Completed => Tone::Good,
            tallyman_crds::RolloutState::Failed => Tone::Bad,
        };
        let info = format!(
            "{}, {} of {} running",
            word(&d.rollout_state),
            d.running_count,
            d.desired_count
        );
        below.push(Node {
            cells: vec![
                format!("deployment {}", d.task_definition).into(),
                Cell::new(word(&d.status), tone),
                "".into(),
                "".into(),
                age(Some(&d.created_at), now).into(),
                info.into(),
            ],
            below: shown(&tasks, all, now),
        });
    }
    for set in status.map_or(&[][..], |s| s.task_sets.as_slice()) {
        let tasks = parts.remove(&set.id).unwrap_or_default();
        below.push(Node {
            cells: vec![
                format!(
                    "task set {} {}",
                    set.name,
                    set.task_definition.as_deref().unwrap_or_default()
                )
                .into(),
                word(&set.status).into(),
                "".into(),
                "".into(),
                "".into(),
                format!(
                    "{}, {} of {} running",
                    word(&set.stability_status),
                    set.running_count,
                    set.computed_desired_count
                )
                .into(),
            ],
            below: shown(&tasks, all, now),
        });
    }
    // Of deployments that the status has no more, or not yet.
    for tasks in parts.values() {
        let nodes = shown(tasks, all, now);
        let Some(t) = tasks.first().filter(|_| !nodes.is_empty()) else {
            continue;
        };
        below.push(Node {
            cells: vec![
                format!("earlier {}", t.spec.task_definition).into(),
                Cell::new("INACTIVE", Tone::Dim),
            ],
            below: nodes,
        });
    }
    Node {
        cells: vec![
            format!("service {}", name(&s.metadata)).into(),
            state,
            "".into(),
            "".into(),
            age_of(&s.metadata, now).into(),
            info.into(),
        ],
        below,
    }
}

/// Tasks that are shown of a part of a service: those that live, and the newest that failed, or all.
fn shown(tasks: &[&Task], all: bool, now: Timestamp) -> Vec<Node> {
    let failed: Vec<&Task> = tasks.iter().copied().filter(|t| is_failed(t)).collect();
    let newest: Vec<&str> = failed
        .iter()
        .rev()
        .take(FAILED_SHOWN)
        .map(|t| name(&t.metadata))
        .collect();
    let wanted =
        |t: &&&Task| all || last(t) != LastStatus::Stopped || newest.contains(&name(&t.metadata));
    tasks.iter().filter(wanted).map(|t| task(t, now)).collect()
}

fn last(t: &Task) -> LastStatus {
    t.status.as_ref().map(|s| s.last_status).unwrap_or_default()
}

/// It ended by itself, or never ran.
pub fn is_failed(t: &Task) -> bool {
    let code = t.status.as_ref().and_then(|s| s.stop_code);
    last(t) == LastStatus::Stopped
        && matches!(
            code,
            Some(
                StopCode::TaskFailedToStart
                    | StopCode::EssentialContainerExited
                    | StopCode::InfrastructureHealth
            )
        )
}

fn run(r: &RunTask, tasks: &[&Task], now: Timestamp) -> Node {
    let status = r.status.as_ref();
    let conditions = status.map_or(&[][..], |s| s.conditions.as_slice());
    use tallyman_crds::conditions::{COMPLETE, FAILED};
    let state = if holds(conditions, COMPLETE).is_some() {
        Cell::new("Complete", Tone::Good)
    } else if holds(conditions, FAILED).is_some() {
        Cell::new("Failed", Tone::Bad)
    } else if holds(conditions, STALLED).is_some() {
        Cell::new("Stalled", Tone::Bad)
    } else {
        Cell::new("Running", Tone::Moving)
    };
    let info = status.and_then(|s| s.message.clone()).unwrap_or_default();
    Node {
        cells: vec![
            format!("run {}", name(&r.metadata)).into(),
            state,
            "".into(),
            "".into(),
            age_of(&r.metadata, now).into(),
            info.into(),
        ],
        below: tasks.iter().map(|t| task(t, now)).collect(),
    }
}

/// The host of a task.
pub fn host(t: &Task) -> &str {
    let seen = t
        .status
        .as_ref()
        .and_then(|s| s.container_instance.as_deref());
    seen.or(t.spec.container_instance.as_deref())
        .unwrap_or_default()
}

fn task(t: &Task, now: Timestamp) -> Node {
    let status = t.status.clone().unwrap_or_default();
    let containers = status.containers.iter();
    Node {
        cells: vec![
            format!("task {}", name(&t.metadata)).into(),
            state(
                status.last_status,
                t.spec.desired_status == tallyman_crds::DesiredStatus::Stopped,
            ),
            health(status.health_status),
            host(t).into(),
            age_of(&t.metadata, now).into(),
            info(t).into(),
        ],
        below: containers.map(container).collect(),
    }
}

/// What there is to say of a task: its ports while it runs, why it stopped, or what it waits for.
pub fn info(t: &Task) -> String {
    let Some(status) = &t.status else {
        return "not taken on yet".to_owned();
    };
    match status.last_status {
        LastStatus::Running => status.ports.clone().unwrap_or_default(),
        LastStatus::Stopped => status.stopped_reason.clone().unwrap_or_default(),
        LastStatus::Provisioning
        | LastStatus::Pending
        | LastStatus::Activating
        | LastStatus::Deactivating
        | LastStatus::Stopping
        | LastStatus::Deprovisioning => {
            let ready = condition(&status.conditions, READY);
            ready.map(|c| c.message.clone()).unwrap_or_default()
        }
    }
}

fn state(last: LastStatus, leaving: bool) -> Cell {
    let tone = match last {
        LastStatus::Running if !leaving => Tone::Good,
        LastStatus::Stopped => Tone::Dim,
        LastStatus::Running
        | LastStatus::Provisioning
        | LastStatus::Pending
        | LastStatus::Activating
        | LastStatus::Deactivating
        | LastStatus::Stopping
        | LastStatus::Deprovisioning => Tone::Moving,
    };
    Cell::new(last.as_str(), tone)
}

fn health(health: HealthStatus) -> Cell {
    match health {
        HealthStatus::Healthy => Cell::new("HEALTHY", Tone::Good),
        HealthStatus::Unhealthy => Cell::new("UNHEALTHY", Tone::Bad),
        HealthStatus::Unknown => "".into(),
    }
}

/// A container's id as `docker ps` prints it.
fn short_id(c: &ContainerStatus) -> &str {
    let id = c.runtime_id.as_deref().unwrap_or_default();
    id.get(..12).unwrap_or(id)
}

fn container(c: &ContainerStatus) -> Node {
    let exit = c.exit_code.map(|code| format!("exit {code}"));
    let info = [exit, c.reason.clone()]
        .into_iter()
        .flatten()
        .collect::<Vec<_>>()
        .join(", ");
    let info = if info.is_empty() {
        c.image.clone().unwrap_or_default()
    } else {
        info
    };
    Node {
        cells: vec![
            format!("container {}", c.name).into(),
            state(c.last_status, false),
            health(c.health_status),
            "".into(),
            "".into(),
            info.into(),
            short_id(c).into(),
        ],
        below: Vec::new(),
    }
}
