//! What a program would see in a fake container: what a real engine makes of the spec.

use std::time::Duration;

use tallyman_agent_engine::conformance::{Sight, UNSEEN};
use tallyman_agent_engine::fake::Program;
use tallyman_agent_engine::{ContainerSpec, Ipc, Network, Parameters, Processes};

const MIB: i64 = 1024 * 1024;
/// Capabilities of the suite that engines give by themselves.
const OWN_CAPABILITIES: [&str; 3] = ["CHOWN", "KILL", "NET_BIND_SERVICE"];

/// A program that ends as [`conformance::Program::Sees`](tallyman_agent_engine::conformance::Program::Sees) says.
pub fn look(spec: &ContainerSpec, sights: &[Sight]) -> Program {
    let unseen = sights.iter().position(|sight| !seen(spec, sight));
    let code = unseen.map_or(0, |index| {
        i64::from(UNSEEN) + i64::try_from(index).unwrap_or(i64::MAX)
    });
    Program::exits(code, Duration::ZERO)
}

fn seen(spec: &ContainerSpec, sight: &Sight) -> bool {
    let parameters = &spec.parameters;
    match sight {
        Sight::Limit { name, soft, hard } => parameters
            .ulimits
            .iter()
            .any(|limit| (limit.name, limit.soft, limit.hard) == (*name, *soft, *hard)),
        Sight::Sysctl(name, value) => parameters
            .sysctls
            .get(*name)
            .is_some_and(|set| set == value),
        Sight::ProcessesAtMost(limit) => parameters.pids_limit == *limit,
        Sight::SharedMemory(bytes) => match parameters.ipc {
            Ipc::None => bytes.is_none(),
            // Of another one.
            Ipc::Host | Ipc::Container(_) => false,
            Ipc::Engine | Ipc::Shareable => {
                *bytes == Some(parameters.shared_memory_bytes.unwrap_or(64 * MIB))
            }
        },
        Sight::InMemory(path, bytes, option) => parameters.tmpfs.iter().any(|tmpfs| {
            tmpfs.path == *path
                && tmpfs.bytes == *bytes
                && tmpfs.options.iter().any(|has| has == option)
        }),
        Sight::WritableRoot(writable) => *writable != parameters.read_only_root,
        Sight::Capability(name, held) => *held == holds(parameters, name),
        Sight::NoNewPrivileges(set) => {
            let option = |o: &String| o.starts_with("no-new-privileges");
            *set == parameters.security_options.iter().any(option)
        }
        Sight::EngineInit(init) => *init == parameters.init,
        Sight::Device(path, there) => {
            let has = parameters.devices.iter().any(|d| d.container_path == *path);
            *there == has
        }
        Sight::WritableDevice(path, writable) => parameters
            .devices
            .iter()
            .any(|d| d.container_path == *path && d.write == *writable),
        Sight::Hostname(name) => parameters.hostname.as_deref() == Some(*name),
        Sight::Host(address, name) => parameters
            .extra_hosts
            .iter()
            .any(|(has, at)| has == name && at == address),
        Sight::Nameserver(address) => parameters.dns_servers.contains(address),
        Sight::SearchDomains(domains) => parameters.dns_search_domains.join(" ") == *domains,
        Sight::OnlyLoopback(only) => *only == (spec.network == Network::None),
        Sight::Terminal(terminal) => *terminal == parameters.terminal,
        Sight::OpenInput(open) => *open == parameters.interactive,
        Sight::HostProcesses(shared) => *shared == (parameters.processes != Processes::Own),
    }
}

fn holds(parameters: &Parameters, capability: &str) -> bool {
    let listed = |list: &[String]| list.iter().any(|c| c == capability || c == "ALL");
    listed(&parameters.added_capabilities)
        || (OWN_CAPABILITIES.contains(&capability) && !listed(&parameters.dropped_capabilities))
}
