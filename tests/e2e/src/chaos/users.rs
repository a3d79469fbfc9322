//! People who delete and make more than anybody should.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use tallyman_lab::wait_until;

use crate::chaos::{Row, Stage};
use crate::inside::{container, definition};
use crate::user::PATIENCE;

/// Rows of this file.
pub const ROWS: &[Row] = &[
    Row {
        number: "35",
        name: "somebody deletes every task",
        fault: "kubectl delete tasks --all",
        measured: "the command until as many run as are wanted, and nothing else",
        bound: Duration::from_secs(120),
        count: 1,
        run: all_deleted,
    },
    Row {
        number: "39",
        name: "more tasks come and go than hosts can start",
        fault: "40 tasks that publish a port are made at once, and each is deleted at a random moment of the next 20 s",
        measured: "the last deletion until no container of them is left",
        bound: Duration::from_secs(60),
        count: 2,
        run: storm,
    },
];

fn all_deleted(stage: &Stage<'_>, count: u32) -> Result<Vec<Duration>> {
    let mut times = Vec::new();
    for _ in 0..count {
        let before: Vec<String> = stage.proof()?.into_keys().collect();
        let since = Instant::now();
        stage
            .user
            .k(&["delete", "tasks.tallyman.dev", "--all", "--wait=false"])?;
        wait_until("others to run in their place", PATIENCE * 2, || {
            let now = stage.proof()?;
            let left = before.iter().find(|task| now.contains_key(*task));
            ensure!(left.is_none(), "{left:?} runs");
            Ok(true)
        })?;
        stage.all_steady()?;
        times.push(since.elapsed());
    }
    Ok(times)
}

/// Tasks of a storm.
const BRIEF: &str = "brief";
/// So many at once.
const MANY: usize = 40;

fn storm(stage: &Stage<'_>, count: u32) -> Result<Vec<Duration>> {
    let before = stage.proof()?;
    let mut web = container("web");
    web["portMappings"] = json!([{ "containerPort": 80 }]);
    stage.user.apply(&[definition(BRIEF, &json!([web]))])?;
    let mut times = Vec::new();
    for round in 0..count {
        let mut names: Vec<String> = (0..MANY).map(|i| format!("{BRIEF}-{round}-{i}")).collect();
        let task = |name: &String| -> Value {
            json!({ "kind": "Task", "metadata": { "name": name }, "spec": { "taskDefinition": BRIEF } })
        };
        stage
            .user
            .apply(&names.iter().map(task).collect::<Vec<_>>())?;
        while !names.is_empty() {
            stage.any_moment(Duration::from_secs(2));
            let mut args = vec!["delete", "tasks.tallyman.dev", "--wait=false"];
            let gone: Vec<String> = (0..4.min(names.len()))
                .map(|_| names.swap_remove(stage.below(names.len())))
                .collect();
            args.extend(gone.iter().map(String::as_str));
            stage.user.k(&args)?;
        }
        let since = Instant::now();
        wait_until("no container of them to be left", PATIENCE, || {
            let left = stage.user.containers()?;
            let left = left.iter().filter(|c| c.task.starts_with(BRIEF)).count();
            ensure!(left == 0, "{left} are left");
            let tasks = stage.eyes.list("tasks")?;
            let of_it = |t: &&Value| t["spec"]["taskDefinition"] == BRIEF;
            let left = tasks.iter().filter(of_it).count();
            ensure!(left == 0, "{left} tasks are left");
            Ok(true)
        })?;
        times.push(since.elapsed());
        stage.all_steady()?;
        stage.same(&before, None)?;
    }
    stage.user.delete(&[BRIEF])?;
    Ok(times)
}
