//! How tasks reach the network and each other: ports of the host, addresses of their own, shared namespaces.

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use tallyman_lab::{LabHost as Host, wait_until};

use crate::inside::Inside;
use crate::suite::Scenario;
use crate::user::{PATIENCE, User, condition, service};

/// Scenarios of this file.
pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "a range of ports and dynamic ports come from the host's own range",
        run: chosen_ports,
    },
    Scenario {
        name: "tasks with addresses of their own share a port number and serve it",
        run: own_addresses,
    },
    Scenario {
        name: "tasks have addresses of the network that the operator of their host made",
        run: on_a_lan,
    },
    Scenario {
        name: "tasks with addresses of their own do not reach a cloud's instance metadata where the host says so",
        run: instance_metadata,
    },
    Scenario {
        name: "containers of a task see each other's processes and memory segments",
        run: shared_namespaces,
    },
];

fn container(name: &str, script: &str, more: Value) -> Value {
    let mut one = json!({
        "name": name, "image": "localhost/tallyman/busybox:1", "memory": 16, "stopTimeout": 2,
        "entryPoint": ["sh", "-c"], "command": [script],
    });
    if let (Some(one), Value::Object(more)) = (one.as_object_mut(), more) {
        one.extend(more);
    }
    one
}

/// A TaskDefinition.
fn definition(name: &str, containers: &[Value], more: Value) -> Value {
    let mut spec = json!({ "containerDefinitions": containers });
    if let (Some(spec), Value::Object(more)) = (spec.as_object_mut(), more) {
        spec.extend(more);
    }
    json!({ "kind": "TaskDefinition", "metadata": { "name": name }, "spec": spec })
}

/// A Task of the definition on the first host.
fn task(user: &User<'_>, name: &str, definition: &str) -> Result<()> {
    user.apply(&[json!({
        "kind": "Task", "metadata": { "name": name },
        "spec": { "taskDefinition": definition, "containerInstance": user.lab.host(0).name() },
    })])?;
    Ok(())
}

fn until(user: &User<'_>, task: &str, last_status: &str) -> Result<Value> {
    wait_until(format!("{task} to be {last_status}"), PATIENCE, || {
        let task = user.get("tasks", task)?;
        let status = &task["status"];
        ensure!(status["lastStatus"] == last_status, "{status}");
        Ok(Some(status.clone()))
    })
}

fn gone(user: &User<'_>, tasks: &[&str], definition: &str) -> Result<()> {
    for task in tasks {
        user.k(&["delete", "tasks.tallyman.dev", task, "--timeout=60s"])?;
    }
    user.delete(&[definition])
}

/// Serves a page that says `text` on these ports.
fn serving(text: &str, ports: &[u16]) -> String {
    use std::fmt::Write as _;
    let mut script = format!("mkdir -p /page && echo {text} > /page/index.html; ");
    for port in ports {
        let _ = write!(script, "httpd -p {port} -h /page; ");
    }
    script + "trap 'exit 0' TERM; while :; do sleep 1; done"
}

fn chosen_ports(user: &User<'_>) -> Result<()> {
    let host = user.lab.host(0);
    let web = container(
        "web",
        &serving("served", &[80, 8000, 8001, 8002]),
        json!({ "portMappings": [{ "containerPort": 80 }, { "containerPortRange": "8000-8002" }] }),
    );
    user.apply(&[definition("ranged", &[web], json!({}))])?;
    let names = ["ranged-a", "ranged-b"];
    for name in names {
        task(user, name, "ranged")?;
    }
    let mut seen: Vec<u16> = Vec::new();
    for name in names {
        let status = until(user, name, "RUNNING")?;
        let bindings = status["containers"][0]["networkBindings"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        ensure!(bindings.len() == 2, "one binding each: {bindings:?}");
        let single = bindings[0]["hostPort"].as_u64().context("no hostPort")?;
        seen.push(u16::try_from(single)?);
        ensure!(
            bindings[1]["containerPortRange"] == "8000-8002",
            "{bindings:?}"
        );
        let range = bindings[1]["hostPortRange"].as_str().unwrap_or_default();
        let (first, last) = range.split_once('-').context("no hostPortRange")?;
        let (first, last): (u16, u16) = (first.parse()?, last.parse()?);
        ensure!(last - first == 2, "not three in a row: {range}");
        seen.extend(first..=last);
    }
    let all = crate::suite::DYNAMIC_PORTS;
    ensure!(
        seen.iter().all(|port| all.contains(port)),
        "{seen:?} are not all in {all:?}"
    );
    for port in &seen {
        let page = wait_until(format!("port {port} to answer"), PATIENCE, || {
            Ok(host.get(*port, "/").ok())
        })?;
        ensure!(page.body.contains("served"), "port {port}: {page:?}");
    }
    seen.sort_unstable();
    seen.dedup();
    ensure!(seen.len() == 8, "a port was given twice: {seen:?}");
    gone(user, &names, "ranged")
}

/// The id of a container of a task on the first host, by its name in the task definition.
fn id_of(user: &User<'_>, task: &str, container: &str) -> Result<String> {
    let found = user.lab.host(0).docker_ok([
        "ps",
        "--all",
        "--no-trunc",
        "--quiet",
        "--filter",
        &format!("label=tallyman.dev/task={task}"),
        "--filter",
        &format!("label=com.amazonaws.ecs.container-name={container}"),
    ])?;
    ensure!(
        found.split_whitespace().count() == 1,
        "{container} of {task}: '{found}'"
    );
    Ok(found)
}

/// What a shell inside a container prints.
fn inside(user: &User<'_>, task: &str, container: &str, line: &str) -> Result<String> {
    let id = id_of(user, task, container)?;
    user.lab.host(0).docker_ok(["exec", &id, "sh", "-c", line])
}

/// As a command of busybox' shell, the page at an address.
fn fetch(address: &str) -> String {
    format!("printf 'GET / HTTP/1.0\\r\\n\\r\\n' | nc -w 5 {address} 80")
}

fn address_of(status: &Value) -> Result<String> {
    let details = status["attachments"][0]["details"].as_array();
    let found = details
        .into_iter()
        .flatten()
        .find(|d| d["name"] == "privateIPv4Address");
    let address = found.and_then(|d| d["value"].as_str());
    Ok(address
        .with_context(|| format!("no address in {}", status["attachments"]))?
        .to_owned())
}

const PAUSE: &str = "~internal~ecs~pause";

fn own_addresses(user: &User<'_>) -> Result<()> {
    let host = user.lab.host(0);
    let web = container(
        "web",
        &serving("from-$HOSTNAME", &[80]),
        json!({ "portMappings": [{ "containerPort": 80, "hostPort": 80 }] }),
    );
    let side = container(
        "side",
        "trap 'exit 0' TERM; while :; do sleep 1; done",
        json!({}),
    );
    let network = json!({ "networkMode": "awsvpc" });
    user.apply(&[definition("own", &[web, side], network)])?;
    let names = ["own-a", "own-b"];
    for name in names {
        task(user, name, "own")?;
    }
    let mut addresses = Vec::new();
    for name in names {
        let status = until(user, name, "RUNNING")?;
        let containers = status["containers"].as_array().context("no containers")?;
        ensure!(
            containers.len() == 2,
            "the pause container is told: {containers:?}"
        );
        let address = address_of(&status)?;
        for one in containers {
            ensure!(
                one["networkInterfaces"][0]["privateIpv4Address"] == address,
                "{one}"
            );
        }
        ensure!(
            status["ports"] == format!("{address}:80"),
            "{}",
            status["ports"]
        );
        // Between containers of the task, and from the host.
        let page = wait_until("the page over localhost", PATIENCE, || {
            inside(user, name, "side", &fetch("127.0.0.1"))
                .map(|page| page.contains("200 OK").then_some(page))
        })?;
        ensure!(page.contains("from-"), "{page}");
        let outside = format!(
            "PATH=/usr/bin:/bin; alias nc='busybox nc'; {}",
            fetch(&address)
        );
        let page = host
            .inside("busybox")
            .args(["sh", "-c", &outside])
            .check()?;
        ensure!(page.contains("200 OK"), "at {address}: {page}");
        addresses.push(address);
    }
    ensure!(addresses[0] != addresses[1], "both have {addresses:?}");
    let told = user.k(&["get", "task", "own-a"])?;
    ensure!(told.contains(&format!("{}:80", addresses[0])), "{told}");
    told_address(user, &addresses[0])?;

    // An agent that is killed takes nothing with it, and finds all of it again.
    let before = user.containers()?;
    ensure!(before.len() == 6, "{before:?}");
    host.agent().kill9()?;
    host.agent().start()?;
    let instance = host.name().to_owned();
    wait_until("the agent to be back", PATIENCE, || {
        let message = user.get("containerinstances", &instance)?;
        Ok(condition(&message, "Ready").0 == "True")
    })?;
    ensure!(user.containers()? == before, "containers changed");

    // Without its pause container a task is over.
    host.docker_ok(["kill", &id_of(user, "own-b", PAUSE)?])?;
    let status = until(user, "own-b", "STOPPED")?;
    let reason = status["stoppedReason"].as_str().unwrap_or_default();
    ensure!(
        reason.starts_with("Essential container in task exited") && reason.contains("pause"),
        "{status}"
    );
    ensure!(status["attachments"][0]["status"] == "DELETED", "{status}");
    ensure!(until(user, "own-a", "RUNNING")?["attachments"][0]["status"] == "ATTACHED");
    for name in names {
        user.k(&["delete", "tasks.tallyman.dev", name, "--timeout=60s"])?;
    }

    // A service as it is pasted: what has no meaning here is left out, and said.
    let mut pasted = service("own", 2);
    pasted["spec"]["networkConfiguration"] = json!({ "awsvpcConfiguration": {
        "subnets": ["subnet-0a"], "securityGroups": ["sg-0b"], "assignPublicIp": "DISABLED",
    }});
    user.apply(&[pasted])?;
    user.wait_steady("own", 2)?;
    let (_, _, message) = condition(&user.get("services", "own")?, "UnsupportedFields");
    ensure!(message.contains("spec.networkConfiguration"), "{message}");
    user.delete(&["own"])
}

/// Metadata have the interface as the engine has it, and the name servers that the container asks.
fn told_address(user: &User<'_>, address: &str) -> Result<()> {
    let pause = Inside::of_task(user, "own-a", PAUSE)?;
    let engine = pause.inspect(
        "{{with index .NetworkSettings.Networks \"tallyman\"}}{{.IPAddress}} {{.IPPrefixLen}} {{.Gateway}} {{.MacAddress}}{{end}}",
    )?;
    let words: Vec<&str> = engine.split_whitespace().collect();
    let [ip, prefix, gateway, mac] = words[..] else {
        anyhow::bail!("the engine has no such interface: {engine}");
    };
    ensure!(ip == address, "{ip} and {address}");
    let side = Inside::of_task(user, "own-a", "side")?;
    let told = side.get("$ECS_CONTAINER_METADATA_URI_V4")?;
    let network = &told["Networks"][0];
    for (field, wanted) in [
        ("NetworkMode", json!("awsvpc")),
        ("IPv4Addresses", json!([address])),
        ("AttachmentIndex", json!(0)),
        ("MACAddress", json!(mac)),
        (
            "SubnetGatewayIpv4Address",
            json!(format!("{gateway}/{prefix}")),
        ),
    ] {
        ensure!(network[field] == wanted, "{field} is not {wanted}: {told}");
    }
    let subnet = network["IPv4SubnetCIDRBlock"].as_str().unwrap_or_default();
    ensure!(subnet.ends_with(&format!("/{prefix}")), "{told}");
    let server = network["DomainNameServers"][0].as_str();
    let file = inside(user, "own-a", "side", "cat /etc/resolv.conf")?;
    let asks = server.is_some_and(|server| file.contains(&format!("nameserver {server}")));
    ensure!(asks, "{file} and {told}");
    Ok(())
}

/// The network is the host's own, by macvlan: containers are on it beside the host.
fn on_a_lan(user: &User<'_>) -> Result<()> {
    let host = user.lab.host(0);
    let agent = host.agent();
    let plain = agent.command();
    agent.set_command(plain.clone().env("ECS_AWSVPC_NETWORK", "lan"));
    agent.restart()?;
    let shown = with_a_lan(user, host);
    // Whatever was seen, others find the host as it was.
    agent.set_command(plain);
    agent.restart()?;
    shown?;
    host.docker_ok(["network", "rm", "lan"])?;
    user.delete(&["lan"])
}

fn with_a_lan(user: &User<'_>, host: &Host) -> Result<()> {
    let web = container("web", &serving("from-$HOSTNAME", &[80]), json!({}));
    let keys = json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": { "name": "lan", "namespace": user.namespace() },
        "stringData": { "AccessKeyId": "LAN", "SecretAccessKey": "lan-4711" },
    });
    user.kubectl().apply(&keys.to_string())?;
    user.apply(&[definition(
        "lan",
        &[web],
        json!({ "networkMode": "awsvpc", "taskRoleArn": "arn:aws:iam::123456789012:role/Lan" }),
    )])?;
    task(user, "lan-early", "lan")?;
    let status = until(user, "lan-early", "STOPPED")?;
    let reason = status["stoppedReason"].as_str().unwrap_or_default();
    ensure!(
        reason.starts_with("ContainerNetworkingError: ") && reason.contains("ECS_AWSVPC_NETWORK"),
        "{status}"
    );
    let create = [
        "network",
        "create",
        "--driver=macvlan",
        "--subnet=10.77.8.0/24",
        "--gateway=10.77.8.1",
        "--ip-range=10.77.8.64/29",
        "--opt=parent=eth0",
        "lan",
    ];
    host.docker_ok(create)?;
    let names = ["lan-a", "lan-b"];
    let mut addresses = Vec::new();
    for name in names {
        task(user, name, "lan")?;
    }
    for name in names {
        let address = address_of(&until(user, name, "RUNNING")?)?;
        let last = address
            .strip_prefix("10.77.8.")
            .and_then(|last| last.parse::<u8>().ok());
        ensure!(
            last.is_some_and(|last| (64..72).contains(&last)),
            "{address} is not of the range"
        );
        addresses.push(address);
    }
    ensure!(addresses[0] != addresses[1], "both have {addresses:?}");
    wait_until("one to get the page of the other", PATIENCE, || {
        let page = inside(user, names[0], "web", &fetch(&addresses[1]))?;
        ensure!(page.contains("200 OK") && page.contains("from-"), "{page}");
        Ok(true)
    })?;
    asks_its_agent(user, names, &addresses)?;
    for name in ["lan-early", "lan-a", "lan-b"] {
        user.k(&["delete", "tasks.tallyman.dev", name, "--timeout=60s"])?;
    }
    Ok(())
}

/// The kernel keeps a container on macvlan from its host; there is another way to the agent, which is nobody else's.
fn asks_its_agent(user: &User<'_>, names: [&str; 2], addresses: &[String]) -> Result<()> {
    let one = Inside::of_task(user, names[0], "web")?;
    let other = Inside::of_task(user, names[1], "web")?;
    let task = one.get("$ECS_CONTAINER_METADATA_URI_V4/task")?;
    let networks = &task["Containers"][0]["Networks"];
    ensure!(
        networks[0]["IPv4Addresses"] == json!([addresses[0]])
            && networks[0]["NetworkMode"] == "awsvpc"
            && networks.as_array().is_some_and(|all| all.len() == 1),
        "{task}"
    );
    let stats = one.get("$ECS_CONTAINER_METADATA_URI_V4/stats")?;
    ensure!(stats["networks"].is_object(), "{stats}");
    let url = "http://169.254.170.2$AWS_CONTAINER_CREDENTIALS_RELATIVE_URI";
    let keys = one.get(url)?;
    ensure!(keys["AccessKeyId"] == "LAN", "{keys}");
    let path = one.shell("echo $AWS_CONTAINER_CREDENTIALS_RELATIVE_URI")?;
    let path = path.map_err(anyhow::Error::msg)?;
    other.refused(&format!("http://169.254.170.2{}", path.trim()), "", 403)?;
    // All else goes by the network of the task, which is its first interface and its only address to itself.
    for line in [
        "test \"$(grep -c '^eth0\\s00000000\\s' /proc/net/route)\" = 1",
        &format!("grep -q '^{}\\s' /etc/hosts", addresses[0]),
        "! grep -q '^169' /etc/hosts",
    ] {
        let said = one.shell(line)?;
        let route = one.shell("cat /proc/net/route /etc/hosts")?;
        ensure!(said.is_ok(), "not so: {line}: {route:?}");
    }
    Ok(())
}

/// Something answers on the host where a cloud's instance metadata would.
fn instance_metadata(user: &User<'_>) -> Result<()> {
    let host = user.lab.host(0);
    let cloud = "169.254.169.254";
    let on_lo = |verb: &str| {
        let address = format!("{cloud}/32");
        host.inside("ip")
            .args(["addr", verb, &address, "dev", "lo"])
            .check()
    };
    on_lo("add")?;
    let sleeps = |name: &str, mode: &str| {
        let app = container(
            "app",
            "trap 'exit 0' TERM; while :; do sleep 1; done",
            json!({}),
        );
        definition(name, &[app], json!({ "networkMode": mode }))
    };
    let cloud_of_it = container("web", &serving("keys-of-the-machine", &[80]), json!({}));
    user.apply(&[
        definition("cloud", &[cloud_of_it], json!({ "networkMode": "host" })),
        sleeps("own", "awsvpc"),
        sleeps("shared", "bridge"),
    ])?;
    let names = ["cloud", "own", "shared"];
    for name in names {
        task(user, name, name)?;
        until(user, name, "RUNNING")?;
    }
    // Without an answer the command fails.
    let got = |name: &str| {
        inside(user, name, "app", &fetch(cloud))
            .is_ok_and(|page| page.contains("keys-of-the-machine"))
    };
    wait_until("it to answer both", PATIENCE, || {
        Ok(got("own") && got("shared"))
    })?;
    let agent = host.agent();
    let open = agent.command();
    let shown = (|| {
        for (command, answered) in [
            (open.clone().env("ECS_AWSVPC_BLOCK_IMDS", "true"), false),
            (open.clone(), true),
        ] {
            agent.set_command(command);
            agent.restart()?;
            wait_until("the agent to close or open it", PATIENCE, || {
                ensure!(got("own") == answered, "it was to answer: {answered}");
                Ok(true)
            })?;
            ensure!(got("shared"), "a task on Docker's bridge is not answered");
        }
        Ok(())
    })();
    agent.set_command(open);
    agent.restart()?;
    on_lo("del")?;
    shown?;
    for name in names {
        user.k(&["delete", "tasks.tallyman.dev", name, "--timeout=60s"])?;
        user.delete(&[name])?;
    }
    Ok(())
}

fn shared_namespaces(user: &User<'_>) -> Result<()> {
    let first = container(
        "first",
        ": > /dev/shm/segment; trap 'exit 0' TERM; sleep 4321 & wait",
        json!({ "linuxParameters": { "sharedMemorySize": 16 } }),
    );
    let second = container(
        "second",
        "trap 'exit 0' TERM; while :; do sleep 1; done",
        json!({}),
    );
    let modes = json!({ "pidMode": "task", "ipcMode": "task" });
    user.apply(&[definition("sharing", &[first, second], modes)])?;
    task(user, "sharing", "sharing")?;
    until(user, "sharing", "RUNNING")?;
    for (line, wanted) in [
        ("cat /proc/[0-9]*/cmdline | tr '\\0' ' '", "sleep 4321"),
        ("tr '\\0' ' ' < /proc/1/cmdline", "/pause"),
        ("ls /dev/shm", "segment"),
        ("grep ' /dev/shm ' /proc/mounts", "size=16384k"),
    ] {
        wait_until(format!("{line} to show {wanted}"), PATIENCE, || {
            let seen = inside(user, "sharing", "second", line)?;
            ensure!(seen.contains(wanted), "{line}: {seen}");
            Ok(true)
        })?;
    }
    // Process 1 takes in who lost its parent, and no zombie is left.
    inside(user, "sharing", "second", "sh -c 'sleep 1 & exit 0'")?;
    wait_until("orphans to be reaped", PATIENCE, || {
        let states = inside(
            user,
            "sharing",
            "second",
            "grep -h '^State' /proc/[0-9]*/status",
        )?;
        Ok(!states.contains('Z'))
    })?;
    gone(user, &["sharing"], "sharing")
}
