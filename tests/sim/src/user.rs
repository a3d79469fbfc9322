//! What users and administrators do, with `kubectl` and with their hands.

use serde_json::{Value, json};
use tallyman_operator_core::Kind;

use crate::api::Preconditions;
use crate::sim::Sim;

/// `spec` of a task definition: one container of 256 CPU units and 512 MiB.
pub fn definition(image: &str) -> Value {
    json!({ "containerDefinitions": [{ "name": "app", "image": image, "cpu": 256, "memory": 512, "stopTimeout": 2 }] })
}

/// The same, published on a fixed port of the host.
pub fn on_port(image: &str, port: u16) -> Value {
    let mut spec = definition(image);
    spec["containerDefinitions"][0]["portMappings"] = json!([{ "containerPort": 80, "hostPort": port }]);
    spec
}

impl Sim {
    fn apply(&mut self, kind: Kind, name: &str, spec: &Value) {
        let now = self.shared.now;
        self.shared.note("user", &format!("applies {} {name}", kind.as_str()));
        let written = if self.shared.server.get(kind, name).is_some() {
            self.shared.server.patch(kind, name, &json!({ "spec": spec }), &Preconditions::default())
        } else {
            let value = json!({ "metadata": { "name": name }, "spec": spec });
            self.shared.server.create(kind, value, now)
        };
        if let Err(refusal) = written {
            self.fail(&format!("the user cannot apply {name}: {refusal:?}"));
        }
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

    /// `kubectl delete`.
    pub fn delete(&mut self, kind: Kind, name: &str) {
        let now = self.shared.now;
        self.shared.note("user", &format!("deletes {} {name}", kind.as_str()));
        if let Err(refusal) = self.shared.server.delete(kind, name, &Preconditions::default(), now) {
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
            alive.extend(agent.engine.containers().into_iter().filter(|c| c.phase.is_alive()).map(|c| (n, c.name)));
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

    /// Containers of one service, or of all, that are gone for good.
    pub fn nothing_left(&self) -> bool {
        self.shared.server.all(Kind::Task).next().is_none() && self.containers() == 0
    }
}
