//! Ports of a Compose service.

use serde::Deserialize;
use serde_json::{Value, json};

use super::compose_values::Fields;

/// The most ports of a range that are written out one by one.
const PORTS: u32 = 100;

/// Port mappings of a container.
pub(super) fn ports(fields: &mut Fields) -> Vec<Value> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Given {
        Short(String),
        Number(u32),
        Long(Value),
    }
    let mut made = Vec::new();
    for given in fields.take::<Vec<Given>>("ports").unwrap_or_default() {
        match given {
            Given::Number(port) => made.push(json!({ "containerPort": port })),
            Given::Short(text) => {
                match short_port(&text) {
                    Some((ports, ip)) => {
                        if let Some(ip) = ip {
                            fields.lost("ports", &format!("`{text}` publishes on {ip} alone; ECS publishes on every address"));
                        }
                        made.extend(ports);
                    }
                    None => fields.lost("ports", &format!("`{text}` is not understood")),
                }
            }
            Given::Long(value) => {
                let mut port = Fields::of("ports", value);
                let target: Option<u32> = port.take("target");
                let published = port.text("published");
                let protocol = port.text("protocol");
                let name = port.text("name");
                let _: Option<String> = port.take("mode");
                port.give_up("host_ip", "ECS publishes on every address");
                port.give_up("app_protocol", "nothing asks for it");
                match target {
                    Some(target) => {
                        let mut mapping = json!({ "containerPort": target });
                        if let Some(host) = published.as_deref().and_then(|p| p.parse::<u32>().ok())
                        {
                            mapping["hostPort"] = host.into();
                        }
                        if let Some(protocol) = protocol {
                            mapping["protocol"] = protocol.into();
                        }
                        if let Some(name) = name {
                            mapping["name"] = name.into();
                        }
                        made.push(mapping);
                    }
                    None => port.lost("target", "there is none"),
                }
                fields.notes.extend(port.end());
            }
        }
    }
    made
}

/// `[[ip:]host:]container[/protocol]`, each port maybe a range: the mappings, and the address if there is one.
fn short_port(text: &str) -> Option<(Vec<Value>, Option<&str>)> {
    let (ports, protocol) = text.split_once('/').unwrap_or((text, ""));
    let (rest, inside) = match ports.rsplit_once(':') {
        Some((rest, inside)) => (Some(rest), inside),
        None => (None, ports),
    };
    let (ip, outside) = match rest {
        None => (None, None),
        Some(rest) => match rest.rsplit_once(':') {
            Some((ip, outside)) => (Some(ip), Some(outside)),
            None => (None, Some(rest)),
        },
    };
    let range = |text: &str| {
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        let (first, last) = (first.parse::<u32>().ok()?, last.parse::<u32>().ok()?);
        (first <= last && last < 65_536 && last - first < PORTS).then_some(first..=last)
    };
    let inside = range(inside)?;
    let outside = match outside.filter(|o| !o.is_empty()) {
        Some(outside) => Some(range(outside)?),
        None => None,
    };
    if let Some(outside) = &outside
        && outside.clone().count() != inside.clone().count()
    {
        return None;
    }
    let mut made = Vec::new();
    for (i, port) in inside.enumerate() {
        let mut mapping = json!({ "containerPort": port });
        if let Some(host) = outside.clone().and_then(|mut o| o.nth(i)) {
            mapping["hostPort"] = host.into();
        }
        if !protocol.is_empty() {
            mapping["protocol"] = protocol.into();
        }
        made.push(mapping);
    }
    Some((made, ip))
}
