//! Containers that share the namespaces of another one, networks, and the image that holds namespaces.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::time::Duration;

use crate::conformance::bench::{Bench, Ground, Program, told, unexpected};
use crate::conformance::{Verdict, ensure};
use crate::{
    ContainerSpec, ContainerState, Engine, EngineError, Ipc, Network, NetworkSpec, Phase,
    Processes, ToHost,
};

/// Makes a container share with the one of this name.
type Share = fn(&mut ContainerSpec, &str);

/// A network of this case.
fn network<B: Bench>(ground: &Ground<'_, B>, bridge: &str) -> NetworkSpec {
    NetworkSpec {
        name: ground.name("network"),
        bridge: bridge.to_owned(),
        labels: BTreeMap::from([("dev.tallyman.conformance".to_owned(), "network".to_owned())]),
        to_host: None,
    }
}

async fn ensure_network<B: Bench>(ground: &Ground<'_, B>, spec: &NetworkSpec) -> Verdict {
    let made = ground.engine().ensure_network(spec).await;
    made.map_err(told("ensure network"))
}

/// A container of the image that the agent brings.
async fn holder<B: Bench>(ground: &Ground<'_, B>) -> Result<ContainerSpec, String> {
    let image = ground.bench.brought();
    for _ in 0..2 {
        let made = ground.engine().ensure_image(&image).await;
        made.map_err(told("ensure image"))?;
    }
    let mut spec = ground.spec("holder", &Program::Runs);
    spec.image = image.reference;
    spec.command = None;
    spec.network = Network::None;
    Ok(spec)
}

/// Launches, and fails unless it exits with 0.
async fn passes<B: Bench>(ground: &Ground<'_, B>, spec: &ContainerSpec, what: &str) -> Verdict {
    ground.launch(spec).await?;
    let state = ground.until_exited(&spec.name).await?;
    ensure!(
        matches!(state.phase, Phase::Exited { exit_code: 0, .. }),
        "{what}: {state:?}"
    );
    Ok(())
}

pub(super) async fn brought_image_is_made_once_and_runs_until_sigterm<B: Bench>(
    ground: &Ground<'_, B>,
) -> Verdict {
    let spec = holder(ground).await?;
    ground.launch(&spec).await?;
    let before = ground.state(&spec.name).await?;
    ensure!(
        matches!(before.phase, Phase::Running { .. }),
        "it does not run: {before:?}"
    );
    let image = ground.bench.brought();
    let labelled = image
        .labels
        .iter()
        .all(|(key, value)| before.labels.get(key) == Some(value));
    ensure!(labelled, "it lacks the labels of its image: {before:?}");
    // Long before the grace is over, and not killed.
    let ended = ground.stop(&spec.name, Duration::from_secs(30));
    let late = ground.bench.pass(Duration::from_secs(20));
    match futures::future::select(std::pin::pin!(ended), std::pin::pin!(late)).await {
        futures::future::Either::Left((stopped, _)) => stopped?,
        futures::future::Either::Right(_) => return Err("it does not end on SIGTERM".to_owned()),
    }
    let after = ground.state(&spec.name).await?;
    ensure!(
        matches!(after.phase, Phase::Exited { exit_code: 0, .. }),
        "it was killed: {after:?}"
    );
    let again = ground.engine().ensure_image(&image).await;
    again.map_err(told("ensure image"))?;
    ensure!(
        ground.state(&spec.name).await?.image_id == before.image_id,
        "the image was made again"
    );
    Ok(())
}

fn address(state: &ContainerState, on: &str) -> Result<String, String> {
    let found = state.attachments.iter().find(|one| one.network == on);
    let found = found.and_then(|one| one.ipv4);
    found
        .map(|(address, _)| address.to_string())
        .ok_or_else(|| format!("it has no address on {on}: {state:?}"))
}

pub(super) async fn network_is_made_once_and_gives_addresses<B: Bench>(
    ground: &Ground<'_, B>,
) -> Verdict {
    let spec = network(ground, "conformance0");
    ensure_network(ground, &spec).await?;
    let mut addresses = Vec::new();
    for role in ["a", "b"] {
        // Made again in between, it is the same.
        ensure_network(ground, &spec).await?;
        let mut one = ground.spec(role, &Program::Runs);
        one.network = Network::Named(spec.name.clone());
        ground.launch(&one).await?;
        let state = ground.state(&one.name).await?;
        addresses.push(address(&state, &spec.name)?);
        ensure!(state.ports.is_empty(), "it publishes: {state:?}");
    }
    ensure!(
        addresses.first() != addresses.last(),
        "both have {addresses:?}"
    );
    ground.clear().await?;
    ground.bench.destroy_network(&spec.name).await
}

pub(super) async fn network_that_is_not_there_is_told<B: Bench>(ground: &Ground<'_, B>) -> Verdict {
    let mut spec = ground.spec("a", &Program::Runs);
    spec.network = Network::Named(ground.name("nowhere"));
    let created = ground.engine().create(&spec).await;
    let answer = match created {
        Ok(_) => ground.engine().start(&spec.name).await,
        Err(error) => Err(error),
    };
    match answer {
        Err(EngineError::NetworkNotFound { message }) if message.contains("nowhere") => Ok(()),
        answer => Err(unexpected(&answer, "network not found")),
    }
}

pub(super) async fn containers_share_one_network<B: Bench>(ground: &Ground<'_, B>) -> Verdict {
    let spec = network(ground, "conformance1");
    ensure_network(ground, &spec).await?;
    let mut holder = holder(ground).await?;
    holder.network = Network::Named(spec.name.clone());
    ground.launch(&holder).await?;
    let joined = |role: &str, program: &Program| {
        let mut one = ground.spec(role, program);
        one.network = Network::Container(holder.name.clone());
        one
    };
    let server = joined("server", &Program::Serves { port: 80 });
    ground.launch(&server).await?;
    let state = ground.state(&server.name).await?;
    ensure!(
        state.attachments.is_empty() && state.ports.is_empty(),
        "it has a network of its own: {state:?}"
    );
    let client = joined("client", &Program::Fetches { port: 80 });
    passes(ground, &client, "loopback is not shared").await?;
    ground.clear().await?;
    ground.bench.destroy_network(&spec.name).await
}

pub(super) async fn one_network_more_leads_to_the_host_and_nowhere_else<B: Bench>(
    ground: &Ground<'_, B>,
) -> Verdict {
    let own = network(ground, "conformance2");
    ensure_network(ground, &own).await?;
    // Before the other one in every order of names.
    let to_host = ToHost {
        address: Ipv4Addr::new(169, 254, 180, 2),
        prefix: 24,
    };
    let more = NetworkSpec {
        name: ground.name("a-network"),
        to_host: Some(to_host),
        ..network(ground, "conformance3")
    };
    let mut holder = holder(ground).await?;
    holder.network = Network::Named(own.name.clone());
    ground.launch(&holder).await?;
    let missing = ground.engine().attach(&holder.name, &more.name).await;
    ensure!(
        matches!(missing, Err(EngineError::NetworkNotFound { .. })),
        "no such network: {missing:?}"
    );
    ensure_network(ground, &more).await?;
    let nobody = ground.name("nobody");
    let missing = ground.engine().attach(&nobody, &more.name).await;
    ensure!(
        matches!(&missing, Err(EngineError::NotFound { .. })),
        "no such container: {missing:?}"
    );
    for _ in 0..2 {
        let attached = ground.engine().attach(&holder.name, &more.name).await;
        attached.map_err(told("attach"))?;
    }
    let state = ground.state(&holder.name).await?;
    address(&state, &own.name)?;
    address(&state, &more.name)?;
    ensure!(state.attachments.len() == 2, "{state:?}");
    let port = ground.bench.free_port();
    let mut server = ground.spec("server", &Program::Serves { port });
    server.network = Network::Host;
    ground.launch(&server).await?;
    let program = Program::AsksHost {
        address: to_host.address,
        port,
    };
    let mut client = ground.spec("client", &program);
    client.network = Network::Container(holder.name.clone());
    passes(
        ground,
        &client,
        "the host is not reached, or all else is by it",
    )
    .await?;
    ground.clear().await?;
    for network in [&own, &more] {
        ground.bench.destroy_network(&network.name).await?;
    }
    Ok(())
}

pub(super) async fn containers_share_processes_and_memory<B: Bench>(
    ground: &Ground<'_, B>,
) -> Verdict {
    let mut holder = holder(ground).await?;
    holder.parameters.ipc = Ipc::Shareable;
    ground.launch(&holder).await?;
    let joined = |role: &str, program: &Program| {
        let mut one = ground.spec(role, program);
        one.parameters.processes = Processes::Container(holder.name.clone());
        one.parameters.ipc = Ipc::Container(holder.name.clone());
        one
    };
    let first = "/pause".to_owned();
    let sees = joined("sees", &Program::Meets { first });
    passes(ground, &sees, "processes are not shared").await?;
    let name = "segment".to_owned();
    let leaves = joined("leaves", &Program::Leaves { name: name.clone() });
    ground.launch(&leaves).await?;
    let finds = joined("finds", &Program::Discovers { name });
    passes(ground, &finds, "memory is not shared").await?;
    // A container that is none of them sees neither.
    let own = ground.spec(
        "own",
        &Program::Discovers {
            name: "segment".to_owned(),
        },
    );
    ground.launch(&own).await?;
    let state = ground.until_exited(&own.name).await?;
    ensure!(
        matches!(state.phase, Phase::Exited { exit_code: 1, .. }),
        "memory is everybody's: {state:?}"
    );
    Ok(())
}

pub(super) async fn nobody_to_share_with_cannot_start<B: Bench>(ground: &Ground<'_, B>) -> Verdict {
    let holder = holder(ground).await?;
    ground.create(&holder).await?;
    let network = |spec: &mut ContainerSpec, with: &str| {
        spec.network = Network::Container(with.to_owned());
    };
    let processes = |spec: &mut ContainerSpec, with: &str| {
        spec.parameters.processes = Processes::Container(with.to_owned());
    };
    let ipc = |spec: &mut ContainerSpec, with: &str| {
        spec.parameters.ipc = Ipc::Container(with.to_owned());
    };
    let ways: [(&str, Share); 3] = [("network", network), ("processes", processes), ("ipc", ipc)];
    for (role, set) in ways {
        let mut spec = ground.spec(role, &Program::Runs);
        set(&mut spec, &holder.name);
        ground.create(&spec).await?;
        match ground.engine().start(&spec.name).await {
            Err(EngineError::CannotStart { .. }) => {}
            answer => return Err(unexpected(&answer, format!("{role}: cannot start"))),
        }
    }
    Ok(())
}
