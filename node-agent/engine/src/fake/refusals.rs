//! What the fake refuses of a container's parameters, as Docker does: unknown names when it is created, what the
//! host does not have when it is started.

use crate::{Ipc, Log, Network, Parameters, is_ipc_sysctl};

/// Capabilities of Linux.
const CAPABILITIES: [&str; 41] = [
    "AUDIT_CONTROL",
    "AUDIT_READ",
    "AUDIT_WRITE",
    "BLOCK_SUSPEND",
    "BPF",
    "CHECKPOINT_RESTORE",
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "IPC_LOCK",
    "IPC_OWNER",
    "KILL",
    "LEASE",
    "LINUX_IMMUTABLE",
    "MAC_ADMIN",
    "MAC_OVERRIDE",
    "MKNOD",
    "NET_ADMIN",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_RAW",
    "PERFMON",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYSLOG",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_CHROOT",
    "SYS_MODULE",
    "SYS_NICE",
    "SYS_PACCT",
    "SYS_PTRACE",
    "SYS_RAWIO",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "WAKE_ALARM",
];
/// Words before `:` or `=` of a security option.
const SECURITY: [&str; 5] = [
    "apparmor",
    "label",
    "no-new-privileges",
    "seccomp",
    "systempaths",
];
/// Options of the drivers that write files; those of others are not checked.
const FILE_LOG_OPTIONS: [&str; 11] = [
    "compress",
    "env",
    "env-regex",
    "labels",
    "labels-regex",
    "max-buffer-size",
    "max-file",
    "max-size",
    "mode",
    "cache-disabled",
    "tag",
];
/// Devices of the fake's host.
const DEVICES: [&str; 5] = [
    "/dev/fuse",
    "/dev/kmsg",
    "/dev/null",
    "/dev/random",
    "/dev/zero",
];
/// Mount options of tmpfs, less what follows `=`.
const TMPFS_OPTIONS: [&str; 31] = [
    "async",
    "atime",
    "bind",
    "defaults",
    "dev",
    "diratime",
    "dirsync",
    "exec",
    "gid",
    "mand",
    "mode",
    "noatime",
    "nodev",
    "nodiratime",
    "noexec",
    "nomand",
    "norelatime",
    "nostrictatime",
    "nosuid",
    "nr_blocks",
    "nr_inodes",
    "private",
    "rbind",
    "relatime",
    "remount",
    "ro",
    "rw",
    "size",
    "strictatime",
    "suid",
    "uid",
];
/// Docker's words about a spec that it does not create. `drivers` are those the engine says it has.
pub(super) fn at_create(parameters: &Parameters, drivers: &[String]) -> Option<String> {
    let added = parameters.added_capabilities.iter().map(|c| ("CapAdd", c));
    let dropped = parameters
        .dropped_capabilities
        .iter()
        .map(|c| ("CapDrop", c));
    for (list, capability) in added.chain(dropped) {
        let upper = capability.to_uppercase();
        let bare = upper.strip_prefix("CAP_").unwrap_or(&upper);
        if bare != "ALL" && !CAPABILITIES.contains(&bare) {
            return Some(format!(
                "invalid {list}: unknown capability: \"CAP_{bare}\""
            ));
        }
    }
    for option in &parameters.security_options {
        let word = option.split([':', '=']).next().unwrap_or_default();
        if !SECURITY.contains(&word) {
            return Some(format!("invalid --security-opt 1: \"{option}\""));
        }
    }
    if let Some(tmpfs) = parameters.tmpfs.iter().find(|t| !t.path.starts_with('/')) {
        return Some(format!(
            "invalid mount path: '{}' mount path must be absolute",
            tmpfs.path
        ));
    }
    let Some(Log {
        driver,
        options,
        secret_options,
    }) = &parameters.log
    else {
        return None;
    };
    if driver != "none" && !drivers.contains(driver) {
        return Some(format!(
            "error looking up logging plugin {driver}: plugin \"{driver}\" not found"
        ));
    }
    let checked = ["json-file", "local"].contains(&driver.as_str());
    let unknown = |key: &&String| checked && !FILE_LOG_OPTIONS.contains(&key.as_str());
    let mut given = options.keys().chain(secret_options.keys());
    if let Some(option) = given.find(unknown) {
        return Some(format!(
            "unknown log opt '{option}' for {driver} log driver"
        ));
    }
    let waits = options.get("mode").is_none_or(|mode| mode == "blocking");
    (driver != "none" && waits && options.contains_key("max-buffer-size")).then(|| {
        "logger: max-buffer-size option is only supported with 'mode=non-blocking'".to_owned()
    })
}

/// Docker's words about a container that it does not start.
pub(super) fn at_start(parameters: &Parameters, network: &Network) -> Option<String> {
    let lacks = |path: &str| !DEVICES.contains(&path);
    if let Some(device) = parameters.devices.iter().find(|d| lacks(&d.host_path)) {
        return Some(format!(
            "error gathering device information while adding custom device \"{}\": no such file or directory",
            device.host_path
        ));
    }
    let options = parameters.tmpfs.iter().flat_map(|t| &t.options);
    for option in options {
        let word = option.split('=').next().unwrap_or_default();
        if !TMPFS_OPTIONS.contains(&word) {
            return Some(format!("invalid tmpfs option \"{option}\""));
        }
    }
    for name in parameters.sysctls.keys() {
        if name.starts_with("net.") {
            if *network == Network::Host {
                return Some(format!(
                    "sysctl \"{name}\" not allowed in host network namespace"
                ));
            }
        } else if is_ipc_sysctl(name) {
            if parameters.ipc == Ipc::Host {
                return Some(format!(
                    "sysctl \"{name}\" is not allowed in the hosts ipc namespace"
                ));
            }
        } else if name != "kernel.domainname" {
            return Some(format!(
                "sysctl \"{name}\" is not in a separate kernel namespace"
            ));
        }
    }
    let above = |soft: i64, hard: i64| hard != -1 && (soft == -1 || soft > hard);
    parameters
        .ulimits
        .iter()
        .find(|limit| above(limit.soft, limit.hard))
        .map(|limit| {
            format!(
                "error setting rlimits for ready process: error setting rlimit {}: invalid argument",
                limit.name
            )
        })
}
