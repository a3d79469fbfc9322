//! What a program may look for inside its container.

use std::net::IpAddr;

/// One thing that a program sees from inside ([`super::Program::Sees`]).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sight {
    /// A resource limit in force for it.
    Limit {
        /// As the spec spells it, such as `nofile`.
        name: &'static str,
        /// Soft limit; -1 is none.
        soft: i64,
        /// Hard limit; -1 is none.
        hard: i64,
    },
    /// A kernel parameter has this value.
    Sysctl(&'static str, &'static str),
    /// At most so many processes; `None`: as many as the engine lets it have.
    ProcessesAtMost(Option<i64>),
    /// Size of `/dev/shm` in bytes; `None`: there is no `/dev/shm` mount.
    SharedMemory(Option<i64>),
    /// A file system in memory of this path, size in bytes, and mount option.
    InMemory(&'static str, i64, &'static str),
    /// The root file system can be written to.
    WritableRoot(bool),
    /// It has a capability in force.
    Capability(&'static str, bool),
    /// Its privileges cannot grow.
    NoNewPrivileges(bool),
    /// The engine's init is the first process.
    EngineInit(bool),
    /// A device is there.
    Device(&'static str, bool),
    /// It may write to that device.
    WritableDevice(&'static str, bool),
    /// Host name.
    Hostname(&'static str),
    /// A line of `/etc/hosts`: address and name.
    Host(IpAddr, &'static str),
    /// A DNS server.
    Nameserver(IpAddr),
    /// The DNS search domains.
    SearchDomains(&'static str),
    /// The only network interface is loopback.
    OnlyLoopback(bool),
    /// Standard input is a terminal.
    Terminal(bool),
    /// Standard input is open.
    OpenInput(bool),
    /// It is one of the host's processes: it is not the first process it sees.
    HostProcesses(bool),
}

/// First exit code of [`super::Program::Sees`] that is no success: it did not see the first of its sights.
pub const UNSEEN: u8 = 100;
