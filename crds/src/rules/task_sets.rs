//! Task sets, and services whose deployments somebody else runs (ECS CreateTaskSet, external deployment type).

use super::Row;

pub(super) const RULES: &[Row] = &[
    (
        "service-task-definition",
        "ServiceSpec",
        ".taskDefinition",
        "has(self.deploymentController) && self.deploymentController.type == 'EXTERNAL'
         ? !has(self.taskDefinition) : has(self.taskDefinition)",
        "`taskDefinition` is required, and must be absent with `deploymentController.type: EXTERNAL`: there every TaskSet
         names its own",
    ),
    (
        "service-external-strategy",
        "ServiceSpec",
        ".schedulingStrategy",
        "!has(self.deploymentController) || self.deploymentController.type != 'EXTERNAL'
         || !has(self.schedulingStrategy) || self.schedulingStrategy != 'DAEMON'",
        "`schedulingStrategy` must not be DAEMON with `deploymentController.type: EXTERNAL`",
    ),
    (
        "service-primary-task-set",
        "ServiceSpec",
        ".primaryTaskSet",
        "!has(self.primaryTaskSet)
         || (has(self.deploymentController) && self.deploymentController.type == 'EXTERNAL')",
        "`primaryTaskSet` must be absent unless `deploymentController.type` is EXTERNAL",
    ),
    (
        "task-set-launch-type",
        "TaskSetSpec",
        ".launchType",
        "!has(self.launchType) || !has(self.capacityProviderStrategy) || self.capacityProviderStrategy.size() == 0",
        "`launchType` must be absent with a `capacityProviderStrategy`",
    ),
];

/// Fields of a TaskSet that never change: all but `scale` and `tags`.
pub(super) const FIELDS: &[&str] = &[
    "capacityProviderStrategy",
    "clientToken",
    "cluster",
    "externalId",
    "launchType",
    "loadBalancers",
    "networkConfiguration",
    "platformVersion",
    "service",
    "serviceRegistries",
    "taskDefinition",
];
