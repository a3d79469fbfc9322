//! Parameters of a container in Docker's spelling.

use std::collections::HashMap;
use std::net::IpAddr;

use bollard::models::{
    ContainerCreateBody, DeviceMapping, HostConfig, HostConfigLogConfig, ResourcesUlimits,
};

use tallyman_agent_engine::{Device, Ipc, Log, Parameters, Processes, Tmpfs, Ulimit};

/// Adds parameters to the body of a create call. Destructures without `..`: a new parameter must be spelled here.
/// `memory_bytes` is the container's limit, to which Docker wants swap added.
pub(crate) fn add(
    parameters: &Parameters,
    memory_bytes: Option<i64>,
    body: &mut ContainerCreateBody,
    host: &mut HostConfig,
) {
    let Parameters {
        hostname,
        interactive,
        terminal,
        init,
        privileged,
        read_only_root,
        added_capabilities,
        dropped_capabilities,
        security_options,
        sysctls,
        ulimits,
        pids_limit,
        shared_memory_bytes,
        tmpfs,
        devices,
        swap,
        processes,
        ipc,
        dns_servers,
        dns_search_domains,
        extra_hosts,
        log,
    } = parameters;
    body.hostname = hostname.clone();
    body.open_stdin = interactive.then_some(true);
    body.tty = terminal.then_some(true);
    host.init = init.then_some(true);
    host.privileged = privileged.then_some(true);
    host.readonly_rootfs = read_only_root.then_some(true);
    host.cap_add = list(added_capabilities, Clone::clone);
    host.cap_drop = list(dropped_capabilities, Clone::clone);
    host.security_opt = list(security_options, Clone::clone);
    host.sysctls = some(sysctls.clone().into_iter().collect());
    host.ulimits = list(ulimits, ulimit);
    host.pids_limit = *pids_limit;
    host.shm_size = *shared_memory_bytes;
    host.tmpfs = some(tmpfs.iter().map(in_memory).collect());
    host.devices = list(devices, device);
    host.memory_swap = swap.map(|swap| memory_bytes.unwrap_or(0).saturating_add(swap.bytes));
    host.memory_swappiness = swap.and_then(|swap| swap.swappiness);
    host.pid_mode = match processes {
        Processes::Own => None,
        Processes::Host => Some("host".to_owned()),
        Processes::Container(name) => Some(format!("container:{name}")),
    };
    host.ipc_mode = match ipc {
        Ipc::Engine => None,
        Ipc::Host => Some("host".to_owned()),
        Ipc::None => Some("none".to_owned()),
        Ipc::Shareable => Some("shareable".to_owned()),
        Ipc::Container(name) => Some(format!("container:{name}")),
    };
    host.dns = list(dns_servers, IpAddr::to_string);
    host.dns_search = list(dns_search_domains, Clone::clone);
    host.extra_hosts = list(extra_hosts, |(name, address)| format!("{name}:{address}"));
    host.log_config = log.as_ref().map(driver);
}

/// An empty list is left out: the engine's default, not none.
fn list<T, S>(values: &[T], spell: impl Fn(&T) -> S) -> Option<Vec<S>> {
    (!values.is_empty()).then(|| values.iter().map(spell).collect())
}

fn some(map: HashMap<String, String>) -> Option<HashMap<String, String>> {
    (!map.is_empty()).then_some(map)
}

fn ulimit(limit: &Ulimit) -> ResourcesUlimits {
    let Ulimit { name, soft, hard } = limit;
    ResourcesUlimits {
        name: Some((*name).to_owned()),
        soft: Some(*soft),
        hard: Some(*hard),
    }
}

/// Path and options, as `--tmpfs path:size=1024,noexec`.
fn in_memory(tmpfs: &Tmpfs) -> (String, String) {
    let Tmpfs {
        path,
        bytes,
        options,
    } = tmpfs;
    let size = format!("size={bytes}");
    let all: Vec<&str> = std::iter::once(size.as_str())
        .chain(options.iter().map(String::as_str))
        .collect();
    (path.clone(), all.join(","))
}

fn device(device: &Device) -> DeviceMapping {
    let Device {
        host_path,
        container_path,
        read,
        write,
        mknod,
    } = device;
    let allowed = [(*read, 'r'), (*write, 'w'), (*mknod, 'm')];
    DeviceMapping {
        path_on_host: Some(host_path.clone()),
        path_in_container: Some(container_path.clone()),
        cgroup_permissions: Some(
            allowed
                .into_iter()
                .filter_map(|(may, letter)| may.then_some(letter))
                .collect(),
        ),
    }
}

fn driver(log: &Log) -> HostConfigLogConfig {
    let Log {
        driver,
        options,
        secret_options,
    } = log;
    let secret = secret_options.iter();
    let secret = secret.map(|(name, value)| (name.clone(), value.expose().to_owned()));
    HostConfigLogConfig {
        typ: Some(driver.clone()),
        config: Some(options.clone().into_iter().chain(secret).collect()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tallyman_agent_engine::Swap;

    fn spelled(parameters: &Parameters, memory: Option<i64>) -> HostConfig {
        let mut host = HostConfig::default();
        let mut body = ContainerCreateBody::default();
        add(parameters, memory, &mut body, &mut host);
        host
    }

    #[test]
    fn nothing_given_is_left_to_the_engine() {
        let host = spelled(&Parameters::default(), Some(64));
        assert_eq!(host, HostConfig::default());
    }

    #[test]
    fn swap_is_told_on_top_of_memory() {
        for (bytes, all) in [(0, 64), (32, 96), (i64::MAX, i64::MAX)] {
            let parameters = Parameters {
                swap: Some(Swap {
                    bytes,
                    swappiness: Some(60),
                }),
                ..Parameters::default()
            };
            let host = spelled(&parameters, Some(64));
            assert_eq!(host.memory_swap, Some(all));
            assert_eq!(host.memory_swappiness, Some(60));
        }
    }

    #[test]
    fn devices_and_memory_file_systems_have_dockers_letters() {
        let parameters = Parameters {
            devices: vec![Device {
                host_path: "/dev/a".to_owned(),
                container_path: "/dev/b".to_owned(),
                read: true,
                write: false,
                mknod: true,
            }],
            tmpfs: vec![Tmpfs {
                path: "/run".to_owned(),
                bytes: 1024,
                options: vec!["noexec".to_owned(), "mode=755".to_owned()],
            }],
            extra_hosts: vec![("db".to_owned(), "fd00::1".parse().unwrap())],
            ..Parameters::default()
        };
        let host = spelled(&parameters, None);
        let devices = host.devices.unwrap_or_default();
        assert_eq!(devices[0].cgroup_permissions.as_deref(), Some("rm"));
        let tmpfs = host.tmpfs.unwrap_or_default();
        assert_eq!(tmpfs["/run"], "size=1024,noexec,mode=755");
        assert_eq!(host.extra_hosts.unwrap_or_default(), ["db:fd00::1"]);
    }
}
