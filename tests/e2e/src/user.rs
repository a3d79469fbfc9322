//! The user of the tests: applies, waits and looks, as one would with kubectl, docker and a browser.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::{Value, json};
use tallyman_lab::{Kubectl, Lab, wait_until};

use crate::clients::{Clients, Served, answers};

/// How long anything may take.
pub const PATIENCE: Duration = Duration::from_secs(90);

/// A user of a lab.
pub struct User<'a> {
    /// The lab.
    pub lab: &'a Lab,
}

/// A container as its engine lists it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Container {
    /// Name of the Task.
    pub task: String,
    /// Engine's id.
    pub id: String,
    /// Host.
    pub host: String,
    /// `running`, `exited`, ...
    pub state: String,
}

impl<'a> User<'a> {
    /// A user of `lab`.
    pub fn new(lab: &'a Lab) -> User<'a> {
        User { lab }
    }

    /// kubectl.
    pub fn kubectl(&self) -> &Kubectl {
        self.lab.kubectl()
    }

    /// Namespace of everything.
    pub fn namespace(&self) -> &str {
        self.lab.namespace()
    }

    /// `kubectl ...` in the namespace; fails when kubectl fails.
    ///
    /// # Errors
    /// kubectl failed.
    pub fn k(&self, args: &[&str]) -> Result<String> {
        let args: Vec<&str> = args
            .iter()
            .copied()
            .chain(["-n", self.namespace()])
            .collect();
        self.kubectl().ok(args)
    }

    /// `kubectl apply --server-side`.
    ///
    /// # Errors
    /// The server refused.
    pub fn apply(&self, objects: &[Value]) -> Result<String> {
        let mut list = Vec::new();
        for o in objects {
            let mut o = o.clone();
            o["apiVersion"] = json!("tallyman.dev/v1alpha1");
            o["metadata"]["namespace"] = json!(self.namespace());
            list.push(o);
        }
        self.kubectl()
            .apply(&json!({ "apiVersion": "v1", "kind": "List", "items": list }).to_string())
    }

    /// An object.
    ///
    /// # Errors
    /// It does not exist.
    pub fn get(&self, kind: &str, name: &str) -> Result<Value> {
        self.kubectl()
            .get(&format!("{kind}.tallyman.dev"), self.namespace(), name)?
            .with_context(|| format!("{kind} {name} does not exist"))
    }

    /// Waits as a pipeline would: `kubectl wait --for=condition=Ready`.
    ///
    /// # Errors
    /// It does not become Ready.
    pub fn wait_ready(&self, service: &str) -> Result<()> {
        let object = format!("services.tallyman.dev/{service}");
        let timeout = format!("--timeout={}s", PATIENCE.as_secs());
        self.k(&["wait", "--for=condition=Ready", &object, &timeout])
            .with_context(|| format!("{service}: {}", self.why(service)))?;
        Ok(())
    }

    /// What the service says of itself.
    pub fn why(&self, service: &str) -> String {
        self.get("services", service)
            .map_or_else(|e| e.to_string(), |s| s["status"].to_string())
    }

    /// Waits until the service is Ready with `n` tasks running and none other left.
    ///
    /// # Errors
    /// It does not come true.
    pub fn wait_steady(&self, service: &str, n: usize) -> Result<Vec<Value>> {
        wait_until(
            format!("service {service} to be Ready with {n} tasks"),
            PATIENCE,
            || {
                let s = self.get("services", service)?;
                let fresh = s["status"]["observedGeneration"] == s["metadata"]["generation"];
                let tasks = self.alive(service)?;
                let all_run = tasks.iter().all(|t| t["status"]["lastStatus"] == "RUNNING");
                let done =
                    fresh && condition(&s, "Ready").0 == "True" && tasks.len() == n && all_run;
                if !done {
                    bail!(
                        "{} tasks alive; status {}",
                        tasks.len(),
                        s["status"]["message"]
                    );
                }
                Ok(Some(tasks))
            },
        )
    }

    /// Tasks of a service.
    ///
    /// # Errors
    /// kubectl failed.
    pub fn tasks(&self, service: &str) -> Result<Vec<Value>> {
        let all = self
            .kubectl()
            .list("tasks.tallyman.dev", self.namespace())?;
        Ok(all
            .into_iter()
            .filter(|t| t["metadata"]["labels"]["tallyman.dev/service"] == service)
            .collect())
    }

    /// Tasks of a service that are not STOPPED.
    ///
    /// # Errors
    /// kubectl failed.
    pub fn alive(&self, service: &str) -> Result<Vec<Value>> {
        Ok(self
            .tasks(service)?
            .into_iter()
            .filter(|t| t["status"]["lastStatus"] != "STOPPED")
            .collect())
    }

    /// Addresses at which the published ports of a task are reached.
    pub fn addresses(&self, task: &Value) -> Vec<SocketAddr> {
        let host = task["status"]["containerInstance"]
            .as_str()
            .unwrap_or_default();
        let Ok(host) = self.lab.host_named(host) else {
            return Vec::new();
        };
        let containers = task["status"]["containers"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        containers
            .iter()
            .flat_map(|c| c["networkBindings"].as_array().cloned().unwrap_or_default())
            .filter_map(|b| u16::try_from(b["hostPort"].as_u64()?).ok())
            .map(|port| SocketAddr::from((host.address(), port)))
            .collect()
    }

    /// Does `work` while every task of a service is asked for its page, over and over: how many answered, and how many were
    /// not STOPPED, each time.
    ///
    /// # Errors
    /// What `work` says, or kubectl failed.
    pub fn sampled(
        &self,
        service: &str,
        work: impl FnOnce() -> Result<()>,
    ) -> Result<Vec<(usize, usize)>> {
        watched(|| self.sample(service), work)
    }

    /// [`User::sampled`] while clients ask for pages as well, and what became of their requests.
    ///
    /// # Errors
    /// What `work` says, or kubectl failed.
    pub fn under_load(
        &self,
        service: &str,
        work: impl FnOnce() -> Result<()>,
    ) -> Result<(Vec<(usize, usize)>, Served)> {
        let clients = Clients::default();
        let find = || {
            let tasks = self.alive(service).ok()?;
            Some(tasks.iter().flat_map(|t| self.addresses(t)).collect())
        };
        let look = || self.sample(service);
        let (samples, served) = clients.ask_during(find, || watched(look, work));
        Ok((samples?, served))
    }

    fn sample(&self, service: &str) -> Result<(usize, usize)> {
        let tasks = self.alive(service)?;
        let addresses: Vec<_> = tasks.iter().flat_map(|t| self.addresses(t)).collect();
        Ok((addresses.iter().filter(|a| answers(a)).count(), tasks.len()))
    }

    /// Every container of ours on every host.
    ///
    /// # Errors
    /// An engine did not answer.
    pub fn containers(&self) -> Result<BTreeSet<Container>> {
        let mut found = BTreeSet::new();
        for host in self.lab.hosts() {
            let format = "{{.ID}} {{.State}} {{.Label \"tallyman.dev/task\"}}";
            let text = host.docker_ok([
                "ps",
                "--all",
                "--no-trunc",
                "--filter",
                "label=tallyman.dev/task",
                "--format",
                format,
            ])?;
            for line in text.lines() {
                let mut words = line.split_whitespace();
                let (Some(id), Some(state), Some(task)) =
                    (words.next(), words.next(), words.next())
                else {
                    bail!("docker ps printed '{line}'");
                };
                found.insert(Container {
                    task: task.to_owned(),
                    id: id.to_owned(),
                    host: host.name().to_owned(),
                    state: state.to_owned(),
                });
            }
        }
        Ok(found)
    }

    /// Ids of running containers by task, of a service.
    ///
    /// # Errors
    /// An engine did not answer.
    pub fn running(&self, service: &str) -> Result<BTreeMap<String, String>> {
        let prefix = format!("{service}-");
        Ok(self
            .containers()?
            .into_iter()
            .filter(|c| c.state == "running" && c.task.starts_with(&prefix))
            .map(|c| (c.task, c.id))
            .collect())
    }

    /// Deletes a service and its task definition, and waits until they are gone.
    ///
    /// # Errors
    /// They do not go.
    pub fn delete(&self, names: &[&str]) -> Result<()> {
        for name in names {
            self.k(&[
                "delete",
                "services.tallyman.dev",
                name,
                "--ignore-not-found",
                "--timeout=90s",
            ])?;
            self.k(&[
                "delete",
                "taskdefinitions.tallyman.dev",
                name,
                "--ignore-not-found",
                "--timeout=90s",
            ])?;
        }
        Ok(())
    }

    /// Fails when a scenario left a task or a container behind.
    ///
    /// # Errors
    /// Something is left.
    pub fn leaves_nothing(&self) -> Result<()> {
        wait_until("nothing of ours to be left on any host", PATIENCE, || {
            let containers = self.containers()?;
            ensure!(containers.is_empty(), "containers are left: {containers:?}");
            let tasks = self
                .kubectl()
                .list("tasks.tallyman.dev", self.namespace())?;
            let names: Vec<_> = tasks
                .iter()
                .map(|t| t["metadata"]["name"].to_string())
                .collect();
            ensure!(tasks.is_empty(), "tasks are left: {names:?}");
            let runs = self
                .kubectl()
                .list("runtasks.tallyman.dev", self.namespace())?;
            ensure!(runs.is_empty(), "{} runs are left", runs.len());
            let revisions = self
                .kubectl()
                .list("taskdefinitionrevisions.tallyman.dev", self.namespace())?;
            ensure!(
                revisions.is_empty(),
                "{} revisions are left",
                revisions.len()
            );
            Ok(true)
        })
    }

    /// Prints what a person would look at after a failure.
    pub fn describe(&self) {
        for args in [
            &["get", "tsvc,tdef,tdrev,trun,tsched,task,cinst,hplan"][..],
            &["get", "events", "--sort-by=.lastTimestamp"],
            &["get", "tsvc,trun,tsched,task", "-o", "yaml"],
        ] {
            self.kubectl()
                .tell(&[args, &["-n", self.namespace()]].concat());
        }
        for host in self.lab.hosts() {
            if let Ok(text) = host.docker_ok(["ps", "--all"]) {
                println!("$ docker ps --all   # {}\n{text}", host.name());
            }
        }
    }

    /// Takes away what a failed scenario left, so that the next one is not disturbed.
    pub fn clean(&self) {
        for kind in [
            "scheduledtasks",
            "runtasks",
            "services",
            "tasksets",
            "tasks",
            "taskdefinitions",
            "taskdefinitionrevisions",
        ] {
            let _ = self.k(&[
                "delete",
                &format!("{kind}.tallyman.dev"),
                "--all",
                "--timeout=60s",
            ]);
        }
        for host in self.lab.hosts() {
            let _ = host.start_engine();
            if !host.agent().is_running() {
                let _ = host.agent().start();
            }
        }
    }
}

/// Status, reason and message of a condition; empty when it is absent.
pub fn condition(object: &Value, kind: &str) -> (String, String, String) {
    let text = |v: &Value| v.as_str().unwrap_or_default().to_owned();
    object["status"]["conditions"]
        .as_array()
        .and_then(|list| list.iter().find(|c| c["type"] == kind))
        .map(|c| (text(&c["status"]), text(&c["reason"]), text(&c["message"])))
        .unwrap_or_default()
}

/// A task definition of one container of the hello image that serves `text`.
pub fn hello(name: &str, text: &str) -> Value {
    json!({
        "kind": "TaskDefinition",
        "metadata": { "name": name },
        "spec": { "containerDefinitions": [{
            "name": "web",
            "image": "localhost/tallyman/hello:1",
            "cpu": 16,
            "memory": 32,
            "environment": [{ "name": "TEXT", "value": text }],
            "portMappings": [{ "containerPort": 80 }],
            "stopTimeout": 2,
        }]},
    })
}

/// The same with a health check, so that its services are Ready once their tasks count as healthy. Scale-in takes those first
/// that do not, wherever they run.
pub fn checked(name: &str, text: &str) -> Value {
    let mut definition = hello(name, text);
    definition["spec"]["containerDefinitions"][0]["healthCheck"] =
        json!({ "command": ["CMD-SHELL", "true"], "interval": 5 });
    definition
}

/// A service of `count` copies of the task definition of the same name.
pub fn service(name: &str, count: i64) -> Value {
    json!({
        "kind": "Service",
        "metadata": { "name": name },
        "spec": { "taskDefinition": name, "desiredCount": count },
    })
}

/// Does `work` while somebody looks, over and over: what was seen.
///
/// # Errors
/// What `work` says, or a look failed.
pub fn watched<S: Send>(
    look: impl Fn() -> Result<S> + Sync,
    work: impl FnOnce() -> Result<()>,
) -> Result<Vec<S>> {
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let sampler = scope.spawn(|| {
            let mut samples = Vec::new();
            while !done.load(Ordering::Relaxed) {
                samples.push(look()?);
            }
            anyhow::Ok(samples)
        });
        let worked = work();
        done.store(true, Ordering::Relaxed);
        let samples = sampler
            .join()
            .map_err(|_| anyhow::anyhow!("the sampler panicked"))??;
        worked.map(|()| samples)
    })
}
