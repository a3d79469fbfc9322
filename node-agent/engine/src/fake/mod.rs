//! An engine in memory, deterministic and in virtual time.
//!
//! Why: the agent must be tested against engines that lose images, time out after the deed, break
//! off, or die at the k-th call; and a whole fleet must run in one thread under one seed.
//!
//! Where: behind the same port and the same conformance suite as a real engine. [`FakeEngine`] is a
//! handle; clones share one engine, so the test keeps one and gives the agent another. The test moves
//! time ([`FakeEngine::advance`]), scripts programs ([`Program`]), images and faults ([`Mishap`],
//! [`Crash`]), acts behind the agent's back, and reads the call log.
//!
//! Never: no clock, no thread, no randomness, nothing depends on the order of a hash map. Futures are
//! ready when first polled (except [`FakeEngine::hold_stops`]).

mod calls;
mod engine;
mod groups;
mod images;
mod ports;
mod program;
mod refusals;
mod script;
mod sight;
mod volumes;
mod world;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

pub use calls::{Call, Crash, Mishap, Outcome};
pub use images::RegistryMood;
pub use program::{OnStop, Program};

use world::World;

/// A handle to an engine in memory; clones share the engine.
#[derive(Clone, Debug)]
pub struct FakeEngine {
    world: Arc<Mutex<World>>,
}

impl FakeEngine {
    /// An engine of 4 processors and 8 GiB at time zero. `host` makes its ids differ from those of
    /// other fakes. Every image reference can be pulled until told otherwise, every program runs until
    /// stopped and honours SIGTERM.
    pub fn new(host: &str) -> Self {
        Self {
            world: Arc::new(Mutex::new(World::new(host))),
        }
    }

    /// A panic elsewhere while the lock was held does not make the engine's state unusable: the test
    /// that panicked fails anyway, and others share nothing with it.
    fn lock(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
