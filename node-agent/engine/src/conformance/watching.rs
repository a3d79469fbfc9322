//! Hints.

use std::pin::pin;
use std::time::Duration;

use futures::future::{Either, join, select};
use futures::stream::{BoxStream, StreamExt};

use crate::conformance::bench::{Bench, Ground, Program};
use crate::conformance::health::check;
use crate::conformance::{Verdict, ensure};
use crate::{ContainerState, Engine, Health, Hint};

/// Does something while listening, until all `wanted` hints came; returns all that came.
async fn heard<B: Bench>(
    ground: &Ground<'_, B>,
    mut hints: BoxStream<'static, Hint>,
    wanted: &[Hint],
    act: impl Future<Output = Verdict>,
) -> Result<Vec<Hint>, String> {
    let mut seen = Vec::new();
    let outcome = {
        let listen = async {
            while let Some(hint) = hints.next().await {
                seen.push(hint);
                if wanted.iter().all(|one| seen.contains(one)) {
                    return;
                }
            }
        };
        let both = pin!(join(act, listen));
        match select(both, pin!(ground.patience())).await {
            Either::Left(((acted, ()), _)) => acted.map(|()| true),
            Either::Right(_) => Ok(false),
        }
    }?;
    ensure!(outcome, "{wanted:?} never came, only {seen:?}");
    Ok(seen)
}

pub(super) async fn hints_tell_start_end_and_removal<B: Bench>(ground: &Ground<'_, B>) -> Verdict {
    let spec = ground.spec("a", &Program::Runs);
    let wanted = [
        Hint::Started(spec.name.clone()),
        Hint::Died(spec.name.clone()),
        Hint::Destroyed(spec.name.clone()),
    ];
    let hints = ground.engine().watch(ground.scope());
    let seen = heard(ground, hints, &wanted, async {
        ground.launch(&spec).await?;
        ground.stop(&spec.name, Duration::from_secs(5)).await?;
        ground.remove(&spec.name).await
    });
    let seen = seen.await?;
    ensure!(seen == wanted, "they came as {seen:?}");
    Ok(())
}

pub(super) async fn hints_tell_health<B: Bench>(ground: &Ground<'_, B>) -> Verdict {
    let mut spec = ground.spec("a", &Program::Runs);
    spec.health_check = Some(check(&["CMD-SHELL", "exit 0"]));
    let wanted = [Hint::HealthChanged(spec.name.clone())];
    let hints = ground.engine().watch(ground.scope());
    heard(ground, hints, &wanted, async {
        ground.launch(&spec).await?;
        let healthy = |state: &ContainerState| state.health == Health::Healthy;
        ground.until(&spec.name, "was healthy", healthy).await?;
        Ok(())
    })
    .await?;
    Ok(())
}

pub(super) async fn hints_keep_to_the_scope<B: Bench>(ground: &Ground<'_, B>) -> Verdict {
    let (key, _) = ground.scope();
    let mut other = ground.spec("other", &Program::Runs);
    other.labels.insert("in-scope".to_owned(), "no".to_owned());
    let mut ours = ground.spec("ours", &Program::Runs);
    ours.labels.insert("in-scope".to_owned(), key.to_owned());
    let wanted = [Hint::Started(ours.name.clone())];
    let hints = ground.engine().watch(("in-scope", key));
    let seen = heard(ground, hints, &wanted, async {
        ground.launch(&other).await?;
        ground.launch(&ours).await
    });
    let seen = seen.await?;
    ensure!(seen == wanted, "they came as {seen:?}");
    Ok(())
}
