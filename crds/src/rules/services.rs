//! Services (ECS CreateService and RunTask).

use super::Row;

pub(super) const RULES: &[Row] = &[
    (
        "service-cluster-immutable",
        "ServiceSpec",
        ".cluster",
        "(has(self.cluster) ? self.cluster : 'default') == (has(oldSelf.cluster) ? oldSelf.cluster : 'default')",
        "`cluster` must not change: make a new Service in the other cluster and delete this one",
    ),
    (
        "service-strategy-immutable",
        "ServiceSpec",
        ".schedulingStrategy",
        "(has(self.schedulingStrategy) ? self.schedulingStrategy : 'REPLICA')
         == (has(oldSelf.schedulingStrategy) ? oldSelf.schedulingStrategy : 'REPLICA')",
        "`schedulingStrategy` must not change: make a new Service and delete this one",
    ),
    (
        "service-name",
        "Service/object",
        ".spec.serviceName",
        "!has(self.spec.serviceName)
         || self.spec.serviceName.lowerAscii().replace('_', '-') == self.metadata.name",
        "`serviceName` must be `metadata.name`, in capitals or not, with `_` for `-` or not",
    ),
    (
        "service-name-immutable",
        "ServiceSpec",
        ".serviceName",
        "!has(self.serviceName) || !has(oldSelf.serviceName) || self.serviceName == oldSelf.serviceName",
        "`serviceName` must not change",
    ),
    (
        "service-daemon-count",
        "ServiceSpec",
        ".desiredCount",
        "!has(self.schedulingStrategy) || self.schedulingStrategy != 'DAEMON' || !has(self.desiredCount)",
        "`desiredCount` must be absent with `schedulingStrategy: DAEMON`: the number of hosts decides",
    ),
    (
        "service-daemon-placement",
        "ServiceSpec",
        ".placementStrategy",
        "!has(self.schedulingStrategy) || self.schedulingStrategy != 'DAEMON' || !has(self.placementStrategy)
         || self.placementStrategy.size() == 0",
        "`placementStrategy` must be absent with `schedulingStrategy: DAEMON`: every host that meets the constraints gets
         one task",
    ),
    (
        "service-launch-type",
        "ServiceSpec",
        ".launchType",
        "!has(self.launchType) || !has(self.capacityProviderStrategy) || self.capacityProviderStrategy.size() == 0",
        "`launchType` must be absent with a `capacityProviderStrategy`",
    ),
    (
        "deployment-percentages",
        "DeploymentConfiguration",
        ".maximumPercent",
        "!has(self.maximumPercent) || self.maximumPercent >= 100
         || (has(self.minimumHealthyPercent) && self.minimumHealthyPercent < self.maximumPercent)",
        "`maximumPercent` must be 100 or more, or more than `minimumHealthyPercent`: else no task could be replaced",
    ),
    (
        "service-disconnect",
        "DisconnectPolicy",
        ".replaceAfter",
        "!has(self.replaceAfter) || !has(self.stopAfter) || self.replaceAfter >= self.stopAfter + 25",
        "`replaceAfter` must be at least 25 s more than `stopAfter`: a task is replaced only when it has stopped for certain",
    ),
    (
        "service-keep-on-return",
        "DisconnectPolicy",
        ".keepOnReturn",
        "!has(self.keepOnReturn) || self.keepOnReturn != 'Original' || !has(self.stopAfter)",
        "`keepOnReturn: Original` must not be beside `stopAfter`: of a task that stopped by itself nothing is left to keep",
    ),
    (
        "service-early-success",
        "ServiceSpec",
        ".deploymentConfiguration.earlySuccessCriteria",
        "!has(self.deploymentConfiguration) || !has(self.deploymentConfiguration.earlySuccessCriteria)
         || !self.deploymentConfiguration.earlySuccessCriteria.enable
         || (has(self.deploymentConfiguration.earlySuccessCriteria.healthyPercent)
             && has(self.deploymentConfiguration.earlySuccessCriteria.sourceServiceRevisionCleanup)
             && self.deploymentConfiguration.earlySuccessCriteria.healthyPercent
                >= (has(self.deploymentConfiguration.minimumHealthyPercent) ? self.deploymentConfiguration.minimumHealthyPercent
                    : has(self.schedulingStrategy) && self.schedulingStrategy == 'DAEMON' ? 0 : 100))",
        "`earlySuccessCriteria` must have `healthyPercent`, from `minimumHealthyPercent` (100 by default) to 100, and
         `sourceServiceRevisionCleanup`",
    ),
];
