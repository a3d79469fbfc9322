//! The promises, by what they are about.

mod attack;
mod bad_input;
mod chaos;
mod daemons;
mod deploy;
mod disconnect;
mod engines;
mod explain;
mod failures;
mod fault_injection;
mod firelens;
mod gitops;
mod gpus;
mod guide;
mod hands;
mod hosts;
mod jobs;
mod joins;
mod log_drivers;
mod metadata;
mod metrics;
mod network;
mod order;
mod parameters;
mod placement;
mod plugin;
mod plugin_output;
mod plugin_shells;
mod protection;
mod readers;
mod registries;
mod resources;
pub(crate) mod rogue;
mod rollouts;
mod scaling;
pub(crate) mod secrets;
mod standalone;
mod task_sets;
mod tour;
pub(crate) mod traces;
mod unreadable;
mod volumes;

use crate::suite::{Joining, Lane, Scenario};

/// What is about containers, and so about engines.
const OF_BOTH_ENGINES: &[&[Scenario]] = &[
    deploy::SCENARIOS,
    engines::SCENARIOS,
    explain::SCENARIOS,
    failures::SCENARIOS,
    fault_injection::SCENARIOS,
    firelens::SCENARIOS,
    standalone::SCENARIOS,
    gpus::SCENARIOS,
    guide::SCENARIOS,
    hands::SCENARIOS,
    hosts::SCENARIOS,
    log_drivers::SCENARIOS,
    metadata::SCENARIOS,
    network::SCENARIOS,
    order::SCENARIOS,
    parameters::SCENARIOS,
    placement::SCENARIOS,
    protection::SCENARIOS,
    readers::SCENARIOS,
    registries::SCENARIOS,
    resources::SCENARIOS,
    secrets::SCENARIOS,
    volumes::SCENARIOS,
];

/// What operator and agents decide, whatever the engine.
const OF_ONE: &[&[Scenario]] = &[
    attack::SCENARIOS,
    bad_input::SCENARIOS,
    chaos::SCENARIOS,
    daemons::SCENARIOS,
    disconnect::SCENARIOS,
    gitops::SCENARIOS,
    hosts::ACCOUNTS,
    jobs::SCENARIOS,
    metrics::SCENARIOS,
    parameters::PRIVILEGED,
    placement::TOLD,
    plugin::SCENARIOS,
    plugin_output::SCENARIOS,
    plugin_shells::SCENARIOS,
    rogue::SCENARIOS,
    rollouts::SCENARIOS,
    scaling::SCENARIOS,
    task_sets::SCENARIOS,
    tour::SCENARIOS,
    unreadable::SCENARIOS,
];

/// Every scenario of a lane in which a host joins.
pub fn joining(lane: Lane) -> Vec<Joining> {
    match lane {
        Lane::Debian2010 | Lane::Current => daemons::joining(),
        Lane::Deciding => joins::joining(),
    }
}

/// Every other scenario of a lane. The lanes end at about the same time.
pub fn all(lane: Lane) -> Vec<Scenario> {
    let lists = match lane {
        Lane::Debian2010 | Lane::Current => OF_BOTH_ENGINES,
        Lane::Deciding => OF_ONE,
    };
    let all = lists.iter().copied().flatten();
    all.map(|s| Scenario {
        name: s.name,
        run: s.run,
    })
    .collect()
}
