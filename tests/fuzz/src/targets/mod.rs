//! The targets: what is read from people, files, containers and networks, and what decides about it.

mod cores;
mod host;
mod operator;
mod tools;

/// One target.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Its name, also of its folder in `tests/fuzz/corpus` and of its wrapper in `fuzz/fuzz_targets`.
    pub name: &'static str,
    /// Panics when something is wrong.
    pub run: fn(&[u8]),
    /// Mutations of each entry of the corpus in the smoke run: few where one costs much.
    pub smoke: u64,
}

/// All of them.
pub const TARGETS: &[Target] = &[
    target("agent_core", cores::agent, 40),
    target("agent_settings", host::settings, 400),
    target("both_cores", cores::both, 4),
    target("compose_and_manifests", tools::convert, 200),
    target("container_requests", host::container_requests, 2000),
    target("host_files", host::files, 1000),
    target("images_and_registries", host::registries, 2000),
    target("joining", tools::joining, 400),
    target("placement_query", operator::query, 2000),
    target("quantities_and_references", operator::texts, 2000),
    target("schedule", operator::schedule, 400),
    target("stored_objects", operator::objects, 200),
];

const fn target(name: &'static str, run: fn(&[u8]), smoke: u64) -> Target {
    Target { name, run, smoke }
}

/// Bytes as text; a target of texts has nothing to say of others.
fn text(bytes: &[u8]) -> Option<&str> {
    std::str::from_utf8(bytes).ok()
}

/// The first line, and the rest.
fn first_line(text: &str) -> (&str, &str) {
    text.split_once('\n').unwrap_or((text, ""))
}
