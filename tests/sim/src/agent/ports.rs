//! Ports of a host, as the agent finds them.

use std::sync::{Mutex, PoisonError};

use tallyman_agent_core::{DynamicPorts, PortRange, PortSource, PortSpan};
use tallyman_agent_engine::fake::FakeEngine;
use tallyman_agent_engine::{EngineError, PortSpec};

/// Free ports of a fake host. They are chosen from few, so that tasks get into each other's way.
pub(super) struct Ports {
    engine: FakeEngine,
    dynamic: Mutex<DynamicPorts>,
}

impl Ports {
    pub(super) fn new(engine: &FakeEngine) -> Self {
        let dynamic = DynamicPorts::new(PortRange {
            first: 40_000,
            last: 40_019,
        });
        Self {
            engine: engine.clone(),
            dynamic: Mutex::new(dynamic),
        }
    }
}

impl PortSource for Ports {
    fn choose(&self, wishes: &[PortSpan]) -> Result<Vec<PortSpec>, EngineError> {
        let free = |port, protocol| self.engine.is_port_free(port, protocol);
        let mut dynamic = self.dynamic.lock().unwrap_or_else(PoisonError::into_inner);
        dynamic.choose(wishes, free)
    }
}
