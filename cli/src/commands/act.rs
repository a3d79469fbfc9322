//! Commands that write one field that a user could write, too.

use std::time::{Duration, Instant};

use anyhow::{Result, anyhow, bail};
use jiff::Timestamp;
use kube::api::ListParams;
use serde_json::json;
use tallyman_crds::{
    ContainerInstance, DesiredInstanceStatus, InstanceStatus, LastStatus, RunTask, Service, Task,
    labels,
};

use super::look::service_and_revisions;
use super::{Interrupts, PERIOD, print};
use crate::args::{Drain, Restart, Stop, Undo, Undrain};
use crate::history::Past;
use crate::outcome;
use crate::session::Session;
use crate::standing::followed;
use crate::subject::{Found, SubjectKind};
use crate::tree::host;
use crate::words::{count, label, name, unreadable};

pub(super) async fn undo(session: &Session, args: &Undo) -> Result<u8> {
    let (service, revisions, unread) = service_and_revisions(session, &args.name).await?;
    let past = Past::of(&service, &revisions).map_err(|why| anyhow!(why))?;
    let subject = name(&service.metadata);
    if let (false, None, Some(unread)) = (args.follow, args.to_revision, unread.first()) {
        bail!(
            "nobody can say which revision was before: {}; give --to-revision",
            unreadable("TaskDefinitionRevision", unread)
        );
    }
    let to = if args.follow {
        past.family.clone()
    } else {
        past.back(&service, args.to_revision)
            .map_err(|why| anyhow!(why))?
    };
    let now = service.spec.task_definition.as_deref().unwrap_or_default();
    if now == to {
        print(&format!(
            "service {subject} names {to} already; nothing was changed\n"
        ))?;
        return Ok(outcome::DONE);
    }
    let followed = followed(&service).is_some();
    let _: Service = session
        .merge(subject, &json!({ "spec": { "taskDefinition": to } }))
        .await?;
    print(&format!(
        "service {subject}: taskDefinition {now} -> {to}\n"
    ))?;
    if args.follow {
        eprintln!("It follows the latest revision of {to} again.");
    } else if followed {
        eprintln!(
            "It is pinned to {to} now, and later revisions of {} do not reach it; `kubectl tally undo {subject} --follow` ends that.",
            past.family
        );
    }
    eprintln!("`kubectl tally status {subject}` waits until it is deployed.");
    Ok(outcome::DONE)
}

pub(super) async fn restart(session: &Session, args: &Restart) -> Result<u8> {
    let Found::Service(service) = session.find(&args.name, &[SubjectKind::Service]).await? else {
        bail!("`{}` is no service", args.name);
    };
    let subject = name(&service.metadata);
    let annotations = json!({ labels::RESTARTED_AT: Timestamp::now().to_string() });
    let patch = json!({ "metadata": { "annotations": annotations } });
    let _: Service = session.merge(subject, &patch).await?;
    print(&format!("service {subject} restarts\n"))?;
    if service.spec.paused == Some(true) {
        eprintln!("It is paused (`spec.paused`): the restart begins once it is not.");
    }
    Ok(outcome::DONE)
}

/// Asks for the end of a task (ECS StopTask).
pub(super) async fn stop_task(session: &Session, task: &Task, reason: &str) -> Result<bool> {
    let last = task
        .status
        .as_ref()
        .map(|s| s.last_status)
        .unwrap_or_default();
    if last == LastStatus::Stopped
        || task.spec.desired_status == tallyman_crds::DesiredStatus::Stopped
    {
        return Ok(false);
    }
    let spec =
        json!({ "desiredStatus": "STOPPED", "stopCode": "UserInitiated", "stoppedReason": reason });
    let _: Task = session
        .merge(name(&task.metadata), &json!({ "spec": spec }))
        .await?;
    Ok(true)
}

/// Tasks of a run.
pub(super) async fn tasks_of_run(session: &Session, run: &RunTask) -> Result<Vec<Task>> {
    let of = format!("{}={}", labels::RUN_TASK, name(&run.metadata));
    session.list(&ListParams::default().labels(&of)).await
}

/// Stops every task of a run. One that was made a moment ago has no tasks yet: they are waited for.
async fn stop_run(session: &Session, subject: &str, reason: &str) -> Result<usize> {
    let began = Instant::now();
    let mut stopped = 0;
    loop {
        let run: RunTask = session.need(subject).await?;
        for task in tasks_of_run(session, &run).await? {
            stopped += usize::from(stop_task(session, &task, reason).await?);
        }
        let status = run.status.clone().unwrap_or_default();
        let wanted = usize::try_from(run.spec.count.unwrap_or(1)).unwrap_or(1);
        if status.completion_time.is_some() || status.tasks.len() >= wanted {
            return Ok(stopped);
        }
        if began.elapsed() >= Duration::from_secs(10) {
            eprintln!(
                "{} of {wanted} copies have not started; `kubectl delete runtask {subject}` ends a run that waits.",
                wanted - status.tasks.len()
            );
            return Ok(stopped);
        }
        tokio::time::sleep(PERIOD).await;
    }
}

pub(super) async fn stop(session: &Session, args: &Stop) -> Result<u8> {
    let kinds = [SubjectKind::Task, SubjectKind::Run];
    match session.find(&args.name, &kinds).await? {
        Found::Task(task) => {
            let subject = name(&task.metadata);
            if !stop_task(session, &task, &args.reason).await? {
                print(&format!("task {subject} has stopped, or is stopping\n"))?;
                return Ok(outcome::DONE);
            }
            print(&format!("task {subject} stops\n"))?;
            if let Some(service) = label(&task.metadata, labels::SERVICE) {
                eprintln!(
                    "Service {service} starts another one in its place; `kubectl scale tsvc {service} --replicas=N` changes how many there are."
                );
            }
        }
        Found::Run(run) => {
            let subject = name(&run.metadata);
            let stopped = stop_run(session, subject, &args.reason).await?;
            print(&format!(
                "run {subject}: {} to stop\n",
                count(stopped, "task")
            ))?;
        }
        Found::Service(_) => bail!("`{}` is a service", args.name),
    }
    Ok(outcome::DONE)
}

async fn set(
    session: &Session,
    given: &str,
    wanted: DesiredInstanceStatus,
) -> Result<ContainerInstance> {
    let host = given.rsplit('/').next().unwrap_or(given);
    let _: ContainerInstance = session.need(host).await?;
    session
        .merge(host, &json!({ "spec": { "status": wanted } }))
        .await
}

pub(super) async fn drain(session: &Session, args: &Drain) -> Result<u8> {
    let instance = set(session, &args.host, DesiredInstanceStatus::Draining).await?;
    let host = name(&instance.metadata).to_owned();
    print(&format!("host {host} drains\n"))?;
    if !args.wait {
        return Ok(outcome::DONE);
    }
    let generation = instance.metadata.generation;
    wait_until_empty(session, &host, generation, args.timeout).await
}

/// Waits until no task is left on a host.
async fn wait_until_empty(
    session: &Session,
    given: &str,
    generation: Option<i64>,
    timeout: Duration,
) -> Result<u8> {
    let began = Instant::now();
    let mut interrupts = Interrupts::new()?;
    let mut said = String::new();
    loop {
        let instance: ContainerInstance = session.need(given).await?;
        if instance.spec.status == DesiredInstanceStatus::Active {
            bail!("somebody made host {given} ACTIVE again");
        }
        // A user's own task has no label of its host.
        let on = ListParams::default().labels(&format!("{}={given}", labels::CONTAINER_INSTANCE));
        let own = ListParams::default().labels(&format!("!{}", labels::CONTAINER_INSTANCE));
        let (placed, own) =
            futures::try_join!(session.listed::<Task>(&on), session.listed::<Task>(&own))?;
        // Nobody knows where they are, so the host may not be empty.
        let mut unread = placed.unread.iter().chain(&own.unread);
        if let Some(unread) = unread.next() {
            bail!(
                "nobody can say whether host {given} is empty: {}",
                unreadable("Task", unread)
            );
        }
        let all = placed.items.into_iter().chain(own.items);
        let left: Vec<Task> = all
            .filter(|t| host(t) == given)
            .filter(|t| {
                t.status
                    .as_ref()
                    .is_none_or(|s| s.last_status != LastStatus::Stopped)
            })
            .collect();
        let status = instance.status.unwrap_or_default();
        // Until the operator has seen the change it may still place tasks there.
        let seen = generation.is_some_and(|g| status.observed_generation >= g)
            && status.status == InstanceStatus::Draining;
        if seen && left.is_empty() {
            print(&format!("host {given} is empty\n"))?;
            return Ok(outcome::DONE);
        }
        let alone = left
            .iter()
            .filter(|t| label(&t.metadata, labels::SERVICE).is_none());
        let alone: Vec<&str> = alone.map(|t| name(&t.metadata)).collect();
        let mut text = format!("host {given}: {} left", count(left.len(), "task"));
        if !alone.is_empty() {
            text.push_str(&format!(
                ", of which {} belong to no service and stay until they end: {} (`kubectl tally stop` ends them)",
                alone.len(),
                alone.join(", ")
            ));
        }
        if text != said {
            eprintln!("{text}");
            said = text;
        }
        if began.elapsed() >= timeout {
            print(&format!("after {} s: {said}\n", timeout.as_secs()))?;
            return Ok(outcome::TIMED_OUT);
        }
        if !interrupts.pause(PERIOD).await {
            return Ok(outcome::INTERRUPTED);
        }
    }
}

pub(super) async fn undrain(session: &Session, args: &Undrain) -> Result<u8> {
    let instance = set(session, &args.host, DesiredInstanceStatus::Active).await?;
    print(&format!(
        "host {} takes tasks again\n",
        name(&instance.metadata)
    ))?;
    Ok(outcome::DONE)
}
