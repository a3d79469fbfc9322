//! Tasks, runs and schedules (ECS RunTask, ECS task lifecycle, EventBridge Scheduler).

use super::Row;

pub(super) const RULES: &[Row] = &[
    (
        "run-task-launch-type",
        "RunTaskSpec",
        ".launchType",
        "!has(self.launchType) || !has(self.capacityProviderStrategy) || self.capacityProviderStrategy.size() == 0",
        "`launchType` must be absent with a `capacityProviderStrategy`",
    ),
    (
        "run-task-container-instances",
        "RunTaskSpec",
        ".containerInstances",
        "!has(self.containerInstances) || self.containerInstances.size() == 0
         || ((!has(self.placementConstraints) || self.placementConstraints.size() == 0)
             && (!has(self.placementStrategy) || self.placementStrategy.size() == 0)
             && (!has(self.capacityProviderStrategy) || self.capacityProviderStrategy.size() == 0)
             && !has(self.launchType))",
        "`containerInstances` must be absent with `placementConstraints`, `placementStrategy`, `launchType` or `capacityProviderStrategy`: hosts that are named are not chosen (ECS StartTask)",
    ),
    (
        "run-task-count",
        "RunTaskSpec",
        ".count",
        "!has(self.containerInstances) || self.containerInstances.size() == 0 || !has(self.count) || self.count == 1
         || self.count == self.containerInstances.size()",
        "`count` must be absent with `containerInstances`, which has one copy for each host",
    ),
    (
        "run-task-immutable",
        "RunTask/object",
        ".spec",
        "self.spec == oldSelf.spec",
        "`spec` must not change: a RunTask runs once; make a new one",
    ),
    (
        "scheduled-task-dates",
        "ScheduledTaskSpec",
        ".endDate",
        "!has(self.startDate) || !has(self.endDate) || timestamp(self.startDate) < timestamp(self.endDate)",
        "`endDate` must be later than `startDate`",
    ),
    (
        "scheduled-task-client-token",
        "ScheduledTaskSpec",
        ".runTask",
        "!has(self.runTask.clientToken)",
        "`runTask.clientToken` must be absent: a token stands for one run, and a schedule makes many",
    ),
    (
        "task-container-instance",
        "TaskSpec",
        ".containerInstance",
        "!has(oldSelf.containerInstance)
         || (has(self.containerInstance) && self.containerInstance == oldSelf.containerInstance)",
        "`containerInstance` must not change once it is set: a task never moves; stop it and start another",
    ),
    (
        "task-desired-status",
        "TaskSpec",
        ".desiredStatus",
        "!(has(oldSelf.desiredStatus) && oldSelf.desiredStatus == 'STOPPED')
         || (has(self.desiredStatus) && self.desiredStatus == 'STOPPED')",
        "`desiredStatus` must not go back from STOPPED: a stopped task is never restarted; start another",
    ),
    (
        "task-stop-code",
        "TaskSpec",
        ".stopCode",
        "(!has(self.stopCode) && !has(self.stoppedReason))
         || (has(self.desiredStatus) && self.desiredStatus == 'STOPPED')",
        "`stopCode` and `stoppedReason` must be absent unless `desiredStatus` is STOPPED",
    ),
    (
        "task-last-status",
        "TaskStatus",
        ".lastStatus",
        "!has(oldSelf.lastStatus) || (has(self.lastStatus)
         && {'PROVISIONING': 0, 'PENDING': 1, 'ACTIVATING': 2, 'RUNNING': 3, 'DEACTIVATING': 4, 'STOPPING': 5,
              'DEPROVISIONING': 6, 'STOPPED': 7}[self.lastStatus]
         >= {'PROVISIONING': 0, 'PENDING': 1, 'ACTIVATING': 2, 'RUNNING': 3, 'DEACTIVATING': 4, 'STOPPING': 5,
              'DEPROVISIONING': 6, 'STOPPED': 7}[oldSelf.lastStatus])",
        "`lastStatus` must not go back in the life of a task, and nothing follows STOPPED",
    ),
];

/// Fields of a Task that say what it is, and so never change.
pub(super) const TASK_FIELDS: &[&str] = &[
    "capacityProviderStrategy",
    "cluster",
    "enableECSManagedTags",
    "enableExecuteCommand",
    "group",
    "launchType",
    "networkConfiguration",
    "overrides",
    "placementConstraints",
    "placementStrategy",
    "platformVersion",
    "propagateTags",
    "referenceId",
    "startedBy",
    "stopAfter",
    "tags",
    "taskDefinition",
    "clientToken",
    "volumeConfigurations",
];
