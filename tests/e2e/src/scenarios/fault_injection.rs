//! Tasks that ask for a bad network (ECS fault injection).

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use tallyman_lab::{LabHost, wait_until};

use crate::inside::{Inside, container, definition};
use crate::suite::Scenario;
use crate::user::{PATIENCE, User, service};

/// Scenarios of this file.
pub const SCENARIOS: &[Scenario] = &[Scenario {
    name: "a task drops packets of its own port when it asks for it, and nobody else's",
    run: own_port,
}];

const FAULTS: &str = "$ECS_AGENT_URI/fault/v1";
/// That a task on the host's network serves.
const PORT_OF_HOST: u16 = 18_099;

/// A TaskDefinition whose only container serves a page on a port.
fn serving(name: &str, port: u16, mode: &str, faults: bool) -> Value {
    let mut app = container(name);
    let script =
        format!("mkdir /page; echo page > /page/index.html; exec httpd -f -p {port} -h /page");
    app["command"] = json!([script]);
    let mut all = definition(name, &json!([app]));
    all["spec"]["networkMode"] = json!(mode);
    all["spec"]["enableFaultInjection"] = json!(faults);
    all
}

/// Whether a page comes from there, asked by the host.
fn answers(host: &LabHost, address: &str, port: u16) -> Result<bool> {
    let line = format!(
        "exec 3<>/dev/tcp/{address}/{port}; printf 'GET / HTTP/1.0\\r\\n\\r\\n' >&3; grep -q page <&3"
    );
    let asked = host
        .inside("timeout")
        .args(["2", "bash", "-c", &line])
        .run();
    Ok(asked?.success)
}

fn own_port(user: &User<'_>) -> Result<()> {
    user.apply(&[
        serving("shaken", 8080, "awsvpc", true),
        service("shaken", 1),
        serving("calm", 8080, "awsvpc", false),
        service("calm", 1),
        serving("hosted", PORT_OF_HOST, "host", true),
        service("hosted", 1),
    ])?;
    for name in ["shaken", "calm", "hosted"] {
        user.wait_steady(name, 1)?;
    }
    let (shaken, calm) = (Inside::find(user, "shaken")?, Inside::find(user, "calm")?);
    let address = |inside: &Inside<'_>| -> Result<String> {
        let told = inside.get("$ECS_CONTAINER_METADATA_URI_V4")?;
        let found = told.pointer("/Networks/0/IPv4Addresses/0");
        let found = found.and_then(Value::as_str);
        Ok(found
            .with_context(|| format!("no address: {told}"))?
            .to_owned())
    };
    let (of_shaken, of_calm) = (address(&shaken)?, address(&calm)?);
    let port = json!({ "Port": 8080, "Protocol": "tcp", "TrafficType": "ingress" });
    let hole = format!("{FAULTS}/network-blackhole-port");
    let told = |inside: &Inside<'_>, act: &str, body: &Value, wanted: (u16, &str)| -> Result<()> {
        let (code, said) = inside.post(&format!("{hole}/{act}"), body)?;
        ensure!((code, said.as_str()) == wanted, "{act}: {code} {said}");
        Ok(())
    };
    let running = (200, r#"{"Status":"running"}"#);
    let stopped = (200, r#"{"Status":"stopped"}"#);
    let until = |what: &str, wanted: bool, host: &LabHost, address: &str, port| {
        wait_until(what, PATIENCE, || {
            Ok(answers(host, address, port)? == wanted)
        })
    };
    until("a page of the task", true, shaken.host, &of_shaken, 8080)?;
    told(&shaken, "start", &port, running)?;
    ensure!(
        !answers(shaken.host, &of_shaken, 8080)?,
        "a page came though its packets are dropped"
    );
    until("a page of the other task", true, calm.host, &of_calm, 8080)?;
    told(&shaken, "status", &port, running)?;
    let throttled = r#"{"Error":"network-blackhole-port/status is answered once in 5 seconds"}"#;
    told(&shaken, "status", &port, (429, throttled))?;
    told(&shaken, "stop", &port, stopped)?;
    until("a page again", true, shaken.host, &of_shaken, 8080)?;
    // One that may not, and one that says nothing.
    let (code, said) = calm.post(&format!("{hole}/start"), &port)?;
    ensure!(
        code == 400 && said.contains("enableFaultInjection is not enabled for task: arn:aws:ecs:"),
        "{code} {said}"
    );
    let (code, said) = shaken.post(&format!("{FAULTS}/network-packet-loss/start"), &json!({}))?;
    ensure!(
        code == 400 && said.contains("required parameter LossPercent is missing"),
        "{code} {said}"
    );
    late(user, &shaken)?;
    of_host(user)?;
    user.delete(&["shaken", "calm", "hosted"])
}

/// Where the kernel can, packets are late; where it cannot, it is quoted, and the host said so before.
fn late(user: &User<'_>, shaken: &Inside<'_>) -> Result<()> {
    let instance = user.get("containerinstances", shaken.host.name())?;
    let attributes = instance["status"]["host"]["attributes"].as_array();
    let has = |name: &str| {
        let mut all = attributes.into_iter().flatten();
        all.any(|one| one["name"] == name)
    };
    ensure!(has("ecs.capability.fault-injection"), "{instance}");
    let body =
        json!({ "DelayMilliseconds": 300, "JitterMilliseconds": 0, "Sources": ["0.0.0.0/0"] });
    let latency = format!("{FAULTS}/network-latency");
    let (code, said) = shaken.post(&format!("{latency}/start"), &body)?;
    if has("ecs.capability.fault-injection.netem") {
        ensure!(code == 200, "{code} {said}");
        let (code, said) = shaken.post(&format!("{latency}/stop"), &json!({}))?;
        ensure!(code == 200, "{code} {said}");
    } else {
        ensure!(
            code == 500 && said.contains("start network-latency: tc: "),
            "{code} {said}"
        );
    }
    let (code, said) = shaken.post(&format!("{latency}/status"), &json!({}))?;
    ensure!(
        code == 200 && said == r#"{"Status":"not-running"}"#,
        "{code} {said}"
    );
    Ok(())
}

/// On the host's network it is a port of the host.
fn of_host(user: &User<'_>) -> Result<()> {
    let hosted = Inside::find(user, "hosted")?;
    let address = hosted.host.address().to_string();
    ensure!(
        answers(hosted.host, &address, PORT_OF_HOST)?,
        "no page of the task on the host's network"
    );
    let body = json!({ "Port": PORT_OF_HOST, "Protocol": "tcp", "TrafficType": "ingress" });
    let hole = format!("{FAULTS}/network-blackhole-port");
    let started = hosted.post(&format!("{hole}/start"), &body)?;
    let answered = answers(hosted.host, &address, PORT_OF_HOST);
    let stopped = hosted.post(&format!("{hole}/stop"), &body)?;
    ensure!(
        started.0 == 200 && stopped.0 == 200,
        "{started:?} {stopped:?}"
    );
    ensure!(!answered?, "a page came though its packets are dropped");
    ensure!(
        answers(hosted.host, &address, PORT_OF_HOST)?,
        "no page after the fault was stopped"
    );
    let left = hosted.host.inside("iptables").args(["-S"]).check()?;
    ensure!(!left.contains("ingress-tcp"), "{left}");
    Ok(())
}
