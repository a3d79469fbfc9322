//! What a host registers: resources, ports in use, attributes, capabilities.

use std::collections::BTreeMap;

use super::group::settings;
use super::values::{Wrong, flag, json, number, some, text, texts};

/// ECS's bounds on custom attributes.
const MOST_ATTRIBUTES: usize = 10;
const MOST_PORTS: usize = 100;
/// ECS's bounds on tags: how many, and letters of a key and of a value.
const MOST_TAGS: usize = 50;
const TAG_KEY: std::ops::RangeInclusive<usize> = 1..=128;
const MOST_OF_A_TAG: usize = 256;

settings! {
    /// What the host registers.
    pub struct Registration {
        cluster: Option<String> = None,
            ["ECS_CLUSTER", "Cluster", "informational: warns when the plan names another cluster"],
            some(text);
        reserved_memory_mib: i64 = 0,
            ["ECS_RESERVED_MEMORY", "ReservedMemory", "MiB that tasks do not get (default 0)"],
            number(0, i64::MAX, "MiB");
        // Ssh, Docker, and the ports of ECS' agent.
        reserved_ports: Vec<u16> = vec![22, 2375, 2376, 51678, 51679],
            ["ECS_RESERVED_PORTS", "ReservedPorts",
             "taken TCP host ports, JSON list (default [22,2375,2376,51678,51679])"],
            ports;
        reserved_ports_udp: Vec<u16> = Vec::new(),
            ["ECS_RESERVED_PORTS_UDP", "ReservedPortsUDP", "taken UDP host ports, JSON list (default [])"],
            ports;
        instance_attributes: BTreeMap<String, String> = BTreeMap::new(),
            ["ECS_INSTANCE_ATTRIBUTES", "InstanceAttributes", "custom attributes, JSON object of texts"],
            attributes;
        instance_tags: BTreeMap<String, String> = BTreeMap::new(),
            ["ECS_CONTAINER_INSTANCE_TAGS", "ContainerInstanceTags",
             "tags of the host that tasks are told, where the ContainerInstance has none of the same key; JSON object of texts (default {})"],
            tags;
        disable_privileged: bool = false,
            ["ECS_DISABLE_PRIVILEGED", "PrivilegedDisabled",
             "true: do not offer the capability for privileged containers"],
            flag;
        selinux_capable: bool = false,
            ["ECS_SELINUX_CAPABLE", "SELinuxCapable",
             "true: offer the capability for SELinux labels in `dockerSecurityOptions`"],
            flag;
        apparmor_capable: bool = false,
            ["ECS_APPARMOR_CAPABLE", "AppArmorCapable",
             "true: offer the capability for AppArmor profiles in `dockerSecurityOptions`"],
            flag;
        logging_drivers: Option<Vec<String>> = None,
            ["ECS_AVAILABLE_LOGGING_DRIVERS", "AvailableLoggingDrivers",
             "log drivers to offer, JSON list (default: the engine's)"],
            some(json("[\"json-file\"]"));
    }
}

fn ports(text: &str) -> Result<Vec<u16>, Wrong> {
    let mut ports: Vec<u16> = json("[22,8080]")(text)?;
    ports.sort_unstable();
    ports.dedup();
    if ports.len() > MOST_PORTS {
        return Err(Wrong::Refused(vec![format!(
            "has {} ports; at most {MOST_PORTS} can be reserved.",
            ports.len()
        )]));
    }
    Ok(ports)
}

fn tags(text: &str) -> Result<BTreeMap<String, String>, Wrong> {
    let tags = texts("{\"rack\":\"r1\"}", text)?;
    let fits = |(key, value): (&String, &String)| {
        TAG_KEY.contains(&key.chars().count()) && value.chars().count() <= MOST_OF_A_TAG
    };
    if tags.len() > MOST_TAGS || !tags.iter().all(fits) {
        return Err(Wrong::Wanted(format!(
            "at most {MOST_TAGS} tags, with keys of 1 to 128 letters and values of at most {MOST_OF_A_TAG}"
        )));
    }
    Ok(tags)
}

fn attributes(text: &str) -> Result<BTreeMap<String, String>, Wrong> {
    // ECS does not start with attributes that it cannot read, so that no task runs where it should not.
    let attributes = texts("{\"stack\":\"prod\"}", text).map_err(|_| {
        Wrong::Refused(vec![format!(
            "is `{text}`, which is not JSON like `{{\"stack\":\"prod\"}}`."
        )])
    })?;
    let mut bad = Vec::new();
    if attributes.len() > MOST_ATTRIBUTES {
        bad.push(format!(
            "has {} attributes; at most {MOST_ATTRIBUTES} are allowed.",
            attributes.len()
        ));
    }
    for (key, value) in &attributes {
        if !attribute_name(key) {
            bad.push(format!(
                "has an attribute `{key}`: names are 1 to 128 letters, digits and _ . - / \\."
            ));
        }
        if !attribute_value(value) {
            bad.push(format!(
                "has `{value}` as value of `{key}`: values are 1 to 128 letters, digits, inner spaces and \
                 _ . @ - / \\ :."
            ));
        }
    }
    if bad.is_empty() {
        Ok(attributes)
    } else {
        Err(Wrong::Refused(bad))
    }
}

fn attribute_name(name: &str) -> bool {
    (1..=128).contains(&name.len())
        && name
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "_.-/\\".contains(c))
}

fn attribute_value(value: &str) -> bool {
    (1..=128).contains(&value.len())
        && value.trim() == value
        && value
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "_.@-/\\: ".contains(c))
}
