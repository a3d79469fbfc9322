//! The launch throttle: tasks that stop without ever running are not restarted at once (ECS service throttle logic).
//!
//! The memory is the tasks themselves: STOPPED tasks that never ran, in a row, newest first. Such a row outlives the
//! retention of tasks (see [`remembered`]), so that the delay grows to its cap and the evidence stays to be read.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use tallyman_crds::LastStatus;

use crate::names::{DeploymentId, InstanceName, ServiceName, TaskName};
use crate::world::{TaskState, World};

/// Failures in a row from which on launches are delayed.
pub const ENGAGES_AT: usize = 3;
/// Longest delay between two launches: 27 minutes.
pub const LONGEST: SignedDuration = SignedDuration::from_mins(27);
/// Rounds of failed tasks that are kept as memory; the delay is at its cap well before.
const MEMORY: usize = 12;

/// Tasks of one deployment that stopped without having run, since the last one that ran; newest first.
pub fn failures<'a>(
    world: &'a World,
    service: &ServiceName,
    deployment: &DeploymentId,
) -> Vec<(&'a TaskName, &'a TaskState)> {
    in_a_row(of_deployment(world, service, deployment).collect())
}

/// The same for each host: of a daemon every host has a row of its own, for one host that cannot run it says nothing of the
/// others.
pub fn failures_by_host<'a>(
    world: &'a World,
    service: &ServiceName,
    deployment: &DeploymentId,
) -> BTreeMap<&'a InstanceName, Vec<(&'a TaskName, &'a TaskState)>> {
    let mut hosts: BTreeMap<&InstanceName, Vec<_>> = BTreeMap::new();
    for (name, task) in of_deployment(world, service, deployment) {
        if let Some(host) = &task.instance {
            hosts.entry(host).or_default().push((name, task));
        }
    }
    let rows = hosts
        .into_iter()
        .map(|(host, tasks)| (host, in_a_row(tasks)));
    rows.collect()
}

fn of_deployment<'a>(
    world: &'a World,
    service: &ServiceName,
    deployment: &DeploymentId,
) -> impl Iterator<Item = (&'a TaskName, &'a TaskState)> {
    world
        .tasks_of(service)
        .filter(move |(_, t)| t.deployment.as_ref() == Some(deployment))
}

fn in_a_row<'a>(
    mut tasks: Vec<(&'a TaskName, &'a TaskState)>,
) -> Vec<(&'a TaskName, &'a TaskState)> {
    tasks.sort_by_key(|(name, _)| std::cmp::Reverse((name.as_str().len(), (*name).clone())));
    tasks
        .into_iter()
        .filter(|(_, t)| t.last == LastStatus::Stopped || t.started_at.is_some())
        .take_while(|(_, t)| t.started_at.is_none())
        // Stopped because somebody no longer wanted it: no failure.
        .filter(|(_, t)| t.stop_code == Some(tallyman_crds::StopCode::TaskFailedToStart))
        .collect()
}

/// How long to wait after the last of `failures` in a row, of a service that wants `desired` tasks: 10 s x 2^k, at most
/// 27 minutes. The throttle engages at the third failure; k counts the rounds since, a round being as many failures as
/// tasks are wanted, because ten tasks that fail together have been tried once.
///
/// ```
/// # use tallyman_operator_core::throttle::delay;
/// assert_eq!(delay(2, 1), None);
/// assert_eq!(delay(3, 1).map(|d| d.as_secs()), Some(10));
/// assert_eq!(delay(5, 1).map(|d| d.as_secs()), Some(40));
/// assert_eq!(delay(50, 1).map(|d| d.as_mins()), Some(27));
/// assert_eq!(delay(10, 10).map(|d| d.as_secs()), Some(10));
/// assert_eq!(delay(20, 10).map(|d| d.as_secs()), Some(20));
/// ```
pub fn delay(failures: usize, desired: usize) -> Option<SignedDuration> {
    if failures < ENGAGES_AT {
        return None;
    }
    let rounds = failures.div_ceil(desired.max(1)) - ENGAGES_AT.div_ceil(desired.max(1));
    let k = u32::try_from(rounds).unwrap_or(u32::MAX).min(16);
    Some(SignedDuration::from_secs(10 * (1_i64 << k)).min(LONGEST))
}

/// When the next launch may be, or `None` when nothing delays it.
pub fn not_before(failures: &[(&TaskName, &TaskState)], desired: i64) -> Option<Timestamp> {
    let delay = delay(failures.len(), usize::try_from(desired).unwrap_or(1))?;
    let last = failures.iter().filter_map(|(_, t)| t.stopped_at).max()?;
    last.checked_add(delay).ok()
}

/// Names of failed tasks that are kept past their retention, as the throttle's memory: enough rounds of a service that
/// wants `desired` tasks for the delay to be at its cap.
pub fn remembered(
    failures: &[(&TaskName, &TaskState)],
    desired: i64,
) -> impl Iterator<Item = TaskName> {
    let rounds = usize::try_from(desired).unwrap_or(1).max(1);
    let names: Vec<_> = failures
        .iter()
        .take(MEMORY.saturating_mul(rounds))
        .map(|(name, _)| (*name).clone())
        .collect();
    names.into_iter()
}
