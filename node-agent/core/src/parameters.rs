//! Kernel, host and terminal parameters of a container, and its log driver (ECS ContainerDefinition, LinuxParameters,
//! LogConfiguration).
//!
//! What no engine could carry out is refused here, with the field; what only some engines or kernels cannot (a device
//! that the host lacks, a capability that nobody knows) is left to the engine, which says so when it is asked.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use tallyman_agent_engine::{Device, Log, Parameters, Swap, Tmpfs, Ulimit, is_ipc_sysctl};
use tallyman_crds::ecs::{
    ContainerDefinition, DeviceCgroupPermission, IpcMode, KernelCapabilities, LinuxParameters,
    LogConfiguration, LogDriver, NetworkMode, SystemControl, UlimitName,
};
use tallyman_crds::task_policy::capability;
use tallyman_crds::{PlannedTask, TaskDefinitionSpec};

use crate::containers::{MIB, Scope};
use crate::firelens::Lens;
use crate::pause;
use crate::refused::Refused;

/// ECS default of `swappiness`, once `maxSwap` is given.
const SWAPPINESS: i64 = 60;
/// The kernel's most for a host name.
const HOSTNAME_LENGTH: usize = 64;
/// ECS default since June 2025: a container never waits for its log driver.
const LOG_MODE: (&str, &str) = ("mode", "non-blocking");
/// ECS default of the buffer of that mode.
const LOG_BUFFER: (&str, &str) = ("max-buffer-size", "10m");
/// Dropped unless `capabilities.add` names it: with it a container sends packets in the name of its neighbours. `ping` does
/// without it (engines set `net.ipv4.ping_group_range`).
const FORGING: &str = "NET_RAW";
/// Set unless `dockerSecurityOptions` says otherwise (`no-new-privileges:false`).
const NO_NEW_PRIVILEGES: &str = "no-new-privileges";

/// A refusal that names container and field.
struct At<'a>(&'a str);

impl At<'_> {
    fn refuse(&self, field: &'static str, why: impl Into<String>) -> Refused {
        Refused::Parameter {
            container: self.0.to_owned(),
            field,
            why: why.into(),
        }
    }
}

/// The parameters of one container of `task`. `memory_bytes` is its hard limit.
///
/// # Errors
/// [`Refused`] when a value cannot be told to any engine, or not on this host.
pub(crate) fn of(
    container: &ContainerDefinition,
    definition: &TaskDefinitionSpec,
    memory_bytes: Option<i64>,
    task: &PlannedTask,
    pause: &str,
    lens: &Lens<'_>,
    scope: &Scope<'_>,
) -> Result<Parameters, Refused> {
    let at = At(&container.name);
    let privileged = container.privileged == Some(true);
    if privileged && scope.disable_privileged {
        return Err(at.refuse(
            "privileged",
            "is not allowed on this host: ECS_DISABLE_PRIVILEGED is set",
        ));
    }
    own_names(&at, container, definition)?;
    let none = LinuxParameters::default();
    let LinuxParameters {
        capabilities,
        devices: wanted_devices,
        init_process_enabled,
        shared_memory_size,
        tmpfs: wanted_tmpfs,
        max_swap,
        swappiness,
    } = container.linux_parameters.as_ref().unwrap_or(&none);
    let KernelCapabilities { add, drop } = capabilities.clone().unwrap_or_default();
    let hostname = container.hostname.clone().filter(|name| !name.is_empty());
    if hostname.as_ref().is_some_and(|n| n.len() > HOSTNAME_LENGTH) {
        let why = format!("has more than the {HOSTNAME_LENGTH} characters that the kernel takes");
        return Err(at.refuse("hostname", why));
    }
    Ok(Parameters {
        hostname,
        interactive: container.interactive == Some(true),
        terminal: container.pseudo_terminal == Some(true),
        init: *init_process_enabled == Some(true),
        privileged,
        read_only_root: container.readonly_root_filesystem == Some(true),
        dropped_capabilities: dropped(&add, &drop, privileged),
        added_capabilities: given(&add),
        security_options: security_options(&at, &container.docker_security_options, privileged)?,
        sysctls: sysctls(&at, &container.system_controls, definition)?,
        ulimits: ulimits(&at, &container.ulimits)?,
        // Of the task as a whole (`limits`).
        pids_limit: None,
        shared_memory_bytes: shared_memory_size
            .filter(|mib| *mib > 0)
            .map(|mib| i64::from(mib) * MIB),
        tmpfs: tmpfs(&at, wanted_tmpfs)?,
        devices: wanted_devices.iter().map(device).collect(),
        swap: swap(&at, *max_swap, *swappiness, memory_bytes)?,
        processes: pause::processes(definition, pause),
        ipc: pause::memory(definition, pause),
        dns_servers: container
            .dns_servers
            .iter()
            .map(|server| address(&at, "dnsServers", server))
            .collect::<Result<_, _>>()?,
        dns_search_domains: given(&container.dns_search_domains),
        extra_hosts: container
            .extra_hosts
            .iter()
            .map(|entry| {
                let found = address(&at, "extraHosts.ipAddress", &entry.ip_address)?;
                Ok((entry.hostname.clone(), found))
            })
            .collect::<Result<_, _>>()?,
        log: lens.log(&container.name).or_else(|| {
            let wanted = container.log_configuration.as_ref();
            wanted.map(|wanted| log(&at, wanted, &task.name))
        }),
    })
}

/// Names and resolvers are the pause container's in a task with an address of its own; no engine gives a container others.
fn own_names(
    at: &At<'_>,
    container: &ContainerDefinition,
    definition: &TaskDefinitionSpec,
) -> Result<(), Refused> {
    if definition.network_mode != Some(NetworkMode::Awsvpc) {
        return Ok(());
    }
    let named = container.hostname.as_ref().is_some_and(|n| !n.is_empty());
    let fields = [
        ("hostname", named),
        ("dnsServers", !container.dns_servers.is_empty()),
        ("dnsSearchDomains", !container.dns_search_domains.is_empty()),
        ("extraHosts", !container.extra_hosts.is_empty()),
    ];
    match fields.into_iter().find(|(_, given)| *given) {
        Some((field, _)) => Err(at.refuse(field, "must be absent with `networkMode: awsvpc`")),
        None => Ok(()),
    }
}

fn given(words: &[String]) -> Vec<String> {
    words.iter().filter(|w| !w.is_empty()).cloned().collect()
}

fn address(at: &At<'_>, field: &'static str, text: &str) -> Result<IpAddr, Refused> {
    text.trim()
        .parse()
        .map_err(|_| at.refuse(field, format!("has `{text}`, which is no IP address")))
}

/// What is named, and [`FORGING`]. A privileged container has all capabilities, whatever is dropped.
fn dropped(add: &[String], drop: &[String], privileged: bool) -> Vec<String> {
    let names = |list: &[String]| {
        let plain = list.iter().map(|name| capability(name));
        let mut plain = plain.filter(|name| name == FORGING || name == "ALL");
        plain.next().is_some()
    };
    let mut dropped = given(drop);
    if !privileged && !names(add) && !names(drop) {
        dropped.push(FORGING.to_owned());
    }
    dropped
}

/// What is named, and [`NO_NEW_PRIVILEGES`].
fn security_options(
    at: &At<'_>,
    options: &[String],
    privileged: bool,
) -> Result<Vec<String>, Refused> {
    if let Some(option) = options.iter().find(|o| o.starts_with("credentialspec")) {
        let why = format!("has `{option}`, which is for Windows");
        return Err(at.refuse("dockerSecurityOptions", why));
    }
    let mut options = given(options);
    if !privileged && !options.iter().any(|o| o.starts_with(NO_NEW_PRIVILEGES)) {
        options.push(NO_NEW_PRIVILEGES.to_owned());
    }
    Ok(options)
}

/// Parameters of a namespace that the container shares with the host would be the host's own.
fn sysctls(
    at: &At<'_>,
    controls: &[SystemControl],
    definition: &TaskDefinitionSpec,
) -> Result<BTreeMap<String, String>, Refused> {
    let field = "systemControls";
    let mut set = BTreeMap::new();
    for SystemControl { namespace, value } in controls {
        let Some(name) = namespace.as_deref().filter(|name| !name.is_empty()) else {
            return Err(at.refuse(field, "has an entry without `namespace`"));
        };
        if name.starts_with("net.") && definition.network_mode == Some(NetworkMode::Host) {
            let why = format!("must not have `{name}` with `networkMode: host`");
            return Err(at.refuse(field, why));
        }
        if is_ipc_sysctl(name) && definition.ipc_mode == Some(IpcMode::Host) {
            let why = format!("must not have `{name}` with `ipcMode: host`");
            return Err(at.refuse(field, why));
        }
        set.insert(name.to_owned(), value.clone().unwrap_or_default());
    }
    Ok(set)
}

fn ulimits(at: &At<'_>, wanted: &[tallyman_crds::ecs::Ulimit]) -> Result<Vec<Ulimit>, Refused> {
    let mut limits: Vec<Ulimit> = Vec::new();
    for limit in wanted {
        let name = ulimit_name(limit.name);
        let (soft, hard) = (i64::from(limit.soft_limit), i64::from(limit.hard_limit));
        if hard != -1 && (soft == -1 || soft > hard) {
            let why = format!("has `{name}` with `softLimit` {soft} above `hardLimit` {hard}");
            return Err(at.refuse("ulimits", why));
        }
        if limits.iter().any(|other| other.name == name) {
            return Err(at.refuse("ulimits", format!("has `{name}` twice")));
        }
        limits.push(Ulimit { name, soft, hard });
    }
    Ok(limits)
}

fn ulimit_name(name: UlimitName) -> &'static str {
    match name {
        UlimitName::Core => "core",
        UlimitName::Cpu => "cpu",
        UlimitName::Data => "data",
        UlimitName::Fsize => "fsize",
        UlimitName::Locks => "locks",
        UlimitName::Memlock => "memlock",
        UlimitName::Msgqueue => "msgqueue",
        UlimitName::Nice => "nice",
        UlimitName::Nofile => "nofile",
        UlimitName::Nproc => "nproc",
        UlimitName::Rss => "rss",
        UlimitName::Rtprio => "rtprio",
        UlimitName::Rttime => "rttime",
        UlimitName::Sigpending => "sigpending",
        UlimitName::Stack => "stack",
    }
}

/// Size 0 would be a file system without limit.
fn tmpfs(at: &At<'_>, wanted: &[tallyman_crds::ecs::Tmpfs]) -> Result<Vec<Tmpfs>, Refused> {
    let mut paths = BTreeSet::new();
    wanted
        .iter()
        .map(|one| {
            let path = one.container_path.clone();
            if !path.starts_with('/') {
                let why = format!("is `{path}`, but must begin with `/`");
                return Err(at.refuse("linuxParameters.tmpfs.containerPath", why));
            }
            if !paths.insert(path.clone()) {
                let why = format!("is `{path}` twice");
                return Err(at.refuse("linuxParameters.tmpfs.containerPath", why));
            }
            if one.size < 1 {
                let why = format!("is {} for `{path}`, but must be 1 MiB at least", one.size);
                return Err(at.refuse("linuxParameters.tmpfs.size", why));
            }
            Ok(Tmpfs {
                path,
                bytes: i64::from(one.size) * MIB,
                options: given(&one.mount_options),
            })
        })
        .collect()
}

fn device(wanted: &tallyman_crds::ecs::Device) -> Device {
    let tallyman_crds::ecs::Device {
        host_path,
        container_path,
        permissions,
    } = wanted;
    let may = |what| permissions.is_empty() || permissions.contains(&what);
    let inside = container_path.clone().filter(|path| !path.is_empty());
    Device {
        host_path: host_path.clone(),
        container_path: inside.unwrap_or_else(|| host_path.clone()),
        read: may(DeviceCgroupPermission::Read),
        write: may(DeviceCgroupPermission::Write),
        mknod: may(DeviceCgroupPermission::Mknod),
    }
}

/// Without `maxSwap` the engine's rule holds and `swappiness` means nothing (ECS container swap).
fn swap(
    at: &At<'_>,
    max_swap: Option<i32>,
    swappiness: Option<i32>,
    memory_bytes: Option<i64>,
) -> Result<Option<Swap>, Refused> {
    let Some(mib) = max_swap.map(i64::from).filter(|mib| *mib >= 0) else {
        return Ok(None);
    };
    if memory_bytes.is_none() {
        return Err(at.refuse(
            "linuxParameters.maxSwap",
            "needs the container's `memory`: swap is limited on top of it",
        ));
    }
    Ok(Some(Swap {
        bytes: mib * MIB,
        swappiness: Some(swappiness.map_or(SWAPPINESS, i64::from).clamp(0, 100)),
    }))
}

/// Options go to the engine as they are, but for the two that ECS has of its own: the delivery mode is non-blocking
/// with a buffer of 10 MiB when the definition does not say (1.23), and `awslogs-stream-prefix` names the stream
/// `prefix/container/task`.
fn log(at: &At<'_>, wanted: &LogConfiguration, task: &str) -> Log {
    let LogConfiguration {
        log_driver,
        options,
        // Read by `Needs::of`.
        secret_options: _,
    } = wanted;
    let mut options = options.clone();
    if *log_driver == LogDriver::Awslogs
        && let Some(prefix) = options.remove("awslogs-stream-prefix")
    {
        options
            .entry("awslogs-stream".to_owned())
            .or_insert_with(|| format!("{prefix}/{}/{task}", at.0));
    }
    let (mode, non_blocking) = LOG_MODE;
    if *log_driver != LogDriver::None {
        let chosen = options
            .entry(mode.to_owned())
            .or_insert_with(|| non_blocking.to_owned());
        if chosen == non_blocking {
            let (buffer, size) = LOG_BUFFER;
            options
                .entry(buffer.to_owned())
                .or_insert_with(|| size.to_owned());
        }
    }
    Log {
        driver: log_driver.as_str().to_owned(),
        options,
        // Filled in when the container is created (`needs`).
        secret_options: BTreeMap::new(),
    }
}
