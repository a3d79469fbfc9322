//! Port mappings of a task definition: what is wrong with them, and what they take from a host (ECS PortMapping).

use std::collections::BTreeSet;

use tallyman_crds::ecs::{ContainerDefinition, NetworkMode, PortMapping, TransportProtocol};

use tallyman_crds::quantity::port_range;

use crate::problem::Problem;

/// ECS's most ranges of one container.
const MOST_RANGES: usize = 100;

/// Ports in the container, from the first to the last.
type Span = (TransportProtocol, u16, u16);

/// Adds what is wrong with the port mappings of a container.
pub(crate) fn check(
    c: &ContainerDefinition,
    mode: Option<NetworkMode>,
    problems: &mut Vec<Problem>,
) {
    let at = |field: &str| format!("spec.containerDefinitions[{}].{field}", c.name);
    if mode == Some(NetworkMode::None) && !c.port_mappings.is_empty() {
        problems.push(Problem::new(
            at("portMappings"),
            "must be empty when `networkMode` is `none`",
        ));
    }
    let mut single = BTreeSet::new();
    for m in &c.port_mappings {
        let Some(port) = port(m.container_port) else {
            if m.container_port_range.is_none() {
                problems.push(Problem::new(
                    at("portMappings.containerPort"),
                    "must be 1 to 65535",
                ));
            }
            continue;
        };
        if !single.insert((port, protocol(m), m.host_port.unwrap_or(0))) {
            problems.push(Problem::new(
                at("portMappings.containerPort"),
                format!(
                    "{port} must be published only once with the same `protocol` and `hostPort`"
                ),
            ));
        }
        let own = match mode {
            Some(NetworkMode::Host) => Some("host"),
            Some(NetworkMode::Awsvpc) => Some("awsvpc"),
            Some(NetworkMode::Bridge | NetworkMode::None) | None => None,
        };
        match (m.host_port, own) {
            (Some(h), _) if !(0..=65535).contains(&h) => {
                problems.push(Problem::new(
                    at("portMappings.hostPort"),
                    "must be 0 to 65535",
                ));
            }
            (Some(h), Some(mode)) if h != 0 && h != i32::from(port) => {
                problems.push(Problem::new(
                    at("portMappings.hostPort"),
                    format!("must be absent or equal to `containerPort` ({port}) when `networkMode` is `{mode}`, not {h}"),
                ));
            }
            _ => {}
        }
    }
    check_ranges(c, mode, problems);
}

/// ECS PortMapping, `containerPortRange`.
fn check_ranges(c: &ContainerDefinition, mode: Option<NetworkMode>, problems: &mut Vec<Problem>) {
    let field = format!(
        "spec.containerDefinitions[{}].portMappings.containerPortRange",
        c.name
    );
    let mut wrong = |message: String| problems.push(Problem::new(field.as_str(), message));
    let mut spans: Vec<Span> = Vec::new();
    let mut count = 0;
    for m in &c.port_mappings {
        let Some(text) = &m.container_port_range else {
            spans.extend(port(m.container_port).map(|port| (protocol(m), port, port)));
            continue;
        };
        count += 1;
        if m.container_port.is_some() || m.host_port.is_some_and(|port| port != 0) {
            wrong("must stand without `containerPort` and `hostPort` in its mapping".to_owned());
        }
        let Some(span) = span(text, protocol(m)) else {
            wrong(format!(
                "must be `first-last` with 1 <= first <= last <= 65535, not '{text}'"
            ));
            continue;
        };
        spans.push(span);
    }
    if count == 0 {
        return;
    }
    if count > MOST_RANGES {
        wrong(format!(
            "must be given at most {MOST_RANGES} times, not {count}"
        ));
    }
    if mode == Some(NetworkMode::Host) {
        wrong(
            "must be absent when `networkMode` is `host`; it is for `bridge` and `awsvpc`"
                .to_owned(),
        );
    }
    if !c.links.is_empty() {
        wrong("must be absent when the container has `links`".to_owned());
    }
    // A single port may be published several times; a range shares none of its ports.
    spans.sort_unstable();
    let shared = spans
        .windows(2)
        .filter(|pair| pair[0].1 != pair[0].2 || pair[1].1 != pair[1].2)
        .find(|pair| pair[0].0 == pair[1].0 && pair[0].2 >= pair[1].1);
    if let Some([_, (_, first, last)]) = shared {
        wrong(format!(
            "must not overlap another mapping of the container, as {first}-{last} does"
        ));
    }
}

fn span(text: &str, protocol: TransportProtocol) -> Option<Span> {
    port_range(text).map(|(first, last)| (protocol, first, last))
}

fn port(number: Option<i32>) -> Option<u16> {
    u16::try_from(number?).ok().filter(|port| *port > 0)
}

fn protocol(m: &PortMapping) -> TransportProtocol {
    m.protocol.unwrap_or(TransportProtocol::Tcp)
}
