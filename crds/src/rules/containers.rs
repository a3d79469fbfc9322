//! Containers, ports, volumes, placement: what one of them says about itself (ECS ContainerDefinition).

use super::Row;

pub(super) const RULES: &[Row] = &[
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
        "container-log-router-user",
        "ContainerDefinition",
        ".user",
        "!has(self.firelensConfiguration) || !has(self.user) || self.user in ['', '0', 'root']
         || self.user.startsWith('0:') || self.user.startsWith('root:')",
        "`user` must be absent or `0` with `firelensConfiguration`: the log router runs as root",
    ),
    (
        "container-log-router-output",
        "ContainerDefinition",
        ".logConfiguration",
        "!has(self.firelensConfiguration) || !has(self.logConfiguration)
         || self.logConfiguration.logDriver != 'awsfirelens'",
        "`logConfiguration` must have another `logDriver` than `awsfirelens` with `firelensConfiguration`: the log router
         cannot send to itself",
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
        "gpu-count",
        "ResourceRequirement",
        ".value",
        "self.type != 'GPU' || has(self.sharingStrategy)
         || (has(self.value) && self.value.matches('^[1-9][0-9]{0,3}$'))",
        "`value` must be a whole number of GPUs from 1 to 9999 with `type: GPU`",
    ),
    (
        "gpu-shared-or-whole",
        "ResourceRequirement",
        ".value",
        "!has(self.sharingStrategy) || !has(self.value)",
        "`value` must be absent with `sharingStrategy`: a container has whole GPUs, or a part of one",
    ),
    (
        "gpu-sharing-type",
        "ResourceRequirement",
        ".sharingStrategy",
        "!has(self.sharingStrategy) || self.type == 'GPU'",
        "`sharingStrategy` must be absent unless `type` is GPU",
    ),
    (
        "gpu-sharing-strategy",
        "SharingStrategy",
        ".nvidiaMps",
        "has(self.nvidiaMps)",
        "`nvidiaMps` must be given: it is the one way in which a GPU is shared",
    ),
    (
        "resource-type-once",
        "ContainerDefinition",
        ".resourceRequirements",
        "!has(self.resourceRequirements) || self.resourceRequirements.all(r,
           self.resourceRequirements.filter(q, q.type == r.type).size() == 1)",
        "`resourceRequirements` must have each `type` once",
    ),
    (
        "override-resource-type-once",
        "ContainerOverride",
        ".resourceRequirements",
        "!has(self.resourceRequirements) || self.resourceRequirements.all(r,
           self.resourceRequirements.filter(q, q.type == r.type).size() == 1)",
        "`resourceRequirements` must have each `type` once",
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
