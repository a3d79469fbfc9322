//! CEL rules: what the API server refuses by itself, with the sentence it says.
//!
//! A rule stands at a type (`on`), sees a value of it as `self`, and holds wherever the type is used. A rule may only say
//! what is wrong whatever else is in the cluster: input that ECS takes is never refused here. What needs a second object,
//! a search (cycles) or arithmetic over texts (`.5 vCPU`) is judged by the operator, which answers with a condition.
//!
//! Every rule has an id, and `tests/cases` holds what it must accept and refuse: a rule without cases fails the tests.

use serde_json::{Value, json};

/// One rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Stable name, unique among all rules; test cases refer to it.
    pub id: String,
    /// Rust name of the type it stands at, or `Kind/object` where it needs `metadata.name`.
    pub on: &'static str,
    /// CEL expression, true when all is well.
    pub expression: String,
    /// What is wrong, and what would be right.
    pub message: String,
    /// Field that the refusal is filed under, relative to the type, such as `.memory`; empty for `metadata.name`.
    pub field: String,
}

/// The rules of one place, as `x-kubernetes-validations` wants them.
pub fn on(place: &str) -> Vec<Value> {
    all()
        .into_iter()
        .filter(|rule| rule.on == place)
        .map(|rule| {
            let mut value = json!({ "rule": rule.expression, "message": rule.message });
            if !rule.field.is_empty() {
                value["fieldPath"] = rule.field.into();
            }
            value
        })
        .collect()
}

/// Every rule.
pub fn all() -> Vec<Rule> {
    let mut rules: Vec<Rule> = [CONTAINERS, TASK_DEFINITIONS, SERVICES, RUNS, HOSTS]
        .into_iter()
        .flatten()
        .map(|&(id, on, field, expression, message)| Rule {
            id: id.to_owned(),
            on,
            expression: one_line(expression),
            message: one_line(message),
            field: field.to_owned(),
        })
        .collect();
    rules.extend(TASK_FIELDS.iter().map(|field| frozen(field)));
    rules.extend(
        NAME_LENGTHS
            .iter()
            .map(|&(place, longest, why)| name_length(place, longest, why)),
    );
    rules
}

/// Source lines are wrapped; a rule and its message are one line each.
fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Id, place, field, expression, message.
type Row = (
    &'static str,
    &'static str,
    &'static str,
    &'static str,
    &'static str,
);

/// Containers, ports, volumes: what one of them says about itself (ecs-semantics 1.7 to 1.9).
const CONTAINERS: &[Row] = &[
    (
        "container-memory",
        "ContainerDefinition",
        ".memory",
        "!has(self.memory) || !has(self.memoryReservation) || self.memory > self.memoryReservation",
        "`memory` must be more than `memoryReservation`: the first is the hard limit, the second the part of it that
         placement sets aside",
    ),
    (
        "container-ports-distinct",
        "ContainerDefinition",
        ".portMappings",
        "!has(self.portMappings) || self.portMappings.all(p, !has(p.containerPort) || self.portMappings.filter(q,
           has(q.containerPort) && q.containerPort == p.containerPort && q.protocol == p.protocol
           && (has(q.hostPort) ? q.hostPort : 0) == (has(p.hostPort) ? p.hostPort : 0)).size() == 1)",
        "`portMappings` must not publish one `containerPort` twice with the same `protocol` and `hostPort`",
    ),
    (
        "container-depends-on-itself",
        "ContainerDefinition",
        ".dependsOn",
        "!has(self.dependsOn) || self.dependsOn.all(o, o.containerName != self.name)",
        "`dependsOn` must name other containers, not the container itself",
    ),
    (
        "container-volumes-from-itself",
        "ContainerDefinition",
        ".volumesFrom",
        "!has(self.volumesFrom) || self.volumesFrom.all(f, !has(f.sourceContainer) || f.sourceContainer != self.name)",
        "`volumesFrom` must name other containers, not the container itself",
    ),
    (
        "port-or-range",
        "PortMapping",
        ".containerPort",
        "has(self.containerPort) != has(self.containerPortRange)",
        "a port mapping must have either `containerPort` or `containerPortRange`",
    ),
    (
        "port-range-order",
        "PortMapping",
        ".containerPortRange",
        "!has(self.containerPortRange) || !self.containerPortRange.matches('^[0-9]+-[0-9]+$')
         || (int(self.containerPortRange.split('-')[0]) >= 1
           && int(self.containerPortRange.split('-')[0]) <= int(self.containerPortRange.split('-')[1])
           && int(self.containerPortRange.split('-')[1]) <= 65535)",
        "`containerPortRange` must be `first-last` with 1 <= first <= last <= 65535",
    ),
    (
        "port-range-host-port",
        "PortMapping",
        ".hostPort",
        "!has(self.containerPortRange) || !has(self.hostPort) || self.hostPort == 0",
        "`hostPort` must be absent with `containerPortRange`: the agent finds free host ports for a range",
    ),
    (
        "health-check-command",
        "HealthCheck",
        ".command",
        "self.command.size() == 0 || self.command[0] == 'NONE' || self.command[0].startsWith('CMD')",
        "`command` must begin with `CMD`, `CMD-SHELL` or `NONE`",
    ),
    (
        "volume-one-kind",
        "Volume",
        ".name",
        "[has(self.host), has(self.dockerVolumeConfiguration), has(self.efsVolumeConfiguration),
          has(self.s3filesVolumeConfiguration), has(self.fsxWindowsFileServerVolumeConfiguration),
          has(self.configuredAtLaunch) && self.configuredAtLaunch].filter(kind, kind).size() <= 1",
        "a volume must be of one kind: only one of `host`, `dockerVolumeConfiguration`, `efsVolumeConfiguration`,
         `s3filesVolumeConfiguration`, `fsxWindowsFileServerVolumeConfiguration` and `configuredAtLaunch` may be given",
    ),
    (
        "efs-access-point",
        "EFSVolumeConfiguration",
        ".rootDirectory",
        "!has(self.authorizationConfig) || !has(self.authorizationConfig.accessPointId) || !has(self.rootDirectory)
         || self.rootDirectory == '' || self.rootDirectory == '/'",
        "`rootDirectory` must be absent or `/` with an `accessPointId`: the access point sets the directory",
    ),
    (
        "efs-encryption",
        "EFSVolumeConfiguration",
        ".transitEncryption",
        "!has(self.authorizationConfig)
         || !(has(self.authorizationConfig.accessPointId)
           || (has(self.authorizationConfig.iam) && self.authorizationConfig.iam == 'ENABLED'))
         || (has(self.transitEncryption) && self.transitEncryption == 'ENABLED')",
        "`transitEncryption` must be ENABLED with an `accessPointId` or with `iam: ENABLED`",
    ),
    (
        "definition-constraint-expression",
        "TaskDefinitionPlacementConstraint",
        ".expression",
        "!has(self.type) || (has(self.expression) && self.expression != '')",
        "`expression` must be given with `type: memberOf`",
    ),
    (
        "constraint-expression",
        "PlacementConstraint",
        ".expression",
        "!has(self.type) || self.type != 'memberOf' || (has(self.expression) && self.expression != '')",
        "`expression` must be given with `type: memberOf`",
    ),
    (
        "strategy-field",
        "PlacementStrategy",
        ".field",
        "!has(self.type) || self.type == 'random'
         || (has(self.field) && (self.type == 'spread' ? self.field != '' : self.field.lowerAscii() in ['cpu', 'memory']))",
        "`field` must be given: `instanceId`, `host` or `attribute:<name>` with `type: spread`, `cpu` or `memory` with
         `type: binpack`",
    ),
];

/// What a task definition says as a whole (ecs-semantics 1.6, 1.7: validation rules).
const TASK_DEFINITIONS: &[Row] = &[
    (
        "definition-memory",
        "TaskDefinitionSpec",
        ".memory",
        "has(self.memory) || self.containerDefinitions.all(c, has(c.memory) || has(c.memoryReservation))",
        "every container must have `memory` or `memoryReservation` unless the task has `memory`",
    ),
    (
        "definition-essential",
        "TaskDefinitionSpec",
        ".containerDefinitions",
        "self.containerDefinitions.size() == 0 || self.containerDefinitions.exists(c, !has(c.essential) || c.essential)",
        "at least one container must be `essential`: the task ends with it",
    ),
    (
        "definition-volume-names",
        "TaskDefinitionSpec",
        ".volumes",
        "!has(self.volumes) || self.volumes.all(v, !has(v.name)
           || self.volumes.filter(w, has(w.name) && w.name == v.name).size() == 1)",
        "`volumes` must have distinct names",
    ),
    (
        "definition-launch-volumes",
        "TaskDefinitionSpec",
        ".volumes",
        "!has(self.volumes)
         || self.volumes.filter(v, has(v.configuredAtLaunch) && v.configuredAtLaunch).size() <= 1",
        "only one of `volumes` may have `configuredAtLaunch: true`",
    ),
    (
        "definition-mount-points",
        "TaskDefinitionSpec",
        ".containerDefinitions",
        "self.containerDefinitions.all(c, !has(c.mountPoints) || c.mountPoints.all(m, !has(m.sourceVolume)
           || (has(self.volumes) && self.volumes.exists(v, has(v.name) && v.name == m.sourceVolume))))",
        "`sourceVolume` of every mount point must be the name of one of `volumes`",
    ),
    (
        "definition-volumes-from",
        "TaskDefinitionSpec",
        ".containerDefinitions",
        "self.containerDefinitions.all(c, !has(c.volumesFrom) || c.volumesFrom.all(f, !has(f.sourceContainer)
           || self.containerDefinitions.exists(d, d.name == f.sourceContainer)))",
        "`sourceContainer` in `volumesFrom` must be the name of a container of the task",
    ),
    (
        "definition-depends-on",
        "TaskDefinitionSpec",
        ".containerDefinitions",
        "self.containerDefinitions.all(c, !has(c.dependsOn) || c.dependsOn.all(o,
           self.containerDefinitions.exists(d, d.name == o.containerName)))",
        "`containerName` in `dependsOn` must be the name of a container of the task",
    ),
    (
        "definition-depends-on-essential",
        "TaskDefinitionSpec",
        ".containerDefinitions",
        "self.containerDefinitions.all(c, !has(c.dependsOn) || c.dependsOn.all(o,
           !(o.condition in ['COMPLETE', 'SUCCESS'])
           || !self.containerDefinitions.exists(d, d.name == o.containerName && (!has(d.essential) || d.essential))))",
        "`dependsOn` with `condition` COMPLETE or SUCCESS must name a container with `essential: false`: the end of an
         essential one ends the task",
    ),
    (
        "definition-depends-on-healthy",
        "TaskDefinitionSpec",
        ".containerDefinitions",
        "self.containerDefinitions.all(c, !has(c.dependsOn) || c.dependsOn.all(o, o.condition != 'HEALTHY'
           || !self.containerDefinitions.exists(d, d.name == o.containerName && !has(d.healthCheck))))",
        "`dependsOn` with `condition: HEALTHY` must name a container that has a `healthCheck`",
    ),
    (
        "definition-links",
        "TaskDefinitionSpec",
        ".containerDefinitions",
        "self.containerDefinitions.all(c, !has(c.links) || c.links.all(l,
           self.containerDefinitions.exists(d, l == d.name || l.startsWith(d.name + ':'))))",
        "`links` must be names of containers of the task, as `container` or `container:alias`",
    ),
    (
        "definition-links-bridge",
        "TaskDefinitionSpec",
        ".networkMode",
        "!has(self.networkMode) || self.networkMode == 'bridge'
         || self.containerDefinitions.all(c, !has(c.links) || c.links.size() == 0)",
        "`links` must be absent unless `networkMode` is `bridge`",
    ),
    (
        "definition-host-ports",
        "TaskDefinitionSpec",
        ".networkMode",
        "!has(self.networkMode) || !(self.networkMode in ['host', 'awsvpc'])
         || self.containerDefinitions.all(c, !has(c.portMappings) || c.portMappings.all(p, !has(p.hostPort)
           || p.hostPort == 0 || (has(p.containerPort) && p.hostPort == p.containerPort)))",
        "`hostPort` must be absent, 0 or equal to `containerPort` with `networkMode` `host` or `awsvpc`",
    ),
    (
        "definition-none-ports",
        "TaskDefinitionSpec",
        ".networkMode",
        "!has(self.networkMode) || self.networkMode != 'none'
         || self.containerDefinitions.all(c, !has(c.portMappings) || c.portMappings.size() == 0)",
        "`portMappings` must be absent with `networkMode: none`",
    ),
    (
        "definition-awsvpc-names",
        "TaskDefinitionSpec",
        ".networkMode",
        "!has(self.networkMode) || self.networkMode != 'awsvpc' || self.containerDefinitions.all(c,
           (!has(c.hostname) || c.hostname == '') && (!has(c.dnsServers) || c.dnsServers.size() == 0)
           && (!has(c.dnsSearchDomains) || c.dnsSearchDomains.size() == 0)
           && (!has(c.extraHosts) || c.extraHosts.size() == 0))",
        "`hostname`, `dnsServers`, `dnsSearchDomains` and `extraHosts` must be absent with `networkMode: awsvpc`",
    ),
    (
        "definition-proxy-container",
        "TaskDefinitionSpec",
        ".proxyConfiguration",
        "!has(self.proxyConfiguration)
         || self.containerDefinitions.exists(c, c.name == self.proxyConfiguration.containerName)",
        "`containerName` in `proxyConfiguration` must be the name of a container of the task",
    ),
    (
        "definition-family",
        "TaskDefinition/object",
        ".spec.family",
        "has(self.spec.family) || !self.metadata.name.contains('.')",
        "`family` must be given when the object's name has a dot: families are letters, digits, hyphens and underscores",
    ),
    (
        "definition-family-immutable",
        "TaskDefinition/object",
        ".spec.family",
        "(has(self.spec.family) ? self.spec.family : self.metadata.name)
         == (has(oldSelf.spec.family) ? oldSelf.spec.family : oldSelf.metadata.name)",
        "`family` must not change: make a new TaskDefinition for another family",
    ),
    (
        "revision-immutable",
        "TaskDefinitionRevisionSpec",
        ".definition",
        "self == oldSelf",
        "`definition`, `family` and `revision` must not change: change the TaskDefinition, which mints a new revision",
    ),
];

/// Services (ecs-semantics 1.11, 2.3, 2.10).
const SERVICES: &[Row] = &[
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
];

/// Tasks and runs (ecs-semantics 1.11, 1.13).
const RUNS: &[Row] = &[
    (
        "run-task-launch-type",
        "RunTaskSpec",
        ".launchType",
        "!has(self.launchType) || !has(self.capacityProviderStrategy) || self.capacityProviderStrategy.size() == 0",
        "`launchType` must be absent with a `capacityProviderStrategy`",
    ),
    (
        "run-task-immutable",
        "RunTask/object",
        ".spec",
        "self.spec == oldSelf.spec",
        "`spec` must not change: a RunTask runs once; make a new one",
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

/// Hosts and their mailboxes.
const HOSTS: &[Row] = &[
    (
        "container-instance-cluster-immutable",
        "ContainerInstanceSpec",
        ".cluster",
        "(has(self.cluster) ? self.cluster : 'default') == (has(oldSelf.cluster) ? oldSelf.cluster : 'default')",
        "`cluster` must not change: drain the host, delete the ContainerInstance and make it anew",
    ),
    (
        "host-plan-generation",
        "HostPlanSpec",
        ".generation",
        "self.generation >= oldSelf.generation",
        "`generation` must not fall: a host refuses an older plan",
    ),
    (
        "host-plan-leader-epoch",
        "HostPlanSpec",
        ".leaderEpoch",
        "self.leaderEpoch >= oldSelf.leaderEpoch",
        "`leaderEpoch` must not fall: a newer leader has written this plan",
    ),
];

/// Fields of a Task that say what it is, and so never change.
const TASK_FIELDS: &[&str] = &[
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
    "tags",
    "taskDefinition",
    "clientToken",
    "volumeConfigurations",
];

/// Neither set, nor changed, nor taken away after creation.
fn frozen(field: &str) -> Rule {
    Rule {
        id: format!("task-{field}-immutable"),
        on: "TaskSpec",
        expression: format!(
            "has(self.{field}) ? (has(oldSelf.{field}) && self.{field} == oldSelf.{field}) : !has(oldSelf.{field})"
        ),
        message: format!("`{field}` must not change: stop this task and start another"),
        field: format!(".{field}"),
    }
}

/// Longest names, so that the names and labels made from them fit the 63 characters of a label value.
const NAME_LENGTHS: &[(&str, u32, &str)] = &[
    (
        "Cluster/object",
        63,
        "it is a label value on tasks and hosts",
    ),
    (
        "ContainerInstance/object",
        40,
        "the host's account, role and lease are named after it",
    ),
    ("RunTask/object", 52, "its tasks are named after it"),
    ("ScheduledTask/object", 40, "its runs are named after it"),
    ("Service/object", 52, "its tasks are named after it"),
    (
        "TaskDefinition/object",
        52,
        "its revisions are named after it",
    ),
];

fn name_length(place: &'static str, longest: u32, why: &str) -> Rule {
    let kind = place.split('/').next().unwrap_or(place).to_lowercase();
    Rule {
        id: format!("{kind}-name-length"),
        on: place,
        expression: format!("self.metadata.name.size() <= {longest}"),
        message: format!("`metadata.name` must be at most {longest} characters long: {why}"),
        field: String::new(),
    }
}
