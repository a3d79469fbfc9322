//! Names, labels, adoption, scope.

use crate::conformance::bench::{Bench, Ground, Program, told, unexpected};
use crate::conformance::{Verdict, ensure};
use crate::{Engine, EngineError, PhaseKind};

pub(super) async fn same_labels_are_adopted<B: Bench>(ground: &Ground<'_, B>) -> Verdict {
    let mut spec = ground.spec("a", &Program::Runs);
    spec.labels.insert("uid".to_owned(), "1".to_owned());
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
    ensure!(again.adopted, "it was not adopted");
    ensure!(first.container_id == again.container_id, "the id changed");
    Ok(())
}

pub(super) async fn running_container_is_adopted_untouched<B: Bench>(
    ground: &Ground<'_, B>,
) -> Verdict {
    let spec = ground.spec("a", &Program::Runs);
    ground.launch(&spec).await?;
    let before = ground.state(&spec.name).await?;
    let again = ground
        .engine()
        .create(&spec)
        .await
        .map_err(told("create"))?;
    ensure!(again.adopted, "it was not adopted");
    let after = ground.state(&spec.name).await?;
    ensure!(before == after, "{before:?} became {after:?}");
    Ok(())
}

pub(super) async fn foreign_labels_are_name_taken<B: Bench>(ground: &Ground<'_, B>) -> Verdict {
    let mut theirs = ground.spec("a", &Program::Runs);
    theirs.labels.insert("uid".to_owned(), "theirs".to_owned());
    ground.create(&theirs).await?;
    let id = ground.state(&theirs.name).await?.id;
    let mut ours = theirs.clone();
    ours.labels.insert("uid".to_owned(), "ours".to_owned());
    match ground.engine().create(&ours).await {
        Err(EngineError::NameTaken { name, holder }) if name == ours.name && holder == id => Ok(()),
        answer => Err(unexpected(&answer, "name taken")),
    }
}

pub(super) async fn extra_labels_do_not_hinder_adoption<B: Bench>(
    ground: &Ground<'_, B>,
) -> Verdict {
    let ours = ground.spec("a", &Program::Runs);
    let mut theirs = ours.clone();
    theirs.labels.insert("more".to_owned(), "yes".to_owned());
    ground.create(&theirs).await?;
    let again = ground
        .engine()
        .create(&ours)
        .await
        .map_err(told("create"))?;
    ensure!(again.adopted, "it was not adopted");
    Ok(())
}

pub(super) async fn list_shows_the_scope_only<B: Bench>(ground: &Ground<'_, B>) -> Verdict {
    let created = ground.spec("created", &Program::Runs);
    let running = ground.spec("running", &Program::Runs);
    let exited = ground.spec(
        "exited",
        &Program::Exits {
            code: 1,
            after: std::time::Duration::ZERO,
        },
    );
    ground.create(&created).await?;
    ground.launch(&running).await?;
    ground.launch(&exited).await?;
    ground.until_exited(&exited.name).await?;
    let listed = ground.engine().list(ground.scope()).await;
    let listed = listed.map_err(told("list"))?;
    let seen: Vec<_> = listed
        .iter()
        .map(|one| (one.name.as_str(), one.phase))
        .collect();
    let wanted = [
        (created.name.as_str(), PhaseKind::Created),
        (exited.name.as_str(), PhaseKind::Exited),
        (running.name.as_str(), PhaseKind::Running),
    ];
    ensure!(seen == wanted, "listed {seen:?}");
    for one in &listed {
        let state = ground.state(&one.name).await?;
        ensure!(one.id == state.id, "ids differ: {one:?}, {state:?}");
        ensure!(
            one.labels == state.labels,
            "labels differ: {one:?}, {state:?}"
        );
    }
    let (key, _) = ground.scope();
    let nobody = ground.engine().list((key, "nobody")).await;
    let nobody = nobody.map_err(told("list"))?;
    ensure!(nobody.is_empty(), "another scope lists {nobody:?}");
    Ok(())
}
