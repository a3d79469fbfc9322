//! What must not be written into a task definition: secrets and files of variables.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use tallyman_crds::labels;
use tallyman_crds::names::host_identity;
use tallyman_crds::sources::{DATA_KEY, SEALED_KEY};
use tallyman_lab::wait_until;

use crate::suite::Scenario;
use crate::user::{Container, PATIENCE, User, condition, hello, service};

/// Scenarios of this file.
pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "secrets and files of variables reach the container that names them, and nobody else",
        run: reach,
    },
    Scenario {
        name: "a secret that is missing fails the task with its name, and starts it once it is there",
        run: missing,
    },
    Scenario {
        name: "variables from a file of the host, where its owner allows it",
        run: of_the_host,
    },
];

/// Values are gone from a host's Secret so soon after the last task that takes them.
const GONE_WITHIN: Duration = Duration::from_secs(30);

/// In no object but Secrets, in no event, log or file of ours.
const CANARY: &str = "canary-4711";

/// A TaskDefinition `vault` whose container has these fields, too.
pub(super) fn definition(container: Value) -> Value {
    let mut t = hello("vault", "x");
    if let (Some(fields), Value::Object(more)) = (
        t["spec"]["containerDefinitions"][0].as_object_mut(),
        container,
    ) {
        fields.extend(more);
    }
    t
}

/// Makes a Secret or ConfigMap.
pub(crate) fn kept(user: &User<'_>, kind: &str, name: &str, data: Value) -> Result<()> {
    let mut object = json!({
        "apiVersion": "v1", "kind": kind, "metadata": { "name": name, "namespace": user.namespace() },
    });
    let field = if kind == "Secret" {
        "stringData"
    } else {
        "data"
    };
    object[field] = data;
    user.kubectl().apply(&object.to_string())?;
    Ok(())
}

fn running(user: &User<'_>) -> Result<Vec<Container>> {
    let all = user.containers()?.into_iter();
    Ok(all.filter(|c| c.state == "running").collect())
}

fn inside(user: &User<'_>, container: &Container, variable: &str) -> Result<String> {
    let host = user.lab.host_named(&container.host)?;
    let line = format!("echo \"${variable}\"");
    let text = host.docker_ok(["exec", &container.id, "sh", "-c", &line])?;
    Ok(text.trim_end().to_owned())
}

/// What a host's Secret holds for its tasks, each key with its value as it is.
fn supplied(user: &User<'_>, host: &str) -> Result<String> {
    let name = host_identity(host);
    let template =
        "go-template={{range $key, $value := .data}}{{$key}}={{$value | base64decode}} {{end}}";
    user.k(&["get", "secret", &name, "-o", template])
}

fn reach(user: &User<'_>) -> Result<()> {
    kept(
        user,
        "Secret",
        "prod-db",
        json!({ "password": CANARY, "user": "anna" }),
    )?;
    kept(user, "Secret", "log", json!({ "size": "1m" }))?;
    let file = "# of the shop\nREGION=north\nTEXT=from-file\n";
    kept(
        user,
        "ConfigMap",
        "acme-config",
        json!({ "prod.web.env": file }),
    )?;
    let t = definition(json!({
        "secrets": [
            { "name": "PASSWORD", "valueFrom": "arn:aws:secretsmanager:eu-west-1:123456789012:secret:prod/db-AbCdEf:password::" },
            { "name": "DB_USER", "valueFrom": "prod-db:user" },
        ],
        "environmentFiles": [{ "type": "s3", "value": "arn:aws:s3:::acme-config/prod/web.env" }],
        "logConfiguration": {
            "logDriver": "json-file", "options": { "max-file": "2" },
            "secretOptions": [{ "name": "max-size", "valueFrom": "/log" }],
        },
    }));
    user.apply(&[t, service("vault", 1)])?;
    user.wait_steady("vault", 1)?;
    let first = running(user)?.pop().context("no container runs")?;
    for (variable, wanted) in [
        ("PASSWORD", CANARY),
        ("DB_USER", "anna"),
        ("REGION", "north"),
        ("TEXT", "x"),
    ] {
        let value = inside(user, &first, variable)?;
        ensure!(value == wanted, "{variable} is {value}");
    }
    let host = user.lab.host_named(&first.host)?;
    let format = "{{json .HostConfig.LogConfig.Config}}";
    let log = host.docker_ok(["inspect", "--format", format, &first.id])?;
    ensure!(log.contains("\"max-size\":\"1m\""), "its log: {log}");
    for host in user.lab.hosts() {
        let held = supplied(user, host.name())?;
        // The hosts of the lab have joined with a key.
        let holds = held.contains(SEALED_KEY);
        ensure!(
            !held.contains(DATA_KEY) && !held.contains(CANARY),
            "what {} holds is not sealed: {held}",
            host.name()
        );
        ensure!(
            holds == (host.name() == first.host),
            "{} holds values: {holds}",
            host.name()
        );
    }

    // Read once, when a container is created.
    kept(user, "Secret", "prod-db", json!({ "password": "changed" }))?;
    user.apply(&[service("vault", 2)])?;
    user.wait_steady("vault", 2)?;
    for container in running(user)? {
        let wanted = if container.id == first.id {
            CANARY
        } else {
            "changed"
        };
        let value = inside(user, &container, "PASSWORD")?;
        ensure!(value == wanted, "{container:?} has {value}");
    }
    seen_nowhere(user)?;

    user.apply(&[service("vault", 0)])?;
    wait_until("hosts to hold no values any more", GONE_WITHIN, || {
        for host in user.lab.hosts() {
            let held = supplied(user, host.name())?;
            ensure!(held.is_empty(), "{}: {held}", host.name());
        }
        Ok(true)
    })?;
    user.k(&[
        "delete",
        "secret/prod-db",
        "secret/log",
        "configmap/acme-config",
    ])?;
    user.delete(&["vault"])
}

/// The first host allows the folder; a link there leads out of it.
fn of_the_host(user: &User<'_>) -> Result<()> {
    let folder = user.lab.host(0).agent_env()["ECS_ENVIRONMENT_FILE_FOLDERS"].clone();
    let folders: Vec<PathBuf> = serde_json::from_str(&folder)?;
    let folder = folders.first().context("no folder is allowed")?;
    let above = folder.parent().context("the folder is the root")?;
    let shown = from_the_host(user, folder);
    fs::remove_dir_all(above)?;
    shown
}

fn from_the_host(user: &User<'_>, folder: &Path) -> Result<()> {
    fs::create_dir_all(folder)?;
    let kept = folder.with_file_name("kept.env");
    fs::write(
        folder.join("web.env"),
        format!("COLOUR={CANARY}\nTEXT=from-file\n"),
    )?;
    fs::write(&kept, format!("COLOUR={CANARY}\n"))?;
    let link = folder.join("link.env");
    std::os::unix::fs::symlink(&kept, &link)?;

    let names = |file: &str| {
        let value = folder.join(file).display().to_string();
        definition(json!({ "environmentFiles": [{ "type": "file", "value": value }] }))
    };
    user.apply(&[names("web.env"), service("vault", 2)])?;
    user.wait_steady("vault", 2)?;
    for container in running(user)? {
        ensure!(container.host == user.lab.host(0).name(), "{container:?}");
        for (variable, wanted) in [("COLOUR", CANARY), ("TEXT", "x")] {
            let value = inside(user, &container, variable)?;
            ensure!(value == wanted, "{variable} is {value}");
        }
    }
    in_no_object(user)?;

    user.apply(&[names("link.env")])?;
    let said = format!(
        "ResourceInitializationError: environment file `{}` of the host may not be read: it is in none of the folders that \
         ECS_ENVIRONMENT_FILE_FOLDERS of the host allows",
        link.display()
    );
    wait_until("a task to fail for the link", PATIENCE, || {
        let tasks = user.tasks("vault")?;
        let reason = |t: &Value| t["status"]["stoppedReason"].as_str().map(str::to_owned);
        let told: Vec<String> = tasks.iter().filter_map(reason).collect();
        ensure!(
            told.iter().any(|reason| reason.starts_with(&said)),
            "{told:?}"
        );
        Ok(true)
    })?;
    user.delete(&["vault"])
}

fn in_no_object(user: &User<'_>) -> Result<()> {
    let kinds = "clusters.tallyman.dev,taskdefinitions.tallyman.dev,taskdefinitionrevisions.tallyman.dev,\
                 services.tallyman.dev,tasks.tallyman.dev,containerinstances.tallyman.dev,hostplans.tallyman.dev,\
                 hostjoins.tallyman.dev,events,events.events.k8s.io,configmaps,leases,serviceaccounts";
    let objects = user.k(&["get", kinds, "-o", "yaml"])?;
    ensure!(objects.contains("vault"), "nothing to look at: {objects}");
    ensure!(!objects.contains(CANARY), "an object shows the password");
    Ok(())
}

fn seen_nowhere(user: &User<'_>) -> Result<()> {
    in_no_object(user)?;
    let ours = format!("{}={}", labels::MANAGED_BY, labels::MANAGER);
    let metadata = "jsonpath={.items[*].metadata}";
    let receipts = user.k(&["get", "secrets", "-l", &ours, "-o", metadata])?;
    ensure!(receipts.contains(labels::SUPPLIED), "{receipts}");
    ensure!(!receipts.contains(CANARY), "a receipt shows the password");
    for host in user.lab.hosts() {
        let ids = host.docker_ok(["ps", "-aq"])?;
        for id in ids.split_whitespace() {
            let labels = host.docker_ok(["inspect", "--format", "{{json .Config.Labels}}", id])?;
            ensure!(!labels.contains(CANARY), "a label shows it: {labels}");
        }
        for file in files_below(host.agent_data())? {
            let text = fs::read(&file)?;
            let text = String::from_utf8_lossy(&text);
            ensure!(!text.contains(CANARY), "{} shows it", file.display());
        }
        let log = log_of(user, &format!("agent-{}", host.name()))?;
        ensure!(!log.contains(CANARY), "the agent's log shows it");
    }
    let log = log_of(user, "operator")?;
    ensure!(!log.contains(CANARY), "the operator's log shows it");
    Ok(())
}

/// Every file of a folder and those below it.
fn files_below(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder)?.flatten() {
            let kind = entry.file_type()?;
            if kind.is_dir() {
                folders.push(entry.path());
            } else if kind.is_file() {
                found.push(entry.path());
            }
        }
    }
    Ok(found)
}

fn log_of(user: &User<'_>, process: &str) -> Result<String> {
    let path = user.lab.log_path(process)?;
    let text = fs::read(&path).with_context(|| format!("{}", path.display()))?;
    ensure!(!text.is_empty(), "{} is empty", path.display());
    Ok(String::from_utf8_lossy(&text).into_owned())
}

fn missing(user: &User<'_>) -> Result<()> {
    let t =
        definition(json!({ "secrets": [{ "name": "PASSWORD", "valueFrom": "late:password" }] }));
    user.apply(&[t, service("vault", 1)])?;
    let wanted = "ResourceInitializationError: unable to pull secrets or registry auth: container `web`: Secret `late` does not exist";
    wait_until("a task to say what is missing", PATIENCE, || {
        let found = user.tasks("vault")?.into_iter().any(|t| {
            t["status"]["stoppedReason"] == wanted && t["status"]["stopCode"] == "TaskFailedToStart"
        });
        ensure!(found, "{:?}", user.tasks("vault")?);
        Ok(true)
    })?;
    wait_until("the service to say so", PATIENCE, || {
        let (_, _, message) = condition(&user.get("services", "vault")?, "Ready");
        ensure!(
            message.contains("Secret `late` does not exist"),
            "{message}"
        );
        Ok(true)
    })?;
    ensure!(running(user)?.is_empty(), "a container runs");
    kept(user, "Secret", "late", json!({ "password": "here" }))?;
    user.wait_steady("vault", 1)?;
    let container = running(user)?.pop().context("no container runs")?;
    let value = inside(user, &container, "PASSWORD")?;
    ensure!(value == "here", "PASSWORD is {value}");
    user.k(&["delete", "secret/late"])?;
    user.delete(&["vault"])
}
