//! Networks and published ports.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use crate::conformance::bench::{Bench, Ground, Program, port, told, unexpected};
use crate::conformance::{Verdict, ensure};
use crate::{ContainerSpec, Engine, EngineError, Network, Phase, Protocol, PublishedPort};

const ANY: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);

/// Starts and checks that inspect and list agree on the ports, which it returns.
async fn published<B: Bench>(
    ground: &Ground<'_, B>,
    spec: &ContainerSpec,
) -> Result<Vec<PublishedPort>, String> {
    ground.launch(spec).await?;
    let ports = ground.state(&spec.name).await?.ports;
    let listed = ground.engine().list(ground.scope()).await;
    let listed = listed.map_err(told("list"))?;
    let listed = listed.into_iter().find(|one| one.name == spec.name);
    let listed = listed.map(|one| one.ports).unwrap_or_default();
    ensure!(
        listed == ports,
        "inspect has {ports:?}, the list {listed:?}"
    );
    Ok(ports)
}

pub(super) async fn fixed_port_is_published<B: Bench>(ground: &Ground<'_, B>) -> Verdict {
    let fixed = ground.bench.free_port();
    let mut spec = ground.spec("a", &Program::Runs);
    spec.ports = vec![port(80, Some(fixed), Protocol::Tcp)];
    let ports = published(ground, &spec).await?;
    let wanted = [PublishedPort {
        container_port: 80,
        protocol: Protocol::Tcp,
        host_port: fixed,
        host_ip: ANY,
    }];
    ensure!(ports == wanted, "published {ports:?}");
    Ok(())
}

pub(super) async fn dynamic_ports_are_chosen_and_differ<B: Bench>(
    ground: &Ground<'_, B>,
) -> Verdict {
    let mut seen = Vec::new();
    for role in ["a", "b"] {
        let mut spec = ground.spec(role, &Program::Runs);
        spec.ports = vec![port(80, None, Protocol::Tcp), port(81, None, Protocol::Tcp)];
        let ports = published(ground, &spec).await?;
        let inside: Vec<u16> = ports.iter().map(|one| one.container_port).collect();
        ensure!(inside == [80, 81], "published {ports:?}");
        seen.extend(ports.iter().map(|one| one.host_port));
    }
    seen.sort_unstable();
    ensure!(seen.iter().all(|chosen| *chosen >= 1024), "chosen {seen:?}");
    let count = seen.len();
    seen.dedup();
    ensure!(seen.len() == count, "a port was chosen twice: {seen:?}");
    Ok(())
}

pub(super) async fn udp_port_is_published<B: Bench>(ground: &Ground<'_, B>) -> Verdict {
    let fixed = ground.bench.free_port();
    let mut spec = ground.spec("a", &Program::Runs);
    spec.ports = vec![
        port(53, Some(fixed), Protocol::Udp),
        port(53, Some(fixed), Protocol::Tcp),
        port(54, None, Protocol::Udp),
    ];
    let ports = published(ground, &spec).await?;
    let seen: Vec<_> = ports
        .iter()
        .map(|one| (one.container_port, one.protocol))
        .collect();
    let wanted = [
        (53, Protocol::Tcp),
        (53, Protocol::Udp),
        (54, Protocol::Udp),
    ];
    ensure!(seen == wanted, "published {ports:?}");
    let same = ports.iter().take(2).all(|one| one.host_port == fixed);
    ensure!(same, "published {ports:?}");
    Ok(())
}

pub(super) async fn one_address_is_honoured<B: Bench>(ground: &Ground<'_, B>) -> Verdict {
    let loopback = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let mut spec = ground.spec("a", &Program::Runs);
    spec.ports = vec![port(80, Some(ground.bench.free_port()), Protocol::Tcp)];
    for one in &mut spec.ports {
        one.host_ip = Some(loopback);
    }
    let ports = published(ground, &spec).await?;
    let seen: Vec<IpAddr> = ports.iter().map(|one| one.host_ip).collect();
    ensure!(seen == [loopback], "published {ports:?}");
    Ok(())
}

pub(super) async fn published_port_leads_inside<B: Bench>(ground: &Ground<'_, B>) -> Verdict {
    let mut server = ground.spec("server", &Program::Serves { port: 80 });
    server.ports = vec![port(80, None, Protocol::Tcp)];
    let ports = published(ground, &server).await?;
    let Some(outer) = ports.first().map(|one| one.host_port) else {
        return Err("nothing is published".to_owned());
    };
    let mut client = ground.spec("client", &Program::Fetches { port: outer });
    client.network = Network::Host;
    ground.launch(&client).await?;
    let state = ground.until_exited(&client.name).await?;
    ensure!(
        matches!(state.phase, Phase::Exited { exit_code: 0, .. }),
        "port {outer} does not answer: {state:?}"
    );
    Ok(())
}

pub(super) async fn taken_port_is_told<B: Bench>(ground: &Ground<'_, B>) -> Verdict {
    let fixed = ground.bench.free_port();
    let mut first = ground.spec("first", &Program::Runs);
    first.ports = vec![port(80, Some(fixed), Protocol::Tcp)];
    ground.launch(&first).await?;
    let mut second = ground.spec("second", &Program::Runs);
    second.ports = vec![port(80, Some(fixed), Protocol::Tcp)];
    ground.create(&second).await?;
    match ground.engine().start(&second.name).await {
        Err(EngineError::PortTaken { port: told, .. }) if told == Some(fixed) => {}
        answer => return Err(unexpected(&answer, format!("port {fixed} taken"))),
    }
    let state = ground.state(&second.name).await?;
    ensure!(
        state.phase == Phase::Created,
        "it is not created: {state:?}"
    );
    ensure!(state.ports.is_empty(), "it publishes: {state:?}");
    // The other protocol is another port.
    let mut third = ground.spec("third", &Program::Runs);
    third.ports = vec![port(80, Some(fixed), Protocol::Udp)];
    ground.launch(&third).await
}

pub(super) async fn port_is_free_again_after_the_end<B: Bench>(ground: &Ground<'_, B>) -> Verdict {
    let fixed = ground.bench.free_port();
    let mut first = ground.spec("first", &Program::Runs);
    first.ports = vec![port(80, Some(fixed), Protocol::Tcp)];
    ground.launch(&first).await?;
    ground.stop(&first.name, Duration::from_secs(5)).await?;
    let state = ground.state(&first.name).await?;
    ensure!(state.ports.is_empty(), "it still publishes: {state:?}");
    let mut second = ground.spec("second", &Program::Runs);
    second.ports = vec![port(80, Some(fixed), Protocol::Tcp)];
    ground.launch(&second).await
}

pub(super) async fn host_network_publishes_nothing<B: Bench>(ground: &Ground<'_, B>) -> Verdict {
    without_ports(ground, Network::Host).await
}

pub(super) async fn no_network_publishes_nothing<B: Bench>(ground: &Ground<'_, B>) -> Verdict {
    without_ports(ground, Network::None).await
}

/// Port mappings are ignored there; on the host's network container ports are host ports anyway.
async fn without_ports<B: Bench>(ground: &Ground<'_, B>, network: Network) -> Verdict {
    let mut spec = ground.spec("a", &Program::Runs);
    spec.network = network.clone();
    let fixed = ground.bench.free_port();
    spec.ports = vec![port(fixed, Some(fixed), Protocol::Tcp)];
    let ports = published(ground, &spec).await?;
    ensure!(ports.is_empty(), "published {ports:?}");
    let settings = ground.bench.settings(&spec.name).await?;
    ensure!(settings.network == network, "network: {settings:?}");
    Ok(())
}
