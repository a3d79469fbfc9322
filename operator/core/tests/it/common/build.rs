//! Objects as users and agents write them.

use serde_json::{Value, json};
use tallyman_crds::capabilities;
use tallyman_crds::{ContainerInstance, Service, Task, TaskDefinition};
use tallyman_operator_core::Kind;

use super::Bench;

/// `spec` of a task definition with one container of 256 CPU units and 512 MiB.
pub fn definition(image: &str) -> Value {
    json!({ "containerDefinitions": [{ "name": "app", "image": image, "cpu": 256, "memory": 512 }] })
}

/// The same with a container health check.
pub fn checked(image: &str) -> Value {
    let mut spec = definition(image);
    spec["containerDefinitions"][0]["healthCheck"] = json!({ "command": ["CMD", "true"] });
    spec
}

/// `spec` of a service with percentages.
pub fn service(definition: &str, desired: i64, minimum: i64, maximum: i64) -> Value {
    json!({
        "taskDefinition": definition,
        "desiredCount": desired,
        "deploymentConfiguration": { "minimumHealthyPercent": minimum, "maximumPercent": maximum }
    })
}

impl Bench {
    /// `kubectl apply` of a TaskDefinition.
    pub fn apply_definition(&mut self, name: &str, spec: Value) {
        if self.names(Kind::TaskDefinition).contains(&name.to_owned()) {
            self.edit(Kind::TaskDefinition, name, &|v| v["spec"] = spec.clone());
        } else {
            let spec = serde_json::from_value(spec).unwrap();
            self.create(Kind::TaskDefinition, TaskDefinition::new(name, spec));
        }
    }

    /// `kubectl apply` of a Service.
    pub fn apply_service(&mut self, name: &str, spec: Value) {
        if self.names(Kind::Service).contains(&name.to_owned()) {
            self.edit(Kind::Service, name, &|v| v["spec"] = spec.clone());
        } else {
            let spec = serde_json::from_value(spec).unwrap();
            self.create(Kind::Service, Service::new(name, spec));
        }
    }

    /// `kubectl scale`.
    pub fn scale(&mut self, service: &str, desired: i64) {
        self.edit(Kind::Service, service, &|v| {
            v["spec"]["desiredCount"] = json!(desired)
        });
    }

    /// `kubectl apply` of a Task.
    pub fn apply_task(&mut self, name: &str, spec: Value) {
        self.create(
            Kind::Task,
            Task::new(name, serde_json::from_value(spec).unwrap()),
        );
    }

    /// A host whose agent registered and renews its Lease.
    pub fn host(&mut self, name: &str, cpu: i64, memory: i64) {
        self.create(
            Kind::ContainerInstance,
            ContainerInstance::new(name, serde_json::from_value(json!({})).unwrap()),
        );
        self.register(name, cpu, memory);
        self.silent(name, 0);
    }

    /// The agent of a host reports it.
    pub fn register(&mut self, name: &str, cpu: i64, memory: i64) {
        self.edit(Kind::ContainerInstance, name, &|v| {
            v["status"]["host"] = json!({
                "agentVersion": "0.1.0", "engine": "docker 29.1", "engineApiVersion": "1.52", "engineReachable": true,
                "registeredResources": { "cpu": cpu, "memory": memory, "ports": [22, 2375] },
                "attributes": [{ "name": capabilities::ENVIRONMENT_FILES }, { "name": capabilities::HEALTH_CHECK }, { "name": capabilities::SECRETS }, { "name": capabilities::STOP_AFTER }, { "name": capabilities::TASK_LIMITS }, { "name": capabilities::TASK_ROLE }, { "name": "ecs.os-type", "value": "linux" }]
            });
        });
    }

    /// Family `web` and service `web`, converged and mature.
    pub fn with_service(hosts: u8, desired: i64, minimum: i64, maximum: i64) -> Bench {
        let mut bench = Bench::with_hosts(hosts);
        bench.apply_definition("web", definition("web:1"));
        bench.apply_service("web", service("web", desired, minimum, maximum));
        bench.converge(60);
        bench
    }

    /// As [`Bench::with_service`], with a container health check that passes.
    pub fn with_checked_service(hosts: u8, desired: i64, minimum: i64, maximum: i64) -> Bench {
        let mut bench = Bench::with_hosts(hosts);
        bench.apply_definition("web", checked("web:1"));
        bench.apply_service("web", service("web", desired, minimum, maximum));
        bench.settle();
        bench.run_all();
        for name in bench.names(Kind::Task) {
            bench.health(&name, tallyman_crds::HealthStatus::Healthy);
        }
        bench.settle();
        bench
    }

    /// Registers other content for family `web`.
    pub fn roll(&mut self, image: &str) {
        let mut spec = serde_json::to_value(
            &self
                .objects
                .task_definitions
                .iter()
                .find(|t| t.metadata.name.as_deref() == Some("web"))
                .unwrap()
                .spec,
        )
        .unwrap();
        spec["containerDefinitions"][0]["image"] = json!(image);
        self.apply_definition("web", spec);
    }
}
