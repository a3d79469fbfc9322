//! Output of containers through the log router of their task.
//!
//! The router is `dev/log-router`: it takes output as Fluent Bit does and follows the part of the generated configuration
//! that these scenarios need, and ends at any other.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use tallyman_lab::command::Tool;
use tallyman_lab::{LabHost, paths, wait_until};

use super::secrets::kept;
use crate::suite::Scenario;
use crate::user::{Container, PATIENCE, User};

/// Scenarios of this file.
pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "output reaches the log router of its task, which says whose it is, to the last line",
        run: routed,
    },
    Scenario {
        name: "a log router whose file is missing fails the task with its name",
        run: missing,
    },
];

const BUSYBOX: &str = "localhost/tallyman/busybox:1";
pub(super) const ROUTER: &str = "localhost/tallyman/log-router:1";
/// Value of a secret; in no file of the agent.
const CANARY: &str = "stamp-4711";

/// Says something, something to be left out, something by a logger of its own, and farewell.
const TALK: &str = r"trap 'echo farewell; exit 0' TERM
echo hello
echo DEBUG noise
until printf '\223\254app-firelens\000\201\243log\246direct' | nc $FLUENT_HOST $FLUENT_PORT; do sleep 1; done
while true; do sleep 1 & wait $!; done";

fn definition(name: &str, network: &str) -> Value {
    json!({ "kind": "TaskDefinition", "metadata": { "name": name }, "spec": {
        "networkMode": network,
        "containerDefinitions": [
            { "name": "app", "image": BUSYBOX, "cpu": 16, "memory": 24, "stopTimeout": 10,
              "entryPoint": ["sh", "-c"], "command": [TALK],
              "logConfiguration": {
                  "logDriver": "awsfirelens",
                  "options": { "Name": "stdout", "exclude-pattern": "^DEBUG", "log-driver-buffer-limit": "1000" },
                  "secretOptions": [{ "name": "json_date_key", "valueFrom": "sink:stamp" }],
              } },
            { "name": "logs", "image": ROUTER, "cpu": 16, "memory": 64, "stopTimeout": 2,
              "firelensConfiguration": { "type": "fluentbit", "options": {
                  "config-file-type": "s3", "config-file-value": "arn:aws:s3:::acme-logs/prod/extra.conf" } } },
        ],
    }})
}

fn task(name: &str) -> Value {
    json!({ "kind": "Task", "metadata": { "name": name }, "spec": { "taskDefinition": name } })
}

/// Every host gets the router's image: the program alone.
pub(super) fn import(user: &User<'_>) -> Result<()> {
    let program = paths::test_tool("log-router")?;
    let folder = program.parent().context("the program has no folder")?;
    let archive = Tool::new("tar")
        .arg("-C")
        .arg(folder)
        .args(["-c", "log-router"])
        .check_bytes()?;
    for host in user.lab.hosts() {
        host.import_image(&archive, ROUTER, &["CMD [\"/log-router\"]"])?;
    }
    Ok(())
}

/// The router's container of a task, and its host.
fn router<'a>(user: &User<'a>, task: &str) -> Result<(&'a LabHost, Container)> {
    for container in user.containers()? {
        let host = user.lab.host_named(&container.host)?;
        let format = "{{index .Config.Labels \"com.amazonaws.ecs.container-name\"}}";
        let name = host.docker_ok(["inspect", "--format", format, &container.id])?;
        if container.task == task && name.trim() == "logs" {
            return Ok((host, container));
        }
    }
    anyhow::bail!("task {task} has no router")
}

/// Records that the router has printed.
fn printed(host: &LabHost, router: &Container) -> Result<Vec<Value>> {
    let said = host.docker(["logs", &router.id])?;
    let lines = said.stdout.lines();
    lines
        .map(|line| serde_json::from_str(line).with_context(|| line.to_owned()))
        .collect()
}

fn routed(user: &User<'_>) -> Result<()> {
    import(user)?;
    kept(user, "Secret", "sink", json!({ "stamp": CANARY }))?;
    let extra =
        "[FILTER]\n    Name record_modifier\n    Match app-firelens*\n    Record stage prod\n";
    let file = json!({ "prod.extra.conf": extra });
    kept(user, "ConfigMap", "acme-logs", file)?;
    for network in ["bridge", "awsvpc"] {
        let name = format!("talk-{network}");
        user.apply(&[definition(&name, network), task(&name)])?;
        one(user, &name).with_context(|| format!("in network mode {network}"))?;
        user.delete(&[&name])?;
    }
    user.k(&["delete", "configmap", "acme-logs"])?;
    user.k(&["delete", "secret", "sink"])?;
    Ok(())
}

/// The task of that name: its records, its files, its end.
fn one(user: &User<'_>, name: &str) -> Result<()> {
    let heard = |said: &'static str| {
        wait_until(
            format!("the router to have heard '{said}'"),
            PATIENCE,
            || {
                let (host, router) = router(user, name)?;
                let records = printed(host, &router)?;
                let found = records.iter().find(|record| record["log"] == said);
                let found = found.with_context(|| format!("{records:?}"))?;
                Ok(Some(found.clone()))
            },
        )
    };
    let hello = heard("hello")?;
    let arn = format!(
        "arn:aws:ecs:eu-north-1:{}:task/default/{name}",
        user.namespace()
    );
    for (field, wanted) in [
        ("ecs_cluster", "default"),
        ("ecs_task_arn", &arn),
        ("ecs_task_definition", &format!("{name}:1")),
        ("stage", "prod"),
        ("source", "stdout"),
        ("tag", &format!("app-firelens-{name}")),
    ] {
        ensure!(hello[field] == wanted, "{field} is not {wanted}: {hello}");
    }
    ensure!(
        hello[CANARY].is_number(),
        "no time by the secret's name: {hello}"
    );
    let direct = heard("direct")?;
    ensure!(direct["ecs_task_arn"] == arn, "{direct}");

    let (host, at) = router(user, name)?;
    let noise = printed(host, &at)?
        .into_iter()
        .find(|record| record["log"] == "DEBUG noise");
    ensure!(noise.is_none(), "what was excluded is there: {noise:?}");
    let uid = user.get("tasks", name)?["metadata"]["uid"].clone();
    let folder = host
        .agent_data()
        .join("firelens")
        .join(uid.as_str().unwrap_or_default());
    let config = folder.join("config/fluent.conf");
    let text = fs::read_to_string(&config).with_context(|| config.display().to_string())?;
    ensure!(
        !text.contains(CANARY),
        "a secret is in {}",
        config.display()
    );
    let mode = fs::metadata(&config)?.permissions().mode() & 0o777;
    ensure!(mode == 0o600, "{} has mode {mode:o}", config.display());

    let stop = r#"{"spec":{"desiredStatus":"STOPPED"}}"#;
    user.k(&[
        "patch",
        "tasks.tallyman.dev",
        name,
        "--type=merge",
        "-p",
        stop,
    ])?;
    wait_until(format!("task {name} to be STOPPED"), PATIENCE, || {
        let status = user.get("tasks", name)?["status"].clone();
        ensure!(status["lastStatus"] == "STOPPED", "{status}");
        Ok(true)
    })?;
    heard("farewell")?;
    user.k(&["delete", "tasks.tallyman.dev", name, "--timeout=60s"])?;
    wait_until("the router's files to be gone", PATIENCE, || {
        Ok(!folder.exists())
    })?;
    Ok(())
}

fn missing(user: &User<'_>) -> Result<()> {
    import(user)?;
    let name = "talk-nowhere";
    kept(user, "Secret", "sink", json!({ "stamp": CANARY }))?;
    user.apply(&[definition(name, "bridge"), task(name)])?;
    wait_until("the task to fail", PATIENCE, || {
        let status = user.get("tasks", name)?["status"].clone();
        ensure!(status["lastStatus"] == "STOPPED", "{status}");
        let reason = status["stoppedReason"].as_str().unwrap_or_default();
        let wanted = "ResourceInitializationError: unable to download firelens s3 config file: container `logs`: \
                      ConfigMap `acme-logs` does not exist";
        ensure!(reason == wanted, "{reason}");
        Ok(true)
    })?;
    user.k(&["delete", "tasks.tallyman.dev", name, "--timeout=60s"])?;
    user.delete(&[name])?;
    user.k(&["delete", "secret", "sink"])?;
    Ok(())
}
