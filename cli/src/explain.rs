//! Why something does not run, host by host. Every host is asked what a placement would ask it, by the operator's own checks.

use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;
use tallyman_crds::conditions::{READY, STALLED};
use tallyman_crds::{Condition, ConditionStatus, LastStatus, Task, labels};
use tallyman_operator_core::names::{RunTaskName, ServiceName, TaskName};
use tallyman_operator_core::placement::Ledger;
use tallyman_operator_core::questions::{self, Question};
use tallyman_operator_core::world::cluster_name;
use tallyman_operator_core::{Objects, World};

use crate::session::world;
use crate::standing::{condition, holds};
use crate::subject::Found;
use crate::table::{Cell, Paint, Table, Tone};
use crate::tree::{host, info, is_failed};
use crate::words::{age_of, label, list, name};

/// Why something does not run.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Explanation {
    /// What was asked about, such as `service web`.
    pub subject: String,
    /// Nothing is wrong with it.
    pub as_wanted: bool,
    /// What it says of itself, and what follows from it, in sentences.
    pub sentences: Vec<String>,
    /// What the next task of it asks of a host, in words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub asks: Option<String>,
    /// What every host answers to that.
    pub hosts: Vec<Answer>,
    /// Tasks that do not run, and why.
    pub tasks: Vec<Idle>,
}

/// What a host answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Answer {
    /// The host.
    pub host: String,
    /// Everything that keeps it from taking the task; nothing when it would.
    pub refusals: Vec<String>,
    /// The same in the words of ECS' `failures[].reason`.
    pub ecs_reasons: Vec<String>,
}

/// A task that does not run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Idle {
    /// Name.
    pub task: String,
    /// Where it is in its life.
    pub status: String,
    /// Its host.
    pub host: String,
    /// How old it is.
    #[serde(skip)]
    pub age: String,
    /// Why, a line for the task and for each container that says something.
    pub reasons: Vec<String>,
}

/// What every host of a cluster answers to a question; only those that it names, if it names any.
pub fn answers(world: &World, ledger: &Ledger, question: &Question) -> Vec<Answer> {
    let asked = world.instances.keys();
    let asked = asked.filter(|h| question.hosts.is_empty() || question.hosts.contains(h));
    asked
        .map(|host| {
            let refusals = ledger
                .objections(host, &question.request)
                .unwrap_or_default();
            let mut ecs: Vec<String> = refusals.iter().map(|r| r.ecs_reason().to_owned()).collect();
            ecs.dedup();
            Answer {
                host: host.to_string(),
                refusals: refusals
                    .iter()
                    .map(|r| r.of_one(&question.request))
                    .collect(),
                ecs_reasons: ecs,
            }
        })
        .collect()
}

/// A task's demand in words.
fn in_words(question: &Question) -> String {
    let demand = &question.request.demand;
    let mut parts = vec![
        format!("{} CPU units", demand.cpu),
        format!("{} MiB", demand.memory),
    ];
    let ports = demand.ports.iter().map(|p| format!("port {p}"));
    parts.extend(ports.chain(demand.ports_udp.iter().map(|p| format!("port {p}/udp"))));
    if demand.gpus > 0 {
        parts.push(format!("{} GPUs", demand.gpus));
    }
    if demand.gpu_memory > 0 {
        parts.push(format!("{} MiB of one GPU", demand.gpu_memory));
    }
    parts.extend(demand.attributes.iter().map(|(name, value)| match value {
        None => format!("attribute `{name}`"),
        Some(value) => format!("attribute `{name}={value}`"),
    }));
    let constraints = &question.request.rules.constraints;
    if constraints.distinct_instance {
        parts.push("a host of its own (`distinctInstance`)".to_owned());
    }
    parts.extend(
        constraints
            .member_of
            .iter()
            .map(|q| format!("`memberOf` {}", q.text())),
    );
    format!("A task of {} asks for {}.", question.revision, list(&parts))
}

/// Explains what was found.
pub fn explain(objects: &Objects, namespace: &str, found: &Found, now: Timestamp) -> Explanation {
    match found {
        Found::Service(s) => {
            let subject = name(&s.metadata);
            let status = s.status.as_ref();
            let conditions = status.map_or(&[][..], |s| s.conditions.as_slice());
            let mine = |t: &&Task| label(&t.metadata, labels::SERVICE) == Some(subject);
            let cluster = cluster_name(s.spec.cluster.as_deref());
            let world = world(objects, namespace, cluster);
            let question = questions::of_service(&world, &ServiceName::from(subject));
            let steady = holds(conditions, READY).is_some()
                && s.metadata.generation == status.map(|s| s.observed_generation);
            compose(
                format!("service {subject}"),
                conditions,
                steady,
                &world,
                Some(question),
                idle(objects, mine, now),
            )
        }
        Found::Run(r) => {
            let subject = name(&r.metadata);
            let status = r.status.as_ref();
            let conditions = status.map_or(&[][..], |s| s.conditions.as_slice());
            let mine = |t: &&Task| label(&t.metadata, labels::RUN_TASK) == Some(subject);
            let world = world(objects, namespace, cluster_name(r.spec.cluster.as_deref()));
            let ended = status.is_some_and(|s| s.completion_time.is_some());
            let question = (!ended).then(|| questions::of_run(&world, &RunTaskName::from(subject)));
            let good = holds(conditions, tallyman_crds::conditions::COMPLETE).is_some();
            let mut explanation = compose(
                format!("run {subject}"),
                conditions,
                good,
                &world,
                question,
                idle(objects, mine, now),
            );
            let failures = status.map_or(&[][..], |s| s.failures.as_slice());
            explanation.sentences.extend(failures.iter().map(|f| {
                let host = f.arn.as_deref().unwrap_or("no host");
                format!(
                    "Failure when it was placed: {host} {}. {}",
                    f.reason,
                    f.detail.as_deref().unwrap_or_default()
                )
            }));
            explanation
        }
        Found::Task(t) => of_task(objects, namespace, t, now),
    }
}

fn of_task(objects: &Objects, namespace: &str, t: &Task, now: Timestamp) -> Explanation {
    let subject = name(&t.metadata);
    let status = t.status.as_ref();
    let conditions = status.map_or(&[][..], |s| s.conditions.as_slice());
    let last = status.map(|s| s.last_status).unwrap_or_default();
    let world = world(objects, namespace, cluster_name(t.spec.cluster.as_deref()));
    let waits = host(t).is_empty() && last != LastStatus::Stopped;
    // One that named its host and got none is asked about, too.
    let refused =
        status.is_some_and(|s| s.container_instance.is_none()) && last == LastStatus::Stopped;
    let service = label(&t.metadata, labels::SERVICE);
    let ours = service.is_some() || label(&t.metadata, labels::RUN_TASK).is_some();
    let question =
        ((waits || refused) && !ours).then(|| questions::of_task(&world, &TaskName::from(subject)));
    let good = last == LastStatus::Running;
    let mine = |one: &&Task| name(&one.metadata) == subject && last != LastStatus::Running;
    let mut explanation = compose(
        format!("task {subject}"),
        conditions,
        good,
        &world,
        question,
        idle(objects, mine, now),
    );
    if explanation.tasks.is_empty() && !good {
        explanation.tasks.push(row(t, now));
    }
    if let Some(service) = service.filter(|_| last == LastStatus::Stopped) {
        explanation.sentences.push(format!(
            "A task that STOPPED is not started again; `kubectl tally explain service/{service}` says what became of its place."
        ));
    }
    explanation
}

fn compose(
    subject: String,
    conditions: &[Condition],
    as_wanted: bool,
    world: &World,
    question: Option<Result<Question, String>>,
    tasks: Vec<Idle>,
) -> Explanation {
    let mut sentences = Vec::new();
    let says = holds(conditions, STALLED).or_else(|| condition(conditions, READY));
    match says {
        Some(c) => {
            let stalled = if c.type_ == STALLED { "Stalled, " } else { "" };
            sentences.push(format!("{stalled}{}: {}", c.reason, c.message));
        }
        None => sentences.push(
            "The operator has not seen it yet; is one running? `kubectl tally doctor` says more."
                .to_owned(),
        ),
    }
    sentences.extend(
        conditions
            .iter()
            .filter(|c| {
                c.type_ == tallyman_crds::conditions::UNSUPPORTED_FIELDS
                    && c.status == ConditionStatus::True
            })
            .map(|c| c.message.clone()),
    );
    let mut asks = None;
    let mut hosts = Vec::new();
    match question {
        Some(Ok(question)) => {
            asks = Some(in_words(&question));
            hosts = answers(world, &Ledger::of(world), &question);
            let named = question.hosts.iter();
            let missing: Vec<_> = named
                .filter(|h| !world.instances.contains_key(*h))
                .collect();
            for host in &missing {
                sentences.push(format!(
                    "Host `{host}`, which it names, is not in cluster `{}`.",
                    world.cluster
                ));
            }
            if missing.is_empty() && hosts.is_empty() {
                sentences.push(format!(
                    "Cluster `{}` has no hosts; `kubectl tally join` lets one join.",
                    world.cluster
                ));
            }
        }
        Some(Err(why))
            if !sentences
                .iter()
                .any(|s| s.contains(why.trim_end_matches('.'))) =>
        {
            sentences.push(why)
        }
        Some(Err(_)) | None => {}
    }
    Explanation {
        subject,
        as_wanted,
        sentences,
        asks,
        hosts,
        tasks,
    }
}

/// Tasks that do not run: those on their way, and those that failed.
fn idle(objects: &Objects, mine: impl Fn(&&Task) -> bool, now: Timestamp) -> Vec<Idle> {
    let tasks = objects.tasks.iter().map(|t| &**t).filter(mine);
    let last = |t: &Task| t.status.as_ref().map(|s| s.last_status).unwrap_or_default();
    let tasks: Vec<&Task> = tasks
        .filter(|t| last(t) < LastStatus::Running || is_failed(t))
        .collect();
    // Of many that failed alike the newest tell enough.
    let skip = tasks.len().saturating_sub(10);
    tasks.into_iter().skip(skip).map(|t| row(t, now)).collect()
}

fn row(t: &Task, now: Timestamp) -> Idle {
    let status = t.status.clone().unwrap_or_default();
    let of_containers = status.containers.iter().filter_map(|c| {
        let code = c.exit_code.map(|code| format!("exit {code}"));
        let parts: Vec<String> = [code, c.reason.clone()].into_iter().flatten().collect();
        (!parts.is_empty()).then(|| format!("container {}: {}", c.name, parts.join(", ")))
    });
    let own = info(t);
    let own = (!own.is_empty()).then_some(own);
    Idle {
        task: name(&t.metadata).to_owned(),
        status: status.last_status.as_str().to_owned(),
        host: host(t).to_owned(),
        age: age_of(&t.metadata, now),
        reasons: own.into_iter().chain(of_containers).collect(),
    }
}

/// Hosts and what they answer, as a table.
pub fn table_of(answers: &[Answer]) -> Table {
    let mut table = Table::new(&["HOST", "ANSWER"], &["ECS REASON"]);
    for answer in answers {
        let answered = match answer.refusals.as_slice() {
            [] => Cell::new("takes it", Tone::Good),
            refusals => Cell::new(refusals.join("; "), Tone::Bad),
        };
        table.rows.push(vec![
            answer.host.as_str().into(),
            answered,
            answer.ecs_reasons.join(", ").into(),
        ]);
    }
    table
}

impl Explanation {
    /// For people.
    pub fn text(&self, wide: bool, paint: Paint) -> String {
        let tone = if self.as_wanted {
            Tone::Good
        } else {
            Tone::Bad
        };
        let word = if self.as_wanted {
            "as wanted"
        } else {
            "not as wanted"
        };
        let mut text = format!("{}: {}\n", self.subject, paint.paint(word, tone));
        for sentence in &self.sentences {
            text.push_str(&format!("  {sentence}\n"));
        }
        if let Some(asks) = &self.asks {
            text.push_str(&format!("\n{asks}\n"));
            if !self.hosts.is_empty() {
                text.push_str(&table_of(&self.hosts).text(wide, paint));
            }
        }
        if !self.tasks.is_empty() {
            text.push('\n');
            let mut table = Table::new(&["TASK", "STATUS", "HOST", "AGE", "WHY"], &[]);
            for t in &self.tasks {
                let mut reasons = t.reasons.iter();
                let first = reasons.next().cloned().unwrap_or_default();
                let cells = [&t.task, &t.status, &t.host, &t.age].map(|c| Cell::from(c.as_str()));
                table
                    .rows
                    .push(cells.into_iter().chain([first.into()]).collect());
                for more in reasons {
                    let empty = std::iter::repeat_n(Cell::default(), 4);
                    table
                        .rows
                        .push(empty.chain([more.as_str().into()]).collect());
                }
            }
            text.push_str(&table.text(wide, paint));
        }
        text
    }

    /// For programs.
    pub fn data(&self) -> Value {
        serde_json::to_value(self).unwrap_or_default()
    }
}
