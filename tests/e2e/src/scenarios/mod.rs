//! The promises, by what they are about.

mod deploy;
mod explain;
mod failures;
mod firelens;
mod gpus;
mod hosts;
mod metadata;
mod network;
mod order;
mod parameters;
mod protection;
mod readers;
mod resources;
mod secrets;
mod standalone;
mod volumes;

use crate::suite::Scenario;

/// Every scenario.
pub fn all() -> Vec<Scenario> {
    [
        deploy::SCENARIOS,
        failures::SCENARIOS,
        firelens::SCENARIOS,
        explain::SCENARIOS,
        standalone::SCENARIOS,
        gpus::SCENARIOS,
        hosts::SCENARIOS,
        metadata::SCENARIOS,
        network::SCENARIOS,
        order::SCENARIOS,
        parameters::SCENARIOS,
        protection::SCENARIOS,
        readers::SCENARIOS,
        resources::SCENARIOS,
        secrets::SCENARIOS,
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
