//! Groups: limits that containers share.

use std::time::Duration;

use crate::conformance::bench::{Bench, Ground, Program, told};
use crate::conformance::{Verdict, ensure};
use crate::{CpuQuota, Engine, Group, Phase};

const MIB: i64 = 1024 * 1024;
const PERIOD: Duration = Duration::from_millis(100);

/// A group of this case alone, on engines that make groups themselves; elsewhere nobody can limit one.
async fn group<B: Bench>(ground: &Ground<'_, B>) -> Result<Option<(String, Group)>, String> {
    let description = ground.engine().describe().await.map_err(told("describe"))?;
    // Engines under test may share a host; ports do not.
    let parent = format!("ecs/{}-{}", ground.name("host"), ground.bench.free_port());
    let group = Group {
        name: format!("{parent}/task"),
        cpu_shares: 512,
        cpu_quota: Some(CpuQuota {
            quota: PERIOD / 2,
            period: PERIOD,
        }),
        memory_bytes: Some(48 * MIB),
        pids: Some(64),
    };
    Ok((description.cgroup_driver == "cgroupfs").then_some((parent, group)))
}

async fn provide<B: Bench>(ground: &Ground<'_, B>, group: &Group) -> Verdict {
    let provided = ground.engine().provide_group(group).await;
    provided.map_err(told("provide group"))
}

async fn gone<B: Bench>(ground: &Ground<'_, B>, name: &str) -> Result<bool, String> {
    let removed = ground.engine().remove_group(name).await;
    removed.map_err(told("remove group"))
}

/// Neither has a limit of its own: who takes more than the group may is killed, and the other one stays.
pub(super) async fn containers_share_the_limits_of_a_group<B: Bench>(
    ground: &Ground<'_, B>,
) -> Verdict {
    let Some((parent, group)) = group(ground).await? else {
        return Ok(());
    };
    provide(ground, &group).await?;
    provide(ground, &group).await?;
    let mut quiet = ground.spec("quiet", &Program::Runs);
    let mut greedy = ground.spec("greedy", &Program::Swells);
    quiet.group = Some(group.name.clone());
    greedy.group = Some(group.name.clone());
    ground.launch(&quiet).await?;
    let settings = ground.bench.settings(&quiet.name).await?;
    ensure!(
        settings.group == Some(group.name.clone()),
        "group: {settings:?}"
    );
    ground.launch(&greedy).await?;
    let state = ground.until_exited(&greedy.name).await?;
    ensure!(
        matches!(state.phase, Phase::Exited { exit_code: 137, .. }),
        "not killed: {state:?}"
    );
    let state = ground.state(&quiet.name).await?;
    ensure!(
        matches!(state.phase, Phase::Running { .. }),
        "the other one was hit: {state:?}"
    );
    let listed = ground.engine().list_groups(&parent).await;
    let listed = listed.map_err(told("list groups"))?;
    ensure!(listed == [group.name.clone()], "listed {listed:?}");
    ensure!(!gone(ground, &group.name).await?, "a used group is gone");
    ground.stop(&quiet.name, Duration::ZERO).await?;
    for name in [&quiet.name, &greedy.name] {
        ground.remove(name).await?;
    }
    let mut waited = 0;
    while !gone(ground, &group.name).await? {
        ensure!(waited < 100, "the group never went");
        ground.bench.pass(Duration::from_millis(100)).await;
        waited += 1;
    }
    ensure!(gone(ground, &group.name).await?, "twice is not fine");
    let listed = ground.engine().list_groups(&parent).await;
    let listed = listed.map_err(told("list groups"))?;
    ensure!(listed.is_empty(), "still listed: {listed:?}");
    ensure!(gone(ground, &parent).await?, "the parent stays");
    Ok(())
}

pub(super) async fn quota_of_one_container_is_set<B: Bench>(ground: &Ground<'_, B>) -> Verdict {
    let mut spec = ground.spec("a", &Program::Runs);
    let quota = CpuQuota {
        quota: PERIOD / 4,
        period: PERIOD,
    };
    spec.cpu_quota = Some(quota);
    ground.create(&spec).await?;
    let settings = ground.bench.settings(&spec.name).await?;
    ensure!(settings.cpu_quota == Some(quota), "quota: {settings:?}");
    ensure!(settings.group.is_none(), "group: {settings:?}");
    Ok(())
}
