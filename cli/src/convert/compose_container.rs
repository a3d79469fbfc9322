//! What of a Compose service is its container's.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Value, json};

use super::compose_ports::ports;
use super::compose_values::{Fields, OneOrMany, Pairs, Scalar, mib, seconds};
use super::compose_volumes::{Mount, volumes};
use super::object_name;

/// MiB that are set aside for a container that says nothing of memory: ECS wants a number.
const MEMORY: i64 = 128;

/// A container definition and the volumes that it wants.
pub(super) struct Container {
    pub spec: Value,
    pub mounts: Vec<Mount>,
}

/// Reads the container of a service. `wanted`: its `deploy.resources`.
pub(super) fn container(
    service: &str,
    fields: &mut Fields,
    wanted: Fields,
    variables: &BTreeMap<String, String>,
) -> Result<Container, String> {
    let mut spec = json!({ "name": service });
    image(service, fields, &mut spec);
    words(fields, &mut spec)?;
    environment(fields, variables, &mut spec);
    plain(fields, &mut spec);
    resources(fields, wanted, &mut spec);
    health(fields, &mut spec);
    let (mounts, points, tmpfs) = volumes(service, fields);
    kernel(fields, tmpfs, &mut spec);
    let ports = ports(fields);
    if !ports.is_empty() {
        spec["portMappings"] = ports.into();
    }
    if !points.is_empty() {
        spec["mountPoints"] = points.into();
    }
    Ok(Container { spec, mounts })
}

fn image(service: &str, fields: &mut Fields, spec: &mut Value) {
    let image = fields.text("image");
    fields.give_up(
        "build",
        "build the image, push it to a registry that hosts reach, and name it as `image`",
    );
    if image.is_none() {
        fields.lost("image", "there is none; the name below is to be replaced");
    }
    spec["image"] = image
        .unwrap_or_else(|| format!("{}:latest", object_name(service)))
        .into();
}

/// A command: a line as a shell would split it, or words.
fn words(fields: &mut Fields, spec: &mut Value) -> Result<(), String> {
    for (key, field) in [("command", "command"), ("entrypoint", "entryPoint")] {
        let Some(given) = fields.take::<OneOrMany<Scalar>>(key) else {
            continue;
        };
        let split = match given {
            OneOrMany::One(line) => {
                let line = line.text();
                shlex::split(&line)
                    .ok_or_else(|| format!("`{key}` has a quote that is not closed: {line}"))?
            }
            OneOrMany::Many(list) => list.iter().map(Scalar::text).collect(),
        };
        spec[field] = split.into();
    }
    Ok(())
}

fn environment(fields: &mut Fields, variables: &BTreeMap<String, String>, spec: &mut Value) {
    let pairs = fields
        .take::<Pairs>("environment")
        .map(|p| p.pairs('='))
        .unwrap_or_default();
    let mut environment = Vec::new();
    for (name, value) in pairs {
        match value.or_else(|| variables.get(&name).cloned()) {
            Some(value) => environment.push(json!({ "name": name, "value": value })),
            None => fields.lost(
                &format!("environment.{name}"),
                "it is to come from whoever runs Compose, and is not set here",
            ),
        }
    }
    if !environment.is_empty() {
        spec["environment"] = environment.into();
    }
    fields.give_up(
        "env_file",
        "make a ConfigMap of the file (`kubectl create configmap NAME --from-file=web.env`) and name it in `environmentFiles` with type `configMap`",
    );
    fields.give_up(
        "secrets",
        "make a Secret and name it in `secrets`, which are environment variables (docs/secrets.md)",
    );
    fields.give_up(
        "configs",
        "make a ConfigMap and name it in `environmentFiles`, or put the file into the image",
    );
}

/// Fields that are the same with another name.
fn plain(fields: &mut Fields, spec: &mut Value) {
    for (key, field) in [
        ("user", "user"),
        ("working_dir", "workingDirectory"),
        ("hostname", "hostname"),
    ] {
        if let Some(text) = fields.text(key) {
            spec[field] = text.into();
        }
    }
    for (key, field) in [
        ("privileged", "privileged"),
        ("read_only", "readonlyRootFilesystem"),
        ("stdin_open", "interactive"),
        ("tty", "pseudoTerminal"),
    ] {
        if let Some(set) = fields.take::<bool>(key) {
            spec[field] = set.into();
        }
    }
    for (key, field) in [
        ("dns", "dnsServers"),
        ("dns_search", "dnsSearchDomains"),
        ("security_opt", "dockerSecurityOptions"),
    ] {
        if let Some(list) = fields.take::<OneOrMany<String>>(key) {
            spec[field] = list.list().into();
        }
    }
    if let Some(labels) = fields.take::<Pairs>("labels") {
        let labels: BTreeMap<_, _> = labels
            .pairs('=')
            .into_iter()
            .map(|(k, v)| (k, v.unwrap_or_default()))
            .collect();
        spec["dockerLabels"] = json!(labels);
    }
    if let Some(hosts) = fields.take::<Pairs>("extra_hosts") {
        let hosts = hosts.pairs(':').into_iter();
        let hosts = hosts
            .map(|(host, ip)| json!({ "hostname": host, "ipAddress": ip.unwrap_or_default() }));
        spec["extraHosts"] = hosts.collect();
    }
    if let Some(grace) = fields.text("stop_grace_period") {
        match seconds(&grace) {
            Some(seconds) => spec["stopTimeout"] = seconds.into(),
            None => fields.lost("stop_grace_period", &format!("`{grace}` is no duration")),
        }
    }
    let mut logging = fields.inner("logging");
    let driver = logging.text("driver");
    let options: BTreeMap<String, Scalar> = logging.take("options").unwrap_or_default();
    let options: BTreeMap<String, String> =
        options.into_iter().map(|(k, v)| (k, v.text())).collect();
    match driver {
        Some(driver) => {
            spec["logConfiguration"] = json!({ "logDriver": driver, "options": options })
        }
        None if !options.is_empty() => logging.lost(
            "options",
            "ECS wants the driver that they are for as `driver`",
        ),
        None => {}
    }
    fields.notes.extend(logging.end());
}

/// CPU and memory, from their two places in a Compose file.
fn resources(fields: &mut Fields, mut resources: Fields, spec: &mut Value) {
    let mut limits = resources.inner("limits");
    let mut reservations = resources.inner("reservations");
    let ceiling = limits.text("cpus").or_else(|| fields.text("cpus"));
    let share = reservations.text("cpus");
    if let Some(cpus) = share.as_ref().or(ceiling.as_ref()) {
        match cpus.parse::<f64>() {
            #[expect(
                clippy::cast_possible_truncation,
                reason = "a whole number of units of a machine"
            )]
            Ok(cpus) if (0.0..100_000.0).contains(&cpus) => {
                spec["cpu"] = ((cpus * 1024.0).round() as i64).into()
            }
            _ => fields.lost("cpus", &format!("`{cpus}` is no number of cores")),
        }
    }
    if let Some(ceiling) = ceiling {
        fields.notes.push(format!(
            "`cpus: {ceiling}` is a ceiling in Compose. `cpu` in ECS is what placement counts, and a share when the host is busy."
        ));
    }
    let hard = limits.text("memory").or_else(|| fields.text("mem_limit"));
    let soft = reservations
        .text("memory")
        .or_else(|| fields.text("mem_reservation"));
    let mut said = false;
    for (field, given) in [("memory", hard), ("memoryReservation", soft)] {
        let Some(text) = given else { continue };
        match mib(&text) {
            Some(mib) => {
                spec[field] = mib.into();
                said = true;
            }
            None => fields.lost(field, &format!("`{text}` is no size")),
        }
    }
    if spec["memory"].is_i64() && spec["memory"] == spec["memoryReservation"] {
        // ECS wants less of it than of `memory`, and without it sets `memory` aside.
        if let Some(map) = spec.as_object_mut() {
            map.remove("memoryReservation");
        }
    }
    if !said {
        spec["memoryReservation"] = MEMORY.into();
        fields.notes.push(format!(
            "The file says nothing of memory, and ECS wants a number: {MEMORY} MiB are set aside for `{}`. Set `memory` to what it needs.",
            spec["name"].as_str().unwrap_or_default()
        ));
    }
    limits.give_up(
        "pids",
        "ECS_TASK_PIDS_LIMIT is a setting of the host (docs/settings.md)",
    );
    gpus(&mut reservations, fields, spec);
    for part in [limits, reservations, resources] {
        fields.notes.extend(part.end());
    }
    for key in [
        "cpu_shares",
        "cpuset",
        "cpu_quota",
        "cpu_period",
        "cpu_rt_runtime",
        "cpu_rt_period",
        "cpu_count",
        "cpu_percent",
    ] {
        fields.give_up(
            key,
            "ECS has `cpu` alone, in units of which 1024 are a core",
        );
    }
    fields.give_up(
        "pids_limit",
        "ECS_TASK_PIDS_LIMIT is a setting of the host (docs/settings.md)",
    );
    fields.give_up("oom_kill_disable", "ECS has nothing like it");
    fields.give_up("oom_score_adj", "ECS has nothing like it");
}

fn gpus(reservations: &mut Fields, fields: &mut Fields, spec: &mut Value) {
    let devices: Vec<Value> = reservations.take("devices").unwrap_or_default();
    let direct = fields.take::<Scalar>("gpus").map(|s| s.text());
    let mut count = direct.as_deref().and_then(|n| n.parse::<i64>().ok());
    if count.is_none() && direct.is_some() {
        fields.lost("gpus", "a task must say how many GPUs it wants");
    }
    for device in devices {
        let gpu = device["capabilities"]
            .as_array()
            .is_some_and(|c| c.iter().any(|c| c == "gpu"));
        match device["count"].as_i64() {
            Some(n) if gpu => count = Some(n),
            _ => reservations.lost(
                "devices",
                &format!("{device}: only a number of GPUs can be asked for"),
            ),
        }
    }
    if let Some(count) = count {
        spec["resourceRequirements"] = json!([{ "type": "GPU", "value": count.to_string() }]);
    }
}

fn health(fields: &mut Fields, spec: &mut Value) {
    let mut check = fields.inner("healthcheck");
    if check.take::<bool>("disable") == Some(true) {
        spec["healthCheck"] = json!({ "command": ["NONE"] });
        fields.notes.extend(check.end());
        return;
    }
    let command: Vec<String> = match check.take::<OneOrMany<String>>("test") {
        None => Vec::new(),
        Some(OneOrMany::One(line)) => vec!["CMD-SHELL".to_owned(), line],
        Some(OneOrMany::Many(words)) => words,
    };
    let mut made = json!({ "command": command });
    for (key, field, least, most) in [
        ("interval", "interval", 5, 300),
        ("timeout", "timeout", 2, 60),
        ("start_period", "startPeriod", 0, 300),
    ] {
        let Some(text) = check.text(key) else {
            continue;
        };
        match seconds(&text) {
            Some(seconds) => {
                let within = seconds.clamp(least, most);
                if within != seconds {
                    check.lost(
                        key,
                        &format!("`{text}` became {within} s, as ECS allows {least} to {most}"),
                    );
                }
                made[field] = within.into();
            }
            None => check.lost(key, &format!("`{text}` is no duration")),
        }
    }
    if let Some(retries) = check.take::<i64>("retries") {
        let within = retries.clamp(1, 10);
        if within != retries {
            check.lost(
                "retries",
                &format!("{retries} became {within}, as ECS allows 1 to 10"),
            );
        }
        made["retries"] = within.into();
    }
    check.give_up("start_interval", "ECS has one interval");
    if command.is_empty() {
        if made.as_object().is_some_and(|m| m.len() > 1) {
            check.lost("test", "there is none: ECS does not watch the HEALTHCHECK of an image, so write its command here");
        }
    } else {
        spec["healthCheck"] = made;
    }
    fields.notes.extend(check.end());
}

/// Linux parameters, limits and the like.
fn kernel(fields: &mut Fields, mut tmpfs: Vec<Value>, spec: &mut Value) {
    let mut linux = json!({});
    let mut capabilities = json!({});
    for (key, field) in [("cap_add", "add"), ("cap_drop", "drop")] {
        if let Some(list) = fields.take::<Vec<String>>(key) {
            let list: Vec<String> = list
                .iter()
                .map(|c| c.trim_start_matches("CAP_").to_owned())
                .collect();
            capabilities[field] = list.into();
        }
    }
    if capabilities != json!({}) {
        linux["capabilities"] = capabilities;
    }
    if let Some(init) = fields.take::<bool>("init") {
        linux["initProcessEnabled"] = init.into();
    }
    if let Some(size) = fields.text("shm_size") {
        match mib(&size) {
            Some(mib) => linux["sharedMemorySize"] = mib.into(),
            None => fields.lost("shm_size", &format!("`{size}` is no size")),
        }
    }
    if let Some(swappiness) = fields.take::<i64>("mem_swappiness") {
        linux["swappiness"] = swappiness.into();
    }
    if let Some(total) = fields.text("memswap_limit") {
        // In Compose it is memory and swap together.
        match (mib(&total), spec["memory"].as_i64()) {
            (Some(total), Some(memory)) if total >= memory => {
                linux["maxSwap"] = (total - memory).into()
            }
            _ => fields.lost(
                "memswap_limit",
                &format!("`{total}` is no size above `mem_limit`"),
            ),
        }
    }
    if let Some(devices) = fields.take::<Vec<String>>("devices") {
        linux["devices"] = devices.iter().map(|d| device(d)).collect();
    }
    let named = fields
        .take::<OneOrMany<String>>("tmpfs")
        .map(OneOrMany::list);
    tmpfs.extend(named.into_iter().flatten().map(|t| self::tmpfs(&t)));
    if !tmpfs.is_empty() {
        linux["tmpfs"] = tmpfs.into();
    }
    if linux != json!({}) {
        spec["linuxParameters"] = linux;
    }
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Limit {
        Both(i64),
        Each { soft: i64, hard: i64 },
    }
    if let Some(limits) = fields.take::<BTreeMap<String, Limit>>("ulimits") {
        let made = limits.into_iter().map(|(name, limit)| {
            let (soft, hard) = match limit {
                Limit::Both(n) => (n, n),
                Limit::Each { soft, hard } => (soft, hard),
            };
            json!({ "name": name, "softLimit": soft, "hardLimit": hard })
        });
        spec["ulimits"] = made.collect();
    }
    if let Some(sysctls) = fields.take::<Pairs>("sysctls") {
        let made = sysctls.pairs('=').into_iter();
        let made = made
            .map(|(name, value)| json!({ "namespace": name, "value": value.unwrap_or_default() }));
        spec["systemControls"] = made.collect();
    }
}

/// `/dev/a:/dev/b:rwm`.
fn device(text: &str) -> Value {
    let mut parts = text.split(':');
    let host = parts.next().unwrap_or_default();
    let mut made = json!({ "hostPath": host });
    if let Some(inside) = parts.next() {
        made["containerPath"] = inside.into();
    }
    if let Some(rights) = parts.next() {
        let words = [('r', "read"), ('w', "write"), ('m', "mknod")];
        let rights: Vec<&str> = words
            .iter()
            .filter(|(c, _)| rights.contains(*c))
            .map(|(_, w)| *w)
            .collect();
        made["permissions"] = rights.into();
    }
    made
}

/// `/run:size=64m,noexec`.
fn tmpfs(text: &str) -> Value {
    let (path, options) = text.split_once(':').unwrap_or((text, ""));
    let mut size = 64;
    let mut rest = Vec::new();
    for option in options.split(',').filter(|o| !o.is_empty()) {
        match option.strip_prefix("size=").and_then(mib) {
            Some(mib) => size = mib,
            None => rest.push(option),
        }
    }
    json!({ "containerPath": path, "size": size, "mountOptions": rest })
}
