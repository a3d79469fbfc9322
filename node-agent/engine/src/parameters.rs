//! What a container gets of the kernel, the host and the terminal, beside programs, ports and volumes.

use std::collections::BTreeMap;
use std::net::IpAddr;

use crate::Sensitive;

/// Parameters of a container; the default of each is what the engine does by itself.
///
/// Adapters destructure it without `..`, as they do [`crate::ContainerSpec`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Parameters {
    /// Host name inside the container; `None` lets the engine make one up.
    pub hostname: Option<String>,
    /// Standard input stays open (ECS `interactive`).
    pub interactive: bool,
    /// The first process has a terminal (ECS `pseudoTerminal`).
    pub terminal: bool,
    /// The engine's small init is the first process and reaps orphans (ECS `initProcessEnabled`).
    pub init: bool,
    /// All rights on the host that root has.
    pub privileged: bool,
    /// The root file system cannot be written to.
    pub read_only_root: bool,
    /// Kernel capabilities beside the engine's own set, such as `SYS_PTRACE`, or `ALL`.
    pub added_capabilities: Vec<String>,
    /// Kernel capabilities taken from the engine's own set.
    pub dropped_capabilities: Vec<String>,
    /// As `docker run --security-opt` takes them.
    pub security_options: Vec<String>,
    /// Namespaced kernel parameters and their values (ECS `systemControls`).
    pub sysctls: BTreeMap<String, String>,
    /// Resource limits of its processes; a limit that is absent is the engine's.
    pub ulimits: Vec<Ulimit>,
    /// Most processes and threads at a time; `None` is no limit of ours.
    pub pids_limit: Option<i64>,
    /// Size of `/dev/shm`.
    pub shared_memory_bytes: Option<i64>,
    /// File systems in memory.
    pub tmpfs: Vec<Tmpfs>,
    /// Devices of the host that it sees.
    pub devices: Vec<Device>,
    /// How much of its memory may be swapped; `None` is the engine's rule.
    pub swap: Option<Swap>,
    /// Whose processes it sees.
    pub processes: Processes,
    /// Whose shared memory it sees.
    pub ipc: Ipc,
    /// DNS servers; none keeps the engine's.
    pub dns_servers: Vec<IpAddr>,
    /// DNS search domains; none keeps the engine's.
    pub dns_search_domains: Vec<String>,
    /// Names and addresses for `/etc/hosts`.
    pub extra_hosts: Vec<(String, IpAddr)>,
    /// Where its output goes; `None` is the engine's own log driver.
    pub log: Option<Log>,
}

/// One resource limit (`man setrlimit`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ulimit {
    /// As the engine spells it, such as `nofile`.
    pub name: &'static str,
    /// Limit in force; -1 is none.
    pub soft: i64,
    /// Up to where a process may raise it; -1 is none.
    pub hard: i64,
}

/// A file system in memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tmpfs {
    /// Where it is mounted.
    pub path: String,
    /// Largest size.
    pub bytes: i64,
    /// Mount options, such as `noexec`.
    pub options: Vec<String>,
}

/// A device of the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    /// Path on the host.
    pub host_path: String,
    /// Path in the container.
    pub container_path: String,
    /// It may be read.
    pub read: bool,
    /// It may be written.
    pub write: bool,
    /// Device files may be made for it.
    pub mknod: bool,
}

/// A limit on swap. Engines want a memory limit beside it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Swap {
    /// Swap beside the memory limit; 0 is none.
    pub bytes: i64,
    /// 0 (only when it must be) to 100; `None` is the engine's. Kernels without such a setting (cgroup v2) leave it out.
    pub swappiness: Option<i64>,
}

/// Whose processes a container sees (ECS `pidMode`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Processes {
    /// Its own; its first process is number 1.
    #[default]
    Own,
    /// The host's.
    Host,
    /// Those of another container, by name, which must run when this one starts.
    Container(String),
}

/// Whose shared memory, semaphores and message queues a container sees (ECS `ipcMode`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Ipc {
    /// As the engine is set up: its own.
    #[default]
    Engine,
    /// The host's.
    Host,
    /// Its own, without `/dev/shm`.
    None,
    /// Its own, and others may share it.
    Shareable,
    /// That of another container, by name, which must run and be [`Ipc::Shareable`] when this one starts.
    Container(String),
}

/// A log driver of the engine, and its options as the engine spells them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Log {
    /// Such as `json-file`.
    pub driver: String,
    /// Such as `max-size`.
    pub options: BTreeMap<String, String>,
    /// Options whose values nobody may see, such as `splunk-token`. They win over `options`.
    pub secret_options: BTreeMap<String, Sensitive>,
}

/// Whether a kernel parameter belongs to the IPC namespace.
pub fn is_ipc_sysctl(name: &str) -> bool {
    const NAMES: [&str; 8] = [
        "kernel.msgmax",
        "kernel.msgmnb",
        "kernel.msgmni",
        "kernel.sem",
        "kernel.shm_rmid_forced",
        "kernel.shmall",
        "kernel.shmmax",
        "kernel.shmmni",
    ];
    NAMES.contains(&name) || name.starts_with("fs.mqueue.")
}
