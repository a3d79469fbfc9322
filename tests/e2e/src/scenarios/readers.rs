//! What programs that nobody of this project wrote find at the address that they have built in.

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use tallyman_lab::command::Tool;
use tallyman_lab::wait_until;

use crate::inside::{Inside, REGION, container, definition};
use crate::suite::Scenario;
use crate::user::{PATIENCE, User, service};

/// Scenarios of this file.
pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "OpenTelemetry's detector finds its task",
        run: open_telemetry,
    },
    Scenario {
        name: "the AWS SDK finds the credentials of its task's role in every network mode",
        run: sdk,
    },
    Scenario {
        name: "credentials of a role change without a restart, and are nobody else's",
        run: rotated,
    },
    Scenario {
        name: "a role without credentials fails the task with the name of its Secret",
        run: without,
    },
];

const IMAGE: &str = "localhost/tallyman/metadata-reader:1";
const ROLE: &str = "arn:aws:iam::123456789012:role/shop/Web";

fn reader() -> Value {
    json!({ "name": "reader", "image": IMAGE, "cpu": 16, "memory": 64 })
}

/// Runs a task of a definition to its end: what it printed, and the engine's id of its container.
fn read(user: &User<'_>, name: &str, definition: Value) -> Result<(String, String)> {
    let task = json!({ "kind": "Task", "metadata": { "name": name },
                       "spec": { "taskDefinition": definition["metadata"]["name"] } });
    user.apply(&[definition, task])?;
    wait_until("the reader to have read", PATIENCE, || {
        let status = user.get("tasks", name)?["status"].clone();
        ensure!(status["lastStatus"] == "STOPPED", "{status}");
        Ok(true)
    })?;
    let found = Inside::of_task(user, name, "reader")?;
    let said = format!("{:?}", found.host.docker(["logs", &found.id])?);
    user.k(&["delete", "tasks.tallyman.dev", name, "--timeout=60s"])?;
    user.delete(&[name])?;
    Ok((said, found.id))
}

fn open_telemetry(user: &User<'_>) -> Result<()> {
    import(user)?;
    let (said, container) = read(user, "read", definition("read", &json!([reader()])))?;
    let base = format!("arn:aws:ecs:{REGION}:{}", user.namespace());
    for wanted in [
        "cloud.provider=aws".to_owned(),
        "cloud.platform=aws_ecs".to_owned(),
        format!("cloud.region={REGION}"),
        format!("cloud.account.id={}", user.namespace()),
        format!("container.name={}", &container[..12]),
        format!("aws.ecs.task.arn={base}:task/default/read"),
        format!("aws.ecs.container.arn={base}:container/default/read/reader"),
        format!("aws.ecs.cluster.arn={base}:cluster/default"),
        "aws.ecs.launchtype=ec2".to_owned(),
        "aws.ecs.task.family=read".to_owned(),
        "aws.ecs.task.revision=1".to_owned(),
    ] {
        ensure!(said.contains(&wanted), "it lacks {wanted}: {said}");
    }
    Ok(())
}

fn kept(user: &User<'_>, data: &Value) -> Result<()> {
    let secret = json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": { "name": "web", "namespace": user.namespace() },
        "stringData": data,
    });
    user.kubectl().apply(&secret.to_string())?;
    Ok(())
}

fn sdk(user: &User<'_>) -> Result<()> {
    import(user)?;
    // What `aws sts assume-role --query Credentials` prints, whole.
    let whole = json!({
        "AccessKeyId": "AKID", "SecretAccessKey": "SECRET-4711", "SessionToken": "TOKEN",
        "Expiration": "2099-01-01T00:00:00+00:00",
    });
    kept(user, &json!({ "credentials": whole.to_string() }))?;
    for mode in ["bridge", "host", "awsvpc"] {
        let mut asking = reader();
        asking["command"] = json!(["/metadata-reader", "credentials"]);
        let mut read_keys = definition("read-keys", &json!([asking]));
        read_keys["spec"]["networkMode"] = json!(mode);
        read_keys["spec"]["taskRoleArn"] = json!(ROLE);
        let (said, _) = read(user, "read-keys", read_keys)?;
        for wanted in [
            "access_key_id=AKID",
            "secret_access_key=SECRET-4711",
            "session_token=TOKEN",
            // The SDK takes five minutes off.
            "expires=2098-12-31T23:55:00Z",
        ] {
            ensure!(said.contains(wanted), "{mode}: it lacks {wanted}: {said}");
        }
    }
    Ok(())
}

fn rotated(user: &User<'_>) -> Result<()> {
    kept(
        user,
        &json!({ "AccessKeyId": "FIRST", "SecretAccessKey": "one" }),
    )?;
    let mut with_role = definition("roled", &json!([container("roled"), container("beside")]));
    with_role["spec"]["taskRoleArn"] = json!(ROLE);
    let other = definition("plain", &json!([container("plain")]));
    user.apply(&[with_role, service("roled", 1), other, service("plain", 1)])?;
    user.wait_steady("roled", 1)?;
    user.wait_steady("plain", 1)?;
    let roled = Inside::find(user, "roled")?;
    let url = "http://169.254.170.2$AWS_CONTAINER_CREDENTIALS_RELATIVE_URI";
    let first = roled.get(url)?;
    for (field, wanted) in [
        ("RoleArn", ROLE),
        ("AccessKeyId", "FIRST"),
        ("SecretAccessKey", "one"),
        ("Token", ""),
    ] {
        ensure!(first[field] == wanted, "{field}: {first}");
    }
    ensure!(first["Expiration"].is_string(), "{first}");

    kept(
        user,
        &json!({ "AccessKeyId": "SECOND", "SecretAccessKey": "two" }),
    )?;
    wait_until("the new credentials", PATIENCE, || {
        let now = roled.get(url)?;
        ensure!(now["AccessKeyId"] == "SECOND", "{now}");
        Ok(true)
    })?;

    let path = roled.shell("echo $AWS_CONTAINER_CREDENTIALS_RELATIVE_URI")?;
    let path = path.map_err(anyhow::Error::msg)?;
    let whole = format!("http://169.254.170.2{}", path.trim());
    Inside::find(user, "beside")?.refused(&whole, "", 403)?;
    let plain = Inside::find(user, "plain")?;
    let elsewhere = plain.host.name() != roled.host.name();
    plain.refused(&whole, "", if elsewhere { 404 } else { 403 })?;
    let none = plain.shell("env | grep AWS_CONTAINER")?;
    ensure!(none.is_err(), "a task without a role has {none:?}");
    for host in user.lab.hosts() {
        let log = std::fs::read_to_string(host.agent().log_path())?;
        ensure!(!log.contains("SECOND"), "a log of {}", host.name());
    }
    user.delete(&["roled", "plain"])
}

fn without(user: &User<'_>) -> Result<()> {
    let mut lone = definition("lone", &json!([container("lone")]));
    lone["spec"]["taskRoleArn"] = json!("arn:aws:iam::123456789012:role/nobody");
    let task = json!({ "kind": "Task", "metadata": { "name": "lone" },
                       "spec": { "taskDefinition": "lone" } });
    user.apply(&[lone, task])?;
    let wanted = "ECS was unable to assume the role 'arn:aws:iam::123456789012:role/nobody' that was provided for this \
                  task: Secret `nobody` does not exist";
    wait_until("the task to say why it does not run", PATIENCE, || {
        let status = user.get("tasks", "lone")?["status"].clone();
        ensure!(
            status["stopCode"] == "TaskFailedToStart" && status["stoppedReason"] == wanted,
            "{status}"
        );
        Ok(true)
    })?;
    user.k(&["delete", "tasks.tallyman.dev", "lone", "--timeout=60s"])?;
    user.delete(&["lone"])
}

fn import(user: &User<'_>) -> Result<()> {
    let path = tallyman_lab::paths::test_tool("metadata-reader")?;
    for host in user.lab.hosts() {
        host.import_image(&archive(&path)?, IMAGE, &["CMD [\"/metadata-reader\"]"])?;
    }
    Ok(())
}

/// The program alone, as a root file system.
fn archive(program: &std::path::Path) -> Result<Vec<u8>> {
    let folder = program.parent().context("the program has no folder")?;
    Tool::new("tar")
        .arg("-C")
        .arg(folder)
        .args(["-c", "metadata-reader"])
        .check_bytes()
}
