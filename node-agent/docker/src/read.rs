//! Docker's answers in the port's words.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, Ipv4Addr};

use bollard::models::{
    ContainerInspectResponse, ContainerState as DockerState, ContainerStateStatusEnum,
    ContainerSummary as DockerSummary, ContainerSummaryHealthStatusEnum, ContainerSummaryStateEnum,
    HealthStatusEnum, PortMap, PortSummary, PortSummaryTypeEnum, SystemInfo, SystemVersion,
};

use tallyman_agent_engine::{
    ContainerState, ContainerSummary, EngineDescription, Health, Moment, Phase, PhaseKind,
    Protocol, PublishedPort,
};

pub(crate) use crate::sight::stats;
use crate::sight::{attachments, last_check, mounted};

const MIB: i64 = 1024 * 1024;

pub(crate) fn description(version: SystemVersion, info: SystemInfo) -> EngineDescription {
    let plugins = info.plugins.unwrap_or_default();
    let mut logging_drivers = plugins.log.unwrap_or_default();
    let mut volume_drivers = plugins.volume.unwrap_or_default();
    // Always there, and never listed.
    logging_drivers.push("none".to_owned());
    logging_drivers.sort();
    volume_drivers.sort();
    EngineDescription {
        name: "docker".to_owned(),
        version: version.version.unwrap_or_default(),
        api_version: version.api_version.unwrap_or_default(),
        cpus: info.ncpu.unwrap_or(0),
        memory_mib: info.mem_total.unwrap_or(0) / MIB,
        operating_system: info.operating_system.unwrap_or_default(),
        os_type: info.os_type.unwrap_or_default(),
        architecture: info.architecture.unwrap_or_default(),
        kernel: info.kernel_version.unwrap_or_default(),
        cgroup_version: info
            .cgroup_version
            .map(|one| one.to_string())
            .unwrap_or_default(),
        cgroup_driver: info
            .cgroup_driver
            .map(|one| one.to_string())
            .unwrap_or_default(),
        storage_driver: info.driver.unwrap_or_default(),
        data_root: info.docker_root_dir.unwrap_or_default(),
        engine_id: info.id.unwrap_or_default(),
        logging_drivers,
        volume_drivers,
        live_restore: info.live_restore_enabled.unwrap_or(false),
    }
}

/// The whole state, or `None` when the answer lacks what every container has.
pub(crate) fn state(answer: ContainerInspectResponse, only_ipv4: bool) -> Option<ContainerState> {
    let docker = answer.state?;
    let config = answer.config.unwrap_or_default();
    let phase = phase(&docker);
    let verdict = docker.health.as_ref().and_then(|health| health.status);
    let health = health(
        phase.kind(),
        verdict.map_or(Health::None, |one| match one {
            HealthStatusEnum::STARTING => Health::Starting,
            HealthStatusEnum::HEALTHY => Health::Healthy,
            HealthStatusEnum::UNHEALTHY => Health::Unhealthy,
            HealthStatusEnum::NONE | HealthStatusEnum::EMPTY => Health::None,
        }),
    );
    let network = answer.network_settings.unwrap_or_default();
    let alive = phase.kind().is_alive();
    let pid = docker.pid.filter(|_| alive);
    let last_check = docker
        .health
        .filter(|_| alive)
        .and_then(|health| last_check(health.log));
    Some(ContainerState {
        id: answer.id?,
        name: unslashed(&answer.name?),
        image: config.image.unwrap_or_default(),
        image_id: answer.image.unwrap_or_default(),
        labels: labels(config.labels),
        phase,
        health,
        ports: bound(network.ports.unwrap_or_default(), only_ipv4),
        created_at: moment(answer.created.as_deref()),
        started_at: moment(docker.started_at.as_deref()),
        attachments: if alive {
            attachments(network.networks.unwrap_or_default())
        } else {
            Vec::new()
        },
        pid: pid
            .and_then(|pid| u32::try_from(pid).ok())
            .filter(|pid| *pid > 0),
        resolver_file: answer.resolv_conf_path.unwrap_or_default(),
        mounts: mounted(answer.mounts.unwrap_or_default()),
        last_check,
    })
}

fn phase(docker: &DockerState) -> Phase {
    use ContainerStateStatusEnum as Status;
    let started_at = moment(docker.started_at.as_deref());
    match docker.status.unwrap_or(Status::EMPTY) {
        Status::CREATED | Status::EMPTY => Phase::Created,
        // "Stopping" is told by newer engines only: it runs until it has ended.
        Status::RUNNING | Status::STOPPING => Phase::Running { started_at },
        Status::PAUSED => Phase::Paused,
        Status::RESTARTING => Phase::Restarting,
        Status::REMOVING => Phase::Removing,
        Status::DEAD => Phase::Dead,
        Status::EXITED => Phase::Exited {
            exit_code: docker.exit_code.unwrap_or(255),
            finished_at: moment(docker.finished_at.as_deref()),
            oom_killed: docker.oom_killed.unwrap_or(false),
            error: docker.error.clone().filter(|words| !words.is_empty()),
        },
    }
}

/// One line of a list, or `None` when it lacks what every container has.
pub(crate) fn summary(line: DockerSummary, only_ipv4: bool) -> Option<ContainerSummary> {
    use ContainerSummaryStateEnum as State;
    let phase = match line.state.unwrap_or(State::EMPTY) {
        State::CREATED | State::EMPTY => PhaseKind::Created,
        State::RUNNING | State::STOPPING => PhaseKind::Running,
        State::PAUSED => PhaseKind::Paused,
        State::RESTARTING => PhaseKind::Restarting,
        State::EXITED => PhaseKind::Exited,
        State::REMOVING => PhaseKind::Removing,
        State::DEAD => PhaseKind::Dead,
    };
    let told = match line.health.and_then(|health| health.status) {
        Some(status) => match status {
            ContainerSummaryHealthStatusEnum::STARTING => Health::Starting,
            ContainerSummaryHealthStatusEnum::HEALTHY => Health::Healthy,
            ContainerSummaryHealthStatusEnum::UNHEALTHY => Health::Unhealthy,
            ContainerSummaryHealthStatusEnum::NONE | ContainerSummaryHealthStatusEnum::EMPTY => {
                Health::None
            }
        },
        None => health_in(line.status.as_deref().unwrap_or_default()),
    };
    Some(ContainerSummary {
        id: line.id?,
        name: own_name(&line.names?)?,
        image_id: line.image_id.unwrap_or_default(),
        labels: labels(line.labels),
        phase,
        health: Some(health(phase, told)),
        ports: listed(line.ports.unwrap_or_default(), only_ipv4),
    })
}

/// Engines before API 1.52 tell health in the status for people: `Up 2 seconds (healthy)`,
/// `Up 1 second (health: starting)`.
fn health_in(status: &str) -> Health {
    match status.rsplit_once('(').map(|(_, rest)| rest) {
        Some("healthy)") => Health::Healthy,
        Some("unhealthy)") => Health::Unhealthy,
        Some("health: starting)") => Health::Starting,
        _ => Health::None,
    }
}

/// Docker calls every stopped container unhealthy that had a check.
fn health(phase: PhaseKind, told: Health) -> Health {
    if phase.is_alive() { told } else { Health::None }
}

/// Legacy links add aliases of the form `/other/alias`.
fn own_name(names: &[String]) -> Option<String> {
    names
        .iter()
        .map(|name| unslashed(name))
        .find(|name| !name.contains('/'))
}

fn unslashed(name: &str) -> String {
    name.strip_prefix('/').unwrap_or(name).to_owned()
}

fn labels(labels: Option<HashMap<String, String>>) -> BTreeMap<String, String> {
    labels.unwrap_or_default().into_iter().collect()
}

/// Docker's "never" is the year 1.
pub(crate) fn moment(text: Option<&str>) -> Option<Moment> {
    let time: jiff::Timestamp = text?.parse().ok()?;
    Some(Moment(time.as_millisecond())).filter(|moment| moment.millis() > 0)
}

/// Ports of an inspect: `80/tcp` to bindings, `null` for one that is exposed only.
fn bound(map: PortMap, only_ipv4: bool) -> Vec<PublishedPort> {
    let ports = map.into_iter().flat_map(|(key, bindings)| {
        let inner = inner_port(&key);
        let bindings = bindings.unwrap_or_default().into_iter();
        bindings.filter_map(move |binding| {
            let (container_port, protocol) = inner?;
            Some(PublishedPort {
                container_port,
                protocol,
                host_port: binding.host_port?.parse().ok()?,
                host_ip: address(binding.host_ip.as_deref()),
            })
        })
    });
    settled(ports, only_ipv4)
}

fn inner_port(key: &str) -> Option<(u16, Protocol)> {
    let (port, protocol) = key.split_once('/')?;
    let protocol = match protocol {
        "tcp" => Protocol::Tcp,
        "udp" => Protocol::Udp,
        _ => return None,
    };
    Some((port.parse().ok()?, protocol))
}

/// Ports of a list.
fn listed(ports: Vec<PortSummary>, only_ipv4: bool) -> Vec<PublishedPort> {
    let ports = ports.into_iter().filter_map(|port| {
        let protocol = match port.typ? {
            PortSummaryTypeEnum::TCP => Protocol::Tcp,
            PortSummaryTypeEnum::UDP => Protocol::Udp,
            PortSummaryTypeEnum::SCTP | PortSummaryTypeEnum::EMPTY => return None,
        };
        Some(PublishedPort {
            container_port: port.private_port,
            protocol,
            host_port: port.public_port?,
            host_ip: address(port.ip.as_deref()),
        })
    });
    settled(ports, only_ipv4)
}

fn address(text: Option<&str>) -> IpAddr {
    let every = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
    text.and_then(|text| text.parse().ok()).unwrap_or(every)
}

fn settled(ports: impl Iterator<Item = PublishedPort>, only_ipv4: bool) -> Vec<PublishedPort> {
    let mut ports: Vec<PublishedPort> = ports
        .filter(|port| !only_ipv4 || port.host_ip.is_ipv4())
        .collect();
    ports.sort();
    ports.dedup();
    ports
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn health_is_read_from_the_status_for_people() {
        for (status, wanted) in [
            ("Up 2 seconds (healthy)", Health::Healthy),
            ("Up 2 minutes (unhealthy)", Health::Unhealthy),
            ("Up Less than a second (health: starting)", Health::Starting),
            ("Up 2 seconds", Health::None),
            ("Exited (137) 2 seconds ago", Health::None),
        ] {
            assert_eq!(health_in(status), wanted, "{status}");
        }
    }

    #[test]
    fn times_are_milliseconds_and_never_is_absent() {
        let time = moment(Some("2026-11-21T04:27:21.668470478Z"));
        assert_eq!(time, Some(Moment(1_795_235_241_668)));
        assert_eq!(moment(Some("0001-01-01T00:00:00Z")), None);
        assert_eq!(moment(Some("")), None);
    }

    #[test]
    fn aliases_of_links_are_not_names() {
        let names = ["/web/db".to_owned(), "/db".to_owned()];
        assert_eq!(own_name(&names), Some("db".to_owned()));
    }
}
