//! Compose files: a task definition and a service for each of their services, or one task with all of them.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::compose_container::{Container, container};
use super::compose_values::{Fields, OneOrMany, Scalar, fill};
use super::compose_volumes::Mount;
use super::{Manifest, Options, definition, object_name};

/// The most containers of a task (ECS quotas).
const MOST: usize = 10;

/// Makes manifests of a Compose file.
pub(super) fn convert(mut file: Value, options: &Options) -> Result<Vec<Manifest>, String> {
    let mut unset = Vec::new();
    fill(&mut file, &options.variables, &mut unset)?;
    let services = file["services"].take();
    let mut fields = Fields::of("compose", file);
    let own: Option<String> = fields.take("name");
    // It has no meaning any more.
    let _: Option<Scalar> = fields.take("version");
    fields.give_up("services", "it is empty");
    fields.give_up(
        "include",
        "give the other files too, or the output of `docker compose config`",
    );
    fields.give_up("networks", "tasks have no networks of their own; containers of one task reach each other (`--together`)");
    fields.give_up(
        "secrets",
        "make a Secret of each and name it in the container's `secrets` (docs/secrets.md)",
    );
    fields.give_up(
        "configs",
        "make a ConfigMap of each, or put the file into the image",
    );
    let volumes: BTreeMap<String, Value> = fields.take("volumes").unwrap_or_default();
    let name = own
        .filter(|_| !options.named)
        .unwrap_or_else(|| options.name.clone());
    let Value::Object(services) = services else {
        return Err("`services` must be an object".to_owned());
    };
    let mut parts = Vec::new();
    for (service, value) in services {
        parts.push(Part::of(&service, value, &options.variables)?);
    }
    if parts.is_empty() {
        return Err("`services` is empty".to_owned());
    }
    let mut notes = fields.end();
    let unset: BTreeSet<String> = unset.into_iter().collect();
    notes.extend(
        unset
            .iter()
            .map(|v| format!("Variable `{v}` is not set, and is empty here, as Compose has it.")),
    );
    let mut manifests = if options.together {
        together(&object_name(&name), parts, &volumes)?
    } else {
        apart(parts, &volumes)?
    };
    // What is of the file as a whole stands first.
    if let Some(first) = manifests.first_mut() {
        first.notes.splice(0..0, notes);
    }
    Ok(manifests)
}

/// One service of a Compose file.
struct Part {
    name: String,
    container: Container,
    /// What of it is the service's and not the container's.
    desired: Option<i64>,
    daemon: bool,
    /// What it waits for, and the condition.
    depends_on: Vec<(String, Dependency)>,
    links: Vec<String>,
    network_mode: Option<&'static str>,
    pid_mode: Option<&'static str>,
    ipc_mode: Option<&'static str>,
    platform: Option<String>,
    notes: Vec<String>,
}

/// What Compose waits for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Dependency {
    Start,
    Healthy,
    Success,
}

impl Part {
    fn of(
        service: &str,
        value: Value,
        variables: &BTreeMap<String, String>,
    ) -> Result<Part, String> {
        let mut fields = Fields::of(&format!("services.{service}"), value);
        let mut deploy = fields.inner("deploy");
        let container = container(service, &mut fields, deploy.inner("resources"), variables)?;
        let depends_on = depends_on(&mut fields);
        let links = fields.take::<Vec<String>>("links").unwrap_or_default();
        let network_mode = match fields.text("network_mode").as_deref() {
            None => None,
            Some("host") => Some("host"),
            Some("none") => Some("none"),
            Some("bridge") => Some("bridge"),
            Some(other) => {
                fields.lost(
                    "network_mode",
                    &format!(
                        "`{other}` joins another container; put both into one task (`--together`)"
                    ),
                );
                None
            }
        };
        let pid_mode = shared(&mut fields, "pid");
        let ipc_mode = shared(&mut fields, "ipc");
        let platform = fields
            .text("platform")
            .and_then(|p| architecture(&p, &mut fields));
        let scale: Option<i64> = fields.take("scale");
        let replicas: Option<i64> = deploy.take("replicas");
        let daemon = match deploy.text("mode").as_deref() {
            None | Some("replicated") => false,
            Some("global") => true,
            Some(other) => {
                deploy.lost(
                    "mode",
                    &format!("`{other}` is neither a service's REPLICA nor its DAEMON"),
                );
                false
            }
        };
        deploy.give_up(
            "placement",
            "write `placementConstraints` (docs/scheduling.md)",
        );
        deploy.give_up(
            "update_config",
            "write `deploymentConfiguration` of the Service",
        );
        deploy.give_up(
            "rollback_config",
            "write `deploymentCircuitBreaker` of the Service",
        );
        deploy.give_up(
            "restart_policy",
            "a Service starts a task in the place of each that ends",
        );
        deploy.give_up("labels", "they would be labels of the Service object");
        deploy.give_up("endpoint_mode", "there is no address of a service yet");
        notes_of_platform(&mut fields);
        let mut notes = fields.end();
        notes.extend(deploy.end());
        Ok(Part {
            name: service.to_owned(),
            container,
            desired: scale.or(replicas),
            daemon,
            depends_on,
            links,
            network_mode,
            pid_mode,
            ipc_mode,
            platform,
            notes,
        })
    }

    /// The Service that keeps it running.
    fn service(&self, notes: Vec<String>) -> Manifest {
        let name = object_name(&self.name);
        let spec = if self.daemon {
            json!({ "taskDefinition": name, "schedulingStrategy": "DAEMON" })
        } else {
            json!({ "taskDefinition": name, "desiredCount": self.desired.unwrap_or(1) })
        };
        Manifest {
            kind: "Service",
            name,
            spec,
            notes,
        }
    }
}

/// Fields of Compose that have no place here, with what there is instead.
fn notes_of_platform(fields: &mut Fields) {
    match fields.text("restart").as_deref() {
        // What a Service does.
        None | Some("always" | "unless-stopped") => {}
        Some(other) => fields.lost(
            "restart",
            &format!("`{other}`: a Service starts a task in the place of each that ends; a RunTask runs once"),
        ),
    }
    for (key, why) in [
        (
            "networks",
            "containers of one task reach each other (`--together`); there are no networks beside that",
        ),
        (
            "container_name",
            "containers are named after their task, since there may be several",
        ),
        (
            "profiles",
            "every service of the file is converted; leave out what is not wanted",
        ),
        (
            "extends",
            "give the output of `docker compose config`, where it is resolved",
        ),
        (
            "external_links",
            "containers of other projects are no part of the task",
        ),
        ("develop", "it is for development"),
        ("volumes_from", "share a named volume instead"),
        ("expose", "containers need not say what they listen on"),
        ("annotations", "tasks have no annotations"),
        ("attach", "output goes to the log driver"),
        (
            "pull_policy",
            "it is a setting of the host: ECS_IMAGE_PULL_BEHAVIOR (docs/settings.md)",
        ),
    ] {
        fields.give_up(key, why);
    }
}

fn shared(fields: &mut Fields, key: &str) -> Option<&'static str> {
    match fields.text(key).as_deref() {
        None => None,
        Some("host") => Some("host"),
        Some(other) => {
            fields.lost(key, &format!("`{other}`: a task shares with its host (`host`) or among its containers (`task`)"));
            None
        }
    }
}

fn architecture(platform: &str, fields: &mut Fields) -> Option<String> {
    match platform {
        "linux/amd64" => Some("X86_64".to_owned()),
        "linux/arm64" | "linux/arm64/v8" => Some("ARM64".to_owned()),
        other => {
            fields.lost(
                "platform",
                &format!("`{other}` is neither linux/amd64 nor linux/arm64"),
            );
            None
        }
    }
}

fn depends_on(fields: &mut Fields) -> Vec<(String, Dependency)> {
    #[derive(serde::Deserialize)]
    #[serde(untagged)]
    enum Given {
        Names(OneOrMany<String>),
        Map(BTreeMap<String, Value>),
    }
    match fields.take::<Given>("depends_on") {
        None => Vec::new(),
        Some(Given::Names(names)) => names
            .list()
            .into_iter()
            .map(|n| (n, Dependency::Start))
            .collect(),
        Some(Given::Map(map)) => map
            .into_iter()
            .map(|(name, how)| {
                let condition = how["condition"].as_str();
                for extra in ["restart", "required"] {
                    if how.get(extra).is_some() {
                        fields.lost(
                            &format!("depends_on.{name}.{extra}"),
                            "ECS has nothing like it",
                        );
                    }
                }
                let dependency = match condition {
                    Some("service_healthy") => Dependency::Healthy,
                    Some("service_completed_successfully") => Dependency::Success,
                    _ => Dependency::Start,
                };
                (name, dependency)
            })
            .collect(),
    }
}

/// Volumes of a task definition, for the mounts of its containers.
fn volumes(
    mounts: &[&Mount],
    named: &BTreeMap<String, Value>,
    notes: &mut Vec<String>,
) -> Vec<Value> {
    let mut made: BTreeMap<&str, Value> = BTreeMap::new();
    for mount in mounts {
        let value = match &mount.source {
            Some(path) if path.starts_with('/') => {
                json!({ "name": mount.volume, "host": { "sourcePath": path } })
            }
            Some(name) => {
                let mut fields = Fields::of(
                    &format!("volumes.{name}"),
                    named.get(name).cloned().unwrap_or_default(),
                );
                let external = fields.take::<bool>("external").unwrap_or(false);
                let own = fields.text("name").unwrap_or_else(|| name.clone());
                if own != mount.volume {
                    fields.notes.push(format!(
                        "Volume `{name}` is the volume `{}` of the host, not `{own}`.",
                        mount.volume
                    ));
                }
                let driver = fields.text("driver");
                let options: Option<BTreeMap<String, Scalar>> = fields.take("driver_opts");
                let options: Option<BTreeMap<String, String>> =
                    options.map(|o| o.into_iter().map(|(k, v)| (k, v.text())).collect());
                let labels: Option<BTreeMap<String, Scalar>> = fields.take("labels");
                let labels: Option<BTreeMap<String, String>> =
                    labels.map(|o| o.into_iter().map(|(k, v)| (k, v.text())).collect());
                if !made.contains_key(mount.volume.as_str()) {
                    notes.extend(fields.end());
                    notes.push(format!(
                        "Volume `{name}` stays on the host that a task runs on; a task on another host finds another, empty one."
                    ));
                }
                let mut configuration = json!({ "scope": "shared", "autoprovision": !external });
                for (key, value) in [
                    ("driver", json!(driver)),
                    ("driverOpts", json!(options)),
                    ("labels", json!(labels)),
                ] {
                    if !value.is_null() {
                        configuration[key] = value;
                    }
                }
                json!({ "name": mount.volume, "dockerVolumeConfiguration": configuration })
            }
            None => json!({ "name": mount.volume }),
        };
        made.insert(&mount.volume, value);
    }
    made.into_values().collect()
}

/// A task definition and a service for each.
fn apart(parts: Vec<Part>, named: &BTreeMap<String, Value>) -> Result<Vec<Manifest>, String> {
    let mut manifests = Vec::new();
    for mut part in parts {
        let mut notes = std::mem::take(&mut part.notes);
        let at = format!("services.{}", part.name);
        for (on, _) in &part.depends_on {
            notes.push(format!(
                "Not carried over: `{at}.depends_on.{on}`: services start side by side; with `--together` they are one task, and keep it."
            ));
        }
        for link in &part.links {
            notes.push(format!("Not carried over: `{at}.links`: `{link}` is another task; with `--together` they are one."));
        }
        let mounts: Vec<&Mount> = part.container.mounts.iter().collect();
        let volumes = volumes(&mounts, named, &mut notes);
        let spec = task(&[&part], vec![part.container.spec.clone()], volumes);
        manifests.push(definition(object_name(&part.name), spec, notes)?);
        manifests.push(part.service(Vec::new()));
    }
    Ok(manifests)
}

/// A task definition of these containers, with what the parts say of the task as a whole.
fn task(parts: &[&Part], containers: Vec<Value>, volumes: Vec<Value>) -> Value {
    let mut spec = json!({ "containerDefinitions": containers });
    let first = |of: fn(&Part) -> Option<&'static str>| parts.iter().find_map(|p| of(p));
    for (key, value) in [
        ("networkMode", first(|p| p.network_mode)),
        ("pidMode", first(|p| p.pid_mode)),
        ("ipcMode", first(|p| p.ipc_mode)),
    ] {
        if let Some(value) = value {
            spec[key] = value.into();
        }
    }
    if let Some(architecture) = parts.iter().find_map(|p| p.platform.as_ref()) {
        spec["runtimePlatform"] =
            json!({ "cpuArchitecture": architecture, "operatingSystemFamily": "LINUX" });
    }
    if !volumes.is_empty() {
        spec["volumes"] = volumes.into();
    }
    spec
}

/// One task with all containers, and one service.
fn together(
    name: &str,
    mut parts: Vec<Part>,
    named: &BTreeMap<String, Value>,
) -> Result<Vec<Manifest>, String> {
    if parts.len() > MOST {
        return Err(format!(
            "a task has at most {MOST} containers, not {}; convert without `--together`",
            parts.len()
        ));
    }
    let mut notes: Vec<String> = parts
        .iter_mut()
        .flat_map(|p| std::mem::take(&mut p.notes))
        .collect();
    let names: BTreeSet<String> = parts.iter().map(|p| p.name.clone()).collect();
    let ends: BTreeSet<String> = parts
        .iter()
        .flat_map(|p| &p.depends_on)
        .filter(|(_, how)| *how == Dependency::Success)
        .map(|(on, _)| on.clone())
        .collect();
    let bridged = parts
        .iter()
        .all(|p| matches!(p.network_mode, None | Some("bridge")));
    let mut containers = Vec::new();
    for part in &parts {
        let at = format!("services.{}", part.name);
        let mut spec = part.container.spec.clone();
        let mut waits = Vec::new();
        let mut links: BTreeSet<String> = BTreeSet::new();
        for (on, how) in &part.depends_on {
            if !names.contains(on) {
                notes.push(format!("Not carried over: `{at}.depends_on.{on}`: there is no such service in the file."));
                continue;
            }
            let condition = match how {
                Dependency::Start => "START",
                Dependency::Healthy => "HEALTHY",
                Dependency::Success => "SUCCESS",
            };
            waits.push(json!({ "containerName": on, "condition": condition }));
            if !ends.contains(on) {
                links.insert(on.clone());
            }
        }
        links.extend(part.links.iter().cloned());
        if !waits.is_empty() {
            spec["dependsOn"] = waits.into();
        }
        if bridged && !links.is_empty() {
            spec["links"] = json!(links);
        } else if !links.is_empty() {
            notes.push(format!("Not carried over: `{at}.links`: containers of a task reach each other by name with network mode `bridge` only."));
        }
        if ends.contains(&part.name) {
            spec["essential"] = false.into();
        }
        containers.push(spec);
    }
    if parts.len() > 1 && bridged {
        notes.push(
            "A container reaches those that it depends on or links to by name; other names of the file do not resolve.".to_owned(),
        );
    }
    let counts: BTreeSet<i64> = parts.iter().filter_map(|p| p.desired).collect();
    if counts.len() > 1 || (counts.len() == 1 && parts.iter().any(|p| p.desired.is_none())) {
        notes.push("Not carried over: how many there are of each service: all containers of a task are there as often as the task.".to_owned());
    }
    let mounts: Vec<&Mount> = parts.iter().flat_map(|p| &p.container.mounts).collect();
    let volumes = volumes(&mounts, named, &mut notes);
    let all: Vec<&Part> = parts.iter().collect();
    let spec = task(&all, containers, volumes);
    let daemon = parts.iter().any(|p| p.daemon);
    let service = if daemon {
        json!({ "taskDefinition": name, "schedulingStrategy": "DAEMON" })
    } else {
        json!({ "taskDefinition": name, "desiredCount": counts.first().copied().unwrap_or(1) })
    };
    let service = Manifest {
        kind: "Service",
        name: name.to_owned(),
        spec: service,
        notes: Vec::new(),
    };
    Ok(vec![definition(name.to_owned(), spec, notes)?, service])
}
