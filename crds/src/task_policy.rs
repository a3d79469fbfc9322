//! What a task may ask of a host, beside room: the policy of a cluster, and what of a task definition it does not allow.
//!
//! Operator and agent ask the same question of the same words: the operator before it places a task, so that whoever wrote it
//! is told, and the agent before it carries one out, so that nothing depends on the operator alone. What is not set
//! has a default that keeps a container from taking its host; task definitions of the ECS guide run under it.
//!
//! This is about words: a path is judged as it is written. That it leads there, the agent looks after.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::ecs::{
    ContainerDefinition, DockerVolumeConfiguration, IpcMode, NetworkMode, PidMode, Volume,
};
use crate::task_definition::TaskDefinitionSpec;

/// What leads to the engine, to the agent, or to other ways into the host: sockets, which are used and not written, keys and
/// passwords, and people's own folders, which have theirs.
const CLOSED: &[&str] = &[
    "/etc/ecs",
    "/etc/gshadow",
    "/etc/shadow",
    "/etc/ssh",
    "/etc/tallyman",
    "/home",
    "/root",
    "/run",
    "/var/lib/containerd",
    "/var/lib/docker",
    "/var/lib/tallyman",
    "/var/run",
];
/// The kernel's own, and what the host itself runs from: to read it is what monitoring does, who writes there has the host.
const READ_ONLY: &[&str] = &[
    "/bin",
    "/boot",
    "/dev",
    "/etc",
    "/lib",
    "/lib32",
    "/lib64",
    "/libx32",
    "/proc",
    "/sbin",
    "/sys",
    "/usr",
    "/var/spool/cron",
];
/// Devices that are the host's memory, and beginnings of the names of its disks.
const RAW_DEVICES: &[&str] = &["/dev/mem", "/dev/kmem", "/dev/port"];
const DISKS: &[&str] = &[
    "/dev/sd",
    "/dev/hd",
    "/dev/vd",
    "/dev/xvd",
    "/dev/nvme",
    "/dev/dm-",
    "/dev/mapper",
    "/dev/md",
    "/dev/mmcblk",
    "/dev/disk",
    "/dev/block",
];
/// Capabilities that are as good as root on the host.
const STRONG: &[&str] = &[
    "ALL",
    "AUDIT_CONTROL",
    "BPF",
    "CHECKPOINT_RESTORE",
    "DAC_READ_SEARCH",
    "MAC_ADMIN",
    "MAC_OVERRIDE",
    "PERFMON",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_TIME",
    "SYSLOG",
];

/// As good as root where it comes with something else.
const SYS_PTRACE: &str = "SYS_PTRACE";
const NET_ADMIN: &str = "NET_ADMIN";

/// What tasks of a cluster may ask of its hosts. A field that is absent has the default that it names; an empty list allows none.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TaskPolicy {
    /// Whether containers may be `privileged`. Default false.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub privileged: Option<bool>,
    /// Namespaces of the host that a task may share by `networkMode`, `pidMode` and `ipcMode`. Default `network` alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 3))]
    pub host_namespaces: Option<Vec<HostNamespace>>,
    /// Capabilities that `linuxParameters.capabilities.add` may name, such as `NET_ADMIN`; `ALL` is any. Default: all but ALL,
    /// AUDIT_CONTROL, BPF, CHECKPOINT_RESTORE, DAC_READ_SEARCH, MAC_ADMIN, MAC_OVERRIDE, PERFMON, SYS_ADMIN, SYS_BOOT, SYS_MODULE,
    /// SYS_RAWIO, SYS_TIME and SYSLOG; and NET_ADMIN on the host's network.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64), inner(length(min = 1, max = 64)))]
    pub capabilities: Option<Vec<String>>,
    /// Paths of the host that may be mounted, each with all that is below it. Default: all but those that lead to the engine, to the
    /// agent or to other ways into the host (`/run`, `/var/lib/docker`, `/etc/tallyman`, `/etc/ssh`, `/etc/shadow`, `/root`, `/home`
    /// and the like, and what holds them, such as `/`), and what the kernel has and the system runs from read-only: `/dev`, `/proc`,
    /// `/sys`, `/etc`, `/usr`, `/bin`, `/sbin`, `/lib`, `/boot`, `/var/spool/cron`; but not `/proc` beside SYS_PTRACE.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256), inner(length(min = 1, max = 4096)))]
    pub host_paths: Option<Vec<String>>,
    /// Devices of the host that `linuxParameters.devices` may name, each with all that is below it. Default: all but memory and
    /// disks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256), inner(length(min = 1, max = 4096)))]
    pub devices: Option<Vec<String>>,
    /// Whether `dockerSecurityOptions` may take seccomp, AppArmor or SELinux away (`seccomp=unconfined`, `label:disable`).
    /// Default false.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unconfined: Option<bool>,
    /// Kernel parameters that `systemControls` may name; one that ends in `*` is a beginning. Default: all that the engine takes,
    /// which are those of the container's own namespaces.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256), inner(length(min = 1, max = 255)))]
    pub system_controls: Option<Vec<String>>,
    /// Drivers that `dockerVolumeConfiguration` may name, beside `local`. Default: all. Whatever is allowed, options of `local` that
    /// mount a path of the host are judged by `hostPaths`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64), inner(length(min = 1, max = 255)))]
    pub volume_drivers: Option<Vec<String>>,
}

/// A namespace that the host has.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
pub enum HostNamespace {
    /// Its network: `networkMode: host`.
    #[serde(rename = "network")]
    Network,
    /// Its processes: `pidMode: host`.
    #[serde(rename = "pid")]
    Pid,
    /// Its shared memory: `ipcMode: host`.
    #[serde(rename = "ipc")]
    Ipc,
}

/// Something that a task definition asks and the policy does not allow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Breach {
    /// Path of the field in the task definition, such as `containerDefinitions[app].privileged`.
    pub field: String,
    /// What it must not be, and which field of the policy says so.
    pub why: String,
}

impl std::fmt::Display for Breach {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "`{}` {}", self.field, self.why)
    }
}

/// What of `spec` the policy of its cluster does not allow, in the order of the definition; `None` is the default policy.
pub fn breaches(policy: Option<&TaskPolicy>, spec: &TaskDefinitionSpec) -> Vec<Breach> {
    let default = TaskPolicy::default();
    let judge = Judge {
        policy: policy.unwrap_or(&default),
        closed: &[],
        traces: traces(spec),
    };
    let mut found = Found::default();
    judge.namespaces(spec, &mut found);
    for c in &spec.container_definitions {
        judge.container(c, spec, &mut found);
    }
    for volume in &spec.volumes {
        judge.volume(volume, spec, &mut found);
    }
    found.0
}

/// The path of the host that a volume of the driver `local` mounts by its `driverOpts`.
pub fn bound(docker: &DockerVolumeConfiguration) -> Option<&str> {
    let option = |name: &str| docker.driver_opts.get(name).map(String::as_str);
    let local = matches!(docker.driver.as_deref(), None | Some("" | "local"));
    let bind = matches!(option("type"), None | Some("" | "none"));
    option("device").filter(|device| local && bind && !device.is_empty())
}

/// Whether a container of the task may trace processes, so that `/proc` of the host would lead it to the files of each.
pub fn traces(spec: &TaskDefinitionSpec) -> bool {
    let containers = spec.container_definitions.iter();
    let linux = containers.filter_map(|c| c.linux_parameters.as_ref());
    let mut added = linux
        .filter_map(|l| l.capabilities.as_ref())
        .flat_map(|c| &c.add);
    added.any(|one| matches!(capability(one).as_str(), SYS_PTRACE | "ALL"))
}

/// Why a mounted path of the host is not allowed, if it is not; for a path that was found by following links. `closed`: where
/// agent and engine are on this host, beside where they are on others. `traces`: what [`traces`] says of the task.
pub fn host_path(
    policy: Option<&TaskPolicy>,
    closed: &[String],
    traces: bool,
    path: &str,
    read_only: bool,
) -> Option<String> {
    let default = TaskPolicy::default();
    let judge = Judge {
        policy: policy.unwrap_or(&default),
        closed,
        traces,
    };
    judge.path(path, read_only)
}

#[derive(Default)]
struct Found(Vec<Breach>);

impl Found {
    fn add(&mut self, field: String, why: impl Into<String>) {
        let why = why.into();
        self.0.push(Breach { field, why });
    }
}

struct Judge<'p> {
    policy: &'p TaskPolicy,
    closed: &'p [String],
    /// A container of the task traces processes.
    traces: bool,
}

impl Judge<'_> {
    fn namespaces(&self, spec: &TaskDefinitionSpec, found: &mut Found) {
        let allowed = self.policy.host_namespaces.as_deref();
        let allowed = allowed.unwrap_or(&[HostNamespace::Network]);
        let shares = [
            (
                "networkMode",
                HostNamespace::Network,
                spec.network_mode == Some(NetworkMode::Host),
            ),
            (
                "pidMode",
                HostNamespace::Pid,
                spec.pid_mode == Some(PidMode::Host),
            ),
            (
                "ipcMode",
                HostNamespace::Ipc,
                spec.ipc_mode == Some(IpcMode::Host),
            ),
        ];
        for (field, namespace, shared) in shares {
            if shared && !allowed.contains(&namespace) {
                found.add(
                    field.to_owned(),
                    "must not be `host`: `spec.taskPolicy.hostNamespaces` of the Cluster does not allow it",
                );
            }
        }
    }

    fn container(&self, c: &ContainerDefinition, spec: &TaskDefinitionSpec, found: &mut Found) {
        let on_network = spec.network_mode == Some(NetworkMode::Host);
        let at = |field: &str| format!("containerDefinitions[{}].{field}", c.name);
        if c.privileged == Some(true) && self.policy.privileged != Some(true) {
            found.add(
                at("privileged"),
                "must not be true: `spec.taskPolicy.privileged` of the Cluster does not allow it",
            );
        }
        for option in &c.docker_security_options {
            if self.policy.unconfined != Some(true) && takes_confinement(option) {
                found.add(
                    at("dockerSecurityOptions"),
                    format!("must not have `{option}`: `spec.taskPolicy.unconfined` of the Cluster does not allow it"),
                );
            }
        }
        let linux = c.linux_parameters.as_ref();
        let added = linux.and_then(|l| l.capabilities.as_ref());
        for capability in added.iter().flat_map(|c| &c.add) {
            let field = || at("linuxParameters.capabilities.add");
            let because = "`spec.taskPolicy.capabilities` of the Cluster does not allow it";
            if !self.adds(capability) {
                found.add(field(), format!("must not have `{capability}`: {because}"));
            } else if on_network
                && self.policy.capabilities.is_none()
                && self::capability(capability) == NET_ADMIN
            {
                found.add(
                    field(),
                    format!("must not have `{capability}` beside `networkMode: host`, whose network it would be: unless it lists it, {because}"),
                );
            }
        }
        for device in linux.iter().flat_map(|l| &l.devices) {
            if !self.opens(&device.host_path) {
                found.add(
                    at("linuxParameters.devices.hostPath"),
                    format!(
                        "must not be `{}`: `spec.taskPolicy.devices` of the Cluster does not allow it",
                        device.host_path
                    ),
                );
            }
        }
        for control in &c.system_controls {
            let name = control.namespace.as_deref().unwrap_or_default();
            if !self.sets(name) {
                found.add(
                    at("systemControls"),
                    format!("must not have `{name}`: `spec.taskPolicy.systemControls` of the Cluster does not allow it"),
                );
            }
        }
    }

    fn adds(&self, capability: &str) -> bool {
        let asked = self::capability(capability);
        match &self.policy.capabilities {
            None => !STRONG.contains(&asked.as_str()),
            Some(list) => list
                .iter()
                .map(|one| self::capability(one))
                .any(|one| one == "ALL" || one == asked),
        }
    }

    fn opens(&self, device: &str) -> bool {
        let Some(path) = normal(device) else {
            return false;
        };
        match &self.policy.devices {
            Some(list) => list.iter().any(|one| below(&path, one)),
            None => {
                let raw = RAW_DEVICES.iter().any(|raw| path == *raw);
                // A folder of devices is all of them.
                let folder = path == "/dev" || path == "/";
                !raw && !folder && !DISKS.iter().any(|disk| path.starts_with(disk))
            }
        }
    }

    fn sets(&self, control: &str) -> bool {
        let list = self.policy.system_controls.as_ref();
        list.is_none_or(|list| {
            list.iter().any(|one| match one.strip_suffix('*') {
                Some(beginning) => control.starts_with(beginning),
                None => one == control,
            })
        })
    }

    fn volume(&self, volume: &Volume, spec: &TaskDefinitionSpec, found: &mut Found) {
        let name = volume.name.as_deref().unwrap_or_default();
        let at = |field: &str| format!("volumes[{name}].{field}");
        let mounts = spec
            .container_definitions
            .iter()
            .flat_map(|c| &c.mount_points);
        let mut mounts = mounts.filter(|m| m.source_volume.as_deref() == Some(name));
        let read_only = mounts.all(|m| m.read_only == Some(true));
        let path = volume
            .host
            .as_ref()
            .and_then(|host| host.source_path.as_deref());
        if let Some(why) = path
            .filter(|p| !p.is_empty())
            .and_then(|p| self.path(p, read_only))
        {
            found.add(at("host.sourcePath"), why);
        }
        if let Some(docker) = &volume.docker_volume_configuration {
            self.driver(docker, &at, found);
        }
    }

    fn driver(
        &self,
        docker: &DockerVolumeConfiguration,
        at: &dyn Fn(&str) -> String,
        found: &mut Found,
    ) {
        let driver = docker
            .driver
            .as_deref()
            .filter(|d| !d.is_empty())
            .unwrap_or("local");
        if driver != "local" {
            let allowed = self.policy.volume_drivers.as_ref();
            if allowed.is_some_and(|list| !list.iter().any(|one| one == driver)) {
                found.add(
                    at("dockerVolumeConfiguration.driver"),
                    format!("must not be `{driver}`: `spec.taskPolicy.volumeDrivers` of the Cluster does not allow it"),
                );
            }
            return;
        }
        // The engine mounts what the options say, as root: a folder of the host, a disk, or files that overlay others.
        let field = || at("dockerVolumeConfiguration.driverOpts");
        let option = |name: &str| docker.driver_opts.get(name).map(String::as_str);
        match option("type").unwrap_or_default() {
            "nfs" | "nfs4" | "cifs" | "tmpfs" => {}
            "" | "none" => {
                if let Some(why) = bound(docker).and_then(|path| self.path(path, false)) {
                    found.add(field(), format!("has a `device` that {why}"));
                }
            }
            _ if self.policy.host_paths.iter().flatten().any(|path| path == "/") => {}
            other => found.add(
                field(),
                format!(
                    "must not mount `type` `{other}`: only with `/` in `spec.taskPolicy.hostPaths` of the Cluster may it be another \
                     than nfs, cifs, tmpfs or none"
                ),
            ),
        }
    }

    /// Why a path of the host may not be mounted.
    fn path(&self, path: &str, read_only: bool) -> Option<String> {
        let Some(normal) = normal(path) else {
            return Some(format!(
                "must be an absolute path without `..`, unlike `{path}`"
            ));
        };
        let because = "of the Cluster does not allow it";
        match &self.policy.host_paths {
            Some(list) if list.iter().any(|one| below(&normal, one)) => None,
            Some(_) => Some(format!(
                "must not be `{path}`: `spec.taskPolicy.hostPaths` {because}"
            )),
            None => {
                let own = self.closed.iter().map(String::as_str);
                let leads = CLOSED
                    .iter()
                    .copied()
                    .chain(own)
                    .find(|p| below(&normal, p) || below(p, &normal));
                if let Some(closed) = leads {
                    let how = match below(&normal, closed) {
                        true if normal == *closed => String::new(),
                        true => format!(", which is in `{closed}`"),
                        false => format!(", which holds `{closed}`"),
                    };
                    return Some(format!(
                        "must not be `{path}`{how}: unless it lists the path, `spec.taskPolicy.hostPaths` {because}"
                    ));
                }
                if self.traces && below(&normal, "/proc") {
                    return Some(format!(
                        "must not be `{path}` beside the capability {SYS_PTRACE}, for which it leads to all files of the host: \
                         unless it lists the path, `spec.taskPolicy.hostPaths` {because}"
                    ));
                }
                let system = READ_ONLY.iter().any(|k| below(&normal, k));
                (system && !read_only).then(|| format!(
                    "must not be `{path}` without `readOnly: true` at its `mountPoints`: unless it lists the path, \
                     `spec.taskPolicy.hostPaths` {because}"
                ))
            }
        }
    }
}

/// A capability as ECS spells it, of any spelling that the engine takes: `NET_RAW` of `cap_net_raw`.
pub fn capability(name: &str) -> String {
    let name = name.to_ascii_uppercase();
    name.strip_prefix("CAP_").map(str::to_owned).unwrap_or(name)
}

/// True for an option that takes a profile away.
fn takes_confinement(option: &str) -> bool {
    let option = option.trim().to_ascii_lowercase();
    option.contains("unconfined")
        || matches!(
            option.as_str(),
            "label:disable" | "label=disable" | "disable"
        )
}

/// A path without empty parts and dots; `None` when it is not absolute or climbs.
fn normal(path: &str) -> Option<String> {
    if !path.starts_with('/') || path.contains('\0') {
        return None;
    }
    let mut all = String::new();
    for part in path
        .split('/')
        .filter(|part| !part.is_empty() && *part != ".")
    {
        if part == ".." {
            return None;
        }
        all.push('/');
        all.push_str(part);
    }
    Some(if all.is_empty() { "/".to_owned() } else { all })
}

/// `path` is `folder`, or below it. Whole parts: `/data-b` is not below `/data`.
fn below(path: &str, folder: &str) -> bool {
    let Some(folder) = normal(folder) else {
        return false;
    };
    let rest = path.strip_prefix(folder.as_str());
    folder == "/" || rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}
