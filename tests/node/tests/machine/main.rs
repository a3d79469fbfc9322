//! A whole Debian machine as a host: what a namespace on this machine cannot show.
//!
//! It has a service manager that starts the agent, the second generation of control groups, a journal, a server and a client of NFS,
//! networks of ipvlan, AppArmor, and it reboots. The control plane and the operator are the lab's, on this machine; the host is added as
//! docs/install.md says, by its very commands. One story, in order, on each engine. It is emulated and slow, so `make machine` has it
//! and `make test` has not. Needs root, `dev/tools.sh all machine`.

mod guest;
mod limits;
mod manual;
mod world;

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tallyman_lab::{EngineGeneration, http, wait_until};

use guest::{Kind, PATIENCE};
use world::{AGENT, HOST, World, container};

/// Runs until it is told to end.
const STAY: &str = "trap 'exit 0' TERM; sleep 1000000 & wait";

/// The service that all of the story is told around: it has a volume, a page and a log.
const SERVICE: &str = "shared";
/// One that has a page alone, for the boot.
const PLAIN: &str = "plain";

#[test]
fn a_debian_machine_with_its_own_docker() -> Result<()> {
    told(&Kind {
        engine: EngineGeneration::Debian2010,
        groups: "systemd",
    })
}

#[test]
fn a_debian_machine_with_current_docker() -> Result<()> {
    told(&Kind {
        engine: EngineGeneration::Current,
        groups: "cgroupfs",
    })
}

fn told(kind: &Kind) -> Result<()> {
    let world = World::up(kind)?;
    let told = story(&world, kind);
    if told.is_err() {
        world.describe();
    }
    told?;
    world.down()
}

fn story(world: &World, kind: &Kind) -> Result<()> {
    world.tell("lab and machine are up");
    installed(world)?;
    world.tell("the package is installed, the host has joined");
    shares_a_folder_over_nfs(world)?;
    world.tell("a volume over NFS");
    writes_to_the_journal(world)?;
    world.tell("the journal");
    has_an_address_of_its_own(world)?;
    world.tell("an address of an ipvlan network");
    limits::are_enforced(world, kind)?;
    world.tell("limits");
    outlives_its_agent(world)?;
    world.tell("agents upgraded, restarted, killed");
    outlives_a_boot(world)?;
    world.tell("a reboot");
    outlives_the_package(world)?;
    world.tell("the package removed and purged");
    Ok(())
}

/// Chapter "A host" of docs/install.md.
fn installed(world: &World) -> Result<()> {
    let machine = &world.machine;
    let package = world.package_name()?;
    let install = world
        .manual
        .block("cargo install --locked cargo-deb", &[])?;
    let install = install
        .lines()
        .find(|line| line.starts_with("apt-get install ./"))
        .context("docs/install.md does not say how the package is installed")?;
    ensure!(install.contains(&package), "{package} is not in {install}");
    machine.sh(&format!(
        "export DEBIAN_FRONTEND=noninteractive\ncd /seed\n{}",
        install.replace("install ", "install -y ")
    ))?;
    let state = machine.run(&format!("systemctl is-enabled {AGENT}"))?;
    ensure!(state.stdout.trim() == "disabled", "{state:?}");

    let (token, hash) = world.permit()?;
    let server = world.lab.control_plane().server_for_hosts();
    let join = world.manual.block(
        "tallyman-agent join",
        &[
            ("https://10.0.0.1:6443", server),
            ("TOKEN", &token),
            ("HASH", &hash),
        ],
    )?;
    let said = machine.sh(&join)?;
    ensure!(said.contains(&format!("joined as {HOST} ")), "{said}");
    machine.sh(&world.manual.block("systemctl enable", &[])?)?;
    world.wait_connected()?;
    let state = machine.sh(&format!(
        "systemctl show {AGENT} --property=Type,ActiveState,SubState,NRestarts,WatchdogUSec,UnitFileState"
    ))?;
    for line in [
        "Type=notify",
        "ActiveState=active",
        "SubState=running",
        "NRestarts=0",
        "WatchdogUSec=2min",
        "UnitFileState=enabled",
    ] {
        ensure!(state.lines().any(|l| l == line), "{line} is not in {state}");
    }
    Ok(())
}

fn shares_a_folder_over_nfs(world: &World) -> Result<()> {
    let mounts = json!([{ "sourceVolume": "data", "containerPath": "/data" }]);
    let mut writer = container(
        "writer",
        &format!("echo written over NFS >/data/index.html; echo the writer has written; {STAY}"),
    );
    writer["mountPoints"] = mounts.clone();
    writer["logConfiguration"] =
        json!({ "logDriver": "journald", "options": { "tag": "the-writer" } });
    // A service manager that shuts down waits for whoever does not end when told to.
    let mut reader = container(
        "reader",
        "trap 'exit 0' TERM; httpd -f -p 80 -h /data & wait",
    );
    reader["mountPoints"] = mounts;
    reader["portMappings"] = json!([{ "containerPort": 80 }]);
    world.apply(&json!({
        "kind": "TaskDefinition", "metadata": { "name": SERVICE },
        "spec": {
            "containerDefinitions": [writer, reader],
            "volumes": [{ "name": "data", "efsVolumeConfiguration": { "fileSystemId": "fs-1", "rootDirectory": "/web" } }],
        },
    }))?;
    world.apply(&json!({
        "kind": "Service", "metadata": { "name": SERVICE },
        "spec": { "taskDefinition": SERVICE, "desiredCount": 1 },
    }))?;
    let task = world.wait_steady(SERVICE)?;
    shows_the_page(world, &task, "written over NFS")?;
    let exported = world.machine.sh("cat /srv/efs/web/index.html")?;
    ensure!(exported == "written over NFS", "{exported}");
    ensure!(
        nfs_mounts(world)?.len() == 1,
        "it is no NFS of version 4: {}",
        world.machine.sh("cat /proc/mounts")?
    );

    // Another task with the same volume, which goes.
    world.apply(&json!({
        "kind": "Task", "metadata": { "name": "brief" }, "spec": { "taskDefinition": SERVICE },
    }))?;
    world.wait_task("brief", "RUNNING")?;
    let volumes = volumes(world)?;
    ensure!(
        volumes.len() == 2 && nfs_mounts(world)?.len() == 2,
        "{volumes:?}"
    );
    world.delete_task("brief")?;
    wait_until(
        "the volume of the task that is gone to go",
        PATIENCE,
        || {
            let (volumes, mounts) = (self::volumes(world)?, nfs_mounts(world)?);
            ensure!(
                volumes.len() == 1 && mounts.len() == 1,
                "{volumes:?} {mounts:?}"
            );
            Ok(true)
        },
    )
}

/// What is mounted over NFS 4 for a volume of the engine.
fn nfs_mounts(world: &World) -> Result<BTreeSet<String>> {
    let mounts = world.machine.sh("cat /proc/mounts")?;
    Ok(mounts
        .lines()
        .filter(|line| line.starts_with(":/srv/efs/web /var/lib/docker/volumes/"))
        .filter(|line| line.contains(" nfs4 ") && line.contains("vers=4.1"))
        .map(str::to_owned)
        .collect())
}

fn volumes(world: &World) -> Result<BTreeSet<String>> {
    let names = world.machine.sh("docker volume ls --quiet")?;
    Ok(names.lines().map(str::to_owned).collect())
}

fn shows_the_page(world: &World, task: &Value, text: &str) -> Result<()> {
    let port = task["status"]["containers"]
        .as_array()
        .into_iter()
        .flatten()
        .find_map(|c| c["networkBindings"][0]["hostPort"].as_u64())
        .with_context(|| format!("no port in {}", task["status"]))?;
    let address = (world.machine.address(), u16::try_from(port)?).into();
    wait_until(format!("the page at {address}"), PATIENCE, || {
        let page = http::get(address, "/", Duration::from_secs(10))?;
        ensure!(page.body.trim() == text, "{page:?}");
        Ok(true)
    })
}

fn writes_to_the_journal(world: &World) -> Result<()> {
    world.machine.until(
        "the words of the container to be in the journal",
        "journalctl --output=cat CONTAINER_TAG=the-writer | grep -x 'the writer has written'",
    )?;
    Ok(())
}

fn has_an_address_of_its_own(world: &World) -> Result<()> {
    let asks = "mkdir /www; until wget -q -O /www/task \"$ECS_CONTAINER_METADATA_URI_V4/task\"; do sleep 1; done; \
                echo of the first >/www/index.html; exec httpd -f -p 80 -h /www";
    let beside = "mkdir /www; until wget -q -O /www/other http://localhost/; do sleep 1; done; exec httpd -f -p 81 -h /www";
    world.apply(&json!({
        "kind": "TaskDefinition", "metadata": { "name": "lan" },
        "spec": {
            "networkMode": "awsvpc",
            "containerDefinitions": [container("first", asks), container("beside", beside)],
        },
    }))?;
    world.apply(&json!({
        "kind": "Task", "metadata": { "name": "lan" }, "spec": { "taskDefinition": "lan" },
    }))?;
    let status = world.wait_task("lan", "RUNNING")?;
    let address = status["attachments"][0]["details"]
        .as_array()
        .into_iter()
        .flatten()
        .find(|detail| detail["name"] == "privateIPv4Address")
        .and_then(|detail| detail["value"].as_str())
        .with_context(|| format!("no address in {status}"))?;
    let driver = world
        .machine
        .sh("docker network inspect lan --format '{{.Driver}} {{json .Containers}}'")?;
    ensure!(
        driver.starts_with("ipvlan ") && driver.contains(address),
        "{address} is not in {driver}"
    );
    let page = |port: u16, path: &str| {
        let place = (address.parse::<std::net::Ipv4Addr>()?, port).into();
        wait_until(format!("{path} at {place}"), PATIENCE, || {
            let page = http::get(place, path, Duration::from_secs(10))?;
            ensure!(page.status == 200, "{page:?}");
            Ok(Some(page.body))
        })
    };
    let other = page(81, "/other")?;
    ensure!(other.trim() == "of the first", "{other}");
    let told: Value = serde_json::from_str(&page(80, "/task")?)?;
    ensure!(
        told["Containers"][0]["Networks"][0]["IPv4Addresses"] == json!([address]),
        "{told}"
    );
    let way = world.machine.sh(
        "docker exec $(docker ps -q --filter label=com.amazonaws.ecs.container-name=first) \
         sh -c 'echo $ECS_CONTAINER_METADATA_URI_V4; cat /etc/hosts'",
    )?;
    ensure!(
        way.starts_with("http://169.254.170.2") && way.contains(address) && !way.contains("\n169."),
        "{way}"
    );
    world.delete_task("lan")
}

fn outlives_its_agent(world: &World) -> Result<()> {
    let machine = &world.machine;
    let before = world.containers()?;
    ensure!(before.len() == 2, "{before:?}");
    let package = world.package_name()?;
    for (what, command) in [
        (
            "a package that is installed over it",
            format!("dpkg -i /seed/{package}"),
        ),
        ("a restart", format!("systemctl restart {AGENT}")),
        (
            "SIGKILL",
            format!("kill -9 $(systemctl show {AGENT} --property=MainPID --value)"),
        ),
    ] {
        let agent = || {
            machine.sh(&format!(
                "systemctl show {AGENT} --property=MainPID --value"
            ))
        };
        let old = agent()?;
        machine.sh(&command)?;
        wait_until(format!("another agent after {what}"), PATIENCE, || {
            let new = agent()?;
            ensure!(new != old && new != "0", "{new} after {old}");
            Ok(true)
        })?;
        machine.until(
            "it to be ready",
            &format!("systemctl is-active {AGENT} | grep -x active"),
        )?;
        let after = world.containers()?;
        ensure!(after == before, "{what}: {before:?} became {after:?}");
    }
    // What is asked of the last one is done.
    world.scale(SERVICE, 2)?;
    let both = world.containers()?;
    ensure!(
        both.len() == 4 && both.is_superset(&before),
        "{before:?} became {both:?}"
    );
    world.scale(SERVICE, 1)
}

fn outlives_a_boot(world: &World) -> Result<()> {
    // The server of its volume ends with the machine, and who uses a mount without its server cannot end.
    world.scale(SERVICE, 0)?;
    let page = "mkdir /www; echo of the machine >/www/index.html; trap 'exit 0' TERM; httpd -f -p 80 -h /www & wait";
    let mut web = container("web", page);
    web["portMappings"] = json!([{ "containerPort": 80 }]);
    world.apply(&json!({
        "kind": "TaskDefinition", "metadata": { "name": PLAIN }, "spec": { "containerDefinitions": [web] },
    }))?;
    world.apply(&json!({
        "kind": "Service", "metadata": { "name": PLAIN },
        "spec": { "taskDefinition": PLAIN, "desiredCount": 1 },
    }))?;
    let old = world.wait_steady(PLAIN)?;
    let name = old["metadata"]["name"].as_str().context("a name")?;
    let containers = world.containers()?;
    world.machine.reboot()?;
    world.tell("the machine is up again");
    world.machine.until(
        "the agent to be started by the service manager",
        &format!("systemctl is-active {AGENT} | grep -x active"),
    )?;
    let told = world.wait_task(name, "STOPPED")?;
    ensure!(
        told["stoppedReason"]
            .as_str()
            .is_some_and(|r| !r.is_empty())
            && told["stopCode"].is_string(),
        "{told}"
    );
    let new = world.wait_steady(PLAIN)?;
    ensure!(new["metadata"]["uid"] != old["metadata"]["uid"]);
    shows_the_page(world, &new, "of the machine")?;
    let now = world.containers()?;
    ensure!(
        now.len() == 1 && now.is_disjoint(&containers),
        "{containers:?} became {now:?}"
    );
    let again = world.task(name)?["status"].clone();
    for field in ["stoppedAt", "stoppedReason", "stopCode", "lastStatus"] {
        ensure!(
            again[field] == told[field],
            "told twice: {told} and {again}"
        );
    }
    let tasks = world.tasks(PLAIN)?;
    let since: Vec<_> = tasks
        .iter()
        .filter(|t| {
            t["metadata"]["creationTimestamp"].as_str()
                > old["metadata"]["creationTimestamp"].as_str()
        })
        .filter(|t| t["metadata"]["name"] != name)
        .collect();
    ensure!(
        since.len() == 1,
        "more than one task took its place: {since:?}"
    );
    println!("the boot: {} {}", told["stopCode"], told["stoppedReason"]);
    Ok(())
}

fn outlives_the_package(world: &World) -> Result<()> {
    let machine = &world.machine;
    let before = world.containers()?;
    machine.sh("DEBIAN_FRONTEND=noninteractive apt-get remove -y tallyman-agent")?;
    machine.sh("test -e /etc/tallyman/kubeconfig -a -e /var/lib/tallyman")?;
    let gone = machine.run(&format!("systemctl is-active {AGENT}"))?;
    ensure!(!gone.success, "{gone:?}");
    ensure!(world.containers()? == before, "removal touched containers");
    let purge = world.manual.block("kubectl delete services", &[])?;
    ensure!(purge.contains("apt-get purge tallyman-agent"), "{purge}");
    machine.sh("DEBIAN_FRONTEND=noninteractive apt-get purge -y tallyman-agent")?;
    machine.sh("test ! -e /etc/tallyman -a ! -e /var/lib/tallyman")?;
    ensure!(world.containers()? == before, "purge touched containers");
    Ok(())
}
