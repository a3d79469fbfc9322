//! Tallyman as people install it: with Helm, on a real Kubernetes node, with a real Docker host beside it.
//!
//! One story, told in order, because each chapter is about what the one before has left: install the chart of before, add a host, run a
//! service, lose the leader, upgrade to the chart of the tree, roll back, uninstall, install again. Through all of it the first containers must stay the ones they are.
//! Needs root and `dev/tools.sh all`.

mod unit;
mod world;

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tallyman_lab::command::Tool;
use tallyman_lab::{http, wait_until};
use tallyman_node::{NAMESPACE, RELEASE};

use crate::world::{IMAGE, PATIENCE, TAG, World};

/// Times that are shorter than a user's: a leader that is gone is replaced sooner.
const SETTINGS: [&str; 5] = [
    "--set=operator.leaseDuration=4s",
    "--set=operator.logFormat=json",
    "--set=operator.healthyAfter=3s",
    "--set=image.tag=e2e",
    "--wait",
];

#[test]
fn helm_installs_upgrades_and_removes_an_operator_that_runs_as_its_pods() -> Result<()> {
    let mut clock = Clock::new();
    let world = World::up()?;
    clock.tell("node, host and images");
    let told = story(&world, &mut clock);
    if told.is_err() {
        world.describe();
    }
    told?;
    world.down()?;
    clock.tell("all taken down");
    Ok(())
}

#[test]
fn the_unit_starts_with_the_file_of_an_ecs_host() -> Result<()> {
    unit::starts_with_the_file_of_an_ecs_host()
}

#[test]
fn the_package_of_the_agent_holds_what_a_host_needs() -> Result<()> {
    let folder = std::env::temp_dir().join(format!("tallyman-deb-{}", std::process::id()));
    std::fs::create_dir_all(&folder)?;
    let package = tallyman_node::package(&folder)?;
    let files = folder.join("root");
    Tool::new("dpkg-deb")
        .arg("--extract")
        .args([&package, &files])
        .check()?;
    let version = Tool::new(files.join("usr/bin/tallyman-agent"))
        .arg("--version")
        .check()?;
    let fields = Tool::new("dpkg-deb").arg("--field").arg(&package).check()?;
    for field in ["Package: tallyman-agent", "iptables", "libc6 (>= 2."] {
        ensure!(fields.contains(field), "{field} is not in\n{fields}");
    }
    let number = version.split_whitespace().nth(1).unwrap_or_default();
    ensure!(
        fields.contains(&format!("Version: {number}")),
        "{version} is in\n{fields}"
    );
    let unit = std::fs::read_to_string(files.join("lib/systemd/system/tallyman-agent.service"))?;
    ensure!(unit.contains("ExecStart=tallyman-agent "), "{unit}");
    // A link that the agent cannot see leads tasks where their policy does not let them.
    for hides in ["ProtectHome=yes", "ProtectHome=tmpfs", "PrivateTmp=yes"] {
        ensure!(!unit.contains(hides), "{hides} hides files of the host");
    }
    // systemd reads the unit, and the program is where the unit has it.
    let program = format!("ExecStart={}/usr/bin/", files.display());
    let moved = unit.replace("ExecStart=", &program);
    let copy = folder.join("tallyman-agent.service");
    std::fs::write(&copy, moved)?;
    let said = Tool::new("systemd-analyze")
        .args(["verify", "--man=no"])
        .arg(&copy)
        .run()?;
    let about: Vec<&str> = said
        .stderr
        .lines()
        .filter(|line| line.contains("tallyman"))
        .collect();
    ensure!(about.is_empty(), "{about:?}");
    std::fs::remove_dir_all(&folder)?;
    Ok(())
}

fn story(world: &World, clock: &mut Clock) -> Result<()> {
    install(world, &world.helm.previous_chart())?;
    clock.tell("helm install --wait of the previous chart");
    world.add_host()?;
    clock.tell("the host joined");
    let first = run_a_service(world)?;
    clock.tell("a service runs, and answers");
    let first = lose_the_leader(world, &first)?;
    clock.tell("the leader's pod deleted, the service scaled by the next one");
    upgrade_and_roll_back(world, &first)?;
    clock.tell("helm upgrade and rollback");
    uninstall(world, &first)?;
    clock.tell("helm uninstall, everything stays");
    install_again(world, &first)?;
    clock.tell("helm install again adopts everything");
    the_agent_as_a_container(world)?;
    clock.tell("the agent's image takes over");
    roles(world)?;
    plain_manifests(world)?;
    clock.tell("roles and plain manifests");
    remove_for_good(world)?;
    clock.tell("removed for good");
    Ok(())
}

fn install(world: &World, chart: &str) -> Result<()> {
    let command = [
        "install",
        RELEASE,
        chart,
        "--create-namespace",
        "-n",
        NAMESPACE,
    ];
    let notes = world.helm.ok(&[command.as_slice(), &SETTINGS].concat())?;
    ensure!(
        notes.contains("kubectl get cinst") && notes.contains("examples/hello"),
        "the notes do not say how to go on:\n{notes}"
    );
    let pods = world.operator_pods()?;
    ensure!(pods.len() == 2, "{} pods of the operator", pods.len());
    for pod in &pods {
        let image = pod["spec"]["containers"][0]["image"].as_str();
        ensure!(image == Some(&format!("{IMAGE}:{TAG}")), "{image:?}");
        ensure!(pod["status"]["containerStatuses"][0]["ready"] == true);
        ensure!(pod["status"]["containerStatuses"][0]["restartCount"] == 0);
    }
    logs_are_json(world, &pods)?;
    let budget = world
        .kubectl()
        .get("poddisruptionbudget", NAMESPACE, "tallyman-operator")?;
    ensure!(budget.is_some(), "there is no PodDisruptionBudget");
    Ok(())
}

/// As `operator.logFormat` has it: programs that collect logs get one object a line, with the same fields in each.
fn logs_are_json(world: &World, pods: &[Value]) -> Result<()> {
    for pod in pods {
        let name = pod["metadata"]["name"].as_str().context("no name")?;
        let log = world.kubectl().ok(["logs", "-n", NAMESPACE, name])?;
        ensure!(!log.trim().is_empty(), "{name} logs nothing");
        for line in log.lines() {
            let said: Value = serde_json::from_str(line).with_context(|| line.to_owned())?;
            for field in ["timestamp", "level", "target", "message"] {
                ensure!(said[field].is_string(), "no {field} in {line}");
            }
        }
    }
    Ok(())
}

fn run_a_service(world: &World) -> Result<BTreeSet<String>> {
    world.k(&["apply", "--server-side", "-f", &world.example("hello")])?;
    world.wait_steady(2)?;
    let pages = world.pages()?;
    ensure!(pages.len() == 2, "{} pages", pages.len());
    for address in pages {
        let page = http::get(address, "/", Duration::from_secs(5))?;
        ensure!(page.body.contains("Hello from Tallyman"), "{page:?}");
    }
    world.containers()
}

fn lose_the_leader(world: &World, first: &BTreeSet<String>) -> Result<BTreeSet<String>> {
    let before = world.leader()?;
    world
        .kubectl()
        .ok(["delete", "pod", "-n", NAMESPACE, "--wait=false", &before])?;
    world.k(&["scale", "tsvc", "hello", "--replicas=4"])?;
    world.wait_steady(4)?;
    let after = wait_until("another pod to lead", PATIENCE, || {
        let leader = world.leader()?;
        Ok((leader != before).then_some(leader))
    })?;
    let pods = world.operator_pods()?;
    ensure!(
        pods.iter()
            .any(|pod| pod["metadata"]["name"] == after.as_str()),
        "{after} leads and is no pod"
    );
    let now = world.containers()?;
    ensure!(
        now.len() == 4 && now.is_superset(first),
        "{first:?} became {now:?}"
    );
    Ok(now)
}

fn upgrade_and_roll_back(world: &World, first: &BTreeSet<String>) -> Result<()> {
    let chart = world.helm.chart("tallyman");
    let retention = |pods: &[Value], wanted: &str| {
        let wanted = format!("--task-retention={wanted}");
        pods.len() == 2
            && pods.iter().all(|pod| {
                let args = pod["spec"]["containers"][0]["args"].as_array();
                args.is_some_and(|args| args.iter().any(|arg| *arg == wanted))
            })
    };
    let settled = |wanted: &str| {
        // `--wait` ends when the new pods are ready; the old ones may still be on their way out.
        wait_until(format!("pods with {wanted} alone"), PATIENCE, || {
            Ok(retention(&world.operator_pods()?, wanted))
        })
    };
    let command = [
        "upgrade",
        RELEASE,
        &chart,
        "-n",
        NAMESPACE,
        "--set=operator.taskRetention=2h",
    ];
    let before = world.definitions()?;
    world.helm.ok(&[command.as_slice(), &SETTINGS].concat())?;
    settled("2h")?;
    world.wait_steady(4)?;
    ensure!(
        world.definitions()? != before,
        "the previous chart has the definitions of the tree: nothing was upgraded"
    );
    world
        .helm
        .ok(&["rollback", RELEASE, "1", "-n", NAMESPACE, "--wait"])?;
    settled("1h")?;
    world.wait_steady(4)?;
    ensure!(
        world.definitions()? == before,
        "a rollback left definitions that are not the previous chart's"
    );
    ensure!(
        &world.containers()? == first,
        "an upgrade of the operator touched containers"
    );
    Ok(())
}

fn uninstall(world: &World, first: &BTreeSet<String>) -> Result<()> {
    let objects = world.objects()?;
    ensure!(objects.len() > 10, "there are only {objects:?}");
    world
        .helm
        .ok(&["uninstall", RELEASE, "-n", NAMESPACE, "--wait"])?;
    wait_until("the operator's pods to go", PATIENCE, || {
        Ok(world.operator_pods()?.is_empty())
    })?;
    ensure!(&world.containers()? == first, "containers did not survive");
    let left = world.objects()?;
    ensure!(
        left == objects,
        "objects went: {:?}",
        objects.difference(&left)
    );
    let policies = world.k(&["get", "validatingadmissionpolicy", "-o", "name"])?;
    ensure!(
        policies.lines().count() == 4,
        "hosts are no longer kept to their own: {policies}"
    );
    let role = world
        .kubectl()
        .get("clusterrole", "", "tallyman-operator")?;
    ensure!(role.is_none(), "the operator's rights are still there");
    Ok(())
}

fn install_again(world: &World, first: &BTreeSet<String>) -> Result<()> {
    install(world, &world.helm.chart("tallyman"))?;
    world.k(&["scale", "tsvc", "hello", "--replicas=5"])?;
    world.wait_steady(5)?;
    let now = world.containers()?;
    ensure!(
        now.len() == 5 && now.is_superset(first),
        "{first:?} were not adopted: {now:?}"
    );
    Ok(())
}

fn the_agent_as_a_container(world: &World) -> Result<()> {
    let before = world.containers()?;
    world.agent_as_container()?;
    world.k(&["scale", "tsvc", "hello", "--replicas=6"])?;
    world.wait_steady(6)?;
    let now = world.containers()?;
    ensure!(now.is_superset(&before), "{before:?} became {now:?}");
    Ok(())
}

/// What people of a namespace may do who have the cluster's own roles.
fn roles(world: &World) -> Result<()> {
    let edit = ["create", "services.tallyman.dev"];
    let join = ["create", "containerinstances.tallyman.dev"];
    let read = ["list", "tasks.tallyman.dev"];
    let internal = ["patch", "hostplans.tallyman.dev"];
    for (role, may, may_not) in [
        ("view", vec![read], vec![edit, join, internal]),
        ("edit", vec![read, edit], vec![join, internal]),
        ("admin", vec![read, edit, join], vec![internal]),
    ] {
        world.k(&[
            "create",
            "rolebinding",
            role,
            &format!("--clusterrole={role}"),
            &format!("--user={role}"),
        ])?;
        for (wanted, questions) in [("yes", may), ("no", may_not)] {
            for [verb, kind] in questions {
                let said = || -> Result<String> {
                    let ask = ["auth", "can-i", verb, kind, "-n", "default", "--as", role];
                    Ok(world.kubectl().run(ask)?.stdout.trim().to_owned())
                };
                // The cluster's controller adds ours to its roles.
                wait_until(format!("{role} {verb} {kind}: {wanted}"), PATIENCE, || {
                    Ok(said()? == wanted)
                })?;
            }
        }
    }
    Ok(())
}

/// The manifests without Helm are taken by the same server.
fn plain_manifests(world: &World) -> Result<()> {
    let folder = world.root.join("deploy/install").display().to_string();
    let dry = [
        "apply",
        "--server-side",
        "--force-conflicts",
        "--dry-run=server",
        "-k",
    ];
    let said = world
        .kubectl()
        .ok(dry.iter().copied().chain([folder.as_str()]))?;
    ensure!(said.contains("deployment.apps/tallyman-operator"), "{said}");
    Ok(())
}

/// As docs/install.md says: what runs first, then the operator, then the definitions.
fn remove_for_good(world: &World) -> Result<()> {
    world.k(&["delete", "-f", &world.example("hello"), "--timeout=90s"])?;
    ensure!(world.containers()?.is_empty(), "containers are left");
    world.stop_agent()?;
    let hosts = "containerinstances,hostjoins,taskdefinitions";
    world.k(&["delete", hosts, "--all", "--timeout=90s"])?;
    let rest = "taskdefinitionrevisions.tallyman.dev,clusters.tallyman.dev";
    world.k(&["delete", rest, "--all", "--timeout=90s"])?;
    world
        .helm
        .ok(&["uninstall", RELEASE, "-n", NAMESPACE, "--wait"])?;
    let definitions = world
        .root
        .join("deploy/install/crds.yaml")
        .display()
        .to_string();
    world
        .kubectl()
        .ok(["delete", "-f", &definitions, "--timeout=90s"])
        .context("a definition does not go")?;
    let kubectl = |args: &[&str]| world.kubectl().ok(args.iter().copied());
    let accounts = "roles,rolebindings,serviceaccounts,secrets,leases";
    let ours = "--selector=app.kubernetes.io/managed-by=tallyman";
    kubectl(&["delete", accounts, "--all-namespaces", ours])?;
    let policies = "validatingadmissionpolicybinding,validatingadmissionpolicy";
    let of_hosts = ["tallyman-host-writes", "tallyman-host-leases"];
    let of_tokens = ["tallyman-host-tokens", "tallyman-join-writes"];
    kubectl(&[&["delete", policies], &of_hosts[..], &of_tokens[..]].concat())?;
    // Its controller takes its time, and is not ours.
    kubectl(&["delete", "namespace", NAMESPACE, "--wait=false"])?;
    let all = format!("{policies},clusterroles,clusterrolebindings,crds");
    let left = kubectl(&["get", &all, "--all-namespaces", "--output=name"])?;
    let left: Vec<_> = left.lines().filter(|l| l.contains("tallyman")).collect();
    ensure!(left.is_empty(), "these are left: {left:?}");
    let left = world.k(&["get", accounts, "--output=name"])?;
    let left: Vec<_> = left.lines().filter(|l| l.contains("tallyman")).collect();
    ensure!(left.is_empty(), "these are left: {left:?}");
    Ok(())
}

/// Tells how long each chapter took.
struct Clock {
    began: Instant,
    last: Instant,
}

impl Clock {
    fn new() -> Self {
        let now = Instant::now();
        Clock {
            began: now,
            last: now,
        }
    }

    fn tell(&mut self, chapter: &str) {
        let (took, all) = (self.last.elapsed(), self.began.elapsed());
        println!(
            "{:6.1} s, at {:5.1} s: {chapter}",
            took.as_secs_f32(),
            all.as_secs_f32()
        );
        self.last = Instant::now();
    }
}
