//! GPUs, on engines that may have none: the request is what can be seen everywhere.

use crate::conformance::bench::{Bench, Ground, Program, unexpected};
use crate::conformance::{Verdict, ensure};
use crate::{Engine, EngineError};

/// Ids that no machine has.
const IDS: [&str; 2] = [
    "GPU-00000000-0000-0000-0000-00000000000a",
    "GPU-00000000-0000-0000-0000-00000000000b",
];

/// The engine is asked for these very ones, and for none when there are none. Without the vendor's driver it creates
/// the container and does not start it.
pub(super) async fn gpus_are_asked_for_by_id<B: Bench>(ground: &Ground<'_, B>) -> Verdict {
    let plain = ground.spec("plain", &Program::Runs);
    ground.launch(&plain).await?;
    let settings = ground.bench.settings(&plain.name).await?;
    ensure!(settings.gpus.is_empty(), "gpus: {settings:?}");
    let mut spec = ground.spec("gpus", &Program::Runs);
    spec.gpus = IDS.map(str::to_owned).into();
    ground.create(&spec).await?;
    let settings = ground.bench.settings(&spec.name).await?;
    ensure!(settings.gpus == IDS, "gpus: {settings:?}");
    match ground.engine().start(&spec.name).await {
        Err(EngineError::NoDeviceDriver { message }) => {
            ensure!(message.contains("gpu"), "the words: {message}");
        }
        // A machine with the driver has other ids.
        Err(EngineError::CannotStart { .. }) => {}
        answer => return Err(unexpected(&answer, "a driver that is missing")),
    }
    let state = ground.state(&spec.name).await?;
    ensure!(state.started_at.is_none(), "it ran: {state:?}");
    Ok(())
}

pub(super) async fn an_unknown_runtime_is_invalid<B: Bench>(ground: &Ground<'_, B>) -> Verdict {
    let mut spec = ground.spec("a", &Program::Runs);
    spec.runtime = Some("fly".to_owned());
    match ground.engine().create(&spec).await {
        Err(EngineError::InvalidSpec { message }) => {
            ensure!(message.contains("fly"), "the words: {message}");
            Ok(())
        }
        answer => Err(unexpected(&answer, "a runtime that is unknown")),
    }
}
