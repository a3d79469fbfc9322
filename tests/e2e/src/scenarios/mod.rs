//! The promises, by what they are about.

mod daemons;
mod deploy;
mod engines;
mod explain;
mod failures;
mod fault_injection;
mod firelens;
mod gitops;
mod gpus;
mod hosts;
mod jobs;
mod joins;
mod metadata;
mod metrics;
mod network;
mod order;
mod parameters;
mod placement;
mod plugin;
mod protection;
mod readers;
mod resources;
mod rogue;
mod rollouts;
mod secrets;
mod standalone;
mod task_sets;
mod tour;
mod volumes;

use crate::suite::{Joining, Scenario};

/// Every scenario in which a host joins.
pub fn joining() -> Vec<Joining> {
    daemons::joining()
        .into_iter()
        .chain(joins::joining())
        .collect()
}

/// Every scenario.
pub fn all() -> Vec<Scenario> {
    [
        daemons::SCENARIOS,
        deploy::SCENARIOS,
        engines::SCENARIOS,
        failures::SCENARIOS,
        fault_injection::SCENARIOS,
        firelens::SCENARIOS,
        explain::SCENARIOS,
        standalone::SCENARIOS,
        gitops::SCENARIOS,
        gpus::SCENARIOS,
        hosts::SCENARIOS,
        jobs::SCENARIOS,
        metadata::SCENARIOS,
        metrics::SCENARIOS,
        network::SCENARIOS,
        order::SCENARIOS,
        parameters::SCENARIOS,
        placement::SCENARIOS,
        plugin::SCENARIOS,
        protection::SCENARIOS,
        readers::SCENARIOS,
        resources::SCENARIOS,
        rogue::SCENARIOS,
        rollouts::SCENARIOS,
        secrets::SCENARIOS,
        task_sets::SCENARIOS,
        tour::SCENARIOS,
        volumes::SCENARIOS,
    ]
    .into_iter()
    .flat_map(|list| {
        list.iter().map(|s| Scenario {
            name: s.name,
            run: s.run,
        })
    })
    .collect()
}
