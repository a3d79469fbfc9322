//! What a container can ask of its agent, and who else cannot.

use std::path::PathBuf;

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::{Value, json};
use tallyman_lab::command::Tool;
use tallyman_lab::{LabHost, wait_until};

use crate::suite::Scenario;
use crate::user::{Container, PATIENCE, User, service};

/// Scenarios of this file.
pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "a container learns from its agent who it is and what its task is",
        run: who_am_i,
    },
    Scenario {
        name: "a host tells itself, and nobody else, what its tasks are",
        run: introspected,
    },
    Scenario {
        name: "nobody but the container itself is told about it",
        run: closed,
    },
    Scenario {
        name: "a container learns what it uses",
        run: uses,
    },
    Scenario {
        name: "a container's file about itself becomes READY and goes with its task",
        run: about_itself,
    },
    Scenario {
        name: "OpenTelemetry's detector finds its task",
        run: open_telemetry,
    },
];

const BUSYBOX: &str = "localhost/tallyman/busybox:1";
const V4: &str = "$ECS_CONTAINER_METADATA_URI_V4";
/// Region that the suite gives its hosts.
const REGION: &str = "eu-north-1";

fn container(name: &str) -> Value {
    json!({
        "name": name, "image": BUSYBOX, "cpu": 16, "memory": 24, "stopTimeout": 2,
        "entryPoint": ["sh", "-c"], "command": ["exec sleep 3600"],
    })
}

fn definition(name: &str, containers: &Value) -> Value {
    json!({ "kind": "TaskDefinition", "metadata": { "name": name },
            "spec": { "containerDefinitions": containers } })
}

/// A running container of a service's only task, by its name in the task definition.
struct Inside<'a> {
    host: &'a LabHost,
    id: String,
}

impl<'a> Inside<'a> {
    fn find(user: &User<'a>, name: &str) -> Result<Self> {
        let running = user
            .containers()?
            .into_iter()
            .filter(|c| c.state == "running");
        for Container { id, host, .. } in running {
            let host = user.lab.host_named(&host)?;
            let inside = Inside { host, id };
            if inside.label("com.amazonaws.ecs.container-name")? == name {
                return Ok(inside);
            }
        }
        bail!("no container `{name}` runs")
    }

    fn inspect(&self, format: &str) -> Result<String> {
        self.host
            .docker_ok(["inspect", "--format", format, &self.id])
    }

    fn label(&self, label: &str) -> Result<String> {
        self.inspect(&format!("{{{{index .Config.Labels \"{label}\"}}}}"))
    }

    /// What a shell in the container prints; on failure, what it says.
    fn shell(&self, line: &str) -> Result<std::result::Result<String, String>> {
        let out = self.host.docker(["exec", &self.id, "sh", "-c", line])?;
        let said = format!("{out:?}");
        Ok(if out.success {
            Ok(out.stdout)
        } else {
            Err(said)
        })
    }

    /// `GET` from inside, as JSON.
    fn get(&self, url: &str) -> Result<Value> {
        let (status, body) = self.ask(url, "")?;
        ensure!(status == 200, "{url}: {status} {body}");
        serde_json::from_str(&body).with_context(|| format!("{url}: {body}"))
    }

    /// Status and body of a `GET` from inside, with more header lines.
    fn ask(&self, url: &str, headers: &str) -> Result<(u16, String)> {
        let said = self.shell(&fetch(url, headers))?;
        let said = said.map_err(|said| anyhow::anyhow!("{url}: {said}"))?;
        parse(&said).with_context(|| format!("{url}: {said}"))
    }

    /// What comes of a `GET` that must not be answered with a document.
    fn refused(&self, url: &str, headers: &str, wanted: u16) -> Result<()> {
        let (status, body) = self.ask(url, headers)?;
        ensure!(status == wanted, "{url} {headers}: {status} {body}");
        Ok(())
    }
}

/// A line of shell that prints the whole answer to a `GET`. Not wget: static busybox crashes in it.
fn fetch(url: &str, headers: &str) -> String {
    format!(
        "url={url}; rest=${{url#http://*/}}; \
         printf 'GET /%s HTTP/1.1\\r\\nHost: 169.254.170.2\\r\\n{headers}\\r\\n' \"$rest\" | nc -w 8 169.254.170.2 51679"
    )
}

fn parse(answer: &str) -> Option<(u16, String)> {
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let status = head.split_whitespace().nth(1)?.parse().ok()?;
    Some((status, body.to_owned()))
}

fn who_am_i(user: &User<'_>) -> Result<()> {
    let mut app = container("app");
    app["portMappings"] = json!([{ "containerPort": 80 }]);
    app["dockerLabels"] = json!({ "team": "shop" });
    app["healthCheck"] = json!({ "command": ["CMD-SHELL", "echo fine"], "interval": 5 });
    let mut on_host = definition("hosted", &json!([container("hosted")]));
    on_host["spec"]["networkMode"] = json!("host");
    let told = definition("told", &json!([app, container("side")]));
    user.apply(&[told, service("told", 1), on_host, service("hosted", 1)])?;
    let task = user.wait_steady("told", 1)?.remove(0);
    user.wait_steady("hosted", 1)?;
    let name = task["metadata"]["name"]
        .as_str()
        .unwrap_or_default()
        .to_owned();
    let arn = format!(
        "arn:aws:ecs:{REGION}:{}:task/default/{name}",
        user.namespace()
    );
    let app = Inside::find(user, "app")?;
    check_container(&app, &app.get(V4)?, &arn)?;
    let of_task = app.get(&format!("{V4}/task"))?;
    for (field, wanted) in [
        ("TaskARN", json!(arn)),
        ("Cluster", json!("default")),
        ("Family", json!("told")),
        ("Revision", json!("1")),
        ("ServiceName", json!("told")),
        ("LaunchType", json!("EC2")),
        ("DesiredStatus", json!("RUNNING")),
        ("KnownStatus", json!("RUNNING")),
    ] {
        ensure!(of_task[field] == wanted, "{field}: {of_task}");
    }
    let names: Vec<&Value> = of_task["Containers"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|one| &one["Name"])
        .collect();
    ensure!(names == ["app", "side"], "{of_task}");
    for url in [
        "$ECS_CONTAINER_METADATA_URI/task",
        "http://169.254.170.2:51679/v2/metadata",
    ] {
        let older = app.get(url)?;
        ensure!(older["TaskARN"] == of_task["TaskARN"], "{url}: {older}");
        ensure!(older.get("ServiceName").is_none(), "{url}: {older}");
    }
    wait_until("the health of the container to be told", PATIENCE, || {
        let health = app.get(V4)?["Health"].clone();
        ensure!(health["status"] == "HEALTHY", "{health}");
        ensure!(
            health["exitCode"] == 0 && health["output"] == "fine\n",
            "{health}"
        );
        Ok(true)
    })?;
    let hosted = Inside::find(user, "hosted")?;
    let document = hosted.get(V4)?;
    ensure!(document["DockerId"] == hosted.id.as_str(), "{document}");
    ensure!(
        document["Networks"] == json!([{ "NetworkMode": "host" }]),
        "{document}"
    );
    for variable in [
        format!("AWS_REGION={REGION}"),
        format!("AWS_DEFAULT_REGION={REGION}"),
        "AWS_EXECUTION_ENV=AWS_ECS_EC2".to_owned(),
    ] {
        let all = app.inspect("{{json .Config.Env}}")?;
        ensure!(all.contains(&format!("\"{variable}\"")), "{all}");
    }
    // The URI holds over a restart of the agent.
    let agent = app.host.agent();
    agent.kill9()?;
    agent.start()?;
    wait_until(
        "the same URI to lead to the same container",
        PATIENCE,
        || {
            Ok(app
                .get(V4)
                .is_ok_and(|document| document["DockerId"] == app.id.as_str()))
        },
    )?;
    user.delete(&["told", "hosted"])
}

/// What docker says of it is what the endpoint says.
fn check_container(app: &Inside<'_>, told: &Value, task: &str) -> Result<()> {
    let address = app.inspect("{{.NetworkSettings.Networks.bridge.IPAddress}}")?;
    let port = app.inspect("{{(index (index .NetworkSettings.Ports \"80/tcp\") 0).HostPort}}")?;
    let name = app.inspect("{{.Name}}")?;
    for (field, wanted) in [
        ("/DockerId", json!(app.id)),
        ("/DockerName", json!(name.trim_start_matches('/'))),
        ("/Name", json!("app")),
        ("/Image", json!(BUSYBOX)),
        ("/ImageID", json!(app.inspect("{{.Image}}")?)),
        ("/Limits", json!({ "CPU": 16, "Memory": 24 })),
        ("/DesiredStatus", json!("RUNNING")),
        ("/KnownStatus", json!("RUNNING")),
        ("/Type", json!("NORMAL")),
        (
            "/Networks",
            json!([{ "NetworkMode": "bridge", "IPv4Addresses": [address] }]),
        ),
        ("/Ports/0/ContainerPort", json!(80)),
        ("/Ports/0/HostPort", json!(port.parse::<u16>()?)),
        ("/Labels/team", json!("shop")),
        ("/Labels/com.amazonaws.ecs.task-arn", json!(task)),
        (
            "/ContainerARN",
            json!(format!("{}/app", task.replace(":task/", ":container/"))),
        ),
    ] {
        let found = told.pointer(field).unwrap_or(&Value::Null);
        ensure!(*found == wanted, "{field} is not {wanted}: {told}");
    }
    for field in ["CreatedAt", "StartedAt"] {
        ensure!(told[field].is_string(), "{field}: {told}");
    }
    Ok(())
}

fn introspected(user: &User<'_>) -> Result<()> {
    user.apply(&[
        definition("seen", &json!([container("app")])),
        service("seen", 1),
    ])?;
    let task = user.wait_steady("seen", 1)?.remove(0);
    let app = Inside::find(user, "app")?;
    let http = app.host.agent_http();
    let ask = |path: &str| -> Result<(u16, Value)> {
        // Not by nc, which ends its side with the request: this server takes that for the end.
        let line = format!(
            "exec 3<>/dev/tcp/{}/{}; \
             printf 'GET {path} HTTP/1.1\\r\\nHost: x\\r\\nConnection: close\\r\\n\\r\\n' >&3; cat <&3",
            http.ip(),
            http.port()
        );
        let said = app.host.inside("bash").args(["-c", &line]).check()?;
        let (status, body) = parse(&said).with_context(|| format!("{path}: {said}"))?;
        Ok((status, serde_json::from_str(&body).unwrap_or_default()))
    };
    let name = task["metadata"]["name"].as_str().unwrap_or_default();
    let base = format!("arn:aws:ecs:{REGION}:{}", user.namespace());
    let arn = format!("{base}:task/default/{name}");
    let (status, host) = ask("/v1/metadata")?;
    let instance = format!("{base}:container-instance/default/{}", app.host.name());
    ensure!(
        status == 200 && host["Cluster"] == "default",
        "{status} {host}"
    );
    ensure!(host["ContainerInstanceArn"] == instance, "{host}");
    let (status, all) = ask("/v1/tasks")?;
    ensure!(
        status == 200 && all["Tasks"][0]["Arn"] == arn,
        "{status} {all}"
    );
    for query in [
        format!("taskarn={arn}"),
        format!("dockerid={}", &app.id[..12]),
        format!("dockerid={}", app.id),
    ] {
        let (status, one) = ask(&format!("/v1/tasks?{query}"))?;
        ensure!(
            status == 200 && one["Arn"] == arn,
            "{query}: {status} {one}"
        );
        let container = &one["Containers"][0];
        ensure!(container["DockerId"] == app.id.as_str(), "{query}: {one}");
        ensure!(
            container["Networks"][0]["NetworkMode"] == "bridge",
            "{query}: {one}"
        );
    }
    for (query, wanted) in [
        ("taskarn=unknown", 404),
        ("dockerid=ffffffffffff", 404),
        ("taskarn=a&dockerid=b", 400),
    ] {
        let (status, body) = ask(&format!("/v1/tasks?{query}"))?;
        ensure!(
            status == wanted && body["Arn"] == "",
            "{query}: {status} {body}"
        );
    }
    for path in ["/v1/metadata", "/v1/tasks", "/license"] {
        let outside = tallyman_lab::http::get(http, path, PATIENCE)?;
        ensure!(outside.status == 403, "{path} from outside: {outside:?}");
    }
    user.delete(&["seen"])
}

fn closed(user: &User<'_>) -> Result<()> {
    let containers = json!([container("app"), container("side")]);
    user.apply(&[definition("shut", &containers), service("shut", 1)])?;
    user.wait_steady("shut", 1)?;
    let (app, side) = (Inside::find(user, "app")?, Inside::find(user, "side")?);
    let uri = app
        .shell(&format!("echo {V4}"))?
        .map_err(anyhow::Error::msg)?;
    let uri = uri.trim().to_owned();
    ensure!(uri.starts_with("http://169.254.170.2:51679/v4/"), "{uri}");
    app.get(&uri)?;
    side.refused(&uri, "", 403)?;
    side.refused(&uri.replace("/v4/", "/v3/"), "", 403)?;
    app.refused(&uri, "X-Forwarded-For: 10.0.0.1\\r\\n", 403)?;
    let (head, last) = uri.split_at(uri.len() - 1);
    let other = if last == "0" { "1" } else { "0" };
    app.refused(&format!("{head}{other}"), "", 404)?;
    app.refused("http://169.254.170.2:51679/v4/unknown", "", 404)?;
    app.refused("http://169.254.170.2:51679/latest/meta-data", "", 404)?;
    // A container that is of no task, on the same bridge: not even a refusal.
    let line = fetch(&uri, "");
    let stranger = app
        .host
        .docker(["run", "--rm", BUSYBOX, "sh", "-c", &line])?;
    ensure!(stranger.stdout.is_empty(), "a stranger: {stranger:?}");
    // A neighbour that sends its packets here on purpose.
    let neighbour = user
        .lab
        .hosts()
        .iter()
        .find(|host| host.name() != app.host.name())
        .context("there is one host only")?;
    let own = ["addr", "del", "169.254.170.2/32", "dev", "lo"];
    let route = app.host.address().to_string();
    neighbour.inside("ip").args(own).check()?;
    let there = ["route", "add", "169.254.170.2/32", "via", &route];
    neighbour.inside("ip").args(there).check()?;
    let answer = neighbour
        .inside("busybox")
        .args(["sh", "-c", &line.replace("| nc", "| busybox nc")])
        .run();
    neighbour
        .inside("ip")
        .args(["route", "del", "169.254.170.2/32"])
        .check()?;
    neighbour
        .inside("ip")
        .args(["addr", "add", "169.254.170.2/32", "dev", "lo"])
        .check()?;
    let answer = answer?;
    ensure!(answer.stdout.is_empty(), "a neighbour: {answer:?}");
    // Nobody listens on port 80 for IPv6.
    let sockets = app.host.inside("cat").arg("/proc/net/tcp6").check()?;
    ensure!(!sockets.contains(":0050 "), "{sockets}");
    user.delete(&["shut"])
}

fn uses(user: &User<'_>) -> Result<()> {
    let containers = json!([container("app"), container("side")]);
    user.apply(&[definition("busy", &containers), service("busy", 1)])?;
    user.wait_steady("busy", 1)?;
    let (app, side) = (Inside::find(user, "app")?, Inside::find(user, "side")?);
    let number = |stats: &Value, path: &str| stats.pointer(path).and_then(Value::as_f64);
    let stats = app.get(&format!("{V4}/stats"))?;
    for path in [
        "/cpu_stats/cpu_usage/total_usage",
        "/cpu_stats/system_cpu_usage",
        "/precpu_stats/cpu_usage/total_usage",
        "/memory_stats/usage",
        "/networks/eth0/rx_bytes",
        "/network_rate_stats/rx_bytes_per_sec",
        "/network_rate_stats/tx_bytes_per_sec",
    ] {
        ensure!(number(&stats, path).is_some(), "it lacks {path}: {stats}");
    }
    let limit = number(&stats, "/memory_stats/limit");
    ensure!(limit == Some(24.0 * 1024.0 * 1024.0), "{stats}");
    let all = app.get(&format!("{V4}/task/stats"))?;
    for id in [&app.id, &side.id] {
        let usage = number(&all[id.as_str()], "/memory_stats/usage");
        ensure!(usage.is_some(), "{id}: {all}");
    }
    let older = app.get("$ECS_CONTAINER_METADATA_URI/stats")?;
    ensure!(older.get("network_rate_stats").is_none(), "{older}");
    user.delete(&["busy"])
}

fn about_itself(user: &User<'_>) -> Result<()> {
    let mut app = container("app");
    app["user"] = json!("1000");
    app["portMappings"] = json!([{ "containerPort": 80 }]);
    user.apply(&[definition("filed", &json!([app])), service("filed", 1)])?;
    let task = user.wait_steady("filed", 1)?.remove(0);
    let app = Inside::find(user, "app")?;
    let read = || -> Result<Value> {
        let text = app.shell("cat $ECS_CONTAINER_METADATA_FILE")?;
        Ok(serde_json::from_str(&text.map_err(anyhow::Error::msg)?)?)
    };
    let file = wait_until("the file to be READY", PATIENCE, || {
        let file = read()?;
        ensure!(file["MetadataFileStatus"] == "READY", "{file}");
        Ok(Some(file))
    })?;
    let name = task["metadata"]["name"].as_str().unwrap_or_default();
    let base = format!("arn:aws:ecs:{REGION}:{}", user.namespace());
    let instance = app.host.name();
    let address = app.inspect("{{.NetworkSettings.Networks.bridge.IPAddress}}")?;
    for (field, wanted) in [
        ("/Cluster", json!("default")),
        ("/ContainerID", json!(app.id)),
        ("/ContainerName", json!("app")),
        ("/ImageName", json!(BUSYBOX)),
        ("/TaskARN", json!(format!("{base}:task/default/{name}"))),
        (
            "/ContainerInstanceARN",
            json!(format!("{base}:container-instance/default/{instance}")),
        ),
        ("/PortMappings/0/ContainerPort", json!(80)),
        ("/Networks/0/IPv4Addresses/0", json!(address)),
        (
            "/HostPrivateIPv4Address",
            json!(app.host.address().to_string()),
        ),
    ] {
        let found = file.pointer(field).unwrap_or(&Value::Null);
        ensure!(*found == wanted, "{field} is not {wanted}: {file}");
    }
    let written = app.shell("echo x > $ECS_CONTAINER_METADATA_FILE 2>&1")?;
    ensure!(written.is_err(), "it could write its file");
    let folder = app.host.agent_data().join("metadata");
    let uid = task["metadata"]["uid"].as_str().unwrap_or_default();
    ensure!(
        folder.join(uid).is_dir(),
        "{} has no {uid}",
        folder.display()
    );
    user.delete(&["filed"])?;
    wait_until("its file to be gone", PATIENCE, || {
        Ok(!folder.join(uid).exists())
    })?;
    Ok(())
}

/// A program that nobody of this project wrote reads what it expects to read.
fn open_telemetry(user: &User<'_>) -> Result<()> {
    let reader = reader()?;
    let image = "localhost/tallyman/metadata-reader:1";
    for host in user.lab.hosts() {
        host.import_image(&archive(&reader)?, image, &["CMD [\"/metadata-reader\"]"])?;
    }
    let once = json!([{ "name": "reader", "image": image, "cpu": 16, "memory": 64 }]);
    let task = json!({ "kind": "Task", "metadata": { "name": "read-once" },
                       "spec": { "taskDefinition": "read" } });
    user.apply(&[definition("read", &once), task])?;
    wait_until("the reader to have read", PATIENCE, || {
        let status = user.get("tasks", "read-once")?["status"].clone();
        ensure!(status["lastStatus"] == "STOPPED", "{status}");
        Ok(true)
    })?;
    let container = user
        .containers()?
        .into_iter()
        .find(|c| c.task == "read-once")
        .context("its container is gone")?;
    let host = user.lab.host_named(&container.host)?;
    let said = format!("{:?}", host.docker(["logs", &container.id])?);
    let base = format!("arn:aws:ecs:{REGION}:{}", user.namespace());
    for wanted in [
        "cloud.provider=aws".to_owned(),
        "cloud.platform=aws_ecs".to_owned(),
        format!("cloud.region={REGION}"),
        format!("cloud.account.id={}", user.namespace()),
        format!("container.name={}", &container.id[..12]),
        format!("aws.ecs.task.arn={base}:task/default/read-once"),
        format!("aws.ecs.container.arn={base}:container/default/read-once/reader"),
        format!("aws.ecs.cluster.arn={base}:cluster/default"),
        "aws.ecs.launchtype=ec2".to_owned(),
        "aws.ecs.task.family=read".to_owned(),
        "aws.ecs.task.revision=1".to_owned(),
    ] {
        ensure!(said.contains(&wanted), "it lacks {wanted}: {said}");
    }
    user.k(&["delete", "tasks.tallyman.dev", "read-once", "--timeout=60s"])?;
    user.delete(&["read"])
}

fn reader() -> Result<PathBuf> {
    let path = tallyman_lab::paths::source_root()?.join(".tools/engines/bin/metadata-reader");
    ensure!(
        path.is_file(),
        "{} is missing: run `dev/tools.sh engines`",
        path.display()
    );
    Ok(path)
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
