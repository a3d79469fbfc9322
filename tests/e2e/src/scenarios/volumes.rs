//! Volumes: shared by containers, of the host, of one task or of all.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use tallyman_lab::{Host, http, wait_until};

use crate::suite::{Lane, Scenario, folder};
use crate::user::{PATIENCE, User, service};

/// Scenarios of this file.
pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "a page is written by one container into a volume and served by another",
        run: page_over_a_volume,
    },
    Scenario {
        name: "a task volume goes with its task, a shared volume and a host path stay",
        run: what_stays,
    },
    Scenario {
        name: "containers and volumes of a stopped task go after its host's clean-up wait, and the task stays",
        run: cleaned_up,
    },
    Scenario {
        name: "a shared volume that must exist fails the task that wants it",
        run: must_exist,
    },
];

const BUSYBOX: &str = "localhost/tallyman/busybox:1";

fn container(name: &str, script: &str) -> Value {
    json!({
        "name": name, "image": BUSYBOX, "cpu": 16, "memory": 16, "stopTimeout": 2,
        "entryPoint": ["sh", "-c"], "command": [script],
    })
}

fn definition(name: &str, volumes: &Value, containers: &Value) -> Value {
    json!({ "kind": "TaskDefinition", "metadata": { "name": name },
            "spec": { "volumes": volumes, "containerDefinitions": containers } })
}

/// Names of the volumes on a host's engine that have this filter.
fn volumes(host: &Host, filter: &str) -> Result<Vec<String>> {
    let text = host.docker_ok(["volume", "ls", "--quiet", "--filter", filter])?;
    Ok(text.lines().map(str::to_owned).collect())
}

/// Fails when a task's own volume is left on any host.
fn none_is_left(user: &User<'_>) -> Result<()> {
    wait_until("the volumes of tasks to be gone", PATIENCE, || {
        for host in user.lab.hosts() {
            let left = volumes(host, "label=tallyman.dev/task-uid")?;
            ensure!(left.is_empty(), "{} has {left:?}", host.name());
        }
        Ok(true)
    })
}

/// The console sample of ECS: a web server and a writer with `volumesFrom`, over a volume of the task.
fn page_over_a_volume(user: &User<'_>) -> Result<()> {
    let mut web = container("web", "trap 'exit 0' TERM; httpd -f -p 80 -h /www & wait");
    web["portMappings"] = json!([{ "containerPort": 80 }]);
    web["mountPoints"] =
        json!([{ "sourceVolume": "pages", "containerPath": "/www", "readOnly": true }]);
    // The web server may only read; a third container tries to write by way of it, and cannot.
    let mut writer = container(
        "writer",
        "echo from the writer > /pages/index.html; trap 'exit 0' TERM; while :; do sleep 1; done",
    );
    writer["mountPoints"] = json!([{ "sourceVolume": "pages", "containerPath": "/pages" }]);
    let mut reader = container(
        "reader",
        "until test -e /pages/index.html; do sleep 1; done; echo no > /pages/index.html && exit 3; exit 4",
    );
    reader["essential"] = json!(false);
    reader["volumesFrom"] = json!([{ "sourceContainer": "writer", "readOnly": true }]);
    let pages = definition(
        "pages",
        &json!([{ "name": "pages", "host": {} }]),
        // Taken over before its source in the list: the agent orders them.
        &json!([reader, web, writer]),
    );
    user.apply(&[pages, service("pages", 2)])?;
    let tasks = user.wait_steady("pages", 2)?;
    for task in &tasks {
        let address = *user
            .addresses(task)
            .first()
            .with_context(|| format!("no published port: {}", task["status"]))?;
        wait_until("the page of the writer", PATIENCE, || {
            let page = http::get(address, "/", Duration::from_secs(5))?;
            ensure!(
                page.status == 200 && page.body.contains("from the writer"),
                "the page is {page:?}"
            );
            Ok(true)
        })?;
        wait_until("the reader to fail to write", PATIENCE, || {
            let name = task["metadata"]["name"].as_str().unwrap_or_default();
            let status = user.get("tasks", name)?["status"].clone();
            let containers = status["containers"].as_array().cloned().unwrap_or_default();
            let reader = containers.iter().find(|c| c["name"] == "reader");
            ensure!(reader.is_some_and(|c| c["exitCode"] == 4), "{status}");
            Ok(true)
        })?;
    }
    let mut own = 0;
    for host in user.lab.hosts() {
        own += volumes(host, "label=tallyman.dev/task-uid")?.len();
    }
    ensure!(own == 2, "two tasks have {own} volumes");
    user.delete(&["pages"])?;
    none_is_left(user)
}

fn what_stays(user: &User<'_>) -> Result<()> {
    let host = user.lab.host(1);
    let folder = folder(Lane::about(host.generation())).join("volumes");
    let path = folder.join("made/by/the/engine");
    let mut app = container(
        "app",
        "for f in own shared host; do echo hello >> /$f/word; done; trap 'exit 0' TERM; while :; do sleep 1; done",
    );
    app["mountPoints"] = json!([
        { "sourceVolume": "own", "containerPath": "/own" },
        { "sourceVolume": "stays", "containerPath": "/shared" },
        { "sourceVolume": "host", "containerPath": "/host" },
    ]);
    let volumes_of_it = json!([
        { "name": "own", "dockerVolumeConfiguration": { "scope": "task", "labels": { "team": "blue" } } },
        { "name": "stays", "dockerVolumeConfiguration": {
            "scope": "shared", "autoprovision": true, "labels": { "team": "blue" } } },
        { "name": "host", "host": { "sourcePath": path.to_string_lossy() } },
    ]);
    user.apply(&[definition("keeps", &volumes_of_it, &json!([app]))])?;
    for (round, name) in ["keeps-one", "keeps-two"].into_iter().enumerate() {
        user.apply(&[json!({ "kind": "Task", "metadata": { "name": name },
            "spec": { "taskDefinition": "keeps", "containerInstance": host.name() } })])?;
        wait_until("both volumes of the task", PATIENCE, || {
            let task = user.get("tasks", name)?;
            ensure!(
                task["status"]["lastStatus"] == "RUNNING",
                "{}",
                task["status"]
            );
            let labelled = volumes(host, "label=team=blue")?;
            ensure!(labelled.len() == 2, "{labelled:?}");
            Ok(true)
        })?;
        wait_until("the words in the folder of the host", PATIENCE, || {
            let text = std::fs::read_to_string(path.join("word"))?;
            Ok(text.lines().count() == round + 1)
        })?;
        user.k(&["delete", "tasks.tallyman.dev", name, "--timeout=60s"])?;
        none_is_left(user)?;
        let left = volumes(host, "label=team=blue")?;
        ensure!(left == ["stays"], "{left:?} are left");
    }
    // What both tasks wrote is in the shared volume.
    let script = "grep -c hello /v/word";
    let count = host.docker_ok([
        "run",
        "--rm",
        "--volume",
        "stays:/v",
        "--entrypoint",
        "sh",
        BUSYBOX,
        "-c",
        script,
    ])?;
    ensure!(count.trim() == "2", "the shared volume has {count} words");
    host.docker_ok(["volume", "rm", "stays"])?;
    std::fs::remove_dir_all(&folder).context("the folder of the host")?;
    user.delete(&["keeps"])
}

fn cleaned_up(user: &User<'_>) -> Result<()> {
    let host = user.lab.host(0);
    let agent = host.agent();
    let mut app = container("app", "echo said > /own/word; exit 7");
    app["mountPoints"] = json!([{ "sourceVolume": "own", "containerPath": "/own" }]);
    let own = json!([{ "name": "own", "host": {} }]);
    user.apply(&[
        definition("brief", &own, &json!([app])),
        json!({ "kind": "Task", "metadata": { "name": "brief" },
                "spec": { "taskDefinition": "brief", "containerInstance": host.name() } }),
    ])?;
    let ended = || -> Result<bool> {
        let status = user.get("tasks", "brief")?["status"].clone();
        ensure!(
            status["lastStatus"] == "STOPPED" && status["containers"][0]["exitCode"] == 7,
            "{status}"
        );
        Ok(true)
    };
    wait_until("the task to end", PATIENCE, ended)?;
    // Three hours, unless the host says otherwise.
    ensure!(user.containers()?.len() == 1, "its container is gone");
    let stranger = host.docker_ok(["create", BUSYBOX, "true"])?;
    let waits = agent.command();
    let wait = "ECS_ENGINE_TASK_CLEANUP_WAIT_DURATION";
    agent.set_command(waits.clone().env(wait, "1s"));
    agent.restart()?;
    let gone = wait_until("its container to be gone", PATIENCE, || {
        Ok(user.containers()?.is_empty())
    })
    .and_then(|_| none_is_left(user));
    // Whatever was seen, others find what they left on this host.
    agent.set_command(waits);
    agent.restart()?;
    gone?;
    ended()?;
    // What is nobody's task is not ours.
    host.docker_ok(["rm", &stranger])?;
    user.k(&["delete", "tasks.tallyman.dev", "brief", "--timeout=60s"])?;
    user.delete(&["brief"])
}

fn must_exist(user: &User<'_>) -> Result<()> {
    let mut app = container("app", "sleep 600");
    app["mountPoints"] = json!([{ "sourceVolume": "absent", "containerPath": "/v" }]);
    let volumes = json!([{ "name": "absent", "dockerVolumeConfiguration": { "scope": "shared" } }]);
    user.apply(&[
        definition("wants", &volumes, &json!([app])),
        json!({ "kind": "Task", "metadata": { "name": "wants" }, "spec": { "taskDefinition": "wants" } }),
    ])?;
    wait_until("the task to be refused", PATIENCE, || {
        let status = user.get("tasks", "wants")?["status"].clone();
        let reason = status["stoppedReason"].as_str().unwrap_or_default();
        ensure!(
            status["stopCode"] == "TaskFailedToStart"
                && reason.contains("'absent' does not exist and autoprovision is set to false"),
            "{status}"
        );
        Ok(true)
    })?;
    user.k(&["delete", "tasks.tallyman.dev", "wants", "--timeout=60s"])?;
    user.delete(&["wants"])
}
