//! What a container can ask of its agent, and who else cannot.

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use tallyman_lab::wait_until;

use crate::inside::{BUSYBOX, Inside, REGION, container, definition, fetch, parse};
use crate::suite::Scenario;
use crate::user::{PATIENCE, User, service};

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
];

const V4: &str = "$ECS_CONTAINER_METADATA_URI_V4";
/// A port of the host that no other scenario has.
const HOST_PORT: u16 = 8094;

fn who_am_i(user: &User<'_>) -> Result<()> {
    let mut on_host = definition("hosted", &json!([full("hosted", HOST_PORT)]));
    on_host["spec"]["networkMode"] = json!("host");
    on_host["spec"]["tags"] = json!([{ "key": "stage", "value": "test" }]);
    let mut of_definition = service("hosted", 1);
    of_definition["spec"]["propagateTags"] = json!("TASK_DEFINITION");
    let mut told = definition("told", &json!([full("app", 80), container("side")]));
    for one in [&mut told, &mut on_host] {
        one["spec"]["cpu"] = json!("128");
        one["spec"]["memory"] = json!("64");
        one["spec"]["volumes"] = json!([{ "name": "data" }]);
    }
    let mut tagged = service("told", 1);
    tagged["spec"]["tags"] = json!([{ "key": "team", "value": "shop" }]);
    tagged["spec"]["propagateTags"] = json!("SERVICE");
    user.apply(&[told, tagged, on_host, of_definition])?;
    let arn = |task: Value| {
        let name = task["metadata"]["name"].as_str().unwrap_or_default();
        format!(
            "arn:aws:ecs:{REGION}:{}:task/default/{name}",
            user.namespace()
        )
    };
    let app_arn = arn(user.wait_steady("told", 1)?.remove(0));
    let hosted_arn = arn(user.wait_steady("hosted", 1)?.remove(0));
    let app = Inside::find(user, "app")?;
    let address = app.inspect("{{.NetworkSettings.Networks.bridge.IPAddress}}")?;
    let port = app.inspect("{{(index (index .NetworkSettings.Ports \"80/tcp\") 0).HostPort}}")?;
    let bridge = json!([{ "NetworkMode": "bridge", "IPv4Addresses": [address] }]);
    let ports = (80, port.parse::<u16>()?);
    check_container(&app, "app", &app_arn, &bridge, ports)?;
    let of_task = check_task(&app, "told", &app_arn)?;
    let with_tags = app.get(&format!("{V4}/taskWithTags"))?;
    ensure!(
        with_tags["TaskTags"] == json!({ "team": "shop" })
            && with_tags["ContainerInstanceTags"] == json!({ "rack": "r1" }),
        "{with_tags}"
    );
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
    // On the host's network it has no address and no interface of its own, and its ports are the host's.
    let hosted = Inside::find(user, "hosted")?;
    let host = json!([{ "NetworkMode": "host" }]);
    let ports = (HOST_PORT, HOST_PORT);
    check_container(&hosted, "hosted", &hosted_arn, &host, ports)?;
    let of_hosted = check_task(&hosted, "hosted", &hosted_arn)?;
    ensure!(
        of_hosted["Containers"].as_array().map(Vec::len) == Some(1),
        "{of_hosted}"
    );
    let older = hosted.get("$ECS_CONTAINER_METADATA_URI/task")?;
    ensure!(older["TaskARN"] == hosted_arn.as_str(), "{older}");
    ensure!(older.get("ServiceName").is_none(), "{older}");
    let with_tags = hosted.get(&format!("{V4}/taskWithTags"))?;
    ensure!(
        with_tags["TaskTags"] == json!({ "stage": "test" })
            && with_tags["ContainerInstanceTags"] == json!({ "rack": "r1" }),
        "{with_tags}"
    );
    for (one, called) in [(&app, "app"), (&hosted, "hosted")] {
        wait_until("the health of the container to be told", PATIENCE, || {
            let health = one.get(V4)?["Health"].clone();
            ensure!(health["status"] == "HEALTHY", "{called}: {health}");
            ensure!(
                health["exitCode"] == 0
                    && health["output"] == "fine\n"
                    && health["statusSince"].is_string(),
                "{called}: {health}"
            );
            Ok(true)
        })?;
    }
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

/// A container of which there is something to tell in every field.
fn full(name: &str, port: u16) -> Value {
    let mut one = container(name);
    one["portMappings"] = json!([{ "containerPort": port }]);
    one["dockerLabels"] = json!({ "team": "shop" });
    one["healthCheck"] = json!({ "command": ["CMD-SHELL", "echo fine"], "interval": 5 });
    one["mountPoints"] = json!([{ "sourceVolume": "data", "containerPath": "/data" }]);
    one["logConfiguration"] = json!({ "logDriver": "json-file", "options": { "max-size": "1m" } });
    one["restartPolicy"] = json!({ "enabled": true });
    one
}

/// What is told of the task in each network mode; the document.
fn check_task(one: &Inside<'_>, family: &str, arn: &str) -> Result<Value> {
    let of_task = one.get(&format!("{V4}/task"))?;
    for (field, wanted) in [
        ("TaskARN", json!(arn)),
        ("Cluster", json!("default")),
        ("Family", json!(family)),
        ("Revision", json!("1")),
        ("ServiceName", json!(family)),
        ("Group", json!(format!("service:{family}"))),
        ("LaunchType", json!("EC2")),
        ("DesiredStatus", json!("RUNNING")),
        ("KnownStatus", json!("RUNNING")),
        ("Limits", json!({ "CPU": 0.125, "Memory": 64 })),
        ("FaultInjectionEnabled", json!(false)),
    ] {
        ensure!(
            of_task[field] == wanted,
            "{field} is not {wanted}: {of_task}"
        );
    }
    for field in ["PullStartedAt", "PullStoppedAt"] {
        ensure!(of_task[field].is_string(), "{field}: {of_task}");
    }
    // Tags are told to who asks for them, and the end once there is one.
    for field in ["TaskTags", "ContainerInstanceTags", "ExecutionStoppedAt"] {
        ensure!(of_task.get(field).is_none(), "{field}: {of_task}");
    }
    Ok(of_task)
}

/// What docker says of it is what the endpoint says; `ports` are the container's and the host's.
fn check_container(
    one: &Inside<'_>,
    name: &str,
    task: &str,
    networks: &Value,
    ports: (u16, u16),
) -> Result<()> {
    let told = one.get(V4)?;
    let docker_name = one.inspect("{{.Name}}")?;
    let mount = one.inspect(
        "{{range .Mounts}}{{if eq .Destination \"/data\"}}{{.Name}} {{.Source}}{{end}}{{end}}",
    )?;
    let (volume, source) = mount.split_once(' ').context("nothing is at /data")?;
    let (container_port, host_port) = ports;
    for (field, wanted) in [
        ("/DockerId", json!(one.id)),
        ("/DockerName", json!(docker_name.trim_start_matches('/'))),
        ("/Name", json!(name)),
        ("/Image", json!(BUSYBOX)),
        ("/ImageID", json!(one.inspect("{{.Image}}")?)),
        ("/Limits", json!({ "CPU": 16, "Memory": 24 })),
        ("/DesiredStatus", json!("RUNNING")),
        ("/KnownStatus", json!("RUNNING")),
        ("/Type", json!("NORMAL")),
        ("/Networks", networks.clone()),
        (
            "/Ports/0",
            json!({
                "ContainerPort": container_port, "Protocol": "tcp", "HostPort": host_port, "HostIp": "0.0.0.0",
            }),
        ),
        ("/Labels/team", json!("shop")),
        ("/Labels/com.amazonaws.ecs.task-arn", json!(task)),
        ("/Labels/com.amazonaws.ecs.container-name", json!(name)),
        ("/LogDriver", json!("json-file")),
        ("/LogOptions/max-size", json!("1m")),
        ("/RestartCount", json!(0)),
        (
            "/ContainerARN",
            json!(format!("{}/{name}", task.replace(":task/", ":container/"))),
        ),
    ] {
        let found = told.pointer(field).unwrap_or(&Value::Null);
        ensure!(*found == wanted, "{field} is not {wanted}: {told}");
    }
    let mut volumes = told["Volumes"].as_array().into_iter().flatten();
    let wanted = json!({ "DockerName": volume, "Source": source, "Destination": "/data" });
    ensure!(volumes.any(|one| *one == wanted), "no {wanted}: {told}");
    for field in ["CreatedAt", "StartedAt"] {
        ensure!(told[field].is_string(), "{field}: {told}");
    }
    for field in ["ExitCode", "FinishedAt"] {
        ensure!(told.get(field).is_none(), "{field}: {told}");
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
    // This side must stay open until the answer is there.
    let line = format!(
        "(printf 'GET /v1/tasks HTTP/1.1\\r\\nHost: x\\r\\nConnection: close\\r\\n\\r\\n'; sleep 3) | nc -w 8 {} {}",
        http.ip(),
        http.port()
    );
    let said = app.shell(&line)?.map_err(anyhow::Error::msg)?;
    let (status, _) = parse(&said).with_context(|| format!("from a container: {said}"))?;
    ensure!(status == 403, "from a container: {said}");
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
    // More than a host answers in a second (40, and 60 at once) is refused, and to whoever asks so often alone.
    let much = format!(
        "for _ in 1 2 3 4; do (for _ in $(seq 60); do {}; done) & done | grep -c 'HTTP/1.1 429 '",
        fetch(&uri, "")
    );
    let refused = app.shell(&much)?.map_err(anyhow::Error::msg)?;
    ensure!(
        refused.trim().parse::<u32>()? < 240,
        "{refused} of 240 refused"
    );
    side.get(V4)?;
    // Nobody listens for IPv6: not on port 80, not for metadata (51679), not for introspection (51678).
    let sockets = app.host.inside("cat").arg("/proc/net/tcp6").check()?;
    for port in [":0050 ", ":C9DF ", ":C9DE "] {
        ensure!(!sockets.contains(port), "{port}: {sockets}");
    }
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
