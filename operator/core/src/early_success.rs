//! When a rolling deployment counts as completed before its last task is replaced (ECS early success criteria).
//!
//! Nothing here moves a task: a deployment that completed early is stepped on as before. What ends with it is that it is
//! watched: circuit breaker and alarms no longer give it up, and it is what a later one goes back to.

use tallyman_crds::ecs::{DeploymentConfiguration, ServiceRevisionCleanup};

use crate::deployments::Member;
use crate::names::DeploymentId;
use crate::problem::Problem;

/// When a deployment completes early.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EarlySuccess {
    /// Part of the desired count that must be healthy, 0 to 100.
    pub healthy_percent: i64,
    /// When the tasks of older deployments go.
    pub cleanup: ServiceRevisionCleanup,
}

impl EarlySuccess {
    /// What `configuration` asks for, if it is enabled and can be had with this `minimumHealthyPercent`.
    pub(crate) fn parse(
        configuration: Option<&DeploymentConfiguration>,
        minimum: i64,
        problems: &mut Vec<Problem>,
    ) -> Option<EarlySuccess> {
        const AT: &str = "spec.deploymentConfiguration.earlySuccessCriteria";
        let criteria = configuration?.early_success_criteria.as_ref();
        let criteria = criteria.filter(|c| c.enable)?;
        let (Some(percent), Some(cleanup)) = (
            criteria.healthy_percent,
            criteria.source_service_revision_cleanup,
        ) else {
            problems.push(Problem::new(
                AT,
                "must have `healthyPercent` and `sourceServiceRevisionCleanup` with `enable: true`"
                    .to_owned(),
            ));
            return None;
        };
        let healthy_percent = i64::from(percent);
        if !(minimum..=100).contains(&healthy_percent) {
            problems.push(if minimum > 100 {
                Problem::new(
                    AT,
                    format!("needs a `minimumHealthyPercent` of at most 100, not {minimum}"),
                )
            } else {
                Problem::new(
                    format!("{AT}.healthyPercent"),
                    format!("must be `minimumHealthyPercent` ({minimum}) to 100, not {percent}"),
                )
            });
            return None;
        }
        Some(EarlySuccess {
            healthy_percent,
            cleanup,
        })
    }

    /// Tasks that must be healthy: the percentage of `desired`, rounded up, and at least one.
    ///
    /// ```
    /// # use tallyman_operator_core::early_success::EarlySuccess;
    /// # use tallyman_crds::ecs::ServiceRevisionCleanup;
    /// let half = EarlySuccess { healthy_percent: 50, cleanup: ServiceRevisionCleanup::Deferred };
    /// assert_eq!([2, 3, 0].map(|desired| half.tasks(desired)), [1, 2, 1]);
    /// ```
    pub fn tasks(&self, desired: i64) -> i64 {
        ((desired * self.healthy_percent + 99) / 100).max(1)
    }

    /// So many tasks of deployment `id` are healthy.
    pub(crate) fn is_met(&self, id: &DeploymentId, members: &[Member<'_>], desired: i64) -> bool {
        let healthy = members
            .iter()
            .filter(|m| m.healthy && m.task.deployment.as_ref() == Some(id));
        i64::try_from(healthy.count()).unwrap_or(i64::MAX) >= self.tasks(desired)
    }

    /// Whether the deployment may complete beside tasks of older ones, if `members` has such.
    pub(crate) fn lets_go(&self, id: &DeploymentId, members: &[Member<'_>]) -> bool {
        match self.cleanup {
            ServiceRevisionCleanup::Deferred => true,
            ServiceRevisionCleanup::Blocking => members
                .iter()
                .all(|m| !m.task.holds() || m.task.deployment.as_ref() == Some(id)),
        }
    }
}
