//! The world of the story: a control plane and an operator on this machine, and the machine that becomes a host.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};
use tallyman_lab::command::Tool;
use tallyman_lab::{Kubectl, Lab, image, wait_until};

use crate::guest::{Kind, Machine, PATIENCE};
use crate::manual::Manual;

/// The host, as docs/install.md calls it.
pub const HOST: &str = "host-a";

/// The unit.
pub const AGENT: &str = "tallyman-agent";

const NAMESPACE: &str = "default";

/// Everything that is up.
pub struct World {
    /// The machine.
    pub machine: Machine,
    /// What its administrator reads.
    pub manual: Manual,
    /// Control plane and operator.
    pub lab: Lab,
    package: PathBuf,
    began: Instant,
    last: Cell<Duration>,
}

/// A small container with a shell.
pub fn container(name: &str, script: &str) -> Value {
    json!({
        "name": name, "image": image::BUSYBOX, "essential": true, "cpu": 64, "memory": 32, "stopTimeout": 2,
        "command": ["sh", "-c", script],
    })
}

impl World {
    /// Brings it up: the machine is as its administrator has prepared it, and nothing of Tallyman is on it.
    pub fn up(kind: &Kind) -> Result<Self> {
        let began = Instant::now();
        let lab = Lab::builder().start()?;
        let package = tallyman_node::package(&lab.ledger().folder("package")?)?;
        let machine = Machine::boot(&lab, HOST, kind, &package).inspect_err(|_| lab.save_logs())?;
        let world = World {
            machine,
            manual: Manual::read()?,
            lab,
            package,
            began,
            last: Cell::default(),
        };
        if let Err(error) = world.prepare(kind) {
            world.describe();
            return Err(error);
        }
        Ok(world)
    }

    /// What a host has before Tallyman comes: images, an NFS server, a network, and the file of an ECS host.
    fn prepare(&self, kind: &Kind) -> Result<()> {
        let machine = &self.machine;
        let version = machine.sh("docker version --format '{{.Server.Version}}'")?;
        let driver = machine.sh("docker info --format '{{.CgroupDriver}} {{.CgroupVersion}}'")?;
        ensure!(
            kind.engine.programs()?.version().starts_with(&version)
                && driver == format!("{} 2", kind.groups),
            "the machine has Docker {version} with control groups {driver}"
        );
        let changes = image::BUSYBOX_CHANGES
            .iter()
            .map(|change| format!("--change '{change}'"))
            .collect::<Vec<_>>()
            .join(" ");
        machine.sh(&format!(
            "docker import {changes} /seed/rootfs.tar {}",
            image::BUSYBOX
        ))?;
        machine.sh(
            "mkdir -p /srv/efs/web\necho '/srv/efs *(rw,no_root_squash,no_subtree_check)' >/etc/exports\nexportfs -ra",
        )?;
        let network = self.lab.network();
        machine.sh(&format!(
            "docker network create --driver ipvlan --subnet {} --gateway {} --ip-range {} -o parent=eth0 lan",
            network.cidr(),
            network.gateway(),
            network.cidr().replace(".0/24", ".192/27"),
        ))?;
        machine.sh("mkdir -p /etc/ecs\ncat >/etc/ecs/ecs.config <<'END'\n\
             ECS_EFS_FILE_SYSTEMS={\"fs-1\":\"127.0.0.1:/srv/efs\"}\n\
             ECS_AWSVPC_NETWORK=lan\nEND")?;
        Ok(())
    }

    /// The administrator's kubectl.
    pub fn kubectl(&self) -> &Kubectl {
        self.lab.kubectl()
    }

    /// File name of the package.
    pub fn package_name(&self) -> Result<String> {
        let name = self.package.file_name().context("a package is a file")?;
        Ok(name.to_string_lossy().into_owned())
    }

    /// Lets the host join, with the commands of the manual: token and hash.
    pub fn permit(&self) -> Result<(String, String)> {
        let commands = self.manual.block("kubectl apply -f - <<'END'", &[])?;
        let kubectl = self.kubectl();
        let folder = kubectl
            .program()
            .parent()
            .context("kubectl has no folder")?;
        let path = std::env::var("PATH").unwrap_or_default();
        let said = Tool::new("bash")
            .args(["-euo", "pipefail", "-c", &commands])
            .env("KUBECONFIG", kubectl.kubeconfig())
            .env("PATH", format!("{}:{path}", folder.display()))
            .check()?;
        // kubectl ends the token with a new line on a terminal alone, so the hash may follow it at once.
        let said = said.trim_end().trim_end_matches([' ', '-']);
        let (before, hash) = said
            .len()
            .checked_sub(64)
            .and_then(|middle| said.split_at_checked(middle))
            .with_context(|| format!("no hash in {said}"))?;
        let token = before
            .lines()
            .last()
            .with_context(|| format!("no token in {said}"))?;
        Ok((token.to_owned(), hash.to_owned()))
    }

    /// Waits until `kubectl get cinst` shows the host as the manual says.
    pub fn wait_connected(&self) -> Result<()> {
        wait_until("AGENT to say true", PATIENCE, || {
            let table = self.kubectl().ok(["get", "cinst", "-n", NAMESPACE])?;
            let line = table.lines().find(|line| line.starts_with(HOST));
            let columns: Vec<_> = line.unwrap_or_default().split_whitespace().collect();
            ensure!(columns.get(2..4) == Some(&["ACTIVE", "true"]), "{table}");
            Ok(true)
        })
    }

    /// Applies one object.
    pub fn apply(&self, object: &Value) -> Result<()> {
        let mut object = object.clone();
        object["apiVersion"] = "tallyman.dev/v1alpha1".into();
        object["metadata"]["namespace"] = NAMESPACE.into();
        self.kubectl().apply(&object.to_string()).map(drop)
    }

    /// A Task.
    pub fn task(&self, name: &str) -> Result<Value> {
        self.kubectl()
            .get("tasks.tallyman.dev", NAMESPACE, name)?
            .with_context(|| format!("there is no task {name}"))
    }

    /// Tasks of a service.
    pub fn tasks(&self, service: &str) -> Result<Vec<Value>> {
        let mut tasks = self.kubectl().list("tasks.tallyman.dev", NAMESPACE)?;
        tasks.retain(|t| t["metadata"]["labels"]["tallyman.dev/service"] == service);
        Ok(tasks)
    }

    /// Waits until a Task is this far, and returns its status.
    pub fn wait_task(&self, name: &str, last_status: &str) -> Result<Value> {
        let field = format!("jsonpath={{.status.lastStatus}}={last_status}");
        self.wait(&format!("tasks.tallyman.dev/{name}"), &field)
            .with_context(|| format!("{name} is not {last_status}"))?;
        Ok(self.task(name)?["status"].clone())
    }

    /// By kubectl's own wait: asking again and again would take the processors that the machine needs.
    fn wait(&self, object: &str, what: &str) -> Result<()> {
        let timeout = format!("--timeout={}s", PATIENCE.as_secs());
        let what = format!("--for={what}");
        self.kubectl()
            .tool()
            .args(["wait", object, &what, "-n", NAMESPACE, &timeout])
            .timeout(PATIENCE + Duration::from_secs(20))
            .check()
            .map(drop)
    }

    /// Deletes a Task and waits until it is gone.
    pub fn delete_task(&self, name: &str) -> Result<()> {
        let task = format!("tasks.tallyman.dev/{name}");
        self.kubectl()
            .ok(["delete", &task, "-n", NAMESPACE, "--wait=false"])?;
        self.wait(&task, "delete")
    }

    /// Changes how many tasks a service has, and waits until it has them.
    pub fn scale(&self, service: &str, count: usize) -> Result<()> {
        let replicas = format!("--replicas={count}");
        self.kubectl()
            .ok(["scale", "tsvc", service, "-n", NAMESPACE, &replicas])?;
        self.wait_ready(service, count).map(drop)
    }

    /// Waits until a service is Ready with its one task, and returns that.
    pub fn wait_steady(&self, service: &str) -> Result<Value> {
        let tasks = self.wait_ready(service, 1)?;
        tasks.into_iter().next().context("one task")
    }

    fn wait_ready(&self, service: &str, count: usize) -> Result<Vec<Value>> {
        let field = format!("jsonpath={{.status.runningCount}}={count}");
        self.wait(&format!("services.tallyman.dev/{service}"), &field)
            .with_context(|| format!("{service} does not run {count} tasks"))?;
        wait_until(
            format!("{service} to be Ready with {count} tasks"),
            PATIENCE,
            || {
                let object = self
                    .kubectl()
                    .get("services.tallyman.dev", NAMESPACE, service)?
                    .context("the service is not there")?;
                let status = &object["status"];
                let fresh = status["observedGeneration"] == object["metadata"]["generation"];
                let conditions = status["conditions"].as_array();
                let ready = conditions
                    .into_iter()
                    .flatten()
                    .any(|c| c["type"] == "Ready" && c["status"] == "True");
                let mut tasks = self.tasks(service)?;
                tasks.retain(|t| t["status"]["lastStatus"] != "STOPPED");
                let run = tasks.iter().all(|t| t["status"]["lastStatus"] == "RUNNING");
                if !(fresh && ready && run && tasks.len() == count) {
                    bail!("{} tasks; {}", tasks.len(), status["message"]);
                }
                Ok(Some(tasks))
            },
        )
    }

    /// Ids of the running containers of tasks.
    pub fn containers(&self) -> Result<BTreeSet<String>> {
        let ids = self
            .machine
            .sh("docker ps --quiet --no-trunc --filter label=tallyman.dev/task")?;
        Ok(ids.lines().map(str::to_owned).collect())
    }

    /// Says how long a chapter took.
    pub fn tell(&self, chapter: &str) {
        let all = self.began.elapsed();
        let took = all.saturating_sub(self.last.replace(all));
        println!(
            "{:6.1} s, at {:6.1} s: {chapter}",
            took.as_secs_f32(),
            all.as_secs_f32()
        );
    }

    /// Tells what helps to understand a failure, and keeps the logs.
    pub fn describe(&self) {
        for args in [
            vec!["get", "tallyman,events", "-A", "-o", "wide"],
            vec!["get", "tasks.tallyman.dev,cinst", "-A", "-o", "yaml"],
        ] {
            self.kubectl().tell(&args);
        }
        let agent =
            format!("journalctl --no-pager --unit {AGENT} --lines 60; docker ps -a; df -h /");
        match self.machine.run(&agent) {
            Ok(output) => println!("--- the machine\n{}{}", output.stdout, output.stderr),
            Err(error) => println!("--- the machine: {error:#}"),
        }
        if let Err(error) = self.machine.save_journal(&self.lab) {
            println!("--- its journal: {error:#}");
        }
        self.lab.save_logs();
    }

    /// Takes everything down and says what could not be.
    pub fn down(self) -> Result<()> {
        self.lab.down()
    }
}
