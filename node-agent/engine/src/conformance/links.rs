//! Containers that know each other by name.

use std::time::Duration;

use crate::conformance::bench::{Bench, Ground, Program, told, unexpected};
use crate::conformance::{Verdict, ensure};
use crate::{ContainerSpec, Engine, EngineError, Link, Phase};

fn linked(mut spec: ContainerSpec, container: &str, alias: &str) -> ContainerSpec {
    spec.links.push(Link {
        container: container.to_owned(),
        alias: alias.to_owned(),
    });
    spec
}

pub(super) async fn linked_container_is_reached_by_its_alias<B: Bench>(
    ground: &Ground<'_, B>,
) -> Verdict {
    let server = ground.spec("server", &Program::Serves { port: 80 });
    ground.launch(&server).await?;
    for (role, name, wanted) in [("client", "shop-db", 0), ("stranger", "nobody", 1)] {
        let program = Program::Reaches {
            name: name.to_owned(),
            port: 80,
        };
        let client = linked(ground.spec(role, &program), &server.name, "shop-db");
        ground.launch(&client).await?;
        let state = ground.until_exited(&client.name).await?;
        ensure!(
            matches!(state.phase, Phase::Exited { exit_code, .. } if exit_code == wanted),
            "the name {name} inside {role}: {state:?}"
        );
    }
    // Docker adds the alias to the names of the one that is linked; its own stays what it is called.
    let listed = ground.engine().list(ground.scope()).await;
    let listed = listed.map_err(told("list"))?;
    ensure!(
        listed.iter().any(|one| one.name == server.name),
        "{} is not in {listed:?}",
        server.name
    );
    // One that others link to can go before them.
    ground.stop(&server.name, Duration::ZERO).await?;
    ground.remove(&server.name).await
}

pub(super) async fn link_to_nobody_is_invalid<B: Bench>(ground: &Ground<'_, B>) -> Verdict {
    let nobody = ground.name("nobody");
    let spec = linked(ground.spec("a", &Program::Runs), &nobody, "db");
    match ground.engine().create(&spec).await {
        Err(EngineError::InvalidSpec { message }) if message.contains(&nobody) => {}
        answer => return Err(unexpected(&answer, "an invalid spec that names it")),
    }
    ensure!(
        ground.look(&spec.name).await?.is_none(),
        "it was created all the same"
    );
    Ok(())
}

pub(super) async fn link_to_a_container_that_does_not_run_cannot_start<B: Bench>(
    ground: &Ground<'_, B>,
) -> Verdict {
    let server = ground.spec("server", &Program::Runs);
    ground.create(&server).await?;
    let client = linked(ground.spec("client", &Program::Runs), &server.name, "db");
    ground.create(&client).await?;
    match ground.engine().start(&client.name).await {
        Err(EngineError::CannotStart { message, .. }) if message.contains(&server.name) => {}
        answer => return Err(unexpected(&answer, "a start that fails and names it")),
    }
    ground.start(&server.name).await?;
    ground.start(&client.name).await
}
