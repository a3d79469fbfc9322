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
mod protection;
mod readers;
mod registries;
mod resources;
pub(crate) mod rogue;
mod rollouts;
pub(crate) mod secrets;
mod standalone;
mod task_sets;
mod tour;
pub(crate) mod traces;
mod unreadable;
mod volumes;

use tallyman_lab::EngineGeneration;

use crate::suite::{Joining, Scenario};

/// Every scenario in which a host joins.
pub fn joining(generation: EngineGeneration) -> Vec<Joining> {
    let joins = match generation {
        EngineGeneration::Current => joins::joining(),
        EngineGeneration::Debian2010 => Vec::new(),
    };
    daemons::joining().into_iter().chain(joins).collect()
}

/// Every scenario that is for engines of `generation`: those about containers are for both, those about what operator and
/// agent decide are for one of them, so that both labs end at about the same time.
pub fn all(generation: EngineGeneration) -> Vec<Scenario> {
    let of_one: &[&[Scenario]] = match generation {
        EngineGeneration::Current => &[
            attack::SCENARIOS,
            bad_input::SCENARIOS,
            disconnect::SCENARIOS,
            explain::SCENARIOS,
            gitops::SCENARIOS,
            parameters::PRIVILEGED,
            rogue::SCENARIOS,
            rollouts::SCENARIOS,
            task_sets::SCENARIOS,
            unreadable::SCENARIOS,
        ],
        EngineGeneration::Debian2010 => &[
            chaos::SCENARIOS,
            daemons::SCENARIOS,
            hosts::ACCOUNTS,
            jobs::SCENARIOS,
            metrics::SCENARIOS,
            placement::TOLD,
            plugin::SCENARIOS,
            tour::SCENARIOS,
        ],
    };
    let of_both = [
        deploy::SCENARIOS,
        engines::SCENARIOS,
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
    let lists = of_both.iter().chain(of_one).copied();
    lists
        .flat_map(|list| {
            list.iter().map(|s| Scenario {
                name: s.name,
                run: s.run,
            })
        })
        .collect()
}
