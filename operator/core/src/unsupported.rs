//! Fields that nothing honours yet, so that none is ignored in silence.
//!
//! The tables name what *is* honoured; every other field that a user gives a value is unsupported. What would change
//! what runs is refused: the object is Stalled and says which field. What only advises (hints, names
//! for what is not there) is left out, and the object says so in the condition `UnsupportedFields`. Later work moves lines from
//! the one to the other until the lists are empty.

use serde_json::Value;
use tallyman_crds::{
    RunTaskSpec, ScheduledTaskSpec, ServiceSpec, TaskDefinitionSpec, TaskSetSpec, TaskSpec,
};

/// Fields of one object that are not supported yet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Unsupported {
    /// Without these something else would run than what was written; the object is refused.
    pub refused: Vec<String>,
    /// The object works without these.
    pub ignored: Vec<String>,
}

impl Unsupported {
    /// Sentence for the condition, or `None` when everything is honoured.
    pub fn sentence(&self) -> Option<String> {
        let list = |fields: &[String]| {
            fields
                .iter()
                .map(|f| format!("`{f}`"))
                .collect::<Vec<_>>()
                .join(", ")
        };
        match (self.refused.is_empty(), self.ignored.is_empty()) {
            (true, true) => None,
            (true, false) => Some(format!(
                "Not supported yet and left out: {}.",
                list(&self.ignored)
            )),
            (false, _) => Some(format!(
                "Not supported yet: {}. Remove {} to run this here.",
                list(&self.refused),
                if self.refused.len() == 1 {
                    "the field"
                } else {
                    "these fields"
                }
            )),
        }
    }
}

/// How far a field is honoured. A field without it is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Support {
    /// Honoured, with everything below it.
    Full,
    /// Left out; the object says so.
    Ignored,
    /// Honoured for these values.
    Values(&'static [&'static str]),
}

use Support::{Full, Ignored, Values};

const DEFINITION: &[(&str, Support)] = &[
    ("family", Full),
    ("networkMode", Full),
    ("requiresCompatibilities[]", Values(&["EC2", "EXTERNAL"])),
    ("pidMode", Full),
    ("ipcMode", Full),
    ("runtimePlatform.cpuArchitecture", Full),
    // No agent of ours runs on Windows.
    ("runtimePlatform.operatingSystemFamily", Values(&["LINUX"])),
    ("cpu", Full),
    ("memory", Full),
    ("tags", Full),
    ("taskRoleArn", Full),
    ("enableFaultInjection", Full),
    // The agent does with its own credentials, and with those that the task definition names, what ECS does with this role.
    ("executionRoleArn", Ignored),
    ("placementConstraints", Full),
    ("volumes[].name", Full),
    ("volumes[].host.sourcePath", Full),
    ("volumes[].dockerVolumeConfiguration", Full),
    ("volumes[].efsVolumeConfiguration.fileSystemId", Full),
    ("volumes[].efsVolumeConfiguration.rootDirectory", Full),
    // Encryption and access points need the mount helper of EFS; S3 Files, FSx and EBS (configuredAtLaunch) need AWS.
    (
        "volumes[].efsVolumeConfiguration.transitEncryption",
        Values(&["DISABLED"]),
    ),
    (
        "volumes[].efsVolumeConfiguration.authorizationConfig.iam",
        Values(&["DISABLED"]),
    ),
    ("containerDefinitions[].name", Full),
    ("containerDefinitions[].image", Full),
    ("containerDefinitions[].cpu", Full),
    ("containerDefinitions[].memory", Full),
    ("containerDefinitions[].memoryReservation", Full),
    ("containerDefinitions[].essential", Full),
    ("containerDefinitions[].entryPoint", Full),
    ("containerDefinitions[].command", Full),
    ("containerDefinitions[].environment", Full),
    ("containerDefinitions[].environmentFiles", Full),
    ("containerDefinitions[].secrets", Full),
    ("containerDefinitions[].repositoryCredentials", Full),
    ("containerDefinitions[].portMappings[].containerPort", Full),
    ("containerDefinitions[].portMappings[].hostPort", Full),
    (
        "containerDefinitions[].portMappings[].containerPortRange",
        Full,
    ),
    ("containerDefinitions[].portMappings[].protocol", Full),
    ("containerDefinitions[].portMappings[].name", Ignored),
    ("containerDefinitions[].portMappings[].appProtocol", Ignored),
    ("containerDefinitions[].versionConsistency", Full),
    ("containerDefinitions[].mountPoints", Full),
    ("containerDefinitions[].volumesFrom", Full),
    ("containerDefinitions[].dockerLabels", Full),
    ("containerDefinitions[].user", Full),
    ("containerDefinitions[].workingDirectory", Full),
    ("containerDefinitions[].dependsOn", Full),
    ("containerDefinitions[].links", Full),
    ("containerDefinitions[].startTimeout", Full),
    ("containerDefinitions[].restartPolicy", Full),
    ("containerDefinitions[].stopTimeout", Full),
    ("containerDefinitions[].healthCheck", Full),
    ("containerDefinitions[].linuxParameters", Full),
    // InferenceAccelerator and NeuronDevice are hardware of AWS; a part of a GPU (`sharingStrategy`) would need NVIDIA's MPS
    // daemon on every host.
    (
        "containerDefinitions[].resourceRequirements[].type",
        Values(&["GPU"]),
    ),
    ("containerDefinitions[].resourceRequirements[].value", Full),
    ("containerDefinitions[].ulimits", Full),
    ("containerDefinitions[].hostname", Full),
    ("containerDefinitions[].interactive", Full),
    ("containerDefinitions[].pseudoTerminal", Full),
    ("containerDefinitions[].readonlyRootFilesystem", Full),
    ("containerDefinitions[].dockerSecurityOptions", Full),
    ("containerDefinitions[].systemControls", Full),
    ("containerDefinitions[].privileged", Full),
    ("containerDefinitions[].extraHosts", Full),
    ("containerDefinitions[].dnsServers", Full),
    ("containerDefinitions[].dnsSearchDomains", Full),
    ("containerDefinitions[].disableNetworking", Full),
    ("containerDefinitions[].logConfiguration", Full),
    ("containerDefinitions[].firelensConfiguration", Full),
];

const SERVICE: &[(&str, Support)] = &[
    ("cluster", Full),
    ("serviceName", Full),
    ("taskDefinition", Full),
    ("desiredCount", Full),
    ("clientToken", Full),
    ("launchType", Values(&["EC2", "EXTERNAL"])),
    ("schedulingStrategy", Full),
    ("deploymentController.type", Values(&["ECS", "EXTERNAL"])),
    ("deploymentConfiguration.minimumHealthyPercent", Full),
    ("deploymentConfiguration.maximumPercent", Full),
    ("deploymentConfiguration.strategy", Values(&["ROLLING"])),
    ("deploymentConfiguration.deploymentCircuitBreaker", Full),
    ("deploymentConfiguration.alarms", Full),
    ("deploymentConfiguration.bakeTimeInMinutes", Full),
    ("deploymentConfiguration.earlySuccessCriteria", Full),
    ("deploymentConfiguration.timeoutInMinutes", Full),
    ("paused", Full),
    ("primaryTaskSet", Full),
    ("availabilityZoneRebalancing", Full),
    ("healthCheckGracePeriodSeconds", Full),
    ("placementConstraints", Full),
    ("placementStrategy", Full),
    ("tags", Full),
    ("propagateTags", Full),
    ("enableECSManagedTags", Full),
    ("enableExecuteCommand", Ignored),
    ("monitoring", Ignored),
    ("networkConfiguration", Ignored),
    ("platformVersion", Ignored),
    ("role", Ignored),
];

const TASK_SET: &[(&str, Support)] = &[
    ("service", Full),
    ("cluster", Full),
    ("externalId", Full),
    ("taskDefinition", Full),
    ("launchType", Values(&["EC2", "EXTERNAL"])),
    ("scale", Full),
    ("clientToken", Full),
    ("tags", Full),
    ("networkConfiguration", Ignored),
    ("platformVersion", Ignored),
];

const TASK: &[(&str, Support)] = &[
    ("cluster", Full),
    ("taskDefinition", Full),
    ("containerInstance", Full),
    ("desiredStatus", Full),
    ("stopCode", Full),
    ("stoppedReason", Full),
    ("group", Full),
    ("startedBy", Full),
    ("clientToken", Full),
    ("overrides.containerOverrides[].name", Full),
    ("overrides.containerOverrides[].command", Full),
    ("overrides.containerOverrides[].environment", Full),
    ("overrides.containerOverrides[].environmentFiles", Full),
    ("overrides.containerOverrides[].cpu", Full),
    ("overrides.containerOverrides[].memory", Full),
    ("overrides.containerOverrides[].memoryReservation", Full),
    (
        "overrides.containerOverrides[].resourceRequirements[].type",
        Values(&["GPU"]),
    ),
    (
        "overrides.containerOverrides[].resourceRequirements[].value",
        Full,
    ),
    ("overrides.cpu", Full),
    ("overrides.memory", Full),
    ("overrides.taskRoleArn", Full),
    ("overrides.executionRoleArn", Ignored),
    ("containerImages", Full),
    ("launchType", Values(&["EC2", "EXTERNAL"])),
    ("referenceId", Full),
    ("placementConstraints", Full),
    ("placementStrategy", Full),
    ("tags", Full),
    ("propagateTags", Full),
    ("enableECSManagedTags", Full),
    ("enableExecuteCommand", Ignored),
    ("platformVersion", Ignored),
    // Subnets and security groups are those of the host's network.
    ("networkConfiguration", Ignored),
];

/// What a RunTask has beside or otherwise than a Task.
const RUN_TASK: &[(&str, Support)] = &[
    ("count", Full),
    ("waitForCapacity", Full),
    ("backoffLimit", Full),
    ("activeDeadlineSeconds", Full),
    ("ttlSecondsAfterFinished", Full),
];

/// Fields of a task definition that are not supported yet.
pub fn of_definition(spec: &TaskDefinitionSpec) -> Unsupported {
    scan(
        serde_json::to_value(spec).ok(),
        "spec",
        DEFINITION,
        "containerDefinitions",
    )
}

/// What is done with a field of a task definition, by its path: `containerDefinitions[].cpu`. `None`: it is refused.
pub fn of_field(path: &str) -> Option<Support> {
    let of = |(pattern, support): &(&str, Support)| {
        let below = path.strip_prefix(pattern)?;
        let part = below.is_empty() || below.starts_with('.') || below.starts_with("[]");
        part.then_some(*support)
    };
    let element = format!("{path}[]");
    let exact = DEFINITION.iter().find(|(p, _)| *p == element);
    exact
        .map(|(_, s)| *s)
        .or_else(|| DEFINITION.iter().find_map(of))
}

/// Fields of a service that are not supported yet.
pub fn of_service(spec: &ServiceSpec) -> Unsupported {
    scan(serde_json::to_value(spec).ok(), "spec", SERVICE, "")
}

/// Fields of a task set that are not supported yet.
pub fn of_task_set(spec: &TaskSetSpec) -> Unsupported {
    scan(serde_json::to_value(spec).ok(), "spec", TASK_SET, "")
}

/// Fields of a task that are not supported yet.
pub fn of_task(spec: &TaskSpec) -> Unsupported {
    scan(serde_json::to_value(spec).ok(), "spec", TASK, "")
}

/// Fields of a run that are not supported yet.
pub fn of_run(spec: &RunTaskSpec) -> Unsupported {
    of_run_at(spec, "spec")
}

/// Fields of a schedule's runs that are not supported yet; its own all are.
pub fn of_schedule(spec: &ScheduledTaskSpec) -> Unsupported {
    of_run_at(&spec.run_task, "spec.runTask")
}

fn of_run_at(spec: &RunTaskSpec, at: &str) -> Unsupported {
    // The first line of a field counts.
    let table = [RUN_TASK, TASK].concat();
    scan(serde_json::to_value(spec).ok(), at, &table, "")
}

/// `at`: where the user finds the object that is scanned.
fn scan(spec: Option<Value>, at: &str, table: &[(&str, Support)], named: &str) -> Unsupported {
    let mut found = Unsupported::default();
    if let Some(spec) = spec {
        walk(&spec, "", at, table, named, &mut found);
    }
    found.refused.sort();
    found.refused.dedup();
    found.ignored.sort();
    found.ignored.dedup();
    found
}

/// `pattern`: the path as the tables write it; `shown`: as the user finds it, with container names as indices.
fn walk(
    value: &Value,
    pattern: &str,
    shown: &str,
    table: &[(&str, Support)],
    named: &str,
    found: &mut Unsupported,
) {
    let support = table.iter().find(|(p, _)| *p == pattern).map(|(_, s)| *s);
    match support {
        Some(Full) => return,
        Some(Ignored) => {
            if in_use(value) {
                found.ignored.push(shown.to_owned());
            }
            return;
        }
        Some(Values(allowed)) => {
            if let Some(text) = value.as_str().filter(|v| !allowed.contains(v)) {
                found.refused.push(format!("{shown}: {text}"));
            }
            return;
        }
        None => {}
    }
    let known_below = |p: &str| {
        table.iter().any(|(t, _)| {
            t.strip_prefix(p)
                .is_some_and(|r| r.starts_with('.') || r.starts_with("[]"))
        })
    };
    match value {
        Value::Object(fields) if pattern.is_empty() || known_below(pattern) => {
            for (key, v) in fields {
                let pattern = if pattern.is_empty() {
                    key.clone()
                } else {
                    format!("{pattern}.{key}")
                };
                walk(v, &pattern, &format!("{shown}.{key}"), table, named, found);
            }
        }
        Value::Array(items) if known_below(pattern) => {
            for (i, v) in items.iter().enumerate() {
                let index = match v.get("name").and_then(Value::as_str) {
                    Some(name) if pattern == named => name.to_owned(),
                    _ => i.to_string(),
                };
                walk(
                    v,
                    &format!("{pattern}[]"),
                    &format!("{shown}[{index}]"),
                    table,
                    named,
                    found,
                );
            }
        }
        other if in_use(other) => found.refused.push(shown.to_owned()),
        _ => {}
    }
}

/// False for what means the same as leaving the field out.
fn in_use(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => false,
        Value::Bool(true) | Value::Number(_) => true,
        Value::String(s) => !s.is_empty(),
        Value::Array(items) => !items.is_empty(),
        Value::Object(fields) => fields.values().any(in_use),
    }
}
