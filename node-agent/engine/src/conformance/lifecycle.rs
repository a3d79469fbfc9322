//! From create to remove.

use std::time::Duration;

use crate::conformance::bench::{Bench, Ground, Program, told, unexpected};
use crate::conformance::health::check;
use crate::conformance::{Verdict, ensure};
use crate::{ContainerSpec, ContainerState, Engine, EngineError, Health, Phase, PhaseKind};

const GRACE: Duration = Duration::from_secs(10);

pub(super) async fn describes_engine_and_host<B: Bench>(ground: &Ground<'_, B>) -> Verdict {
    let told = ground.engine().describe().await.map_err(told("describe"))?;
    ensure!(!told.version.is_empty(), "no version in {told:?}");
    ensure!(told.api_version.contains('.'), "no API version in {told:?}");
    ensure!(told.cpus > 0, "no processors in {told:?}");
    ensure!(told.memory_mib > 0, "no memory in {told:?}");
    ensure!(told.os_type == "linux", "not linux: {told:?}");
    ensure!(!told.architecture.is_empty(), "no architecture in {told:?}");
    ensure!(
        told.logging_drivers.iter().any(|one| one == "json-file"),
        "no log driver json-file in {told:?}"
    );
    Ok(())
}

pub(super) async fn runs_from_create_to_remove<B: Bench>(ground: &Ground<'_, B>) -> Verdict {
    let spec = ground.spec("a", &Program::Runs);
    let name = &spec.name;
    let created = ground
        .engine()
        .create(&spec)
        .await
        .map_err(told("create"))?;
    ensure!(!created.adopted, "a new container is not adopted");
    let state = ground.state(name).await?;
    ensure!(
        state.id == created.container_id,
        "the id differs: {state:?}"
    );
    ensure!(state.name == *name, "the name differs: {state:?}");
    ensure!(state.image == spec.image, "the image differs: {state:?}");
    ensure!(
        state.image_id.starts_with("sha256:"),
        "no image id: {state:?}"
    );
    ensure!(
        state.phase == Phase::Created,
        "it is not created: {state:?}"
    );
    ensure!(state.created_at.is_some(), "no time of creation: {state:?}");
    ensure!(state.started_at.is_none(), "a start is told: {state:?}");
    ground.start(name).await?;
    let state = ground.state(name).await?;
    ensure!(
        matches!(
            state.phase,
            Phase::Running {
                started_at: Some(_)
            }
        ),
        "it does not run: {state:?}"
    );
    ensure!(
        state.started_at >= state.created_at,
        "times differ: {state:?}"
    );
    ensure!(state.pid.is_some(), "it has no process: {state:?}");
    ground.stop(name, GRACE).await?;
    let state = ground.state(name).await?;
    ensure!(code(&state) == Some(0), "it did not end with 0: {state:?}");
    ensure!(state.pid.is_none(), "it has a process: {state:?}");
    ground.remove(name).await?;
    ensure!(ground.look(name).await?.is_none(), "{name} is still there");
    Ok(())
}

pub(super) async fn every_verb_twice_is_fine<B: Bench>(ground: &Ground<'_, B>) -> Verdict {
    let spec = ground.spec("a", &Program::Runs);
    let name = &spec.name;
    let first = ground
        .engine()
        .create(&spec)
        .await
        .map_err(told("create"))?;
    let again = ground
        .engine()
        .create(&spec)
        .await
        .map_err(told("create"))?;
    ensure!(again.adopted, "the second create did not adopt");
    ensure!(first.container_id == again.container_id, "two containers");
    ground.start(name).await?;
    let started = ground.state(name).await?.started_at;
    ground.start(name).await?;
    let restarted = ground.state(name).await?.started_at;
    ensure!(started == restarted, "the second start restarted it");
    ground.stop(name, GRACE).await?;
    ground.stop(name, GRACE).await?;
    ground.remove(name).await?;
    ground.remove(name).await
}

pub(super) async fn absent_container_is_told_as_such<B: Bench>(ground: &Ground<'_, B>) -> Verdict {
    let name = &ground.name("nobody");
    ensure!(ground.look(name).await?.is_none(), "{name} exists");
    ground.stop(name, GRACE).await?;
    ground.remove(name).await?;
    match ground.engine().start(name).await {
        Err(EngineError::NotFound { name: told }) if told == *name => Ok(()),
        answer => Err(unexpected(&answer, "not found")),
    }
}

pub(super) async fn reports_exit_codes<B: Bench>(ground: &Ground<'_, B>) -> Verdict {
    for exit_code in [0_u8, 1, 77, 255] {
        let spec = ground.spec(
            &format!("code{exit_code}"),
            &Program::Exits {
                code: exit_code,
                after: Duration::from_millis(300),
            },
        );
        ground.launch(&spec).await?;
        let state = ground.until_exited(&spec.name).await?;
        ensure!(
            code(&state) == Some(i64::from(exit_code)),
            "it did not end with {exit_code}: {state:?}"
        );
        ensure!(
            matches!(state.phase, Phase::Exited { finished_at: Some(at), oom_killed: false, .. }
                if Some(at) >= state.started_at),
            "no time of its end: {state:?}"
        );
    }
    Ok(())
}

pub(super) async fn exited_container_starts_again<B: Bench>(ground: &Ground<'_, B>) -> Verdict {
    let after = Duration::from_millis(300);
    let spec = ground.spec("a", &Program::Exits { code: 3, after });
    ground.launch(&spec).await?;
    let first = ground.until_exited(&spec.name).await?;
    ground.start(&spec.name).await?;
    let second = ground.until_exited(&spec.name).await?;
    ensure!(first.id == second.id, "the id changed");
    ensure!(
        first.started_at < second.started_at,
        "it did not start again"
    );
    ensure!(
        code(&second) == Some(3),
        "it did not end with 3: {second:?}"
    );
    Ok(())
}

pub(super) async fn stop_honoured_ends_with_the_programs_code<B: Bench>(
    ground: &Ground<'_, B>,
) -> Verdict {
    let spec = ground.spec("a", &Program::Runs);
    launch_ready(ground, spec.clone()).await?;
    ground.stop(&spec.name, Duration::from_secs(30)).await?;
    let state = ground.state(&spec.name).await?;
    ensure!(code(&state) == Some(0), "it did not end with 0: {state:?}");
    ensure!(
        lasted(&state) < Duration::from_secs(20),
        "the stop waited: {state:?}"
    );
    Ok(())
}

pub(super) async fn stop_ignored_ends_with_137_after_the_grace<B: Bench>(
    ground: &Ground<'_, B>,
) -> Verdict {
    let grace = Duration::from_secs(2);
    let spec = ground.spec("a", &Program::IgnoresStop);
    launch_ready(ground, spec.clone()).await?;
    ground.stop(&spec.name, grace).await?;
    let state = ground.state(&spec.name).await?;
    ensure!(code(&state) == Some(137), "it was not killed: {state:?}");
    ensure!(lasted(&state) >= grace, "it had no grace: {state:?}");
    Ok(())
}

pub(super) async fn stop_of_created_container_is_fine<B: Bench>(ground: &Ground<'_, B>) -> Verdict {
    let spec = ground.spec("a", &Program::Runs);
    ground.create(&spec).await?;
    ground.stop(&spec.name, GRACE).await?;
    let state = ground.state(&spec.name).await?;
    ensure!(
        state.phase == Phase::Created,
        "it is not created: {state:?}"
    );
    ground.remove(&spec.name).await
}

pub(super) async fn running_container_is_not_removed<B: Bench>(ground: &Ground<'_, B>) -> Verdict {
    let spec = ground.spec("a", &Program::Runs);
    ground.launch(&spec).await?;
    match ground.engine().remove(&spec.name).await {
        Err(EngineError::Running { .. }) => {}
        answer => return Err(unexpected(&answer, "running")),
    }
    let state = ground.state(&spec.name).await?;
    ensure!(
        state.phase.kind() == PhaseKind::Running,
        "it ended: {state:?}"
    );
    Ok(())
}

pub(super) async fn killed_from_outside_is_137<B: Bench>(ground: &Ground<'_, B>) -> Verdict {
    let spec = ground.spec("a", &Program::Runs);
    ground.launch(&spec).await?;
    ground.bench.kill(&spec.name).await?;
    let state = ground.until_exited(&spec.name).await?;
    ensure!(code(&state) == Some(137), "it was not killed: {state:?}");
    Ok(())
}

pub(super) async fn destroyed_from_outside_is_absent<B: Bench>(ground: &Ground<'_, B>) -> Verdict {
    let spec = ground.spec("a", &Program::Runs);
    ground.launch(&spec).await?;
    ground.bench.destroy(&spec.name).await?;
    ensure!(
        ground.look(&spec.name).await?.is_none(),
        "it is still there"
    );
    let listed = ground.engine().list(ground.scope()).await;
    let listed = listed.map_err(told("list"))?;
    ensure!(listed.is_empty(), "the list still has {listed:?}");
    Ok(())
}

pub(super) async fn out_of_memory_is_told_as_such<B: Bench>(ground: &Ground<'_, B>) -> Verdict {
    let mut spec = ground.spec("a", &Program::Swells);
    spec.memory_bytes = Some(16 * 1024 * 1024);
    ground.launch(&spec).await?;
    let state = ground.until_exited(&spec.name).await?;
    ensure!(
        matches!(
            state.phase,
            Phase::Exited {
                exit_code: 137,
                oom_killed: true,
                ..
            }
        ),
        "it was not killed for memory: {state:?}"
    );
    Ok(())
}

/// Launches a program and waits until it has its signal handlers.
async fn launch_ready<B: Bench>(ground: &Ground<'_, B>, mut spec: ContainerSpec) -> Verdict {
    spec.health_check = Some(check(&["CMD-SHELL", "test -e /tmp/ready"]));
    ground.launch(&spec).await?;
    let ready = |state: &ContainerState| state.health == Health::Healthy;
    ground.until(&spec.name, "was ready", ready).await?;
    Ok(())
}

fn code(state: &ContainerState) -> Option<i64> {
    match state.phase {
        Phase::Exited { exit_code, .. } => Some(exit_code),
        _ => None,
    }
}

fn lasted(state: &ContainerState) -> Duration {
    match (state.started_at, &state.phase) {
        (
            Some(started),
            Phase::Exited {
                finished_at: Some(finished),
                ..
            },
        ) => finished.since(started),
        _ => Duration::ZERO,
    }
}
