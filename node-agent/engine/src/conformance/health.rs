//! Health checks that the engine runs.

use std::time::Duration;

use crate::conformance::bench::{Bench, Ground, Program, told};
use crate::conformance::{Verdict, ensure};
use crate::{ContainerSpec, ContainerState, Engine, Health, HealthCheck};

/// A check of one second's interval, two failures allowed.
pub(super) fn check(test: &[&str]) -> HealthCheck {
    HealthCheck {
        test: test.iter().map(|word| (*word).to_owned()).collect(),
        interval: Duration::from_secs(1),
        timeout: Duration::from_secs(5),
        retries: 2,
        start_period: None,
    }
}

fn checked<B: Bench>(ground: &Ground<'_, B>, test: &[&str]) -> ContainerSpec {
    let mut spec = ground.spec("a", &Program::Runs);
    spec.health_check = Some(check(test));
    spec
}

/// The list tells the same health as the state.
async fn listed<B: Bench>(ground: &Ground<'_, B>, name: &str, wanted: Health) -> Verdict {
    let listed = ground.engine().list(ground.scope()).await;
    let listed = listed.map_err(told("list"))?;
    let health = listed.iter().find(|one| one.name == name);
    let health = health.and_then(|one| one.health);
    ensure!(health == Some(wanted), "{listed:?} does not say {wanted:?}");
    Ok(())
}

pub(super) async fn passing_check_becomes_healthy<B: Bench>(ground: &Ground<'_, B>) -> Verdict {
    let spec = checked(ground, &["CMD-SHELL", "exit 0"]);
    ground.launch(&spec).await?;
    let state = ground.state(&spec.name).await?;
    ensure!(
        matches!(state.health, Health::Starting | Health::Healthy),
        "it has no verdict to come: {state:?}"
    );
    let healthy = |state: &ContainerState| state.health == Health::Healthy;
    ground.until(&spec.name, "became healthy", healthy).await?;
    listed(ground, &spec.name, Health::Healthy).await
}

pub(super) async fn failing_check_becomes_unhealthy<B: Bench>(ground: &Ground<'_, B>) -> Verdict {
    let spec = checked(ground, &["CMD", "false"]);
    ground.launch(&spec).await?;
    let unhealthy = |state: &ContainerState| state.health == Health::Unhealthy;
    let state = ground
        .until(&spec.name, "became unhealthy", unhealthy)
        .await?;
    ensure!(state.phase.kind().is_alive(), "ill is not dead: {state:?}");
    listed(ground, &spec.name, Health::Unhealthy).await
}

pub(super) async fn no_check_is_no_health<B: Bench>(ground: &Ground<'_, B>) -> Verdict {
    let switched_off = checked(ground, &["NONE"]);
    ground.launch(&switched_off).await?;
    let mut without = ground.spec("b", &Program::Runs);
    without.health_check = None;
    ground.launch(&without).await?;
    for name in [&switched_off.name, &without.name] {
        let state = ground.state(name).await?;
        ensure!(
            state.health == Health::None,
            "there is a verdict: {state:?}"
        );
        listed(ground, name, Health::None).await?;
    }
    Ok(())
}

pub(super) async fn stopped_container_has_no_verdict<B: Bench>(ground: &Ground<'_, B>) -> Verdict {
    let spec = checked(ground, &["CMD-SHELL", "exit 0"]);
    ground.launch(&spec).await?;
    let healthy = |state: &ContainerState| state.health == Health::Healthy;
    ground.until(&spec.name, "became healthy", healthy).await?;
    ground.stop(&spec.name, Duration::from_secs(5)).await?;
    let state = ground.state(&spec.name).await?;
    ensure!(
        state.health == Health::None,
        "there is a verdict: {state:?}"
    );
    listed(ground, &spec.name, Health::None).await
}
