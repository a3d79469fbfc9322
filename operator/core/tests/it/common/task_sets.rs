//! Task sets: what users write, and what is there.

use serde_json::{Value, json};
use tallyman_crds::{Task, TaskSet, TaskSetStatus, labels};
use tallyman_operator_core::Kind;

use super::Bench;
use super::build::definition;
use super::moves::holding;

/// `spec` of a service whose deployments somebody else runs.
pub fn external(desired: i64) -> Value {
    json!({ "desiredCount": desired, "deploymentController": { "type": "EXTERNAL" } })
}

/// Task of a task set that is not STOPPED.
pub fn of_set(set: &str) -> impl Fn(&Task) -> bool {
    let set = set.to_owned();
    move |t| {
        let labels = t.metadata.labels.as_ref();
        let of = labels.and_then(|l| l.get(labels::TASK_SET));
        of == Some(&set) && holding(t)
    }
}

impl Bench {
    /// Hosts, family `web` and service `web` that wants `desired` tasks and has no task set yet.
    pub fn with_external(hosts: u8, desired: i64) -> Bench {
        let mut bench = Bench::with_hosts(hosts);
        bench.apply_definition("web", definition("web:1"));
        bench.apply_service("web", external(desired));
        bench.settle();
        bench
    }

    /// `kubectl apply` of a TaskSet of service and family `web`, with these fields beside it.
    pub fn apply_task_set(&mut self, name: &str, percent: f64, fields: Value) {
        let mut spec = json!({
            "service": "web", "taskDefinition": "web:1", "scale": { "value": percent, "unit": "PERCENT" }
        });
        super::merge(&mut spec, &fields);
        if self.names(Kind::TaskSet).contains(&name.to_owned()) {
            self.edit(Kind::TaskSet, name, &|v| v["spec"] = spec.clone());
        } else {
            let spec = serde_json::from_value(spec).unwrap();
            self.create(Kind::TaskSet, TaskSet::new(name, spec));
        }
    }

    /// ECS UpdateTaskSet.
    pub fn scale_set(&mut self, name: &str, percent: f64) {
        self.edit(Kind::TaskSet, name, &|v| {
            v["spec"]["scale"]["value"] = json!(percent)
        });
    }

    /// ECS UpdateServicePrimaryTaskSet.
    pub fn make_primary(&mut self, set: &str) {
        self.edit(Kind::Service, "web", &|v| {
            v["spec"]["primaryTaskSet"] = json!(set)
        });
    }

    /// Status of a task set.
    pub fn set_status(&self, name: &str) -> TaskSetStatus {
        let mut all = self.objects.task_sets.iter();
        let found = all.find(|s| s.metadata.name.as_deref() == Some(name));
        found.unwrap().status.clone().unwrap_or_default()
    }

    /// Reason and message of a task set's Ready condition.
    pub fn set_says(&self, name: &str) -> (String, String) {
        let condition = self.set_status(name).conditions[0].clone();
        (condition.reason, condition.message)
    }
}
