//! Containers of one task: their order, their names for each other, and how they end.

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use tallyman_lab::{Host, wait_until};

use crate::suite::Scenario;
use crate::user::{PATIENCE, User};

/// Scenarios of this file.
pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "four containers that depend on each other start in order and stop in reverse",
        run: in_order,
    },
    Scenario {
        name: "a container is linked by name and restarted in place with the API server away",
        run: linked_and_restarted,
    },
    Scenario {
        name: "a task says why it did not start and what killed its container",
        run: reasons,
    },
];

/// Runs until SIGTERM.
const STAY: &str = "trap 'exit 0' TERM; while :; do sleep 1; done";

fn container(name: &str, script: &str, more: Value) -> Value {
    let mut one = json!({
        "name": name, "image": "localhost/tallyman/busybox:1", "memory": 16, "stopTimeout": 5,
        "entryPoint": ["sh", "-c"], "command": [script],
    });
    if let (Some(one), Value::Object(more)) = (one.as_object_mut(), more) {
        one.extend(more);
    }
    one
}

/// A TaskDefinition and a Task of it on the first host.
fn run(user: &User<'_>, name: &str, containers: &[Value]) -> Result<()> {
    let definition = json!({
        "kind": "TaskDefinition", "metadata": { "name": name },
        "spec": { "containerDefinitions": containers },
    });
    let task = json!({
        "kind": "Task", "metadata": { "name": name },
        "spec": { "taskDefinition": name, "containerInstance": user.lab.host(0).name() },
    });
    user.apply(&[definition])?;
    user.apply(&[task])?;
    Ok(())
}

fn until(user: &User<'_>, task: &str, last_status: &str) -> Result<Value> {
    wait_until(format!("{task} to be {last_status}"), PATIENCE, || {
        let task = user.get("tasks", task)?;
        ensure!(
            task["status"]["lastStatus"] == last_status,
            "{}",
            task["status"]
        );
        Ok(Some(task["status"].clone()))
    })
}

fn gone(user: &User<'_>, name: &str) -> Result<()> {
    user.k(&["delete", "tasks.tallyman.dev", name, "--timeout=60s"])?;
    user.delete(&[name])
}

/// What happened to the containers of a task since `since` (seconds of the epoch), in the engine's order:
/// `start web`, `die init`, `health_status: healthy db`.
fn events(host: &Host, task: &str, since: &str) -> Result<Vec<String>> {
    let until = now(host)?;
    let text = host.docker_ok([
        "events",
        "--since",
        since,
        "--until",
        &until,
        "--filter",
        "type=container",
        "--filter",
        &format!("label=tallyman.dev/task={task}"),
        "--format",
        "{{.Action}} {{index .Actor.Attributes \"com.amazonaws.ecs.container-name\"}}",
    ])?;
    Ok(text
        .lines()
        .map(str::trim)
        .filter(|line| {
            ["create ", "start ", "die ", "kill ", "health_status"]
                .iter()
                .any(|word| line.starts_with(word))
        })
        .map(str::to_owned)
        .collect())
}

/// The host's time, for `docker events`.
fn now(host: &Host) -> Result<String> {
    Ok(host.inside("date").arg("+%s.%N").check()?.trim().to_owned())
}

/// Fails unless `words` happened in this order, with anything in between.
fn ensure_order(events: &[String], words: &[&str]) -> Result<()> {
    let mut from = 0;
    for word in words {
        let at = events
            .iter()
            .skip(from)
            .position(|event| event == word)
            .with_context(|| {
                format!("`{word}` is not where it should be in {words:?}: {events:#?}")
            })?;
        from += at + 1;
    }
    Ok(())
}

fn in_order(user: &User<'_>) -> Result<()> {
    let host = user.lab.host(0);
    let since = now(host)?;
    let depends = |on: &[(&str, &str)]| -> Vec<Value> {
        on.iter()
            .map(|(name, condition)| json!({ "containerName": name, "condition": condition }))
            .collect()
    };
    // The log sidecar takes three seconds for its last lines, web two: who does not wait for them is seen.
    let slow =
        |seconds: u8| format!("trap 'sleep {seconds}; exit 0' TERM; while :; do sleep 1; done");
    let healthy = json!({
        "healthCheck": { "command": ["CMD-SHELL", "test -e /tmp/ready"], "interval": 5, "retries": 5 },
        "dependsOn": depends(&[("init", "COMPLETE")]), "startTimeout": 60,
    });
    run(
        user,
        "ordered",
        &[
            container(
                "log",
                &slow(3),
                json!({ "essential": false, "dependsOn": depends(&[("web", "START")]) }),
            ),
            container(
                "web",
                &slow(2),
                json!({ "dependsOn": depends(&[("init", "SUCCESS"), ("db", "HEALTHY")]) }),
            ),
            container("db", &format!("sleep 2; : > /tmp/ready; {STAY}"), healthy),
            container("init", "sleep 2; exit 0", json!({ "essential": false })),
        ],
    )?;
    wait_until("the task to say what it waits for", PATIENCE, || {
        let task = user.get("tasks", "ordered")?;
        let message = crate::user::condition(&task, "Ready").2;
        ensure!(message.contains("waits for container"), "{message}");
        Ok(true)
    })?;
    let status = until(user, "ordered", "RUNNING")?;
    ensure!(
        status["containers"][3]["exitCode"] == 0,
        "the job's end is not told: {status}"
    );
    ensure_order(
        &events(host, "ordered", &since)?,
        &[
            "start init",
            "die init",
            "create db",
            "start db",
            "health_status: healthy db",
            "create web",
            "start web",
            "create log",
            "start log",
        ],
    )?;
    let since = now(host)?;
    user.k(&[
        "patch",
        "tasks.tallyman.dev",
        "ordered",
        "--type=merge",
        "--patch",
        r#"{"spec":{"desiredStatus":"STOPPED","stoppedReason":"enough"}}"#,
    ])?;
    let status = until(user, "ordered", "STOPPED")?;
    ensure_order(
        &events(host, "ordered", &since)?,
        &[
            "kill log", "die log", "kill web", "die web", "kill db", "die db",
        ],
    )?;
    for container in status["containers"].as_array().into_iter().flatten() {
        ensure!(container["exitCode"] == 0, "{container}");
    }
    gone(user, "ordered")
}

/// Id of the container that the scenario's task calls `name`.
fn container_id(host: &Host, name: &str) -> Result<String> {
    let label = format!("label=com.amazonaws.ecs.container-name={name}");
    host.docker_ok(["ps", "-q", "--no-trunc", "--filter", &label])
}

fn linked_and_restarted(user: &User<'_>) -> Result<()> {
    let host = user.lab.host(0);
    let since = now(host)?;
    // What cannot read the page under the linked name ends, and with it the task. Not by wget: a static one dies in the
    // C library's name services.
    let reads = format!(
        "while read address names; do case \" $names \" in *\" store \"*) found=$address;; esac; done < /etc/hosts; \
         printf 'GET /page HTTP/1.0\\r\\n\\r\\n' | nc -w 10 $found 8080 | grep -q here || exit 9; {STAY}"
    );
    run(
        user,
        "linked",
        &[
            container(
                "web",
                &format!("sleep 1; {reads}"),
                json!({ "links": ["db:store", "flaky"] }),
            ),
            container(
                "db",
                "mkdir /tmp/www; echo here > /tmp/www/page; exec httpd -f -p 8080 -h /tmp/www",
                json!({}),
            ),
            container(
                "flaky",
                "while ! test -e /tmp/end; do sleep 1; done; rm /tmp/end; exit 5",
                json!({ "restartPolicy": { "enabled": true, "restartAttemptPeriod": 60, "ignoredExitCodes": [6] } }),
            ),
            container(
                "spent",
                "while ! test -e /tmp/end; do sleep 1; done; exit 6",
                json!({
                    "essential": false,
                    "restartPolicy": { "enabled": true, "restartAttemptPeriod": 60, "ignoredExitCodes": [6] },
                }),
            ),
        ],
    )?;
    until(user, "linked", "RUNNING")?;
    let web = container_id(host, "web")?;
    let hosts = host.docker_ok(["exec", &web, "cat", "/etc/hosts"])?;
    ensure!(
        hosts.contains("store") && hosts.contains("flaky"),
        "the names are not in /etc/hosts: {hosts}"
    );
    ensure_order(
        &events(host, "linked", &since)?,
        &["start flaky", "start web"],
    )?;
    wait_until("the container to have run for its period", PATIENCE, || {
        let seconds = |time: &str| time.parse::<f64>().context("no time");
        let ran = seconds(&now(host)?)? - seconds(&since)?;
        ensure!(ran > 70.0, "{ran} s");
        Ok(true)
    })?;
    host.set_link(false)?;
    for ends in ["spent", "flaky"] {
        host.docker_ok(["exec", &container_id(host, ends)?, "touch", "/tmp/end"])?;
    }
    let restarted = wait_until("the container to be started again", PATIENCE, || {
        let events = events(host, "linked", &since)?;
        ensure_order(&events, &["start flaky", "die flaky", "start flaky"])?;
        Ok(true)
    });
    host.set_link(true)?;
    restarted?;
    let events = events(host, "linked", &since)?;
    ensure!(
        events
            .iter()
            .filter(|event| *event == "create flaky")
            .count()
            == 1,
        "not in place: {events:?}"
    );
    let what = "one that ended with an ignored code to be left";
    wait_until(what, PATIENCE, || {
        let status = user.get("tasks", "linked")?["status"].clone();
        ensure!(
            status["lastStatus"] == "RUNNING"
                && status["containers"][2]["lastStatus"] == "RUNNING"
                && status["containers"][3]["lastStatus"] == "STOPPED"
                && status["containers"][3]["exitCode"] == 6,
            "{status}"
        );
        Ok(true)
    })?;
    let starts = events
        .iter()
        .filter(|event| *event == "start spent")
        .count();
    ensure!(starts == 1, "it was started again: {events:?}");
    gone(user, "linked")
}

fn reasons(user: &User<'_>) -> Result<()> {
    let after = json!({ "dependsOn": [{ "containerName": "init", "condition": "SUCCESS" }] });
    run(
        user,
        "unmet",
        &[
            container("web", STAY, after),
            container("init", "exit 4", json!({ "essential": false })),
        ],
    )?;
    let status = until(user, "unmet", "STOPPED")?;
    let reason = status["stoppedReason"].as_str().unwrap_or_default();
    ensure!(
        status["stopCode"] == "TaskFailedToStart"
            && reason.starts_with("CannotStartContainerError: ")
            && reason.contains("[init]")
            && reason.contains("exit code 4"),
        "{status}"
    );
    gone(user, "unmet")?;

    let after = json!({ "dependsOn": [{ "containerName": "slow", "condition": "COMPLETE" }] });
    let slow = json!({ "essential": false, "startTimeout": 2 });
    run(
        user,
        "late",
        &[container("web", STAY, after), container("slow", STAY, slow)],
    )?;
    let status = until(user, "late", "STOPPED")?;
    let reason = status["stoppedReason"].as_str().unwrap_or_default();
    ensure!(
        status["stopCode"] == "TaskFailedToStart"
            && reason.starts_with("CannotStartContainerError: ")
            && reason.contains("has timed out")
            && status["containers"][0]["exitCode"] == 143,
        "{status}"
    );
    gone(user, "late")?;

    let swells = "sleep 1; x=a; while :; do x=$x$x; done";
    run(user, "hungry", &[container("web", swells, json!({}))])?;
    let status = until(user, "hungry", "STOPPED")?;
    ensure!(
        status["containers"][0]["reason"]
            == "OutOfMemoryError: Container killed due to memory usage"
            && status["containers"][0]["exitCode"] == 137
            && status["stopCode"] == "EssentialContainerExited",
        "{status}"
    );
    gone(user, "hungry")?;

    // What can never start is told where it was written.
    let wait = |on: &str| json!({ "dependsOn": [{ "containerName": on, "condition": "START" }] });
    user.apply(&[json!({
        "kind": "TaskDefinition", "metadata": { "name": "circle" },
        "spec": { "containerDefinitions": [container("a", STAY, wait("b")), container("b", STAY, wait("a"))] },
    })])?;
    wait_until("the circle to be told", PATIENCE, || {
        let definition = user.get("taskdefinitions", "circle")?;
        let (status, _, message) = crate::user::condition(&definition, "Stalled");
        ensure!(
            status == "True" && message.contains("`a` waits for `b`"),
            "{message}"
        );
        Ok(true)
    })?;
    user.delete(&["circle"])
}
