//! `run`: a task definition once, as though it were a program here.

use std::time::Instant;

use anyhow::{Result, anyhow, bail};
use kube::api::{ListParams, PostParams};
use tallyman_crds::ecs::{ContainerOverride, KeyValuePair, TaskOverride};
use tallyman_crds::{
    LastStatus, RunTask, RunTaskCopy, RunTaskSpec, TaskDefinition, TaskDefinitionRevision,
    TaskDefinitionSpec,
};

use super::act::{stop_task, tasks_of_run};
use super::{Interrupts, PERIOD, print};
use crate::args::Run;
use crate::outcome;
use crate::session::{MANAGER, Session};
use crate::standing::{self, Standing};
use crate::words::name;

/// A run that is to be deleted goes by itself after so many seconds, should this program be gone by then.
const KEPT_AT_MOST: i32 = 600;

pub(super) async fn run(session: &Session, args: &Run) -> Result<u8> {
    let spec = RunTaskSpec {
        task_definition: args.task_definition.clone(),
        cluster: args.cluster.clone(),
        count: Some(args.count),
        started_by: Some(MANAGER.to_owned()),
        wait_for_capacity: args.wait_for_capacity.then_some(true),
        ttl_seconds_after_finished: args.rm.then_some(KEPT_AT_MOST),
        overrides: overrides(session, args).await?,
        ..RunTaskSpec::default()
    };
    let mut run = RunTask::new("", spec);
    match &args.name {
        Some(name) => run.metadata.name = Some(name.clone()),
        None => {
            run.metadata.name = None;
            run.metadata.generate_name = Some(prefix(&args.task_definition));
        }
    }
    let params = PostParams {
        field_manager: Some(MANAGER.to_owned()),
        ..PostParams::default()
    };
    let created = session.api::<RunTask>().create(&params, &run).await;
    let run = created.map_err(|e| session.explained(e, "runtasks"))?;
    let subject = name(&run.metadata);
    if args.detach {
        print(&format!("{subject}\n"))?;
        return Ok(outcome::DONE);
    }
    eprintln!("run {subject} started");
    let code = wait(session, args, subject).await;
    if args.rm {
        delete(session, subject).await?;
    }
    code
}

/// Begin of a name that the server completes: what of the family may stand in a name.
fn prefix(task_definition: &str) -> String {
    let short = task_definition
        .rsplit('/')
        .next()
        .unwrap_or(task_definition);
    let family = short
        .split(':')
        .next()
        .unwrap_or(short)
        .to_ascii_lowercase();
    let plain = |c: char| if c.is_ascii_alphanumeric() { c } else { '-' };
    let family: String = family.chars().map(plain).take(40).collect();
    format!("{}-", family.trim_matches('-'))
}

/// Changes for the one container that flags are about.
async fn overrides(session: &Session, args: &Run) -> Result<Option<TaskOverride>> {
    let changes = ContainerOverride {
        command: args.command.clone(),
        environment: args
            .env
            .iter()
            .map(|(name, value)| KeyValuePair {
                name: Some(name.clone()),
                value: Some(value.clone()),
            })
            .collect(),
        cpu: args.cpu,
        memory: args.memory,
        ..ContainerOverride::default()
    };
    if changes == ContainerOverride::default() {
        if args.container.is_some() {
            bail!(
                "--container says what --env, --cpu, --memory and a command are for, and none of these is given"
            );
        }
        return Ok(None);
    }
    let container = match &args.container {
        Some(container) => container.clone(),
        None => only_container(
            &definition(session, &args.task_definition).await?,
            &args.task_definition,
        )?,
    };
    Ok(Some(TaskOverride {
        container_overrides: vec![ContainerOverride {
            name: Some(container),
            ..changes
        }],
        ..TaskOverride::default()
    }))
}

/// The definition that is run.
async fn definition(session: &Session, given: &str) -> Result<TaskDefinitionSpec> {
    let short = given.rsplit('/').next().unwrap_or(given);
    let pinned = short
        .rsplit_once(':')
        .and_then(|(f, n)| Some((f, n.parse::<i64>().ok()?)));
    let all = &ListParams::default();
    let found = match pinned {
        Some((family, number)) => {
            let revisions: Vec<TaskDefinitionRevision> = session.list(all).await?;
            let mut revisions = revisions.into_iter();
            let found = revisions.find(|r| r.spec.family == family && r.spec.revision == number);
            found.map(|r| r.spec.definition)
        }
        None => {
            let definitions: Vec<TaskDefinition> = session.list(all).await?;
            let family = |d: &TaskDefinition| {
                d.spec
                    .family
                    .clone()
                    .unwrap_or_else(|| name(&d.metadata).to_owned())
            };
            definitions
                .into_iter()
                .find(|d| family(d) == short)
                .map(|d| d.spec)
        }
    };
    found.ok_or_else(|| {
        anyhow!(
            "there is no task definition `{given}` in namespace `{}`",
            session.namespace
        )
    })
}

/// The essential container, if it is one only.
fn only_container(definition: &TaskDefinitionSpec, given: &str) -> Result<String> {
    let all = definition.container_definitions.iter();
    let essential: Vec<&str> = all
        .filter(|c| c.essential != Some(false))
        .map(|c| c.name.as_str())
        .collect();
    match essential.as_slice() {
        [one] => Ok((*one).to_owned()),
        many => bail!(
            "`{given}` has {} essential containers; say with --container which one is meant: {}",
            many.len(),
            many.join(", ")
        ),
    }
}

/// Why waiting ended before the run did.
enum Cut {
    Interrupted,
    TimedOut,
}

async fn wait(session: &Session, args: &Run, subject: &str) -> Result<u8> {
    let began = Instant::now();
    let mut interrupts = Interrupts::new()?;
    let mut said = String::new();
    let mut cut = None;
    loop {
        let run: RunTask = session.need(subject).await?;
        let ended = run
            .status
            .as_ref()
            .is_some_and(|s| s.completion_time.is_some());
        let standing = standing::of_run(&run);
        // One copy may have failed while others run.
        let over = ended
            || (matches!(standing, Standing::Failed(_))
                && run.status.as_ref().is_none_or(|s| s.active == 0));
        if over {
            let code = end(&run);
            if !matches!(standing, Standing::Done(_)) {
                eprintln!("{}", standing.text());
            }
            return Ok(match cut {
                Some(cut) => code_of(&cut),
                None => code,
            });
        }
        if standing.text() != said {
            said = standing.text().to_owned();
            eprintln!("{said}");
        }
        if let Some(cut) = &cut {
            // A copy may have started since.
            let left = stop_all(session, &run, reason(cut)).await?;
            let seen = run
                .status
                .as_ref()
                .is_some_and(|s| s.observed_generation >= 0);
            if seen && left == 0 && args.wait_for_capacity {
                eprintln!("run {subject} waits for room and is deleted");
                delete(session, subject).await?;
                return Ok(code_of(cut));
            }
        }
        if cut.is_none() && args.timeout.is_some_and(|t| began.elapsed() >= t) {
            eprintln!("--timeout is over; its tasks are stopped");
            cut = Some(Cut::TimedOut);
            continue;
        }
        if !interrupts.pause(PERIOD).await {
            if cut.is_some() {
                eprintln!("run {subject} is left as it is");
                return Ok(outcome::INTERRUPTED);
            }
            eprintln!("its tasks are stopped; Ctrl-C again does not wait for them");
            cut = Some(Cut::Interrupted);
        }
    }
}

fn code_of(cut: &Cut) -> u8 {
    match cut {
        Cut::Interrupted => outcome::INTERRUPTED,
        Cut::TimedOut => outcome::RUN_TIMED_OUT,
    }
}

fn reason(cut: &Cut) -> &'static str {
    match cut {
        Cut::Interrupted => "`kubectl tally run` was interrupted",
        Cut::TimedOut => "The time of `kubectl tally run --timeout` was over",
    }
}

/// Stops what runs of it; says how many of its tasks have not STOPPED yet.
async fn stop_all(session: &Session, run: &RunTask, reason: &str) -> Result<usize> {
    let mut left = 0;
    for task in tasks_of_run(session, run).await? {
        let last = task.status.as_ref().map(|s| s.last_status);
        left += usize::from(last != Some(LastStatus::Stopped));
        stop_task(session, &task, reason).await?;
    }
    Ok(left)
}

/// Exit code of a run that has ended: that of its containers, the first that is not 0.
pub fn end(run: &RunTask) -> u8 {
    let copies = run.status.as_ref().map_or(&[][..], |s| s.tasks.as_slice());
    let code = |c: &RunTaskCopy| c.exit_code;
    if copies.is_empty() || copies.iter().any(|c| code(c).is_none()) {
        let failed = copies.iter().filter_map(code).find(|c| *c != 0);
        return failed.map_or(outcome::NOT_RUN, outcome::of_container);
    }
    let failed = copies.iter().filter_map(code).find(|c| *c != 0);
    outcome::of_container(failed.unwrap_or(0))
}

async fn delete(session: &Session, subject: &str) -> Result<()> {
    let deleted = session
        .api::<RunTask>()
        .delete(subject, &kube::api::DeleteParams::default())
        .await;
    match deleted {
        Err(kube::Error::Api(status)) if status.code == 404 => return Ok(()),
        Err(error) => return Err(session.explained(error, "runtasks")),
        Ok(_) => {}
    }
    let mut interrupts = Interrupts::new()?;
    while session.get::<RunTask>(subject).await?.is_some() && interrupts.pause(PERIOD).await {}
    Ok(())
}

#[cfg(test)]
mod tests {
    use tallyman_crds::RunTaskStatus;

    use super::*;

    fn ended(codes: &[Option<i32>]) -> RunTask {
        let mut run = RunTask::new("x", RunTaskSpec::default());
        let copy = |exit_code: &Option<i32>| RunTaskCopy {
            exit_code: *exit_code,
            ..RunTaskCopy::default()
        };
        run.status = Some(RunTaskStatus {
            tasks: codes.iter().map(copy).collect(),
            ..RunTaskStatus::default()
        });
        run
    }

    #[test]
    fn a_run_exits_as_its_containers_did() {
        for (codes, code) in [
            (&[Some(0)][..], 0),
            (&[Some(7)], 7),
            (&[Some(0), Some(3), Some(9)], 3),
            (&[Some(300)], 1),
            (&[Some(-1)], 1),
            (&[], 125),
            (&[None], 125),
            (&[Some(0), None], 125),
            (&[None, Some(4)], 4),
        ] {
            assert_eq!(end(&ended(codes)), code, "{codes:?}");
        }
    }

    #[test]
    fn a_name_begins_with_the_family() {
        assert_eq!(prefix("ETL_nightly:3"), "etl-nightly-");
        assert_eq!(
            prefix("arn:aws:ecs:eu-north-1:1:task-definition/job:7"),
            "job-"
        );
    }
}
