//! Output of containers at the receivers of each log driver.
//!
//! Drivers run in the engine, which lives in its host's network: receivers listen on the lab's bridge, and the one for fluentd
//! runs on the host.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use axum::Router;
use axum::extract::{Request, State};
use serde_json::{Value, json};
use tallyman_lab::command::Tool;
use tallyman_lab::{LabHost, wait_until};
use tokio::runtime::Runtime;

use super::firelens::{ROUTER, import};
use super::secrets::kept;
use crate::suite::{AWS_KEY, Lane, Scenario, WITHOUT_GELF, folder};
use crate::user::{PATIENCE, User};

/// Scenarios of this file.
pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "output reaches the receiver of every log driver",
        run: delivered,
    },
    Scenario {
        name: "a log driver that a host does not offer keeps tasks off it, and one without its service says so",
        run: lacking,
    },
];

const BUSYBOX: &str = "localhost/tallyman/busybox:1";
/// Token of Splunk's collector; in no task definition.
const TOKEN: &str = "collector-4711";
/// Where the receiver for fluentd listens in the host's network. Routers of tasks have their usual port each for themselves.
const FORWARD: u16 = 24_225;
/// Where systemd's journal takes what programs say.
const JOURNAL: &str = "/run/systemd/journal/socket";

/// What the container with this driver says.
fn said(driver: &str) -> String {
    format!("said to {driver}")
}

fn container(driver: &str, options: &Value) -> Value {
    let script = format!(
        "echo {}; trap 'exit 0' TERM; while :; do sleep 1; done",
        said(driver)
    );
    json!({
        "name": driver, "image": BUSYBOX, "cpu": 8, "memory": 8, "stopTimeout": 2,
        "entryPoint": ["sh", "-c"], "command": [script],
        "logConfiguration": { "logDriver": driver, "options": options },
    })
}

fn definition(name: &str, containers: &[Value]) -> Value {
    json!({ "kind": "TaskDefinition", "metadata": { "name": name },
            "spec": { "containerDefinitions": containers } })
}

fn task(name: &str, family: &str, host: &LabHost) -> Value {
    json!({ "kind": "Task", "metadata": { "name": name },
            "spec": { "taskDefinition": family, "containerInstance": host.name() } })
}

/// Takes datagrams.
struct Datagrams {
    socket: UdpSocket,
    heard: Mutex<String>,
}

impl Datagrams {
    fn at(address: Ipv4Addr) -> Result<Self> {
        let socket = UdpSocket::bind((address, 0))?;
        socket.set_nonblocking(true)?;
        Ok(Datagrams {
            socket,
            heard: Mutex::default(),
        })
    }

    fn address(&self) -> Result<String> {
        Ok(format!("udp://{}", self.socket.local_addr()?))
    }

    /// All that came so far.
    fn heard(&self) -> Result<String> {
        let mut heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        let mut datagram = [0; 65_536];
        loop {
            match self.socket.recv(&mut datagram) {
                Ok(length) => {
                    let text = String::from_utf8_lossy(datagram.get(..length).unwrap_or_default());
                    heard.push_str(&text);
                    heard.push('\n');
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(heard.clone()),
                Err(error) => return Err(error.into()),
            }
        }
    }
}

/// A request that came.
#[derive(Clone, Debug)]
struct Asked {
    path: String,
    headers: BTreeMap<String, String>,
    body: String,
}

/// Answers every request as Splunk's collector and CloudWatch Logs do when all is well. Both are seen by what is asked.
struct Collector {
    /// Serves as long as it is there.
    _runtime: Runtime,
    address: SocketAddr,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl Collector {
    fn at(address: Ipv4Addr) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()?;
        let listener = runtime.block_on(tokio::net::TcpListener::bind((address, 0)))?;
        let address = listener.local_addr()?;
        let asked = Arc::default();
        let app = Router::new().fallback(take).with_state(Arc::clone(&asked));
        runtime.spawn(async move { axum::serve(listener, app).await });
        Ok(Collector {
            _runtime: runtime,
            address,
            asked,
        })
    }

    fn address(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The request with these words in its body.
    fn find(&self, words: &str) -> Result<Asked> {
        let asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        let found = asked.iter().find(|asked| asked.body.contains(words));
        found
            .cloned()
            .with_context(|| format!("{words} is in none of {asked:?}"))
    }
}

async fn take(State(all): State<Arc<Mutex<Vec<Asked>>>>, request: Request) -> String {
    let (head, body) = request.into_parts();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let body = axum::body::to_bytes(body, usize::MAX).await;
    let asked = Asked {
        path: head.uri.path().to_owned(),
        headers: head
            .headers
            .iter()
            .map(|(name, value)| (name.to_string(), text(value.as_bytes())))
            .collect(),
        body: text(&body.unwrap_or_default()),
    };
    all.lock()
        .unwrap_or_else(PoisonError::into_inner)
        .push(asked);
    "{}".to_owned()
}

/// Prints what is sent by the Forward protocol, in the host's network.
fn forward(host: &LabHost) -> Result<()> {
    let path = folder(Lane::about(host.generation())).join("forward.conf");
    std::fs::create_dir_all(path.parent().context("a file has a folder")?)?;
    let input = format!("[INPUT]\n    Name forward\n    Listen 0.0.0.0\n    Port {FORWARD}\n");
    let output = "[OUTPUT]\n    Name stdout\n    Match *\n    json_date_key at\n";
    std::fs::write(&path, format!("{input}{output}"))?;
    let mount = format!("{}:/fluent-bit/etc/fluent-bit.conf:ro", path.display());
    host.docker_ok([
        "run",
        "--detach",
        "--name",
        "forward",
        "--network",
        "host",
        "--volume",
        &mount,
        ROUTER,
    ])?;
    let address = SocketAddr::from((host.address(), FORWARD));
    wait_until("the receiver for fluentd to listen", PATIENCE, || {
        TcpStream::connect_timeout(&address, Duration::from_secs(2))?;
        Ok(true)
    })
}

fn delivered(user: &User<'_>) -> Result<()> {
    import(user)?;
    let host = user.lab.host(0);
    let shown = forward(host).and_then(|()| with_receivers(user, host));
    // Whatever was seen, nobody else shall find it there.
    let _ = host.docker(["rm", "--force", "forward"]);
    let _ = std::fs::remove_dir_all(folder(Lane::about(host.generation())));
    shown
}

fn with_receivers(user: &User<'_>, host: &LabHost) -> Result<()> {
    let gateway = user.lab.network().gateway();
    let syslog = Datagrams::at(gateway)?;
    let gelf = Datagrams::at(gateway)?;
    let collector = Collector::at(gateway)?;
    kept(user, "Secret", "collector", json!({ "token": TOKEN }))?;
    let mut splunk = container("splunk", &json!({ "splunk-url": collector.address() }));
    splunk["logConfiguration"]["secretOptions"] =
        json!([{ "name": "splunk-token", "valueFrom": "collector:token" }]);
    let containers = [
        container(
            "syslog",
            &json!({ "syslog-address": syslog.address()?, "syslog-format": "rfc5424", "tag": "shop/{{.Name}}" }),
        ),
        container(
            "gelf",
            &json!({ "gelf-address": gelf.address()?, "gelf-compression-type": "none" }),
        ),
        container(
            "fluentd",
            &json!({ "fluentd-address": format!("127.0.0.1:{FORWARD}"), "tag": "shop" }),
        ),
        splunk,
        container(
            "awslogs",
            &json!({
                "awslogs-region": "eu-north-1", "awslogs-endpoint": collector.address(),
                "awslogs-group": "shop", "awslogs-stream-prefix": "web",
            }),
        ),
        container("json-file", &json!({ "max-size": "1m" })),
        container("local", &json!({ "max-file": "2" })),
        container("none", &json!({})),
    ];
    user.apply(&[definition("says", &containers), task("says", "says", host)])?;
    wait_until("the task to run", PATIENCE, || {
        let status = user.get("tasks", "says")?["status"].clone();
        ensure!(status["lastStatus"] == "RUNNING", "{status}");
        Ok(true)
    })?;

    // As RFC 5424 has it: who says it is the tag.
    datagram(&syslog, &said("syslog"), &["shop/", " - "])?;
    let short = format!("\"short_message\":\"{}\"", said("gelf"));
    datagram(&gelf, &short, &["\"version\":\"1.1\"", "_container_name"])?;
    wait_until("the receiver for fluentd to hear it", PATIENCE, || {
        let logs = host.docker(["logs", "forward"])?.stdout;
        let records: Vec<Value> = logs
            .lines()
            .map(serde_json::from_str)
            .collect::<Result<_, _>>()?;
        let heard = |record: &Value| record["log"] == said("fluentd") && record["tag"] == "shop";
        ensure!(records.iter().any(heard), "{logs}");
        Ok(true)
    })?;
    let event = request(&collector, &said("splunk"))?;
    let token = event.headers.get("authorization");
    ensure!(
        event.path == "/services/collector/event/1.0"
            && token.is_some_and(|t| *t == format!("Splunk {TOKEN}")),
        "{event:?}"
    );
    let events = request(&collector, &said("awslogs"))?;
    let header = |name: &str| events.headers.get(name).cloned().unwrap_or_default();
    let body: Value = serde_json::from_str(&events.body)?;
    ensure!(
        header("x-amz-target") == "Logs_20140328.PutLogEvents"
            && header("authorization").contains(&format!("Credential={AWS_KEY}/"))
            && body["logGroupName"] == "shop"
            && body["logStreamName"] == "web/awslogs/says"
            && body["logEvents"][0]["message"] == said("awslogs"),
        "{events:?}"
    );
    in_files(host)?;
    user.k(&["delete", "tasks.tallyman.dev", "says", "--timeout=60s"])?;
    user.k(&["delete", "secret", "collector"])?;
    user.delete(&["says"])
}

/// Waits for a datagram with these words, and all of those.
fn datagram(receiver: &Datagrams, words: &str, those: &[&str]) -> Result<()> {
    wait_until(format!("a datagram with {words}"), PATIENCE, || {
        let heard = receiver.heard()?;
        let fits = |line: &str| line.contains(words) && those.iter().all(|w| line.contains(w));
        ensure!(heard.lines().any(fits), "{heard}");
        Ok(true)
    })
}

fn request(collector: &Collector, words: &str) -> Result<Asked> {
    wait_until(format!("a request with {words}"), PATIENCE, || {
        collector.find(words).map(Some)
    })
}

/// What the engine keeps by itself, and what it does not.
fn in_files(host: &LabHost) -> Result<()> {
    for (driver, kept) in [("json-file", true), ("local", true), ("none", false)] {
        let label = format!("label=com.amazonaws.ecs.container-name={driver}");
        let id = host.docker_ok(["ps", "--quiet", "--filter", &label])?;
        let logs = wait_until(format!("docker logs of {driver}"), PATIENCE, || {
            let logs = host.docker(["logs", id.trim()])?;
            ensure!(!kept || logs.stdout.contains(&said(driver)), "{logs:?}");
            Ok(Some(logs))
        })?;
        ensure!(logs.success == kept, "{driver}: {logs:?}");
    }
    Ok(())
}

/// The second host does not offer gelf. Every engine has a driver for systemd's journal, whether the host has one or not.
fn lacking(user: &User<'_>) -> Result<()> {
    let host = user.lab.host(1);
    let offered = host.agent_env().get("ECS_AVAILABLE_LOGGING_DRIVERS");
    ensure!(offered.is_some_and(|o| o == WITHOUT_GELF), "{offered:?}");
    let gelf = container("gelf", &json!({ "gelf-address": "udp://127.0.0.1:12201" }));
    let journal = container("journald", &json!({ "tag": "shop" }));
    user.apply(&[
        definition("gelf", &[gelf]),
        task("gelf", "gelf", host),
        definition("journal", &[journal]),
        task("journal", "journal", host),
    ])?;
    stopped(
        user,
        "gelf",
        "com.amazonaws.ecs.capability.logging-driver.gelf",
    )?;
    if Path::new(JOURNAL).exists() {
        wait_until("the journal to hold it", PATIENCE, || {
            let wanted = ["--output=cat", "CONTAINER_TAG=shop"];
            let held = Tool::new("journalctl").args(wanted).check()?;
            ensure!(held.contains(&said("journald")), "{held}");
            Ok(true)
        })?;
    } else {
        stopped(user, "journal", "journald is not enabled on this host")?;
    }
    user.k(&[
        "delete",
        "tasks.tallyman.dev",
        "gelf",
        "journal",
        "--timeout=60s",
    ])?;
    user.delete(&["gelf", "journal"])
}

/// Waits until a task is STOPPED with these words.
fn stopped(user: &User<'_>, name: &str, because: &str) -> Result<()> {
    wait_until(format!("task {name} to say why not"), PATIENCE, || {
        let status = user.get("tasks", name)?["status"].clone();
        let reason = status["stoppedReason"].as_str().unwrap_or_default();
        ensure!(
            status["stopCode"] == "TaskFailedToStart" && reason.contains(because),
            "{status}"
        );
        Ok(true)
    })
}
