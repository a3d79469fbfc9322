//! What users and administrators do, with `kubectl` and with their hands.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::SignedDuration;
use serde_json::{Value, json};
use tallyman_agent_core::gpu_info::Mps;
use tallyman_agent_engine::{Health, fake::Program};
use tallyman_crds::{LastStatus, TaskStatus, labels};
use tallyman_operator_core::Kind;

use crate::agent::Agent;
use crate::api::Preconditions;
use crate::sim::Sim;

/// `spec` of a task definition: one container of 256 CPU units and 512 MiB.
pub fn definition(image: &str) -> Value {
    json!({ "containerDefinitions": [{ "name": "app", "image": image, "cpu": 256, "memory": 512, "stopTimeout": 2 }] })
}

/// The same, published on a fixed port of the host.
pub fn on_port(image: &str, port: u16) -> Value {
    let mut spec = definition(image);
    spec["containerDefinitions"][0]["portMappings"] =
        json!([{ "containerPort": 80, "hostPort": port }]);
    spec
}

/// The same as [`definition`], with a health check.
pub fn checked(image: &str) -> Value {
    let mut spec = definition(image);
    spec["containerDefinitions"][0]["healthCheck"] = json!({ "command": ["CMD", "true"] });
    spec
}

/// Two containers over a volume of the task and a shared one.
pub fn with_volumes(image: &str) -> Value {
    let mut spec = with_sidecar(image);
    spec["volumes"] = json!([
        { "name": "own" },
        { "name": "common", "dockerVolumeConfiguration": { "scope": "shared", "autoprovision": true } },
    ]);
    spec["containerDefinitions"][0]["mountPoints"] = json!([
        { "sourceVolume": "own", "containerPath": "/own" },
        { "sourceVolume": "common", "containerPath": "/common" },
    ]);
    spec["containerDefinitions"][1]["volumesFrom"] =
        json!([{ "sourceContainer": "app", "readOnly": true }]);
    spec
}

/// The same as [`definition`], with a password out of Secret `db`.
pub fn with_secret(image: &str) -> Value {
    let mut spec = definition(image);
    spec["containerDefinitions"][0]["secrets"] =
        json!([{ "name": "PASSWORD", "valueFrom": "db:password" }]);
    spec
}

/// Two containers, one of them not essential.
pub fn with_sidecar(image: &str) -> Value {
    let mut spec = definition(image);
    let sidecar = json!({ "name": "log", "image": format!("log-of-{image}"), "memory": 64, "essential": false });
    if let Some(list) = spec["containerDefinitions"].as_array_mut() {
        list.push(sidecar);
    }
    spec
}

/// MiB of a GPU.
pub const GPU_MEMORY: i64 = 1000;

/// The same as [`definition`], with GPUs.
pub fn on_gpus(image: &str, count: u32) -> Value {
    let mut spec = definition(image);
    spec["containerDefinitions"][0]["resourceRequirements"] =
        json!([{ "type": "GPU", "value": count.to_string() }]);
    spec
}

/// Two containers that share one GPU, with so many MiB of it each.
pub fn on_a_part(image: &str, mib: u32) -> Value {
    let mut spec = with_sidecar(image);
    if let Some(list) = spec["containerDefinitions"].as_array_mut() {
        for container in list {
            container["resourceRequirements"] =
                json!([{ "type": "GPU", "sharingStrategy": { "nvidiaMps": { "memory": mib } } }]);
        }
    }
    spec
}

/// Two containers with an address and processes of their own: a task with a pause container.
pub fn sharing(image: &str) -> Value {
    let mut spec = with_sidecar(image);
    spec["networkMode"] = json!("awsvpc");
    spec["pidMode"] = json!("task");
    spec["containerDefinitions"][0]["portMappings"] = json!([{ "containerPort": 80 }]);
    spec
}

/// One container on four ports of the host that the agent chooses, three of them in a row.
pub fn on_chosen_ports(image: &str) -> Value {
    let mut spec = definition(image);
    spec["containerDefinitions"][0]["portMappings"] =
        json!([{ "containerPort": 80 }, { "containerPortRange": "8000-8002" }]);
    spec
}

/// Four containers that wait for each other, listed in no order: a job, a database, what serves, and what ships its logs.
pub fn ordered(image: &str) -> Value {
    let mut spec = definition(image);
    if let Some(list) = spec["containerDefinitions"].as_array_mut() {
        list[0]["dependsOn"] = json!([
            { "containerName": "init", "condition": "SUCCESS" },
            { "containerName": "db", "condition": "HEALTHY" },
        ]);
        list.insert(
            0,
            json!({
                "name": "log", "image": "log:1", "memory": 64, "essential": false,
                "dependsOn": [{ "containerName": "app", "condition": "START" }],
            }),
        );
        list.push(json!({
            "name": "db", "image": "db:1", "memory": 64, "healthCheck": { "command": ["CMD", "true"] },
            "dependsOn": [{ "containerName": "init", "condition": "COMPLETE" }],
        }));
        list.push(json!({ "name": "init", "image": "init:1", "memory": 64, "essential": false }));
    }
    spec
}

impl Sim {
    /// Gives every host so many GPUs of [`GPU_MEMORY`] that tasks may share, and its engine their driver. Before the first step.
    pub fn with_gpus(&mut self, count: usize) {
        for agent in &mut self.agents {
            agent.gpus.ids = (1..=count)
                .map(|n| format!("GPU-{}-{n}", agent.name))
                .collect();
            let memory = agent.gpus.ids.iter();
            agent.gpus.memory = memory.map(|id| (id.clone(), GPU_MEMORY)).collect();
            agent.gpus.mps = Some(Mps {
                directory: "/run/mps-ecs".to_owned(),
                listens: true,
            });
            agent.engine.set_gpu_driver(true);
        }
    }

    /// What containers of `image` do on every host.
    pub fn program(&self, image: &str, program: &Program) {
        for agent in &self.agents {
            agent.engine.set_program(image, program.clone());
        }
    }

    fn apply(&mut self, kind: Kind, name: &str, spec: &Value) {
        self.reach();
        let now = self.shared.now;
        self.shared
            .note("user", &format!("applies {} {name}", kind.as_str()));
        let written = if self.shared.server.get(kind, name).is_some() {
            self.shared.server.patch(
                kind,
                name,
                &json!({ "spec": spec }),
                &Preconditions::default(),
            )
        } else {
            let mut value = json!({ "metadata": { "name": name }, "spec": {} });
            crate::api::merge(&mut value["spec"], spec);
            self.shared.server.create(kind, value, now)
        };
        if let Err(refusal) = written {
            self.fail(&format!("the user cannot apply {name}: {refusal:?}"));
        }
    }

    /// Applies Secret `name` with one value.
    pub fn secret(&mut self, name: &str, key: &str, value: &str) {
        self.reach();
        let now = self.shared.now;
        self.shared.note("user", &format!("applies Secret {name}"));
        let data = json!({ key: value });
        let server = &mut self.shared.server;
        let written = if server.get(Kind::Secret, name).is_some() {
            let patch = json!({ "data": data });
            server.patch(Kind::Secret, name, &patch, &Preconditions::default())
        } else {
            let object = json!({ "metadata": { "name": name }, "data": data });
            server.create(Kind::Secret, object, now)
        };
        if let Err(refusal) = written {
            self.fail(&format!("the user cannot apply {name}: {refusal:?}"));
        }
    }

    /// A container of a task asks its agent to protect the task for so many minutes: the answer, or why not in ECS' word.
    /// Nothing when no agent has it.
    pub fn ask_protection(&mut self, task: &str, minutes: i64) -> Option<Result<(), &'static str>> {
        let now = self.shared.now;
        let until = now + SignedDuration::from_mins(minutes);
        let mut agents = self.agents.iter_mut();
        let answer = agents.find_map(|a| a.protect(task, until, now));
        let what = format!("asks to protect {task} until {until}: {answer:?}");
        self.shared.note("container", &what);
        answer
    }

    /// The same of a task that an agent has.
    pub fn protect(&mut self, task: &str, minutes: i64) -> Result<(), &'static str> {
        match self.ask_protection(task, minutes) {
            Some(answer) => answer,
            None => self.fail(&format!("no agent has {task}")),
        }
    }

    /// Any task of a service protects itself for so many minutes, as soon as an agent lets it.
    pub fn some_task_protects_itself(&mut self, service: &str, minutes: i64, seconds: i64) {
        let end = self.shared.now + SignedDuration::from_secs(seconds);
        while self.shared.now < end {
            let begins = format!("{service}-");
            let runs = |s: &TaskStatus| s.last_status == LastStatus::Running;
            let running = self.tasks(|t| t.status.as_ref().is_some_and(runs));
            for task in running.iter().filter(|t| t.starts_with(&begins)) {
                if self.ask_protection(task, minutes) == Some(Ok(())) {
                    return;
                }
            }
            self.step();
        }
        self.fail(&format!(
            "no task of {service} was protected within {seconds} s"
        ));
    }

    /// The status of a service says that protected tasks hold it up.
    pub fn is_blocked(&self, service: &str) -> bool {
        let found = self.shared.server.get(Kind::Service, service);
        found.is_some_and(|s| s["status"]["deployments"][0]["blockedByProtection"] == true)
    }

    /// Tasks that are to run and whose agents believe otherwise than the status of their service says whether protected tasks
    /// hold it up.
    pub fn misled(&self) -> Vec<String> {
        let told = self.agents.iter().flat_map(Agent::told_blocked);
        let told: BTreeMap<&str, bool> = told.map(|(uid, is)| (uid.as_str(), is)).collect();
        let server = &self.shared.server;
        let tasks = server.all(Kind::Task).filter(|(_, t)| {
            t["spec"]["desiredStatus"] != "STOPPED"
                && t["status"]["lastStatus"] != "STOPPED"
                && t["metadata"]["deletionTimestamp"].is_null()
        });
        let believes = |t: &Value| told.get(t["metadata"]["uid"].as_str()?).copied();
        let misled = tasks.filter(|(_, t)| {
            let service = t["metadata"]["labels"][labels::SERVICE].as_str();
            let is = service.is_some_and(|service| self.is_blocked(service));
            believes(t).is_some_and(|believed| believed != is)
        });
        misled.map(|(name, _)| name.to_owned()).collect()
    }

    /// Applies a ContainerInstance.
    pub fn join(&mut self, host: &str) {
        self.apply(Kind::ContainerInstance, host, &json!({}));
    }

    /// Applies a TaskDefinition.
    pub fn define(&mut self, name: &str, spec: &Value) {
        self.apply(Kind::TaskDefinition, name, spec);
    }

    /// Applies TaskDefinition `name` and a Service `name` of it.
    pub fn deploy(&mut self, name: &str, desired: i64, minimum: i64, maximum: i64) {
        self.define(name, &definition(&format!("{name}:1")));
        self.serve(name, desired, minimum, maximum);
    }

    /// Applies a Service `name` of family `name`.
    pub fn serve(&mut self, name: &str, desired: i64, minimum: i64, maximum: i64) {
        let spec = json!({
            "taskDefinition": name, "desiredCount": desired,
            "deploymentConfiguration": { "minimumHealthyPercent": minimum, "maximumPercent": maximum }
        });
        self.apply(Kind::Service, name, &spec);
    }

    /// Applies a Service `name` whose deployments somebody else runs.
    pub fn serve_external(&mut self, name: &str, desired: i64) {
        let spec =
            json!({ "desiredCount": desired, "deploymentController": { "type": "EXTERNAL" } });
        self.apply(Kind::Service, name, &spec);
    }

    /// Makes a task set of service `web`, or gives it another scale.
    pub fn task_set(&mut self, name: &str, task_definition: &str, percent: i64) {
        let spec = json!({
            "service": "web", "taskDefinition": task_definition, "scale": { "value": percent, "unit": "PERCENT" }
        });
        self.apply(Kind::TaskSet, name, &spec);
    }

    /// Says which task set of a service is the primary one.
    pub fn make_primary(&mut self, service: &str, task_set: &str) {
        self.apply(
            Kind::Service,
            service,
            &json!({ "primaryTaskSet": task_set }),
        );
    }

    /// Turns the circuit breaker of a service on.
    pub fn guard(&mut self, service: &str, rollback: bool) {
        let breaker = json!({ "enable": true, "rollback": rollback });
        let spec = json!({ "deploymentConfiguration": { "deploymentCircuitBreaker": breaker } });
        self.apply(Kind::Service, service, &spec);
    }

    /// Holds the deployments of a service, or lets them go on.
    pub fn pause(&mut self, service: &str, paused: bool) {
        self.apply(Kind::Service, service, &json!({ "paused": paused }));
    }

    /// Starts a new deployment of the same revision, as ECS does by `forceNewDeployment`.
    pub fn restart(&mut self, service: &str, value: &str) {
        self.annotate(Kind::Service, service, labels::RESTARTED_AT, value);
    }

    /// Deletes a ContainerInstance by force.
    pub fn evict(&mut self, host: &str) {
        let force = labels::FORCE_DEREGISTRATION;
        self.annotate(Kind::ContainerInstance, host, force, "true");
        self.delete(Kind::ContainerInstance, host);
    }

    /// `kubectl annotate`.
    pub fn annotate(&mut self, kind: Kind, name: &str, annotation: &str, value: &str) {
        self.reach();
        self.shared.note(
            "user",
            &format!("annotates {name} with {annotation}={value}"),
        );
        let patch = json!({ "metadata": { "annotations": { annotation: value } } });
        let server = &mut self.shared.server;
        if let Err(refusal) = server.patch(kind, name, &patch, &Preconditions::default()) {
            self.fail(&format!("the user cannot annotate {name}: {refusal:?}"));
        }
    }

    /// Applies TaskDefinition `name` and a DAEMON Service `name` of it.
    pub fn daemon(&mut self, name: &str, image: &str) {
        let mut spec = definition(image);
        spec["containerDefinitions"][0]["cpu"] = json!(64);
        spec["containerDefinitions"][0]["memory"] = json!(64);
        self.define(name, &spec);
        let spec = json!({ "taskDefinition": name, "schedulingStrategy": "DAEMON" });
        self.apply(Kind::Service, name, &spec);
    }

    /// Applies a Service `name` of family `name` with more in its spec, such as constraints.
    pub fn serve_by(&mut self, name: &str, desired: i64, more: &Value) {
        let mut spec = json!({
            "taskDefinition": name, "desiredCount": desired,
            "deploymentConfiguration": { "minimumHealthyPercent": 50, "maximumPercent": 200 }
        });
        crate::api::merge(&mut spec, more);
        self.apply(Kind::Service, name, &spec);
    }

    /// Gives a host custom attributes in place of those that it has.
    pub fn attribute(&mut self, host: &str, attributes: &[(&str, &str)]) {
        let attribute = |(name, value): &(&str, &str)| json!({ "name": name, "value": value });
        let list: Vec<Value> = attributes.iter().map(attribute).collect();
        let spec = json!({ "attributes": list });
        self.apply(Kind::ContainerInstance, host, &spec);
    }

    /// Deploys and waits until it is ready and mature.
    pub fn deployed(&mut self, name: &str, desired: i64, minimum: i64, maximum: i64) {
        self.deploy(name, desired, minimum, maximum);
        self.until("the service is ready", 600, Sim::all_ready);
        self.run(45);
    }

    /// `kubectl scale`.
    pub fn scale(&mut self, service: &str, desired: i64) {
        self.apply(Kind::Service, service, &json!({ "desiredCount": desired }));
    }

    /// Registers another image.
    pub fn roll(&mut self, name: &str, image: &str) {
        self.define(name, &definition(image));
    }

    /// Applies a Task of one's own; on `host` it is ECS StartTask, without one RunTask of one.
    pub fn task(&mut self, name: &str, family: &str, host: Option<&str>) {
        self.apply(
            Kind::Task,
            name,
            &json!({ "taskDefinition": family, "containerInstance": host }),
        );
    }

    /// Applies TaskDefinition `job`, whose one container ends with this exit code after so many seconds.
    pub fn define_job(&mut self, seconds: u64, code: i64) {
        self.define("job", &definition("job:1"));
        self.program("job:1", &Program::exits(code, Duration::from_secs(seconds)));
    }

    /// `kubectl create` of a RunTask of family `job`, with these fields beside it.
    pub fn start_run(&mut self, name: &str, fields: &Value) {
        let mut spec = json!({ "taskDefinition": "job" });
        crate::api::merge(&mut spec, fields);
        self.apply(Kind::RunTask, name, &spec);
    }

    /// Applies a ScheduledTask of family `job`, with these fields beside it.
    pub fn schedule(&mut self, name: &str, fields: &Value) {
        let mut spec = json!({ "runTask": { "taskDefinition": "job" } });
        crate::api::merge(&mut spec, fields);
        self.apply(Kind::ScheduledTask, name, &spec);
    }

    /// The condition of a run is True.
    pub fn run_is(&self, name: &str, condition: &str) -> bool {
        let run = self.shared.server.get(Kind::RunTask, name);
        let conditions = run.and_then(|r| r["status"]["conditions"].as_array());
        let mut conditions = conditions.into_iter().flatten();
        conditions.any(|c| c["type"] == condition && c["status"] == "True")
    }

    /// Asks for a task to stop, as ECS StopTask does.
    pub fn stop_task(&mut self, name: &str) {
        self.apply(Kind::Task, name, &json!({ "desiredStatus": "STOPPED" }));
    }

    /// Any task, whatever its state.
    pub fn any_task(&mut self) -> Option<String> {
        let all = self.tasks(|t| t.metadata.deletion_timestamp.is_none());
        let n = self.shared.rng.below(all.len());
        all.get(n).cloned()
    }

    /// The health checks of any container that runs turn.
    pub fn turn_health(&mut self, health: Health) {
        for agent in &self.agents {
            for container in agent
                .engine
                .containers()
                .iter()
                .filter(|c| c.phase.is_alive())
            {
                if container.health != Some(Health::None) && self.shared.rng.chance(50) {
                    agent.engine.set_health(&container.name, health);
                }
            }
        }
    }

    /// `kubectl delete`.
    pub fn delete(&mut self, kind: Kind, name: &str) {
        self.reach();
        let now = self.shared.now;
        self.shared
            .note("user", &format!("deletes {} {name}", kind.as_str()));
        if let Err(refusal) = self
            .shared
            .server
            .delete(kind, name, &Preconditions::default(), now)
        {
            self.fail(&format!("the user cannot delete {name}: {refusal:?}"));
        }
    }

    /// DRAINING or ACTIVE.
    pub fn drain(&mut self, host: &str, draining: bool) {
        let status = if draining { "DRAINING" } else { "ACTIVE" };
        self.apply(Kind::ContainerInstance, host, &json!({ "status": status }));
    }

    /// Which of the agents.
    pub fn host(&self, name: &str) -> usize {
        self.agents.iter().position(|a| a.name == name).unwrap_or(0)
    }

    /// A running container dies, any.
    pub fn kill_container(&mut self) -> bool {
        self.shared.monitor.faults = true;
        let mut alive = Vec::new();
        for (n, agent) in self.agents.iter().enumerate() {
            alive.extend(
                agent
                    .engine
                    .containers()
                    .into_iter()
                    .filter(|c| c.phase.is_alive())
                    .map(|c| (n, c.name)),
            );
        }
        if alive.is_empty() {
            return false;
        }
        let (host, container) = alive[self.shared.rng.below(alive.len())].clone();
        self.shared.note("fate", &format!("kills {container}"));
        self.agents[host].engine.kill(&container)
    }

    /// No registry has this image.
    pub fn unpublish(&mut self, image: &str) {
        for agent in &self.agents {
            agent.engine.set_missing(image);
        }
    }

    /// Every registry has it.
    pub fn publish(&mut self, image: &str) {
        for agent in &self.agents {
            agent.engine.publish_image(image);
        }
    }

    /// An agent process dies; its host goes on.
    pub fn kill_agent(&mut self, host: &str) {
        let n = self.host(host);
        self.agents[n].kill(&mut self.shared, "kill -9");
    }

    /// Tasks, containers and volumes that are gone for good.
    pub fn nothing_left(&self) -> bool {
        self.shared.server.all(Kind::Task).next().is_none()
            && self.containers() == 0
            && self.own_volumes() == 0
    }
}
