//! What a task definition says as a whole (ECS RegisterTaskDefinition, validation rules).

use super::Row;

pub(super) const RULES: &[Row] = &[
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
        "definition-one-log-router",
        "TaskDefinitionSpec",
        ".containerDefinitions",
        "self.containerDefinitions.filter(c, has(c.firelensConfiguration)).size() <= 1",
        "`firelensConfiguration` must be given to one container of the task only",
    ),
    (
        "definition-log-router",
        "TaskDefinitionSpec",
        ".containerDefinitions",
        "self.containerDefinitions.exists(c, has(c.firelensConfiguration))
         || self.containerDefinitions.all(c, !has(c.logConfiguration) || c.logConfiguration.logDriver != 'awsfirelens')",
        "`logDriver: awsfirelens` needs a container of the task with `firelensConfiguration`",
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
        "definition-host-port-ranges",
        "TaskDefinitionSpec",
        ".networkMode",
        "!has(self.networkMode) || self.networkMode != 'host'
         || self.containerDefinitions.all(c, !has(c.portMappings)
           || c.portMappings.all(p, !has(p.containerPortRange)))",
        "`containerPortRange` must be absent with `networkMode: host`",
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
        "definition-host-network-controls",
        "TaskDefinitionSpec",
        ".networkMode",
        "!has(self.networkMode) || self.networkMode != 'host' || self.containerDefinitions.all(c,
           !has(c.systemControls) || c.systemControls.all(s, !has(s.namespace) || !s.namespace.startsWith('net.')))",
        "`systemControls` must not have a `net.` parameter with `networkMode: host`: it would be the host's own",
    ),
    (
        "definition-host-ipc-controls",
        "TaskDefinitionSpec",
        ".ipcMode",
        "!has(self.ipcMode) || self.ipcMode != 'host' || self.containerDefinitions.all(c,
           !has(c.systemControls) || c.systemControls.all(s, !has(s.namespace) || !(s.namespace.startsWith('fs.mqueue.')
           || s.namespace in ['kernel.msgmax', 'kernel.msgmnb', 'kernel.msgmni', 'kernel.sem', 'kernel.shmall',
              'kernel.shmmax', 'kernel.shmmni', 'kernel.shm_rmid_forced'])))",
        "`systemControls` must not have an IPC parameter (`kernel.shm*`, `kernel.msg*`, `kernel.sem`, `fs.mqueue.*`) with
         `ipcMode: host`: it would be the host's own",
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
