//! What a container is attached to, sees and uses.

use std::time::Duration;

use crate::conformance::bench::{Bench, Ground, Program, told};
use crate::conformance::{Verdict, ensure};
use crate::{Engine, HealthCheck, Mount, MountSource, Network, Phase, Stats};

pub(super) async fn address_on_the_bridge_is_told_while_it_runs<B: Bench>(
    ground: &Ground<'_, B>,
) -> Verdict {
    let spec = ground.spec("a", &Program::Runs);
    ground.create(&spec).await?;
    let state = ground.state(&spec.name).await?;
    ensure!(state.attachments.is_empty(), "before its start: {state:?}");
    ground.start(&spec.name).await?;
    let other = ground.spec("b", &Program::Runs);
    ground.launch(&other).await?;
    let mut seen = Vec::new();
    for name in [&spec.name, &other.name] {
        let state = ground.state(name).await?;
        let [one] = state.attachments.as_slice() else {
            return Err(format!("{name} is not on one network: {state:?}"));
        };
        ensure!(one.network == "bridge", "network: {one:?}");
        ensure!(one.mac.is_some(), "it has no hardware address: {one:?}");
        let (Some((address, prefix)), Some(gateway)) = (one.ipv4, one.gateway) else {
            return Err(format!("it lacks address or gateway: {one:?}"));
        };
        let subnet = |ip| u32::from(ip) >> (32 - u32::from(prefix));
        ensure!((1..32).contains(&prefix), "prefix: {one:?}");
        ensure!(subnet(address) == subnet(gateway), "its gateway: {one:?}");
        seen.push(address);
    }
    ensure!(seen.first() != seen.last(), "both have {seen:?}");
    ground.stop(&spec.name, Duration::from_secs(5)).await?;
    let state = ground.state(&spec.name).await?;
    ensure!(state.attachments.is_empty(), "after its end: {state:?}");
    Ok(())
}

pub(super) async fn host_network_has_no_address_of_its_own<B: Bench>(
    ground: &Ground<'_, B>,
) -> Verdict {
    for network in [Network::Host, Network::None] {
        let mut spec = ground.spec(&format!("{network:?}").to_lowercase(), &Program::Runs);
        spec.network = network.clone();
        ground.launch(&spec).await?;
        let state = ground.state(&spec.name).await?;
        ensure!(state.attachments.is_empty(), "{network:?}: {state:?}");
    }
    Ok(())
}

pub(super) async fn mounts_are_told<B: Bench>(ground: &Ground<'_, B>) -> Verdict {
    let volume = ground.volume("v");
    ground.create_volume(&volume).await?;
    let folder = ground.bench.host_folder();
    let mut spec = ground.spec("a", &Program::Runs);
    let mount = |source, path: &str| Mount {
        source,
        path: path.to_owned(),
        read_only: true,
    };
    spec.mounts = vec![
        mount(MountSource::Volume(volume.name.clone()), "/two"),
        mount(MountSource::HostPath(folder.clone()), "/one"),
    ];
    ground.launch(&spec).await?;
    let state = ground.state(&spec.name).await?;
    let [one, two] = state.mounts.as_slice() else {
        return Err(format!("it has not two mounts: {state:?}"));
    };
    ensure!(
        one.destination == "/one" && one.source == folder && one.volume.is_none(),
        "the path of the host: {one:?}"
    );
    ensure!(
        two.destination == "/two" && two.volume.as_ref() == Some(&volume.name),
        "the volume: {two:?}"
    );
    ensure!(two.source.starts_with('/'), "where it is: {two:?}");
    Ok(())
}

pub(super) async fn the_last_health_check_is_told<B: Bench>(ground: &Ground<'_, B>) -> Verdict {
    let mut spec = ground.spec("a", &Program::Runs);
    spec.health_check = Some(HealthCheck {
        test: ["CMD", "false"].map(str::to_owned).into(),
        interval: Duration::from_secs(1),
        timeout: Duration::from_secs(5),
        retries: 1,
        start_period: None,
    });
    ground.launch(&spec).await?;
    let checked = |state: &crate::ContainerState| state.last_check.is_some();
    let state = ground.until(&spec.name, "was checked", checked).await?;
    let check = state.last_check.filter(|check| check.exit_code != 0);
    ensure!(
        check.is_some_and(|check| check.ended_at.is_some()),
        "its check passed, or never ended"
    );
    Ok(())
}

async fn used<B: Bench>(ground: &Ground<'_, B>, name: &str) -> Result<Option<Stats>, String> {
    ground.engine().stats(name).await.map_err(told("stats"))
}

fn number(stats: &Stats, object: &str, path: &str) -> Option<u64> {
    stats.get(object)?.pointer(path)?.as_u64()
}

pub(super) async fn use_is_told_while_it_runs<B: Bench>(ground: &Ground<'_, B>) -> Verdict {
    let mut spec = ground.spec("a", &Program::Runs);
    spec.memory_bytes = Some(64 << 20);
    let absent = used(ground, &spec.name).await?;
    ensure!(absent.is_none(), "it does not exist: {absent:?}");
    ground.create(&spec).await?;
    let created = used(ground, &spec.name).await?;
    ensure!(created.is_none(), "it never ran: {created:?}");
    ground.start(&spec.name).await?;
    let mut waited = Duration::ZERO;
    let (first, second) = loop {
        let first = used(ground, &spec.name).await?.unwrap_or_default();
        ground.bench.pass(Duration::from_secs(1)).await;
        let second = used(ground, &spec.name).await?.unwrap_or_default();
        // The engine may need a moment until it sees the processes.
        let some = |stats: &Stats| number(stats, "memory_stats", "/usage").unwrap_or(0) > 0;
        if some(&first) && some(&second) || waited > Duration::from_secs(10) {
            break (first, second);
        }
        waited += Duration::from_secs(1);
    };
    for (object, path) in [
        ("cpu_stats", "/cpu_usage/total_usage"),
        ("cpu_stats", "/system_cpu_usage"),
        ("memory_stats", "/usage"),
        ("networks", "/eth0/rx_bytes"),
        ("networks", "/eth0/tx_bytes"),
    ] {
        let (before, after) = (number(&first, object, path), number(&second, object, path));
        ensure!(before.is_some(), "it lacks {object}{path}: {first:?}");
        ensure!(
            object == "memory_stats" || before <= after,
            "{object}{path} fell from {before:?} to {after:?}"
        );
    }
    let limit = number(&second, "memory_stats", "/limit");
    ensure!(limit == Some(64 << 20), "limit: {second:?}");
    let read = |stats: &Stats| {
        stats
            .get("read")
            .and_then(|read| read.as_str())
            .map(str::to_owned)
    };
    ensure!(read(&first) < read(&second), "read: {first:?} {second:?}");
    ground.stop(&spec.name, Duration::from_secs(5)).await?;
    let state = ground.state(&spec.name).await?;
    ensure!(matches!(state.phase, Phase::Exited { .. }), "{state:?}");
    let ended = used(ground, &spec.name).await?;
    ensure!(ended.is_none(), "it has ended: {ended:?}");
    Ok(())
}

pub(super) async fn use_of_a_container_without_network_is_told<B: Bench>(
    ground: &Ground<'_, B>,
) -> Verdict {
    let mut spec = ground.spec("a", &Program::Runs);
    spec.network = Network::Host;
    ground.launch(&spec).await?;
    let stats = used(ground, &spec.name).await?.unwrap_or_default();
    ensure!(
        number(&stats, "cpu_stats", "/cpu_usage/total_usage").is_some(),
        "it lacks its processor time: {stats:?}"
    );
    let networks = stats.get("networks").and_then(|all| all.as_object());
    ensure!(
        networks.is_none_or(serde_json::Map::is_empty),
        "the host's network is told as its own: {networks:?}"
    );
    Ok(())
}
