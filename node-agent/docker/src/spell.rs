//! A container spec in Docker's spelling.

use std::collections::HashMap;
use std::time::Duration;

use bollard::models::{
    ContainerCreateBody, DeviceRequest, HealthConfig, HostConfig, PortBinding, PortMap,
    RestartPolicy, RestartPolicyNameEnum,
};

use tallyman_agent_engine::{
    ContainerSpec, HealthCheck, Link, Mount, MountSource, Network, PortSpec, VolumesFrom,
};

use crate::parameters;

/// The body of a create call. Destructures without `..`: a new field of the spec must be spelled here.
pub(crate) fn body(spec: &ContainerSpec) -> ContainerCreateBody {
    let ContainerSpec {
        name: _, // goes into the query
        image,
        entrypoint,
        command,
        environment,
        secrets,
        labels,
        cpu_shares,
        memory_bytes,
        memory_reservation_bytes,
        cpu_quota,
        group,
        runtime,
        gpus,
        ports,
        network,
        links,
        user,
        working_directory,
        mounts,
        volumes_from,
        stop_timeout,
        health_check,
        parameters,
    } = spec;
    let published = match network {
        Network::Bridge => ports.as_slice(),
        Network::Host | Network::None | Network::Named(_) | Network::Container(_) => &[],
    };
    let mut body = ContainerCreateBody {
        image: Some(image.clone()),
        entrypoint: entrypoint.clone(),
        cmd: command.clone(),
        env: Some(
            environment
                .iter()
                .map(|(name, value)| (name, value.as_str()))
                .chain(secrets.iter().map(|(name, value)| (name, value.expose())))
                .map(|(name, value)| format!("{name}={value}"))
                .collect(),
        ),
        labels: Some(labels.clone().into_iter().collect()),
        user: user.clone(),
        working_dir: working_directory.clone(),
        stop_timeout: stop_timeout.map(whole_seconds),
        healthcheck: health_check.as_ref().map(health),
        exposed_ports: Some(exposed(published)),
        ..ContainerCreateBody::default()
    };
    let mut host = HostConfig {
        cpu_shares: *cpu_shares,
        memory: *memory_bytes,
        memory_reservation: *memory_reservation_bytes,
        cpu_quota: cpu_quota.map(|cpu| micros(cpu.quota)),
        cpu_period: cpu_quota.map(|cpu| micros(cpu.period)),
        // Absolute: below the root of control groups, whatever the engine's own parent is.
        cgroup_parent: group.as_ref().map(|name| format!("/{name}")),
        runtime: runtime.clone(),
        device_requests: (!gpus.is_empty()).then(|| vec![gpu_request(gpus)]),
        network_mode: Some(network_mode(network)),
        links: Some(links_of(network, links)).filter(|links| !links.is_empty()),
        port_bindings: Some(bindings(published)),
        binds: Some(mounts.iter().map(bind).collect()),
        volumes_from: Some(volumes_from.iter().map(from).collect()),
        restart_policy: Some(RestartPolicy {
            name: Some(RestartPolicyNameEnum::NO),
            maximum_retry_count: None,
        }),
        auto_remove: Some(false),
        ..HostConfig::default()
    };
    parameters::add(parameters, *memory_bytes, &mut body, &mut host);
    body.host_config = Some(host);
    body
}

fn micros(span: Duration) -> i64 {
    i64::try_from(span.as_micros()).unwrap_or(i64::MAX)
}

/// As `docker run --gpus device=...` asks, with the driver by name: another vendor's may know the same capability.
fn gpu_request(ids: &[String]) -> DeviceRequest {
    DeviceRequest {
        driver: Some("nvidia".to_owned()),
        // By id and by count exclude each other.
        count: None,
        device_ids: Some(ids.to_vec()),
        capabilities: Some(vec![vec!["gpu".to_owned()]]),
        options: None,
    }
}

/// `/srv/data:/data:ro`, `volume:/data`. Not Docker's `Mounts`: only for a bind it makes the directory of
/// the host that is missing, and so does ECS ask it.
fn bind(mount: &Mount) -> String {
    let Mount {
        source,
        path,
        read_only,
    } = mount;
    let source = match source {
        MountSource::HostPath(path) => path,
        MountSource::Volume(name) => name,
    };
    format!("{source}:{path}{}", if *read_only { ":ro" } else { "" })
}

/// `container:ro`
fn from(other: &VolumesFrom) -> String {
    let VolumesFrom {
        container,
        read_only,
    } = other;
    format!("{container}{}", if *read_only { ":ro" } else { "" })
}

fn network_mode(network: &Network) -> String {
    match network {
        Network::Bridge => "bridge".to_owned(),
        Network::Host => "host".to_owned(),
        Network::None => "none".to_owned(),
        Network::Named(name) => name.clone(),
        Network::Container(name) => format!("container:{name}"),
    }
}

/// `other:alias`
fn links_of(network: &Network, links: &[Link]) -> Vec<String> {
    match network {
        Network::Bridge => links
            .iter()
            .map(|link| format!("{}:{}", link.container, link.alias))
            .collect(),
        Network::Host | Network::None | Network::Named(_) | Network::Container(_) => Vec::new(),
    }
}

/// `80/tcp`
fn key(port: &PortSpec) -> String {
    format!("{}/{}", port.container_port, port.protocol)
}

fn exposed(ports: &[PortSpec]) -> Vec<String> {
    let mut keys: Vec<String> = ports.iter().map(key).collect();
    keys.sort();
    keys.dedup();
    keys
}

fn bindings(ports: &[PortSpec]) -> PortMap {
    let mut map: PortMap = HashMap::new();
    for port in ports {
        let binding = PortBinding {
            host_ip: port.host_ip.map(|address| address.to_string()),
            host_port: port.host_port.map(|number| number.to_string()),
        };
        map.entry(key(port))
            .or_default()
            .get_or_insert_default()
            .push(binding);
    }
    map
}

fn health(check: &HealthCheck) -> HealthConfig {
    let HealthCheck {
        test,
        interval,
        timeout,
        retries,
        start_period,
    } = check;
    HealthConfig {
        test: Some(test.clone()),
        interval: Some(nanoseconds(*interval)),
        timeout: Some(nanoseconds(*timeout)),
        retries: Some(i64::from(*retries)),
        start_period: start_period.map(nanoseconds),
        start_interval: None,
    }
}

fn nanoseconds(span: Duration) -> i64 {
    i64::try_from(span.as_nanos()).unwrap_or(i64::MAX)
}

/// Rounded up: half a second of grace is not none.
pub(crate) fn whole_seconds(span: Duration) -> i64 {
    i64::try_from(span.as_millis().div_ceil(1000)).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tallyman_agent_engine::Protocol;

    #[test]
    fn one_container_port_may_have_several_host_ports() {
        let port = |host_port| PortSpec {
            container_port: 80,
            host_port,
            protocol: Protocol::Tcp,
            host_ip: None,
        };
        let mut spec = ContainerSpec::new("a", "b");
        spec.ports = vec![port(Some(8080)), port(None)];
        let body = body(&spec);
        assert_eq!(body.exposed_ports, Some(vec!["80/tcp".to_owned()]));
        let bindings = body.host_config.and_then(|host| host.port_bindings);
        let bindings = bindings.and_then(|map| map.get("80/tcp").cloned().flatten());
        let ports: Vec<_> = bindings
            .into_iter()
            .flatten()
            .map(|one| one.host_port)
            .collect();
        assert_eq!(ports, [Some("8080".to_owned()), None]);
    }

    #[test]
    fn mounts_are_binds_and_read_only_is_said() {
        let mut spec = ContainerSpec::new("a", "b");
        let mount = |source, read_only| Mount {
            source,
            path: "/data".to_owned(),
            read_only,
        };
        spec.mounts = vec![
            mount(MountSource::HostPath("/srv".to_owned()), true),
            mount(MountSource::Volume("v1".to_owned()), false),
        ];
        spec.volumes_from = [true, false]
            .map(|read_only| VolumesFrom {
                container: "web".to_owned(),
                read_only,
            })
            .to_vec();
        let host = body(&spec).host_config.unwrap_or_default();
        let binds = host.binds.unwrap_or_default();
        assert_eq!(binds, ["/srv:/data:ro", "v1:/data"]);
        assert_eq!(host.volumes_from.unwrap_or_default(), ["web:ro", "web"]);
    }

    #[test]
    fn gpus_are_one_device_request_by_id_and_none_without() {
        let mut spec = ContainerSpec::new("a", "b");
        let asked = |spec: &ContainerSpec| body(spec).host_config.unwrap_or_default();
        assert_eq!(asked(&spec).device_requests, None);
        spec.gpus = vec!["GPU-1".to_owned(), "GPU-2".to_owned()];
        let spelled = serde_json::to_value(asked(&spec).device_requests).unwrap();
        let wanted = serde_json::json!([{
            "Driver": "nvidia", "DeviceIDs": ["GPU-1", "GPU-2"], "Capabilities": [["gpu"]],
        }]);
        assert_eq!(spelled, wanted);
    }

    #[test]
    fn parts_of_seconds_round_up() {
        for (millis, seconds) in [(0, 0), (1, 1), (1000, 1), (1001, 2)] {
            assert_eq!(whole_seconds(Duration::from_millis(millis)), seconds);
        }
    }
}
