//! Hosts and their mailboxes.

use super::Row;

pub(super) const RULES: &[Row] = &[
    (
        "container-instance-cluster-immutable",
        "ContainerInstanceSpec",
        ".cluster",
        "(has(self.cluster) ? self.cluster : 'default') == (has(oldSelf.cluster) ? oldSelf.cluster : 'default')",
        "`cluster` must not change: drain the host, delete the ContainerInstance and make it anew",
    ),
    (
        "container-instance-attributes",
        "ContainerInstanceSpec",
        ".attributes",
        "!has(self.attributes) || self.attributes.all(a, !a.name.startsWith('ecs.capability.')
         && !a.name.startsWith('com.amazonaws.ecs.')
         && !(a.name in ['ecs.os-type', 'ecs.os-family', 'ecs.cpu-architecture']))",
        "`attributes` must not name `ecs.capability.*`, `com.amazonaws.ecs.*`, `ecs.os-type`, `ecs.os-family` or
         `ecs.cpu-architecture`: what a host is and can do its agent says",
    ),
    (
        "host-join-request",
        "HostJoinStatus",
        ".request",
        "!has(oldSelf.containerInstance) || (has(self.request) && has(oldSelf.request) && self.request == oldSelf.request)",
        "`request` must not change after the host was admitted: the token is used up, make another HostJoin",
    ),
    (
        "host-join-container-instance",
        "HostJoinStatus",
        ".containerInstance",
        "!has(oldSelf.containerInstance) || (has(self.containerInstance) && self.containerInstance == oldSelf.containerInstance)",
        "`containerInstance` must not change: one HostJoin is for one host",
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
