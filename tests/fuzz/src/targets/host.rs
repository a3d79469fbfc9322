//! What an agent reads from its host and from containers.

use std::collections::BTreeMap;

use jiff::Timestamp;
use tallyman_agent_core::fault_injection::{Act, Kind, Request};
use tallyman_agent_core::metadata::{key, protection, resolver, route};
use tallyman_agent_core::registries::Registries;
use tallyman_agent_core::volumes::NfsExport;
use tallyman_agent_core::{GpuInfo, PortRange, Settings};
use tallyman_agent_engine::{Reference, is_plausible};

use super::{first_line, text};

/// Lines `VARIABLE=value`, then an empty line and the configuration file.
pub fn settings(bytes: &[u8]) {
    let Some(text) = text(bytes) else { return };
    let (lines, file) = match text.split_once("\n\n") {
        Some((lines, file)) => (lines, Some(file)),
        None => (text, None),
    };
    let variables: BTreeMap<String, String> = lines
        .lines()
        .filter_map(|line| line.split_once('='))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    if let Err(bad) = Settings::parse_with_file(&variables, file) {
        assert!(!bad.sentences.is_empty(), "a refusal says why");
    }
}

/// Files of the host: the GPUs that somebody wrote down, what the driver shows, `resolv.conf`, ranges of ports, exports.
pub fn files(bytes: &[u8]) {
    let Some(text) = text(bytes) else { return };
    let (head, tail) = first_line(text);
    let mut gpus = GpuInfo::of_file("/file", text, "/run/mps-ecs");
    gpus.looked(true);
    assert!(
        !gpus.are_shared() || gpus.ids.iter().all(|id| gpus.memory.contains_key(id)),
        "{gpus:?}"
    );
    let _ = GpuInfo::of_driver(Some(head), &[tail.to_owned()]);
    let _ = resolver::Resolver::read(text);
    if let Some(range) = PortRange::parse(text) {
        assert!(range.first > 0 && range.first <= range.last, "{text}");
    }
    if let Some(export) = NfsExport::parse(text) {
        assert!(
            export.path.starts_with('/') && !export.path.contains("/../"),
            "{text}"
        );
    }
}

/// An image, then on more lines what holds credentials.
pub fn registries(bytes: &[u8]) {
    let Some(text) = text(bytes) else { return };
    let (image, config) = first_line(text);
    let reference = Reference::split(image);
    assert!(
        image.is_empty()
            || image.ends_with('@')
            || image.ends_with(':')
            || !reference.version.is_empty()
    );
    let _ = reference.registry();
    if is_plausible(image) {
        assert!(
            !image.contains(['?', '#', ' ']) && !image.contains(".."),
            "{image}"
        );
    }
    for registries in [Registries::read(config), Registries::of_config(config)]
        .into_iter()
        .flatten()
    {
        let _ = registries.of(image);
    }
}

/// What containers send: a path on the first line, a body after it.
pub fn container_requests(bytes: &[u8]) {
    let end = bytes
        .iter()
        .position(|b| *b == b'\n')
        .unwrap_or(bytes.len());
    let (head, body) = bytes.split_at(end);
    let body = body.get(1..).unwrap_or_default();
    if let Some(path) = text(head) {
        let _ = route::read(path);
        let _ = key::read(path);
    }
    let _ = protection::read(body, Timestamp::UNIX_EPOCH);
    for kind in [Kind::BlackHolePort, Kind::Latency, Kind::PacketLoss] {
        for act in [Act::Start, Act::Stop, Act::Status] {
            let _ = Request::read(kind, act, body);
        }
    }
}
